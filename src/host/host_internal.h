/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared within the folder only.
 */
#pragma once

#include "host/host.h"

void host_error_set(struct host_error *e, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* worker.c */
int host_workers_start(struct host *h, const struct policy *policy, struct host_error *e);
/* -EBUSY: a co-group wants a worker of its own that was not made at the start. */
int host_workers_check(const struct host *h, const struct policy *policy, struct host_error *e);
/* Index in the team + 1 of the worker that a VM's disks have to themselves; 0: they use the shared ones. */
unsigned host_worker_of(const struct host *h, const struct policy *policy, const char *vm);

/* stays.c */
/* What the policy says of a disk; NULL: nothing. `p` may be NULL. */
const struct policy_disk *host_spec_find(const struct policy *p, const char *vm, const char *name);
/* It goes on as it is, attached, when `next` is applied; its size may change under it. */
bool host_disk_stays(const struct host_disk *d, const struct policy *next);
/* -EBUSY: `next` asks for what only a restart can change. */
int host_check_change(const struct host *h, const struct policy *next, struct host_error *e);

/* pool.c */
int host_pool_make(struct host *h, const struct policy *policy, const struct policy_pool *p, struct host_pool **ret, struct host_error *e);
/* No disk is left: frees it; then gone, from the event loop or at once. */
void host_pool_end(struct host_pool *pool, void (*gone)(void *arg), void *arg);
/*
 * Gives the pool's gate the promises of every VM that has a disk there. Calls `began` for each VM, then later `each`. The
 * owner takes them over before any request that comes after.
 */
void host_pool_promise(struct host_pool *pool, const struct policy *policy, void (*began)(void *arg),
		       struct blk_gate_done each);

/* state.c */
/* What requests cost on the pool, as learned in earlier runs: 0, -ENOENT, -EINVAL (not such a file). */
int host_state_load(const struct policy *policy, const char *pool, struct slo_cost_model *ret);
/* Saves what every scheduled pool has learned; `began` (may be NULL) is called for each, later `each`. A folder that is not there is none. */
void host_state_save(struct host *h, void (*began)(void *arg), struct blk_gate_done each);
int host_state_begin(struct host *h);

/* disk.c */
int host_disk_make(struct host *h, const struct policy *policy, const struct policy_vm *vm, const struct policy_disk *d,
		   struct host_pool *pool, struct host_disk **ret, struct host_error *e);
/* Binds its socket or begins to connect. */
int host_disk_serve(struct host_disk *d, const struct policy *policy, const struct policy_disk *spec, struct host_error *e);
/* Tells of queues that their driver has broken since the last look. */
void host_disk_look(struct host_disk *d, uint64_t now_ns);
/* Ends its session if it has one, and frees it; then gone. */
void host_disk_end(struct host_disk *d, void (*gone)(void *arg), void *arg);
