/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulator of co-scheduling: a spec in, figures out. A run is a pure function of its spec, algorithm and seed.
 */
#pragma once

#include "cosched/event.h"
#include "sim/spec.h"

#include <stdbool.h>

/* What was seen of a chain of requests, after the warm-up. */
struct sim_chain_result {
	uint64_t done;
	double ms_per_request; /* time / done: inverse throughput */
	double mean_ms, p50_ms, p95_ms, p99_ms; /* response, from the client's first to its last step */
};

/* Shares are of one CPU: 1 is a whole one. */
struct sim_share {
	double ran, waited, entitled;
};

struct sim_vm_result {
	struct sim_share share;
	double worked; /* without what switches and kicks cost; CPUs */
	double spun;   /* of it waiting for a lock or polling */
	double loops_per_s;
};

struct sim_account_result {
	struct sim_share share;
	double debt_ms;	 /* at the end: what its purses are below 0 */
	double deepest_ms; /* ever, as seen at settlements */
	double co_ran;	 /* of `ran`: while another member ran, too */
	double error;	 /* ran / entitled - 1 */
};

struct sim_result {
	uint64_t seed;
	struct sim_chain_result chain[SIM_CHAINS_MAX];
	struct sim_vm_result vm[SIM_VMS_MAX];
	struct sim_account_result account[SIM_VMS_MAX]; /* groups first, then VMs without one, in the spec's order */
	double idle; /* CPUs */
	double kicks_per_s, switches_per_s, steals_per_s;
	double sent_per_s, honoured_per_s, refused_per_s, void_per_s;
	double forgiven_ms_per_s, forfeited_ms_per_s;
};

/* What a run tells of its decisions, from a moment on. The caller owns `event`. */
struct sim_recording {
	uint64_t from_ns, to_ns;
	struct co_event *event;
	size_t n, room;
	uint32_t home[CO_MEMBERS_MAX];
	struct co_params params;
};

/* The account of a VM in struct sim_result, and how many there are. */
unsigned sim_account_of(const struct sim_spec *spec, unsigned vm);
unsigned sim_accounts(const struct sim_spec *spec);
const char *sim_account_name(const struct sim_spec *spec, unsigned account);

/* 0 or -ENOMEM. `recording`: NULL, or what to record. */
int sim_run(const struct sim_spec *spec, enum sim_algorithm algorithm, uint64_t seed, struct sim_recording *recording,
	    struct sim_result *ret);
