/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: every touched page gets its bit and no other does, whatever the range; ranges past the log's end are
 * left out; threads that share bytes lose nothing.
 */
#include "virtio/dirty_log.h"

#include <pthread.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PAGES 80u

static bool expected(uint64_t page, uint64_t gpa, uint64_t len)
{
	uint64_t first = page * DIRTY_LOG_PAGE, last = first + DIRTY_LOG_PAGE - 1, end = gpa + len - 1;

	return len && gpa <= last && (end < gpa || end >= first);
}

static void ranges_are_exact(void **state)
{
	static const uint64_t lens[] = { 0, 1, 2, 4095, 4096, 4097, 8192, 40000, 32768, 32769, 1ull << 40, UINT64_MAX };
	uint8_t bits[PAGES / 8 + 1];
	struct dirty_log log = { .bits = bits, .bytes = PAGES / 8 };

	for (uint64_t gpa = 0; gpa < (PAGES + 2) * DIRTY_LOG_PAGE; gpa += 1021) {
		for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
			memset(bits, 0, sizeof(bits));
			dirty_log_mark(&log, gpa, lens[l]);
			for (unsigned page = 0; page < PAGES; page++)
				assert_int_equal(bits[page / 8] >> page % 8 & 1, expected(page, gpa, lens[l]));
			assert_int_equal(bits[PAGES / 8], 0);
		}
	}
	dirty_log_mark(&log, UINT64_MAX, 1);
	dirty_log_mark(&log, UINT64_MAX, UINT64_MAX);
	assert_int_equal(bits[PAGES / 8], 0);
}

static void bits_stay(void **state)
{
	uint8_t bits[2] = { 0x81, 0 };
	struct dirty_log log = { .bits = bits, .bytes = 2 };

	dirty_log_mark(&log, 3 * DIRTY_LOG_PAGE, 1);
	assert_int_equal(bits[0], 0x89);
	assert_int_equal(bits[1], 0);
}

#define SHARED_PAGES 4096u
static uint8_t shared_bits[SHARED_PAGES / 8];
static struct dirty_log shared_log = { .bits = shared_bits, .bytes = sizeof(shared_bits) };

static void *mark_every_fourth(void *first)
{
	for (uint64_t page = (uintptr_t)first; page < SHARED_PAGES; page += 4)
		dirty_log_mark(&shared_log, page * DIRTY_LOG_PAGE, 1);
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	pthread_t thread[4];

	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, mark_every_fourth, (void *)i), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	for (unsigned i = 0; i < sizeof(shared_bits); i++)
		assert_int_equal(shared_bits[i], 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_exact),
		cmocka_unit_test(bits_stay),
		cmocka_unit_test(threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
