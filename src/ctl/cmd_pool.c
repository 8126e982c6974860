/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool.*: the pools, and what the scheduler has learned that their requests cost.
 */
#include "ctl/commands.h"
#include "ctl/slo_snapshot.h"

#include <string.h>

struct looking {
	struct ctl_call *call;
	char name[POLICY_NAME_MAX];
	const char *type;
	struct slo_sched_report report;
	struct slo_cost_model cost;
};

static void look(struct blk_gate *g, struct slo_sched *s, void *arg)
{
	struct looking *l = arg;

	(void)g;
	slo_sched_report(s, &l->report);
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

static const struct ctl_param which_pool[] = {
	{ "name", CTL_STRING, true, "the pool" },
	{ 0 },
};

const struct ctl_method cmd_pool[] = {
	{ "pool.show", which_pool, show, "a pool's scheduler and what its requests cost" },
	{ 0 },
};
