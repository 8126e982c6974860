/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the policy core of co-scheduling, decision by decision: the worked examples of doc/cosched.md in their
 * numbers, the order of the schedule step, requests and their refusal, caps, Xen's floor, homes, and changes that are refused.
 */
#include "cosched-sim.h"

static const struct co_params four_cpus = {
	.mode = CO_MODE_POOLED, .n_cpus = 4, .ask_on_wake = 1, .period_ns = 30 * SIM_MS, .slice_ns = 30 * SIM_MS,
	.floor_ns = 30 * SIM_MS, .debt_limit_ns = 60 * SIM_MS, .credit_limit_ns = SIM_S, .boost_ns = 10 * SIM_MS,
};

static struct co_world *world(enum co_mode mode, uint32_t n_cpus)
{
	struct co_params params = four_cpus;

	params.mode = mode;
	params.n_cpus = n_cpus;
	sim_init(&params, 1);
	return &sim.w;
}

static void claim(uint32_t i, uint64_t weight, uint64_t demand_ms)
{
	sim.w.n_vms = sim.w.n_accounts = 3;
	co_claim_set(co_claim_of(&sim.w, i), weight, demand_ms * SIM_MS);
}

/* The water level: 120 ms; A (weight 2) wants 30, B and C (1) want 60 each. */
static void test_fill(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 4);

	(void)context;
	claim(0, 2, 30);
	claim(1, 1, 60);
	claim(2, 1, 60);
	assert_int_equal(co_fill(w, 120 * SIM_MS), 0);
	assert_int_equal(w->claim[0].due_ns, 30 * SIM_MS);
	assert_int_equal(w->claim[1].due_ns, 45 * SIM_MS);
	assert_int_equal(w->claim[2].due_ns, 45 * SIM_MS);
	/* More than anybody wants: the rest comes back. */
	claim(0, 2, 30);
	claim(1, 1, 60);
	claim(2, 1, 60);
	assert_int_equal(co_fill(w, 200 * SIM_MS), 50 * SIM_MS);
	/* Nothing, and less than nothing, to hand out. */
	claim(0, 1, 30);
	assert_int_equal(co_fill(w, -5), -5);
	assert_int_equal(w->claim[0].due_ns, 0);
	/* Nothing is lost in rounding, and the largest numbers fit. */
	claim(0, 65535ull * 64, 1000000000000ull / SIM_MS);
	claim(1, 1, 1000000000000ull / SIM_MS);
	claim(2, 7, 1000000000000ull / SIM_MS);
	assert_int_equal(co_fill(w, CO_SUPPLY_MAX), 0);
	assert_int_equal(w->claim[0].due_ns + w->claim[1].due_ns + w->claim[2].due_ns, CO_SUPPLY_MAX);
}

/*
 * The example of doc/cosched.md: two CPUs, the group {web, db} and the adders A and B, all of weight 100. Each is at home
 * where it is queued: web and A on CPU 0, db and B on CPU 1.
 */
static void test_example(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_pick p;

	(void)context;
	assert_int_equal(co_account_set(w, 0, true, true), 0);
	sim_vm_add(0, 0, 100, 0, 0); /* web */
	sim_vm_add(1, 0, 100, 0, 1); /* db */
	sim_vm_add(2, 1, 100, 0, 0); /* A */
	sim_vm_add(3, 2, 100, 0, 1); /* B */
	sim.now_ns = 30 * SIM_MS; /* 0 says that there is no wait to count */
	sim_put(2);
	sim_put(3);
	sim_kicks();
	assert_int_equal(sim.cpu[0].running, 2);
	assert_int_equal(sim.cpu[1].running, 3);
	/* Both have run a slice when the period ends, web and db have waited for all of it. */
	sim_put(0);
	sim_put(1);
	sim.now_ns = 60 * SIM_MS;
	sim_settle();
	/* The group (weight 200) had two runnable members all the time, A and B (100 each) one: 30, 15, 15 are due. */
	assert_int_equal(w->account[0].purse.credit_ns, 30 * SIM_MS);
	assert_int_equal(w->account[1].purse.credit_ns, -15 * (__s64)SIM_MS);
	assert_int_equal(w->account[2].purse.credit_ns, -15 * (__s64)SIM_MS);
	assert_int_equal(w->bank_ns, 0);
	/* Slices end. CPU 0 takes web, which is UNDER, asks CPU 1 for db, and that takes it at once. */
	sim.cpu[0].kicked = true;
	sim.cpu[1].kicked = false;
	sim_schedule(0);
	assert_int_equal(sim.cpu[0].running, 0);
	assert_int_equal(w->cpu[0].working, 1);
	assert_int_equal(w->cpu[1].request, 1);
	assert_true(sim.cpu[1].kicked);
	assert_int_equal(w->cpu[0].requests_sent, 1);
	sim_kicks();
	assert_int_equal(sim.cpu[1].running, 1);
	assert_int_equal(w->cpu[1].request, 0);
	assert_int_equal(w->cpu[1].requests_honoured, 1);
	assert_int_equal(w->account[0].running, 2);
	/* A slice later the group has paid 60 and is due 30: it owes nothing, and has run together for 30 ms. */
	sim.now_ns = 90 * SIM_MS;
	sim_settle();
	assert_int_equal(w->account[0].purse.credit_ns, 0);
	assert_int_equal(w->account[1].purse.credit_ns, 0);
	assert_int_equal(w->account[2].purse.credit_ns, 0);
	/* Had it owed its limit, the request would have been refused. */
	w->account[0].purse.credit_ns = -co_debt_limit_ns(w, &w->account[0]);
	assert_false(co_request_allows(w, co_member_of(w, 1)));
	w->account[0].purse.credit_ns++;
	assert_true(co_request_allows(w, co_member_of(w, 1)));
	co_pick(w, 0, 0, sim.now_ns, &p);
	assert_false(p.requested);
}

/* Request first even if OVER; then UNDER before OVER, first come first served; an UNDER is stolen before an own OVER runs. */
static void test_order(void **context)
{
	struct co_world *w = world(CO_MODE_CO_CREDIT, 2);
	struct co_pick p;

	(void)context;
	assert_int_equal(co_account_set(w, 0, true, true), 0);
	sim_vm_add(0, 0, 1, 0, 0)->purse.credit_ns = -1; /* of the group, OVER */
	sim_vm_add(1, 1, 1, 0, 0)->purse.credit_ns = -1;
	sim_vm_add(2, 2, 1, 0, 0);
	sim_vm_add(3, 3, 1, 0, 0);
	sim_vm_add(4, 4, 1, 0, 1);
	for (uint32_t i = 1; i < 5; i++)
		sim_put(i);
	sim_put(0);
	w->cpu[0].request = 1;
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, 0);
	assert_true(p.requested && p.state == CO_STATE_OVER);
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, 2);
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, 3);
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, 4);
	assert_true(p.stolen);
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, 1);
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(p.member, CO_NONE);
	assert_int_equal(w->cpu[0].idles, 1);
	/* A request for a group of which nobody waits here is void. */
	w->cpu[0].request = 1;
	w->member[0].where = CO_RUNNING;
	co_pick(w, 0, CO_NONE, 0, &p);
	assert_int_equal(w->cpu[0].requests_void, 1);
}

/* Xen's: a debt below the floor is forgiven, a credit above it halved; who wakes up UNDER is BOOST until it ran for a tick. */
static void test_xen(void **context)
{
	struct co_world *w = world(CO_MODE_CREDIT_BOOST, 1);
	struct co_member *a = sim_vm_add(0, 0, 1, 0, 0), *b = sim_vm_add(1, 1, 1, 0, 0);

	(void)context;
	a->purse.credit_ns = -100 * (__s64)SIM_MS;
	b->purse.credit_ns = 30 * SIM_MS;
	assert_int_equal(co_queue(w, a, 0, true, 1), CO_STATE_OVER);
	assert_int_equal(co_queue(w, b, 0, true, 1), CO_STATE_BOOST);
	co_run(w, b, 0, 1);
	co_charge(w, b, 1 + 9 * SIM_MS);
	assert_int_equal(co_state(w, b), CO_STATE_BOOST);
	co_charge(w, b, 1 + 10 * SIM_MS);
	assert_int_equal(co_state(w, b), CO_STATE_UNDER);
	co_settle(w, 1 + 10 * SIM_MS);
	/* 15 ms each. */
	assert_int_equal(a->purse.credit_ns, -30 * (__s64)SIM_MS);
	assert_int_equal(w->forgiven_ns, 55 * SIM_MS);
	assert_int_equal(b->purse.credit_ns, (30 - 10 + 15) * SIM_MS / 2);
	assert_int_equal(w->forfeited_ns, (30 - 10 + 15) * SIM_MS / 2);
}

/* A cap parks, whatever the credit and whoever asks; a settlement unparks. */
static void test_cap(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);
	struct co_member *m = sim_vm_add(0, 0, 1, 6 * SIM_MS, 0);

	(void)context;
	assert_int_equal(co_slice_ns(w, m), 6 * SIM_MS);
	co_run(w, m, 0, 0);
	co_charge(w, m, 6 * SIM_MS);
	assert_int_equal(co_state(w, m), CO_STATE_PARKED);
	assert_false(co_request_allows(w, m));
	co_stop(w, m, 6 * SIM_MS);
	co_settle(w, 30 * SIM_MS);
	assert_int_equal(w->vm[0].cap_left_ns, 6 * SIM_MS);
	assert_int_equal(w->account[0].total_entitled_ns, 6 * SIM_MS);
}

/* Members of one account go to distinct CPUs while there are any; then where there are fewest. */
static void test_homes(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 4);
	__u64 all[CO_CPU_WORDS] = { ~0ull }, two[CO_CPU_WORDS] = { 6 }, none[CO_CPU_WORDS] = { 1ull << 60 };
	uint32_t used = 0;

	(void)context;
	sim_vm_add(9, 9, 1, 0, 0);
	assert_int_equal(co_account_set(w, 0, true, true), 0);
	assert_int_equal(co_vm_set(w, 0, 0, 1, 0), 0);
	for (uint32_t i = 0; i < 4; i++) {
		uint32_t home = co_home(w, 0, all);

		sim_member_add(i, 0, home);
		used |= 1u << home;
	}
	assert_int_equal(used, 15);
	assert_int_equal(w->member[0].home, 1); /* 0 has a neighbour already */
	assert_int_equal(co_home(w, 0, two), 1);
	assert_int_equal(co_home(w, 0, none), CO_NONE);
}

static void test_changes(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_params params = w->params;

	(void)context;
	sim_vm_add(0, 0, 1, 0, 0);
	/* Refused, and nothing has changed. */
	assert_int_equal(co_vm_set(w, 0, 7, 1, 0), -EINVAL);
	assert_int_equal(co_vm_set(w, 0, 0, CO_WEIGHT_MAX + 1, 0), -EINVAL);
	assert_int_equal(co_vm_set(w, 0, 0, 1, 2 * 30 * SIM_MS + 1), -EINVAL);
	assert_int_equal(co_vm_set(w, CO_VMS_MAX, 0, 1, 0), -EINVAL);
	assert_int_equal(co_vm_set(w, 0, 0, 0, 0), -EBUSY);
	assert_int_equal(co_account_set(w, 0, false, false), -EBUSY);
	assert_int_equal(co_member_add(w, 0, 5, 0, 0), -EEXIST);
	assert_int_equal(co_member_add(w, 1, 5, 3, 0), -EINVAL);
	assert_int_equal(co_member_add(w, 1, 5, 0, 2), -EINVAL);
	params.mode = CO_MODE_POOLED + 1;
	assert_int_equal(co_params_check(&params), -EINVAL);
	assert_int_equal(w->vm[0].weight, 1);
	/* Joining a group does not shed a debt; freeing an account leaves its purse to the bank. */
	assert_int_equal(co_account_set(w, 1, true, true), 0);
	w->account[0].purse.credit_ns = -7;
	w->bank_ns = 7;
	assert_int_equal(co_vm_set(w, 0, 1, 1, 0), 0);
	assert_int_equal(w->account[0].purse.credit_ns, 0);
	assert_int_equal(w->account[1].purse.credit_ns, -7);
	assert_int_equal(w->account[1].n_members, 1);
	assert_int_equal(w->account[1].member[0], 0);
	co_member_remove(w, 0, 0);
	assert_int_equal(w->account[1].n_members, 0);
	assert_int_equal(co_vm_set(w, 0, 0, 0, 0), 0);
	assert_int_equal(co_account_set(w, 1, false, false), 0);
	co_settle(w, 1);
	assert_int_equal(w->bank_ns, 0);
	/* A slot that is used again before the next settlement inherits nothing, and nothing is lost. */
	assert_int_equal(co_account_set(w, 1, true, true), 0);
	assert_int_equal(co_vm_set(w, 1, 1, 1, 0), 0);
	w->account[1].purse.credit_ns = -9;
	w->account[1].requests_sent = 3;
	w->vm[1].ran_ns = 9;
	assert_int_equal(co_vm_set(w, 1, 0, 0, 0), 0);
	assert_int_equal(co_account_set(w, 1, false, false), 0);
	assert_int_equal(co_account_set(w, 1, true, false), 0);
	assert_int_equal(co_vm_set(w, 1, 1, 1, 0), 0);
	assert_int_equal(w->account[1].purse.credit_ns, 0);
	assert_int_equal(w->account[1].requests_sent, 0);
	assert_int_equal(w->vm[1].ran_ns, 0);
	assert_int_equal(w->bank_ns, 0);
	assert_int_equal(co_vm_set(w, 1, 0, 0, 0), 0);
	assert_int_equal(co_account_set(w, 1, false, false), 0);
	/* With another mode everybody starts anew. */
	w->account[0].purse.credit_ns = 5;
	params.mode = CO_MODE_CREDIT;
	co_params_set(w, &params);
	assert_int_equal(w->account[0].purse.credit_ns, 0);
	assert_int_equal(w->params.mode, CO_MODE_CREDIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fill),  cmocka_unit_test(test_example), cmocka_unit_test(test_order),
		cmocka_unit_test(test_xen),   cmocka_unit_test(test_cap),     cmocka_unit_test(test_homes),
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
