/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of a split virtqueue (VIRTIO 1.2, 2.7). Called by virtqueue.c on the queue's owner.
 *
 * Both indices run freely modulo 2^16; a slot is the index modulo the ring's size, a power of two. We write the used
 * ring, its idx and avail_event; all else is the driver's, and may change while we look.
 */
#include "virtio/inflight.h"
#include "virtio/virtqueue_internal.h"

/* Heads read ahead of parsing, so that their descriptors' cache misses overlap. */
#define AHEAD 32u

static inline uint16_t *avail_event(const struct virtqueue *q)
{
	struct virtq_used *used = q->device;

	return (uint16_t *)&used->ring[q->size];
}

/* Behind the last element stands avail_event. */
static inline size_t elem_offset(unsigned at)
{
	return offsetof(struct virtq_used, ring) + at * sizeof(struct virtq_used_elem);
}

static inline uint16_t used_event(const struct virtqueue *q)
{
	struct virtq_avail *avail = q->driver;

	return load_relaxed(&avail->ring[q->size]);
}

/*
 * Walks one table by `next`, from an entry that is in it; an indirect descriptor may only end the ring's own table (`indirect` is NULL in others).
 */
static always_inline enum virtqueue_fault walk(const struct virtqueue *q, uint16_t head, struct chain_build *b,
					       const struct virtq_desc *table, uint32_t n, uint32_t at, struct desc_copy *indirect)
{
	for (;;) {
		struct desc_copy d;
		enum virtqueue_fault f;

		d = desc_load(&table[at]);
		if (d.flags & VIRTQ_DESC_F_INDIRECT) {
			if (unlikely(!indirect || (d.flags & VIRTQ_DESC_F_NEXT)))
				return VIRTQUEUE_INDIRECT;
			*indirect = d;
			return VIRTQUEUE_OK;
		}
		/* A loop ends at VIRTQUEUE_CHAIN_MAX at the latest. */
		f = chain_append(b, q, head, d.addr, d.len, d.flags & VIRTQ_DESC_F_WRITE);
		if (unlikely(f))
			return f;
		if (!(d.flags & VIRTQ_DESC_F_NEXT))
			return VIRTQUEUE_OK;
		at = d.id;
		if (unlikely(at >= n))
			return indirect ? VIRTQUEUE_HEAD : VIRTQUEUE_INDIRECT;
	}
}

static always_inline enum virtqueue_fault parse(struct virtqueue *q, uint16_t head, struct virtq_chain **ret)
{
	struct virtq_chain *c = &q->chain[head];
	struct chain_build b = chain_begin(segs_few(q, head));
	struct desc_copy indirect = { 0 };
	enum virtqueue_fault f;

	if (unlikely(c->seg))
		return VIRTQUEUE_HEAD;
	f = walk(q, head, &b, q->desc, q->size, head, &indirect);
	if (unlikely(f))
		return f;
	if (indirect.flags) {
		uint32_t n = 0;
		const struct virtq_desc *table = indirect_table(q, indirect.addr, indirect.len, &n);

		if (unlikely(!table))
			return VIRTQUEUE_INDIRECT;
		q->last_table = table;
		f = walk(q, head, &b, table, n, 0, NULL);
		if (unlikely(f))
			return f;
	}
	*ret = c;
	return chain_finish(&b, c, head, 0, b.seg);
}

enum virtqueue_fault split_parse(struct virtqueue *q, uint16_t head, struct virtq_chain **ret)
{
	return parse(q, head, ret);
}

/* Up to AHEAD heads; returns how many are good, the rest has broken the queue. */
static unsigned heads_load(struct virtqueue *q, uint16_t head[AHEAD], unsigned n)
{
	const struct virtq_avail *avail = q->driver;
	const struct virtq_desc *desc = q->desc;
	uint16_t mask = q->size - 1;

	for (unsigned i = 0; i < n; i++) {
		head[i] = load_relaxed(&avail->ring[(uint16_t)(q->avail_idx + i) & mask]);
		if (unlikely(head[i] >= q->size)) {
			virtqueue_break(q, VIRTQUEUE_HEAD);
			return i;
		}
		__builtin_prefetch(&desc[head[i]]);
	}
	return n;
}

/* Indirect tables are the next miss: their addresses are only a hint here, checked when the chain is parsed. */
static void tables_prefetch(const struct virtqueue *q, const uint16_t head[AHEAD], unsigned n)
{
	const struct virtq_desc *desc = q->desc;

	for (unsigned i = 0; i < n; i++)
		if (load_relaxed(&desc[head[i]].flags) & VIRTQ_DESC_F_INDIRECT)
			__builtin_prefetch(memmap_gpa(q->map, load_relaxed(&desc[head[i]].addr), sizeof(*desc)));
}

/*
 * A request that comes alone is a chain of misses: its ring entry leads to its descriptor, that to its table and its header,
 * each a cache line that the driver's core has just written. Drivers take descriptors, tables and headers from stacks, so
 * these are likely those that went back last: fetched all at once, while the ring entry is on its way. What we shall write is
 * fetched for writing. A wrong guess costs a few needless fetches.
 */
static void guess_prefetch(const struct virtqueue *q)
{
	const struct virtq_avail *avail = q->driver;
	const struct virtq_desc *desc = q->desc;
	const struct virtq_used *used = q->device;
	uint16_t mask = q->size - 1;

	__builtin_prefetch(&avail->ring[q->avail_idx & mask]);
	__builtin_prefetch(&desc[q->last_id]);
	__builtin_prefetch(q->last_table);
	__builtin_prefetch(memmap_gpa(q->map, segs_few(q, q->last_id)->gpa, 1), 1);
	__builtin_prefetch(&used->ring[q->used_idx & mask], 1);
}

unsigned split_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max)
{
	const struct virtq_avail *avail = q->driver;
	uint16_t head[AHEAD];
	unsigned taken = 0;
	/*
	 * Pairs with the driver's write barrier before its store to idx: the entries and descriptors below it are
	 * written.
	 */
	uint16_t ready = load_acquire(&avail->idx) - q->avail_idx;

	if (unlikely(ready > q->size)) {
		virtqueue_break(q, VIRTQUEUE_AVAIL_INDEX);
		return 0;
	}
	if (!ready)
		return 0;
	guess_prefetch(q);
	max = ready < max ? ready : max;
	while (taken < max && !q->broken) {
		unsigned n = heads_load(q, head, max - taken < AHEAD ? max - taken : AHEAD);

		if (q->indirect && n > 1)
			tables_prefetch(q, head, n);
		for (unsigned i = 0; i < n; i++) {
			enum virtqueue_fault f = parse(q, head[i], &chain[taken]);

			if (unlikely(f)) {
				virtqueue_break(q, f);
				break;
			}
			if (q->inflight)
				inflight_split_take(q, head[i]);
			q->avail_idx++;
			taken++;
		}
	}
	return taken;
}

static void show_log(struct virtqueue *q, uint16_t first, unsigned n)
{
	unsigned at = first & (q->size - 1), run = q->size - at < n ? q->size - at : n;

	used_log(q, elem_offset(at), run * sizeof(struct virtq_used_elem));
	used_log(q, elem_offset(0), (n - run) * sizeof(struct virtq_used_elem));
	used_log(q, 0, elem_offset(0));
}

void split_show(struct virtqueue *q)
{
	struct virtq_used *used = q->device;
	const struct virtq_done *d = q->done, *end = d + q->n_done;
	uint16_t first = q->used_idx;
	unsigned mask = q->size - 1u, n = q->n_done, at = first;

	for (; d < end; d++, at++) {
		struct virtq_used_elem *e = &used->ring[at & mask];

		shared_store(&e->id, d->id);
		shared_store(&e->len, d->written);
		chain_given_back(d->chain);
	}
	if (q->inflight)
		inflight_split_batch(q);
	q->used_idx = first + n;
	q->last_id = end[-1].id;
	/* Pairs with the driver's read barrier after its load of idx: it sees the elements and the data. */
	shared_store_release(&used->idx, q->used_idx);
	if (q->inflight)
		inflight_split_published(q);
	if (unlikely(q->log))
		show_log(q, first, n);
}

bool split_call_wanted(struct virtqueue *q)
{
	const struct virtq_avail *avail = q->driver;
	uint16_t old = q->signalled_idx;
	bool valid = q->signalled_valid;

	/*
	 * Our idx must be visible before we look whether the driver wants a call: it writes used_event (or clears the
	 * flag), then a full barrier, then looks at idx (virtqueue_enable_cb in Linux). One of the two sees the other.
	 */
	full_fence();
	q->signalled_idx = q->used_idx;
	q->signalled_valid = true;
	if (q->event_idx)
		return !valid || event_passed(used_event(q), q->used_idx, old);
	return !(load_relaxed(&avail->flags) & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

bool split_pending(const struct virtqueue *q)
{
	const struct virtq_avail *avail = q->driver;

	return load_relaxed(&avail->idx) != q->avail_idx;
}

bool split_kicks_on(struct virtqueue *q)
{
	struct virtq_used *used = q->device;

	if (q->event_idx) {
		shared_store(avail_event(q), q->avail_idx);
		used_log(q, elem_offset(q->size), sizeof(uint16_t));
	} else {
		shared_store(&used->flags, 0);
		used_log(q, 0, sizeof(uint16_t));
	}
	/* Pairs with the driver's full barrier between its store to idx and its look at avail_event or flags. */
	full_fence();
	return split_pending(q);
}

void split_kicks_off(struct virtqueue *q)
{
	struct virtq_used *used = q->device;

	if (q->event_idx) {
		/* No "off" here: the entry just taken, which comes around again in 65,536 requests at the earliest. */
		shared_store(avail_event(q), (uint16_t)(q->avail_idx - 1));
		used_log(q, elem_offset(q->size), sizeof(uint16_t));
	} else {
		shared_store(&used->flags, VIRTQ_USED_F_NO_NOTIFY);
		used_log(q, 0, sizeof(uint16_t));
	}
}
