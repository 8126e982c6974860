/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading counters by their tables. Control thread; the counters are written by workers meanwhile.
 */
#include "metrics/metrics.h"

#include "base/hist.h"

#include <string.h>

static const void *at(const void *counters, const struct metric *m)
{
	return (const char *)counters + m->offset;
}

static json_t *histogram_json(const struct hist *live)
{
	static struct hist h; /* a copy, so that the quantiles agree; control thread only */

	memset(&h, 0, sizeof(h));
	hist_merge(&h, live);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)h.count, "sum", (json_int_t)h.sum, "max",
			 (json_int_t)h.max, "p50", (json_int_t)hist_quantile(&h, 500), "p90",
			 (json_int_t)hist_quantile(&h, 900), "p99", (json_int_t)hist_quantile(&h, 990), "p999",
			 (json_int_t)hist_quantile(&h, 999));
}

json_t *metrics_json(const struct metric_table *t, const void *counters)
{
	json_t *o = json_object();

	for (size_t i = 0; o && i < t->n; i++) {
		const struct metric *m = &t->metric[i];
		json_t *v;

		if (m->kind == METRIC_HISTOGRAM)
			v = histogram_json(at(counters, m));
		else
			v = json_integer((json_int_t)load_relaxed((const uint64_t *)at(counters, m)));
		json_object_set_new(o, m->name, v);
	}
	return o;
}

void metrics_add(const struct metric_table *t, void *into, const void *from)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct metric *m = &t->metric[i];
		void *sum = (char *)into + m->offset;

		if (m->kind == METRIC_HISTOGRAM)
			hist_merge(sum, at(from, m));
		else
			*(uint64_t *)sum += load_relaxed((const uint64_t *)at(from, m));
	}
}

static const char *kind_name(enum metric_kind k)
{
	static const char *const name[] = { "counter", "gauge", "histogram" };

	return name[k];
}

json_t *metrics_describe(void)
{
	const struct metric_table *const tables[] = { &metrics_worker, &metrics_queue, &metrics_store };
	json_t *all = json_array();

	for (size_t t = 0; all && t < ARRAY_SIZE(tables); t++)
		for (size_t i = 0; i < tables[t]->n; i++) {
			const struct metric *m = &tables[t]->metric[i];

			json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s}", "object", tables[t]->object, "name",
							     m->name, "kind", kind_name(m->kind), "help", m->help));
		}
	return all;
}
