/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A recorded trace of the real scheduler, once more through the core in virtual time: when each member woke up and how much
 * CPU time it wanted until it slept are taken from the trace, who ran when is decided anew, and both are compared.
 * That drifts: one decision that comes out otherwise changes what follows. So each schedule step is also decided by itself.
 */
#pragma once

#include "sim/sim.h"
#include "sim/trace.h"

/* Of what was recorded, and of what was replayed. */
struct replay_side {
	double ran[SIM_VMS_MAX], waited[SIM_VMS_MAX]; /* by VM, in CPUs */
	double runs_per_s, asked_per_s, refused_per_s; /* runs: beginnings */
	double requested, stolen, in_debt;	       /* parts of the runs */
};

/* Each step by itself, after all that was recorded until then: one that comes out otherwise does not change the next. */
struct replay_steps {
	uint64_t steps, same;	     /* schedule steps; those in which the core chooses who was chosen */
	uint64_t asked, asked_same;  /* requests; those that the core makes, too */
	uint64_t interrupted;	     /* a member went on where it was interrupted: nobody was chosen */
};

struct replay {
	double seconds;
	uint32_t n_cpus; /* that were used */
	double same_cpu; /* part of CPU time in which a CPU ran the same member in both */
	double same_set; /* part of CPU time in which the same members ran, wherever */
	struct replay_side recorded, replayed;
	struct replay_steps steps; /* under the algorithm of the recording, whichever was replayed */
};

/* 0; -EBADMSG: *ret_why says what is wrong with the trace; -ENOMEM. */
int replay_run(const struct trace *t, enum sim_algorithm algorithm, struct replay *ret, const char **ret_why);
