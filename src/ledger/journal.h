/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plan as records (record.h says which): written by the worker that made it, rebuilt and compared by replay.
 */
#pragma once

#include "ledger/plan.h"
#include "ledger/record.h"

/* A checkpoint is written with every plan whose generation is a multiple of this, and with each new set's first plan. */
#define LEDGER_CHECKPOINT_PLANS 256u

/* What GRANT, SETTLE and USE keep in `detail`: the slot and a want or mode. */
#define LEDGER_DETAIL_BITS 48
static inline uint64_t ledger_detail(uint32_t slot, uint64_t value)
{
	return (uint64_t)slot << LEDGER_DETAIL_BITS | value;
}
static inline uint32_t ledger_detail_slot(uint64_t detail)
{
	return (uint32_t)(detail >> LEDGER_DETAIL_BITS);
}
static inline uint64_t ledger_detail_value(uint64_t detail)
{
	return detail & ((UINT64_C(1) << LEDGER_DETAIL_BITS) - 1);
}

/* Where records go; `record` fills in the rest or compares. */
struct ledger_sink {
	void (*record)(struct ledger_sink *, struct ledger_record *);
};

/* True if the plan made from `before` under `set` comes with a checkpoint. */
bool ledger_journal_checkpoint_due(const struct ledger_set *set, const struct ledger_state *before);
/* Everything that the planner knows before it plans. */
void ledger_journal_checkpoint(const struct ledger_set *set, const struct ledger_state *before, uint8_t planner,
			       struct ledger_sink *sink);
/* The plan that led from `before` to `after`. Wants in `input` must be LEDGER_WANT_MAX at most. */
void ledger_journal_plan(const struct ledger_set *set, const struct ledger_state *before, const struct ledger_state *after,
			 const struct ledger_input *input, uint8_t planner, struct ledger_sink *sink);
