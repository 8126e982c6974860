/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What members do with the CPU: serve requests, poll, compute, sleep, contend for a lock. Called by machine.c whenever a
 * member has come to the end of its work, while it runs.
 */
#include "sim/machine.h"
#include "sim/script.h"

#include <errno.h>

#define HOG_NS UINT64_C(1000000000)

static const struct sim_vm_spec *spec_of(const struct sim *s, uint32_t m)
{
	return &s->spec->vm[s->member[m].vm];
}

static uint64_t at_least_1(double ns)
{
	return ns < 1 ? 1 : (uint64_t)ns;
}

/* uniform: half to one and a half of it. */
static uint64_t vary(struct sim *s, uint64_t ns, enum sim_spread spread)
{
	double u = spread == SIM_SPREAD_FIXED ? 0 : random_unit(&s->random);

	if (spread == SIM_SPREAD_FIXED)
		return ns;
	return at_least_1(spread == SIM_SPREAD_UNIFORM ? (0.5 + u) * (double)ns : -log(1 - u) * (double)ns);
}

/* --- requests --- */

static const struct sim_stage_spec *stage_of(const struct sim *s, uint32_t request)
{
	const struct sim_request *r = &s->request[request];

	return &s->spec->chain[r->chain].stage[r->stage];
}

/* Somebody of the VM is to look into the queue: one that sleeps, or one that polls. */
static void wake_server(struct sim *s, const struct sim_vm *vm)
{
	for (uint32_t i = 0; i < vm->n; i++)
		if (co_member_of(s->world, vm->first + i)->where == CO_ASLEEP) {
			machine_wake(s, vm->first + i);
			return;
		}
	for (uint32_t i = 0; i < vm->n; i++)
		if (s->member[vm->first + i].left_ns == SIM_SPIN &&
		    co_member_of(s->world, vm->first + i)->where == CO_RUNNING) {
			machine_nudge(s, vm->first + i);
			return;
		}
}

void workload_arrive(struct sim *s, uint32_t request)
{
	struct sim_vm *vm = &s->vm[stage_of(s, request)->index];

	vm->queue[(vm->head + vm->n_queued++) % s->n_requests] = request;
	wake_server(s, vm);
}

static void send(struct sim *s, uint32_t request, uint64_t after_ns)
{
	after_ns += stage_of(s, request)->delay_ns;
	if (after_ns)
		machine_at(s, s->now_ns + after_ns, SIM_EVENT_ARRIVE, request, 0);
	else
		workload_arrive(s, request);
}

/* A stage is done: on to the next one, or answered, and its client begins anew. */
static void pass_on(struct sim *s, uint32_t request)
{
	struct sim_request *r = &s->request[request];
	const struct sim_chain_spec *chain = &s->spec->chain[r->chain];
	uint64_t think = 0;

	if (++r->stage == chain->n_stages) {
		measure_response(s, r->chain, s->now_ns - r->start_ns);
		think = chain->think_ns ? vary(s, chain->think_ns, SIM_SPREAD_EXPONENTIAL) : 0;
		r->stage = 0;
		r->start_ns = s->now_ns + think;
	}
	send(s, request, think);
}

/* An event loop: takes what is there, up to a batch, works on all of it, then hands all of it on. */
static uint64_t serve(struct sim *s, uint32_t m)
{
	struct sim_member *member = &s->member[m];
	struct sim_vm *vm = &s->vm[member->vm];
	uint64_t cost = 0;

	for (uint32_t i = 0; i < member->n_batch; i++)
		pass_on(s, member->batch[i]);
	member->n_batch = 0;
	while (vm->n_queued && member->n_batch < spec_of(s, m)->batch) {
		uint32_t request = vm->queue[vm->head];

		vm->head = (vm->head + 1) % s->n_requests;
		vm->n_queued--;
		member->batch[member->n_batch++] = request;
		cost += vary(s, stage_of(s, request)->cost_ns, s->spec->chain[s->request[request].chain].spread);
	}
	if (cost)
		return cost;
	return spec_of(s, m)->runs == SIM_RUNS_POLL ? SIM_SPIN : 0;
}

/* --- a lock --- */

enum { LOCKER_FREE, LOCKER_WANTS, LOCKER_HOLDS };

/* A test-and-set lock: whoever spins on a CPU at that moment gets it; the longest spinner is not known to it. */
static void unlock(struct sim *s, struct sim_vm *vm)
{
	vm->lock_owner = CO_NONE;
	vm->loops++;
	for (uint32_t i = 0; i < vm->n; i++)
		machine_nudge(s, vm->first + i);
}

static uint64_t contend(struct sim *s, uint32_t m)
{
	struct sim_member *member = &s->member[m];
	struct sim_vm *vm = &s->vm[member->vm];

	if (member->phase == LOCKER_HOLDS) {
		member->phase = LOCKER_FREE;
		unlock(s, vm);
		return vary(s, spec_of(s, m)->work_ns, SIM_SPREAD_UNIFORM);
	}
	member->phase = LOCKER_WANTS;
	if (vm->lock_owner != CO_NONE)
		return SIM_SPIN;
	vm->lock_owner = m;
	member->phase = LOCKER_HOLDS;
	return vary(s, spec_of(s, m)->hold_ns, SIM_SPREAD_UNIFORM);
}

/* --- sleep --- */

static uint64_t sleep_and_run(struct sim *s, uint32_t m)
{
	struct sim_member *member = &s->member[m];

	member->phase ^= 1;
	if (member->phase)
		return vary(s, spec_of(s, m)->on_ns, SIM_SPREAD_UNIFORM);
	s->vm[member->vm].loops++;
	machine_at(s, s->now_ns + vary(s, spec_of(s, m)->off_ns, SIM_SPREAD_UNIFORM), SIM_EVENT_WAKE, m, 0);
	return 0;
}

/* phase: episodes that have begun. */
static uint64_t follow_script(struct sim *s, uint32_t m)
{
	struct sim_member *member = &s->member[m];
	const struct sim_episode *episode = s->spec->script->member[m].episode;

	if (member->phase == s->spec->script->member[m].n)
		return 0;
	if (episode[member->phase].wake_ns <= s->now_ns)
		return episode[member->phase++].demand_ns;
	machine_at(s, episode[member->phase].wake_ns, SIM_EVENT_WAKE, m, 0);
	return 0;
}

uint64_t workload_next(struct sim *s, uint32_t m)
{
	switch ((enum sim_runs)spec_of(s, m)->runs) {
	case SIM_RUNS_SERVE:
	case SIM_RUNS_POLL:
		return serve(s, m);
	case SIM_RUNS_HOG:
		return HOG_NS;
	case SIM_RUNS_SLEEPER:
		return sleep_and_run(s, m);
	case SIM_RUNS_LOCKER:
		return contend(s, m);
	case SIM_RUNS_SCRIPT:
		return follow_script(s, m);
	case SIM_RUNS_IDLE:
		break;
	}
	return 0;
}

/* --- the beginning and the end --- */

static int prepare_servers(struct sim *s)
{
	for (uint32_t i = 0; i < s->spec->n_vms; i++) {
		s->vm[i].lock_owner = CO_NONE;
		s->vm[i].queue = calloc(s->n_requests + 1, sizeof(uint32_t));
		if (!s->vm[i].queue)
			return -ENOMEM;
	}
	for (uint32_t m = 0; m < s->n_members; m++) {
		s->member[m].batch = calloc(spec_of(s, m)->batch, sizeof(uint32_t));
		if (!s->member[m].batch)
			return -ENOMEM;
	}
	return 0;
}

/* Nothing begins at the same moment: within a slice. */
static uint64_t soon(struct sim *s)
{
	return (uint64_t)(random_unit(&s->random) * (double)s->spec->slice_ns);
}

int workload_start(struct sim *s)
{
	uint32_t n = 0;
	int r;

	for (size_t i = 0; i < s->spec->n_chains; i++)
		s->n_requests += (uint32_t)s->spec->chain[i].clients;
	s->request = calloc(s->n_requests + 1, sizeof(*s->request));
	r = s->request ? prepare_servers(s) : -ENOMEM;
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->spec->n_chains; i++)
		for (uint64_t j = 0; j < s->spec->chain[i].clients; j++, n++) {
			s->request[n] = (struct sim_request){ .chain = i, .start_ns = soon(s) };
			machine_at(s, s->request[n].start_ns, SIM_EVENT_ARRIVE, n, 0);
		}
	for (uint32_t m = 0; m < s->n_members && s->spec->script; m++)
		if (s->spec->script->member[m].n)
			machine_at(s, s->spec->script->member[m].episode[0].wake_ns, SIM_EVENT_WAKE, m, 0);
	for (uint32_t m = 0; m < s->n_members && !s->spec->script; m++)
		if (spec_of(s, m)->runs != SIM_RUNS_IDLE && spec_of(s, m)->runs != SIM_RUNS_SERVE)
			machine_at(s, soon(s), SIM_EVENT_WAKE, m, 0);
	return 0;
}

void workload_stop(struct sim *s)
{
	for (uint32_t i = 0; i < s->spec->n_vms; i++)
		free(s->vm[i].queue);
	for (uint32_t m = 0; m < s->n_members; m++)
		free(s->member[m].batch);
	free(s->request);
}
