/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Placement at a queue's start. What becomes busy later is moved by team.c.
 *
 * Linux gives queue i to vCPU i when there are as many queues as vCPUs; with fewer, neighbouring vCPUs share one, and their
 * first one stands for them.
 */
#include "blk/place.h"

#include "blk/gate.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static bool is_vcpu(pid_t vmm, const char *tid, unsigned vcpu)
{
	char path[320], name[32] = "";
	unsigned n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)vmm, tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = '\0';
	fclose(f);
	return sscanf(name, "CPU %u/", &n) == 1 && n == vcpu;
}

/* Field 39 of /proc/PID/stat; the name in field 2 may hold anything, so counting begins after its last bracket. */
static int last_cpu_of(pid_t vmm, const char *tid)
{
	char path[320], line[1024] = "", *p;
	int cpu = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)vmm, tid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	/* After the bracket comes a blank and field 3. */
	for (unsigned field = 2; p && field < 39; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%d", &cpu) != 1)
		return -1;
	return cpu;
}

int blk_vcpu_cpu(pid_t vmm, unsigned vcpu)
{
	char path[64];
	struct dirent *e;
	int cpu = -1;
	DIR *d;

	if (vmm <= 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)vmm);
	d = opendir(path);
	while (d && cpu < 0 && (e = readdir(d)))
		if (e->d_name[0] != '.' && is_vcpu(vmm, e->d_name, vcpu))
			cpu = last_cpu_of(vmm, e->d_name);
	if (d)
		closedir(d);
	return cpu;
}

/* Smaller is better; compared in this order. */
struct preference {
	unsigned own;	/* queues of this disk already there (of a fixed number of workers) */
	unsigned queues;
	unsigned not_owner;
	unsigned distance;
};

static bool better(const struct preference *a, const struct preference *b)
{
	if (a->own != b->own)
		return a->own < b->own;
	if (a->queues != b->queues)
		return a->queues < b->queues;
	if (a->not_owner != b->not_owner)
		return a->not_owner < b->not_owner;
	return a->distance < b->distance;
}

static unsigned own_queues_on(const struct blk_disk *d, unsigned member)
{
	unsigned n = 0;

	for (unsigned q = 0; q < d->queues_max; q++)
		n += d->slot[q] && d->slot[q]->placed && d->slot[q]->worker == d->team->member[member].worker;
	return n;
}

static unsigned choose(const struct blk_disk *d, unsigned first, unsigned n, bool spread, int cpu)
{
	unsigned best = first;
	struct preference best_is = { 0 };

	for (unsigned i = 0; i < n; i++) {
		unsigned m = (first + i) % d->team->shared;
		struct worker *w = d->team->member[m].worker;
		struct preference p = {
			.own = spread ? own_queues_on(d, m) : 0,
			.queues = d->team->member[m].queues,
			.not_owner = d->pool->gate && blk_gate_owner(d->pool->gate) != w,
			.distance = d->team->topology && cpu >= 0 && worker_cpu(w) >= 0 ?
					    topology_distance(d->team->topology, (unsigned)cpu, (unsigned)worker_cpu(w)) :
					    TOPOLOGY_FAR,
		};

		if (i == 0 || better(&p, &best_is)) {
			best = m;
			best_is = p;
		}
	}
	return best;
}

unsigned blk_place(struct blk_disk *d, unsigned queue)
{
	int cpu;

	if (d->own)
		return d->own - 1;
	cpu = blk_vcpu_cpu(d->peer, queue);
	if (d->running == 0)
		d->home = choose(d, 0, d->team->shared, false, cpu);
	if (d->workers_wanted == 0)
		return d->home;
	return choose(d, d->home, d->workers_wanted, true, cpu);
}
