/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of one virtqueue, split or packed, written against the kernel's own ring headers so that it checks
 * the device's side independently. One thread at a time; no sockets here.
 */
#pragma once

#include "frontend/memory.h"

#include <linux/virtio_ring.h>

struct front_ring_config {
	uint16_t size; /* a power of two for split */
	bool packed, event_idx, indirect;
	uint16_t segs_max; /* descriptors in one chain; sizes the indirect tables */
};

struct front_buf {
	uint64_t gpa;
	uint32_t len;
};

/* What the driver remembers of a buffer id. */
struct front_slot {
	void *cookie;
	uint16_t next;  /* free list */
	uint16_t descs; /* ring descriptors that it holds */
	uint16_t last;  /* split: the chain's last descriptor */
	bool busy;
};

struct front_ring {
	struct front_ring_config config;
	struct front_memory *memory;
	/* In guest memory. split: descriptors, avail, used; packed: descriptors, driver events, device events. */
	void *desc, *driver, *device;
	struct vring_desc *tables;
	unsigned table_stride;

	struct front_slot *slot;
	uint16_t free_head, n_free; /* split: descriptors; packed: ids, and free ring slots in n_free */
	uint16_t next_avail, published, last_used;
	uint16_t used_seen; /* split: the device's idx when it was last read; up to it nobody has to look again */
	bool avail_wrap, used_wrap;
	uint16_t outstanding;
	uint16_t pending_first_flags, pending_first; /* packed: the head flags kept back until publish */
	bool pending;
};

/* Rings, and tables for indirect, in `memory`. Returns 0 or -errno. */
int front_ring_init(struct front_ring *r, const struct front_ring_config *config, struct front_memory *memory);
void front_ring_fini(struct front_ring *r);

/*
 * Adds a chain, not yet visible: first `n_out` buffers that the device reads, then `n_in` that it writes. -ENOSPC:
 * full.
 */
int front_ring_add(struct front_ring *r, const struct front_buf *buf, unsigned n_out, unsigned n_in, void *cookie);
/* Makes all added chains visible. True if the device wants a kick. */
bool front_ring_publish(struct front_ring *r);
/* The next completion's cookie, or NULL. -EPROTO in `ret_error` if the device gave back what it does not have. */
void *front_ring_get(struct front_ring *r, uint32_t *ret_written, int *ret_error);

/* Calls wanted or not. On: true if something is there already. */
bool front_ring_calls_on(struct front_ring *r);
void front_ring_calls_off(struct front_ring *r);

/* What SET_VRING_BASE says when nothing is outstanding. */
uint32_t front_ring_base(const struct front_ring *r);
