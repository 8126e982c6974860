/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The heap's sifting; called by the scheduler on its owner's thread.
 */
#include "slo/heap.h"

#include <errno.h>

int slo_heap_reserve(struct slo_heap *h, unsigned n)
{
	unsigned room = h->room ? h->room : 4;
	struct slo_heap_entry *e;

	if (n <= h->room)
		return 0;
	while (room < n)
		room *= 2;
	e = realloc(h->entry, (room + 1) * sizeof(*e));
	if (!e)
		return -ENOMEM;
	h->entry = e;
	h->room = room;
	return 0;
}

void slo_heap_fini(struct slo_heap *h)
{
	free(h->entry);
	h->entry = NULL;
	h->n = h->room = 0;
}

static void place(struct slo_heap *h, unsigned pos, struct slo_heap_entry e)
{
	h->entry[pos] = e;
	e.link->pos = pos;
	(*h->steps)++;
}

static void sift_up(struct slo_heap *h, unsigned pos, struct slo_heap_entry e)
{
	while (pos > 1 && h->entry[pos / 2].key > e.key) {
		place(h, pos, h->entry[pos / 2]);
		pos /= 2;
	}
	place(h, pos, e);
}

static void sift_down(struct slo_heap *h, unsigned pos, struct slo_heap_entry e)
{
	unsigned child;

	while ((child = pos * 2) <= h->n) {
		if (child < h->n && h->entry[child + 1].key < h->entry[child].key)
			child++;
		if (h->entry[child].key >= e.key)
			break;
		place(h, pos, h->entry[child]);
		pos = child;
	}
	place(h, pos, e);
}

static void sift(struct slo_heap *h, unsigned pos, struct slo_heap_entry e)
{
	if (pos > 1 && h->entry[pos / 2].key > e.key)
		sift_up(h, pos, e);
	else
		sift_down(h, pos, e);
}

void slo_heap_set(struct slo_heap *h, struct slo_heap_link *l, uint64_t key)
{
	struct slo_heap_entry e = { .key = key, .link = l };

	if (l->pos) {
		if (h->entry[l->pos].key != key)
			sift(h, l->pos, e);
		return;
	}
	assert(h->n < h->room);
	sift_up(h, ++h->n, e);
}

void slo_heap_remove(struct slo_heap *h, struct slo_heap_link *l)
{
	unsigned pos = l->pos;
	struct slo_heap_entry last;

	if (!pos)
		return;
	assert(pos <= h->n && h->entry[pos].link == l);
	l->pos = 0;
	last = h->entry[h->n--];
	if (pos <= h->n)
		sift(h, pos, last);
}
