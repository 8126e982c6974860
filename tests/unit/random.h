/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random numbers of a test that tries something else each time, and says how to have the same again.
 */
#pragma once

#include "base/clock.h"

#include <stdint.h>
#include <stdlib.h>

static uint64_t random_seed;

/* From FAIRLEAD_SEED, or the clock. Printed, for whoever has to repeat it. */
static inline void random_begin(const char *what)
{
	const char *given = getenv("FAIRLEAD_SEED");

	random_seed = given ? strtoull(given, NULL, 0) : clock_now_ns();
	print_message("%s: FAIRLEAD_SEED=0x%llx\n", what, (unsigned long long)random_seed);
}

/* SplitMix64 (Steele, Lea and Flood, 2014). */
static inline uint64_t random_next(void)
{
	uint64_t z = random_seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}
