/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Re-runs the planner from the logs of a book's workers and finds differences, bit for bit; and writes logs out for people.
 * Control thread and tools; works on live logs and on saved ones.
 */
#pragma once

#include "ledger/log.h"

struct ledger_replay {
	uint64_t records;     /* read from all logs */
	uint64_t lost, damaged; /* as the readers count them */
	uint64_t plans;	      /* whole in the logs */
	uint64_t broken;      /* no plan, although no record is missing */
	uint64_t replayed;    /* of them: those that a checkpoint, or a replayed plan right before, leads to */
	uint64_t checkpoints; /* compared with what replay had come to by itself */
	uint64_t differences; /* records that came out otherwise */
	uint64_t unsettled;   /* replayed plans after which pool and balances were not LEDGER_SUPPLY */
	struct ledger_record recorded, replayed_record; /* the first difference */
};

/*
 * `logs`: all of one book, in any order; what is missing makes gaps, which the next checkpoint ends. 0, -EINVAL (logs of
 * several resources, or none), -ENOMEM, -EBADMSG (a checkpoint that no planner can have written), -EPROTONOSUPPORT (one with other
 * rules wrote them: differences would say nothing).
 */
int ledger_replay_run(const struct ledger_log *const logs[], unsigned n, struct ledger_replay *ret);

/* How a dump is written. */
struct ledger_dump_options {
	bool json; /* one object per line; else columns */
	/* Names for the numbers; NULL, or a NULL result: the numbers. The result is used at once. */
	const char *(*account_name)(void *arg, const struct ledger_account *account);
	void *arg;
};

/*
 * Writes the records of all logs, merged by time, to a stream that each line is handed to (without its newline). Returns how
 * many, or -ENOMEM.
 */
int64_t ledger_dump(const struct ledger_log *const logs[], unsigned n, const struct ledger_dump_options *options,
		    void (*line)(void *to, const char *text), void *to);
