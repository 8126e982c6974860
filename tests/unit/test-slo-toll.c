/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a VM that flushes a lot has its share of the device though the costs of reads and writes are far from the truth: what
 * a flush owes is worth what others lose by it. Nothing is learned meanwhile, as the device is never without a queue.
 */
#include "slo-sim.h"

#define QUEUES 6
#define LATENCY_NS 77419
#define BYTE_PS 5513

static struct sim_client steady, writer, flood[QUEUES], *const list[] = {
	&steady, &writer, &flood[0], &flood[1], &flood[2], &flood[3], &flood[4], &flood[5],
};

static struct slo_sched *sched_with(double factor)
{
	static const uint64_t bytes[] = { 4096, 131072 };
	static struct slo_cost_model model;
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_sched *s;

	for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++)
		slo_cost_know(&model, SLO_WRITE, bytes[i],
			      (uint64_t)(factor * (double)(LATENCY_NS + bytes[i] * BYTE_PS / 1000)));
	o.cost = &model;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	return s;
}

static uint64_t theirs_ns(void)
{
	uint64_t sum = 0;

	for (unsigned i = 1; i < ARRAY_SIZE(list); i++)
		sum += list[i]->device_ns;
	return sum;
}

/* Of the device's time, that of a VM that is promised half of it. */
static double part_of_the_flusher(unsigned channels, double factor, uint64_t flush_ns)
{
	struct slo_sched *s = sched_with(factor);
	struct slo_node *class;
	uint64_t mine, theirs;
	struct sim m;

	sim_init(&m, s, channels, LATENCY_NS, BYTE_PS, 31);
	m.latency_ns[SLO_FLUSH] = flush_ns;
	steady = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 })),
				      .op = SLO_WRITE, .bytes = 65536, .depth = 256 };
	class = sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 });
	writer = (struct sim_client){ .flow = sim_flow(class), .op = SLO_WRITE, .bytes = 131072, .depth = 256 };
	for (unsigned i = 0; i < QUEUES; i++)
		flood[i] = (struct sim_client){ .flow = sim_flow(class), .op = SLO_FLUSH, .depth = 8 };
	sim_client_start(&m, &steady);
	sim_run_for(&m, NSEC_PER_SEC);
	for (unsigned i = 1; i < ARRAY_SIZE(list); i++)
		sim_client_start(&m, list[i]);
	sim_run_for(&m, 20 * NSEC_PER_SEC);
	mine = steady.device_ns;
	theirs = theirs_ns();
	sim_run_for(&m, 40 * NSEC_PER_SEC);
	mine = steady.device_ns - mine;
	theirs = theirs_ns() - theirs;
	assert_true((double)(mine + theirs) >= 0.97 * 40e9 * channels);
	sim_fini(&m, list, ARRAY_SIZE(list));
	slo_sched_destroy(s);
	return (double)theirs / (double)(mine + theirs);
}

static void check(unsigned channels, double factor, uint64_t flush_ns)
{
	double part = part_of_the_flusher(channels, factor, flush_ns);

	print_message("  %u channels, costs %g of the truth, flushes of %llu ms: %.3f of the device (half is due)\n", channels, factor,
		      (unsigned long long)(flush_ns / NSEC_PER_MSEC), part);
	/* With a hundredth, what its first flushes owe is paid for as long as this runs. */
	assert_true(part >= (factor < 0.1 ? 0.3 : 0.47) && part <= 0.53);
}

static void costs_far_from_the_truth(void **state)
{
	static const double factor[] = { 0.01, 0.1, 0.3, 1, 3 };
	static const uint64_t flush_ms[] = { 5, 25, 125 };

	(void)state;
	for (unsigned channels = 1; channels <= 8; channels *= 8)
		for (unsigned i = 0; i < ARRAY_SIZE(factor); i++)
			for (unsigned j = 0; j < ARRAY_SIZE(flush_ms); j++)
				check(channels, factor[i], flush_ms[j] * NSEC_PER_MSEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(costs_far_from_the_truth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
