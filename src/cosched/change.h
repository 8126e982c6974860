/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMs, accounts and members come, change and go. Pure; one thread at a time (the loader's, or the simulator's) while CPUs
 * schedule and settle: what they read is written in an order that they can bear. Slots are the caller's to choose.
 */
#pragma once

#include "cosched/settle.h"

#include <asm-generic/errno-base.h>

/* Everything empty and at zero. */
CO_INLINE void co_world_init(struct co_world *w, const struct co_params *params)
{
	__u32 i;

	w->params = *params;
	CO_FOR(i, CO_MEMBERS_MAX)
		co_member_of(w, i)->vm = CO_NONE;
}

CO_INLINE int co_params_check(const struct co_params *p)
{
	if (p->mode > CO_MODE_POOLED || !p->n_cpus || p->n_cpus > CO_CPUS_MAX)
		return -EINVAL;
	if (p->period_ns < 1000 || p->period_ns > CO_PERIOD_MAX_NS || !p->slice_ns || p->slice_ns > CO_PERIOD_MAX_NS)
		return -EINVAL;
	return p->floor_ns > CO_PERIOD_MAX_NS || p->debt_limit_ns > CO_PERIOD_MAX_NS * 64 ||
		       p->credit_limit_ns < p->slice_ns || p->credit_limit_ns > CO_PERIOD_MAX_NS * 64 ? -EINVAL : 0;
}

/*
 * Right after a settlement (of the old mode). With another mode everybody starts anew at zero: purses of the one mean nothing
 * to the other. What runs meanwhile is charged, and counted as supply, in the new mode.
 */
CO_INLINE void co_params_set(struct co_world *w, const struct co_params *params)
{
	bool other = params->mode != w->params.mode;
	__u32 i;

	w->params = *params;
	if (!other)
		return;
	w->bank_ns = 0;
	CO_FOR(i, co_n_accounts(w))
		CO_WRITE(co_account_of(w, i)->purse.credit_ns, 0);
	CO_FOR(i, co_n_vms(w)) {
		CO_WRITE(co_vm_of(w, i)->part_ns, 0);
		co_vm_of(w, i)->early_ns = 0;
	}
	CO_FOR(i, co_n_members(w)) {
		CO_WRITE(co_member_of(w, i)->purse.credit_ns, 0);
		co_member_of(w, i)->boosted = 0;
	}
	co_restate(w);
}

/*
 * Whether a slot for an account is in use, and as a group. Nobody may be in it when that changes. A freed account's purse
 * goes to the bank at the next settlement, or when the slot is used again before.
 */
CO_INLINE int co_account_set(struct co_world *w, __u32 account, bool used, bool is_group)
{
	struct co_account *a = co_account_of(w, account);
	__u32 i;

	if (account >= CO_ACCOUNTS_MAX)
		return -EINVAL;
	if (a->used == used && a->is_group == (used && is_group))
		return 0;
	CO_FOR(i, co_n_vms(w))
		if (co_vm_of(w, i)->weight && co_vm_of(w, i)->account == account)
			return -EBUSY;
	if (used && !a->used) {
		w->bank_ns += CO_SWAP(a->purse.credit_ns, 0);
		a->due_ns = 0;
		a->total_ran_ns = a->total_waited_ns = a->total_entitled_ns = a->total_forfeited_ns = a->co_ran_ns = 0;
		a->requests_sent = a->requests_honoured = a->requests_refused = a->requests_void = a->request_wait_ns = 0;
	}
	a->is_group = used && is_group;
	CO_WRITE(a->used, used);
	if (account >= w->n_accounts)
		CO_WRITE(w->n_accounts, account + 1);
	return 0;
}

CO_INLINE int co_account_join(struct co_world *w, __u32 account, __u32 member)
{
	struct co_account *a = co_account_of(w, account);

	if (a->is_group && a->n_members >= CO_GROUP_MEMBERS_MAX)
		return -ENOSPC;
	if (a->is_group)
		CO_WRITE(a->member[a->n_members & (CO_GROUP_MEMBERS_MAX - 1)], member);
	CO_WRITE(a->n_members, a->n_members + 1);
	return 0;
}

CO_INLINE void co_account_leave(struct co_world *w, __u32 account, __u32 member)
{
	struct co_account *a = co_account_of(w, account);
	__u32 i, last = a->n_members - 1;

	CO_FOR(i, CO_GROUP_MEMBERS_MAX) {
		__u32 *slot = &a->member[i & (CO_GROUP_MEMBERS_MAX - 1)];

		if (a->is_group && i < last && *slot == member)
			CO_WRITE(*slot, a->member[last & (CO_GROUP_MEMBERS_MAX - 1)]);
	}
	CO_WRITE(a->n_members, last);
}

CO_INLINE bool co_account_has_vm(struct co_world *w, __u32 account)
{
	bool has = false;
	__u32 i;

	CO_FOR(i, co_n_vms(w))
		has = has || (co_vm_of(w, i)->weight && co_vm_of(w, i)->account == account);
	return has;
}

/*
 * A VM goes to another account with its members, those that run pay the old one until they stop. The last VM takes the purse
 * along, so that neither debts nor credits are shed by joining or leaving a group.
 */
CO_INLINE int co_vm_move(struct co_world *w, __u32 vm, __u32 account)
{
	struct co_vm *v = co_vm_of(w, vm);
	__u32 i, old = v->account;
	struct co_account *to = co_account_of(w, account);
	__s64 purse;

	if (to->is_group && to->n_members + v->n_members > CO_GROUP_MEMBERS_MAX)
		return -ENOSPC;
	CO_FOR(i, co_n_members(w)) {
		if (co_member_of(w, i)->vm != vm)
			continue;
		co_account_leave(w, old, i);
		co_account_join(w, account, i);
		if (CO_READ(co_member_of(w, i)->queued_due_ns) != CO_RAN)
			CO_WRITE(co_member_of(w, i)->queued_due_ns, co_was_due(to, v));
	}
	CO_WRITE(v->account, account);
	CO_WRITE(v->part_ns, 0);
	if (!co_account_has_vm(w, old)) {
		purse = CO_SWAP(co_account_of(w, old)->purse.credit_ns, 0);
		CO_ADD(to->purse.credit_ns, purse);
		CO_ADD(v->part_ns, purse);
	}
	return 0;
}

/* A VM's account, weight and cap (CPU time in a period, 0: none). Weight 0 frees the slot: it must have no members. */
CO_INLINE int co_vm_set(struct co_world *w, __u32 vm, __u32 account, __u32 weight, __u64 cap_ns)
{
	struct co_vm *v = co_vm_of(w, vm);
	int rc;

	if (vm >= CO_VMS_MAX || weight > CO_WEIGHT_MAX || cap_ns > w->params.period_ns * w->params.n_cpus)
		return -EINVAL;
	if (!weight) {
		if (v->n_members)
			return -EBUSY;
		/* What it ran in this period has been paid for and is to be handed out, also if the slot is used again before. */
		if (w->params.mode == CO_MODE_POOLED)
			w->bank_ns += (__s64)(CO_SWAP(v->ran_ns, 0) - v->early_ns);
		v->early_ns = 0;
		CO_WRITE(v->weight, 0);
		return 0;
	}
	if (account >= CO_ACCOUNTS_MAX || !co_account_of(w, account)->used)
		return -EINVAL;
	if (!v->weight) {
		*v = (struct co_vm){ .account = account, .cap_left_ns = (__s64)cap_ns };
	} else if (v->account != account) {
		rc = co_vm_move(w, vm, account);
		if (rc < 0)
			return rc;
	}
	if (v->cap_ns && cap_ns)
		CO_ADD(v->cap_left_ns, (__s64)(cap_ns - v->cap_ns));
	else
		CO_WRITE(v->cap_left_ns, (__s64)cap_ns);
	v->cap_claim_ns = v->cap_ns && cap_ns ? v->cap_claim_ns + (__s64)(cap_ns - v->cap_ns) : (__s64)cap_ns;
	CO_WRITE(v->cap_ns, cap_ns);
	CO_WRITE(v->weight, weight);
	if (vm >= w->n_vms)
		CO_WRITE(w->n_vms, vm + 1);
	co_restate(w);
	return 0;
}

/*
 * The home for a new member of `vm` among `allowed` CPUs (bits), or CO_NONE: members of one account go to distinct CPUs, then
 * where there are fewest.
 */
CO_INLINE __u32 co_home(struct co_world *w, __u32 vm, const __u64 *allowed)
{
	__u32 i, account = co_vm_of(w, vm)->account, best = CO_NONE;
	struct co_cpu *c, *b;

	CO_FOR(i, CO_CPUS_MAX)
		co_cpu_of(w, i)->home_mates = co_cpu_of(w, i)->home_others = 0;
	CO_FOR(i, co_n_members(w)) {
		const struct co_member *m = co_member_of(w, i);

		if (m->vm == CO_NONE)
			continue;
		if (co_vm_of(w, m->vm)->account == account)
			co_cpu_of(w, m->home)->home_mates++;
		else
			co_cpu_of(w, m->home)->home_others++;
	}
	CO_FOR(i, CO_CPUS_MAX) {
		if (i >= w->params.n_cpus || !co_cpu_isset(allowed, i))
			continue;
		c = co_cpu_of(w, i);
		b = co_cpu_of(w, best);
		if (best == CO_NONE || c->home_mates < b->home_mates ||
		    (c->home_mates == b->home_mates && c->home_others < b->home_others))
			best = i;
	}
	return best;
}

/* A thread comes, asleep. */
CO_INLINE int co_member_add(struct co_world *w, __u32 member, __u32 tid, __u32 vm, __u32 home)
{
	struct co_member *m = co_member_of(w, member);
	struct co_vm *v = co_vm_of(w, vm);
	int rc;

	if (member >= CO_MEMBERS_MAX || vm >= CO_VMS_MAX || !v->weight || home >= w->params.n_cpus)
		return -EINVAL;
	if (m->vm != CO_NONE)
		return -EEXIST;
	*m = (struct co_member){ .vm = CO_NONE, .tid = tid, .home = home, .cpu = home, .account = v->account,
				   .queued_due_ns = CO_RAN, .counted = CO_READ(m->counted) };
	rc = co_account_join(w, v->account, member);
	if (rc < 0)
		return rc;
	CO_WRITE(v->n_members, v->n_members + 1);
	/* Published last, swapped because that is a barrier for BPF too: who finds the VM finds the rest. */
	CO_SWAP(m->vm, vm);
	if (member >= w->n_members)
		CO_WRITE(w->n_members, member + 1);
	co_restate(w); /* turns get shorter, and it takes less to be owed one */
	return 0;
}

/* A thread leaves; charged until now, and on no list any more. What it owes or owns stays with its account. */
CO_INLINE void co_member_remove(struct co_world *w, __u32 member, __u64 now_ns)
{
	struct co_member *m = co_member_of(w, member);
	struct co_vm *v = co_vm_of(w, m->vm);

	if (m->vm == CO_NONE)
		return;
	if (CO_READ(m->where) != CO_ASLEEP)
		co_stop(w, m, now_ns);
	co_account_leave(w, v->account, member);
	CO_WRITE(v->n_members, v->n_members - 1);
	CO_WRITE(m->vm, CO_NONE);
	co_restate(w);
}
