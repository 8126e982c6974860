/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine in virtual time around the policy core of co-scheduling, as small as tests can do with: CPUs that take slices,
 * members that compute, sleep and wake each other, kicks that arrive at once. Everything that must hold at every instant is
 * checked after every event (sim_check()). `fairlead sim cosched` has the large one, with costs and delays.
 */
#pragma once

#include "cosched-due.h"

/* --- the machine --- */

static inline void sim_init(const struct co_params *params, uint64_t seed)
{
	memset(&sim, 0, sizeof(sim));
	memset(sim.list, 0xff, sizeof(sim.list));
	for (uint32_t c = 0; c < CO_CPUS_MAX; c++)
		for (uint32_t s = 0; s < CO_STATES; s++)
			sim.list[c][s].n = 0;
	for (uint32_t c = 0; c < SIM_CPUS_MAX; c++)
		sim.cpu[c].running = CO_NONE;
	for (uint32_t i = 0; i < CO_ACCOUNTS_MAX; i++)
		sim.order[i] = i;
	sim.seed = seed;
	sim.random = seed * 0x9e3779b97f4a7c15ull + 1;
	assert_int_equal(co_params_check(params), 0);
	co_world_init(&sim.w, params);
	sim.settle_at_ns = params->period_ns;
}

/* Another machine of the same seed. */
static inline void sim_restart(const struct co_params *params)
{
	assert_int_equal(co_params_check(params), 0);
	sim.w.params = *params;
	sim.settle_at_ns = params->period_ns;
}

/* Somebody waits on `cpu` now: who has to look? */
static inline void sim_kick_for(uint32_t i, uint32_t cpu, uint32_t state)
{
	uint32_t running = sim.cpu[cpu].running;

	if (state == CO_STATE_PARKED)
		return;
	if (running == CO_NONE && !sim.cpu[cpu].kicked) {
		sim.cpu[cpu].kicked = true;
		return;
	}
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
		if (sim.cpu[c].running == CO_NONE && !sim.cpu[c].kicked && (sim.member[i].affinity >> c & 1)) {
			sim.cpu[c].kicked = true;
			return;
		}
	running = co_displaces(&sim.w, co_member_of(&sim.w, i));
	if (running != CO_NONE && (sim.member[i].affinity >> running & 1))
		sim.cpu[running].kicked = true;
}

static inline void sim_queue(uint32_t i, bool woken)
{
	struct co_member *m = co_member_of(&sim.w, i);
	uint32_t list = co_queue(&sim.w, m, m->home, woken, sim.now_ns);

	sim.member[i].queued_at_ns = sim.now_ns;
	sim_list_add(m->home, list, i);
	sim_kick_for(i, m->home, list);
	if (woken && co_ask_on_wake(&sim.w, m, m->home, sim.now_ns))
		sim.cpu[m->home].kicked = true;
}

static inline void sim_wake(uint32_t i)
{
	struct sim_member *m = &sim.member[i];

	if (!m->used || !m->asleep) {
		m->tokens++;
		return;
	}
	m->asleep = false;
	m->wake_at_ns = SIM_NEVER;
	m->left_ns = m->kind == SIM_HOG ? SIM_NEVER : m->burst_ns;
	sim_queue(i, true);
}

static inline void sim_charge(uint32_t cpu)
{
	uint32_t i = sim.cpu[cpu].running;
	uint64_t ran = sim.now_ns - sim.cpu[cpu].from_ns;

	if (i == CO_NONE)
		return;
	co_charge(&sim.w, co_member_of(&sim.w, i), sim.now_ns);
	sim.cap_ran_ns[co_member_of(&sim.w, i)->vm] += ran;
	if (sim.member[i].left_ns != SIM_NEVER)
		sim.member[i].left_ns -= ran;
	sim.cpu[cpu].from_ns = sim.now_ns;
}

/* Must nobody else have been chosen? */
static inline void sim_check_pick(uint32_t cpu, const struct co_pick *p)
{
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
		for (uint32_t s = 0; s < CO_STATES; s++)
			for (uint32_t i = sim.list[c][s].head; i != CO_NONE; i = sim.member[i].list_next) {
				uint32_t state = co_state(&sim.w, co_member_of(&sim.w, i));

				if (!(sim.member[i].affinity >> cpu & 1) || p->requested)
					continue;
				if (p->member == CO_NONE && state != CO_STATE_PARKED)
					sim_fail("idle beside a member that waits", cpu, i);
				if (state < p->state && p->member != CO_NONE)
					sim_fail("a better one waits elsewhere", cpu, i);
			}
}

/* An idle CPU that was kicked for one member may have taken another: the kick is passed on to the next idle CPU. */
static inline void sim_pass_on(uint32_t cpu)
{
	for (uint32_t k = 0; k < sim.w.params.n_cpus; k++)
		for (uint32_t s = 0; s < CO_STATE_PARKED && sim.cpu[k].running == CO_NONE && !sim.cpu[k].kicked && k != cpu; s++)
			for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
				if (co_list_first(&sim.w, c, s, k) != CO_NONE)
					sim.cpu[k].kicked = true;
}

/* The schedule step. */
static inline void sim_schedule(uint32_t cpu)
{
	struct sim_cpu *c = &sim.cpu[cpu];
	uint32_t prev = c->running, there, was = co_cpu_of(&sim.w, cpu)->state;
	struct co_member *m;
	struct co_account *a;
	struct co_pick p;

	sim_charge(cpu);
	co_pick(&sim.w, cpu, prev, sim.now_ns, &p);
	sim.steps++;
	sim_check_pick(cpu, &p);
	if (prev != CO_NONE && !p.kept) {
		c->running = CO_NONE;
		co_yield(&sim.w, co_member_of(&sim.w, prev), sim.now_ns);
	}
	c->running = p.member;
	m = p.member == CO_NONE ? NULL : co_member_of(&sim.w, p.member);
	if (m && !p.kept) {
		co_run(&sim.w, m, cpu, sim.now_ns);
		if (sim.now_ns - sim.member[p.member].queued_at_ns > sim.member[p.member].longest_wait_ns)
			sim.member[p.member].longest_wait_ns = sim.now_ns - sim.member[p.member].queued_at_ns;
	}
	co_working_set(&sim.w, cpu, m, p.requested);
	there = p.kept ? co_passes_on(&sim.w, cpu, was) : CO_NONE;
	if (there != CO_NONE)
		sim.cpu[there].kicked = true;
	if (prev != CO_NONE && !p.kept)
		sim_queue(prev, false);
	if (prev == CO_NONE && m)
		sim_pass_on(cpu);
	if (!m)
		return;
	c->from_ns = sim.now_ns;
	c->slice_end_ns = sim.now_ns + co_slice_ns(&sim.w, m);
	a = co_account_of(&sim.w, co_vm_of(&sim.w, m->vm)->account);
	if (!co_asks(&sim.w) || !a->is_group)
		return;
	for (uint32_t i = 0; i < a->n_members; i++) {
		there = co_ask(&sim.w, co_vm_of(&sim.w, m->vm)->account, i, cpu, sim.now_ns);
		if (there != CO_NONE)
			sim.cpu[there].kicked = true;
	}
}

static inline void sim_kicks(void)
{
	uint32_t c, rounds = 0;

	for (c = 0; c < sim.w.params.n_cpus; c++)
		if (sim.cpu[c].kicked) {
			sim.cpu[c].kicked = false;
			sim_schedule(c);
			if (++rounds > 4096)
				sim_fail("kicks without end", c, rounds);
			c = ~0u;
		}
}

/* The member that runs on `cpu` has ended its burst. */
static inline void sim_burst_end(uint32_t cpu)
{
	uint32_t i = sim.cpu[cpu].running;
	struct sim_member *m = &sim.member[i];

	sim_charge(cpu);
	if (m->kind == SIM_CHAIN)
		sim_wake(m->next);
	if (m->kind == SIM_CHAIN && m->tokens) {
		m->tokens--;
		m->left_ns = m->burst_ns;
		return;
	}
	co_stop(&sim.w, co_member_of(&sim.w, i), sim.now_ns);
	m->asleep = true;
	m->wake_at_ns = m->kind == SIM_CHAIN ? SIM_NEVER : sim.now_ns + m->sleep_ns;
	sim.cpu[cpu].running = CO_NONE;
	sim.cpu[cpu].kicked = true;
}

static inline void sim_member_add(uint32_t i, uint32_t vm, uint32_t home)
{
	struct sim_member *m = &sim.member[i];

	assert_int_equal(co_member_add(&sim.w, i, 1000 + i, vm, home), 0);
	m->used = m->asleep = true;
	m->wake_at_ns = SIM_NEVER;
}

/* VM `vm` in account `account`, a new one if need be, with one member of the same number, at home on `home`; it sleeps. */
static inline struct co_member *sim_vm_add(uint32_t vm, uint32_t account, uint32_t weight, uint64_t cap_ns, uint32_t home)
{
	if (!sim.w.account[account].used)
		assert_int_equal(co_account_set(&sim.w, account, true, false), 0);
	assert_int_equal(co_vm_set(&sim.w, vm, account, weight, cap_ns), 0);
	sim.member[vm].affinity = ~0ull;
	sim_member_add(vm, vm, home);
	return co_member_of(&sim.w, vm);
}

/* Member `i` waits at home from now on, for all of the CPU that it can get; it did not just wake up. */
static inline void sim_put(uint32_t i)
{
	sim.member[i].asleep = false;
	sim.member[i].left_ns = SIM_NEVER;
	sim_queue(i, false);
}

static inline void sim_member_remove(uint32_t i)
{
	struct co_member *m = co_member_of(&sim.w, i);

	if (m->where == CO_QUEUED)
		sim_list_remove(m->cpu, m->list, i);
	if (m->where == CO_RUNNING) {
		sim_charge(m->cpu);
		sim.cpu[m->cpu].running = CO_NONE;
		sim.cpu[m->cpu].kicked = true;
	}
	co_member_remove(&sim.w, i, sim.now_ns);
	sim.member[i].used = false;
	sim.member[i].wake_at_ns = SIM_NEVER;
}

/* --- what must hold --- */

/* A bucket that leaks the cap each period holds a slice at most. */
static inline void sim_check_cap(uint32_t i)
{
	const struct co_vm *vm = &sim.w.vm[i];

	if (!vm->cap_ns)
		return;
	sim.cap_level_ns[i] += sim.cap_ran_ns[i];
	sim.cap_ran_ns[i] = 0;
	sim.cap_level_ns[i] -= sim.cap_level_ns[i] < vm->cap_ns ? sim.cap_level_ns[i] : vm->cap_ns;
	if (sim.cap_level_ns[i] > sim.w.params.slice_ns)
		sim_fail("a cap was broken by more than a slice", i, sim.cap_level_ns[i]);
}

/* Flags, counters, bits and lists tell the same story; nobody is asked for and not taken. */
static inline void sim_check(void)
{
	sim_check_counted();
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++) {
		struct co_cpu *cc = co_cpu_of(&sim.w, c);
		uint32_t i = sim.cpu[c].running, expect = 0;

		if (i != CO_NONE) {
			uint32_t account = co_vm_of(&sim.w, co_member_of(&sim.w, i)->vm)->account;

			expect = co_account_of(&sim.w, account)->is_group ? account + 1 : 0;
			if (sim.now_ns > sim.cpu[c].slice_end_ns)
				sim_fail("ran longer than its slice", c, i);
		}
		if (cc->working != expect && sim.cpu[c].running != CO_NONE)
			sim_fail("working flag", cc->working, expect);
		if (cc->request)
			sim_fail("a request is left over", c, cc->request);
		for (uint32_t s = 0; s < CO_STATES; s++) {
			if (cc->n_listed[s] != sim.list[c][s].n)
				sim_fail("counter of a list", cc->n_listed[s], sim.list[c][s].n);
			if (cc->n_listed[s] && !co_cpu_isset(sim.w.waits[s], c))
				sim_fail("bit of a list", c, s);
		}
		for (uint32_t s = 0; s < CO_STATES && i == CO_NONE; s++)
			for (uint32_t k = 0; k < sim.w.params.n_cpus; k++)
				for (uint32_t j = sim.list[k][s].head; j != CO_NONE; j = sim.member[j].list_next)
					if ((sim.member[j].affinity >> c & 1) &&
					    co_state(&sim.w, co_member_of(&sim.w, j)) != CO_STATE_PARKED)
						sim_fail("a CPU is idle beside a member that waits", c, j);
	}
}

/* --- time --- */

/* When CPU `c` had its last tick, of 4 ms; not all at once. */
static inline uint64_t sim_tick(uint32_t c)
{
	return sim.now_ns - (sim.now_ns + c * 13 * SIM_MS / 10 + sim.seed % 7 * SIM_MS / 2) % (4 * SIM_MS);
}

static inline void sim_settle(void)
{
	uint32_t best;

	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++) {
		if (!sim.ticks)
			sim_charge(c);
		else if (sim.cpu[c].running != CO_NONE)
			co_charge(&sim.w, co_member_of(&sim.w, sim.cpu[c].running), sim_tick(c));
	}
	for (uint32_t i = 0; i < sim.w.n_members; i++)
		if (sim.w.member[i].vm != CO_NONE && sim.w.member[i].where == CO_QUEUED)
			co_wait(&sim.w, &sim.w.member[i], sim.now_ns, sim.now_ns);
	for (uint32_t i = 0; i < sim.w.n_vms; i++)
		sim_check_cap(i);
	if (!sim.ticks)
		sim_check_due();
	sim_pay();
	co_settle(&sim.w, sim.now_ns);
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
		co_unpark(&sim.w, c);
	sim.changed = false;
	sim_check_counted();
	sim_check_conservation();
	if (sim.next_params.n_cpus)
		co_params_set(&sim.w, &sim.next_params);
	sim.next_params.n_cpus = 0;
	best = co_best_waiting(&sim.w);
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
		if (sim.cpu[c].running == CO_NONE || co_looks_again(&sim.w, c, best))
			sim.cpu[c].kicked = true;
	sim.settle_at_ns += sim.w.params.period_ns;
}

static inline uint64_t sim_next(void)
{
	uint64_t next = sim.settle_at_ns, at;

	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++) {
		uint32_t i = sim.cpu[c].running;

		if (i == CO_NONE)
			continue;
		at = sim.cpu[c].slice_end_ns;
		if (sim.member[i].left_ns < at - sim.cpu[c].from_ns)
			at = sim.cpu[c].from_ns + sim.member[i].left_ns;
		next = at < next ? at : next;
	}
	for (uint32_t i = 0; i < sim.w.n_members; i++)
		if (sim.member[i].used && sim.member[i].asleep && sim.member[i].wake_at_ns < next)
			next = sim.member[i].wake_at_ns;
	return next;
}

/* Everything until `until_ns`; settlements, wake-ups and ends of bursts and slices in this order. */
static inline void sim_run(uint64_t until_ns)
{
	uint64_t next;

	for (;;) {
		sim_kicks();
		next = sim_next();
		sim_fluid((next < until_ns ? next : until_ns) - sim.now_ns);
		if (next > until_ns) {
			sim.now_ns = until_ns;
			return;
		}
		sim.now_ns = next;
		sim.events++;
		if (next == sim.settle_at_ns)
			sim_settle();
		for (uint32_t i = 0; i < sim.w.n_members; i++)
			if (sim.member[i].used && sim.member[i].asleep && sim.member[i].wake_at_ns == next)
				sim_wake(i);
		for (uint32_t c = 0; c < sim.w.params.n_cpus; c++) {
			uint32_t i = sim.cpu[c].running;

			if (i == CO_NONE)
				continue;
			if (sim.member[i].left_ns != SIM_NEVER &&
			    sim.cpu[c].from_ns + sim.member[i].left_ns == next)
				sim_burst_end(c);
			else if (sim.cpu[c].slice_end_ns == next)
				sim.cpu[c].kicked = true;
		}
		sim_kicks();
		sim_check();
	}
}
