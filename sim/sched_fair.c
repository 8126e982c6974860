/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A baseline: earliest eligible virtual deadline first, the rule of Linux's fair class (Stoica and Abdel-Wahab, 1995), per
 * CPU, with lag kept over sleep, preemption at wake-up and idle CPUs that steal. None of Linux's placement heuristics, no
 * caps and no groups. The core's world is kept for accounting alone.
 */
#include "sim/machine.h"

#include "cosched/settle.h"

#define SLICE_NS INT64_C(2800000)
#define NICE_0 256 /* weight at which virtual time runs as fast as time */

/* Takes entry `i` off a CPU's queue. */
static uint32_t dequeue(struct sim_cpu *c, uint32_t i)
{
	uint32_t m = c->queue[i];

	for (c->n_queued--; i < c->n_queued; i++)
		c->queue[i] = c->queue[i + 1];
	return m;
}

static int64_t weight_of(const struct sim *s, uint32_t m)
{
	return (int64_t)s->spec->vm[s->member[m].vm].weight;
}

/* Average virtual time on `cpu`, weighted. */
static int64_t average(const struct sim *s, uint32_t cpu)
{
	const struct sim_cpu *c = &s->cpu[cpu];
	int64_t sum = 0, weights = 0;

	for (uint32_t i = 0; i <= c->n_queued; i++) {
		uint32_t m = i < c->n_queued ? c->queue[i] : c->running;

		if (m == CO_NONE)
			continue;
		sum += (s->member[m].vruntime - c->least_vruntime) * weight_of(s, m);
		weights += weight_of(s, m);
	}
	return weights ? c->least_vruntime + sum / weights : c->least_vruntime;
}

static void place(struct sim *s, uint32_t cpu, uint32_t m)
{
	struct sim_member *member = &s->member[m];
	int64_t request = SLICE_NS * NICE_0 / weight_of(s, m);
	int64_t lag = member->lag > request ? request : member->lag < -request ? -request : member->lag;

	member->vruntime = average(s, cpu) - lag;
	member->deadline = member->vruntime + request;
}

static uint32_t idle_or(const struct sim *s, uint32_t cpu)
{
	for (uint32_t i = 0; i < s->spec->cpus && s->cpu[cpu].running != CO_NONE; i++)
		if (s->cpu[i].running == CO_NONE)
			return i;
	return cpu;
}

static bool preempts(const struct sim *s, uint32_t cpu, uint32_t m)
{
	const struct sim_member *woken = &s->member[m], *running = &s->member[s->cpu[cpu].running];

	return woken->vruntime <= average(s, cpu) && woken->deadline < running->deadline;
}

static void fair_enqueue(struct sim *s, uint32_t m, bool woken)
{
	struct co_member *member = co_member_of(s->world, m);
	uint32_t cpu = woken ? idle_or(s, member->cpu) : member->cpu;

	if (woken)
		place(s, cpu, m);
	s->cpu[cpu].queue[s->cpu[cpu].n_queued++] = m;
	co_queue(s->world, member, cpu, woken, s->now_ns);
	if (woken && (s->cpu[cpu].running == CO_NONE || preempts(s, cpu, m)))
		machine_kick(s, cpu);
}

/* The longest queue gives one to a CPU that has nothing. */
static uint32_t steal(struct sim *s, uint32_t cpu)
{
	uint32_t from = CO_NONE, m;

	for (uint32_t i = 0; i < s->spec->cpus; i++)
		if (s->cpu[i].n_queued && (from == CO_NONE || s->cpu[i].n_queued > s->cpu[from].n_queued))
			from = i;
	if (from == CO_NONE)
		return CO_NONE;
	s->member[s->cpu[from].queue[0]].lag = average(s, from) - s->member[s->cpu[from].queue[0]].vruntime;
	m = dequeue(&s->cpu[from], 0);
	place(s, cpu, m);
	co_cpu_of(s->world, cpu)->steals++;
	return m;
}

static uint32_t fair_pick(struct sim *s, uint32_t cpu, uint32_t previous, uint8_t *ret_flags)
{
	struct sim_cpu *c = &s->cpu[cpu];
	int64_t now, deadline = INT64_MAX;
	uint32_t best = CO_NONE;

	c->running = previous;
	now = average(s, cpu);
	if (previous != CO_NONE && s->member[previous].vruntime <= now)
		deadline = s->member[previous].deadline;
	for (uint32_t i = 0; i < c->n_queued; i++) {
		const struct sim_member *m = &s->member[c->queue[i]];

		if (m->vruntime > now || m->deadline >= deadline)
			continue;
		best = i;
		deadline = m->deadline;
	}
	c->least_vruntime = now;
	if (best != CO_NONE)
		return dequeue(c, best);
	if (previous != CO_NONE)
		return previous;
	*ret_flags = CO_RUN_STOLEN;
	return c->n_queued ? dequeue(c, 0) : steal(s, cpu);
}

static bool fair_waits(struct sim *s, uint32_t cpu)
{
	return s->cpu[cpu].n_queued > 0;
}

static void fair_charge(struct sim *s, uint32_t cpu, uint32_t m, uint64_t ran_ns)
{
	struct sim_member *member = &s->member[m];

	member->vruntime += (int64_t)ran_ns * NICE_0 / weight_of(s, m);
	if (member->vruntime >= member->deadline)
		member->deadline = member->vruntime + SLICE_NS * NICE_0 / weight_of(s, m);
	member->lag = average(s, cpu) - member->vruntime;
}

static uint64_t fair_slice(struct sim *s, uint32_t m)
{
	return (uint64_t)SLICE_NS;
}

static void fair_started(struct sim *s, uint32_t cpu, bool kept, uint8_t flags)
{
}

/* Where two more wait than elsewhere, one moves. */
static void fair_settle(struct sim *s)
{
	uint32_t most = 0, least = 0, m;

	co_settle(s->world, s->now_ns);
	for (uint32_t i = 1; i < s->spec->cpus; i++) {
		most = s->cpu[i].n_queued > s->cpu[most].n_queued ? i : most;
		least = s->cpu[i].n_queued < s->cpu[least].n_queued ? i : least;
	}
	if (s->cpu[most].n_queued < s->cpu[least].n_queued + 2)
		return;
	s->member[s->cpu[most].queue[0]].lag = average(s, most) - s->member[s->cpu[most].queue[0]].vruntime;
	m = dequeue(&s->cpu[most], 0);
	place(s, least, m);
	s->cpu[least].queue[s->cpu[least].n_queued++] = m;
	/* Its account of waiting goes on. */
	co_yield(s->world, co_member_of(s->world, m), s->now_ns);
	co_queue(s->world, co_member_of(s->world, m), least, false, s->now_ns);
}

const struct sim_sched sim_sched_fair = {
	.enqueue = fair_enqueue,
	.pick = fair_pick,
	.waits = fair_waits,
	.started = fair_started,
	.charge = fair_charge,
	.slice = fair_slice,
	.settle = fair_settle,
};
