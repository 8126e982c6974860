/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recovery from the vhost-user inflight region when a queue starts, on the queue's owner.
 *
 * Theory. Our predecessor may have died behind any single store. Each step it took has one store that makes it count:
 *
 *   split take      desc[head].inflight = 1. Heads are taken in ring order, so the next one to take is
 *                   used idx + number of heads in flight.
 *   split publish   used idx in the ring. A used_idx in the region that is behind means: that many entries of the list that
 *                   starts at last_batch_head were given back, and their flags may still be set.
 *   packed take     old_free_head moves past the chain's entries. Flags set in the free list do not count.
 *   packed publish  the used flag of the batch's first slot. If the region's used position is ahead of the old one, that
 *                   slot tells whether the batch was given back (then catch up) or not (then roll back).
 *
 * A packed batch that is rolled back has left used flags in the slots behind the first. The next batch may put its
 * chains elsewhere, and the driver would take such a leftover for a completion, so all slots between used and available
 * position get their flags of before. The driver looks at none of them until the first is flagged.
 *
 * Whatever is still in flight is submitted again in the order of its counter. Recovery can itself be cut short anywhere
 * and begun again: it repeats the stores that the predecessor had to make, in the same order.
 */
#include "virtio/inflight.h"

#include <errno.h>

struct seen {
	uint64_t bit[VIRTQUEUE_SIZE_MAX / 64];
};

struct outstanding {
	uint64_t counter;
	uint16_t entry;
};

/* False: it was seen before. */
static bool seen_add(struct seen *s, uint16_t i)
{
	uint64_t bit = 1ull << (i & 63);
	bool added = !(s->bit[i / 64] & bit);

	s->bit[i / 64] |= bit;
	return added;
}

static bool seen_has(const struct seen *s, uint16_t i)
{
	return s->bit[i / 64] >> (i & 63) & 1;
}

size_t virtqueue_inflight_bytes(uint16_t size, bool packed)
{
	size_t bytes = packed ? sizeof(struct virtq_inflight_packed) + size * sizeof(struct virtq_inflight_packed_desc)
			      : sizeof(struct virtq_inflight_split) + size * sizeof(struct virtq_inflight_split_desc);

	return (bytes + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
}

static int by_counter(const void *a, const void *b)
{
	const struct outstanding *x = a, *y = b;

	return (x->counter > y->counter) - (x->counter < y->counter);
}

/* Two requests with one number cannot come from a correct predecessor. */
static int resubmit_order(struct virtqueue *q, struct outstanding *o, unsigned n)
{
	qsort(o, n, sizeof(*o), by_counter);
	for (unsigned i = 0; i < n; i++) {
		if (o[i].counter == UINT64_MAX || (i && o[i].counter == o[i - 1].counter))
			return -EPROTO;
		q->resubmit[i] = o[i].entry;
	}
	q->n_resubmit = n;
	q->resubmit_at = 0;
	q->inflight_counter = n ? o[n - 1].counter + 1 : 0;
	return 0;
}

/* --- split --- */

/* The version is stored last: without it the region is still fresh for whoever comes next. */
static void split_init(struct virtqueue *q)
{
	struct virtq_inflight_split *r = q->inflight;

	for (unsigned i = 0; i < q->size; i++)
		inflight_store(&r->desc[i].inflight, 0);
	inflight_store(&r->features, 0);
	inflight_store(&r->desc_num, q->size);
	inflight_store(&r->last_batch_head, 0);
	inflight_store(&r->used_idx, q->used_idx);
	inflight_store(&r->version, VIRTQ_INFLIGHT_VERSION);
}

static int split_finish_batch(struct virtqueue *q)
{
	struct virtq_inflight_split *r = q->inflight;
	uint16_t batch = q->used_idx - load_relaxed(&r->used_idx), head = load_relaxed(&r->last_batch_head);
	struct seen seen = { 0 };

	if (batch > q->size)
		return -EPROTO;
	while (batch--) {
		if (head >= q->size || !seen_add(&seen, head))
			return -EPROTO;
		inflight_store(&r->desc[head].inflight, 0);
		head = load_relaxed(&r->desc[head].next);
	}
	inflight_store(&r->used_idx, q->used_idx);
	return 0;
}

static int split_recover(struct virtqueue *q)
{
	struct virtq_inflight_split *r = q->inflight;
	struct outstanding o[VIRTQUEUE_SIZE_MAX];
	unsigned n = 0;
	int e;

	if (!load_relaxed(&r->version)) {
		split_init(q);
		return 0;
	}
	/* Some back-ends write the size of the region here, of which the driver may use less. */
	if (load_relaxed(&r->version) != VIRTQ_INFLIGHT_VERSION || load_relaxed(&r->desc_num) < q->size)
		return -EPROTO;
	e = split_finish_batch(q);
	if (e)
		return e;
	for (unsigned i = 0; i < q->size; i++) {
		uint8_t flag = load_relaxed(&r->desc[i].inflight);

		if (flag > 1)
			return -EPROTO;
		if (flag)
			o[n++] = (struct outstanding){ .counter = load_relaxed(&r->desc[i].counter), .entry = i };
	}
	q->avail_idx = q->used_idx + n;
	return resubmit_order(q, o, n);
}

/* --- packed --- */

static void packed_init(struct virtqueue *q)
{
	struct virtq_inflight_packed *r = q->inflight;
	union virtq_inflight_used u = {
		.used_idx = q->used_idx, .old_used_idx = q->used_idx,
		.used_wrap = q->used_wrap, .old_used_wrap = q->used_wrap,
	};

	for (unsigned i = 0; i < q->size; i++) {
		inflight_store(&r->desc[i].inflight, 0);
		inflight_store(&r->desc[i].next, i + 1);
	}
	inflight_store(&r->features, 0);
	inflight_store(&r->desc_num, q->size);
	inflight_store(&r->free_head, 0);
	inflight_store(&r->old_free_head, 0);
	inflight_store(&r->used.word, u.word);
	inflight_store(&r->version, VIRTQ_INFLIGHT_VERSION);
}

static uint16_t avail_flags(bool wrap)
{
	return wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/*
 * The specification compares the indices alone; a batch of the whole ring moves only the wrap counter. The slot cannot
 * have come back to "available" of the same lap: the driver fills it again only in the next one.
 */
static int packed_finish_batch(struct virtqueue *q)
{
	const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	struct virtq_inflight_packed *r = q->inflight;
	union virtq_inflight_used u = { .word = load_relaxed(&r->used.word) };
	struct virtq_packed_desc *ring = q->desc;

	if (u.used_idx >= q->size || u.old_used_idx >= q->size || u.used_wrap > 1 || u.old_used_wrap > 1)
		return -EPROTO;
	if (u.used_idx != u.old_used_idx || u.used_wrap != u.old_used_wrap) {
		if ((load_acquire(&ring[u.old_used_idx].flags) & both) != avail_flags(u.old_used_wrap)) {
			inflight_store(&r->old_free_head, load_relaxed(&r->free_head));
			u.old_used_idx = u.used_idx;
			u.old_used_wrap = u.used_wrap;
			inflight_store(&r->used.word, u.word);
		}
	}
	inflight_store(&r->free_head, load_relaxed(&r->old_free_head));
	u.used_idx = u.old_used_idx;
	u.used_wrap = u.old_used_wrap;
	inflight_store(&r->used.word, u.word);
	q->used_idx = u.used_idx;
	q->used_wrap = u.used_wrap;
	return 0;
}

/* Returns the length of the free list, whose end is an index past the table. */
static int packed_free_walk(struct virtqueue *q, struct seen *seen)
{
	struct virtq_inflight_packed *r = q->inflight;
	uint16_t at = load_relaxed(&r->free_head);
	int n = 0;

	while (at < q->size) {
		if (!seen_add(seen, at))
			return -EPROTO;
		inflight_store(&r->desc[at].inflight, 0);
		at = load_relaxed(&r->desc[at].next);
		n++;
	}
	return at == q->size ? n : -EPROTO;
}

/* Checks one chain's list and returns its length and buffer id. */
static int packed_chain_walk(struct virtqueue *q, uint16_t head, struct seen *seen, uint16_t *ret_id)
{
	struct virtq_inflight_packed *r = q->inflight;
	uint16_t num = load_relaxed(&r->desc[head].num), at = head;

	if (!num || num > q->size)
		return -EPROTO;
	for (unsigned i = 1;; i++) {
		if (!seen_add(seen, at))
			return -EPROTO;
		if (i == num)
			break;
		at = load_relaxed(&r->desc[at].next);
		if (at >= q->size)
			return -EPROTO;
	}
	*ret_id = load_relaxed(&r->desc[at].id);
	return at == load_relaxed(&r->desc[head].last) && *ret_id < q->size ? num : -EPROTO;
}

static int packed_outstanding(struct virtqueue *q, struct outstanding *o, unsigned *ret_n, unsigned *ret_slots)
{
	struct virtq_inflight_packed *r = q->inflight;
	struct seen seen = { 0 }, ids = { 0 };
	int slots = packed_free_walk(q, &seen);
	unsigned n = 0, taken = 0;

	if (slots < 0)
		return slots;
	for (unsigned i = 0; i < q->size; i++) {
		uint16_t id = 0;
		int num;

		/* Entries inside a chain have no flag: only a chain's first one does. */
		if (seen_has(&seen, i) || !load_relaxed(&r->desc[i].inflight))
			continue;
		num = packed_chain_walk(q, i, &seen, &id);
		if (num < 0 || !seen_add(&ids, id))
			return -EPROTO;
		o[n++] = (struct outstanding){ .counter = load_relaxed(&r->desc[i].counter), .entry = i };
		taken += num;
	}
	if (slots + taken != q->size)
		return -EPROTO;
	*ret_n = n;
	*ret_slots = taken;
	return 0;
}

/*
 * Takes back the used flags that a batch left which was never given back; leaves the queue behind the last slot taken.
 */
static void packed_flags_restore(struct virtqueue *q, unsigned slots)
{
	const uint16_t both = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	struct virtq_packed_desc *ring = q->desc;

	q->avail_idx = q->used_idx;
	q->avail_wrap = q->used_wrap;
	while (slots--) {
		uint16_t *p = &ring[q->avail_idx].flags, flags = load_relaxed(p);

		if ((flags & both) != avail_flags(q->avail_wrap)) {
			inflight_store(p, (flags & ~both) | avail_flags(q->avail_wrap));
			used_log(q, q->avail_idx * sizeof(*ring), sizeof(*ring));
		}
		packed_step(q->size, &q->avail_idx, &q->avail_wrap, 1);
	}
}

static int packed_recover(struct virtqueue *q)
{
	struct virtq_inflight_packed *r = q->inflight;
	struct outstanding o[VIRTQUEUE_SIZE_MAX];
	unsigned n = 0, slots = 0;
	int e;

	if (!load_relaxed(&r->version)) {
		packed_init(q);
		return 0;
	}
	if (load_relaxed(&r->version) != VIRTQ_INFLIGHT_VERSION || load_relaxed(&r->desc_num) != q->size)
		return -EPROTO;
	e = packed_finish_batch(q);
	if (!e)
		e = packed_outstanding(q, o, &n, &slots);
	if (!e)
		e = resubmit_order(q, o, n);
	if (e)
		return e;
	packed_flags_restore(q, slots);
	q->slots = slots;
	return 0;
}

int inflight_recover(struct virtqueue *q)
{
	if (q->setup.inflight_bytes < virtqueue_inflight_bytes(q->size, q->packed) ||
	    (uintptr_t)q->inflight & (sizeof(uint64_t) - 1))
		return -EINVAL;
	return q->packed ? packed_recover(q) : split_recover(q);
}

unsigned inflight_resubmit(struct virtqueue *q, struct virtq_chain *chain[], unsigned max)
{
	unsigned n = 0;

	while (n < max && q->n_resubmit) {
		uint16_t entry = q->resubmit[q->resubmit_at];
		enum virtqueue_fault f;

		f = q->packed ? packed_reparse(q, entry, &chain[n]) : split_parse(q, entry, &chain[n]);

		if (f) {
			virtqueue_break(q, f);
			break;
		}
		q->resubmit_at++;
		q->n_resubmit--;
		n++;
	}
	return n;
}
