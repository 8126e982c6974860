/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * status, stats, vm list, events, rpc: what the daemon tells.
 */
#include "cli/cli.h"

#include "ctl/client.h"

#include <errno.h>
#include <string.h>

/* "0,1": the workers that serve a disk. */
static void join_numbers(const json_t *list, char *text, size_t size)
{
	size_t used = 0, i;
	json_t *v;

	snprintf(text, size, "-");
	json_array_foreach (list, i, v)
		if (used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%d", used ? "," : "",
						 (int)json_integer_value(v));
}

static void print_vms(const json_t *vms)
{
	static const char *const headings[] = { "VM", "DISK", "POOL", "SIZE", "STATE", "QUEUES", "WORKERS", "SOCKET" };
	struct cli_table t;
	json_t *vm, *d;
	size_t i, j;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 1u << 3 | 1u << 5);
	json_array_foreach (vms, i, vm) {
		if (json_array_size(json_object_get(vm, "disks")) == 0) {
			cli_cell(&t, "%s", cli_text(vm, "name"));
			for (size_t k = 1; k < ARRAY_SIZE(headings); k++)
				cli_cell(&t, "-");
		}
		json_array_foreach (json_object_get(vm, "disks"), j, d) {
			char size[32], workers[128];
			bool fault = cli_text(d, "fault")[0];

			join_numbers(json_object_get(d, "workers"), workers, sizeof(workers));
			cli_cell(&t, "%s", cli_text(vm, "name"));
			cli_cell(&t, "%s%s", cli_text(d, "name"),
				 json_is_true(json_object_get(d, "read_only")) ? " (ro)" : "");
			cli_cell(&t, "%s", cli_text(d, "pool"));
			cli_cell(&t, "%s", cli_size((uint64_t)cli_integer(d, "size_bytes"), size));
			cli_cell(&t, "%s%s%s", cli_text(d, "state"), fault ? ", broken: " : "", cli_text(d, "fault"));
			cli_cell(&t, "%d", (int)cli_integer(d, "queues"));
			cli_cell(&t, "%s", workers);
			cli_cell(&t, "%s", cli_text(d, "socket"));
		}
	}
	cli_table_end(&t, stdout);
}

static void print_workers(const json_t *workers)
{
	static const char *const headings[] = { "WORKER", "CPU", "POLL", "QUEUES", "BUSY" };
	struct cli_table t;
	json_t *w;
	size_t i;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 1u | 1u << 1 | 1u << 3 | 1u << 4);
	json_array_foreach (workers, i, w) {
		cli_cell(&t, "%d", (int)cli_integer(w, "index"));
		if (cli_integer(w, "cpu") < 0)
			cli_cell(&t, "any");
		else
			cli_cell(&t, "%d", (int)cli_integer(w, "cpu"));
		cli_cell(&t, "%s", cli_text(w, "poll"));
		cli_cell(&t, "%d", (int)cli_integer(w, "queues"));
		cli_cell(&t, "%.0f %%", cli_number(w, "busy_percent"));
	}
	cli_table_end(&t, stdout);
}

static void print_pools(const json_t *pools)
{
	static const char *const headings[] = { "POOL", "TYPE", "SLO", "DISKS", "SCHEDULED BY" };
	struct cli_table t;
	json_t *p;
	size_t i;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 1u << 3);
	json_array_foreach (pools, i, p) {
		bool slo = json_is_true(json_object_get(p, "slo"));

		cli_cell(&t, "%s", cli_text(p, "name"));
		cli_cell(&t, "%s", cli_text(p, "type"));
		cli_cell(&t, "%s", slo ? "on" : "off");
		cli_cell(&t, "%d", (int)cli_integer(p, "disks"));
		if (slo && cli_integer(p, "owner") >= 0)
			cli_cell(&t, "worker %d", (int)cli_integer(p, "owner"));
		else
			cli_cell(&t, "%s", slo ? "every worker its slice" : "-");
	}
	cli_table_end(&t, stdout);
}

int cli_status(struct cli *c)
{
	json_t *result;
	int status = cli_call(c, "daemon.status", NULL, &result);
	long up;

	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(result);
	up = (long)cli_integer(result, "uptime_s");
	printf("fairleadd %s, up %ld:%02ld:%02ld\n\n", cli_text(result, "version"), up / 3600, up / 60 % 60, up % 60);
	print_workers(json_object_get(result, "workers"));
	putchar('\n');
	print_pools(json_object_get(result, "pools"));
	putchar('\n');
	print_vms(json_object_get(result, "vms"));
	json_decref(result);
	return CLI_OK;
}

int cli_vm_list(struct cli *c)
{
	json_t *result;
	int status = cli_call(c, "vm.list", NULL, &result);

	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(result);
	print_vms(json_object_get(result, "vms"));
	json_decref(result);
	return CLI_OK;
}

/* Counters that are still 0 tell people nothing. */
static void drop_zeroes(json_t *value)
{
	const char *key;
	json_t *v;
	void *next;
	size_t i;

	json_array_foreach (value, i, v)
		drop_zeroes(v);
	json_object_foreach_safe (value, next, key, v) {
		bool names = strcmp(key, "queue") == 0 || strcmp(key, "worker") == 0;

		drop_zeroes(v);
		if ((json_is_integer(v) && json_integer_value(v) == 0 && !names) ||
		    (json_is_object(v) && json_object_size(v) == 0) || (json_is_array(v) && json_array_size(v) == 0))
			json_object_del(value, key);
	}
}

int cli_stats(struct cli *c)
{
	bool names = cli_value(c, "names");
	json_t *result;
	int status = cli_call(c, names ? "daemon.metrics" : "daemon.stats", NULL, &result);

	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(result);
	if (!names)
		drop_zeroes(result);
	cli_print_tree(stdout, result, 0);
	json_decref(result);
	return CLI_OK;
}

/* --- events --- */

static int print_event(struct cli *c, json_t *event)
{
	char *params = json_dumps(json_object_get(event, "params"), JSON_COMPACT);

	if (c->json)
		printf("{\"event\":\"%s\",\"params\":%s}\n", cli_text(event, "method"), params ? params : "{}");
	else
		printf("%s %s\n", cli_text(event, "method"), params ? params : "");
	free(params);
	json_decref(event);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

/* Until the daemon ends or we are interrupted. With --json, a document a line, as it is a stream. */
int cli_events(struct cli *c)
{
	json_t *names = json_array(), *result = NULL, *error = NULL, *event;
	struct ctl_client *client;
	int status = cli_connect(c, &client), r;

	for (int i = 0; i < c->argc; i++)
		json_array_append_new(names, json_string(c->argv[i]));
	if (status != CLI_OK) {
		json_decref(names);
		return status;
	}
	r = ctl_client_call(client, "rpc.subscribe", c->argc ? json_pack("{s:O}", "events", names) : NULL, &result,
			    &error);
	json_decref(names);
	json_decref(result);
	if (r == -EREMOTEIO)
		status = cli_report_error(c, error);
	while (r >= 0 && status == CLI_OK && (r = ctl_client_event(client, &event)) != -ECONNRESET) {
		/* Nothing has happened for a while. */
		if (r == -ETIMEDOUT)
			r = 0;
		else if (r == 0)
			status = print_event(c, event);
	}
	ctl_client_close(client);
	if (r < 0 && r != -EREMOTEIO) {
		cli_error("the daemon has gone");
		return EX_UNAVAILABLE;
	}
	return status;
}

/* --- rpc --- */

static void print_params(const json_t *params)
{
	json_t *p;
	size_t i;

	json_array_foreach (params, i, p)
		printf("    %-12s %s%s: %s\n", cli_text(p, "name"), cli_text(p, "type"),
		       json_is_true(json_object_get(p, "required")) ? "" : ", optional", cli_text(p, "doc"));
}

int cli_rpc_describe(struct cli *c)
{
	json_t *result, *m;
	int status = cli_call(c, "rpc.describe", NULL, &result);
	size_t i;

	if (status != CLI_OK)
		return status;
	if (c->json)
		return cli_print_json(result);
	printf("fairleadd %s, protocol %d\n\nmethods\n", cli_text(result, "version"),
	       (int)cli_integer(result, "protocol"));
	json_array_foreach (json_object_get(result, "methods"), i, m) {
		printf("  %-18s %s\n", cli_text(m, "name"), cli_text(m, "doc"));
		print_params(json_object_get(m, "params"));
	}
	puts("\nevents");
	json_array_foreach (json_object_get(result, "events"), i, m)
		printf("  %-18s %s\n", cli_text(m, "name"), cli_text(m, "doc"));
	json_decref(result);
	return CLI_OK;
}

int cli_rpc_call(struct cli *c)
{
	json_t *params = c->argc > 1 ? json_loads(c->argv[1], 0, NULL) : NULL, *result;
	int status;

	if (c->argc > 1 && !json_is_object(params)) {
		json_decref(params);
		return cli_usage(c, "parameters are a JSON object");
	}
	status = cli_call(c, c->argv[0], params, &result);
	return status == CLI_OK ? cli_print_json(result) : status;
}
