/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver's ring (frontend/) and a device's queue (src/virtio/) on the same memory, in one thread. For tests.
 */
#pragma once

#include "frontend/ring.h"
#include "virtio/virtqueue_struct.h"

#include <string.h>
#include <sys/mman.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct rig {
	struct front_memory memory;
	struct front_ring ring;
	struct memmap *map;
	struct virtqueue_setup setup;
	struct virtqueue queue;
	uint64_t data_gpa;
};

struct rig_mode {
	uint16_t size;
	bool packed, event_idx, indirect, inflight;
};

/* Rings and queue from the beginning; the queue is not started. */
static inline void rig_reset(struct rig *g, const struct rig_mode *m)
{
	struct front_ring_config c = { .size = m->size, .packed = m->packed, .event_idx = m->event_idx,
				       .indirect = m->indirect, .segs_max = 16 };
	void *data;

	virtqueue_stop(&g->queue);
	memset(&g->queue, 0, sizeof(g->queue));
	memset(g->memory.base, 0, g->memory.used);
	g->memory.used = 0;
	front_ring_fini(&g->ring);
	assert_int_equal(front_ring_init(&g->ring, &c, &g->memory), 0);
	data = g->memory.base + (4 << 20);
	g->data_gpa = front_memory_gpa(&g->memory, data);
	free(g->setup.inflight);
	g->setup = (struct virtqueue_setup){
		.size = m->size, .packed = m->packed, .event_idx = m->event_idx, .indirect = m->indirect,
		.desc_uva = front_memory_uva(g->ring.desc), .avail_uva = front_memory_uva(g->ring.driver),
		.used_uva = front_memory_uva(g->ring.device), .base = front_ring_base(&g->ring),
	};
	if (!m->inflight)
		return;
	g->setup.inflight_bytes = virtqueue_inflight_bytes(m->size, m->packed);
	g->setup.inflight = aligned_alloc(CACHE_LINE, g->setup.inflight_bytes);
	assert_non_null(g->setup.inflight);
	memset(g->setup.inflight, 0, g->setup.inflight_bytes);
}

/* All but started. */
static inline void rig_prepare(struct rig *g, const struct rig_mode *m)
{
	struct memmap_region_spec spec;

	memset(g, 0, sizeof(*g));
	assert_int_equal(front_memory_init(&g->memory, 8 << 20, 1, false), 0);
	spec = (struct memmap_region_spec){ .gpa = g->memory.region[0].gpa, .size = g->memory.region[0].size,
					    .uva = g->memory.region[0].uva, .fd = g->memory.fd };
	assert_int_equal(memmap_create(&spec, 1, &g->map), 0);
	rig_reset(g, m);
}

static inline void rig_init(struct rig *g, const struct rig_mode *m)
{
	rig_prepare(g, m);
	assert_int_equal(virtqueue_start(&g->queue, &g->setup, g->map), 0);
}

static inline void rig_fini(struct rig *g)
{
	virtqueue_stop(&g->queue);
	free(g->setup.inflight);
	memmap_put(g->map);
	front_ring_fini(&g->ring);
	front_memory_fini(&g->memory);
}

/*
 * `n` descriptors, the last of which the device writes; gpas and lengths follow from `tag`, so that they can be
 * checked.
 */
static inline int rig_add(struct rig *g, unsigned n, uintptr_t tag)
{
	struct front_buf b[16];

	for (unsigned i = 0; i < n; i++)
		b[i] = (struct front_buf){ .gpa = g->data_gpa + tag % 512 * 1024 + i, .len = 1 + i + tag % 7 };
	return front_ring_add(&g->ring, b, n - 1, 1, (void *)(tag + 1));
}

static inline void rig_chain_check(const struct rig *g, const struct virtq_chain *c, unsigned n, uintptr_t tag)
{
	uint32_t out = 0;

	assert_int_equal(c->n_seg, n);
	assert_int_equal(c->n_out, n - 1);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(c->seg[i].gpa, g->data_gpa + tag % 512 * 1024 + i);
		assert_int_equal(c->seg[i].len, 1 + i + tag % 7);
		out += i + 1 < n ? c->seg[i].len : 0;
	}
	assert_int_equal(c->out_bytes, out);
	assert_int_equal(c->in_bytes, c->seg[n - 1].len);
}

/* The next completion's tag, or -1. */
static inline intptr_t rig_get(struct rig *g, uint32_t *ret_written)
{
	int error = 0;
	void *cookie = front_ring_get(&g->ring, ret_written, &error);

	assert_int_equal(error, 0);
	return (intptr_t)cookie - 1;
}
