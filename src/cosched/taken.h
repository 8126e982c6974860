/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads that the scheduler has taken in, kept in a file: so that the next run can give them back after this one was killed.
 * The kernel schedules them as before at once; but they may run on the co-scheduled CPUs only, and have a policy (SCHED_EXT)
 * that any other sched_ext scheduler would take for a wish.
 *
 * The file's folder may belong to another user (fairleadd's): it is not followed through links, and what somebody else has written
 * is not believed.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct taken {
	pid_t pid, tid;
	uint64_t start;
	bool narrowed;
	cpu_set_t before; /* where it might run, if it was narrowed */
};

/* Adds one. `cpus`: what it is narrowed to. 0 or -errno. */
int taken_add(const char *path, const unsigned *cpus, size_t n_cpus, const struct taken *t);
/* Replaces the file, whole or not at all; n = 0 removes it. */
int taken_write(const char *path, const unsigned *cpus, size_t n_cpus, const struct taken *t, size_t n);
/* Gives back all that live still, and removes the file. How many; 0: there is no file, or it is somebody else's. */
unsigned taken_give_back(const char *path, const char *proc);
/* How many of them live, and may run where they were narrowed to only. */
unsigned taken_count(const char *path, const char *proc);
