/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log-linear histogram of 64-bit values: 16 linear steps per power of two, so a reported value is at most 1/16 above the
 * recorded one. One writer; readers copy it while it is written and may see a value counted in `count` and not yet in its
 * bucket, which costs them one sample.
 */
#pragma once

#include "base/util.h"

#define HIST_STEP_BITS 4
#define HIST_STEPS (1u << HIST_STEP_BITS)
/* Values up to 2^40 ns (18 minutes) apart by 1/16; the last bucket takes everything above. */
#define HIST_BUCKETS ((40 - HIST_STEP_BITS + 1) * HIST_STEPS)

struct hist {
	uint64_t count, sum, max;
	uint32_t bucket[HIST_BUCKETS];
};

static inline unsigned hist_bucket_of(uint64_t v)
{
	unsigned shift, i;

	if (v < HIST_STEPS)
		return (unsigned)v;
	shift = 63u - (unsigned)__builtin_clzll(v) - HIST_STEP_BITS;
	i = (shift << HIST_STEP_BITS) + (unsigned)(v >> shift);
	return i < HIST_BUCKETS ? i : HIST_BUCKETS - 1;
}

/* The same value `n` times. */
static inline void hist_add_many(struct hist *h, uint64_t v, uint32_t n)
{
	unsigned b = hist_bucket_of(v);

	counter_add(&h->bucket[b], n);
	counter_add(&h->sum, v * n);
	if (v > h->max)
		store_relaxed(&h->max, v);
	counter_add(&h->count, n);
}

static inline void hist_add(struct hist *h, uint64_t v)
{
	hist_add_many(h, v, 1);
}

/* Largest value of bucket `b`. */
uint64_t hist_bucket_max(unsigned b);

/* Adds `from` to `into`; `from` may be written meanwhile by its owner. */
void hist_merge(struct hist *into, const struct hist *from);

/* Takes `before` from `now`: the samples between two snapshots. `max` is kept from `now`. */
void hist_subtract(struct hist *now, const struct hist *before);

/* The value below which `permille`/1000 of all samples lie (upper bound of its bucket, never above max); 0 if empty. */
uint64_t hist_quantile(const struct hist *h, unsigned permille);
