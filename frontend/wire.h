/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user messages as the front-end sees them, from the specification and not from the back-end's headers: two
 * readings of one text that have to agree.
 */
#pragma once

#include <stdint.h>

enum front_message_type {
	FRONT_GET_FEATURES = 1,
	FRONT_SET_FEATURES = 2,
	FRONT_SET_OWNER = 3,
	FRONT_RESET_OWNER = 4,
	FRONT_SET_MEM_TABLE = 5,
	FRONT_SET_LOG_BASE = 6,
	FRONT_SET_LOG_FD = 7,
	FRONT_SET_VRING_NUM = 8,
	FRONT_SET_VRING_ADDR = 9,
	FRONT_SET_VRING_BASE = 10,
	FRONT_GET_VRING_BASE = 11,
	FRONT_SET_VRING_KICK = 12,
	FRONT_SET_VRING_CALL = 13,
	FRONT_SET_VRING_ERR = 14,
	FRONT_GET_PROTOCOL_FEATURES = 15,
	FRONT_SET_PROTOCOL_FEATURES = 16,
	FRONT_GET_QUEUE_NUM = 17,
	FRONT_SET_VRING_ENABLE = 18,
	FRONT_SET_BACKEND_REQ_FD = 21,
	FRONT_GET_CONFIG = 24,
	FRONT_SET_CONFIG = 25,
	FRONT_GET_INFLIGHT_FD = 31,
	FRONT_SET_INFLIGHT_FD = 32,
	FRONT_RESET_DEVICE = 34,
	FRONT_GET_MAX_MEM_SLOTS = 36,
	FRONT_ADD_MEM_REG = 37,
	FRONT_REM_MEM_REG = 38,
	FRONT_SET_STATUS = 39,
	FRONT_GET_STATUS = 40,
};

#define FRONT_FLAGS_VERSION 0x1u
#define FRONT_FLAGS_REPLY 0x4u
#define FRONT_FLAGS_NEED_REPLY 0x8u

/* Bits of GET_PROTOCOL_FEATURES. */
#define FRONT_PROTOCOL_MQ (1ull << 0)
#define FRONT_PROTOCOL_LOG_SHMFD (1ull << 1)
#define FRONT_PROTOCOL_REPLY_ACK (1ull << 3)
#define FRONT_PROTOCOL_BACKEND_REQ (1ull << 5)
#define FRONT_PROTOCOL_CONFIG (1ull << 9)
#define FRONT_PROTOCOL_BACKEND_SEND_FD (1ull << 10)
#define FRONT_PROTOCOL_INFLIGHT_SHMFD (1ull << 12)
#define FRONT_PROTOCOL_RESET_DEVICE (1ull << 13)
#define FRONT_PROTOCOL_CONFIGURE_MEM_SLOTS (1ull << 15)
#define FRONT_PROTOCOL_STATUS (1ull << 16)

/* Bits of GET_FEATURES that belong to the transport. */
#define FRONT_F_LOG_ALL (1ull << 26)
#define FRONT_F_PROTOCOL_FEATURES (1ull << 30)

struct front_wire_header {
	uint32_t request, flags, size;
} __attribute__((packed));

struct front_wire_region {
	uint64_t gpa, size, uva, mmap_offset;
} __attribute__((packed));

struct front_wire_memory {
	uint32_t n, pad;
	struct front_wire_region region[8];
} __attribute__((packed));

struct front_wire_region_single {
	uint64_t pad;
	struct front_wire_region region;
} __attribute__((packed));

struct front_wire_vring_state {
	uint32_t index, num;
} __attribute__((packed));

struct front_wire_vring_addr {
	uint32_t index, flags; /* flags bit 0: log the used ring */
	uint64_t desc, used, avail, log;
} __attribute__((packed));

#define FRONT_VRING_NO_FD 0x100u

struct front_wire_config {
	uint32_t offset, size, flags;
	uint8_t payload[256];
} __attribute__((packed));

/* 24 bytes: the specification counts 20, but QEMU sends its compiler's padding, too, and DPDK insists on it. */
struct front_wire_inflight {
	uint64_t mmap_size, mmap_offset;
	uint16_t num_queues, queue_size;
	uint32_t padding;
} __attribute__((packed));

struct front_wire_log {
	uint64_t size, offset;
} __attribute__((packed));

union front_wire_body {
	uint64_t u64;
	struct front_wire_memory memory;
	struct front_wire_region_single region;
	struct front_wire_vring_state state;
	struct front_wire_vring_addr addr;
	struct front_wire_config config;
	struct front_wire_inflight inflight;
	struct front_wire_log log;
	uint8_t bytes[1024];
};

struct front_wire_message {
	struct front_wire_header header;
	union front_wire_body body;
} __attribute__((packed));
