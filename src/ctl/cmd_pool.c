/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.*: the pools, and what the scheduler has learned that their requests cost.
 */
#include "base/clock.h"
#include "blk/calibrate.h"
#include "ctl/commands.h"
#include "ctl/slo_snapshot.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct looking {
	struct ctl_call *call;
	char name[POLICY_NAME_MAX];
	const char *type;
	struct slo_sched_report report;
	struct slo_cost_model cost;
};

static void look(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct looking *l = arg;

	(void)core;
	slo_sched_report_add(&l->report, s);
	l->cost = *slo_sched_cost(s);
}

static json_t *costs_json(const struct slo_cost_model *m)
{
	static const char *const op_name[SLO_OPS] = { "read", "write", "flush", "discard", "write_zeroes" };
	json_t *a = json_array();

	for (unsigned op = 0; op < SLO_OPS; op++)
		for (unsigned seq = 0; seq < 2; seq++)
			for (unsigned size = 0; size < SLO_COST_SIZES; size++) {
				const struct slo_cost_cell *c = &m->cell[op][seq][size];

				if (c->samples)
					json_array_append_new(a, json_pack("{s:s, s:b, s:f, s:f, s:I}", "op", op_name[op],
									   "sequential", (int)seq, "bytes", c->bytes, "ns",
									   c->ns, "samples", (json_int_t)c->samples));
			}
	return a;
}

static void looked(void *arg, int result)
{
	struct looking *l = arg;

	if (result < 0)
		ctl_fail(l->call, CTL_ERROR_INTERNAL, NULL, "%s", strerror(-result));
	else
		ctl_reply(l->call, json_pack("{s:s, s:s, s:b, s:i, s:i, s:i, s:i, s:o}", "name", l->name, "type", l->type, "slo",
					     1, "depth", (int)l->report.depth, "window", (int)l->report.window, "held",
					     (int)l->report.held, "in_flight", (int)l->report.in_flight, "costs",
					     costs_json(&l->cost)));
	free(l);
}

static void show(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	const char *name = json_string_value(json_object_get(params, "name"));
	struct host_pool *p = host_pool_find(c->host, name);
	struct looking *l;

	if (!p) {
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "`fairlead status' shows all pools", "there is no pool %s", name);
		return;
	}
	if (!p->blk->gate) {
		ctl_reply(call, json_pack("{s:s, s:s, s:b}", "name", p->name, "type", p->blk->store->ops->type, "slo", 0));
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		ctl_fail(call, CTL_ERROR_INTERNAL, NULL, "out of memory");
		return;
	}
	l->call = call;
	l->type = p->blk->store->ops->type;
	memcpy(l->name, p->name, sizeof(l->name));
	blk_gate_visit(p->blk->gate, look, l, (struct blk_gate_done){ looked, l });
}

/* --- calibrate --- */

struct calibrating {
	struct ctl_context *context;
	struct ctl_call *call;
	struct host_pool *pool; /* held */
	char name[POLICY_NAME_MAX];
	char path[PATH_MAX]; /* of the scratch image; "": none */
	struct store_disk *disk;
	struct blk_calibration measured;
};

static void calibrating_end(struct calibrating *k, int err, const char *what)
{
	const struct blk_calibration *m = &k->measured;

	store_disk_close(k->disk);
	if (k->path[0])
		unlink(k->path);
	host_pool_release(k->pool);
	if (err < 0)
		ctl_fail(k->call, CTL_ERROR_FAILED, NULL, "pool %s: %s: %s", k->name, what, strerror(-err));
	else
		ctl_reply(k->call, json_pack("{s:s, s:f, s:f, s:f, s:f, s:I, s:o}", "name", k->name, "read_iops", m->read_iops,
					     "write_iops", m->write_iops, "read_bandwidth", m->read_bandwidth,
					     "write_bandwidth", m->write_bandwidth, "errors", (json_int_t)m->errors, "costs",
					     costs_json(&m->cost)));
	free(k);
}

static void learn(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct calibrating *k = arg;

	(void)core;
	slo_sched_set_cost(s, &k->measured.cost);
}

static void learned(void *arg, int result)
{
	calibrating_end(arg, result, "handing the costs to the scheduler");
}

static void measured(void *arg, int result, const struct blk_calibration *c)
{
	struct calibrating *k = arg;

	k->measured = *c;
	if (result < 0 || !k->pool->blk->gate)
		calibrating_end(k, result, "measuring");
	else
		blk_gate_visit(k->pool->blk->gate, learn, k, (struct blk_gate_done){ learned, k });
}

/* A disk of its own: a hidden image in a file pool's folder, memory elsewhere. */
static int open_scratch(struct calibrating *k, struct host_pool *p)
{
	const struct policy *policy = k->context->host->policy;
	int i = policy_pool_find(policy, k->name);
	const char *directory = i < 0 ? NULL : policy->pools[i].directory;
	struct store_disk_options o = { .name = "calibrate", .size_bytes = BLK_CALIBRATE_BYTES, .fd = -1 };

	if (directory) {
		o.image = ".fairlead-calibrate.raw";
		snprintf(k->path, sizeof(k->path), "%s/%s", directory, o.image);
	}
	return store_disk_open(p->blk->store, &o, &k->disk);
}

static void calibrate(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	const char *name = json_string_value(json_object_get(params, "name"));
	json_int_t seconds = json_integer_value(json_object_get(params, "seconds"));
	struct host_pool *p = host_pool_find(c->host, name);
	struct calibrating *k;
	int err;

	if (!p) {
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "`fairlead status' shows all pools", "there is no pool %s", name);
		return;
	}
	if (seconds < 0 || seconds > 60) {
		ctl_fail(call, CTL_ERROR_PARAMS, NULL, "seconds: 1 to 60 for each step");
		return;
	}
	k = calloc(1, sizeof(*k));
	if (!k) {
		ctl_fail(call, CTL_ERROR_INTERNAL, NULL, "out of memory");
		return;
	}
	if (host_pool_hold(p) < 0) {
		free(k);
		ctl_fail(call, CTL_ERROR_BUSY, NULL, "pool %s is being calibrated", name);
		return;
	}
	k->context = c;
	k->call = call;
	k->pool = p;
	memcpy(k->name, p->name, sizeof(k->name));
	err = open_scratch(k, p);
	if (err == 0)
		err = blk_calibrate(p->blk, k->disk, c->host->team.member[p->owner].worker, p->blk->store->depth,
				    (seconds ? (uint64_t)seconds * NSEC_PER_SEC : NSEC_PER_SEC / 2), &p->ending, measured, k);
	if (err < 0)
		calibrating_end(k, err, "the scratch disk");
}

static const struct ctl_param calibrate_params[] = {
	{ "name", CTL_STRING, true, "the pool" },
	{ "seconds", CTL_INTEGER, false, "for each of eleven steps; half a second without it" },
	{ 0 },
};

static const struct ctl_param which_pool[] = {
	{ "name", CTL_STRING, true, "the pool" },
	{ 0 },
};

const struct ctl_method cmd_pool[] = {
	{ "pool.show", which_pool, show, "a pool's scheduler and what its requests cost" },
	{ "pool.calibrate", calibrate_params, calibrate, "measure what requests cost, on a scratch disk, and go by that" },
	{ 0 },
};
