/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a spec under each of its algorithms and seeds and reduces what came out. Called by the CLI and by tests.
 *
 * Seeds are paired: a seed draws the same homes under every algorithm, so the ratio of two runs of a seed says more than
 * that of two averages. The interval is Student's, over the logarithms of the ratios.
 */
#include "sim/report.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- from a result to a flat list --- */

struct list {
	struct sim_metric *metric; /* NULL: count only */
	double *value;		   /* NULL: names only */
	size_t n;
};

static void add(struct list *l, const char *kind, const char *object, const char *name, double value)
{
	if (l->metric) {
		l->metric[l->n] = (struct sim_metric){ .kind = kind, .object = object };
		snprintf(l->metric[l->n].name, SIM_METRIC_MAX, "%s", name);
	}
	if (l->value)
		l->value[l->n] = value;
	l->n++;
}

static void add_chain(struct list *l, const char *name, const struct sim_chain_result *c)
{
	add(l, "chain", name, "requests", (double)c->done);
	add(l, "chain", name, "ms_per_request", c->ms_per_request);
	add(l, "chain", name, "mean_ms", c->mean_ms);
	add(l, "chain", name, "p50_ms", c->p50_ms);
	add(l, "chain", name, "p95_ms", c->p95_ms);
	add(l, "chain", name, "p99_ms", c->p99_ms);
}

static void add_vm(struct list *l, const char *name, const struct sim_vm_result *v)
{
	add(l, "vm", name, "ran", v->share.ran);
	add(l, "vm", name, "waited", v->share.waited);
	add(l, "vm", name, "worked", v->worked);
	add(l, "vm", name, "spun", v->spun);
	add(l, "vm", name, "loops_per_s", v->loops_per_s);
}

static void add_account(struct list *l, const char *name, const struct sim_account_result *a)
{
	add(l, "account", name, "ran", a->share.ran);
	add(l, "account", name, "waited", a->share.waited);
	add(l, "account", name, "entitled", a->share.entitled);
	add(l, "account", name, "error", a->error);
	add(l, "account", name, "debt_ms", a->debt_ms);
	add(l, "account", name, "deepest_ms", a->deepest_ms);
	add(l, "account", name, "co_ran", a->co_ran);
}

static void add_machine(struct list *l, const struct sim_spec *spec, const struct sim_result *r)
{
	double members = 0, others = 0, error = 0;

	for (size_t i = 0; i < spec->n_vms; i++)
		*(spec->vm[i].group == CO_NONE ? &others : &members) += r->vm[i].worked;
	for (size_t i = 0; i < sim_accounts(spec); i++)
		error = fabs(r->account[i].error) > error ? fabs(r->account[i].error) : error;
	add(l, "machine", "", "members_worked", members);
	add(l, "machine", "", "others_worked", others);
	add(l, "machine", "", "worst_share_error", error);
	add(l, "machine", "", "idle", r->idle);
	add(l, "machine", "", "kicks_per_s", r->kicks_per_s);
	add(l, "machine", "", "switches_per_s", r->switches_per_s);
	add(l, "machine", "", "steals_per_s", r->steals_per_s);
	add(l, "machine", "", "sent_per_s", r->sent_per_s);
	add(l, "machine", "", "honoured_per_s", r->honoured_per_s);
	add(l, "machine", "", "refused_per_s", r->refused_per_s);
	add(l, "machine", "", "void_per_s", r->void_per_s);
	add(l, "machine", "", "forgiven_ms_per_s", r->forgiven_ms_per_s);
	add(l, "machine", "", "forfeited_ms_per_s", r->forfeited_ms_per_s);
}

static size_t flatten(const struct sim_spec *spec, const struct sim_result *r, struct sim_metric *metric, double *value)
{
	struct list l = { .metric = metric, .value = value };

	for (size_t i = 0; i < spec->n_chains; i++)
		add_chain(&l, spec->chain[i].name.text, &r->chain[i]);
	for (unsigned i = 0; i < spec->n_vms; i++)
		add_vm(&l, spec->vm[i].name.text, &r->vm[i]);
	for (unsigned i = 0; i < sim_accounts(spec); i++)
		add_account(&l, sim_account_name(spec, i), &r->account[i]);
	add_machine(&l, spec, r);
	return l.n;
}

/* --- running --- */

static double *values_of(const struct sim_report *r, size_t algorithm, size_t seed)
{
	return r->value + (algorithm * r->spec->seeds + seed) * r->n_metrics;
}

static int prepare(struct sim_report *r, const struct sim_result *any)
{
	r->n_metrics = flatten(r->spec, any, NULL, NULL);
	r->metric = calloc(r->n_metrics, sizeof(*r->metric));
	r->value = calloc(r->n_metrics * r->spec->seeds * r->spec->n_algorithms, sizeof(*r->value));
	if (!r->metric || !r->value)
		return -ENOMEM;
	flatten(r->spec, any, r->metric, NULL);
	for (size_t i = r->spec->n_algorithms; i-- > 0;)
		if (r->spec->algorithm[i] == SIM_CREDIT)
			r->baseline = i;
	return 0;
}

int sim_report_run(const struct sim_spec *spec, struct sim_report *ret, void (*progress)(size_t done, size_t of))
{
	struct sim_report r = { .spec = spec };
	struct sim_result *result = calloc(1, sizeof(*result));
	int e = result ? prepare(&r, result) : -ENOMEM;
	size_t n = spec->n_algorithms * spec->seeds;

	for (size_t i = 0; i < n && e == 0; i++) {
		size_t algorithm = i / spec->seeds, seed = i % spec->seeds;

		if (progress)
			progress(i, n);
		e = sim_run(spec, (enum sim_algorithm)spec->algorithm[algorithm], spec->first_seed + seed, NULL, result);
		if (e == 0)
			flatten(spec, result, NULL, values_of(&r, algorithm, seed));
	}
	free(result);
	if (e < 0) {
		sim_report_free(&r);
		return e;
	}
	*ret = r;
	return 0;
}

void sim_report_free(struct sim_report *r)
{
	free(r->metric);
	free(r->value);
	*r = (struct sim_report){ 0 };
}

/* --- reducing --- */

int sim_report_find(const struct sim_report *r, const char *kind, const char *object, const char *name)
{
	for (size_t i = 0; i < r->n_metrics; i++)
		if (strcmp(r->metric[i].name, name) == 0 && strcmp(r->metric[i].kind, kind) == 0 &&
		    strcmp(r->metric[i].object, object) == 0)
			return (int)i;
	return -1;
}

/* Student's t for a two-sided 95 % interval, by degrees of freedom; beyond the table it is as good as normal. */
static double student(size_t freedom)
{
	static const double t[] = { 0,	   12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
				    2.201, 2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080,
				    2.074, 2.069,  2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042 };

	return freedom < ARRAY_SIZE(t) ? t[freedom] : 1.96 + 2.5 / (double)freedom;
}

static void ratios(const struct sim_report *r, size_t algorithm, size_t metric, struct sim_mean *ret)
{
	double sum = 0, squares = 0, n = (double)r->spec->seeds, mean, half;

	for (size_t seed = 0; seed < r->spec->seeds; seed++) {
		double before = values_of(r, r->baseline, seed)[metric], after = values_of(r, algorithm, seed)[metric];
		double log_ratio;

		if (before <= 0 || after <= 0)
			return;
		log_ratio = log(after / before);
		sum += log_ratio;
		squares += log_ratio * log_ratio;
	}
	mean = sum / n;
	half = n > 1 ? student(r->spec->seeds - 1) * sqrt(fmax(0, squares - n * mean * mean) / (n - 1) / n) : 0;
	ret->ratio = exp(mean);
	ret->low = exp(mean - half);
	ret->high = exp(mean + half);
}

struct sim_mean sim_report_mean(const struct sim_report *r, size_t algorithm, int metric)
{
	struct sim_mean m = { 0 };

	if (metric < 0)
		return m;
	m.least = m.most = values_of(r, algorithm, 0)[metric];
	for (size_t seed = 0; seed < r->spec->seeds; seed++) {
		double v = values_of(r, algorithm, seed)[metric];

		m.mean += v / (double)r->spec->seeds;
		m.least = fmin(m.least, v);
		m.most = fmax(m.most, v);
	}
	ratios(r, algorithm, (size_t)metric, &m);
	return m;
}

/* --- documents --- */

/* Ten digits: the same text wherever it is computed. */
static json_t *number(double v)
{
	char text[40];

	snprintf(text, sizeof(text), "%.10g", v);
	return json_real(strtod(text, NULL));
}

static json_t *child(json_t *parent, const char *key)
{
	json_t *o = json_object_get(parent, key);

	if (!o && json_object_set_new(parent, key, json_object()) == 0)
		o = json_object_get(parent, key);
	return o;
}

/* The object that a metric belongs to: below its kind and name; that of the machine has no name. */
static json_t *place(json_t *root, const struct sim_metric *m)
{
	json_t *kind = child(root, m->kind);

	return *m->object ? child(kind, m->object) : kind;
}

static json_t *mean_json(const struct sim_mean *m, bool with_ratio)
{
	json_t *o = json_object();

	json_object_set_new(o, "mean", number(m->mean));
	json_object_set_new(o, "least", number(m->least));
	json_object_set_new(o, "most", number(m->most));
	if (with_ratio && m->ratio > 0) {
		json_object_set_new(o, "ratio", number(m->ratio));
		json_object_set_new(o, "ratio_low", number(m->low));
		json_object_set_new(o, "ratio_high", number(m->high));
	}
	return o;
}

static json_t *algorithm_json(const struct sim_report *r, size_t algorithm)
{
	json_t *o = json_object(), *runs = json_array();

	json_object_set_new(o, "name", json_string(sim_algorithm_words[r->spec->algorithm[algorithm]]));
	for (size_t i = 0; i < r->n_metrics; i++) {
		struct sim_mean m = sim_report_mean(r, algorithm, (int)i);

		json_object_set_new(place(o, &r->metric[i]), r->metric[i].name, mean_json(&m, algorithm != r->baseline));
	}
	for (size_t seed = 0; seed < r->spec->seeds; seed++) {
		uint64_t which = r->spec->first_seed + seed;
		json_t *run = json_pack("{s:I}", "seed", (json_int_t)which);

		for (size_t i = 0; i < r->n_metrics; i++)
			json_object_set_new(place(run, &r->metric[i]), r->metric[i].name,
					    number(values_of(r, algorithm, seed)[i]));
		json_array_append_new(runs, run);
	}
	json_object_set_new(o, "runs", runs);
	return o;
}

json_t *sim_report_json(const struct sim_report *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->spec->n_algorithms; i++)
		json_array_append_new(list, algorithm_json(r, i));
	return json_pack("{s:I, s:f, s:I, s:I, s:s, s:o}", "cpus", (json_int_t)r->spec->cpus, "seconds",
			 (double)r->spec->duration_ns / 1e9, "seeds", (json_int_t)r->spec->seeds, "first_seed",
			 (json_int_t)r->spec->first_seed, "baseline",
			 sim_algorithm_words[r->spec->algorithm[r->baseline]], "algorithms", list);
}

void sim_report_csv(const struct sim_report *r, FILE *out)
{
	fputs("algorithm,seed,kind,object,metric,value\n", out);
	for (size_t a = 0; a < r->spec->n_algorithms; a++)
		for (size_t seed = 0; seed < r->spec->seeds; seed++)
			for (size_t i = 0; i < r->n_metrics; i++)
				fprintf(out, "%s,%" PRIu64 ",%s,%s,%s,%.10g\n", sim_algorithm_words[r->spec->algorithm[a]],
					r->spec->first_seed + seed, r->metric[i].kind,
					r->metric[i].object, r->metric[i].name, values_of(r, a, seed)[i]);
}
