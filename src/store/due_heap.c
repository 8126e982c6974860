/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scratch[0] is the due time, [1] the number of the push, [2] the first child; `next` is the next sibling. push is
 * O(1), pop O(log n) amortised; both are loops, since a recursion's depth would be the guest's to choose.
 */
#include "store/due_heap.h"

static struct store_io *child(const struct store_io *io)
{
	return (struct store_io *)(uintptr_t)io->scratch[2];
}

static void set_child(struct store_io *io, struct store_io *c)
{
	io->scratch[2] = (uintptr_t)c;
}

static bool before(const struct store_io *a, const struct store_io *b)
{
	return a->scratch[0] != b->scratch[0] ? a->scratch[0] < b->scratch[0] : a->scratch[1] < b->scratch[1];
}

/* Neither has siblings, nor has the result. */
static struct store_io *meld(struct store_io *a, struct store_io *b)
{
	if (!a || !b)
		return a ? a : b;
	if (before(b, a)) {
		struct store_io *t = a;

		a = b;
		b = t;
	}
	b->next = child(a);
	set_child(a, b);
	return a;
}

/* Takes the first of a list of siblings. */
static struct store_io *shift(struct store_io **list)
{
	struct store_io *io = *list;

	if (io) {
		*list = io->next;
		io->next = NULL;
	}
	return io;
}

void due_heap_push(struct due_heap *h, struct store_io *io, uint64_t due_ns)
{
	io->scratch[0] = due_ns;
	io->scratch[1] = h->pushes++;
	set_child(io, NULL);
	io->next = NULL;
	h->first = meld(h->first, io);
}

struct store_io *due_heap_pop(struct due_heap *h)
{
	struct store_io *top = h->first, *list = child(top), *pairs = NULL, *a;

	while ((a = shift(&list))) {
		a = meld(a, shift(&list));
		a->next = pairs;
		pairs = a;
	}
	h->first = NULL;
	while ((a = shift(&pairs)))
		h->first = meld(h->first, a);
	return top;
}
