/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of stores: a driver on a real worker that keeps many random requests in flight on its part of a disk and
 * knows what every byte must be (a shadow of the disk). Requests in flight never overlap.
 */
#pragma once

#include "on_worker.h"
#include "store/store.h"

#include <assert.h>
#include <stdio.h>

#define DRIVER_DEPTH 24u
#define DRIVER_CHUNK (128u << 10)
#define DRIVER_SEGMENTS 12u

struct driver;

struct driver_slot {
	struct store_io io;
	struct driver *driver;
	unsigned chunk;
	struct iovec iov[DRIVER_SEGMENTS];
	uint8_t *buffer; /* DRIVER_CHUNK and a page more */
	uint8_t *data;	 /* where in it this request's bytes are */
};

struct driver {
	struct worker *w;
	struct store_disk *disk;
	struct store_counters counters;
	struct store_channel *channel;
	uint8_t *shadow;	      /* of the whole disk */
	unsigned first_chunk, chunks; /* its part, as many chunks as it has slots or more */
	bool unaligned;		      /* memory at odd addresses and segments of odd lengths */
	unsigned ops;		      /* to do */
	uint64_t seed;
	/* its own */
	unsigned started, finished, errors, mismatches;
	bool *chunk_busy;
	struct driver_slot slot[DRIVER_DEPTH];
	struct worker_source pump;
	bool done;
};

static inline uint64_t driver_random(struct driver *d)
{
	d->seed ^= d->seed << 13;
	d->seed ^= d->seed >> 7;
	d->seed ^= d->seed << 17;
	return d->seed;
}

/* Cuts the request's bytes into segments. */
static inline void driver_cut(struct driver *d, struct driver_slot *s, size_t bytes)
{
	size_t at = d->unaligned && driver_random(d) % 2 ? driver_random(d) % 4096 : 0, left = bytes;
	unsigned n = 0;

	s->data = s->buffer + at;
	while (left) {
		size_t len = left;

		if (n < DRIVER_SEGMENTS - 1 && driver_random(d) % 2)
			len = driver_random(d) % left + 1;
		if (!d->unaligned && len != left)
			len = (len + 511) / 512 * 512;
		s->iov[n++] = (struct iovec){ .iov_base = s->data + (bytes - left), .iov_len = len };
		left -= len;
	}
	s->io.iov = s->iov;
	s->io.iovcnt = (uint16_t)n;
}

static inline void driver_fill(struct driver *d, uint8_t *p, size_t bytes)
{
	uint64_t r = driver_random(d);

	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)((r >> i % 57) + i);
}

static inline void driver_io_done(struct store_io *io, int result);

static inline void driver_start(struct driver *d, struct driver_slot *s)
{
	static const enum store_op ops[] = { STORE_READ, STORE_READ,  STORE_READ,    STORE_WRITE,	 STORE_WRITE,
					     STORE_WRITE, STORE_FLUSH, STORE_DISCARD, STORE_WRITE_ZEROES };
	uint64_t from, sectors = DRIVER_CHUNK / STORE_SECTOR;

	do
		s->chunk = (unsigned)(driver_random(d) % d->chunks);
	while (d->chunk_busy[s->chunk]);
	d->chunk_busy[s->chunk] = true;
	from = driver_random(d) % sectors;
	s->driver = d;
	s->io = (struct store_io){ .op = ops[driver_random(d) % ARRAY_SIZE(ops)], .disk = d->disk,
				   .done = driver_io_done };
	s->io.flags = (uint8_t)(driver_random(d) % 8 ? 0 : STORE_FUA) | (driver_random(d) % 2 ? STORE_UNMAP : 0);
	if (s->io.op != STORE_FLUSH) {
		s->io.offset_bytes = (uint64_t)(d->first_chunk + s->chunk) * DRIVER_CHUNK + from * STORE_SECTOR;
		s->io.length_bytes = (driver_random(d) % (sectors - from) + 1) * STORE_SECTOR;
		if (driver_random(d) % 3)
			s->io.length_bytes = min_u64(s->io.length_bytes, 8 * STORE_SECTOR);
	}
	if (s->io.op == STORE_READ || s->io.op == STORE_WRITE) {
		driver_cut(d, s, s->io.length_bytes);
		driver_fill(d, s->data, s->io.length_bytes);
	}
	if (s->io.op == STORE_WRITE)
		memcpy(d->shadow + s->io.offset_bytes, s->data, s->io.length_bytes);
	if (s->io.op == STORE_DISCARD || s->io.op == STORE_WRITE_ZEROES)
		memset(d->shadow + s->io.offset_bytes, 0, s->io.length_bytes);
	d->started++;
	store_submit(d->channel, &s->io);
}

static inline void driver_io_done(struct store_io *io, int result)
{
	struct driver_slot *s = container_of(io, struct driver_slot, io);
	struct driver *d = s->driver;

	if (result < 0)
		d->errors++;
	if (io->op == STORE_READ && memcmp(s->data, d->shadow + io->offset_bytes, io->length_bytes))
		d->mismatches++;
	d->chunk_busy[s->chunk] = false;
	s->driver = NULL;
	d->finished++;
	worker_source_wake(&d->pump); /* a slot is free */
}

static inline unsigned driver_poll(struct worker_source *source, uint64_t now_ns)
{
	struct driver *d = container_of(source, struct driver, pump);
	unsigned n = 0;

	for (unsigned i = 0; i < DRIVER_DEPTH && d->started < d->ops; i++) {
		if (d->slot[i].driver)
			continue;
		driver_start(d, &d->slot[i]);
		n++;
	}
	store_flush_batch(d->channel);
	if (d->finished == d->ops) {
		assert(d->channel->in_flight == 0);
		worker_source_remove(source);
		store_channel_close(d->channel);
		__atomic_store_n(&d->done, true, __ATOMIC_RELEASE);
	}
	return n;
}

/* The next completion wakes it. */
static inline bool driver_arm(struct worker_source *source)
{
	return false;
}

static const struct worker_source_ops driver_source_ops = { .poll = driver_poll, .arm = driver_arm };

static inline void driver_begin(struct worker *w, void *arg)
{
	struct driver *d = arg;
	int r = store_channel_open(d->disk->pool, w, &d->counters, &d->channel);

	assert(r == 0);
	(void)r;
	d->pump.ops = &driver_source_ops;
	worker_source_add(w, &d->pump);
}

static inline void driver_launch(struct driver *d)
{
	d->chunk_busy = calloc(d->chunks, sizeof(bool));
	for (unsigned i = 0; i < DRIVER_DEPTH; i++)
		d->slot[i].buffer = aligned_alloc(4096, DRIVER_CHUNK + 4096);
	on_worker(d->w, driver_begin, d);
}

static inline void driver_join(struct driver *d)
{
	wait_until(&d->done);
	for (unsigned i = 0; i < DRIVER_DEPTH; i++)
		free(d->slot[i].buffer);
	free(d->chunk_busy);
	assert_int_equal(d->errors, 0);
	assert_int_equal(d->mismatches, 0);
	assert_int_equal(d->finished, d->ops);
}

/* --- one request, waited for --- */

struct one_io {
	struct store_io io;
	struct store_disk *disk;
	struct store_channel *channel;
	struct worker_source source;
	struct store_counters counters; /* of the channel, when the request was done */
	int result;
	bool done;
};

static inline void one_io_done(struct store_io *io, int result)
{
	struct one_io *o = container_of(io, struct one_io, io);

	o->result = result;
	worker_source_wake(&o->source);
}

/* Not in one_io_done(): that is still inside the channel. */
static inline unsigned one_io_poll(struct worker_source *s, uint64_t now_ns)
{
	struct one_io *o = container_of(s, struct one_io, source);

	if (o->channel->in_flight)
		return 0;
	worker_source_remove(s);
	store_channel_close(o->channel);
	__atomic_store_n(&o->done, true, __ATOMIC_RELEASE);
	return 1;
}

static const struct worker_source_ops one_io_ops = { .poll = one_io_poll, .arm = driver_arm };

static inline void one_io_begin(struct worker *w, void *arg)
{
	struct one_io *o = arg;
	int r = store_channel_open(o->disk->pool, w, &o->counters, &o->channel);

	assert(r == 0);
	(void)r;
	o->source.ops = &one_io_ops;
	worker_source_add(w, &o->source);
	store_submit(o->channel, &o->io);
}

/* Returns the request's result. */
static inline int one_io(struct worker *w, struct store_disk *disk, enum store_op op, uint64_t offset, void *data,
			 size_t bytes, unsigned flags, struct store_counters *ret_counters)
{
	struct iovec iov = { .iov_base = data, .iov_len = bytes };
	struct one_io o = { .disk = disk };

	o.io = (struct store_io){ .op = op, .flags = (uint8_t)flags, .iov = &iov, .iovcnt = 1, .offset_bytes = offset,
				  .length_bytes = bytes, .disk = disk, .done = one_io_done };
	on_worker(w, one_io_begin, &o);
	wait_until(&o.done);
	if (ret_counters)
		*ret_counters = o.counters;
	return o.result;
}
