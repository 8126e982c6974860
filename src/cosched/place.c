/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Affinity by thread. The caller has made sure that `tid` is the thread that it means; should it be gone and its number used
 * again in this very moment, a stranger's affinity is set, and set back when the mistake is seen, at the next look.
 */
#include "cosched/place.h"

#include "base/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fill(cpu_set_t *set, const unsigned *cpus, size_t n)
{
	CPU_ZERO(set);
	for (size_t i = 0; i < n; i++)
		CPU_SET(cpus[i], set);
}

int place_narrow(pid_t tid, const unsigned *cpus, size_t n)
{
	cpu_set_t now;

	fill(&now, cpus, n);
	return sched_setaffinity(tid, sizeof(now), &now) < 0 ? -errno : 0;
}

void place_restore(pid_t tid, const unsigned *cpus, size_t n, const cpu_set_t *before)
{
	cpu_set_t ours, now;

	fill(&ours, cpus, n);
	/* CPUs that went offline are not told any more. */
	if (sched_getaffinity(tid, sizeof(now), &now) < 0)
		return;
	CPU_AND(&ours, &ours, &now);
	if (CPU_EQUAL(&ours, &now))
		(void)sched_setaffinity(tid, sizeof(*before), before);
}

int place_online(unsigned **ret, size_t *ret_n)
{
	unsigned cpus[CPUS_MAX];
	char text[4096];
	int fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC), n;
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (got < 0)
		return -errno;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	n = cpus_parse(text, cpus, CPUS_MAX);
	if (n < 0)
		return n;
	*ret = malloc(((size_t)n + 1) * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, cpus, (size_t)n * sizeof(**ret));
	*ret_n = (size_t)n;
	return 0;
}
