/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The planner: who may spend what until the next tick. Called by the worker that claimed the tick, by replay and by tests.
 *
 * Why not simply give every worker its part of every promise: an account's demand moves between workers, and what one side
 * leaves idle the other could use. Why not one shared counter per account: every request would write it from several CPUs.
 * So once per tick the credits of all accounts are dealt anew, from what each worker spent and has waiting:
 *
 *  1. Book: what was spent leaves the balances and returns to the pool.
 *  2. Take back: what an account holds and has not spent was lent to it for this tick only, and serves all with the next.
 *     But if it still wants, the device was in its way: it has a *claim* to as much again, before anything is divided. Else
 *     who finds the device full at times, which is who has much, would fall behind its share for good. What an account owes
 *     stays owed.
 *  3. Demand: debt + what waits + what was spent, plus a quarter, as a guess at the next tick (a depth-1 reader has nothing
 *     waiting at most instants). Nothing spent and nothing waiting: no demand, and all its credit serves others.
 *  4. Divide what is new and what came back between VMs by ledger_fill(): floor = the VM's reservation, cap = demand and
 *     limit, weight = shares; then each VM's part between its classes, likewise. So reservations come first, and what is left
 *     evens out credits per share: an account gets max(reservation, level x shares), as with mClock's tags.
 *     Where claims grow beyond some ticks' worth, the device is slower than its capacity says: then less is new, down to
 *     half, and those who can spend wait for those who cannot.
 *  5. Debt is paid first; the rest goes to the workers where the demand is. An account bound by its limit fills one worker
 *     after the other, starting with another one each tick: crumbs on all workers would let each of them start a request.
 *
 * Limits are buckets: filled at the limit's rate, at most the burst, emptied by what is given, refilled by what is taken back.
 * So the credits that ever went to an account never exceed burst + limit x time, and what it spent exceeds them by no more
 * than one request for each worker (enum ledger_mode).
 *
 * Every credit given, taken or spent moves between pool and balances: their sum stays LEDGER_SUPPLY. Fractions of a credit
 * are carried: rates in the buckets' remainders, divisions by ledger_fill()'s phase.
 */
#include "ledger/plan.h"

#include "base/clock.h"
#include "ledger/fill.h"

#include <errno.h>
#include <string.h>

typedef unsigned __int128 u128;

struct ledger_scratch {
	uint32_t accounts_max;
	struct ledger_fill_item *vm, *account; /* in the set's order */
	struct account_view {
		int64_t net;	 /* balance over all workers, positive part to be taken back */
		uint64_t demand; /* of the workers, without debt */
		uint64_t claim;	 /* of what is taken back, what it gets again */
		bool limited;
		bool left; /* not dealt with: holds credit and wants, while only debts are paid */
	} *view;
};

/* One division of credits: of a whole tick, or of time in which nobody planned. */
struct deal {
	const struct ledger_set *set;
	struct ledger_state *state;
	const struct ledger_input *input;
	struct ledger_scratch *scratch;
	uint64_t elapsed_ns, budget; /* new credits */
	bool debts; /* time for which only debts are paid */
	bool slack; /* demand leaves a good part of the budget */
};

int ledger_state_create(uint32_t accounts_max, uint32_t workers, struct ledger_state **ret)
{
	struct ledger_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->vm = calloc(accounts_max, sizeof(*s->vm));
	s->account = calloc(accounts_max, sizeof(*s->account));
	s->standing = calloc(accounts_max, sizeof(*s->standing));
	s->mode = calloc(accounts_max, sizeof(*s->mode));
	s->balance = calloc((size_t)accounts_max * workers, sizeof(*s->balance));
	if (!s->vm || !s->account || !s->standing || !s->mode || !s->balance) {
		ledger_state_destroy(s);
		return -ENOMEM;
	}
	s->accounts_max = accounts_max;
	s->workers = workers;
	s->pool = LEDGER_SUPPLY;
	*ret = s;
	return 0;
}

void ledger_state_destroy(struct ledger_state *s)
{
	if (!s)
		return;
	free(s->vm);
	free(s->account);
	free(s->standing);
	free(s->mode);
	free(s->balance);
	free(s);
}

void ledger_state_copy(const struct ledger_set *set, struct ledger_state *to, const struct ledger_state *from)
{
	struct ledger_state arrays = *to;

	*to = *from;
	to->vm = memcpy(arrays.vm, from->vm, set->vms * sizeof(*to->vm));
	to->account = memcpy(arrays.account, from->account, set->accounts * sizeof(*to->account));
	to->standing = memcpy(arrays.standing, from->standing, set->accounts * sizeof(*to->standing));
	to->mode = memcpy(arrays.mode, from->mode, set->accounts * sizeof(*to->mode));
	to->balance = arrays.balance;
	for (uint32_t w = 0; w < from->workers; w++)
		memcpy(ledger_state_pair(to, w, 0), ledger_state_pair(from, w, 0), set->accounts * sizeof(*to->balance));
}

int ledger_scratch_create(uint32_t accounts_max, struct ledger_scratch **ret)
{
	struct ledger_scratch *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->accounts_max = accounts_max;
	s->vm = calloc(accounts_max, sizeof(*s->vm));
	s->account = calloc(accounts_max, sizeof(*s->account));
	s->view = calloc(accounts_max, sizeof(*s->view));
	if (!s->vm || !s->account || !s->view) {
		ledger_scratch_destroy(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

void ledger_scratch_destroy(struct ledger_scratch *s)
{
	if (!s)
		return;
	free(s->vm);
	free(s->account);
	free(s->view);
	free(s);
}

int64_t ledger_state_sum(const struct ledger_state *s, uint32_t slot)
{
	int64_t sum = 0;

	for (uint32_t w = 0; w < s->workers; w++)
		sum += *ledger_state_pair(s, w, slot);
	return sum;
}

static bool has_limit(const struct ledger_node *n)
{
	return n->promise.limit != LEDGER_UNLIMITED;
}

/* rate x time in whole credits; the rest is kept for the next time. */
static uint64_t accrue(uint64_t rate, uint64_t elapsed_ns, uint64_t *remainder)
{
	u128 n = (u128)rate * elapsed_ns + *remainder;

	*remainder = (uint64_t)(n % NSEC_PER_SEC);
	n /= NSEC_PER_SEC;
	return n < (u128)LEDGER_SUPPLY ? (uint64_t)n : (uint64_t)LEDGER_SUPPLY;
}

/* Even without a burst the credits of a plan that comes late are due. */
static int64_t level_max(const struct ledger_node *n)
{
	uint64_t late = n->promise.limit / (NSEC_PER_SEC / (LEDGER_LATE_TICKS * LEDGER_TICK_NS)) + 1;

	return (int64_t)max_u64(n->promise.burst, late);
}

static void bucket_fill(const struct ledger_node *n, struct ledger_bucket *b, uint64_t elapsed_ns)
{
	if (has_limit(n))
		b->level += (int64_t)accrue(n->promise.limit, elapsed_ns, &b->limit_rem);
}

static void bucket_give(const struct ledger_node *n, struct ledger_bucket *b, int64_t amount)
{
	if (has_limit(n))
		b->level -= amount;
}

/* After giving, not before: a debt may be paid from the whole time in which nobody planned. */
static void bucket_spill(const struct ledger_node *n, struct ledger_bucket *b)
{
	if (b->level > level_max(n))
		b->level = level_max(n);
}

static void bucket_open(const struct ledger_node *n, struct ledger_bucket *b)
{
	*b = (struct ledger_bucket){ .born = n->born, .level = n->born && has_limit(n) ? level_max(n) : 0 };
}

/* What all workers hold of the account goes to the pool, owed or owned. */
static void account_write_off(struct ledger_state *s, uint32_t slot)
{
	for (uint32_t w = 0; w < s->workers; w++) {
		s->pool += *ledger_state_pair(s, w, slot);
		*ledger_state_pair(s, w, slot) = 0;
	}
}

static void nodes_open(const struct ledger_set *set, struct ledger_state *s)
{
	for (uint32_t v = 0; v < set->vms; v++)
		if (s->vm[v].born != set->vm[v].born)
			bucket_open(&set->vm[v], &s->vm[v]);
	for (uint32_t i = 0; i < set->accounts; i++)
		if (s->account[i].born != set->account[i].born) {
			account_write_off(s, i);
			bucket_open(&set->account[i], &s->account[i]);
			memset(&s->standing[i], 0, sizeof(s->standing[i]));
		}
	s->set_generation = set->generation;
}

static void book_use(const struct ledger_set *set, struct ledger_state *s, const struct ledger_input *input)
{
	for (uint32_t w = 0; w < s->workers; w++) {
		const struct ledger_input *in = &input[(size_t)w * s->accounts_max];

		for (uint32_t i = 0; i < set->accounts; i++) {
			if (in[i].used == 0 || set->account[i].born == 0)
				continue;
			*ledger_state_pair(s, w, i) -= (int64_t)in[i].used;
			s->pool += (int64_t)in[i].used;
			s->standing[i].used += in[i].used;
		}
	}
}

static uint64_t pair_demand(const struct deal *d, uint32_t w, uint32_t slot)
{
	const struct ledger_input *in;

	if (d->debts)
		return 0;
	in = &d->input[(size_t)w * d->state->accounts_max + slot];
	return min_u64(min_u64(in->want, LEDGER_WANT_MAX) + in->used + in->used / 4, LEDGER_WANT_MAX);
}

static bool wants(const struct deal *d, uint32_t slot)
{
	for (uint32_t w = 0; w < d->state->workers; w++)
		if (d->input[(size_t)w * d->state->accounts_max + slot].want)
			return true;
	return false;
}

/* Looks at one account: steps 2 and 3, and its bounds for step 4. */
static void account_view(const struct deal *d, uint32_t slot, struct ledger_fill_item *item)
{
	const struct ledger_node *n = &d->set->account[slot], *vm = &d->set->vm[n->parent];
	struct ledger_bucket *b = &d->state->account[slot], *vb = &d->state->vm[n->parent];
	struct account_view *v = &d->scratch->view[slot];
	uint64_t reserved = accrue(n->promise.reservation, d->elapsed_ns, &b->reservation_rem);

	*v = (struct account_view){ .net = ledger_state_sum(d->state, slot), .limited = has_limit(n) || has_limit(vm) };
	for (uint32_t w = 0; w < d->state->workers; w++)
		v->demand += pair_demand(d, w, slot);
	bucket_fill(n, b, d->elapsed_ns);
	v->left = d->debts && v->net > 0 && wants(d, slot);
	if (v->net > 0 && !v->left) {
		bucket_give(n, b, -v->net);
		bucket_give(vm, vb, -v->net);
	}
	d->state->standing[slot].demand = v->demand + (v->net < 0 ? (uint64_t)-v->net : 0);
	item->cap = d->state->standing[slot].demand;
	if (has_limit(n))
		item->cap = min_u64(item->cap, (uint64_t)b->level);
	if (v->net > 0 && !d->debts && wants(d, slot))
		v->claim = min_u64((uint64_t)v->net, item->cap);
	item->floor = reserved;
	item->weight = n->promise.shares;
}

/* Where there is room, those whose limit is far get more than they asked for: they must not wait for a tick. */
static void account_widen(const struct deal *d, uint32_t slot, struct ledger_fill_item *item)
{
	const struct ledger_node *n = &d->set->account[slot];
	const struct account_view *v = &d->scratch->view[slot];
	uint64_t level = (uint64_t)(has_limit(n) ? d->state->account[slot] : d->state->vm[n->parent]).level;

	if (v->limited && v->demand && level > v->claim)
		item->cap = max_u64(item->cap, level - v->claim);
}

static void vm_bounds(const struct deal *d, uint32_t v)
{
	const struct ledger_node *n = &d->set->vm[v];
	const struct ledger_fill_item *account = &d->scratch->account[n->first];
	struct ledger_fill_item *item = &d->scratch->vm[v];
	uint64_t level = (uint64_t)d->state->vm[v].level, claims = 0;

	item->cap = 0;
	for (uint32_t i = 0; i < n->count; i++) {
		item->cap += account[i].cap;
		claims += d->scratch->view[d->set->order[n->first + i]].claim;
	}
	/* What is claimed was taken back to the limit, unless that has become smaller since. */
	if (has_limit(n))
		item->cap = min_u64(item->cap, level > claims ? level - claims : 0);
	item->floor = min_u64(item->floor, item->cap);
	item->weight = n->promise.shares;
}

/*
 * Bounds the claims. Returns what is divided besides: new credits, and what came back unclaimed, as much again at most; fewer
 * while much is claimed, but half of the new ones at least.
 */
static uint64_t claims_settle(struct deal *d, uint64_t claimed, uint64_t unclaimed)
{
	u128 tick = (u128)d->set->capacity * LEDGER_TICK_NS / NSEC_PER_SEC;
	uint64_t free = (uint64_t)tick * LEDGER_KEEP_TICKS + d->set->quantum, most = free * LEDGER_KEEP_MOST, over;

	for (uint32_t i = 0; i < d->set->accounts && claimed > most; i++) {
		struct account_view *v = &d->scratch->view[i];

		if (d->set->account[i].born)
			v->claim = (uint64_t)((u128)v->claim * most / claimed);
	}
	claimed = min_u64(claimed, most);
	over = claimed > free ? claimed - free : 0;
	return d->budget + min_u64(unclaimed, d->budget) - min_u64(over, d->budget / 2);
}

/* Steps 2 to 4: what each account is given besides its claim, in scratch->account. */
static void deal_divide(struct deal *d)
{
	struct ledger_scratch *sc = d->scratch;
	uint64_t wanted = 0, claimed = 0, unclaimed = 0, rest;

	for (uint32_t v = 0; v < d->set->vms; v++) {
		const struct ledger_node *vm = &d->set->vm[v];

		bucket_fill(vm, &d->state->vm[v], d->elapsed_ns);
		sc->vm[v].floor = accrue(vm->promise.reservation, d->elapsed_ns, &d->state->vm[v].reservation_rem);
		for (uint32_t i = vm->first; i < vm->first + vm->count; i++) {
			const struct account_view *view = &sc->view[d->set->order[i]];

			account_view(d, d->set->order[i], &sc->account[i]);
			claimed += view->claim;
			unclaimed += view->net > 0 && !view->left ? (uint64_t)view->net - view->claim : 0;
		}
	}
	rest = claims_settle(d, claimed, unclaimed);
	for (uint32_t v = 0; v < d->set->vms; v++) {
		const struct ledger_node *vm = &d->set->vm[v];

		for (uint32_t i = vm->first; i < vm->first + vm->count; i++) {
			sc->account[i].cap -= sc->view[d->set->order[i]].claim;
			sc->account[i].floor = min_u64(sc->account[i].floor, sc->account[i].cap);
			wanted += sc->view[d->set->order[i]].claim;
		}
		vm_bounds(d, v);
		wanted += sc->vm[v].cap;
	}
	d->state->demand = wanted;
	d->slack = !d->debts && wanted <= d->budget / 4 * 3;
	for (uint32_t v = 0; v < d->set->vms && d->slack; v++) {
		const struct ledger_node *vm = &d->set->vm[v];

		for (uint32_t i = vm->first; i < vm->first + vm->count; i++)
			account_widen(d, d->set->order[i], &sc->account[i]);
		vm_bounds(d, v);
	}
	ledger_fill(rest, sc->vm, d->set->vms, d->state->generation);
	for (uint32_t v = 0; v < d->set->vms; v++) {
		const struct ledger_node *vm = &d->set->vm[v];

		ledger_fill(sc->vm[v].got, &sc->account[vm->first], vm->count, d->state->generation);
	}
}

/* The account still owes `debt`, or nothing and has nothing: what there is pays one worker's part after the other. */
static void split_debt(const struct deal *d, uint32_t slot, uint64_t debt)
{
	uint64_t payment = 0;

	for (uint32_t w = 0; w < d->state->workers; w++)
		if (*ledger_state_pair(d->state, w, slot) < 0)
			payment += (uint64_t)-*ledger_state_pair(d->state, w, slot);
	payment -= debt;
	for (uint32_t k = 0; k < d->state->workers; k++) {
		uint32_t w = (uint32_t)((d->state->generation + k) % d->state->workers);
		int64_t *b = ledger_state_pair(d->state, w, slot);
		uint64_t part = *b < 0 ? min_u64((uint64_t)-*b, payment) : 0;

		*b = *b < 0 ? *b + (int64_t)part : 0;
		payment -= part;
	}
}

/* Step 5, one worker after the other. */
static void split_in_turn(const struct deal *d, uint32_t slot, uint64_t amount)
{
	for (uint32_t k = 0; k < d->state->workers; k++) {
		uint32_t w = (uint32_t)((d->state->generation + k) % d->state->workers);
		uint64_t part = min_u64(amount, pair_demand(d, w, slot));

		*ledger_state_pair(d->state, w, slot) = (int64_t)part;
		amount -= part;
	}
}

/* Step 5, evenly where the demand is. */
static void split_evenly(const struct deal *d, uint32_t slot, uint64_t amount, uint64_t demand)
{
	struct ledger_fill_item item[LEDGER_WORKERS_MAX];

	for (uint32_t w = 0; w < d->state->workers; w++) {
		uint64_t wanted = pair_demand(d, w, slot);

		item[w].floor = amount < demand ? 0 : wanted;
		item[w].cap = amount < demand || wanted == 0 ? wanted : amount;
		item[w].weight = 1;
	}
	ledger_fill(amount, item, d->state->workers, d->state->generation);
	for (uint32_t w = 0; w < d->state->workers; w++)
		*ledger_state_pair(d->state, w, slot) = (int64_t)item[w].got;
}

static enum ledger_mode account_mode(const struct deal *d, uint32_t slot, int64_t after)
{
	const struct ledger_node *n = &d->set->account[slot], *vm = &d->set->vm[n->parent];
	/* What workers may overdraw at a DOOR before the next plan. */
	uint64_t room = d->set->quantum * d->state->workers;

	if (after < 0)
		return LEDGER_HOLD;
	if (has_limit(n) && (uint64_t)d->state->account[slot].level < room)
		return LEDGER_HOLD;
	if (has_limit(vm) && (uint64_t)d->state->vm[n->parent].level / vm->count < room)
		return LEDGER_HOLD;
	return d->slack && !d->scratch->view[slot].limited ? LEDGER_OPEN : LEDGER_DOOR;
}

static void account_stand(const struct deal *d, uint32_t slot, int64_t given)
{
	struct ledger_standing *st = &d->state->standing[slot];
	uint64_t due = (uint64_t)((u128)d->set->account[slot].entitled * d->elapsed_ns / NSEC_PER_SEC);
	uint64_t got = given > 0 ? (uint64_t)given : 0;

	st->granted += (uint64_t)given;
	st->lent += got < due ? due - got : 0;
	st->borrowed += got > due ? got - due : 0;
}

/* Gives an account its claim and what was divided. */
static void account_settle(const struct deal *d, uint32_t slot, uint64_t divided)
{
	struct account_view *v = &d->scratch->view[slot];
	const struct ledger_node *n = &d->set->account[slot];
	uint64_t got = v->claim + divided;
	int64_t after = (v->net < 0 ? v->net : 0) + (int64_t)got;

	if (v->left) {
		bucket_spill(n, &d->state->account[slot]);
		return;
	}
	bucket_give(n, &d->state->account[slot], (int64_t)got);
	bucket_give(&d->set->vm[n->parent], &d->state->vm[n->parent], (int64_t)got);
	bucket_spill(n, &d->state->account[slot]);
	if (after <= 0)
		split_debt(d, slot, (uint64_t)-after);
	else if (v->limited && (uint64_t)after < v->demand)
		split_in_turn(d, slot, (uint64_t)after);
	else
		split_evenly(d, slot, (uint64_t)after, v->demand);
	d->state->pool -= after - v->net;
	d->state->given += got;
	account_stand(d, slot, after - v->net);
}

static void deal_out(struct deal *d)
{
	d->budget = accrue(d->set->capacity, d->elapsed_ns, &d->state->capacity_rem);
	deal_divide(d);
	for (uint32_t v = 0; v < d->set->vms; v++) {
		const struct ledger_node *vm = &d->set->vm[v];

		for (uint32_t i = vm->first; i < vm->first + vm->count; i++)
			account_settle(d, d->set->order[i], d->scratch->account[i].got);
		bucket_spill(vm, &d->state->vm[v]);
	}
	/* Last, because a limit of the VM's is used by all of its accounts. */
	for (uint32_t i = 0; i < d->set->accounts; i++)
		if (d->set->account[i].born)
			d->state->mode[i] = account_mode(d, i, ledger_state_sum(d->state, i));
		else
			d->state->mode[i] = LEDGER_HOLD;
}

void ledger_plan(const struct ledger_set *set, struct ledger_state *state, const struct ledger_input *input,
		 uint64_t now_ns, struct ledger_scratch *scratch)
{
	struct deal d = { .set = set, .state = state, .input = input, .scratch = scratch };
	uint64_t late_ns = LEDGER_LATE_TICKS * LEDGER_TICK_NS, elapsed_ns = LEDGER_TICK_NS;

	if (state->time_ns)
		elapsed_ns = now_ns > state->time_ns ? now_ns - state->time_ns : 0;
	state->time_ns = max_u64(now_ns, state->time_ns);
	state->tick = state->time_ns / LEDGER_TICK_NS;
	state->generation++;
	state->given = 0;
	/* Before booking: what a new account spent before its first plan is its own. */
	if (state->set_generation != set->generation)
		nodes_open(set, state);
	book_use(set, state, input);
	if (elapsed_ns > late_ns) {
		d.elapsed_ns = elapsed_ns - late_ns;
		d.debts = true;
		deal_out(&d);
		elapsed_ns = late_ns;
	}
	d.elapsed_ns = elapsed_ns;
	d.debts = false;
	deal_out(&d);
}

int64_t ledger_state_total(const struct ledger_set *set, const struct ledger_state *state)
{
	int64_t total = state->pool;

	for (uint32_t i = 0; i < set->accounts; i++)
		total += ledger_state_sum(state, i);
	return total;
}
