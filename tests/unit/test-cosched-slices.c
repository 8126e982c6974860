/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeping others off CPUs, against the two calls of systemd's that it uses, served here over a socket of the same protocol.
 */
#include "base/util.h"
#include "cosched/slices.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>

#include <cmocka.h>

/* --- systemd's part --- */

struct unit {
	const char *name;
	unsigned char mask[128];
	size_t n;
};

static struct unit units[] = { { .name = "system.slice" },
			       { .name = "user.slice", .mask = { 0x0f }, .n = 1 },
			       { .name = "init.scope" } };
static unsigned calls;
static bool refuse;

static struct unit *unit_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (strcmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

static int set_properties(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	const char *name, *key;
	const void *bytes;
	struct unit *u;
	size_t n;
	int runtime;

	(void)arg;
	(void)error;
	if (refuse)
		return -EBUSY;
	if (sd_bus_message_read(m, "sb", &name, &runtime) < 0 || !runtime ||
	    sd_bus_message_enter_container(m, 'a', "(sv)") < 0 || sd_bus_message_enter_container(m, 'r', "sv") < 0 ||
	    sd_bus_message_read(m, "s", &key) < 0 || strcmp(key, "AllowedCPUs") != 0 ||
	    sd_bus_message_enter_container(m, 'v', "ay") < 0 || sd_bus_message_read_array(m, 'y', &bytes, &n) < 0)
		return -EINVAL;
	u = unit_of(name);
	memcpy(u->mask, bytes, n);
	u->n = n;
	calls++;
	return sd_bus_reply_method_return(m, NULL);
}

static int get_allowed(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
		       void *arg, sd_bus_error *error)
{
	struct unit *u;
	char *name;

	(void)bus;
	(void)interface;
	(void)property;
	(void)arg;
	(void)error;
	if (sd_bus_path_decode(path, "/org/freedesktop/systemd1/unit", &name) <= 0)
		return -EINVAL;
	u = unit_of(name);
	free(name);
	return sd_bus_message_append_array(reply, 'y', u->mask, u->n);
}

static const sd_bus_vtable manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("SetUnitProperties", "sba(sv)", "", set_properties, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};
static const sd_bus_vtable unit_properties[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("AllowedCPUs", "ay", get_allowed, 0, 0),
	SD_BUS_VTABLE_END,
};

static int find_unit(sd_bus *bus, const char *path, const char *interface, void *arg, void **ret, sd_bus_error *error)
{
	(void)bus;
	(void)path;
	(void)interface;
	(void)error;
	*ret = arg;
	return 1;
}

static int listener;
static char address[128], keep[96];

/* One client after the other, until the listener is shut down. */
static void *serve(void *arg)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		sd_id128_t id = SD_ID128_NULL;
		sd_bus *bus = NULL;
		int r;

		sd_bus_new(&bus);
		sd_bus_set_fd(bus, fd, fd);
		sd_bus_set_server(bus, 1, id);
		sd_bus_set_anonymous(bus, 1);
		sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", manager, arg);
		sd_bus_add_fallback_vtable(bus, NULL, "/org/freedesktop/systemd1/unit", "org.freedesktop.systemd1.Slice",
					   unit_properties, find_unit, units);
		sd_bus_add_fallback_vtable(bus, NULL, "/org/freedesktop/systemd1/unit", "org.freedesktop.systemd1.Scope",
					   unit_properties, find_unit, units);
		sd_bus_start(bus);
		do {
			r = sd_bus_process(bus, NULL);
			if (r == 0)
				r = sd_bus_wait(bus, UINT64_MAX);
		} while (r >= 0);
		sd_bus_close(bus);
		sd_bus_unref(bus);
	}
	return NULL;
}

static pthread_t server;

static int begin(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/fairlead-slices-XXXXXX";

	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(keep, sizeof(keep), "%s/keep", folder);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/bus", folder);
	snprintf(address, sizeof(address), "unix:path=%s/bus", folder);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 4) < 0 ||
	       pthread_create(&server, NULL, serve, NULL) != 0;
}

static int finish(void **state)
{
	char *slash = strrchr(keep, '/'), path[128];

	(void)state;
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	*slash = '\0';
	snprintf(path, sizeof(path), "%s/bus", keep);
	unlink(path);
	return rmdir(keep);
}

/* Bit of a CPU that is there on every machine. */
static bool may_use_cpu_0(const char *unit)
{
	struct unit *u = unit_of(unit);

	return u->n == 0 || u->mask[0] & 1;
}

static bool several_cpus(void)
{
	return sysconf(_SC_NPROCESSORS_CONF) > 1;
}

static void others_are_kept_off_and_let_in_again(void **state)
{
	static const unsigned cpus[] = { 0 };
	struct slices *s;

	(void)state;
	assert_int_equal(slices_create(address, keep, &s), 0);
	if (!several_cpus()) {
		assert_int_equal(slices_keep_off(s, cpus, 1), -EBUSY);
		slices_destroy(s);
		return;
	}
	assert_int_equal(slices_keep_off(s, cpus, 1), 3);
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		assert_false(may_use_cpu_0(units[i].name));
	assert_int_equal(access(keep, F_OK), 0);
	/* A member in one of them: that one is let in. */
	assert_false(slices_spare(s, "/machine.slice/a.scope"));
	assert_false(slices_spare(s, "/system.slice.d/a"));
	assert_true(slices_spare(s, "/system.slice/a.service"));
	assert_false(slices_spare(s, "/system.slice/a.service"));
	assert_int_equal(unit_of("system.slice")->n, 0);
	assert_false(may_use_cpu_0("user.slice"));
	slices_destroy(s);
	assert_int_equal(unit_of("user.slice")->n, 1);
	assert_int_equal(unit_of("user.slice")->mask[0], 0x0f);
	assert_int_equal(unit_of("init.scope")->n, 0);
	assert_int_equal(access(keep, F_OK), -1);
}

/* One that was killed left a file: the next one gives back what it says, and not what it finds. */
static void what_a_killed_one_left_is_given_back(void **state)
{
	struct slices *s;
	FILE *f = fopen(keep, "w");

	(void)state;
	fputs("user.slice 0f\ninit.scope \nrubbish\nother.slice ff\nuser ff\n ff\n", f);
	fclose(f);
	unit_of("user.slice")->mask[0] = 0xf0;
	unit_of("init.scope")->mask[0] = 0xf0;
	unit_of("init.scope")->n = 1;
	calls = 0;
	/* Not forgotten while systemd does not take it. */
	refuse = true;
	assert_int_equal(slices_create(address, keep, &s), -EBUSY);
	assert_int_equal(access(keep, F_OK), 0);
	refuse = false;
	assert_int_equal(slices_create(address, keep, &s), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(unit_of("user.slice")->mask[0], 0x0f);
	assert_int_equal(unit_of("init.scope")->n, 0);
	slices_destroy(s);
}

static void what_is_not_taken_back_is_kept(void **state)
{
	const unsigned cpus[] = { 1 };
	struct slices *s;

	(void)state;
	if (sysconf(_SC_NPROCESSORS_CONF) < 2)
		skip();
	assert_int_equal(slices_create(address, keep, &s), 0);
	assert_int_equal(slices_keep_off(s, cpus, 1), 3);
	refuse = true;
	slices_destroy(s);
	refuse = false;
	assert_int_equal(access(keep, F_OK), 0);
	assert_int_equal(slices_create(address, keep, &s), 0);
	assert_int_equal(access(keep, F_OK), -1);
	slices_destroy(s);
}

/* The file's folder may belong to somebody else, who can put anything at its place. */
static void links_and_strangers_are_not_believed(void **state)
{
	static const unsigned cpus[] = { 0 };
	char other[128], fresh[128];
	struct slices *s;
	struct stat st;
	FILE *f;

	(void)state;
	if (!several_cpus())
		skip();
	snprintf(other, sizeof(other), "%.*s/other", (int)(strrchr(keep, '/') - keep), keep);
	snprintf(fresh, sizeof(fresh), "%s.new", keep);
	f = fopen(other, "w");
	fputs("user.slice f0\n", f);
	fclose(f);
	unit_of("user.slice")->mask[0] = 0x0f;
	calls = 0;
	assert_int_equal(symlink(other, keep), 0);
	assert_int_equal(symlink(other, fresh), 0);
	assert_int_equal(slices_create(address, keep, &s), 0);
	assert_int_equal(slices_keep_off(s, cpus, 1), 3);
	assert_int_equal(lstat(keep, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	slices_destroy(s);
	assert_int_equal(unit_of("user.slice")->mask[0], 0x0f);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_size, strlen("user.slice f0\n"));
	/* Nobody ever writes to it. */
	assert_int_equal(mkfifo(keep, 0600), 0);
	assert_int_equal(slices_create(address, keep, &s), 0);
	slices_destroy(s);
	if (geteuid() == 0) {
		assert_int_equal(rename(other, keep), 0);
		assert_int_equal(chown(keep, 12345, 12345), 0);
		calls = 0;
		assert_int_equal(slices_create(address, keep, &s), 0);
		assert_int_equal(calls, 0);
		slices_destroy(s);
	}
	unlink(other);
	unlink(keep);
}

static void without_systemd_it_says_so(void **state)
{
	struct slices *s;

	(void)state;
	assert_true(slices_create("unix:path=/nowhere/at/all", keep, &s) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(others_are_kept_off_and_let_in_again, begin, finish),
		cmocka_unit_test_setup_teardown(what_a_killed_one_left_is_given_back, begin, finish),
		cmocka_unit_test_setup_teardown(what_is_not_taken_back_is_kept, begin, finish),
		cmocka_unit_test_setup_teardown(links_and_strangers_are_not_believed, begin, finish),
		cmocka_unit_test(without_systemd_it_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
