/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: in a sliced pool everything that goes to the device is in the ledger once, whichever way it went: one by one, in
 * batches of which nothing but their number is known, or past everything, as flushes do, which pay for what they took when they
 * are done.
 */
#include "host_run.h"

#include "base/clock.h"
#include "blk/slices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define DEPTH 16u
#define REQUESTS 2000u
#define STORM 60u
#define SECTORS 8u
#define BYTES (SECTORS * 512)
#define FLUSH_NS (20 * NSEC_PER_MSEC)

static const char reads[] = "pools: { fast: { type: model, channels: 32, read_latency: 20us, schedule: sliced, capacity: { iops: 1000000 } } }\n"
			    "vms: { a: { disks: [ { name: d, pool: fast, size: 8MiB } ] } }\n";
static const char flushes[] = "pools: { slow: { type: model, channels: 1, flush_latency: 20ms, schedule: sliced, capacity: { iops: 1000 } } }\n"
			      "vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

static struct blk_pool *pool_of(struct host_run *r)
{
	return host_disk_find(r->host, "a", "d")->blk->pool;
}

/* At the last plan. */
static void read_used(struct host_run *r, void *arg)
{
	struct ledger_show show;

	assert_int_equal(ledger_book_show(blk_slices_book(pool_of(r)->gate->slices), &show, 1, NULL), 1);
	*(uint64_t *)arg = show.used;
	host_run_done(r, &(struct host_error){ 0 });
}

static uint64_t used(struct host_run *run)
{
	uint64_t amount;

	host_run_do(run, read_used, &amount);
	return amount;
}

static void read_flushes(struct host_run *r, void *arg)
{
	uint64_t *sum = arg;

	*sum = 0;
	for (unsigned w = 0; w < BLK_WORKERS_MAX; w++)
		*sum += load_relaxed(&pool_of(r)->on[w].counters.ops[STORE_FLUSH]);
	host_run_done(r, &(struct host_error){ 0 });
}

static void estimate(struct blk_core *core, struct slo_sched *s, void *arg)
{
	(void)core;
	*(uint64_t *)arg = slo_sched_estimate(s, SLO_READ, BYTES);
}

static void estimated(void *arg, int result)
{
	host_run_done(arg, &(struct host_error){ .err = result });
}

static void read_cost(struct host_run *r, void *arg)
{
	blk_gate_visit(pool_of(r)->gate, estimate, arg, (struct blk_gate_done){ estimated, r });
}

/* `n` reads, up to DEPTH at a time. */
static void read_many(struct front_queue *q, struct front_buf *buf, unsigned n)
{
	struct front_request r[DEPTH];
	unsigned in_flight;

	for (; n; n -= in_flight) {
		in_flight = n < DEPTH ? n : DEPTH;
		for (unsigned i = 0; i < in_flight; i++) {
			r[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .data = buf, .n_data = 1, .status = 0xff };
			assert_int_equal(front_submit(q, &r[i]), 0);
		}
		front_kick(q);
		for (unsigned i = 0; i < in_flight; i++) {
			while (r[i].status == 0xff)
				front_poll(q);
			assert_int_equal(r[i].status, VIRTIO_BLK_S_OK);
		}
	}
}

static void what_goes_is_booked_once(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .indirect = true, .data_bytes = 1 << 20 };
	uint64_t cost, sum, n = REQUESTS;
	struct front_buf buf;
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, reads);
	f = host_run_attach(&run, "a", "d", &config);
	buf = front_buf_of(f, frontend_alloc(f, BYTES), BYTES);
	host_run_do(&run, read_cost, &cost);
	read_many(&f->queue[0], &buf, REQUESTS);
	/* Plans are made while something goes, and this one has to have seen them all. */
	for (sum = used(&run); sum < REQUESTS * cost; sum = used(&run)) {
		read_many(&f->queue[0], &buf, 1);
		n++;
		assert_true(n < 2 * REQUESTS);
	}
	print_message("  %u reads, and %u more until the next plan: %.1f ms in the ledger, of %.1f\n", REQUESTS,
		      (unsigned)n - REQUESTS, (double)sum / NSEC_PER_MSEC, (double)(n * cost) / NSEC_PER_MSEC);
	assert_true(sum <= n * cost);
	assert_int_equal(sum % cost, 0);
	frontend_destroy(f);
	host_run_stop(&run);
}

static void storm(struct frontend *f)
{
	static struct front_request r[2][STORM];

	for (unsigned q = 0; q < 2; q++) {
		for (unsigned i = 0; i < STORM; i++) {
			r[q][i] = (struct front_request){ .type = VIRTIO_BLK_T_FLUSH, .status = 0xff };
			assert_int_equal(front_submit(&f->queue[q], &r[q][i]), 0);
		}
		front_kick(&f->queue[q]);
	}
	for (unsigned q = 0; q < 2; q++)
		for (unsigned i = 0; i < STORM; i++)
			while (r[q][i].status == 0xff)
				front_poll(&f->queue[q]);
}

/* Of two that wait for each other at the device, each is there for longer than it paid when it went. */
static void flushes_pay_for_their_time(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 64, .indirect = true, .data_bytes = 1 << 20 };
	uint64_t since = clock_now_ns(), sum = 0, n = 0;
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, flushes);
	f = host_run_attach(&run, "a", "d", &config);
	while (sum < n * FLUSH_NS + FLUSH_NS / 2 || n == 0) {
		assert_true(clock_now_ns() - since < 120 * NSEC_PER_SEC);
		storm(f);
		host_run_do(&run, read_flushes, &n);
		sum = used(&run);
	}
	print_message("  %u flushes of 20 ms: %.1f ms in the ledger\n", (unsigned)n, (double)sum / NSEC_PER_MSEC);
	frontend_destroy(f);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_is_booked_once),
		cmocka_unit_test(flushes_pay_for_their_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
