/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading histograms: merging, differences, quantiles. Called by the control thread and by tools.
 */
#include "base/hist.h"

uint64_t hist_bucket_max(unsigned b)
{
	unsigned shift;

	if (b < HIST_STEPS)
		return b;
	if (b >= HIST_BUCKETS - 1)
		return UINT64_MAX;
	shift = (b >> HIST_STEP_BITS) - 1;
	return ((uint64_t)(HIST_STEPS + (b & (HIST_STEPS - 1)) + 1) << shift) - 1;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += load_relaxed(&from->bucket[i]);
	into->count += load_relaxed(&from->count);
	into->sum += load_relaxed(&from->sum);
	into->max = max_u64(into->max, load_relaxed(&from->max));
}

void hist_subtract(struct hist *now, const struct hist *before)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		now->bucket[i] -= before->bucket[i];
	now->count -= before->count;
	now->sum -= before->sum;
}

uint64_t hist_quantile(const struct hist *h, unsigned permille)
{
	uint64_t total = 0, need, seen = 0;

	/* The buckets, not `count`, are the truth: see the race described in the header. */
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		total += h->bucket[i];
	if (total == 0)
		return 0;
	need = (total * permille + 999) / 1000;
	if (need == 0)
		need = 1;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= need)
			return min_u64(hist_bucket_max(i), h->max);
	}
	return h->max;
}
