/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cosched status, top: what fairlead-cosched tells.
 */
#include "cli/cli.h"

#include <string.h>

/* "98.2 %" of one CPU; "-" for what is not told. */
static void cell_percent(struct cli_table *t, const json_t *spans, const char *span, const char *key)
{
	const json_t *v = json_object_get(json_object_get(spans, span), key);

	if (v)
		cli_cell(t, "%.1f %%", json_number_value(v));
	else
		cli_cell(t, "-");
}

/* Signed: credit is positive, debt negative. */
static void cell_credit(struct cli_table *t, const json_t *o)
{
	json_int_t credit = cli_integer(o, "credit_ns");
	char text[32];

	if (!json_object_get(o, "credit_ns"))
		cli_cell(t, "-");
	else
		cli_cell(t, "%s%s", credit < 0 ? "-" : "", cli_time((uint64_t)(credit < 0 ? -credit : credit), text));
}

/* --- VMs --- */

/* "3: 1 running, 2 waiting", or why there are none. */
static void cell_members(struct cli_table *t, const json_t *vm)
{
	const json_t *members = json_object_get(vm, "members"), *m;
	unsigned running = 0, waiting = 0;
	size_t i;

	json_array_foreach (members, i, m) {
		running += strcmp(cli_text(m, "state"), "running") == 0;
		waiting += strcmp(cli_text(m, "state"), "waiting") == 0;
	}
	if (json_array_size(members) == 0)
		cli_cell(t, "none: %s", cli_text(vm, "why"));
	else
		cli_cell(t, "%zu: %u running, %u waiting", json_array_size(members), running, waiting);
}

/* What it ran and was entitled to, and how long it waited. */
static void cells_shares(struct cli_table *t, const json_t *spans)
{
	cell_percent(t, spans, "1s", "cpu_percent");
	cell_percent(t, spans, "10s", "cpu_percent");
	cell_percent(t, spans, "10s", "entitled_percent");
	cell_percent(t, spans, "60s", "cpu_percent");
	cell_percent(t, spans, "60s", "entitled_percent");
	cell_percent(t, spans, "10s", "ready_percent");
}

static void add_vm(struct cli_table *t, const json_t *vm)
{
	const json_t *spans = json_object_get(vm, "spans");

	cli_cell(t, "%s", cli_text(vm, "name"));
	cli_cell(t, "%s", *cli_text(vm, "group") ? cli_text(vm, "group") : "-");
	if (json_is_true(json_object_get(vm, "worker")))
		cli_cell(t, "-");
	else
		cli_cell(t, "%d", (int)cli_integer(vm, "weight"));
	if (cli_integer(vm, "cap_percent"))
		cli_cell(t, "%d %%", (int)cli_integer(vm, "cap_percent"));
	else
		cli_cell(t, "-");
	cells_shares(t, spans);
	cell_credit(t, vm);
	cell_members(t, vm);
}

static void print_vms(const json_t *vms, const char *only, FILE *out)
{
	static const char *const headings[] = { "VM", "GROUP", "WEIGHT", "CAP", "CPU 1S", "10S", "ENTITLED", "60S",
						"ENTITLED", "READY 10S", "CREDIT", "MEMBERS" };
	struct cli_table t;
	json_t *vm;
	size_t i;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0x1ffu << 2);
	json_array_foreach (vms, i, vm)
		if (!only || strcmp(only, cli_text(vm, "name")) == 0 || strcmp(only, cli_text(vm, "group")) == 0)
			add_vm(&t, vm);
	cli_table_end(&t, out);
}

/* --- groups --- */

static void add_group(struct cli_table *t, const json_t *g)
{
	const json_t *spans = json_object_get(g, "spans"), *requests = json_object_get(g, "requests");
	char text[32];

	cli_cell(t, "%s", cli_text(g, "name"));
	cli_cell(t, "%d", (int)cli_integer(g, "weight"));
	cells_shares(t, spans);
	cell_percent(t, spans, "10s", "co_run_percent");
	cell_credit(t, g);
	cli_cell(t, "%s", cli_count(cli_number(requests, "sent"), text));
	cli_cell(t, "%s", cli_count(cli_number(requests, "honoured"), text));
	cli_cell(t, "%s", cli_count(cli_number(requests, "late"), text));
	cli_cell(t, "%s", cli_count(cli_number(requests, "refused"), text));
	cli_cell(t, "%s", cli_time((uint64_t)cli_integer(requests, "mean_wait_ns"), text));
}

static void print_groups(const json_t *groups, const char *only, FILE *out)
{
	static const char *const headings[] = { "GROUP", "WEIGHT", "CPU 1S", "10S", "ENTITLED", "60S", "ENTITLED", "READY 10S",
						"TOGETHER", "CREDIT", "ASKED", "HONOURED", "LATE", "REFUSED", "AFTER" };
	struct cli_table t;
	json_t *g;
	size_t i;

	if (json_array_size(groups) == 0)
		return;
	fputc('\n', out);
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0x3fffu << 1);
	json_array_foreach (groups, i, g)
		if (!only || strcmp(only, cli_text(g, "name")) == 0)
			add_group(&t, g);
	cli_table_end(&t, out);
}

/* --- all of it --- */

static void print_head(const json_t *s, FILE *out)
{
	char text[32];

	fprintf(out, "%s on %zu CPUs, slice %s, mode %s: %s\n\n", cli_text(s, "algorithm"),
		json_array_size(json_object_get(s, "cpus")), cli_time((uint64_t)cli_integer(s, "slice_ns"), text), cli_text(s, "mode"),
		json_is_true(json_object_get(s, "loaded"))    ? "loaded" :
		json_is_true(json_object_get(s, "rehearsal")) ? "a rehearsal, nothing is scheduled" :
								"not loaded");
}

static void print_status(const json_t *s, FILE *out)
{
	print_vms(json_object_get(s, "vms"), NULL, out);
	print_groups(json_object_get(s, "groups"), NULL, out);
}

static bool is_known(const json_t *s, const char *name)
{
	static const char *const lists[] = { "vms", "groups" };
	json_t *o;
	size_t i;

	for (size_t l = 0; l < ARRAY_SIZE(lists); l++)
		json_array_foreach (json_object_get(s, lists[l]), i, o)
			if (strcmp(cli_text(o, "name"), name) == 0)
				return true;
	return false;
}

int cli_cosched_status(struct cli *c)
{
	const char *only = c->argc ? c->argv[0] : NULL;
	json_t *s;
	int status;

	cli_use_cosched(c);
	status = cli_call(c, "cosched.status", NULL, &s);
	if (status != CLI_OK)
		return status;
	if (only && !is_known(s, only)) {
		json_decref(s);
		cli_error("no VM or co-group '%s' is co-scheduled", only);
		return CLI_FAILED;
	}
	if (c->json)
		return cli_print_json(s);
	print_head(s, stdout);
	print_vms(json_object_get(s, "vms"), only, stdout);
	print_groups(json_object_get(s, "groups"), only, stdout);
	json_decref(s);
	return CLI_OK;
}

int cli_cosched_top(struct cli *c)
{
	static const struct cli_live live = { "cosched.status", print_status, "none:" };

	cli_use_cosched(c);
	return cli_live(c, &live);
}
