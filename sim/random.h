/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random numbers of a run: SplitMix64 (Steele, Lea and Flood, 2014), the same everywhere.
 */
#pragma once

#include <math.h>
#include <stdint.h>

struct sim_random {
	uint64_t state;
};

static inline uint64_t random_next(struct sim_random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* In [0, 1). */
static inline double random_unit(struct sim_random *r)
{
	return (double)(random_next(r) >> 11) * 0x1p-53;
}
