/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registering the methods; the overlay's life.
 */
#include "ctl/commands.h"

#include <errno.h>

const struct ctl_event cmd_events[] = {
	{ "disk.connected", "a front-end has come" },
	{ "disk.disconnected", "a front-end has gone" },
	{ "disk.refused", "a second front-end was sent away" },
	{ "disk.queue-refused", "a queue could not be served" },
	{ "disk.queue-broken", "a guest's driver broke the rules of its ring" },
	{ "disk.connecting", "connecting to the front-end's socket has begun to fail" },
	{ "slo.violated", "a promise is not kept any more" },
	{ "slo.kept", "a promise is kept again" },
	{ 0 },
};

static int overlay_begin(struct ctl_context *c)
{
	c->overlay_path = policy_overlay_path(c->config);
	return c->overlay_path ? policy_overlay_load(c->overlay_path, &c->overlay) : -ENOMEM;
}

int ctl_commands_init(struct ctl_context *c)
{
	const struct ctl_method *const tables[] = { cmd_daemon, cmd_policy, cmd_disk, cmd_vm, cmd_slo, cmd_pool, cmd_ledger };
	int err = c->config ? overlay_begin(c) : 0;

	list_init(&c->waiting);
	for (size_t i = 0; err == 0 && i < ARRAY_SIZE(tables); i++)
		err = ctl_server_methods_add(c->server, tables[i], c);
	if (err == 0)
		err = ctl_server_events_add(c->server, cmd_events);
	return err;
}

void ctl_commands_fini(struct ctl_context *c)
{
	policy_overlay_free(c->overlay);
	policy_sources_free(c->sources, c->n_sources);
	free(c->overlay_path);
	c->sources = NULL;
	c->n_sources = 0;
	c->overlay = NULL;
	c->overlay_path = NULL;
}
