/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Built without the BPF toolchain: everything but the scheduler itself is there, and loading says what is missing.
 */
#include "cosched/scheduler.h"

#include <errno.h>
#include <stdio.h>

int cosched_load(const struct cosched_config *config, struct cosched **ret, char why[COSCHED_WHY_MAX])
{
	(void)config;
	(void)ret;
	snprintf(why, COSCHED_WHY_MAX, "built without co-scheduling: %s", COSCHED_LACK);
	return -EOPNOTSUPP;
}

int cosched_check(const struct cosched_config *config, char why[COSCHED_WHY_MAX])
{
	return cosched_load(config, NULL, why);
}

/* Nobody has one, so nobody calls these with one. */
void cosched_unload(struct cosched *s)
{
	(void)s;
}

const struct co_world *cosched_world(const struct cosched *s)
{
	(void)s;
	return NULL;
}

void cosched_look(struct cosched *s, void (*look)(const struct co_world *w, void *arg), void *arg)
{
	(void)s;
	(void)look;
	(void)arg;
}

int cosched_params_set(struct cosched *s, const struct co_params *params)
{
	(void)s;
	(void)params;
	return -EOPNOTSUPP;
}

int cosched_vm_set(struct cosched *s, unsigned vm, unsigned account, unsigned weight, uint64_t cap_ns)
{
	(void)s;
	(void)vm;
	(void)account;
	(void)weight;
	(void)cap_ns;
	return -EOPNOTSUPP;
}

void cosched_vm_serves(struct cosched *s, unsigned vm, unsigned weight)
{
	(void)s;
	(void)vm;
	(void)weight;
}

int cosched_account_set(struct cosched *s, unsigned account, bool used, bool is_group)
{
	(void)s;
	(void)account;
	(void)used;
	(void)is_group;
	return -EOPNOTSUPP;
}

unsigned cosched_cpu_number(const struct cosched *s, unsigned cpu)
{
	(void)s;
	return cpu;
}

int cosched_member_add(struct cosched *s, pid_t tid, unsigned vm, unsigned *ret_member)
{
	(void)s;
	(void)tid;
	(void)vm;
	(void)ret_member;
	return -EOPNOTSUPP;
}

void cosched_member_remove(struct cosched *s, unsigned member)
{
	(void)s;
	(void)member;
}

uint64_t cosched_settle_ns(const struct cosched *s)
{
	(void)s;
	return 0;
}

int cosched_trace_set(struct cosched *s, bool on)
{
	(void)s;
	(void)on;
	return -EOPNOTSUPP;
}

int cosched_fd(const struct cosched *s)
{
	(void)s;
	return -EOPNOTSUPP;
}

int cosched_trace_read(struct cosched *s, void (*event)(const struct co_event *, void *), void *context, uint64_t *ret_lost)
{
	(void)s;
	(void)event;
	(void)context;
	(void)ret_lost;
	return 0;
}

bool cosched_ended(struct cosched *s, char why[COSCHED_WHY_MAX])
{
	(void)s;
	(void)why;
	return false;
}

void cosched_counters(const struct cosched *s, unsigned cpu, struct cosched_counters *ret)
{
	(void)s;
	(void)cpu;
	*ret = (struct cosched_counters){0};
}
