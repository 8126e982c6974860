/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slo, slo set, slo unset: promises and what came of them.
 */
#include "cli/slo_view.h"

#include <string.h>

static bool is_wanted(const struct cli *c, const json_t *node)
{
	const char *target = c->argc ? c->argv[0] : "";
	size_t n = strlen(target);
	char has[80];

	slo_target(node, has);
	/* A VM stands for its classes, too. */
	return n == 0 || (strncmp(has, target, n) == 0 && (has[n] == '\0' || has[n] == '/'));
}

/* Leaves only what is wanted, in print and in JSON alike; returns how many nodes that are. */
static size_t keep_wanted(const struct cli *c, json_t *result)
{
	json_t *pools = json_object_get(result, "pools");
	size_t kept = 0;

	for (size_t i = json_array_size(pools); i-- > 0;) {
		json_t *nodes = json_object_get(json_array_get(pools, i), "nodes");

		for (size_t j = json_array_size(nodes); j-- > 0;)
			if (!is_wanted(c, json_array_get(nodes, j)))
				json_array_remove(nodes, j);
		kept += json_array_size(nodes);
		if (json_array_size(nodes) == 0)
			json_array_remove(pools, i);
	}
	return kept;
}

static void cell_attained(struct cli_table *t, const json_t *attained, const char *span)
{
	const json_t *a = json_object_get(attained, span);
	char iops[32], bandwidth[32];

	cli_cell(t, "%s iops %s/s", cli_count(cli_number(a, "iops"), iops),
		 cli_size((uint64_t)cli_number(a, "bandwidth"), bandwidth));
}

static void add_node(struct cli_table *t, const json_t *pool, const json_t *node)
{
	const json_t *attained = json_object_get(node, "attained");
	char target[80], promise[160], verdict[256];

	slo_promise_text(json_object_get(node, "promise"), promise, sizeof(promise));
	slo_verdict_text(node, "10s", verdict, sizeof(verdict));
	cli_cell(t, "%s", cli_text(pool, "pool"));
	cli_cell(t, "%s", slo_target(node, target));
	cli_cell(t, "%s", promise);
	cell_attained(t, attained, "1s");
	cell_attained(t, attained, "10s");
	cell_attained(t, attained, "60s");
	cli_cell(t, "%s", verdict);
}

static void print_nodes(const json_t *result)
{
	static const char *const headings[] = { "POOL", "TARGET", "PROMISED", "LAST 1 S", "10 S", "60 S", "OVER 10 S" };
	json_t *pool, *node;
	struct cli_table t;
	size_t i, j;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 1u << 3 | 1u << 4 | 1u << 5);
	json_array_foreach (json_object_get(result, "pools"), i, pool)
		json_array_foreach (json_object_get(pool, "nodes"), j, node)
			add_node(&t, pool, node);
	cli_table_end(&t, stdout);
}

/* Reading is no failure when a promise is violated: that is for the caller to judge, from the output. */
int cli_slo(struct cli *c)
{
	json_t *result;
	int status = cli_call(c, "slo.show", NULL, &result);

	if (status != CLI_OK)
		return status;
	if (c->argc && keep_wanted(c, result) == 0) {
		json_decref(result);
		cli_error("no pool keeps promises of '%s'; `fairlead slo' shows all VMs and classes that have some", c->argv[0]);
		return CLI_FAILED;
	}
	if (c->json)
		return cli_print_json(result);
	print_nodes(result);
	json_decref(result);
	return CLI_OK;
}

/* --- changing --- */

/* "reservation=none": all of it. False: that is no such setting. */
static bool add_none(json_t *promise, const char *setting)
{
	static const struct {
		const char *setting, *key, *members[2];
	} settings[] = {
		{ "reservation=none", "reservation", { "iops", "bandwidth" } },
		{ "limit=none", "limit", { "iops", "bandwidth" } },
		{ "burst=none", "burst", { "iops", "bandwidth" } },
		{ "latency=none", "latency", { "p50", "p99" } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcmp(setting, settings[i].setting) == 0)
			return json_object_set_new(promise, settings[i].key,
						   json_pack("{s:s, s:s}", settings[i].members[0], "none",
							     settings[i].members[1], "none")) == 0;
	return false;
}

/* "reservation.iops=50" -> {"reservation": {"iops": "50"}}. Values stay words: the policy's own reader knows units. */
static bool add_setting(json_t *promise, const char *setting)
{
	const char *equal = strchr(setting, '='), *dot = memchr(setting, '.', equal ? (size_t)(equal - setting) : 0);
	json_t *map = promise;
	char key[64];
	size_t n;

	if (!equal || equal == setting || equal[1] == '\0' || (size_t)(equal - setting) >= sizeof(key))
		return false;
	if (dot) {
		n = (size_t)(dot - setting);
		memcpy(key, setting, n);
		key[n] = '\0';
		if (!json_object_get(promise, key))
			json_object_set_new(promise, key, json_object());
		map = json_object_get(promise, key);
		setting = dot + 1;
	}
	n = (size_t)(equal - setting);
	if (n == 0 || !json_is_object(map))
		return false;
	memcpy(key, setting, n);
	key[n] = '\0';
	return json_object_set_new(map, key, json_string(equal + 1)) == 0;
}

static int finish(struct cli *c, const char *method, json_t *params, const char *done)
{
	json_t *result;
	int status = cli_call(c, method, params, &result);

	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(result);
	printf("%s: %s\n", c->argv[0], done);
	json_decref(result);
	return CLI_OK;
}

int cli_slo_set(struct cli *c)
{
	json_t *promise = json_object();

	for (int i = 1; i < c->argc; i++) {
		if (add_none(promise, c->argv[i]) || add_setting(promise, c->argv[i]))
			continue;
		json_decref(promise);
		return cli_usage(
			c,
			"'%s' is not KEY=VALUE, like reservation.iops=50, limit.bandwidth=10MiB/s, shares=200, "
			"latency.p99=5ms",
			c->argv[i]);
	}
	return finish(c, "slo.set", json_pack("{s:s, s:o}", "target", c->argv[0], "promise", promise), "set");
}

int cli_slo_unset(struct cli *c)
{
	return finish(c, "slo.unset", json_pack("{s:s}", "target", c->argv[0]), "as the policy's files say");
}
