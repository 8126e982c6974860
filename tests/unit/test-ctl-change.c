/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: changes at run time that come while another is under way: each begins with what the one before has left, all
 * are answered once, and none is lost, in the daemon or in the file that makes it last. And the end waits for nobody.
 */
#include "ctl/client.h"
#include "ctl/commands.h"
#include "host_run.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <sys/un.h>

#define CALLS 4u

static const char pool_only[] = "pools: { ram: { type: ram, slo: on } }\n";

struct rig {
	struct host_run run;
	struct ctl_context ctl;
	char config[96], socket[96];
};

static void open_control(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	struct rig *rig = arg;

	rig->ctl.host = r->host;
	rig->ctl.config = rig->config;
	assert(ctl_server_create(r->event, &rig->ctl.server) >= 0);
	assert(ctl_commands_init(&rig->ctl) >= 0);
	assert(ctl_server_listen(rig->ctl.server, rig->socket, 0600, NULL) >= 0);
	host_run_done(r, &none);
}

static void close_control(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	struct rig *rig = arg;

	ctl_server_destroy(rig->ctl.server);
	ctl_commands_stop(&rig->ctl);
	host_run_done(r, &none);
}

static void begin(struct rig *rig)
{
	FILE *f;

	memset(rig, 0, sizeof(*rig));
	host_run_start(&rig->run, pool_only);
	snprintf(rig->config, sizeof(rig->config), "%s/fairlead.yaml", rig->run.folder);
	snprintf(rig->socket, sizeof(rig->socket), "%s/control.sock", rig->run.folder);
	f = fopen(rig->config, "w");
	assert_non_null(f);
	fprintf(f, "daemon: { control: %s, workers: [0, 1], state: %s }\n%s", rig->socket, rig->run.folder, pool_only);
	assert_int_equal(fclose(f), 0);
	host_run_do(&rig->run, open_control, rig);
}

static void end(struct rig *rig)
{
	host_run_do(&rig->run, close_control, rig);
	host_run_stop(&rig->run);
	ctl_commands_fini(&rig->ctl);
}

static int send_text(const struct rig *rig, const char *text)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", rig->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static int send_adds(const struct rig *rig)
{
	char text[CALLS * 160];
	size_t n = 0;

	for (unsigned i = 0; i < CALLS; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n,
				      "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"disk.add\",\"params\":{\"vm\":\"a\",\"name\":"
				      "\"d%u\",\"pool\":\"ram\",\"size\":\"1MiB\"}}\n", i, i);
	return send_text(rig, text);
}

static unsigned disks_of(const struct rig *rig)
{
	json_t *result = NULL, *error = NULL;
	struct ctl_client *c;
	unsigned n;

	assert_int_equal(ctl_client_connect(rig->socket, 60000, &c), 0);
	assert_int_equal(ctl_client_call(c, "vm.list", NULL, &result, &error), 0);
	n = (unsigned)json_array_size(
		json_object_get(json_array_get(json_object_get(result, "vms"), 0), "disks"));
	json_decref(result);
	ctl_client_close(c);
	return n;
}

static void changes_take_their_turn(void **state)
{
	struct rig rig;
	char line[4096];
	FILE *answers;

	(void)state;
	begin(&rig);
	answers = fdopen(send_adds(&rig), "r");
	assert_non_null(answers);
	for (unsigned i = 0; i < CALLS; i++) {
		assert_non_null(fgets(line, sizeof(line), answers));
		assert_null(strstr(line, "error"));
	}
	fclose(answers);
	assert_int_equal(disks_of(&rig), CALLS);
	end(&rig);
}

static json_t *ask(const struct rig *rig, const char *method, json_t *params, int wanted)
{
	json_t *result = NULL, *error = NULL;
	struct ctl_client *c;

	assert_int_equal(ctl_client_connect(rig->socket, 60000, &c), 0);
	assert_int_equal(ctl_client_call(c, method, params, &result, &error), wanted);
	ctl_client_close(c);
	return result ? result : error;
}

static void write_config(const struct rig *rig, const char *text)
{
	FILE *f = fopen(rig->config, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static json_t *disk_named(const char *name)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "vm", "a", "name", name, "pool", "ram", "size", "1MiB");
}

/*
 * A policy from elsewhere runs, and somebody is editing the daemon's files: a disk that comes takes no other away, and nothing
 * that is half written runs. Whoever asks for the files gets them.
 */
static void a_change_is_one_of_what_runs(void **state)
{
	char text[512], applied[768];
	struct rig rig;

	(void)state;
	begin(&rig);
	snprintf(text, sizeof(text), "daemon: { control: %s, workers: [0, 1], state: %s }\n%s", rig.socket, rig.run.folder,
		 pool_only);
	snprintf(applied, sizeof(applied), "%svms: { a: { disks: [ { name: x, pool: ram, size: 1MiB }, { name: y, pool: ram, size: 1MiB } ] } }\n",
		 text);
	json_decref(ask(&rig, "policy.apply", json_pack("{s:[{s:s, s:s}]}", "sources", "name", "elsewhere", "text", applied), 0));
	assert_int_equal(disks_of(&rig), 2);
	write_config(&rig, "vms: { half");
	json_decref(ask(&rig, "disk.add", disk_named("z"), 0));
	assert_int_equal(disks_of(&rig), 3);
	json_decref(ask(&rig, "slo.set", json_pack("{s:s, s:{s:i}}", "target", "a", "promise", "shares", 7), 0));
	assert_int_equal(disks_of(&rig), 3);
	json_decref(ask(&rig, "policy.apply", NULL, -EREMOTEIO));
	assert_int_equal(disks_of(&rig), 3);
	write_config(&rig, text);
	json_decref(ask(&rig, "policy.apply", NULL, 0));
	assert_int_equal(disks_of(&rig), 1);
	json_decref(ask(&rig, "disk.remove", json_pack("{s:s, s:s}", "vm", "a", "name", "z"), 0));
	json_decref(ask(&rig, "disk.add", disk_named("w"), 0));
	assert_int_equal(disks_of(&rig), 1);
	end(&rig);
}

/* The control socket closes with one change under way and others waiting: that one lasts, those do nothing. */
static void the_end_comes_between_changes(void **state)
{
	struct rig rig;
	int fd;

	(void)state;
	begin(&rig);
	fd = send_adds(&rig);
	end(&rig);
	close(fd);
}

/* At a minute for each of its steps. */
static void the_end_stops_a_calibration(void **state)
{
	struct rig rig;
	char c;
	int fd;

	(void)state;
	begin(&rig);
	/* The answer to the second says that the first has begun. */
	fd = send_text(&rig, "{\"jsonrpc\":\"2.0\",\"method\":\"pool.calibrate\",\"params\":{\"name\":\"ram\",\"seconds\":60}}\n"
			     "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.list\"}\n");
	assert_int_equal(read(fd, &c, 1), 1);
	end(&rig);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_take_their_turn),
		cmocka_unit_test(a_change_is_one_of_what_runs),
		cmocka_unit_test(the_end_comes_between_changes),
		cmocka_unit_test(the_end_stops_a_calibration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
