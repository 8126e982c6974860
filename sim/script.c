/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a trace to what its members wanted: a spec with a script instead of workloads. Called by replay.c.
 *
 * An episode begins when a member wakes up and lasts until it sleeps; what it ran in between is its demand. Whoever still
 * was runnable at the end wanted more: its last demand has no end. Who went wants nothing any more.
 */
#include "sim/replay_internal.h"

#include "base/util.h"
#include "cosched/change.h"

#include <errno.h>
#include <string.h>

#define ENDLESS UINT64_C(1000000000000000000)

/* --- the machine --- */

static bool is_of_a_step(const struct co_event *e)
{
	return e->kind == CO_EVENT_RUN || e->kind == CO_EVENT_KEPT || e->kind == CO_EVENT_IDLE;
}

const char *script_map_cpus(const struct trace *t, struct replay_map *map)
{
	memset(map->cpu, 0xff, sizeof(map->cpu));
	memset(map->member, 0xff, sizeof(map->member));
	for (size_t i = 0; i < t->n_events; i++)
		if (t->event[i].cpu < CO_CPUS_MAX && is_of_a_step(&t->event[i]))
			map->cpu[t->event[i].cpu] = 0;
	map->n_cpus = 0;
	for (uint32_t cpu = 0; cpu < CO_CPUS_MAX; cpu++)
		if (map->cpu[cpu] == 0)
			map->cpu[cpu] = map->n_cpus++;
	return map->n_cpus ? NULL : "nobody runs in it";
}

static uint32_t group_of(struct sim_spec *spec, const char *name)
{
	size_t i = 0;

	if (!*name)
		return CO_NONE;
	while (i < spec->n_groups && strncmp(spec->group[i].name.text, name, SIM_NAME_MAX - 1) != 0)
		i++;
	if (i == SIM_GROUPS_MAX)
		return CO_NONE;
	if (i == spec->n_groups)
		snprintf(spec->group[spec->n_groups++].name.text, SIM_NAME_MAX, "%.*s", SIM_NAME_MAX - 1, name);
	return (uint32_t)i;
}

static void set_params(struct sim_spec *spec, const struct co_params *p)
{
	spec->period_ns = p->period_ns;
	spec->slice_ns = p->slice_ns;
	spec->floor_ns = p->floor_ns;
	spec->debt_limit_ns = p->debt_limit_ns;
	spec->credit_limit_ns = p->credit_limit_ns;
	spec->boost_ns = p->boost_ns;
	spec->ask_on_wake = p->ask_on_wake;
}

/* VMs in the trace's order; each one's members get consecutive numbers, as the simulator has them. */
static const char *make_vms(const struct trace *t, struct sim_spec *spec, struct replay_map *map)
{
	uint32_t n = 0;

	if (t->header.n_vms > SIM_VMS_MAX)
		return "more VMs than can be simulated";
	for (uint32_t i = 0; i < t->header.n_vms; i++) {
		struct sim_vm_spec *vm = &spec->vm[i];

		snprintf(vm->name.text, sizeof(vm->name.text), "%.*s", SIM_NAME_MAX - 1, t->vm[i].name);
		vm->runs = SIM_RUNS_SCRIPT;
		vm->copies = vm->batch = 1;
		vm->weight = t->vm[i].weight ? t->vm[i].weight : 1;
		vm->cap_percent = 100 * t->vm[i].cap_ns / spec->period_ns;
		vm->group = group_of(spec, t->vm[i].group);
		for (uint32_t m = 0; m < t->header.n_members; m++)
			if (t->member[m].vm == i) {
				map->slot[n] = m;
				map->member[m] = n++;
				vm->vcpus++;
			}
	}
	spec->n_vms = t->header.n_vms;
	map->n_members = n;
	return n ? NULL : "it has no members";
}

/* --- what they wanted --- */

/* While the trace is read: of each slot. */
struct progress {
	bool runnable, running;
	uint64_t wake_ns, since_ns, ran_ns;
	uint64_t order;
};

static int add_episode(struct sim_script *script, uint32_t m, const struct progress *p, uint64_t demand_ns)
{
	if (script->member[m].n == script->member[m].room) {
		size_t room = script->member[m].room ? 2 * script->member[m].room : 16;
		struct sim_episode *grown = reallocarray(script->member[m].episode, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		script->member[m].episode = grown;
		script->member[m].room = room;
	}
	script->member[m].episode[script->member[m].n++] =
		(struct sim_episode){ p->wake_ns, demand_ns ? demand_ns : 1, p->order };
	return 0;
}

static void begin(struct progress *p, uint64_t time_ns, uint64_t order)
{
	if (p->runnable)
		return;
	*p = (struct progress){ .runnable = true, .wake_ns = time_ns, .order = order };
}

static int take_event(const struct replay_map *map, const struct co_event *e, struct progress *p, struct sim_script *script,
		      uint64_t order)
{
	uint64_t now = e->time_ns - map->base_ns;
	int r = 0;

	switch (e->kind) {
	case CO_EVENT_WAKE:
		begin(p, now, order);
		break;
	case CO_EVENT_RUN:
		begin(p, now > e->value ? now - e->value : 0, order);
		p->running = true;
		p->since_ns = now;
		break;
	case CO_EVENT_GONE:
		p->ran_ns += p->running ? now - p->since_ns : 0;
		r = p->runnable ? add_episode(script, map->member[e->member], p, p->ran_ns) : 0;
		p->runnable = p->running = false;
		break;
	case CO_EVENT_STOP:
	case CO_EVENT_SLEEP:
		/* What began before the first event: its length is told, or it ran since then. */
		if (!p->running)
			p->since_ns = e->value && e->value < now ? now - e->value : 0;
		begin(p, p->since_ns, order);
		p->ran_ns += now - p->since_ns;
		p->running = false;
		if (e->kind == CO_EVENT_SLEEP) {
			r = add_episode(script, map->member[e->member], p, p->ran_ns);
			p->runnable = false;
		}
		break;
	default:
		break;
	}
	return r;
}

static int make_episodes(const struct trace *t, const struct replay_map *map, struct sim_script *script)
{
	struct progress *progress = calloc(CO_MEMBERS_MAX, sizeof(*progress));
	int r = 0;

	if (!progress)
		return -ENOMEM;
	for (size_t i = 0; i < t->n_events && r == 0; i++) {
		const struct co_event *e = &t->event[i];

		if (e->member < t->header.n_members && t->member[e->member].vm != CO_NONE)
			r = take_event(map, e, &progress[e->member], script, i);
	}
	for (uint32_t m = 0; m < t->header.n_members && r == 0; m++)
		if (t->member[m].vm != CO_NONE && progress[m].runnable)
			r = add_episode(script, map->member[m], &progress[m], ENDLESS);
	free(progress);
	return r;
}

static void give_homes(const struct trace *t, const struct replay_map *map, struct sim_script *script)
{
	for (uint32_t m = 0; m < t->header.n_members; m++)
		if (t->member[m].vm != CO_NONE) {
			uint32_t home = t->member[m].home < CO_CPUS_MAX ? map->cpu[t->member[m].home] : CO_NONE;

			script->member[map->member[m]].home = home < map->n_cpus ? home : 0;
		}
}

/* Settlements of the replay are to fall on those of the trace: they follow each other from here on. */
static uint64_t find_base(const struct trace *t, uint64_t period_ns)
{
	uint64_t first = t->event[0].time_ns;

	for (size_t i = 0; i < t->n_events; i++)
		if (t->event[i].kind == CO_EVENT_SETTLED) {
			uint64_t at = t->event[i].time_ns, periods = (at - first + period_ns - 1) / period_ns;

			return at >= periods * period_ns ? at - periods * period_ns : first;
		}
	return first;
}

void script_free(struct sim_script *script)
{
	for (uint32_t m = 0; script && m < CO_MEMBERS_MAX; m++)
		free(script->member[m].episode);
	free(script);
}

int script_from_trace(const struct trace *t, struct sim_spec *spec, struct replay_map *map, struct sim_script *script,
		      const char **ret_why)
{
	struct co_params params = t->header.params;
	int r;

	*ret_why = t->n_events ? script_map_cpus(t, map) : "it holds no events";
	if (*ret_why)
		return -EBADMSG;
	params.n_cpus = map->n_cpus;
	if (co_params_check(&params) < 0) {
		*ret_why = "parameters that cannot be";
		return -EBADMSG;
	}
	set_params(spec, &params);
	spec->cpus = map->n_cpus;
	spec->kick_delay_ns = 1000;
	*ret_why = make_vms(t, spec, map);
	if (*ret_why)
		return -EBADMSG;
	map->base_ns = find_base(t, spec->period_ns);
	spec->duration_ns = t->event[t->n_events - 1].time_ns - map->base_ns + 1;
	give_homes(t, map, script);
	r = make_episodes(t, map, script);
	spec->script = script;
	return r;
}
