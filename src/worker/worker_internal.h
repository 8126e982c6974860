/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of this folder share: the worker itself.
 */
#pragma once

#include "worker/worker.h"

#include <pthread.h>
#include <semaphore.h>

#define WORKER_FILES 1024u

/*
 * What another thread has to do after giving this worker something. Written by the worker; a waker moves SLEEPS to
 * ASKS, so that only one of many writes the eventfd.
 */
enum worker_attention {
	WORKER_LOOKS,  /* all that others may fill is looked at every turn: nothing to do */
	WORKER_ASKS,   /* a source fed by threads is armed: set `nudged` */
	WORKER_SLEEPS, /* in io_uring_enter: write the eventfd too */
};

struct worker {
	/* Written by the worker, read by wakers. */
	struct {
		uint32_t attention;
	} cache_aligned state;

	/* Written by other threads. Multiple producers, the worker is the one consumer. */
	struct {
		struct worker_msg *mail; /* last in, first linked */
		uint32_t nudged;
	} cache_aligned inbox;

	/* From here on the worker's own, besides what is constant after its start. */
	struct worker_counters counters;

	struct worker_config config;
	pthread_t thread;
	sem_t started;
	int start_result;
	int tid;
	int wake_fd;
	int probe_fd; /* an epoll that never waits; see watch.c */
	bool stop;

	uint64_t now_ns;
	unsigned fed_armed;	       /* sources fed by threads among the armed */
	struct list hot, armed;	       /* polled; woken by their own means */
	struct list attended;	       /* armed, and with a deadline or fed by threads: few */
	struct worker_source *polling, *poll_next; /* now and after; what is removed meanwhile is taken out of both */
	uint64_t deadline_ns;	       /* not later than the first of the armed sources' deadlines */
	uint64_t turn_ns;	       /* length of the turn before this one */
	unsigned turn_found, last_turn_found; /* by sources, in this turn and in the one before */

	struct worker_msg *running; /* being run; NULL once it was handed on */

	struct io_uring ring;
	bool ring_open;
	unsigned in_flight;	      /* entries without their last completion, watches not counted */
	uint64_t last_submit_ns;
	struct worker_watch wake_watch;
	uint64_t file_used[WORKER_FILES / 64];
};

/* ring.c */
int ring_open(struct worker *w);
void ring_close(struct worker *w);
/* Runs the completions that are there (bounded); returns how many. */
unsigned ring_reap(struct worker *w);
void ring_submit(struct worker *w);
/* Submits, and waits for a completion or until `deadline_ns` (UINT64_MAX: no limit). */
void ring_wait(struct worker *w, uint64_t deadline_ns);

/* mailbox.c */
unsigned mailbox_run(struct worker *w);
static inline bool mailbox_empty(const struct worker *w)
{
	return load_acquire(&w->inbox.mail) == NULL;
}
/* Worker that runs on this thread, or NULL. */
extern __thread struct worker *worker_self;

#define assert_on_worker(w) assert(worker_self == (w))
