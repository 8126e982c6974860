/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory that coload's VMs share: who they are, their queues, and what they have done so far. It is a file, so that who
 * measures needs nothing but to look twice.
 */
#pragma once

#include "base/hist.h"

#include <sys/types.h>

#define VMS_MAX 256u
#define VCPUS_MAX 2u
#define GROUPS_MAX 8u
#define RING_SIZE 1024u /* requests; more than a window, so that a push finds room always */

enum kind {
	KIND_DRIVER, /* of a group: its I/O worker, and its clients: takes requests, hands them on, answers */
	KIND_STAGE,  /* of a group: works for each request, hands it on; the last one back to the driver */
	KIND_ADDER,  /* adds numbers, never sleeps; of a group or alone */
	KIND_IDLE,   /* of a group: sleeps */
	KIND_SPIN,   /* two vCPUs that spin for one lock */
};

struct request {
	uint64_t born_ns, arrived_ns; /* at the client; where it is */
};

/* One producer, one consumer. */
struct ring {
	uint32_t head, tail; /* free running */
	struct request request[RING_SIZE];
};

/* Written by the vCPU alone. */
struct vcpu {
	pid_t tid;
	uint64_t work; /* adders: steps; others: requests, or turns with the lock */
	uint64_t spun; /* steps lost to the lock */
	uint64_t random;
	uint64_t pad[4];
};

struct vm {
	char name[32];
	enum kind kind;
	int group; /* -1: none */
	unsigned n_vcpus, next; /* next: the VM that it hands requests to */
	pid_t pid;
	uint32_t doorbell, asleep; /* futex; 1: the consumer sleeps, or is about to */
	struct ring in;
	struct vcpu vcpu[VCPUS_MAX];
};

struct group {
	struct ring fresh;   /* requests that clients have just sent; the driver's own */
	struct hist latency; /* the driver writes it */
};

struct coload {
	pid_t pid;
	uint32_t ready, n_vcpus; /* how many have begun; 0 until all have */
	double steps_per_us;
	bool together; /* all begin when the last one is there: many would keep each other from starting */
	unsigned cpus, window, batch, n_vms, n_groups, seed;
	double cost_driver_us, cost_stage_us, cost_lock_us, cost_outside_us, jitter;
	struct vm vm[VMS_MAX];
	struct group group[GROUPS_MAX];
};

/* What an instruction loop of one step has: 256 instructions. */
#define STEP_INSNS 256u

static inline void steps(uint64_t n)
{
	for (; n > 0; n--)
		__asm__ volatile(".rept 253\n\tnop\n\t.endr" ::: "memory");
}

/* Runs as VM number `i` until it is killed. */
void coload_vm_run(struct coload *c, unsigned i);
/* Prints what was done between two looks. */
int coload_measure(struct coload *c, double warmup, double seconds);

uint64_t coload_now_ns(void);
