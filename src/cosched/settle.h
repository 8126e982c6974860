/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Settling credits at the end of each period: who was due how much CPU time, by weighted max-min. Pure; see core.h.
 *
 * The water level. Accounts with weights w_i want at most d_i of a supply S. Each is due min(d_i, L w_i) with the level L
 * such that all of S is handed out, or everybody has what they want. Example: S = 4 CPUs x 30 ms = 120 ms; A (weight 2)
 * wants 30, B (1) wants 60, C (1) wants 60. Level 120 / 4 = 30 a weight: A could have 60 but wants 30, so it is satisfied.
 * Level of the rest: 90 / 2 = 45. B and C want more than that: 45 each, done.
 *
 * Entitlement, in every mode: at every instant the CPUs that run members are divided among the accounts with runnable members
 * (fluid.h); the weight of an account is that of those of its VMs that ran or waited in the last second (CO_AWAKE). What a cap
 * forbids of that goes to others that waited. Pooled, that is what is paid: S is the time that was used in the period, and the
 * bank, so the sum of all purses and the bank never changes and idle time earns nothing. Nothing is forgiven; what can never be
 * paid is shared in proportion (co_settle_for_good). What an account could not use for so long that it exceeds credit_limit_ns goes
 * to the bank, and from there to those that waited. What a purse holds is divided once more, among the account's VMs: their parts.
 *
 * Xen's modes pay otherwise: S is the machine's time in a period; a VM wants a CPU for each of its active members, or its
 * cap; what it is due is divided among them. Debts below the floor are forgiven, credits above it forfeited (halved, as
 * in Xen): both are CPU time that nobody accounts for.
 */
#pragma once

#include "cosched/core.h"

/* Claims for accounts and for VMs share an array. */
#define CO_CLAIMS_MAX CO_VMS_MAX
#define CO_SUPPLY_MAX ((__s64)(CO_PERIOD_MAX_NS * CO_CPUS_MAX))

CO_INLINE struct co_claim *co_claim_of(struct co_world *w, __u32 i)
{
	return &w->claim[i & (CO_CLAIMS_MAX - 1)];
}

CO_INLINE __u32 co_n_claims(const struct co_world *w)
{
	return co_n_vms(w) > co_n_accounts(w) ? co_n_vms(w) : co_n_accounts(w);
}

/* Volatile, or clang makes a loop of these a memset, which BPF does not have. */
CO_INLINE void co_claim_set(struct co_claim *c, __u64 weight, __u64 demand_ns)
{
	CO_WRITE(c->weight, weight);
	CO_WRITE(c->demand_ns, demand_ns);
	CO_WRITE(c->due_ns, 0);
	CO_WRITE(c->pool, 0);
	CO_WRITE(c->capped, 0);
}

CO_INLINE void co_claims_clear(struct co_world *w)
{
	__u32 i;

	CO_FOR(i, co_n_claims(w))
		co_claim_set(co_claim_of(w, i), 0, 0);
}

CO_INLINE struct co_pool *co_pool_of(struct co_world *w, __u32 i)
{
	return &w->pool[i & (CO_ACCOUNTS_MAX - 1)];
}

CO_INLINE void co_pool_set(struct co_world *w, __u32 i, __s64 supply)
{
	CO_WRITE(co_pool_of(w, i)->rest_ns, supply > 0 ? supply : 0);
	CO_WRITE(co_pool_of(w, i)->weights, 0);
}

/*
 * Hands out what the pools hold to those who claim it; what nobody wanted is left in them. A claim that is satisfied leaves at
 * once, which only raises the level for the others: so each round but the last satisfies one at least, and three or four do
 * in practice. What is divided at the end is subtracted together with its weight: no nanosecond is lost in rounding.
 */
CO_INLINE void co_fill_pools(struct co_world *w)
{
	__u32 i, round, satisfied = 1;
	__u64 due;

	CO_FOR(i, co_n_claims(w))
		if (co_claim_of(w, i)->demand_ns)
			co_pool_of(w, co_claim_of(w, i)->pool)->weights += co_claim_of(w, i)->weight;
	CO_FOR(round, co_n_claims(w)) {
		if (!satisfied)
			break;
		satisfied = 0;
		CO_FOR(i, co_n_claims(w)) {
			struct co_claim *c = co_claim_of(w, i);
			struct co_pool *p = co_pool_of(w, c->pool);

			if (!c->weight || c->due_ns == c->demand_ns || c->demand_ns * p->weights > p->rest_ns * c->weight)
				continue;
			c->due_ns = c->demand_ns;
			p->rest_ns -= c->demand_ns;
			p->weights -= c->weight;
			satisfied = 1;
		}
	}
	CO_FOR(i, co_n_claims(w)) {
		struct co_claim *c = co_claim_of(w, i);
		struct co_pool *p = co_pool_of(w, c->pool);

		if (!c->weight || !p->weights || c->due_ns == c->demand_ns)
			continue;
		due = p->rest_ns * c->weight / p->weights;
		c->due_ns = due < c->demand_ns ? due : c->demand_ns;
		p->rest_ns -= c->due_ns;
		p->weights -= c->weight;
	}
}

/* All claims are to one pool that holds `supply`; returns what nobody wanted. */
CO_INLINE __s64 co_fill(struct co_world *w, __s64 supply)
{
	co_pool_set(w, 0, supply);
	co_fill_pools(w);
	return supply > 0 ? (__s64)co_pool_of(w, 0)->rest_ns : supply;
}

/* Member `i`: counts a wait that goes on, and whether it was active. */
CO_INLINE void co_settle_member(struct co_world *w, __u32 i, __u64 now_ns)
{
	struct co_member *m = co_member_of(w, i);
	__u32 where = CO_READ(m->where);

	co_fluid_follow(w, m, now_ns);
	if (CO_READ(m->vm) == CO_NONE)
		return;
	if (where == CO_QUEUED && CO_READ(m->queued_at_ns))
		co_wait(w, m, now_ns, now_ns);
	if (where == CO_RUNNING && (__s64)(now_ns - CO_READ(m->running_since_ns)) > 0)
		co_vm_of(w, m->vm)->uncharged_ns += now_ns - CO_READ(m->running_since_ns);
	if (where != CO_ASLEEP)
		m->active = 1;
	else if (!m->active && CO_READ(m->counted))
		co_fluid_count(w, m, false, 0, now_ns); /* left so by CPUs that met; or put off for all of the period by a higher class */
	if (m->active)
		co_vm_of(w, m->vm)->n_active++;
}

/*
 * What `vm` ran until now. Only its CPU charges a member that runs, at its ticks; what has not been charged yet is counted all
 * the same, and not again when it is. Else who runs all the time would be due more than it ran in one period, less in the next.
 */
CO_INLINE __u64 co_settle_ran(struct co_vm *vm)
{
	__u64 ran = CO_SWAP(vm->ran_ns, 0);
	__s64 exact = (__s64)(ran + vm->uncharged_ns - vm->early_ns);

	/* Charged just now: what was counted early is yet to come. */
	if (exact < 0) {
		vm->early_ns -= ran;
		return 0;
	}
	vm->early_ns = vm->uncharged_ns;
	return (__u64)exact;
}

/* VM `i`: what it did in the period is its account's demand; returns what it ran. */
CO_INLINE __u64 co_settle_gather(struct co_world *w, __u32 i)
{
	struct co_vm *vm = co_vm_of(w, i);
	struct co_account *a = co_account_of(w, vm->account);
	struct co_claim *claim = co_claim_of(w, vm->account);
	__u64 ran = co_settle_ran(vm), waited = CO_SWAP(vm->waited_ns, 0), demand = ran + waited;

	vm->wants_ns = 0;
	if (demand)
		vm->awake = CO_AWAKE;
	else if (vm->awake)
		vm->awake--;
	if (vm->awake)
		claim->weight += vm->weight;
	if (!vm->weight || !demand)
		return ran;
	vm->total_ran_ns += ran;
	vm->total_waited_ns += waited;
	a->total_ran_ns += ran;
	a->total_waited_ns += waited;
	if (vm->cap_ns) {
		/* What it ran too long now, it may run less later. */
		if ((__s64)demand > vm->cap_claim_ns) {
			demand = vm->cap_claim_ns > (__s64)ran ? (__u64)vm->cap_claim_ns : ran;
			claim->capped = 1;
		}
		vm->cap_claim_ns -= (__s64)demand;
	}
	vm->wants_ns = demand;
	claim->demand_ns += demand;
	return ran;
}

/*
 * Account `i` claims what it was due at every instant of the period, but for what a cap forbids. Its weight is that of the VMs that
 * co_settle_gather() found awake: one that woke up or moved since is weighed in the next period, unless it was the first to.
 */
CO_INLINE void co_settle_due(struct co_world *w, __u32 i, __u64 now_ns)
{
	struct co_account *a = co_account_of(w, i);
	struct co_claim *c = co_claim_of(w, i);
	__u64 due = co_fluid_due(w, a, now_ns);

	a->owed_ns = c->demand_ns;
	a->saturated = due >= c->demand_ns - c->demand_ns / 16;
	if (!a->used)
		due = 0;
	if (!c->capped || due < c->demand_ns)
		c->demand_ns = due;
	co_fluid_weigh(w, a, c->weight, now_ns);
}

/* What is left is for those that waited: of the bank, of what caps forbid, and of what rounding makes. */
CO_INLINE void co_settle_wait(struct co_world *w, __u32 i)
{
	struct co_claim *c = co_claim_of(w, i);
	__u64 wanted = co_account_of(w, i)->owed_ns;

	co_account_of(w, i)->owed_ns = c->due_ns;
	co_claim_set(c, c->weight, wanted > c->due_ns ? wanted - c->due_ns : 0);
}

/* Pooled: account `i` is paid what it is due. One that left leaves its purse to the bank, debts as well. */
CO_INLINE void co_settle_account(struct co_world *w, __u32 i, bool pay)
{
	struct co_account *a = co_account_of(w, i);
	const struct co_claim *claim = co_claim_of(w, i);
	__s64 credit, limit = w->params.credit_limit_ns;

	if (!a->used) {
		w->bank_ns += CO_SWAP(a->purse.credit_ns, 0);
		return;
	}
	CO_WRITE(a->due_ns, a->due_ns > claim->due_ns / CO_PACE ? a->due_ns - a->due_ns / CO_PACE + claim->due_ns / CO_PACE :
								   claim->due_ns);
	if (!claim->demand_ns && !claim->due_ns)
		return;
	a->total_entitled_ns += claim->due_ns;
	if (!pay)
		return;
	if (limit < 4 * co_lag_limit_ns(w, a))
		limit = 4 * co_lag_limit_ns(w, a);
	credit = CO_ADD(a->purse.credit_ns, claim->due_ns) + (__s64)claim->due_ns;
	if (credit > limit) {
		CO_ADD(a->purse.credit_ns, limit - credit);
		w->bank_ns += credit - limit;
		w->forfeited_ns += credit - limit;
		a->total_forfeited_ns += credit - limit;
	}
}

/*
 * Pooled: what account `i` is owed for good, or owes for good (negative), in proportion: in how many microseconds it is due as
 * much. 0: neither. Who is due all that it wants and has to wait all the same (nine members on eight CPUs are enough) can never
 * make up for that: it is not due more later. Who waits for more than it is due ran in its place, and owes it for good.
 */
CO_INLINE __s64 co_settle_for_good(struct co_world *w, __u32 i)
{
	const struct co_account *a = co_account_of(w, i);
	const struct co_claim *c = co_claim_of(w, i);
	__s64 credit = CO_READ(a->purse.credit_ns);
	__u64 ns = credit < 0 ? -credit : credit, us;

	if (!a->used || !a->due_ns || !(credit > 0 ? a->saturated && c->due_ns : !a->saturated && c->demand_ns))
		return 0;
	us = ns * (w->params.period_ns / 1000) / a->due_ns;
	us = us < CO_FOR_GOOD_MAX_US ? us : CO_FOR_GOOD_MAX_US;
	/* For somebody small half a slice is much, in proportion. */
	if (credit > 0)
		return credit > co_first_limit_ns(w, a, 0) ? (__s64)us : 0;
	return co_last_limit_ns(w, a, CO_MUCH_US) > co_last_limit_ns(w, a, 0) ? -(__s64)us : 0;
}

/*
 * Pooled: VM `i` claims its part of what its account's purse holds beyond the parts of its VMs: of what the account was just
 * paid, what a partner could not use, or what one that left did not take along. A worker of the group may have half of it.
 */
CO_INLINE void co_settle_wish(struct co_world *w, __u32 i)
{
	struct co_vm *vm = co_vm_of(w, i);

	if (!vm->weight)
		return;
	co_claim_set(co_claim_of(w, i), vm->serves ? vm->serves : vm->weight, vm->wants_ns);
	CO_WRITE(co_claim_of(w, i)->pool, vm->account);
}

CO_INLINE void co_settle_pools(struct co_world *w)
{
	__u32 i;

	CO_FOR(i, co_n_accounts(w))
		CO_WRITE(co_pool_of(w, i)->rest_ns, CO_READ(co_account_of(w, i)->purse.credit_ns));
	CO_FOR(i, co_n_vms(w))
		if (co_vm_of(w, i)->weight)
			co_pool_of(w, co_vm_of(w, i)->account)->rest_ns -= CO_READ(co_vm_of(w, i)->part_ns);
	CO_FOR(i, co_n_accounts(w))
		co_pool_set(w, i, (__s64)co_pool_of(w, i)->rest_ns);
}

CO_INLINE void co_settle_part(struct co_world *w, __u32 i)
{
	struct co_vm *vm = co_vm_of(w, i);
	__s64 due = co_claim_of(w, i)->due_ns, part, limit = 4 * co_lag_limit_ns(w, co_account_of(w, vm->account));

	vm->total_due_ns += due;
	part = CO_ADD(vm->part_ns, due) + due;
	if (part > limit)
		CO_ADD(vm->part_ns, limit - part);
}

/* Xen's modes: VM `i` wants a CPU for each active member. */
CO_INLINE void co_settle_claim(struct co_world *w, __u32 i)
{
	const struct co_vm *vm = co_vm_of(w, i);
	__u64 demand = vm->n_active * w->params.period_ns;

	if (!vm->weight)
		return;
	co_claim_set(co_claim_of(w, i), vm->weight, vm->cap_ns && demand > vm->cap_ns ? vm->cap_ns : demand);
}

/* Xen's modes: member `i` is paid its part of what its VM is due, within floor and ceiling. */
CO_INLINE void co_settle_pay(struct co_world *w, __u32 i)
{
	struct co_member *m = co_member_of(w, i);
	__s64 floor = w->params.floor_ns, due, credit;
	__u32 vm = CO_READ(m->vm);

	if (vm == CO_NONE || !m->active || !co_vm_of(w, vm)->n_active)
		return;
	due = co_claim_of(w, vm)->due_ns / co_vm_of(w, vm)->n_active;
	credit = CO_ADD(m->purse.credit_ns, due) + due;
	if (credit < -floor) {
		CO_ADD(m->purse.credit_ns, -floor - credit);
		w->forgiven_ns += -floor - credit;
	} else if (credit > floor) {
		CO_ADD(m->purse.credit_ns, -((credit + 1) >> 1));
		w->forfeited_ns += (credit + 1) >> 1;
	}
}

/*
 * VM `i`: a new period of its cap, less what it ran too long. Half a slice of what it did not run is kept: whose turn comes
 * late in a period would otherwise never get all of a cap that it waits for. What it may claim is reckoned likewise.
 */
CO_INLINE void co_settle_cap(struct co_world *w, __u32 i)
{
	struct co_vm *vm = co_vm_of(w, i);
	__s64 left = CO_READ(vm->cap_left_ns), most = w->params.slice_ns / 2;

	if (!vm->weight || !vm->cap_ns)
		return;
	CO_ADD(vm->cap_left_ns, (__s64)vm->cap_ns - (left > most ? left - most : 0));
	vm->cap_claim_ns = (__s64)vm->cap_ns + (vm->cap_claim_ns < most ? vm->cap_claim_ns : most);
}

/*
 * Whom a cap kept from running may run in the period that begins, or there is no cap any more: wherever it stands. And who was
 * left out by CPUs that met (co_park() and co_run(), say) is out for no longer than a period.
 */
CO_INLINE void co_settle_count(struct co_world *w, __u32 i, __u64 now_ns)
{
	struct co_member *m = co_member_of(w, i);
	__u32 vm = CO_READ(m->vm), where = CO_READ(m->where);

	if (vm == CO_NONE || where == CO_ASLEEP)
		return;
	co_fluid_count(w, m, where == CO_RUNNING || !co_vm_of(w, vm)->cap_ns || co_state(w, m) != CO_STATE_PARKED, 0, now_ns);
}

/* States may have become better: lists are to be looked through again, by whoever comes to them first. */
CO_INLINE void co_restate(struct co_world *w)
{
	__u64 waits;
	__u32 i, k;

	CO_ADD(w->generation, 1);
	for (k = 0; k < CO_CPU_WORDS; k++) {
		waits = 0;
		for (i = 0; i < CO_STATES; i++)
			waits |= CO_READ(w->waits[i][k]);
		for (i = 0; i < CO_STATES && waits; i++)
			CO_OR(w->waits[i][k], waits);
	}
}

/*
 * The whole settlement, once a period. Afterwards the driver calls co_unpark() for each CPU (pick.h) and looks for work on the
 * idle ones: a VM that had used up its cap may run again.
 */
CO_INLINE void co_settle(struct co_world *w, __u64 now_ns)
{
	bool pooled = w->params.mode == CO_MODE_POOLED;
	__s64 supply = 0, beyond = 0, owed = 0, owes = 0, rest;
	__u32 i;

	co_claims_clear(w);
	CO_FOR(i, co_n_vms(w)) {
		co_vm_of(w, i)->n_active = 0;
		co_vm_of(w, i)->uncharged_ns = 0;
	}
	CO_FOR(i, co_n_members(w))
		co_settle_member(w, i, now_ns);
	CO_FOR(i, co_n_vms(w))
		supply += co_settle_gather(w, i);
	if (pooled)
		supply += w->bank_ns;
	if (supply > CO_SUPPLY_MAX) {
		beyond = supply - CO_SUPPLY_MAX;
		supply = CO_SUPPLY_MAX;
	}
	CO_FOR(i, co_n_accounts(w))
		co_settle_due(w, i, now_ns);
	rest = co_fill(w, supply);
	CO_FOR(i, co_n_accounts(w))
		co_settle_wait(w, i);
	rest = co_fill(w, rest);
	CO_FOR(i, co_n_accounts(w))
		co_claim_of(w, i)->due_ns += co_account_of(w, i)->owed_ns;
	if (pooled)
		w->bank_ns = rest + beyond;
	CO_FOR(i, co_n_accounts(w))
		co_settle_account(w, i, pooled);
	CO_FOR(i, co_n_accounts(w)) {
		__s64 us = co_settle_for_good(w, i);

		owed = us > owed ? us : owed;
		owes = -us > owes ? -us : owes;
	}
	CO_WRITE(w->owed_us, (__u64)owed);
	CO_WRITE(w->owes_us, (__u64)owes);
	co_claims_clear(w);
	if (pooled)
		co_settle_pools(w);
	else
		co_pool_set(w, 0, w->params.period_ns * w->params.n_cpus);
	CO_FOR(i, co_n_vms(w)) {
		if (pooled)
			co_settle_wish(w, i);
		else
			co_settle_claim(w, i);
	}
	co_fill_pools(w);
	if (pooled) {
		CO_FOR(i, co_n_vms(w))
			co_settle_part(w, i);
	} else {
		CO_FOR(i, co_n_members(w))
			co_settle_pay(w, i);
	}
	CO_FOR(i, co_n_vms(w))
		co_settle_cap(w, i);
	CO_FOR(i, co_n_members(w)) {
		co_member_of(w, i)->active = 0;
		co_settle_count(w, i, now_ns);
	}
	w->settlements++;
	co_restate(w);
}
