/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual disk: the block device model behind a vhost-user session. Control thread.
 */
#pragma once

#include "blk/slot.h"
#include "blk/team.h"

#include <linux/virtio_blk.h>
#include <sys/types.h>

#define BLK_QUEUES_MAX 64u

struct blk_disk_options {
	const char *vm, *name;
	unsigned queues;  /* offered to the driver: 1..BLK_QUEUES_MAX */
	unsigned workers; /* 0: one, more when it gets busy; N: exactly N */
	unsigned own;	  /* index + 1 in the team of the one worker that serves it; 0: any of the shared ones */
	bool ioprio_ignore;
};

/* The VM's account at the pool's gate is found by name when the disk is created; see gate.h. */
struct blk_disk {
	struct vhost_device device;
	struct blk_pool *pool;
	struct store_disk *store;
	struct blk_team *team;
	struct list node; /* in the team's disks */
	char vm[32], name[32];
	struct blk_geometry geometry;
	struct virtio_blk_config config;
	uint64_t features;	/* as the driver accepted them */
	bool write_through;	/* atomic, read by workers */
	bool ioprio_ignore;
	unsigned queues_max;
	unsigned workers_wanted; /* 0: auto */
	unsigned own; /* as in the options; may be changed, blk_disk_move_home() then moves what runs elsewhere */
	unsigned home;		/* index in the team of its first worker */
	unsigned running;	/* queues; the image is locked while there are any */
	struct dirty_log *log;
	pid_t peer; /* the front-end's process; 0: none */
	struct blk_slot *slot[BLK_QUEUES_MAX]; /* made at a queue's first start */
};

/* -EINVAL, -ENOMEM. The store's disk is borrowed. */
int blk_disk_create(const struct blk_disk_options *options, struct blk_pool *pool, struct store_disk *store,
		    struct blk_team *team, struct blk_disk **ret);
/* Its session has ended: no queue runs. */
void blk_disk_destroy(struct blk_disk *d);

/* The store has been resized: new capacity in config space. The caller tells the session (config change). */
void blk_disk_resized(struct blk_disk *d);

/* Moves at most one queue that runs elsewhere than on the disk's own worker, or that is on another disk's. */
void blk_disk_move_home(struct blk_disk *d);

/*
 * What the gate holds of this disk goes at once, owed by its classes, and nothing is held for another `for_ns`: for a guest that
 * waits for its requests to end before it lets go of the disk, of which a back-end is told nothing. A queue that starts anew is
 * held as ever.
 */
void blk_disk_drain(struct blk_disk *d, uint64_t for_ns, struct vhost_done done);

/* Moves a running queue; -EBUSY if an operation is under way, -EALREADY if it is there. */
int blk_disk_move_queue(struct blk_disk *d, unsigned queue, unsigned worker);
