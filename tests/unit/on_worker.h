/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests on real workers: runs a function on one and waits, with a limit that only a hang reaches.
 */
#pragma once

#include "base/clock.h"
#include "worker/worker.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define HANG_NS (120 * NSEC_PER_SEC)

/* Handles replies until `*flag`, which is set by a message's `done` (same thread) or atomically by another thread. */
static inline void wait_until(const bool *flag)
{
	uint64_t limit = clock_now_ns() + HANG_NS;

	while (!__atomic_load_n(flag, __ATOMIC_ACQUIRE)) {
		struct pollfd p = { .fd = worker_replies_fd(), .events = POLLIN };

		assert_true(clock_now_ns() < limit);
		poll(&p, 1, 1);
		worker_replies_run();
	}
}

struct on_worker {
	struct worker_msg msg;
	void (*fn)(struct worker *w, void *arg);
	void *arg;
	bool done;
};

static inline void on_worker_run(struct worker_msg *m, struct worker *w)
{
	struct on_worker *o = container_of(m, struct on_worker, msg);

	o->fn(w, o->arg);
}

static inline void on_worker_done(struct worker_msg *m)
{
	container_of(m, struct on_worker, msg)->done = true;
}

static inline void on_worker(struct worker *w, void (*fn)(struct worker *w, void *arg), void *arg)
{
	struct on_worker o = { .msg = { .run = on_worker_run, .done = on_worker_done }, .fn = fn, .arg = arg };

	worker_post(w, &o.msg);
	wait_until(&o.done);
}

static inline struct worker *new_worker(unsigned index, enum worker_poll poll_mode)
{
	struct worker_config config = { .index = index, .cpu = -1, .poll = poll_mode,
					 .poll_idle_ns = 50 * NSEC_PER_USEC };
	struct worker *w = NULL;

	assert_int_equal(worker_create(&config, &w), 0);
	return w;
}
