/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which threads are a VM's vCPUs, followed as they come and go. One thread uses it; nothing here blocks.
 *
 * Every second each VM is looked at: a process is searched while it has none, its threads are listed while it has. A process's
 * end is told by its pidfd at once. QMP is asked once, and again when the process's threads have changed, as a hot-plugged
 * vCPU is a new thread. A member is (thread, start time): a number that the kernel uses again is another member.
 */
#pragma once

#include "cosched/procfs.h"

#include <stddef.h>

#define MEMBERS_VMS_MAX 256u
#define MEMBERS_PER_VM_MAX 512u
#define MEMBERS_INTERVAL_NS UINT64_C(1000000000)

enum members_way {
	/* The process whose `-name guest=` (or `-name`) is `value`; its threads that are named as vCPUs. */
	MEMBERS_BY_GUEST,
	/* The same, or its `-uuid`, or the process's own name is `value`. One that is no QEMU and names no vCPUs: all its threads. */
	MEMBERS_BY_PROCESS,
	/* A monitor socket's path; `query-cpus-fast`. */
	MEMBERS_BY_QMP,
	/* Beneath the root of cgroups: all threads in it and below, or those that are named as vCPUs. */
	MEMBERS_BY_CGROUP,
};

struct member {
	pid_t pid, tid;
	uint64_t start;
	int vcpu; /* its number; -1: not told */
};

struct members_ops {
	void (*came)(void *arg, unsigned vm, const struct member *m);
	void (*left)(void *arg, unsigned vm, const struct member *m);
};

struct members;

/* Roots: "/proc" and "/sys/fs/cgroup". 0 or -errno. */
int members_create(const char *proc, const char *cgroups, const struct members_ops *ops, void *arg, struct members **ret);
/* Without calling anybody. NULL is allowed. */
void members_destroy(struct members *m);

/*
 * VM number `vm` is to be found in this way from the next members_work() on; the same as before changes nothing. `value` NULL:
 * not any more, all its members leave now. -EINVAL, -ENOMEM.
 */
int members_want(struct members *m, unsigned vm, enum members_way way, const char *value);

/* Readable when members_work() has something to do before its time. */
int members_fd(const struct members *m);
/* Looks, and calls came and left. Returns when it wants to be called again (same clock as now_ns). */
uint64_t members_work(struct members *m, uint64_t now_ns);
/* The next members_work() looks at everything, whatever the time. */
void members_look_again(struct members *m);

struct members_seen {
	pid_t pid; /* 0: none */
	const struct member *member;
	unsigned n;
	const char *why; /* there are none, and what to do about it; "" */
};

void members_see(const struct members *m, unsigned vm, struct members_seen *ret);

/* It is that thread still, and no other of its number. */
bool members_is_alive(const struct members *m, const struct member *member);
/* The cgroup that it is in, like "/machine.slice/x.scope": 0 or -errno. */
int members_cgroup(const struct members *m, const struct member *member, char *ret, size_t size);
/* Fills in the start time of a thread that somebody else names; -ESRCH: the process has no such thread. */
int members_identify(const struct members *m, struct member *member);

/* The number in a thread's name that says it is a vCPU ("CPU 3/KVM", "vcpu3", "fc_vcpu 3"); -1: it does not. */
int members_vcpu_named(const char *name);
