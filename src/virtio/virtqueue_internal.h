/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What split.c, packed.c, inflight.c and virtqueue.c share: the builder of chains, and stores to shared memory that a test
 * can stop behind.
 */
#pragma once

#include "virtio/ring.h"
#include "virtio/virtqueue_struct.h"

#include <string.h>

/*
 * Passed after every store to the rings and to the inflight region. A test that defines VIRTQUEUE_FAULT_POINTS ends the
 * queue's owner there, for every point in turn, to prove that its successor recovers.
 */
#ifdef VIRTQUEUE_FAULT_POINTS
void virtqueue_fault_point(void);
#else
#define virtqueue_fault_point() ((void)0)
#endif

/* A store that the driver, or our successor after a crash, may see: once and untorn. */
#define shared_store(p, v)                  \
	do {                                \
		store_relaxed(p, v);        \
		virtqueue_fault_point();    \
	} while (0)

#define shared_store_release(p, v)          \
	do {                                \
		store_release(p, v);        \
		virtqueue_fault_point();    \
	} while (0)

/*
 * A store to the inflight region, in program order. Nobody reads the region while we live. When the process is killed, all
 * stores before the interrupted instruction are performed and none behind it, so only the compiler has to be kept from
 * moving them: no barrier instruction.
 */
#define inflight_store(p, v)                                \
	do {                                                \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);    \
		store_relaxed(p, v);                        \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);    \
		virtqueue_fault_point();                    \
	} while (0)

/* A descriptor in registers: the guest may change the original at any time. `addr` need not be aligned. */
struct desc_copy {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, id; /* split: `next` in place of the buffer id */
};

static inline struct desc_copy desc_load(const void *from)
{
	uint64_t words[2];

	memcpy(words, from, sizeof(words));
	/* From here on the compiler may not go back to guest memory for them. */
	__asm__ volatile("" : "+r"(words[0]), "+r"(words[1]));
	return (struct desc_copy){
		.addr = words[0], .len = (uint32_t)words[1], .flags = (uint16_t)(words[1] >> 32), .id = (uint16_t)(words[1] >> 48),
	};
}

static inline void chain_begin(struct virtq_chain *c, struct virtq_seg *seg)
{
	c->descs = 0;
	c->n_seg = c->n_out = 0;
	c->out_bytes = c->in_bytes = 0;
	c->seg = seg;
}

/* `many`: where the segments go when there are more than a few. */
static inline enum virtqueue_fault chain_append(struct virtq_chain *c, struct virtq_seg *many, uint64_t addr, uint32_t len,
						bool write)
{
	unsigned n = c->n_seg;

	if (unlikely(n >= VIRTQUEUE_SEGS_FEW)) {
		if (n == VIRTQUEUE_CHAIN_MAX)
			return VIRTQUEUE_CHAIN_LOOP;
		if (n == VIRTQUEUE_SEGS_FEW)
			c->seg = memcpy(many, c->seg, n * sizeof(*many));
	}
	if (write) {
		if (unlikely(__builtin_add_overflow(c->in_bytes, len, &c->in_bytes)))
			return VIRTQUEUE_LENGTH;
	} else {
		if (unlikely(c->n_out != n))
			return VIRTQUEUE_ORDER;
		if (unlikely(__builtin_add_overflow(c->out_bytes, len, &c->out_bytes)))
			return VIRTQUEUE_LENGTH;
		c->n_out = n + 1;
	}
	c->seg[n].gpa = addr;
	c->seg[n].len = len;
	c->n_seg = n + 1;
	return VIRTQUEUE_OK;
}

static inline struct virtq_seg *segs_few(const struct virtqueue *q, uint16_t id)
{
	return q->few + (size_t)id * VIRTQUEUE_SEGS_FEW;
}

static inline struct virtq_seg *segs_many(const struct virtqueue *q, uint16_t id)
{
	return q->many + (size_t)id * VIRTQUEUE_CHAIN_MAX;
}

/* An indirect table: host address and entries. NULL: VIRTQUEUE_INDIRECT. A table lies within one memory region. */
static inline const struct virtq_desc *indirect_table(const struct virtqueue *q, uint64_t addr, uint32_t len, uint32_t *ret_n)
{
	if (unlikely(!q->indirect || !len || len % sizeof(struct virtq_desc)))
		return NULL;
	*ret_n = len / sizeof(struct virtq_desc);
	return memmap_gpa(q->map, addr, len);
}

/* Marks [offset, offset+len) of the used ring (packed: of the descriptor ring) in the dirty log. */
static inline void used_log(const struct virtqueue *q, size_t offset, size_t len)
{
	if (unlikely(q->log && q->setup.log_used))
		dirty_log_mark(q->log, q->setup.used_gpa + offset, len);
}

/* VIRTIO 2.7.7.2: did the step from old to new pass event? */
static inline bool event_passed(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

/* A step of `n` slots in a packed ring; n is at most the ring's size. */
static inline void packed_step(uint16_t size, uint16_t *at, bool *wrap, unsigned n)
{
	unsigned next = *at + n;

	if (next >= size) {
		next -= size;
		*wrap = !*wrap;
	}
	*at = next;
}

/* The two kinds of ring. `split_parse` and `packed_reparse` build a chain anew from what the inflight region says. */
unsigned split_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max);
bool split_publish(struct virtqueue *q);
bool split_pending(const struct virtqueue *q);
bool split_kicks_on(struct virtqueue *q);
void split_kicks_off(struct virtqueue *q);
enum virtqueue_fault split_parse(struct virtqueue *q, uint16_t head, struct virtq_chain **ret);
unsigned packed_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max);
bool packed_publish(struct virtqueue *q);
bool packed_pending(const struct virtqueue *q);
bool packed_kicks_on(struct virtqueue *q);
void packed_kicks_off(struct virtqueue *q);
enum virtqueue_fault packed_reparse(struct virtqueue *q, uint16_t entry, struct virtq_chain **ret);
