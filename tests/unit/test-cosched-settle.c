/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: each rule of a settlement by itself, in numbers: who is counted among those that something is due to, what is paid
 * and to whom, what VMs have of it, how long a VM that sleeps counts, what caps keep, and what Xen's modes pay.
 */
#include "cosched-rules.h"

/* What VM `vm` did in this period. */
static void did(uint32_t vm, __s64 ran_ns, __s64 waited_ns)
{
	struct co_vm *v = co_vm_of(&sim.w, vm);

	v->ran_ns += ran_ns;
	v->part_ns -= ran_ns;
	v->waited_ns += waited_ns;
	sim.w.account[v->account].purse.credit_ns -= ran_ns;
	if (v->cap_ns)
		v->cap_left_ns -= ran_ns;
}

/* What account `account` was due at the instants of this period, by itself. */
static void was_due(uint32_t account, __s64 ns)
{
	sim.w.account[account].share.due = (__u64)ns << CO_FLUID_BITS;
}

/* --- who is counted among those that something is due to --- */

static void assert_share(uint32_t account, uint64_t n, uint64_t weight)
{
	const struct co_share *share = &sim.w.account[account].share;

	assert_int_equal(share->n, n);
	assert_int_equal(share->weight, weight);
	assert_int_equal(share->is_in, n && weight);
}

/* Who waits and who runs, unless a cap parks it; a VM's weight counts once. */
static void test_counted(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_member *m = sim_vm_add(0, 0, 100, 0, 0), *other;

	(void)context;
	sim_member_add(1, 0, 1);
	other = co_member_of(w, 1);
	assert_share(0, 0, 0);
	co_queue(w, m, 0, true, 1);
	assert_share(0, 1, 100);
	assert_int_equal(w->fluid.running, 0);
	co_queue(w, other, 1, true, 2);
	assert_share(0, 2, 100);
	co_run(w, m, 0, 3);
	assert_share(0, 2, 100);
	assert_int_equal(w->fluid.running, 1);
	co_yield(w, m, 3); /* it waits again in a moment */
	assert_share(0, 2, 100);
	assert_int_equal(w->fluid.running, 0);
	co_run(w, m, 0, 3);
	assert_int_equal(w->fluid.running, 1);
	co_stop(w, m, 4); /* it sleeps, its VM is awake still */
	assert_share(0, 1, 100);
	assert_int_equal(w->fluid.running, 0);
	co_relist(w, other, CO_STATE_PARKED, 5);
	assert_share(0, 0, 100);
	co_relist(w, other, CO_STATE_OVER, 6);
	co_relist(w, other, CO_STATE_UNDER, 6);
	assert_share(0, 1, 100);
	co_stop(w, other, 7);
	for (uint32_t k = 0; k <= CO_AWAKE; k++) {
		assert_share(0, 0, 100);
		co_settle(w, 8);
	}
	assert_share(0, 0, 0); /* a second later */
	co_queue(w, m, 0, true, 9);
	assert_share(0, 1, 100);
	/* Of a cap nothing is left: it is not counted, so its weight is not either. */
	sim_vm_add(2, 1, 100, 5 * SIM_MS, 0);
	w->vm[2].cap_left_ns = 0;
	assert_int_equal(co_queue(w, co_member_of(w, 2), 0, true, 10), CO_STATE_PARKED);
	assert_share(1, 0, 0);
}

/* One CPU, weights 100 and 300: what is due follows who is counted, from that instant on. */
static void test_due_at_every_instant(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);
	struct co_member *a = sim_vm_add(0, 0, 100, 0, 0), *b = sim_vm_add(1, 1, 300, 0, 0);

	(void)context;
	co_queue(w, a, 0, true, 1 * MS);
	co_run(w, a, 0, 2 * MS); /* nobody ran till then, so nothing is due */
	co_queue(w, b, 0, true, 6 * MS);
	co_relist(w, b, CO_STATE_PARKED, 14 * MS);
	co_relist(w, b, CO_STATE_UNDER, 20 * MS);
	co_stop(w, a, 24 * MS);
	assert_int_equal(co_fluid_due(w, &w->account[0], 30 * MS), (4 + 2 + 6 + 1) * MS);
	assert_int_equal(co_fluid_due(w, &w->account[1], 30 * MS), (6 + 3) * MS);
	assert_int_equal(co_fluid_due(w, &w->account[1], 40 * MS), 0);
	/* A VM that moves is followed from that instant on. */
	co_run(w, a, 0, 40 * MS);
	assert_int_equal(co_account_set(w, 2, true, false), 0);
	assert_int_equal(co_vm_set(w, 0, 2, 100, 0), 0);
	co_fluid_follow(w, a, 48 * MS);
	co_fluid_weigh(w, &w->account[2], 100, 48 * MS);
	assert_int_equal(co_fluid_due(w, &w->account[0], 60 * MS), 2 * MS);
	assert_int_equal(co_fluid_due(w, &w->account[2], 60 * MS), 3 * MS);
	assert_int_equal(co_fluid_due(w, &w->account[1], 60 * MS), (6 + 9) * MS);
}

/* Accounts and VMs change: where members are counted follows with the next settlement, or when they stop before. */
static void test_changes_are_followed(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_member *a = sim_vm_add(0, 0, 100, 0, 0), *b = sim_vm_add(1, 1, 300, 0, 1);

	(void)context;
	assert_int_equal(co_account_set(w, 2, true, true), 0);
	co_run(w, a, 0, 1);
	co_queue(w, b, 1, true, 1);
	assert_int_equal(co_vm_set(w, 0, 2, 100, 0), 0);
	assert_int_equal(co_vm_set(w, 1, 2, 500, 0), 0);
	assert_share(0, 1, 100);
	co_settle(w, 10);
	assert_share(0, 0, 0);
	assert_share(1, 0, 0);
	assert_share(2, 2, 600);
	assert_int_equal(w->fluid.running, 1);
	assert_int_equal(co_vm_set(w, 0, 0, 100, 0), 0);
	co_stop(w, a, 11);
	assert_share(2, 1, 600);
	assert_share(0, 0, 0);
	assert_int_equal(w->fluid.running, 0);
	/* A member leaves that had just been displaced, and its slot is one of another VM's: its old account keeps nothing of it. */
	co_run(w, b, 1, 12);
	co_yield(w, b, 12);
	co_member_remove(w, 1, 12);
	assert_int_equal(co_member_add(w, 1, 7, 0, 0), 0);
	co_settle(w, 20);
	assert_share(2, 0, 500);
	co_run(w, b, 0, 21);
	assert_share(0, 1, 100);
	assert_int_equal(b->counted, 1);
	assert_int_equal(w->fluid.running, 1);
	co_stop(w, b, 22);
	assert_share(0, 0, 100);
	assert_int_equal(w->fluid.running, 0);
}

/* --- what is paid --- */

/* What was due at every instant; the rest to those that waited, by weight. */
static void test_due(void **context)
{
	static const __s64 paid[] = { 150 * MS / 10, 125 * MS / 10, 25 * MS / 10 };
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	for (uint32_t i = 0; i < 3; i++)
		sim_vm_add(i, i, 100, 0, 0);
	did(0, 10 * MS, 5 * MS);
	did(1, 10 * MS, 20 * MS);
	did(2, 10 * MS, 20 * MS);
	was_due(0, 15 * MS); /* all that it wants; 5 are left */
	was_due(1, 10 * MS); /* and wants 20 more */
	was_due(2, 0);	     /* and wants 30 */
	co_settle(w, 1);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(w->account[i].total_entitled_ns, paid[i]);
		assert_int_equal(w->account[i].purse.credit_ns, paid[i] - 10 * MS);
		assert_int_equal(w->account[i].share.due, 0);
	}
	assert_int_equal(w->bank_ns, 0);
}

/* What a cap forbids is no one's due, so others have it that waited. */
static void test_caps_leave(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	sim_vm_add(0, 0, 100, 6 * SIM_MS, 0);
	sim_vm_add(1, 1, 100, 0, 0);
	did(0, 6 * MS, 24 * MS);
	did(1, 24 * MS, 6 * MS);
	was_due(0, 15 * MS);
	was_due(1, 15 * MS);
	co_settle(w, 1);
	assert_int_equal(w->account[0].purse.credit_ns, 0);
	assert_int_equal(w->account[1].purse.credit_ns, 0);
}

/* What it ran beyond its cap it is paid when it runs, and may claim that much less in the next period. */
static void test_caps_exceeded(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	sim_vm_add(0, 0, 100, 6 * SIM_MS, 0);
	sim_vm_add(1, 1, 100, 0, 0);
	did(0, 8 * MS, 10 * MS);
	did(1, 22 * MS, 8 * MS);
	was_due(0, 15 * MS);
	was_due(1, 15 * MS);
	co_settle(w, 1);
	assert_int_equal(w->account[0].total_entitled_ns, 8 * MS);
	assert_int_equal(w->account[1].total_entitled_ns, 22 * MS);
	assert_int_equal(w->vm[0].cap_claim_ns, 4 * MS);
	assert_int_equal(w->vm[0].cap_left_ns, 4 * MS);
	did(0, 3 * MS, 27 * MS);
	did(1, 27 * MS, 3 * MS);
	was_due(0, 15 * MS);
	was_due(1, 15 * MS);
	co_settle(w, 2);
	assert_int_equal(w->account[0].total_entitled_ns, (8 + 4) * MS);
	assert_int_equal(w->vm[0].cap_claim_ns, 6 * MS);
}

/* The bank is for those that waited; what it lacks, those lack that are due most for their weight. */
static void test_bank(void **context)
{
	static const struct {
		__s64 bank, paid[2], left;
	} rows[] = {
		{ 10 * MS, { 175 * MS / 10, 225 * MS / 10 }, 0 },
		{ 50 * MS, { 25 * MS, 45 * MS }, 10 * MS }, /* all they want */
		{ -10 * MS, { 5 * MS, 15 * MS }, 0 },
		{ -50 * MS, { 0, 0 }, -20 * MS },
	};

	(void)context;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct co_world *w = world(CO_MODE_POOLED, 1);

		sim_vm_add(0, 0, 100, 0, 0);
		sim_vm_add(1, 1, 300, 0, 0);
		w->bank_ns = rows[i].bank;
		w->account[0].purse.credit_ns = -rows[i].bank;
		did(0, 15 * MS, 10 * MS);
		did(1, 15 * MS, 30 * MS);
		was_due(0, 15 * MS);
		was_due(1, 15 * MS);
		co_settle(w, 1);
		assert_int_equal(w->account[0].total_entitled_ns, rows[i].paid[0]);
		assert_int_equal(w->account[1].total_entitled_ns, rows[i].paid[1]);
		assert_int_equal(w->bank_ns, rows[i].left);
		sim_check_conservation();
	}
}

/* What a group is paid is divided by weight, and by what its VMs want; all of it. */
static void test_parts(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 2);

	(void)context;
	w->account[0].due_ns = 0;
	did(0, 10 * MS, 0);
	did(1, 20 * MS, 40 * MS);
	co_settle(w, 1);
	/* 30 ms by 100 : 300, of which VM 0 had 10 and VM 1 had 20. */
	assert_int_equal(w->account[0].purse.credit_ns, 0);
	assert_int_equal(w->account[0].due_ns, 30 * MS);
	assert_int_equal(w->vm[0].part_ns, (75 - 100) * MS / 10);
	assert_int_equal(w->vm[1].part_ns, (225 - 200) * MS / 10);
	/* VM 0 wants less than it could have: the rest is its partner's. What is due in a period follows slowly. */
	did(0, 1 * MS, 0);
	did(1, 45 * MS, 0);
	co_settle(w, 2);
	assert_int_equal(w->vm[0].part_ns, (75 - 100) * MS / 10);
	assert_int_equal(w->vm[1].part_ns, (225 - 200) * MS / 10);
	assert_int_equal(w->account[0].due_ns, 30 * MS - 30 * MS / CO_PACE + 46 * MS / CO_PACE);
	/* Nobody keeps more of a part than four times what puts it first. */
	w->account[0].due_ns = DUE;
	w->vm[0].part_ns = 4 * LAG + 1;
	co_settle(w, 3);
	assert_int_equal(w->vm[0].part_ns, 4 * 2 * (DUE - DUE / CO_PACE));
}

/* The most that is owed for good, and that somebody owes for good, in proportion. */
static void test_for_good(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);

	(void)context;
	for (uint32_t i = 0; i < 5; i++) {
		sim_vm_add(i, i, 100, 0, 0);
		w->account[i].due_ns = i == 2 ? 1 * MS : DUE;
		did(i, i == 2 ? 1 * MS : DUE, i < 2 || i == 4 ? 0 : 20 * MS);
		was_due(i, i == 2 ? 1 * MS : DUE);
	}
	w->account[0].purse.credit_ns += 50 * MS; /* due all that it wants, so nobody can pay it: what it is due in 150 ms */
	w->account[1].purse.credit_ns += 20 * MS;
	w->account[2].purse.credit_ns -= 20 * MS; /* small */
	w->account[3].purse.credit_ns -= 60 * MS; /* waits for more than it is due */
	w->account[4].purse.credit_ns -= 70 * MS; /* does not */
	w->bank_ns = 100 * MS;
	co_settle(w, 1);
	assert_int_equal(w->owed_us, 150000);
	assert_true(w->account[3].purse.credit_ns < 0);
	assert_int_equal(w->owes_us, -w->account[3].purse.credit_ns * 30000 / (__s64)w->account[3].due_ns);
	/* However little somebody is due. */
	w->account[0].due_ns = 1;
	did(0, 1, 0);
	was_due(0, 1);
	co_settle(w, 2);
	assert_int_equal(w->owed_us, CO_FOR_GOOD_MAX_US);
}

/* Of what is owed for good: who is owed most of it in proportion goes before all others, who owes most of it is the last. */
static void test_first_and_last(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_member *m = sim_vm_add(0, 0, 100, 0, 0);
	struct co_account *a = &w->account[0];

	(void)context;
	a->due_ns = DUE;
	/* Half of what somebody is owed, who is owed what it is due in 3 s. */
	w->owed_us = 3000000;
	a->purse.credit_ns = 500 * MS;
	assert_int_equal(co_state(w, m), CO_STATE_BOOST);
	a->purse.credit_ns++;
	assert_int_equal(co_state(w, m), CO_STATE_FIRST);
	/* 2/3 of 1 % of a minute are as much as anybody may owe; more, if somebody owes more than twice as much. */
	a->purse.credit_ns = -MUCH;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	w->owes_us = 2 * CO_MUCH_US;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
	w->owes_us += 300;
	assert_int_equal(co_state(w, m), CO_STATE_DEEP);
	a->purse.credit_ns -= 50000;
	assert_int_equal(co_state(w, m), CO_STATE_LAST);
}

/* What was due while it slept is no wait of its own. */
static void test_slept(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 2);
	struct co_member *m = sim_vm_add(0, 0, 100, 0, 0);

	(void)context;
	sim_member_add(1, 0, 1);
	w->account[0].due_ns = DUE;
	w->account[0].purse.credit_ns = -1;
	co_queue(w, m, 0, true, 1);
	co_run(w, m, 0, 2);
	co_charge(w, m, 3);
	co_stop(w, m, 3);
	w->account[0].total_entitled_ns += 2 * 2 * SLICE + 1;
	assert_int_equal(co_queue(w, m, 0, true, 4), CO_STATE_OVER);
	w->account[0].total_entitled_ns += 2 * 2 * SLICE + 1;
	assert_int_equal(co_state(w, m), CO_STATE_UNDER);
}

/* A worker of the group may have half of what the group is paid, whatever it weighs. */
static void test_serves(void **context)
{
	(void)context;
	for (__u32 serves = 0; serves < 2; serves++) {
		struct co_world *w = group(CO_MODE_POOLED, 2);

		w->vm[0].weight = 1;
		w->vm[0].serves = serves * 300;
		w->account[0].due_ns = DUE;
		did(0, 6 * MS, 0);
		did(1, 24 * MS, 40 * MS);
		was_due(0, 30 * MS);
		co_settle(w, 1);
		assert_int_equal(w->account[0].purse.credit_ns, 0);
		assert_in_range(w->vm[0].part_ns + 6 * MS, serves ? 6 * MS : 0, serves ? 6 * MS : MS / 2);
		assert_int_equal(w->vm[0].part_ns + w->vm[1].part_ns, 0);
		assert_int_equal(w->vm[0].total_due_ns + w->vm[1].total_due_ns, 30 * MS);
	}
}

/* What an account is due in a period is an average over all of them, those that it sleeps through, too; the first is all it has. */
static void test_pace(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	sim_vm_add(0, 0, 100, 0, 0);
	sim_vm_add(1, 1, 100, 0, 0);
	did(1, 5 * MS, 0);
	co_settle(w, 1);
	assert_int_equal(w->account[0].due_ns, 0);
	did(0, 6 * MS, 0);
	co_settle(w, 2);
	assert_int_equal(w->account[0].due_ns, 6 * MS);
	assert_int_equal(w->account[1].due_ns, 5 * MS - 5 * MS / CO_PACE);
	for (__u64 k = 3; k < 3 + CO_PACE; k++)
		co_settle(w, k);
	/* By then 1 / e of it is left. */
	assert_in_range(w->account[0].due_ns, 2 * MS, 5 * MS / 2);
}

/* A VM that sleeps is worth its weight for a second, then nothing. */
static void test_awake(void **context)
{
	struct co_world *w = group(CO_MODE_POOLED, 1);
	uint64_t before, weight;

	(void)context;
	sim_vm_add(2, 1, 100, 0, 0);
	did(0, 1, 0);
	co_settle(w, 0);
	for (unsigned k = 1; k <= CO_AWAKE; k++) {
		before = w->account[0].total_entitled_ns;
		did(1, 15 * MS, 15 * MS);
		did(2, 15 * MS, 15 * MS);
		co_settle(w, k);
		/* VM 0 has a quarter of the group's weight of 400; the neighbour has 100. */
		weight = k < CO_AWAKE ? 400 : 300;
		assert_int_equal(w->account[0].total_entitled_ns - before, 30 * MS * weight / (weight + 100));
	}
}

/* Half a slice of a cap that was not used is kept, and no more; what it was exceeded by is not given again. */
static void test_caps_keep(void **context)
{
	static const __s64 left[] = { 12 * MS, 18 * MS, 21 * MS, 21 * MS };
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	sim_vm_add(0, 0, 100, 6 * SIM_MS, 0);
	sim_vm_add(1, 1, 100, 0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
		did(1, 30 * MS, 0);
		co_settle(w, i);
		assert_int_equal(w->vm[0].cap_left_ns, left[i]);
		assert_int_equal(w->vm[0].cap_claim_ns, left[i]);
	}
	/* It waits for all of it, and for a period more. */
	for (size_t i = 0; i < 2; i++) {
		did(0, i == 0 ? 25 * MS : 0, 30 * MS);
		did(1, i == 0 ? 5 * MS : 30 * MS, 30 * MS);
		co_settle(w, 10 + i);
		assert_int_equal(w->vm[0].cap_left_ns, (2 + 6 * (__s64)i) * MS);
		assert_int_equal(w->account[0].total_entitled_ns, (15 + 2 * i) * MS);
	}
	/* With another cap, what was used of the old one stays used. */
	assert_int_equal(co_vm_set(w, 0, 0, 100, 9 * SIM_MS), 0);
	assert_int_equal(w->vm[0].cap_left_ns, 11 * MS);
}

/* Who could not use what it is owed leaves it to the others. */
static void test_credit_limit(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	w->params.credit_limit_ns = 40 * SIM_MS;
	for (uint32_t i = 0; i < 2; i++) {
		sim_vm_add(i, i, 100, 0, 0);
		w->account[i].due_ns = 1 * MS;
	}
	w->account[0].purse.credit_ns = 70 * MS;
	w->account[1].purse.credit_ns = -70 * MS;
	did(1, 30 * MS, 0);
	did(0, 0, 10 * MS);
	co_settle(w, 1);
	/* 10 and 20 are due; half a slice puts first, and four of that may be kept. */
	assert_int_equal(w->account[0].purse.credit_ns, 60 * MS);
	assert_int_equal(w->account[1].purse.credit_ns, -80 * MS);
	assert_int_equal(w->bank_ns, 20 * MS);
	assert_int_equal(w->forfeited_ns, 20 * MS);
	assert_int_equal(w->account[0].total_forfeited_ns, 20 * MS);
	sim_check_conservation();
}

/* More than a machine can use in a period is kept for the next one. */
static void test_supply_beyond(void **context)
{
	struct co_world *w = world(CO_MODE_POOLED, 1);

	(void)context;
	sim_vm_add(0, 0, 100, 0, 0);
	w->bank_ns = CO_SUPPLY_MAX;
	w->account[0].purse.credit_ns = -CO_SUPPLY_MAX;
	did(0, 30 * MS, 0);
	co_settle(w, 1);
	assert_int_equal(w->account[0].purse.credit_ns, -CO_SUPPLY_MAX);
	assert_int_equal(w->bank_ns, CO_SUPPLY_MAX);
	sim_check_conservation();
}

/* Xen's: the machine's time in a period, by weight among those that were active. */
static void test_xen_pays(void **context)
{
	struct co_world *w = world(CO_MODE_CREDIT, 2);

	(void)context;
	sim_vm_add(0, 0, 100, 0, 0);
	sim_vm_add(1, 1, 200, 0, 1);
	sim_vm_add(2, 2, 300, 0, 1);
	w->params.floor_ns = SIM_S;
	w->member[0].active = w->member[1].active = 1;
	co_settle(w, 1);
	assert_int_equal(w->member[0].purse.credit_ns, 30 * MS);
	assert_int_equal(w->member[1].purse.credit_ns, 30 * MS); /* a CPU is all that it can use */
	assert_int_equal(w->member[2].purse.credit_ns, 0);
	w->member[0].active = w->member[1].active = w->member[2].active = 1;
	co_settle(w, 2);
	assert_int_equal(w->member[0].purse.credit_ns, 40 * MS);
	assert_int_equal(w->member[1].purse.credit_ns, 50 * MS);
	assert_int_equal(w->member[2].purse.credit_ns, 30 * MS);
	/* What is below the floor is forgiven, to the floor; a half of what is above is taken. */
	w->params.floor_ns = 50 * SIM_MS;
	w->member[0].purse.credit_ns = -70 * MS - 2;
	w->member[1].purse.credit_ns = 30 * MS;
	w->member[0].active = w->member[1].active = 1;
	w->member[2].active = 0;
	w->vm[1].weight = 100;
	co_settle(w, 3);
	assert_int_equal(w->member[0].purse.credit_ns, -40 * MS - 2);
	assert_int_equal(w->member[1].purse.credit_ns, 30 * MS);
	w->member[0].purse.credit_ns = -80 * MS - 2;
	w->member[0].active = 1;
	co_settle(w, 4);
	assert_int_equal(w->member[0].purse.credit_ns, -50 * MS);
	assert_int_equal(w->forgiven_ns, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted),
		cmocka_unit_test(test_due_at_every_instant),
		cmocka_unit_test(test_changes_are_followed),
		cmocka_unit_test(test_due),
		cmocka_unit_test(test_caps_leave),
		cmocka_unit_test(test_caps_exceeded),
		cmocka_unit_test(test_bank),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_for_good),
		cmocka_unit_test(test_first_and_last),
		cmocka_unit_test(test_slept),
		cmocka_unit_test(test_serves),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_awake),
		cmocka_unit_test(test_caps_keep),
		cmocka_unit_test(test_credit_limit),
		cmocka_unit_test(test_supply_beyond),
		cmocka_unit_test(test_xen_pays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
