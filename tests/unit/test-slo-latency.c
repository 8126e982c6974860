/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a device of eight channels (4 KiB in 100 us, 128 KiB in 800 us). A class with a p99 target of 1 ms, at 20 % of
 * the device, beside another VM's flood of 128 KiB writes at depth 256: the target is kept, the device stays as busy as
 * without scheduling, where p99 is many times the target. A target that the device cannot reach is reported as such, and
 * costs no throughput. The whole run counts, from the first request on.
 */
#include "slo-sim.h"

#include "slo/internal.h"

#define CHANNELS 8
#define BASE_NS 77419 /* 4 KiB: 100 us, 128 KiB: 800 us */
#define BYTE_PS 5513
#define GOLD_RATE (0.2 * CHANNELS / 100e-6)

static struct sim_client gold, flood;
static struct sim_client *const both[2] = { &gold, &flood };

struct result {
	uint64_t p99_ns;
	double busy;
	struct slo_sched_report sched;
	struct slo_verdict verdict;
};

static double p99_us(const struct hist *h)
{
	return (double)hist_quantile(h, 990) / 1000;
}

static void run(bool off, unsigned depth, uint64_t target_ns, uint64_t scale, struct result *ret)
{
	struct slo_sched *s = sim_sched(depth);
	struct slo_node *class = sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ .p99_ns = target_ns });
	struct slo_report report;
	struct sim m;
	uint64_t ns = 20 * NSEC_PER_SEC;

	sim_init(&m, off ? NULL : s, CHANNELS, BASE_NS * scale, BYTE_PS * scale, 11);
	gold = (struct sim_client){ .flow = sim_flow(class), .op = SLO_READ, .bytes = 4096, .rate = GOLD_RATE / (double)scale };
	flood = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }),
								(struct slo_promise){ 0 })),
				     .op = SLO_WRITE, .bytes = 131072, .depth = 256 };
	sim_client_start(&m, &gold);
	sim_client_start(&m, &flood);
	sim_run_for(&m, ns);
	ret->p99_ns = hist_quantile(&gold.latency, 990);
	ret->busy = (double)(gold.done * 100000 + flood.done * 800000) * (double)scale / (double)(ns * CHANNELS);
	slo_sched_report(s, &ret->sched);
	slo_node_report(class, m.now, &report);
	ret->verdict = report.latency[SLO_SPAN_10S];
	print_message("  %-3s depth %3u target %6.0f us: p99 %8.0f us, device busy %5.1f %%, window %u (floor %u, %llu shrinks, %llu grows)%s\n",
		      off ? "off" : "on", depth, (double)target_ns / 1000, p99_us(&gold.latency), ret->busy * 100,
		      ret->sched.window, ret->sched.window_floor, (unsigned long long)ret->sched.window_shrinks,
		      (unsigned long long)ret->sched.window_grows, ret->verdict.kept ? "" : ", violated");
	sim_fini(&m, both, 2);
	slo_sched_destroy(s);
}

static void target_beside_a_flood(void **state)
{
	struct result off, on;

	(void)state;
	run(true, 256, NSEC_PER_MSEC, 1, &off);
	assert_true(off.p99_ns >= 5 * NSEC_PER_MSEC);
	for (unsigned depth = 16; depth <= 256; depth *= 2) {
		run(false, depth, NSEC_PER_MSEC, 1, &on);
		assert_true(on.p99_ns <= NSEC_PER_MSEC);
		assert_true(on.busy >= off.busy * 0.95);
		assert_true(on.verdict.kept);
	}
	/* The guest's version: everything fifty times slower. */
	run(false, 256, 50 * NSEC_PER_MSEC, 50, &on);
	assert_true(on.p99_ns <= 50 * NSEC_PER_MSEC * 2);
	assert_true(on.busy >= off.busy * 0.95);
}

static void unreachable_target_is_reported(void **state)
{
	struct result on;

	(void)state;
	run(false, 256, 90 * NSEC_PER_USEC, 1, &on);
	assert_true(on.busy >= 0.95);
	assert_false(on.verdict.kept);
	assert_int_equal(on.verdict.reason, SLO_REASON_UNREACHABLE);
	assert_true(on.sched.latency_unreachable);
}

static void no_target_no_window(void **state)
{
	struct result on;

	(void)state;
	run(false, 64, 0, 1, &on);
	assert_int_equal(on.sched.window, 64);
	assert_int_equal(on.sched.window_shrinks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(target_beside_a_flood),
		cmocka_unit_test(unreachable_target_is_reported),
		cmocka_unit_test(no_target_no_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
