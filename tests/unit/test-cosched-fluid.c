/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what accounts are due at every instant (fluid.h), by itself. Levels: each ratio lies within its level, and a
 * level is less than 0.8 % wide, from one member for the heaviest group to more members than CPUs for the lightest VM. Sums:
 * the end of the saturated levels is the one that is found by walking up all of them. An example in numbers. Then 300 random
 * crowds of up to 256 accounts that come, go and change while CPUs run and idle, for an hour now and then: what each is due
 * is, to some nanoseconds, what the rule gives in floating point without trees; nobody is more than 0.8 % off the exact
 * division; and all of it together is the time that CPUs ran, to the last bit. Prints its seed; FAIRLEAD_SEED and
 * FAIRLEAD_RUNS choose others.
 */
#include "base/util.h"
#include "cosched/fluid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef UNDER_SANITIZER
#define FEWER 10u
#else
#define FEWER 1u
#endif

#define ACCOUNTS CO_ACCOUNTS_MAX
#define WEIGHT_MAX (CO_WEIGHT_MAX * (uint64_t)CO_GROUP_MEMBERS_MAX)
#define SECOND 1000000000ull
#define WIDTH (1.0 / (1u << CO_MANTISSA_BITS))

static struct co_fluid fluid;
static struct co_share share[ACCOUNTS];
static uint64_t random_state;
/* What was due; the same in floating point, by levels; and exactly. */
static double due[ACCOUNTS], by_levels[ACCOUNTS], exact[ACCOUNTS];
static __uint128_t ran, taken; /* CPU time, and what was due of it, in the unit of a share's due */

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t between(uint64_t low, uint64_t high)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return low + (random_state * 0x2545f4914f6cdd1dull >> 11) % (high - low + 1);
}

/* Small ones as often as large ones. */
static uint64_t any_size(uint64_t most)
{
	uint64_t value = between(1, most) >> between(0, 22);

	return value ? value : 1;
}

static void start(uint64_t seed)
{
	memset(&fluid, 0, sizeof(fluid));
	memset(share, 0, sizeof(share));
	memset(due, 0, sizeof(due));
	memset(by_levels, 0, sizeof(by_levels));
	memset(exact, 0, sizeof(exact));
	ran = taken = 0;
	random_state = seed * 0x9e3779b97f4a7c15ull + 1;
}

/* --- levels --- */

static void check_level(uint64_t n, uint64_t weight)
{
	uint32_t level = co_level(n, weight);
	__uint128_t ratio = (__uint128_t)n << CO_RATIO_BITS; /* times weight */

	assert_in_range(level, 0, CO_LEVELS - 2);
	assert_true(ratio < (__uint128_t)co_level_top(level) * weight || level == CO_LEVELS - 2);
	assert_true(!level || ratio >= (__uint128_t)co_level_top(level - 1) * weight);
}

static void test_levels(void **context)
{
	static const uint64_t weights[] = { 1, 2, 3, 100, 127, 128, 129, 1024, CO_WEIGHT_MAX, WEIGHT_MAX - 1, WEIGHT_MAX };

	(void)context;
	start(1);
	for (uint32_t level = 1; level < CO_LEVELS - 1; level++) {
		assert_true(co_level_top(level) > co_level_top(level - 1));
		/* The lowest ones are whole numbers, so they are a little wider or narrower. */
		assert_true((double)co_level_top(level) <= (double)co_level_top(level - 1) * (1 + WIDTH) + 1);
	}
	for (uint64_t n = 1; n <= CO_MEMBERS_MAX; n++) {
		for (size_t k = 0; k < ARRAY_SIZE(weights); k++)
			check_level(n, weights[k]);
		for (uint32_t k = 0; k < 1000 / FEWER; k++)
			check_level(n, any_size(WEIGHT_MAX));
	}
	/* The smallest ratio there is has a level of its own, and the largest ones share one. */
	assert_int_equal(co_level(1, WEIGHT_MAX), 0);
	assert_true(co_level(2, WEIGHT_MAX) > 100);
	assert_true(co_level(CO_MEMBERS_MAX, 1) == CO_LEVELS - 2 && co_level(CO_CPUS_MAX, 1) < CO_LEVELS - 2);
	/* Same ratio, same level. */
	for (uint64_t k = 1; k <= CO_GROUP_MEMBERS_MAX; k++)
		assert_int_equal(co_level(k, k * 100), co_level(1, 100));
}

/* --- sums --- */

/* The saturated levels, walking up all of them. */
static uint32_t saturated_by_walking(const uint64_t *n, const uint64_t *weight, uint64_t *ret_cpus, uint64_t *ret_weight)
{
	uint64_t cpus = fluid.running, weights = fluid.weight, more;
	uint32_t end;

	for (end = 0; end < CO_LEVELS - 1; end++) {
		more = weights - weight[end];
		if (n[end] > cpus)
			break;
		if (more && (__uint128_t)co_level_top(end) * more > (__uint128_t)(cpus - n[end]) << CO_RATIO_BITS)
			break;
		cpus -= n[end];
		weights = more;
	}
	*ret_cpus = cpus;
	*ret_weight = weights;
	return end;
}

static void check_saturated(const uint64_t *n, const uint64_t *weight)
{
	__u64 cpus, weights;
	uint64_t walked_cpus, walked_weights;
	uint32_t end = co_levels_saturated(&fluid, &cpus, &weights);

	assert_int_equal(end, saturated_by_walking(n, weight, &walked_cpus, &walked_weights));
	assert_int_equal(cpus, walked_cpus);
	assert_int_equal(weights, walked_weights);
}

static void test_sums(void **context)
{
	static uint64_t n[CO_LEVELS], weight[CO_LEVELS];

	(void)context;
	for (uint64_t round = 1; round <= 20 / FEWER; round++) {
		start(round);
		memset(n, 0, sizeof(n));
		memset(weight, 0, sizeof(weight));
		for (uint32_t k = 0; k < 600; k++) {
			uint64_t members = any_size(round % 2 ? 8 : CO_GROUP_MEMBERS_MAX);
			uint64_t weighs = any_size(round % 3 ? 1000 : WEIGHT_MAX);
			uint32_t level = co_level(members, weighs);
			bool leaves = n[level] >= members && weight[level] > weighs && between(0, 1);

			co_level_add(&fluid, level, leaves ? -members : members, leaves ? -weighs : weighs);
			n[level] += leaves ? -members : members;
			weight[level] += leaves ? -weighs : weighs;
			fluid.running = between(0, CO_CPUS_MAX);
			check_saturated(n, weight);
		}
	}
}

/* --- what is due --- */

/* Ratios, the smallest first. */
static int by_ratio(const void *a, const void *b)
{
	const struct co_share *x = &share[*(const uint32_t *)a], *y = &share[*(const uint32_t *)b];

	return (x->n * y->weight > y->n * x->weight) - (x->n * y->weight < y->n * x->weight);
}

/*
 * For `ns` everything stays as it is. In the order of ratios who can have all its members run has that; what is left goes by
 * weight. By levels, a whole level is satisfied or none of it.
 */
static void reckon(double ns, double *ret_due, bool levels)
{
	uint32_t order[ACCOUNTS], count = 0, i, k;
	double cpus = (double)fluid.running, weights = 0, top, level;

	for (i = 0; i < ACCOUNTS; i++)
		if (share[i].is_in) {
			order[count++] = i;
			weights += (double)share[i].weight;
		}
	qsort(order, count, sizeof(*order), by_ratio);
	for (i = 0; i < count; i = k) {
		double n = 0, weight = 0;

		for (k = i; k < count && (k == i || (levels && share[order[k]].level == share[order[i]].level)); k++) {
			n += (double)share[order[k]].n;
			weight += (double)share[order[k]].weight;
		}
		top = levels ? ldexp((double)co_level_top(share[order[i]].level), -CO_RATIO_BITS) : n / weight;
		if (n > cpus || top * (weights - weight) > cpus - n)
			break;
		cpus -= n;
		weights -= weight;
		for (uint32_t j = i; j < k; j++)
			ret_due[order[j]] += ns * (double)share[order[j]].n;
	}
	level = weights > 0 ? cpus / weights : 0;
	for (; i < count; i++)
		ret_due[order[i]] += ns * level * (double)share[order[i]].weight;
}

static void pass(uint64_t ns)
{
	reckon((double)ns, by_levels, true);
	reckon((double)ns, exact, false);
	ran += (__uint128_t)(fluid.running * ns) << CO_FLUID_BITS;
	co_fluid_advance(&fluid, fluid.at_ns + ns);
}

/* As a settlement does. */
static void take_all(uint32_t accounts)
{
	for (uint32_t i = 0; i < accounts; i++) {
		co_share_take(&fluid, &share[i]);
		taken += share[i].due;
		due[i] += ldexp((double)share[i].due, -CO_FLUID_BITS);
		share[i].due = 0;
	}
	assert_true(taken + fluid.rest == ran);
}

/* The example of doc/cosched.md: 4 CPUs, A (weight 2) with one runnable member, B and C (1) with two each; then A sleeps. */
static void test_example(void **context)
{
	static const double first[] = { 1, 1.5, 1.5 }, then[] = { 1, 3.5, 3.5 };

	(void)context;
	start(1);
	for (uint32_t i = 0; i < 3; i++)
		co_share_set(&fluid, &share[i], i ? 2 : 1, i ? 1 : 2);
	fluid.running = 4;
	pass(SECOND);
	take_all(3);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(fabs(due[i] - first[i] * SECOND) < 1);
	co_share_set(&fluid, &share[0], 0, 2);
	pass(SECOND);
	take_all(3);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(fabs(due[i] - then[i] * SECOND) < 1);
}

/*
 * L lies within the level of most: 16 CPUs, 15 accounts of weight 10,000 with one member, and a slightly lighter one that could
 * use two. By the exact division that one has what the others leave, a CPU. Here they are due a little more than they can use,
 * and it is due so much less; a settlement pays it what they have too much (test_due in test-cosched-settle).
 */
static void test_within_a_level(void **context)
{
	double most = 0;

	(void)context;
	for (uint64_t lighter = 9900; lighter < 10000; lighter++) {
		start(1);
		for (uint32_t i = 0; i < 16; i++)
			co_share_set(&fluid, &share[i], i < 15 ? 1 : 2, i < 15 ? 10000 : lighter);
		fluid.running = 16;
		pass(SECOND);
		take_all(16);
		for (uint32_t i = 0; i < 16; i++) {
			assert_true(fabs(due[i] - by_levels[i]) < 1);
			assert_true(fabs(exact[i] - SECOND) < 1);
		}
		most = fmax(most, exact[15] - due[15]);
	}
	assert_true(most > 0.001 * SECOND && most < WIDTH * SECOND);
}

/* --- crowds --- */

/* Alike: one level, or two, has them all, and L. */
static uint64_t any_weight(uint64_t heaviest)
{
	return heaviest ? any_size(heaviest) : between(990, 1000);
}

/* Somebody has another number of runnable members, or another weight; then CPUs, which can only run those. */
static void change(uint32_t accounts, uint64_t heaviest)
{
	uint32_t i = (uint32_t)between(0, accounts - 1);
	uint64_t members = 0, n = between(0, 3) ? any_size(heaviest ? 16 : 2) : 0;

	co_share_set(&fluid, &share[i], n, between(0, 2) || !share[i].weight ? any_weight(heaviest) : share[i].weight);
	for (uint32_t k = 0; k < accounts; k++)
		members += share[k].n;
	fluid.running = between(0, 3) ? between(members ? 1 : 0, members < CO_CPUS_MAX ? members : CO_CPUS_MAX) : 0;
}

static void run_crowd(uint64_t seed, double *ret_apart_ns, double *ret_off)
{
	static const uint64_t heaviest[] = { 0, 1, 3, 1000, WEIGHT_MAX };
	uint64_t weight;
	uint32_t accounts;

	start(seed);
	accounts = (uint32_t)(seed % 4 ? any_size(ACCOUNTS) : ACCOUNTS);
	weight = heaviest[between(0, 4)];
	co_fluid_advance(&fluid, any_size(1ull << 60)); /* the clock does not begin at 0 */
	for (uint32_t k = 0; k < 300; k++) {
		change(accounts, weight);
		pass(fluid.running ? any_size(SECOND / 50) : between(0, 1) ? any_size(SECOND) : 3600 * SECOND);
		if (k % 5 == 4)
			take_all(accounts);
	}
	for (uint32_t i = 0; i < accounts; i++) {
		*ret_apart_ns = fmax(*ret_apart_ns, fabs(due[i] - by_levels[i]));
		*ret_off = fmax(*ret_off, exact[i] > 0 ? fabs(by_levels[i] - exact[i]) / exact[i] : 0);
	}
}

static void test_crowds(void **context)
{
	uint64_t seed = number("FAIRLEAD_SEED", 1), runs = number("FAIRLEAD_RUNS", 300 / FEWER);
	double apart_ns = 0, off = 0;

	(void)context;
	for (uint64_t k = seed; k < seed + runs; k++) {
		run_crowd(k, &apart_ns, &off);
		if (apart_ns > 1000 /* of rounding, with the greatest weights */ || off > WIDTH)
			fail_msg("seed %llu: %.3f ns apart, %.4f %% off", (unsigned long long)k, apart_ns, off * 100);
	}
	print_message("seeds %llu to %llu: at most %.3f ns apart, %.4f %% off the exact division\n", (unsigned long long)seed,
		      (unsigned long long)(seed + runs - 1), apart_ns, off * 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_levels), cmocka_unit_test(test_sums), cmocka_unit_test(test_example),
					     cmocka_unit_test(test_within_a_level), cmocka_unit_test(test_crowds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
