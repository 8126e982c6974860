/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim cosched: runs the simulation that a file describes and prints what came out. No daemon is asked.
 */
#include "cli/cli.h"

#include "base/file.h"
#include "cli/sim_view.h"
#include "policy/units.h"
#include "sim/record.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define LOOKBACK_NS UINT64_C(1000000000) /* who runs at a picture's left edge began before */

/* --- reading --- */

/* What is not text in it is told later. */
static int read_file(const char *path, char **ret_text, size_t *ret_length)
{
	if (strcmp(path, "-") == 0)
		return file_read_fd(STDIN_FILENO, FILE_BYTES_MAX, ret_text, ret_length);
	return file_read(path, FILE_BYTES_MAX, ret_text, ret_length);
}

/* An option that replaces a quantity of the file. */
static int replace(const struct cli *c, const char *option, enum units units, uint64_t least, uint64_t most, uint64_t *value)
{
	char from[UNITS_TEXT_MAX], to[UNITS_TEXT_MAX];
	const char *text = cli_value(c, option);

	if (!text)
		return CLI_OK;
	if (units_parse(units, text, value) < 0)
		return cli_usage(c, "--%s: '%s' is not %s", option, text, units_example(units));
	if (*value >= least && *value <= most)
		return CLI_OK;
	return cli_usage(c, "--%s: '%s' is not from %s to %s", option, text, units_format(units, least, from),
			 units_format(units, most, to));
}

int cli_sim_stretch(const struct cli *c, uint64_t end_ns, uint64_t *from_ns, uint64_t *span_ns)
{
	int status = replace(c, "from", UNITS_DURATION, 0, end_ns, from_ns);

	return status == CLI_OK ? replace(c, "span", UNITS_DURATION, 1000, SIM_DURATION_MAX_NS, span_ns) : status;
}

static int apply_options(const struct cli *c, struct sim_spec *spec)
{
	const char *algorithms = cli_value(c, "algorithms");
	int status = CLI_OK;

	if (algorithms && sim_spec_algorithms(spec, algorithms) < 0)
		return cli_usage(c, "--algorithms: '%s' is not a list of credit, credit+boost, co-credit, pooled, pooled-mute and fair",
				 algorithms);
	status = replace(c, "seeds", UNITS_COUNT, 1, SIM_SEEDS_MAX, &spec->seeds);
	if (status == CLI_OK)
		status = replace(c, "first-seed", UNITS_COUNT, 0, UINT32_MAX, &spec->first_seed);
	if (status == CLI_OK)
		status = replace(c, "duration", UNITS_DURATION, spec->period_ns, SIM_DURATION_MAX_NS, &spec->duration_ns);
	return status;
}

static int read_spec(const struct cli *c, struct sim_spec *spec)
{
	size_t length = 0;
	char *text;
	int r = read_file(c->argv[0], &text, &length);

	if (r < 0) {
		cli_error("%s: %s", c->argv[0], strerror(-r));
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

	if (cli_sim_stretch(c, spec->warmup_ns + spec->duration_ns, &from_ns, &span_ns) != CLI_OK)
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
		sim_view_print(c->argv[0], &report);
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
