/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where front-ends come from: listening (stale, live and foreign files at the path, modes, one at a time),
 * connecting with retries, given descriptors; ends while requests drain; a thousand connections without a
 * descriptor or a page left over.
 */
#include "tests/unit/vhost_harness.h"
#include "vhost/server.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

static sd_event *event;
static struct model model;
static struct vhost_server *server;
static char folder[] = "/tmp/vhost-server-XXXXXX", path[64];
static unsigned connected, disconnected, refused, connect_failed, destroyed;
static pid_t peer;
static int last_error;
static char reason[200];

static void on_connected(void *arg, pid_t pid)
{
	connected++;
	peer = pid;
}

static void on_disconnected(void *arg, const char *why)
{
	disconnected++;
	snprintf(reason, sizeof(reason), "%s", why);
}

static void on_refused(void *arg, int error)
{
	refused++;
	last_error = error;
}

static void on_connect_failed(void *arg, int error)
{
	connect_failed++;
	last_error = error;
}

static void on_destroyed(void *arg, int result, uint32_t value)
{
	destroyed++;
}

static const struct vhost_server_events events = {
	.connected = on_connected, .disconnected = on_disconnected, .refused = on_refused, .connect_failed = on_connect_failed,
};

static int server_open(enum vhost_server_mode mode, const char *at, int fd)
{
	struct vhost_server_options o = { .mode = mode, .path = at, .socket_mode = 0640, .socket_group = (gid_t)-1, .fd = fd };

	connected = disconnected = refused = connect_failed = destroyed = 0;
	model_init(&model, event, 4);
	return vhost_server_create(event, &model.device, &o, &events, NULL, &server);
}

static void server_close(void)
{
	vhost_server_destroy(server, (struct vhost_done){ .fn = on_destroyed });
	loop_settle(event);
	assert_int_equal(destroyed, 1);
	model_fini(&model);
}

static int socket_bound(const char *at, bool listens)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", at);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (listens)
		assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static bool closed(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Runs the loop until `*counter` is `n`; the loop's own timers wake it. */
static void wait_for(const unsigned *counter, unsigned n)
{
	while (*counter < n)
		assert_true(sd_event_run(event, UINT64_C(60000000)) > 0);
	assert_int_equal(*counter, n);
}

static void listens_with_mode_and_leaves_nothing(void **state)
{
	struct stat st;
	int fd;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_null(vhost_server_session(server));
	fd = dial();
	loop_settle(event);
	assert_int_equal(connected, 1);
	assert_int_equal(peer, getpid());
	assert_non_null(vhost_server_session(server));
	server_close();
	assert_true(closed(fd));
	close(fd);
	assert_int_equal(stat(path, &st), -1);
	/* The device goes: nobody is told of a disconnected front-end. */
	assert_int_equal(disconnected, 0);
}

static void what_stands_at_the_path(void **state)
{
	char longer[200];
	struct stat st;
	int fd = socket_bound(path, true);

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), -EADDRINUSE);
	model_fini(&model);
	close(fd);
	/* Nobody answers any more. */
	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	server_close();

	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(server_open(VHOST_LISTEN, path, -1), -EEXIST);
	model_fini(&model);
	close(fd);
	assert_int_equal(unlink(path), 0);

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(server_open(VHOST_LISTEN, longer, -1), -ENAMETOOLONG);
	model_fini(&model);
	assert_int_equal(server_open(VHOST_LISTEN, "", -1), -EINVAL);
	model_fini(&model);
	assert_int_equal(server_open(VHOST_LISTEN, "/nonexistent/x", -1), -ENOENT);
	model_fini(&model);

	/* Somebody else's socket is not ours to remove. */
	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	assert_int_equal(unlink(path), 0);
	fd = socket_bound(path, true);
	server_close();
	assert_int_equal(stat(path, &st), 0);
	close(fd);
	unlink(path);
}

static void a_second_front_end_is_refused(void **state)
{
	int first, second;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	first = dial();
	loop_settle(event);
	second = dial();
	loop_settle(event);
	assert_int_equal(refused, 1);
	assert_int_equal(last_error, -EBUSY);
	assert_true(closed(second));
	assert_false(closed(first));
	close(second);
	close(first);
	server_close();
}

/* A front-end that was restarted connects before we have noticed that the old one is gone: it must not be refused. */
static void a_restarted_front_end_is_served(void **state)
{
	struct client c;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	model.answers = MODEL_LATER;
	for (unsigned i = 0; i < 100; i++) {
		client_init(&c, event, dial());
		client_negotiate(&c, 0);
		client_set_memory(&c);
		client_set_queue(&c, 0);
		assert_int_equal(model.starts, i + 1);
		client_fini(&c);
	}
	loop_settle(event);
	assert_int_equal(refused, 0);
	assert_int_equal(connected, 100);
	assert_int_equal(disconnected, 100);
	server_close();
}

/* Requests of the old session still drain: the new front-end waits, neighbours do not. */
static void the_next_waits_for_the_last(void **state)
{
	struct client c, next;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	client_init(&c, event, dial());
	client_negotiate(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	model.answers = MODEL_HELD;
	client_fini(&c);
	loop_settle(event);
	assert_int_equal(model.stops, 1);
	client_init(&next, event, dial());
	loop_settle(event);
	assert_int_equal(connected, 1);
	model_release(&model);
	loop_settle(event);
	assert_int_equal(connected, 2);
	assert_int_equal(refused, 0);
	client_negotiate(&next, 0);
	client_fini(&next);
	server_close();
}

static void destroy_waits_for_the_device(void **state)
{
	struct client c;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	client_init(&c, event, dial());
	client_negotiate(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set_queue(&c, 1);
	model.answers = MODEL_HELD;
	vhost_server_destroy(server, (struct vhost_done){ .fn = on_destroyed });
	loop_settle(event);
	assert_int_equal(model.stops, 2);
	assert_int_equal(destroyed, 0);
	model_release(&model);
	loop_settle(event);
	assert_int_equal(destroyed, 1);
	assert_int_equal(model.ended, 1);
	client_fini(&c);
	model_fini(&model);
}

static void connects_when_somebody_listens(void **state)
{
	int listener, fd;

	assert_int_equal(server_open(VHOST_CONNECT, path, -1), 0);
	wait_for(&connect_failed, 1);
	assert_int_equal(last_error, -ENOENT);
	listener = socket_bound(path, true);
	wait_for(&connected, 1);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	wait_for(&disconnected, 1);
	/* And again, by itself. */
	wait_for(&connected, 2);
	assert_int_equal(connect_failed, 1);
	server_close();
	close(listener);
	unlink(path);
}

static void given_connection(void **state)
{
	struct client c;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(server_open(VHOST_FD, NULL, pair[1]), 0);
	assert_int_equal(connected, 1);
	client_init(&c, event, pair[0]);
	client_negotiate(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_offer(&c, 0, 16);
	assert_int_equal(model_poll(&model), 1);
	client_fini(&c);
	wait_for(&disconnected, 1);
	assert_non_null(strstr(reason, "disconnected"));
	server_close();
}

static void given_listener(void **state)
{
	int fd = socket_bound(path, true);

	assert_int_equal(server_open(VHOST_FD, NULL, fd), 0);
	for (unsigned i = 0; i < 3; i++) {
		close(dial());
		wait_for(&disconnected, i + 1);
	}
	server_close();
	unlink(path);
}

static void given_nonsense(void **state)
{
	unsigned before = fds_open();
	int pipe_fd[2];

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	assert_int_equal(server_open(VHOST_FD, NULL, pipe_fd[0]), -ENOTSOCK);
	model_fini(&model);
	assert_int_equal(server_open(VHOST_FD, NULL, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), -EINVAL);
	model_fini(&model);
	close(pipe_fd[1]);
	assert_int_equal(fds_open(), before);
}

static void one_connection(unsigned i)
{
	struct vhost_inflight_area inflight = { .queues = 4, .queue_size = RING_SIZE };
	struct vhost_log_area log = { 0x1000, 0 };
	int fd = -1, log_fd, pair[2];
	struct client c;

	client_init(&c, event, dial());
	client_negotiate(&c, 0);
	log_fd = client_memory("log", 0x1000);
	client_send(&c, VHOST_GET_INFLIGHT_FD, &inflight, sizeof(inflight), NULL, 0);
	client_receive(&c, VHOST_GET_INFLIGHT_FD, &inflight, sizeof(inflight), &fd);
	client_set(&c, VHOST_SET_INFLIGHT_FD, &inflight, sizeof(inflight), &fd, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	client_set(&c, VHOST_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
	client_set(&c, VHOST_SET_LOG_BASE, &log, sizeof(log), &log_fd, 1);
	client_set_memory(&c);
	for (unsigned q = 0; q < 4; q++)
		client_set_queue(&c, q);
	client_offer(&c, 0, 512);
	model_poll(&model);
	/* Now and then in the middle of something. */
	if (i % 3 == 1)
		client_send_raw(c.fd, "\x05\0\0\0\x01\0\0\0\x28\0\0\0", i % 12 + 1, &c.memory_fd, 1);
	if (i % 3 == 2)
		client_send(&c, 999, NULL, 0, &fd, 1);
	close(fd);
	close(log_fd);
	close(pair[0]);
	close(pair[1]);
	client_fini(&c);
	wait_for(&disconnected, i + 1);
}

static unsigned mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned n = 0;

	for (int ch = fgetc(f); ch != EOF; ch = fgetc(f))
		n += ch == '\n';
	fclose(f);
	return n;
}

static void a_thousand_connections_leave_nothing(void **state)
{
	unsigned fds = 0, maps = 0;
	size_t heap = 0;

	assert_int_equal(server_open(VHOST_LISTEN, path, -1), 0);
	for (unsigned i = 0; i < 1000; i++) {
		if (i == 10) {
			fds = fds_open();
			maps = mappings();
			heap = mallinfo2().uordblks;
		}
		one_connection(i);
	}
	assert_int_equal(fds_open(), fds);
	/* The allocator may split its own. */
	assert_true(mappings() < maps + 100);
	/* Not one byte a connection: the slack is for what the event loop keeps. */
	assert_true(mallinfo2().uordblks <= heap + 900);
	assert_int_equal(model.completed, 1000);
	server_close();
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder) || sd_event_new(&event) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/disk.sock", folder);
	return 0;
}

static int remove_folder(void **state)
{
	sd_event_unref(event);
	unlink(path);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listens_with_mode_and_leaves_nothing),
		cmocka_unit_test(what_stands_at_the_path),
		cmocka_unit_test(a_second_front_end_is_refused),
		cmocka_unit_test(a_restarted_front_end_is_served),
		cmocka_unit_test(the_next_waits_for_the_last),
		cmocka_unit_test(destroy_waits_for_the_device),
		cmocka_unit_test(connects_when_somebody_listens),
		cmocka_unit_test(given_connection),
		cmocka_unit_test(given_listener),
		cmocka_unit_test(given_nonsense),
		cmocka_unit_test(a_thousand_connections_leave_nothing),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
