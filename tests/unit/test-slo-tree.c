/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the scheduler's small print. Uncontended requests touch no heap; a decision costs O(log n) up to 10,000 flows;
 * pieces, flushes, moving queues, removal; costs are learned, saved and reloaded; ioprio selects a class; and the tree
 * survives random operations of every kind.
 */
#include "slo-sim.h"

#include "slo/classmap.h"
#include "slo/internal.h"

#include <errno.h>

static const struct slo_promise plain;

static void fast_path_touches_no_heap(void **state)
{
	struct slo_sched *s = sim_sched(4);
	struct slo_promise p = { .reservation = { 100000 }, .limit = { .milli_iops = 1000000000 } };
	struct slo_flow *f = sim_flow(sim_class(sim_vm(s, p), p));
	struct slo_sched_report before, after;
	struct slo_req r[5];
	struct slo_piece piece[5];
	uint64_t now = NSEC_PER_SEC;

	(void)state;
	/* A reader that rests is noted for anticipation: let that be done with. */
	slo_sched_report(s, &before);
	for (unsigned i = 0; i < 4; i++) {
		slo_req_init(&r[i], SLO_READ, i * 65536, 4096);
		assert_true(slo_admit_fast(f, &r[i], now, &piece[i]));
	}
	slo_sched_report(s, &after);
	assert_int_equal(after.steps, before.steps);
	assert_int_equal(after.fast, 4);
	/* The window is full. */
	slo_req_init(&r[4], SLO_READ, 0, 4096);
	assert_false(slo_admit_fast(f, &r[4], now, &piece[4]));
	slo_enqueue(f, &r[4], now);
	assert_false(slo_dispatch(s, now, &piece[4]));
	assert_int_equal(slo_next_ns(s), UINT64_MAX);
	assert_true(slo_complete(&piece[0], now + 1000, 0));
	/* Something is queued: nothing overtakes it. */
	slo_req_init(&r[0], SLO_READ, 0, 4096);
	assert_false(slo_admit_fast(f, &r[0], now + 1000, &piece[0]));
	assert_true(slo_dispatch(s, now + 1000, &piece[4]));
	assert_ptr_equal(piece[4].req, &r[4]);
	for (unsigned i = 1; i < 5; i++)
		assert_true(slo_complete(&piece[i], now + 2000, 0));
	/* Larger than a piece. */
	slo_req_init(&r[0], SLO_READ, 0, 1 << 20);
	assert_false(slo_admit_fast(f, &r[0], now + 3000, &piece[0]));
	slo_sched_destroy(s);
}

/* All flows backlogged, in classes of ten: heap levels walked per dispatch. */
static double steps_per_decision(unsigned flows)
{
	struct slo_sched *s = sim_sched(8);
	struct slo_req *r = calloc(flows, 2 * sizeof(*r));
	struct slo_node *vm = NULL, *class = NULL;
	struct slo_sched_report before, after;
	uint64_t now = NSEC_PER_SEC, rounds = 20000;
	struct slo_flow *f;
	struct slo_piece p;

	assert_non_null(r);
	for (unsigned i = 0; i < flows; i++) {
		struct slo_promise promise = { .shares = 100 + i % 900, .reservation = { i % 3 ? 0 : 1000 } };

		if (i % 50 == 0)
			vm = sim_vm(s, promise);
		if (i % 10 == 0)
			class = sim_class(vm, promise);
		f = sim_flow(class);
		for (unsigned k = 0; k < 2; k++) {
			slo_req_init(&r[2 * i + k], SLO_READ, 0, 4096);
			slo_enqueue(f, &r[2 * i + k], now);
		}
	}
	slo_sched_report(s, &before);
	for (uint64_t i = 0; i < rounds; i++, now += 10000) {
		struct slo_req *done;

		assert_true(slo_dispatch(s, now, &p));
		done = p.req;
		f = p.flow;
		assert_true(slo_complete(&p, now + 5000, 0));
		slo_req_init(done, SLO_READ, 0, 4096);
		slo_enqueue(f, done, now + 5000);
	}
	slo_sched_report(s, &after);
	{
		struct slo_node *v, *c, *n;

		list_for_each(v, &s->root.children, siblings)
			list_for_each(c, &v->children, siblings)
				list_for_each(n, &c->children, siblings)
					while (slo_flow_drain(slo_flow_of(n), now, &p))
						slo_complete(&p, now, 0);
	}
	slo_sched_destroy(s);
	free(r);
	return (double)(after.steps - before.steps) / (double)rounds;
}

static void decisions_are_logarithmic(void **state)
{
	double at[5];
	unsigned flows = 1;

	(void)state;
	for (unsigned i = 0; i < 5; i++, flows *= 10) {
		at[i] = steps_per_decision(flows);
		print_message("  %5u flows: %.1f heap steps a decision\n", flows, at[i]);
		/* Three levels, each in two heaps, each moved once and rekeyed once: some logarithms. */
		assert_true(at[i] <= 12 + 4.0 * (31 - __builtin_clz(flows)));
	}
	assert_true(at[4] <= at[1] * 4);
}

/* A 1 MiB write goes out in eight pieces, and a 4 KiB read between them. */
static void pieces_let_others_between(void **state)
{
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, plain);
	struct slo_flow *big = sim_flow(sim_class(vm, plain)), *small = sim_flow(sim_class(vm, plain));
	uint64_t now = NSEC_PER_SEC, given = 0;
	unsigned big_pieces = 0, small_at = 0;
	struct slo_req w, r;
	struct slo_piece p;

	(void)state;
	slo_req_init(&w, SLO_WRITE, 4096, 1 << 20);
	slo_enqueue(big, &w, now);
	slo_req_init(&r, SLO_READ, 0, 4096);
	for (unsigned i = 0; slo_dispatch(s, now, &p); i++) {
		if (p.flow == big) {
			assert_int_equal(p.start_bytes, given);
			assert_int_equal(p.bytes, 128 << 10);
			given += p.bytes;
			big_pieces++;
			assert_int_equal(p.last, big_pieces == 8);
			assert_int_equal(slo_complete(&p, now, 0), big_pieces == 8);
		} else {
			small_at = i;
			assert_true(slo_complete(&p, now, 0));
		}
		if (i == 1)
			slo_enqueue(small, &r, now);
	}
	assert_int_equal(big_pieces, 8);
	assert_int_equal(small_at, 2);
	/* Where the store cannot: all at once, charged all the same. */
	slo_req_init(&w, SLO_WRITE, 4096, 1 << 20);
	w.whole = true;
	slo_enqueue(big, &w, now);
	assert_true(slo_dispatch(s, now, &p));
	assert_int_equal(p.bytes, 1 << 20);
	assert_true(p.last && slo_complete(&p, now, 0));
	slo_sched_destroy(s);
}

/* A flush goes at once, past limit and full window, and its VM pays. */
static void flushes_bypass(void **state)
{
	struct slo_promise limit = { .limit = { 1000 }, .burst_milli_requests = 1000 };
	struct slo_sched *s = sim_sched(1);
	struct slo_flow *f = sim_flow(sim_class(sim_vm(s, limit), plain));
	uint64_t now = NSEC_PER_SEC;
	struct slo_req r[4];
	struct slo_piece p[4];

	(void)state;
	slo_req_init(&r[0], SLO_WRITE, 0, 4096);
	assert_true(slo_admit_fast(f, &r[0], now, &p[0]));
	slo_req_init(&r[1], SLO_WRITE, 0, 4096);
	slo_enqueue(f, &r[1], now);
	assert_false(slo_dispatch(s, now, &p[1]));
	slo_req_init(&r[2], SLO_FLUSH, 0, 0);
	slo_bypass(f, &r[2], now, &p[2]);
	assert_int_equal(slo_in_flight(s), 2);
	assert_true(slo_complete(&p[0], now + 1000, 0));
	assert_true(slo_complete(&p[2], now + 1000, 0));
	/* Two requests are owed: the write waits for two periods. */
	assert_false(slo_dispatch(s, now + 1500 * NSEC_PER_MSEC, &p[1]));
	assert_true(slo_next_ns(s) > now + 1900 * NSEC_PER_MSEC);
	assert_true(slo_dispatch(s, now + 2 * NSEC_PER_SEC + 1000, &p[1]));
	assert_true(slo_complete(&p[1], now + 3 * NSEC_PER_SEC, 0));
	slo_sched_destroy(s);
}

/* A queue moves to another scheduler with what it holds, and with a request of which a piece is out. */
static void queues_move(void **state)
{
	struct slo_sched *a = sim_sched(1), *b = sim_sched(16);
	struct slo_flow *fa = sim_flow(sim_class(sim_vm(a, plain), plain));
	struct slo_flow *fb = sim_flow(sim_class(sim_vm(b, plain), plain));
	uint64_t now = NSEC_PER_SEC;
	struct slo_piece out, p[16];
	struct slo_req r[3];
	unsigned n = 0;
	struct list moved;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		slo_req_init(&r[i], SLO_WRITE, i << 20, i == 0 ? 512 << 10 : 4096);
		slo_enqueue(fa, &r[i], now);
	}
	assert_true(slo_dispatch(a, now, &out));
	list_init(&moved);
	slo_flow_take(fa, now, &moved);
	assert_int_equal(slo_held(a), 0);
	while (!list_empty(&moved)) {
		struct slo_req *q = list_first(&moved, struct slo_req, node);

		list_remove(&q->node);
		slo_enqueue(fb, q, now);
	}
	assert_int_equal(slo_flow_remove(fa), -EBUSY);
	while (slo_dispatch(b, now, &p[n]))
		n++;
	assert_int_equal(n, 5);
	assert_int_equal(p[0].start_bytes, 128 << 10);
	assert_false(slo_complete(&out, now + 1000, 0));
	assert_int_equal(slo_flow_remove(fa), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(slo_complete(&p[i], now + 2000, 0), i >= 2);
	slo_sched_destroy(a);
	slo_sched_destroy(b);
}

static void removal_waits(void **state)
{
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, plain), *class = sim_class(vm, plain);
	struct slo_flow *f = sim_flow(class);
	struct slo_promise bad = { .shares = SLO_SHARES_MAX + 1 };
	struct slo_node *none = NULL;
	struct slo_req r;
	struct slo_piece p;

	(void)state;
	assert_int_equal(slo_vm_remove(vm), -EBUSY);
	assert_int_equal(slo_class_remove(class), -EBUSY);
	slo_req_init(&r, SLO_READ, 0, 4096);
	slo_enqueue(f, &r, 1000);
	assert_int_equal(slo_flow_remove(f), -EBUSY);
	assert_true(slo_dispatch(s, 1000, &p));
	assert_int_equal(slo_flow_remove(f), -EBUSY);
	assert_true(slo_complete(&p, 2000, -EIO));
	assert_int_equal(slo_flow_remove(f), 0);
	assert_int_equal(slo_class_remove(class), 0);
	assert_int_equal(slo_vm_remove(vm), 0);
	assert_int_equal(slo_vm_add(s, &bad, NULL, &none), -EINVAL);
	assert_null(none);
	slo_sched_destroy(s);
	slo_sched_destroy(NULL);
}

static void costs_are_learned_and_saved(void **state)
{
	struct slo_cost c, again;
	struct slo_cost_model parsed;
	char text[8192];

	(void)state;
	slo_cost_init(&c, NULL, false);
	for (unsigned i = 0; i < 500; i++) {
		slo_cost_learn(&c, SLO_READ, false, 4096, 100000);
		slo_cost_learn(&c, SLO_READ, false, 131072, 800000);
	}
	assert_in_range(slo_cost_of(&c, SLO_READ, false, 4096), 99000, 101000);
	assert_in_range(slo_cost_of(&c, SLO_READ, true, 131072), 799000, 801000);
	/* On the line between them, and beyond. */
	assert_in_range(slo_cost_of(&c, SLO_READ, false, 67584), 445000, 455000);
	assert_in_range(slo_cost_of(&c, SLO_READ, false, 512), 75000, 85000);
	/* A single wild sample moves little; a frozen model does not move. */
	slo_cost_learn(&c, SLO_READ, false, 4096, 100 * NSEC_PER_SEC);
	assert_true(slo_cost_of(&c, SLO_READ, false, 4096) < 103000);
	assert_true(slo_cost_format(&c.model, text, sizeof(text)) > 0);
	assert_int_equal(slo_cost_format(&c.model, text, 20), -ENOSPC);
	assert_true(slo_cost_format(&c.model, text, sizeof(text)) > 0);
	assert_int_equal(slo_cost_parse(text, &parsed), 0);
	slo_cost_init(&again, &parsed, true);
	for (unsigned i = 0; i < 1000; i++)
		slo_cost_learn(&again, SLO_READ, false, 4096, 5000);
	for (uint64_t bytes = 512; bytes <= 1 << 20; bytes *= 2) {
		uint64_t a = slo_cost_of(&c, SLO_READ, false, bytes), b = slo_cost_of(&again, SLO_READ, false, bytes);

		/* The model in use is renewed every 64 samples only. */
		assert_true(a >= b - b / 50 && a <= b + b / 50);
	}
	assert_int_equal(slo_cost_parse("read random 3 bytes 4096 ns nan samples 1\n", &parsed), -EINVAL);
	assert_int_equal(slo_cost_parse("read random 99 bytes 4096 ns 1000 samples 1\n", &parsed), -EINVAL);
	assert_int_equal(slo_cost_parse("eat random 3 bytes 4096 ns 1000 samples 1\n", &parsed), -EINVAL);
	assert_int_equal(slo_cost_parse("", &parsed), 0);
}

static uint32_t ioprio(unsigned class, unsigned level, unsigned hint)
{
	return class << 13 | hint << 3 | level;
}

static void ioprio_selects_a_class(void **state)
{
	const struct slo_selector s[] = {
		{ .kind = SLO_SELECT_CLASS, .ioclass = SLO_IOCLASS_RT, .class = 1 },
		{ .kind = SLO_SELECT_LEVEL, .ioclass = SLO_IOCLASS_RT, .level = 7, .class = 2 },
		{ .kind = SLO_SELECT_HINT, .hint = 17, .class = 3 },
		{ .kind = SLO_SELECT_LEVEL, .ioclass = SLO_IOCLASS_BE, .level = 0, .class = 4 },
	};
	struct slo_selector bad[2] = { s[0], s[0] };
	struct slo_classmap m;
	size_t at = 99;

	(void)state;
	assert_int_equal(slo_classmap_build(&m, s, ARRAY_SIZE(s), 9, &at), 0);
	assert_int_equal(slo_classmap_lookup(&m, 0x2004), 1);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(1, 7, 0)), 2);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(2, 0, 0)), 4);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(2, 4, 0)), 9);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(1, 7, 17)), 3);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(1, 7, 18)), 2);
	/* No class, nonsense, and the upper half that some kernels use. */
	assert_int_equal(slo_classmap_lookup(&m, 0), 9);
	assert_int_equal(slo_classmap_lookup(&m, 99), 9);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(0, 0, 17)), 9);
	assert_int_equal(slo_classmap_lookup(&m, ioprio(5, 0, 17)), 9);
	assert_int_equal(slo_classmap_lookup(&m, 0xabcd0000 | ioprio(1, 0, 0)), 1);
	for (uint32_t v = 0; v < 65536; v++)
		assert_true(slo_classmap_lookup(&m, v) <= 9);
	/* The same twice is harmless, with two meanings it is an error. */
	assert_int_equal(slo_classmap_build(&m, bad, 2, 0, &at), 0);
	bad[1].class = 5;
	assert_int_equal(slo_classmap_build(&m, bad, 2, 0, &at), -EEXIST);
	assert_int_equal(at, 1);
	bad[0] = (struct slo_selector){ .kind = SLO_SELECT_LEVEL, .ioclass = SLO_IOCLASS_BE, .level = 8 };
	assert_int_equal(slo_classmap_build(&m, bad, 1, 0, &at), -EINVAL);
	bad[0] = (struct slo_selector){ .kind = SLO_SELECT_HINT, .hint = 0 };
	assert_int_equal(slo_classmap_build(&m, bad, 1, 0, NULL), -EINVAL);
}

static void low_demand_and_full_ring_are_told_apart(void **state)
{
	static struct sim_client c;
	struct sim_client *list[1] = { &c };
	struct slo_sched *s = sim_sched(8);
	struct slo_node *vm = sim_vm(s, plain);
	struct slo_node *class = sim_class(vm, (struct slo_promise){ .reservation = { 100000 } });
	struct slo_report r;
	struct sim m;

	(void)state;
	sim_init(&m, s, 8, NSEC_PER_MSEC, 0, 1);
	c = (struct sim_client){ .flow = sim_flow(class), .bytes = 4096, .depth = 1, .think_ns = 50 * NSEC_PER_MSEC };
	sim_client_start(&m, &c);
	sim_run_for(&m, 3 * NSEC_PER_SEC);
	slo_node_report(class, m.now, &r);
	assert_true(r.reservation[SLO_SPAN_1S].kept);
	assert_int_equal(r.reservation[SLO_SPAN_1S].reason, SLO_REASON_DEMAND);
	assert_in_range(r.attained[SLO_SPAN_1S].requests, 19, 20);
	assert_int_equal(r.attained[SLO_SPAN_1S].bytes, r.attained[SLO_SPAN_1S].requests * 4096);
	assert_int_equal(r.attained[SLO_SPAN_10S].span_ns, 3 * NSEC_PER_SEC);
	slo_vm_ring_full(vm, m.now);
	sim_run_for(&m, NSEC_PER_SEC);
	slo_node_report(class, m.now, &r);
	assert_int_equal(r.reservation[SLO_SPAN_1S].reason, SLO_REASON_RING_FULL);
	slo_node_report(vm, m.now, &r);
	assert_int_equal(r.attained[SLO_SPAN_10S].requests, c.dispatched_units);
	/* One millisecond in every 51; also when nothing is promised. */
	assert_in_range(r.attained[SLO_SPAN_1S].busy_ns, 18 * NSEC_PER_MSEC, 21 * NSEC_PER_MSEC);
	assert_int_equal(slo_update(class, &plain, m.now), 0);
	sim_run_for(&m, 2 * NSEC_PER_SEC);
	slo_node_report(class, m.now, &r);
	assert_in_range(r.attained[SLO_SPAN_1S].busy_ns, 18 * NSEC_PER_MSEC, 21 * NSEC_PER_MSEC);
	assert_string_equal(slo_reason_text(SLO_REASON_RING_FULL), "ring full");
	sim_fini(&m, list, 1);
	slo_sched_destroy(s);
}

/* --- random operations --- */

#define CHAOS_VMS 3
#define CHAOS_CLASSES 3
#define CHAOS_FLOWS 2
#define CHAOS_REQS 64

struct chaos {
	struct sim rng;
	struct slo_sched *s;
	struct slo_node *vm[CHAOS_VMS], *class[CHAOS_VMS][CHAOS_CLASSES];
	struct slo_flow *flow[CHAOS_VMS][CHAOS_CLASSES][CHAOS_FLOWS];
	struct slo_req req[CHAOS_REQS];
	bool used[CHAOS_REQS];
	struct slo_piece out[CHAOS_REQS * 16];
	unsigned outs;
	uint64_t now;
};

static struct slo_promise chaos_promise(struct chaos *c)
{
	struct slo_promise p = { .shares = (uint32_t)sim_below(&c->rng, 1000) };

	if (sim_below(&c->rng, 3) == 0)
		p.reservation = (struct slo_rate){ sim_below(&c->rng, 5000000), sim_below(&c->rng, 10000000) };
	if (sim_below(&c->rng, 3) == 0)
		p.limit = (struct slo_rate){ sim_below(&c->rng, 5000000), sim_below(&c->rng, 10000000) };
	p.burst_milli_requests = 1000 * sim_below(&c->rng, 10);
	if (sim_below(&c->rng, 3) == 0)
		p.p99_ns = sim_below(&c->rng, 10 * NSEC_PER_MSEC);
	return p;
}

/* Steps towards the slot: adds what is missing on the way, or takes away what is there and empty. */
static void chaos_tree(struct chaos *c, unsigned v, unsigned k, unsigned f)
{
	struct slo_promise p = chaos_promise(c);

	if (!c->vm[v]) {
		assert_int_equal(slo_vm_add(c->s, &p, NULL, &c->vm[v]), 0);
	} else if (!c->class[v][k]) {
		assert_int_equal(slo_class_add(c->vm[v], &p, NULL, &c->class[v][k]), 0);
	} else if (!c->flow[v][k][f]) {
		assert_int_equal(slo_flow_add(c->class[v][k], NULL, &c->flow[v][k][f]), 0);
	} else if (slo_flow_remove(c->flow[v][k][f]) == 0) {
		c->flow[v][k][f] = NULL;
		if (slo_class_remove(c->class[v][k]) == 0) {
			c->class[v][k] = NULL;
			if (slo_vm_remove(c->vm[v]) == 0)
				c->vm[v] = NULL;
		}
	}
}

static struct slo_req *chaos_req(struct chaos *c)
{
	for (unsigned i = 0; i < CHAOS_REQS; i++)
		if (!c->used[i]) {
			enum slo_op op = (enum slo_op)sim_below(&c->rng, SLO_OPS);

			c->used[i] = true;
			slo_req_init(&c->req[i], op, sim_below(&c->rng, 1 << 30),
				     op == SLO_FLUSH ? 0 : 512 * (1 + sim_below(&c->rng, 1000)));
			c->req[i].whole = sim_below(&c->rng, 8) == 0;
			return &c->req[i];
		}
	return NULL;
}

static void chaos_arrive(struct chaos *c, struct slo_flow *f)
{
	struct slo_req *r = f ? chaos_req(c) : NULL;

	if (!r)
		return;
	if (r->op == SLO_FLUSH)
		slo_bypass(f, r, c->now, &c->out[c->outs++]);
	else if (slo_admit_fast(f, r, c->now, &c->out[c->outs]))
		c->outs++;
	else
		slo_enqueue(f, r, c->now);
}

static void chaos_complete(struct chaos *c)
{
	unsigned i = (unsigned)sim_below(&c->rng, c->outs);
	struct slo_piece p = c->out[i];

	c->out[i] = c->out[--c->outs];
	if (slo_complete(&p, c->now, sim_below(&c->rng, 10) ? 0 : -5))
		c->used[p.req - c->req] = false;
}

/* Every heap holds exactly those that could go, in order. */
static void chaos_check(struct slo_node *n)
{
	struct slo_node *c;
	unsigned share = 0, held = 0, flight = 0;

	for (unsigned i = 2; i <= n->by_share.n; i++)
		assert_true(n->by_share.entry[i / 2].key <= n->by_share.entry[i].key);
	for (unsigned i = 2; i <= n->by_due.n; i++)
		assert_true(n->by_due.entry[i / 2].key <= n->by_due.entry[i].key);
	list_for_each(c, &n->children, siblings) {
		bool work = c->kind == SLO_FLOW ? c->held > 0 : c->by_share.n > 0;

		assert_int_equal(slo_heap_has(&c->in_share), work && !c->throttled);
		if (slo_heap_has(&c->in_share)) {
			assert_true(n->by_share.entry[c->in_share.pos].key == c->start_tag);
			assert_true(c->start_tag >= n->vtime);
			assert_int_equal(slo_heap_has(&c->in_due), slo_due_ns(c) != UINT64_MAX);
			if (slo_heap_has(&c->in_due))
				assert_true(n->by_due.entry[c->in_due.pos].key == slo_due_ns(c));
		}
		share += slo_heap_has(&c->in_share);
		held += c->held;
		flight += c->in_flight;
		chaos_check(c);
	}
	assert_int_equal(share, n->by_share.n);
	if (n->kind != SLO_FLOW) {
		assert_int_equal(held, n->held);
		assert_int_equal(flight, n->in_flight);
	}
}

static void chaos_step(struct chaos *c)
{
	unsigned v = (unsigned)sim_below(&c->rng, CHAOS_VMS), k = (unsigned)sim_below(&c->rng, CHAOS_CLASSES);
	struct slo_flow **slot = &c->flow[v][k][sim_below(&c->rng, CHAOS_FLOWS)];
	struct slo_promise p = chaos_promise(c);
	struct slo_node *n = sim_below(&c->rng, 2) ? c->vm[v] : c->class[v][k];
	struct list moved;

	c->now += sim_below(&c->rng, 3) ? 0 : sim_below(&c->rng, 2 * NSEC_PER_MSEC);
	switch (sim_below(&c->rng, 12)) {
	case 0:
		chaos_tree(c, v, k, (unsigned)(slot - c->flow[v][k]));
		break;
	case 1:
		if (n && sim_below(&c->rng, 4) == 0)
			assert_int_equal(slo_update(n, &p, c->now), 0);
		break;
	case 2:
		if (*slot && sim_below(&c->rng, 8) == 0)
			while (slo_flow_drain(*slot, c->now, &c->out[c->outs]))
				c->outs++;
		break;
	case 3:
		list_init(&moved);
		if (*slot && sim_below(&c->rng, 8) == 0)
			slo_flow_take(*slot, c->now, &moved);
		while (!list_empty(&moved)) {
			struct slo_req *r = list_first(&moved, struct slo_req, node);

			list_remove(&r->node);
			slo_enqueue(*slot, r, c->now);
		}
		break;
	case 4:
		if (sim_below(&c->rng, 50) == 0)
			slo_sched_set_depth(c->s, 1 + (unsigned)sim_below(&c->rng, 16));
		break;
	case 5:
	case 6:
	case 7:
		if (c->outs)
			chaos_complete(c);
		break;
	default:
		chaos_arrive(c, *slot);
		while (slo_dispatch(c->s, c->now, &c->out[c->outs]))
			c->outs++;
		assert_true(slo_next_ns(c->s) > c->now);
	}
}

static void random_operations(void **state)
{
	static struct chaos c;
	unsigned runs = 200;

	(void)state;
	for (unsigned seed = 1; seed <= runs; seed++) {
		memset(&c, 0, sizeof(c));
		sim_init(&c.rng, NULL, 1, 0, 0, seed);
		c.now = NSEC_PER_SEC;
		c.s = sim_sched(1 + seed % 16);
		for (unsigned i = 0; i < 3000; i++) {
			chaos_step(&c);
			if (i % 16 == 0)
				chaos_check(&c.s->root);
		}
		while (slo_held(c.s) || c.outs) {
			for (unsigned i = 0; i < CHAOS_VMS * CHAOS_CLASSES * CHAOS_FLOWS; i++) {
				struct slo_flow *f = (&c.flow[0][0][0])[i];

				while (f && slo_flow_drain(f, c.now, &c.out[c.outs]))
					c.outs++;
			}
			while (c.outs)
				chaos_complete(&c);
		}
		chaos_check(&c.s->root);
		for (unsigned i = 0; i < CHAOS_REQS; i++)
			assert_false(c.used[i]);
		slo_sched_destroy(c.s);
	}
	print_message("  %u seeds\n", runs);
}

/* Tags come back to zero long before they could wrap. */
static void tags_rebase(void **state)
{
	static struct sim_client a, b;
	struct sim_client *list[2] = { &a, &b };
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, plain);
	struct slo_node *x = sim_class(vm, (struct slo_promise){ .shares = 200 }), *y = sim_class(vm, plain);
	struct sim m;

	(void)state;
	sim_init(&m, s, 1, NSEC_PER_MSEC, 0, 1);
	a = (struct sim_client){ .flow = sim_flow(x), .bytes = 4096, .depth = 4 };
	b = (struct sim_client){ .flow = sim_flow(y), .bytes = 4096, .depth = 4 };
	vm->vtime = x->start_tag = y->start_tag = SLO_TAG_MAX - 1000000000;
	sim_client_start(&m, &a);
	sim_client_start(&m, &b);
	sim_run_for(&m, 3 * NSEC_PER_SEC);
	assert_true(vm->vtime < SLO_TAG_MAX / 2);
	assert_in_range(a.done, 1990, 2010);
	assert_in_range(b.done, 990, 1010);
	sim_fini(&m, list, 2);
	slo_sched_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fast_path_touches_no_heap),
		cmocka_unit_test(decisions_are_logarithmic),
		cmocka_unit_test(pieces_let_others_between),
		cmocka_unit_test(flushes_bypass),
		cmocka_unit_test(queues_move),
		cmocka_unit_test(removal_waits),
		cmocka_unit_test(costs_are_learned_and_saved),
		cmocka_unit_test(ioprio_selects_a_class),
		cmocka_unit_test(low_demand_and_full_ring_are_told_apart),
		cmocka_unit_test(random_operations),
		cmocka_unit_test(tags_rebase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
