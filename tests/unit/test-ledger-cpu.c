/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU time in the ledger: nothing is made or lost whatever accounts do, and a replay finds what was written, and what was
 * changed since.
 */
#include "base/clock.h"
#include "ledger/cpu.h"
#include "ledger/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t random_below(uint64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (seed >> 33) % n;
}

static struct ledger_cpu_book book;
static struct ledger_cpu_totals totals[LEDGER_CPU_ACCOUNTS];

static int begin(void **state)
{
	(void)state;
	memset(totals, 0, sizeof(totals));
	return ledger_cpu_open(&book, 4 * NSEC_PER_SEC, 0, 0);
}

static int finish(void **state)
{
	(void)state;
	ledger_cpu_close(&book);
	return 0;
}

static int64_t sum_of_all(void)
{
	int64_t sum = book.pool;

	for (unsigned i = 0; i < LEDGER_CPU_ACCOUNTS; i++)
		sum += book.account[i].balance;
	return sum;
}

static void run_a_second(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct ledger_cpu_totals *t = &totals[i];

		if (random_below(50) == 0)
			*t = (struct ledger_cpu_totals){ .open = !t->open };
		if (!t->open || random_below(4) == 0)
			continue;
		t->used_ns += random_below(NSEC_PER_SEC);
		t->waited_ns += random_below(NSEC_PER_SEC);
		t->entitled_ns += random_below(NSEC_PER_SEC);
		t->forfeited_ns += random_below(1000);
	}
	ledger_cpu_settle(&book, totals, book.settlements + 33, book.last_ns + NSEC_PER_SEC);
}

static void an_example(void **state)
{
	(void)state;
	totals[3] = (struct ledger_cpu_totals){ true, .used_ns = 700, .entitled_ns = 500, .waited_ns = 100 };
	totals[5] = (struct ledger_cpu_totals){ true, .used_ns = 300, .entitled_ns = 450, .forfeited_ns = 20 };
	ledger_cpu_settle(&book, totals, 33, NSEC_PER_SEC);
	assert_int_equal(book.account[3].balance, -200);
	assert_int_equal(book.account[5].balance, 130);
	assert_int_equal(book.account[3].demand, 800);
	assert_int_equal(book.pool, 70);
	/* It leaves: its debt is the pool's. */
	totals[3].open = false;
	ledger_cpu_settle(&book, totals, 66, 2 * NSEC_PER_SEC);
	assert_int_equal(book.pool, -130);
	assert_int_equal(sum_of_all(), 0);
}

static void nothing_is_lost(void **state)
{
	const struct ledger_log *log = &book.log;
	struct ledger_replay r;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		run_a_second(12);
		assert_int_equal(sum_of_all(), 0);
	}
	assert_int_equal(ledger_replay_run(&log, 1, &r), 0);
	assert_int_equal(r.plans, 1000);
	assert_int_equal(r.replayed, 1000);
	assert_int_equal(r.checkpoints, 16);
	assert_int_equal(r.differences + r.unsettled + r.lost + r.damaged + r.broken, 0);
}

/* The ring has turned: from the next checkpoint on it is as good as ever. */
static void an_old_log_is_replayed_from_a_checkpoint(void **state)
{
	const struct ledger_log *log = &book.log;
	struct ledger_replay r;

	(void)state;
	for (unsigned i = 0; i < 4000; i++)
		run_a_second(12);
	assert_int_equal(ledger_replay_run(&log, 1, &r), 0);
	assert_true(r.replayed > 1000 && r.replayed < 4000);
	assert_true(r.plans - r.replayed <= LEDGER_CPU_CHECKPOINT);
	assert_int_equal(r.differences + r.unsettled + r.damaged + r.broken, 0);
}

static void a_forged_record_is_found(void **state)
{
	const struct ledger_log *log = &book.log;
	struct ledger_record forged = { .op = LEDGER_USE, .resource = LEDGER_RESOURCE_CPU, .vm = 2, .amount = INT64_MIN,
					.balance = INT64_MAX };
	struct ledger_replay r;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		run_a_second(4);
	ledger_log_append(&book.log, &forged);
	run_a_second(4);
	assert_int_equal(ledger_replay_run(&log, 1, &r), 0);
	assert_true(r.differences > 0);
	assert_int_equal(r.recorded.balance, INT64_MAX);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, finish)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_example),
		TEST(nothing_is_lost),
		TEST(an_old_log_is_replayed_from_a_checkpoint),
		TEST(a_forged_record_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
