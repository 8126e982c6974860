/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what must hold for every machine, load and change, tried on 10,000 random ones in virtual time and in
 * every mode. At every instant: no CPU is idle beside a member that may run; nobody runs, but on request, beside
 * somebody in a better state; flags, counters, bits and lists agree; requests are taken at once and come to an end; who
 * is runnable is counted among those that something is due to, also after VMs move and slots are used again. At every
 * settlement: the sum of all purses and the bank is what it was; what was due in the period is what ran in it; no cap
 * is broken by more than a slice; debts and credits stay within their bounds. In the end: nobody has waited for longer
 * than the weights explain. Prints its seed; FAIRLEAD_SEED and FAIRLEAD_RUNS choose others.
 */
#include "cosched-sim.h"

#define VMS 12u
#define GROUPS 3u

static struct {
	uint32_t vms, groups, cap_vm;
	uint64_t longest_wait_ns, worst_debt_ns, requests, steals, refused, late;
} seen;

static struct co_params params_random(void)
{
	uint64_t slice = sim_between(1, 6) * 5 * SIM_MS, period = sim_between(1, 3) * 10 * SIM_MS;

	return (struct co_params){ .mode = (uint32_t)sim_between(CO_MODE_CREDIT, CO_MODE_POOLED),
				   .n_cpus = (uint32_t)(sim_random() % 4 ? sim_between(1, 6) : sim_between(1, SIM_CPUS_MAX)),
				   .ask_on_wake = (uint32_t)sim_between(0, 1), .period_ns = period, .slice_ns = slice,
				   .floor_ns = period, .debt_limit_ns = sim_between(1, 8) * slice,
				   .credit_limit_ns = 10 * SIM_S, .boost_ns = 10 * SIM_MS };
}

static uint64_t cap_random(void)
{
	return sim_random() % 6 ? 0 : sim.w.params.period_ns * sim_between(1, 4 * sim.w.params.n_cpus) / 4;
}

static void member_random(uint32_t i, uint32_t vm)
{
	struct sim_member *m = &sim.member[i];
	__u64 all[CO_CPU_WORDS] = { ~0ull };

	*m = (struct sim_member){ .affinity = ~0ull, .wake_at_ns = SIM_NEVER, .next = i };
	m->kind = (enum sim_kind)sim_between(SIM_HOG, SIM_SLEEPER);
	m->burst_ns = sim_between(1, 300) * 100000;
	m->sleep_ns = sim_between(1, 600) * 100000;
	if (sim_random() % 8 == 0 && sim.w.params.n_cpus > 1)
		m->affinity = 3ull << sim_between(0, sim.w.params.n_cpus - 2);
	all[0] = m->affinity;
	sim_member_add(i, vm, co_home(&sim.w, vm, all));
	sim_wake(i);
}

/* Members of one VM pass a token round, or two. */
static void chain_random(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		sim.member[i].kind = SIM_CHAIN;
		sim.member[i].next = i + 1 < to ? i + 1 : from;
		if (sim.member[i].left_ns == SIM_NEVER)
			sim.member[i].left_ns = sim.member[i].burst_ns;
	}
}

static uint32_t member_free(void)
{
	for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++)
		if (!sim.member[i].used)
			return i;
	return CO_NONE;
}

static uint32_t account_random(uint32_t vm)
{
	return seen.groups && sim_random() % 2 ? (uint32_t)sim_between(0, seen.groups - 1) : GROUPS + vm;
}

/* Accounts: groups first, then one for each VM. */
static void world_random(void)
{
	seen.vms = (uint32_t)sim_between(1, VMS);
	seen.groups = (uint32_t)sim_between(0, GROUPS);
	for (uint32_t g = 0; g < seen.groups; g++)
		assert_int_equal(co_account_set(&sim.w, g, true, true), 0);
	for (uint32_t v = 0; v < seen.vms; v++) {
		uint32_t n = sim_random() % 3 ? 1 : (uint32_t)sim_between(1, 4), first = member_free();
		/* One after the other: compilers differ in the order of arguments, and every build is to try the same machines. */
		uint32_t account = account_random(v), weight = (uint32_t)sim_between(1, 16);
		uint64_t cap = cap_random();

		assert_int_equal(co_account_set(&sim.w, GROUPS + v, true, false), 0);
		assert_int_equal(co_vm_set(&sim.w, v, account, weight, cap), 0);
		for (uint32_t k = 0; k < n; k++)
			member_random(first + k, v);
		if (n > 1 && sim_random() % 2)
			chain_random(first, first + n);
	}
}

/* A VM leaves with its account and its members, and another one has all of their slots at once, but one member only. */
static void vm_replace(uint32_t vm)
{
	uint32_t last = CO_NONE, account = account_random(vm), weight = (uint32_t)sim_between(1, 16);
	uint64_t cap = cap_random();

	for (uint32_t i = 0; i < sim.w.n_members; i++)
		if (sim.member[i].used && sim.w.member[i].vm == vm) {
			sim_member_remove(i);
			last = i;
		}
	assert_int_equal(co_vm_set(&sim.w, vm, 0, 0, 0), 0);
	assert_int_equal(co_account_set(&sim.w, GROUPS + vm, false, false), 0);
	assert_int_equal(co_account_set(&sim.w, GROUPS + vm, true, false), 0);
	assert_int_equal(co_vm_set(&sim.w, vm, account, weight, cap), 0);
	sim.cap_level_ns[vm] = sim.cap_ran_ns[vm] = 0;
	if (last != CO_NONE)
		member_random(last, vm);
}

/* Something changes while it runs. */
static void change_random(void)
{
	uint32_t vm = (uint32_t)sim_between(0, seen.vms - 1), i;
	struct co_params params = sim.w.params;

	sim.changed = true;
	switch (sim_between(0, 6)) {
	case 0:
		i = member_free();
		if (i != CO_NONE)
			member_random(i, vm);
		/* A turn that is under way keeps the length that it had with fewer members. */
		sim.cap_level_ns[vm] = sim.cap_ran_ns[vm] = 0;
		break;
	case 1:
		i = (uint32_t)sim_between(0, sim.w.n_members - 1);
		if (sim.member[i].used && sim.member[i].kind != SIM_CHAIN)
			sim_member_remove(i);
		break;
	case 2:
		assert_int_equal(co_vm_set(&sim.w, vm, sim.w.vm[vm].account, (uint32_t)sim_between(1, 16), sim.w.vm[vm].cap_ns), 0);
		break;
	case 3:
		assert_int_equal(co_vm_set(&sim.w, vm, account_random(vm), sim.w.vm[vm].weight, sim.w.vm[vm].cap_ns), 0);
		for (uint32_t c = 0; c < sim.w.params.n_cpus; c++)
			sim.cpu[c].kicked = true; /* flags tell of the new group from the next step on */
		break;
	case 4:
		vm_replace(vm);
		break;
	case 5:
		params.mode = (uint32_t)sim_between(CO_MODE_CREDIT, CO_MODE_POOLED);
		sim.next_params = params;
		break;
	default:
		break;
	}
}

/* Purses, after a settlement or between two. */
static void check_purses(void)
{
	const struct co_params *p = &sim.w.params;
	uint64_t debt;

	for (uint32_t i = 0; i < sim.w.n_members; i++) {
		const struct co_member *m = &sim.w.member[i];
		__s64 most = (__s64)(p->floor_ns + p->period_ns * p->n_cpus);

		if (m->vm == CO_NONE || p->mode == CO_MODE_POOLED)
			continue;
		if (m->purse.credit_ns > most || m->purse.credit_ns < -most - (__s64)p->slice_ns)
			sim_fail("a member's purse", i, (uint64_t)m->purse.credit_ns);
	}
	for (uint32_t i = 0; i < sim.w.n_accounts && p->mode == CO_MODE_POOLED; i++) {
		debt = sim.w.account[i].purse.credit_ns < 0 ? (uint64_t)-sim.w.account[i].purse.credit_ns : 0;
		seen.worst_debt_ns = debt > seen.worst_debt_ns ? debt : seen.worst_debt_ns;
	}
}

static void check_end(void)
{
	for (uint32_t i = 0; i < sim.w.n_members; i++) {
		uint64_t wait = sim.member[i].longest_wait_ns;

		if (sim.w.member[i].vm != CO_NONE && sim.w.member[i].where == CO_QUEUED &&
		    sim.now_ns - sim.member[i].queued_at_ns > wait)
			wait = sim.now_ns - sim.member[i].queued_at_ns;
		if (!sim.w.vm[sim.w.member[i].vm & (CO_VMS_MAX - 1)].cap_ns)
			seen.longest_wait_ns = wait > seen.longest_wait_ns ? wait : seen.longest_wait_ns;
	}
	for (uint32_t c = 0; c < sim.w.params.n_cpus; c++) {
		seen.requests += sim.w.cpu[c].requests_honoured;
		seen.refused += sim.w.cpu[c].requests_refused;
		seen.steals += sim.w.cpu[c].steals;
	}
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_one(uint64_t seed)
{
	struct co_params params = { .mode = CO_MODE_POOLED, .n_cpus = 1, .period_ns = SIM_MS, .slice_ns = SIM_MS,
				    .credit_limit_ns = SIM_S };
	bool changes;

	sim_init(&params, seed);
	params = params_random();
	sim_restart(&params);
	changes = sim_random() % 2;
	world_random();
	for (uint32_t k = 0; k < 6; k++) {
		sim_run(sim.now_ns + sim_between(1, 60) * SIM_MS);
		check_purses();
		if (changes)
			change_random();
	}
	check_end();
}

static void test_random(void **context)
{
	uint64_t seed = number("FAIRLEAD_SEED", 1), runs = number("FAIRLEAD_RUNS", 10000 / SIM_FEWER);

	(void)context;
	print_message("seeds %llu to %llu\n", (unsigned long long)seed, (unsigned long long)(seed + runs - 1));
	for (uint64_t i = 0; i < runs; i++)
		run_one(seed + i);
	print_message("longest wait %.1f ms, worst pooled debt %.1f ms, %llu requests honoured, %llu refused, %llu steals\n",
		      (double)seen.longest_wait_ns / 1e6, (double)seen.worst_debt_ns / 1e6, (unsigned long long)seen.requests,
		      (unsigned long long)seen.refused, (unsigned long long)seen.steals);
	assert_true(runs < 10000 || (seen.requests && seen.refused && seen.steals));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
