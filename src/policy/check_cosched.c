/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is wrong with co-scheduling: groups that cannot run together, caps that the CPUs do not have, threads that would be
 * found twice. How many vCPUs a VM has is only known when it runs; it has one at least.
 */
#include "policy/loader.h"

#include <inttypes.h>
#include <string.h>

#define CPU_PERCENT 100u

static void check_cpus(struct loader *l)
{
	const struct policy *p = l->policy;
	const struct policy_cpus *cpus = &p->cosched.cpus, *workers = &p->daemon.workers;
	struct policy_at at = loader_at(l, p->cosched.at, "cosched/cpus");

	if (p->cosched.mode == POLICY_COSCHED_PARTIAL && cpus->n == 0)
		loader_error(l, p->cosched.at, "cosched: mode partial needs cpus: those that are left to VMs");
	for (size_t i = 0; i < cpus->n; i++)
		for (size_t j = 0; j < workers->n; j++)
			if (cpus->cpu[i] == workers->cpu[j])
				loader_warning(l, at,
					       "CPU %u is a worker's; a polling worker leaves little of it to VMs",
					       cpus->cpu[i]);
}

/* --- groups --- */

static void check_group_size(struct loader *l, const struct policy_cogroup *g, struct policy_at at)
{
	size_t cpus = l->policy->cosched.cpus.n;

	if (cpus && g->n_vms > cpus)
		loader_error(l, at, "co-group '%s' has %zu VMs, but cosched.cpus has %zu CPUs: they could never all run together; %s",
			     g->name, g->n_vms, cpus, "take VMs out, or give it more CPUs");
	else if (cpus && g->n_vms + g->workers > cpus)
		loader_warning(l, at, "co-group '%s' has %zu VMs and a worker, but cosched.cpus has %zu CPUs: one of them always waits",
			       g->name, g->n_vms, cpus);
}

/* Within one group the reader has looked. */
static void check_membership(struct loader *l, size_t index, struct policy_at at)
{
	const struct policy_cogroup *g = &l->policy->cogroups[index];

	for (size_t k = 0; k < g->n_vms; k++) {
		int in = policy_cogroup_of(l->policy, g->vm_names[k]);

		if (in < (int)index)
			loader_error(l, at, "VM '%s' is in co-group '%s' already", g->vm_names[k],
				     l->policy->cogroups[in].name);
	}
}

static bool has_disks(const struct policy *p, const struct policy_cogroup *g)
{
	for (size_t i = 0; i < g->n_vms; i++) {
		int vm = policy_vm_find(p, g->vm_names[i]);

		if (vm >= 0 && p->vms[vm].n_disks)
			return true;
	}
	return false;
}

static void check_group(struct loader *l, size_t index)
{
	const struct policy_cogroup *g = &l->policy->cogroups[index];
	struct policy_at at = loader_at(l, g->at, "cogroups/%s/vms", g->name);

	if (g->n_vms == 0)
		loader_error(l, at, "co-group '%s' needs vms", g->name);
	if (g->workers && g->n_vms && !has_disks(l->policy, g))
		loader_warning(l, loader_at(l, g->at, "cogroups/%s/workers", g->name),
			       "no VM of co-group '%s' has a disk, so its worker has nothing to do", g->name);
	check_group_size(l, g, at);
	check_membership(l, index, at);
}

/* --- VMs --- */

static void check_cap(struct loader *l, const struct policy_vm *vm)
{
	size_t cpus = l->policy->cosched.cpus.n;

	if (cpus && vm->cpu.cap_percent > cpus * CPU_PERCENT)
		loader_error(l, loader_at(l, vm->at, "vms/%s/cpu/cap", vm->name),
			     "cap: %" PRIu64 " is above what the %zu CPUs of cosched.cpus have, %zu (percent of one CPU); lower it",
			     vm->cpu.cap_percent, cpus, cpus * CPU_PERCENT);
}

/* The keys that tell which threads are a VM's. */
static const struct {
	const char *key;
	size_t offset;
	bool path;
} ways[] = {
	{ "qmp", offsetof(struct policy_cpu, qmp), true },
	{ "process", offsetof(struct policy_cpu, process), false },
	{ "cgroup", offsetof(struct policy_cpu, cgroup), true },
};

static const char *way_of(const struct policy_vm *vm, size_t way)
{
	return *(char *const *)(const void *)((const char *)&vm->cpu + ways[way].offset);
}

static struct policy_at way_at(struct loader *l, const struct policy_vm *vm, size_t way)
{
	return loader_at(l, vm->at, "vms/%s/cpu/%s", vm->name, ways[way].key);
}

/* Found by its own name, as no key tells otherwise. */
static bool is_found_by_name(const struct policy_vm *vm)
{
	return !vm->cpu.qmp && !vm->cpu.process && !vm->cpu.cgroup;
}

/* `process` finds a guest of that name, too. */
static void check_process(struct loader *l, size_t index, size_t way)
{
	const struct policy *p = l->policy;
	const char *name = p->vms[index].cpu.process;
	int other = name ? policy_vm_find(p, name) : -1;

	if (other >= 0 && (size_t)other != index && is_found_by_name(&p->vms[other]))
		loader_error(l, way_at(l, &p->vms[index], way), "process '%s' is VM '%s' already, which is found by its name", name,
			     name);
}

/* A thread has one VM: who finds the same as an earlier one is told. */
static void check_way_unique(struct loader *l, size_t index, size_t way)
{
	const struct policy *p = l->policy;
	const struct policy_vm *vm = &p->vms[index];

	for (size_t i = 0; i < index; i++)
		if (way_of(&p->vms[i], way) && strcmp(way_of(&p->vms[i], way), way_of(vm, way)) == 0)
			loader_error(l, way_at(l, vm, way), "%s '%s' is VM '%s' already", ways[way].key, way_of(vm, way),
				     p->vms[i].name);
}

static void check_ways(struct loader *l, size_t index)
{
	const struct policy_vm *vm = &l->policy->vms[index];
	const char *first = NULL;

	for (size_t way = 0; way < ARRAY_SIZE(ways); way++) {
		const char *value = way_of(vm, way);

		if (!value)
			continue;
		if (first)
			loader_error(l, way_at(l, vm, way), "VM '%s' is found by %s already; give one of qmp, process and cgroup",
				     vm->name, first);
		else if (ways[way].path && value[0] != '/')
			loader_error(l, way_at(l, vm, way), "%s: '%s' is not an absolute path", ways[way].key, value);
		else
			check_way_unique(l, index, way);
		if (value == vm->cpu.process)
			check_process(l, index, way);
		first = first ? first : ways[way].key;
	}
}

void loader_check_cosched(struct loader *l)
{
	const struct policy *p = l->policy;

	for (size_t i = 0; i < p->n_cogroups; i++)
		check_group(l, i);
	for (size_t i = 0; i < p->n_vms; i++) {
		check_cap(l, &p->vms[i]);
		check_ways(l, i);
	}
	check_cpus(l);
}
