/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: histogram buckets cover every value once, and quantiles are at most one step above the truth.
 */
#include "base/hist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void buckets_are_contiguous(void **state)
{
	uint64_t last = 0;

	(void)state;
	for (unsigned b = 1; b + 1 < HIST_BUCKETS; b++) {
		uint64_t max = hist_bucket_max(b);

		assert_true(max > last);
		assert_int_equal(hist_bucket_of(max), b);
		assert_int_equal(hist_bucket_of(last + 1), b);
		last = max;
	}
	assert_int_equal(hist_bucket_of(UINT64_MAX), HIST_BUCKETS - 1);
}

static void quantiles_are_close_from_above(void **state)
{
	static struct hist h;
	uint64_t p50, p99;

	(void)state;
	for (uint64_t v = 1; v <= 10000; v++)
		hist_add(&h, v * 100);
	p50 = hist_quantile(&h, 500);
	p99 = hist_quantile(&h, 990);
	assert_in_range(p50, 500000, 500000 + 500000 / 16);
	assert_in_range(p99, 990000, 990000 + 990000 / 16);
	assert_int_equal(hist_quantile(&h, 1000), 1000000);
}

static void empty_has_no_quantile(void **state)
{
	static const struct hist h;

	(void)state;
	assert_int_equal(hist_quantile(&h, 990), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_are_contiguous),
		cmocka_unit_test(quantiles_are_close_from_above),
		cmocka_unit_test(empty_has_no_quantile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
