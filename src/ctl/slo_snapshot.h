/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A picture of what every VM and class was promised and attained, on all pools: each pool's owner fills in its part between
 * two turns of its loop, the control thread gets the whole.
 */
#pragma once

#include "host/host.h"
#include "slo/report.h"

struct slo_seen {
	char vm[BLK_NAME_MAX], class[BLK_NAME_MAX]; /* class "": the VM itself */
	char culprit[2 * BLK_NAME_MAX];		    /* "vm/class" that the device is busy with; "" */
	struct slo_promise promise;
	struct slo_report report;
	struct hist queue_time, device_time; /* since the class was added */
};

struct slo_pool_seen {
	char name[POLICY_NAME_MAX];
	bool sliced;
	uint64_t now_ns;
	struct slo_sched_report sched;
	struct slo_seen *seen;
	unsigned n, room;
};

struct slo_snapshot {
	unsigned n;
	struct slo_pool_seen pool[];
};

/* Adds a scheduler's report to those of other slices. */
void slo_sched_report_add(struct slo_sched_report *sum, const struct slo_sched *s);

/* Calls done from the event loop, or at once when nothing is scheduled; NULL without memory. The callee frees it. */
void slo_snapshot_take(struct host *h, void (*done)(void *arg, struct slo_snapshot *s), void *arg);
void slo_snapshot_free(struct slo_snapshot *s);
/* Class "": the VM itself. NULL: not there. */
struct slo_seen *slo_snapshot_find(const struct slo_pool_seen *p, const char *vm, const char *class);

/* Fills in whether reservations are kept in a sliced pool, of which no slice knows (slo_judge.c). */
void slo_judge_slices(struct slo_pool_seen *p);
