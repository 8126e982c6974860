/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A source of its own on one worker, that keeps a number of requests at the store and goes through a table of steps: first
 * the disk is written from end to end (so that no read meets a hole), then each kind of request alone, then as many at once
 * as the device makes use of. Requests do not pass the gate: what is measured is the device, and what others do there
 * meanwhile is part of it.
 */
#include "blk/calibrate.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 4096u
#define LARGE (128u << 10)
#define DEPTH_MAX 128u

struct step {
	enum store_op op;
	uint32_t bytes;
	bool sequential, deep, whole_disk;
	size_t rate; /* deep: offset of the result in struct blk_calibration */
	bool in_bytes;
};

#define DEEP(op, bytes, sequential, field, in_bytes) \
	{ op, bytes, sequential, true, false, offsetof(struct blk_calibration, field), in_bytes }

static const struct step steps[] = {
	{ .op = STORE_WRITE, .bytes = LARGE, .sequential = true, .deep = true, .whole_disk = true,
	  .rate = offsetof(struct blk_calibration, write_bandwidth), .in_bytes = true },
	{ .op = STORE_READ, .bytes = SMALL },
	{ .op = STORE_READ, .bytes = SMALL, .sequential = true },
	{ .op = STORE_READ, .bytes = LARGE },
	{ .op = STORE_READ, .bytes = LARGE, .sequential = true },
	{ .op = STORE_WRITE, .bytes = SMALL },
	{ .op = STORE_WRITE, .bytes = SMALL, .sequential = true },
	{ .op = STORE_WRITE, .bytes = LARGE },
	{ .op = STORE_WRITE, .bytes = LARGE, .sequential = true },
	DEEP(STORE_READ, SMALL, false, read_iops, false),
	DEEP(STORE_WRITE, SMALL, false, write_iops, false),
	DEEP(STORE_READ, LARGE, true, read_bandwidth, true),
};

struct calibration_io {
	struct store_io io;
	struct iovec iov;
	struct calibration *of;
	uint64_t began_ns;
	bool busy;
};

struct calibration {
	struct worker_msg msg;
	struct worker_source source;
	struct blk_pool *pool;
	struct store_disk *disk;
	struct store_channel *channel;
	struct store_counters counters;
	unsigned depth, step, in_flight;
	uint64_t step_ns, began_ns, next_offset, completed;
	uint64_t random;
	const bool *stop;
	uint8_t *memory;
	struct calibration_io io[DEPTH_MAX];
	int result;
	struct blk_calibration measured;
	void (*done)(void *arg, int result, const struct blk_calibration *c);
	void *arg;
};

static uint64_t next_random(struct calibration *c)
{
	/* xorshift64: any sequence without order will do. */
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random;
}

static uint64_t offset_for(struct calibration *c, const struct step *s)
{
	uint64_t at;

	if (!s->sequential)
		return next_random(c) % (BLK_CALIBRATE_BYTES / s->bytes) * s->bytes;
	at = c->next_offset;
	c->next_offset = (at + s->bytes) % BLK_CALIBRATE_BYTES;
	return at;
}

static void io_done(struct store_io *io, int result);

static void launch(struct calibration *c, struct calibration_io *i)
{
	const struct step *s = &steps[c->step];

	i->io = (struct store_io){ .op = s->op, .iov = &i->iov, .iovcnt = 1, .offset_bytes = offset_for(c, s),
				   .length_bytes = s->bytes, .disk = c->disk, .done = io_done };
	i->iov = (struct iovec){ c->memory + (size_t)(i - c->io) * LARGE, s->bytes };
	i->began_ns = clock_now_ns();
	i->busy = true;
	c->in_flight++;
	worker_source_dispatched(&c->source);
	store_submit(c->channel, &i->io);
}

static void learn(struct calibration *c, const struct step *s, uint64_t ns)
{
	unsigned size = 63u - (unsigned)__builtin_clzll(s->bytes / STORE_SECTOR);
	struct slo_cost_cell *cell = &c->measured.cost.cell[s->op][s->sequential][size];

	cell->bytes = s->bytes;
	cell->samples++;
	cell->ns += ((double)ns - cell->ns) / (double)cell->samples;
}

static void io_done(struct store_io *io, int result)
{
	struct calibration_io *i = container_of(io, struct calibration_io, io);
	struct calibration *c = i->of;
	const struct step *s = &steps[c->step];

	i->busy = false;
	c->in_flight--;
	worker_source_completed(&c->source);
	c->completed++;
	if (result < 0)
		c->measured.errors++;
	else if (!s->deep)
		learn(c, s, clock_now_ns() - i->began_ns);
	worker_source_wake(&c->source);
}

static bool step_over(const struct calibration *c, uint64_t now_ns)
{
	const struct step *s = &steps[c->step];

	if (load_relaxed(c->stop))
		return true;
	if (s->whole_disk)
		return c->completed + c->in_flight >= BLK_CALIBRATE_BYTES / s->bytes;
	return now_ns - c->began_ns >= c->step_ns;
}

static void step_finish(struct calibration *c, uint64_t now_ns)
{
	const struct step *s = &steps[c->step];
	double seconds = (double)(now_ns - c->began_ns) / NSEC_PER_SEC;

	if (s->deep && seconds > 0)
		*(double *)(void *)((char *)&c->measured + s->rate) =
			(double)c->completed * (s->in_bytes ? s->bytes : 1) / seconds;
	c->step++;
	c->completed = 0;
	c->began_ns = now_ns;
	c->next_offset = 0;
}

static void leave(struct calibration *c)
{
	worker_source_remove(&c->source);
	store_channel_close(c->channel);
	worker_reply(&c->msg);
}

static unsigned calibration_poll(struct worker_source *s, uint64_t now_ns)
{
	struct calibration *c = container_of(s, struct calibration, source);
	unsigned want, n = 0;

	if (load_relaxed(c->stop) && c->in_flight == 0) {
		c->result = -ECANCELED;
		leave(c);
		return 0;
	}
	if (step_over(c, now_ns) && c->in_flight == 0)
		step_finish(c, now_ns);
	if (c->step == ARRAY_SIZE(steps)) {
		leave(c);
		return 0;
	}
	want = steps[c->step].deep ? c->depth : 1;
	for (unsigned i = 0; i < want && !step_over(c, now_ns); i++)
		if (!c->io[i].busy) {
			launch(c, &c->io[i]);
			n++;
		}
	store_flush_batch(c->channel);
	return n;
}

static bool calibration_arm(struct worker_source *s)
{
	(void)s;
	return false;
}

static const struct worker_source_ops calibration_source = { .poll = calibration_poll, .arm = calibration_arm };

static void run_begin(struct worker_msg *m, struct worker *w)
{
	struct calibration *c = container_of(m, struct calibration, msg);

	c->result = store_channel_open(c->pool->store, w, &c->counters, &c->channel);
	if (c->result < 0)
		return;
	m->keep = true;
	c->began_ns = clock_now_ns();
	c->source.ops = &calibration_source;
	worker_source_add(w, &c->source);
}

static void over(struct worker_msg *m)
{
	struct calibration *c = container_of(m, struct calibration, msg);

	c->done(c->arg, c->result, &c->measured);
	free(c->memory);
	free(c);
}

int blk_calibrate(struct blk_pool *pool, struct store_disk *disk, struct worker *w, unsigned depth, uint64_t step_ns,
		  const bool *stop, void (*done)(void *arg, int result, const struct blk_calibration *c), void *arg)
{
	struct calibration *c;
	void *mem;

	if (posix_memalign(&mem, CACHE_LINE, sizeof(*c)))
		return -ENOMEM;
	c = memset(mem, 0, sizeof(*c));
	c->depth = (unsigned)min_u64(depth ? depth : 1, DEPTH_MAX);
	if (posix_memalign(&mem, SMALL, (size_t)c->depth * LARGE)) {
		free(c);
		return -ENOMEM;
	}
	c->memory = memset(mem, 0x5a, (size_t)c->depth * LARGE);
	c->pool = pool;
	c->disk = disk;
	c->step_ns = step_ns;
	c->stop = stop;
	c->random = 88172645463325252ull;
	c->done = done;
	c->arg = arg;
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		c->io[i].of = c;
	c->msg.run = run_begin;
	c->msg.done = over;
	worker_post(w, &c->msg);
	return 0;
}
