/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking to the daemon, and saying so when that does not work.
 */
#include "cli/cli.h"

#include "ctl/client.h"
#include "ctl/method.h"

#include <errno.h>
#include <string.h>

/* A change waits for requests in flight; a device of minutes is a rehearsal's. */
#define TIMEOUT_MS 300000

/* Lives as long as the program. */
static const char *cosched_path(const struct cli *c)
{
	static char path[256];
	const char *slash = strrchr(c->control, '/');

	snprintf(path, sizeof(path), "%.*s/cosched.sock", slash ? (int)(slash - c->control) : 1, slash ? c->control : ".");
	return path;
}

void cli_use_cosched(struct cli *c)
{
	c->cosched = true;
	if (!c->control_given)
		c->control = cosched_path(c);
}

bool cli_has_cosched(const struct cli *c)
{
	return access(cosched_path(c), F_OK) == 0;
}

bool cli_has_daemon(const struct cli *c)
{
	return access(c->control, F_OK) == 0;
}

int cli_connect(struct cli *c, struct ctl_client **ret)
{
	int r = ctl_client_connect(c->control, TIMEOUT_MS, ret);

	if (r == 0)
		return CLI_OK;
	if (r == -ENOENT || r == -ECONNREFUSED)
		cli_error("no daemon at %s; is fairlead%s running?", c->control, c->cosched ? "-cosched" : "d");
	else if (r == -EACCES)
		cli_error("%s: no permission; be a member of the socket's group", c->control);
	else
		cli_error("%s: %s", c->control, strerror(-r));
	return EX_UNAVAILABLE;
}

/* The daemon's diagnostics look like those of `check`. */
static void print_diagnostics(const json_t *list)
{
	json_t *d;
	size_t i;

	json_array_foreach (list, i, d) {
		if (cli_integer(d, "line"))
			fprintf(stderr, "%s:%d:%d: ", cli_text(d, "file"), (int)cli_integer(d, "line"),
				(int)cli_integer(d, "column"));
		else if (cli_text(d, "file")[0])
			fprintf(stderr, "%s: ", cli_text(d, "file"));
		fprintf(stderr, "%s: %s\n", cli_text(d, "severity"), cli_text(d, "message"));
	}
}

int cli_report_error(struct cli *c, json_t *error)
{
	json_t *data = json_object_get(error, "data");
	json_int_t code = cli_integer(error, "code");

	if (c->json) {
		cli_print_json(json_pack("{s:O}", "error", error));
	} else {
		print_diagnostics(json_object_get(data, "diagnostics"));
		cli_error("%s", cli_text(error, "message"));
		if (cli_text(data, "hint")[0])
			fprintf(stderr, "  %s\n", cli_text(data, "hint"));
	}
	json_decref(error);
	return code == CTL_ERROR_POLICY ? EX_CONFIG : CLI_FAILED;
}

int cli_call(struct cli *c, const char *method, json_t *params, json_t **ret)
{
	struct ctl_client *client;
	json_t *error = NULL;
	int status = cli_connect(c, &client), r;

	if (status != CLI_OK) {
		json_decref(params);
		return status;
	}
	r = ctl_client_call(client, method, params, ret, &error);
	ctl_client_close(client);
	if (r == -EREMOTEIO)
		return cli_report_error(c, error);
	if (r < 0)
		cli_error("%s: %s", c->control, r == -ECONNRESET ? "the daemon has gone" : strerror(-r));
	return r < 0 ? EX_UNAVAILABLE : CLI_OK;
}
