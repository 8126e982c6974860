/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhost-user protocol as it stands on the wire: numbers and layouts of the QEMU document "Vhost-user Protocol",
 * in the host's byte order. Nothing here has behaviour.
 */
#pragma once

#include <stdint.h>

#define VHOST_REGIONS_PER_TABLE 8u /* SET_MEM_TABLE; more only with ADD_MEM_REG */
#define VHOST_FDS_MAX VHOST_REGIONS_PER_TABLE
#define VHOST_CONFIG_MAX 256u

/* Feature bits that belong to the transport and not to a device. */
#define VHOST_F_LOG_ALL_BIT 26
#define VHOST_F_PROTOCOL_FEATURES_BIT 30

enum vhost_protocol_feature {
	VHOST_PROTOCOL_MQ = 0,
	VHOST_PROTOCOL_LOG_SHMFD = 1,
	VHOST_PROTOCOL_REPLY_ACK = 3,
	VHOST_PROTOCOL_BACKEND_REQ = 5,
	VHOST_PROTOCOL_CONFIG = 9,
	VHOST_PROTOCOL_INFLIGHT_SHMFD = 12,
	VHOST_PROTOCOL_RESET_DEVICE = 13,
	VHOST_PROTOCOL_MEM_SLOTS = 15,
	VHOST_PROTOCOL_STATUS = 16,
	VHOST_PROTOCOL_BASE_INFLIGHT = 20, /* GET_VRING_BASE leaves requests in the inflight region */
	VHOST_PROTOCOL_SKIP_DRAIN = 23,	   /* ... or rather the message of that name does, and GET_VRING_BASE drains */
};

enum vhost_request {
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_RESET_OWNER = 4,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_LOG_BASE = 6,
	VHOST_SET_LOG_FD = 7,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_SET_VRING_ERR = 14,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SET_BACKEND_REQ_FD = 21,
	VHOST_GET_CONFIG = 24,
	VHOST_SET_CONFIG = 25,
	VHOST_GET_INFLIGHT_FD = 31,
	VHOST_SET_INFLIGHT_FD = 32,
	VHOST_RESET_DEVICE = 34,
	VHOST_GET_MAX_MEM_SLOTS = 36,
	VHOST_ADD_MEM_REG = 37,
	VHOST_REM_MEM_REG = 38,
	VHOST_SET_STATUS = 39,
	VHOST_GET_STATUS = 40,
	VHOST_GET_VRING_BASE_SKIP_DRAIN = 45,
	VHOST_REQUESTS,
};

/* From back-end to front-end, on the channel that SET_BACKEND_REQ_FD gave. */
enum vhost_backend_request { VHOST_BACKEND_CONFIG_CHANGED = 2 };

#define VHOST_VERSION 0x1u
#define VHOST_VERSION_MASK 0x3u
#define VHOST_REPLY 0x4u
#define VHOST_NEED_REPLY 0x8u

/* In the 64-bit payload of SET_VRING_KICK, CALL and ERR. */
#define VHOST_VRING_INDEX_MASK 0xffu
#define VHOST_VRING_NO_FD 0x100u

#define VHOST_VRING_ADDR_LOG 0x1u

struct vhost_header {
	uint32_t request, flags, size;
};

struct vhost_vring_number {
	uint32_t index, num;
};

struct vhost_vring_addresses {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct vhost_region {
	uint64_t gpa, size, uva, mmap_offset;
};

struct vhost_mem_table {
	uint32_t n, padding;
	struct vhost_region region[VHOST_REGIONS_PER_TABLE];
};

struct vhost_mem_reg {
	uint64_t padding;
	struct vhost_region region;
};

struct vhost_log_area {
	uint64_t size, offset;
};

struct vhost_config {
	uint32_t offset, size, flags;
	uint8_t bytes[VHOST_CONFIG_MAX];
};
#define VHOST_CONFIG_HEAD 12u

struct vhost_inflight_area {
	uint64_t size, offset;
	uint16_t queues, queue_size;
	/* Not in the document; front-ends written in C send it, packed structs do not have it. */
	uint32_t padding;
};
#define VHOST_INFLIGHT_PACKED 20u

union vhost_payload {
	uint64_t u64;
	struct vhost_vring_number number;
	struct vhost_vring_addresses addresses;
	struct vhost_mem_table table;
	struct vhost_mem_reg reg;
	struct vhost_log_area log;
	struct vhost_config config;
	struct vhost_inflight_area inflight;
};

_Static_assert(sizeof(struct vhost_header) == 12, "wire layout");
_Static_assert(sizeof(struct vhost_vring_addresses) == 40, "wire layout");
_Static_assert(sizeof(struct vhost_mem_table) == 8 + 8 * 32, "wire layout");
_Static_assert(sizeof(struct vhost_mem_reg) == 40, "wire layout");
_Static_assert(sizeof(struct vhost_config) == VHOST_CONFIG_HEAD + VHOST_CONFIG_MAX, "wire layout");
_Static_assert(sizeof(struct vhost_inflight_area) == 24, "wire layout");
