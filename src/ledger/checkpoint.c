/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a checkpoint's records back to the planner's memory; ledger_journal_checkpoint() writes them. The records are foreign:
 * every number that is used as an index or divisor, or is added up, is checked here.
 */
#include "ledger/checkpoint.h"

#include "base/clock.h"
#include "ledger/journal.h"

#include <errno.h>

static bool is_rate(int64_t v)
{
	return v >= 0 && v <= (int64_t)LEDGER_RATE_MAX;
}

bool ledger_checkpoint_shape(const struct ledger_record *r, uint32_t *workers, uint32_t *vms, uint32_t *accounts)
{
	*workers = (uint32_t)(r->detail >> 48);
	*vms = (uint32_t)(r->detail >> 24) & 0xffffff;
	*accounts = (uint32_t)r->detail & 0xffffff;
	return *workers && *workers <= LEDGER_WORKERS_MAX && *vms <= LEDGER_ACCOUNTS_MAX && *accounts <= LEDGER_ACCOUNTS_MAX;
}

/* BOOK, SHAPE, CLOCK: an empty set and state of the right shape. */
static int read_head(const struct ledger_record *r, unsigned n, struct ledger_set **ret_set, struct ledger_state *s)
{
	uint32_t workers, vms, accounts;
	int e;

	if (n < 3 || r[0].op != LEDGER_BOOK || r[1].op != LEDGER_SHAPE || r[2].op != LEDGER_CLOCK)
		return -EBADMSG;
	if (!ledger_checkpoint_shape(&r[1], &workers, &vms, &accounts) || !is_rate(r[0].amount) || !is_rate(r[1].amount) ||
	    !ledger_is_credit(r[0].balance) || r[2].amount < 0 || r[2].amount >= (int64_t)NSEC_PER_SEC)
		return -EBADMSG;
	e = ledger_set_alloc(vms, accounts, ret_set);
	if (e < 0)
		return e;
	(*ret_set)->capacity = (uint64_t)r[0].amount;
	(*ret_set)->quantum = (uint64_t)r[1].amount;
	(*ret_set)->generation = (uint64_t)r[1].balance;
	(*ret_set)->workers = workers;
	(*ret_set)->resource = r[0].resource;
	s->workers = workers;
	s->pool = r[0].balance;
	s->generation = r[0].detail;
	s->capacity_rem = (uint64_t)r[2].amount;
	s->set_generation = (uint64_t)r[2].balance;
	s->time_ns = r[2].detail;
	s->tick = s->time_ns / LEDGER_TICK_NS;
	return 0;
}

/* PROMISE, BUCKET, REMAINDER, BIRTH. */
static int read_node(const struct ledger_record *r, struct ledger_set *set, struct ledger_state *s)
{
	bool vm = r->worker == 1;
	uint32_t index = ledger_detail_slot(r[0].detail);
	struct ledger_node *n;
	struct ledger_bucket *b;

	if (r[1].op != LEDGER_BUCKET || r[2].op != LEDGER_REMAINDER || r[3].op != LEDGER_BIRTH || r->worker > 1 ||
	    index >= (vm ? set->vms : set->accounts))
		return -EBADMSG;
	n = vm ? &set->vm[index] : &set->account[index];
	b = vm ? &s->vm[index] : &s->account[index];
	*n = (struct ledger_node){
		.promise = { (uint64_t)r[0].amount, (uint64_t)r[0].balance, (uint64_t)r[1].amount,
			     (uint32_t)ledger_detail_value(r[0].detail) },
		.born = (uint64_t)r[3].amount,
		.parent = (uint32_t)r[3].balance,
		.vm = r->vm,
		.class = r->class,
	};
	*b = (struct ledger_bucket){ r[1].balance, (uint64_t)r[2].amount, (uint64_t)r[2].balance, r[2].detail };
	if (!is_rate(r[0].amount) || (!is_rate(r[0].balance) && n->promise.limit != LEDGER_UNLIMITED) || !is_rate(r[1].amount) ||
	    n->promise.shares > LEDGER_SHARES_MAX || (n->promise.shares == 0) != (n->born == 0) || b->level < 0 ||
	    b->level > LEDGER_SUPPLY || b->reservation_rem >= NSEC_PER_SEC || b->limit_rem >= NSEC_PER_SEC)
		return -EBADMSG;
	if (!vm)
		s->mode[index] = r[3].detail;
	return 0;
}

static int check_parents(const struct ledger_set *set)
{
	for (uint32_t i = 0; i < set->accounts; i++)
		if (set->account[i].born && (set->account[i].parent >= set->vms || !set->vm[set->account[i].parent].born))
			return -EBADMSG;
	return 0;
}

int ledger_checkpoint_load(const struct ledger_record *r, unsigned n, struct ledger_set **ret, struct ledger_state *s)
{
	struct ledger_set *set = NULL;
	int64_t sum = 0;
	int e = read_head(r, n, &set, s);

	for (unsigned i = 3; i < n && e == 0;) {
		if (r[i].op == LEDGER_PROMISE && n - i >= 4) {
			e = read_node(&r[i], set, s);
			i += 4;
		} else if (r[i].op == LEDGER_BALANCE && r[i].worker < set->workers && r[i].amount >= 0 &&
			   r[i].amount < set->accounts && ledger_is_credit(r[i].balance)) {
			*ledger_state_pair(s, r[i].worker, (uint32_t)r[i].amount) = r[i].balance;
			sum += r[i].balance < 0 ? -r[i].balance : r[i].balance;
			e = ledger_is_credit(sum) ? 0 : -EBADMSG;
			i++;
		} else {
			e = -EBADMSG;
		}
	}
	if (e == 0)
		e = check_parents(set);
	if (e == 0)
		e = ledger_set_finish(set);
	if (e < 0) {
		ledger_set_destroy(set);
		return e;
	}
	*ret = set;
	return 0;
}
