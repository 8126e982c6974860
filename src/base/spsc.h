/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bounded ring of pointers with one producer and one consumer thread.
 *
 * `tail` is written by the producer only, `head` by the consumer only, each on its own cache line with a private copy of
 * the other side's index, so that the lines move between CPUs once per batch and not once per entry.
 */
#pragma once

#include "base/util.h"

struct spsc {
	void **slot;
	uint32_t mask;
	struct {
		uint32_t tail;
		uint32_t seen_head;
	} cache_aligned producer;
	struct {
		uint32_t head;
		uint32_t seen_tail;
	} cache_aligned consumer;
};

/* capacity: a power of two. Returns -ENOMEM or -EINVAL. */
int spsc_init(struct spsc *r, uint32_t capacity);
void spsc_fini(struct spsc *r);

/* Producer. False when full. */
static inline bool spsc_push(struct spsc *r, void *p)
{
	uint32_t tail = r->producer.tail;

	if (tail - r->producer.seen_head > r->mask) {
		/* Pairs with the release in spsc_pop: the slot is ours only after its reader has left it. */
		r->producer.seen_head = load_acquire(&r->consumer.head);
		if (tail - r->producer.seen_head > r->mask)
			return false;
	}
	r->slot[tail & r->mask] = p;
	/* Pairs with the acquire in spsc_pop: the entry is written before it can be seen. */
	store_release(&r->producer.tail, tail + 1);
	return true;
}

/* Consumer. NULL when empty. */
static inline void *spsc_pop(struct spsc *r)
{
	uint32_t head = r->consumer.head;
	void *p;

	if (head == r->consumer.seen_tail) {
		r->consumer.seen_tail = load_acquire(&r->producer.tail);
		if (head == r->consumer.seen_tail)
			return NULL;
	}
	p = r->slot[head & r->mask];
	store_release(&r->consumer.head, head + 1);
	return p;
}

/* Consumer. */
static inline bool spsc_empty(const struct spsc *r)
{
	return r->consumer.head == load_acquire(&r->producer.tail);
}
