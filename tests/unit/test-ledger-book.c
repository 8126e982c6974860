/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the tick protocol. In virtual time: shares, loans and their return, sleeping and late workers, accounts that
 * come and go. With threads: nothing is lost, logs replay without a difference, while accounts change and readers read.
 */
#include "base/clock.h"
#include "ledger/board.h"
#include "ledger/book.h"
#include "ledger/replay.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define CAPACITY UINT64_C(1000000000) /* 1,000,000 credits a tick */
#define TICK_CREDITS INT64_C(1000000)

struct fixture {
	struct ledger_book *book;
	struct ledger_spec spec;
	struct ledger_spec_vm vm[4];
	struct ledger_spec_account account[8];
	uint64_t now;
};

static struct ledger_promise shares(uint32_t n)
{
	return (struct ledger_promise){ .limit = LEDGER_UNLIMITED, .shares = n };
}

/* Two VMs of equal shares; VM 1 has classes 0 (3 shares) and 1 (1 share), VM 2 has class 0. */
static void open_book(struct fixture *f, unsigned workers)
{
	const struct ledger_book_config config = { .resource = 5, .workers = workers, .accounts_max = 8, .log_records = 1 << 14 };

	*f = (struct fixture){ .now = NSEC_PER_SEC };
	f->spec = (struct ledger_spec){
		.capacity = CAPACITY, .quantum = 1000, .vms = 2, .accounts = 3, .vm = f->vm, .account = f->account,
	};
	f->vm[0] = (struct ledger_spec_vm){ 1, shares(100) };
	f->vm[1] = (struct ledger_spec_vm){ 2, shares(100) };
	f->account[0] = (struct ledger_spec_account){ 1, 0, shares(3), 0 };
	f->account[1] = (struct ledger_spec_account){ 1, 1, shares(1), 0 };
	f->account[2] = (struct ledger_spec_account){ 2, 0, shares(1), 0 };
	assert_int_equal(ledger_book_create(&config, &f->book), 0);
	assert_int_equal(ledger_book_apply(f->book, &f->spec), 0);
}

static void settled(struct fixture *f)
{
	struct ledger_book_totals t;

	assert_true(ledger_book_show(f->book, NULL, 0, &t) >= 0);
	assert_int_equal(t.unsettled, 0);
	assert_true(t.pool + t.outstanding == LEDGER_SUPPLY);
}

static void close_book(struct fixture *f)
{
	settled(f);
	ledger_book_destroy(f->book);
}

static uint32_t slot_of(const struct fixture *f, unsigned account)
{
	return f->account[account].slot;
}

/* All workers take a turn at the start of the next tick. */
static void turn(struct fixture *f, unsigned workers)
{
	f->now = (f->now / LEDGER_TICK_NS + 1) * LEDGER_TICK_NS;
	for (unsigned k = 0; k < 2; k++)
		for (unsigned w = 0; w < workers; w++)
			ledger_book_tick(f->book, w, f->now + k * 1000);
}

/* Spends all credit that the account has at this worker; returns how much. */
static int64_t spend(struct fixture *f, unsigned w, uint32_t slot)
{
	int64_t credit = ledger_book_credit(f->book, w, slot);

	if (credit <= 0)
		return 0;
	ledger_book_use(f->book, w, slot, (uint64_t)credit);
	return credit;
}

static void replays(struct fixture *f, unsigned workers, struct ledger_replay *ret)
{
	const struct ledger_log *log[LEDGER_WORKERS_MAX];

	for (unsigned w = 0; w < workers; w++)
		log[w] = ledger_book_log(f->book, w);
	assert_int_equal(ledger_replay_run(log, workers, ret), 0);
	if (ret->differences) {
		const struct ledger_record *a = &ret->recorded, *b = &ret->replayed_record;

		print_message("recorded %s tick %lu %ld %ld %lx, replayed %s tick %lu %ld %ld %lx\n", ledger_op_name(a->op),
			      (unsigned long)a->tick, (long)a->amount, (long)a->balance, (unsigned long)a->detail,
			      ledger_op_name(b->op), (unsigned long)b->tick, (long)b->amount, (long)b->balance,
			      (unsigned long)b->detail);
	}
	assert_int_equal(ret->differences, 0);
	assert_int_equal(ret->unsettled, 0);
	assert_int_equal(ret->damaged, 0);
}

/* VM 1's classes on worker 0, VM 2 on worker 1, all want everything: 3/8, 1/8, 1/2. */
static void shares_hold_across_workers(void **state)
{
	struct fixture f;
	struct ledger_replay replay;
	int64_t got[3] = { 0 };

	(void)state;
	open_book(&f, 2);
	for (unsigned t = 0; t < 1000; t++) {
		for (unsigned a = 0; a < 3; a++)
			ledger_book_want(f.book, a / 2, slot_of(&f, a), 5 * TICK_CREDITS);
		turn(&f, 2);
		for (unsigned a = 0; a < 3; a++)
			got[a] += spend(&f, a / 2, slot_of(&f, a));
	}
	assert_in_range(got[0], 375 * TICK_CREDITS - 100, 375 * TICK_CREDITS + 100);
	assert_in_range(got[1], 125 * TICK_CREDITS - 100, 125 * TICK_CREDITS + 100);
	assert_in_range(got[2], 500 * TICK_CREDITS - 100, 500 * TICK_CREDITS + 100);
	replays(&f, 2, &replay);
	assert_true(replay.plans >= 1000 && replay.replayed == replay.plans);
	assert_int_equal(replay.checkpoints, 3);
	close_book(&f);
}

/* VM 2 is idle: its half serves VM 1 from the next plan on. It wakes: it has its half back with the next plan. */
static void loans_return_within_a_tick(void **state)
{
	struct fixture f;
	struct ledger_show show[3];

	(void)state;
	open_book(&f, 2);
	for (unsigned round = 0; round < 10; round++) {
		ledger_book_want(f.book, 0, slot_of(&f, 0), 9 * TICK_CREDITS);
		ledger_book_want(f.book, 1, slot_of(&f, 2), 0);
		turn(&f, 2); /* what VM 2 spent in this tick may still count as its demand */
		spend(&f, 0, slot_of(&f, 0));
		turn(&f, 2);
		assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, 2)), 0);
		assert_true(ledger_book_may(f.book, 1, slot_of(&f, 2))); /* at the door */
		/* And what VM 2 was given for that tick and did not spend. */
		assert_in_range(ledger_book_credit(f.book, 0, slot_of(&f, 0)), TICK_CREDITS, 2 * TICK_CREDITS);
		spend(&f, 0, slot_of(&f, 0));
		ledger_book_want(f.book, 1, slot_of(&f, 2), 9 * TICK_CREDITS);
		turn(&f, 2);
		assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, 2)), TICK_CREDITS / 2);
		assert_int_equal(ledger_book_credit(f.book, 0, slot_of(&f, 0)), TICK_CREDITS / 2);
		spend(&f, 0, slot_of(&f, 0));
		spend(&f, 1, slot_of(&f, 2));
	}
	assert_int_equal(ledger_book_show(f.book, show, 3, NULL), 3);
	assert_true(show[2].lent > 0 && show[2].borrowed == 0);
	assert_true(show[0].borrowed > 0 && show[0].lent == 0);
	close_book(&f);
}

/* Worker 1 sleeps with credit: others' plans take it back. It spends it all the same when it wakes: debt, paid later. */
static void sleeping_worker_blocks_nobody(void **state)
{
	struct fixture f;
	struct ledger_show show[3];
	int64_t stale;

	(void)state;
	open_book(&f, 2);
	ledger_book_want(f.book, 0, slot_of(&f, 0), 9 * TICK_CREDITS);
	ledger_book_want(f.book, 1, slot_of(&f, 2), 9 * TICK_CREDITS);
	turn(&f, 2);
	stale = ledger_book_credit(f.book, 1, slot_of(&f, 2));
	assert_int_equal(stale, TICK_CREDITS / 2);
	ledger_book_want(f.book, 1, slot_of(&f, 2), 0);
	for (unsigned t = 0; t < 5; t++) {
		turn(&f, 1); /* worker 0 only */
		spend(&f, 0, slot_of(&f, 0));
	}
	assert_int_equal(ledger_book_show(f.book, show, 3, NULL), 3);
	assert_int_equal(show[2].balance, 0);
	/* It has not looked, and spends. */
	ledger_book_use(f.book, 1, slot_of(&f, 2), (uint64_t)stale);
	ledger_book_want(f.book, 0, slot_of(&f, 0), 9 * TICK_CREDITS);
	turn(&f, 1);
	/* Its debt was paid first, from its share. */
	assert_int_equal(ledger_book_show(f.book, show, 3, NULL), 3);
	assert_true(show[2].balance >= 0 && show[2].used == (uint64_t)stale);
	assert_int_equal(ledger_book_credit(f.book, 0, slot_of(&f, 0)), TICK_CREDITS / 2);
	ledger_book_tick(f.book, 1, f.now);
	assert_true(ledger_book_credit(f.book, 1, slot_of(&f, 2)) >= 0);
	close_book(&f);
}

/* A limit of 2.6 requests/s on two workers with always something waiting on both: never more than one request ahead. */
static void small_limits_hold(void **state)
{
	struct fixture f;
	const uint64_t cost = 12 * NSEC_PER_MSEC;
	uint64_t served = 0;

	(void)state;
	open_book(&f, 2);
	f.spec.quantum = cost;
	f.account[1].promise.limit = 26 * cost / 10;
	assert_int_equal(ledger_book_apply(f.book, &f.spec), 0);
	for (unsigned t = 0; t < 10000; t++) {
		for (unsigned w = 0; w < 2; w++)
			ledger_book_want(f.book, w, slot_of(&f, 1), 8 * cost);
		turn(&f, 2);
		for (unsigned w = 0; w < 2; w++)
			if (ledger_book_may(f.book, w, slot_of(&f, 1))) {
				ledger_book_use(f.book, w, slot_of(&f, 1), cost);
				served++;
			}
		/* 2.6 a second, the one that may overdraw, and the few ticks' worth that any limit may save up. */
		assert_true(served * 1000 <= 1000 + 26 * (t + 1) / 10 + 26 * 6 / 10);
	}
	assert_int_equal(served, 27);
	close_book(&f);
}

/* Who wakes after a second gets a few ticks' credit at once, not a second's, and keeps what it had. */
static void idle_time_is_not_saved(void **state)
{
	struct fixture f;

	(void)state;
	open_book(&f, 1);
	for (unsigned k = 0; k < 3; k++) {
		f.now += NSEC_PER_SEC;
		ledger_book_want(f.book, 0, slot_of(&f, 0), 100 * TICK_CREDITS);
		turn(&f, 1);
		assert_in_range(ledger_book_credit(f.book, 0, slot_of(&f, 0)), TICK_CREDITS, (LEDGER_LATE_TICKS + 1) * TICK_CREDITS);
		spend(&f, 0, slot_of(&f, 0));
		turn(&f, 1);
		assert_int_equal(ledger_book_credit(f.book, 0, slot_of(&f, 0)), TICK_CREDITS);
	}
	close_book(&f);
}

/* Debt of an account that sleeps is paid from the time in which nobody planned. */
static void idle_time_pays_debt(void **state)
{
	struct fixture f;
	uint64_t deadline;

	(void)state;
	open_book(&f, 1);
	f.account[1].promise.limit = CAPACITY / 100;
	assert_int_equal(ledger_book_apply(f.book, &f.spec), 0);
	ledger_book_want(f.book, 0, slot_of(&f, 1), TICK_CREDITS);
	turn(&f, 1);
	assert_true(ledger_book_may(f.book, 0, slot_of(&f, 1)));
	ledger_book_use(f.book, 0, slot_of(&f, 1), CAPACITY / 100); /* a second's worth */
	ledger_book_want(f.book, 0, slot_of(&f, 1), 0);
	turn(&f, 1);
	assert_false(ledger_book_may(f.book, 0, slot_of(&f, 1)));
	assert_true(ledger_book_deadline_ns(f.book, 0) == UINT64_MAX);
	f.now += NSEC_PER_SEC;
	ledger_book_want(f.book, 0, slot_of(&f, 1), TICK_CREDITS);
	/* Ticks have begun that it has not looked at: due now, and still due when asked later. */
	assert_true(ledger_book_deadline_ns(f.book, 0) <= f.now);
	turn(&f, 1);
	assert_true(ledger_book_may(f.book, 0, slot_of(&f, 1)));
	deadline = ledger_book_deadline_ns(f.book, 0);
	assert_in_range(deadline, f.now - LEDGER_TICK_NS + 1, f.now + LEDGER_TICK_NS);
	f.now = deadline + LEDGER_TICK_NS / 2;
	assert_true(ledger_book_deadline_ns(f.book, 0) == deadline);
	close_book(&f);
}

/* No contention and no limit: spend first, settle later. */
static void uncontended_is_open(void **state)
{
	struct fixture f;

	(void)state;
	open_book(&f, 2);
	ledger_book_use(f.book, 0, slot_of(&f, 0), 1000);
	turn(&f, 2);
	ledger_book_use(f.book, 0, slot_of(&f, 0), 100 * 1000);
	assert_true(ledger_book_credit(f.book, 0, slot_of(&f, 0)) < 0);
	assert_true(ledger_book_may(f.book, 0, slot_of(&f, 0)));
	assert_true(ledger_book_may(f.book, 1, slot_of(&f, 2)));
	/* More than the resource can do: closed until it is paid. */
	ledger_book_use(f.book, 0, slot_of(&f, 0), 3 * TICK_CREDITS);
	turn(&f, 2);
	assert_false(ledger_book_may(f.book, 0, slot_of(&f, 0)));
	assert_false(ledger_book_may(f.book, 1, slot_of(&f, 0))); /* on no worker */
	assert_true(ledger_book_may(f.book, 1, slot_of(&f, 2)));
	close_book(&f);
}

/* The worked example of doc/ledger.md: 1,000 credits a tick. */
static void worked_example(void **state)
{
	struct fixture f;
	struct ledger_show show[3];
	enum { GOLD, BRONZE, DB };

	(void)state;
	open_book(&f, 2);
	f.spec.capacity = 1000000;
	f.spec.quantum = 100;
	f.account[GOLD].promise.reservation = 300000;
	f.vm[0].promise.reservation = 300000;
	assert_int_equal(ledger_book_apply(f.book, &f.spec), 0);

	ledger_book_want(f.book, 0, slot_of(&f, GOLD), 900);
	ledger_book_want(f.book, 1, slot_of(&f, BRONZE), 500);
	turn(&f, 2);
	assert_int_equal(spend(&f, 0, slot_of(&f, GOLD)), 750);
	assert_int_equal(spend(&f, 1, slot_of(&f, BRONZE)), 250);
	assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, DB)), 0);

	ledger_book_want(f.book, 1, slot_of(&f, DB), 800);
	turn(&f, 2);
	assert_int_equal(spend(&f, 0, slot_of(&f, GOLD)), 375);
	assert_int_equal(spend(&f, 1, slot_of(&f, DB)), 500);
	assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, BRONZE)), 125);
	ledger_book_use(f.book, 1, slot_of(&f, BRONZE), 400);

	turn(&f, 2);
	assert_int_equal(spend(&f, 0, slot_of(&f, GOLD)), 375);
	assert_int_equal(spend(&f, 1, slot_of(&f, DB)), 500);
	assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, BRONZE)), -150);
	assert_false(ledger_book_may(f.book, 1, slot_of(&f, BRONZE)));
	assert_false(ledger_book_may(f.book, 0, slot_of(&f, BRONZE)));

	assert_int_equal(ledger_book_show(f.book, show, 3, NULL), 3);
	assert_int_equal(show[BRONZE].debt, 150);
	assert_int_equal(show[BRONZE].granted, 500);
	assert_int_equal(show[BRONZE].used, 650);
	assert_int_equal(show[GOLD].entitled, 375000);
	assert_int_equal(show[GOLD].borrowed, 375);
	assert_int_equal(show[DB].lent, 500);
	turn(&f, 2);
	assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, BRONZE)), -25);
	spend(&f, 0, slot_of(&f, GOLD));
	spend(&f, 1, slot_of(&f, DB));
	turn(&f, 2);
	assert_int_equal(ledger_book_credit(f.book, 1, slot_of(&f, BRONZE)), 100);
	close_book(&f);
}

static void bad_specs_change_nothing(void **state)
{
	struct fixture f;
	struct ledger_spec_account *last;

	(void)state;
	open_book(&f, 2);
	f.spec.accounts = 4;
	last = &f.account[3];
	*last = (struct ledger_spec_account){ 2, 0, shares(1), 77 };
	assert_int_equal(ledger_book_apply(f.book, &f.spec), -EINVAL);
	*last = (struct ledger_spec_account){ 3, 0, shares(1), 77 };
	assert_int_equal(ledger_book_apply(f.book, &f.spec), -ENOENT);
	*last = (struct ledger_spec_account){ 2, 1, shares(0), 77 };
	assert_int_equal(ledger_book_apply(f.book, &f.spec), -EINVAL);
	*last = (struct ledger_spec_account){ 2, 1, shares(1), 77 };
	last->promise.reservation = LEDGER_RATE_MAX + 1;
	assert_int_equal(ledger_book_apply(f.book, &f.spec), -ERANGE);
	assert_int_equal(last->slot, 77);
	assert_int_equal(ledger_book_show(f.book, NULL, 0, NULL), 3);
	last->promise.reservation = 0;
	assert_int_equal(ledger_book_apply(f.book, &f.spec), 0);
	assert_int_equal(ledger_book_show(f.book, NULL, 0, NULL), 4);
	close_book(&f);
}

/* An account goes in debt, its slot is taken by another one: that starts with nothing owed, and sums stay right. */
static void accounts_come_and_go(void **state)
{
	struct fixture f;
	struct ledger_show show[8];
	struct ledger_replay replay;

	(void)state;
	open_book(&f, 2);
	for (unsigned round = 0; round < 50; round++) {
		ledger_book_want(f.book, 0, slot_of(&f, 0), 9 * TICK_CREDITS);
		ledger_book_want(f.book, 1, slot_of(&f, 2), 9 * TICK_CREDITS);
		turn(&f, 2);
		ledger_book_use(f.book, 1, slot_of(&f, 2), 5 * TICK_CREDITS);
		turn(&f, 2);
		assert_false(ledger_book_may(f.book, 1, slot_of(&f, 2)));
		ledger_book_want(f.book, 1, slot_of(&f, 2), 0);
		ledger_book_use(f.book, 1, slot_of(&f, 2), 12345); /* a last charge that no plan has seen */
		f.account[2].class = (uint16_t)(round % 2 + 1);
		assert_int_equal(ledger_book_apply(f.book, &f.spec), 0);
		assert_true(slot_of(&f, 2) < 4); /* slots are used again */
		assert_int_equal(ledger_book_show(f.book, show, 8, NULL), 3);
		for (unsigned i = 0; i < 3; i++)
			if (show[i].id.vm == 2)
				assert_true(show[i].used == 0 && show[i].balance == 0 && show[i].debt == 0);
		turn(&f, 2);
		assert_true(ledger_book_credit(f.book, 1, slot_of(&f, 2)) >= 0);
		assert_true(ledger_book_may(f.book, 1, slot_of(&f, 2)));
		/* The old account's last charge is not the new one's. */
		assert_int_equal(ledger_book_show(f.book, show, 8, NULL), 3);
		for (unsigned i = 0; i < 3; i++)
			if (show[i].id.vm == 2)
				assert_int_equal(show[i].used, 0);
		settled(&f);
	}
	replays(&f, 2, &replay);
	assert_int_equal(replay.replayed, replay.plans);
	close_book(&f);
}

/* A planner that was interrupted finds its plan replaced: nothing changes, and the board is whole. */
static void late_plans_are_thrown_away(void **state)
{
	struct ledger_board board;
	struct ledger_state *mine, *theirs;
	struct ledger_set *set;
	uint64_t seen[8] = { 0 }, up;

	(void)state;
	assert_int_equal(ledger_board_init(&board, 4, 2), 0);
	assert_int_equal(ledger_state_create(4, 2, &mine), 0);
	assert_int_equal(ledger_state_create(4, 2, &theirs), 0);
	assert_int_equal(ledger_set_alloc(1, 4, &set), 0);
	up = ledger_board_up(&board);
	assert_true(ledger_board_load(&board, up, set, mine, seen));
	assert_true(mine->pool == LEDGER_SUPPLY);
	assert_true(ledger_board_load(&board, up, set, theirs, seen));
	theirs->generation = 1;
	theirs->pool = 111;
	assert_true(ledger_board_publish(&board, up, 1, 0, set, theirs, seen));
	mine->generation = 1;
	mine->pool = 222;
	assert_false(ledger_board_publish(&board, up, 0, 1, set, mine, seen));
	assert_false(ledger_board_load(&board, up, set, mine, seen));
	assert_true(ledger_board_load(&board, ledger_board_up(&board), set, mine, seen));
	assert_true(mine->pool == 111);
	ledger_set_destroy(set);
	ledger_state_destroy(mine);
	ledger_state_destroy(theirs);
	ledger_board_fini(&board);
}

/* --- threads --- */

#define THREADS 4u
#define STRESS_TICKS 4000u

struct stress {
	struct fixture f;
	uint64_t now; /* shared virtual clock: each turn of anybody moves it on */
	uint64_t used[THREADS][3];
	bool end;
};

struct stress_thread {
	struct stress *s;
	unsigned w;
};

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void *stress_worker(void *arg)
{
	struct stress_thread *t = arg;
	struct stress *s = t->s;
	struct ledger_book *b = s->f.book;
	uint64_t n = 0, end = NSEC_PER_SEC + STRESS_TICKS * LEDGER_TICK_NS, now;

	while ((now = __atomic_fetch_add(&s->now, LEDGER_TICK_NS / 8, __ATOMIC_RELAXED)) < end) {
		uint64_t r = mix(++n * THREADS + t->w);
		unsigned a = (unsigned)(r % 3);
		/* Accounts 0 to 2 keep slots 0 to 2 all the time. */
		uint64_t cost = 1 + r / 16 % 50000;

		ledger_book_tick(b, t->w, now);
		if (r % 97 == 0) { /* falls asleep, keeping what it has */
			for (unsigned i = 0; i < 3; i++)
				ledger_book_want(b, t->w, i, 0);
			sched_yield();
			continue;
		}
		ledger_book_want(b, t->w, a, r / 1024 % 4 * cost);
		if (ledger_book_may(b, t->w, a)) {
			ledger_book_use(b, t->w, a, cost);
			s->used[t->w][a] += cost;
		}
		if (n % 4 == 0) /* slots that come and go: late charges are written off */
			ledger_book_use(b, t->w, 3 + (unsigned)(r / 7 % 3), 7);
	}
	return NULL;
}

static void drop_line(void *to, const char *text)
{
	(void)text;
	++*(uint64_t *)to;
}

/* Control: accounts come, go and change their promises; show, dump and replay run on the live book. */
static void *stress_control(void *arg)
{
	struct stress *s = arg;
	const struct ledger_log *log[THREADS];
	uint64_t lines = 0;

	for (unsigned w = 0; w < THREADS; w++)
		log[w] = ledger_book_log(s->f.book, w);
	for (unsigned n = 0; !load_acquire(&s->end); n++) {
		struct ledger_show show[8];
		struct ledger_replay replay;
		struct ledger_book_totals totals;
		const struct ledger_dump_options options = { .json = n & 1 };

		s->f.spec.accounts = 3 + n % 4;
		for (unsigned i = 3; i < s->f.spec.accounts; i++)
			s->f.account[i] = (struct ledger_spec_account){ (uint16_t)(1 + i % 2), (uint16_t)(n % 5 + i), shares(i), 0 };
		s->f.vm[1].promise.limit = n % 3 ? LEDGER_UNLIMITED : CAPACITY / 3;
		if (ledger_book_apply(s->f.book, &s->f.spec) < 0)
			return "apply";
		if (ledger_book_show(s->f.book, show, 8, &totals) < 3 || totals.unsettled)
			return "show";
		if (n % 16 == 0 && (ledger_replay_run(log, THREADS, &replay) < 0 || replay.differences || replay.damaged))
			return "replay";
		if (n % 16 == 8 && ledger_dump(log, THREADS, &options, drop_line, &lines) < 0)
			return "dump";
		sched_yield();
	}
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	static struct stress s;
	struct stress_thread worker[THREADS];
	pthread_t thread[THREADS], control;
	struct ledger_replay replay;
	struct ledger_book_totals totals;
	struct ledger_show show[8];
	void *failed;

	(void)state;
	open_book(&s.f, THREADS);
	s.now = NSEC_PER_SEC;
	for (unsigned w = 0; w < THREADS; w++) {
		worker[w] = (struct stress_thread){ &s, w };
		assert_int_equal(pthread_create(&thread[w], NULL, stress_worker, &worker[w]), 0);
	}
	assert_int_equal(pthread_create(&control, NULL, stress_control, &s), 0);
	for (unsigned w = 0; w < THREADS; w++)
		assert_int_equal(pthread_join(thread[w], NULL), 0);
	store_release(&s.end, true);
	assert_int_equal(pthread_join(control, &failed), 0);
	if (failed)
		fail_msg("control: %s", (const char *)failed);

	/* One last plan sees everything. */
	s.f.now = s.now + 10 * LEDGER_TICK_NS;
	ledger_book_use(s.f.book, 0, 0, 1);
	s.used[0][0]++;
	turn(&s.f, 1);
	assert_true(ledger_book_show(s.f.book, show, 8, &totals) >= 3);
	for (unsigned a = 0; a < 3; a++) {
		uint64_t used = 0;

		for (unsigned w = 0; w < THREADS; w++)
			used += s.used[w][a];
		assert_true(show[a].used == used);
		assert_true(show[a].balance == (int64_t)(show[a].granted - show[a].used));
	}
	replays(&s.f, THREADS, &replay);
	print_message("%lu plans, %lu late; in the logs %lu plans, %lu replayed, %lu lost records\n", (unsigned long)totals.plans,
		      (unsigned long)totals.plans_late, (unsigned long)replay.plans, (unsigned long)replay.replayed,
		      (unsigned long)replay.lost);
	assert_true(totals.plans > 0 && replay.replayed > 0);
	close_book(&s.f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_hold_across_workers),
		cmocka_unit_test(loans_return_within_a_tick),
		cmocka_unit_test(sleeping_worker_blocks_nobody),
		cmocka_unit_test(small_limits_hold),
		cmocka_unit_test(idle_time_pays_debt),
		cmocka_unit_test(idle_time_is_not_saved),
		cmocka_unit_test(uncontended_is_open),
		cmocka_unit_test(worked_example),
		cmocka_unit_test(bad_specs_change_nothing),
		cmocka_unit_test(accounts_come_and_go),
		cmocka_unit_test(late_plans_are_thrown_away),
		cmocka_unit_test(threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
