/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between script.c, steps.c and replay.c.
 */
#pragma once

#include "sim/replay.h"
#include "sim/script.h"

/* Numbers of the trace and those of the simulation. */
struct replay_map {
	uint32_t cpu[CO_CPUS_MAX]; /* those that ran nobody are left out */
	uint32_t member[CO_MEMBERS_MAX], slot[CO_MEMBERS_MAX]; /* of a slot; of a member */
	uint32_t n_cpus, n_members;
	uint64_t base_ns; /* the simulation's 0 */
};

/* Fills in an empty spec, map and script. 0, -EBADMSG with *ret_why, -ENOMEM. */
int script_from_trace(const struct trace *t, struct sim_spec *spec, struct replay_map *map, struct sim_script *script,
		      const char **ret_why);
/* Fills in the CPUs' part of a map. NULL, or what is wrong. */
const char *script_map_cpus(const struct trace *t, struct replay_map *map);
void script_free(struct sim_script *script);

/* steps.c: every recorded schedule step by itself, from what was recorded before it. 0, -EBADMSG with *ret_why, -ENOMEM. */
int steps_run(const struct trace *t, struct replay_steps *ret, const char **ret_why);
