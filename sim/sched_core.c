/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy core (src/cosched/) as the simulator's algorithm, in its modes: the same functions as in the kernel. Here
 * are what a driver has to bring: lists of waiting members, and kicks.
 */
#include "sim/machine.h"

#include "cosched/change.h"
#include "cosched/pick.h"

/* Double-linked lists; the world comes first, so that whoever has it has the lists. */
struct core {
	struct co_world world;
	struct {
		uint32_t first, last;
	} list[CO_CPUS_MAX][CO_STATES];
	struct {
		uint32_t next, previous;
	} link[CO_MEMBERS_MAX];
	uint64_t now_ns; /* of the schedule step */
};

static struct core *core_of(struct co_world *w)
{
	return (struct core *)(void *)w;
}

struct co_world *core_world_create(const struct co_params *params)
{
	struct core *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	co_world_init(&c->world, params);
	for (uint32_t cpu = 0; cpu < CO_CPUS_MAX; cpu++)
		for (uint32_t list = 0; list < CO_STATES; list++)
			c->list[cpu][list].first = c->list[cpu][list].last = CO_NONE;
	return &c->world;
}

void core_world_destroy(struct co_world *w)
{
	free(w);
}

/* --- lists --- */

static void list_append(struct core *c, uint32_t cpu, uint32_t list, uint32_t m)
{
	uint32_t last = c->list[cpu][list].last;

	c->link[m].next = CO_NONE;
	c->link[m].previous = last;
	*(last == CO_NONE ? &c->list[cpu][list].first : &c->link[last].next) = m;
	c->list[cpu][list].last = m;
}

static void list_prepend(struct core *c, uint32_t cpu, uint32_t list, uint32_t m)
{
	uint32_t first = c->list[cpu][list].first;

	c->link[m].next = first;
	c->link[m].previous = CO_NONE;
	*(first == CO_NONE ? &c->list[cpu][list].last : &c->link[first].previous) = m;
	c->list[cpu][list].first = m;
}

static void list_remove(struct core *c, uint32_t cpu, uint32_t list, uint32_t m)
{
	uint32_t next = c->link[m].next, previous = c->link[m].previous;

	*(previous == CO_NONE ? &c->list[cpu][list].first : &c->link[previous].next) = next;
	*(next == CO_NONE ? &c->list[cpu][list].last : &c->link[next].previous) = previous;
}

static inline __u32 co_list_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here)
{
	return core_of(w)->list[cpu][list].first;
}

static inline bool co_list_move(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 to)
{
	list_remove(core_of(w), cpu, list, member);
	co_relist(w, co_member_of(w, member), to, core_of(w)->now_ns);
	list_append(core_of(w), cpu, to, member);
	return true;
}

static inline bool co_list_take(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 here)
{
	list_remove(core_of(w), cpu, list, member);
	return true;
}

static inline void co_list_sift(struct co_world *w, __u32 cpu, __u32 list)
{
	uint32_t m = core_of(w)->list[cpu][list].first, last = core_of(w)->list[cpu][list].last, next;

	for (bool end = m == CO_NONE; !end; m = next) {
		end = m == last;
		next = core_of(w)->link[m].next;
		if (co_state(w, co_member_of(w, m)) != list)
			co_list_move(w, cpu, list, m, co_state(w, co_member_of(w, m)));
	}
}

/* --- the algorithm --- */

static bool is_mute(const struct sim *s)
{
	return s->algorithm == SIM_POOLED_MUTE;
}

static struct co_member *member_of(struct sim *s, uint32_t m)
{
	return co_member_of(s->world, m);
}

/* `m` was queued: who is to look? An idle CPU, or one that runs somebody worse. */
static uint32_t kick_for(struct sim *s, struct co_member *m)
{
	uint32_t cpu = m->cpu;

	if (m->list == CO_STATE_PARKED)
		return CO_NONE;
	if (s->cpu[cpu].running == CO_NONE && !s->cpu[cpu].kicked)
		return cpu;
	for (uint32_t i = 0; i < s->spec->cpus; i++)
		if (s->cpu[i].running == CO_NONE && !s->cpu[i].kicked)
			return i;
	return co_displaces(s->world, m);
}

uint32_t core_queue(struct co_world *w, uint32_t m, uint32_t cpu, bool woken, uint64_t now_ns)
{
	uint32_t list = co_queue(w, co_member_of(w, m), cpu, woken, now_ns);

	list_append(core_of(w), cpu, list, m);
	return list;
}

void core_unqueue(struct co_world *w, uint32_t m)
{
	const struct co_member *member = co_member_of(w, m);

	list_remove(core_of(w), member->cpu, member->list, m);
}

void core_requeue(struct co_world *w, uint32_t m)
{
	const struct co_member *member = co_member_of(w, m);

	list_prepend(core_of(w), member->cpu, member->list, m);
}

uint32_t core_step(struct co_world *w, uint32_t cpu, uint32_t previous, uint64_t now_ns)
{
	struct co_pick p;

	core_of(w)->now_ns = now_ns;
	co_pick(w, cpu, previous, now_ns, &p);
	return p.member;
}

/* At home, wherever it ran: so those of a group stay spread. */
static void core_enqueue(struct sim *s, uint32_t m, bool woken)
{
	struct co_member *member = member_of(s, m);
	uint32_t cpu = member->home;

	core_queue(s->world, m, cpu, woken, s->now_ns);
	machine_kick(s, kick_for(s, member));
	if (!woken || is_mute(s) || !co_ask_on_wake(s->world, member, cpu, s->now_ns))
		return;
	machine_emit(s, CO_EVENT_ASK, cpu, m, cpu, 0);
	machine_kick(s, cpu);
}

static uint32_t core_pick(struct sim *s, uint32_t cpu, uint32_t previous, uint8_t *ret_flags)
{
	struct co_pick p;

	core_of(s->world)->now_ns = s->now_ns;
	co_pick(s->world, cpu, previous, s->now_ns, &p);
	if (p.request != CO_NONE && p.refused)
		machine_emit(s, CO_EVENT_REFUSED, cpu, CO_NONE, p.request, 0);
	*ret_flags = (p.requested ? CO_RUN_REQUESTED : 0) | (p.stolen ? CO_RUN_STOLEN : 0) |
		     (p.state <= CO_STATE_BOOST ? CO_RUN_BOOSTED : 0) |
		     (p.state >= CO_STATE_OVER && p.state <= CO_STATE_LAST ? CO_RUN_OVER : 0);
	return p.member;
}

/* Whose cap is used up does not count, unless a new period may have begun for it. */
static bool core_waits(struct sim *s, uint32_t cpu)
{
	const struct co_cpu *c = co_cpu_of(s->world, cpu);
	uint32_t end = c->seen == s->world->generation ? CO_STATE_PARKED : CO_STATES;

	for (uint32_t list = 0; list < end; list++)
		if (c->n_listed[list])
			return true;
	return false;
}

static void core_started(struct sim *s, uint32_t cpu, bool kept, uint8_t flags)
{
	uint32_t m = s->cpu[cpu].running, was = co_cpu_of(s->world, cpu)->state, working, account;

	co_working_set(s->world, cpu, m == CO_NONE ? NULL : member_of(s, m), flags & CO_RUN_REQUESTED);
	if (kept)
		machine_kick(s, co_passes_on(s->world, cpu, was));
	working = co_cpu_of(s->world, cpu)->working;
	if (!working || !co_asks(s->world) || is_mute(s))
		return;
	account = working - 1;
	for (uint32_t i = 0; i < co_account_of(s->world, account)->n_members; i++) {
		uint32_t asked = co_ask(s->world, account, i, cpu, s->now_ns);

		if (asked == CO_NONE)
			continue;
		machine_emit(s, CO_EVENT_ASK, cpu, co_account_of(s->world, account)->member[i], asked, 0);
		machine_kick(s, asked);
	}
}

static void core_charge(struct sim *s, uint32_t cpu, uint32_t m, uint64_t ran_ns)
{
}

static uint64_t core_slice(struct sim *s, uint32_t m)
{
	return co_slice_ns(s->world, member_of(s, m));
}

void core_settle_world(struct co_world *w, uint64_t now_ns)
{
	core_of(w)->now_ns = now_ns;
	co_settle(w, now_ns);
	for (uint32_t cpu = 0; cpu < w->params.n_cpus; cpu++)
		co_unpark(w, cpu);
}

static void core_settle(struct sim *s)
{
	uint32_t best;

	core_settle_world(s->world, s->now_ns);
	best = co_best_waiting(s->world);
	for (uint32_t i = 0; i < s->spec->cpus; i++)
		if (s->cpu[i].running != CO_NONE && co_looks_again(s->world, i, best))
			machine_kick(s, i);
}

const struct sim_sched sim_sched_core = {
	.enqueue = core_enqueue,
	.pick = core_pick,
	.waits = core_waits,
	.started = core_started,
	.charge = core_charge,
	.slice = core_slice,
	.settle = core_settle,
};
