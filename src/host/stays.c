/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes on running under another policy as it is, what is made anew for it, and what would need a restart. Changes nothing.
 */
#include "host/host_internal.h"

#include <errno.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* A disk that keeps all of this stays attached; its size may change under it. The first key that differs; NULL: none. */
static const char *disk_differs(const struct policy *p, const struct policy_disk *a, const struct policy *q,
				const struct policy_disk *b)
{
	if (strcmp(p->pools[a->pool].name, q->pools[b->pool].name) != 0)
		return "pool";
	if (!same_text(a->image, b->image))
		return "image";
	if (a->queues != b->queues)
		return "queues";
	if (a->workers != b->workers)
		return "workers";
	if (a->ioprio != b->ioprio)
		return "ioprio";
	if (a->read_only != b->read_only)
		return "read_only";
	if (!same_text(a->socket, b->socket))
		return "socket";
	return a->connect != b->connect ? "connect" : NULL;
}

/* Name of the first key that differs and cannot change while the pool is there; NULL: none. */
static const char *pool_differs(const struct policy_pool *a, const struct policy_pool *b)
{
	if (a->type != b->type)
		return "type";
	if (!same_text(a->directory, b->directory))
		return "directory";
	if (a->depth != b->depth)
		return "depth";
	if (a->slo != b->slo)
		return "slo";
	if (a->schedule != b->schedule)
		return "schedule";
	if (a->split_bytes != b->split_bytes)
		return "split";
	if (a->channels != b->channels)
		return "channels";
	if (a->read_latency_ns != b->read_latency_ns || a->write_latency_ns != b->write_latency_ns ||
	    a->flush_latency_ns != b->flush_latency_ns || a->byte_time_ps != b->byte_time_ps)
		return "latencies";
	return NULL;
}

const struct policy_disk *host_spec_find(const struct policy *p, const char *vm, const char *name)
{
	int v = p ? policy_vm_find(p, vm) : -1;
	int d = v >= 0 ? policy_disk_find(&p->vms[v], name) : -1;

	return d >= 0 ? &p->vms[v].disks[d] : NULL;
}

bool host_disk_stays(const struct host_disk *d, const struct policy *next)
{
	const struct policy *now = d->host->policy;
	const struct policy_disk *was = host_spec_find(now, d->vm, d->name), *will = host_spec_find(next, d->vm, d->name);

	return was && will && !disk_differs(now, was, next, will);
}

/* --- what would need a restart --- */

static int check_daemon(const struct host *h, const struct policy *next, struct host_error *e)
{
	const struct policy_daemon *a, *b = &next->daemon;

	if (!h->policy || next->n_pools + next->n_vms == 0)
		return 0;
	a = &h->policy->daemon;
	if (!same_text(a->control, b->control) || !same_text(a->socket_group, b->socket_group) ||
	    a->socket_mode != b->socket_mode || a->workers.n != b->workers.n || a->poll != b->poll ||
	    a->poll_idle_ns != b->poll_idle_ns ||
	    (a->workers.n && memcmp(a->workers.cpu, b->workers.cpu, a->workers.n * sizeof(*a->workers.cpu)) != 0)) {
		host_error_set(e, -EBUSY, "daemon: control, socket_group, socket_mode, workers and polling need a restart of fairleadd");
		return -EBUSY;
	}
	return 0;
}

static int check_pools(const struct host *h, const struct policy *next, struct host_error *e)
{
	struct host_pool *pool;

	list_for_each(pool, &h->pools, node) {
		int was = policy_pool_find(h->policy, pool->name), will = policy_pool_find(next, pool->name);
		const char *key = was >= 0 && will >= 0 ? pool_differs(&h->policy->pools[was], &next->pools[will]) : NULL;

		if (!key)
			continue;
		host_error_set(e, -EBUSY,
			       "pool %s: `%s` cannot change while the daemon runs; give the pool another name, or restart fairleadd",
			       pool->name, key);
		return -EBUSY;
	}
	return 0;
}

/*
 * A disk that changes is made anew beside the old one, which its image survives in a file. In memory the name stands for the
 * data, and there cannot be two of it.
 */
static int check_disks(const struct host *h, const struct policy *next, struct host_error *e)
{
	struct host_disk *d;

	list_for_each(d, &h->disks, node) {
		const struct policy_disk *was = d->removing ? NULL : host_spec_find(h->policy, d->vm, d->name);
		const struct policy_disk *will = host_spec_find(next, d->vm, d->name);
		const char *key = was && will ? disk_differs(h->policy, was, next, will) : NULL;
		enum policy_pool_type type = was ? h->policy->pools[was->pool].type : POLICY_POOL_NULL;

		if (!key || strcmp(key, "pool") == 0 || (type != POLICY_POOL_RAM && type != POLICY_POOL_MODEL))
			continue;
		host_error_set(e, -EBUSY,
			       "disk %s/%s: `%s` cannot change while it is there, for its data is in memory; remove it and apply, "
			       "then add it anew",
			       d->vm, d->name, key);
		return -EBUSY;
	}
	return 0;
}

int host_check_change(const struct host *h, const struct policy *next, struct host_error *e)
{
	int err = check_daemon(h, next, e);

	if (err == 0)
		err = host_workers_check(h, next, e);
	if (err == 0)
		err = check_pools(h, next, e);
	return err < 0 ? err : check_disks(h, next, e);
}
