/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker is a dedicated I/O thread: one CPU, one io_uring, one loop, nothing shared with other workers.
 *
 * It polls its *sources* (virtqueues, device models, schedulers). A source that finds nothing for `poll_idle` is armed:
 * it is asked to have the worker woken when work comes, and leaves the set that is polled, so that 255 idle disks cost
 * a busy one nothing. When no source is polled any more, the worker sleeps in io_uring_enter until a file descriptor it
 * watches, a completion, a timer or another thread wakes it.
 *
 * Everything here is called on the worker's own thread unless it says otherwise (asserted in debug builds).
 */
#pragma once

#include "base/list.h"
#include "base/util.h"

#include <liburing.h>

enum worker_poll {
	WORKER_POLL_ADAPTIVE, /* poll while there is work and for poll_idle after it, then sleep */
	WORKER_POLL_ALWAYS,   /* never sleep: lowest latency, one whole CPU */
	WORKER_POLL_NEVER,    /* sleep as soon as there is nothing to do: fewest cycles */
};

struct worker_config {
	unsigned index; /* its number in the daemon; names the thread "fairlead/INDEX" */
	int cpu;	/* -1: not pinned */
	enum worker_poll poll;
	uint64_t poll_idle_ns;
};

/* One writer (the worker); anybody may read. */
struct worker_counters {
	uint64_t loops, loops_empty; /* turns of the loop, and those that found nothing */
	uint64_t sleeps, wakes_sent; /* times slept; times woken by another thread's eventfd */
	uint64_t busy_ns;	     /* time in turns that found work */
	uint64_t enters;	     /* io_uring_enter calls */
	uint64_t messages;
} cache_aligned;

struct worker;
struct worker_source;

struct worker_source_ops {
	/* Does a bounded batch of work; returns how much it found (0: none). */
	unsigned (*poll)(struct worker_source *, uint64_t now_ns);
	/* Turns notifications on. True: there is work already, keep polling (notifications are then off again). */
	bool (*arm)(struct worker_source *);
	/* Turns notifications off again; called when the source is polled again. Optional. */
	void (*disarm)(struct worker_source *);
	/* One look, without side effects: would poll() find work? Looked at between turns that found none. Optional. */
	bool (*pending)(const struct worker_source *);
	/* When it next wants poll() although nothing wakes it; UINT64_MAX: never. Asked of armed sources. Optional. */
	uint64_t (*deadline_ns)(const struct worker_source *);
};

struct worker_source {
	const struct worker_source_ops *ops;
	struct worker *worker;	/* NULL while in none */
	struct list node;	/* in the worker's hot or armed list */
	bool armed;
	/*
	 * Set by the owner before adding: other threads give it work (a ring between workers) and call worker_wake()
	 * after. While armed it is polled again whenever that happens.
	 */
	bool fed_by_threads;
	unsigned in_flight;	/* requests whose completions it waits for; see worker_source_dispatched() */
	unsigned turn_found;	/* internal: found in this turn, not yet in busy_ns */
	uint64_t last_work_ns;
	uint64_t busy_ns;	/* its share of the time of turns in which it found work; one writer */
	uint64_t found;		/* sum of what poll() returned; one writer */
};

/* Creating and ending: control thread. */
int worker_create(const struct worker_config *config, struct worker **ret);
/* Ends and joins the thread. Its sources, watches and requests must be gone (asserted). NULL is allowed. */
void worker_destroy(struct worker *w);

unsigned worker_index(const struct worker *w);
int worker_cpu(const struct worker *w);
const struct worker_counters *worker_counters(const struct worker *w);
/* True on the worker's own thread. */
bool worker_is_current(const struct worker *w);
/* The thread's id (gettid), for placement and accounting. */
int worker_tid(const struct worker *w);

/* Sources. A new source is hot (polled). Removing one that is in none is harmless. */
void worker_source_add(struct worker *w, struct worker_source *s);
void worker_source_remove(struct worker_source *s);
/* Makes an armed source hot again: work has come, or its deadline moved forward. */
void worker_source_wake_armed(struct worker_source *s);
static inline void worker_source_wake(struct worker_source *s)
{
	if (unlikely(s->armed))
		worker_source_wake_armed(s);
}

/* Time as of the current turn of the loop (ns, CLOCK_MONOTONIC). */
uint64_t worker_now_ns(const struct worker *w);

/*
 * A source that has requests in flight is not armed for a while although it finds nothing (bounded), and the last
 * completion counts as work: otherwise a driver with one request at a time would kick for each. Optional: a source that
 * does not tell is armed after poll_idle.
 */
static inline void worker_source_dispatched(struct worker_source *s)
{
	s->in_flight++;
}

static inline void worker_source_completed(struct worker_source *s)
{
	s->in_flight--;
	if (s->worker)
		s->last_work_ns = worker_now_ns(s->worker);
}

/* --- io_uring --- */

/* What user_data points to. `complete` may free it. */
struct worker_cqe {
	void (*complete)(struct worker_cqe *, int result, uint32_t flags);
};

/*
 * A submission entry, never NULL (submits what is there when the queue is full). The caller fills it, before it asks
 * for another one, and sets its user_data with io_uring_sqe_set_data(sqe, cqe); NULL: nobody wants the result. Entries
 * go to the kernel at the end of the turn, or in portions when many are queued. Only the opcodes in ring.c's table are
 * let through by the kernel: a user of a new one adds it there. The worker counts entries and completions; with some in
 * flight it does not sleep for a while (bounded), as QD1 would otherwise sleep at every request.
 */
struct io_uring_sqe *worker_sqe(struct worker *w);
struct io_uring *worker_ring(struct worker *w);

/*
 * Puts an open file into the ring's table of fixed files: its number there, or -ENFILE, -errno. The ring holds the
 * file.
 */
int worker_file_register(struct worker *w, int fd);
void worker_file_unregister(struct worker *w, int slot);

/* --- file descriptors (kicks) --- */

struct worker_watch {
	struct worker_cqe cqe; /* internal */
	int fd;
	/*
	 * The fd became readable (or was when added). Read it: otherwise it may be called again, or only at the next
	 * event.
	 */
	void (*ready)(struct worker_watch *);
	void (*gone)(struct worker_watch *); /* internal */
	struct worker *worker;
	bool active; /* the kernel polls it */
};

/* An fd that cannot be polled, or that hung up, is never ready; the watch is removed as any other. */
void worker_watch_add(struct worker *w, struct worker_watch *watch);
/* `gone` is called, at once or in a later turn, when the kernel holds no reference to the watch any more. */
void worker_watch_remove(struct worker_watch *watch, void (*gone)(struct worker_watch *));

/* --- mailbox --- */

/*
 * The only way from other threads into a worker. `run` is called on the worker; then, if `done` is set, `done` is
 * called on the control thread by worker_replies_run(). `run` may keep the message and answer later with worker_reply()
 * on the same worker, or post it on to another worker. Messages of one thread arrive in order. Owned by the caller,
 * untouched by others from post to done (or to run, without done).
 */
struct worker_msg {
	void (*run)(struct worker_msg *, struct worker *);
	void (*done)(struct worker_msg *);
	bool keep; /* set by run: not answered when run returns, worker_reply() comes later */
	struct worker *worker;
	struct worker_msg *next;
};

/* Any thread. */
void worker_post(struct worker *w, struct worker_msg *m);
/* On the worker that has it: hands the message back to the control thread. */
void worker_reply(struct worker_msg *m);

/* Control thread: eventfd, shared by all workers of the process, readable while replies wait. */
int worker_replies_fd(void);
void worker_replies_run(void);

/*
 * Any thread, after giving work to a source that is `fed_by_threads`: makes sure that the source is polled soon. Cheap
 * while the worker polls it anyway (a fence and a load).
 */
void worker_wake(struct worker *w);
