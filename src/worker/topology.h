/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the workers' CPUs is nearest to a given CPU: placement puts a queue's worker next to the vCPU that feeds it.
 * Pure over one snapshot of the machine, taken at start; control thread.
 */
#pragma once

#include "base/util.h"

enum topology_distance {
	TOPOLOGY_SAME_CPU,
	TOPOLOGY_SAME_CORE, /* another hardware thread of it, or a core that shares its L2 */
	TOPOLOGY_SAME_CACHE, /* shares the last cache (L3) */
	TOPOLOGY_SAME_NODE, /* NUMA */
	TOPOLOGY_FAR,
};

struct topology;

/* Looks at this machine. `xml`: a file made by lstopo instead, for tests and rehearsals; NULL for this machine. */
int topology_create(const char *xml, struct topology **ret);
void topology_destroy(struct topology *t);

/* A CPU that the machine does not have is far from everything. */
enum topology_distance topology_distance(const struct topology *t, unsigned a, unsigned b);

/*
 * Orders the workers 0..n-1, which run on cpu[] (-1: not pinned, far), by their distance from `near`; of equally near
 * ones, the lower number first. Writes n worker numbers.
 */
void topology_order(const struct topology *t, unsigned near, const int cpu[], unsigned n, unsigned ret_order[]);
