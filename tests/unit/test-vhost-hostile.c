/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything a front-end can do wrong with messages: each ends the session with a reason, or is refused, and leaves
 * nothing.
 */
#include "tests/unit/vhost_rig.h"

/* --- everything wrong --- */

struct hostile {
	uint32_t request, flags, size;
	unsigned n_fds;
	const char *reason;
};

static void malformed_messages_end_the_session(void **state)
{
	static const struct hostile bad[] = {
		{ 0, 1, 0, 0, "unknown request" },
		{ 33, 1, 0, 0, "unknown request" },
		{ VHOST_REQUESTS, 1, 0, 0, "unknown request" },
		{ UINT32_MAX, 1, 0, 0, "unknown request" },
		{ VHOST_GET_FEATURES, 0, 0, 0, "version" },
		{ VHOST_GET_FEATURES, 2, 0, 0, "version" },
		{ VHOST_GET_FEATURES, 5, 0, 0, "a reply" },
		{ VHOST_GET_FEATURES, 1, 8, 0, "GET_FEATURES (8 bytes, 0 file descriptors): wrong size" },
		{ VHOST_SET_FEATURES, 1, 4, 0, "wrong size" },
		{ VHOST_SET_FEATURES, 1, 16, 0, "wrong size" },
		{ VHOST_SET_FEATURES, 1, 8, 1, "too many file descriptors" },
		{ VHOST_GET_CONFIG, 1, 11, 0, "wrong size" },
		{ VHOST_GET_CONFIG, 1, 269, 0, "wrong size" },
		{ VHOST_GET_CONFIG, 1, 273, 0, "larger than any" },
		{ VHOST_SET_CONFIG, 1, UINT32_MAX, 0, "larger than any" },
		{ VHOST_SET_MEM_TABLE, 1, 40, 0, "without its file descriptor" },
		{ VHOST_SET_MEM_TABLE, 1, 40, 2, "1 regions in 40 bytes with 2" },
		{ VHOST_SET_MEM_TABLE, 1, 72, 1, "SET_MEM_TABLE refused" },
		{ VHOST_SET_MEM_TABLE, 1, 8, 1, "wrong size" },
		{ VHOST_SET_MEM_TABLE, 1, 40, 9, "too many file descriptors" },
		{ VHOST_SET_MEM_TABLE, 1, 40, 60, "too many file descriptors" },
		{ VHOST_ADD_MEM_REG, 1, 40, 0, "without" },
		{ VHOST_ADD_MEM_REG, 1, 40, 2, "too many" },
		{ VHOST_ADD_MEM_REG, 1, 32, 1, "wrong size" },
		{ VHOST_REM_MEM_REG, 1, 40, 2, "too many" },
		{ VHOST_REM_MEM_REG, 1, 40, 0, "no such region" },
		{ VHOST_SET_LOG_BASE, 1, 16, 0, "without" },
		{ VHOST_SET_LOG_BASE, 1, 8, 1, "wrong size" },
		{ VHOST_SET_LOG_FD, 1, 0, 0, "without" },
		{ VHOST_SET_INFLIGHT_FD, 1, 24, 0, "without" },
		{ VHOST_SET_INFLIGHT_FD, 1, 24, 1, "SET_INFLIGHT_FD refused" },
		{ VHOST_GET_INFLIGHT_FD, 1, 24, 1, "too many" },
		{ VHOST_GET_INFLIGHT_FD, 1, 19, 0, "wrong size" },
		{ VHOST_SET_BACKEND_REQ_FD, 1, 0, 0, "without" },
		{ VHOST_SET_BACKEND_REQ_FD, 1, 0, 1, "not a local stream socket" },
		{ VHOST_SET_VRING_KICK, 1, 8, 0, "SET_VRING_KICK refused: queue 1: 0 file descriptors" },
		{ VHOST_SET_VRING_KICK, 1, 8, 1, "not an eventfd" },
		{ VHOST_SET_VRING_CALL, 1, 8, 1, "not an eventfd" },
		{ VHOST_SET_VRING_ERR, 1, 8, 1, "not an eventfd" },
		{ VHOST_SET_VRING_KICK, 1, 8, 2, "too many" },
		{ VHOST_SET_VRING_NUM, 1, 8, 0, "SET_VRING_NUM refused: queue 1: size 0" },
		{ VHOST_GET_VRING_BASE, 1, 4, 0, "wrong size" },
		{ VHOST_SET_VRING_ADDR, 1, 32, 0, "wrong size" },
		{ VHOST_SET_STATUS, 1, 4, 0, "wrong size" },
		{ VHOST_RESET_DEVICE, 1, 8, 0, "wrong size" },
		{ VHOST_GET_VRING_BASE_SKIP_DRAIN, 1, 0, 0, "wrong size" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		/* The first 32-bit word of every payload is 1: one region, queue 1. */
		struct {
			struct vhost_header h;
			uint32_t payload[80];
		} m = { .h = { bad[i].request, bad[i].flags, bad[i].size }, .payload = { 1 } };
		size_t size = sizeof(m.h) + (bad[i].size <= sizeof(m.payload) ? bad[i].size : 64);
		int fd[60];
		struct client c;

		begin(&c, 0);
		for (unsigned k = 0; k < ARRAY_SIZE(fd); k++)
			fd[k] = c.memory_fd;
		assert_int_equal(client_send_raw(c.fd, &m, size, fd, bad[i].n_fds), 0);
		loop_settle(c.event);
		assert_null(session);
		end(&c, bad[i].reason);
	}
}

/* A socket whose error queue is full stays ready for ever, and there is nothing to be received. */
static void only_local_streams_are_channels(void **state)
{
	static const struct {
		int domain, type;
	} kinds[] = { { AF_INET, SOCK_DGRAM }, { AF_INET, SOCK_STREAM }, { AF_UNIX, SOCK_DGRAM }, { AF_UNIX, SOCK_SEQPACKET } };

	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		int fd = socket(kinds[i].domain, kinds[i].type | SOCK_CLOEXEC, 0);
		struct client c;

		assert_true(fd >= 0);
		begin(&c, 0);
		client_send(&c, VHOST_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1);
		loop_settle(c.event);
		end(&c, "not a local stream socket");
		close(fd);
	}
}

static void unnegotiated_messages_end_the_session(void **state)
{
	static const uint32_t requests[] = { VHOST_GET_MAX_MEM_SLOTS, VHOST_GET_STATUS, VHOST_RESET_DEVICE };

	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
		struct client c;

		begin(&c, UINT64_MAX);
		client_send(&c, requests[i], NULL, 0, NULL, 0);
		loop_settle(c.event);
		end(&c, "not negotiated");
	}
}

static void wrong_contents_are_refused(void **state)
{
	static const struct {
		uint32_t request, index, num;
	} bad[] = {
		{ VHOST_SET_VRING_NUM, 64, 8 }, { VHOST_SET_VRING_NUM, UINT32_MAX, 8 }, { VHOST_SET_VRING_NUM, 0, 0 },
		{ VHOST_SET_VRING_NUM, 0, 1025 }, { VHOST_SET_VRING_NUM, 0, 0x10008 }, { VHOST_SET_VRING_NUM, 1, 16 },
		{ VHOST_SET_VRING_BASE, 64, 0 }, { VHOST_SET_VRING_BASE, 0, 0x10000 }, { VHOST_SET_VRING_BASE, 1, 5 },
		{ VHOST_SET_VRING_ENABLE, 0, 2 }, { VHOST_SET_VRING_ENABLE, 64, 1 }, { VHOST_SET_STATUS, 256, 0 },
		{ VHOST_SET_VRING_KICK, 200, 0 }, { VHOST_SET_VRING_KICK, 0x300, 0 }, { VHOST_SET_VRING_CALL, 0x100, 1 },
		{ VHOST_SET_FEATURES, 0, 0 }, /* while a queue runs */
	};
	struct client c;

	begin(&c, 0);
	c.need_reply = true;
	client_set_memory(&c);
	client_set_queue(&c, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(client_set_number(&c, bad[i].request, bad[i].index, bad[i].num), 1);
	serves_one_request(&c, 1);
	end(&c, "disconnected");
	/* A request with a reply of its own has no other way to say no. */
	begin(&c, 0);
	assert_int_equal(client_get_base(&c, 64), UINT32_MAX);
	end(&c, "GET_VRING_BASE refused: queue 64 of 64");
}

static void messages_in_pieces(void **state)
{
	struct __attribute__((packed)) {
		struct vhost_header h;
		struct vhost_mem_table t;
	} m = { { VHOST_SET_MEM_TABLE, VHOST_VERSION, 40 }, { .n = 1, .region[0] = { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0 } } };
	struct client c;

	begin(&c, 0);
	for (unsigned i = 0; i < 12 + 40; i++) {
		assert_int_equal(client_send_raw(c.fd, (char *)&m + i, 1, &c.memory_fd, i == 20), 0);
		loop_settle(c.event);
	}
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
	/* And each way to stop in the middle. */
	for (unsigned n = 0; n < 12 + 40; n++) {
		begin(&c, 0);
		if (n > 0)
			assert_int_equal(client_send_raw(c.fd, &m, n, &c.memory_fd, 1), 0);
		loop_settle(c.event);
		assert_non_null(session);
		end(&c, n == 0 ? "disconnected" : "in the middle of a message");
	}
}

/* A front-end that asks and never reads is cut off before it costs memory; many messages in one go are all answered. */
static void unread_replies(void **state)
{
	struct client c;
	unsigned sent = 0;

	begin(&c, 0);
	for (unsigned i = 0; i < 100; i++)
		client_send(&c, VHOST_GET_FEATURES, NULL, 0, NULL, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_true(client_receive_u64(&c, VHOST_GET_FEATURES) != UINT64_MAX);
	while (session && sent++ < 100000) {
		client_send(&c, VHOST_GET_FEATURES, NULL, 0, NULL, 0);
		loop_settle(c.event);
	}
	end(&c, "cannot send a reply");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_messages_end_the_session),
		cmocka_unit_test(only_local_streams_are_channels),
		cmocka_unit_test(unnegotiated_messages_end_the_session),
		cmocka_unit_test(wrong_contents_are_refused),
		cmocka_unit_test(messages_in_pieces),
		cmocka_unit_test(unread_replies),
	};

	warm_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
