/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flags of CPUs: what each runs, who asks it to run a group, and whom a member that waits displaces. Pure; see core.h, and
 * struct co_cpu there for who writes which flag and why no request is lost. Called on the CPU concerned, around its schedule step
 * (pick.h), and where a member is queued.
 */
#pragma once

#include "cosched/core.h"

/* Takes the request that is pending on `cpu`: the group's account, or CO_NONE. */
CO_INLINE __u32 co_request_take(struct co_cpu *cpu)
{
	if (!CO_READ(cpu->request))
		return CO_NONE;
	return CO_SWAP(cpu->request, 0) - 1;
}

/*
 * Whether `m`, queued here, may run on the request of its group. In the paper's mode always; pooled, as long as neither the
 * group nor its VM within the group owes too much. A cap holds in any case.
 */
CO_INLINE bool co_request_allows(struct co_world *w, struct co_member *m)
{
	struct co_account *a = co_account_of(w, co_vm_of(w, m->vm)->account);

	if (w->params.mode != CO_MODE_POOLED)
		return co_state(w, m) != CO_STATE_PARKED;
	return co_state(w, m) < CO_STATE_DEEP && CO_READ(a->purse.credit_ns) > -co_debt_limit_ns(w, a);
}

/*
 * What `cpu` runs from now on: `m`, or NULL (idle, or a thread that is no member). After co_run(), before co_ask(). Who runs
 * on request is not to be displaced by whoever wakes up elsewhere, so it is in none of the sets.
 */
CO_INLINE void co_working_set(struct co_world *w, __u32 cpu, struct co_member *m, bool requested)
{
	struct co_cpu *c = co_cpu_of(w, cpu);
	__u32 account = m ? co_vm_of(w, m->vm)->account : 0, state = m ? co_state(w, m) : CO_STATES, i;

	CO_WRITE(c->working, m && co_account_of(w, account)->is_group ? account + 1 : 0);
	CO_WRITE(c->state, state);
	CO_UNROLL
	for (i = CO_STATE_BOOST; i <= CO_STATE_LAST; i++) {
		if (i == state && !requested)
			co_cpu_set(w->runs[i], cpu);
		else if (co_cpu_isset(w->runs[i], cpu))
			co_cpu_clear(w->runs[i], cpu);
	}
}

/* Whoever runs in such a state runs for want of better. */
CO_INLINE bool co_owes_most(__u32 state)
{
	return state == CO_STATE_DEEP || state == CO_STATE_LAST;
}

/* One that runs a member in the worst state that any does, if not better than `best`; the next in a circle from `cpu`. */
CO_INLINE __u32 co_runs_worst(struct co_world *w, __u32 cpu, __u32 best)
{
	__u32 i, there = CO_NONE;

	CO_UNROLL
	for (i = 0; i <= CO_STATE_LAST - CO_STATE_BOOST; i++) {
		if (CO_STATE_LAST - i < best)
			break;
		there = co_cpu_from(w->runs[CO_STATE_LAST - i], cpu + 1);
		if (there >= w->params.n_cpus)
			there = co_cpu_from(w->runs[CO_STATE_LAST - i], 0);
		if (there < w->params.n_cpus)
			break;
	}
	return there < w->params.n_cpus ? there : CO_NONE;
}

/*
 * The CPU to be kicked for `m`, just queued on `m->cpu`, when no CPU that it may use is idle: its own if that runs somebody
 * worse, or else one that runs the worst; CO_NONE: it waits. One that was displaced itself after a short time displaces only who
 * is DEEP or LAST: otherwise two could displace each other without end, the one because it is in a better state, the other
 * because it is asked for, which who owes that much is not.
 */
CO_INLINE __u32 co_displaces(struct co_world *w, struct co_member *m)
{
	__u32 there, cpu = CO_READ(m->cpu), state = CO_READ(m->list), best = state + 1;

	if (state == CO_STATE_PARKED)
		return CO_NONE;
	there = CO_READ(co_cpu_of(w, cpu)->state);
	if (state < there && (m->displaces || co_owes_most(there)))
		return cpu;
	if (!m->displaces && best < CO_STATE_DEEP)
		best = CO_STATE_DEEP;
	return co_runs_worst(w, cpu, best);
}

/*
 * `cpu` may have been kicked because it ran somebody in state `was`, but keeps it, who is better off by now: the CPU to be kicked
 * instead, for whoever waits, or CO_NONE. Each such look puts one CPU's state right, so they come to an end.
 */
CO_INLINE __u32 co_passes_on(struct co_world *w, __u32 cpu, __u32 was)
{
	__u32 state, there;

	if (!co_owes_most(was) || CO_READ(co_cpu_of(w, cpu)->state) >= was)
		return CO_NONE;
	CO_UNROLL
	for (state = CO_STATE_FIRST; state < CO_STATE_LAST; state++)
		if (co_cpu_any(w->waits[state]))
			break;
	there = state < CO_STATE_LAST ? co_runs_worst(w, cpu, state < CO_STATE_DEEP ? CO_STATE_DEEP : CO_STATE_LAST) : CO_NONE;
	return there == cpu ? CO_NONE : there;
}

/* The best state in which anybody waits. A settlement may ask: it looks at all members. */
CO_INLINE __u32 co_best_waiting(struct co_world *w)
{
	__u32 i, best = CO_STATE_PARKED, state;

	CO_FOR(i, co_n_members(w)) {
		struct co_member *m = co_member_of(w, i);

		if (CO_READ(m->where) != CO_QUEUED)
			continue;
		state = co_state(w, m);
		best = state < best ? state : best;
	}
	return best;
}

/* After a settlement: whether `cpu`, which runs somebody for want of better, is to look again. `best`: who waits. */
CO_INLINE bool co_looks_again(struct co_world *w, __u32 cpu, __u32 best)
{
	__u32 state = CO_READ(co_cpu_of(w, cpu)->state);

	return co_owes_most(state) && best < state;
}

/* Asks for `m` where it is queued: the CPU to be kicked, or CO_NONE when there is nothing to ask for. */
CO_INLINE __u32 co_ask_for(struct co_world *w, struct co_member *m, __u32 account, __u32 cpu, __u64 now_ns)
{
	__u32 there = CO_READ(m->cpu);
	struct co_cpu *c = co_cpu_of(w, there);

	if (CO_READ(m->where) != CO_QUEUED || there == cpu || there >= w->params.n_cpus)
		return CO_NONE;
	if (m->vm == CO_NONE || co_vm_of(w, m->vm)->account != account)
		return CO_NONE;
	if (CO_READ(c->working) || CO_READ(c->request) || !co_request_allows(w, m))
		return CO_NONE;
	/* Pooled: who is owed that much is not made to wait for somebody else's debts. */
	if (CO_READ(c->state) <= CO_STATE_BOOST)
		return CO_NONE;
	if (!CO_CLAIM(c->request, 0, account + 1))
		return CO_NONE;
	CO_WRITE(c->requested_at_ns, now_ns);
	return there;
}

/*
 * Member number `i` of the group that `cpu` just began to run: the CPU that is to be kicked because it was asked to run it,
 * or CO_NONE. Call it for each i < n_members of the account, when co_asks() and the account is a group.
 */
CO_INLINE __u32 co_ask(struct co_world *w, __u32 account, __u32 i, __u32 cpu, __u64 now_ns)
{
	struct co_account *a = co_account_of(w, account);
	__u32 there = co_ask_for(w, co_member_of(w, a->member[i & (CO_GROUP_MEMBERS_MAX - 1)]), account, cpu, now_ns);

	if (there == CO_NONE)
		return CO_NONE;
	co_cpu_of(w, cpu)->requests_sent++;
	CO_ADD(a->requests_sent, 1);
	return there;
}

/*
 * `m` woke up and was queued, its group runs elsewhere: whether its CPU was asked for it, and is to be kicked. `cpu`: where
 * this code runs, for its counter.
 */
CO_INLINE bool co_ask_on_wake(struct co_world *w, struct co_member *m, __u32 cpu, __u64 now_ns)
{
	__u32 account = co_vm_of(w, m->vm)->account;
	struct co_account *a = co_account_of(w, account);

	if (!w->params.ask_on_wake || !co_asks(w) || !a->is_group || !CO_READ(a->running))
		return false;
	if (co_ask_for(w, m, account, CO_NONE, now_ns) == CO_NONE)
		return false;
	co_cpu_of(w, cpu)->requests_sent++;
	CO_ADD(a->requests_sent, 1);
	return true;
}
