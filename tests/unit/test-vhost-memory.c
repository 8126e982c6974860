/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a front-end shares: the guest's memory, the dirty log, the inflight region; changed while in use, wrong,
 * truncated.
 */
#include "tests/unit/vhost_rig.h"

/* --- memory --- */

static void memory_changes_while_running(void **state)
{
	struct client c;
	uint64_t generation;
	void *old;

	begin(&c, 0);
	c.need_reply = true;
	client_set_memory(&c);
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	model.answers = MODEL_HELD;
	old = model.map->region[0].hva;
	generation = model.map->generation;
	client_send(&c, VHOST_SET_MEM_TABLE,
		    &(struct vhost_mem_table){ .n = 1, .region[0] = { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0 } }, 8 + 32,
		    &c.memory_fd, 1);
	loop_settle(c.event);
	assert_int_equal(model.memory_sets, 1);
	assert_true(model.map->generation > generation);
	/* Some worker may still use the old map: it stands, and the front-end has no answer yet. */
	assert_false(client_readable(&c));
	assert_int_equal(msync(old, 4096, MS_ASYNC), 0);
	model_release(&model);
	assert_int_equal(client_receive_u64(&c, VHOST_SET_MEM_TABLE), 0);
	assert_int_equal(msync(old, 4096, MS_ASYNC), -1);
	model.answers = MODEL_NOW;
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

static uint64_t region_message(struct client *c, uint32_t request, unsigned i, int fd)
{
	struct vhost_mem_reg reg = { .region = { GUEST_GPA + i * 0x2000ull, 0x1000, GUEST_UVA + i * 0x2000ull, 0 } };

	return client_set(c, request, &reg, sizeof(reg), &fd, fd >= 0);
}

static void regions_come_and_go_up_to_509(void **state)
{
	struct client c;
	unsigned before;

	begin(&c, 0);
	c.need_reply = true;
	before = fds_open();
	for (unsigned i = 0; i < 509; i++)
		assert_int_equal(region_message(&c, VHOST_ADD_MEM_REG, i, c.memory_fd), 0);
	assert_int_equal(region_message(&c, VHOST_ADD_MEM_REG, 509, c.memory_fd), 1);
	assert_int_equal(region_message(&c, VHOST_ADD_MEM_REG, 7, c.memory_fd), 1);
	assert_int_equal(region_message(&c, VHOST_REM_MEM_REG, 600, -1), 1);
	assert_int_equal(fds_open(), before);
	for (unsigned i = 0; i < 509; i++)
		assert_int_equal(region_message(&c, VHOST_REM_MEM_REG, 508 - i, i % 2 ? c.memory_fd : -1), 0);
	assert_int_equal(region_message(&c, VHOST_REM_MEM_REG, 0, -1), 1);
	assert_int_equal(region_message(&c, VHOST_ADD_MEM_REG, 0, c.memory_fd), 0);
	end(&c, "disconnected");
}

/* Queues whose rings lie in a region that comes last start when it comes. */
static void memory_may_come_after_the_queues(void **state)
{
	struct vhost_mem_reg low = { .region = { 0, 0x1000, 0x1000, 0 } };
	struct vhost_mem_reg high = { .region = { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0 } };
	struct client c;

	begin(&c, 0);
	client_set_queue(&c, 0);
	client_set(&c, VHOST_ADD_MEM_REG, &low, sizeof(low), &c.memory_fd, 1);
	assert_int_equal(model.starts, 0);
	client_set(&c, VHOST_ADD_MEM_REG, &high, sizeof(high), &c.memory_fd, 1);
	assert_int_equal(model.starts, 1);
	serves_one_request(&c, 0);
	assert_int_equal(client_set(&c, VHOST_REM_MEM_REG, &low, sizeof(low), NULL, 0), 0);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

static void only_memory_files_are_taken(void **state)
{
	struct vhost_region region = { GUEST_GPA, 0x1000, GUEST_UVA, 0 };
	struct vhost_mem_table table = { .n = 1, .region[0] = region };
	struct vhost_mem_reg reg = { .region = region };
	struct vhost_log_area log = { 0x1000, 0 };
	struct vhost_inflight_area inflight = { 0x10000, 0, 1, 8, 0 };
	int disk = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), bad[] = { disk, 0, 0 }, pipe_fd[2];
	struct client c;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	bad[1] = pipe_fd[0];
	bad[2] = eventfd(0, EFD_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(&c, 0);
		c.need_reply = true;
		assert_int_equal(client_set(&c, VHOST_SET_MEM_TABLE, &table, 40, &bad[i], 1), 1);
		assert_int_equal(client_set(&c, VHOST_ADD_MEM_REG, &reg, 40, &bad[i], 1), 1);
		assert_int_equal(client_set(&c, VHOST_SET_INFLIGHT_FD, &inflight, sizeof(inflight), &bad[i], 1), 1);
		assert_int_equal(client_set(&c, VHOST_SET_LOG_BASE, &log, sizeof(log), &bad[i], 1), UINT64_MAX);
		end(&c, "SET_LOG_BASE refused");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		close(bad[i]);
	close(pipe_fd[1]);
}

static void bad_regions_are_refused(void **state)
{
	static const struct vhost_mem_table tables[] = {
		{ .n = 1, .region = { { GUEST_GPA, 0, GUEST_UVA, 0 } } },
		{ .n = 1, .region = { { GUEST_GPA, 2 * GUEST_BYTES, GUEST_UVA, 0 } } },
		{ .n = 1, .region = { { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0x1000 } } },
		{ .n = 1, .region = { { GUEST_GPA, 0x1000, GUEST_UVA, -UINT64_C(0x1000) } } },
		{ .n = 1, .region = { { -UINT64_C(0x1000), 0x2000, GUEST_UVA, 0 } } },
		{ .n = 1, .region = { { GUEST_GPA, 0x2000, -UINT64_C(0x1000), 0 } } },
		{ .n = 2, .region = { { GUEST_GPA, 0x2000, GUEST_UVA, 0 }, { GUEST_GPA + 0x1000, 0x1000, 0, 0 } } },
	};
	struct client c;

	begin(&c, 0);
	c.need_reply = true;
	client_set_memory(&c);
	client_set_queue(&c, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		int fd[2] = { c.memory_fd, c.memory_fd };

		assert_int_equal(client_set(&c, VHOST_SET_MEM_TABLE, &tables[i], 8 + tables[i].n * 32, fd, tables[i].n), 1);
	}
	assert_int_equal(model.memory_sets, 0);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

/* --- dirty log --- */

static void a_dirty_log_has_what_was_written(void **state)
{
	struct vhost_log_area area = { 0x2000, 0x1000 };
	struct client c;
	uint8_t *bits;
	int log;

	begin(&c, 0);
	log = client_memory("log", 0x3000);
	bits = mmap(NULL, 0x3000, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
	client_set_memory(&c);
	client_set_queue(&c, 1);
	/* The way migration begins in QEMU: log, then the feature, then the rings' flags. */
	client_send(&c, VHOST_SET_LOG_BASE, &area, sizeof(area), &log, 1);
	assert_int_equal(client_receive_u64(&c, VHOST_SET_LOG_BASE), 0);
	serves_one_request(&c, 1);
	assert_int_equal(model.log_sets, 0);
	client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES | 1u << VHOST_F_LOG_ALL_BIT);
	client_set_addresses(&c, 1, VHOST_VRING_ADDR_LOG);
	assert_int_equal(model.log_sets, 1);
	assert_int_equal(model.stops, 0);
	for (unsigned i = 0; i < 0x3000; i++)
		assert_int_equal(bits[i], 0);
	serves_one_request(&c, 1);
	for (uint64_t page = 0; page < 0x2000 * 8; page++) {
		bool ring = page == (GUEST_GPA + RING_AT(1)) / 4096, data = page == (GUEST_GPA + DATA_AT(1)) / 4096;

		assert_int_equal(bits[0x1000 + page / 8] >> page % 8 & 1, ring || data);
	}
	/* Migration failed: it ends, and nothing more is logged. */
	client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES);
	memset(bits, 0, 0x3000);
	serves_one_request(&c, 1);
	for (unsigned i = 0; i < 0x3000; i++)
		assert_int_equal(bits[i], 0);
	munmap(bits, 0x3000);
	close(log);
	end(&c, "disconnected");
	assert_null(model.log);
}

static void a_new_log_waits_for_the_old(void **state)
{
	struct vhost_log_area area = { 0x1000, 0 };
	struct client c;
	uint8_t *old;
	int log;

	begin(&c, 0);
	log = client_memory("log", 0x1000);
	c.need_reply = true;
	client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES | 1u << VHOST_F_LOG_ALL_BIT);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set(&c, VHOST_SET_LOG_BASE, &area, sizeof(area), &log, 1);
	old = model.log->bits;
	model.answers = MODEL_HELD;
	client_send(&c, VHOST_SET_LOG_BASE, &area, sizeof(area), &log, 1);
	client_send(&c, VHOST_SET_LOG_FD, NULL, 0, &c.call, 1);
	loop_settle(c.event);
	assert_false(client_readable(&c));
	assert_int_equal(msync(old, 4096, MS_ASYNC), 0);
	model_release(&model);
	assert_int_equal(client_receive_u64(&c, VHOST_SET_LOG_BASE), 0);
	assert_int_equal(client_receive_u64(&c, VHOST_SET_LOG_FD), 0);
	assert_int_equal(msync(old, 4096, MS_ASYNC), -1);
	model.answers = MODEL_NOW;
	close(log);
	end(&c, "disconnected");
}

/* --- inflight region --- */

static int inflight_get(struct client *c, struct vhost_inflight_area *area, uint32_t size)
{
	int fd;

	client_send(c, VHOST_GET_INFLIGHT_FD, area, size, NULL, 0);
	assert_int_equal(client_receive(c, VHOST_GET_INFLIGHT_FD, area, sizeof(*area), &fd), size);
	return fd;
}

static void an_inflight_region_is_made_and_taken_back(void **state)
{
	struct vhost_inflight_area area = { .queues = 4, .queue_size = RING_SIZE };
	struct client c;
	/* The driver may yet choose packed rings of any size. */
	size_t stride = virtqueue_inflight_bytes(VIRTQUEUE_SIZE_MAX, true);
	int fd;

	begin(&c, 1u << VHOST_PROTOCOL_SKIP_DRAIN);
	fd = inflight_get(&c, &area, VHOST_INFLIGHT_PACKED);
	close(fd);
	area = (struct vhost_inflight_area){ .queues = 4, .queue_size = RING_SIZE };
	fd = inflight_get(&c, &area, sizeof(area));
	assert_true(fd >= 0);
	assert_int_equal(area.size, 4 * stride);
	assert_int_equal(ftruncate(fd, 0), -1);
	client_set(&c, VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set_queue(&c, 3);
	assert_int_equal((char *)model.queue[3].setup.inflight - (char *)model.queue[0].setup.inflight, 3 * stride);
	assert_int_equal(model.queue[3].setup.inflight_bytes, stride);
	serves_one_request(&c, 3);
	/* Not while queues run; and a queue that has no room in it is not served. */
	c.need_reply = true;
	assert_int_equal(client_set(&c, VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 1);
	client_set_number(&c, VHOST_SET_VRING_NUM, 4, RING_SIZE);
	client_set_addresses(&c, 4, 0);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 4, 1);
	assert_int_equal(client_set_fd(&c, VHOST_SET_VRING_KICK, 4, c.kick), 1);
	assert_int_equal(refused_error, -ENOSPC);
	/* Stopped with the feature that leaves requests in the region. */
	assert_int_equal(client_get_base(&c, 3), 1);
	assert_true(model.queue[3].kept_inflight);
	close(fd);
	end(&c, "disconnected");
	assert_true(model.queue[0].kept_inflight);
}

static void skip_drain_is_asked_for(void **state)
{
	struct vhost_inflight_area area = { .queues = 1, .queue_size = RING_SIZE };
	struct vhost_vring_number n = { .index = 0 };
	struct client c;
	int fd;

	begin(&c, 0);
	fd = inflight_get(&c, &area, sizeof(area));
	client_set(&c, VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	assert_int_equal(client_get_base(&c, 0), 0);
	assert_false(model.queue[0].kept_inflight);
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick);
	client_send(&c, VHOST_GET_VRING_BASE_SKIP_DRAIN, &n, sizeof(n), NULL, 0);
	assert_int_equal(client_receive(&c, VHOST_GET_VRING_BASE_SKIP_DRAIN, &n, sizeof(n), NULL), sizeof(n));
	assert_true(model.queue[0].kept_inflight);
	close(fd);
	end(&c, "disconnected");
}

static void bad_inflight_regions_are_refused(void **state)
{
	static const struct vhost_inflight_area bad[] = {
		{ 0x1000, 0, 0, 8, 0 },
		{ 0x1000, 0, 65, 8, 0 },
		{ 0x1000, 0, 1, 0, 0 },
		{ 0x100000, 0, 1, 1025, 0 },
		{ 8, 0, 1, 8, 0 },
		{ 0x1000, 0, 64, 1024, 0 },
		{ 0x20000, 0, 1, 8, 0 },
		{ 0x1000, 0x10000, 1, 8, 0 },
		{ 0x1000, -UINT64_C(0x800), 1, 8, 0 },
		{ -UINT64_C(1), 0, 1, 8, 0 },
	};
	struct client c;
	int fd;

	begin(&c, 0);
	c.need_reply = true;
	fd = client_memory("inflight", 0x10000);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vhost_inflight_area area = bad[i];

		assert_int_equal(client_set(&c, VHOST_SET_INFLIGHT_FD, &bad[i], sizeof(bad[i]), &fd, 1), 1);
		if (i < 4) {
			assert_int_equal(inflight_get(&c, &area, sizeof(area)), -1);
			assert_int_equal(area.size, 0);
		}
	}
	close(fd);
	end(&c, "disconnected");
}

/* --- files that shrink --- */

static void neighbour_ended(void *arg, const char *reason)
{
	*(bool *)arg = true;
}

static const struct vhost_session_events neighbour_events = { neighbour_ended, on_queue_refused };

static void truncated_files_end_one_session(void **state)
{
	static const char *const reasons[] = { "guest's memory", "dirty log", "inflight region" };

	sigaction(SIGBUS, &sigbus_action, NULL);
	for (unsigned what = 0; what < 3; what++) {
		struct vhost_inflight_area inflight = { 0x10000, 0, 1, RING_SIZE, 0 };
		struct vhost_log_area log = { 0x1000, 0 };
		int log_fd, inflight_fd, pair[2];
		struct model neighbour;
		struct vhost_session *next;
		bool next_ended = false;
		struct client c, d;

		begin(&c, 0);
		log_fd = client_memory("log", 0x1000);
		inflight_fd = client_memory("inflight", 0x10000);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		model_init(&neighbour, c.event, 1);
		client_init(&d, c.event, pair[0]);
		assert_int_equal(vhost_session_create(c.event, &neighbour.device, pair[1], &neighbour_events, &next_ended, &next), 0);

		client_set(&c, VHOST_SET_LOG_BASE, &log, sizeof(log), &log_fd, 1);
		assert_int_equal(client_receive_u64(&c, VHOST_SET_LOG_BASE), 0);
		client_set(&c, VHOST_SET_INFLIGHT_FD, &inflight, sizeof(inflight), &inflight_fd, 1);
		client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES | 1u << VHOST_F_LOG_ALL_BIT);
		client_set_memory(&c);
		client_set_queue(&c, 0);
		serves_one_request(&c, 0);
		client_offer(&c, 0, 512);
		assert_int_equal(ftruncate(what == 0 ? c.memory_fd : what == 1 ? log_fd : inflight_fd, 0), 0);
		model_poll(&model);
		while (session)
			assert_true(sd_event_run(c.event, UINT64_C(60000000)) > 0);

		client_negotiate(&d, 0);
		client_set_memory(&d);
		client_set_queue(&d, 0);
		client_offer(&d, 0, 512);
		assert_int_equal(model_poll(&neighbour), 1);
		assert_false(next_ended);
		client_fini(&d);
		loop_settle(c.event);
		assert_true(next_ended);
		model_fini(&neighbour);
		close(log_fd);
		close(inflight_fd);
		end(&c, reasons[what]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_changes_while_running),
		cmocka_unit_test(regions_come_and_go_up_to_509),
		cmocka_unit_test(memory_may_come_after_the_queues),
		cmocka_unit_test(only_memory_files_are_taken),
		cmocka_unit_test(bad_regions_are_refused),
		cmocka_unit_test(a_dirty_log_has_what_was_written),
		cmocka_unit_test(a_new_log_waits_for_the_old),
		cmocka_unit_test(an_inflight_region_is_made_and_taken_back),
		cmocka_unit_test(skip_drain_is_asked_for),
		cmocka_unit_test(bad_inflight_regions_are_refused),
		cmocka_unit_test(truncated_files_end_one_session),
	};

	warm_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
