/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cosched-sim.h"

static const struct co_params params = {
	.mode = CO_MODE_POOLED, .n_cpus = 4, .ask_on_wake = 1, .period_ns = 10 * SIM_MS, .slice_ns = 30 * SIM_MS,
	.floor_ns = 30 * SIM_MS, .debt_limit_ns = 120 * SIM_MS, .credit_limit_ns = 10 * SIM_S, .boost_ns = 10 * SIM_MS };

int main(int argc, char **argv)
{
	double worst_all = 0;
	unsigned from = argc > 1 ? atoi(argv[1]) : 1, n = argc > 2 ? atoi(argv[2]) : 200, verbose = argc > 3;
	for (unsigned seed = from; seed < from + n; seed++) {
		struct co_params p = params;
		uint32_t member = 0, vms, groups;
		static const uint32_t n_cpus[] = {1,2,3,4,8,16};
		sim_init(&p, seed);
		p.n_cpus = n_cpus[sim_between(0,5)];
		sim_init(&p, seed);
		sim_random();
		vms = sim_between(1, 24);
		groups = sim_between(0, 3);
		for (uint32_t g = 0; g < groups; g++)
			assert_int_equal(co_account_set(&sim.w, 100 + g, true, true), 0);
		int wmax = sim_between(0, 2);
		bool hogs = sim_random() % 3 == 0;
		for (uint32_t v = 0; v < vms; v++) {
			uint32_t account = v, first = member, k, chain;
			if (groups && sim_random() % 2) account = 100 + sim_random() % groups;
			else assert_int_equal(co_account_set(&sim.w, v, true, false), 0);
			assert_int_equal(co_vm_set(&sim.w, v, account, sim_between(1, wmax == 0 ? 1 : wmax == 1 ? 10 : 1000), sim_random() % 8 == 0 ? sim_between(1, 2 * p.n_cpus) * 5 * SIM_MS : 0), 0);
			if (sim.w.vm[v].cap_ns > p.n_cpus * p.period_ns) abort();
			k = sim_random() % 3 ? 1 : sim_between(1, 4);
			chain = sim_random() % 4 == 0;
			for (uint32_t j = 0; j < k; j++, member++) {
				struct sim_member *m = &sim.member[member];
				__u64 all[CO_CPU_WORDS] = { ~0ull };
				m->affinity = ~0ull;
				m->kind = hogs ? SIM_HOG : chain ? SIM_CHAIN : sim_random() % 2;
				m->burst_ns = sim_between(1, 40) * SIM_MS / 2 ;
				m->sleep_ns = sim_between(1, 100) * SIM_MS / 2;
				m->next = j + 1 == k ? first : member + 1;
				if (chain && k == 1) m->kind = SIM_HOG;
				sim_member_add(member, v, co_home(&sim.w, v, all));
			}
			for (uint32_t j = first; j < member; j++) if (sim.member[j].kind != SIM_CHAIN || j == first) sim_wake(j);
		}
		sim_run(60 * SIM_S, false);
		for (uint32_t c = 0; c < p.n_cpus; c++) sim_charge(c);
		double worst = 0; uint32_t wi = 0;
		for (uint32_t a = 0; a < CO_ACCOUNTS_MAX; a++) {
			if (!sim.w.account[a].used) continue;
			double e = sim.entitled[a], r = sim.w.account[a].total_ran_ns;
			double err = (r - e), ok = p.slice_ns + 0.01 * e;
			if (verbose) printf("  account %u: ran %.3f entitled %.3f core %.3f purse %.3f ms n_members %u due %.3f cap %.3f weight %u\n", a, r/1e9, e/1e9, sim.w.account[a].total_entitled_ns/1e9, sim.w.account[a].purse.credit_ns/1e6, sim.w.account[a].n_members, sim.w.account[a].due_ns/1e6, sim.w.vm[a].cap_ns/1e6, sim.w.vm[a].weight);
			if (e && err < 0) err = -err;
			if (err / ok > worst) worst = err / ok, wi = a;
		}
		if (worst > worst_all) worst_all = worst;
		if (worst > 0.7 || verbose) printf("seed %u cpus %u vms %u groups %u members %u hogs %d: worst %.3f account %u forfeited %.3f events %llu\n", seed, p.n_cpus, vms, groups, member, hogs, worst, wi, sim.w.forfeited_ns/1e9, (unsigned long long)sim.events);
	}
	printf("worst %.3f\n", worst_all);
	return 0;
}
