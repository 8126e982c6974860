/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * struct virtqueue for those who embed it: all zero before its first start. Its fields are virtio/'s own, but
 * `counters` and `broken`, which others may read.
 */
#pragma once

#include "virtio/virtqueue.h"

/* Chains of so many segments or fewer have theirs in one cache line; longer ones move to a place of their own. */
#define VIRTQUEUE_SEGS_FEW 4u

struct virtq_done {
	struct virtq_chain *chain;
	uint32_t written;
	uint16_t id; /* the chain's */
};

struct virtqueue {
	/* What every take and publish needs. */
	bool packed, event_idx, indirect;
	bool running;
	bool avail_wrap, used_wrap; /* packed */
	bool signalled_valid;	    /* split: signalled_idx holds something */
	bool shown;		    /* something since a call was last considered */
	bool call_owed;		    /* the queue's last owner may have died between publishing and calling */
	uint16_t size;
	uint16_t avail_idx, used_idx; /* split: free running; packed: slots */
	uint16_t signalled_idx;	      /* split: used_idx when a call was last considered */
	uint16_t slots; /* packed: taken and not yet given back */
	uint16_t shown_slots; /* packed: given back since a call was last considered */
	uint16_t n_done;
	uint16_t n_resubmit, resubmit_at;
	enum virtqueue_fault broken;
	unsigned faults_seen; /* sigbus_faults when the memory was last found whole */

	/* split: descriptor table, avail ring, used ring; packed: descriptor ring, driver area, device area. */
	void *desc, *driver, *device;
	const struct memmap *map;
	struct dirty_log *log; /* NULL: no logging */
	void *inflight;

	struct virtq_chain *chain; /* by id; seg is NULL unless it is in flight */
	struct virtq_seg *few;
	struct virtq_seg *many; /* one more than ids: packed chains get long before their id is known */
	struct virtq_done *done;   /* pushed, not yet published */
	uint16_t last_id;	   /* split: published last, and the indirect table taken last: likely to come next */
	const void *last_table;
	uint16_t *resubmit;	   /* inflight entries to take first, in submission order */
	uint16_t *inflight_entry;  /* packed: by id, its first entry in the inflight region */
	uint64_t inflight_counter;

	/* For the dirty log: where the used ring is (packed: the descriptor ring; the device area). */
	uint64_t used_gpa, event_gpa;

	struct virtqueue_counters counters;

	/* For remap and stop. */
	struct virtqueue_setup setup;
	void *arena;
	size_t arena_bytes;
};

/*
 * Notes a completion. Written: bytes that the device wrote into the chain's writable part. Publish marks all of that part in
 * the dirty log.
 */
static inline void virtqueue_push(struct virtqueue *q, struct virtq_chain *chain, uint32_t written)
{
	/* A chain is in flight once, so there is always room. */
	q->done[q->n_done++] = (struct virtq_done){ .chain = chain, .written = written, .id = chain->id };
}
