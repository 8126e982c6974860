/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The schedule step: whom a CPU runs next. Pure, over lists that the driver keeps: FIFO lists of waiting members on each
 * CPU, one for each state. The BPF scheduler has a DSQ for each, the simulator arrays. See core.h.
 *
 * The order: the member that is asked for, even if OVER; then state by state, each first from its own list, then the one that
 * ran here until now, then stolen from another CPU's list. So somebody UNDER is stolen before an own OVER runs, and a CPU idles
 * only when nobody waits anywhere but those whose cap is used up.
 *
 * Cost. States change while members wait, lists do not: so a list is a guess. It is put right from both sides, each paid for
 * by what caused it: who is found at a list's head in a worse state is moved (once for each time that it ran), and who may
 * be in a better one is looked for once after each settlement (once in a period). Whom to steal from is found by the bits
 * of `waits`. Thus a step is O(1), amortized, however many members wait.
 * Bits are set after the counter of a CPU's list has grown and cleared before it is read again: none is lost.
 *
 * Before including this a driver defines:
 */
#pragma once

#include "cosched/flags.h"

/* The first member on `list` of `cpu` that may run on CPU `here`, or CO_NONE. */
static inline __u32 co_list_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here);
/* Puts `member` from `list` to the tail of list `to` of the same CPU, calling co_relist(). False: it was no longer there. */
static inline bool co_list_move(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 to);
/* Takes `member` off `list` of `cpu`: `here` runs it next (the driver calls co_run() then). False: it was no longer there. */
static inline bool co_list_take(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 here);
/* Puts each member of `list` whose co_state() is another to the tail of that list, in order, as co_list_move() does. */
static inline void co_list_sift(struct co_world *w, __u32 cpu, __u32 list);

struct co_pick {
	__u32 member;  /* CO_NONE: nobody, idle */
	__u32 from;    /* CPU on whose list it stood */
	__u32 state;
	bool requested, stolen;
	bool kept;     /* it is the one that ran */
	__u32 request; /* the group that was asked for, or CO_NONE */
	bool refused;  /* its member may not run on request: debt, or a cap */
};

/* Sorts the lists of `cpu` anew if states may have become better since that was done last. */
CO_INLINE void co_pick_sort(struct co_world *w, __u32 cpu)
{
	struct co_cpu *c = co_cpu_of(w, cpu);
	__u32 seen = CO_READ(c->seen), generation = CO_READ(w->generation);

	if (seen == generation || !CO_CLAIM(c->seen, seen, generation))
		return;
	co_list_sift(w, cpu, CO_STATE_BOOST);
	co_list_sift(w, cpu, CO_STATE_PART);
	co_list_sift(w, cpu, CO_STATE_UNDER);
	co_list_sift(w, cpu, CO_STATE_OVER);
	co_list_sift(w, cpu, CO_STATE_DEEP);
	co_list_sift(w, cpu, CO_STATE_LAST);
	co_list_sift(w, cpu, CO_STATE_PARKED);
}

/*
 * After a settlement: those on `cpu` whose cap has a new period leave the list of those that may not run. At once, and not when
 * somebody looks at the list: they are due something from now on.
 */
CO_INLINE void co_unpark(struct co_world *w, __u32 cpu)
{
	if (CO_READ(co_cpu_of(w, cpu)->n_listed[CO_STATE_PARKED]))
		co_list_sift(w, cpu, CO_STATE_PARKED);
}

/* The first on a list who still is what the list says, or better. */
CO_INLINE bool co_pick_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here, struct co_pick *p)
{
	__u32 tries, state, i;

	CO_FOR(tries, CO_MEMBERS_MAX) {
		i = co_list_first(w, cpu, list, here);
		if (i == CO_NONE)
			return false;
		state = co_state(w, co_member_of(w, i));
		if (state > list) {
			co_list_move(w, cpu, list, i, state);
		} else if (co_list_take(w, cpu, list, i, here)) {
			p->member = i;
			p->from = cpu;
			p->state = state;
			return true;
		}
	}
	return false;
}

/* The member that ran, `prev`, which is in `state`, may run on: as if it stood at the tail of its list. */
CO_INLINE bool co_pick_keep(__u32 here, __u32 prev, __u32 state, __u32 worst, struct co_pick *p)
{
	if (prev == CO_NONE || state > worst)
		return false;
	p->member = prev;
	p->from = here;
	p->state = state;
	p->kept = true;
	return true;
}

/* Somebody in `state` on a list of `cpu`. */
CO_INLINE bool co_pick_from(struct co_world *w, __u32 cpu, __u32 state, __u32 here, struct co_pick *p)
{
	struct co_cpu *c = co_cpu_of(w, cpu);

	co_pick_sort(w, cpu);
	if (co_pick_first(w, cpu, state, here, p))
		return true;
	if (!CO_READ(c->n_listed[state]) && co_cpu_isset(w->waits[state], cpu)) {
		co_cpu_clear(w->waits[state], cpu);
		if (CO_READ(c->n_listed[state]))
			co_cpu_set(w->waits[state], cpu);
	}
	return false;
}

/* From other CPUs' lists, in a circle from `here`. */
CO_INLINE bool co_pick_steal(struct co_world *w, __u32 here, __u32 state, struct co_pick *p)
{
	__u32 peer, k, from = here + 1;
	bool wrapped = false;

	CO_FOR(k, CO_CPUS_MAX + 1) {
		peer = co_cpu_from(w->waits[state], from);
		/* Beyond the last one wait those that may run on no other: nothing to steal, and the end of the circle. */
		if (peer >= w->params.n_cpus && !wrapped) {
			wrapped = true;
			from = 0;
			continue;
		}
		if (peer >= w->params.n_cpus || (wrapped && peer >= here))
			return false;
		if (co_pick_from(w, peer, state, here, p)) {
			p->stolen = true;
			return true;
		}
		from = peer + 1;
	}
	return false;
}

/* Member `i` of the group that was asked for: whether it waits here; the one that waits longest is wanted. */
CO_INLINE bool co_pick_waits(struct co_world *w, __u32 account, __u32 i, __u32 here)
{
	struct co_member *m = co_member_of(w, i);

	return CO_READ(m->where) == CO_QUEUED && CO_READ(m->cpu) == here && m->vm != CO_NONE &&
	       co_vm_of(w, m->vm)->account == account;
}

CO_INLINE bool co_pick_requested(struct co_world *w, __u32 here, struct co_pick *p)
{
	struct co_account *a = co_account_of(w, p->request);
	__u64 longest = ~0ull, since;
	__u32 k, i, best = CO_NONE;

	CO_FOR(k, CO_GROUP_MEMBERS_MAX) {
		if (k >= CO_READ(a->n_members))
			break;
		i = a->member[k & (CO_GROUP_MEMBERS_MAX - 1)];
		if (!co_pick_waits(w, p->request, i, here))
			continue;
		if (!co_request_allows(w, co_member_of(w, i))) {
			p->refused = true;
			continue;
		}
		since = CO_READ(co_member_of(w, i)->queued_at_ns);
		if (since < longest) {
			longest = since;
			best = i;
		}
	}
	if (best == CO_NONE || !co_list_take(w, here, CO_READ(co_member_of(w, best)->list), best, here))
		return false;
	p->member = best;
	p->from = here;
	p->state = co_state(w, co_member_of(w, best));
	p->requested = true;
	p->refused = false;
	return true;
}

CO_INLINE void co_pick_count_request(struct co_cpu *c, struct co_account *a, const struct co_pick *p, __u64 now_ns)
{
	__u64 asked = CO_READ(c->requested_at_ns), wait = now_ns > asked ? now_ns - asked : 0;

	if (p->requested) {
		c->requests_honoured++;
		c->request_wait_ns += wait;
		CO_ADD(a->requests_honoured, 1);
		CO_ADD(a->request_wait_ns, wait);
	} else if (p->refused) {
		c->requests_refused++;
		CO_ADD(a->requests_refused, 1);
	} else {
		c->requests_void++;
		CO_ADD(a->requests_void, 1);
	}
}

CO_INLINE void co_pick_count(struct co_world *w, struct co_cpu *c, const struct co_pick *p, __u64 now_ns)
{
	if (p->request != CO_NONE)
		co_pick_count_request(c, co_account_of(w, p->request), p, now_ns);
	c->steals += p->stolen;
	if (p->member == CO_NONE)
		c->idles++;
	else if (p->state <= CO_STATE_BOOST)
		c->picks_boost++;
	else if (p->state == CO_STATE_PART)
		c->picks_part++;
	else if (p->state == CO_STATE_UNDER)
		c->picks_under++;
	else if (p->state == CO_STATE_OVER)
		c->picks_over++;
	else
		c->picks_deep++;
}

/* Somebody in `state`: of its own lists, who ran until now, of another CPU's lists. Most often nobody waits in it: that is cheap. */
CO_INLINE bool co_pick_state(struct co_world *w, __u32 here, __u32 prev, __u32 prev_state, __u32 state, struct co_pick *p)
{
	if (co_cpu_isset(w->waits[state], here) && co_pick_from(w, here, state, here, p))
		return true;
	return co_pick_keep(here, prev, prev_state, state, p) ||
	       (co_cpu_any(w->waits[state]) && co_pick_steal(w, here, state, p));
}

/*
 * The schedule step of CPU `here`. `prev`: the member that ran here and is runnable still, on no list, charged until now; or
 * CO_NONE. When it is not `kept` the driver stops and queues it.
 */
CO_INLINE void co_pick(struct co_world *w, __u32 here, __u32 prev, __u64 now_ns, struct co_pick *p)
{
	struct co_cpu *c = co_cpu_of(w, here);
	__u32 state, prev_state;

	*p = (struct co_pick){ .member = CO_NONE, .from = here, .request = co_request_take(c) };
	/* A turn that it had because it was overlooked ends here. */
	if (prev != CO_NONE)
		CO_WRITE(co_member_of(w, prev)->queued_due_ns, CO_RAN);
	prev_state = prev == CO_NONE ? CO_STATES : co_state(w, co_member_of(w, prev));
	if (p->request == CO_NONE || !co_pick_requested(w, here, p)) {
		CO_UNROLL
		for (state = CO_STATE_FIRST; state <= CO_STATE_LAST; state++)
			if (co_pick_state(w, here, prev, prev_state, state, p))
				break;
	}
	co_pick_count(w, c, p, now_ns);
}
