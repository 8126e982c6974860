/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Distances between CPUs, from hwloc. Control thread.
 */
#include "worker/topology.h"

#include <errno.h>
#include <hwloc.h>

struct topology {
	hwloc_topology_t machine;
};

int topology_create(const char *xml, struct topology **ret)
{
	struct topology *t = calloc(1, sizeof(*t));
	int r = -ENOMEM;

	if (!t)
		return r;
	if (hwloc_topology_init(&t->machine) < 0)
		goto fail;
	/* CPUs that this process may not use are where vCPUs run. */
	hwloc_topology_set_flags(t->machine, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
	r = xml && hwloc_topology_set_xml(t->machine, xml) < 0 ? -errno : 0;
	if (r == 0 && hwloc_topology_load(t->machine) < 0)
		r = -EIO;
	if (r == 0) {
		*ret = t;
		return 0;
	}
	hwloc_topology_destroy(t->machine);
fail:
	free(t);
	return r;
}

void topology_destroy(struct topology *t)
{
	if (!t)
		return;
	hwloc_topology_destroy(t->machine);
	free(t);
}

static bool share(hwloc_obj_t a, hwloc_obj_t b, hwloc_obj_type_t type, const struct topology *t)
{
	hwloc_obj_t above = hwloc_get_ancestor_obj_by_type(t->machine, type, a);

	return above && above == hwloc_get_ancestor_obj_by_type(t->machine, type, b);
}

enum topology_distance topology_distance(const struct topology *t, unsigned a, unsigned b)
{
	hwloc_obj_t x = hwloc_get_pu_obj_by_os_index(t->machine, a), y = hwloc_get_pu_obj_by_os_index(t->machine, b);

	if (!x || !y)
		return TOPOLOGY_FAR;
	if (x == y)
		return TOPOLOGY_SAME_CPU;
	if (share(x, y, HWLOC_OBJ_CORE, t) || share(x, y, HWLOC_OBJ_L2CACHE, t))
		return TOPOLOGY_SAME_CORE;
	if (share(x, y, HWLOC_OBJ_L3CACHE, t))
		return TOPOLOGY_SAME_CACHE;
	/* Memory is not above CPUs in hwloc's tree: they carry the set of nodes that are local to them. */
	return hwloc_bitmap_isequal(x->nodeset, y->nodeset) ? TOPOLOGY_SAME_NODE : TOPOLOGY_FAR;
}

void topology_order(const struct topology *t, unsigned near, const int cpu[], unsigned n, unsigned ret_order[])
{
	unsigned out = 0;

	for (enum topology_distance d = TOPOLOGY_SAME_CPU; d <= TOPOLOGY_FAR; d++)
		for (unsigned i = 0; i < n; i++)
			if (d == (cpu[i] < 0 ? TOPOLOGY_FAR : topology_distance(t, near, (unsigned)cpu[i])))
				ret_order[out++] = i;
}
