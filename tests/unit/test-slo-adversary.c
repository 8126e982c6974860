/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a VM that claims every class it can, with 256 outstanding, mixed sizes, discards and flush storms, gains
 * nothing over its envelope, and its neighbour's p99 stays in target; on a device where flushes cost nearly nothing, and on those
 * those where one takes as long as many reads. The pool's costs are known from a calibration, that of a flush in some cases only.
 * A VM that does nothing but flush has no more than its envelope either; and the flushes of one that stays within its own never wait.
 */
#include "slo-sim.h"

#define CHANNELS 8
#define NASTY 7

static struct sim_client good, steady, nasty[NASTY];

static const struct sim_client kinds[NASTY] = {
	{ .op = SLO_READ, .bytes = 512, .depth = 64 },
	{ .op = SLO_READ, .bytes = 4096, .bytes_max = 1 << 20, .depth = 64 },
	{ .op = SLO_WRITE, .bytes = 131072, .depth = 64 },
	{ .op = SLO_WRITE, .bytes = 4 << 20, .depth = 16 },
	{ .op = SLO_DISCARD, .bytes = 64 << 20, .depth = 32 },
	{ .op = SLO_FLUSH, .depth = 64 },
	{ .op = SLO_WRITE_ZEROES, .bytes = 1 << 20, .depth = 16 },
};

static void device_init(struct sim *m, struct slo_sched *s, uint64_t flush_ns, uint64_t seed)
{
	sim_init(m, s, CHANNELS, 77419, 5513, seed);
	m->latency_ns[SLO_FLUSH] = flush_ns;
	m->latency_ns[SLO_DISCARD] = 300 * NSEC_PER_USEC;
}

/* One request at a time of each kind: what the calibration of a pool does; `flush`: of a flush, too. */
static struct slo_cost_model calibrate(uint64_t flush_ns, bool flush)
{
	static const uint64_t sizes[] = { 512, 4096, 16384, 65536, 131072 };
	struct slo_sched *s = sim_sched(1);
	struct slo_node *class = sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 });
	struct sim_client c, *list[1] = { &c };
	struct slo_cost_model model;

	for (unsigned op = 0; op < SLO_OPS; op++)
		for (unsigned i = 0; i < ARRAY_SIZE(sizes) && (flush || op != SLO_FLUSH); i++) {
			struct sim m;

			device_init(&m, s, flush_ns, 20);
			c = (struct sim_client){ .flow = sim_flow(class), .op = op, .depth = 1,
						 .bytes = sizes[i] << (op == SLO_DISCARD || op == SLO_WRITE_ZEROES ? 6 : 0) };
			sim_client_start(&m, &c);
			sim_run_for(&m, 50 * NSEC_PER_MSEC);
			sim_fini(&m, list, 1);
		}
	model = *slo_sched_cost(s);
	slo_sched_destroy(s);
	return model;
}

static void start_nasty(struct sim *m, struct slo_node *vm, struct sim_client **list)
{
	for (unsigned i = 0; i < NASTY; i++) {
		/* Every class that the policy has, with the best promises that the policy gives them. */
		struct slo_promise p = { .shares = i % 2 ? 10000 : 100 };

		nasty[i] = kinds[i];
		nasty[i].flow = sim_flow(sim_class(vm, p));
		list[i] = &nasty[i];
		sim_client_start(m, &nasty[i]);
	}
}

static uint64_t device_ns(struct sim_client *const list[], unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += list[i]->device_ns;
	return sum;
}

static void adversary_beside(uint64_t flush_ns, bool known, uint32_t shares)
{
	double envelope = (double)shares / (double)(shares + 100);
	struct sim_client *list[NASTY + 2] = { &good, &steady };
	struct slo_cost_model model = calibrate(flush_ns, known);
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_node *mine, *theirs;
	uint64_t mine_ns, theirs_ns, p99;
	static struct hist before;
	struct slo_sched *s;
	struct sim m;
	double part;

	o.depth = 256;
	o.cost = &model;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	mine = sim_vm(s, (struct slo_promise){ 0 });
	theirs = sim_vm(s, (struct slo_promise){ .shares = shares });
	device_init(&m, s, flush_ns, 21);
	good = (struct sim_client){ .flow = sim_flow(sim_class(mine, (struct slo_promise){ .p99_ns = 2 * NSEC_PER_MSEC })),
				    .op = SLO_READ, .bytes = 4096, .rate = 8000 };
	steady = (struct sim_client){ .flow = sim_flow(sim_class(mine, (struct slo_promise){ 0 })), .op = SLO_WRITE,
				      .bytes = 65536, .depth = 32 };
	sim_client_start(&m, &good);
	sim_client_start(&m, &steady);
	start_nasty(&m, theirs, list + 2);
	sim_run_for(&m, NSEC_PER_SEC);
	mine_ns = device_ns(list, 2);
	theirs_ns = device_ns(list + 2, NASTY);
	before = good.latency;
	sim_run_for(&m, 10 * NSEC_PER_SEC);
	mine_ns = device_ns(list, 2) - mine_ns;
	theirs_ns = device_ns(list + 2, NASTY) - theirs_ns;
	hist_subtract(&good.latency, &before);
	p99 = hist_quantile(&good.latency, 990);
	part = (double)theirs_ns / (double)(theirs_ns + mine_ns);
	print_message("  flushes of %llu us%s: adversary has %.3f of the device's time (envelope %.3f), neighbour's p99 %llu us of 2000, "
		      "window %u, busy %.1f %%\n",
		      (unsigned long long)flush_ns / 1000, known ? "" : ", not known", part, envelope, (unsigned long long)p99 / 1000, slo_window(s),
		      (double)(theirs_ns + mine_ns) / (10e9 * CHANNELS) * 100);
	/* Flushes that are cheaper than they are thought to be cost it some of its own. */
	assert_true(part <= envelope * 1.05 && (!known || part >= envelope * 0.9));
	assert_true(p99 <= 2 * NSEC_PER_MSEC);
	assert_true((double)(theirs_ns + mine_ns) >= 10e9 * CHANNELS * 0.95);
	sim_fini(&m, list, NASTY + 2);
	slo_sched_destroy(s);
}

static void adversary(void **state)
{
	static const uint64_t flush_us[] = { 20, 300, 1000, 5000, 20000 };

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(flush_us); i++)
		adversary_beside(flush_us[i / 2] * NSEC_PER_USEC, i % 2, 100);
	for (unsigned i = 0; i < 2; i++)
		adversary_beside(5 * NSEC_PER_MSEC, i, 25);
}

/* --- flushes alone --- */

static struct {
	const struct slo_flow *of; /* NULL: all */
	uint64_t n, longest_ns;
} flush_wait;

static void watch_flush(struct sim *m, const struct slo_piece *p)
{
	if (p->req->op != SLO_FLUSH || (flush_wait.of && p->flow != flush_wait.of))
		return;
	flush_wait.n++;
	flush_wait.longest_ns = max_u64(flush_wait.longest_ns, m->now - p->req->arrival_ns);
}

#define QUEUES 6

/* From each of its queues one flush after the other: unscheduled, that would be 6 of the device's 8 channels. */
static void only_flushes_beside(uint64_t flush_ns, bool known, uint32_t shares)
{
	double envelope = (double)shares / (double)(shares + 100);
	struct sim_client *list[QUEUES + 1] = { &steady };
	static struct sim_client flood[QUEUES];
	struct slo_cost_model model = calibrate(flush_ns, known);
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	uint64_t mine_ns, theirs_ns;
	struct slo_node *class;
	struct slo_sched *s;
	struct sim m;
	double part;

	o.cost = &model;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	device_init(&m, s, flush_ns, 22);
	m.dispatched = watch_flush;
	flush_wait.of = NULL;
	flush_wait.n = flush_wait.longest_ns = 0;
	steady = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 })),
				      .op = SLO_WRITE, .bytes = 65536, .depth = 256 };
	sim_client_start(&m, &steady);
	class = sim_class(sim_vm(s, (struct slo_promise){ .shares = shares }), (struct slo_promise){ 0 });
	for (unsigned i = 0; i < QUEUES; i++) {
		flood[i] = (struct sim_client){ .flow = sim_flow(class), .op = SLO_FLUSH, .depth = 8 };
		list[i + 1] = &flood[i];
		sim_client_start(&m, &flood[i]);
	}
	sim_run_for(&m, 2 * NSEC_PER_SEC);
	mine_ns = device_ns(list, 1);
	theirs_ns = device_ns(list + 1, QUEUES);
	sim_run_for(&m, 30 * NSEC_PER_SEC);
	mine_ns = device_ns(list, 1) - mine_ns;
	theirs_ns = device_ns(list + 1, QUEUES) - theirs_ns;
	part = (double)theirs_ns / (double)(theirs_ns + mine_ns);
	print_message("  nothing but flushes of %llu us%s: %.3f of the device's time (envelope %.3f), one waited %llu ms at most\n",
		      (unsigned long long)flush_ns / 1000, known ? "" : ", not known", part, envelope,
		      (unsigned long long)flush_wait.longest_ns / NSEC_PER_MSEC);
	assert_true(part <= envelope * 1.05);
	/* All its queues' flushes, and what it may be ahead, at the pace of its share. */
	assert_true((double)flush_wait.longest_ns <= (double)((QUEUES + 1) * flush_ns + 125 * NSEC_PER_MSEC) / (envelope * CHANNELS));
	sim_fini(&m, list, QUEUES + 1);
	slo_sched_destroy(s);
}

static void only_flushes(void **state)
{
	static const uint64_t flush_us[] = { 300, 5000, 20000, 300000 };

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(flush_us); i++)
		for (uint32_t shares = 5; shares <= 25; shares += 20)
			only_flushes_beside(flush_us[i / 2] * NSEC_PER_USEC, i % 2, shares);
}

/* Writes and flushes of 5 ms, a tenth of the device in all, where it is promised half. */
static void modest_flushes_never_wait(void **state)
{
	struct sim_client writer = { .op = SLO_WRITE, .bytes = 4096, .depth = 1, .think_ns = 2 * NSEC_PER_MSEC };
	struct sim_client syncer = { .op = SLO_FLUSH, .depth = 1, .think_ns = 5 * NSEC_PER_MSEC };
	struct sim_client *list[] = { &steady, &writer, &syncer };
	struct slo_sched *s = sim_sched(128);
	struct slo_node *class;
	struct sim m;

	(void)state;
	device_init(&m, s, 5 * NSEC_PER_MSEC, 23);
	m.dispatched = watch_flush;
	steady = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 })),
				      .op = SLO_WRITE, .bytes = 65536, .depth = 256 };
	class = sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 });
	writer.flow = sim_flow(class);
	syncer.flow = sim_flow(class);
	flush_wait.of = syncer.flow;
	flush_wait.n = flush_wait.longest_ns = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		sim_client_start(&m, list[i]);
	sim_run_for(&m, 30 * NSEC_PER_SEC);
	print_message("  %llu flushes beside a flood: the longest waited %llu ns\n", (unsigned long long)flush_wait.n,
		      (unsigned long long)flush_wait.longest_ns);
	assert_true(flush_wait.n > 500);
	assert_int_equal(flush_wait.longest_ns, 0);
	sim_fini(&m, list, ARRAY_SIZE(list));
	slo_sched_destroy(s);
}

/*
 * A tenth of the device, and in it a class with a reservation that is due twenty times a second: its turns are not those of the
 * VM's flushes, of which each takes as long as the reads of a twentieth of a second that are reserved.
 */
static void a_class_s_reservation_is_not_its_vm_s_flushes(void **state)
{
	struct sim_client reader = { .op = SLO_READ, .bytes = 4096, .depth = 4 };
	struct sim_client *list[QUEUES + 2] = { &steady, &reader };
	static struct sim_client flood[QUEUES];
	static struct slo_cost_model model;
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	uint64_t mine_ns, theirs_ns, reads;
	struct slo_sched *s;
	struct slo_node *vm, *class;
	struct sim m;
	double part;

	(void)state;
	slo_cost_know(&model, SLO_READ, 4096, 2 * NSEC_PER_MSEC);
	slo_cost_know(&model, SLO_FLUSH, 0, 5 * NSEC_PER_MSEC);
	o.depth = 1;
	o.cost = &model;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	sim_init(&m, s, 1, 2 * NSEC_PER_MSEC, 0, 25);
	m.latency_ns[SLO_FLUSH] = 5 * NSEC_PER_MSEC;
	m.dispatched = watch_flush;
	flush_wait.of = NULL;
	flush_wait.n = flush_wait.longest_ns = 0;
	steady = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ .shares = 90 }), (struct slo_promise){ 0 })),
				      .op = SLO_READ, .bytes = 4096, .depth = 32 };
	vm = sim_vm(s, (struct slo_promise){ .shares = 10 });
	reader.flow = sim_flow(sim_class(vm, (struct slo_promise){ .reservation.milli_iops = 20000 }));
	class = sim_class(vm, (struct slo_promise){ 0 });
	for (unsigned i = 0; i < QUEUES; i++) {
		flood[i] = (struct sim_client){ .flow = sim_flow(class), .op = SLO_FLUSH, .depth = 8 };
		list[i + 2] = &flood[i];
	}
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		sim_client_start(&m, list[i]);
	sim_run_for(&m, 5 * NSEC_PER_SEC);
	mine_ns = device_ns(list, 1);
	theirs_ns = device_ns(list + 1, QUEUES + 1);
	reads = reader.done;
	sim_run_for(&m, 20 * NSEC_PER_SEC);
	mine_ns = device_ns(list, 1) - mine_ns;
	theirs_ns = device_ns(list + 1, QUEUES + 1) - theirs_ns;
	reads = reader.done - reads;
	part = (double)theirs_ns / (double)(theirs_ns + mine_ns);
	print_message("  flushes beside a reservation of 20 iops in their VM: %.3f of the device (envelope 0.1), %.1f iops, one waited %llu "
		      "ms at most\n", part, (double)reads / 20, (unsigned long long)flush_wait.longest_ns / NSEC_PER_MSEC);
	assert_true(part <= 0.105);
	assert_true(reads >= 20 * 20 - 1);
	sim_fini(&m, list, ARRAY_SIZE(list));
	slo_sched_destroy(s);
}

/* Who has a flush at a device that stands still for a minute does not pay for that minute. */
static void a_device_that_stood_still_is_not_owed(void **state)
{
	struct sim_client reader = { .op = SLO_READ, .bytes = 4096, .depth = 32 };
	struct sim_client syncer = { .op = SLO_FLUSH, .depth = 1, .think_ns = NSEC_PER_USEC };
	struct sim_client *list[] = { &steady, &reader, &syncer };
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	static struct slo_cost_model model;
	uint64_t before, others;
	struct slo_sched *s;
	struct slo_node *vm;
	struct sim m;

	(void)state;
	slo_cost_know(&model, SLO_READ, 4096, NSEC_PER_MSEC);
	slo_cost_know(&model, SLO_FLUSH, 0, NSEC_PER_MSEC);
	o.depth = 8;
	o.cost = &model;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	vm = sim_vm(s, (struct slo_promise){ 0 });
	sim_init(&m, s, 1, NSEC_PER_MSEC, 0, 24);
	m.latency_ns[SLO_FLUSH] = NSEC_PER_MSEC;
	steady = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 })),
				      .op = SLO_READ, .bytes = 4096, .depth = 32 };
	reader.flow = sim_flow(sim_class(vm, (struct slo_promise){ 0 }));
	syncer.flow = sim_flow(sim_class(vm, (struct slo_promise){ 0 }));
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		sim_client_start(&m, list[i]);
	sim_run_for(&m, NSEC_PER_SEC);
	m.channel_free_ns[0] += 60 * NSEC_PER_SEC;
	sim_run_for(&m, 61 * NSEC_PER_SEC);
	before = reader.done;
	others = steady.done;
	sim_run_for(&m, 10 * NSEC_PER_SEC);
	print_message("  in 10 s after a minute of nothing: %llu reads of the VM that had a flush there, %llu of the other\n",
		      (unsigned long long)(reader.done - before), (unsigned long long)(steady.done - others));
	assert_true(reader.done - before > 2000);
	assert_true(steady.done - others >= 5000);
	sim_fini(&m, list, ARRAY_SIZE(list));
	slo_sched_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(adversary),
		cmocka_unit_test(only_flushes),
		cmocka_unit_test(modest_flushes_never_wait),
		cmocka_unit_test(a_class_s_reservation_is_not_its_vm_s_flushes),
		cmocka_unit_test(a_device_that_stood_still_is_not_owed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
