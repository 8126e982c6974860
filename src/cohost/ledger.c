/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What co-scheduled accounts used and were entitled to, in a log of the ledger's.
 */
#include "cohost/cohost_internal.h"

#include "base/clock.h"

#include <errno.h>

_Static_assert(LEDGER_CPU_ACCOUNTS == CO_ACCOUNTS_MAX, "an account's slot is the scheduler's");

int cohost_ledger_begin(struct cohost *h)
{
	struct ledger_cpu_book *b = malloc(sizeof(*b));
	int err = b ? ledger_cpu_open(b, h->n_cpus * NSEC_PER_SEC, clock_boot_ns(), clock_now_ns()) : -ENOMEM;

	if (err < 0)
		free(b);
	else
		h->book = b;
	return err;
}

void cohost_ledger_end(struct cohost *h)
{
	if (h->book)
		ledger_cpu_close(h->book);
	free(h->book);
	h->book = NULL;
}

struct copy {
	struct ledger_cpu_totals totals[LEDGER_CPU_ACCOUNTS];
	uint64_t settlements;
};

static void take_totals(const struct co_world *w, void *arg)
{
	struct copy *c = arg;

	for (unsigned i = 0; i < LEDGER_CPU_ACCOUNTS; i++) {
		const struct co_account *a = &w->account[i];

		c->totals[i] = (struct ledger_cpu_totals){ a->used != 0, a->total_ran_ns, a->total_entitled_ns,
							   a->total_waited_ns, a->total_forfeited_ns };
	}
	c->settlements = w->settlements;
}

void cohost_ledger_settle(struct cohost *h, uint64_t now_ns)
{
	struct copy c;

	if (!h->book || !h->sched)
		return;
	cosched_look(h->sched, take_totals, &c);
	ledger_cpu_settle(h->book, c.totals, c.settlements, now_ns);
}
