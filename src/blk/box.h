/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notes from worker to worker: an intrusive box with many producers and one consumer, without capacity, so that nothing can
 * be refused. A batch costs the producer one compare-and-swap, and one message when the consumer has not been told yet.
 */
#pragma once

#include "worker/worker.h"

struct blk_note {
	struct blk_note *next;
	uint8_t kind; /* the users' */
};

struct blk_box {
	struct blk_note *head; /* atomic; newest first */
	bool ringing;	       /* atomic: the message is on its way */
	struct worker_msg bell;
	struct worker *worker;
	/* On `worker`; the notes in the order in which they were sent (each producer's, that is). */
	void (*deliver)(struct blk_box *, struct blk_note *first);
} cache_aligned;

void blk_box_init(struct blk_box *b, struct worker *w, void (*deliver)(struct blk_box *, struct blk_note *first));

/* Notes collected by one producer for one box: appended as they come, sent in one go. */
struct blk_outbox {
	struct blk_note *newest, *oldest;
};

static inline void blk_outbox_add(struct blk_outbox *o, struct blk_note *n)
{
	n->next = o->newest;
	o->newest = n;
	if (!o->oldest)
		o->oldest = n;
}

/* Any worker. */
void blk_outbox_send(struct blk_outbox *o, struct blk_box *to);
