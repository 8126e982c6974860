/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests ordered by when they are due, those due at the same time in the order in which they came: a pairing heap
 * that links the requests themselves (scratch and next), so it never allocates. One thread.
 */
#pragma once

#include "store/store.h"

struct due_heap {
	struct store_io *first;
	uint64_t pushes;
};

void due_heap_push(struct due_heap *h, struct store_io *io, uint64_t due_ns);
/* The heap must not be empty. */
struct store_io *due_heap_pop(struct due_heap *h);

/* Valid from push on, also after pop. */
static inline uint64_t due_heap_due_ns(const struct store_io *io)
{
	return io->scratch[0];
}

/* UINT64_MAX: empty. */
static inline uint64_t due_heap_first_ns(const struct due_heap *h)
{
	return h->first ? due_heap_due_ns(h->first) : UINT64_MAX;
}
