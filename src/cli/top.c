/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * top: slo, live.
 */
#include "cli/slo_view.h"

static void add_node(struct cli_table *t, const json_t *pool, const json_t *node)
{
	const json_t *a = json_object_get(json_object_get(node, "attained"), "1s");
	const json_t *queue = json_object_get(node, "queue_time"), *device = json_object_get(node, "device_time");
	char text[32], target[80], promise[160], verdict[256];

	slo_promise_text(json_object_get(node, "promise"), promise, sizeof(promise));
	slo_verdict_text(node, "1s", verdict, sizeof(verdict));
	cli_cell(t, "%s", cli_text(pool, "pool"));
	cli_cell(t, "%s%s", cli_text(node, "class")[0] ? "  " : "", slo_target(node, target));
	cli_cell(t, "%s", cli_count(cli_number(a, "iops"), text));
	cli_cell(t, "%s/s", cli_size((uint64_t)cli_number(a, "bandwidth"), text));
	cli_cell(t, "%s", cli_time((uint64_t)cli_integer(queue, "p50_ns"), text));
	cli_cell(t, "%s", cli_time((uint64_t)cli_integer(queue, "p99_ns"), text));
	cli_cell(t, "%s", cli_time((uint64_t)cli_integer(device, "p50_ns"), text));
	cli_cell(t, "%s", cli_time((uint64_t)cli_integer(device, "p99_ns"), text));
	cli_cell(t, "%d", (int)cli_integer(node, "held"));
	cli_cell(t, "%s", promise);
	cli_cell(t, "%s", verdict);
}

static void print_nodes(const json_t *result, FILE *out)
{
	static const char *const headings[] = { "POOL",	   "TARGET",  "IOPS", "RATE",	  "Q P50", "Q P99",
						"DEV P50", "DEV P99", "HELD", "PROMISED", "STATE" };
	json_t *pool, *node;
	struct cli_table t;
	size_t i, j;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0x7fu << 2);
	json_array_foreach (json_object_get(result, "pools"), i, pool)
		json_array_foreach (json_object_get(pool, "nodes"), j, node)
			add_node(&t, pool, node);
	cli_table_end(&t, out);
}

int cli_top(struct cli *c)
{
	static const struct cli_live live = { "slo.show", print_nodes, "VIOLATED" };

	return cli_live(c, &live);
}
