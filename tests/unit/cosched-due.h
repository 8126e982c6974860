/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What accounts are due, reckoned once more: by the test, in floating point, in another way than the core does, and from what
 * members do, not from what the core has counted of them. And how the core's books must add up meanwhile.
 */
#pragma once

#include "cosched-world.h"

#include <math.h>

/* --- the test's own reckoning --- */

/* Whether account a is satisfied before b when a level rises; who wants nothing comes first. */
static inline bool sim_before(const double *weight, const double *demand, uint32_t a, uint32_t b)
{
	if (demand[a] <= 0 || demand[b] <= 0)
		return demand[a] <= 0 && demand[b] > 0;
	return demand[a] * weight[b] < demand[b] * weight[a];
}

/*
 * Weighted max-min, not in the core's way: in the order in which demands are satisfied each takes its weight's part of what is
 * left, or what it wants. The order hardly changes from one time to the next. Returns what nobody wants.
 */
static inline double sim_fill(const double *weight, const double *demand, double supply, double *ret_due)
{
	uint32_t n = sim.w.n_accounts, *order = sim.order, i, k;
	double weights = 0, due;

	for (i = 0; i < n; i++) {
		uint32_t account = order[i];

		for (k = i; k && sim_before(weight, demand, account, order[k - 1]); k--)
			order[k] = order[k - 1];
		order[k] = account;
		weights += demand[account] > 0 ? weight[account] : 0;
	}
	for (i = 0; i < n; i++) {
		k = order[i];
		if (demand[k] <= 0 || supply <= 0)
			continue;
		due = weights > 0 ? supply * weight[k] / weights : 0;
		due = due < demand[k] ? due : demand[k];
		ret_due[k] += due;
		supply -= due;
		weights -= weight[k];
	}
	return supply;
}

/* Whether member `i` runs, or waits and could. */
static inline bool sim_is_runnable(uint32_t i)
{
	const struct co_member *m = &sim.w.member[i];

	if (m->vm == CO_NONE || m->where == CO_ASLEEP)
		return false;
	return m->where == CO_RUNNING || !sim.w.vm[m->vm].cap_ns || sim.w.vm[m->vm].cap_left_ns > 0;
}

/*
 * For so long everything stays as it is: the CPUs that run members are divided among the accounts of members that run or wait,
 * unless a cap parks them, by the weights of the VMs that are awake.
 */
static inline void sim_fluid(uint64_t ns)
{
	double weight[CO_ACCOUNTS_MAX] = { 0 }, demand[CO_ACCOUNTS_MAX] = { 0 }, running = 0;

	for (uint32_t i = 0; i < sim.w.n_members && ns; i++) {
		const struct co_member *m = &sim.w.member[i];

		if (m->vm == CO_NONE || m->where == CO_ASLEEP)
			continue;
		sim.awake_until[m->vm] = sim.w.settlements + CO_AWAKE;
		if (!sim_is_runnable(i))
			continue;
		demand[sim.w.vm[m->vm].account] += (double)ns;
		running += m->where == CO_RUNNING ? (double)ns : 0;
	}
	for (uint32_t i = 0; i < sim.w.n_vms; i++)
		if (sim.w.settlements < sim.awake_until[i])
			weight[sim.w.vm[i].account] += sim.w.vm[i].weight;
	sim_fill(weight, demand, running, sim.fluid);
}

/* What VM `i` may claim of the period that ends: what it ran and waited, but for what its cap forbids. */
static inline double sim_wants(uint32_t i)
{
	const struct co_vm *vm = &sim.w.vm[i];
	double wants = (double)vm->ran_ns + (double)vm->waited_ns, kept = (double)sim.w.params.slice_ns / 2;

	if (!vm->cap_ns)
		return wants;
	sim.cap_claim[i] = (double)vm->cap_ns + (sim.cap_claim[i] < kept ? sim.cap_claim[i] : kept);
	/* What it ran beyond its cap it may run less later. */
	wants = fmin(wants, fmax(sim.cap_claim[i], (double)vm->ran_ns));
	sim.cap_claim[i] -= wants;
	return wants;
}

/*
 * The period ends: accounts have what they were due at each of its instants, as far as they may claim it, and those that may
 * claim more divide the rest. From what the core has counted of VMs' times, not from what it reckons.
 */
static inline void sim_pay(void)
{
	double weight[CO_ACCOUNTS_MAX] = { 0 }, wants[CO_ACCOUNTS_MAX] = { 0 }, due[CO_ACCOUNTS_MAX] = { 0 };

	for (uint32_t i = 0; i < sim.w.n_vms; i++) {
		wants[sim.w.vm[i].account] += sim_wants(i);
		sim.rest += (double)sim.w.vm[i].ran_ns;
		if (sim.w.settlements < sim.awake_until[i])
			weight[sim.w.vm[i].account] += sim.w.vm[i].weight;
	}
	for (uint32_t i = 0; i < sim.w.n_accounts; i++) {
		sim.instant[i] += sim.fluid[i];
		sim.fluid[i] = sim.fluid[i] < wants[i] ? sim.fluid[i] : wants[i];
	}
	sim.rest = sim_fill(weight, sim.fluid, sim.rest, due);
	for (uint32_t i = 0; i < sim.w.n_accounts; i++)
		wants[i] -= due[i];
	sim.rest = sim_fill(weight, wants, sim.rest, due);
	for (uint32_t i = 0; i < sim.w.n_accounts; i++) {
		sim.entitled[i] += due[i];
		sim.fluid[i] = 0;
	}
}

/* --- the core's --- */

static inline void sim_check_conservation(void)
{
	__s64 sum = sim.w.bank_ns;

	if (sim.w.params.mode != CO_MODE_POOLED)
		return;
	for (uint32_t i = 0; i < CO_ACCOUNTS_MAX; i++)
		sum += sim.w.account[i].purse.credit_ns;
	for (uint32_t i = 0; i < CO_VMS_MAX; i++)
		sum += (__s64)(sim.w.vm[i].ran_ns - sim.w.vm[i].early_ns);
	if (sum)
		sim_fail("credit is not conserved", sum, sim.w.bank_ns);
}

/* Who is runnable is counted, once; from the settlement after a change on, where its VM belongs. */
static inline void sim_check_counted(void)
{
	uint64_t n[CO_ACCOUNTS_MAX] = { 0 }, weight[CO_ACCOUNTS_MAX] = { 0 }, weights = 0, running = 0;
	const struct co_vm *vm = sim.w.vm;

	for (uint32_t i = 0; i < sim.w.n_members; i++) {
		const struct co_member *m = &sim.w.member[i];

		if (!sim.changed && !m->counted != !sim_is_runnable(i))
			sim_fail("whether it is counted", i, m->counted);
		running += m->vm != CO_NONE && m->where == CO_RUNNING;
		if (!m->counted)
			continue;
		n[m->counted - 1]++;
		if (!sim.changed && m->counted != vm[m->vm].account + 1)
			sim_fail("counted elsewhere", i, m->counted);
	}
	for (uint32_t i = 0; i < sim.w.n_vms; i++)
		weight[vm[i].account] += vm[i].awake ? vm[i].weight : 0;
	for (uint32_t i = 0; i < sim.w.n_accounts; i++) {
		const struct co_share *share = &sim.w.account[i].share;

		weights += share->is_in ? share->weight : 0;
		if (share->n != n[i] || share->is_in != (n[i] && share->weight))
			sim_fail("runnable members of an account", i, share->n);
		if (!sim.changed && share->weight != weight[i])
			sim_fail("weight of an account", i, share->weight);
	}
	if (sim.w.fluid.running != running || sim.w.fluid.weight != weights)
		sim_fail("CPUs that run members", sim.w.fluid.running, running);
}

/* All that is due and not handed out yet, and what it was rounded by. */
static inline uint64_t sim_due(void)
{
	uint64_t due;

	co_fluid_advance(&sim.w.fluid, sim.now_ns);
	due = sim.w.fluid.rest;
	for (uint32_t i = 0; i < sim.w.n_accounts; i++) {
		co_share_take(&sim.w.fluid, &sim.w.account[i].share);
		due += sim.w.account[i].share.due;
	}
	return due;
}

/* What was due in the period that ends is what ran in it, to the last bit. */
static inline void sim_check_due(void)
{
	uint64_t ran = 0;

	for (uint32_t i = 0; i < sim.w.n_vms; i++)
		ran += sim.w.vm[i].ran_ns;
	if (!sim.changed && sim_due() != ran << CO_FLUID_BITS)
		sim_fail("what is due is not what ran", sim_due() >> CO_FLUID_BITS, ran);
}
