/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The planner: a pure function from what was promised, used and wanted to what each worker may spend in the next tick.
 * Called by the worker that claimed the tick, by replay and by tests. No clock, no randomness, no allocation.
 */
#pragma once

#include "ledger/account.h"

/* All credits there are in a book: the pool's and the accounts'. A constant, so that any loss shows. */
#define LEDGER_SUPPLY INT64_C(1000000000000000)
/* A plan that comes later than this many ticks pays debts for the whole time, but gives new credit for these only. */
#define LEDGER_LATE_TICKS 4u
/* Accounts with demand may hold so many ticks' worth and a largest request unspent; more makes new credits fewer. */
#define LEDGER_KEEP_TICKS 2u
/* Times that, and they lose it. */
#define LEDGER_KEEP_MOST 4u
/*
 * Raised with every change of what is planned from the same inputs. Logs tell it, as only the same rules can be expected to come to
 * the same plans. 0: before there were numbers.
 */
#define LEDGER_PLAN_RULES 1u

/* What a worker may do with an account until the next plan. */
enum ledger_mode {
	LEDGER_HOLD, /* spend while credit is positive: the last request may overdraw */
	LEDGER_DOOR, /* also at exactly zero: one that wakes need not wait for the tick, it starts with a debt instead */
	LEDGER_OPEN, /* the resource has room to spare and no limit applies: spend, it will be settled */
};

/* A node's part of the planner's memory. */
struct ledger_bucket {
	int64_t level;		     /* of its limit: what may be given out now */
	uint64_t reservation_rem, limit_rem; /* of rate x time / 10^9 */
	uint64_t born;		     /* see ledger_node */
};

/* What the planner knows of an account besides; the sums are for people and metrics. */
struct ledger_standing {
	uint64_t demand, granted, used, lent, borrowed;
};

/* One worker's side of an account: what it spent since the last plan and what waits. */
struct ledger_input {
	uint64_t used, want;
};

/* The planner's memory. */
struct ledger_state {
	uint64_t time_ns, tick, generation, set_generation;
	uint64_t capacity_rem;
	int64_t pool;
	uint64_t given;	     /* by the last plan */
	uint64_t demand;     /* seen by the last plan */
	uint32_t accounts_max, workers;
	struct ledger_bucket *vm, *account;
	struct ledger_standing *standing;
	uint64_t *mode; /* enum ledger_mode of each account */
	int64_t *balance;
};

static inline int64_t *ledger_state_pair(const struct ledger_state *s, uint32_t w, uint32_t slot)
{
	return &s->balance[(size_t)w * s->accounts_max + slot];
}

/* Working memory, so that planning allocates nothing. */
struct ledger_scratch;

/* All zero but the pool, which holds everything. */
int ledger_state_create(uint32_t accounts_max, uint32_t workers, struct ledger_state **ret);
void ledger_state_destroy(struct ledger_state *s);
/* The part of it that `set` uses; `to` has the same dimensions. */
void ledger_state_copy(const struct ledger_set *set, struct ledger_state *to, const struct ledger_state *from);
int ledger_scratch_create(uint32_t accounts_max, struct ledger_scratch **ret);
void ledger_scratch_destroy(struct ledger_scratch *s);

/*
 * Plans the time from state->time_ns to `now_ns`: books `input` (same indexing as balance), then gives and takes. The first
 * plan of a state counts as one tick.
 */
void ledger_plan(const struct ledger_set *set, struct ledger_state *state, const struct ledger_input *input,
		 uint64_t now_ns, struct ledger_scratch *scratch);

/* What all workers hold of an account; negative: debt. */
int64_t ledger_state_sum(const struct ledger_state *s, uint32_t slot);
/* Sum of all balances and the pool; LEDGER_SUPPLY unless something is wrong. */
int64_t ledger_state_total(const struct ledger_set *set, const struct ledger_state *state);
