/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the planner's promises, over random trees of accounts and loads in virtual time. FAIRLEAD_SEED repeats a run.
 *
 * Per plan: nothing is lost; nobody gets more than demand and limit allow; the capacity is not exceeded, and used up while
 * anybody wants more; the division is the weighted max-min one, found again by a slow reference in exact fractions;
 * reservations that fit are met; what is idle is lent and comes back with the next plan; who wants and could not spend does not
 * lose it.
 */
#include "ledger/fill.h"
#include "ledger/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "random.h"

typedef unsigned __int128 u128;
typedef __int128 i128;

static uint64_t random_to(uint64_t n)
{
	return random_next() % (n + 1);
}

/* --- the reference: the level as a fraction num/den, found by trying every point where an item meets a bound --- */

/* sum(clamp(num / den * weight, floor, cap)) in 1/den. */
static u128 sum_at(const struct ledger_fill_item *item, unsigned n, u128 num, u128 den)
{
	u128 sum = 0;

	for (unsigned i = 0; i < n; i++) {
		u128 x = num * item[i].weight, lo = item[i].floor * den, hi = item[i].cap * den;

		sum += x < lo ? lo : x > hi ? hi : x;
	}
	return sum;
}

/* Checks `got` of `item` against the exact division of `amount`; bounds up to 2^30, weights up to 2^12, few items. */
static void division_check(uint64_t amount, const struct ledger_fill_item *item, const uint64_t *got, unsigned n)
{
	u128 best_num = 0, best_den = 1, fixed = 0, weights = 0;
	uint64_t total = 0, caps = 0;

	for (unsigned i = 0; i < n; i++) {
		caps += item[i].cap;
		total += got[i];
		assert_true(got[i] >= item[i].floor);
		assert_true(got[i] <= item[i].cap);
	}
	assert_true(total == (amount < caps ? amount : caps));
	if (amount >= caps)
		return;
	/* The highest of the meeting points that is not above the level wanted. */
	for (unsigned k = 0; k < 2 * n; k++) {
		u128 num = k < n ? item[k].floor : item[k - n].cap, den = item[k < n ? k : k - n].weight;

		if (den && num * best_den > best_num * den && sum_at(item, n, num, den) <= (u128)amount * den)
			best_num = num, best_den = den;
	}
	/* Between that point and the next one the sum is a line. */
	for (unsigned i = 0; i < n; i++) {
		u128 x = best_num * item[i].weight, lo = item[i].floor * best_den, hi = item[i].cap * best_den;

		if (x >= lo && x < hi)
			weights += item[i].weight;
		else
			fixed += x < lo ? item[i].floor : item[i].cap;
	}
	for (unsigned i = 0; i < n; i++) {
		u128 x = best_num * item[i].weight, lo = item[i].floor * best_den, hi = item[i].cap * best_den;

		if (x >= lo && x < hi) {
			i128 exact = (i128)(amount - fixed) * item[i].weight, mine = (i128)got[i] * (i128)weights;

			/* Less than one credit off. */
			assert_true(exact - mine < (i128)weights && mine - exact < (i128)weights);
		} else {
			assert_true(got[i] == (x < lo ? item[i].floor : item[i].cap));
		}
	}
}

static void fill_is_exact(void **state)
{
	(void)state;
	random_begin("fill");
	for (unsigned round = 0; round < 30000; round++) {
		struct ledger_fill_item item[12], copy[12];
		uint64_t got[12], scale = UINT64_C(1) << random_to(29), floors = 0, amount;
		unsigned n = 1 + (unsigned)random_to(11);

		for (unsigned i = 0; i < n; i++) {
			item[i].cap = random_to(scale);
			item[i].floor = random_to(2) ? 0 : random_to(item[i].cap);
			item[i].weight = 1 + random_to(random_to(1) ? 4000 : 3);
			floors += item[i].floor;
		}
		amount = floors + random_to(scale * n);
		memcpy(copy, item, sizeof(copy));
		ledger_fill(amount, item, n, random_next());
		for (unsigned i = 0; i < n; i++)
			got[i] = item[i].got;
		division_check(amount, copy, got, n);
	}
}

/* The floors alone are too much: all of the amount goes out, each within a credit of its proportion. */
static void fill_scales_floors(void **state)
{
	(void)state;
	random_begin("floors");
	for (unsigned round = 0; round < 10000; round++) {
		struct ledger_fill_item item[8];
		uint64_t floor[8], floors = 0, total = 0, amount;
		unsigned n = 1 + (unsigned)random_to(7);

		for (unsigned i = 0; i < n; i++) {
			floor[i] = random_to(1000000);
			floors += floor[i];
			item[i] = (struct ledger_fill_item){ .floor = floor[i], .cap = floor[i] + random_to(1000), .weight = 1 + random_to(9) };
		}
		if (floors == 0)
			continue;
		amount = random_to(floors - 1);
		ledger_fill(amount, item, n, random_next());
		for (unsigned i = 0; i < n; i++) {
			i128 off = (i128)item[i].got * floors - (i128)floor[i] * amount;

			total += item[i].got;
			assert_true(off < (i128)floors && off > -(i128)floors);
		}
		assert_true(total == amount);
	}
}

/* One credit a time between unequal weights: after n of them nobody is more than a few credits from the exact share. */
static void rounding_averages_out(void **state)
{
	static const uint64_t weight[5] = { 1, 2, 3, 5, 26 };
	uint64_t total[5] = { 0 };

	(void)state;
	for (uint64_t n = 1; n <= 100000; n++) {
		struct ledger_fill_item item[5];

		for (unsigned i = 0; i < 5; i++)
			item[i] = (struct ledger_fill_item){ .cap = 10, .weight = weight[i] };
		ledger_fill(1, item, 5, n);
		for (unsigned i = 0; i < 5; i++) {
			total[i] += item[i].got;
			assert_true(llabs((long long)(total[i] * 37) - (long long)(n * weight[i])) < 4 * 37);
		}
	}
}

/* --- plans --- */

#define VMS 5
#define CLASSES 4
#define WORKERS 4

struct world {
	struct ledger_spec spec;
	struct ledger_spec_vm vm[VMS];
	struct ledger_spec_account account[VMS * CLASSES];
	struct ledger_set *set;
	struct ledger_state *state;
	struct ledger_scratch *scratch;
	struct ledger_input *input;
	uint64_t now;
	uint64_t given[VMS * CLASSES], vm_given[VMS]; /* to limited ones, since the start */
	uint32_t workers;
};

static struct ledger_promise random_promise(uint64_t capacity)
{
	return (struct ledger_promise){
		.reservation = random_to(1) ? random_to(capacity / (VMS * CLASSES)) : 0,
		.limit = random_to(2) ? LEDGER_UNLIMITED : random_to(capacity / 2),
		.burst = random_to(1) ? random_to(capacity / 100) : 0,
		.shares = 1 + (uint32_t)random_to(random_to(1) ? 3 : 5000),
	};
}

static void world_set(struct world *w)
{
	struct ledger_set *old = w->set;

	assert_int_equal(ledger_set_create(old, &w->spec, 7, w->workers, VMS * CLASSES, 0, &w->set), 0);
	ledger_set_destroy(old);
}

static void world_open(struct world *w)
{
	*w = (struct world){ .workers = 1 + (uint32_t)random_to(WORKERS - 1), .now = 1 + random_to(NSEC_PER_SEC) };
	w->spec = (struct ledger_spec){
		.capacity = (UINT64_C(1) << (8 + random_to(28))) + random_to(1000),
		.vms = 1 + (unsigned)random_to(VMS - 1),
		.vm = w->vm,
		.account = w->account,
	};
	w->spec.quantum = random_to(w->spec.capacity / 1000);
	for (unsigned v = 0; v < w->spec.vms; v++) {
		unsigned classes = 1 + (unsigned)random_to(CLASSES - 1);

		w->vm[v] = (struct ledger_spec_vm){ (uint16_t)(v + 10), random_promise(w->spec.capacity) };
		for (unsigned c = 0; c < classes; c++)
			w->account[w->spec.accounts++] = (struct ledger_spec_account){
				(uint16_t)(v + 10), (uint16_t)c, random_promise(w->spec.capacity), 0
			};
	}
	world_set(w);
	assert_int_equal(ledger_state_create(VMS * CLASSES, w->workers, &w->state), 0);
	assert_int_equal(ledger_scratch_create(VMS * CLASSES, &w->scratch), 0);
	w->input = calloc(VMS * CLASSES * w->workers, sizeof(*w->input));
	assert_non_null(w->input);
}

static void world_close(struct world *w)
{
	ledger_set_destroy(w->set);
	ledger_state_destroy(w->state);
	ledger_scratch_destroy(w->scratch);
	free(w->input);
}

static struct ledger_input *input_of(struct world *w, uint32_t worker, uint32_t slot)
{
	return &w->input[worker * VMS * CLASSES + slot];
}

/* Workers that spend what they may, sometimes overdraw, and want things. */
static void world_load(struct world *w)
{
	uint64_t tick = w->spec.capacity / 1000 + 1;

	for (uint32_t k = 0; k < w->workers; k++)
		for (uint32_t i = 0; i < w->set->accounts; i++) {
			struct ledger_input *in = input_of(w, k, i);
			int64_t credit = *ledger_state_pair(w->state, k, i);

			*in = (struct ledger_input){ 0 };
			if (random_to(2) == 0)
				continue;
			if (credit > 0)
				in->used = random_to(2) ? (uint64_t)credit : random_to((uint64_t)credit);
			if (credit >= 0 && random_to(3) == 0)
				in->used += random_to(w->spec.quantum);
			in->want = random_to(1) ? random_to(tick * 2) : 0;
		}
}

static int64_t net_after_use(struct world *w, const struct ledger_state *before, uint32_t slot)
{
	int64_t net = 0;

	for (uint32_t k = 0; k < w->workers; k++)
		net += *ledger_state_pair(before, k, slot) - (int64_t)input_of(w, k, slot)->used;
	return net;
}

/* What the account was given by the plan, net of what was taken. */
static int64_t account_given(struct world *w, const struct ledger_state *before, uint32_t slot)
{
	return ledger_state_sum(w->state, slot) - net_after_use(w, before, slot);
}

static uint64_t rate_part(uint64_t rate, uint64_t elapsed_ns, uint64_t remainder)
{
	return (uint64_t)(((u128)rate * elapsed_ns + remainder) / NSEC_PER_SEC);
}

static uint64_t demand_of(struct world *w, const struct ledger_state *before, uint32_t slot)
{
	int64_t net = net_after_use(w, before, slot);
	uint64_t demand = net < 0 ? (uint64_t)-net : 0;

	for (uint32_t k = 0; k < w->workers; k++) {
		struct ledger_input *in = input_of(w, k, slot);

		demand += in->want + in->used + in->used / 4;
	}
	return demand;
}

/* New credits of the account, on top of what is taken back. */
static uint64_t account_got(struct world *w, const struct ledger_state *before, uint32_t slot)
{
	int64_t net = net_after_use(w, before, slot);

	return (uint64_t)(account_given(w, before, slot) + (net > 0 ? net : 0));
}

/* Limits over the whole life of the world: never more than burst (or what a late plan may bring) + limit x time. */
static void limits_check(struct world *w, const struct ledger_state *before)
{
	for (uint32_t i = 0; i < w->set->accounts; i++) {
		uint32_t v = w->set->account[i].parent;

		w->given[i] += (uint64_t)account_given(w, before, i);
		w->vm_given[v] += (uint64_t)account_given(w, before, i);
	}
}

static void limit_check(const struct ledger_promise *p, int64_t given, uint64_t elapsed_ns)
{
	uint64_t burst = p->limit / 250 + 1;

	if (p->limit == LEDGER_UNLIMITED)
		return;
	burst = p->burst > burst ? p->burst : burst;
	assert_true(given <= (int64_t)(burst + rate_part(p->limit, elapsed_ns, 0) + 1));
}

/* What the account may be given by its demand and its own limit. */
static uint64_t cap_of(struct world *w, const struct ledger_state *before, uint32_t slot, uint64_t elapsed_ns)
{
	const struct ledger_node *a = &w->set->account[slot];
	uint64_t cap = demand_of(w, before, slot), level;
	int64_t net = net_after_use(w, before, slot);

	if (a->promise.limit == LEDGER_UNLIMITED)
		return cap;
	level = (uint64_t)before->account[slot].level + (net > 0 ? (uint64_t)net : 0) +
		rate_part(a->promise.limit, elapsed_ns, before->account[slot].limit_rem);
	return cap < level ? cap : level;
}

/* What accounts may keep without new credits becoming fewer. */
static uint64_t kept_free(const struct world *w)
{
	return w->set->capacity / 1000 * LEDGER_KEEP_TICKS + w->set->quantum;
}

/* What each account holds, wants to spend and gets again; returns what is left to be divided. */
static uint64_t claims_of(struct world *w, const struct ledger_state *before, uint64_t elapsed_ns, uint64_t *claim)
{
	uint64_t budget = rate_part(w->set->capacity, elapsed_ns, before->capacity_rem), sum = 0, back = 0;
	uint64_t most = kept_free(w) * LEDGER_KEEP_MOST, over;

	for (uint32_t i = 0; i < w->set->accounts; i++) {
		int64_t net = net_after_use(w, before, i);
		uint64_t cap = cap_of(w, before, i, elapsed_ns);
		bool wants = false;

		for (uint32_t k = 0; k < w->workers; k++)
			wants |= input_of(w, k, i)->want > 0;
		claim[i] = wants && net > 0 ? ((uint64_t)net < cap ? (uint64_t)net : cap) : 0;
		sum += claim[i];
		back += (net > 0 ? (uint64_t)net : 0) - claim[i];
	}
	for (uint32_t i = 0; i < w->set->accounts && sum > most; i++)
		claim[i] = (uint64_t)((u128)claim[i] * most / sum);
	sum = sum < most ? sum : most;
	over = sum > kept_free(w) ? sum - kept_free(w) : 0;
	return budget + (back < budget ? back : budget) - (over < budget / 2 ? over : budget / 2);
}

/* The division of one plan against the reference, when demand exceeds what slack would widen. */
static void plan_division_check(struct world *w, const struct ledger_state *before, uint64_t elapsed_ns)
{
	struct ledger_fill_item vm[VMS], item[CLASSES];
	uint64_t vm_got[VMS] = { 0 }, got[CLASSES], claim[VMS * CLASSES], wanted = 0, floors = 0;
	uint64_t budget = rate_part(w->set->capacity, elapsed_ns, before->capacity_rem);
	uint64_t rest = claims_of(w, before, elapsed_ns, claim);
	int64_t vm_level[VMS];

	for (uint32_t v = 0; v < w->set->vms; v++) {
		const struct ledger_node *n = &w->set->vm[v];

		vm[v] = (struct ledger_fill_item){ .weight = n->promise.shares };
		vm_level[v] = before->vm[v].level;
		for (uint32_t k = n->first; k < n->first + n->count; k++) {
			uint32_t slot = w->set->order[k];
			int64_t net = net_after_use(w, before, slot);

			vm_level[v] += (net > 0 ? net : 0) - (int64_t)claim[slot];
			vm[v].cap += cap_of(w, before, slot, elapsed_ns) - claim[slot];
			vm_got[v] += account_got(w, before, slot) - claim[slot];
			wanted += claim[slot];
		}
		vm_level[v] += (int64_t)rate_part(n->promise.limit, elapsed_ns, before->vm[v].limit_rem);
		if (n->promise.limit != LEDGER_UNLIMITED && (uint64_t)vm_level[v] < vm[v].cap)
			vm[v].cap = (uint64_t)vm_level[v];
		vm[v].floor = rate_part(n->promise.reservation, elapsed_ns, before->vm[v].reservation_rem);
		vm[v].floor = vm[v].floor < vm[v].cap ? vm[v].floor : vm[v].cap;
		wanted += vm[v].cap;
		floors += vm[v].floor;
	}
	if (wanted <= budget / 4 * 3)
		return; /* room to spare: given more than wanted, checked elsewhere */
	if (floors <= rest)
		division_check(rest, vm, vm_got, w->set->vms);
	for (uint32_t v = 0; v < w->set->vms; v++) {
		const struct ledger_node *n = &w->set->vm[v];

		floors = 0;
		for (uint32_t k = 0; k < n->count; k++) {
			uint32_t slot = w->set->order[n->first + k];
			const struct ledger_node *a = &w->set->account[slot];

			item[k] = (struct ledger_fill_item){ .cap = cap_of(w, before, slot, elapsed_ns) - claim[slot],
							     .weight = a->promise.shares };
			item[k].floor = rate_part(a->promise.reservation, elapsed_ns, before->account[slot].reservation_rem);
			item[k].floor = item[k].floor < item[k].cap ? item[k].floor : item[k].cap;
			floors += item[k].floor;
			got[k] = account_got(w, before, slot) - claim[slot];
		}
		/* So a reservation that fits into its VM's part is met: a floor of the reference. */
		if (floors <= vm_got[v])
			division_check(vm_got[v], item, got, n->count);
	}
}

static void plans_keep_promises(void **state)
{
	struct ledger_state *before;

	(void)state;
	random_begin("plans");
	for (unsigned round = 0; round < 12000; round++) {
		struct world w;
		uint64_t began, budget;
		int64_t given = 0, back;

		world_open(&w);
		began = w.now;
		assert_int_equal(ledger_state_create(VMS * CLASSES, w.workers, &before), 0);
		for (unsigned t = 0; t < 12; t++) {
			uint64_t elapsed = t ? 1 + random_to(3 * LEDGER_TICK_NS) : LEDGER_TICK_NS, got = 0;

			w.now += elapsed;
			world_load(&w);
			ledger_state_copy(w.set, before, w.state);
			ledger_plan(w.set, w.state, w.input, w.now, w.scratch);
			assert_true(ledger_state_total(w.set, w.state) == LEDGER_SUPPLY);
			limits_check(&w, before);
			back = 0;
			for (uint32_t i = 0; i < w.set->accounts; i++)
				back += net_after_use(&w, before, i) > 0 ? net_after_use(&w, before, i) : 0;
			for (uint32_t i = 0; i < w.set->accounts; i++) {
				limit_check(&w.set->account[i].promise, (int64_t)w.given[i], w.now - began);
				got += account_got(&w, before, i);
			}
			for (uint32_t v = 0; v < w.set->vms; v++)
				limit_check(&w.set->vm[v].promise, (int64_t)w.vm_given[v], w.now - began);
			assert_true(got == w.state->given);
			budget = rate_part(w.set->capacity, elapsed, before->capacity_rem);
			assert_true(got <= 2 * budget + kept_free(&w) * LEDGER_KEEP_MOST);
			/* What is given again is not new. */
			given += (int64_t)got - back;
			assert_true(given <= (int64_t)(rate_part(w.set->capacity, w.now - began + LEDGER_TICK_NS, 0) + 1));
			if (t) /* the first plan's accounts start with full buckets that `before` does not show */
				plan_division_check(&w, before, elapsed);
		}
		ledger_state_destroy(before);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fill_is_exact),
		cmocka_unit_test(fill_scales_floors),
		cmocka_unit_test(rounding_averages_out),
		cmocka_unit_test(plans_keep_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
