/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler's stand-in for tests of who drives it: a table that does what cosched/scheduler.h says, and refuses what no policy
 * may ask. Included once, after cmocka.h, by the program that is linked with it instead of the real one.
 */
#pragma once

#include "cosched/scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define KERNEL_NO_CPU 99u

struct cosched {
	struct co_world world;
	struct cosched_config config;
	pid_t tid[CO_MEMBERS_MAX];
	int fd;
	bool ended, trace;
};

static struct {
	struct cosched *now;
	unsigned loads, unloads, refuse;
} kernel;

int cosched_check(const struct cosched_config *config, char why[COSCHED_WHY_MAX])
{
	for (size_t i = 0; i < config->n_cpus; i++)
		if (config->cpus[i] == KERNEL_NO_CPU) {
			strcpy(why, "no such CPU");
			return -EINVAL;
		}
	return 0;
}

int cosched_load(const struct cosched_config *config, struct cosched **ret, char why[COSCHED_WHY_MAX])
{
	struct cosched *s;
	int error = cosched_check(config, why);

	assert_null(kernel.now);
	if (error)
		return error;
	if (kernel.refuse) {
		kernel.refuse--;
		strcpy(why, "not today");
		return -EBUSY;
	}
	s = calloc(1, sizeof(*s));
	s->config = *config;
	s->world.params = config->params;
	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		s->world.member[i].vm = CO_NONE;
	kernel.loads++;
	*ret = kernel.now = s;
	return 0;
}

void cosched_unload(struct cosched *s)
{
	if (!s)
		return;
	/* Affinities are given back before or after, members before. */
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		assert_int_equal(s->tid[i], 0);
	kernel.unloads++;
	kernel.now = NULL;
	close(s->fd);
	free(s);
}

const struct co_world *cosched_world(const struct cosched *s)
{
	return &s->world;
}

void cosched_counters(const struct cosched *s, unsigned cpu, struct cosched_counters *ret)
{
	assert_true(cpu < s->config.n_cpus);
	*ret = (struct cosched_counters){ .kicks_idle = 10 + cpu };
}

#define NUMBERS_FROM 100u

unsigned cosched_cpu_number(const struct cosched *s, unsigned cpu)
{
	(void)s;
	return NUMBERS_FROM + cpu;
}

void cosched_look(struct cosched *s, void (*look)(const struct co_world *w, void *arg), void *arg)
{
	look(&s->world, arg);
}

int cosched_params_set(struct cosched *s, const struct co_params *params)
{
	s->world.params = *params;
	return 0;
}

int cosched_vm_set(struct cosched *s, unsigned vm, unsigned account, unsigned weight, uint64_t cap_ns)
{
	assert_true(vm < CO_VMS_MAX && account < CO_ACCOUNTS_MAX && weight <= CO_WEIGHT_MAX);
	assert_true(!weight || s->world.account[account].used);
	s->world.vm[vm].account = account;
	s->world.vm[vm].weight = weight;
	s->world.vm[vm].cap_ns = cap_ns;
	return 0;
}

void cosched_vm_serves(struct cosched *s, unsigned vm, unsigned weight)
{
	assert_true(vm < CO_VMS_MAX && s->world.vm[vm].weight);
	s->world.vm[vm].serves = weight;
}

int cosched_account_set(struct cosched *s, unsigned account, bool used, bool is_group)
{
	assert_true(account < CO_ACCOUNTS_MAX);
	for (unsigned i = 0; !used && i < CO_VMS_MAX; i++)
		assert_false(s->world.vm[i].weight && s->world.vm[i].account == account);
	s->world.account[account].used = used;
	s->world.account[account].is_group = is_group;
	return 0;
}

int cosched_member_add(struct cosched *s, pid_t tid, unsigned vm, unsigned *ret_member)
{
	assert_true(s->world.vm[vm].weight > 0);
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++) {
		if (s->tid[i])
			continue;
		s->tid[i] = tid;
		s->world.member[i].vm = vm;
		*ret_member = i;
		return 0;
	}
	return -ENOSPC;
}

void cosched_member_remove(struct cosched *s, unsigned member)
{
	assert_true(s->tid[member] != 0);
	s->tid[member] = 0;
	s->world.member[member].vm = CO_NONE;
}

uint64_t cosched_settle_ns(const struct cosched *s)
{
	return s->world.settlements;
}

int cosched_trace_set(struct cosched *s, bool on)
{
	s->trace = on;
	return 0;
}

int cosched_fd(const struct cosched *s)
{
	return s->fd;
}

int cosched_trace_read(struct cosched *s, void (*event)(const struct co_event *, void *), void *context, uint64_t *ret_lost)
{
	struct co_event e = { .time_ns = 5, .kind = CO_EVENT_IDLE };

	*ret_lost = 0;
	if (s->trace)
		event(&e, context);
	return s->trace;
}

bool cosched_ended(struct cosched *s, char why[COSCHED_WHY_MAX])
{
	strcpy(why, "it stalled");
	return s->ended;
}
