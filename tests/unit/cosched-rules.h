/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small worlds with round numbers, for tests of single rules of the policy core: test-cosched-rules and test-cosched-settle.
 */
#pragma once

#include "cosched-sim.h"

#define MS (__s64)SIM_MS
#define DUE (10 * MS)	   /* of the accounts here, in a period: */
#define LAG (20 * MS)	   /* what they may be owed before they go first, */
#define DEBT (60 * MS)	   /* may owe, */
#define MUCH (400 * MS / 3)	   /* and may owe before they are the last of all */
#define SLICE (30 * MS)

static inline struct co_world *world(enum co_mode mode, uint32_t n_cpus)
{
	struct co_params params = { .mode = mode, .n_cpus = n_cpus, .ask_on_wake = 1, .period_ns = 30 * SIM_MS,
				    .slice_ns = 30 * SIM_MS, .floor_ns = 30 * SIM_MS, .debt_limit_ns = 60 * SIM_MS,
				    .credit_limit_ns = SIM_S, .boost_ns = 10 * SIM_MS };

	sim_init(&params, 1);
	return &sim.w;
}

/* VMs 0 and 1, of one member each, in the group 0; at home on CPUs 0 and 1. */
static inline struct co_world *group(enum co_mode mode, uint32_t n_cpus)
{
	struct co_world *w = world(mode, n_cpus);

	assert_int_equal(co_account_set(w, 0, true, true), 0);
	sim_vm_add(0, 0, 100, 0, 0);
	sim_vm_add(1, 0, 300, 0, n_cpus > 1);
	w->account[0].due_ns = DUE;
	return w;
}
