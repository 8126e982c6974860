/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cosched trace: has fairlead-cosched record a stretch of scheduling, and draws it or keeps it.
 */
#include "cli/cli.h"

#include "ctl/client.h"
#include "policy/units.h"
#include "sim/trace.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define SECONDS_DEFAULT "1"
#define LOOK_MS 100

struct recording {
	struct trace trace;
	size_t room;
	uint64_t lost;
};

/* --- from JSON --- */

/* Foreign: what is not of this form becomes zeroes, and the tables' own checks follow. */
static bool add_event(struct recording *r, const json_t *e)
{
	struct trace *t = &r->trace;

	if (t->n_events == r->room) {
		size_t room = r->room ? 2 * r->room : 65536;
		struct co_event *grown = reallocarray(t->event, room, sizeof(*grown));

		if (!grown)
			return false;
		t->event = grown;
		r->room = room;
	}
	t->event[t->n_events++] = (struct co_event){
		.time_ns = (uint64_t)json_integer_value(json_array_get(e, 0)),
		.kind = (__u8)json_integer_value(json_array_get(e, 1)),
		.cpu = (__u16)json_integer_value(json_array_get(e, 2)),
		.member = (__u32)json_integer_value(json_array_get(e, 3)),
		.value = (uint64_t)json_integer_value(json_array_get(e, 4)),
		.flags = (__u8)json_integer_value(json_array_get(e, 5)),
	};
	return true;
}

static bool take_events(struct recording *r, const json_t *portion)
{
	json_t *e;
	size_t i;

	json_array_foreach (json_object_get(portion, "events"), i, e)
		if (!add_event(r, e))
			return false;
	r->lost = (uint64_t)cli_integer(portion, "lost");
	return true;
}

static struct co_params params_of(const json_t *p)
{
	return (struct co_params){
		.mode = (__u32)cli_integer(p, "mode"),
		.n_cpus = (__u32)cli_integer(p, "n_cpus"),
		.ask_on_wake = json_is_true(json_object_get(p, "ask_on_wake")),
		.period_ns = (__u64)cli_integer(p, "period_ns"),
		.slice_ns = (__u64)cli_integer(p, "slice_ns"),
		.floor_ns = (__u64)cli_integer(p, "floor_ns"),
		.debt_limit_ns = (__u64)cli_integer(p, "debt_limit_ns"),
		.credit_limit_ns = (__u64)cli_integer(p, "credit_limit_ns"),
		.boost_ns = (__u64)cli_integer(p, "boost_ns"),
	};
}

/* Entries behind the last one that is there are left out. */
static size_t used_of(const json_t *list)
{
	size_t n = json_array_size(list);

	while (n && !json_is_object(json_array_get(list, n - 1)))
		n--;
	return n;
}

static bool take_tables(struct trace *t, const json_t *last)
{
	const json_t *vms = json_object_get(last, "vms"), *members = json_object_get(last, "members");
	size_t n_vms = used_of(vms), n_members = used_of(members);

	t->vm = calloc(n_vms + 1, sizeof(*t->vm));
	t->member = calloc(n_members + 1, sizeof(*t->member));
	if (!t->vm || !t->member || n_vms > CO_VMS_MAX || n_members > CO_MEMBERS_MAX)
		return false;
	for (size_t i = 0; i < n_vms; i++) {
		const json_t *vm = json_array_get(vms, i);

		snprintf(t->vm[i].name, sizeof(t->vm[i].name), "%s", cli_text(vm, "name"));
		snprintf(t->vm[i].group, sizeof(t->vm[i].group), "%s", cli_text(vm, "group"));
		t->vm[i].account = (__u32)cli_integer(vm, "account") % CO_ACCOUNTS_MAX;
		t->vm[i].weight = (__u32)cli_integer(vm, "weight");
		t->vm[i].cap_ns = (__u64)cli_integer(vm, "cap_ns");
	}
	for (size_t i = 0; i < n_members; i++) {
		const json_t *m = json_array_get(members, i);
		json_int_t vm = cli_integer(m, "vm");

		t->member[i] = (struct co_trace_member){ .vm = json_is_object(m) && vm >= 0 && (size_t)vm < n_vms ? (__u32)vm : CO_NONE,
							 .tid = (__u32)cli_integer(m, "tid"),
							 .home = (__u32)cli_integer(m, "home"),
							 .is_worker = json_is_true(json_object_get(m, "worker")) };
	}
	t->header = (struct co_trace_header){ .magic = CO_TRACE_MAGIC, .version = CO_TRACE_VERSION,
					      .params = params_of(json_object_get(last, "params")), .n_members = (__u32)n_members,
					      .n_vms = (__u32)n_vms };
	t->header.n_cpus = t->header.params.n_cpus;
	return t->header.n_cpus > 0 && t->header.n_cpus <= CO_CPUS_MAX;
}

/* --- recording --- */

static int call(struct cli *c, struct ctl_client *client, const char *method, json_t *params, json_t **ret)
{
	json_t *error = NULL;
	int r = ctl_client_call(client, method, params, ret, &error);

	if (r == -EREMOTEIO)
		return cli_report_error(c, error);
	if (r < 0)
		cli_error("fairlead-cosched has gone");
	return r < 0 ? EX_UNAVAILABLE : CLI_OK;
}

/* Portion by portion. */
static int fetch(struct cli *c, struct ctl_client *client, struct recording *r)
{
	bool done = false;

	while (!done) {
		json_t *portion;
		bool good;
		int status = call(c, client, "cosched.trace.read", NULL, &portion);

		if (status != CLI_OK)
			return status;
		if (json_is_true(json_object_get(portion, "recording")))
			poll(NULL, 0, LOOK_MS);
		done = json_is_true(json_object_get(portion, "done"));
		good = take_events(r, portion) && (!done || take_tables(&r->trace, portion));
		json_decref(portion);
		if (!good) {
			cli_error("the recording cannot be used");
			return CLI_FAILED;
		}
	}
	return CLI_OK;
}

static int record(struct cli *c, double seconds, struct recording *r)
{
	struct ctl_client *client;
	json_t *result;
	int status = cli_connect(c, &client);

	if (status != CLI_OK)
		return status;
	status = call(c, client, "cosched.trace.start", json_pack("{s:f}", "seconds", seconds), &result);
	if (status == CLI_OK) {
		json_decref(result);
		status = fetch(c, client, r);
	}
	ctl_client_close(client);
	return status;
}

/* --- keeping --- */

static bool is_picture(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && strcmp(path + n - 4, ".svg") == 0;
}

static int keep(struct recording *r, const char *path)
{
	struct trace *t = &r->trace;
	FILE *out = fopen(path, "we");
	int err = out ? 0 : -errno;

	if (out && is_picture(path))
		err = trace_draw(t, "fairlead-cosched", "recorded", t->n_events ? t->event[0].time_ns : 0,
				 t->n_events ? t->event[t->n_events - 1].time_ns + 1 : 1, out);
	else if (out)
		err = trace_write(out, t);
	if (out && fclose(out) != 0 && err == 0)
		err = -errno;
	if (err < 0)
		cli_error("%s: %s", path, strerror(-err));
	return err < 0 ? EX_CANTCREAT : CLI_OK;
}

int cli_cosched_trace(struct cli *c)
{
	const char *seconds = cli_value(c, "seconds"), *path = cli_value(c, "out");
	struct recording r = { 0 };
	uint64_t ns;
	char text[64];
	int status;

	snprintf(text, sizeof(text), "%ss", seconds ? seconds : SECONDS_DEFAULT);
	if (units_parse(UNITS_DURATION, text, &ns) < 0 || ns == 0)
		return cli_usage(c, "--seconds: '%s' is not a number of seconds", seconds);
	if (!path)
		return cli_usage(c, "--out: where to?");
	cli_use_cosched(c);
	status = record(c, (double)ns / 1e9, &r);
	if (status == CLI_OK && !trace_sort(&r.trace))
		cli_error("events are not in order; the picture may be wrong");
	if (status == CLI_OK)
		status = keep(&r, path);
	if (status == CLI_OK && c->json)
		cli_print_json(json_pack("{s:s, s:I, s:I}", "file", path, "events", (json_int_t)r.trace.n_events, "lost",
					 (json_int_t)r.lost));
	else if (status == CLI_OK)
		printf("%s: %zu events%s\n", path, r.trace.n_events, r.lost ? ", some were lost" : "");
	trace_free(&r.trace);
	return status;
}
