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

/* Set before loading, never changed. */
struct sched_config {
	__u32 trace;
	__u32 fair; /* threads that are no members are scheduled here as a matter of course */
	__u64 rescue_ns;    /* a member that has waited longer is run for a moment, whatever it owes: long before the watchdog */
	__u64 rescue_slice_ns;
	__u64 fair_slice_ns;
};

/* Beside co_world.member[]. */
struct sched_slot {
	__u32 tid;     /* kernel: in the initial pid namespace */
	__u32 leaving; /* loader: from now on it is no member, as soon as it stops or moves */
	__u32 queue;   /* kernel: enum sched_queue, where it was put last */
	__u32 rescue;  /* kernel: has waited too long, runs for a moment */
	__u64 queued_ns; /* kernel: when it was put there */
};

/* Beside co_world.cpu[]. One writer, the CPU, but for `usable`. */
struct sched_cpu {
	__u32 usable;  /* loader: members may run here */
	__u32 online;  /* kernel */
	__u32 picked;  /* slot + 1 of the member that was picked last; 0: none */
	__u32 picked_flags; /* CO_RUN_REQUESTED, CO_RUN_STOLEN */
	__u32 running; /* slot + 1 of the member that runs; 0: none */
	__u64 since_ns; /* when who runs was charged last */
	__u64 member_ns, fair_ns; /* CPU time of either kind; who waits while the other has had less goes first */
	/* Counters. */
	__u64 dispatches, kicks_idle, kicks_preempt, demoted, rescued, fair_picks, misplaced, affine_skips;
	__u64 pad[3];
} __attribute__((aligned(64)));

/* A CPU's queues, in the order of ids. */
enum sched_queue {
	SCHED_QUEUE_UNDER,  /* BOOST ahead; who turned OVER meanwhile is found at the head */
	SCHED_QUEUE_OVER,   /* sorted anew at each settlement */
	SCHED_QUEUE_PARKED, /* the same */
	SCHED_QUEUES,
};

/* For tests: what the kernel must survive. */
enum sched_fault { SCHED_FAULT_NONE, SCHED_FAULT_ERROR, SCHED_FAULT_STALL };

struct sched_exit {
	__u32 done; /* last of all */
	__s32 kind;
	__s64 code;
	char reason[64], message[256];
};

struct sched_state {
	__u32 lock;  /* claimed by the loader for changes, by the kernel for a settlement */
	__u32 fault; /* enum sched_fault */
	__u64 fair_vtime;
	__u64 settle_late; /* kernel: settlements that found the lock taken */
	__u64 events_lost; /* kernel, many writers */
	struct sched_exit exit;
	struct sched_slot slot[CO_MEMBERS_MAX];
	struct sched_cpu cpu[CO_CPUS_MAX];
};

/* In the ring buffer beside the public kinds of events: the scheduler has ended. */
#define SCHED_EVENT_END 255
