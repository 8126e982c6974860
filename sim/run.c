/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets up the world for a run, lets it run, and takes it down. Called once for each algorithm and seed.
 */
#include "sim/machine.h"
#include "sim/script.h"

#include "cosched/change.h"

#include <errno.h>
#include <string.h>

unsigned sim_account_of(const struct sim_spec *spec, unsigned vm)
{
	unsigned account = (unsigned)spec->n_groups;

	if (spec->vm[vm].group != CO_NONE)
		return spec->vm[vm].group;
	for (unsigned i = 0; i < vm; i++)
		account += spec->vm[i].group == CO_NONE;
	return account;
}

unsigned sim_accounts(const struct sim_spec *spec)
{
	unsigned n = (unsigned)spec->n_groups;

	for (unsigned i = 0; i < spec->n_vms; i++)
		n += spec->vm[i].group == CO_NONE;
	return n;
}

const char *sim_account_name(const struct sim_spec *spec, unsigned account)
{
	if (account < spec->n_groups)
		return spec->group[account].name.text;
	for (unsigned i = 0; i < spec->n_vms; i++)
		if (sim_account_of(spec, i) == account)
			return spec->vm[i].name.text;
	return "";
}

static __u32 mode_of(enum sim_algorithm algorithm)
{
	switch (algorithm) {
	case SIM_POOLED_MUTE:
		return CO_MODE_POOLED;
	case SIM_FAIR: /* counts only */
		return CO_MODE_CREDIT;
	default:
		return (__u32)algorithm;
	}
}

static int create_world(struct sim *s)
{
	const struct sim_spec *spec = s->spec;
	const struct co_params params = {
		.mode = mode_of(s->algorithm),
		.n_cpus = (__u32)spec->cpus,
		.period_ns = spec->period_ns,
		.slice_ns = spec->slice_ns,
		.floor_ns = spec->floor_ns,
		.debt_limit_ns = spec->debt_limit_ns,
		/* Less is of no effect, and the core refuses it. */
		.credit_limit_ns = max_u64(spec->credit_limit_ns, spec->slice_ns),
		.boost_ns = spec->boost_ns,
		.ask_on_wake = (__u32)spec->ask_on_wake,
	};

	s->world = core_world_create(&params);
	return s->world ? 0 : -ENOMEM;
}

/* VMs in the spec's order; their slots in the core are their indices. */
static int add_vms(struct sim *s)
{
	const struct sim_spec *spec = s->spec;
	int r = 0;

	for (unsigned i = 0; i < spec->n_vms && r == 0; i++) {
		unsigned account = sim_account_of(spec, i);
		/* The baseline knows no caps. */
		uint64_t cap_ns = s->algorithm == SIM_FAIR ? 0 : spec->vm[i].cap_percent * spec->period_ns / 100;

		r = co_account_set(s->world, account, true, spec->vm[i].group != CO_NONE);
		if (r == 0)
			r = co_vm_set(s->world, i, account, (__u32)spec->vm[i].weight, cap_ns);
		s->vm[i].first = s->n_members;
		s->vm[i].n = (uint32_t)spec->vm[i].vcpus;
		for (uint32_t j = 0; j < s->vm[i].n; j++)
			s->member[s->n_members++] = (struct sim_member){ .vm = i, .index = j };
	}
	return r;
}

/* Members come, and get homes, in an order that begins elsewhere for each seed: neighbours by chance must not decide. */
static int add_members(struct sim *s, uint64_t seed)
{
	__u64 all[CO_CPU_WORDS];
	int r = 0;

	memset(all, 0xff, sizeof(all));
	for (uint32_t n = 0; n < s->n_members && r == 0; n++) {
		uint32_t m = (uint32_t)((n + seed) % s->n_members), home;

		home = s->spec->script ? s->spec->script->member[m].home : co_home(s->world, s->member[m].vm, all);
		r = co_member_add(s->world, m, m + 1, s->member[m].vm, home);
	}
	return r;
}

static int allocate(struct sim *s)
{
	s->cpu = calloc(s->spec->cpus, sizeof(*s->cpu));
	s->member = calloc(CO_MEMBERS_MAX, sizeof(*s->member));
	if (!s->cpu || !s->member)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->spec->cpus; i++) {
		s->cpu[i].running = CO_NONE;
		s->cpu[i].queue = calloc(CO_MEMBERS_MAX, sizeof(uint32_t));
		if (!s->cpu[i].queue)
			return -ENOMEM;
	}
	return 0;
}

static void release(struct sim *s)
{
	if (s->member && s->request)
		workload_stop(s);
	measure_stop(s);
	for (uint32_t i = 0; s->cpu && i < s->spec->cpus; i++)
		free(s->cpu[i].queue);
	free(s->heap.event);
	free(s->member);
	free(s->cpu);
	core_world_destroy(s->world);
}

static int prepare(struct sim *s, uint64_t seed)
{
	int r = allocate(s);

	if (r < 0)
		return r;
	r = create_world(s);
	if (r == 0)
		r = add_vms(s);
	if (r == 0)
		r = add_members(s, seed);
	if (r == 0)
		r = measure_start(s);
	if (r == 0)
		r = workload_start(s);
	machine_at(s, s->spec->period_ns, SIM_EVENT_SETTLE, 0, 0);
	return r;
}

static void note_homes(const struct sim *s)
{
	s->recording->params = s->world->params;
	for (uint32_t m = 0; m < s->n_members; m++)
		s->recording->home[m] = s->world->member[m].home;
}

int sim_run(const struct sim_spec *spec, enum sim_algorithm algorithm, uint64_t seed, struct sim_recording *recording,
	    struct sim_result *ret)
{
	struct sim s = {
		.spec = spec,
		.algorithm = algorithm,
		.sched = algorithm == SIM_FAIR ? &sim_sched_fair : &sim_sched_core,
		.random = { seed * UINT64_C(0x2545f4914f6cdd1d) + 1 },
		.recording = recording,
	};
	int r = prepare(&s, seed);

	if (r == 0 && recording)
		note_homes(&s);
	if (r == 0) {
		machine_run(&s, spec->warmup_ns + spec->duration_ns);
		*ret = (struct sim_result){ .seed = seed };
		measure_result(&s, ret);
	}
	if (r == 0 && s.no_memory)
		r = -ENOMEM;
	release(&s);
	return r;
}
