/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What split.c, packed.c, inflight.c and virtqueue.c share: the builder of chains, and stores to shared memory that a
 * test can stop behind.
 */
#pragma once

#include "virtio/ring.h"
#include "virtio/virtqueue_struct.h"

#include <string.h>

/*
 * Passed after every store to the rings and to the inflight region, and every mark in the dirty log. A test that defines
 * VIRTQUEUE_FAULT_POINTS ends the queue's owner there, for every point in turn, to prove that its successor recovers.
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
 * A store to the inflight region, in program order. Nobody reads the region while we live. When the process is killed,
 * all stores before the interrupted instruction are performed and none behind it, so only the compiler has to be kept
 * from moving them: no barrier instruction.
 */
#define inflight_store(p, v)                                \
	do {                                                \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);    \
		store_relaxed(p, v);                        \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);    \
		virtqueue_fault_point();                    \
	} while (0)

/* Where the compiler's own choice would put a chain that is being read into memory. */
#define always_inline inline __attribute__((always_inline))

/* A descriptor in registers: the guest may change the original at any time. `addr` need not be aligned. */
struct desc_copy {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, id; /* split: `next` in place of the buffer id */
};

static always_inline struct desc_copy desc_load(const void *from)
{
	uint64_t words[2];

	memcpy(words, from, sizeof(words));
	/* From here on the compiler may not go back to guest memory for them. */
	__asm__ volatile("" : "+r"(words[0]), "+r"(words[1]));
	return (struct desc_copy){
		.addr = words[0], .len = (uint32_t)words[1],
		.flags = (uint16_t)(words[1] >> 32), .id = (uint16_t)(words[1] >> 48),
	};
}

/* A chain while it is read: lives in registers, and moves to the queue's table when it is whole. */
struct chain_build {
	struct virtq_seg *seg, *at, *end; /* the first; the next; behind the last that there is room for */
	struct virtq_seg *out_end;	  /* behind the last device-readable one */
	uint64_t out_bytes, in_bytes;	  /* at most VIRTQUEUE_CHAIN_MAX x 4 GiB: checked once, at the end */
};

static always_inline struct chain_build chain_begin(struct virtq_seg *few)
{
	return (struct chain_build){ .seg = few, .at = few, .end = few + VIRTQUEUE_SEGS_FEW, .out_end = few };
}

static inline struct virtq_seg *segs_few(const struct virtqueue *q, uint16_t id)
{
	return q->few + (size_t)id * VIRTQUEUE_SEGS_FEW;
}

/* Behind the last id's there is one more. */
static inline struct virtq_seg *segs_many(const struct virtqueue *q, uint16_t place)
{
	return q->many + (size_t)place * VIRTQUEUE_CHAIN_MAX;
}

/* More than a few segments: they move to `place` among the long ones, where there is room for as many as there may be. */
static inline enum virtqueue_fault chain_grow(struct chain_build *b, const struct virtqueue *q, uint16_t place)
{
	struct virtq_seg *many = segs_many(q, place);

	if (b->end - b->seg == VIRTQUEUE_CHAIN_MAX)
		return VIRTQUEUE_CHAIN_LOOP;
	b->out_end = many + (b->out_end - b->seg);
	b->at = many + (b->at - b->seg);
	b->seg = memcpy(many, b->seg, VIRTQUEUE_SEGS_FEW * sizeof(*many));
	b->end = many + VIRTQUEUE_CHAIN_MAX;
	return VIRTQUEUE_OK;
}

/* `place`: where it goes when it gets long: its id, if that is known, else the queue's size. */
static always_inline enum virtqueue_fault chain_append(struct chain_build *b, const struct virtqueue *q, uint16_t place,
						       uint64_t addr, uint32_t len, bool write)
{
	if (unlikely(b->at == b->end) && chain_grow(b, q, place) != VIRTQUEUE_OK)
		return VIRTQUEUE_CHAIN_LOOP;
	b->at->gpa = addr;
	b->at->len = len;
	if (write) {
		b->in_bytes += len;
		b->at++;
		return VIRTQUEUE_OK;
	}
	if (unlikely(b->out_end != b->at))
		return VIRTQUEUE_ORDER;
	b->out_bytes += len;
	b->out_end = ++b->at;
	return VIRTQUEUE_OK;
}

static inline enum virtqueue_fault chain_finish(const struct chain_build *b, struct virtq_chain *c, uint16_t id,
						uint16_t descs, struct virtq_seg *seg)
{
	if (unlikely((b->out_bytes | b->in_bytes) > UINT32_MAX))
		return VIRTQUEUE_LENGTH;
	*c = (struct virtq_chain){
		.id = id, .descs = descs, .n_seg = (uint16_t)(b->at - b->seg), .n_out = (uint16_t)(b->out_end - b->seg),
		.out_bytes = b->out_bytes, .in_bytes = b->in_bytes, .seg = seg,
	};
	return VIRTQUEUE_OK;
}

/* Only now: a driver that offers an id again before it was given back is at fault. */
static inline void chain_given_back(struct virtq_chain *c)
{
	c->seg = NULL;
}

/* An indirect table: host address and entries. NULL: VIRTQUEUE_INDIRECT. A table lies within one memory region. */
static inline const struct virtq_desc *indirect_table(const struct virtqueue *q, uint64_t addr, uint32_t len,
						      uint32_t *ret_n)
{
	if (unlikely(!q->indirect || !len || len % sizeof(struct virtq_desc)))
		return NULL;
	*ret_n = len / sizeof(struct virtq_desc);
	return memmap_gpa(q->map, addr, len);
}

/* Marks what has been written in the dirty log. Behind it a test may look, too. */
static inline void write_log(const struct virtqueue *q, uint64_t gpa, uint64_t len)
{
	if (likely(!q->log))
		return;
	dirty_log_mark(q->log, gpa, len);
	virtqueue_fault_point();
}

/* The same for [offset, offset+len) of the used ring (packed: of the descriptor ring). */
static inline void used_log(const struct virtqueue *q, size_t offset, size_t len)
{
	write_log(q, q->used_gpa + offset, len);
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
void split_show(struct virtqueue *q);
bool split_call_wanted(struct virtqueue *q);
bool split_pending(const struct virtqueue *q);
bool split_kicks_on(struct virtqueue *q);
void split_kicks_off(struct virtqueue *q);
enum virtqueue_fault split_parse(struct virtqueue *q, uint16_t head, struct virtq_chain **ret);
unsigned packed_take(struct virtqueue *q, struct virtq_chain *chain[], unsigned max);
void packed_show(struct virtqueue *q);
bool packed_call_wanted(struct virtqueue *q);
bool packed_pending(const struct virtqueue *q);
bool packed_kicks_on(struct virtqueue *q);
void packed_kicks_off(struct virtqueue *q);
enum virtqueue_fault packed_reparse(struct virtqueue *q, uint16_t entry, struct virtq_chain **ret);
