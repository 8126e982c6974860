/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /proc tells of processes and threads. Trees are given as directories, so that a copy or a container's serves as well.
 *
 * A number alone does not name a thread, as the kernel uses it again: its start time goes with it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCFS_NAME_MAX 16
#define PROCFS_GUEST_MAX 64
#define PROCFS_UUID_MAX 37

struct procfs_thread {
	pid_t tid;
	uint64_t start; /* clock ticks since boot */
	char name[PROCFS_NAME_MAX];
};

/* Calls for each process (pid 0) or each thread of one, ascending, until `each` returns true. 0 or -errno. */
int procfs_each(int proc, pid_t pid, bool (*each)(void *arg, pid_t id), void *arg);

/* Thread `tid` of process `pid`: 0; -ESRCH: it is gone, or not of that process. */
int procfs_thread_read(int proc, pid_t pid, pid_t tid, struct procfs_thread *ret);

struct procfs_vmm {
	char guest[PROCFS_GUEST_MAX]; /* `-name NAME` or `-name guest=NAME,...` */
	char uuid[PROCFS_UUID_MAX];   /* `-uuid UUID` */
};

/* What the command line of a VMM says of its guest; "": nothing. */
void procfs_vmm_read(int proc, pid_t pid, struct procfs_vmm *ret);

/* The cgroup that a process is in, like "/machine.slice/x.scope" (v2). 0 or -errno. */
int procfs_cgroup_read(int proc, pid_t pid, char *ret, size_t size);

/* Reads a small file whole, with a NUL behind it: its length (at most size - 1), or -errno. */
ssize_t procfs_file_read(int dir, const char *path, char *ret, size_t size);
