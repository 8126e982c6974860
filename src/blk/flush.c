/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which flushes of a queue go to the store: one at a time. On the queue's worker.
 *
 * A flush is not scheduled like other requests, because it carries no thread's priority and covers what all of them wrote; so
 * nothing else would bound how many a guest has at the device. But a flush covers every write completed before it begins. Those that come while
 * one is under way (which may have begun too early for them) wait for its end, and then one is sent that covers them all. So a
 * queue has one flush at the device and as many as it likes waiting for it, a storm costs the device no more than one flush
 * after another, and no flush waits longer than for the one before it.
 *
 * What waits is held by nobody else: a queue that stops takes it back with what the gate held, and when it sends all that on, when
 * nothing is at the device, one flush covers the others.
 */
#include "blk/queue_internal.h"

void blk_flush_init(struct blk_queue *q)
{
	q->flush.running = NULL;
	q->flush.covered = NULL;
	blk_list_init(&q->flush.waiting);
}

bool blk_flush_begin(struct blk_queue *q, struct blk_request *r)
{
	struct blk_list *waiting = &q->flush.waiting;

	/* Nobody goes before those that wait. */
	if (!q->flush.running && !waiting->first) {
		q->flush.running = r;
		return true;
	}
	blk_list_append(waiting, r);
	return false;
}

struct blk_request *blk_flush_end(struct blk_queue *q)
{
	struct blk_request *covered = q->flush.covered;

	q->flush.running = q->flush.covered = NULL;
	return covered;
}

struct blk_request *blk_flush_next(struct blk_queue *q)
{
	struct blk_request *r = q->flush.waiting.first;

	if (q->flush.running || !r)
		return NULL;
	q->flush.running = r;
	q->flush.covered = r->next;
	blk_list_init(&q->flush.waiting);
	return r;
}

bool blk_flush_share(struct blk_queue *q, struct blk_request *r)
{
	if (!q->flush.running) {
		q->flush.running = r;
		return false;
	}
	r->next = q->flush.covered;
	q->flush.covered = r;
	return true;
}

static void take_back(struct blk_queue *q, struct blk_request *r)
{
	for (struct blk_request *next; r; r = next) {
		next = r->next;
		blk_queue_take_back(q, r, 0);
	}
}

void blk_flush_recall(struct blk_queue *q)
{
	struct blk_request *first = q->flush.waiting.first;

	blk_list_init(&q->flush.waiting);
	take_back(q, first);
}

void blk_flush_give_up(struct blk_queue *q)
{
	take_back(q, blk_flush_end(q));
}
