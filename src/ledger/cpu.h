/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU time in the ledger: what co-scheduling's accounts used and were entitled to, kept once a second from totals that the
 * scheduler in the kernel counts. (Each of its settlements, thirty a second, would fill a log in minutes; a second's records
 * are their sum.) A credit is a nanosecond of CPU time. Pure; one writer.
 *
 * An account's balance is what it was given less what it used. What was used and given to nobody is in the pool, so
 *
 *   pool + all balances = 0
 *
 * after every second. The records are those of a plan: tick, use and settle of each account that did anything, end; and a
 * checkpoint (book, balance...) from time to time, from which a replay can begin. `vm` is the account's slot.
 */
#pragma once

#include "ledger/log.h"
#include "ledger/replay.h"

#define LEDGER_RESOURCE_CPU 0x8000u
#define LEDGER_CPU_ACCOUNTS 256u
#define LEDGER_CPU_LOG_RECORDS (1u << 15) /* 2 MiB: ten accounts' last half an hour */
#define LEDGER_CPU_CHECKPOINT 64u	  /* seconds */

/* As counted since the scheduler was loaded, or the account opened. */
struct ledger_cpu_totals {
	bool open;
	uint64_t used_ns, entitled_ns, waited_ns;
	uint64_t forfeited_ns; /* entitled, and then handed to others */
};

struct ledger_cpu_account {
	struct ledger_cpu_totals last;
	int64_t balance;
	uint64_t granted, used, demand; /* since it was opened; in the last second */
};

struct ledger_cpu_book {
	struct ledger_log log;
	uint64_t capacity; /* credits a second */
	int64_t pool;
	uint64_t ticks, last_ns, settlements;
	struct ledger_cpu_account account[LEDGER_CPU_ACCOUNTS];
};

/* 0 or -errno. */
int ledger_cpu_open(struct ledger_cpu_book *b, uint64_t capacity, uint64_t boot_ns, uint64_t now_ns);
void ledger_cpu_close(struct ledger_cpu_book *b);

/* All totals as of one settlement, number `settlements`. An account whose totals went back is a new one in the same slot. */
void ledger_cpu_settle(struct ledger_cpu_book *b, const struct ledger_cpu_totals totals[LEDGER_CPU_ACCOUNTS], uint64_t settlements,
		       uint64_t now_ns);

/* From one log: as ledger_replay_run(), which calls it for logs of this resource. */
int ledger_cpu_replay(const struct ledger_log *log, struct ledger_replay *ret);
