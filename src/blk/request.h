/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtio-blk request from its descriptor chain to the store (VIRTIO 1.2, 5.2.6).
 *
 * Until it is dispatched a request consists of guest addresses only, so it can be held for minutes while the guest's memory
 * table changes. Dispatching translates it and locks nothing: the queue waits for its dispatched requests before it lets
 * the map go.
 */
#pragma once

#include "store/store.h"
#include "virtio/virtqueue.h"

#include <linux/virtio_blk.h>
#include <string.h>

struct blk_queue;
struct slo_flow;

/* A chain's segments may each be cut at the border of two memory regions. */
#define BLK_IOV_MAX (VIRTQUEUE_CHAIN_MAX + 14)
/* Ranges in one discard or write-zeroes request, as told in config space. */
#define BLK_RANGES_MAX 16u
/* Each of at most 2 GiB, so that a store's work for one request, which an end has to wait for, stays bounded. */
#define BLK_RANGE_SECTORS_MAX (1u << 22)
#define BLK_SERIAL_BYTES 20u

enum blk_count { BLK_COUNT_READ, BLK_COUNT_WRITE, BLK_COUNT_FLUSH, BLK_COUNT_DISCARD, BLK_COUNT_ZEROES, BLK_COUNT_ID,
		 BLK_COUNT_OTHER, BLK_COUNTS };

_Static_assert(VIRTIO_BLK_T_IN == (int)BLK_COUNT_READ && VIRTIO_BLK_T_OUT == (int)BLK_COUNT_WRITE &&
	       VIRTIO_BLK_T_IN == (int)STORE_READ && VIRTIO_BLK_T_OUT == (int)STORE_WRITE, "transfers have one number everywhere");

struct blk_request {
	struct store_io io; /* io.iov points to BLK_IOV_MAX entries of the queue's array */
	struct virtq_chain *chain;
	struct blk_queue *queue;
	struct blk_request *next; /* in the queue's list of requests that came back undispatched */
	uint64_t arrival_ns;
	uint64_t sector;
	uint64_t status_gpa;
	uint32_t type;	     /* VIRTIO_BLK_T_* */
	uint32_t data_bytes; /* payload without header and status */
	uint32_t undone_bytes; /* transfers: not done yet */
	uint32_t given_bytes; /* of data_bytes, done in parts before the rest came back from the gate */
	int result;	     /* of its parts: the first error */
	uint16_t range, ranges; /* discard, write zeroes: the one under way, and how many */
	/* The low 16 bits of the header's second word: some kernels use the upper half for their own purposes. */
	uint16_t ioprio;
	uint8_t what;	     /* enum blk_count */
	uint8_t status;	     /* answered by parsing it: VIRTIO_BLK_S_*, and how much was written */
	uint32_t written;
	struct slo_flow *passed; /* past the gate, by the lane of this flow; else NULL */
	struct blk_part *part; /* the gate's, of a request dispatched whole; NULL without a gate */
};

/* A part of a transfer, dispatched by itself. Owned by the gate. */
struct blk_slice {
	struct store_io io; /* io.iov points to BLK_IOV_MAX entries */
	struct blk_request *request;
	struct blk_part *part;
};

/* What the device promises the guest; read by workers, written by the control thread. */
struct blk_geometry {
	uint64_t capacity_sectors; /* atomic: resize */
	bool read_only;
	bool discard, write_zeroes;
	char serial[BLK_SERIAL_BYTES];
};

/*
 * Reads the header, finds payload and status byte. Returns
 *   1        to be dispatched
 *   0        answered already: r->status, r->written (GET_ID, unsupported, out of range, read-only)
 *   -EPROTO  no place for a status byte: the chain can only be returned with length 0
 */
int blk_request_parse(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g);

/*
 * Fills `io` for the store: op, range and host addresses. Of a transfer, the bytes [start, start+bytes) of its payload; of a
 * request with several ranges, the range r->range. 0, or -EIO when guest memory is not there or a range is out of bounds.
 */
int blk_request_translate(struct blk_request *r, struct store_io *io, const struct memmap *map, const struct blk_geometry *g,
			  bool write_through, uint32_t start, uint32_t bytes);

/* A header in registers: from here on the compiler may not go back to guest memory for it. */
static inline void blk_header_load(const void *from, uint64_t words[2])
{
	memcpy(words, from, sizeof(struct virtio_blk_outhdr));
	__asm__ volatile("" : "+r"(words[0]), "+r"(words[1]));
}

/*
 * Header and status are the misses that parsing and answering would wait for: the driver wrote them a moment ago. Fetched for
 * writing, because drivers put both into one cache line, so that the status costs no second transfer. Only a hint: nothing
 * is checked.
 */
static inline void blk_request_prefetch(const struct virtq_chain *c, const struct memmap *map)
{
	uint64_t first = c->seg[0].gpa, last = c->seg[c->n_seg - 1].gpa;

	__builtin_prefetch(memmap_gpa(map, first, 1), 1);
	if ((first ^ last) >= CACHE_LINE)
		__builtin_prefetch(memmap_gpa(map, last, 1), 1);
}

/*
 * What nearly all requests are: a transfer whose header, payload and status byte are one segment each, as drivers frame small
 * requests and large ones in huge pages. Read, checked and translated in one go; false: something else, or something wrong,
 * and nothing is decided.
 */
struct blk_plain {
	uint8_t *status;
	void *data;
	uint64_t sector;
	uint32_t bytes;
	uint32_t type; /* VIRTIO_BLK_T_IN or _OUT: 0 or 1 */
	uint16_t ioprio;
};

static inline bool blk_plain_read(const struct virtq_chain *c, const struct memmap *map, const struct blk_geometry *g,
				  struct blk_plain *ret)
{
	const struct virtq_seg *seg = c->seg;
	uint64_t words[2], capacity = load_relaxed(&g->capacity_sectors), sectors;
	const void *header;

	if (c->n_seg != 3 || seg[0].len != sizeof(words) || seg[2].len != 1)
		return false;
	header = memmap_gpa(map, seg[0].gpa, sizeof(words));
	ret->data = memmap_gpa(map, seg[1].gpa, seg[1].len);
	ret->status = memmap_gpa(map, seg[2].gpa, 1);
	if (unlikely(!header || !ret->data || !ret->status))
		return false;
	blk_header_load(header, words);
	ret->type = (uint32_t)words[0];
	if (unlikely(ret->type > VIRTIO_BLK_T_OUT || c->n_out != 1 + ret->type || (ret->type && g->read_only)))
		return false;
	ret->ioprio = (uint16_t)(words[0] >> 32);
	ret->sector = words[1];
	ret->bytes = seg[1].len;
	sectors = ret->bytes / STORE_SECTOR;
	return likely(sectors && ret->bytes % STORE_SECTOR == 0 && sectors <= capacity && ret->sector <= capacity - sectors);
}

/* What a discard or write-zeroes request covers, as far as its ranges can be read now; for the gate's charge. */
uint64_t blk_request_range_bytes(const struct blk_request *r, const struct memmap *map);

/* Writes the status byte; false if its memory is gone. */
static inline bool blk_request_put_status(const struct blk_request *r, const struct memmap *map, uint8_t status)
{
	uint8_t *p = memmap_gpa(map, r->status_gpa, 1);

	if (unlikely(!p))
		return false;
	store_relaxed(p, status);
	return true;
}
