/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of one session over a socket pair: a device model on one side, a raw front-end on the other, and the
 * checks that every session's end must stand.
 */
#pragma once

#include "tests/unit/vhost_harness.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

static struct model model;
static struct vhost_session *session;
static char ended[200];
static unsigned refused_queue;
static int refused_error;
static unsigned fds_before;
static struct sigaction sigbus_action;

static void on_ended(void *arg, const char *reason)
{
	snprintf(ended, sizeof(ended), "%s", reason);
	session = NULL;
}

static void on_queue_refused(void *arg, unsigned queue, int error)
{
	refused_queue = queue;
	refused_error = error;
}

static const struct vhost_session_events events = { on_ended, on_queue_refused };

/* A session with a front-end that has negotiated everything but `without`. */
static inline void begin(struct client *c, uint64_t without)
{
	static sd_event *event;
	int pair[2];

	if (!event)
		assert_int_equal(sd_event_new(&event), 0);
	fds_before = fds_open();
	model_init(&model, event, 64);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	client_init(c, event, pair[0]);
	ended[0] = '\0';
	refused_error = 0;
	assert_int_equal(vhost_session_create(event, &model.device, pair[1], &events, NULL, &session), 0);
	if (without != UINT64_MAX)
		client_negotiate(c, without);
}

/* The session is over, or ends now; nothing of it is left. */
static inline void end(struct client *c, const char *reason)
{
	cleanup_close_fd(&c->fd);
	c->fd = -1;
	loop_settle(c->event);
	assert_null(session);
	if (!strstr(ended, reason))
		fail_msg("ended with \"%s\" instead of \"%s\"", ended, reason);
	assert_int_equal(model.began, 1);
	assert_int_equal(model.ended, 1);
	assert_int_equal(model.starts, model.stops);
	for (unsigned i = 0; i < MODEL_QUEUES; i++)
		assert_false(model.queue[i].running);
	client_fini(c);
	model_fini(&model);
	assert_int_equal(fds_open(), fds_before);
}

static inline void serves_one_request(struct client *c, unsigned i)
{
	uint16_t used = client_used(c, i);
	uint64_t calls = 0;

	assert_true(read(c->call, &calls, 8) == 8 || errno == EAGAIN);
	memset(c->memory + DATA_AT(i), 0, 512);
	client_offer(c, i, 512);
	assert_int_equal(model_poll(&model), 1);
	assert_int_equal(client_used(c, i), (uint16_t)(used + 1));
	assert_int_equal(c->memory[DATA_AT(i) + 511], MODEL_FILL);
	assert_int_equal(read(c->call, &calls, 8), 8);
}

/*
 * What is opened once (the event loop's timer) would look like a leak in the first test; and cmocka puts its own SIGBUS
 * handler over that which guards mapped files.
 */
static inline void warm_up(void)
{
	struct client c;

	begin(&c, 0);
	client_set_memory(&c);
	close(c.fd);
	c.fd = -1;
	loop_settle(c.event);
	client_fini(&c);
	model_fini(&model);
	sigaction(SIGBUS, NULL, &sigbus_action);
}
