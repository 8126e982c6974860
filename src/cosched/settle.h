/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settling credits at the end of each period: who was due how much CPU time, by weighted max-min. Pure; see core.h.
 *
 * The water level. Accounts with weights w_i want at most d_i of a supply S. Each is due min(d_i, L w_i) with the level L
 * such that all of S is handed out, or everybody has what they want. Example: S = 4 CPUs x 30 ms = 120 ms; A (weight 2)
 * wants 30, B (1) wants 60, C (1) wants 60. Round one, level 120 / 4 = 30 a weight: A could have 60 but wants 30, so it is
 * satisfied. Round two: the 90 that are left over B and C: 45 each. Both want more than that: done.
 *
 * Xen's modes: S is the machine's time in a period; a VM wants a CPU for each of its active members, or its cap; what it is
 * due is divided among them. Debts below the floor are forgiven, credits above it forfeited (halved, as in Xen, when a
 * member does not use them): both are CPU time that nobody accounts for.
 *
 * Pooled: S is the time that was used in the period, and an account wants what it ran and what it waited. So the sum of all
 * purses does not change, idle time earns nothing, and what one leaves is due to those that waited. Nothing is forgiven; what
 * an account could not use for so long that it exceeds credit_limit_ns goes to the bank and from there to the others.
 */
#pragma once

#include "cosched/core.h"

/* Each satisfies at least one claim; the last one divides what is left by weight, whatever is wanted. */
#define CO_ROUNDS_MAX 32u

/* Member `i`: counts a wait that goes on, and whether it was active. */
CO_INLINE void co_settle_member(struct co_world *w, __u32 i, __u64 now_ns)
{
	struct co_member *m = co_member_of(w, i);
	__u32 where = CO_READ(m->where);

	if (m->vm == CO_NONE)
		return;
	if (where == CO_QUEUED)
		co_wait(w, m, now_ns, now_ns);
	if (m->active)
		co_vm_of(w, m->vm)->n_active++;
}

/* VM `i`: takes what it did in the period into its claim; returns what it ran. */
CO_INLINE __u64 co_settle_gather(struct co_world *w, __u32 i)
{
	bool pooled = w->params.mode == CO_MODE_POOLED;
	struct co_vm *vm = co_vm_of(w, i);
	struct co_account *a = co_account_of(w, vm->account);
	struct co_claim *claim = &w->claim[(pooled ? vm->account : i) & (CO_VMS_MAX - 1)];
	__u64 ran, waited, demand;

	if (!vm->weight)
		return 0;
	ran = CO_SWAP(vm->ran_ns, 0);
	waited = CO_SWAP(vm->waited_ns, 0);
	vm->total_ran_ns += ran;
	vm->total_waited_ns += waited;
	a->total_ran_ns += ran;
	a->total_waited_ns += waited;
	demand = pooled ? ran + waited : vm->n_active * w->params.period_ns;
	if (vm->cap_ns && demand > vm->cap_ns)
		demand = pooled && ran > vm->cap_ns ? ran : vm->cap_ns;
	claim->demand_ns += demand;
	if (vm->n_active)
		claim->weight += vm->weight;
	return ran;
}

/* One round of filling: hands out up to `supply`; returns what was handed out. */
CO_INLINE __u64 co_settle_round(struct co_world *w, __u64 supply, bool last)
{
	__u64 weights = 0, handed = 0, level;
	__u32 i;

	CO_FOR(i, CO_VMS_MAX) {
		const struct co_claim *c = &w->claim[i & (CO_VMS_MAX - 1)];

		if (c->due_ns < c->demand_ns)
			weights += c->weight;
	}
	if (!weights)
		return 0;
	CO_FOR(i, CO_VMS_MAX) {
		struct co_claim *c = &w->claim[i & (CO_VMS_MAX - 1)];
		__u64 more = supply * c->weight / weights;

		if (c->due_ns >= c->demand_ns)
			continue;
		level = c->demand_ns - c->due_ns;
		if (more > level && !last)
			more = level;
		c->due_ns += more;
		handed += more;
	}
	return handed;
}

/* Adds to a purse what is due to it, within Xen's floor and ceiling. */
CO_INLINE void co_settle_pay_member(struct co_world *w, struct co_member *m, __u64 due_ns)
{
	__s64 floor = w->params.floor_ns, credit = CO_ADD(m->purse.credit_ns, due_ns) + (__s64)due_ns;

	if (credit < -floor) {
		CO_ADD(m->purse.credit_ns, -floor - credit);
		w->forgiven_ns += -floor - credit;
	} else if (credit > floor) {
		__u64 half = (__u64)credit / 2; /* BPF divides unsigned numbers only */

		CO_ADD(m->purse.credit_ns, -(credit - (__s64)half));
		w->forfeited_ns += credit - (__s64)half;
	}
}
CO_INLINE void co_settle_pay_account(struct co_world *w, struct co_account *a, __u64 due_ns)
{
	__s64 credit = CO_ADD(a->purse.credit_ns, due_ns) + (__s64)due_ns, limit = w->params.credit_limit_ns;

	a->total_entitled_ns += due_ns;
	if (credit > limit) {
		CO_ADD(a->purse.credit_ns, -(credit - limit));
		w->bank_ns += credit - limit;
		w->forfeited_ns += credit - limit;
	}
}

CO_INLINE void co_settle_pay(struct co_world *w)
{
	__u32 i;

	if (w->params.mode == CO_MODE_POOLED) {
		CO_FOR(i, CO_ACCOUNTS_MAX)
			if (co_account_of(w, i)->used)
				co_settle_pay_account(w, co_account_of(w, i), w->claim[i & (CO_VMS_MAX - 1)].due_ns);
		return;
	}
	CO_FOR(i, CO_MEMBERS_MAX) {
		struct co_member *m = co_member_of(w, i);
		struct co_vm *vm = co_vm_of(w, m->vm);

		if (m->vm != CO_NONE && m->active && vm->n_active)
			co_settle_pay_member(w, m, w->claim[m->vm & (CO_VMS_MAX - 1)].due_ns / vm->n_active);
	}
}

/* VM `i`: what is left of its cap, and entitlement of Xen's modes for those who look. */
CO_INLINE void co_settle_vm(struct co_world *w, __u32 i)
{
	struct co_vm *vm = co_vm_of(w, i);
	__s64 left = CO_READ(vm->cap_left_ns);

	if (!vm->weight)
		return;
	if (w->params.mode != CO_MODE_POOLED)
		vm->total_entitled_ns += w->claim[i & (CO_VMS_MAX - 1)].due_ns;
	if (vm->cap_ns)
		CO_ADD(vm->cap_left_ns, left < 0 ? (__s64)vm->cap_ns : (__s64)vm->cap_ns - left);
}

/* The whole settlement, once a period; CPU times of running members have just been charged. */
CO_INLINE void co_settle(struct co_world *w, __u64 now_ns)
{
	__u64 ran = 0, handed;
	__s64 supply, rest;
	__u32 i, round;

	CO_FOR(i, CO_VMS_MAX) {
		w->claim[i & (CO_VMS_MAX - 1)] = (struct co_claim){ 0 };
		co_vm_of(w, i)->n_active = 0;
	}
	CO_FOR(i, CO_MEMBERS_MAX)
		co_settle_member(w, i, now_ns);
	CO_FOR(i, CO_VMS_MAX)
		ran += co_settle_gather(w, i);
	supply = w->params.mode == CO_MODE_POOLED ? (__s64)ran + w->bank_ns : (__s64)(w->params.period_ns * w->params.n_cpus);
	rest = supply;
	CO_FOR(round, CO_ROUNDS_MAX) {
		if (rest <= 0)
			break;
		handed = co_settle_round(w, rest, round == CO_ROUNDS_MAX - 1);
		if (!handed)
			break;
		rest -= handed;
	}
	if (w->params.mode == CO_MODE_POOLED)
		w->bank_ns = rest;
	co_settle_pay(w);
	CO_FOR(i, CO_VMS_MAX)
		co_settle_vm(w, i);
	CO_FOR(i, CO_MEMBERS_MAX)
		co_member_of(w, i)->active = co_member_of(w, i)->where != CO_ASLEEP;
	w->settlements++;
}
