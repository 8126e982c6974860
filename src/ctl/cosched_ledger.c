/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger.show of fairlead-cosched: CPU time, in the shape that pools have.
 */
#include "ctl/cosched.h"

#include "base/clock.h"

#include <string.h>

static unsigned account_weight(const struct cohost *h, unsigned account)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		if (h->vm[i].name[0] && h->vm[i].account == account && !h->vm[i].is_worker)
			sum += h->vm[i].weight;
	return sum;
}

static unsigned all_weights(const struct cohost *h)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++)
		if (h->account[i].name[0])
			sum += account_weight(h, i);
	return sum ? sum : 1;
}

/* Lent and borrowed: over the last second, against what it would get if everybody wanted everything. */
static json_t *account_json(const struct cohost *h, unsigned i)
{
	const struct ledger_cpu_account *a = &h->book->account[i];
	unsigned weight = account_weight(h, i);
	uint64_t entitled = h->book->capacity / all_weights(h) * weight;
	struct cohost_totals last = cohost_span_over(&h->account[i].span, 1);

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "vm", h->account[i].name, "class", "",
			 "shares", (json_int_t)weight, "reservation", (json_int_t)0, "entitled", (json_int_t)entitled, "balance",
			 (json_int_t)a->balance, "debt", (json_int_t)(a->balance < 0 ? -a->balance : 0), "demand",
			 (json_int_t)a->demand, "granted", (json_int_t)a->granted, "used", (json_int_t)a->used, "lent",
			 (json_int_t)(last.entitled_ns < entitled ? entitled - last.entitled_ns : 0), "borrowed",
			 (json_int_t)(last.entitled_ns > entitled ? last.entitled_ns - entitled : 0), "mode",
			 policy_cosched_algorithm_name(h->policy->cosched.algorithm));
}

static json_t *book_json(const struct cohost *h)
{
	const struct ledger_cpu_book *b = h->book;
	json_t *accounts = json_array();

	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++)
		if (h->account[i].name[0])
			json_array_append_new(accounts, account_json(h, i));
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:[o], s:o}", "pool", "cpu", "tick", (json_int_t)b->settlements,
			 "pool_credits", (json_int_t)b->pool, "outstanding", (json_int_t)-b->pool, "plans",
			 (json_int_t)b->ticks, "plans_late", (json_int_t)0, "unsettled", (json_int_t)0, "records",
			 (json_int_t)b->log.head, "logs", json_sprintf("/proc/%d/fd/%d", (int)getpid(), b->log.fd), "accounts",
			 accounts);
}

static void show(struct ctl_call *call, json_t *params, void *context)
{
	const char *only = json_string_value(json_object_get(params, "pool"));
	struct cosched_context *c = context;
	json_t *books = json_array();

	if (only && strcmp(only, "cpu") != 0) {
		json_decref(books);
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "fairleadd keeps the others", "here is one book, cpu");
		return;
	}
	if (c->host->book)
		json_array_append_new(books, book_json(c->host));
	ctl_reply(call, json_pack("{s:o}", "books", books));
}

static const struct ctl_param which_book[] = {
	{ "pool", CTL_STRING, false, "cpu" },
	{ 0 },
};

const struct ctl_method cmd_cosched_ledger[] = {
	{ "ledger.show", which_book, show, "CPU time of VMs and co-groups: used, entitled, balance" },
	{ 0 },
};
