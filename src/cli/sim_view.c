/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What came out of a simulation, as tables for people: requests, shares, work, the machine.
 */
#include "cli/sim_view.h"

#include "cli/cli.h"

#include <math.h>
#include <string.h>

static struct sim_mean mean_of(const struct sim_report *r, size_t algorithm, const char *kind, const char *object,
			       const char *name)
{
	return sim_report_mean(r, algorithm, sim_report_find(r, kind, object, name));
}

static const char *name_of(const struct sim_report *r, size_t algorithm)
{
	return sim_algorithm_words[r->spec->algorithm[algorithm]];
}

/* "-34.9 % ±1.2": against the baseline, with the wider half of the interval. */
static void cell_change(struct cli_table *t, const struct sim_report *r, size_t algorithm, const struct sim_mean *m)
{
	if (algorithm == r->baseline || m->ratio <= 0)
		cli_cell(t, "-");
	else
		cli_cell(t, "%+.1f %% ±%.1f", 100 * (m->ratio - 1), 100 * fmax(m->high - m->ratio, m->ratio - m->low));
}

static void print_chain(const struct sim_report *r, const char *chain)
{
	static const char *const headings[] = { "ALGORITHM", "MS/REQUEST", "CHANGE", "MEAN MS", "CHANGE", "P50", "P95", "P99" };
	static const char *const quantiles[] = { "p50_ms", "p95_ms", "p99_ms" };
	struct cli_table t;

	printf("\nchain %s: time for each request done, and its response\n", chain);
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0xfe);
	for (size_t a = 0; a < r->spec->n_algorithms; a++) {
		struct sim_mean each = mean_of(r, a, "chain", chain, "ms_per_request");
		struct sim_mean mean = mean_of(r, a, "chain", chain, "mean_ms");

		cli_cell(&t, "%s", name_of(r, a));
		cli_cell(&t, "%.3f", each.mean);
		cell_change(&t, r, a, &each);
		cli_cell(&t, "%.1f", mean.mean);
		cell_change(&t, r, a, &mean);
		for (size_t i = 0; i < ARRAY_SIZE(quantiles); i++)
			cli_cell(&t, "%.1f", mean_of(r, a, "chain", chain, quantiles[i]).mean);
	}
	cli_table_end(&t, stdout);
}

/* Copies of one VM are shown as one, on average. */
struct copies {
	const struct sim_vm_spec *vm; /* the first */
	unsigned n;
	char name[SIM_NAME_MAX + 16];
};

static struct copies copies_of(const struct sim_spec *spec, const struct sim_vm_spec *vm)
{
	struct copies c = { .vm = vm, .n = vm->copies > 1 && vm->group == CO_NONE ? (unsigned)vm->copies : 1 };
	size_t base = strlen(vm->name.text) - 2;

	if (c.n > 1)
		snprintf(c.name, sizeof(c.name), "%.*s (%u)", (int)base, vm->name.text, c.n);
	else
		snprintf(c.name, sizeof(c.name), "%s", vm->name.text);
	return c;
}

/* Copy number `i`, from 1. */
static const char *copy_name(const struct copies *c, unsigned i, char text[SIM_NAME_MAX])
{
	if (c->n == 1)
		snprintf(text, SIM_NAME_MAX, "%s", c->vm->name.text);
	else
		snprintf(text, SIM_NAME_MAX, "%.*s-%u", (int)(strlen(c->vm->name.text) - 2) & 63, c->vm->name.text, i);
	return text;
}

static double average(const struct sim_report *r, size_t algorithm, const char *kind, const struct copies *c,
		      const char *metric)
{
	char name[SIM_NAME_MAX];
	double sum = 0;

	for (unsigned i = 1; i <= c->n; i++)
		sum += mean_of(r, algorithm, kind, copy_name(c, i, name), metric).mean;
	return sum / c->n;
}

static bool is_first(const struct sim_vm_spec *vm)
{
	return vm->copy <= 1 || vm->group != CO_NONE;
}

static void row_account(struct cli_table *t, const struct sim_report *r, size_t a, const struct copies *c, const char *name)
{
	static const char *const debts[] = { "debt_ms", "deepest_ms" };
	struct copies one = *c;
	struct sim_vm_spec group = { 0 };

	if (!c->vm) {
		snprintf(group.name.text, sizeof(group.name.text), "%s", name);
		one = (struct copies){ .vm = &group, .n = 1 };
	}
	cli_cell(t, "%s", name_of(r, a));
	cli_cell(t, "%s", c->vm ? c->name : name);
	cli_cell(t, "%.4f", average(r, a, "account", &one, "ran"));
	cli_cell(t, "%.4f", average(r, a, "account", &one, "entitled"));
	cli_cell(t, "%+.2f %%", 100 * average(r, a, "account", &one, "error"));
	cli_cell(t, "%.3f", average(r, a, "account", &one, "waited"));
	for (size_t i = 0; i < ARRAY_SIZE(debts); i++)
		if (r->spec->algorithm[a] == SIM_FAIR)
			cli_cell(t, "-");
		else
			cli_cell(t, "%.1f", average(r, a, "account", &one, debts[i]));
	if (c->vm)
		cli_cell(t, "-");
	else
		cli_cell(t, "%.3f", average(r, a, "account", &one, "co_ran"));
}

static void print_accounts(const struct sim_report *r)
{
	static const char *const headings[] = { "ALGORITHM", "ACCOUNT", "RAN", "ENTITLED", "ERROR", "WAITED", "DEBT MS",
						"DEEPEST", "CO-RUN" };
	struct cli_table t;

	puts("\nshares of a CPU; a group is one account");
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0x1fc);
	for (size_t a = 0; a < r->spec->n_algorithms; a++) {
		for (size_t i = 0; i < r->spec->n_groups; i++)
			row_account(&t, r, a, &(struct copies){ 0 }, r->spec->group[i].name.text);
		for (size_t i = 0; i < r->spec->n_vms; i++) {
			struct copies c = copies_of(r->spec, &r->spec->vm[i]);

			if (r->spec->vm[i].group == CO_NONE && is_first(&r->spec->vm[i]))
				row_account(&t, r, a, &c, NULL);
		}
	}
	cli_table_end(&t, stdout);
}

static void print_vms(const struct sim_report *r)
{
	static const char *const headings[] = { "ALGORITHM", "VM", "RAN", "WORKED", "CHANGE", "SPUN", "LOOPS/S", "CHANGE" };
	struct cli_table t;

	puts("\nwork done, in CPUs");
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0xfc);
	for (size_t a = 0; a < r->spec->n_algorithms; a++)
		for (size_t i = 0; i < r->spec->n_vms; i++) {
			struct copies c = copies_of(r->spec, &r->spec->vm[i]);
			struct sim_mean worked = mean_of(r, a, "vm", c.vm->name.text, "worked");
			struct sim_mean loops = mean_of(r, a, "vm", c.vm->name.text, "loops_per_s");

			if (!is_first(&r->spec->vm[i]))
				continue;
			if (c.n > 1)
				worked.ratio = loops.ratio = 0;
			cli_cell(&t, "%s", name_of(r, a));
			cli_cell(&t, "%s", c.name);
			cli_cell(&t, "%.4f", average(r, a, "vm", &c, "ran"));
			cli_cell(&t, "%.4f", average(r, a, "vm", &c, "worked"));
			cell_change(&t, r, a, &worked);
			cli_cell(&t, "%.4f", average(r, a, "vm", &c, "spun"));
			cli_cell(&t, "%.1f", average(r, a, "vm", &c, "loops_per_s"));
			cell_change(&t, r, a, &loops);
		}
	cli_table_end(&t, stdout);
}

static void print_machine(const struct sim_report *r)
{
	static const char *const headings[] = { "ALGORITHM", "OTHERS' WORK", "CHANGE", "IDLE", "KICKS/S", "SWITCHES", "STEALS",
						"ASKED", "HONOURED", "REFUSED", "VOID", "FORGIVEN MS/S" };
	static const char *const metrics[] = { "idle", "kicks_per_s", "switches_per_s", "steals_per_s", "sent_per_s",
					       "honoured_per_s", "refused_per_s", "void_per_s", "forgiven_ms_per_s" };
	struct cli_table t;

	puts("\nthe machine");
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0xffe);
	for (size_t a = 0; a < r->spec->n_algorithms; a++) {
		struct sim_mean others = mean_of(r, a, "machine", "", "others_worked");

		cli_cell(&t, "%s", name_of(r, a));
		cli_cell(&t, "%.4f", others.mean);
		cell_change(&t, r, a, &others);
		for (size_t i = 0; i < ARRAY_SIZE(metrics); i++)
			cli_cell(&t, i ? "%.1f" : "%.4f", mean_of(r, a, "machine", "", metrics[i]).mean);
	}
	cli_table_end(&t, stdout);
}

void sim_view_print(const char *file, const struct sim_report *r)
{
	char duration[32];

	printf("%s: %llu CPUs, %s, seeds %llu to %llu; changes are against %s, seed by seed, with 95 %% intervals\n", file,
	       (unsigned long long)r->spec->cpus, cli_time(r->spec->duration_ns, duration),
	       (unsigned long long)r->spec->first_seed, (unsigned long long)(r->spec->first_seed + r->spec->seeds - 1),
	       name_of(r, r->baseline));
	for (size_t i = 0; i < r->spec->n_chains; i++)
		print_chain(r, r->spec->chain[i].name.text);
	print_accounts(r);
	print_vms(r);
	print_machine(r);
}
