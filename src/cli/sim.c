/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim cosched: runs the simulation that a file describes and prints what came out. No daemon is asked.
 */
#include "cli/cli.h"

#include "policy/units.h"
#include "sim/record.h"
#include "sim/report.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#define LOOKBACK_NS UINT64_C(1000000000) /* who runs at a picture's left edge began before */

/* --- tables --- */

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
	cli_cell(t, "%.1f", average(r, a, "account", &one, "debt_ms"));
	cli_cell(t, "%.1f", average(r, a, "account", &one, "deepest_ms"));
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
			if (c.n == r->spec->n_vms - r->spec->n_groups || c.n > 1)
				worked.ratio = 0;
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

static void print_report(const char *file, const struct sim_report *r)
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

/* --- reading --- */

static char *read_file(const char *path, size_t *ret_length)
{
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *text = NULL;
	size_t room = 0;
	ssize_t n;

	if (!in)
		return NULL;
	errno = 0;
	n = getdelim(&text, &room, '\0', in);
	if (n < 0 && !errno && text)
		text[n = 0] = '\0';
	if (in != stdin)
		fclose(in);
	if (n < 0) {
		free(text);
		return NULL;
	}
	*ret_length = (size_t)n;
	return text;
}

/* An option that replaces a quantity of the file. */
static int replace(const struct cli *c, const char *option, enum units units, uint64_t least, uint64_t *value)
{
	const char *text = cli_value(c, option);

	if (!text)
		return CLI_OK;
	if (units_parse(units, text, value) == 0 && *value >= least)
		return CLI_OK;
	return cli_usage(c, "--%s: '%s' is not %s", option, text, units_example(units));
}

static int apply_options(const struct cli *c, struct sim_spec *spec)
{
	const char *algorithms = cli_value(c, "algorithms");
	int status = CLI_OK;

	if (algorithms && sim_spec_algorithms(spec, algorithms) < 0)
		return cli_usage(c, "--algorithms: '%s' is not a list of credit, credit+boost, co-credit, pooled, pooled-mute and fair",
				 algorithms);
	status = replace(c, "seeds", UNITS_COUNT, 1, &spec->seeds);
	if (status == CLI_OK)
		status = replace(c, "first-seed", UNITS_COUNT, 0, &spec->first_seed);
	if (status == CLI_OK)
		status = replace(c, "duration", UNITS_DURATION, spec->period_ns, &spec->duration_ns);
	return status;
}

static int read_spec(const struct cli *c, struct sim_spec *spec)
{
	size_t length = 0;
	char *text = read_file(c->argv[0], &length);
	int r;

	if (!text) {
		cli_error("%s: %s", c->argv[0], strerror(errno));
		return EX_NOINPUT;
	}
	r = sim_spec_read(c->argv[0], text, length, spec, stderr);
	free(text);
	if (r == -EINVAL)
		return EX_CONFIG;
	return r < 0 ? EX_OSERR : apply_options(c, spec);
}

/* --- pictures and traces --- */

/* FILE, or with several algorithms FILE with the algorithm before its suffix. */
static void name_output(const struct sim_spec *spec, size_t algorithm, const char *file, char path[PATH_MAX])
{
	const char *slash = strrchr(file, '/'), *dot = strrchr(file, '.');
	int stem = dot && (!slash || dot > slash) ? (int)(dot - file) : (int)strlen(file);

	if (spec->n_algorithms == 1)
		snprintf(path, PATH_MAX, "%s", file);
	else
		snprintf(path, PATH_MAX, "%.*s-%s%s", stem, file, sim_algorithm_words[spec->algorithm[algorithm]], file + stem);
}

static int draw(const struct cli *c, const struct sim_spec *spec, size_t algorithm, const struct trace *t, uint64_t from_ns,
		uint64_t to_ns, FILE *out)
{
	const char *base = strrchr(c->argv[0], '/');
	char title[256], subtitle[256];

	snprintf(title, sizeof(title), "%s: %s", base ? base + 1 : c->argv[0],
		 sim_algorithm_words[spec->algorithm[algorithm]]);
	snprintf(subtitle, sizeof(subtitle), "%u CPUs, seed %llu, %.3f s into the run", t->header.n_cpus,
		 (unsigned long long)spec->first_seed, (double)from_ns / 1e9);
	return trace_draw(t, title, subtitle, from_ns, to_ns, out);
}

static int tell(int r, const char *path)
{
	if (r == 0)
		return CLI_OK;
	cli_error("%s: %s", path, strerror(-r));
	return EX_CANTCREAT;
}

/* The first seed's run under one algorithm: what `--svg` and `--trace` ask for. */
static int record(const struct cli *c, const struct sim_spec *spec, size_t algorithm, bool picture, const char *path)
{
	uint64_t from_ns = spec->warmup_ns, span_ns = 10 * spec->slice_ns;
	struct trace t;
	FILE *out;
	int r;

	if (replace(c, "from", UNITS_DURATION, 0, &from_ns) != CLI_OK ||
	    replace(c, "span", UNITS_DURATION, 1000, &span_ns) != CLI_OK)
		return EX_USAGE;
	r = sim_record(spec, (enum sim_algorithm)spec->algorithm[algorithm], spec->first_seed,
		       picture && from_ns > LOOKBACK_NS ? from_ns - LOOKBACK_NS : 0, picture ? from_ns + span_ns : UINT64_MAX, &t);
	if (r < 0)
		return EX_OSERR;
	out = fopen(path, "we");
	if (!out)
		r = -errno;
	else if (picture)
		r = draw(c, spec, algorithm, &t, from_ns, from_ns + span_ns, out);
	else
		r = trace_write(out, &t);
	if (out && fclose(out) != 0 && r == 0)
		r = -errno;
	trace_free(&t);
	return tell(r, path);
}

static int record_all(const struct cli *c, const struct sim_spec *spec)
{
	static const char *const options[] = { "svg", "trace" };
	char path[PATH_MAX];
	int status = CLI_OK;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		for (size_t a = 0; a < spec->n_algorithms && cli_value(c, options[i]) && status == CLI_OK; a++) {
			name_output(spec, a, cli_value(c, options[i]), path);
			status = record(c, spec, a, i == 0, path);
		}
	return status;
}

/* --- the command --- */

static int write_csv(const struct sim_report *r, const char *path)
{
	FILE *out = fopen(path, "we");

	if (out)
		sim_report_csv(r, out);
	if (out && fclose(out) == 0)
		return CLI_OK;
	cli_error("%s: %s", path, strerror(errno));
	return EX_CANTCREAT;
}

static int simulate(const struct cli *c, const struct sim_spec *spec)
{
	const char *csv = cli_value(c, "csv");
	struct sim_report report;
	int status = CLI_OK;

	if (sim_report_run(spec, &report, NULL) < 0)
		return EX_OSERR;
	if (csv)
		status = write_csv(&report, csv);
	if (status == CLI_OK && c->json)
		status = cli_print_json(sim_report_json(&report));
	else if (status == CLI_OK)
		print_report(c->argv[0], &report);
	sim_report_free(&report);
	return status;
}

int cli_sim_cosched(struct cli *c)
{
	struct sim_spec *spec;
	int status;

	if (!cli_value(c, "replay") == (c->argc == 0))
		return cli_usage(c, "either a file or --replay");
	if (cli_value(c, "replay"))
		return cli_sim_replay(c);
	spec = calloc(1, sizeof(*spec));
	status = spec ? read_spec(c, spec) : EX_OSERR;

	if (status == CLI_OK)
		status = record_all(c, spec);
	if (status == CLI_OK)
		status = simulate(c, spec);
	free(spec);
	return status;
}
