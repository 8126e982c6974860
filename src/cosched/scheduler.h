/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scheduler as loaded into the kernel (sched_ext): loading, configuring, watching, unloading. One thread uses it, that
 * of fairlead-cosched. Names and policies are the caller's: here are slots, threads and numbers.
 *
 * The kernel keeps the threads safe: when this process dies, the BPF program errs or stalls, every thread is back on
 * EEVDF at once.
 */
#pragma once

#include "cosched/event.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define COSCHED_WHY_MAX 512

enum cosched_placement {
	COSCHED_PARTIAL, /* only members are scheduled by it, on `cpus` */
	COSCHED_ALL,	 /* every thread of the machine is; those without a policy share a fair queue */
};

struct cosched_config {
	enum cosched_placement placement;
	struct co_params params; /* n_cpus: filled in here */
	const unsigned *cpus;	 /* ascending; where members may run */
	size_t n_cpus;
	bool trace; /* from the start; cosched_trace_set() changes it */
};

struct cosched;

/*
 * Loads and attaches. On failure -errno, and `why` says what is missing and what to do: -EOPNOTSUPP (no
 * CONFIG_SCHED_CLASS_EXT, a kfunc is missing), -EPERM, -EBUSY (another scheduler is loaded; isolcpus=; core-scheduling
 * cookies in use), -EINVAL.
 */
int cosched_load(const struct cosched_config *config, struct cosched **ret, char why[COSCHED_WHY_MAX]);
/* What of this can be told while one is loaded that it is to replace. 0, or as cosched_load(). */
int cosched_check(const struct cosched_config *config, char why[COSCHED_WHY_MAX]);
/* Detaches: threads are back on EEVDF when it returns. NULL is allowed. */
void cosched_unload(struct cosched *s);

/* Live: changed by the kernel while it is read. Slots are the caller's to choose. */
const struct co_world *cosched_world(const struct cosched *s);
/* The world numbers CPUs by their position in the configuration's `cpus`, then the machine's others: the kernel's number. */
unsigned cosched_cpu_number(const struct cosched *s, unsigned cpu);

/* Calls `look` while nothing is settled: totals and the bank are as of one settlement. Be quick. */
void cosched_look(struct cosched *s, void (*look)(const struct co_world *w, void *arg), void *arg);

int cosched_params_set(struct cosched *s, const struct co_params *params);
/* weight 0 frees the slot. Its purse goes to the bank. */
int cosched_vm_set(struct cosched *s, unsigned vm, unsigned account, unsigned weight, uint64_t cap_ns);
/* It is a worker of its group's: its part is reckoned with this weight. Holds until the slot is free. */
void cosched_vm_serves(struct cosched *s, unsigned vm, unsigned weight);
int cosched_account_set(struct cosched *s, unsigned account, bool used, bool is_group);

/* Takes a thread in: -ESRCH (gone), -EEXIST, -ENOSPC. *ret_member: its slot. */
int cosched_member_add(struct cosched *s, pid_t tid, unsigned vm, unsigned *ret_member);
/* Gives it back to EEVDF. Fine when the thread is gone already. */
void cosched_member_remove(struct cosched *s, unsigned member);

/* What a CPU counted beside struct co_cpu. */
struct cosched_counters {
	uint64_t dispatches;	/* schedule steps */
	uint64_t kicks_idle, kicks_preempt, kicks_asked; /* sent by it: to idle CPUs, to displace somebody, for requests */
	uint64_t rescued;	/* members run for a moment before the kernel's watchdog would have ended all */
	uint64_t fair_picks;	/* threads that are no members */
	uint64_t misplaced;	/* members queued away from home, which they may not use */
	uint64_t passed_over;	/* members on lists that may not run here */
	uint64_t lost_moves;	/* races for a member that another CPU won */
	uint64_t moved_off;	/* members taken off it when it had gone offline */
	uint64_t member_ns, fair_ns; /* CPU time of members and of others; who waits is made good for what the other had more */
};
/* `cpu`: a position in the configuration's `cpus`. */
void cosched_counters(const struct cosched *s, unsigned cpu, struct cosched_counters *ret);

/* How long settlements took, all together. */
uint64_t cosched_settle_ns(const struct cosched *s);

/* Events are recorded, or not; off costs a look at one flag each. */
int cosched_trace_set(struct cosched *s, bool on);
/* Readable when something has happened: events, the scheduler's end. */
int cosched_fd(const struct cosched *s);
/* Hands over what was traced, with the kernel's numbers of CPUs; returns how many events, lost ones in *ret_lost. */
int cosched_trace_read(struct cosched *s, void (*event)(const struct co_event *, void *), void *context, uint64_t *ret_lost);
/* True: the kernel has ended the scheduler, for the reason in `why`. */
bool cosched_ended(struct cosched *s, char why[COSCHED_WHY_MAX]);
