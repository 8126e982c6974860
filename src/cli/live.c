/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A table, live. On a terminal a screen that is drawn anew; otherwise a table per look, for logs and pipes.
 */
#include "cli/cli.h"

#include "ctl/client.h"
#include "policy/units.h"

#include <errno.h>
#include <ncurses.h>
#include <poll.h>
#include <string.h>

/* Cut to the screen; the heading stands out. */
static void draw(const struct cli_live *live, const json_t *result)
{
	char *text = NULL, *line, *rest;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int row = 0;

	if (!out)
		return;
	live->print(result, out);
	if (fclose(out) != 0)
		return;
	erase();
	for (line = strtok_r(text, "\n", &rest); line && row < LINES; line = strtok_r(NULL, "\n", &rest)) {
		bool bold = live->bold && strstr(line, live->bold);

		attrset(row == 0 ? A_REVERSE : bold ? A_BOLD : A_NORMAL);
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

static int run(struct cli *c, const struct cli_live *live, struct ctl_client *client, bool screen, uint64_t interval_ns,
	       uint64_t count)
{
	json_t *result = NULL, *error = NULL;

	for (uint64_t i = 0; count == 0 || i < count; i++) {
		int r = ctl_client_call(client, live->method, NULL, &result, &error);

		if (r < 0) {
			if (screen)
				endwin();
			if (r == -EREMOTEIO)
				return cli_report_error(c, error);
			cli_error("the daemon has gone");
			return EX_UNAVAILABLE;
		}
		if (screen)
			draw(live, result);
		else if (c->json)
			json_dumpf(result, stdout, JSON_COMPACT);
		else
			live->print(result, stdout);
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

int cli_live(struct cli *c, const struct cli_live *live)
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
	status = run(c, live, client, screen, interval_ns, n);
	ctl_client_close(client);
	return status;
}
