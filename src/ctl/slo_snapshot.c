/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory is made here, on the control thread, with room for every class of the policy; the owners only fill it.
 */
#include "ctl/slo_snapshot.h"

#include "base/clock.h"

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

struct slo_seen *slo_snapshot_find(const struct slo_pool_seen *p, const char *vm, const char *class)
{
	for (unsigned i = 0; i < p->n; i++)
		if (strcmp(p->seen[i].vm, vm) == 0 && strcmp(p->seen[i].class, class) == 0)
			return &p->seen[i];
	return NULL;
}

/* --- on the owner, or on one slice after the other --- */

void slo_sched_report_add(struct slo_sched_report *sum, const struct slo_sched *s)
{
	struct slo_sched_report r;

	slo_sched_report(s, &r);
	sum->depth += r.depth;
	sum->window += r.window;
	sum->window_floor += r.window_floor;
	sum->held += r.held;
	sum->in_flight += r.in_flight;
	sum->latency_unreachable |= r.latency_unreachable;
	sum->anticipated_ns += r.anticipated_ns;
	sum->anticipations += r.anticipations;
	sum->anticipations_lost += r.anticipations_lost;
	sum->fast += r.fast;
	sum->dispatched += r.dispatched;
	sum->due += r.due;
	sum->steps += r.steps;
	sum->window_shrinks += r.window_shrinks;
	sum->window_grows += r.window_grows;
}

static void attained_add(struct slo_attained *sum, const struct slo_attained *a)
{
	sum->span_ns = max_u64(sum->span_ns, a->span_ns);
	sum->requests += a->requests;
	sum->bytes += a->bytes;
	sum->cost += a->cost;
	sum->completed += a->completed;
	sum->missed_p50 += a->missed_p50;
	sum->missed_p99 += a->missed_p99;
	sum->busy_ns = max_u64(sum->busy_ns, a->busy_ns);
	sum->held_ns = max_u64(sum->held_ns, a->held_ns);
	sum->throttled_ns = max_u64(sum->throttled_ns, a->throttled_ns);
}

static void report_add(struct slo_report *sum, const struct slo_report *r)
{
	for (unsigned i = 0; i < SLO_SPANS; i++) {
		attained_add(&sum->attained[i], &r->attained[i]);
		sum->ring_full[i] |= r->ring_full[i];
		/* A latency target is missed if it is in any slice. */
		if (!r->latency[i].kept)
			sum->latency[i] = r->latency[i];
	}
	sum->throttled |= r->throttled;
	sum->held += r->held;
	sum->in_flight += r->in_flight;
}

static void name_culprit(struct blk_core *core, struct slo_seen *seen, const struct slo_report *r)
{
	const struct slo_node *culprit = r->reservation[SLO_SPAN_10S].culprit;
	struct blk_gate_node node;

	if (!culprit)
		culprit = r->latency[SLO_SPAN_10S].culprit;
	for (unsigned i = 0; culprit && blk_core_node_at(core, i, &node); i++)
		if (node.node == culprit)
			snprintf(seen->culprit, sizeof(seen->culprit), "%s%s%s", node.vm, node.class ? "/" : "",
				 node.class ? node.class : "");
}

static struct slo_seen *seen_for(struct slo_pool_seen *p, const struct blk_gate_node *node, bool *ret_new)
{
	const char *class = node->class ? node->class : "";
	struct slo_seen *known = slo_snapshot_find(p, node->vm, class);

	*ret_new = !known && p->n < p->room;
	if (!*ret_new)
		return known;
	snprintf(p->seen[p->n].vm, BLK_NAME_MAX, "%s", node->vm);
	snprintf(p->seen[p->n].class, BLK_NAME_MAX, "%s", class);
	return &p->seen[p->n++];
}

static void look(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct slo_pool_seen *p = arg;
	struct blk_gate_node node;

	p->now_ns = blk_core_now_ns(core);
	slo_sched_report_add(&p->sched, s);
	for (unsigned i = 0; blk_core_node_at(core, i, &node); i++) {
		struct slo_report report;
		bool is_new;
		struct slo_seen *seen = seen_for(p, &node, &is_new);

		if (!seen)
			return;
		slo_node_report(node.node, p->now_ns, &report);
		seen->promise = *node.promise;
		if (is_new)
			seen->report = report;
		else
			report_add(&seen->report, &report);
		slo_node_times(node.node, &seen->queue_time, &seen->device_time);
		name_culprit(core, seen, &report);
	}
}

/* --- control thread --- */

static void one_done(void *arg, int result)
{
	struct taking *t = arg;

	(void)result;
	if (--t->waits > 0)
		return;
	for (unsigned i = 0; i < t->snapshot->n; i++)
		if (t->snapshot->pool[i].sliced)
			slo_judge_slices(&t->snapshot->pool[i]);
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
		p->sliced = blk_gate_book(pool->blk->gate) != NULL;
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
