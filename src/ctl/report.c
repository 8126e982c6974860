/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control thread. Counters are read while their workers write them: each value is whole, the set is not of one instant.
 */
#include "ctl/report.h"

#include "metrics/metrics.h"

#include <string.h>

static const char *poll_name(const struct host *h)
{
	return policy_poll_name(h->policy->daemon.poll);
}

static json_t *worker_status(struct host *h, unsigned i)
{
	const struct blk_team_member *m = &h->team.member[i];

	bool own = i >= h->team.shared;

	return json_pack("{s:i, s:i, s:i, s:s, s:s?, s:i, s:f}", "index", (int)i, "cpu", worker_cpu(m->worker), "tid",
			 worker_tid(m->worker), "poll", own ? policy_poll_name(POLICY_POLL_NEVER) : poll_name(h), "group",
			 own ? h->group[i] : NULL, "queues", (int)m->queues, "busy_percent", m->busy * 100);
}

/* Numbers of the workers that serve it now. */
static json_t *disk_workers(const struct host_disk *d)
{
	const struct blk_disk *blk = d->blk;
	json_t *a = json_array();

	for (unsigned w = 0; a && w < blk->team->n; w++)
		for (unsigned q = 0; q < blk->queues_max; q++)
			if (blk->slot[q] && blk->slot[q]->running && blk->slot[q]->worker == blk->team->member[w].worker) {
				json_array_append_new(a, json_integer((json_int_t)w));
				break;
			}
	return a;
}

static const char *disk_state(const struct host_disk *d)
{
	if (d->removing)
		return "leaving";
	if (!d->server)
		return "no socket";
	if (d->blk->running)
		return "running";
	return d->peer ? "connected" : "waiting";
}

/* The first reason for which a queue of it was broken. */
static const char *disk_fault(const struct host_disk *d)
{
	for (unsigned q = 0; q < d->blk->queues_max; q++) {
		const struct blk_slot *s = d->blk->slot[q];
		enum virtqueue_fault fault = s && s->running ? load_relaxed(&s->queue.vq.broken) : 0;

		if (fault)
			return virtqueue_fault_text(fault);
	}
	return NULL;
}

static json_t *disk_status(struct host_disk *d)
{
	return json_pack("{s:s, s:s, s:I, s:b, s:b, s:i, s:i, s:s, s:o, s:s, s:b, s:s?}", "name", d->name, "pool", d->pool->name,
			 "size_bytes", (json_int_t)load_relaxed(&d->store->size_bytes), "read_only", d->store->read_only,
			 "connected", d->peer != 0, "peer_pid", (int)d->peer, "queues", (int)d->blk->running, "socket",
			 d->socket, "workers", disk_workers(d), "state", disk_state(d), "buffered", d->store->limits.buffered,
			 "fault", disk_fault(d));
}

json_t *report_vms(struct host *h)
{
	json_t *vms = json_array();

	for (size_t v = 0; vms && v < h->policy->n_vms; v++) {
		json_t *disks = json_array();
		struct host_disk *d;

		list_for_each(d, &h->disks, node)
			if (strcmp(d->vm, h->policy->vms[v].name) == 0)
				json_array_append_new(disks, disk_status(d));
		json_array_append_new(vms, json_pack("{s:s, s:o}", "name", h->policy->vms[v].name, "disks", disks));
	}
	return vms;
}

static const char *schedule_name(const struct host_pool *p)
{
	if (!p->blk->gate)
		return "none";
	return blk_gate_owner(p->blk->gate) ? "owner" : "sliced";
}

static json_t *pools_status(struct host *h)
{
	json_t *pools = json_array();
	struct host_pool *p;

	list_for_each(p, &h->pools, node)
		json_array_append_new(
			pools, json_pack("{s:s, s:s, s:b, s:s, s:i, s:i}", "name", p->name, "type", p->blk->store->ops->type, "slo",
					 p->blk->gate != NULL, "schedule", schedule_name(p), "owner",
					 p->blk->gate && blk_gate_owner(p->blk->gate) ? (int)p->owner : -1, "disks",
					 (int)p->disks));
	return pools;
}

json_t *report_workers(struct host *h)
{
	json_t *workers = json_array();

	for (unsigned i = 0; i < h->team.n; i++)
		json_array_append_new(workers, worker_status(h, i));
	return workers;
}

json_t *report_status(struct host *h, uint64_t uptime_s)
{
	return json_pack("{s:s, s:I, s:o, s:o, s:o}", "version", FAIRLEAD_VERSION, "uptime_s", (json_int_t)uptime_s, "workers",
			 report_workers(h), "pools", pools_status(h), "vms", report_vms(h));
}

/* --- stats --- */

static json_t *queue_stats(const struct blk_slot *s)
{
	json_t *o = metrics_json(&metrics_queue, &s->queue.counters);

	json_object_set_new(o, "queue", json_integer((json_int_t)s->queue.index));
	json_object_set_new(o, "worker", json_integer(s->worker ? (json_int_t)worker_index(s->worker) : -1));
	json_object_set_new(o, "running", json_boolean(s->running));
	return o;
}

static json_t *disk_stats(const struct host_disk *d)
{
	static struct blk_queue_counters total; /* large; control thread only */
	json_t *queues = json_array();

	memset(&total, 0, sizeof(total));
	for (unsigned q = 0; q < d->blk->queues_max; q++) {
		if (!d->blk->slot[q])
			continue;
		metrics_add(&metrics_queue, &total, &d->blk->slot[q]->queue.counters);
		json_array_append_new(queues, queue_stats(d->blk->slot[q]));
	}
	return json_pack("{s:s, s:s, s:o, s:o}", "vm", d->vm, "disk", d->name, "total", metrics_json(&metrics_queue, &total),
			 "queues", queues);
}

static json_t *pool_stats(const struct host *h, const struct host_pool *p)
{
	json_t *channels = json_array();

	for (unsigned w = 0; w < h->team.n; w++) {
		const struct blk_channel *c = &p->blk->on[w];
		json_t *o;

		o = metrics_json(&metrics_store, &c->counters);
		json_object_set_new(o, "worker", json_integer((json_int_t)w));
		json_array_append_new(channels, o);
	}
	return json_pack("{s:s, s:o}", "pool", p->name, "channels", channels);
}

json_t *report_stats(struct host *h)
{
	json_t *workers = json_array(), *disks = json_array(), *pools = json_array();
	struct host_disk *d;
	struct host_pool *p;

	for (unsigned i = 0; i < h->team.n; i++) {
		json_t *o = metrics_json(&metrics_worker, worker_counters(h->team.member[i].worker));

		json_object_set_new(o, "worker", json_integer((json_int_t)i));
		json_array_append_new(workers, o);
	}
	list_for_each(d, &h->disks, node)
		json_array_append_new(disks, disk_stats(d));
	list_for_each(p, &h->pools, node)
		json_array_append_new(pools, pool_stats(h, p));
	return json_pack("{s:o, s:o, s:o}", "workers", workers, "disks", disks, "pools", pools);
}
