/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of a packed virtqueue (VIRTIO 1.2, 2.8). Called by virtqueue.c on the queue's owner.
 *
 * One ring of descriptors serves both directions. Driver and device each walk it in laps with a wrap counter that
 * changes at the ring's end; a slot is available when its AVAIL flag equals the driver's counter and its USED flag does
 * not, used when both equal ours. A completion takes the next slot of the used lap, wherever its chain had stood, and
 * skips as many slots as the chain had. Sizes need not be powers of two.
 */
#include "virtio/inflight.h"
#include "virtio/virtqueue_internal.h"

#define LAP_FLAGS (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)

static always_inline struct desc_copy slot_load(const struct virtq_packed_desc *from)
{
	struct desc_copy d = desc_load(from);
	uint16_t id = d.flags;

	d.flags = d.id;
	d.id = id;
	return d;
}

static inline bool slot_available(const struct virtqueue *q, uint16_t at, bool wrap)
{
	const struct virtq_packed_desc *ring = q->desc;
	/* Pairs with the driver's write barrier before it stores the flags of a chain's first slot. */
	uint16_t flags = load_acquire(&ring[at].flags);

	return (flags & LAP_FLAGS) == (wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
}

/* In an indirect table the descriptors follow one another; only WRITE means anything. */
static always_inline enum virtqueue_fault indirect_append(struct virtqueue *q, struct chain_build *b,
							  const struct desc_copy *d)
{
	const struct virtq_desc *table;
	uint32_t n = 0;

	if (unlikely(d->flags & VIRTQ_DESC_F_NEXT))
		return VIRTQUEUE_INDIRECT;
	table = indirect_table(q, d->addr, d->len, &n);
	if (unlikely(!table))
		return VIRTQUEUE_INDIRECT;
	for (uint32_t i = 0; i < n; i++) {
		struct desc_copy t = slot_load((const void *)&table[i]);
		enum virtqueue_fault f;

		if (unlikely(t.flags & VIRTQ_DESC_F_INDIRECT))
			return VIRTQUEUE_INDIRECT;
		f = chain_append(b, q, q->size, t.addr, t.len, t.flags & VIRTQ_DESC_F_WRITE);
		if (unlikely(f))
			return f;
	}
	return VIRTQUEUE_OK;
}

static always_inline enum virtqueue_fault slot_append(struct virtqueue *q, struct chain_build *b,
						      const struct desc_copy *d)
{
	if (d->flags & VIRTQ_DESC_F_INDIRECT)
		return indirect_append(q, b, d);
	return chain_append(b, q, q->size, d->addr, d->len, d->flags & VIRTQ_DESC_F_WRITE);
}

/* The buffer id stands in a chain's last descriptor: only then is it known where the chain belongs. */
static inline enum virtqueue_fault chain_settle(struct virtqueue *q, const struct chain_build *b, uint16_t id,
						uint16_t descs, struct virtq_chain **ret)
{
	unsigned n = (unsigned)(b->at - b->seg);
	struct virtq_seg *seg;

	if (unlikely(id >= q->size || q->chain[id].seg))
		return VIRTQUEUE_HEAD;
	seg = n <= VIRTQUEUE_SEGS_FEW ? segs_few(q, id) : segs_many(q, id);
	for (unsigned i = 0; i < n; i++)
		seg[i] = b->seg[i];
	*ret = &q->chain[id];
	return chain_finish(b, *ret, id, descs, seg);
}

static inline enum virtqueue_fault chain_take(struct virtqueue *q, struct virtq_chain **ret)
{
	const struct virtq_packed_desc *ring = q->desc;
	struct virtq_seg few[VIRTQUEUE_SEGS_FEW];
	struct chain_build b = chain_begin(few);
	struct inflight_chain record = { 0 };
	struct desc_copy d;
	enum virtqueue_fault f;
	uint16_t at = q->avail_idx, descs = 0;
	bool wrap = q->avail_wrap;

	if (q->inflight)
		inflight_packed_begin(q, &record);
	do {
		/* A driver that makes more slots available than it owns would run over our unfinished ones. */
		if (unlikely(q->slots + descs == q->size))
			return VIRTQUEUE_AVAIL_INDEX;
		d = slot_load(&ring[at]);
		f = slot_append(q, &b, &d);
		if (unlikely(f))
			return f;
		if (q->inflight && unlikely(!inflight_packed_add(q, &record, &d)))
			return VIRTQUEUE_INFLIGHT;
		packed_step(q->size, &at, &wrap, 1);
		descs++;
	} while (d.flags & VIRTQ_DESC_F_NEXT);
	f = chain_settle(q, &b, d.id, descs, ret);
	if (unlikely(f))
		return f;
	if (q->inflight)
		inflight_packed_commit(q, &record, d.id);
	q->avail_idx = at;
	q->avail_wrap = wrap;
	q->slots += descs;
	return VIRTQUEUE_OK;
}

enum virtqueue_fault packed_reparse(struct virtqueue *q, uint16_t entry, struct virtq_chain **ret)
{
	const struct virtq_inflight_packed *r = q->inflight;
	struct virtq_seg few[VIRTQUEUE_SEGS_FEW];
	struct chain_build b = chain_begin(few);
	uint16_t num = load_relaxed(&r->desc[entry].num), at = entry, descs = 0;
	struct desc_copy d;
	enum virtqueue_fault f;

	do {
		const struct virtq_inflight_packed_desc *e;

		if (unlikely(at >= q->size))
			return VIRTQUEUE_INFLIGHT;
		e = &r->desc[at];
		d = (struct desc_copy){ .addr = load_relaxed(&e->addr), .len = load_relaxed(&e->len),
					.flags = load_relaxed(&e->flags), .id = load_relaxed(&e->id) };
		f = slot_append(q, &b, &d);
		if (unlikely(f))
			return f;
		at = load_relaxed(&e->next);
	} while (++descs < num);
	f = chain_settle(q, &b, d.id, descs, ret);
	if (!f)
		q->inflight_entry[d.id] = entry;
	return f;
}

/* Indirect tables are the misses to overlap; the ring itself is read in order. A hint: nothing is checked yet. */
static inline void table_prefetch(const struct virtqueue *q, uint16_t ahead)
{
	const struct virtq_packed_desc *ring = q->desc;
	unsigned at = q->avail_idx + ahead;

	if (at >= q->size)
		at -= q->size;
	if (at < q->size && load_relaxed(&ring[at].flags) & VIRTQ_DESC_F_INDIRECT)
		__builtin_prefetch(memmap_gpa(q->map, load_relaxed(&ring[at].addr), sizeof(struct virtq_desc)));
}

unsigned packed_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max)
{
	unsigned taken = 0;

	while (taken < max && slot_available(q, q->avail_idx, q->avail_wrap)) {
		enum virtqueue_fault f;

		if (q->indirect)
			table_prefetch(q, 4);
		f = chain_take(q, &chain[taken]);
		if (unlikely(f)) {
			virtqueue_break(q, f);
			break;
		}
		taken++;
	}
	return taken;
}

static inline uint16_t used_flags(bool wrap, uint32_t written)
{
	return (wrap ? LAP_FLAGS : 0) | (written ? VIRTQ_DESC_F_WRITE : 0);
}

void packed_show(struct virtqueue *q)
{
	struct virtq_packed_desc *ring = q->desc;
	uint16_t first = q->used_idx, at = q->used_idx;
	uint16_t first_flags = used_flags(q->used_wrap, q->done[0].written);
	bool wrap = q->used_wrap;
	unsigned slots = 0;

	for (unsigned i = 0; i < q->n_done; i++) {
		const struct virtq_done *d = &q->done[i];

		shared_store(&ring[at].id, d->chain->id);
		shared_store(&ring[at].len, d->written);
		/* Pairs like the first one's below: the driver may be at this slot as soon as the first is flagged. */
		if (i)
			shared_store_release(&ring[at].flags, used_flags(wrap, d->written));
		used_log(q, at * sizeof(*ring), sizeof(*ring));
		slots += d->chain->descs;
		packed_step(q->size, &at, &wrap, d->chain->descs);
		chain_given_back(d->chain);
	}
	if (q->inflight)
		inflight_packed_batch(q, at, wrap);
	/*
	 * The driver reads the slots in order: this one store gives it all. Pairs with its read barrier after the
	 * flags.
	 */
	shared_store_release(&ring[first].flags, first_flags);
	q->used_idx = at;
	q->used_wrap = wrap;
	q->slots -= slots;
	q->shown_slots += slots;
	if (q->inflight)
		inflight_packed_published(q);
	used_log(q, first * sizeof(*ring), sizeof(*ring));
}

bool packed_call_wanted(struct virtqueue *q)
{
	const uint32_t *event = q->driver;
	uint32_t word;
	uint16_t flags, at, slots = q->shown_slots;

	/*
	 * Our flags must be visible before we look: the driver writes its event area, then a full barrier, then looks
	 * at the slot. One of the two sees the other. Both fields are one load, or they could belong to two different
	 * wishes.
	 */
	full_fence();
	q->shown_slots = 0;
	word = load_relaxed(event);
	flags = word >> 16;
	if (flags == VIRTQ_EVENT_DISABLE)
		return false;
	if (flags != VIRTQ_EVENT_DESC || !q->event_idx)
		return true;
	at = word & 0x7fff;
	/* An event of the lap before this one lies one ring's length behind. */
	if ((word >> 15 & 1) != q->used_wrap)
		at -= q->size;
	return event_passed(at, q->used_idx, q->used_idx - slots);
}

bool packed_pending(const struct virtqueue *q)
{
	return slot_available(q, q->avail_idx, q->avail_wrap);
}

static void event_store(struct virtqueue *q, uint16_t off_wrap, uint16_t flags)
{
	uint32_t *event = q->device;

	shared_store(event, off_wrap | (uint32_t)flags << 16);
	write_log(q, q->event_gpa, sizeof(*event));
}

bool packed_kicks_on(struct virtqueue *q)
{
	if (q->event_idx)
		event_store(q, q->avail_idx | (uint16_t)(q->avail_wrap << 15), VIRTQ_EVENT_DESC);
	else
		event_store(q, 0, VIRTQ_EVENT_ENABLE);
	/* Pairs with the driver's full barrier between making a slot available and its look at our event area. */
	full_fence();
	return packed_pending(q);
}

void packed_kicks_off(struct virtqueue *q)
{
	event_store(q, 0, VIRTQ_EVENT_DISABLE);
}
