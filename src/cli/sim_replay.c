/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sim cosched --replay: a recorded trace once more through the core, and how that compares with what was recorded.
 */
#include "cli/cli.h"

#include "sim/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int read_trace(const char *path, struct trace *ret)
{
	FILE *in = fopen(path, "re");
	const char *why = NULL;
	int r = in ? trace_read(in, ret, &why) : -errno;

	if (in)
		fclose(in);
	if (r == 0)
		return CLI_OK;
	cli_error("%s: %s", path, r == -EBADMSG ? why : strerror(-r));
	return EX_NOINPUT;
}

/* --- as text --- */

static void print_shares(const struct trace *t, const struct replay *r)
{
	static const char *const headings[] = { "VM", "GROUP", "RAN", "REPLAYED", "CHANGE", "WAITED", "REPLAYED" };
	struct cli_table table;

	cli_table_begin(&table, headings, ARRAY_SIZE(headings), 0x7c);
	for (uint32_t i = 0; i < t->header.n_vms; i++) {
		double before = r->recorded.ran[i], after = r->replayed.ran[i];

		cli_cell(&table, "%s", t->vm[i].name);
		cli_cell(&table, "%s", *t->vm[i].group ? t->vm[i].group : "-");
		cli_cell(&table, "%.4f", before);
		cli_cell(&table, "%.4f", after);
		if (before > 0)
			cli_cell(&table, "%+.2f %%", 100 * (after / before - 1));
		else
			cli_cell(&table, "-");
		cli_cell(&table, "%.4f", r->recorded.waited[i]);
		cli_cell(&table, "%.4f", r->replayed.waited[i]);
	}
	cli_table_end(&table, stdout);
}

static void row_decisions(struct cli_table *table, const char *name, const struct replay_side *s)
{
	cli_cell(table, "%s", name);
	cli_cell(table, "%.1f", s->runs_per_s);
	cli_cell(table, "%.1f %%", 100 * s->requested);
	cli_cell(table, "%.1f %%", 100 * s->in_debt);
	cli_cell(table, "%.1f %%", 100 * s->stolen);
	cli_cell(table, "%.1f", s->asked_per_s);
	cli_cell(table, "%.1f", s->refused_per_s);
}

static double part(uint64_t of, uint64_t all)
{
	return all ? (double)of / (double)all : 1;
}

static void print_replay(const struct trace *t, const struct replay *r, enum sim_algorithm algorithm)
{
	static const char *const headings[] = { "", "RUNS/S", "ON REQUEST", "IN DEBT", "STOLEN", "ASKED/S", "REFUSED/S" };
	struct cli_table table;

	printf("%.3f s on %u CPUs, recorded under %s, replayed under %s\n", r->seconds, r->n_cpus,
	       sim_algorithm_words[t->header.params.mode], sim_algorithm_words[algorithm]);
	printf("%" PRIu64 " of %" PRIu64 " schedule steps choose the same member (%.2f %%), %" PRIu64 " of %" PRIu64
	       " requests are made again; %" PRIu64 " interruptions\n",
	       r->steps.same, r->steps.steps, 100 * part(r->steps.same, r->steps.steps), r->steps.asked_same, r->steps.asked,
	       r->steps.interrupted);
	printf("left to itself: the same member on the same CPU %.1f %% of the time, on any CPU %.1f %%\n\n", 100 * r->same_cpu,
	       100 * r->same_set);
	print_shares(t, r);
	putchar('\n');
	cli_table_begin(&table, headings, ARRAY_SIZE(headings), 0x7e);
	row_decisions(&table, "recorded", &r->recorded);
	row_decisions(&table, "replayed", &r->replayed);
	cli_table_end(&table, stdout);
}

/* --- as JSON --- */

static json_t *side_json(const struct trace *t, const struct replay_side *s)
{
	json_t *vms = json_object();

	for (uint32_t i = 0; i < t->header.n_vms; i++)
		json_object_set_new(vms, t->vm[i].name, json_pack("{s:f, s:f}", "ran", s->ran[i], "waited", s->waited[i]));
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "runs_per_s", s->runs_per_s, "requested", s->requested, "in_debt",
			 s->in_debt, "stolen", s->stolen, "asked_per_s", s->asked_per_s, "refused_per_s", s->refused_per_s,
			 "vms", vms);
}

static json_t *replay_json(const struct trace *t, const struct replay *r, enum sim_algorithm algorithm)
{
	json_t *steps = json_pack("{s:I, s:I, s:I, s:I, s:I}", "steps", (json_int_t)r->steps.steps, "same", (json_int_t)r->steps.same,
				  "asked", (json_int_t)r->steps.asked, "asked_same", (json_int_t)r->steps.asked_same, "interrupted",
				  (json_int_t)r->steps.interrupted);

	return json_pack("{s:s, s:s, s:f, s:i, s:f, s:f, s:o, s:o, s:o}", "recorded_under",
			 sim_algorithm_words[t->header.params.mode], "replayed_under", sim_algorithm_words[algorithm], "seconds",
			 r->seconds, "cpus", (int)r->n_cpus, "same_cpu", r->same_cpu, "same_set", r->same_set, "recorded",
			 side_json(t, &r->recorded), "replayed", side_json(t, &r->replayed), "steps", steps);
}

/* --- as a picture --- */

static int draw(const struct cli *c, const struct trace *t)
{
	uint64_t from_ns = 0, span_ns = 10 * t->header.params.slice_ns;
	uint64_t end_ns = t->n_events ? t->event[t->n_events - 1].time_ns - t->event[0].time_ns : 0;
	const char *path = cli_value(c, "svg");
	char subtitle[256];
	FILE *out;
	int r;

	if (cli_sim_stretch(c, end_ns, &from_ns, &span_ns) != CLI_OK)
		return EX_USAGE;
	snprintf(subtitle, sizeof(subtitle), "%u CPUs, recorded, %.3f s into the trace", t->header.n_cpus, (double)from_ns / 1e9);
	from_ns += t->n_events ? t->event[0].time_ns : 0;
	out = fopen(path, "we");
	r = out ? trace_draw(t, sim_algorithm_words[t->header.params.mode], subtitle, from_ns, from_ns + span_ns, out) : -errno;
	if (out && fclose(out) != 0 && r == 0)
		r = -errno;
	if (r < 0)
		cli_error("%s: %s", path, strerror(-r));
	return r < 0 ? EX_CANTCREAT : CLI_OK;
}

/* --- the command --- */

static int replay(struct cli *c, const struct trace *t, enum sim_algorithm algorithm)
{
	struct replay *r = calloc(1, sizeof(*r));
	const char *why = NULL;
	int e = r ? replay_run(t, algorithm, r, &why) : -ENOMEM, status = CLI_OK;

	if (e == -EBADMSG) {
		cli_error("%s: %s", cli_value(c, "replay"), why);
		status = EX_DATAERR;
	} else if (e < 0) {
		status = EX_OSERR;
	} else if (c->json) {
		status = cli_print_json(replay_json(t, r, algorithm));
	} else {
		print_replay(t, r, algorithm);
	}
	free(r);
	return status;
}

int cli_sim_replay(struct cli *c)
{
	const char *algorithms = cli_value(c, "algorithms");
	struct sim_spec *spec = calloc(1, sizeof(*spec));
	struct trace t;
	int status = spec ? read_trace(cli_value(c, "replay"), &t) : EX_OSERR;

	if (status != CLI_OK) {
		free(spec);
		return status;
	}
	if (t.header.params.mode > CO_MODE_POOLED) {
		cli_error("%s: recorded in a mode that is not known", cli_value(c, "replay"));
		status = EX_DATAERR;
	} else if (algorithms && (sim_spec_algorithms(spec, algorithms) < 0 || spec->n_algorithms != 1)) {
		status = cli_usage(c, "--algorithms: one, for a replay");
	} else {
		status = cli_value(c, "svg") ? draw(c, &t) : CLI_OK;
		if (status == CLI_OK)
			status = replay(c, &t, (enum sim_algorithm)(algorithms ? spec->algorithm[0] : t.header.params.mode));
	}
	trace_free(&t);
	free(spec);
	return status;
}
