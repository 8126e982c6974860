/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's methods on the control socket: one cmd_NOUN.c per noun, each with a table. Shapes are in doc/rpc.md.
 */
#pragma once

#include "ctl/method.h"
#include "ctl/server.h"
#include "host/host.h"
#include "policy/overlay.h"

struct ctl_context {
	struct host *host;
	struct ctl_server *server;
	const char *config;	  /* main file; NULL: no policy file (--blk-file), nothing can be changed for good */
	char *overlay_path;	  /* conf.d/fairleadd.yaml beside it */
	struct policy_overlay *overlay; /* as it runs */
	struct policy_source *sources;	/* the other files, as they run; NULL: not known, they are read */
	size_t n_sources;
	uint64_t started_ns;
	struct slo_watch *watch;  /* what was violated at the last look (slo_watch.c) */
	/* change.c: one at a time, as each begins with the overlay that the one before leaves. */
	bool changing;
	struct list waiting;
};

/* Reads the overlay beside `config`; registers everything. 0 or -errno. */
int ctl_commands_init(struct ctl_context *c);
/* Nothing changes any more but what has begun. */
void ctl_commands_stop(struct ctl_context *c);
/* After the host's end: a change under way still writes its overlay. */
void ctl_commands_fini(struct ctl_context *c);

extern const struct ctl_method cmd_daemon[], cmd_policy[], cmd_disk[], cmd_vm[], cmd_slo[], cmd_pool[], cmd_ledger[];
extern const struct ctl_event cmd_events[];

/* --- cmd_policy.c, also for those who have only part of these commands --- */

/* The parameter `sources`: [{name, text}]; none: *ret NULL. -EINVAL: the call has been told. */
extern const struct ctl_param ctl_with_sources[];
int ctl_sources_of(struct ctl_call *call, json_t *params, struct policy_source **ret, size_t *ret_n);

/* --- change.c: every change of the policy at run time goes this way --- */

/*
 * For a handler that will change something, before it looks at anything: true if another change is under way, and then the
 * handler is called again when that is over.
 */
bool change_must_wait(struct ctl_context *c, struct ctl_call *call, json_t *params,
		      void (*handler)(struct ctl_call *call, json_t *params, void *context));
/*
 * Loads the sources (taken; NULL: those that run if there is an overlay to change, else the daemon's own files) with `overlay`
 * (taken; NULL: the one that runs) on top, applies the result, and when that has succeeded writes the overlay and answers the
 * call with what changed. On any failure nothing has changed and the call is told why.
 */
void change_begin(struct ctl_context *c, struct ctl_call *call, struct policy_source *sources, size_t n,
		  struct policy_overlay *overlay);
/* The same without a call, for SIGHUP, in its turn: done gets a message for the log. */
void change_reload(struct ctl_context *c, host_done done, void *arg);
/* Only loads: a policy or the diagnostics as JSON in a failure of the call. */
int change_load(struct ctl_context *c, struct ctl_call *call, struct policy_source *sources, size_t n, struct policy **ret);
json_t *change_list_json(const struct policy *before, const struct policy *after);
