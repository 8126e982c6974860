/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory is made here, on the control thread, with room for every class of the policy; the owners only fill it.
 */
#include "ctl/slo_snapshot.h"

#include <stdio.h>
#include <string.h>

struct taking {
	struct slo_snapshot *snapshot;
	unsigned waits;
	void (*done)(void *arg, struct slo_snapshot *s);
	void *arg;
};

void slo_snapshot_free(struct slo_snapshot *s)
{
	for (unsigned i = 0; s && i < s->n; i++)
		free(s->pool[i].seen);
	free(s);
}

const struct slo_seen *slo_snapshot_find(const struct slo_snapshot *s, const char *pool, const char *vm, const char *class)
{
	for (unsigned p = 0; s && p < s->n; p++) {
		if (strcmp(s->pool[p].name, pool) != 0)
			continue;
		for (unsigned i = 0; i < s->pool[p].n; i++)
			if (strcmp(s->pool[p].seen[i].vm, vm) == 0 && strcmp(s->pool[p].seen[i].class, class) == 0)
				return &s->pool[p].seen[i];
	}
	return NULL;
}

/* --- on the owner --- */

static void name_culprit(struct blk_gate *g, struct slo_seen *seen)
{
	const struct slo_node *culprit = seen->report.reservation[SLO_SPAN_10S].culprit;
	struct blk_gate_node node;

	if (!culprit)
		culprit = seen->report.latency[SLO_SPAN_10S].culprit;
	for (unsigned i = 0; culprit && blk_gate_node_at(g, i, &node); i++)
		if (node.node == culprit)
			snprintf(seen->culprit, sizeof(seen->culprit), "%s%s%s", node.vm, node.class ? "/" : "",
				 node.class ? node.class : "");
}

static void look(struct blk_gate *g, struct slo_sched *s, void *arg)
{
	struct slo_pool_seen *p = arg;
	struct blk_gate_node node;

	p->now_ns = blk_gate_now_ns(g);
	slo_sched_report(s, &p->sched);
	for (unsigned i = 0; p->n < p->room && blk_gate_node_at(g, i, &node); i++) {
		struct slo_seen *seen = &p->seen[p->n++];

		snprintf(seen->vm, sizeof(seen->vm), "%s", node.vm);
		snprintf(seen->class, sizeof(seen->class), "%s", node.class ? node.class : "");
		seen->promise = *slo_node_promise(node.node);
		slo_node_report(node.node, p->now_ns, &seen->report);
		slo_node_times(node.node, &seen->queue_time, &seen->device_time);
		name_culprit(g, seen);
	}
}

/* --- control thread --- */

static void one_done(void *arg, int result)
{
	struct taking *t = arg;

	(void)result;
	if (--t->waits > 0)
		return;
	t->done(t->arg, t->snapshot);
	free(t);
}

static unsigned nodes_of(const struct policy *p)
{
	unsigned n = 0;

	for (size_t v = 0; v < p->n_vms; v++)
		n += 1 + (unsigned)p->vms[v].n_classes;
	return n;
}

static struct slo_snapshot *make(struct host *h)
{
	unsigned room = nodes_of(h->policy), n = 0;
	struct slo_snapshot *s;
	struct host_pool *pool;

	list_for_each(pool, &h->pools, node)
		n += pool->blk->gate != NULL;
	s = calloc(1, sizeof(*s) + n * sizeof(s->pool[0]));
	if (!s)
		return NULL;
	list_for_each(pool, &h->pools, node) {
		struct slo_pool_seen *p = &s->pool[s->n];

		if (!pool->blk->gate)
			continue;
		s->n++;
		memcpy(p->name, pool->name, sizeof(p->name));
		p->room = room;
		p->seen = calloc(room ? room : 1, sizeof(*p->seen));
		if (!p->seen) {
			slo_snapshot_free(s);
			return NULL;
		}
	}
	return s;
}

void slo_snapshot_take(struct host *h, void (*done)(void *arg, struct slo_snapshot *s), void *arg)
{
	struct taking *t = calloc(1, sizeof(*t));
	struct host_pool *pool;
	unsigned i = 0;

	if (!t || !(t->snapshot = make(h))) {
		free(t);
		done(arg, NULL);
		return;
	}
	t->done = done;
	t->arg = arg;
	t->waits = t->snapshot->n + 1;
	list_for_each(pool, &h->pools, node) {
		struct slo_pool_seen *p = &t->snapshot->pool[i];

		if (!pool->blk->gate)
			continue;
		i++;
		blk_gate_visit(pool->blk->gate, look, p, (struct blk_gate_done){ one_done, t });
	}
	one_done(t, 0);
}
