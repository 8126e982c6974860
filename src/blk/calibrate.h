/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures what requests cost a pool: on a disk of its own, for a while, beside whatever else the pool does.
 */
#pragma once

#include "blk/queue.h"
#include "slo/sched.h"

#define BLK_CALIBRATE_BYTES (UINT64_C(256) << 20) /* size of the disk that it wants */

struct blk_calibration {
	struct slo_cost_model cost; /* one request at a time: device time per operation, size and order */
	double read_iops, write_iops;		  /* 4 KiB, random, `depth` at a time */
	double read_bandwidth, write_bandwidth;	  /* 128 KiB, sequential */
	uint64_t errors;
};

/*
 * Control thread. Each of the steps takes `step_ns`; done is called on the control thread. The disk is written all over.
 * `stop` (atomic) set meanwhile: what is at the store is waited for, and the result is -ECANCELED. -ENOMEM.
 */
int blk_calibrate(struct blk_pool *pool, struct store_disk *disk, struct worker *w, unsigned depth, uint64_t step_ns,
		  const bool *stop, void (*done)(void *arg, int result, const struct blk_calibration *c), void *arg);
