/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ledger/cpu.h"

#include "ledger/journal.h"

#include <errno.h>
#include <string.h>

/* --- writing --- */

int ledger_cpu_open(struct ledger_cpu_book *b, uint64_t capacity, uint64_t boot_ns, uint64_t now_ns)
{
	memset(b, 0, sizeof(*b));
	b->capacity = capacity;
	b->last_ns = now_ns;
	return ledger_log_create(&b->log, LEDGER_RESOURCE_CPU, 0, LEDGER_CPU_LOG_RECORDS, boot_ns);
}

void ledger_cpu_close(struct ledger_cpu_book *b)
{
	ledger_log_close(&b->log);
}

static void append(struct ledger_cpu_book *b, uint64_t now_ns, enum ledger_op op, unsigned slot, int64_t amount, int64_t balance,
		   uint64_t detail)
{
	struct ledger_record r = {
		.time_ns = now_ns, .tick = b->ticks, .op = (uint8_t)op, .resource = LEDGER_RESOURCE_CPU,
		.vm = slot < LEDGER_CPU_ACCOUNTS ? (uint16_t)slot : LEDGER_CLASS_VM, .class = LEDGER_CLASS_VM,
		.amount = amount, .balance = balance, .detail = detail,
	};

	ledger_log_append(&b->log, &r);
}

#define NO_SLOT LEDGER_CPU_ACCOUNTS

static void checkpoint(struct ledger_cpu_book *b, uint64_t now_ns)
{
	append(b, now_ns, LEDGER_BOOK, NO_SLOT, (int64_t)b->capacity, b->pool, b->ticks);
	for (unsigned i = 0; i < LEDGER_CPU_ACCOUNTS; i++)
		if (b->account[i].balance)
			append(b, now_ns, LEDGER_BALANCE, i, (int64_t)i, b->account[i].balance, 0);
}

/* What it held or owed goes to the pool. */
static int64_t close_account(struct ledger_cpu_book *b, unsigned slot, uint64_t now_ns)
{
	struct ledger_cpu_account *a = &b->account[slot];
	int64_t balance = a->balance;

	if (balance)
		append(b, now_ns, LEDGER_SETTLE, slot, -balance, 0, ledger_detail(slot, 0));
	*a = (struct ledger_cpu_account){ .last = { .open = false } };
	return -balance;
}

/* Returns what it got, less what it used. */
static int64_t settle_account(struct ledger_cpu_book *b, unsigned slot, const struct ledger_cpu_totals *t, uint64_t now_ns,
			      int64_t *given)
{
	struct ledger_cpu_account *a = &b->account[slot];
	int64_t used = (int64_t)(t->used_ns - a->last.used_ns);
	int64_t got = (int64_t)(t->entitled_ns - a->last.entitled_ns) - (int64_t)(t->forfeited_ns - a->last.forfeited_ns);
	uint64_t waited = t->waited_ns - a->last.waited_ns;

	a->last = *t;
	a->demand = (uint64_t)used + waited;
	if (!used && !got && !waited)
		return 0;
	a->used += (uint64_t)used;
	a->granted += (uint64_t)(got > 0 ? got : 0);
	a->balance -= used;
	append(b, now_ns, LEDGER_USE, slot, used, a->balance, ledger_detail(slot, min_u64(waited, LEDGER_WANT_MAX)));
	a->balance += got;
	append(b, now_ns, LEDGER_SETTLE, slot, got, a->balance, ledger_detail(slot, 0));
	*given += got;
	return got - used;
}

static bool went_back(const struct ledger_cpu_totals *t, const struct ledger_cpu_totals *last)
{
	return t->used_ns < last->used_ns || t->entitled_ns < last->entitled_ns || t->waited_ns < last->waited_ns ||
	       t->forfeited_ns < last->forfeited_ns;
}

void ledger_cpu_settle(struct ledger_cpu_book *b, const struct ledger_cpu_totals totals[LEDGER_CPU_ACCOUNTS], uint64_t settlements,
		       uint64_t now_ns)
{
	int64_t given = 0;

	if (b->ticks % LEDGER_CPU_CHECKPOINT == 0)
		checkpoint(b, now_ns);
	append(b, now_ns, LEDGER_TICK, NO_SLOT, (int64_t)(now_ns - b->last_ns), b->pool, settlements);
	for (unsigned i = 0; i < LEDGER_CPU_ACCOUNTS; i++) {
		if (b->account[i].last.open && (!totals[i].open || went_back(&totals[i], &b->account[i].last)))
			b->pool -= close_account(b, i, now_ns);
		if (totals[i].open)
			b->pool -= settle_account(b, i, &totals[i], now_ns, &given);
	}
	append(b, now_ns, LEDGER_END, NO_SLOT, given, b->pool, settlements);
	b->last_ns = now_ns;
	b->settlements = settlements;
	b->ticks++;
}

/* --- replay --- */

struct cpu_replay {
	struct ledger_replay *out;
	bool based; /* on a checkpoint, of which the balances may still come */
	bool known; /* a whole checkpoint led here, and nothing is missing since */
	bool open;  /* within a tick */
	uint64_t sequence;
	int64_t pool, moved; /* moved: from the pool to accounts, in this tick */
	int64_t balance[LEDGER_CPU_ACCOUNTS];
};

/* What is in a file may be anything; it wraps, and then differs. */
static int64_t plus(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int64_t minus(int64_t a, int64_t b)
{
	return (int64_t)((uint64_t)a - (uint64_t)b);
}

static void compare(struct cpu_replay *rp, const struct ledger_record *r, int64_t balance)
{
	if (!rp->known || r->balance == balance)
		return;
	if (rp->out->differences++ == 0) {
		rp->out->recorded = *r;
		rp->out->replayed_record = *r;
		rp->out->replayed_record.balance = balance;
	}
}

static void begin_from(struct cpu_replay *rp, const struct ledger_record *r)
{
	compare(rp, r, rp->pool);
	rp->out->checkpoints++;
	rp->based = true;
	if (!rp->known)
		memset(rp->balance, 0, sizeof(rp->balance));
	rp->pool = r->balance;
}

static void end_tick(struct cpu_replay *rp, const struct ledger_record *r)
{
	int64_t sum = r->balance;

	rp->out->plans += rp->open;
	rp->out->broken += !rp->open;
	rp->open = false;
	rp->pool = minus(rp->pool, rp->moved);
	compare(rp, r, rp->pool);
	if (!rp->known)
		return;
	rp->out->replayed++;
	for (unsigned i = 0; i < LEDGER_CPU_ACCOUNTS; i++)
		sum = plus(sum, rp->balance[i]);
	rp->out->unsettled += sum != 0;
	rp->pool = r->balance;
}

static void move(struct cpu_replay *rp, const struct ledger_record *r, int64_t amount)
{
	int64_t *balance = &rp->balance[r->vm % LEDGER_CPU_ACCOUNTS];

	*balance = plus(*balance, amount);
	rp->moved = plus(rp->moved, amount);
	compare(rp, r, *balance);
	*balance = r->balance;
}

static void take(struct cpu_replay *rp, const struct ledger_record *r)
{
	switch (r->op) {
	case LEDGER_BOOK:
		begin_from(rp, r);
		break;
	case LEDGER_BALANCE:
		compare(rp, r, rp->balance[r->vm % LEDGER_CPU_ACCOUNTS]);
		rp->balance[r->vm % LEDGER_CPU_ACCOUNTS] = r->balance;
		break;
	case LEDGER_TICK:
		/* Checkpoints are whole when the tick behind them begins. */
		rp->known |= rp->based;
		compare(rp, r, rp->pool);
		rp->open = true;
		rp->moved = 0;
		break;
	case LEDGER_USE:
		move(rp, r, minus(0, r->amount));
		break;
	case LEDGER_SETTLE:
		move(rp, r, r->amount);
		break;
	case LEDGER_END:
		end_tick(rp, r);
		break;
	default:
		rp->out->broken++;
	}
}

int ledger_cpu_replay(const struct ledger_log *log, struct ledger_replay *ret)
{
	struct ledger_replay out = { 0 };
	struct cpu_replay rp = { .out = &out };
	struct ledger_reader reader;
	struct ledger_record r;
	/* A live log could go on for ever. */
	uint64_t bound = log->mask + 1;

	ledger_reader_init(&reader, log);
	while (out.records < bound && ledger_reader_next(&reader, &r)) {
		out.records++;
		if (rp.sequence && r.sequence != rp.sequence + 1)
			rp = (struct cpu_replay){ .out = &out };
		/* What was overwritten, or the rest of a tick that began before: until the next checkpoint nothing is known. */
		if (!rp.known && !rp.open && r.op != LEDGER_BOOK && r.op != LEDGER_TICK && r.op != LEDGER_BALANCE) {
			rp.sequence = r.sequence;
			continue;
		}
		rp.sequence = r.sequence;
		take(&rp, &r);
	}
	out.lost = reader.lost;
	out.damaged = reader.damaged;
	*ret = out;
	return 0;
}
