/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The events to come: a binary heap by time, then by order; nothing depends on when they were added.
 */
#include "sim/machine.h"

#include <errno.h>

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->time_ns < b->time_ns || (a->time_ns == b->time_ns && a->order < b->order);
}

int heap_add(struct sim_heap *h, struct sim_event e)
{
	size_t i = h->n;

	if (h->n == h->room) {
		size_t room = h->room ? 2 * h->room : 256;
		struct sim_event *grown = reallocarray(h->event, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		h->event = grown;
		h->room = room;
	}
	for (; i && is_before(&e, &h->event[(i - 1) / 2]); i = (i - 1) / 2)
		h->event[i] = h->event[(i - 1) / 2];
	h->event[i] = e;
	h->n++;
	return 0;
}

bool heap_take(struct sim_heap *h, struct sim_event *ret)
{
	struct sim_event last;
	size_t i = 0, child;

	if (!h->n)
		return false;
	*ret = h->event[0];
	last = h->event[--h->n];
	while ((child = 2 * i + 1) < h->n) {
		if (child + 1 < h->n && is_before(&h->event[child + 1], &h->event[child]))
			child++;
		if (!is_before(&h->event[child], &last))
			break;
		h->event[i] = h->event[child];
		i = child;
	}
	h->event[i] = last;
	return true;
}
