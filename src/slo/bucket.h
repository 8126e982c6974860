/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A token bucket in the form of one time: `tag_ns` is when the bucket will be full again (the limit tag of mClock, the
 * theoretical arrival time of the generic cell rate algorithm). n units may go when, after them, it is full again within
 * the time that the burst takes. So in any window of length T at most rate * T + max(burst, n) units go.
 */
#pragma once

#include "base/util.h"

struct slo_limit {
	double ns_per_unit; /* 0: no limit */
	uint64_t burst_ns;
	uint64_t tag_ns;
};

static inline uint64_t slo_limit_time(const struct slo_limit *l, uint64_t units)
{
	/* Rounded up: never above the limit. */
	return (uint64_t)((double)units * l->ns_per_unit) + 1;
}

/* When `units` may go; at or before now: at once. */
static inline uint64_t slo_limit_ready_ns(const struct slo_limit *l, uint64_t units)
{
	uint64_t full, time;

	if (l->ns_per_unit == 0 || !units)
		return 0;
	time = slo_limit_time(l, units);
	full = l->tag_ns + time;
	time = max_u64(l->burst_ns, time);
	return full > time ? full - time : 0;
}

static inline void slo_limit_charge(struct slo_limit *l, uint64_t units, uint64_t now)
{
	if (l->ns_per_unit != 0 && units)
		l->tag_ns = max_u64(l->tag_ns, now) + slo_limit_time(l, units);
}
