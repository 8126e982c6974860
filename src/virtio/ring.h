/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies in shared memory: the rings of VIRTIO 1.2 (2.7 split, 2.8 packed) and the vhost-user inflight regions. All
 * little-endian, and so are the hosts that this runs on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ring fields are read without conversion");

#define VIRTQ_DESC_F_NEXT 1u
#define VIRTQ_DESC_F_WRITE 2u
#define VIRTQ_DESC_F_INDIRECT 4u
#define VIRTQ_DESC_F_AVAIL (1u << 7)
#define VIRTQ_DESC_F_USED (1u << 15)

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

#define VIRTQ_AVAIL_F_NO_INTERRUPT 1u
/* Followed by used_event behind ring[size]. */
struct virtq_avail {
	uint16_t flags, idx;
	uint16_t ring[];
};

struct virtq_used_elem {
	uint32_t id, len;
};

#define VIRTQ_USED_F_NO_NOTIFY 1u
/* Followed by avail_event behind ring[size]. */
struct virtq_used {
	uint16_t flags, idx;
	struct virtq_used_elem ring[];
};

struct virtq_packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id, flags;
};

#define VIRTQ_EVENT_ENABLE 0u
#define VIRTQ_EVENT_DISABLE 1u
#define VIRTQ_EVENT_DESC 2u
struct virtq_packed_event {
	uint16_t off_wrap; /* bits 0-14 slot, bit 15 wrap counter */
	uint16_t flags;
};

/* vhost-user: "Inflight I/O tracking". */
#define VIRTQ_INFLIGHT_VERSION 1u

struct virtq_inflight_split_desc {
	uint8_t inflight;
	uint8_t pad[5];
	uint16_t next; /* the entry pushed before this one */
	uint64_t counter;
};

struct virtq_inflight_split {
	uint64_t features;
	uint16_t version, desc_num;
	uint16_t last_batch_head, used_idx;
	struct virtq_inflight_split_desc desc[];
};

struct virtq_inflight_packed_desc {
	uint8_t inflight;
	uint8_t pad;
	uint16_t next; /* in the free list, or in the chain that this entry belongs to */
	uint16_t last; /* head only: the chain's last entry */
	uint16_t num;  /* head only: the chain's length */
	uint64_t counter;
	uint16_t id, flags;
	uint32_t len;
	uint64_t addr;
};

/* The positions in the ring, here as one word: what must change together is stored together. */
union virtq_inflight_used {
	struct {
		uint16_t used_idx, old_used_idx;
		uint8_t used_wrap, old_used_wrap;
		uint8_t pad[2];
	};
	uint64_t word;
};

struct virtq_inflight_packed {
	uint64_t features;
	uint16_t version, desc_num;
	uint16_t free_head, old_free_head;
	union virtq_inflight_used used;
	uint8_t pad[8];
	struct virtq_inflight_packed_desc desc[];
};

_Static_assert(sizeof(struct virtq_desc) == 16 && sizeof(struct virtq_packed_desc) == 16, "descriptors");
_Static_assert(sizeof(struct virtq_inflight_split) == 16 && sizeof(struct virtq_inflight_split_desc) == 16,
	       "split inflight");
_Static_assert(sizeof(struct virtq_inflight_packed) == 32 && sizeof(struct virtq_inflight_packed_desc) == 32,
	       "packed inflight");
