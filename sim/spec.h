/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is simulated: one YAML file, read and checked with line and column. Everything has a bound, so that a spec is one
 * flat struct.
 */
#pragma once

#include "cosched/core.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SIM_NAME_MAX 48
#define SIM_VMS_MAX 128u /* after `copies` */
#define SIM_GROUPS_MAX 32u
#define SIM_CHAINS_MAX 16u
#define SIM_STAGES_MAX 16u
#define SIM_CLIENTS_MAX 4096u
#define SIM_BATCH_MAX 1024u

/* The modes of the core by their own numbers, and a baseline. */
enum sim_algorithm {
	SIM_CREDIT = CO_MODE_CREDIT,
	SIM_CREDIT_BOOST = CO_MODE_CREDIT_BOOST,
	SIM_CO_CREDIT = CO_MODE_CO_CREDIT,
	SIM_POOLED = CO_MODE_POOLED,
	SIM_POOLED_MUTE, /* pooled, but nobody asks: which part of its gain comes from running together? */
	SIM_FAIR, /* virtual deadlines, as Linux's fair class has them, without any of its heuristics */
	SIM_ALGORITHMS,
};
extern const char *const sim_algorithm_words[SIM_ALGORITHMS + 1];

/* What a VM's vCPUs do. */
enum sim_runs {
	SIM_RUNS_SERVE,	  /* works off requests of chains, sleeps when there are none */
	SIM_RUNS_POLL,	  /* the same, but never sleeps */
	SIM_RUNS_HOG,	  /* computes */
	SIM_RUNS_IDLE,	  /* sleeps */
	SIM_RUNS_SLEEPER, /* runs for `on`, sleeps for `off` */
	SIM_RUNS_LOCKER,  /* computes for `work`, then holds the VM's only spin lock for `hold` */
	SIM_RUNS_SCRIPT,  /* replays only: what the script says */
};

enum sim_spread { SIM_SPREAD_FIXED, SIM_SPREAD_UNIFORM, SIM_SPREAD_EXPONENTIAL };

struct sim_script;

struct sim_at {
	unsigned line, column;
};
struct sim_name {
	char text[SIM_NAME_MAX];
	struct sim_at at;
};

struct sim_vm_spec {
	struct sim_name name;
	uint64_t copies, vcpus, weight, cap_percent;
	uint64_t runs, batch, on_ns, off_ns, work_ns, hold_ns;
	unsigned copy;	   /* of those that `copies` made: 1, 2, ...; 0: the only one */
	unsigned group;	   /* CO_NONE */
};

struct sim_group_spec {
	struct sim_name name;
	struct sim_name vm[SIM_VMS_MAX];
	size_t n_vms;
};

struct sim_stage_spec {
	struct sim_name vm;
	uint64_t cost_ns;  /* of CPU time */
	uint64_t delay_ns; /* elsewhere, before it arrives here */
	unsigned index;	   /* of the VM */
};

struct sim_chain_spec {
	struct sim_name name;
	uint64_t clients, think_ns, spread;
	struct sim_stage_spec stage[SIM_STAGES_MAX];
	size_t n_stages;
};

/* What an option may say that replaces a value of the file. */
#define SIM_SEEDS_MAX 1000u
#define SIM_DURATION_MAX_NS (UINT64_C(86400) * 1000000000)

struct sim_spec {
	uint64_t cpus, duration_ns, warmup_ns, seeds, first_seed;
	uint64_t period_ns, slice_ns, floor_ns, debt_limit_ns, credit_limit_ns, boost_ns, ask_on_wake;
	uint64_t switch_ns, kick_ns, kick_delay_ns;
	unsigned algorithm[SIM_ALGORITHMS];
	size_t n_algorithms;
	struct sim_vm_spec vm[SIM_VMS_MAX];
	size_t n_vms;
	struct sim_group_spec group[SIM_GROUPS_MAX];
	size_t n_groups;
	struct sim_chain_spec chain[SIM_CHAINS_MAX];
	size_t n_chains;
	const struct sim_script *script; /* replays only */
};

/*
 * 0; -EINVAL: `errors` got a line "FILE:LINE:COLUMN: error: ..." for each mistake; -ENOMEM. Large: the caller allocates it.
 */
int sim_spec_read(const char *file, const char *text, size_t length, struct sim_spec *ret, FILE *errors);
/* "credit,pooled" -> algorithms, each once. 0 or -EINVAL. */
int sim_spec_algorithms(struct sim_spec *spec, const char *list);
