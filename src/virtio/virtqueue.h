/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device's side of one virtqueue, split or packed, over a memory map (VIRTIO 1.2, 2.7 and 2.8), with the vhost-user
 * inflight record kept as the specification's "Inflight I/O tracking" says. No sockets and no devices here.
 *
 * Owned by one thread at a time: the worker that polls it.
 *
 *   take     reads up to `max` available chains, records them in the inflight region
 *   push     notes a completion; nothing is written to the ring yet
 *   show     makes all pushed completions visible in one store
 *   publish  shows, and tells whether the driver wants a call for what has been shown since the last publish
 *
 * The guest is hostile: every value is loaded once and checked. A fault sets `broken` (a reason) and from then on take
 * returns 0: the device never crashes, spins or reads past a table.
 */
#pragma once

#include "base/util.h"
#include "virtio/dirty_log.h"
#include "virtio/memmap.h"

#define VIRTQUEUE_SIZE_MAX 1024u
/* Descriptors in one chain: seg_max (126) + header + status, rounded up. More is a driver's fault. */
#define VIRTQUEUE_CHAIN_MAX 130u

#define VIRTIO_F_RING_INDIRECT_DESC_BIT 28
#define VIRTIO_F_RING_EVENT_IDX_BIT 29
#define VIRTIO_F_VERSION_1_BIT 32
#define VIRTIO_F_RING_PACKED_BIT 34

struct virtq_seg {
	uint64_t gpa;
	uint32_t len;
	uint32_t pad;
};

/* A request as the driver gave it: guest addresses only; translation is the device's, at dispatch. */
struct virtq_chain {
	uint16_t id;	/* split: head descriptor; packed: buffer id. < queue size; one chain per id at a time */
	uint16_t descs; /* packed: ring slots that it took */
	uint16_t n_seg; /* in all */
	uint16_t n_out; /* of these, device-readable (first) */
	uint32_t out_bytes, in_bytes;
	struct virtq_seg *seg; /* points into the queue; valid until push */
};

enum virtqueue_fault {
	VIRTQUEUE_OK,
	VIRTQUEUE_AVAIL_INDEX,	/* avail idx runs ahead by more than the ring */
	VIRTQUEUE_HEAD,		/* head or buffer id >= size, or already in flight */
	VIRTQUEUE_CHAIN_LOOP,	/* longer than the ring or VIRTQUEUE_CHAIN_MAX */
	VIRTQUEUE_INDIRECT,	/* indirect in indirect, odd table size, not negotiated, unmapped table */
	VIRTQUEUE_ORDER,	/* readable after writable descriptor */
	VIRTQUEUE_LENGTH,	/* lengths that overflow 32 bits */
	VIRTQUEUE_INFLIGHT,	/* inflight region's contents make no sense */
	VIRTQUEUE_UNMAPPED,	/* the ring itself left memory, or a memory file was truncated */
};

struct virtqueue_setup {
	uint16_t size;	  /* 1..VIRTQUEUE_SIZE_MAX; a power of two for split */
	bool packed, event_idx, indirect;
	uint64_t desc_uva, avail_uva, used_uva; /* packed: descriptor ring, driver area, device area */
	struct dirty_log *log; /* NULL: no logging */
	uint64_t used_log_gpa; /* split: where writes to the used ring are logged; 0: where it lies */
	/*
	 * SET_VRING_BASE: split: next avail index; packed: bit 15 avail wrap, 0-14 avail idx, 16-31 the same for used
	 */
	uint32_t base;
	void *inflight;	    /* this queue's part of the inflight region, or NULL */
	size_t inflight_bytes;
};

/* One writer: the owner. */
struct virtqueue_counters {
	uint64_t taken, pushed;
	uint64_t publishes;
	uint64_t calls_wanted, calls_suppressed; /* per publish */
};

struct virtqueue; /* defined in virtqueue_struct.h, for embedding by devices */

/* Bytes of one queue's part in the inflight region, as the specification lays it out (64-byte aligned). */
size_t virtqueue_inflight_bytes(uint16_t size, bool packed);

/*
 * Attaches to the rings: resolves addresses through `map` (kept by reference of the caller), recovers what the inflight
 * region says is outstanding (those chains are returned first by take, in submission order), allocates. The counters go
 * on. -EINVAL, -EFAULT (rings not in memory), -ENOMEM, -EPROTO (inflight contents make no sense).
 */
int virtqueue_start(struct virtqueue *q, const struct virtqueue_setup *setup, const struct memmap *map);
/*
 * All taken chains must have been pushed, or remain recorded in the inflight region. Returns the base for
 * GET_VRING_BASE.
 */
uint32_t virtqueue_stop(struct virtqueue *q);

/* New memory table for a running queue: resolves rings anew. -EFAULT: the queue is broken now. */
int virtqueue_remap(struct virtqueue *q, const struct memmap *map);
/* From now on. NULL: logging off. */
void virtqueue_set_log(struct virtqueue *q, struct dirty_log *log);

/* Up to `max` chains; pointers stay valid until push. 0 when none or broken. */
unsigned virtqueue_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max);
/*
 * Then virtqueue_push() for each (virtqueue_struct.h). A polling driver sees what is shown; one that sleeps is called for it by
 * the publish that has to follow. A no-op without pushes.
 */
void virtqueue_show(struct virtqueue *q);
/* True if the driver wants a call. A no-op when nothing was shown since the last one (but see start). */
bool virtqueue_publish(struct virtqueue *q);

/* Is anything available? One load; no side effects. */
bool virtqueue_pending(const struct virtqueue *q);
/*
 * Driver's kicks on or off. On: returns true if something came meanwhile (then look again); they stay on until turned
 * off.
 */
bool virtqueue_kicks_on(struct virtqueue *q);
void virtqueue_kicks_off(struct virtqueue *q);

/* Marks the queue broken; the first reason stays. */
void virtqueue_break(struct virtqueue *q, enum virtqueue_fault why);
const char *virtqueue_fault_text(enum virtqueue_fault why);
