/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * top: slo, live. On a terminal a screen that is drawn anew; otherwise a table per look, for logs and pipes.
 */
#include "cli/slo_view.h"

#include "ctl/client.h"
#include "policy/units.h"

#include <errno.h>
#include <ncurses.h>
#include <poll.h>
#include <string.h>

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

/* Cut to the screen; the heading stands out. */
static void draw(const json_t *result)
{
	char *text = NULL, *line, *rest;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int row = 0;

	if (!out)
		return;
	print_nodes(result, out);
	if (fclose(out) != 0)
		return;
	erase();
	for (line = strtok_r(text, "\n", &rest); line && row < LINES; line = strtok_r(NULL, "\n", &rest)) {
		bool violated = strstr(line, "VIOLATED");

		attrset(row == 0 ? A_REVERSE : violated ? A_BOLD : A_NORMAL);
		mvaddnstr(row++, 0, line, COLS);
	}
	attrset(A_NORMAL);
	refresh();
	free(text);
}

/* Waits for the next look; true: the user wants to leave. */
static bool wait_or_quit(bool screen, uint64_t interval_ns)
{
	int key;

	if (!screen) {
		poll(NULL, 0, (int)(interval_ns / 1000000));
		return false;
	}
	timeout((int)(interval_ns / 1000000));
	key = getch();
	return key == 'q' || key == 27;
}

static int run(struct cli *c, struct ctl_client *client, bool screen, uint64_t interval_ns, uint64_t count)
{
	json_t *result = NULL, *error = NULL;

	for (uint64_t i = 0; count == 0 || i < count; i++) {
		int r = ctl_client_call(client, "slo.show", NULL, &result, &error);

		if (r < 0) {
			if (screen)
				endwin();
			if (r == -EREMOTEIO)
				return cli_report_error(c, error);
			cli_error("the daemon has gone");
			return EX_UNAVAILABLE;
		}
		if (screen)
			draw(result);
		else if (c->json)
			json_dumpf(result, stdout, JSON_COMPACT);
		else
			print_nodes(result, stdout);
		json_decref(result);
		if (!screen) {
			putchar('\n');
			fflush(stdout);
		}
		if ((count == 0 || i + 1 < count) && wait_or_quit(screen, interval_ns))
			break;
	}
	if (screen)
		endwin();
	return CLI_OK;
}

int cli_top(struct cli *c)
{
	const char *interval = cli_value(c, "interval"), *count = cli_value(c, "count");
	bool screen = !c->json && isatty(STDOUT_FILENO);
	uint64_t interval_ns = 1000000000, n = 0;
	char seconds[64];
	struct ctl_client *client;
	int status;

	snprintf(seconds, sizeof(seconds), "%ss", interval ? interval : "1");
	if (units_parse(UNITS_DURATION, seconds, &interval_ns) < 0 || interval_ns < 10000000 ||
	    interval_ns > 3600000000000)
		return cli_usage(c, "--interval: '%s' is not a number of seconds", interval);
	if (count && (units_parse(UNITS_COUNT, count, &n) < 0 || n == 0))
		return cli_usage(c, "--count: '%s' is not a number", count);
	status = cli_connect(c, &client);
	if (status != CLI_OK)
		return status;
	if (screen) {
		initscr();
		cbreak();
		noecho();
		curs_set(0);
	}
	status = run(c, client, screen, interval_ns, n);
	ctl_client_close(client);
	return status;
}
