/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaches a queue to rings in guest memory and hands batches to split.c or packed.c. Called on the queue's owner (the
 * control thread while it is in no worker's hands).
 *
 * A queue's tables live in one mapping that is touched only where requests go, so an idle queue of 1024 costs a page or
 * two. Completions wait in `done` until publish writes all of them: one branch per batch on the kind of ring.
 */
#include "base/sigbus.h"
#include "virtio/inflight.h"
#include "virtio/virtqueue_internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

static const char *const fault_text[] = {
	[VIRTQUEUE_OK] = "ok",
	[VIRTQUEUE_AVAIL_INDEX] = "available index runs ahead of the ring",
	[VIRTQUEUE_HEAD] = "descriptor index out of range or already in flight",
	[VIRTQUEUE_CHAIN_LOOP] = "descriptor chain loops or is too long",
	[VIRTQUEUE_INDIRECT] = "bad indirect descriptor table",
	[VIRTQUEUE_ORDER] = "device-readable descriptor after a writable one",
	[VIRTQUEUE_LENGTH] = "descriptor lengths overflow",
	[VIRTQUEUE_INFLIGHT] = "inflight region makes no sense",
	[VIRTQUEUE_UNMAPPED] = "ring is not in guest memory any more",
};

static size_t align_up(size_t n)
{
	return (n + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
}

static int arena_map(struct virtqueue *q)
{
	size_t n = q->size;
	size_t chains = align_up(n * sizeof(*q->chain)), done = align_up(n * sizeof(*q->done)),
	       ids = align_up(n * sizeof(uint16_t)), few = n * VIRTQUEUE_SEGS_FEW * sizeof(*q->few),
	       many = (n + 1) * VIRTQUEUE_CHAIN_MAX * sizeof(*q->many);
	uint8_t *at;

	q->arena_bytes = chains + done + 2 * ids + few + many;
	q->arena = mmap(NULL, q->arena_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->arena == MAP_FAILED) {
		q->arena = NULL;
		return -ENOMEM;
	}
	at = q->arena;
	q->chain = (void *)at;
	q->done = (void *)(at += chains);
	q->resubmit = (void *)(at += done);
	q->inflight_entry = (void *)(at += ids);
	q->few = (void *)(at += ids);
	q->many = (void *)(at + few);
	return 0;
}

static void arena_unmap(struct virtqueue *q)
{
	if (q->arena)
		munmap(q->arena, q->arena_bytes);
	q->arena = NULL;
	q->chain = NULL;
}

static void *ring_find(const struct memmap *map, uint64_t uva, size_t bytes, size_t alignment)
{
	void *p = memmap_uva(map, uva, bytes);

	return (uintptr_t)p & (alignment - 1) ? NULL : p;
}

/* Leaves the old pointers when the rings are not all there. */
static int rings_resolve(struct virtqueue *q, const struct memmap *map)
{
	const struct virtqueue_setup *s = &q->setup;
	size_t n = q->size;
	void *desc, *driver, *device;

	if (!map)
		return -EFAULT;
	desc = ring_find(map, s->desc_uva, n * sizeof(struct virtq_desc), sizeof(uint64_t));
	if (q->packed) {
		driver = ring_find(map, s->avail_uva, sizeof(struct virtq_packed_event), sizeof(uint32_t));
		device = ring_find(map, s->used_uva, sizeof(struct virtq_packed_event), sizeof(uint32_t));
	} else {
		/* The event fields behind the rings exist only with EVENT_IDX. */
		size_t event = q->event_idx ? sizeof(uint16_t) : 0;
		size_t avail = sizeof(struct virtq_avail) + n * sizeof(uint16_t);
		size_t used = sizeof(struct virtq_used) + n * sizeof(struct virtq_used_elem);

		driver = ring_find(map, s->avail_uva, avail + event, sizeof(uint16_t));
		device = ring_find(map, s->used_uva, used + event, sizeof(uint32_t));
	}
	if (!desc || !driver || !device)
		return -EFAULT;
	q->desc = desc;
	q->driver = driver;
	q->device = device;
	q->event_gpa = memmap_uva_gpa(map, s->used_uva);
	if (q->packed)
		q->used_gpa = memmap_uva_gpa(map, s->desc_uva);
	else
		q->used_gpa = s->used_log_gpa ? s->used_log_gpa : q->event_gpa;
	q->map = map;
	q->faults_seen = load_acquire(&sigbus_faults);
	return memmap_faulted(map) ? -EFAULT : 0;
}

static int setup_check(const struct virtqueue_setup *s)
{
	if (!s->size || s->size > VIRTQUEUE_SIZE_MAX)
		return -EINVAL;
	if (!s->packed)
		return s->size & (s->size - 1) ? -EINVAL : 0;
	return (s->base & 0x7fff) < s->size && (s->base >> 16 & 0x7fff) < s->size ? 0 : -EINVAL;
}

static void positions_from_base(struct virtqueue *q)
{
	uint32_t base = q->setup.base;

	if (q->packed) {
		q->avail_idx = base & 0x7fff;
		q->avail_wrap = base >> 15 & 1;
		q->used_idx = base >> 16 & 0x7fff;
		q->used_wrap = base >> 31;
	} else {
		q->avail_idx = base;
		q->used_idx = load_acquire(&((struct virtq_used *)q->device)->idx);
	}
}

int virtqueue_start(struct virtqueue *q, const struct virtqueue_setup *setup, const struct memmap *map)
{
	struct virtqueue_counters counters = q->counters;
	int r = setup_check(setup);

	assert(!q->running);
	if (r)
		return r;
	*q = (struct virtqueue){
		.size = setup->size,
		.packed = setup->packed,
		.event_idx = setup->event_idx,
		.indirect = setup->indirect,
		.inflight = setup->inflight,
		.log = setup->log,
		.setup = *setup,
		.counters = counters,
	};
	r = rings_resolve(q, map);
	if (!r)
		r = arena_map(q);
	if (r)
		return r;
	positions_from_base(q);
	if (q->inflight)
		r = inflight_recover(q);
	if (r) {
		arena_unmap(q);
		return r;
	}
	q->call_owed = q->inflight != NULL;
	q->running = true;
	return 0;
}

uint32_t virtqueue_stop(struct virtqueue *q)
{
	if (!q->running)
		return q->setup.base;
	q->running = false;
	arena_unmap(q);
	if (!q->packed)
		return q->avail_idx;
	return (q->avail_idx | (uint32_t)q->avail_wrap << 15) | (q->used_idx | (uint32_t)q->used_wrap << 15) << 16;
}

int virtqueue_remap(struct virtqueue *q, const struct memmap *map)
{
	int r = rings_resolve(q, map);

	if (r) {
		virtqueue_break(q, VIRTQUEUE_UNMAPPED);
		q->desc = NULL; /* the old map may go: nothing is touched any more, whatever broke the queue first */
	}
	return r;
}

void virtqueue_set_log(struct virtqueue *q, struct dirty_log *log)
{
	q->log = log;
}

/* Some mapped file was truncated since we last looked. Ours? */
static bool memory_whole(struct virtqueue *q, unsigned faults)
{
	q->faults_seen = faults;
	if (!memmap_faulted(q->map))
		return true;
	virtqueue_break(q, VIRTQUEUE_UNMAPPED);
	return false;
}

unsigned virtqueue_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max)
{
	unsigned faults = load_relaxed(&sigbus_faults), n;

	if (unlikely(q->broken || !q->running))
		return 0;
	if (unlikely(faults != q->faults_seen) && !memory_whole(q, faults))
		return 0;
	if (unlikely(q->n_resubmit))
		n = inflight_resubmit(q, chain, max);
	else
		n = q->packed ? packed_take(q, chain, max) : split_take(q, chain, max);
	counter_add(&q->counters.taken, n);
	return n;
}

/* All that the device may have written, whatever `written` says: status bytes stand behind the data. */
static void data_log(struct virtqueue *q)
{
	for (unsigned i = 0; i < q->n_done; i++) {
		const struct virtq_chain *c = q->done[i].chain;

		for (unsigned s = c->n_out; s < c->n_seg; s++)
			write_log(q, c->seg[s].gpa, c->seg[s].len);
	}
}

static bool take_call_owed(struct virtqueue *q)
{
	bool owed = q->call_owed;

	q->call_owed = false;
	return owed;
}

/* Without its memory the queue has no ring to publish to. */
static bool has_ring(const struct virtqueue *q)
{
	return likely(q->broken != VIRTQUEUE_UNMAPPED && q->desc);
}

void virtqueue_show(struct virtqueue *q)
{
	unsigned n = q->n_done;

	if (!n)
		return;
	if (has_ring(q)) {
		if (unlikely(q->log))
			data_log(q);
		if (q->packed)
			packed_show(q);
		else
			split_show(q);
		q->shown = true;
		counter_add(&q->counters.pushed, n);
	}
	q->n_done = 0;
}

bool virtqueue_publish(struct virtqueue *q)
{
	bool call;

	virtqueue_show(q);
	if (!q->shown || !has_ring(q))
		return take_call_owed(q);
	q->shown = false;
	call = q->packed ? packed_call_wanted(q) : split_call_wanted(q);
	call |= take_call_owed(q);
	counter_add(&q->counters.publishes, 1);
	counter_add(call ? &q->counters.calls_wanted : &q->counters.calls_suppressed, 1);
	return call;
}

static bool serves(const struct virtqueue *q)
{
	return q->running && !q->broken;
}

bool virtqueue_pending(const struct virtqueue *q)
{
	if (unlikely(!serves(q)))
		return false;
	return q->n_resubmit || (q->packed ? packed_pending(q) : split_pending(q));
}

bool virtqueue_kicks_on(struct virtqueue *q)
{
	bool pending;

	if (unlikely(!serves(q)))
		return false;
	pending = q->packed ? packed_kicks_on(q) : split_kicks_on(q);
	return pending || q->n_resubmit;
}

void virtqueue_kicks_off(struct virtqueue *q)
{
	if (unlikely(!serves(q)))
		return;
	if (q->packed)
		packed_kicks_off(q);
	else
		split_kicks_off(q);
}

void virtqueue_break(struct virtqueue *q, enum virtqueue_fault why)
{
	if (!q->broken)
		store_relaxed(&q->broken, why);
}

const char *virtqueue_fault_text(enum virtqueue_fault why)
{
	return (unsigned)why < ARRAY_SIZE(fault_text) ? fault_text[why] : "unknown";
}
