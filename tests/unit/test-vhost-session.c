/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a decent front-end does: negotiation, set-ups in every order, changes while queues run, answers that come
 * late, config, status and reset, notices.
 */
#include "tests/unit/vhost_rig.h"

/* --- negotiation --- */

static void what_is_offered_can_be_chosen(void **state)
{
	struct client c;
	uint64_t f;

	begin(&c, UINT64_MAX);
	f = client_get(&c, VHOST_GET_FEATURES);
	for (const unsigned *b = (const unsigned[]){ MODEL_FEATURE, 26, 28, 29, 30, 32, 34, 0 }; *b; b++)
		assert_true(f >> *b & 1);
	assert_false(f >> 35 & 1); /* IN_ORDER */
	f = client_get(&c, VHOST_GET_PROTOCOL_FEATURES);
	assert_int_equal(f, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 15 | 1u << 16 |
				    1u << 20 | 1u << 23);
	client_negotiate(&c, 0);
	assert_int_equal(client_get(&c, VHOST_GET_QUEUE_NUM), 64);
	assert_int_equal(client_get(&c, VHOST_GET_MAX_MEM_SLOTS), 509);
	assert_int_equal(model.features, UINT64_C(1) << 32 | 1u << MODEL_FEATURE);
	end(&c, "the front-end disconnected");
}

static void unoffered_features_are_refused(void **state)
{
	struct client c;

	begin(&c, 0);
	c.need_reply = true;
	assert_int_equal(client_set_u64(&c, VHOST_SET_FEATURES, UINT64_C(1) << 35), 1);
	assert_int_equal(client_set_u64(&c, VHOST_SET_PROTOCOL_FEATURES, UINT64_C(1) << 11), 1);
	assert_int_equal(client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES), 0);
	end(&c, "disconnected");
}

/* SET_PROTOCOL_FEATURES itself is acknowledged as soon as it negotiates acknowledgements. */
static void acknowledgements_begin_with_their_feature(void **state)
{
	struct client c;

	begin(&c, UINT64_MAX);
	c.need_reply = true;
	assert_int_equal(client_send(&c, VHOST_SET_OWNER, NULL, 0, NULL, 0), 0);
	loop_settle(c.event);
	assert_false(client_readable(&c));
	assert_int_equal(client_set_u64(&c, VHOST_SET_PROTOCOL_FEATURES, 1u << VHOST_PROTOCOL_REPLY_ACK), 0);
	assert_int_equal(client_set(&c, VHOST_SET_OWNER, NULL, 0, NULL, 0), 0);
	end(&c, "disconnected");
}

/* --- set-up in any order --- */

static void setup_step(struct client *c, unsigned step)
{
	switch (step) {
	case 0:
		client_set_memory(c);
		break;
	case 1:
		client_set_number(c, VHOST_SET_VRING_NUM, 0, RING_SIZE);
		break;
	case 2:
		client_set_addresses(c, 0, 0);
		break;
	case 3:
		client_set_number(c, VHOST_SET_VRING_BASE, 0, 0);
		break;
	case 4:
		client_set_fd(c, VHOST_SET_VRING_KICK, 0, c->kick);
		break;
	case 5:
		client_set_fd(c, VHOST_SET_VRING_CALL, 0, c->call);
		break;
	default:
		client_set_number(c, VHOST_SET_VRING_ENABLE, 0, 1);
	}
}

#define STEPS 7u

static void order_run(const unsigned order[STEPS], enum model_answers answers)
{
	struct client c;

	begin(&c, 0);
	model.answers = answers;
	for (unsigned i = 0; i < STEPS; i++)
		setup_step(&c, order[i]);
	assert_int_equal(model.starts, 1);
	serves_one_request(&c, 0);
	assert_int_equal(client_get_base(&c, 0), 1);
	assert_int_equal(model.stops, 1);
	end(&c, "disconnected");
}

/* The k-th permutation. */
static void order_make(unsigned order[STEPS], unsigned k)
{
	unsigned left[STEPS], n = STEPS;

	for (unsigned i = 0; i < STEPS; i++)
		left[i] = i;
	for (unsigned i = 0; i < STEPS; i++, n--) {
		unsigned at = k % n;

		k /= n;
		order[i] = left[at];
		memmove(&left[at], &left[at + 1], (n - at - 1) * sizeof(left[0]));
	}
}

static void set_up_works_in_every_order(void **state)
{
	for (unsigned k = 0; k < 5040; k++) {
		unsigned order[STEPS];

		order_make(order, k);
		order_run(order, k % 2 ? MODEL_LATER : MODEL_NOW);
	}
}

static void without_protocol_features_rings_start_enabled(void **state)
{
	struct client c;

	begin(&c, UINT64_MAX);
	client_set_u64(&c, VHOST_SET_FEATURES, UINT64_C(1) << VIRTIO_F_VERSION_1_BIT);
	client_set_memory(&c);
	client_set_number(&c, VHOST_SET_VRING_NUM, 0, RING_SIZE);
	client_set_addresses(&c, 0, 0);
	client_set_fd(&c, VHOST_SET_VRING_CALL, 0, c.call);
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

static void disabled_rings_wait(void **state)
{
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 0);
	client_offer(&c, 0, 512);
	assert_int_equal(model_poll(&model), 0);
	/* Enabled again it goes on where it was, with the descriptors that it had. */
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1);
	assert_int_equal(model_poll(&model), 1);
	serves_one_request(&c, 0);
	assert_int_equal(client_get_base(&c, 0), 3);
	end(&c, "disconnected");
}

static void stopped_rings_need_a_new_kick(void **state)
{
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	assert_int_equal(client_get_base(&c, 0), 1);
	assert_int_equal(client_get_base(&c, 0), 1);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1);
	client_set_number(&c, VHOST_SET_VRING_BASE, 0, 1);
	assert_int_equal(model.starts, 1);
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, -1); /* polled from here on */
	assert_int_equal(model.starts, 2);
	assert_int_equal(model.queue[0].kick, -1);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

static void descriptors_change_while_running(void **state)
{
	int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t n;
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set_fd(&c, VHOST_SET_VRING_CALL, 0, call);
	/* Whatever completed before it came is signalled to it. */
	assert_int_equal(read(call, &n, 8), 8);
	client_offer(&c, 0, 512);
	model_poll(&model);
	assert_int_equal(read(call, &n, 8), 8);
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, call);
	client_set_fd(&c, VHOST_SET_VRING_ERR, 0, call);
	assert_true(model.queue[0].err >= 0 && model.queue[0].kick >= 0);
	client_set_fd(&c, VHOST_SET_VRING_ERR, 0, -1);
	client_set_fd(&c, VHOST_SET_VRING_CALL, 0, -1);
	assert_true(model.queue[0].err == -1 && model.queue[0].call == -1);
	assert_int_equal(model.starts, 1);
	end(&c, "disconnected");
	close(call);
}

static void addresses_change_while_running(void **state)
{
	struct vhost_vring_addresses a = { .index = 0, .desc = GUEST_UVA + RING_AT(3), .avail = GUEST_UVA + RING_AT(3) + RING_AVAIL,
					   .used = GUEST_UVA + RING_AT(3) + RING_USED };
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set_addresses(&c, 0, VHOST_VRING_ADDR_LOG);
	assert_int_equal(model.stops, 0);
	client_set(&c, VHOST_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
	assert_int_equal(model.stops, 1);
	assert_int_equal(model.starts, 2);
	client_offer(&c, 3, 512);
	assert_int_equal(model_poll(&model), 1);
	end(&c, "disconnected");
}

static void queues_of_all_sizes_and_numbers(void **state)
{
	struct vhost_session_status status;
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	for (unsigned i = 0; i < 64; i++)
		client_set_queue(&c, i);
	for (unsigned i = 0; i < 64; i++)
		serves_one_request(&c, i);
	vhost_session_status_get(session, &status);
	assert_int_equal(status.queues_running, 64);
	assert_int_equal(status.memory_regions, 1);
	end(&c, "disconnected");

	for (uint32_t size = 1; size <= 1024; size *= 2) {
		struct vhost_vring_addresses a = { .desc = GUEST_UVA, .avail = GUEST_UVA + 0x8000, .used = GUEST_UVA + 0xa000 };

		begin(&c, 0);
		c.need_reply = true;
		client_set_memory(&c);
		assert_int_equal(client_set_number(&c, VHOST_SET_VRING_NUM, 0, size), 0);
		assert_int_equal(client_set(&c, VHOST_SET_VRING_ADDR, &a, sizeof(a), NULL, 0), 0);
		assert_int_equal(client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1), 0);
		assert_int_equal(client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick), 0);
		assert_int_equal(model.starts, 1);
		end(&c, "disconnected");
	}
}

/* --- queues that cannot be served --- */

static void refused_queue_leaves_the_session(void **state)
{
	struct vhost_vring_addresses a = { .index = 1, .desc = GUEST_UVA - 64, .avail = GUEST_UVA, .used = GUEST_UVA };
	struct client c;

	begin(&c, 0);
	c.need_reply = true;
	client_set_memory(&c);
	client_set_queue(&c, 0);
	client_set_number(&c, VHOST_SET_VRING_NUM, 1, RING_SIZE);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 1, 1);
	assert_int_equal(client_set(&c, VHOST_SET_VRING_ADDR, &a, sizeof(a), NULL, 0), 0);
	assert_int_equal(client_set_fd(&c, VHOST_SET_VRING_KICK, 1, c.kick), 1);
	assert_int_equal(refused_queue, 1);
	assert_int_equal(refused_error, -EFAULT);
	/* Messages about others have nothing to do with it. */
	refused_error = 0;
	assert_int_equal(client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1), 0);
	assert_int_equal(refused_error, 0);
	serves_one_request(&c, 0);
	assert_int_equal(client_set_addresses(&c, 1, 0), 0);
	client_set_fd(&c, VHOST_SET_VRING_CALL, 1, c.call);
	serves_one_request(&c, 1);
	end(&c, "disconnected");
}

/* The image is locked by another process, say: the front-end goes on, and the queue starts when it can. */
static void queues_that_must_wait(void **state)
{
	struct client c;

	begin(&c, 0);
	c.need_reply = true;
	model.start_result = -EAGAIN;
	client_set_memory(&c);
	client_set_queue(&c, 0);
	assert_int_equal(refused_error, -EAGAIN);
	refused_error = 0;
	assert_int_equal(client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick), 0);
	/* While the session waits for something else, too. */
	client_set_queue(&c, 1);
	model.answers = MODEL_LATER;
	model.start_result = 0;
	while (model.starts < 2)
		assert_true(sd_event_run(c.event, UINT64_C(60000000)) > 0);
	loop_settle(c.event);
	serves_one_request(&c, 0);
	/* One that waits can be stopped. */
	model.start_result = -EAGAIN;
	client_set_queue(&c, 2);
	assert_int_equal(client_get_base(&c, 2), 0);
	client_set_queue(&c, 3);
	end(&c, "disconnected");
}

static void refused_queue_without_acknowledgements(void **state)
{
	struct client c;

	begin(&c, 0);
	model.start_result = -EPERM;
	client_set_memory(&c);
	client_set_queue(&c, 0);
	assert_int_equal(refused_error, -EPERM);
	assert_non_null(session);
	model.start_result = 0;
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick);
	serves_one_request(&c, 0);
	end(&c, "disconnected");
}

static void split_sizes_are_powers_of_two(void **state)
{
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_number(&c, VHOST_SET_VRING_NUM, 0, 6);
	client_set_addresses(&c, 0, 0);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1);
	client_set_fd(&c, VHOST_SET_VRING_KICK, 0, c.kick);
	assert_int_equal(refused_error, -EINVAL);
	assert_int_equal(model.starts, 0);
	end(&c, "disconnected");
}

/* --- answers that come late --- */

static void later_messages_wait_for_earlier_ones(void **state)
{
	struct vhost_vring_number number = { .index = 0 }, base;
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	model.answers = MODEL_HELD;
	client_send(&c, VHOST_GET_VRING_BASE, &number, sizeof(number), NULL, 0);
	client_send(&c, VHOST_GET_FEATURES, NULL, 0, NULL, 0);
	loop_settle(c.event);
	assert_int_equal(model.stops, 1);
	assert_false(client_readable(&c));
	model_release(&model);
	assert_int_equal(client_receive(&c, VHOST_GET_VRING_BASE, &base, sizeof(base), NULL), sizeof(base));
	assert_int_equal(base.num, 1);
	assert_true(client_receive_u64(&c, VHOST_GET_FEATURES) != UINT64_MAX);
	end(&c, "disconnected");
}

/* The front-end goes while the device still starts or stops a queue, or goes over to new memory or a new log. */
static void front_end_goes_while_waiting(void **state)
{
	for (unsigned what = 0; what < 6; what++) {
		struct vhost_log_area area = { 0x1000, 0 };
		struct client c;
		int log;

		begin(&c, 0);
		log = client_memory("log", 0x1000);
		client_set_memory(&c);
		client_set_queue(&c, 0);
		client_set_u64(&c, VHOST_SET_FEATURES, CLIENT_FEATURES | 1u << VHOST_F_LOG_ALL_BIT);
		model.answers = MODEL_HELD;
		switch (what) {
		case 0:
			client_set_queue(&c, 1);
			break;
		case 1:
			client_set_number(&c, VHOST_GET_VRING_BASE, 0, 0);
			break;
		case 2:
			client_set_memory(&c);
			break;
		case 3:
			client_set(&c, VHOST_SET_LOG_BASE, &area, sizeof(area), &log, 1);
			break;
		case 4:
			client_set(&c, VHOST_RESET_DEVICE, NULL, 0, NULL, 0);
			break;
		default:
			break;
		}
		close(c.fd);
		c.fd = -1;
		loop_settle(c.event);
		assert_non_null(session);
		vhost_session_end(session, "it was time");
		vhost_session_end(session, "again");
		for (unsigned i = 0; i < 8; i++) {
			model_release(&model);
			loop_settle(c.event);
		}
		close(log);
		end(&c, what == 5 ? "disconnected" : "it was time");
	}
}

/* --- config, status, reset --- */

static int config_get(struct client *c, struct vhost_config *config)
{
	client_send(c, VHOST_GET_CONFIG, config, VHOST_CONFIG_HEAD + config->size, NULL, 0);
	return client_receive(c, VHOST_GET_CONFIG, config, sizeof(*config), NULL);
}

static void config_is_read_and_written(void **state)
{
	struct vhost_config config = { .offset = 0, .size = 256 };
	struct client c;

	begin(&c, 0);
	assert_int_equal(config_get(&c, &config), sizeof(config));
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(config.bytes[i], i < MODEL_CONFIG ? i + 1 : 0);
	config = (struct vhost_config){ .offset = 250, .size = 6 };
	assert_int_equal(config_get(&c, &config), VHOST_CONFIG_HEAD + 6);
	config = (struct vhost_config){ .offset = 250, .size = 7 };
	assert_int_equal(config_get(&c, &config), VHOST_CONFIG_HEAD);
	assert_int_equal(config.size, 0);
	config = (struct vhost_config){ .offset = UINT32_MAX, .size = 1 };
	assert_int_equal(config_get(&c, &config), VHOST_CONFIG_HEAD);
	/* A size that is not the message's. */
	config = (struct vhost_config){ .offset = 0, .size = 200 };
	client_send(&c, VHOST_GET_CONFIG, &config, VHOST_CONFIG_HEAD + 100, NULL, 0);
	assert_int_equal(client_receive(&c, VHOST_GET_CONFIG, &config, sizeof(config), NULL), VHOST_CONFIG_HEAD);

	config = (struct vhost_config){ .offset = 32, .size = 1, .bytes = { 7 } };
	client_set(&c, VHOST_SET_CONFIG, &config, VHOST_CONFIG_HEAD + 1, NULL, 0);
	assert_int_equal(model.config[32], 7);
	/* The guest wrote what is not writable: ignored, or told where one asked. */
	config.offset = 0;
	client_set(&c, VHOST_SET_CONFIG, &config, VHOST_CONFIG_HEAD + 1, NULL, 0);
	c.need_reply = true;
	assert_int_equal(client_set(&c, VHOST_SET_CONFIG, &config, VHOST_CONFIG_HEAD + 1, NULL, 0), 1);
	config.offset = 32;
	assert_int_equal(client_set(&c, VHOST_SET_CONFIG, &config, VHOST_CONFIG_HEAD + 1, NULL, 0), 0);
	assert_int_equal(model.config[0], 1);
	end(&c, "disconnected");
}

static void status_and_reset_stop_all_queues(void **state)
{
	struct client c;

	begin(&c, 0);
	for (unsigned how = 0; how < 3; how++) {
		client_set_memory(&c);
		client_set_queue(&c, 0);
		client_set_queue(&c, 5);
		client_set_u64(&c, VHOST_SET_STATUS, 15);
		assert_int_equal(client_get(&c, VHOST_GET_STATUS), 15);
		assert_int_equal(model.starts, 2 * (how + 1));
		if (how == 0)
			client_set_u64(&c, VHOST_SET_STATUS, 0);
		else
			client_set(&c, how == 1 ? VHOST_RESET_DEVICE : VHOST_RESET_OWNER, NULL, 0, NULL, 0);
		assert_int_equal(client_get(&c, VHOST_GET_STATUS), 0);
		assert_int_equal(model.stops, 2 * (how + 1));
		client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 1);
		assert_int_equal(client_get_base(&c, 0), 0);
		memset(c.memory, 0, GUEST_BYTES);
	}
	end(&c, "disconnected");
}

/* As QEMU 7.2 stops a device; a migration carries the bases. */
static void status_0_keeps_the_base(void **state)
{
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	client_set_queue(&c, 0);
	serves_one_request(&c, 0);
	client_set_u64(&c, VHOST_SET_STATUS, 0);
	assert_int_equal(model.stops, 1);
	client_set_number(&c, VHOST_SET_VRING_ENABLE, 0, 0);
	assert_int_equal(client_get_base(&c, 0), 1);
	assert_int_equal(model.starts, 1);
	end(&c, "disconnected");
}

/* --- messages to the front-end --- */

static unsigned notices_read(int fd)
{
	struct vhost_header h;
	unsigned n = 0;

	while (recv(fd, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h)) {
		assert_int_equal(h.request, VHOST_BACKEND_CONFIG_CHANGED);
		assert_int_equal(h.size, 0);
		n++;
	}
	return n;
}

static void notice_acknowledge(struct client *c, int fd)
{
	struct {
		struct vhost_header h;
		uint32_t value[2];
	} ack = { .h = { VHOST_BACKEND_CONFIG_CHANGED, VHOST_VERSION | VHOST_REPLY, 8 } };

	assert_int_equal(client_send_raw(fd, &ack, sizeof(ack), NULL, 0), 0);
	loop_settle(c->event);
}

static void config_changes_are_told(void **state)
{
	struct client c;
	int pair[2];

	for (unsigned ack = 0; ack < 2; ack++) {
		begin(&c, ack ? 0 : 1u << VHOST_PROTOCOL_REPLY_ACK);
		vhost_session_config_changed(session);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		client_set(&c, VHOST_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
		close(pair[1]);
		assert_int_equal(notices_read(pair[0]), 0);
		for (unsigned i = 0; i < 3; i++)
			vhost_session_config_changed(session);
		/* Unacknowledged ones are not piled up. */
		assert_int_equal(notices_read(pair[0]), ack ? 1 : 3);
		if (ack) {
			notice_acknowledge(&c, pair[0]);
			assert_int_equal(notices_read(pair[0]), 1);
			notice_acknowledge(&c, pair[0]);
			assert_int_equal(notices_read(pair[0]), 0);
			vhost_session_config_changed(session);
			assert_int_equal(notices_read(pair[0]), 1);
		}
		/* Nonsense on this channel costs the channel, not the session. */
		client_send_raw(pair[0], "nonsense", 8, NULL, 0);
		close(pair[0]);
		loop_settle(c.event);
		vhost_session_config_changed(session);
		assert_true(client_get(&c, VHOST_GET_FEATURES) != UINT64_MAX);
		end(&c, "disconnected");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_offered_can_be_chosen),
		cmocka_unit_test(unoffered_features_are_refused),
		cmocka_unit_test(acknowledgements_begin_with_their_feature),
		cmocka_unit_test(set_up_works_in_every_order),
		cmocka_unit_test(without_protocol_features_rings_start_enabled),
		cmocka_unit_test(disabled_rings_wait),
		cmocka_unit_test(stopped_rings_need_a_new_kick),
		cmocka_unit_test(descriptors_change_while_running),
		cmocka_unit_test(addresses_change_while_running),
		cmocka_unit_test(queues_of_all_sizes_and_numbers),
		cmocka_unit_test(refused_queue_leaves_the_session),
		cmocka_unit_test(queues_that_must_wait),
		cmocka_unit_test(refused_queue_without_acknowledgements),
		cmocka_unit_test(split_sizes_are_powers_of_two),
		cmocka_unit_test(later_messages_wait_for_earlier_ones),
		cmocka_unit_test(front_end_goes_while_waiting),
		cmocka_unit_test(config_is_read_and_written),
		cmocka_unit_test(status_0_keeps_the_base),
		cmocka_unit_test(status_and_reset_stop_all_queues),
		cmocka_unit_test(config_changes_are_told),
	};

	warm_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
