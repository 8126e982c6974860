/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a trace's script and compares two streams of events: what was recorded, what was replayed. Called by the CLI.
 */
#include "sim/replay_internal.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

/* A stream being followed: in the simulation's numbers and time. */
struct stream {
	const struct co_event *event;
	size_t n, at;
	const struct replay_map *map; /* NULL: it has the simulation's numbers already */
	uint32_t running[CO_CPUS_MAX];
	uint64_t waits_since_ns[CO_MEMBERS_MAX]; /* UINT64_MAX: it does not */
	uint64_t runs, requested, stolen, in_debt, asked, refused;
	uint64_t ran_ns[SIM_VMS_MAX], waited_ns[SIM_VMS_MAX];
};

static uint64_t time_of(const struct stream *s)
{
	if (s->at == s->n)
		return UINT64_MAX;
	return s->event[s->at].time_ns - (s->map ? s->map->base_ns : 0);
}

static uint32_t member_of(const struct stream *s, const struct co_event *e)
{
	if (!s->map)
		return e->member;
	return e->member < CO_MEMBERS_MAX ? s->map->member[e->member] : CO_NONE;
}

static uint32_t cpu_of(const struct stream *s, const struct co_event *e)
{
	if (e->cpu >= CO_CPUS_MAX)
		return CO_NONE;
	return s->map ? s->map->cpu[e->cpu] : e->cpu;
}

static void count_run(struct stream *s, const struct co_event *e)
{
	s->runs++;
	s->requested += (e->flags & CO_RUN_REQUESTED) != 0;
	s->stolen += (e->flags & CO_RUN_STOLEN) != 0;
	s->in_debt += (e->flags & CO_RUN_OVER) != 0;
}

/* The next event. */
static void advance(struct stream *s, const uint32_t *vm_of)
{
	const struct co_event *e = &s->event[s->at++];
	uint32_t m = member_of(s, e), cpu = cpu_of(s, e);
	uint64_t now = e->time_ns - (s->map ? s->map->base_ns : 0);

	if ((e->kind == CO_EVENT_WAKE || e->kind == CO_EVENT_STOP) && m != CO_NONE)
		s->waits_since_ns[m] = now;
	s->asked += e->kind == CO_EVENT_ASK;
	s->refused += e->kind == CO_EVENT_REFUSED;
	if (cpu == CO_NONE || (m == CO_NONE && e->kind != CO_EVENT_IDLE))
		return;
	if (e->kind == CO_EVENT_RUN) {
		s->running[cpu] = m;
		s->waited_ns[vm_of[m]] += now > s->waits_since_ns[m] ? now - s->waits_since_ns[m] : 0;
		s->waits_since_ns[m] = UINT64_MAX;
		count_run(s, e);
	} else if (e->kind == CO_EVENT_IDLE ||
		   ((e->kind == CO_EVENT_STOP || e->kind == CO_EVENT_SLEEP) && s->running[cpu] == m)) {
		s->running[cpu] = CO_NONE;
	}
}

static void count_time(struct stream *s, const uint32_t *vm_of, uint32_t n_cpus, uint64_t for_ns)
{
	for (uint32_t i = 0; i < n_cpus; i++)
		if (s->running[i] != CO_NONE)
			s->ran_ns[vm_of[s->running[i]]] += for_ns;
}

static uint32_t count_same(const struct stream *a, const struct stream *b, uint32_t n_cpus, bool anywhere)
{
	uint32_t same = 0;

	for (uint32_t i = 0; i < n_cpus; i++) {
		bool found = a->running[i] == b->running[i];

		for (uint32_t j = 0; j < n_cpus && anywhere && !found; j++)
			found = a->running[i] != CO_NONE && a->running[i] == b->running[j];
		same += found;
	}
	return same;
}

static void fill_side(const struct stream *s, uint32_t n_vms, double time_ns, struct replay_side *ret)
{
	double runs = s->runs ? (double)s->runs : 1, per_s = 1e9 / time_ns;

	*ret = (struct replay_side){ .runs_per_s = (double)s->runs * per_s, .asked_per_s = (double)s->asked * per_s,
				     .refused_per_s = (double)s->refused * per_s, .requested = (double)s->requested / runs,
				     .stolen = (double)s->stolen / runs, .in_debt = (double)s->in_debt / runs };
	for (uint32_t i = 0; i < n_vms; i++) {
		ret->ran[i] = (double)s->ran_ns[i] / time_ns;
		ret->waited[i] = (double)s->waited_ns[i] / time_ns;
	}
}

/* Both streams side by side, from event to event, from the first that was recorded to the last. */
static void compare(struct stream *recorded, struct stream *replayed, const struct sim_spec *spec, const uint32_t *vm_of,
		    struct replay *ret)
{
	uint64_t now = time_of(recorded), first = now, end = spec->duration_ns;
	uint32_t n = (uint32_t)spec->cpus;
	double same_cpu = 0, same_set = 0, time_ns;

	while (now < end) {
		uint64_t next = min_u64(min_u64(time_of(recorded), time_of(replayed)), end);

		if (next > now) {
			count_time(recorded, vm_of, n, next - now);
			count_time(replayed, vm_of, n, next - now);
			same_cpu += (double)(next - now) * count_same(recorded, replayed, n, false);
			same_set += (double)(next - now) * count_same(recorded, replayed, n, true);
			now = next;
		}
		if (time_of(recorded) <= next && recorded->at < recorded->n)
			advance(recorded, vm_of);
		else if (time_of(replayed) <= next && replayed->at < replayed->n)
			advance(replayed, vm_of);
	}
	time_ns = end > first ? (double)(end - first) : 1;
	ret->seconds = time_ns / 1e9;
	ret->n_cpus = n;
	ret->same_cpu = same_cpu / time_ns / n;
	ret->same_set = same_set / time_ns / n;
	fill_side(recorded, (uint32_t)spec->n_vms, time_ns, &ret->recorded);
	fill_side(replayed, (uint32_t)spec->n_vms, time_ns, &ret->replayed);
}

struct workspace {
	struct sim_spec spec;
	struct replay_map map;
	struct sim_result result;
	struct stream recorded, replayed;
	uint32_t vm_of[CO_MEMBERS_MAX];
};

static void name_vms(struct workspace *w)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->spec.n_vms; i++)
		for (uint64_t j = 0; j < w->spec.vm[i].vcpus; j++)
			w->vm_of[n++] = i;
	for (uint32_t i = 0; i < CO_CPUS_MAX; i++)
		w->recorded.running[i] = w->replayed.running[i] = CO_NONE;
	memset(w->recorded.waits_since_ns, 0xff, sizeof(w->recorded.waits_since_ns));
	memset(w->replayed.waits_since_ns, 0xff, sizeof(w->replayed.waits_since_ns));
}

int replay_run(const struct trace *t, enum sim_algorithm algorithm, struct replay *ret, const char **ret_why)
{
	struct workspace *w = calloc(1, sizeof(*w));
	struct sim_script *script = calloc(1, sizeof(*script));
	struct sim_recording recording = { .to_ns = UINT64_MAX };
	int r = w && script ? script_from_trace(t, &w->spec, &w->map, script, ret_why) : -ENOMEM;

	if (r == 0)
		r = steps_run(t, &ret->steps, ret_why);
	if (r == 0)
		r = sim_run(&w->spec, algorithm, 0, &recording, &w->result);
	if (r == 0) {
		name_vms(w);
		w->recorded.event = t->event;
		w->recorded.n = t->n_events;
		w->recorded.map = &w->map;
		w->replayed.event = recording.event;
		w->replayed.n = recording.n;
		compare(&w->recorded, &w->replayed, &w->spec, w->vm_of, ret);
	}
	free(recording.event);
	script_free(script);
	free(w);
	return r;
}
