/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the model device's schedule is the one that its description gives, computed here independently; requests
 * complete in its order, never before their time; workers that share a pool book one another's lanes exactly.
 */
#include "store_driver.h"

#include "store/due_heap.h"
#include "store/model.h"

#include <pthread.h>

#define REQUESTS 600u

static uint64_t seed;

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* --- the heap --- */

static void the_heap_sorts(void **state)
{
	static struct store_io io[2000];
	struct due_heap h = { 0 };
	unsigned in = 0, out = 0;
	uint64_t floor = 0;

	(void)state;
	while (out < ARRAY_SIZE(io)) {
		if (in < ARRAY_SIZE(io) && (h.first == NULL || next_random(&seed) % 3)) {
			due_heap_push(&h, &io[in], floor + next_random(&seed) % 50);
			in++;
		} else {
			uint64_t first_ns = due_heap_first_ns(&h);
			struct store_io *top = due_heap_pop(&h);

			assert_int_equal(due_heap_due_ns(top), first_ns);
			assert_true(first_ns >= floor);
			/* Of those due at the same time, the one that came first. */
			if (h.first && due_heap_first_ns(&h) == first_ns)
				assert_true(h.first > top);
			floor = first_ns;
			out++;
		}
	}
	assert_int_equal(due_heap_first_ns(&h), UINT64_MAX);
}

/* --- one worker --- */

struct request {
	struct store_io io;
	struct iovec iov;
	uint64_t arrival_ns, completed_ns;
	unsigned completed_as; /* its place in the order of completions */
	struct run *run;
};

struct run {
	struct worker *w;
	struct store_disk *disk;
	struct store_channel *channel;
	struct store_counters counters;
	struct worker_source source;
	struct request request[REQUESTS];
	uint8_t data[4096 * 8];
	unsigned submitted, completed;
	uint64_t busy_ns, seed;
	uint64_t offset_bytes; /* where it reads and writes */
	bool done;
};

static void request_done(struct store_io *io, int result)
{
	struct request *q = container_of(io, struct request, io);

	assert(result == 0);
	q->completed_ns = worker_now_ns(io->channel->worker);
	q->completed_as = q->run->completed++;
	worker_source_wake(&q->run->source);
}

/* Some at a time, in bursts and with pauses; the last ones are waited for. */
static unsigned run_poll(struct worker_source *s, uint64_t now_ns)
{
	struct run *r = container_of(s, struct run, source);
	unsigned burst = (unsigned)(next_random(&r->seed) % 4), n = 0;

	while (n < burst && r->submitted < REQUESTS && r->submitted - r->completed < 24) {
		struct request *q = &r->request[r->submitted++];

		q->run = r;
		q->arrival_ns = now_ns;
		q->iov = (struct iovec){ .iov_base = r->data, .iov_len = (next_random(&r->seed) % 8 + 1) * 512 };
		q->io = (struct store_io){ .op = next_random(&r->seed) % 2 ? STORE_READ : STORE_WRITE, .iov = &q->iov,
					   .iovcnt = 1, .offset_bytes = r->offset_bytes,
					   .length_bytes = q->iov.iov_len, .disk = r->disk, .done = request_done };
		store_submit(r->channel, &q->io);
		n++;
	}
	if (r->completed == REQUESTS) {
		r->busy_ns = r->counters.busy_ns;
		worker_source_remove(s);
		store_channel_close(r->channel);
		__atomic_store_n(&r->done, true, __ATOMIC_RELEASE);
	}
	return n;
}

/* It wants its turns until everything is submitted. */
static bool run_arm(struct worker_source *s)
{
	const struct run *r = container_of(s, struct run, source);

	return r->submitted < REQUESTS && r->submitted - r->completed < 24;
}

static const struct worker_source_ops run_ops = { .poll = run_poll, .arm = run_arm };

static void run_begin(struct worker *w, void *arg)
{
	struct run *r = arg;
	int result = store_channel_open(r->disk->pool, w, &r->counters, &r->channel);

	assert(result == 0);
	(void)result;
	r->source.ops = &run_ops;
	worker_source_add(w, &r->source);
}

/* The description, literally: first come, first served, by the lane that is free first. */
static void check_schedule(const struct run *r, const struct store_pool_options *o)
{
	uint64_t lane[16] = { 0 }, busy_ns = 0;

	for (unsigned i = 0; i < REQUESTS; i++) {
		const struct request *q = &r->request[i];
		uint64_t latency = q->io.op == STORE_READ ? o->read_latency_ns : o->write_latency_ns;
		uint64_t length = latency + q->io.length_bytes * o->byte_time_ps / 1000, start;
		unsigned best = 0;

		for (unsigned l = 1; l < o->channels; l++)
			if (lane[l] < lane[best])
				best = l;
		start = max_u64(q->arrival_ns, lane[best]);
		lane[best] = start + length;
		busy_ns += length;
		assert_int_equal(model_due_ns(&q->io), lane[best]);
		assert_true(q->completed_ns >= lane[best]);
	}
	assert_int_equal(r->busy_ns, busy_ns);
	/* Whoever was to be done by the time at which another one was completed came before it, if due earlier. */
	for (unsigned i = 0; i < REQUESTS; i++)
		for (unsigned k = i + 1; k < REQUESTS; k++)
			if (model_due_ns(&r->request[i].io) <= model_due_ns(&r->request[k].io))
				assert_true(r->request[i].completed_as < r->request[k].completed_as);
}

static void schedule(unsigned channels, enum worker_poll mode)
{
	static struct run r;
	struct store_pool_options options = { .name = "p", .type = "model", .channels = channels,
					      .read_latency_ns = 40000,
					      .write_latency_ns = 90000, .byte_time_ps = 2500 };
	struct store_disk_options disk = { .name = "d", .size_bytes = 1 << 20, .fd = -1 };
	struct store_pool *p = NULL;

	memset(&r, 0, sizeof(r));
	r.w = new_worker(0, mode);
	r.seed = next_random(&seed);
	assert_int_equal(store_pool_create(&options, &p), 0);
	assert_int_equal(store_disk_open(p, &disk, &r.disk), 0);
	on_worker(r.w, run_begin, &r);
	wait_until(&r.done);
	check_schedule(&r, &options);
	store_disk_close(r.disk);
	store_pool_destroy(p);
	worker_destroy(r.w);
}

static void times_are_as_reckoned(void **state)
{
	static const unsigned channels[] = { 1, 3, 16 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(channels); i++)
		for (enum worker_poll mode = WORKER_POLL_ADAPTIVE; mode <= WORKER_POLL_NEVER; mode++)
			schedule(channels[i], mode);
}

/* --- several workers on one lane --- */

static int by_due(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * One lane, requests of one length, always someone waiting: no two overlap, and where one begins late nobody had
 * arrived.
 */
static void workers_share_a_lane(void **state)
{
	static struct run r[2];
	static uint64_t due[2 * REQUESTS];
	const uint64_t length = 20000;
	struct store_pool_options options = { .name = "p", .type = "model", .channels = 1, .read_latency_ns = length,
					      .write_latency_ns = length };
	struct store_disk_options disk = { .name = "d", .size_bytes = 1 << 20, .fd = -1 };
	struct store_pool *p = NULL;
	struct store_disk *d;

	(void)state;
	assert_int_equal(store_pool_create(&options, &p), 0);
	assert_int_equal(store_disk_open(p, &disk, &d), 0);
	for (unsigned i = 0; i < 2; i++) {
		memset(&r[i], 0, sizeof(r[i]));
		r[i].w = new_worker(i, WORKER_POLL_ADAPTIVE);
		r[i].disk = d;
		r[i].seed = next_random(&seed);
		r[i].offset_bytes = i * (UINT64_C(1) << 19);
	}
	for (unsigned i = 0; i < 2; i++)
		on_worker(r[i].w, run_begin, &r[i]);
	for (unsigned i = 0; i < 2; i++) {
		wait_until(&r[i].done);
		worker_destroy(r[i].w);
		for (unsigned k = 0; k < REQUESTS; k++) {
			const struct request *q = &r[i].request[k];

			due[i * REQUESTS + k] = model_due_ns(&q->io);
			assert_true(due[i * REQUESTS + k] >= q->arrival_ns + length);
		}
	}
	qsort(due, ARRAY_SIZE(due), sizeof(due[0]), by_due);
	for (unsigned i = 1; i < ARRAY_SIZE(due); i++)
		assert_true(due[i] - due[i - 1] >= length);
	store_disk_close(d);
	store_pool_destroy(p);
}

static void each_kind_has_its_latency(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct store_disk_options disk = { .name = "d", .size_bytes = 1 << 20, .fd = -1 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct store_pool_options options = { .name = "p", .type = "model", .flush_latency_ns = i * 1000,
						      .write_latency_ns = 5000 };
		struct store_pool *p = NULL;
		struct store_disk *d;
		struct store_counters c;

		assert_int_equal(store_pool_create(&options, &p), 0);
		assert_int_equal(store_disk_open(p, &disk, &d), 0);
		assert_int_equal(one_io(w, d, STORE_FLUSH, 0, NULL, 0, 0, &c), 0);
		assert_int_equal(c.busy_ns, i * 1000);
		assert_int_equal(one_io(w, d, STORE_DISCARD, 0, NULL, 1 << 20, 0, &c), 0);
		assert_int_equal(c.busy_ns, 5000);
		store_disk_close(d);
		store_pool_destroy(p);
	}
	worker_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_heap_sorts),
		cmocka_unit_test(times_are_as_reckoned),
		cmocka_unit_test(workers_share_a_lane),
		cmocka_unit_test(each_kind_has_its_latency),
	};
	const char *given = getenv("FAIRLEAD_SEED");

	seed = given ? strtoull(given, NULL, 0) : clock_now_ns();
	printf("FAIRLEAD_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
