/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every node attained, and whether its promise is kept; if not, why. On the scheduler's owner thread, at the rate at
 * which people look: it walks 60 buckets.
 */
#pragma once

#include "slo/sched.h"

enum slo_span { SLO_SPAN_1S, SLO_SPAN_10S, SLO_SPAN_60S, SLO_SPANS };

/* Over the last 1, 10 or 60 whole seconds (less when the node is younger). */
struct slo_attained {
	uint64_t span_ns;
	uint64_t requests;	/* counted as promises count them: pieces */
	uint64_t bytes, cost;	/* dispatched */
	uint64_t completed, missed_p50, missed_p99; /* of those with a latency target: completed, and above the target */
	uint64_t busy_ns;	/* time with something held or in flight */
	uint64_t held_ns;	/* time with something held */
	uint64_t throttled_ns;	/* time held back by its own limit */
};

enum slo_reason {
	SLO_REASON_NONE,	/* kept, with demand */
	SLO_REASON_DEMAND,	/* kept: less was asked for than was promised */
	SLO_REASON_RING_FULL,	/* less was asked for, but the guest's ring was full: demand may be hidden behind others' */
	SLO_REASON_OWN_LIMIT,	/* its own limit is below what it was promised or wants */
	SLO_REASON_VM_LIMIT,	/* its VM's limit or reservation leaves no more */
	SLO_REASON_SATURATED,	/* the device is busy with others; `culprit` got most */
	SLO_REASON_UNREACHABLE,	/* latency: the device alone takes longer, or the smallest window that feeds it does */
	SLO_REASONS
};

struct slo_verdict {
	bool kept;
	enum slo_reason reason;
	const struct slo_node *culprit; /* SATURATED: the class of another node (or VM) that cost most; else NULL */
};

struct slo_report {
	struct slo_attained attained[SLO_SPANS];
	struct slo_verdict reservation[SLO_SPANS], latency[SLO_SPANS];
	bool ring_full[SLO_SPANS]; /* a ring of the VM had no free descriptor */
	bool throttled;		/* now */
	unsigned held, in_flight; /* now */
};

/* VM, class or flow. */
void slo_node_report(struct slo_node *n, uint64_t now, struct slo_report *ret);
/* "kept", "device saturated", … */
const char *slo_reason_text(enum slo_reason r);

/* Adds the times since the class was added (a VM: of all its classes) from arrival to dispatch, and at the device. */
void slo_node_times(const struct slo_node *n, struct hist *ret_queue, struct hist *ret_device);

struct slo_sched_report {
	unsigned depth, window, window_floor, held, in_flight;
	bool latency_unreachable; /* an active target is missed at the smallest window that feeds the device */
	uint64_t anticipated_ns;  /* time in which the device was left (partly) idle on purpose, weighted by the idle part */
	uint64_t anticipations, anticipations_lost; /* pauses; those in which nobody came */
	uint64_t fast, dispatched, due; /* pieces: past the queue; through it; of those, by reservation */
	uint64_t steps;		  /* heap levels walked: the cost of all decisions */
	uint64_t window_shrinks, window_grows;
};

void slo_sched_report(const struct slo_sched *s, struct slo_sched_report *ret);
