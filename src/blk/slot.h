/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control thread's side of one queue: operations on it, one at a time, in order. Each is a message to the queue's
 * worker that ends in a continuation; the control thread never waits.
 */
#pragma once

#include "blk/queue.h"
#include "vhost/device.h"

struct blk_slot {
	struct blk_queue queue;
	const char *vm; /* whose account its requests are booked to */
	bool ioprio_ignore;
	uint64_t seen_busy_ns; /* of the queue, at the last look at the balance */
	bool placed;	     /* counted on its worker and in the disk's running queues (disk.c) */
	bool running;	     /* as of the last finished operation */
	bool fault_seen;     /* blk_slot_fault() has told of it */
	struct worker *worker; /* that serves it, or that will */
	struct list ops;     /* waiting; the first one is under way */
	struct blk_op *stop; /* made with the start, because a stop may not fail; NULL: stopping or stopped */
};

enum blk_op_kind { BLK_OP_START, BLK_OP_STOP, BLK_OP_REMAP, BLK_OP_LOG, BLK_OP_MOVE, BLK_OP_DRAIN, BLK_OP_KICK, BLK_OP_CALL, BLK_OP_ERR };

struct blk_op {
	struct worker_msg msg;
	struct list node;
	struct blk_slot *slot;
	enum blk_op_kind kind;
	int result;
	uint32_t value; /* STOP: the ring's base */
	/* Parameters by kind. */
	struct virtqueue_setup setup;	   /* START */
	struct memmap *map;		   /* START, REMAP; referenced by whoever asked until done */
	int kick_fd, call_fd, err_fd;	   /* START, KICK, CALL, ERR: taken over */
	bool keep_inflight;		   /* STOP */
	struct dirty_log *log;		   /* LOG */
	struct worker *to;		   /* MOVE */
	uint64_t drain_ns;		   /* DRAIN: for how long */
	struct vhost_done done;		   /* result, value */
};

void blk_slot_init(struct blk_slot *s, struct blk_pool *pool, struct store_disk *store, const struct blk_geometry *geometry,
		   const bool *write_through, unsigned index);

/* A zeroed operation with its fds at -1, or NULL. */
struct blk_op *blk_op_new(enum blk_op_kind kind, struct vhost_done done);

/* Queues it; frees it after `done`. On a queue that does not run, all but START succeed at once. */
void blk_slot_do(struct blk_slot *s, struct blk_op *op);
/* Why the driver's queue is broken: once for each time that it was, otherwise NULL. */
const char *blk_slot_fault(struct blk_slot *s);
/* No operation is under way or waits. */
bool blk_slot_calm(const struct blk_slot *s);
