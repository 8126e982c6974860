/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of split and packed virtqueues. See ring.h.
 */
#include "frontend/ring.h"

#include <errno.h>
#include <string.h>

#define LAP_FLAGS (1u << VRING_PACKED_DESC_F_AVAIL | 1u << VRING_PACKED_DESC_F_USED)

static struct vring_avail *split_avail(const struct front_ring *r)
{
	return r->driver;
}

static struct vring_used *split_used(const struct front_ring *r)
{
	return r->device;
}

static void *used_event(const struct front_ring *r)
{
	return &split_avail(r)->ring[r->config.size];
}

static uint16_t avail_event(const struct front_ring *r)
{
	return load_relaxed((uint16_t *)&split_used(r)->ring[r->config.size]);
}

static int memory_alloc(struct front_ring *r)
{
	const struct front_ring_config *c = &r->config;
	size_t n = c->size, event = sizeof(struct vring_packed_desc_event);

	r->desc = front_memory_alloc(r->memory, n * sizeof(struct vring_desc), 4096);
	if (c->packed) {
		r->driver = front_memory_alloc(r->memory, event, 64);
		r->device = front_memory_alloc(r->memory, event, 64);
	} else {
		r->driver = front_memory_alloc(r->memory, 4 + n * 2 + 2, 64);
		r->device = front_memory_alloc(r->memory, 4 + n * 8 + 2, 4096);
	}
	/* A table a request, from one cache line on. */
	r->table_stride = (c->segs_max + 3) & ~3u;
	if (c->indirect)
		r->tables = front_memory_alloc(r->memory, n * r->table_stride * sizeof(*r->tables), 64);
	return r->desc && r->driver && r->device && (r->tables || !c->indirect) ? 0 : -ENOMEM;
}

int front_ring_init(struct front_ring *r, const struct front_ring_config *config, struct front_memory *memory)
{
	int e;

	*r = (struct front_ring){ .config = *config, .memory = memory };
	if (!config->size || !config->segs_max || (!config->packed && (config->size & (config->size - 1))))
		return -EINVAL;
	e = memory_alloc(r);
	if (e)
		return e;
	r->slot = calloc(config->size, sizeof(*r->slot));
	if (!r->slot)
		return -ENOMEM;
	for (unsigned i = 0; i < config->size; i++)
		r->slot[i].next = i + 1;
	r->n_free = config->size;
	r->avail_wrap = r->used_wrap = true;
	return 0;
}

void front_ring_fini(struct front_ring *r)
{
	free(r->slot);
	r->slot = NULL;
}

static void desc_fill(struct vring_desc *d, const struct front_buf *b, bool write, bool next)
{
	d->addr = b->gpa;
	d->len = b->len;
	d->flags = (write ? VRING_DESC_F_WRITE : 0) | (next ? VRING_DESC_F_NEXT : 0);
}

/* A packed device takes a table's descriptors in order: where `next` stands in a split one, it has flags. */
static struct front_buf table_fill(struct front_ring *r, uint16_t id, const struct front_buf *buf, unsigned n_out,
				   unsigned n)
{
	struct vring_desc *table = r->tables + (size_t)id * r->table_stride;
	struct vring_packed_desc *packed = (void *)table;

	for (unsigned i = 0; i < n; i++) {
		bool write = i >= n_out;

		if (r->config.packed) {
			packed[i].addr = buf[i].gpa;
			packed[i].len = buf[i].len;
			packed[i].flags = write ? VRING_DESC_F_WRITE : 0;
		} else {
			desc_fill(&table[i], &buf[i], write, i + 1 < n);
			table[i].next = i + 1;
		}
	}
	return (struct front_buf){ .gpa = front_memory_gpa(r->memory, table), .len = n * sizeof(*table) };
}

/* --- split: free descriptors are linked through their `next` --- */

static int split_add(struct front_ring *r, const struct front_buf *buf, unsigned n_out, unsigned n, void *cookie)
{
	struct vring_desc *desc = r->desc;
	bool indirect = r->config.indirect && n > 1;
	uint16_t head = r->free_head, at = head;
	unsigned descs = indirect ? 1 : n;

	if (r->n_free < descs)
		return -ENOSPC;
	if (indirect) {
		struct front_buf table = table_fill(r, head, buf, n_out, n);

		desc[head].addr = table.gpa;
		desc[head].len = table.len;
		desc[head].flags = VRING_DESC_F_INDIRECT;
	} else {
		for (unsigned i = 0; i < n; i++) {
			desc_fill(&desc[at], &buf[i], i >= n_out, i + 1 < n);
			if (i + 1 < n)
				at = desc[at].next = r->slot[at].next;
		}
	}
	/* The driver's own links tell where the chain goes on: it never reads back what it has shown to the device. */
	r->free_head = r->slot[at].next;
	r->n_free -= descs;
	r->slot[head].cookie = cookie;
	r->slot[head].descs = descs;
	r->slot[head].last = at;
	r->slot[head].busy = true;
	split_avail(r)->ring[r->next_avail & (r->config.size - 1)] = head;
	r->next_avail++;
	return 0;
}

static bool split_publish(struct front_ring *r)
{
	uint16_t old = r->published;

	if (old == r->next_avail)
		return false;
	r->published = r->next_avail;
	/* Pairs with the device's acquire of idx. */
	store_release(&split_avail(r)->idx, r->next_avail);
	/* Pairs with the device's full barrier between arming its notification and its look at idx. */
	full_fence();
	if (r->config.event_idx)
		return vring_need_event(avail_event(r), r->next_avail, old);
	return !(load_relaxed(&split_used(r)->flags) & VRING_USED_F_NO_NOTIFY);
}

static void *split_get(struct front_ring *r, uint32_t *ret_written, int *ret_error)
{
	const struct vring_used *used = r->device;
	const struct vring_used_elem *e;
	struct front_slot *s;

	/*
	 * The device's core writes this line while we read it, so it is fetched once for all that it tells. Pairs with the
	 * device's release of idx.
	 */
	if (r->used_seen == r->last_used)
		r->used_seen = load_acquire(&used->idx);
	if (r->used_seen == r->last_used)
		return NULL;
	e = &used->ring[r->last_used & (r->config.size - 1)];
	if (e->id >= r->config.size || !r->slot[e->id].busy) {
		*ret_error = -EPROTO;
		return NULL;
	}
	s = &r->slot[e->id];
	s->busy = false;
	r->slot[s->last].next = r->free_head;
	r->free_head = e->id;
	r->n_free += s->descs;
	r->last_used++;
	*ret_written = e->len;
	return s->cookie;
}

static bool split_calls_on(struct front_ring *r)
{
	if (r->config.event_idx)
		store_relaxed((uint16_t *)used_event(r), r->last_used);
	else
		store_relaxed(&split_avail(r)->flags, 0);
	/* Pairs with the device's full barrier between its idx and its look at used_event or flags. */
	full_fence();
	return load_relaxed(&split_used(r)->idx) != r->last_used;
}

static void split_calls_off(struct front_ring *r)
{
	if (r->config.event_idx)
		store_relaxed((uint16_t *)used_event(r), (uint16_t)(r->last_used - 1));
	else
		store_relaxed(&split_avail(r)->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

/* --- packed: free ids are linked through their slots' `next`, n_free counts ring slots --- */

static uint16_t lap_flags(bool wrap)
{
	return wrap ? 1u << VRING_PACKED_DESC_F_AVAIL : 1u << VRING_PACKED_DESC_F_USED;
}

static void packed_step(const struct front_ring *r, uint16_t *at, bool *wrap, unsigned n)
{
	unsigned next = *at + n;

	if (next >= r->config.size) {
		next -= r->config.size;
		*wrap = !*wrap;
	}
	*at = next;
}

static void packed_slot_fill(struct front_ring *r, uint16_t id, const struct front_buf *b, uint16_t flags)
{
	struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->next_avail;

	d->addr = b->gpa;
	d->len = b->len;
	d->id = id;
	flags |= lap_flags(r->avail_wrap);
	/* The first slot of all that publish makes visible gets its flags last. */
	if (!r->pending) {
		r->pending = true;
		r->pending_first = r->next_avail;
		r->pending_first_flags = flags;
	} else {
		/* Pairs with the device's acquire: it may be here as soon as the first is flagged. */
		store_release(&d->flags, flags);
	}
	packed_step(r, &r->next_avail, &r->avail_wrap, 1);
}

static int packed_add(struct front_ring *r, const struct front_buf *buf, unsigned n_out, unsigned n, void *cookie)
{
	bool indirect = r->config.indirect && n > 1;
	unsigned descs = indirect ? 1 : n;
	uint16_t id = r->free_head;

	if (r->n_free < descs)
		return -ENOSPC;
	if (indirect) {
		struct front_buf table = table_fill(r, id, buf, n_out, n);

		packed_slot_fill(r, id, &table, VRING_DESC_F_INDIRECT);
	} else {
		for (unsigned i = 0; i < n; i++) {
			uint16_t write = i >= n_out ? VRING_DESC_F_WRITE : 0, next = i + 1 < n ? VRING_DESC_F_NEXT : 0;

			packed_slot_fill(r, id, &buf[i], write | next);
		}
	}
	r->free_head = r->slot[id].next;
	r->n_free -= descs;
	r->slot[id].cookie = cookie;
	r->slot[id].descs = descs;
	r->slot[id].busy = true;
	return 0;
}

static bool packed_publish(struct front_ring *r)
{
	struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->pending_first;
	uint16_t flags, event, added = r->next_avail - r->published;
	uint32_t word;

	if (!r->pending)
		return false;
	r->pending = false;
	if (r->next_avail <= r->published)
		added += r->config.size;
	r->published = r->next_avail;
	/* Pairs with the device's acquire of the flags. */
	store_release(&d->flags, r->pending_first_flags);
	/* Pairs with the device's full barrier between its event area and its look at the slot. */
	full_fence();
	word = load_relaxed((uint32_t *)r->device);
	flags = word >> 16;
	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	event = word & 0x7fff;
	if ((word >> 15 & 1) != r->avail_wrap)
		event -= r->config.size;
	return vring_need_event(event, r->next_avail, r->next_avail - added);
}

static bool packed_ready(const struct front_ring *r)
{
	const struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->last_used;
	/* Pairs with the device's release of the flags. */
	uint16_t flags = load_acquire(&d->flags) & LAP_FLAGS;

	return flags == (r->used_wrap ? LAP_FLAGS : 0);
}

static void *packed_get(struct front_ring *r, uint32_t *ret_written, int *ret_error)
{
	const struct vring_packed_desc *d = (struct vring_packed_desc *)r->desc + r->last_used;
	struct front_slot *s;
	uint16_t id;

	if (!packed_ready(r))
		return NULL;
	id = d->id;
	if (id >= r->config.size || !r->slot[id].busy) {
		*ret_error = -EPROTO;
		return NULL;
	}
	s = &r->slot[id];
	s->busy = false;
	s->next = r->free_head;
	r->free_head = id;
	r->n_free += s->descs;
	*ret_written = d->len;
	packed_step(r, &r->last_used, &r->used_wrap, s->descs);
	return s->cookie;
}

static void packed_event_store(struct front_ring *r, uint16_t off_wrap, uint16_t flags)
{
	store_relaxed((uint32_t *)r->driver, off_wrap | (uint32_t)flags << 16);
}

static bool packed_calls_on(struct front_ring *r)
{
	if (r->config.event_idx)
		packed_event_store(r, r->last_used | (uint16_t)(r->used_wrap << 15), VRING_PACKED_EVENT_FLAG_DESC);
	else
		packed_event_store(r, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
	/* Pairs with the device's full barrier between the used flags and its look at our event area. */
	full_fence();
	return packed_ready(r);
}

/* --- both --- */

int front_ring_add(struct front_ring *r, const struct front_buf *buf, unsigned n_out, unsigned n_in, void *cookie)
{
	unsigned n = n_out + n_in;
	int e;

	if (!n || n > r->config.segs_max)
		return -EINVAL;
	e = r->config.packed ? packed_add(r, buf, n_out, n, cookie) : split_add(r, buf, n_out, n, cookie);
	if (!e)
		r->outstanding++;
	return e;
}

bool front_ring_publish(struct front_ring *r)
{
	return r->config.packed ? packed_publish(r) : split_publish(r);
}

void *front_ring_get(struct front_ring *r, uint32_t *ret_written, int *ret_error)
{
	void *cookie = r->config.packed ? packed_get(r, ret_written, ret_error) : split_get(r, ret_written, ret_error);

	if (cookie)
		r->outstanding--;
	return cookie;
}

bool front_ring_calls_on(struct front_ring *r)
{
	return r->config.packed ? packed_calls_on(r) : split_calls_on(r);
}

void front_ring_calls_off(struct front_ring *r)
{
	if (r->config.packed)
		packed_event_store(r, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
	else
		split_calls_off(r);
}

uint32_t front_ring_base(const struct front_ring *r)
{
	uint32_t used = r->last_used | (uint32_t)r->used_wrap << 15;

	return r->config.packed ? used | used << 16 : r->last_used;
}
