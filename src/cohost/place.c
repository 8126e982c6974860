/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mode partial: the fair class comes before members, so others are kept off the co-scheduled CPUs; and a look at what runs
 * there all the same. What a kill would leave behind is written down, and given back by the next run.
 */
#include "cohost/cohost_internal.h"

#include "cosched/keep.h"
#include "cosched/taken.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Of the co-scheduled CPUs' time; kernel threads need some. */
#define FOREIGN_MOST_PERCENT 5.0
#define FOREIGN_SECONDS 10u

/* --- what a run that was killed has left --- */

static void give_back_threads(struct cohost *h)
{
	unsigned n = taken_give_back(h->keep_taken, h->options.proc ? h->options.proc : "/proc");

	if (n)
		cohost_tell(h, "cosched.placement", "", "%u threads that a run which was killed had taken are given back", n);
}

static void give_back_slices(struct cohost *h)
{
	const char *address = h->options.systemd;
	struct slices *s;

	if ((address && !*address) || access(h->keep_slices, F_OK) < 0)
		return;
	if (slices_create(address, h->keep_slices, &s) >= 0)
		slices_destroy(s);
}

int cohost_keep_begin(struct cohost *h, const char *control)
{
	cohost_keep_end(h);
	h->keep_taken = cohost_beside(control, "cosched.threads");
	h->keep_slices = cohost_beside(control, "cosched.slices");
	h->keep_lock = cohost_beside(control, "cosched.lock");
	if (!h->keep_taken || !h->keep_slices || !h->keep_lock)
		return -ENOMEM;
	h->claim = keep_claim(h->keep_lock);
	if (h->claim < 0)
		/* Where none can be written, none is read: what cannot be kept is told when there is something. */
		return h->claim == -EBUSY ? -EBUSY : 0;
	give_back_threads(h);
	give_back_slices(h);
	return 0;
}

void cohost_keep_end(struct cohost *h)
{
	keep_disclaim(h->claim, h->keep_lock);
	h->claim = -1;
	free(h->keep_taken);
	free(h->keep_slices);
	free(h->keep_lock);
	h->keep_taken = h->keep_slices = h->keep_lock = NULL;
}

/* --- others are kept off --- */

void cohost_place_begin(struct cohost *h)
{
	const char *address = h->options.systemd;
	int r = address && !*address ? -ENOENT : slices_create(address, h->keep_slices, &h->slices);

	if (r >= 0)
		r = slices_keep_off(h->slices, h->cpus, h->n_cpus);
	if (r == -EBUSY)
		cohost_tell(h, "cosched.placement", "", "all CPUs are co-scheduled, so nobody can be kept off them: %s",
			    "leave some out of cosched.cpus, or use mode all");
	else if (r < 0)
		cohost_tell(h, "cosched.placement", "",
			    "others are not kept off the co-scheduled CPUs, as systemd cannot be asked to (%s): %s", strerror(-r),
			    "keep them off otherwise, e.g. by a cpuset");
}

void cohost_place_end(struct cohost *h)
{
	slices_destroy(h->slices);
	h->slices = NULL;
}

void cohost_place_member(struct cohost *h, const struct member *m)
{
	char cgroup[1024];

	if (!h->slices || members_cgroup(h->members, m, cgroup, sizeof(cgroup)) < 0 || !slices_spare(h->slices, cgroup))
		return;
	cohost_tell(h, "cosched.placement", "",
		    "a member is in cgroup %.200s, so that slice is not kept off the co-scheduled CPUs: %s", cgroup,
		    "run VMs in machine.slice, fairleadd in fairlead.slice");
}

/* --- what runs there all the same --- */

/* Of "cpu3 USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL ...", in ticks. */
static uint64_t busy_ticks(const char *line)
{
	unsigned long long v[8] = { 0 };

	(void)sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
	return v[0] + v[1] + v[2] + v[5] + v[6] + v[7];
}

static uint64_t busy_ns(const struct cohost *h)
{
	uint64_t ticks = 0;
	char line[512];
	FILE *f = fopen("/proc/stat", "re");
	unsigned cpu;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "cpu%u", &cpu) != 1)
			continue;
		for (size_t i = 0; i < h->n_cpus; i++)
			if (h->cpus[i] == cpu)
				ticks += busy_ticks(line);
	}
	if (f)
		fclose(f);
	return ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
}

static uint64_t members_ns(const struct cohost *h)
{
	const struct co_world *w = cosched_world(h->sched);
	uint64_t sum = 0;

	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		sum += load_relaxed(&w->vm[i].total_ran_ns);
	return sum;
}

/* Members' time is known as of the last settlement, others' in ticks: over ten seconds neither matters. */
void cohost_place_look(struct cohost *h, uint64_t now_ns)
{
	struct cohost_foreign *f = &h->foreign;
	uint64_t busy, members;
	double other;

	if (!h->sched || (f->time_ns && now_ns - f->time_ns < FOREIGN_SECONDS * COHOST_INTERVAL_NS))
		return;
	busy = busy_ns(h);
	members = members_ns(h);
	other = (double)(busy - f->busy_ns) - (double)(members - f->members_ns);
	f->percent = f->time_ns && other > 0 ? 100 * other / ((double)(now_ns - f->time_ns) * (double)h->n_cpus) : 0;
	f->time_ns = now_ns;
	f->busy_ns = busy;
	f->members_ns = members;
	if (h->policy->cosched.mode == POLICY_COSCHED_PARTIAL && f->percent > FOREIGN_MOST_PERCENT && !f->told)
		cohost_tell(h, "cosched.foreign", "",
			    "others use %.0f %% of the co-scheduled CPUs, and come before members: keep them off, or use mode all",
			    f->percent);
	f->told = f->percent > FOREIGN_MOST_PERCENT;
}
