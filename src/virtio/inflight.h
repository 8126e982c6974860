/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhost-user inflight record of one queue (specification: "Inflight I/O tracking"): what a successor needs after we
 * die at any instruction. The parts that every request passes are inline; recovery is in inflight.c.
 *
 * The region is shared with the front-end, which must not write to it but could: every index from it is checked.
 */
#pragma once

#include "virtio/virtqueue_internal.h"

/*
 * Finishes or rolls back what the predecessor was doing, and sets the queue's positions and `resubmit`. -EPROTO:
 * nonsense.
 */
int inflight_recover(struct virtqueue *q);
/* Like take, for what the predecessor left. */
unsigned inflight_resubmit(struct virtqueue *q, struct virtq_chain *chain[], unsigned max);

/* --- split: a flag and a number per head --- */

static inline void inflight_split_take(struct virtqueue *q, uint16_t head)
{
	struct virtq_inflight_split *r = q->inflight;

	inflight_store(&r->desc[head].counter, q->inflight_counter++);
	inflight_store(&r->desc[head].inflight, 1);
}

/* Before used idx moves: the list of what will be in this batch. */
static inline void inflight_split_batch(struct virtqueue *q)
{
	struct virtq_inflight_split *r = q->inflight;
	const struct virtq_done *d = q->done, *end = d + q->n_done;
	uint16_t before = load_relaxed(&r->last_batch_head);

	for (; d < end; d++) {
		uint16_t head = d->id;

		inflight_store(&r->desc[head].next, before);
		before = head;
	}
	/* Once for all: nobody follows the list before used idx says how far. */
	inflight_store(&r->last_batch_head, before);
}

/* After it: used_idx catches up last, so that a successor which finds it behind does this again. */
static inline void inflight_split_published(struct virtqueue *q)
{
	struct virtq_inflight_split *r = q->inflight;

	for (const struct virtq_done *d = q->done, *end = d + q->n_done; d < end; d++)
		inflight_store(&r->desc[d->id].inflight, 0);
	inflight_store(&r->used_idx, q->used_idx);
}

/* --- packed: a copy of every descriptor, since used elements overwrite them in the ring --- */

/* A chain being recorded. It takes effect when old_free_head moves past it; until then nothing has happened. */
struct inflight_chain {
	uint16_t first, last, next, num;
};

static inline void inflight_packed_begin(const struct virtqueue *q, struct inflight_chain *c)
{
	const struct virtq_inflight_packed *r = q->inflight;

	*c = (struct inflight_chain){ .first = load_relaxed(&r->free_head) };
	c->next = c->first;
}

static inline bool inflight_packed_add(struct virtqueue *q, struct inflight_chain *c, const struct desc_copy *d)
{
	struct virtq_inflight_packed *r = q->inflight;
	struct virtq_inflight_packed_desc *e;

	if (unlikely(c->next >= q->size))
		return false;
	e = &r->desc[c->next];
	inflight_store(&e->addr, d->addr);
	inflight_store(&e->len, d->len);
	inflight_store(&e->flags, d->flags);
	inflight_store(&e->id, d->id);
	c->last = c->next;
	c->next = load_relaxed(&e->next);
	c->num++;
	return true;
}

static inline void inflight_packed_commit(struct virtqueue *q, const struct inflight_chain *c, uint16_t id)
{
	struct virtq_inflight_packed *r = q->inflight;
	struct virtq_inflight_packed_desc *e = &r->desc[c->first];

	q->inflight_entry[id] = c->first;
	inflight_store(&e->num, c->num);
	inflight_store(&e->last, c->last);
	inflight_store(&e->counter, q->inflight_counter++);
	inflight_store(&e->inflight, 1);
	inflight_store(&r->free_head, c->next);
	inflight_store(&r->old_free_head, c->next);
}

/* Before the first used flag is set. The new position is one store: half of it would be a third position. */
static inline void inflight_packed_batch(struct virtqueue *q, uint16_t used_idx, bool used_wrap)
{
	struct virtq_inflight_packed *r = q->inflight;
	union virtq_inflight_used u = { .word = load_relaxed(&r->used.word) };

	for (unsigned i = 0; i < q->n_done; i++) {
		uint16_t first = q->inflight_entry[q->done[i].id];
		uint16_t last = load_relaxed(&r->desc[first].last);

		if (unlikely(last >= q->size)) {
			virtqueue_break(q, VIRTQUEUE_INFLIGHT);
			continue;
		}
		inflight_store(&r->desc[last].next, load_relaxed(&r->free_head));
		inflight_store(&r->free_head, first);
	}
	u.used_idx = used_idx;
	u.used_wrap = used_wrap;
	inflight_store(&r->used.word, u.word);
}

/* After it. old_used_* catch up last. */
static inline void inflight_packed_published(struct virtqueue *q)
{
	struct virtq_inflight_packed *r = q->inflight;
	union virtq_inflight_used u = { .word = load_relaxed(&r->used.word) };

	for (unsigned i = 0; i < q->n_done; i++)
		inflight_store(&r->desc[q->inflight_entry[q->done[i].id]].inflight, 0);
	inflight_store(&r->old_free_head, load_relaxed(&r->free_head));
	u.old_used_idx = u.used_idx;
	u.old_used_wrap = u.used_wrap;
	inflight_store(&r->used.word, u.word);
}
