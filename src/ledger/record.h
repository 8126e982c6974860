/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One entry of a shared log: 64 bytes, host byte order, written once.
 *
 * `check` covers the other 56 bytes; every step of its computation is a bijection of each word, so that no change within
 * one 64-bit word, and so no flipped bit, goes unseen.
 */
#pragma once

#include "ledger/account.h"

enum ledger_op {
	LEDGER_USE = 1,	   /* worker's pair: amount spent since its last record, balance = credit left, detail as in GRANT */
	/* A plan, all from the worker that made it, first to last: */
	LEDGER_TICK,	   /* amount = ns since the last plan, balance = pool before, detail = generation of the plan */
	LEDGER_GRANT,	   /* worker's pair: amount given (< 0: taken), balance after, detail = slot<<48 | want */
	LEDGER_SETTLE,	   /* account: amount given, balance after of all workers, detail = slot<<48 | enum ledger_mode */
	LEDGER_END,	   /* amount = credits given in all, balance = pool after, detail = generation */
	/* A checkpoint, before a plan's TICK: everything that the planner knew. */
	LEDGER_BOOK,	   /* amount = capacity/s, balance = pool, detail = generation of the plan before */
	LEDGER_SHAPE,	   /* amount = quantum, balance = generation of the set, detail = workers<<48 | vms<<24 | accounts */
	LEDGER_CLOCK,	   /* amount = capacity remainder, balance = generation of the set before, detail = time of the plan before */
	/* Four of these in a row for each node; `worker` is 1 for VMs, 0 for accounts. */
	LEDGER_PROMISE,	   /* amount = reservation/s, balance = limit/s, detail = index<<48 | shares */
	LEDGER_BUCKET,	   /* amount = burst, balance = level, detail = 0 */
	LEDGER_REMAINDER,  /* amount = reservation's remainder, balance = limit's, detail = born (state's) */
	LEDGER_BIRTH,	   /* amount = born (set's), balance = parent, detail = mode */
	LEDGER_BALANCE,	   /* worker's pair: amount = slot, balance; pairs that hold 0 are left out */
	LEDGER_OPS
};

struct ledger_record {
	uint64_t sequence; /* of its log, from 1 */
	uint64_t time_ns;  /* CLOCK_MONOTONIC */
	uint64_t tick;	   /* time_ns / LEDGER_TICK_NS of the plan or use */
	int64_t amount, balance;
	uint64_t detail;
	uint16_t resource, vm, class;
	uint8_t op, worker;
	uint64_t check;
};

_Static_assert(sizeof(struct ledger_record) == 64, "the record format is fixed");

uint64_t ledger_record_check(const struct ledger_record *r);
/* "grant", …; "?" for what is none. */
const char *ledger_op_name(unsigned op);
