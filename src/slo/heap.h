/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Indexed binary min-heap: entries know their position, so that any of them can be moved or removed in O(log n). The key
 * lies beside the pointer, so that sifting touches the entries that move and no others. Room is made when objects are
 * added, never while scheduling. `steps` counts levels walked: the cost of all decisions.
 */
#pragma once

#include "base/util.h"

#include <assert.h>

struct slo_heap_link {
	unsigned pos; /* 1-based; 0: in no heap */
};

struct slo_heap_entry {
	uint64_t key;
	struct slo_heap_link *link;
};

struct slo_heap {
	struct slo_heap_entry *entry; /* [1..n] */
	unsigned n, room;
	uint64_t *steps;
};

static inline bool slo_heap_has(const struct slo_heap_link *l)
{
	return l->pos != 0;
}

/* The smallest key; UINT64_MAX when empty. */
static inline uint64_t slo_heap_key(const struct slo_heap *h)
{
	return h->n ? h->entry[1].key : UINT64_MAX;
}

#define slo_heap_top(h, type, member) container_of((h)->entry[1].link, type, member)

/* Makes room for n entries. 0 or -ENOMEM. */
int slo_heap_reserve(struct slo_heap *h, unsigned n);
void slo_heap_fini(struct slo_heap *h);
/* Inserts, or moves to its new key. */
void slo_heap_set(struct slo_heap *h, struct slo_heap_link *l, uint64_t key);
/* Harmless when it is in no heap. */
void slo_heap_remove(struct slo_heap *h, struct slo_heap_link *l);
