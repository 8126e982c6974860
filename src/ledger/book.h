/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The book of one resource, shared by the workers that use it: who may spend how much until the next tick.
 *
 * Theory of operation is in book.c. Each worker calls, on its own thread and with its own index, use/want per request (plain
 * stores to its own cache lines) and tick once per turn of its loop. Control calls create, apply, show, destroy.
 */
#pragma once

#include "ledger/log.h"
#include "ledger/plan.h"

struct ledger_book;

struct ledger_book_config {
	uint16_t resource;
	unsigned workers;      /* 1..LEDGER_WORKERS_MAX; indices of workers below */
	unsigned accounts_max; /* live and closed at one time; 1..LEDGER_ACCOUNTS_MAX */
	uint64_t boot_ns;      /* CLOCK_REALTIME - CLOCK_MONOTONIC: makes dates of the logs' times */
	uint64_t log_records;  /* ring size of each worker's log, a power of two; 0: 65536 (4 MiB) */
};

/* --- control thread --- */

int ledger_book_create(const struct ledger_book_config *config, struct ledger_book **ret);
/* No worker may use it any more. NULL is allowed. */
void ledger_book_destroy(struct ledger_book *b);
/*
 * Makes `spec` what is promised from the next plan on, and sets the accounts' slots. Errors as ledger_set_create(); nothing
 * is changed then. Workers must stop using an account's slot before it is left out of the spec; what they still charge to
 * it is written off.
 */
int ledger_book_apply(struct ledger_book *b, struct ledger_spec *spec);

/* --- worker `w`, its own thread --- */

/* Charges `amount` to the account, credit or not: what exceeds the credit is debt. At dispatch. */
void ledger_book_use(struct ledger_book *b, unsigned w, uint32_t slot, uint64_t amount);
/* The cost of all that waits in `w` for this account now, not dispatched yet (absolute, not added). */
void ledger_book_want(struct ledger_book *b, unsigned w, uint32_t slot, uint64_t amount);
/* What is left of the last grant; negative: debt. */
int64_t ledger_book_credit(const struct ledger_book *b, unsigned w, uint32_t slot);
/* May a request of this account be dispatched now? (See enum ledger_mode.) */
bool ledger_book_may(const struct ledger_book *b, unsigned w, uint32_t slot);
/* And any number of them, until the next ledger_book_tick()? */
bool ledger_book_open(const struct ledger_book *b, unsigned w, uint32_t slot);
/*
 * Once per turn: takes new grants, and when a tick has begun and `w` has used or wants something, plans it unless another
 * worker did. True: grants have changed, ask again for what was held.
 */
bool ledger_book_tick(struct ledger_book *b, unsigned w, uint64_t now_ns);
/* When `w` needs its next ledger_book_tick() although nothing wakes it: the next tick while it wants something. */
uint64_t ledger_book_deadline_ns(const struct ledger_book *b, unsigned w);

/* --- anybody --- */

/* One account as `fairlead ledger show` shows it; sums are since the account was opened, in credits. */
struct ledger_show {
	struct ledger_account id;
	struct ledger_promise promise;
	uint64_t entitled; /* credits/s */
	int64_t balance;   /* over all workers, at the last plan */
	uint64_t debt;	   /* of the balance, what is owed */
	uint64_t demand;   /* at the last plan */
	uint64_t granted, used, lent, borrowed;
	enum ledger_mode mode;
};

struct ledger_book_totals {
	uint64_t tick, generation; /* of the last plan */
	int64_t pool, outstanding; /* their sum is LEDGER_SUPPLY */
	uint64_t plans, plans_late; /* made; made too late and thrown away */
	uint64_t unsettled;	   /* plans whose sum was not LEDGER_SUPPLY: always 0, or a defect */
	uint64_t log_records;	   /* appended to all logs */
};

/* Control thread. Up to `max` accounts; returns how many there are, or -ENOMEM. `ret_totals` may be NULL. */
int ledger_book_show(const struct ledger_book *b, struct ledger_show *show, unsigned max,
		     struct ledger_book_totals *ret_totals);
/* The log of worker `w`, for readers; its fd may be passed on. */
const struct ledger_log *ledger_book_log(const struct ledger_book *b, unsigned w);
