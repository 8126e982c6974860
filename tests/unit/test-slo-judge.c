/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what is said about reservations in a sliced pool, out of what all slices saw: the same reasons as where one
 * schedules for all.
 */
#include "ctl/slo_snapshot.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { VM, GOLD, OTHER_VM, FLOOD, SEEN };

static struct slo_seen seen[SEEN];
static struct slo_pool_seen pool = { .sliced = true, .seen = seen, .n = SEEN, .room = SEEN };

/* In one second; held and throttled in percent of it. */
static void attained(unsigned i, uint64_t requests, unsigned held, unsigned throttled, uint64_t cost)
{
	for (unsigned span = 0; span < SLO_SPANS; span++)
		seen[i].report.attained[span] = (struct slo_attained){ .span_ns = NSEC_PER_SEC, .requests = requests, .cost = cost,
								       .held_ns = held * NSEC_PER_SEC / 100,
								       .throttled_ns = throttled * NSEC_PER_SEC / 100 };
}

static int begin(void **state)
{
	(void)state;
	memset(seen, 0, sizeof(seen));
	for (unsigned i = 0; i < SEEN; i++) {
		snprintf(seen[i].vm, sizeof(seen[i].vm), "%s", i < OTHER_VM ? "web" : "db");
		snprintf(seen[i].class, sizeof(seen[i].class), "%s", i == GOLD ? "gold" : i == FLOOD ? "flood" : "");
		attained(i, 0, 0, 0, 0);
	}
	seen[VM].promise.reservation.milli_iops = seen[GOLD].promise.reservation.milli_iops = 1000000;
	return 0;
}

static void expect(unsigned i, bool kept, enum slo_reason reason, const char *culprit)
{
	slo_judge_slices(&pool);
	assert_int_equal(seen[i].report.reservation[SLO_SPAN_10S].kept, kept);
	assert_int_equal(seen[i].report.reservation[SLO_SPAN_10S].reason, reason);
	assert_string_equal(seen[i].culprit, culprit);
}

static void kept(void **state)
{
	(void)state;
	attained(GOLD, 960, 100, 0, 1);
	expect(GOLD, true, SLO_REASON_NONE, "");
}

static void asks_for_less(void **state)
{
	(void)state;
	attained(GOLD, 10, 20, 0, 1);
	expect(GOLD, true, SLO_REASON_DEMAND, "");
	seen[GOLD].report.ring_full[SLO_SPAN_10S] = true;
	expect(GOLD, false, SLO_REASON_RING_FULL, "");
}

/* Two classes that ask at the same time are no more of the VM's time than one. */
static void asks_at_the_same_time(void **state)
{
	(void)state;
	attained(GOLD, 10, 40, 0, 1);
	attained(VM, 20, 40, 0, 1);
	snprintf(seen[OTHER_VM].vm, sizeof(seen[OTHER_VM].vm), "web");
	snprintf(seen[OTHER_VM].class, sizeof(seen[OTHER_VM].class), "silver");
	attained(OTHER_VM, 10, 40, 0, 1);
	expect(VM, true, SLO_REASON_DEMAND, "");
}

static void its_own_limit(void **state)
{
	(void)state;
	attained(GOLD, 10, 100, 90, 1);
	attained(VM, 10, 100, 0, 1);
	expect(GOLD, false, SLO_REASON_OWN_LIMIT, "");
	/* Which is no demand of the VM's. */
	expect(VM, true, SLO_REASON_DEMAND, "");
}

static void the_vms_limit(void **state)
{
	(void)state;
	attained(GOLD, 10, 100, 0, 1);
	attained(VM, 10, 100, 90, 1);
	expect(GOLD, false, SLO_REASON_VM_LIMIT, "");
	expect(VM, false, SLO_REASON_OWN_LIMIT, "");
}

static void others(void **state)
{
	(void)state;
	attained(GOLD, 10, 100, 0, 1);
	attained(VM, 10, 100, 0, 1);
	attained(FLOOD, 1000, 100, 0, 50);
	attained(OTHER_VM, 1000, 100, 0, 50);
	expect(GOLD, false, SLO_REASON_SATURATED, "db/flood");
	expect(VM, false, SLO_REASON_SATURATED, "db/flood");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(kept, begin),
		cmocka_unit_test_setup(asks_for_less, begin),
		cmocka_unit_test_setup(asks_at_the_same_time, begin),
		cmocka_unit_test_setup(its_own_limit, begin),
		cmocka_unit_test_setup(the_vms_limit, begin),
		cmocka_unit_test_setup(others, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
