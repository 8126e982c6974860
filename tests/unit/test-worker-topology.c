/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: nearness of CPUs on an invented machine (two NUMA nodes, two L3 each, cores of two threads), on this
 * one, and the order of workers that follows.
 */
#include "worker/topology.h"

#include <errno.h>
#include <hwloc.h>
#include <hwloc/export.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char xml[] = "/tmp/fairlead-topology-XXXXXX";

/* 2 nodes x 2 L3 x 2 cores x 2 threads; CPU numbers run through in this order. */
static void invent_machine(void)
{
	hwloc_topology_t m;
	int fd = mkstemp(xml);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(hwloc_topology_init(&m), 0);
	assert_int_equal(hwloc_topology_set_synthetic(m, "pack:2 [numa] l3:2 l2:2 core:1 pu:2"), 0);
	assert_int_equal(hwloc_topology_load(m), 0);
	assert_int_equal(hwloc_topology_export_xml(m, xml, 0), 0);
	hwloc_topology_destroy(m);
}

static void distances_follow_shared_parts(void **state)
{
	struct topology *t = NULL;

	(void)state;
	assert_int_equal(topology_create(xml, &t), 0);
	assert_int_equal(topology_distance(t, 5, 5), TOPOLOGY_SAME_CPU);
	assert_int_equal(topology_distance(t, 0, 1), TOPOLOGY_SAME_CORE);
	assert_int_equal(topology_distance(t, 0, 2), TOPOLOGY_SAME_CACHE);
	assert_int_equal(topology_distance(t, 3, 4), TOPOLOGY_SAME_NODE);
	assert_int_equal(topology_distance(t, 7, 8), TOPOLOGY_FAR);
	assert_int_equal(topology_distance(t, 0, 500), TOPOLOGY_FAR);
	topology_destroy(t);
}

static void the_nearest_come_first(void **state)
{
	static const int cpu[] = { 15, 8, -1, 4, 6, 10, 9, 12 };
	static const unsigned expected[] = { 1, 6, 5, 0, 7, 2, 3, 4 };
	unsigned got[ARRAY_SIZE(cpu)];
	struct topology *t = NULL;

	(void)state;
	assert_int_equal(topology_create(xml, &t), 0);
	topology_order(t, 8, cpu, ARRAY_SIZE(cpu), got);
	for (unsigned i = 0; i < ARRAY_SIZE(got); i++)
		assert_int_equal(got[i], expected[i]);
	topology_destroy(t);
}

static void this_machine_can_be_read(void **state)
{
	struct topology *t = NULL;

	(void)state;
	assert_int_equal(topology_create(NULL, &t), 0);
	assert_int_equal(topology_distance(t, 0, 0), TOPOLOGY_SAME_CPU);
	topology_destroy(t);
	topology_destroy(NULL);
	t = NULL;
	assert_true(topology_create("/nonexistent.xml", &t) < 0);
	assert_null(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(distances_follow_shared_parts),
		cmocka_unit_test(the_nearest_come_first),
		cmocka_unit_test(this_machine_can_be_read),
	};
	int r;

	invent_machine();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(xml);
	return r;
}
