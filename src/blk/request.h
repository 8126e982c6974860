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

struct blk_queue;

/* A chain's segments may each be cut at the border of two memory regions. */
#define BLK_IOV_MAX (VIRTQUEUE_CHAIN_MAX + 14)
/* Ranges in one discard or write-zeroes request, as told in config space. */
#define BLK_RANGES_MAX 16u
#define BLK_SERIAL_BYTES 20u

enum blk_count { BLK_COUNT_READ, BLK_COUNT_WRITE, BLK_COUNT_FLUSH, BLK_COUNT_DISCARD, BLK_COUNT_ZEROES, BLK_COUNT_ID,
		 BLK_COUNT_OTHER, BLK_COUNTS };

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
	uint32_t given_bytes; /* of these, done in parts before the rest came back from the gate */
	uint32_t undone_bytes; /* transfers: not done yet */
	int result;	     /* of its parts: the first error */
	uint16_t ioprio;     /* the low 16 bits of the header's second word */
	uint8_t what;	     /* enum blk_count */
	uint16_t range, ranges; /* discard, write zeroes: the one under way, and how many */
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
 *   0        answered already: *ret_status, *ret_written (GET_ID, unsupported, out of range, read-only)
 *   -EPROTO  no place for a status byte: the chain can only be returned with length 0
 */
int blk_request_parse(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g, uint8_t *ret_status,
		      uint32_t *ret_written);

/*
 * Fills `io` for the store: op, range and host addresses. Of a transfer, the bytes [start, start+bytes) of its payload; of a
 * request with several ranges, the range r->range. 0, or -EIO when guest memory is not there or a range is out of bounds.
 */
int blk_request_translate(struct blk_request *r, struct store_io *io, const struct memmap *map, const struct blk_geometry *g,
			  bool write_through, uint32_t start, uint32_t bytes);

/* What a discard or write-zeroes request covers, as far as its ranges can be read now; for the gate's charge. */
uint64_t blk_request_range_bytes(const struct blk_request *r, const struct memmap *map);

/* Writes the status byte; false if its memory is gone. */
bool blk_request_put_status(const struct blk_request *r, const struct memmap *map, uint8_t status);
