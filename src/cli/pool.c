/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool show, pool calibrate.
 */
#include "cli/cli.h"

#include "policy/units.h"

#include <string.h>

static void print_costs(const json_t *costs)
{
	static const char *const headings[] = { "OPERATION", "SIZE", "DEVICE TIME", "SEEN" };
	struct cli_table t;
	json_t *cost;
	size_t i;

	if (json_array_size(costs) == 0)
		return;
	putchar('\n');
	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 1u << 1 | 1u << 2 | 1u << 3);
	json_array_foreach (costs, i, cost) {
		char size[32], time[32], seen[32];

		cli_cell(&t, "%s%s", cli_text(cost, "op"),
			 json_is_true(json_object_get(cost, "sequential")) ? ", sequential" : "");
		cli_cell(&t, "%s", cli_size((uint64_t)cli_number(cost, "bytes"), size));
		cli_cell(&t, "%s", cli_time((uint64_t)cli_number(cost, "ns"), time));
		cli_cell(&t, "%s", cli_count(cli_number(cost, "samples"), seen));
	}
	cli_table_end(&t, stdout);
}

static void print_pool(json_t *pool)
{
	json_t *costs = json_incref(json_object_get(pool, "costs"));

	json_object_del(pool, "costs");
	cli_print_tree(stdout, pool, 0);
	print_costs(costs);
	json_decref(costs);
}

/* The names of all pools; NULL, and *status: told. */
static json_t *list_pools(struct cli *c, int *status)
{
	json_t *names = json_array(), *result, *pool;
	size_t i;

	*status = cli_call(c, "daemon.status", NULL, &result);
	if (*status != CLI_OK) {
		json_decref(names);
		return NULL;
	}
	json_array_foreach (json_object_get(result, "pools"), i, pool)
		json_array_append_new(names, json_string(cli_text(pool, "name")));
	json_decref(result);
	return names;
}

static int show_one(struct cli *c, const char *name, json_t **ret)
{
	return cli_call(c, "pool.show", json_pack("{s:s}", "name", name), ret);
}

int cli_pool_show(struct cli *c)
{
	int status = CLI_OK;
	json_t *names = c->argc ? json_pack("[s]", c->argv[0]) : list_pools(c, &status), *name, *pool,
	       *pools = json_array();
	size_t i;

	json_array_foreach (names, i, name) {
		status = show_one(c, json_string_value(name), &pool);
		if (status != CLI_OK)
			break;
		json_array_append_new(pools, pool);
	}
	json_decref(names);
	if (status == CLI_OK && c->json)
		return cli_print_json(json_pack("{s:o}", "pools", pools));
	if (status == CLI_OK)
		json_array_foreach (pools, i, pool) {
			if (i)
				putchar('\n');
			print_pool(pool);
		}
	json_decref(pools);
	return status;
}

int cli_pool_calibrate(struct cli *c)
{
	const char *seconds = cli_value(c, "seconds");
	json_t *params = json_pack("{s:s}", "name", c->argv[0]), *pool;
	uint64_t n = 0;
	int status;

	if (seconds && (units_parse(UNITS_COUNT, seconds, &n) < 0 || n > 60)) {
		json_decref(params);
		return cli_usage(c, "--seconds: '%s' is not a number up to 60", seconds);
	}
	if (seconds)
		json_object_set_new(params, "seconds", json_integer((json_int_t)n));
	status = cli_call(c, "pool.calibrate", params, &pool);
	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(pool);
	print_pool(pool);
	json_decref(pool);
	return CLI_OK;
}
