/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a VM's limit holds within 1 % over one to eight slices, divided as the load is and by its classes' shares, also while
 * the load of one slice goes away and comes back. The scheduler, the ledger and who deals out a limit's parts are the real ones
 * (blk/slices.c, blk/balance.c), in virtual time: workers are but clocks, and the device is a queue with four channels.
 */
#include "blk/slices.h"
#include "worker/worker_internal.h"

#include "base/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SLICES_MAX 8u
#define QUEUES 8u
#define DEPTH 32u /* outstanding of each queue */
#define CHANNELS 4u
#define COST_NS (2 * NSEC_PER_MSEC)
#define IOPS (CHANNELS * 500u)
#define LIMIT (IOPS * 2 / 5)
#define STEP_NS (100 * NSEC_PER_USEC)
#define BALANCE_NS (100 * NSEC_PER_MSEC)
/* In which slices learn what others ask for. */
#define SETTLE_NS NSEC_PER_SEC
#define RUN_S 2u
enum { GOLD, BRONZE, CLASSES };
enum { LIMITED, OTHER, VMS };

struct request {
	struct slo_req slo;
	struct slo_piece piece;
	unsigned queue;
	uint64_t done_ns;
	bool out; /* waits or is at the device */
	struct request *next;
};

/* One of the limited VM's; and one more on each slice, of a VM without a limit. */
struct queue {
	unsigned slice;
	struct slo_flow *flow;
	struct request request[DEPTH];
	bool stopped;
	uint64_t done;
};

struct pool {
	struct blk_gate gate;
	struct blk_core core[SLICES_MAX];
	struct worker worker[SLICES_MAX];
	struct queue queue[QUEUES + SLICES_MAX];
	unsigned slices, queues;
	struct request *first, **last; /* at the device, in order of their ends */
	uint64_t channel_ns[CHANNELS], now;
};

static unsigned class_of(unsigned queue)
{
	return queue < QUEUES / 2 ? GOLD : BRONZE;
}

static void time_set(struct pool *p, uint64_t now)
{
	p->now = now;
	for (unsigned s = 0; s < p->slices; s++)
		p->worker[s].now_ns = now;
}

static void core_open(struct pool *p, unsigned s)
{
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct blk_core *core = &p->core[s];
	struct slo_cost_model cost = { 0 };

	slo_cost_know(&cost, SLO_READ, 4096, COST_NS);
	o.cost = &cost;
	o.cost_frozen = true;
	o.part = true;
	o.depth = CHANNELS;
	assert_int_equal(slo_sched_create(&o, &core->sched), 0);
	core->gate = &p->gate;
	core->owner = &p->worker[s];
	core->index = s;
	list_init(&core->vms);
}

static void vm_set(struct pool *p, const char *name, uint64_t limit)
{
	static const char *const class[CLASSES] = { "gold", "bronze" };
	static struct blk_gate_vm spec;

	spec = (struct blk_gate_vm){ .n_classes = CLASSES, .promise.limit.milli_iops = limit * 1000 };
	strcpy(spec.name, name);
	for (unsigned c = 0; c < CLASSES; c++) {
		strcpy(spec.class[c].name, class[c]);
		spec.class[c].promise.shares = c == GOLD ? 300 : 100;
	}
	assert_int_equal(blk_slices_set_vm(p->gate.slices, &spec), 0);
	for (unsigned s = 0; s < p->slices; s++)
		assert_int_equal(blk_core_set_vm(&p->core[s], &spec), 0);
	blk_slices_vm_set(p->gate.slices, name);
}

static void queue_go(struct pool *p, unsigned q)
{
	struct queue *me = &p->queue[q];

	for (unsigned i = 0; i < DEPTH; i++) {
		struct request *r = &me->request[i];

		if (r->out || me->stopped)
			continue;
		r->out = true;
		r->queue = q;
		slo_req_init(&r->slo, SLO_READ, (uint64_t)(q * DEPTH + i) * 8192, 4096);
		slo_enqueue(me->flow, &r->slo, p->now);
	}
}

static void queue_open(struct pool *p, unsigned q, unsigned slice, unsigned vm, unsigned class)
{
	struct blk_core_vm *v = list_first(&p->core[slice].vms, struct blk_core_vm, node);

	for (; vm; vm--)
		v = container_of(v->node.next, struct blk_core_vm, node);
	p->queue[q].slice = slice;
	assert_int_equal(slo_flow_add(v->class[class].node, NULL, &p->queue[q].flow), 0);
	queue_go(p, q);
}

static void pool_open(struct pool *p, unsigned slices, bool contended)
{
	*p = (struct pool){ .slices = slices };
	p->last = &p->first;
	p->gate = (struct blk_gate){ .n_workers = slices, .n_cores = slices, .core = p->core, .depth = CHANNELS };
	time_set(p, NSEC_PER_SEC);
	for (unsigned s = 0; s < slices; s++)
		core_open(p, s);
	assert_int_equal(blk_slices_create(&p->gate, IOPS, &p->gate.slices), 0);
	vm_set(p, "limited", LIMIT);
	vm_set(p, "other", 0);
	for (unsigned q = 0; q < QUEUES; q++)
		queue_open(p, p->queues++, q % slices, LIMITED, class_of(q));
	for (unsigned s = 0; s < slices && contended; s++)
		queue_open(p, p->queues++, s, OTHER, GOLD);
}

static void device_take(struct pool *p, struct request *r)
{
	unsigned first = 0;

	for (unsigned i = 1; i < CHANNELS; i++)
		if (p->channel_ns[i] < p->channel_ns[first])
			first = i;
	r->done_ns = p->channel_ns[first] = max_u64(p->channel_ns[first], p->now) + COST_NS;
	r->next = NULL;
	*p->last = r;
	p->last = &r->next;
}

static void device_give(struct pool *p)
{
	while (p->first && p->first->done_ns <= p->now) {
		struct request *r = p->first;

		p->first = r->next;
		if (!p->first)
			p->last = &p->first;
		assert_true(slo_complete(&r->piece, p->now, 0));
		r->out = false;
		p->queue[r->queue].done++;
		queue_go(p, r->queue);
	}
}

/* As core_poll() has it, but that nothing is granted to a worker. */
static void slice_turn(struct pool *p, struct blk_core *core)
{
	struct slo_piece piece;

	blk_slice_turn(core);
	while (slo_dispatch(core->sched, p->now, &piece)) {
		struct request *r = container_of(piece.req, struct request, slo);

		r->piece = piece;
		blk_slice_used(core, piece.flow, piece.cost);
		device_take(p, r);
	}
}

static void balance(struct pool *p)
{
	struct blk_balance *b;

	assert_int_equal(blk_balance_create(&p->gate, &b), 0);
	for (unsigned s = 0; s < p->slices; s++)
		blk_balance_gather(b, &p->core[s]);
	for (unsigned s = 0; s < p->slices; s++)
		blk_balance_deal(b, &p->core[s]);
	blk_balance_destroy(b);
}

static void pool_run(struct pool *p, uint64_t ns)
{
	for (uint64_t end = p->now + ns; p->now < end;) {
		time_set(p, p->now + STEP_NS);
		if (p->now % BALANCE_NS == 0)
			balance(p);
		device_give(p);
		for (unsigned s = 0; s < p->slices; s++)
			slice_turn(p, &p->core[s]);
	}
}

static void pool_close(struct pool *p)
{
	for (unsigned q = 0; q < p->queues; q++) {
		struct list held;

		p->queue[q].stopped = true;
		list_init(&held);
		slo_flow_take(p->queue[q].flow, p->now, &held);
	}
	while (p->first) {
		time_set(p, p->first->done_ns);
		device_give(p);
	}
	for (unsigned s = 0; s < p->slices; s++) {
		for (unsigned q = 0; q < p->queues; q++)
			if (p->queue[q].slice == s)
				assert_int_equal(slo_flow_remove(p->queue[q].flow), 0);
		blk_core_remove_vm(&p->core[s], "limited");
		blk_core_remove_vm(&p->core[s], "other");
		slo_sched_destroy(p->core[s].sched);
	}
	blk_slices_destroy(p->gate.slices);
}

/* --- what is measured --- */

struct seen {
	double rate, ratio, worst; /* of the limited VM; gold to bronze; a slice's part of its due, the farthest from 1 */
	double most;		   /* in a whole second */
};

/* Queues of this class with load, on this slice or (SLICES_MAX) on all. */
static unsigned queues_of(const struct pool *p, unsigned slice, unsigned class)
{
	unsigned n = 0;

	for (unsigned q = 0; q < QUEUES; q++)
		n += class_of(q) == class && !p->queue[q].stopped && (slice == SLICES_MAX || p->queue[q].slice == slice);
	return n;
}

static double due_of(const struct pool *p, unsigned slice)
{
	static const double share[CLASSES] = { 3, 1 };
	double part = 0, all = 0;

	for (unsigned c = 0; c < CLASSES; c++) {
		unsigned n = queues_of(p, SLICES_MAX, c);

		if (!n)
			continue;
		part += share[c] * queues_of(p, slice, c) / n;
		all += share[c];
	}
	return part / all;
}

static struct seen measure(struct pool *p)
{
	double class[CLASSES] = { 0 }, slice[SLICES_MAX] = { 0 }, all = 0;
	struct seen r = { .worst = 1 };

	pool_run(p, SETTLE_NS);
	for (unsigned second = 0; second < RUN_S; second++) {
		double here = 0;

		for (unsigned q = 0; q < p->queues; q++)
			p->queue[q].done = 0;
		pool_run(p, NSEC_PER_SEC);
		for (unsigned q = 0; q < QUEUES; q++) {
			class[class_of(q)] += (double)p->queue[q].done;
			slice[p->queue[q].slice] += (double)p->queue[q].done;
			here += (double)p->queue[q].done;
		}
		all += here;
		r.most = fmax(r.most, here);
	}
	r.rate = all / RUN_S;
	r.ratio = class[BRONZE] > 0 ? class[GOLD] / class[BRONZE] : 0;
	for (unsigned s = 0; s < p->slices; s++) {
		double due = due_of(p, s) * LIMIT * RUN_S;

		if (due > 0 && fabs(slice[s] / due - 1) > fabs(r.worst - 1))
			r.worst = slice[s] / due;
	}
	return r;
}

static void check(struct pool *p, const char *what)
{
	struct seen r = measure(p);

	print_message("  %u slices, %s: %.1f of %u iops (%.0f at most in a second), gold to bronze %.3f, a slice's part of its due %.3f\n",
		      p->slices, what, r.rate, LIMIT, r.most, r.ratio, r.worst);
	assert_true(fabs(r.rate / LIMIT - 1) <= 0.01);
	assert_true(r.most <= LIMIT * 1.01);
	/* What slices promise: exact as long as nothing changes. */
	if (queues_of(p, SLICES_MAX, GOLD) && queues_of(p, SLICES_MAX, BRONZE))
		assert_true(fabs(r.ratio / 3 - 1) <= 0.05);
	assert_true(fabs(r.worst - 1) <= 0.05);
}

static void slice_stop(struct pool *p, unsigned slice, bool stop)
{
	for (unsigned q = 0; q < QUEUES; q++) {
		if (p->queue[q].slice != slice)
			continue;
		p->queue[q].stopped = stop;
		queue_go(p, q);
	}
}

static void limit_over(unsigned slices, bool contended)
{
	static struct pool p;

	pool_open(&p, slices, contended);
	check(&p, contended ? "beside a flood" : "alone");
	if (slices > 1) {
		slice_stop(&p, 0, true);
		check(&p, "one without load");
		slice_stop(&p, 0, false);
		check(&p, "which is back");
	}
	pool_close(&p);
}

static void limit_holds_alone(void **state)
{
	(void)state;
	for (unsigned slices = 1; slices <= SLICES_MAX; slices++)
		limit_over(slices, false);
}

static void limit_holds_beside_a_flood(void **state)
{
	(void)state;
	for (unsigned slices = 2; slices <= SLICES_MAX; slices += 3)
		limit_over(slices, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_holds_alone),
		cmocka_unit_test(limit_holds_beside_a_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
