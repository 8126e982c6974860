/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The worker's side of one block queue: it polls the ring, parses, dispatches to the store, completes and calls.
 *
 * States (owner: the worker that it is attached to; while detached: the control thread)
 *
 *   DETACHED   no worker touches it; control may start, stop or remap the virtqueue
 *   SERVING    takes and dispatches; every function below the line is legal
 *   QUIESCING  takes nothing new, waits for what the store has; ends in the continuation of blk_queue_quiesce
 *   QUIET      nothing is dispatched; still attached; continue with resume or detach
 */
#pragma once

#include "base/hist.h"
#include "blk/gate.h"
#include "blk/request.h"
#include "virtio/virtqueue_struct.h"
#include "worker/caller.h"

enum blk_queue_state { BLK_QUEUE_DETACHED, BLK_QUEUE_SERVING, BLK_QUEUE_QUIESCING, BLK_QUEUE_QUIET };

/* One writer: the worker. Its own cache lines, so that no two workers write one line for a request. */
struct blk_queue_counters {
	uint64_t ops[BLK_COUNTS], bytes[BLK_COUNTS], errors;
	uint64_t kicks;			 /* eventfd reads that found a kick */
	uint64_t calls_sent;		 /* eventfd writes */
	uint64_t calls_suppressed;	 /* publishes that needed none */
	uint64_t polls, polls_empty;
	uint64_t moves;			 /* times it changed its worker (control thread) */
	uint64_t broken;		 /* times the driver broke it */
	struct hist read_ns, write_ns, flush_ns; /* take to publish */
	struct hist batch;		 /* chains per take that found some */
} cache_aligned;

/* A pool as the block layer sees it: its channel on every worker. */
#define BLK_WORKERS_MAX 256u
struct blk_channel {
	struct store_channel *channel; /* touched by that worker only */
	unsigned users;
	struct store_counters counters; /* over all its channels, one after the other */
} cache_aligned;

struct blk_pool {
	struct store_pool *store;
	struct blk_gate *gate; /* NULL: requests go straight to the store */
	struct blk_channel on[BLK_WORKERS_MAX];
};

/* By their `next`. */
struct blk_list {
	struct blk_request *first, **last;
};

struct blk_port;

struct blk_queue {
	/* Constant while attached. */
	struct blk_pool *pool;
	struct store_disk *store;
	const struct blk_geometry *geometry;
	const bool *write_through; /* atomic: WCE may be toggled while running */
	unsigned index;
	struct blk_request *requests; /* one per chain id */
	struct iovec *iov;	      /* BLK_IOV_MAX per request; touched on use only */
	size_t iov_bytes;
	struct blk_port *port;	      /* its place at the pool's gate; NULL without a gate */
	struct blk_lane lane;	      /* past it, while nobody waits there */

	/* The worker's. */
	enum blk_queue_state state;
	struct worker *worker;
	struct worker_source source;
	struct store_channel *channel;
	struct memmap *map;
	struct virtqueue vq;
	unsigned outstanding; /* taken and not pushed: dispatched or held */
	unsigned dispatched;  /* of these, at the store */
	struct {
		struct blk_request *running, *covered; /* the one that goes, and those that end with it */
		struct blk_list waiting; /* for its end */
	} flush; /* flush.c */
	struct blk_list rest; /* transfers that go on in the next turn; counted as dispatched */
	uint32_t turn_left;   /* bytes that this turn may still move */
	bool unpublished;
	bool told_broken;
	struct blk_request *returned, **returned_tail; /* recalled from the gate, oldest first */
	void (*quiet)(struct blk_queue *, void *arg); /* set once the gate has given back what it held */
	void (*quiet_later)(struct blk_queue *, void *arg);
	void *quiet_arg;
	struct worker_watch kick;
	struct worker_caller caller;
	int err_fd;
	void (*detached)(struct blk_queue *, void *arg);
	void *detached_arg;

	struct blk_queue_counters counters;
};

/* --- control thread, DETACHED --- */

/* Allocates for `size` chains. -ENOMEM. */
int blk_queue_init(struct blk_queue *q, uint16_t size);
void blk_queue_fini(struct blk_queue *q);

/* --- the worker --- */

/*
 * DETACHED -> SERVING. Opens the pool's channel if it is the first user here; -errno when that fails, which it cannot while a
 * reservation holds the channel.
 */
int blk_queue_attach(struct blk_queue *q, struct worker *w);
/* In any state, also on a worker that is not the queue's: opens the pool's channel there and keeps it, until it is released. */
int blk_queue_reserve(const struct blk_queue *q, struct worker *w);
void blk_queue_release(const struct blk_queue *q, struct worker *w);

enum blk_held {
	BLK_HELD_RETURNS, /* comes back to `returned`, undispatched */
	BLK_HELD_GOES,	  /* is dispatched at once and owed by its class; at worst some of it returns */
};

/*
 * SERVING -> QUIESCING -> QUIET. What the gate holds returns or goes, what the store has is waited for. `quiet` is called
 * once, maybe at once.
 */
void blk_queue_quiesce(struct blk_queue *q, enum blk_held held, void (*quiet)(struct blk_queue *, void *arg), void *arg);
/* QUIET -> SERVING: what came back goes its way again, in its old order. */
void blk_queue_resume(struct blk_queue *q);
/*
 * QUIET -> QUIESCING -> QUIET: what came back is dispatched past the gate and waited for, so that the ring ends with
 * nothing outstanding.
 */
void blk_queue_flush_returned(struct blk_queue *q, void (*quiet)(struct blk_queue *, void *arg), void *arg);
/* QUIET -> DETACHED; requests that came back stay in `returned` (a move) or in the inflight region (a stop). */
void blk_queue_detach(struct blk_queue *q, void (*detached)(struct blk_queue *, void *arg), void *arg);

/* A new call eventfd (-1: none), taken over; the old one is closed. */
void blk_queue_set_call(struct blk_queue *q, int fd);
void blk_queue_set_err(struct blk_queue *q, int fd);

/*
 * For the gate (gate.h), which keeps `part` for each and hears of its end by blk_port_part_done. NULL: past the gate.
 * Translates and hands to the store; store_flush_batch is the caller's.
 */
void blk_queue_dispatch(struct blk_queue *q, struct blk_request *r, struct blk_part *part);
/* The bytes [start, start+bytes) of what is left of it. Slices of a request come in order and without gaps. */
void blk_queue_dispatch_slice(struct blk_queue *q, struct blk_request *r, struct blk_slice *s, uint32_t start, uint32_t bytes);
/* A held request comes back undispatched; `given_bytes` of what was left of it have been dispatched in parts. */
void blk_queue_take_back(struct blk_queue *q, struct blk_request *r, uint32_t given_bytes);
/* Nothing of this queue is held any more (after blk_port_recall). */
void blk_queue_recalled(struct blk_queue *q);
/* The gate has forgotten this queue (after blk_port_leave). */
void blk_queue_left(struct blk_queue *q);
