/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulated run as a trace, like those of the real scheduler.
 */
#pragma once

#include "sim/sim.h"
#include "sim/trace.h"

/* Runs it and keeps its events from one moment to another. 0 or -ENOMEM. */
int sim_record(const struct sim_spec *spec, enum sim_algorithm algorithm, uint64_t seed, uint64_t from_ns, uint64_t to_ns,
	       struct trace *ret);
