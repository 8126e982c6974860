/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loader where no BPF program could be built: it loads nothing and says why. Nothing else is ever called, as there is
 * nothing to call it with.
 */
#include "cosched/scheduler.h"

#include <errno.h>
#include <stdio.h>

int cosched_load(const struct cosched_config *config, struct cosched **ret, char why[COSCHED_WHY_MAX])
{
	snprintf(why, COSCHED_WHY_MAX, "built without co-scheduling: %s", COSCHED_LACK);
	return -EOPNOTSUPP;
}
void cosched_unload(struct cosched *s)
{
}
const struct co_world *cosched_world(const struct cosched *s)
{
	return NULL;
}
int cosched_params_set(struct cosched *s, const struct co_params *params)
{
	return -EOPNOTSUPP;
}
int cosched_vm_set(struct cosched *s, unsigned vm, unsigned account, unsigned weight, uint64_t cap_ns)
{
	return -EOPNOTSUPP;
}
int cosched_account_set(struct cosched *s, unsigned account, bool used, bool is_group)
{
	return -EOPNOTSUPP;
}
int cosched_member_add(struct cosched *s, pid_t tid, unsigned vm, unsigned *ret_member)
{
	return -EOPNOTSUPP;
}
void cosched_member_remove(struct cosched *s, unsigned member)
{
}
int cosched_fd(const struct cosched *s)
{
	return -1;
}
int cosched_trace_read(struct cosched *s, void (*event)(const struct co_event *, void *), void *context, uint64_t *ret_lost)
{
	return 0;
}
bool cosched_ended(struct cosched *s, char why[COSCHED_WHY_MAX])
{
	return false;
}
void cosched_fault(struct cosched *s, enum cosched_fault fault)
{
}
