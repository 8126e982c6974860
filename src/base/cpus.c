/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Called at start-up and from policy code.
 */
#include "base/cpus.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int parse_number(const char **p, unsigned *ret)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	v = strtoul(*p, &end, 10);
	if (v >= CPUS_MAX)
		return -EINVAL;
	*p = end;
	*ret = (unsigned)v;
	return 0;
}

int cpus_parse(const char *text, unsigned cpu[], size_t max)
{
	bool in[CPUS_MAX] = { false };
	size_t n = 0;

	for (const char *p = text;;) {
		unsigned first, last;

		if (parse_number(&p, &first) < 0)
			return -EINVAL;
		last = first;
		if (*p == '-') {
			p++;
			if (parse_number(&p, &last) < 0 || last < first)
				return -EINVAL;
		}
		for (unsigned i = first; i <= last; i++)
			in[i] = true;
		if (*p == '\0')
			break;
		if (*p++ != ',')
			return -EINVAL;
	}
	for (unsigned i = 0; i < CPUS_MAX; i++) {
		if (!in[i])
			continue;
		if (n == max)
			return -E2BIG;
		cpu[n++] = i;
	}
	return (int)n;
}

int cpus_pin_self(unsigned cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

int cpus_allowed(unsigned cpu)
{
	cpu_set_t set;

	if (cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(set), &set) < 0)
		return 0;
	return CPU_ISSET(cpu, &set);
}
