/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading checkpoints, for replay.
 */
#pragma once

#include "ledger/plan.h"
#include "ledger/record.h"

/* More than there can be by far, less than could overflow. The pool is above LEDGER_SUPPLY while accounts are in debt. */
#define LEDGER_CREDIT_MAX (16 * LEDGER_SUPPLY)

static inline bool ledger_is_credit(int64_t v)
{
	return v >= -LEDGER_CREDIT_MAX && v <= LEDGER_CREDIT_MAX;
}

/* The sizes in a SHAPE record. False: there are no such books. */
bool ledger_checkpoint_shape(const struct ledger_record *r, uint32_t *workers, uint32_t *vms, uint32_t *accounts);

/*
 * `n` records from a BOOK on, into `s`, which has room for the sizes that they tell, and a new set. -EBADMSG: no planner can have
 * written them.
 */
int ledger_checkpoint_load(const struct ledger_record *r, unsigned n, struct ledger_set **ret, struct ledger_state *s);
