/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A token bucket in the form of one time: `tag_ns` is when the bucket will be full again (the limit tag of mClock, the
 * theoretical arrival time of the generic cell rate algorithm). n units may go when, after them, it is full again within
 * the time that the burst takes. So in any window of length T at most rate * T + burst units go, where a burst is at least
 * the n units of one piece. Without a burst in the policy it is half a piece more, or what goes in 10 ms: what waits for its
 * turn behind others when its time has come can make up for that, and a low limit is reached.
 */
#pragma once

#include "base/clock.h"
#include "base/util.h"

#define SLO_BURST_LEAST_NS (10 * NSEC_PER_MSEC)

struct slo_limit {
	double ns_per_unit; /* 0: no limit */
	uint64_t burst_ns; /* 0: the default */
	uint64_t tag_ns;
};

static inline uint64_t slo_limit_time(const struct slo_limit *l, uint64_t units)
{
	/* Rounded up: never above the limit. */
	return (uint64_t)((double)units * l->ns_per_unit) + 1;
}

/* The time that a burst takes, for a piece that takes `time`. */
static inline uint64_t slo_limit_burst_ns(const struct slo_limit *l, uint64_t time)
{
	return l->burst_ns ? max_u64(l->burst_ns, time) : time + max_u64(time / 2, SLO_BURST_LEAST_NS);
}

/* When `units` may go; at or before now: at once. */
static inline uint64_t slo_limit_ready_ns(const struct slo_limit *l, uint64_t units)
{
	uint64_t full, time;

	if (l->ns_per_unit == 0 || !units)
		return 0;
	time = slo_limit_time(l, units);
	full = l->tag_ns + time;
	time = slo_limit_burst_ns(l, time);
	return full > time ? full - time : 0;
}

/* How many pieces of `least` to `most` units each may go now, one after the other, whatever their sizes are. */
static inline uint64_t slo_limit_room(const struct slo_limit *l, uint64_t least, uint64_t most, uint64_t now)
{
	uint64_t burst, until_full;

	if (l->ns_per_unit == 0)
		return UINT64_MAX;
	burst = slo_limit_burst_ns(l, slo_limit_time(l, least));
	until_full = l->tag_ns > now ? l->tag_ns - now : 0;
	/* Where requests are never cut, the time of the largest is no integer. */
	return burst > until_full ? (uint64_t)((double)(burst - until_full) / ((double)most * l->ns_per_unit + 1)) : 0;
}

static inline void slo_limit_charge(struct slo_limit *l, uint64_t units, uint64_t now)
{
	if (l->ns_per_unit != 0 && units)
		l->tag_ns = max_u64(l->tag_ns, now) + slo_limit_time(l, units);
}
