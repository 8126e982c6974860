/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user-blk front-end: memory, rings, messages and requests of a driver without a guest, for tests, fuzzers and
 * benchmarks. It drives any back-end and shares no code with ours.
 *
 *   frontend_create    memory; nothing is connected yet
 *   frontend_attach    connects and negotiates like QEMU, starts all queues; after the back-end's death: once more, with
 *                      the same memory, rings and inflight region
 *   front_submit ...   per queue; one thread a queue at a time
 *
 * A session (struct frontend) belongs to one thread; its queues may be driven by others between attach and detach.
 */
#pragma once

#include "frontend/memory.h"
#include "frontend/message.h"
#include "frontend/ring.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>

struct frontend_config {
	const char *path;	/* where the back-end listens; copied */
	unsigned queues;
	uint16_t queue_size;
	bool packed, event_idx, indirect; /* asked for; used if the back-end offers them */
	bool inflight;		/* keep an inflight region, as QEMU does, if the back-end can */
	bool calls;		/* front_run() sleeps until the call eventfd is signalled; without it, it polls */
	bool mem_slots;		/* ADD_MEM_REG instead of SET_MEM_TABLE, if the back-end can */
	uint64_t features_masked;   /* device features not to accept */
	uint64_t protocol_masked;   /* protocol features not to accept */
	uint16_t data_segs_max;	/* per request, besides header and status; 0: 6 */
	size_t data_bytes;	/* guest memory for frontend_alloc() */
	unsigned regions;	/* 0: one */
	bool huge;		/* hugetlb memory */
};

struct front_request {
	uint32_t type; /* VIRTIO_BLK_T_* */
	uint32_t ioprio;
	uint64_t sector;
	const struct front_buf *data; /* in guest memory: front_buf_of() */
	unsigned n_data;
	void *owner;

	uint8_t status; /* VIRTIO_BLK_S_*, 0xff: the device has not written it */
	uint32_t written;
	uint16_t tag; /* internal */
};

/* Header and status of one request, in guest memory. */
struct front_area {
	struct virtio_blk_outhdr header;
	uint8_t status;
} cache_aligned;

struct front_queue {
	struct front_ring ring;
	struct front_memory *memory;
	struct front_area *area; /* by tag */
	uint16_t *free_tag, n_free_tags;
	int kick_fd, call_fd;
	bool sleeps;		 /* front_run() sleeps on call_fd, not polls */
	int error;		 /* -EPROTO: the device gave back what it does not have */
	uint64_t kicks;		 /* sent */
	uint64_t calls;		 /* as far as front_wait() has read them */
};

struct frontend {
	struct frontend_config config;
	char *path;
	int fd;	       /* the connection, or -1 */
	uint64_t features, protocol_features; /* negotiated */
	uint64_t features_offered, protocol_offered;
	unsigned queues_offered;
	struct front_memory memory;
	struct front_queue *queue;
	bool rings_made;
	int inflight_fd;
	struct front_wire_inflight inflight;
};

int frontend_create(const struct frontend_config *config, struct frontend **ret);
void frontend_destroy(struct frontend *f);

/* Returns 0 or -errno; -EPROTO also when a back-end that came back lacks features in use. */
int frontend_attach(struct frontend *f);
/* The same over a connected socket, which it takes over. */
int frontend_attach_fd(struct frontend *f, int fd);
/* Closes the connection without a word. */
void frontend_detach(struct frontend *f);

/* The steps of attach, for those who want to leave some out. */
int frontend_negotiate(struct frontend *f);
int frontend_memory_send(struct frontend *f);
int frontend_inflight_send(struct frontend *f);
/* Rings in memory for what was negotiated; attach does it at its first time. */
int frontend_queue_make(struct frontend *f, unsigned queue);
int frontend_queue_start(struct frontend *f, unsigned queue, uint32_t base);
/* GET_VRING_BASE. */
int frontend_queue_stop(struct frontend *f, unsigned queue, uint32_t *ret_base);
int frontend_queue_enable(struct frontend *f, unsigned queue, bool on);

/*
 * Any message without a reply of its own; awaits the acknowledgement where REPLY_ACK was negotiated. -EREMOTEIO:
 * refused.
 */
int frontend_set(struct frontend *f, uint32_t request, const void *body, uint32_t size, const int *fds, unsigned n_fds);

int frontend_config_read(struct frontend *f, uint32_t offset, void *to, uint32_t n);
int frontend_config_write(struct frontend *f, uint32_t offset, const void *from, uint32_t n);

/* Guest memory for data; aligned to 4 KiB. */
void *frontend_alloc(struct frontend *f, size_t bytes);

static inline struct front_buf front_buf_of(const struct frontend *f, const void *p, uint32_t len)
{
	return (struct front_buf){ .gpa = front_memory_gpa(&f->memory, p), .len = len };
}

/* Adds a request, not yet visible. -ENOSPC: the ring is full. The request must stay until it is completed. */
int front_submit(struct front_queue *q, struct front_request *r);
/* Makes what was submitted visible, and kicks if the device asked for it. */
void front_kick(struct front_queue *q);
/* The next completed request or NULL. */
struct front_request *front_poll(struct front_queue *q);
/* Sleeps on the call eventfd until something is completed. -ETIMEDOUT or -errno. */
int front_wait(struct front_queue *q, int timeout_ms);
/* One request from submission to completion, polling or sleeping; -ETIMEDOUT after FRONT_HANG_MS, -EIO unless S_OK. */
int front_run(struct front_queue *q, struct front_request *r);
