/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a machine in virtual time around the policy core of co-scheduling, and the lists that a driver has to bring. See
 * cosched-sim.h, which makes it run, and cosched-due.h, which reckons what is due there.
 */
#pragma once

#include "base/util.h"
#include "cosched/change.h"
#include "cosched/pick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One thread, and ten times slower under sanitizers, which look for other things than how many machines there are. */
#ifdef UNDER_SANITIZER
#define SIM_FEWER 10u
#else
#define SIM_FEWER 1u
#endif

#define SIM_MS 1000000ull
#define SIM_S 1000000000ull
#define SIM_NEVER ~0ull
#define SIM_MEMBERS_MAX 128u
#define SIM_CPUS_MAX 16u

enum sim_kind { SIM_HOG, SIM_SLEEPER, SIM_CHAIN };

/* What a member does. A chain's link computes for burst_ns, wakes `next` and sleeps until it is woken. */
struct sim_member {
	enum sim_kind kind;
	uint64_t burst_ns, sleep_ns;
	uint32_t next, tokens; /* wake-ups that came while it was awake */
	__u64 affinity;

	bool used, asleep;
	uint64_t left_ns;    /* of this burst */
	uint64_t wake_at_ns; /* asleep, not a chain's */
	uint32_t list_next, list_prev;
	uint64_t queued_at_ns, longest_wait_ns;
};

struct sim_list {
	uint32_t head, tail, n;
};

struct sim_cpu {
	uint32_t running;
	uint64_t from_ns, slice_end_ns;
	bool kicked;
};

static struct sim {
	struct co_world w;
	struct sim_member member[CO_MEMBERS_MAX];
	struct sim_list list[CO_CPUS_MAX][CO_STATES];
	struct sim_cpu cpu[SIM_CPUS_MAX];
	uint64_t now_ns, settle_at_ns, seed, random;
	uint64_t events, steps; /* for tests to look at afterwards */
	/* Own reckoning of what accounts are due, in floating point: see sim_fluid() and sim_pay(). */
	double fluid[CO_ACCOUNTS_MAX], entitled[CO_ACCOUNTS_MAX], rest;
	uint32_t order[CO_ACCOUNTS_MAX];
	uint64_t awake_until[CO_VMS_MAX]; /* in settlements: till when a VM counts in its group's weight */
	double instant[CO_ACCOUNTS_MAX];  /* the same, whatever caps and settlements make of it */
	bool ticks;			  /* settlements find members charged until their CPU's last tick only */
	double cap_claim[CO_VMS_MAX];	  /* what a cap lets it claim */
	bool changed;			  /* in this period, accounts or VMs: what they ran may be gone, or elsewhere */
	struct co_params next_params;	  /* from the next settlement on; n_cpus 0: none */
	uint64_t cap_level_ns[CO_VMS_MAX], cap_ran_ns[CO_VMS_MAX];
} sim;

static inline uint64_t sim_random(void)
{
	sim.random ^= sim.random << 13;
	sim.random ^= sim.random >> 7;
	sim.random ^= sim.random << 17;
	return sim.random * 0x2545f4914f6cdd1dull >> 11;
}
static inline uint64_t sim_between(uint64_t low, uint64_t high)
{
	return low + sim_random() % (high - low + 1);
}

static inline void sim_fail(const char *what, uint64_t a, uint64_t b)
{
	print_error("seed %llu, %llu ns, mode %u: %s (%llu, %llu)\n", (unsigned long long)sim.seed, (unsigned long long)sim.now_ns,
		    sim.w.params.mode, what, (unsigned long long)a, (unsigned long long)b);
	fail();
}

/* --- the driver's lists --- */

static inline void sim_list_add(uint32_t cpu, uint32_t list, uint32_t i)
{
	struct sim_list *l = &sim.list[cpu][list];
	struct sim_member *m = &sim.member[i];

	m->list_next = CO_NONE;
	m->list_prev = l->tail;
	*(l->tail == CO_NONE ? &l->head : &sim.member[l->tail].list_next) = i;
	l->tail = i;
	l->n++;
}

static inline void sim_list_remove(uint32_t cpu, uint32_t list, uint32_t i)
{
	struct sim_list *l = &sim.list[cpu][list];
	struct sim_member *m = &sim.member[i];

	*(m->list_prev == CO_NONE ? &l->head : &sim.member[m->list_prev].list_next) = m->list_next;
	*(m->list_next == CO_NONE ? &l->tail : &sim.member[m->list_next].list_prev) = m->list_prev;
	l->n--;
}

static inline __u32 co_list_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here)
{
	uint32_t i;

	for (i = sim.list[cpu][list].head; i != CO_NONE; i = sim.member[i].list_next)
		if (sim.member[i].affinity >> here & 1)
			return i;
	return CO_NONE;
}

static inline bool co_list_move(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 to)
{
	sim_list_remove(cpu, list, member);
	co_relist(w, co_member_of(w, member), to, sim.now_ns);
	sim_list_add(cpu, to, member);
	return true;
}

static inline bool co_list_take(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 here)
{
	sim_list_remove(cpu, list, member);
	return true;
}

static inline void co_list_sift(struct co_world *w, __u32 cpu, __u32 list)
{
	uint32_t i, next, state;

	for (i = sim.list[cpu][list].head; i != CO_NONE; i = next) {
		next = sim.member[i].list_next;
		state = co_state(w, co_member_of(w, i));
		if (state != list)
			co_list_move(w, cpu, list, i, state);
	}
}
