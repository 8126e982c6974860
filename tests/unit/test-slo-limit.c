/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: limits by requests and by bytes, of classes and of VMs, are never exceeded by more than one burst in any window,
 * and reached; requests above `split` count as several; what is drained past a limit is owed. A throttled class costs its
 * neighbours nothing, and the reports name the limit.
 */
#include "slo-sim.h"

#define DISPATCHES 65536

struct watch {
	struct slo_node *node; /* VM or class */
	unsigned n;
	uint64_t at[DISPATCHES], units[DISPATCHES];
	bool bytes;
};

static void watch_piece(struct sim *m, const struct slo_piece *p)
{
	struct watch *w = m->arg;
	struct slo_node *class = slo_node_parent(slo_flow_node(p->flow));

	if (class != w->node && slo_node_parent(class) != w->node)
		return;
	assert_true(w->n < DISPATCHES);
	w->at[w->n] = p->dispatch_ns;
	w->units[w->n++] = w->bytes ? p->bytes : 1;
}

/* The most that went in any window of `ns`. */
static uint64_t most_in(const struct watch *w, uint64_t ns)
{
	uint64_t most = 0, sum = 0;

	for (unsigned head = 0, tail = 0; head < w->n; head++) {
		sum += w->units[head];
		while (w->at[head] - w->at[tail] >= ns)
			sum -= w->units[tail++];
		most = max_u64(most, sum);
	}
	return most;
}

static void limit_case(struct slo_promise p, bool on_vm, uint64_t bytes, double rate, double burst)
{
	static struct sim_client a, b;
	static struct watch w;
	struct slo_sched *s = sim_sched(8);
	struct slo_node *vm = sim_vm(s, on_vm ? p : (struct slo_promise){ 0 });
	struct slo_node *class = sim_class(vm, on_vm ? (struct slo_promise){ 0 } : p);
	struct sim_client *list[2] = { &a, &b };
	uint64_t ten_ms, second, total = 0;
	struct slo_report r;
	struct sim m;

	w = (struct watch){ .node = class, .bytes = p.limit.bandwidth != 0 };
	sim_init(&m, s, 8, 100 * NSEC_PER_USEC, 0, 7);
	m.dispatched = watch_piece;
	m.arg = &w;
	a = (struct sim_client){ .flow = sim_flow(class), .bytes = bytes, .depth = 16 };
	b = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 })),
				 .bytes = 4096, .depth = 4 };
	sim_client_start(&m, &a);
	sim_client_start(&m, &b);
	sim_run_for(&m, 10 * NSEC_PER_SEC + NSEC_PER_MSEC);
	ten_ms = most_in(&w, 10 * NSEC_PER_MSEC);
	second = most_in(&w, NSEC_PER_SEC);
	for (unsigned i = 0; i < w.n; i++)
		total += w.units[i];
	print_message("  %s limit %.0f/s burst %.0f, %llu-byte requests: most in 1 s %llu, in 10 ms %llu, mean %.1f/s\n",
		      on_vm ? "VM" : "class", rate, burst, (unsigned long long)bytes, (unsigned long long)second,
		      (unsigned long long)ten_ms, (double)total / 10);
	assert_true((double)second <= rate + burst);
	assert_true((double)ten_ms <= rate / 100 + burst + 1);
	assert_true((double)total >= rate * 10 * 0.98);
	/* Four at a time of 100 us: nobody else is held up. */
	assert_true(b.done >= 10 * 40000 * 0.99);
	slo_node_report(on_vm ? vm : class, m.now, &r);
	assert_true(r.attained[SLO_SPAN_1S].throttled_ns > NSEC_PER_SEC / 2);
	sim_fini(&m, list, 2);
	slo_sched_destroy(s);
}

static void limits_hold(void **state)
{
	(void)state;
	limit_case((struct slo_promise){ .limit = { .milli_iops = 100000 } }, false, 4096, 100, 2);
	limit_case((struct slo_promise){ .limit = { .milli_iops = 100000 }, .burst_milli_requests = 20000 }, false, 4096, 100, 20);
	limit_case((struct slo_promise){ .limit = { .milli_iops = 2600 } }, false, 4096, 2.6, 1.5);
	limit_case((struct slo_promise){ .limit = { .milli_iops = 100000 } }, true, 4096, 100, 2);
	limit_case((struct slo_promise){ .limit = { .bandwidth = 10000000 } }, false, 4096, 1e7, 104096);
	limit_case((struct slo_promise){ .limit = { .bandwidth = 1000000 } }, true, 131072, 1e6, 1.5 * 131072);
	limit_case((struct slo_promise){ .limit = { .bandwidth = 1000000 }, .burst_bytes = 500000 }, false, 65536, 1e6, 5e5);
	/* 1 MiB in pieces of 128 KiB: eight requests each. */
	limit_case((struct slo_promise){ .limit = { .milli_iops = 80000 } }, false, 1 << 20, 80, 1.8);
}

/* On a slow disk a limit's request waits for its turn when its time has come: it is reached all the same. */
static void low_limit_is_reached_on_a_busy_disk(void **state)
{
	static struct sim_client a, b;
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ 0 });
	struct sim_client *list[2] = { &a, &b };
	struct sim m;

	(void)state;
	sim_init(&m, s, 1, 12 * NSEC_PER_MSEC, 0, 9);
	a = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ .limit = { 5000 } })), .bytes = 4096,
				 .depth = 16 };
	b = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ 0 })), .bytes = 4096, .depth = 48 };
	sim_client_start(&m, &a);
	sim_client_start(&m, &b);
	sim_run_for(&m, 60 * NSEC_PER_SEC);
	print_message("  limit 5 on a busy 12 ms disk: %.2f\n", (double)a.done / 60);
	assert_in_range(a.done, 60 * 5 * 98 / 100, 60 * 5 + 2);
	sim_fini(&m, list, 2);
	slo_sched_destroy(s);
}

/* A class limit below its VM's: the reservation above it is the operator's mistake, and is called so. */
static void reports_name_the_limit(void **state)
{
	static struct sim_client a, b;
	struct slo_sched *s = sim_sched(4);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ .limit = { .milli_iops = 300000 } });
	struct slo_node *own = sim_class(vm, (struct slo_promise){ .reservation = { 200000 }, .limit = { 100000 } });
	struct slo_node *vms = sim_class(vm, (struct slo_promise){ .reservation = { 400000 } });
	struct sim_client *list[2] = { &a, &b };
	struct slo_report r;
	struct sim m;

	(void)state;
	sim_init(&m, s, 4, NSEC_PER_MSEC, 0, 8);
	a = (struct sim_client){ .flow = sim_flow(own), .bytes = 4096, .depth = 8 };
	b = (struct sim_client){ .flow = sim_flow(vms), .bytes = 4096, .depth = 8 };
	sim_client_start(&m, &a);
	sim_client_start(&m, &b);
	sim_run_for(&m, 5 * NSEC_PER_SEC);
	slo_node_report(own, m.now, &r);
	assert_false(r.reservation[SLO_SPAN_1S].kept);
	assert_int_equal(r.reservation[SLO_SPAN_1S].reason, SLO_REASON_OWN_LIMIT);
	slo_node_report(vms, m.now, &r);
	assert_false(r.reservation[SLO_SPAN_1S].kept);
	assert_int_equal(r.reservation[SLO_SPAN_1S].reason, SLO_REASON_VM_LIMIT);
	sim_fini(&m, list, 2);
	slo_sched_destroy(s);
}

/* What a class's own limit holds back is no demand of its VM: nobody else keeps the VM from what it is promised. */
static void a_limited_class_does_not_accuse_the_device(void **state)
{
	static struct sim_client limited, wanting, flood;
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ .reservation = { 50000 } });
	struct sim_client *list[3] = { &limited, &wanting, &flood };
	struct slo_report r;
	struct sim m;

	(void)state;
	sim_init(&m, s, 1, 12 * NSEC_PER_MSEC, 0, 8);
	limited = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ .limit = { 5000 } })), .bytes = 4096,
				       .depth = 64 };
	sim_client_start(&m, &limited);
	sim_run_for(&m, 12 * NSEC_PER_SEC);
	slo_node_report(vm, m.now, &r);
	assert_true(r.reservation[SLO_SPAN_10S].kept);
	assert_int_equal(r.reservation[SLO_SPAN_10S].reason, SLO_REASON_DEMAND);
	/* With a class that wants it, it is no excuse. */
	wanting = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ .shares = 1 })), .bytes = 4096, .depth = 8 };
	flood = (struct sim_client){ .flow = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ .reservation = { 70000 } }),
								(struct slo_promise){ .reservation = { 70000 } })),
				     .bytes = 4096, .depth = 64 };
	sim_client_start(&m, &wanting);
	sim_client_start(&m, &flood);
	sim_run_for(&m, 12 * NSEC_PER_SEC);
	slo_node_report(vm, m.now, &r);
	assert_false(r.reservation[SLO_SPAN_10S].kept);
	assert_int_equal(r.reservation[SLO_SPAN_10S].reason, SLO_REASON_SATURATED);
	sim_fini(&m, list, 3);
	slo_sched_destroy(s);
}

/* Whose credit is used up elsewhere is not held back by a limit of its own. */
static void without_credit_is_not_throttled(void **state)
{
	struct slo_sched *s = sim_sched(1);
	struct slo_node *class = sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 });
	struct slo_flow *f = sim_flow(class);
	struct slo_report report;
	struct slo_piece p;
	struct slo_req r;

	(void)state;
	slo_req_init(&r, SLO_READ, 0, 4096);
	slo_class_hold(class, true);
	assert_false(slo_admit_fast(f, &r, NSEC_PER_SEC, &p));
	slo_enqueue(f, &r, NSEC_PER_SEC);
	assert_false(slo_dispatch(s, 2 * NSEC_PER_SEC, &p));
	slo_node_report(class, 3 * NSEC_PER_SEC, &report);
	assert_true(report.attained[SLO_SPAN_10S].held_ns >= NSEC_PER_SEC);
	assert_int_equal(report.attained[SLO_SPAN_10S].throttled_ns, 0);
	slo_class_hold(class, false);
	assert_true(slo_dispatch(s, 3 * NSEC_PER_SEC, &p));
	assert_true(slo_complete(&p, 3 * NSEC_PER_SEC, 0));
	slo_sched_destroy(s);
}

/* Forty held requests of a class of 2.6 IOPS leave at once on reset; the class then owes fifteen seconds. */
static void drained_is_owed(void **state)
{
	struct slo_sched *s = sim_sched(4);
	struct slo_flow *f = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }),
						(struct slo_promise){ .limit = { 2600 } }));
	struct slo_req r[41];
	struct slo_piece p[41], extra;
	uint64_t now = NSEC_PER_SEC;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		slo_req_init(&r[i], SLO_WRITE, i * 4096, 4096);
		slo_enqueue(f, &r[i], now);
	}
	assert_true(slo_dispatch(s, now, &p[0]));
	assert_false(slo_dispatch(s, now, &extra));
	for (n = 1; slo_flow_drain(f, now, &p[n]); n++)
		assert_ptr_equal(p[n].req, &r[n]);
	assert_int_equal(n, 40);
	assert_int_equal(slo_flow_held(f), 0);
	assert_int_equal(slo_flow_in_flight(f), 40);
	for (unsigned i = 0; i < 40; i++)
		assert_true(slo_complete(&p[i], now + NSEC_PER_MSEC, 0));
	slo_req_init(&r[40], SLO_WRITE, 0, 4096);
	assert_false(slo_admit_fast(f, &r[40], now + NSEC_PER_SEC, &extra));
	slo_enqueue(f, &r[40], now + NSEC_PER_SEC);
	assert_false(slo_dispatch(s, now + 10 * NSEC_PER_SEC, &extra));
	assert_true(slo_next_ns(s) > now + 14 * NSEC_PER_SEC && slo_next_ns(s) < now + 16 * NSEC_PER_SEC);
	/* Lifting the limit helps at once. */
	assert_int_equal(slo_update(slo_node_parent(slo_flow_node(f)), &(struct slo_promise){ 0 }, now + 10 * NSEC_PER_SEC), 0);
	assert_true(slo_dispatch(s, now + 10 * NSEC_PER_SEC, &extra));
	assert_true(slo_complete(&extra, now + 11 * NSEC_PER_SEC, 0));
	slo_sched_destroy(s);
}

/*
 * Flushes go past a VM's limit by a second, no more, so that reads do not have to wait for longer; they are no affair of the class
 * with which they come.
 */
static void flushes_are_owed_for_a_second(void **state)
{
	for (unsigned on_vm = 0; on_vm < 2; on_vm++) {
		static struct sim_client flushes, reads;
		struct slo_promise p = { .limit = { .milli_iops = 10000 } }, none = { 0 };
		struct slo_sched *s = sim_sched(4);
		struct slo_node *class = sim_class(sim_vm(s, on_vm ? p : none), on_vm ? none : p);
		struct sim_client *list[2] = { &flushes, &reads };
		struct sim m;

		(void)state;
		sim_init(&m, s, 4, NSEC_PER_MSEC, 0, 8);
		flushes = (struct sim_client){ .flow = sim_flow(class), .op = SLO_FLUSH, .depth = 1,
						 .think_ns = NSEC_PER_MSEC };
		sim_client_start(&m, &flushes);
		sim_run_for(&m, 20 * NSEC_PER_SEC);
		if (on_vm)
			assert_in_range(flushes.done, 20 * 10 * 98 / 100, 20 * 10 + 10 + 2);
		else
			assert_true(flushes.done > 19000);
		reads = (struct sim_client){ .flow = sim_flow(class), .bytes = 4096, .depth = 1 };
		flushes.stop_ns = m.now;
		sim_client_start(&m, &reads);
		sim_run_for(&m, on_vm ? 1200 * NSEC_PER_MSEC : 10 * NSEC_PER_MSEC);
		assert_true(reads.done >= 1);
		sim_fini(&m, list, 2);
		slo_sched_destroy(s);
	}
}

static void watch_add(struct watch *w, uint64_t now, uint64_t units)
{
	assert_true(w->n < DISPATCHES);
	w->at[w->n] = now;
	w->units[w->n++] = units;
}

/* Reads of 4 KiB go past. */
static void pass(struct slo_flow *f, unsigned n, unsigned instant, uint64_t now)
{
	struct slo_passed p = { .n = { n }, .instant = instant, .bytes = { n * 4096ul } };

	slo_flow_passed(f, &p, now);
}

/* A queue that always wants 32 more, each done at once: what may pass it lets pass, the next one it asks for. */
static void batch_case(struct slo_promise p, bool on_vm, double rate, double burst)
{
	static struct watch w;
	struct slo_sched *s = sim_sched(64);
	struct slo_node *vm = sim_vm(s, on_vm ? p : (struct slo_promise){ 0 });
	struct slo_node *class = sim_class(vm, on_vm ? (struct slo_promise){ 0 } : p);
	struct slo_flow *f = sim_flow(class);
	uint64_t unit = p.limit.bandwidth ? 4096 : 1, total = 0, passed = 0;
	struct slo_report report;

	w.n = 0;
	for (uint64_t now = NSEC_PER_SEC; now < 3 * NSEC_PER_SEC; now += 200 * NSEC_PER_USEC) {
		unsigned n = (unsigned)min_u64(slo_flow_room(f, now).all, 32);
		struct slo_piece piece;
		struct slo_req r;

		pass(f, n, n, now);
		slo_req_init(&r, SLO_READ, 0, 4096);
		passed += n;
		if (n < 32 && slo_admit_fast(f, &r, now, &piece)) {
			assert_true(slo_complete(&piece, now, 0));
			n++;
		}
		if (n)
			watch_add(&w, now, n * unit);
		total += n * unit;
	}
	/* What passed last is booked when somebody looks: in the second in which it went. */
	slo_node_report(class, 3 * NSEC_PER_SEC - 1, &report);
	slo_node_report(class, 3 * NSEC_PER_SEC, &report);
	print_message("  batches, %s limit %.0f/s: most in 1 s %llu, mean %.1f/s, %.1f %% passed\n", on_vm ? "VM" : "class", rate,
		      (unsigned long long)most_in(&w, NSEC_PER_SEC), (double)total / 2,
		      100.0 * (double)(passed * unit) / (double)total);
	assert_true((double)most_in(&w, NSEC_PER_SEC) <= rate + burst);
	assert_true((double)most_in(&w, 10 * NSEC_PER_MSEC) <= rate / 100 + burst + 1);
	assert_true((double)total >= rate * 2 * 0.98);
	assert_true(passed * unit > total / 2);
	assert_int_equal(report.attained[SLO_SPAN_10S].requests, total / unit);
	assert_int_equal(report.attained[SLO_SPAN_10S].bytes, total / unit * 4096);
	slo_sched_destroy(s);
}

static void batches_keep_limits(void **state)
{
	(void)state;
	/* By default a burst is what goes in 10 ms, and one. */
	batch_case((struct slo_promise){ .limit = { .milli_iops = 50000000 } }, false, 50000, 501);
	batch_case((struct slo_promise){ .limit = { .milli_iops = 50000000 } }, true, 50000, 501);
	batch_case((struct slo_promise){ .limit = { .milli_iops = 50000000 }, .burst_milli_requests = 100000 }, false, 50000, 100);
	batch_case((struct slo_promise){ .limit = { .bandwidth = 200000000 } }, false, 2e8, 2e6 + 131072);
}

/* Small requests at one moment: as much as would go one by one, however large a request may be before it is cut. */
static void batch_burst_case(uint64_t split, uint64_t burst, uint64_t most)
{
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_promise p = { .limit = { .bandwidth = 10000000 }, .burst_bytes = burst };
	uint64_t now = NSEC_PER_SEC, total = 0;
	struct slo_sched *s;
	struct slo_flow *f;
	struct slo_piece piece;
	struct slo_req r;
	unsigned n;

	o.split_bytes = split;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	f = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), p));
	for (slo_req_init(&r, SLO_READ, 0, 4096); slo_admit_fast(f, &r, now, &piece); slo_req_init(&r, SLO_READ, 0, 4096)) {
		assert_true(slo_complete(&piece, now, 0));
		n = slo_flow_room(f, now).all;
		pass(f, n, n, now);
		total += (n + 1) * 4096ul;
		assert_true(total <= most);
	}
	assert_true(total > most - 4096);
	slo_sched_destroy(s);
}

static void batches_keep_bursts(void **state)
{
	static const uint64_t split[] = { 4096, 128 << 10, 1 << 30, UINT64_MAX };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(split); i++) {
		batch_burst_case(split[i], 0, 100000 + 4096);
		batch_burst_case(split[i], 200000, 200000);
		batch_burst_case(split[i], 20000, 20000);
	}
}

/* What a flow owes or waits for leaves no room: nothing passes what is held, or a full window. */
static void no_room_when_somebody_waits(void **state)
{
	struct slo_sched *s = sim_sched(4);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ 0 }), *class = sim_class(vm, (struct slo_promise){ 0 });
	struct slo_flow *f = sim_flow(class), *other = sim_flow(sim_class(vm, (struct slo_promise){ .limit = { 1000 } }));
	struct slo_req r[4];
	struct slo_piece p[4];
	uint64_t now = NSEC_PER_SEC;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(r); i++)
		slo_req_init(&r[i], SLO_READ, 0, 4096);
	assert_int_equal(slo_flow_room(f, now).kept, 0); /* one has to be accounted for in full first */
	assert_true(slo_admit_fast(f, &r[0], now, &p[0]));
	assert_int_equal(slo_flow_room(f, now).kept, 3);
	for (unsigned i = 0; i < 3; i++)
		slo_flow_out(f, now);
	pass(f, 3, 0, now);
	assert_int_equal(slo_flow_room(f, now).kept, 0);
	assert_int_equal(slo_flow_in_flight(f), 4);
	slo_flow_back(f, SLO_READ, 4096, now, now + 1000);
	assert_int_equal(slo_flow_room(f, now).kept, 1);
	slo_enqueue(other, &r[1], now);
	assert_int_equal(slo_flow_room(f, now).kept, 0);
	assert_true(slo_dispatch(s, now, &p[1]));
	assert_true(slo_complete(&p[1], now + 1000, 0));
	assert_int_equal(slo_flow_room(f, now + 1000).kept, 1);
	slo_class_hold(class, true);
	assert_int_equal(slo_flow_room(f, now + 1000).kept, 0);
	slo_class_hold(class, false);
	for (unsigned i = 0; i < 2; i++)
		slo_flow_back(f, SLO_READ, 4096, now, now + 1000);
	assert_true(slo_complete(&p[0], now + 1000, 0));
	assert_int_equal(slo_in_flight(s), 0);
	slo_sched_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(low_limit_is_reached_on_a_busy_disk),
		cmocka_unit_test(reports_name_the_limit),
		cmocka_unit_test(a_limited_class_does_not_accuse_the_device),
		cmocka_unit_test(without_credit_is_not_throttled),
		cmocka_unit_test(drained_is_owed),
		cmocka_unit_test(flushes_are_owed_for_a_second),
		cmocka_unit_test(batches_keep_limits),
		cmocka_unit_test(batches_keep_bursts),
		cmocka_unit_test(no_room_when_somebody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
