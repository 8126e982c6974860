/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A deterministic device, for tests and for rehearsing a policy.
 *
 * The model: the device has `channels` lanes. A request takes a lane that is free, else the one that will be first,
 * from max(arrival, busy until) for latency + bytes x byte_time, and is done then. Requests are booked in the order of
 * their submission, all at once: what the device does follows from arrivals alone and never from when somebody woke up
 * to look, so a late timer delays what the guest sees of one request but takes nothing from the device.
 *
 * Worked example: one lane, reads of 12 ms, two arriving at t = 0, one at t = 30 ms: done at 12, 24 and 42 ms.
 *
 * Lanes are shared by all workers: booking is one compare-and-swap on the lane that is free first. Lanes only move
 * forward, so when it succeeds no other lane has become better, and the order of the swaps is the order of the queue.
 *
 * Discarding and zeroing cost a write's latency and move no bytes. A flush costs flush_latency; with none, it is done
 * at once, as on a device without a volatile cache, without queueing behind what was submitted before.
 *
 * Data lives in memory (memory.c) and is copied when the request is done. A worker's requests wait in a heap of its
 * own, and its source's deadline is the first of them.
 */
#include "store/due_heap.h"
#include "store/memory.h"
#include "store/model.h"
#include "store/store_internal.h"

#include <errno.h>

#define LANES_MAX 4096u
/* Completions in one poll, and bytes after which there is no other: they are copied, and other sources wait. */
#define MODEL_BATCH 32u
#define MODEL_BATCH_BYTES (2u << 20)

struct model_pool {
	struct memory_pool memory;
	uint64_t latency_ns[STORE_OPS];
	uint64_t byte_time_ps;
	unsigned lanes;
	uint64_t *busy_until_ns; /* written by all workers */
};

struct model_channel {
	struct store_channel base;
	struct worker_source source;
	struct due_heap waiting;
	unsigned next_lane; /* where to look for a free one: with enough lanes it is free, and no other worker's */
};

static int model_pool_open(struct store_pool *p, const struct store_pool_options *options)
{
	struct model_pool *m = container_of(p, struct model_pool, memory.base);

	m->lanes = options->channels ? options->channels : 1;
	if (m->lanes > LANES_MAX)
		return -EINVAL;
	m->busy_until_ns = calloc(m->lanes, sizeof(*m->busy_until_ns));
	if (!m->busy_until_ns)
		return -ENOMEM;
	m->latency_ns[STORE_READ] = options->read_latency_ns;
	m->latency_ns[STORE_WRITE] = options->write_latency_ns;
	m->latency_ns[STORE_DISCARD] = options->write_latency_ns;
	m->latency_ns[STORE_WRITE_ZEROES] = options->write_latency_ns;
	m->latency_ns[STORE_FLUSH] = options->flush_latency_ns;
	m->byte_time_ps = options->byte_time_ps;
	return memory_pool_open(p, options);
}

static void model_pool_close(struct store_pool *p)
{
	memory_pool_close(p);
	free(container_of(p, struct model_pool, memory.base)->busy_until_ns);
}

static uint64_t service_ns(const struct model_pool *m, const struct store_io *io)
{
	uint64_t bytes = io->op == STORE_READ || io->op == STORE_WRITE ? io->length_bytes : 0;

	return m->latency_ns[io->op] + bytes * m->byte_time_ps / 1000;
}

/* Returns when a request that arrives at `now` is done. */
static uint64_t book(struct model_pool *m, unsigned *next_lane, uint64_t now_ns, uint64_t length_ns)
{
	for (;;) {
		unsigned first = *next_lane, at = first;
		uint64_t busy = load_relaxed(&m->busy_until_ns[at]), done;

		for (unsigned i = 1; i < m->lanes && busy > now_ns; i++) {
			uint64_t b;

			at = at + 1 < m->lanes ? at + 1 : 0;
			b = load_relaxed(&m->busy_until_ns[at]);
			if (b < busy) {
				busy = b;
				first = at;
			}
		}
		*next_lane = first + 1 < m->lanes ? first + 1 : 0;
		done = max_u64(now_ns, busy) + length_ns;
		if (__atomic_compare_exchange_n(&m->busy_until_ns[first], &busy, done, false, __ATOMIC_RELAXED,
						__ATOMIC_RELAXED))
			return done;
	}
}

uint64_t model_due_ns(const struct store_io *io)
{
	return due_heap_due_ns(io);
}

static int model_submit(struct store_channel *c, struct store_io *io)
{
	struct model_pool *m = container_of(c->pool, struct model_pool, memory.base);
	struct model_channel *mc = container_of(c, struct model_channel, base);
	uint64_t now_ns = worker_now_ns(c->worker), length_ns = service_ns(m, io);

	if (io->op == STORE_FLUSH && length_ns == 0)
		return 0;
	counter_add(&c->counters->busy_ns, length_ns);
	due_heap_push(&mc->waiting, io, book(m, &mc->next_lane, now_ns, length_ns));
	if (mc->waiting.first == io)
		worker_source_wake(&mc->source);
	return STORE_LATER;
}

static unsigned model_poll(struct worker_source *s, uint64_t now_ns)
{
	struct model_channel *mc = container_of(s, struct model_channel, source);
	uint64_t bytes = 0;
	unsigned n = 0;

	while (n < MODEL_BATCH && bytes < MODEL_BATCH_BYTES && due_heap_first_ns(&mc->waiting) <= now_ns) {
		struct store_io *io = due_heap_pop(&mc->waiting);

		bytes += io->length_bytes;
		if (memory_execute(io) != STORE_LATER)
			store_complete(io, 0);
		n++;
	}
	return n;
}

static bool model_arm(struct worker_source *s)
{
	return false;
}

static uint64_t model_deadline_ns(const struct worker_source *s)
{
	return due_heap_first_ns(&container_of(s, struct model_channel, source)->waiting);
}

static const struct worker_source_ops model_source_ops = {
	.poll = model_poll,
	.arm = model_arm,
	.deadline_ns = model_deadline_ns,
};

static int model_channel_open(struct store_channel *c)
{
	struct model_channel *mc = container_of(c, struct model_channel, base);

	mc->source.ops = &model_source_ops;
	mc->next_lane = worker_index(c->worker) * 64 % container_of(c->pool, struct model_pool, memory.base)->lanes;
	worker_source_add(c->worker, &mc->source);
	return 0;
}

static void model_channel_close(struct store_channel *c)
{
	worker_source_remove(&container_of(c, struct model_channel, base)->source);
}

const struct store_ops store_model_ops = {
	.type = "model",
	.pool_size = sizeof(struct model_pool),
	.disk_size = sizeof(struct memory_disk),
	.channel_size = sizeof(struct model_channel),
	.pool_open = model_pool_open,
	.pool_close = model_pool_close,
	.disk_open = memory_disk_open,
	.disk_close = memory_disk_close,
	.disk_resize = memory_disk_resize,
	.channel_open = model_channel_open,
	.channel_close = model_channel_close,
	.submit = model_submit,
};
