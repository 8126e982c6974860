/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Follows a trace through the core: who wakes up, runs and stops is as it was recorded; purses, lists and flags are the core's
 * own; and before each recorded schedule step the core is asked whom it would run. Called by replay.c.
 *
 * When nothing is missing and nobody is faster than the record, as in a simulated trace, all answers are the same. In a real
 * one CPUs decide at the same time and are written down one after another; and the ends of what ran elsewhere are known to
 * the kernel when it charges, here at once.
 */
#include "sim/machine.h"
#include "sim/replay_internal.h"

#include "cosched/change.h"
#include "cosched/flags.h"

#include <errno.h>
#include <string.h>

#define PURSE_MAX_NS ((int64_t)CO_PERIOD_MAX_NS * 1024)

struct steps {
	const struct trace *t;
	struct replay_map map;
	struct co_world *world;
	size_t first[CO_MEMBERS_MAX]; /* a member's first event that tells what it does */
	uint64_t waits_since_ns[CO_MEMBERS_MAX]; /* who waited when it began, until they are queued; 0: not so */
	/* Of each CPU, members or CO_NONE: who runs; who stopped, is runnable, and may go on before anybody else is chosen. */
	uint32_t running[CO_CPUS_MAX], stopped[CO_CPUS_MAX];
	bool ran[CO_CPUS_MAX];	/* a member, since it was idle last */
	bool seen[CO_CPUS_MAX]; /* what it did before its next step */
	struct replay_steps count;
};

static struct co_member *member_of(struct steps *s, uint32_t m)
{
	return co_member_of(s->world, m);
}

static bool is_there(struct steps *s, uint32_t m)
{
	return m < s->t->header.n_members && member_of(s, m)->vm != CO_NONE;
}

static uint32_t cpu_of(const struct steps *s, uint64_t number)
{
	return number < CO_CPUS_MAX ? s->map.cpu[number] : CO_NONE;
}

/* --- what it begins with --- */

/* As the loader has it: a worker counts as much as all others of its group. */
static uint32_t group_weight(const struct trace *t, uint32_t account)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < t->header.n_vms; i++)
		sum += t->vm[i].account == account ? t->vm[i].weight : 0;
	return (uint32_t)min_u64(sum, CO_WEIGHT_MAX);
}

static int add_vms(struct steps *s)
{
	int r = 0;

	for (uint32_t i = 0; i < s->t->header.n_vms && r == 0; i++) {
		const struct co_trace_vm *vm = &s->t->vm[i];

		/* A number that nobody has. */
		if (!vm->weight)
			continue;
		r = co_account_set(s->world, vm->account, true, *vm->group);
		if (r == 0)
			r = co_vm_set(s->world, i, vm->account, vm->weight, vm->cap_ns);
		for (uint32_t m = 0; m < s->t->header.n_members && r == 0; m++)
			if (s->t->member[m].vm == i && s->t->member[m].is_worker)
				co_vm_of(s->world, i)->serves = group_weight(s->t, vm->account);
	}
	return r;
}

static bool tells_what_it_does(const struct co_event *e)
{
	return e->kind == CO_EVENT_WAKE || e->kind == CO_EVENT_RUN || e->kind == CO_EVENT_KEPT || e->kind == CO_EVENT_STOP ||
	       e->kind == CO_EVENT_SLEEP;
}

static void find_first(struct steps *s)
{
	memset(s->first, 0xff, sizeof(s->first));
	for (size_t i = s->t->n_events; i-- > 0;)
		if (s->t->event[i].member < CO_MEMBERS_MAX && tells_what_it_does(&s->t->event[i]))
			s->first[s->t->event[i].member] = i;
}

static int prepare(struct steps *s, const char **ret_why)
{
	struct co_params params = s->t->header.params;
	int r;

	*ret_why = script_map_cpus(s->t, &s->map);
	if (*ret_why)
		return -EBADMSG;
	/* Also those that ran nobody: weights divide them, caps may need them. */
	params.n_cpus = (__u32)max_u64(s->map.n_cpus, s->t->header.n_cpus);
	s->world = core_world_create(&params);
	if (!s->world)
		return -ENOMEM;
	memset(s->running, 0xff, sizeof(s->running));
	memset(s->stopped, 0xff, sizeof(s->stopped));
	find_first(s);
	r = add_vms(s);
	if (r < 0)
		*ret_why = "weights, caps or groups that cannot be";
	return r < 0 ? -EBADMSG : 0;
}

/* --- who runs --- */

static void charge_all(struct steps *s, uint64_t now)
{
	for (uint32_t i = 0; i < s->map.n_cpus; i++)
		if (s->running[i] != CO_NONE)
			co_charge(s->world, member_of(s, s->running[i]), now);
}

/* Out of wherever it is; it sleeps then. */
static void take_out(struct steps *s, uint32_t m, uint64_t now)
{
	if (member_of(s, m)->where == CO_QUEUED)
		core_unqueue(s->world, m);
	for (uint32_t i = 0; i < s->map.n_cpus; i++) {
		if (s->running[i] == m) {
			co_working_set(s->world, i, NULL, false);
			s->running[i] = CO_NONE;
		}
		if (s->stopped[i] == m)
			s->stopped[i] = CO_NONE;
	}
	if (member_of(s, m)->where != CO_ASLEEP)
		co_stop(s->world, member_of(s, m), now);
}

static void set_running(struct steps *s, uint32_t cpu, uint32_t m, uint8_t flags, uint64_t now)
{
	if (s->running[cpu] != CO_NONE)
		take_out(s, s->running[cpu], now);
	s->running[cpu] = m;
	s->stopped[cpu] = CO_NONE;
	s->ran[cpu] = true;
	co_run(s->world, member_of(s, m), cpu, now);
	co_working_set(s->world, cpu, member_of(s, m), flags & CO_RUN_REQUESTED);
}

/* Whom the core would have run, though it does not: as if it had not been asked. */
static void put_back(struct steps *s, uint32_t chosen, uint32_t previous, uint32_t m)
{
	if (chosen != CO_NONE && chosen != previous && chosen != m)
		core_requeue(s->world, chosen);
}

/* Who stopped and did not go on waits at home from now on. */
static void queue_stopped(struct steps *s, uint32_t cpu, uint64_t now)
{
	uint32_t m = s->stopped[cpu];

	s->stopped[cpu] = CO_NONE;
	if (m != CO_NONE)
		core_queue(s->world, m, member_of(s, m)->home, false, now);
}

/* The first one of a CPU may be somebody's who was interrupted before the recording began. */
static void count_step(struct steps *s, uint32_t cpu, bool same)
{
	s->count.steps += s->seen[cpu];
	s->count.same += s->seen[cpu] && same;
	s->seen[cpu] = true;
}

/* --- events --- */

/* What it did before the recording began shows in what it does next. */
static void begin_as_it_was(struct steps *s, uint32_t m, uint64_t now)
{
	const struct co_event *next = s->first[m] < s->t->n_events ? &s->t->event[s->first[m]] : NULL;
	uint32_t cpu = next ? cpu_of(s, next->cpu) : CO_NONE;

	if (cpu == CO_NONE || next->time_ns < now || next->kind == CO_EVENT_WAKE)
		return;
	if (next->kind != CO_EVENT_RUN)
		set_running(s, cpu, m, 0, now);
	else
		s->waits_since_ns[m] = min_u64(next->time_ns - next->value, now);
}

/* Those that waited when the recording began, in the order in which they came. */
static void queue_who_waits(struct steps *s)
{
	uint32_t longest;

	do {
		longest = CO_NONE;
		for (uint32_t m = 0; m < s->t->header.n_members; m++)
			if (s->waits_since_ns[m] && (longest == CO_NONE || s->waits_since_ns[m] < s->waits_since_ns[longest]))
				longest = m;
		if (longest == CO_NONE)
			continue;
		core_queue(s->world, longest, member_of(s, longest)->home, false, s->waits_since_ns[longest]);
		s->waits_since_ns[longest] = 0;
	} while (longest != CO_NONE);
}

/* More than any rule lets a purse be is nonsense. */
static int64_t within_reason(int64_t credit_ns)
{
	return credit_ns > PURSE_MAX_NS ? PURSE_MAX_NS : credit_ns < -PURSE_MAX_NS ? -PURSE_MAX_NS : credit_ns;
}

/* Purses and bank add up to 0: what was used in the period in which the recording began is handed out at its end. */
static void set_purse(struct steps *s, struct co_purse *purse, int64_t credit_ns)
{
	credit_ns = within_reason(credit_ns);
	if (s->world->params.mode == CO_MODE_POOLED)
		s->world->bank_ns += purse->credit_ns - credit_ns;
	purse->credit_ns = credit_ns;
}

static void on_add(struct steps *s, const struct co_event *e)
{
	const struct co_trace_member *told = &s->t->member[e->member];
	struct co_member *m = member_of(s, e->member);
	uint32_t home = cpu_of(s, e->cpu);

	if (told->vm == CO_NONE || co_member_add(s->world, e->member, told->tid, told->vm, home == CO_NONE ? 0 : home) < 0)
		return;
	set_purse(s, co_purse_of(s->world, m, m->account), (__s64)e->value);
	begin_as_it_was(s, e->member, e->time_ns);
}

/* What had been due in the period in which the recording began is known only now: before this, debts were a guess. */
static void on_purse(struct steps *s, const struct co_event *e)
{
	struct co_member *m = member_of(s, e->member);

	set_purse(s, co_purse_of(s->world, m, m->account), (__s64)e->value);
	co_restate(s->world);
	s->count = (struct replay_steps){ 0 };
}

/* Its VM's weight counts although it slept since the recording began. */
static void on_due(struct steps *s, const struct co_event *e)
{
	struct co_vm *vm = co_vm_of(s->world, member_of(s, e->member)->vm);
	struct co_account *a = co_account_of(s->world, vm->account);

	CO_WRITE(a->due_ns, min_u64(e->value, CO_PERIOD_MAX_NS * CO_CPUS_MAX));
	if (e->flags && !vm->awake)
		co_fluid_weigh(s->world, a, a->share.weight + vm->weight, e->time_ns);
	if (e->flags)
		vm->awake = (__u32)min_u64(e->flags, CO_AWAKE);
}

static void on_part(struct steps *s, const struct co_event *e)
{
	CO_WRITE(co_vm_of(s->world, member_of(s, e->member)->vm)->part_ns, within_reason((__s64)e->value));
	co_restate(s->world);
}

static void on_gone(struct steps *s, uint32_t m, uint64_t now)
{
	take_out(s, m, now);
	co_member_remove(s->world, m, now);
}

static void on_wake(struct steps *s, const struct co_event *e, uint32_t cpu)
{
	if (member_of(s, e->member)->where != CO_ASLEEP)
		return;
	take_out(s, e->member, e->time_ns);
	core_queue(s->world, e->member, cpu, true, e->time_ns);
}

static void on_stop(struct steps *s, const struct co_event *e, uint32_t cpu)
{
	s->seen[cpu] = true;
	take_out(s, e->member, e->time_ns);
	if (e->kind == CO_EVENT_STOP)
		s->stopped[cpu] = e->member;
}

static void on_run(struct steps *s, const struct co_event *e, uint32_t cpu)
{
	uint32_t m = e->member, previous = s->stopped[cpu], chosen;

	if (previous == m) {
		s->count.interrupted++;
		set_running(s, cpu, m, e->flags, e->time_ns);
		return;
	}
	/* Its waking up, or its stopping elsewhere, was not seen. */
	if (member_of(s, m)->where != CO_QUEUED) {
		take_out(s, m, e->time_ns);
		core_queue(s->world, m, member_of(s, m)->home, false, e->time_ns);
	}
	chosen = core_step(s->world, cpu, previous, e->time_ns);
	count_step(s, cpu, chosen == m);
	put_back(s, chosen, previous, m);
	if (chosen != m)
		core_unqueue(s->world, m);
	set_running(s, cpu, m, e->flags, e->time_ns);
	s->stopped[cpu] = previous;
	queue_stopped(s, cpu, e->time_ns);
}

static void on_kept(struct steps *s, const struct co_event *e, uint32_t cpu)
{
	uint32_t chosen;

	if (s->running[cpu] != e->member)
		return;
	chosen = core_step(s->world, cpu, e->member, e->time_ns);
	count_step(s, cpu, chosen == e->member);
	put_back(s, chosen, e->member, e->member);
	co_working_set(s->world, cpu, member_of(s, e->member), e->flags & CO_RUN_REQUESTED);
}

/* A CPU that stays idle looks again and again: only the first time is something decided. */
static void on_idle(struct steps *s, uint32_t cpu, uint64_t now)
{
	uint32_t chosen;

	if (s->running[cpu] != CO_NONE)
		take_out(s, s->running[cpu], now);
	queue_stopped(s, cpu, now);
	chosen = core_step(s->world, cpu, CO_NONE, now);
	put_back(s, chosen, CO_NONE, CO_NONE);
	co_working_set(s->world, cpu, NULL, false);
	if (s->ran[cpu])
		count_step(s, cpu, chosen == CO_NONE);
	s->ran[cpu] = false;
}

static void on_ask(struct steps *s, const struct co_event *e, uint32_t cpu)
{
	uint32_t asked = cpu_of(s, e->value), account;
	struct co_member *m = member_of(s, e->member);

	if (asked == CO_NONE)
		return;
	account = co_vm_of(s->world, m->vm)->account;
	s->count.asked++;
	/* One that woke up at home may be asked for by its own CPU. */
	if (co_ask_for(s->world, m, account, cpu == asked ? CO_NONE : cpu, e->time_ns) == asked)
		s->count.asked_same++;
	CO_WRITE(co_cpu_of(s->world, asked)->request, account + 1);
}

static void take_event(struct steps *s, const struct co_event *e)
{
	uint32_t cpu = cpu_of(s, e->cpu);

	charge_all(s, e->time_ns);
	if (e->kind == CO_EVENT_SETTLED)
		core_settle_world(s->world, e->time_ns);
	else if (e->kind == CO_EVENT_ADD && e->member < s->t->header.n_members)
		on_add(s, e);
	else if (e->kind == CO_EVENT_GONE && is_there(s, e->member))
		on_gone(s, e->member, e->time_ns);
	else if (e->kind == CO_EVENT_PURSE && is_there(s, e->member))
		on_purse(s, e);
	else if (e->kind == CO_EVENT_DUE && is_there(s, e->member))
		on_due(s, e);
	else if (e->kind == CO_EVENT_PART && is_there(s, e->member))
		on_part(s, e);
	else if (e->kind == CO_EVENT_IDLE && cpu != CO_NONE)
		on_idle(s, cpu, e->time_ns);
	if (cpu == CO_NONE || !is_there(s, e->member))
		return;
	if (e->kind == CO_EVENT_WAKE)
		on_wake(s, e, cpu);
	else if (e->kind == CO_EVENT_RUN)
		on_run(s, e, cpu);
	else if (e->kind == CO_EVENT_KEPT)
		on_kept(s, e, cpu);
	else if (e->kind == CO_EVENT_STOP || e->kind == CO_EVENT_SLEEP)
		on_stop(s, e, cpu);
	else if (e->kind == CO_EVENT_ASK)
		on_ask(s, e, cpu);
}

int steps_run(const struct trace *t, struct replay_steps *ret, const char **ret_why)
{
	struct steps *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->t = t;
	r = prepare(s, ret_why);
	for (size_t i = 0; r == 0 && i < t->n_events; i++) {
		if (i > 0 && t->event[i].kind != CO_EVENT_ADD && t->event[i - 1].kind == CO_EVENT_ADD)
			queue_who_waits(s);
		take_event(s, &t->event[i]);
	}
	if (r == 0)
		*ret = s->count;
	if (s->world)
		core_world_destroy(s->world);
	free(s);
	return r;
}
