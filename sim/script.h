/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What members are to do, moment by moment: instead of workloads, for a replay.
 */
#pragma once

#include "sim/spec.h"

struct sim_episode {
	uint64_t wake_ns;
	uint64_t demand_ns; /* CPU time until it sleeps */
	uint64_t order;	    /* among those that wake up at the same moment */
};

struct sim_script {
	struct {
		uint32_t home;
		struct sim_episode *episode; /* ascending; what is due while an earlier one lasts follows it at once */
		size_t n, room;
	} member[CO_MEMBERS_MAX];
};
