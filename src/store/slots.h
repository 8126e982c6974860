/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A channel's fixed files: which slot of the worker's io_uring stands for which disk.
 */
#pragma once

#include "base/list.h"
#include "worker/worker.h"

#include <pthread.h>

#define SLOTS_MAX 1024u

struct slots;

/* The slots of all channels of a pool. The lock is taken when channels and disks come and go, never for a request. */
struct slots_set {
	pthread_mutex_t lock;
	struct list list;
	uint64_t index_used[SLOTS_MAX / 64]; /* control thread */
	uint64_t ids;
};

/* What a disk is known by: the index is reused, the id never. */
struct slots_key {
	unsigned index; /* SLOTS_MAX: none was left, its plain fd is used */
	uint64_t id;
};

/* Control thread. */
void slots_set_init(struct slots_set *set);
void slots_set_fini(struct slots_set *set);
void slots_key_new(struct slots_set *set, struct slots_key *key);
/* Workers let go of the file soon, by a message. */
void slots_key_drop(struct slots_set *set, const struct slots_key *key);

/* The channel's worker. */
int slots_open(struct slots_set *set, struct worker *w, struct slots **ret);
void slots_close(struct slots_set *set, struct slots *s);
/* The slot for the disk, registering it at its first use; negative: use the plain fd. */
int slots_get(struct slots *s, const struct slots_key *key, int fd);
