/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's workers: one for each CPU of `daemon.workers`, which serve all disks, and one for each co-group that has
 * `workers: true`. The latter is the group's driver domain: it serves the disks of the group's VMs and no others, sleeps
 * instead of polling, and may run on all co-scheduled CPUs, where fairlead-cosched schedules it as one of the group.
 *
 * Workers are made at the start only, as every pool's gate has a place for each of them.
 */
#include "host/host_internal.h"

#include "cosched/place.h"

#include <errno.h>
#include <string.h>

static int start_shared(struct worker *worker[], const struct policy_daemon *daemon, size_t i, struct host_error *e)
{
	struct worker_config c = {
		.index = (unsigned)i,
		.cpu = daemon->workers.n ? (int)daemon->workers.cpu[i] : -1,
		.poll = (enum worker_poll)daemon->poll,
		.poll_idle_ns = daemon->poll_idle_ns,
	};
	int err = worker_create(&c, &worker[i]);

	if (err < 0)
		host_error_set(e, err, "worker %zu on CPU %d: %s%s", i, c.cpu, strerror(-err),
			       err == -EINVAL ? " (is this CPU online, and allowed to this process?)" : "");
	return err;
}

static int start_own(struct worker *worker[], const struct policy *p, const struct policy_cogroup *g, size_t i, struct host_error *e)
{
	struct worker_config c = { .index = (unsigned)i, .cpu = -1, .poll = WORKER_POLL_NEVER };
	int err = worker_create(&c, &worker[i]);

	if (err < 0)
		host_error_set(e, err, "worker of co-group %s: %s", g->name, strerror(-err));
	/* Without this right it runs where it may, and fairlead-cosched, which has it, sets it. */
	if (err == 0 && p->cosched.cpus.n)
		(void)place_narrow(worker_tid(worker[i]), p->cosched.cpus.cpu, p->cosched.cpus.n);
	return err;
}

static size_t count_own(const struct policy *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_cogroups; i++)
		n += p->cogroups[i].workers;
	return n;
}

int host_workers_start(struct host *h, const struct policy *p, struct host_error *e)
{
	size_t shared = p->daemon.workers.n ? p->daemon.workers.n : 1, n = shared + count_own(p), next = shared;
	struct worker *worker[BLK_TEAM_MAX] = { 0 };
	int err = 0;

	if (n > BLK_TEAM_MAX) {
		host_error_set(e, -E2BIG, "daemon.workers: at most %u workers, those of co-groups included", BLK_TEAM_MAX);
		return -E2BIG;
	}
	for (size_t i = 0; err == 0 && i < shared; i++)
		err = start_shared(worker, &p->daemon, i, e);
	for (size_t g = 0; err == 0 && g < p->n_cogroups; g++) {
		if (!p->cogroups[g].workers)
			continue;
		memcpy(h->group[next], p->cogroups[g].name, POLICY_NAME_MAX);
		err = start_own(worker, p, &p->cogroups[g], next++, e);
	}
	if (err == 0)
		err = blk_team_init(&h->team, worker, (unsigned)n);
	for (size_t i = 0; err < 0 && i < n; i++)
		worker_destroy(worker[i]);
	if (err == 0)
		h->team.shared = (unsigned)shared;
	return err;
}

static unsigned worker_of_group(const struct host *h, const char *group)
{
	for (unsigned i = h->team.shared; i < h->team.n; i++)
		if (strcmp(h->group[i], group) == 0)
			return i + 1;
	return 0;
}

int host_workers_check(const struct host *h, const struct policy *p, struct host_error *e)
{
	for (size_t i = 0; i < p->n_cogroups; i++)
		if (p->cogroups[i].workers && !worker_of_group(h, p->cogroups[i].name)) {
			host_error_set(e, -EBUSY, "co-group %s: a worker of its own needs a restart of fairleadd", p->cogroups[i].name);
			return -EBUSY;
		}
	return 0;
}

unsigned host_worker_of(const struct host *h, const struct policy *p, const char *vm)
{
	int g = policy_cogroup_of(p, vm);

	return g >= 0 && p->cogroups[g].workers ? worker_of_group(h, p->cogroups[g].name) : 0;
}
