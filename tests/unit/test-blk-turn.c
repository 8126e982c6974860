/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: how much a queue moves before others of its worker have their turn is bounded in bytes, however large requests are; and
 * a large request is done whole, once, and byte by byte where it belongs, also when memory, worker and rings change in the midst
 * of it. The store is watched from outside: what it is asked for at once, and in one turn of the worker's loop.
 */
#include "base/clock.h"
#include "host_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MIB (1u << 20)
#define SEGS 126u /* seg_max */
#define BUFFER (32u * MIB)
/* A turn that has not moved its share yet goes on to the end of a step. */
#define TURN_MAX (4u * MIB)

static char folder[] = "/tmp/blk-turn-XXXXXX";
static struct host_run host;

/* --- the store, watched on its worker --- */

static struct {
	struct store_ops ops;
	int (*submit)(struct store_channel *, struct store_io *);
	struct {
		uint64_t turn, bytes, most_at_once, most_in_turn;
	} worker[2];
} watched;

static int watch_submit(struct store_channel *c, struct store_io *io)
{
	unsigned w = worker_index(c->worker);
	uint64_t turn = load_relaxed(&worker_counters(c->worker)->loops);

	if (watched.worker[w].turn != turn) {
		watched.worker[w].turn = turn;
		watched.worker[w].bytes = 0;
	}
	watched.worker[w].bytes += io->length_bytes;
	watched.worker[w].most_at_once = max_u64(watched.worker[w].most_at_once, io->length_bytes);
	watched.worker[w].most_in_turn = max_u64(watched.worker[w].most_in_turn, watched.worker[w].bytes);
	return watched.submit(c, io);
}

static void watch_begin(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	struct store_pool *store = host_pool_find(r->host, "pool")->blk->store;

	(void)arg;
	memset(&watched, 0, sizeof(watched));
	watched.ops = *store->ops;
	watched.submit = watched.ops.submit;
	watched.ops.submit = watch_submit;
	store->ops = &watched.ops;
	host_run_done(r, &none);
}

/* --- a disk and its driver --- */

static struct frontend *begin(const char *pool, unsigned workers, uint64_t disk_mib, bool inflight)
{
	const struct frontend_config c = { .queues = 2, .queue_size = 128, .indirect = true, .data_segs_max = SEGS,
					   .inflight = inflight, .data_bytes = BUFFER + 4 * MIB };
	char text[512];

	host_run_workers = workers;
	snprintf(text, sizeof(text),
		 "pools: { pool: { %s, slo: off } }\n"
		 "vms: { vm: { disks: [ { name: disk, pool: pool, size: %lluMiB, queues: 2 } ] } }\n",
		 pool, (unsigned long long)disk_mib);
	host_run_start(&host, text);
	host_run_do(&host, watch_begin, NULL);
	return host_run_attach(&host, "vm", "disk", &c);
}

static void finish(struct frontend *f)
{
	frontend_destroy(f);
	host_run_stop(&host);
	for (unsigned w = 0; w < ARRAY_SIZE(watched.worker); w++) {
		assert_true(watched.worker[w].most_at_once <= TURN_MAX);
		assert_true(watched.worker[w].most_in_turn <= TURN_MAX);
	}
}

static void await(struct front_queue *q, unsigned n)
{
	uint64_t limit = clock_now_ns() + 120 * NSEC_PER_SEC;

	while (n) {
		struct front_request *r = front_poll(q);

		assert_true(q->error == 0 && clock_now_ns() < limit);
		if (!r)
			continue;
		assert_int_equal(r->status, VIRTIO_BLK_S_OK);
		n--;
	}
}

/* Each as large as a chain can be: 126 times the same 32 MiB. */
static void test_a_turn_is_bounded(void **state)
{
	struct frontend *f = begin("type: \"null\"", 1, 8192, false);
	uint8_t *data = frontend_alloc(f, BUFFER);
	struct front_request r[33];
	struct front_buf buf[SEGS];

	for (unsigned i = 0; i < SEGS; i++)
		buf[i] = front_buf_of(f, data, BUFFER);
	for (unsigned i = 0; i < 33; i++) {
		r[i] = (struct front_request){ .type = i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .data = buf,
					       .n_data = i == 32 ? 1 : SEGS };
		assert_int_equal(front_submit(&f->queue[0], &r[i]), 0);
	}
	front_kick(&f->queue[0]);
	await(&f->queue[0], 33);
	assert_int_equal(r[0].written, SEGS * BUFFER + 1);
	assert_int_equal(r[1].written, 1);
	finish(f);
}

/* Ordinary requests, but many: a whole batch of them is more than a turn moves. */
static void test_a_batch_is_bounded(void **state)
{
	struct frontend *f = begin("type: ram", 1, 64, false);
	struct front_buf buf = front_buf_of(f, frontend_alloc(f, MIB), MIB);
	struct front_request r[64];

	for (unsigned i = 0; i < 64; i++) {
		r[i] = (struct front_request){ .type = i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .data = &buf, .n_data = 1, .sector = i };
		assert_int_equal(front_submit(&f->queue[0], &r[i]), 0);
	}
	front_kick(&f->queue[0]);
	await(&f->queue[0], 64);
	finish(f);
}

/* --- what is in a large request arrives --- */

struct large {
	struct front_request request;
	struct front_buf buf[SEGS];
	unsigned n;
};

/* Segments of odd numbers of sectors, all from one buffer, so that steps end within them. */
static void cut(struct frontend *f, struct large *l, uint8_t *data, uint32_t bytes)
{
	uint32_t at = 0;

	for (l->n = 0; at < bytes; l->n++) {
		uint32_t len = (uint32_t)min_u64(bytes - at, (601 + 37 * l->n) * 512);

		assert_true(l->n < SEGS);
		l->buf[l->n] = front_buf_of(f, data + at, len);
		at += len;
	}
}

static uint32_t word_of(uint32_t i, uint32_t seed)
{
	return (i ^ seed) * 0x9e3779b1u;
}

static void move_queue(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };

	blk_disk_move_queue(host_disk_find(r->host, "vm", "disk")->blk, 0, *(unsigned *)arg % 2);
	host_run_done(r, &none);
}

static void change(struct frontend *f, unsigned i)
{
	uint32_t base;

	switch (i % 4) {
	case 0:
		break;
	case 1:
		assert_int_equal(frontend_memory_send(f), 0);
		break;
	case 2:
		host_run_do(&host, move_queue, &(unsigned){ i / 4 });
		break;
	case 3:
		if (f->inflight_fd < 0) {
			assert_int_equal(frontend_queue_stop(f, 0, &base), 0);
			assert_int_equal(frontend_queue_start(f, 0, base), 0);
		} else {
			frontend_detach(f);
			assert_int_equal(frontend_attach(f), 0);
		}
		break;
	}
}

#define LARGE (15u * MIB + 512u)

static void large_requests(const char *pool, bool inflight)
{
	struct frontend *f = begin(pool, 2, 64, inflight);
	uint32_t *out = frontend_alloc(f, 16 * MIB), *in = frontend_alloc(f, 16 * MIB);
	static struct large w, r;

	cut(f, &w, (uint8_t *)out, LARGE);
	cut(f, &r, (uint8_t *)in, LARGE);
	for (unsigned i = 0; i < 16; i++) {
		for (uint32_t k = 0; k < LARGE / 4; k++)
			out[k] = word_of(k, i);
		w.request = (struct front_request){ .type = VIRTIO_BLK_T_OUT, .data = w.buf, .n_data = w.n, .sector = 32768 * (i % 2) + 8 };
		assert_int_equal(front_submit(&f->queue[0], &w.request), 0);
		front_kick(&f->queue[0]);
		change(f, i);
		await(&f->queue[0], 1);
		assert_int_equal(w.request.written, 1);
		memset(in, 0xee, LARGE);
		r.request = w.request;
		r.request.type = VIRTIO_BLK_T_IN;
		r.request.data = r.buf;
		assert_int_equal(front_submit(&f->queue[0], &r.request), 0);
		front_kick(&f->queue[0]);
		change(f, i + 1);
		await(&f->queue[0], 1);
		assert_int_equal(r.request.written, LARGE + 1);
		assert_memory_equal(in, out, LARGE);
	}
	finish(f);
}

static void test_large_requests_arrive(void **state)
{
	char file[128];

	snprintf(file, sizeof(file), "type: file, directory: %s", folder);
	for (unsigned inflight = 0; inflight < 2; inflight++) {
		large_requests("type: ram", inflight);
		large_requests("type: model, channels: 4, read_latency: 20us, write_latency: 20us", inflight);
		large_requests(file, inflight);
	}
}

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_turn_is_bounded),
		cmocka_unit_test(test_a_batch_is_bounded),
		cmocka_unit_test(test_large_requests_arrive),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
