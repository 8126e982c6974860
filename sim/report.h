/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All runs of a spec: every figure of every run in one flat list, what they are on average, and what one algorithm does
 * to them compared with the baseline, seed by seed.
 */
#pragma once

#include "sim/sim.h"

#include <jansson.h>

#define SIM_METRIC_MAX 24

struct sim_metric {
	const char *kind;   /* "chain", "vm", "account", "machine" */
	const char *object; /* its name; "" for the machine */
	char name[SIM_METRIC_MAX];
};

struct sim_report {
	const struct sim_spec *spec;
	size_t baseline; /* position in spec->algorithm: credit, or the first one */
	struct sim_metric *metric;
	size_t n_metrics;
	double *value; /* [algorithm][seed][metric] */
};

struct sim_mean {
	double mean, least, most;
	/* Geometric mean of the ratios to the baseline's run of the same seed, and its 95 % interval. 0: no ratio. */
	double ratio, low, high;
};

/* Runs everything. `progress`: NULL, or called before each run. 0 or -ENOMEM. */
int sim_report_run(const struct sim_spec *spec, struct sim_report *ret, void (*progress)(size_t done, size_t of));
void sim_report_free(struct sim_report *r);

/* -1: no such metric. */
int sim_report_find(const struct sim_report *r, const char *kind, const char *object, const char *name);
struct sim_mean sim_report_mean(const struct sim_report *r, size_t algorithm, int metric);

json_t *sim_report_json(const struct sim_report *r);
/* algorithm,seed,kind,object,metric,value */
void sim_report_csv(const struct sim_report *r, FILE *out);
