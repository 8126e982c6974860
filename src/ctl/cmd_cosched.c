/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cosched.*, and policy.* as fairlead-cosched understands it: the same files, of which it takes what concerns it.
 */
#include "ctl/cosched.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct ctl_event cosched_events[] = {
	{ "cosched.joined", "a VM's thread was found and is scheduled" },
	{ "cosched.left", "a VM's thread has gone, or is scheduled no more" },
	{ "cosched.refused", "a thread could not be taken in" },
	{ "cosched.crowded", "a co-group has more members than there are CPUs" },
	{ "cosched.placement", "others are not kept off the co-scheduled CPUs" },
	{ "cosched.foreign", "others use much of the co-scheduled CPUs" },
	{ "cosched.ended", "the kernel has ended the scheduler; all threads are scheduled as before" },
	{ 0 },
};

static void status(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;

	(void)params;
	ctl_reply(call, cosched_status_json(c->host, (clock_now_ns() - c->started_ns) / NSEC_PER_SEC));
}

const struct ctl_method cmd_cosched[] = {
	{ "cosched.status", NULL, status, "VMs, groups and their members: shares, ready time, credit, requests" },
	{ 0 },
};

/* --- policy --- */

/* What fairleadd changed at run time may have changed again since the last look. */
static int read_overlay(struct ctl_context *l)
{
	policy_overlay_free(l->overlay);
	l->overlay = NULL;
	return policy_overlay_load(l->overlay_path, &l->overlay);
}

static int load(struct cosched_context *c, struct ctl_call *call, json_t *params, struct policy **ret)
{
	struct policy_source *s;
	size_t n;
	int err = ctl_sources_of(call, params, &s, &n);

	if (err < 0)
		return err;
	err = read_overlay(&c->loading);
	if (err < 0) {
		policy_sources_free(s, n);
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "%s: %s", c->loading.overlay_path, strerror(-err));
		return err;
	}
	return change_load(&c->loading, call, s, n, ret);
}

static void apply(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;
	struct cohost_error error;
	struct policy *p;
	json_t *changes;

	if (load(c, call, params, &p) < 0)
		return;
	changes = change_list_json(c->host->policy, p);
	if (cohost_apply(c->host, p, &error) == 0) {
		ctl_reply(call, json_pack("{s:o}", "changes", changes));
		return;
	}
	json_decref(changes);
	ctl_fail(call, CTL_ERROR_FAILED, NULL, "%s", error.text);
}

static void diff(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;
	struct policy *p;

	if (load(c, call, params, &p) < 0)
		return;
	ctl_reply(call, json_pack("{s:o}", "changes", change_list_json(c->host->policy, p)));
	policy_free(p);
}

static const struct ctl_method policy_methods[] = {
	{ "policy.apply", ctl_with_sources, apply, "schedule by this policy from now on, or change nothing" },
	{ "policy.diff", ctl_with_sources, diff, "what applying it would change" },
	{ 0 },
};

static void log_diagnostics(const struct policy_diagnostics *diag)
{
	for (size_t i = 0; i < diag->n; i++) {
		char *text = policy_diagnostic_text(&diag->d[i]);

		log_line(diag->d[i].severity == POLICY_ERROR ? LOG_LEVEL_ERR : LOG_LEVEL_WARNING, "%s", text ? text : "?");
		free(text);
	}
}

int cosched_reload(struct cosched_context *c, struct cohost_error *error)
{
	struct policy_diagnostics diag = { 0 };
	struct policy_source *s = NULL;
	struct policy *p;
	size_t n = 0;
	int err = policy_sources_find(c->loading.config, &s, &n);

	if (err == 0) {
		/* What it was started with may have been a pipe. */
		s[0].plain = c->host->policy;
		err = policy_load_sources(s, n, &p, &diag);
	}
	policy_sources_free(s, n);
	log_diagnostics(&diag);
	policy_diagnostics_fini(&diag);
	if (err < 0) {
		error->err = err;
		snprintf(error->text, sizeof(error->text), "%s: %s", c->loading.config,
			 err == -EINVAL ? "the policy is refused" : strerror(-err));
		return err;
	}
	return cohost_apply(c->host, p, error);
}

int cosched_commands_init(struct cosched_context *c, const char *config)
{
	const struct ctl_method *const tables[] = { cmd_cosched, cmd_cosched_trace, cmd_cosched_ledger, policy_methods };
	int err;

	c->loading.config = config;
	c->loading.overlay_path = policy_overlay_path(config);
	if (!c->loading.overlay_path)
		return -ENOMEM;
	err = cosched_workers_create(c->host, &c->workers);
	for (size_t i = 0; err == 0 && i < ARRAY_SIZE(tables); i++)
		err = ctl_server_methods_add(c->server, tables[i], c);
	if (err == 0)
		err = ctl_server_events_add(c->server, cosched_events);
	return err;
}

void cosched_commands_fini(struct cosched_context *c)
{
	cosched_tracer_destroy(c->tracer);
	c->tracer = NULL;
	cosched_workers_destroy(c->workers);
	c->workers = NULL;
	policy_overlay_free(c->loading.overlay);
	free(c->loading.overlay_path);
	c->loading = (struct ctl_context){ 0 };
}
