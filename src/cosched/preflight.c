/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What keeps a sched_ext scheduler from being loaded: see preflight.h. Called by the loader, on its thread; reads /sys and
 * /proc only.
 */
#include "cosched/preflight.h"

#include "base/cpus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE 62
#define PR_SCHED_CORE_GET 0
#endif

/* The first line of a file, empty when it cannot be read. */
static void read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, line, size - 1);

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static int check_class(char why[COSCHED_WHY_MAX])
{
	if (!access("/sys/kernel/sched_ext", F_OK))
		return 0;
	snprintf(why, COSCHED_WHY_MAX, "this kernel has no sched_ext (CONFIG_SCHED_CLASS_EXT): Debian's have it from 7.0 on");
	return -EOPNOTSUPP;
}

static int check_loaded(char why[COSCHED_WHY_MAX])
{
	char state[64], name[128];

	read_line("/sys/kernel/sched_ext/state", state, sizeof(state));
	if (!strcmp(state, "disabled"))
		return 0;
	read_line("/sys/kernel/sched_ext/root/ops", name, sizeof(name));
	snprintf(why, COSCHED_WHY_MAX, "a scheduler is loaded already: %.100s (%.60s): end that one first, as the kernel has one at a time",
		 name[0] ? name : "one without a name", state);
	return -EBUSY;
}

/* A BPF program is fitted to the kernel's own structures when it is loaded. */
static int check_types(char why[COSCHED_WHY_MAX])
{
	if (!access("/sys/kernel/btf/vmlinux", F_OK))
		return 0;
	snprintf(why, COSCHED_WHY_MAX, "this kernel does not tell its types (CONFIG_DEBUG_INFO_BTF; /sys/kernel/btf/vmlinux): %s",
		 "boot one that does, like Debian's");
	return -EOPNOTSUPP;
}

static int check_isolated(char why[COSCHED_WHY_MAX])
{
	char cpus[256];

	read_line("/sys/devices/system/cpu/isolated", cpus, sizeof(cpus));
	if (!cpus[0])
		return 0;
	snprintf(why, COSCHED_WHY_MAX, "isolcpus= isolates CPUs %.200s, and the kernel loads no scheduler then: boot without it", cpus);
	return -EBUSY;
}

static bool has_cookie(int tid)
{
	unsigned long long cookie = 0;

	return !prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, tid, 0, &cookie) && cookie;
}

/* The first thread of a process that has a core-scheduling cookie; 0: none. */
static int find_cookie(int pid)
{
	char path[64];
	struct dirent *entry;
	DIR *folder;
	int found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	folder = opendir(path);
	while (folder && !found && (entry = readdir(folder)))
		if (atoi(entry->d_name) > 0 && has_cookie(atoi(entry->d_name)))
			found = atoi(entry->d_name);
	if (folder)
		closedir(folder);
	return found;
}

/* Core scheduling picks across CPUs, past a scheduler that was not asked: hosts hang. */
static int check_cookies(char why[COSCHED_WHY_MAX])
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	int found = 0;

	while (processes && !found && (entry = readdir(processes)))
		if (atoi(entry->d_name) > 0)
			found = find_cookie(atoi(entry->d_name));
	if (processes)
		closedir(processes);
	if (!found)
		return 0;
	snprintf(why, COSCHED_WHY_MAX, "thread %d has a core-scheduling cookie, and both together hang a host: take one of them off",
		 found);
	return -EBUSY;
}

int preflight_machine(char why[COSCHED_WHY_MAX])
{
	int error = check_class(why);

	if (!error)
		error = check_types(why);
	if (!error)
		error = check_isolated(why);
	if (!error)
		error = check_cookies(why);
	return error;
}

int preflight(char why[COSCHED_WHY_MAX])
{
	int error = preflight_machine(why);

	return error ? error : check_loaded(why);
}

static bool has_cpu(const unsigned *cpus, int n, unsigned cpu)
{
	for (int i = 0; i < n; i++)
		if (cpus[i] == cpu)
			return true;
	return false;
}

int preflight_cpus(const unsigned *cpus, size_t n, char why[COSCHED_WHY_MAX])
{
	unsigned present[CPUS_MAX];
	char list[256];
	int n_present;

	read_line("/sys/devices/system/cpu/present", list, sizeof(list));
	n_present = cpus_parse(list, present, CPUS_MAX);
	for (size_t i = 0; n_present > 0 && i < n; i++) {
		if (has_cpu(present, n_present, cpus[i]))
			continue;
		snprintf(why, COSCHED_WHY_MAX, "CPU %u: this machine has none of that number; it has %.200s", cpus[i], list);
		return -EINVAL;
	}
	return 0;
}
