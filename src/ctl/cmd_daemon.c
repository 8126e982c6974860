/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * daemon.*, vm.*: reading.
 */
#include "base/clock.h"
#include "ctl/commands.h"
#include "ctl/report.h"
#include "metrics/metrics.h"

static void status(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;

	(void)params;
	ctl_reply(call, report_status(c->host, (clock_now_ns() - c->started_ns) / NSEC_PER_SEC));
}

static void workers(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;

	(void)params;
	ctl_reply(call, json_pack("{s:o}", "workers", report_workers(c->host)));
}

static void stats(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;

	(void)params;
	ctl_reply(call, report_stats(c->host));
}

static void describe_stats(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_reply(call, json_pack("{s:o}", "metrics", metrics_describe()));
}

const struct ctl_method cmd_daemon[] = {
	{ "daemon.status", NULL, status, "version, workers, pools, VMs and their disks" },
	{ "daemon.workers", NULL, workers, "workers alone, and the co-groups that have one to themselves" },
	{ "daemon.stats", NULL, stats, "counters of workers, disks, queues and pools" },
	{ "daemon.metrics", NULL, describe_stats, "what each counter means" },
	{ 0 },
};

static void vm_list(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;

	(void)params;
	ctl_reply(call, json_pack("{s:o}", "vms", report_vms(c->host)));
}

const struct ctl_method cmd_vm[] = {
	{ "vm.list", NULL, vm_list, "VMs with their disks and front-ends" },
	{ 0 },
};
