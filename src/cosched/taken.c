/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line a thread: "PID TID START CPUS BEFORE", where it may run and where it might, as lists; "-": it was not narrowed.
 */
#include "cosched/taken.h"

#include "base/cpus.h"
#include "base/util.h"
#include "cosched/keep.h"
#include "cosched/place.h"
#include "cosched/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#ifndef SCHED_EXT
#define SCHED_EXT 7
#endif
#define LIST_MAX 4096 /* every second CPU of 1024 */

/* --- writing --- */

static void print_list(FILE *f, const cpu_set_t *set)
{
	const char *comma = " ";

	for (unsigned i = 0; i < CPUS_MAX; i++) {
		unsigned first = i;

		if (!CPU_ISSET(i, set))
			continue;
		while (i + 1 < CPUS_MAX && CPU_ISSET(i + 1, set))
			i++;
		fprintf(f, first == i ? "%s%u" : "%s%u-%u", comma, first, i);
		comma = ",";
	}
}

static void print_thread(FILE *f, const cpu_set_t *cpus, const struct taken *t)
{
	fprintf(f, "%d %d %" PRIu64, (int)t->pid, (int)t->tid, t->start);
	if (t->narrowed) {
		print_list(f, cpus);
		print_list(f, &t->before);
	} else {
		fputs(" - -", f);
	}
	fputc('\n', f);
}

static void print_all(FILE *f, const unsigned *cpus, size_t n_cpus, const struct taken *t, size_t n)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t i = 0; i < n_cpus; i++)
		CPU_SET(cpus[i], &set);
	for (size_t i = 0; i < n; i++)
		print_thread(f, &set, &t[i]);
}

int taken_add(const char *path, const unsigned *cpus, size_t n_cpus, const struct taken *t)
{
	FILE *f = keep_append(path);

	if (!f)
		return -errno;
	print_all(f, cpus, n_cpus, t, 1);
	return keep_close(f);
}

int taken_write(const char *path, const unsigned *cpus, size_t n_cpus, const struct taken *t, size_t n)
{
	FILE *f;

	if (n == 0)
		return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
	f = keep_begin(path);
	if (!f)
		return -errno;
	print_all(f, cpus, n_cpus, t, n);
	return keep_replace(f, path);
}

/* --- reading --- */

struct line {
	struct taken thread;
	unsigned cpu[CPUS_MAX]; /* what it was narrowed to */
	int n_cpus;
};

static bool parse_line(const char *text, struct line *ret)
{
	char ours[LIST_MAX], before[LIST_MAX];
	unsigned cpu[CPUS_MAX];
	int pid, tid, n;

	if (sscanf(text, "%d %d %" SCNu64 " %4095s %4095s", &pid, &tid, &ret->thread.start, ours, before) != 5)
		return false;
	ret->thread.pid = (pid_t)pid;
	ret->thread.tid = (pid_t)tid;
	ret->thread.narrowed = strcmp(ours, "-") != 0;
	if (!ret->thread.narrowed)
		return true;
	ret->n_cpus = cpus_parse(ours, ret->cpu, CPUS_MAX);
	n = cpus_parse(before, cpu, CPUS_MAX);
	CPU_ZERO(&ret->thread.before);
	for (int i = 0; i < n; i++)
		CPU_SET(cpu[i], &ret->thread.before);
	return ret->n_cpus > 0 && n > 0;
}

static bool is_alive(int proc, const struct taken *t)
{
	struct procfs_thread now;

	return procfs_thread_read(proc, t->pid, t->tid, &now) == 0 && now.start == t->start;
}

static bool give_back(const struct line *l)
{
	int policy = sched_getscheduler(l->thread.tid);

	if (l->thread.narrowed)
		place_restore(l->thread.tid, l->cpu, (size_t)l->n_cpus, &l->thread.before);
	if (policy >= 0 && (policy & ~SCHED_RESET_ON_FORK) == SCHED_EXT)
		(void)sched_setscheduler(l->thread.tid, SCHED_OTHER, &(struct sched_param){ 0 });
	return true;
}

static bool is_narrowed(const struct line *l)
{
	cpu_set_t now, ours;

	if (!l->thread.narrowed || sched_getaffinity(l->thread.tid, sizeof(now), &now) < 0)
		return false;
	CPU_ZERO(&ours);
	for (int i = 0; i < l->n_cpus; i++)
		CPU_SET(l->cpu[i], &ours);
	CPU_AND(&ours, &ours, &now);
	return CPU_EQUAL(&ours, &now) && !CPU_EQUAL(&l->thread.before, &now);
}

/* How many of those that live `each` says yes to. */
static unsigned each_alive(FILE *f, const char *proc, bool (*each)(const struct line *l))
{
	cleanup_close int root = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	size_t size = 0;
	unsigned n = 0;
	struct line l;

	while (getline(&text, &size, f) >= 0)
		if (parse_line(text, &l) && is_alive(root, &l.thread) && each(&l))
			n++;
	return n;
}

unsigned taken_give_back(const char *path, const char *proc)
{
	FILE *f = keep_read(path, true);
	unsigned n;

	if (!f)
		return 0;
	n = each_alive(f, proc, give_back);
	fclose(f);
	(void)unlink(path);
	return n;
}

unsigned taken_count(const char *path, const char *proc)
{
	FILE *f = keep_read(path, false);
	unsigned n;

	if (!f)
		return 0;
	n = each_alive(f, proc, is_narrowed);
	fclose(f);
	return n;
}
