/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUs and the event loop: who runs until when, and the schedule step. Called by run.c, one thread a run.
 */
#include "sim/machine.h"
#include "sim/script.h"

void machine_at(struct sim *s, uint64_t time_ns, enum sim_event_kind kind, uint32_t index, uint32_t generation)
{
	struct sim_event e = { .time_ns = time_ns, .order = SIM_LATER | (uint64_t)kind << 32 | index, .kind = kind,
			       .index = index, .generation = generation };

	/* In a replay who wakes up at one moment does so as it was recorded, and before who woke it up goes to sleep. */
	if (s->spec->script && kind == SIM_EVENT_WAKE)
		e.order = s->spec->script->member[index].episode[s->member[index].phase].order;

	if (heap_add(&s->heap, e) < 0)
		s->no_memory = true;
}

static void keep_event(struct sim *s, struct co_event e)
{
	struct sim_recording *r = s->recording;

	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 1024;
		struct co_event *grown = reallocarray(r->event, room, sizeof(*grown));

		if (!grown) {
			s->no_memory = true;
			return;
		}
		r->event = grown;
		r->room = room;
	}
	r->event[r->n++] = e;
}

static void tell(struct sim *s, enum co_event_kind kind, uint32_t m)
{
	struct co_event e = { .time_ns = s->now_ns, .kind = (__u8)kind, .member = m,
			      .cpu = (__u16)co_member_of(s->world, m)->home };

	co_event_tell(s->world, &e);
	keep_event(s, e);
}

/* As the real one's recordings: who is there when it begins has come just then. */
static void tell_who_is_there(struct sim *s)
{
	for (uint32_t m = 0; m < s->n_members; m++)
		tell(s, CO_EVENT_ADD, m);
}

/* After the first settlement: what is due for the time before the recording is in it. */
static void tell_credit(struct sim *s)
{
	for (uint32_t m = 0; m < s->n_members; m++) {
		tell(s, CO_EVENT_PURSE, m);
		tell(s, CO_EVENT_DUE, m);
		tell(s, CO_EVENT_PART, m);
	}
}

void machine_emit(struct sim *s, enum co_event_kind kind, uint32_t cpu, uint32_t m, uint64_t value, uint8_t flags)
{
	const struct sim_recording *r = s->recording;

	if (!r || s->now_ns < r->from_ns || s->now_ns >= r->to_ns)
		return;
	if (!r->n)
		tell_who_is_there(s);
	keep_event(s, (struct co_event){ .time_ns = s->now_ns, .value = value, .member = m, .cpu = (__u16)cpu, .kind = (__u8)kind,
					 .flags = flags });
	if (kind == CO_EVENT_SETTLED && !s->told) {
		s->told = true;
		tell_credit(s);
	}
}

void machine_kick(struct sim *s, uint32_t cpu)
{
	if (cpu == CO_NONE || s->cpu[cpu].kicked)
		return;
	s->cpu[cpu].kicked = true;
	s->kicks++;
	machine_at(s, s->now_ns + s->spec->kick_delay_ns, SIM_EVENT_KICK, cpu, 0);
}

/* --- what ran --- */

/* Accounts what `cpu` did until now. */
static void advance(struct sim *s, uint32_t cpu)
{
	struct sim_cpu *c = &s->cpu[cpu];
	uint64_t elapsed = s->now_ns - c->since_ns, lost = min_u64(elapsed, c->overhead_ns), work = elapsed - lost;
	struct sim_member *m;

	c->since_ns = s->now_ns;
	if (c->running == CO_NONE) {
		s->idle_ns += elapsed;
		return;
	}
	m = &s->member[c->running];
	c->overhead_ns -= lost;
	m->worked_ns += work;
	if (m->left_ns == SIM_SPIN)
		m->spun_ns += work;
	else
		m->left_ns -= work;
	co_charge(s->world, co_member_of(s->world, c->running), s->now_ns);
	s->sched->charge(s, cpu, c->running, elapsed);
}

/* Before states are compared: members on several CPUs may pay from one purse. */
static void advance_all(struct sim *s)
{
	for (uint32_t i = 0; i < s->spec->cpus; i++)
		advance(s, i);
}

/* When the member that runs comes to an end of its work or its slice. */
static void arm(struct sim *s, uint32_t cpu)
{
	struct sim_cpu *c = &s->cpu[cpu];
	uint64_t left = s->member[c->running].left_ns, end = c->slice_end_ns;

	if (left != SIM_SPIN)
		end = min_u64(end, s->now_ns + c->overhead_ns + left);
	machine_at(s, end, SIM_EVENT_END, cpu, ++c->generation);
}

/* --- the schedule step --- */

static uint32_t find_idle(const struct sim *s)
{
	for (uint32_t i = 0; i < s->spec->cpus; i++)
		if (s->cpu[i].running == CO_NONE && !s->cpu[i].kicked)
			return i;
	return CO_NONE;
}

/* The member that ran stops. */
static void stop(struct sim *s, uint32_t cpu, uint32_t m, enum co_event_kind how)
{
	if (how == CO_EVENT_STOP)
		co_yield(s->world, co_member_of(s->world, m), s->now_ns);
	else
		co_stop(s->world, co_member_of(s->world, m), s->now_ns);
	s->cpu[cpu].running = CO_NONE;
	s->member[m].runnable_ns = s->now_ns;
	machine_emit(s, how, cpu, m, s->now_ns - s->cpu[cpu].started_ns, 0);
}

static void set_next(struct sim *s, uint32_t cpu, uint32_t m, uint8_t flags)
{
	struct sim_cpu *c = &s->cpu[cpu];

	c->running = m;
	c->started_ns = s->now_ns;
	c->overhead_ns += s->spec->switch_ns;
	s->switches++;
	co_run(s->world, co_member_of(s->world, m), cpu, s->now_ns);
	machine_emit(s, CO_EVENT_RUN, cpu, m, s->now_ns - s->member[m].runnable_ns, flags);
	/* What it waited for may have come while it did not run. */
	if (s->member[m].left_ns == 0 || s->member[m].left_ns == SIM_SPIN)
		s->member[m].left_ns = workload_next(s, m);
}

/* What happens at the end of a run, at the end of a slice and when a CPU is kicked: who runs now? `asked`: the workload
 * was, and if there is no work the member sleeps. */
static void step(struct sim *s, uint32_t cpu, bool asked)
{
	struct sim_cpu *c = &s->cpu[cpu];
	uint32_t previous = c->running, next;
	uint8_t flags = 0;

	if (previous != CO_NONE && s->member[previous].left_ns == 0 && !asked)
		s->member[previous].left_ns = workload_next(s, previous);
	if (previous != CO_NONE && s->member[previous].left_ns == 0) {
		stop(s, cpu, previous, CO_EVENT_SLEEP);
		previous = CO_NONE;
	}
	advance_all(s);
	measure_change(s);
	next = s->sched->pick(s, cpu, previous, &flags);
	if (previous != CO_NONE && next != previous)
		stop(s, cpu, previous, CO_EVENT_STOP);
	c->generation++;
	if (next == CO_NONE) {
		c->overhead_ns = 0;
		machine_emit(s, CO_EVENT_IDLE, cpu, CO_NONE, 0, 0);
	} else {
		if (next != previous)
			set_next(s, cpu, next, flags);
		else
			machine_emit(s, CO_EVENT_KEPT, cpu, next, 0, flags);
		c->slice_end_ns = s->now_ns + s->sched->slice(s, next);
		arm(s, cpu);
	}
	s->sched->started(s, cpu, next != CO_NONE && next == previous, flags);
	if (previous != CO_NONE && next != previous)
		s->sched->enqueue(s, previous, false);
	if (s->sched->waits(s, cpu))
		machine_kick(s, find_idle(s));
}

/* --- what happens --- */

static void on_end(struct sim *s, uint32_t cpu)
{
	struct sim_cpu *c = &s->cpu[cpu];
	struct sim_member *m = &s->member[c->running];

	advance(s, cpu);
	if (m->left_ns == 0)
		m->left_ns = workload_next(s, c->running);
	if (m->left_ns && s->now_ns < c->slice_end_ns)
		arm(s, cpu);
	else
		step(s, cpu, true);
}

static void on_kick(struct sim *s, uint32_t cpu)
{
	advance(s, cpu);
	s->cpu[cpu].kicked = false;
	s->cpu[cpu].overhead_ns += s->spec->kick_ns;
	step(s, cpu, false);
}

static void on_settle(struct sim *s)
{
	advance_all(s);
	measure_change(s);
	s->sched->settle(s);
	machine_emit(s, CO_EVENT_SETTLED, 0, CO_NONE, s->world->settlements, 0);
	measure_settle(s);
	for (uint32_t i = 0; i < s->spec->cpus; i++)
		if (s->sched->waits(s, i))
			machine_kick(s, find_idle(s));
	machine_at(s, s->now_ns + s->spec->period_ns, SIM_EVENT_SETTLE, 0, 0);
}

void machine_wake(struct sim *s, uint32_t m)
{
	if (co_member_of(s->world, m)->where != CO_ASLEEP)
		return;
	advance_all(s);
	measure_change(s);
	s->member[m].runnable_ns = s->now_ns;
	machine_emit(s, CO_EVENT_WAKE, co_member_of(s->world, m)->home, m, 0, 0);
	s->sched->enqueue(s, m, true);
}

void machine_nudge(struct sim *s, uint32_t m)
{
	const struct co_member *member = co_member_of(s->world, m);

	if (member->where != CO_RUNNING || s->member[m].left_ns != SIM_SPIN)
		return;
	advance(s, member->cpu);
	s->member[m].left_ns = 0;
	machine_at(s, s->now_ns, SIM_EVENT_END, member->cpu, ++s->cpu[member->cpu].generation);
}

static void handle(struct sim *s, const struct sim_event *e)
{
	switch ((enum sim_event_kind)e->kind) {
	case SIM_EVENT_END:
		if (e->generation == s->cpu[e->index].generation)
			on_end(s, e->index);
		break;
	case SIM_EVENT_KICK:
		on_kick(s, e->index);
		break;
	case SIM_EVENT_SETTLE:
		on_settle(s);
		break;
	case SIM_EVENT_WAKE:
		machine_wake(s, e->index);
		break;
	case SIM_EVENT_ARRIVE:
		workload_arrive(s, e->index);
		break;
	}
}

void machine_run(struct sim *s, uint64_t until_ns)
{
	uint64_t period = s->spec->period_ns, end_ns = (until_ns + period - 1) / period * period;
	struct sim_event e = { 0 };

	while (!s->no_memory && heap_take(&s->heap, &e)) {
		measure_pass(s, e.time_ns);
		s->now_ns = e.time_ns;
		handle(s, &e);
		if (e.kind == SIM_EVENT_SETTLE && e.time_ns >= end_ns)
			break;
	}
}
