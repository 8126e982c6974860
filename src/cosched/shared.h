/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the loader (scheduler.c) and the BPF program (sched.bpf.c) share in memory beside `struct co_world`: mapped by both.
 * Who writes what is said at each member.
 */
#pragma once

#include "cosched/core.h"
#include "cosched/event.h"

/* The maps, by section name. */
#define SCHED_MAP_CONFIG ".rodata.config"
#define SCHED_MAP_WORLD ".bss.world"
#define SCHED_MAP_STATE ".bss.state"

/*
 * Set before loading, never changed. The core numbers CPUs densely, as a configuration lists them; the rest of the machine's
 * follow, so that a thread that may not run elsewhere has a list there. `number` is the kernel's number of each, `index`
 * the other way round.
 */
struct sched_config {
	__u64 rescue_ns;    /* a member that has waited longer runs for a moment, whatever it owes: long before the watchdog */
	__u64 rescue_slice_ns;
	__u64 fair_slice_ns;
	__u16 number[CO_CPUS_MAX], index[CO_CPUS_MAX];
};

/* Beside co_world.member[]. */
struct sched_slot {
	__u32 tid;     /* kernel: in the initial pid namespace */
	__u32 leaving; /* loader: from now on it is no member, as soon as it stops or moves */
	__u32 busy;    /* kernel, claimed: its list is being changed, by whoever looks for work or by its own CPU */
	__u64 queued_ns; /* kernel */
};

/* Beside co_world.cpu[]. One writer, the CPU. */
struct sched_cpu {
	__u32 online;
	__u32 running; /* slot + 1 of the member that runs; 0: none */
	__u32 picked;  /* slot + 1 of the member that was picked last; 0: none */
	__u32 picked_flags;
	__u64 since_ns, ran_since_ns; /* when who runs was charged last, and when it began */
	__u64 member_ns, fair_ns; /* CPU time of either kind; who waits while the other has had less goes first */
	/* Counters. */
	__u64 dispatches, kicks_idle, kicks_preempt, kicks_asked, rescued, fair_picks, misplaced, passed_over, lost_moves, moved_off;
} __attribute__((aligned(64)));

/* Numbers of a CPU's queues: co_state's lists, one for those that are rescued, one for others than members that can run there only. */
#define SCHED_LIST_RESCUE CO_STATES
#define SCHED_LIST_PINNED (CO_STATES + 1)
#define SCHED_LISTS (CO_STATES + 2)

/* What the kernel must survive; tests set it from outside. */
enum sched_fault { SCHED_FAULT_NONE, SCHED_FAULT_ERROR, SCHED_FAULT_STALL };

struct sched_exit {
	__u32 done; /* last of all */
	__s32 kind;
	__s64 code;
	char reason[64], message[256];
};

struct sched_state {
	__u32 lock;  /* claimed by the loader for changes, by the kernel for a settlement */
	__u32 fault; /* tests: enum sched_fault */
	__u32 trace; /* loader: events are wanted */
	__u64 fair_vtime;
	__u64 due_ns; /* kernel: the next settlement */
	__u32 n_cpus; /* kernel: numbers of CPUs that there are, or may come */
	__u64 settle_ns;   /* kernel: how long settlements took, all together */
	__u64 settle_late; /* kernel: settlements that found the lock taken */
	__u64 events_lost; /* kernel, many writers */
	struct sched_exit exit;
	struct sched_slot slot[CO_MEMBERS_MAX];
	struct sched_cpu cpu[CO_CPUS_MAX];
};

/* In the ring buffer beside the public kinds of events: the scheduler has ended. */
#define SCHED_EVENT_END 255
