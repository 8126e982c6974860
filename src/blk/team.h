/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The workers of a daemon as the disks share them, and the elastic placement of queues on them.
 *
 * A disk starts on one worker, the one with the fewest queues. Ten times a second the control thread looks at how busy each
 * worker is: when one has been busy for a while and another has room, one queue of the busy one moves. Spreading every disk
 * over every worker from the start would cost each of them a poll and a channel for nothing.
 */
#pragma once

#include "base/list.h"
#include "worker/topology.h"
#include "worker/worker.h"

#define BLK_TEAM_MAX 64u

struct blk_team_member {
	struct worker *worker;
	unsigned queues;	/* running, placed here */
	uint64_t last_busy_ns;
	double busy;		/* share of the last interval in which it found work */
	unsigned busy_for;	/* intervals in a row above the mark */
};

struct blk_team {
	unsigned n;
	unsigned shared; /* the first so many serve any disk; the others only those that name them (blk_disk.own) */
	struct blk_team_member member[BLK_TEAM_MAX];
	struct list disks;
	struct topology *topology; /* NULL: not known */
	uint64_t last_ns;
};

/* All are shared until `shared` is set. */
int blk_team_init(struct blk_team *t, struct worker *const worker[], unsigned n);
void blk_team_fini(struct blk_team *t);

/* Call about every BLK_TEAM_INTERVAL_NS: measures, and moves at most one queue. True if it moved one. */
#define BLK_TEAM_INTERVAL_NS (100 * UINT64_C(1000000))
bool blk_team_balance(struct blk_team *t, uint64_t now_ns);
