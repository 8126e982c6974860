/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: each rule of the policy core by itself, at the number at which it begins: limits, states, turns, who is asked for,
 * who displaces whom, whom a CPU takes; test-cosched-settle has settlements. What the rules are good for together is for
 * test-cosched-shares and test-cosched-property to say; they would not notice a bound that is a little off.
 */
#include "cosched-rules.h"

/* A purse of an account that is due DUE, in each state. */
static const __s64 credit_of[] = { [CO_STATE_FIRST] = 2 * LAG + 1, [CO_STATE_BOOST] = LAG + 1, [CO_STATE_UNDER] = 0,
				   [CO_STATE_OVER] = -1, [CO_STATE_DEEP] = -DEBT, [CO_STATE_LAST] = -MUCH };

/* --- limits, states and turns --- */

static void test_limits(void **context)
{
	static const struct {
		__u64 period, due, us;
		__s64 debt, last, lag, first;
	} rows[] = {
		{ 30 * MS, 1 * MS, 0, SLICE / 2, 3 * SLICE / 4, SLICE / 2, SLICE }, /* somebody small: by half a slice each */
		{ 30 * MS, 2 * MS, 0, 16 * MS, 24 * MS, SLICE / 2, SLICE },
		{ 30 * MS, 6 * MS, 0, 48 * MS, 72 * MS, SLICE / 2, SLICE },  /* debt: eight periods'; last: half as much again */
		{ 30 * MS, 10 * MS, 0, 60 * MS, 90 * MS, 20 * MS, 40 * MS }, /* debt_limit; lag: two periods'; first: twice as much */
		{ 30 * MS, 90 * MS, 0, 90 * MS, 135 * MS, 180 * MS, 360 * MS }, /* debt: a period's */
		{ 30 * MS, 10 * MS, 100000, 60 * MS, 90 * MS, 20 * MS, 40 * MS },
		{ 30 * MS, 10 * MS, 600000, 60 * MS, 200 * MS, 20 * MS, 200 * MS }, /* or what it is due in 600 ms */
		{ 10 * MS, 1 * MS, 600000, SLICE / 2, 60 * MS, SLICE / 2, 60 * MS },
	};
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_account *a = &w->account[0];

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		w->params.period_ns = rows[i].period;
		a->due_ns = rows[i].due;
		assert_int_equal(co_debt_limit_ns(w, a), rows[i].debt);
		assert_int_equal(co_last_limit_ns(w, a, rows[i].us), rows[i].last);
		assert_int_equal(co_lag_limit_ns(w, a), rows[i].lag);
		assert_int_equal(co_first_limit_ns(w, a, rows[i].us), rows[i].first);
	}
}

static void test_states(void **context)
{
	static const struct {
		__s64 credit, part;
		enum co_state state;
	} rows[] = {
		/* By the purse. */
		{ 2 * LAG + 1, 0, CO_STATE_FIRST }, { 2 * LAG, 0, CO_STATE_BOOST }, { LAG + 1, 0, CO_STATE_BOOST },
		{ LAG, 0, CO_STATE_UNDER }, { 0, 0, CO_STATE_UNDER }, { -1, 0, CO_STATE_OVER },
		{ -DEBT + 1, 0, CO_STATE_OVER }, { -DEBT, 0, CO_STATE_DEEP }, { -MUCH + 1, 0, CO_STATE_DEEP },
		{ -MUCH, 0, CO_STATE_LAST },
		/* It lacks more of its part than anybody may. */
		{ LAG + 1, LAG + 1, CO_STATE_BOOST }, { 0, LAG + 1, CO_STATE_PART }, { -1, LAG + 1, CO_STATE_PART },
		{ -MUCH, LAG + 1, CO_STATE_PART },
		/* It lacks some: no debt of the group's counts. */
		{ 0, LAG, CO_STATE_UNDER }, { -1, 1, CO_STATE_UNDER }, { -MUCH, 1, CO_STATE_UNDER },
		/* It had more: while the group is in debt it waits. */
		{ 0, -LAG - 1, CO_STATE_UNDER }, { -1, -LAG, CO_STATE_OVER }, { -1, -LAG - 1, CO_STATE_DEEP },
		{ -DEBT, -LAG - 1, CO_STATE_DEEP }, { -MUCH, -LAG - 1, CO_STATE_LAST },
	};
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 0), *alone = sim_vm_add(2, 1, 100, 5 * SIM_MS, 0);

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		w->account[0].purse.credit_ns = rows[i].credit;
		w->vm[0].part_ns = rows[i].part;
		if (co_state(w, m) != rows[i].state)
			fail_msg("row %zu: state %u", i, co_state(w, m));
	}
	/* Parts are of groups; and a cap that is used up is nobody's to lend. */
	w->account[1].due_ns = DUE;
	w->account[1].purse.credit_ns = -1;
	w->vm[2].part_ns = LAG + 1;
	assert_int_equal(co_state(w, alone), CO_STATE_OVER);
	w->account[1].purse.credit_ns = LAG + 1;
	w->vm[2].cap_left_ns = 0;
	assert_int_equal(co_state(w, alone), CO_STATE_PARKED);
}

/* Two turns of every member have gone by, and none was its. */
static void test_overlooked(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 0);
	struct co_pick p;
	__u32 generation;

	(void)context;
	sim_member_add(2, 0, 1); /* VM 0 has two, VM 1 one */
	w->account[0].purse.credit_ns = -MUCH;
	w->account[0].total_entitled_ns = 1; /* of the group is not what it waits for */
	m->queued_due_ns = 7;
	w->vm[0].total_due_ns = 7 + 2 * 2 * SLICE;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	w->vm[0].total_due_ns++;
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
	w->account[0].purse.credit_ns = LAG + 1;
	assert_int_equal(co_state(w, m), CO_STATE_BOOST);
	w->account[0].purse.credit_ns = -MUCH;
	m->queued_due_ns = CO_RAN;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	/* Without a group there are no parts. */
	w->account[0].is_group = false;
	m->queued_due_ns = 7;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	w->account[0].total_entitled_ns = 7 + 2 * 2 * SLICE + 1;
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
	/* Nobody else of the account could have been preferred. */
	sim_member_remove(1);
	sim_member_remove(2);
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	/* With another member there is somebody again, so lists are to be looked through. */
	generation = w->generation;
	sim_member_add(1, 1, 1);
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
	assert_int_not_equal(w->generation, generation);
	/* It is UNDER while it runs, until the next step. */
	co_run(w, m, 0, 1);
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
	co_pick(w, 0, 0, 2, &p);
	assert_true(p.kept);
	assert_int_equal(p.state, CO_STATE_LAST);
}

static void test_turns(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 0), *alone = sim_vm_add(2, 1, 100, 60 * SIM_MS, 0);

	(void)context;
	/* What the group may spend, by two members; or what its VM lacks. */
	assert_int_equal(co_slice_ns(w, m), SLICE);
	w->account[0].purse.credit_ns = -DEBT + 20 * MS;
	assert_int_equal(co_slice_ns(w, m), 10 * MS);
	w->vm[0].part_ns = 40 * MS;
	assert_int_equal(co_slice_ns(w, m), 20 * MS);
	w->vm[0].part_ns = 0;
	w->account[0].purse.credit_ns = -DEBT + 1;
	assert_int_equal(co_slice_ns(w, m), SLICE / 32);
	w->account[0].purse.credit_ns = -DEBT; /* runs because nobody else wants to */
	assert_int_equal(co_slice_ns(w, m), SLICE);
	w->account[0].purse.credit_ns = -MUCH;
	assert_int_equal(co_slice_ns(w, m), SLICE);
	/* A cap: what is left of it, half a slice at most, among all members. */
	assert_int_equal(co_slice_ns(w, alone), SLICE / 2);
	w->vm[2].cap_left_ns = 6 * MS;
	assert_int_equal(co_slice_ns(w, alone), 6 * MS);
	sim_member_add(3, 2, 1);
	assert_int_equal(co_slice_ns(w, alone), 3 * MS);
	w->vm[2].cap_left_ns = 60 * MS;
	assert_int_equal(co_slice_ns(w, alone), SLICE / 4);
}

/* --- who displaces whom --- */

static void test_who_may_displace(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 0);
	uint64_t now = 100 * SIM_MS;

	(void)context;
	m->started_at_ns = now - SLICE / 8 + 1;
	co_queue(w, m, 0, false, now);
	assert_int_equal(m->displaces, 0); /* it was displaced after too short a time */
	co_queue(w, m, 0, true, now);
	assert_int_equal(m->displaces, 1);
	m->started_at_ns--;
	co_queue(w, m, 0, false, now);
	assert_int_equal(m->displaces, 1);
	/* For its VM's part alone, once in a while. */
	w->account[0].purse.credit_ns = -1;
	w->vm[0].part_ns = 1;
	co_queue(w, m, 0, true, now);
	assert_int_equal(m->displaces, 1);
	co_queue(w, m, 0, true, now + SLICE / 24 - 1);
	assert_int_equal(m->displaces, 0);
	co_queue(w, m, 0, true, now + SLICE / 24);
	assert_int_equal(m->displaces, 1);
	/* What the purse itself says is no favour. */
	w->account[0].purse.credit_ns = 0;
	co_queue(w, m, 0, true, now + SLICE / 24 + 1);
	assert_int_equal(m->displaces, 1);
}

/* What CPU `cpu` runs: member 10 + cpu, of an account of its own, in a state. */
static void runs(uint32_t cpu, enum co_state state, bool requested)
{
	struct co_world *w = &sim.w;

	if (!w->account[10 + cpu].used)
		sim_vm_add(10 + cpu, 10 + cpu, 100, 0, cpu);
	w->account[10 + cpu].due_ns = DUE;
	w->account[10 + cpu].purse.credit_ns = credit_of[state];
	co_working_set(w, cpu, co_member_of(w, 10 + cpu), requested);
}

static void test_who_is_displaced(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 4);
	struct co_member *m = co_member_of(w, 1);

	(void)context;
	co_queue(w, m, 1, true, 1);
	assert_int_equal(m->list, CO_STATE_UNDER);
	for (uint32_t cpu = 0; cpu < 4; cpu++)
		runs(cpu, CO_STATE_UNDER, false);
	assert_int_equal(co_displaces(w, m), CO_NONE);
	/* Elsewhere: who is in the worst state, in a circle from here. */
	runs(2, CO_STATE_OVER, false);
	assert_int_equal(co_displaces(w, m), 2);
	runs(0, CO_STATE_DEEP, false);
	assert_int_equal(co_displaces(w, m), 0);
	runs(3, CO_STATE_DEEP, false);
	assert_int_equal(co_displaces(w, m), 3);
	/* Not who runs on request; first who runs here. */
	runs(3, CO_STATE_DEEP, true);
	assert_int_equal(co_displaces(w, m), 0);
	runs(1, CO_STATE_OVER, false);
	assert_int_equal(co_displaces(w, m), 1);
	/* Who owes most of all, wherever it runs. */
	runs(1, CO_STATE_UNDER, false);
	runs(2, CO_STATE_LAST, false);
	assert_int_equal(co_displaces(w, m), 2);
	m->list = CO_STATE_PARKED;
	assert_int_equal(co_displaces(w, m), CO_NONE);
	/* Only CPUs that are scheduled. */
	m->list = CO_STATE_UNDER;
	for (uint32_t cpu = 0; cpu < 4; cpu++)
		runs(cpu, CO_STATE_UNDER, false);
	co_cpu_set(w->runs[CO_STATE_OVER], 5);
	assert_int_equal(co_displaces(w, m), CO_NONE);
}

/* A CPU that was kicked because it ran somebody who owed most, and keeps it, who is better off by now. */
static void test_who_passes_on(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 4);

	(void)context;
	runs(0, CO_STATE_UNDER, false);
	runs(1, CO_STATE_OVER, false);
	runs(2, CO_STATE_DEEP, false);
	runs(3, CO_STATE_UNDER, false);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_DEEP), CO_NONE); /* nobody waits */
	co_queue(w, co_member_of(w, 1), 1, true, 1);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_DEEP), 2);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_LAST), 2);
	/* It is what it was; or nobody would have kicked it for that. */
	assert_int_equal(co_passes_on(w, 2, CO_STATE_DEEP), CO_NONE);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_OVER), CO_NONE);
	assert_int_equal(co_passes_on(w, 0, CO_STATES), CO_NONE);
	/* Only to somebody who is worse than who waits, and owes most. */
	runs(2, CO_STATE_OVER, false);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_DEEP), CO_NONE);
	runs(2, CO_STATE_LAST, false);
	w->account[0].purse.credit_ns = -DEBT;
	co_yield(w, co_member_of(w, 1), 2);
	co_queue(w, co_member_of(w, 1), 1, true, 2);
	w->waits[CO_STATE_UNDER][0] = 0; /* its CPU looked at that list */
	assert_int_equal(co_passes_on(w, 0, CO_STATE_LAST), 2);
	runs(2, CO_STATE_DEEP, false);
	assert_int_equal(co_passes_on(w, 0, CO_STATE_LAST), CO_NONE);
}

/* Who was displaced itself after a short time displaces only who runs for want of better. */
static void test_who_is_displaced_at_once(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 1);

	(void)context;
	m->started_at_ns = 100;
	co_queue(w, m, 1, false, 101);
	assert_int_equal(m->displaces, 0);
	runs(0, CO_STATE_OVER, false);
	runs(1, CO_STATE_OVER, false);
	assert_int_equal(co_displaces(w, m), CO_NONE);
	runs(1, CO_STATE_DEEP, false); /* at home, even if there is one elsewhere who owes more */
	assert_int_equal(co_displaces(w, m), 1);
	runs(0, CO_STATE_LAST, false);
	assert_int_equal(co_displaces(w, m), 1);
	runs(1, CO_STATE_OVER, false);
	runs(0, CO_STATE_DEEP, false); /* elsewhere */
	assert_int_equal(co_displaces(w, m), 0);
	runs(0, CO_STATE_LAST, false);
	assert_int_equal(co_displaces(w, m), 0);
	/* Nobody who is no better. */
	m->list = CO_STATE_DEEP;
	assert_int_equal(co_displaces(w, m), 0);
	runs(1, CO_STATE_DEEP, false);
	assert_int_equal(co_displaces(w, m), 0);
	m->list = CO_STATE_LAST;
	assert_int_equal(co_displaces(w, m), CO_NONE);
	/* An idle CPU is none of those. */
	m->list = CO_STATE_OVER;
	co_working_set(w, 0, NULL, false);
	co_working_set(w, 1, NULL, false);
	assert_int_equal(co_displaces(w, m), CO_NONE);
}

/*
 * A group of two and two others on two CPUs, in every combination of states and parts: whoever waits kicks, asks and displaces,
 * and it comes to an end within a few steps (or sim_kicks() fails), with nobody waiting in a better state than one who runs.
 */
static void test_displacing_ends(void **context)
{
	static const enum co_state states[] = { CO_STATE_FIRST, CO_STATE_BOOST, CO_STATE_UNDER,
						CO_STATE_OVER,	CO_STATE_DEEP,	CO_STATE_LAST };
	static const __s64 parts[] = { LAG + 1, 0, -LAG - 1 };
	enum { PURSES = 6 * 6 * 6, PARTS = 3 * 3 };

	(void)context;
	for (uint32_t k = 0; k < PURSES * PARTS; k++) {
		struct co_world *w = group(CO_MODE_POOLED, 2);

		for (uint32_t i = 2; i < 4; i++)
			sim_vm_add(i, i, 100, 0, i % 2);
		for (uint32_t i = 0, rest = k; i < 4; i += i ? 1 : 2, rest /= 6) {
			w->account[i].due_ns = DUE;
			w->account[i].purse.credit_ns = credit_of[states[rest % 6]];
		}
		w->vm[0].part_ns = parts[k / PURSES % 3];
		w->vm[1].part_ns = parts[k / PURSES / 3];
		sim.now_ns = 1;
		for (uint32_t i = 0; i < 4; i++) {
			sim_put((i + k) % 4);
			sim_kicks();
		}
		/* Schedule steps come for other reasons, too: slices that end, settlements. */
		for (uint32_t i = 0; i < 4; i++) {
			sim.cpu[i % 2].kicked = true;
			sim_kicks();
			sim_check();
		}
		assert_in_range(sim.steps, 6, 30);
	}
}

/* After a settlement: who runs for want of better lets go, if somebody better waits. */
static void test_who_looks_again(void **context)
{
	static const struct {
		enum co_state runs, waits;
		bool looks;
	} rows[] = {
		{ CO_STATE_DEEP, CO_STATE_BOOST, true },  { CO_STATE_DEEP, CO_STATE_OVER, true },
		{ CO_STATE_DEEP, CO_STATE_DEEP, false },  { CO_STATE_LAST, CO_STATE_DEEP, true },
		{ CO_STATE_LAST, CO_STATE_LAST, false },  { CO_STATE_OVER, CO_STATE_BOOST, false },
		{ CO_STATE_UNDER, CO_STATE_BOOST, false },
	};

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct co_world *w = world(CO_MODE_POOLED, 2);

		sim_vm_add(0, 0, 100, 0, 0);
		sim_vm_add(1, 1, 100, 5 * SIM_MS, 0);
		sim_vm_add(2, 2, 100, 0, 0);
		w->account[0].due_ns = w->account[1].due_ns = w->account[2].due_ns = DUE;
		w->account[0].purse.credit_ns = credit_of[rows[i].waits];
		w->account[1].purse.credit_ns = w->account[2].purse.credit_ns = LAG + 1;
		w->vm[1].cap_left_ns = 0;
		runs(1, rows[i].runs, false);
		assert_int_equal(co_best_waiting(w), CO_STATE_PARKED);
		sim_put(1); /* one who is parked, and one who sleeps, do not count */
		assert_int_equal(co_best_waiting(w), CO_STATE_PARKED);
		assert_false(co_looks_again(w, 1, co_best_waiting(w)));
		sim_put(0);
		assert_int_equal(co_best_waiting(w), rows[i].waits);
		assert_int_equal(co_looks_again(w, 1, co_best_waiting(w)), rows[i].looks);
		assert_false(co_looks_again(w, 0, co_best_waiting(w)));
	}
}

/* --- requests --- */

static void test_who_is_asked_for(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *m = co_member_of(w, 1);

	(void)context;
	w->cpu[1].state = CO_STATES;
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE); /* it sleeps */
	sim_put(1);
	assert_int_equal(co_ask(w, 0, 1, 1, 5), CO_NONE); /* it waits on this very CPU */
	w->cpu[1].working = 8;
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE);
	w->cpu[1].working = 0;
	w->cpu[1].state = CO_STATE_BOOST;
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE);
	w->cpu[1].state = CO_STATES;
	w->account[0].purse.credit_ns = -DEBT; /* its group owes too much, and it lacks nothing */
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE);
	w->vm[1].part_ns = 1; /* or lacks some: UNDER, but the group owes no less for that */
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE);
	w->account[0].purse.credit_ns = -1; /* or its VM had its part, and more */
	w->vm[1].part_ns = -LAG - 1;
	assert_int_equal(co_ask(w, 0, 1, 0, 5), CO_NONE);
	assert_int_equal(w->cpu[0].requests_sent, 0);
	w->vm[1].part_ns = -LAG;
	assert_int_equal(co_ask(w, 0, 1, 0, 5), 1);
	assert_int_equal(w->cpu[1].request, 1);
	assert_int_equal(w->cpu[1].requested_at_ns, 5);
	assert_int_equal(co_ask(w, 0, 1, 0, 6), CO_NONE); /* asked already */
	assert_int_equal(w->cpu[0].requests_sent, 1);
	assert_int_equal(w->account[0].requests_sent, 1);
}

/* Of those of the group that wait here the one that waits longest and may; if none may, the request is refused. */
static void test_who_is_taken_on_request(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 1);
	struct co_pick p;

	(void)context;
	sim_vm_add(2, 1, 100, 0, 0);
	w->account[0].purse.credit_ns = -1;
	sim.now_ns = 1;
	sim_put(1);
	sim.now_ns = 2;
	sim_put(0);
	sim_put(2);
	w->cpu[0].request = 1;
	co_pick(w, 0, CO_NONE, 5, &p);
	assert_int_equal(p.member, 1);
	assert_true(p.requested && !p.refused);
	sim_list_add(0, CO_STATE_OVER, 1);
	/* That one's VM had its part and more, so it is the other one's turn. */
	w->vm[1].part_ns = -LAG - 1;
	w->cpu[0].request = 1;
	w->cpu[0].requested_at_ns = 4;
	co_pick(w, 0, CO_NONE, 9, &p);
	assert_int_equal(p.member, 0);
	assert_true(p.requested && !p.refused);
	assert_int_equal(w->cpu[0].requests_honoured, 2);
	assert_int_equal(w->account[0].request_wait_ns, 5 + 5);
	sim_list_add(0, CO_STATE_OVER, 0);
	w->account[0].purse.credit_ns = -DEBT;
	w->cpu[0].request = 1;
	co_pick(w, 0, CO_NONE, 9, &p);
	assert_int_equal(p.member, 2);
	assert_true(!p.requested && p.refused);
	assert_int_equal(w->account[0].requests_refused, 1);
	assert_int_equal(w->cpu[0].requests_refused, 1);
}

/* --- the order of a schedule step --- */

static void test_who_goes_on(void **context)
{
	struct co_world *w = world(CO_MODE_CREDIT, 4);
	struct co_pick p;

	(void)context;
	for (uint32_t i = 0; i < 6; i++)
		sim_vm_add(i, i, 1, 0, i % 4);
	co_run(w, co_member_of(w, 0), 0, 1);
	/* One of another CPU's in the same state: who runs goes on. One of its own: first come, first served. */
	sim_put(1);
	co_pick(w, 0, 0, 1, &p);
	assert_true(p.member == 0 && p.kept && !p.stolen);
	sim_put(4);
	co_pick(w, 0, 0, 1, &p);
	assert_true(p.member == 4 && !p.kept && !p.stolen);
	assert_int_equal(w->cpu[0].steals, 0);
	/* In debt it lets go for another CPU's, of the next one in the circle that has any. */
	w->member[0].purse.credit_ns = -1;
	sim_put(3);
	co_pick(w, 2, 0, 1, &p);
	assert_true(p.member == 3 && p.stolen);
	co_pick(w, 2, 0, 1, &p);
	assert_true(p.member == 1 && p.stolen);
	assert_int_equal(w->cpu[2].steals, 2);
	/* Nobody else there: a debt does not matter. */
	co_pick(w, 0, 0, 1, &p);
	assert_true(p.member == 0 && p.kept);
	assert_int_equal(w->cpu[0].picks_over, 1);
	assert_int_equal(w->cpu[0].picks_under, 2);
	assert_int_equal(w->cpu[0].idles, 0);
}

/* Each state before the next, whoever came first. */
static void test_order_of_states(void **context)
{
	static const enum co_state states[] = { [2] = CO_STATE_FIRST, CO_STATE_BOOST, CO_STATE_UNDER,
						CO_STATE_OVER,	      CO_STATE_DEEP,  CO_STATE_LAST };
	static const uint32_t order[] = { 2, 3, 0, 4, 5, 6, 7, CO_NONE };
	struct co_world *w = group(CO_MODE_POOLED, 1);
	struct co_pick p;

	(void)context;
	w->vm[0].part_ns = LAG + 1; /* of the group, which is UNDER */
	for (uint32_t i = 2; i < 9; i++) {
		sim_vm_add(i, i, 100, i == 8 ? 5 * SIM_MS : 0, 0);
		w->account[i].due_ns = DUE;
		w->account[i].purse.credit_ns = i < 8 ? credit_of[states[i]] : 0;
	}
	w->vm[8].cap_left_ns = 0;
	for (uint32_t i = 9; i-- > 0;)
		if (i != 1)
			sim_put(i);
	for (size_t k = 0; k < ARRAY_SIZE(order); k++) {
		co_pick(w, 0, CO_NONE, 1, &p);
		assert_int_equal(p.member, order[k]);
		assert_true(p.member == CO_NONE || p.state == w->member[p.member].list);
	}
	assert_true(w->cpu[0].picks_boost == 2 && w->cpu[0].picks_part == 1 && w->cpu[0].picks_under == 1 &&
		    w->cpu[0].picks_over == 1 && w->cpu[0].picks_deep == 2 && w->cpu[0].idles == 1);
}

/* A new period of a cap: it is counted, and stands on the right list, before anybody looks for it. */
static void test_unpark(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);

	(void)context;
	for (uint32_t i = 0; i < 3; i++) {
		sim_vm_add(i, i, 100, 5 * SIM_MS, i == 2);
		w->vm[i].cap_left_ns = 0;
		sim_put(i);
		assert_int_equal(w->member[i].list, CO_STATE_PARKED);
	}
	w->vm[0].cap_left_ns = w->vm[2].cap_left_ns = 1;
	co_unpark(w, 0);
	assert_int_equal(w->member[0].list, CO_STATE_UNDER);
	assert_int_equal(w->account[0].share.n, 1);
	assert_int_equal(w->member[1].list, CO_STATE_PARKED);
	assert_int_equal(w->account[1].share.n, 0);
	assert_int_equal(w->member[2].list, CO_STATE_PARKED); /* on another CPU */
	co_unpark(w, 1);
	assert_int_equal(w->member[2].list, CO_STATE_UNDER);
}

/* A cap is used up by a charge: who waits for it is due nothing from then on, wherever it stands, until the next period. */
static void test_park(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 3);

	(void)context;
	sim_vm_add(0, 0, 100, 5 * SIM_MS, 0);
	for (uint32_t i = 1; i < 3; i++) {
		sim.member[i].affinity = ~0ull;
		sim_member_add(i, 0, i);
	}
	for (uint32_t i = 0; i < 3; i++)
		sim_put(i);
	co_list_take(w, 0, w->member[0].list, 0, 0);
	co_run(w, &w->member[0], 0, 0);
	co_charge(w, &w->member[0], 5 * SIM_MS - 1);
	assert_int_equal(w->account[0].share.n, 3);
	co_charge(w, &w->member[0], 5 * SIM_MS);
	assert_int_equal(w->account[0].share.n, 1);
	assert_int_equal(w->member[1].list, CO_STATE_UNDER);
	co_settle(w, 30 * SIM_MS);
	assert_int_equal(w->account[0].share.n, 3);
	/* Or until there is no cap any more. */
	co_charge(w, &w->member[0], 50 * SIM_MS);
	assert_int_equal(w->account[0].share.n, 1);
	assert_int_equal(co_vm_set(w, 0, 0, 100, 0), 0);
	co_settle(w, 60 * SIM_MS);
	assert_int_equal(w->account[0].share.n, 3);
}

/* Whatever list a member stands on, what it is now counts: worse at once, better from the next settlement on. */
static void test_lists_are_guesses(void **context)
{
	static const struct {
		enum co_state list;
		__s64 credit, part; /* of who stands before it on that list, and rightly so */
	} rows[] = {
		{ CO_STATE_PART, 0, LAG + 1 }, { CO_STATE_UNDER, 0, 0 }, { CO_STATE_OVER, -1, 0 }, { CO_STATE_DEEP, -DEBT, 0 },
		{ CO_STATE_LAST, -MUCH, 0 },
	};
	struct co_pick p;

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct co_world *w = group(CO_MODE_POOLED, 1);

		assert_int_equal(co_account_set(w, 1, true, true), 0);
		sim_vm_add(2, 1, 100, 0, 0);
		w->account[1].due_ns = DUE;
		for (uint32_t k = 0; k < 2; k++) {
			w->account[k].purse.credit_ns = rows[i].credit;
			w->vm[k ? 2 : 0].part_ns = rows[i].part;
		}
		sim_put(2);
		sim_put(0);
		assert_int_equal(w->member[0].list, rows[i].list);
		w->account[0].purse.credit_ns = LAG + 1;
		co_restate(w);
		co_pick(w, 0, CO_NONE, 1, &p);
		assert_int_equal(p.member, 0);
		assert_int_equal(p.state, CO_STATE_BOOST);
		/* The other one is worse now than its list says: once it is found there it stands on the right one. */
		sim_put(1);
		w->account[0].purse.credit_ns = -1;
		w->account[1].purse.credit_ns = -MUCH;
		w->vm[2].part_ns = 0;
		co_pick(w, 0, CO_NONE, 1, &p);
		assert_int_equal(p.member, 1);
		assert_int_equal(w->member[2].list, rows[i].list < CO_STATE_DEEP ? CO_STATE_LAST : rows[i].list);
	}
}

static void test_together(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);
	struct co_member *a = co_member_of(w, 0), *b = co_member_of(w, 1);

	(void)context;
	co_run(w, a, 0, 10);
	co_run(w, b, 1, 25);
	co_stop(w, a, 32);
	assert_int_equal(w->account[0].co_ran_ns, 7);
	co_stop(w, b, 50);
	co_run(w, b, 1, 60);
	co_run(w, a, 0, 61);
	co_stop(w, a, 63);
	assert_int_equal(w->account[0].co_ran_ns, 9);
	assert_int_equal(w->account[0].running, 1);
}

/* Who runs pays: by its purse, its VM's part and cap, and in its own time. */
static void test_charge(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);
	struct co_member *m = sim_vm_add(0, 0, 100, 6 * SIM_MS, 0);

	(void)context;
	co_charge(w, m, 100); /* it does not run */
	co_run(w, m, 0, 100);
	co_charge(w, m, 107);
	co_charge(w, m, 107);
	co_charge(w, m, 90); /* another CPU's clock */
	assert_int_equal(w->account[0].purse.credit_ns, -7);
	assert_int_equal(w->vm[0].part_ns, -7);
	assert_int_equal(w->vm[0].cap_left_ns, 6 * MS - 7);
	assert_int_equal(w->vm[0].ran_ns, 7);
	assert_int_equal(m->total_ran_ns, 7);
	assert_int_equal(m->purse.credit_ns, 0);
}

/* BOOST is for who wakes up UNDER, for a tick; not for who was displaced, or is in debt. */
static void test_boost(void **context)
{
	struct co_world *w = world(CO_MODE_CREDIT_BOOST, 1);
	struct co_member *m = sim_vm_add(0, 0, 100, 0, 0);

	(void)context;
	assert_int_equal(co_queue(w, m, 0, false, 1), CO_STATE_UNDER);
	co_stop(w, m, 1);
	m->purse.credit_ns = -1;
	assert_int_equal(co_queue(w, m, 0, true, 1), CO_STATE_OVER);
	co_stop(w, m, 1);
	m->purse.credit_ns = 20 * MS;
	assert_int_equal(co_queue(w, m, 0, true, 1), CO_STATE_BOOST);
	co_run(w, m, 0, 1);
	co_charge(w, m, 10 * SIM_MS);
	assert_int_equal(co_state(w, m), CO_STATE_BOOST);
	co_charge(w, m, 10 * SIM_MS + 1);
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_overlooked),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_who_may_displace),
		cmocka_unit_test(test_who_is_displaced),
		cmocka_unit_test(test_who_passes_on),
		cmocka_unit_test(test_who_is_displaced_at_once),
		cmocka_unit_test(test_displacing_ends),
		cmocka_unit_test(test_who_looks_again),
		cmocka_unit_test(test_who_is_asked_for),
		cmocka_unit_test(test_who_is_taken_on_request),
		cmocka_unit_test(test_who_goes_on),
		cmocka_unit_test(test_order_of_states),
		cmocka_unit_test(test_unpark),
		cmocka_unit_test(test_park),
		cmocka_unit_test(test_lists_are_guesses),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_charge),
		cmocka_unit_test(test_boost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
