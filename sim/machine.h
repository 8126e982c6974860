/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One simulated run: CPUs, members and requests in virtual time. Private to this folder.
 *
 * Theory of operation. Time jumps from event to event (a heap by time, then by kind and number, so that a run is a pure
 * function of spec, algorithm and seed). A CPU runs a member until its work or its slice ends, or until it is kicked. Then
 * comes the *schedule step* (machine.c), in which the algorithm (sched_*.c) picks who is next. When a member has done its
 * work, its *workload* (workload.c) says what comes next: more work, spinning, or sleep.
 *
 * Switching to another member and being kicked cost CPU time: the member that runs next has that much less of what it is
 * charged for.
 */
#pragma once

#include "sim/sim.h"
#include "sim/random.h"

#include "base/util.h"

#define SIM_SPIN UINT64_MAX /* work without an end: until machine_nudge() */

enum sim_event_kind {
	SIM_EVENT_END,	   /* `index`: CPU whose member's work or slice ends */
	SIM_EVENT_KICK,	   /* CPU */
	SIM_EVENT_SETTLE,
	SIM_EVENT_WAKE,	   /* member's timer */
	SIM_EVENT_ARRIVE,  /* request arrives at its stage */
};

#define SIM_LATER (UINT64_C(1) << 63) /* of `order`: behind those of that moment that have an order of their own */

struct sim_event {
	uint64_t time_ns, order;
	uint32_t kind, index, generation;
};

struct sim_cpu {
	uint32_t running;    /* member; CO_NONE */
	uint32_t generation; /* of its END event: older ones are void */
	uint64_t since_ns;   /* what ran since is not accounted yet */
	uint64_t started_ns, slice_end_ns;
	uint64_t overhead_ns; /* before the next work is done */
	bool kicked;	     /* a KICK is on its way */
	/* Of `fair`: who waits, first come first. The core has lists of its own. */
	uint32_t *queue;
	uint32_t n_queued;
	int64_t least_vruntime;
};

struct sim_member {
	uint32_t vm, index; /* which of its VM's vCPUs */
	uint64_t left_ns;   /* work until its workload is asked again; 0: asked when it runs next; SIM_SPIN */
	uint64_t worked_ns, spun_ns;
	uint64_t runnable_ns; /* since when it waits */
	uint32_t phase; /* of its workload */
	/* serving */
	uint32_t *batch;
	uint32_t n_batch;
	/* of `fair` */
	int64_t vruntime, deadline, lag;
};

struct sim_request {
	uint32_t chain, stage;
	uint64_t start_ns;
};

/* A VM at run time: its input queue, or its lock. */
struct sim_vm {
	uint32_t first, n; /* members */
	uint32_t *queue;   /* ring of requests */
	uint32_t head, n_queued;
	uint32_t lock_owner; /* member; CO_NONE */
	uint64_t loops;
};

struct sim;

/* An algorithm. All with the clock in s->now_ns. */
struct sim_sched {
	/* `m` is runnable: puts it into a queue and kicks whoever is to look. `woken`: it slept. */
	void (*enqueue)(struct sim *s, uint32_t m, bool woken);
	/* Who runs next, taken off its queue, or `previous`, which is on none and may run on; CO_NONE: idle. *ret_flags:
	 * CO_RUN_... */
	uint32_t (*pick)(struct sim *s, uint32_t cpu, uint32_t previous, uint8_t *ret_flags);
	/* Whether somebody waits for `cpu` whom any other could run. */
	bool (*waits)(struct sim *s, uint32_t cpu);
	/* Behind each schedule step: asks other CPUs. */
	void (*started)(struct sim *s, uint32_t cpu, bool kept, uint8_t flags);
	/* `m` on `cpu` ran for so long. */
	void (*charge)(struct sim *s, uint32_t cpu, uint32_t m, uint64_t ran_ns);
	uint64_t (*slice)(struct sim *s, uint32_t m);
	/* Everybody has just been charged. */
	void (*settle)(struct sim *s);
};
extern const struct sim_sched sim_sched_core, sim_sched_fair;

struct sim_heap {
	struct sim_event *event;
	size_t n, room;
};

struct sim {
	const struct sim_spec *spec;
	enum sim_algorithm algorithm;
	const struct sim_sched *sched;
	uint64_t now_ns, until_ns;
	struct sim_random random;
	struct co_world *world;
	struct sim_cpu *cpu;
	struct sim_member *member;
	uint32_t n_members;
	struct sim_vm vm[SIM_VMS_MAX];
	struct sim_request *request;
	uint32_t n_requests;
	struct sim_heap heap;
	struct sim_measure *measure;
	struct sim_recording *recording; /* NULL: nobody looks */
	bool told;	/* credit, in that recording: after its first settlement */
	uint64_t kicks, switches, idle_ns;
	bool no_memory;
};

/* machine.c */
/* Until the first settlement at or after `until_ns`. */
void machine_run(struct sim *s, uint64_t until_ns);
void machine_at(struct sim *s, uint64_t time_ns, enum sim_event_kind kind, uint32_t index, uint32_t generation);
void machine_wake(struct sim *s, uint32_t m);
/* `m` spins; if it runs, it looks again now. */
void machine_nudge(struct sim *s, uint32_t m);
void machine_kick(struct sim *s, uint32_t cpu);
void machine_emit(struct sim *s, enum co_event_kind kind, uint32_t cpu, uint32_t m, uint64_t value, uint8_t flags);

/* workload.c */
int workload_start(struct sim *s);
void workload_stop(struct sim *s);
/* `m` runs and has no work left: what it does next; 0: it sleeps. */
uint64_t workload_next(struct sim *s, uint32_t m);
void workload_arrive(struct sim *s, uint32_t request);

/* sched_core.c */
/* The core's world with lists around it; NULL: no memory. */
struct co_world *core_world_create(const struct co_params *params);
void core_world_destroy(struct co_world *w);
/* `m` becomes runnable, or is so still and runs no more: to the tail of a list of `cpu`, which is returned. */
uint32_t core_queue(struct co_world *w, uint32_t m, uint32_t cpu, bool woken, uint64_t now_ns);
/* Off its list, or back to its head: before co_run() or co_stop(). */
void core_unqueue(struct co_world *w, uint32_t m);
void core_requeue(struct co_world *w, uint32_t m);
/* Whom the core would have `cpu` run, off its list; or `previous`, or CO_NONE. */
uint32_t core_step(struct co_world *w, uint32_t cpu, uint32_t previous, uint64_t now_ns);
void core_settle_world(struct co_world *w, uint64_t now_ns);

/* measure.c */
int measure_start(struct sim *s);
void measure_stop(struct sim *s);
/* Somebody runs, waits or sleeps from now on, or may be parked. */
void measure_change(struct sim *s);
/* Before the clock is set to `until_ns`: all was as it is since it was set last. */
void measure_pass(struct sim *s, uint64_t until_ns);
/* Behind each settlement: what was due in the period; the first one after the warm-up begins the measurement. */
void measure_settle(struct sim *s);
void measure_response(struct sim *s, uint32_t chain, uint64_t ns);
void measure_result(struct sim *s, struct sim_result *ret);

/* heap.c */
int heap_add(struct sim_heap *h, struct sim_event e);
bool heap_take(struct sim_heap *h, struct sim_event *ret);
