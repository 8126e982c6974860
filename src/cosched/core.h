/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy core of co-scheduling: who may run, who is asked to run beside whom, and who pays. One set of pure functions,
 * compiled into the BPF scheduler (sched.bpf.c) and into the simulator (sim/); time comes in as an argument.
 *
 * Theory of operation. A *member* is a thread that is scheduled here: a vCPU or an I/O worker. It pays for its CPU time out
 * of a *purse*. Each period the purses are settled (settle.h): what is due to each *account* (a VM, or a co-group as one)
 * by weighted max-min is added. A member whose purse is not in debt is UNDER, otherwise OVER; UNDER goes first, and within a
 * state it is first come, first served. So far this is Xen's credit scheduler.
 *
 * VMs of a *co-group* wait for each other, so they ought to run at the same time. When a CPU starts to run a member it asks
 * each CPU on which another member of that group is queued to run it now: the asked CPU has a *request pending*, takes it
 * at its next schedule step and runs the member even if it is OVER. A CPU that runs any member is *co-working* and is not
 * asked, nor is one that has been asked already: so requests neither pile up nor chase each other. Nothing waits for
 * anything: it is only asked that they run together (unlike gang scheduling).
 * Source: the co-credit scheduler (Chang and Liu, 2011) for Xen 3.1; `pooled` is this project's.
 *
 * Modes. CREDIT: a purse per member, Xen's floor under debts (what is below it is forgiven), no requests. CREDIT_BOOST: the
 * same, and an UNDER member that wakes up goes first for a while. CO_CREDIT: CREDIT and requests, as in the paper. POOLED:
 * a purse per account, nothing is ever forgiven, and a request is refused while the group owes more than its debt limit: running
 * together shifts a group's time, it never adds to it. First come, first served says nothing of how far purses drift apart, so
 * pooled has more states: BOOST is for accounts that are owed more than half a slice, DEEP for those that owe more than their
 * limit, FIRST and LAST for those that are owed most, or owe most, of what nobody can be paid for (co_settle_for_good). What a
 * purse holds is divided among the account's VMs, too: each has a *part*, and in state PART a VM that lacks some of it goes before
 * its partners (co_state_part).
 *
 * The files. world.h: types. fluid.h: what accounts are due, at every instant. Here: states, what members do, charging.
 * flags.h: who asks whom. settle.h: credits at the end of a period. pick.h: the schedule step over a driver's lists. change.h:
 * VMs, accounts and members come, change and go.
 *
 * On whose thread: charge, pick and the flags on the CPU concerned; settle on one CPU at a time, changes on one thread.
 * Fields that several CPUs write are changed with atomics only, or under the lock of fluid.h, and are marked "many writers".
 */
#pragma once

#include "cosched/fluid.h"

/* Whose purse a member pays from, that of `account` when pooled. */
CO_INLINE struct co_purse *co_purse_of(struct co_world *w, struct co_member *m, __u32 account)
{
	return w->params.mode == CO_MODE_POOLED ? &co_account_of(w, account)->purse : &m->purse;
}

CO_INLINE bool co_asks(const struct co_world *w)
{
	return w->params.mode == CO_MODE_CO_CREDIT || w->params.mode == CO_MODE_POOLED;
}

/*
 * How much an account may owe and still be asked for, and what a turn of it may cost: what it is due in eight periods, so
 * that the error stays far below 1 % of a minute whatever its weight, and no more than debt_limit_ns. But half a slice at least,
 * or nobody small would ever run, and what it is due in a period, or somebody large would owe too much all the time.
 */
CO_INLINE __s64 co_debt_limit_ns(const struct co_world *w, const struct co_account *a)
{
	__u64 due = CO_READ(a->due_ns), limit = due * 8;

	if (limit > w->params.debt_limit_ns)
		limit = w->params.debt_limit_ns;
	if (limit < due)
		limit = due;
	return limit > w->params.slice_ns / 2 ? limit : w->params.slice_ns / 2;
}

/* How much an account may owe before it is the last of all: half as much again, and what it is due in `us`. */
CO_INLINE __s64 co_last_limit_ns(const struct co_world *w, const struct co_account *a, __u64 us)
{
	__s64 limit = co_debt_limit_ns(w, a), much = (__s64)(CO_READ(a->due_ns) * us / (w->params.period_ns / 1000));

	limit += limit >> 1;
	return limit > much ? limit : much;
}

/* How much an account may be owed, or a VM of a group lack of its part, before it is BOOST, or PART. */
CO_INLINE __s64 co_lag_limit_ns(const struct co_world *w, const struct co_account *a)
{
	__u64 limit = CO_READ(a->due_ns) * 2;

	return limit > w->params.slice_ns / 2 ? limit : w->params.slice_ns / 2;
}

/*
 * How much an account may be owed before it goes before all others: twice as much, and what it is due in `us`, but no more than
 * half of what it may keep.
 */
CO_INLINE __s64 co_first_limit_ns(const struct co_world *w, const struct co_account *a, __u64 us)
{
	__s64 limit = 2 * co_lag_limit_ns(w, a), much = (__s64)(CO_READ(a->due_ns) * us / (w->params.period_ns / 1000));

	much = much < (__s64)(w->params.credit_limit_ns / 2) ? much : (__s64)(w->params.credit_limit_ns / 2);
	return limit > much ? limit : much;
}

/*
 * State by credit alone, of a pooled account. What is owed for good (settle.h) adds up, so it is to be shared in proportion to what
 * each is due: of those whom it is owed FIRST is who is owed half as much as the one who is owed most, of those who owe it LAST.
 */
CO_INLINE enum co_state co_state_pooled(const struct co_world *w, const struct co_account *a)
{
	__s64 credit = CO_READ(a->purse.credit_ns);
	__u64 much;

	if (credit >= 0) {
		if (credit <= co_lag_limit_ns(w, a))
			return CO_STATE_UNDER;
		return credit > co_first_limit_ns(w, a, CO_READ(w->owed_us) / 2) ? CO_STATE_FIRST : CO_STATE_BOOST;
	}
	if (credit > -co_debt_limit_ns(w, a))
		return CO_STATE_OVER;
	much = CO_READ(w->owes_us) / 2;
	return credit > -co_last_limit_ns(w, a, much > CO_MUCH_US ? much : CO_MUCH_US) ? CO_STATE_DEEP : CO_STATE_LAST;
}

/* What `vm` was due until now: in a group its part, or else all that its account was due. */
CO_INLINE __u64 co_was_due(const struct co_account *a, const struct co_vm *vm)
{
	return a->is_group ? CO_READ(vm->total_due_ns) : CO_READ(a->total_entitled_ns);
}

/*
 * Pooled: whether `m` has waited while its VM was due two turns of each member. Others of it must have had them, always nearer
 * to a free CPU; now it is its turn, debt or no debt: the VM earns twice as much meanwhile.
 */
CO_INLINE bool co_overlooked(const struct co_world *w, const struct co_account *a, const struct co_vm *vm,
			     const struct co_member *m)
{
	__u64 from = CO_READ(m->queued_due_ns), due = co_was_due(a, vm);

	return a->n_members > 1 && from != CO_RAN && (__s64)(due - from) > (__s64)(2 * vm->n_members * w->params.slice_ns);
}

/*
 * Pooled, in a group whose purse says `state`: what the part of VM `vm` makes of it. The purse says when it is the group's turn,
 * parts say whose turn it is within: a VM that lacks some of its part goes first, and while the group is in debt one that has
 * had more than its part waits. So a VM that needs less leaves the rest to its partners, and none of them takes what it needs.
 */
CO_INLINE enum co_state co_state_part(const struct co_world *w, const struct co_account *a, const struct co_vm *vm,
				      enum co_state state)
{
	__s64 part = CO_READ(vm->part_ns), lag = co_lag_limit_ns(w, a);

	if (part > lag)
		return state > CO_STATE_PART ? CO_STATE_PART : state;
	if (state <= CO_STATE_UNDER)
		return state;
	if (part > 0)
		return CO_STATE_UNDER;
	return part < -lag && state < CO_STATE_DEEP ? CO_STATE_DEEP : state;
}

CO_ALONE enum co_state co_state(struct co_world *w CO_GIVEN, struct co_member *m CO_GIVEN)
{
	const struct co_vm *vm = co_vm_of(w, m->vm);

	if (vm->cap_ns && CO_READ(vm->cap_left_ns) <= 0)
		return CO_STATE_PARKED;
	if (w->params.mode == CO_MODE_POOLED) {
		const struct co_account *a = co_account_of(w, vm->account);
		enum co_state state = co_state_pooled(w, a);

		if (a->is_group)
			state = co_state_part(w, a, vm, state);
		return state > CO_STATE_UNDER && co_overlooked(w, a, vm, m) ? CO_STATE_UNDER : state;
	}
	if (m->boosted)
		return CO_STATE_BOOST;
	return CO_READ(m->purse.credit_ns) >= 0 ? CO_STATE_UNDER : CO_STATE_OVER;
}

CO_INLINE __u64 co_part_ns(__s64 ns, __u32 among)
{
	if (ns <= 0 || !among)
		return 0;
	return (__u64)ns / among;
}

/*
 * The longest that `m` may run now. What is left of a cap, and of what a pooled account may spend, is divided by those who
 * may spend it at the same time. Who is DEEP or LAST runs because nobody else wants to.
 */
CO_INLINE __u64 co_slice_ns(struct co_world *w, struct co_member *m)
{
	const struct co_vm *vm = co_vm_of(w, m->vm);
	struct co_account *a = co_account_of(w, vm->account);
	__u64 slice = w->params.slice_ns, part;
	__s64 room;

	if (w->params.mode == CO_MODE_POOLED) {
		room = CO_READ(a->purse.credit_ns) + co_debt_limit_ns(w, a);
		if (a->is_group && room < CO_READ(vm->part_ns))
			room = CO_READ(vm->part_ns);
		part = co_part_ns(room, a->n_members);
		slice = room > 0 && part < slice ? part : slice;
	}
	if (vm->cap_ns) {
		part = co_part_ns(CO_READ(vm->cap_left_ns), vm->n_members);
		slice = part < slice ? part : slice;
		/* What they run beyond it before they are charged is half a slice in all. */
		part = w->params.slice_ns / (2 * (vm->n_members ? vm->n_members : 1));
		slice = part < slice ? part : slice;
	}
	return slice > w->params.slice_ns / 32 ? slice : w->params.slice_ns / 32;
}

/* --- what a member does --- */

/* Counters of the list it stands on. `by` is 1 or -1. */
CO_INLINE void co_list_count(struct co_world *w, __u32 cpu, __u32 list, __s32 by)
{
	struct co_cpu *c = co_cpu_of(w, cpu);

	list &= CO_LISTS - 1;
	CO_ADD(c->n_listed[list], by);
	/* After the counter: who clears the bit looks at the counter then (pick.h). */
	if (by > 0)
		co_cpu_set(w->waits[list], cpu);
}

/* It is being moved from its list to another of the same CPU. */
CO_INLINE void co_relist(struct co_world *w, struct co_member *m, __u32 list, __u64 now_ns)
{
	co_list_count(w, CO_READ(m->cpu), list, 1);
	co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
	if ((CO_READ(m->list) == CO_STATE_PARKED) != (list == CO_STATE_PARKED))
		co_fluid_count(w, m, list != CO_STATE_PARKED, 0, now_ns);
	CO_WRITE(m->list, list);
}

/*
 * Whether `m` is to be kicked for, in state `list`. Who goes first only because of its VM's part is, but not all the time: a
 * driver that serves what its partner left since it ran last would else run for each single request.
 */
CO_INLINE bool co_may_kick(struct co_world *w, struct co_member *m, __u32 list, __u64 now_ns)
{
	const struct co_account *a = co_account_of(w, co_vm_of(w, m->vm)->account);

	if (w->params.mode != CO_MODE_POOLED || list >= co_state_pooled(w, a))
		return true;
	if (now_ns - m->displaced_at_ns < w->params.slice_ns / 24)
		return false;
	m->displaced_at_ns = now_ns;
	return true;
}

/*
 * It became runnable, or is runnable still and does not run on. `woken`: it slept before. The driver puts it at the tail
 * of the list of `cpu` that is returned.
 */
CO_INLINE __u32 co_queue(struct co_world *w, struct co_member *m, __u32 cpu, bool woken, __u64 now_ns)
{
	__u32 list;

	/* Whatever it waited for before, it begins anew. */
	CO_WRITE(m->queued_due_ns, co_was_due(co_account_of(w, co_vm_of(w, m->vm)->account), co_vm_of(w, m->vm)));
	list = co_state(w, m);
	if (woken && w->params.mode == CO_MODE_CREDIT_BOOST && list == CO_STATE_UNDER) {
		m->boosted = 1;
		m->boosted_ran_ns = 0;
		list = CO_STATE_BOOST;
	}
	m->displaces = (woken || now_ns - m->started_at_ns >= w->params.slice_ns / 8) && co_may_kick(w, m, list, now_ns);
	CO_WRITE(m->queued_at_ns, now_ns);
	m->active = 1;
	CO_WRITE(m->list, list);
	CO_WRITE(m->cpu, cpu);
	CO_WRITE(m->where, CO_QUEUED);
	co_list_count(w, cpu, list, 1);
	co_fluid_count(w, m, list != CO_STATE_PARKED, 0, now_ns);
	return list;
}

/* Counts the time that `m` has waited since this was done last. */
CO_INLINE void co_wait(struct co_world *w, struct co_member *m, __u64 again_from_ns, __u64 now_ns)
{
	__u64 since = CO_SWAP(m->queued_at_ns, again_from_ns);

	if (!since || (__s64)(now_ns - since) <= 0)
		return;
	CO_ADD(m->total_waited_ns, now_ns - since);
	CO_ADD(co_vm_of(w, m->vm)->waited_ns, now_ns - since);
}

/* It runs on `cpu` from now on. */
CO_INLINE void co_run(struct co_world *w, struct co_member *m, __u32 cpu, __u64 now_ns)
{
	struct co_account *a;
	__u32 where = CO_READ(m->where);

	if (where == CO_RUNNING)
		return;
	if (where == CO_QUEUED)
		co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
	co_wait(w, m, 0, now_ns);
	m->account = co_vm_of(w, m->vm)->account;
	m->started_at_ns = m->running_since_ns = now_ns;
	m->total_runs++;
	m->active = 1;
	CO_WRITE(m->cpu, cpu);
	CO_WRITE(m->where, CO_RUNNING);
	co_fluid_count(w, m, true, 1, now_ns);
	a = co_account_of(w, m->account);
	if (CO_ADD(a->running, 1) == 1)
		CO_WRITE(a->co_since_ns, now_ns);
}

/*
 * VM `vm` has used up its cap: its members that wait are not runnable from now on, wherever they stand. One that is being queued
 * just now may stay counted until the settlement. Looks at all members, once in a period for each such VM of several.
 */
CO_ALONE int co_park(struct co_world *w CO_GIVEN, __u32 vm, __u64 now_ns)
{
	__u32 i;

	CO_FOR(i, co_n_members(w)) {
		struct co_member *m = co_member_of(w, i);

		if (CO_READ(m->vm) == vm && CO_READ(m->where) == CO_QUEUED)
			co_fluid_count(w, m, false, 0, now_ns);
	}
	return 0;
}

/* It has run until now; it may go on running. Before anybody asks for its state. */
CO_INLINE void co_charge(struct co_world *w, struct co_member *m, __u64 now_ns)
{
	struct co_vm *vm = co_vm_of(w, m->vm);
	__u64 ran = now_ns - m->running_since_ns;

	if (m->where != CO_RUNNING || (__s64)ran <= 0)
		return;
	m->running_since_ns = now_ns;
	m->total_ran_ns += ran;
	m->active = 1;
	CO_ADD(co_purse_of(w, m, m->account)->credit_ns, -(__s64)ran);
	CO_ADD(vm->ran_ns, ran);
	CO_ADD(vm->part_ns, -(__s64)ran);
	if (vm->cap_ns && CO_ADD(vm->cap_left_ns, -(__s64)ran) > 0 && CO_READ(vm->cap_left_ns) <= 0 && vm->n_members > 1)
		co_park(w, m->vm, now_ns);
	if (m->boosted && (m->boosted_ran_ns += ran) >= w->params.boost_ns)
		m->boosted = 0;
}

CO_INLINE void co_leave(struct co_world *w, struct co_member *m, bool runnable, __u64 now_ns)
{
	struct co_account *a = co_account_of(w, m->account);
	__u32 where = CO_READ(m->where);

	if (where == CO_QUEUED) {
		co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
		co_wait(w, m, 0, now_ns);
	} else if (where == CO_RUNNING && CO_ADD(a->running, -1) == 2) {
		CO_ADD(a->co_ran_ns, now_ns - CO_READ(a->co_since_ns));
	}
	if (where == CO_RUNNING || !runnable)
		co_fluid_count(w, m, runnable, where == CO_RUNNING ? -1 : 0, now_ns);
	CO_WRITE(m->where, CO_ASLEEP);
}

/* It stops running or leaves its list, and sleeps; or co_queue() follows. Charge first. */
CO_INLINE void co_stop(struct co_world *w, struct co_member *m, __u64 now_ns)
{
	co_leave(w, m, false, now_ns);
}

/* The same, but it is runnable still, which makes it cheaper: co_queue() or co_run() follows, or else co_stop(). */
CO_INLINE void co_yield(struct co_world *w, struct co_member *m, __u64 now_ns)
{
	co_leave(w, m, true, now_ns);
}
