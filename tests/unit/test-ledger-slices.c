/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what is promised of a pool holds within 1 % over any number of slices: schedulers, a book that binds them, and a
 * device of four channels in virtual time. Also while queues move from slice to slice, and where the device is slower than its
 * capacity says; and nothing of the device is lost.
 */
#include "ledger/book.h"
#include "slo/sched.h"

#include "base/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define SLICES_MAX 8u
#define QUEUES 8u
#define DEPTH 32u /* outstanding of each queue */
#define CHANNELS 4u
#define COST_NS (2 * NSEC_PER_MSEC)
#define IOPS (CHANNELS * 500u)
#define STEP_NS (20 * NSEC_PER_USEC)
#define MOVE_NS (20 * NSEC_PER_MSEC)
#define BALANCE_NS (100 * NSEC_PER_MSEC)
#define RUN_NS (5 * NSEC_PER_SEC)
#define WANT_NS (2 * NSEC_PER_MSEC)
enum { GOLD, BRONZE, CLASSES };

struct request {
	struct slo_req slo;
	struct slo_piece piece;
	unsigned slice; /* whose piece is out */
	uint64_t done_ns;
	struct request *next; /* at the device */
};

struct slice {
	struct slo_sched *sched;
	struct slo_node *class[CLASSES];
	struct slo_flow *flow[QUEUES];
	uint64_t used[CLASSES];
};

struct pool {
	struct ledger_book *book;
	struct ledger_spec_account account[CLASSES];
	unsigned slices, moves;
	struct slice slice[SLICES_MAX];
	unsigned home[QUEUES]; /* slice of each queue */
	struct request request[QUEUES][DEPTH];
	struct request *first, **last; /* at the device, in order of their ends */
	uint64_t channel_ns[CHANNELS], service_ns, now;
	uint64_t done[CLASSES];
};

struct promised {
	struct ledger_promise of[CLASSES];
	double ratio;
	unsigned limit; /* of gold, per second, divided among slices */
};

static const struct promised by_shares = {
	{ { .limit = LEDGER_UNLIMITED, .shares = 300 }, { .limit = LEDGER_UNLIMITED, .shares = 100 } }, 3
};
static const struct promised by_reservation = {
	{ { .reservation = IOPS * COST_NS / 5 * 4, .limit = LEDGER_UNLIMITED, .shares = 1 },
	  { .limit = LEDGER_UNLIMITED, .shares = 1000 } }, 4
};
static const struct promised by_limit = {
	{ { .limit = LEDGER_UNLIMITED, .shares = 300 }, { .limit = LEDGER_UNLIMITED, .shares = 100 } }, 1.0 / 3, IOPS / 4
};

static unsigned class_of(unsigned queue)
{
	return queue < QUEUES / 2 ? GOLD : BRONZE;
}

static void slice_open(struct pool *p, struct slice *s, uint64_t gold_limit)
{
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_cost_model cost = { 0 };
	struct slo_node *vm;

	slo_cost_know(&cost, SLO_READ, 4096, COST_NS);
	o.cost = &cost;
	o.cost_frozen = true;
	o.depth = CHANNELS;
	assert_int_equal(slo_sched_create(&o, &s->sched), 0);
	assert_int_equal(slo_vm_add(s->sched, &(struct slo_promise){ 0 }, NULL, &vm), 0);
	for (unsigned c = 0; c < CLASSES; c++) {
		struct slo_promise promise = { .shares = p->account[c].promise.shares };

		promise.limit.milli_iops = c == GOLD ? gold_limit : 0;
		assert_int_equal(slo_class_add(vm, &promise, NULL, &s->class[c]), 0);
	}
	for (unsigned q = 0; q < QUEUES; q++)
		assert_int_equal(slo_flow_add(s->class[class_of(q)], NULL, &s->flow[q]), 0);
}

static void request_go(struct pool *p, unsigned queue, struct request *r)
{
	slo_req_init(&r->slo, SLO_READ, (uint64_t)(r - p->request[0]) * 8192, 4096);
	slo_enqueue(p->slice[p->home[queue]].flow[queue], &r->slo, p->now);
}

static void pool_open(struct pool *p, const struct promised *promised, unsigned slices, uint64_t service_ns)
{
	struct ledger_book_config config = { .workers = slices, .accounts_max = CLASSES, .log_records = 64 };
	struct ledger_spec_vm vm = { .promise = { .reservation = promised->of[GOLD].reservation, .limit = LEDGER_UNLIMITED,
						  .shares = 1 } };
	struct ledger_spec spec = { .capacity = IOPS * COST_NS, .quantum = COST_NS, .vms = 1, .accounts = CLASSES, .vm = &vm };

	*p = (struct pool){ .slices = slices, .service_ns = service_ns, .now = NSEC_PER_SEC };
	p->last = &p->first;
	for (unsigned c = 0; c < CLASSES; c++)
		p->account[c] = (struct ledger_spec_account){ .class = (uint16_t)c, .promise = promised->of[c] };
	spec.account = p->account;
	assert_int_equal(ledger_book_create(&config, &p->book), 0);
	assert_int_equal(ledger_book_apply(p->book, &spec), 0);
	for (unsigned s = 0; s < slices; s++)
		slice_open(p, &p->slice[s], promised->limit * 1000 / (uint64_t)min_u64(slices, QUEUES / 2));
	for (unsigned q = 0; q < QUEUES; q++) {
		p->home[q] = q % slices;
		for (unsigned i = 0; i < DEPTH; i++)
			request_go(p, q, &p->request[q][i]);
	}
}

static unsigned queue_of(const struct pool *p, const struct request *r)
{
	return (unsigned)(r - p->request[0]) / DEPTH;
}

/* To the device's queue: the channel that is free first. */
static void device_take(struct pool *p, struct request *r)
{
	unsigned first = 0;

	for (unsigned i = 1; i < CHANNELS; i++)
		if (p->channel_ns[i] < p->channel_ns[first])
			first = i;
	r->done_ns = p->channel_ns[first] = max_u64(p->channel_ns[first], p->now) + p->service_ns;
	r->next = NULL;
	*p->last = r;
	p->last = &r->next;
}

static void device_give(struct pool *p, bool again)
{
	while (p->first && p->first->done_ns <= p->now) {
		struct request *r = p->first;
		unsigned q = queue_of(p, r);

		p->first = r->next;
		if (!p->first)
			p->last = &p->first;
		assert_true(slo_complete(&r->piece, p->now, 0));
		p->done[class_of(q)]++;
		if (again)
			request_go(p, q, r);
	}
}

static void slice_hold(struct pool *p, unsigned s, unsigned c)
{
	slo_class_hold(p->slice[s].class[c], !ledger_book_may(p->book, s, p->account[c].slot));
}

/* One turn of a worker's loop, as blk/slices.c and blk/core.c have it. */
static void slice_turn(struct pool *p, unsigned s)
{
	struct slice *me = &p->slice[s];
	struct slo_piece piece;

	for (unsigned c = 0; c < CLASSES; c++)
		ledger_book_want(p->book, s, p->account[c].slot, slo_class_ready(me->class[c], p->now + WANT_NS) * COST_NS);
	if (ledger_book_tick(p->book, s, p->now))
		for (unsigned c = 0; c < CLASSES; c++)
			slice_hold(p, s, c);
	while (slo_dispatch(me->sched, p->now, &piece)) {
		struct request *r = container_of(piece.req, struct request, slo);
		unsigned c = class_of(queue_of(p, r));

		r->piece = piece;
		device_take(p, r);
		me->used[c]++;
		ledger_book_use(p->book, s, p->account[c].slot, piece.cost);
		slice_hold(p, s, c);
	}
}

/* The window's parts, as blk/balance.c deals them. */
static void balance(struct pool *p)
{
	double held[CLASSES] = { 0 };
	uint64_t used = 0;

	for (unsigned s = 0; s < p->slices; s++)
		for (unsigned c = 0; c < CLASSES; c++) {
			held[c] += slo_node_held(p->slice[s].class[c]);
			used += p->slice[s].used[c];
		}
	for (unsigned s = 0; s < p->slices; s++) {
		struct slice *me = &p->slice[s];
		double part = 0, shares = p->account[GOLD].promise.shares + p->account[BRONZE].promise.shares;

		for (unsigned c = 0; c < CLASSES; c++)
			part += p->account[c].promise.shares / shares * slo_node_held(me->class[c]) / held[c];
		part = fmax(part, used ? (double)(me->used[GOLD] + me->used[BRONZE]) / (double)used : 0);
		slo_sched_set_depth(me->sched, (unsigned)min_u64(CHANNELS, 1 + (uint64_t)(CHANNELS * part + 0.999)));
		me->used[GOLD] = me->used[BRONZE] = 0;
	}
}

static void queue_move(struct pool *p)
{
	unsigned q = p->moves % QUEUES, to = (p->moves + p->moves / QUEUES) % p->slices;
	struct list held;

	p->moves++;
	list_init(&held);
	slo_flow_take(p->slice[p->home[q]].flow[q], p->now, &held);
	p->home[q] = to;
	while (!list_empty(&held)) {
		struct slo_req *r = list_first(&held, struct slo_req, node);

		list_remove(&r->node);
		slo_enqueue(p->slice[to].flow[q], r, p->now);
	}
}

static void pool_run(struct pool *p, uint64_t ns, bool moves)
{
	for (uint64_t end = p->now + ns; p->now < end;) {
		p->now += STEP_NS;
		if (p->now % BALANCE_NS == 0)
			balance(p);
		if (moves && p->now % MOVE_NS == 0)
			queue_move(p);
		device_give(p, true);
		for (unsigned s = 0; s < p->slices; s++)
			slice_turn(p, s);
	}
}

static void pool_close(struct pool *p)
{
	struct ledger_book_totals totals;

	assert_true(ledger_book_show(p->book, NULL, 0, &totals) >= 0);
	assert_int_equal(totals.unsettled, 0);
	while (p->first) {
		p->now = p->first->done_ns;
		device_give(p, false);
	}
	for (unsigned s = 0; s < p->slices; s++) {
		struct list held;

		list_init(&held);
		for (unsigned q = 0; q < QUEUES; q++)
			slo_flow_take(p->slice[s].flow[q], p->now, &held);
		slo_sched_destroy(p->slice[s].sched);
	}
	ledger_book_destroy(p->book);
}

static void check(const struct promised *promised, unsigned slices, bool moves, unsigned slower_percent)
{
	static struct pool p;
	uint64_t service_ns = COST_NS + COST_NS / 100 * slower_percent;
	double ratio, total;

	pool_open(&p, promised, slices, service_ns);
	pool_run(&p, NSEC_PER_SEC, moves);
	p.done[GOLD] = p.done[BRONZE] = 0;
	pool_run(&p, RUN_NS, moves);
	ratio = (double)p.done[GOLD] / (double)p.done[BRONZE];
	total = (double)(p.done[GOLD] + p.done[BRONZE]) * (double)service_ns / CHANNELS / RUN_NS;
	print_message("  %u slices%s, device %2u %% slower: %.3f of %.3g, total %.1f %%\n", slices, moves ? ", moving" : "",
		      slower_percent, ratio, promised->ratio, total * 100);
	pool_close(&p);
	assert_true(fabs(ratio / promised->ratio - 1) <= 0.01);
	assert_true(total >= 0.99);
}

static void check_all(const struct promised *promised, unsigned slower_percent)
{
	for (unsigned slices = 1; slices <= SLICES_MAX; slices *= 2)
		for (unsigned moves = 0; moves < 2; moves++)
			check(promised, slices, moves, slower_percent);
}

static void shares_hold(void **state)
{
	(void)state;
	check_all(&by_shares, 0);
}

static void shares_hold_on_a_slower_device(void **state)
{
	(void)state;
	check_all(&by_shares, 5);
	check_all(&by_shares, 20);
}

/* What a limit holds back is no demand: others have the rest of the device. */
static void limits_leave_the_rest(void **state)
{
	(void)state;
	for (unsigned slices = 1; slices <= SLICES_MAX; slices *= 2)
		check(&by_limit, slices, false, 0);
}

static void reservations_hold(void **state)
{
	(void)state;
	check_all(&by_reservation, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_hold),
		cmocka_unit_test(shares_hold_on_a_slower_device),
		cmocka_unit_test(reservations_hold),
		cmocka_unit_test(limits_leave_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
