/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy's words for co-scheduling: what they become, and what is refused, where.
 */
#include "policy/policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Loads one text; its messages, one a line, new. */
static char *load(const char *text, struct policy **ret)
{
	struct policy_source s = { .name = (char *)(uintptr_t)"p.yaml", .text = (char *)(uintptr_t)text };
	struct policy_diagnostics diag = { 0 };
	char *all = NULL;
	size_t size;
	FILE *out = open_memstream(&all, &size);

	*ret = NULL;
	(void)policy_load_sources(&s, 1, ret, &diag);
	for (size_t i = 0; i < diag.n; i++) {
		char *line = policy_diagnostic_text(&diag.d[i]);

		fprintf(out, "%s%s", i ? "\n" : "", line);
		free(line);
	}
	fclose(out);
	policy_diagnostics_fini(&diag);
	return all;
}

static struct policy *load_good(const char *text)
{
	struct policy *p;
	char *found = load(text, &p);

	assert_string_equal(found, "");
	assert_non_null(p);
	free(found);
	return p;
}

static void words_and_defaults(void **state)
{
	struct policy *p = load_good("cosched: { mode: all, algorithm: credit+boost, debt_limit: 5ms }\n"
				     "vms:\n  a: { cpu: { weight: 2, cap: 150, qmp: /run/a.qmp } }\n"
				     "  b: { cpu: { process: bee } }\n  c: { cpu: { cgroup: /machine.slice/c } }\n  d:\n"
				     "cogroups: { g: { vms: [c, a] } }\n");

	(void)state;
	assert_int_equal(p->cosched.mode, POLICY_COSCHED_ALL);
	assert_int_equal(p->cosched.algorithm, POLICY_COSCHED_CREDIT_BOOST);
	assert_int_equal(p->cosched.slice_ns, 30000000);
	assert_int_equal(p->cosched.debt_limit_ns, 5000000);
	assert_int_equal(p->vms[0].cpu.weight, 2);
	assert_int_equal(p->vms[0].cpu.cap_percent, 150);
	assert_string_equal(p->vms[0].cpu.qmp, "/run/a.qmp");
	assert_string_equal(p->vms[1].cpu.process, "bee");
	assert_string_equal(p->vms[2].cpu.cgroup, "/machine.slice/c");
	assert_int_equal(p->vms[3].cpu.weight, 256);
	assert_null(p->vms[3].cpu.qmp);
	assert_int_equal(policy_cogroup_of(p, "a"), 0);
	assert_int_equal(policy_cogroup_of(p, "d"), -1);
	policy_free(p);
}

#define CPUS "cosched: { mode: partial, cpus: [2, 3] }\n"

static const struct {
	const char *text, *message;
} bad[] = {
	{ "cosched: { mode: partial }\n", "p.yaml:1:1: error: cosched: mode partial needs cpus: those that are left to VMs" },
	{ "cosched: { algorithm: boost }\n",
	  "p.yaml:1:23: error: algorithm: 'boost' is not pooled, co-credit, credit or credit+boost" },
	{ "cosched: { mode: all, slice: 1us }\n", "p.yaml:1:30: error: slice: '1us' is too small; at least 100us" },
	{ "vms:\n  a: { cpu: { weight: 0 } }\n", "p.yaml:2:23: error: weight: '0' is too small; at least 1" },
	{ CPUS "vms:\n  a: { cpu: { cap: 201 } }\n",
	  "p.yaml:3:20: error: cap: 201 is above what the 2 CPUs of cosched.cpus have, 200 (percent of one CPU); lower it" },
	{ "vms:\n  a: { cpu: { qmp: a.sock } }\n", "p.yaml:2:20: error: qmp: 'a.sock' is not an absolute path" },
	{ "vms:\n  a: { cpu: { qmp: /a, process: b } }\n",
	  "p.yaml:2:33: error: VM 'a' is found by qmp already; give one of qmp, process and cgroup" },
	{ "vms:\n  a: { cpu: { process: x } }\n  b: { cpu: { process: x } }\n",
	  "p.yaml:3:24: error: process 'x' is VM 'a' already" },
	{ "vms:\n  a: { cpu: { process: b } }\n  b: {}\n",
	  "p.yaml:2:24: error: process 'b' is VM 'b' already, which is found by its name" },
	{ "vms: { a: {} }\ncogroups:\n  g: { vms: [a, b] }\n", "p.yaml:3:8: error: unknown VM 'b'; did you mean 'a'?" },
	{ "vms: { a: {} }\ncogroups:\n  g: { vms: [a, a] }\n", "p.yaml:3:17: error: vms: 'a' is listed twice" },
	{ "vms: { a: {} }\ncogroups:\n  g: { vms: [a] }\n  h: { vms: [a] }\n",
	  "p.yaml:4:8: error: VM 'a' is in co-group 'g' already" },
	{ "cogroups:\n  g: {}\n", "p.yaml:2:3: error: co-group 'g' needs vms" },
	{ CPUS "vms: { a: {}, b: {}, c: {} }\ncogroups:\n  g: { vms: [a, b, c] }\n",
	  "p.yaml:4:8: error: co-group 'g' has 3 VMs, but cosched.cpus has 2 CPUs: they could never all run together; "
	  "take VMs out, or give it more CPUs" },
	{ "vms: { a: {} }\ncogroups:\n  g: { vms: [a], workers: true }\n",
	  "p.yaml:3:27: warning: no VM of co-group 'g' has a disk, so its worker has nothing to do" },
};

static void mistakes_are_found_where_they_are(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct policy *p;
		char *found = load(bad[i].text, &p);

		assert_string_equal(found, bad[i].message);
		policy_free(p);
		free(found);
	}
}

static const struct policy_change *change_of(const struct policy_changes *c, enum policy_object object)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->c[i].object == object)
			return &c->c[i];
	return NULL;
}

static void differences_are_told(void **state)
{
	struct policy *a = load_good("cosched: { mode: all }\nvms: { a: {}, b: {} }\ncogroups: { g: { vms: [a] } }\n");
	struct policy *b = load_good("cosched: { mode: all, algorithm: credit, slice: 10ms }\n"
				     "vms: { a: { cpu: { weight: 3, process: x } }, b: {} }\ncogroups: { g: { vms: [a, b] } }\n");
	struct policy_changes c;

	(void)state;
	assert_int_equal(policy_diff(a, b, &c), 0);
	assert_int_equal(c.n, 3);
	assert_true(policy_change_has(change_of(&c, POLICY_OBJECT_COSCHED), "algorithm"));
	assert_true(policy_change_has(change_of(&c, POLICY_OBJECT_COSCHED), "slice"));
	assert_true(policy_change_has(change_of(&c, POLICY_OBJECT_VM), "cpu.weight"));
	assert_true(policy_change_has(change_of(&c, POLICY_OBJECT_VM), "cpu.process"));
	assert_true(policy_change_has(change_of(&c, POLICY_OBJECT_COGROUP), "vms"));
	policy_changes_fini(&c);
	policy_free(a);
	policy_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_and_defaults),
		cmocka_unit_test(mistakes_are_found_where_they_are),
		cmocka_unit_test(differences_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
