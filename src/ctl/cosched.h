/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-cosched's methods on its control socket. Shapes are in doc/rpc.md. One thread.
 */
#pragma once

#include "ctl/commands.h"
#include "cohost/cohost.h"

struct cosched_context {
	struct cohost *host;
	struct ctl_server *server;
	struct cosched_tracer *tracer; /* a recording, or what one has left; NULL */
	struct cosched_workers *workers; /* asks fairleadd for groups' own ones */
	struct ctl_context loading; /* what change_load() needs: the policy's file and its overlay */
	uint64_t started_ns;
};

/* Registers everything. 0 or -errno. */
int cosched_commands_init(struct cosched_context *c, const char *config);
void cosched_commands_fini(struct cosched_context *c);

/*
 * Reads the policy's files anew and applies them; 0, or -errno and *error says why. Diagnostics of a policy that is refused
 * are logged.
 */
int cosched_reload(struct cosched_context *c, struct cohost_error *error);

extern const struct ctl_method cmd_cosched[];
extern const struct ctl_event cosched_events[];

/* --- cosched_workers.c --- */

/* Asks fairleadd every second for the threads of co-groups' own workers, as long as a group wants one. */
int cosched_workers_create(struct cohost *h, struct cosched_workers **ret);
void cosched_workers_destroy(struct cosched_workers *w);

/* --- cosched_trace.c --- */

extern const struct ctl_method cmd_cosched_trace[];
void cosched_tracer_destroy(struct cosched_tracer *t);

/* --- cosched_ledger.c --- */

extern const struct ctl_method cmd_cosched_ledger[];

/* --- cosched_json.c --- */

json_t *cosched_status_json(const struct cohost *h, uint64_t uptime_s);
