/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger.*: the accounts of sliced pools.
 */
#include "ctl/commands.h"

#include "ledger/book.h"

#include <string.h>

#define SHOWN_MAX 1024u

static const char *mode_name(enum ledger_mode m)
{
	static const char *const name[] = { [LEDGER_HOLD] = "hold", [LEDGER_DOOR] = "door", [LEDGER_OPEN] = "open" };

	return m <= LEDGER_OPEN ? name[m] : "?";
}

static json_t *account_json(const struct blk_gate *g, const struct ledger_show *a)
{
	const char *vm = "?", *class = "";

	blk_gate_account_name(g, a->id.vm, a->id.class, &vm, &class);
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "vm", vm, "class", class, "shares",
			 (json_int_t)a->promise.shares, "reservation", (json_int_t)a->promise.reservation, "entitled",
			 (json_int_t)a->entitled, "balance", (json_int_t)a->balance, "debt", (json_int_t)a->debt, "demand",
			 (json_int_t)a->demand, "granted", (json_int_t)a->granted, "used", (json_int_t)a->used, "lent",
			 (json_int_t)a->lent, "borrowed", (json_int_t)a->borrowed, "mode", mode_name(a->mode));
}

static json_t *logs_json(const struct ledger_book *book, unsigned workers)
{
	json_t *logs = json_array();

	/* Readable by whoever may look into this process: `fairlead ledger dump` opens them. */
	for (unsigned w = 0; w < workers; w++)
		json_array_append_new(logs, json_sprintf("/proc/%d/fd/%d", (int)getpid(), ledger_book_log(book, w)->fd));
	return logs;
}

static json_t *book_json(const struct ctl_context *c, const struct host_pool *p)
{
	struct ledger_book *book = blk_gate_book(p->blk->gate);
	struct ledger_show *show = calloc(SHOWN_MAX, sizeof(*show));
	struct ledger_book_totals totals = { 0 };
	int n = show ? ledger_book_show(book, show, SHOWN_MAX, &totals) : 0;
	json_t *accounts = json_array();

	for (int i = 0; i < n && i < (int)SHOWN_MAX; i++)
		json_array_append_new(accounts, account_json(p->blk->gate, &show[i]));
	free(show);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "pool", p->name, "tick", (json_int_t)totals.tick,
			 "pool_credits", (json_int_t)totals.pool, "outstanding", (json_int_t)totals.outstanding, "plans",
			 (json_int_t)totals.plans, "plans_late", (json_int_t)totals.plans_late, "unsettled",
			 (json_int_t)totals.unsettled, "records", (json_int_t)totals.log_records, "logs",
			 logs_json(book, c->host->team.n), "accounts", accounts);
}

static void show(struct ctl_call *call, json_t *params, void *context)
{
	const char *only = json_string_value(json_object_get(params, "pool"));
	struct ctl_context *c = context;
	json_t *books = json_array();
	struct host_pool *p;

	if (only && !host_pool_find(c->host, only)) {
		json_decref(books);
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "`fairlead status' shows all pools", "there is no pool %s", only);
		return;
	}
	list_for_each(p, &c->host->pools, node)
		if ((!only || strcmp(only, p->name) == 0) && p->blk->gate && blk_gate_book(p->blk->gate))
			json_array_append_new(books, book_json(c, p));
	ctl_reply(call, json_pack("{s:o}", "books", books));
}

static const struct ctl_param which_book[] = {
	{ "pool", CTL_STRING, false, "only this one" },
	{ 0 },
};

const struct ctl_method cmd_ledger[] = {
	{ "ledger.show", which_book, show, "accounts of sliced pools: credits granted, used, lent and borrowed" },
	{ 0 },
};
