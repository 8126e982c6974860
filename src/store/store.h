/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where blocks live. A *pool* is one physical device (or folder, or model); a *disk* is one image in it; a *channel* is
 * one worker's access to one pool. Everything a store does on the data path happens on the channel's worker.
 *
 *   pool, disk: control thread          channel: its worker
 *
 * To add a store: one file that defines a `struct store_ops`, a line in store.c's table, a word in the policy. HACKING.md
 * has the list.
 */
#pragma once

#include "base/util.h"
#include "worker/worker.h"

#include <errno.h>
#include <sys/uio.h>

#define STORE_SECTOR 512u

enum store_op { STORE_READ, STORE_WRITE, STORE_FLUSH, STORE_DISCARD, STORE_WRITE_ZEROES, STORE_OPS };

enum store_flag {
	STORE_FUA = 1,	 /* write: durable when done */
	STORE_UNMAP = 2, /* write zeroes: may deallocate */
};

struct store_disk;
struct store_channel;

/* One request. Owned by the caller; untouched by it from submit until `done`. */
struct store_io {
	enum store_op op;
	uint8_t flags;
	uint16_t iovcnt;
	struct iovec *iov; /* the store may change it (short transfers) */
	uint64_t offset_bytes, length_bytes;
	struct store_disk *disk;
	/* result: 0 or -errno; on the channel's worker. */
	void (*done)(struct store_io *, int result);
	/* The store's own. */
	struct worker_cqe cqe;
	struct store_channel *channel;
	struct store_io *next;
	uint64_t scratch[4];
};

/* One writer: the channel's worker. They belong to whoever opens the channel, and outlive it. */
struct store_counters {
	uint64_t ops[STORE_OPS], bytes[STORE_OPS], errors;
	uint64_t busy_ns;      /* model: device time given out */
	uint64_t bounced;      /* file: requests copied because of alignment */
	uint64_t short_transfers;
};

struct store_pool_options {
	const char *name;
	const char *type;      /* "null" "ram" "model" "file" */
	const char *directory; /* file */
	unsigned depth;	       /* requests in flight that the device makes use of */
	unsigned channels;     /* model */
	uint64_t read_latency_ns, write_latency_ns, flush_latency_ns;
	uint64_t byte_time_ps;
	bool huge_pages;       /* ram: use them if there are any */
};

struct store_disk_options {
	const char *name;
	const char *image;    /* path beneath the pool's directory; NULL for others */
	uint64_t size_bytes;  /* 0: the image's own. A file that is there keeps its size; else one is made */
	bool read_only;
	int fd;		      /* >= 0: an image open already (--blk-file), stays the caller's; -1: open `image` */
};

struct store_limits {
	uint32_t block_size;   /* logical block, 512 or more */
	uint32_t physical_block_size;
	bool discard, write_zeroes;
	bool buffered;	       /* file: O_DIRECT was impossible */
};

struct store_pool {
	const struct store_ops *ops;
	char *name;
	unsigned depth;
};

struct store_disk {
	struct store_pool *pool;
	uint64_t size_bytes; /* atomically read by workers, written by control (resize) */
	bool read_only;
	struct store_limits limits;
};

struct store_channel {
	struct store_pool *pool;
	struct worker *worker;
	unsigned in_flight;
	struct store_counters *counters;
};

/* Sizes are those of the structs that begin with the ones above; 0: of these themselves. */
struct store_ops {
	const char *type;
	size_t pool_size, disk_size, channel_size;
	/* Control thread; 0 or -errno. Optional except disk_open. */
	int (*pool_open)(struct store_pool *, const struct store_pool_options *);
	void (*pool_close)(struct store_pool *);
	int (*disk_open)(struct store_disk *, const struct store_disk_options *);
	/* Takes back what disk_open has made and nobody has used; disk_close follows. Optional. */
	void (*disk_unmake)(struct store_disk *);
	void (*disk_close)(struct store_disk *);
	int (*disk_resize)(struct store_disk *, uint64_t size_bytes);
	/* Image lock, from first ring start to last ring stop; -EAGAIN: another process holds it. Optional. */
	int (*disk_lock)(struct store_disk *);
	void (*disk_unlock)(struct store_disk *);
	/* The channel's worker. */
	int (*channel_open)(struct store_channel *);
	void (*channel_close)(struct store_channel *);
	/* 0 or -errno: done already; STORE_LATER: store_complete() ends it, after this has returned. */
	int (*submit)(struct store_channel *, struct store_io *);
	/* Hands queued requests on; called once per batch. Optional. */
	void (*flush_batch)(struct store_channel *);
};

/* Control thread. */
int store_pool_create(const struct store_pool_options *options, struct store_pool **ret);
void store_pool_destroy(struct store_pool *p);
int store_disk_open(struct store_pool *p, const struct store_disk_options *options, struct store_disk **ret);
/* Before closing a disk whose policy has failed: an image file that opening has made goes again, if nobody has written to it. */
void store_disk_unmake(struct store_disk *d);
void store_disk_close(struct store_disk *d);
/* 0, or what keeps the disk from ever having that size: -EINVAL (its blocks), -EROFS, -EOPNOTSUPP. */
int store_disk_may_resize(const struct store_disk *d, uint64_t size_bytes);
int store_disk_resize(struct store_disk *d, uint64_t size_bytes);
int store_disk_lock(struct store_disk *d);
void store_disk_unlock(struct store_disk *d);

/* On the worker. A channel is closed only with nothing in flight. */
int store_channel_open(struct store_pool *p, struct worker *w, struct store_counters *counters,
		       struct store_channel **ret);
void store_channel_close(struct store_channel *c);

#define STORE_LATER 1

/* What callers have promised; asserted in debug builds. */
void store_check_request(const struct store_channel *c, const struct store_io *io);

static inline void store_count(struct store_channel *c, enum store_op op, uint64_t n, uint64_t bytes)
{
	counter_add(&c->counters->ops[op], n);
	counter_add(&c->counters->bytes[op], bytes);
}

/*
 * Range, alignment to 512 and read-only have been checked by the device model; everything goes through this one call.
 * STORE_LATER: `done` will be called; else this is the result, and it will not: what a store answers at once (memory) is
 * answered without a detour. The caller counts it, one by one or in batches. A disk may shrink between the device model's
 * check and this one.
 */
static inline int store_start_uncounted(struct store_channel *c, struct store_io *io)
{
	uint64_t size = load_relaxed(&io->disk->size_bytes);
	int result = -EIO;

	debug_only(store_check_request(c, io));
	io->channel = c;
	if (likely(io->length_bytes <= size && io->offset_bytes <= size - io->length_bytes) || io->op == STORE_FLUSH)
		result = c->pool->ops->submit(c, io);
	if (result == STORE_LATER)
		c->in_flight++;
	else if (unlikely(result < 0))
		counter_add(&c->counters->errors, 1);
	return result;
}

static inline int store_start(struct store_channel *c, struct store_io *io)
{
	store_count(c, io->op, 1, io->length_bytes);
	return store_start_uncounted(c, io);
}

/* The same for who wants `done` called in any case, maybe before this returns. */
static inline void store_submit(struct store_channel *c, struct store_io *io)
{
	int result = store_start(c, io);

	if (result != STORE_LATER)
		io->done(io, result);
}

static inline void store_flush_batch(struct store_channel *c)
{
	if (c->pool->ops->flush_batch)
		c->pool->ops->flush_batch(c);
}
