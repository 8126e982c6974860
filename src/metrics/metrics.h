/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is counted, and how it is named: one table per kind of object. `fairlead stats --json` and, from the same names,
 * Prometheus read it. A name is a contract: it changes with a note in NEWS.md only.
 */
#pragma once

#include "base/util.h"

#include <jansson.h>

enum metric_kind {
	METRIC_COUNTER,	   /* uint64_t, only grows */
	METRIC_GAUGE,	   /* uint64_t, as of now */
	METRIC_HISTOGRAM,  /* struct hist; unit in the name (_ns, none = a number) */
};

struct metric {
	const char *name;
	enum metric_kind kind;
	size_t offset; /* in the object's counters */
	const char *help;
};

struct metric_table {
	const char *object; /* "queue", "worker", "store" */
	const struct metric *metric;
	size_t n;
};

extern const struct metric_table metrics_queue;	 /* of a struct blk_queue_counters */
extern const struct metric_table metrics_worker; /* of a struct worker_counters */
extern const struct metric_table metrics_store;	 /* of a struct store_counters */

/* A new object {name: value}; histograms as {count, sum, max, p50, p90, p99, p999}. NULL without memory. */
json_t *metrics_json(const struct metric_table *t, const void *counters);

/* Adds `from` to `into`, both of the table's kind: sums of queues, of channels. */
void metrics_add(const struct metric_table *t, void *into, const void *from);

/* Every table as [{object, name, kind, help}], for documentation. */
json_t *metrics_describe(void);
