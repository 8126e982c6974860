/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What path.c and queue.c share. All on the queue's worker.
 */
#pragma once

#include "blk/queue.h"

static inline void blk_list_init(struct blk_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static inline void blk_list_append(struct blk_list *l, struct blk_request *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

/* path.c */
extern const struct worker_source_ops blk_queue_source;
/* To the gate or to the store; end_batch follows. */
void blk_queue_send_on(struct blk_queue *q, struct blk_request *r);
void blk_queue_end_batch(struct blk_queue *q);
/* What waits for the next turn comes back by blk_queue_take_back(), if the gate does not know it as dispatched. */
void blk_queue_recall_rest(struct blk_queue *q);
/* Shows the driver what is pushed, and calls it if it wants that. */
void blk_queue_publish(struct blk_queue *q);
/* The front-end's error eventfd, once; the control thread sees the virtqueue's `broken` and says it to people. */
void blk_queue_tell_broken(struct blk_queue *q);
void blk_queue_store_done(struct store_io *io, int result);

/* flush.c */
void blk_flush_init(struct blk_queue *q);
/* A flush comes. False: it waits. */
bool blk_flush_begin(struct blk_queue *q, struct blk_request *r);
/* The one under way is done. Returns those that end with it, by their `next`. */
struct blk_request *blk_flush_end(struct blk_queue *q);
/* The first of those that wait, to be sent for all of them; NULL: none, or one is under way. */
struct blk_request *blk_flush_next(struct blk_queue *q);
/*
 * For flushes that all were there before the first of them is sent, and nothing else was at the store. True: it ends with one that
 * is under way. False: it is to be sent.
 */
bool blk_flush_share(struct blk_queue *q, struct blk_request *r);
/* What waits comes back by blk_queue_take_back(). */
void blk_flush_recall(struct blk_queue *q);
/* The one under way did not get to the store: those that were to end with it come back, too. */
void blk_flush_give_up(struct blk_queue *q);

/* queue.c: QUIESCING -> QUIET if nothing is dispatched or held any more. */
void blk_queue_check_quiet(struct blk_queue *q);
