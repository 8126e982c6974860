/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check, diff, apply: policies on disk, and the one that runs.
 */
#include "cli/cli.h"

#include "base/file.h"
#include "policy/policy.h"

#include <errno.h>
#include <string.h>

/* --- check --- */

static json_t *diagnostics_json(const struct policy_diagnostics *diag)
{
	json_t *list = json_array();

	for (size_t i = 0; i < diag->n; i++) {
		const struct policy_diagnostic *d = &diag->d[i];

		json_array_append_new(list, json_pack("{s:s, s:s?, s:i, s:i, s:s}", "severity",
						      d->severity == POLICY_ERROR ? "error" : "warning", "file",
						      d->at.file, "line", (int)d->at.line, "column", (int)d->at.column,
						      "message", d->message));
	}
	return list;
}

static void print_diagnostics(const struct policy_diagnostics *diag)
{
	for (size_t i = 0; i < diag->n; i++) {
		char *text = policy_diagnostic_text(&diag->d[i]);

		fprintf(stderr, "%s\n", text ? text : diag->d[i].message);
		free(text);
	}
}

/* One file is a policy with the conf.d beside it, as the daemon reads it; several are just these. */
static int find_sources(int argc, char **argv, struct policy_source **ret, size_t *ret_n)
{
	int r;

	if (argc <= 1) {
		r = policy_sources_find(argc ? argv[0] : CLI_CONFIG_DEFAULT, ret, ret_n);
		if (r < 0)
			cli_error("%s: %s", argc ? argv[0] : CLI_CONFIG_DEFAULT, strerror(-r));
		return r;
	}
	*ret = calloc((size_t)argc, sizeof(**ret));
	*ret_n = (size_t)argc;
	for (int i = 0; *ret && i < argc; i++)
		(*ret)[i].name = strdup(argv[i]);
	return *ret ? 0 : -ENOMEM;
}

static int load(int argc, char **argv, struct policy **ret, struct policy_diagnostics *diag)
{
	struct policy_source *s;
	size_t n;
	int r = find_sources(argc, argv, &s, &n);

	if (r < 0)
		return r;
	r = policy_load_sources(s, n, ret, diag);
	policy_sources_free(s, n);
	return r;
}

static json_t *count_objects(const struct policy *p)
{
	size_t disks = 0, nics = 0;

	for (size_t i = 0; i < p->n_vms; i++) {
		disks += p->vms[i].n_disks;
		nics += p->vms[i].n_nics;
	}
	return json_pack("{s:i, s:i, s:i, s:i, s:i}", "pools", (int)p->n_pools, "classes", (int)p->n_classes, "vms",
			 (int)p->n_vms, "disks", (int)disks, "nics", (int)nics);
}

static void print_good(const json_t *counts, size_t warnings)
{
	static const struct {
		const char *key, *one, *many;
	} objects[] = {
		{ "pools", "pool", "pools" },
		{ "classes", "class", "classes" },
		{ "vms", "VM", "VMs" },
		{ "disks", "disk", "disks" },
		{ "nics", "NIC", "NICs" },
	};

	fputs("good:", stdout);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		int n = (int)cli_integer(counts, objects[i].key);

		printf("%s %d %s", i ? "," : "", n, n == 1 ? objects[i].one : objects[i].many);
	}
	printf("; %zu warning%s\n", warnings, cli_plural(warnings));
}

/* Errors are counted also past the most that are kept. */
static size_t count_warnings(const struct policy_diagnostics *diag)
{
	size_t n = 0;

	for (size_t i = 0; i < diag->n; i++)
		n += diag->d[i].severity == POLICY_WARNING;
	return n;
}

int cli_check(struct cli *c)
{
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;
	int r = load(c->argc, c->argv, &p, &diag);
	json_t *counts = p ? count_objects(p) : NULL;

	if (c->json) {
		cli_print_json(json_pack("{s:b, s:o, s:O*}", "good", r == 0, "diagnostics", diagnostics_json(&diag),
					 "objects", counts));
	} else {
		print_diagnostics(&diag);
		if (r == 0)
			print_good(counts, diag.n);
		else
			fprintf(stderr, "%zu error%s, %zu warning%s\n", diag.n_errors, cli_plural(diag.n_errors),
				count_warnings(&diag), cli_plural(count_warnings(&diag)));
	}
	json_decref(counts);
	policy_free(p);
	policy_diagnostics_fini(&diag);
	return r == 0 ? CLI_OK : EX_CONFIG;
}

/* --- changes --- */

static void print_changes(const json_t *changes)
{
	json_t *c, *f;
	size_t i, j;

	if (json_array_size(changes) == 0)
		puts("nothing changes");
	json_array_foreach (changes, i, c) {
		const char *change = cli_text(c, "change"), *sign = strcmp(change, "added") == 0 ? "+" :
			strcmp(change, "removed") == 0 ? "-" : "~";

		printf("%s %s %s\n", sign, cli_text(c, "object"), cli_text(c, "name"));
		if (strcmp(change, "changed") != 0)
			continue;
		json_array_foreach (json_object_get(c, "fields"), j, f)
			printf("    %s: %s -> %s\n", cli_text(f, "field"),
			       *cli_text(f, "before") ? cli_text(f, "before") : "-",
			       *cli_text(f, "after") ? cli_text(f, "after") : "-");
	}
}

static int show_changes(struct cli *c, json_t *result)
{
	if (c->json)
		return cli_print_json(result);
	print_changes(json_object_get(result, "changes"));
	json_decref(result);
	return CLI_OK;
}

/* As the daemon says them (doc/rpc.md). */
static json_t *changes_json(const struct policy_changes *changes)
{
	static const char *const kind[] = { "added", "removed", "changed" };
	json_t *list = json_array();

	for (size_t i = 0; i < changes->n; i++) {
		const struct policy_change *c = &changes->c[i];
		json_t *fields = json_array();

		for (size_t j = 0; j < c->n_fields; j++)
			json_array_append_new(fields,
					      json_pack("{s:s, s:s, s:s}", "field", c->fields[j].field, "before",
							c->fields[j].before, "after", c->fields[j].after));
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:o}", "change", kind[c->kind], "object",
						policy_object_name(c->object), "name", c->name, "fields", fields));
	}
	return json_pack("{s:o}", "changes", list);
}

/* A policy that must be good; NULL: told. */
static struct policy *load_good(char *path)
{
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;

	if (load(1, &path, &p, &diag) < 0)
		print_diagnostics(&diag);
	policy_diagnostics_fini(&diag);
	return p;
}

static int diff_files(struct cli *c)
{
	struct policy *before = load_good(c->argv[0]), *after = load_good(c->argv[1]);
	struct policy_changes changes;
	int status = EX_CONFIG;

	if (before && after) {
		status = policy_diff(before, after, &changes) < 0 ? EX_OSERR : show_changes(c, changes_json(&changes));
		policy_changes_fini(&changes);
	}
	policy_free(before);
	policy_free(after);
	return status;
}

/* --- what goes to the daemon --- */

/* The files' text, as this user can read them and the daemon perhaps cannot. NULL, and *status: told. */
static json_t *sources_json(int argc, char **argv, int *status)
{
	struct policy_source *s;
	json_t *list = json_array();
	size_t n;

	*status = CLI_OK;
	if (find_sources(argc, argv, &s, &n) < 0) {
		json_decref(list);
		*status = EX_NOINPUT;
		return NULL;
	}
	for (size_t i = 0; i < n && *status == CLI_OK; i++) {
		char *text = NULL;
		size_t length = 0;
		int r;

		/* That is the daemon's own business. */
		if (s[i].overlay)
			continue;
		r = policy_source_read(&s[i], &text, &length);
		if (r < 0) {
			cli_error("%s: %s", s[i].name, policy_source_why(r));
			*status = EX_NOINPUT;
		} else if (strlen(text) < length ||
			   json_array_append_new(list, json_pack("{s:s, s:s}", "name", s[i].name, "text", text)) < 0) {
			cli_error("%s: not UTF-8 text", s[i].name);
			*status = EX_CONFIG;
		}
		free(text);
	}
	policy_sources_free(s, n);
	if (*status == CLI_OK)
		return json_pack("{s:o}", "sources", list);
	json_decref(list);
	return NULL;
}

/* A copy of `params` goes out. */
static int send_to(struct cli *c, const char *method, const json_t *params, json_t **ret)
{
	return cli_call(c, method, params ? json_deep_copy(params) : NULL, ret);
}

/* fairlead-cosched takes its part of the same policy, where it runs; what both of them tell of is told once. */
static int send_to_both(struct cli *c, const char *method, const json_t *params, json_t **ret)
{
	struct cli cosched = *c;
	json_t *more = NULL;
	int status;

	if (!cli_has_cosched(c) || c->control_given)
		return send_to(c, method, params, ret);
	cli_use_cosched(&cosched);
	if (!cli_has_daemon(c))
		return send_to(&cosched, method, params, ret);
	status = send_to(c, method, params, ret);
	if (status != CLI_OK)
		return status;
	status = send_to(&cosched, method, params, &more);
	json_decref(more);
	if (status != CLI_OK) {
		cli_error("fairleadd has it, fairlead-cosched has not");
		json_decref(*ret);
	}
	return status;
}

static int send_sources(struct cli *c, const char *method, int (*send)(struct cli *, const char *, const json_t *, json_t **))
{
	json_t *params = NULL, *result;
	int status = CLI_OK;

	if (c->argc > 0)
		params = sources_json(c->argc, c->argv, &status);
	if (status == CLI_OK)
		status = send(c, method, params, &result);
	json_decref(params);
	return status == CLI_OK ? show_changes(c, result) : status;
}

int cli_diff(struct cli *c)
{
	return c->argc == 2 ? diff_files(c) : send_sources(c, "policy.diff", send_to);
}

int cli_apply(struct cli *c)
{
	return send_sources(c, "policy.apply", send_to_both);
}
