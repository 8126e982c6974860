/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keys of a simulation's file as tables, and what must hold between them. Called once for a file.
 */
#include "sim/yaml.h"

#include "policy/suggest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

const char *const sim_algorithm_words[] = { "credit", "credit+boost", "co-credit", "pooled",
					    "pooled-mute", "fair", NULL };
static const char *const runs_words[] = { "serve", "poll", "hog", "idle", "sleeper", "locker", NULL };
static const char *const off_words[] = { "off", "on", NULL };
static const char *const spread_words[] = { "fixed", "uniform", "exponential", NULL };

#define QUANTITY(k, type, member, unit, init, low, high)                                                     \
	{ .key = k, .kind = YAML_QUANTITY, .offset = offsetof(type, member), .units = unit, .initial = init, \
	  .least = low, .most = high }
#define COUNT(k, type, member, init, low, high) QUANTITY(k, type, member, UNITS_COUNT, init, low, high)
#define TIME(k, type, member, init, low, high) QUANTITY(k, type, member, UNITS_DURATION, init, low, high)
#define LIST(k, what, type, member, n, max, element)                                                               \
	{ .key = k, .kind = what, .offset = offsetof(type, member), .count_offset = offsetof(type, n), .count_most = max, \
	  .object = element }

static const struct yaml_field vm_fields[] = {
	{ .key = "runs", .kind = YAML_WORD, .offset = offsetof(struct sim_vm_spec, runs), .words = runs_words },
	COUNT("copies", struct sim_vm_spec, copies, 1, 1, SIM_VMS_MAX),
	COUNT("vcpus", struct sim_vm_spec, vcpus, 1, 1, CO_GROUP_MEMBERS_MAX),
	COUNT("weight", struct sim_vm_spec, weight, 256, 1, 65535),
	COUNT("cap", struct sim_vm_spec, cap_percent, 0, 0, 100 * CO_CPUS_MAX),
	COUNT("batch", struct sim_vm_spec, batch, 1, 1, SIM_BATCH_MAX),
	TIME("on", struct sim_vm_spec, on_ns, 5 * MS, 1000, 60 * SECOND),
	TIME("off", struct sim_vm_spec, off_ns, 5 * MS, 1000, 60 * SECOND),
	TIME("work", struct sim_vm_spec, work_ns, MS, 1000, 60 * SECOND),
	TIME("hold", struct sim_vm_spec, hold_ns, MS / 10, 1000, 60 * SECOND),
	{ NULL },
};
static const struct yaml_object vm_object = { "a VM", sizeof(struct sim_vm_spec), vm_fields };

static const struct yaml_field group_fields[] = {
	LIST("vms", YAML_NAMES, struct sim_group_spec, vm, n_vms, SIM_VMS_MAX, NULL),
	{ NULL },
};
static const struct yaml_object group_object = { "a group", sizeof(struct sim_group_spec), group_fields };

static const struct yaml_field stage_fields[] = {
	{ .key = "vm", .kind = YAML_NAME, .offset = offsetof(struct sim_stage_spec, vm) },
	TIME("cost", struct sim_stage_spec, cost_ns, 0, 100, 60 * SECOND),
	TIME("delay", struct sim_stage_spec, delay_ns, 0, 0, 60 * SECOND),
	{ NULL },
};
static const struct yaml_object stage_object = { "a stage", sizeof(struct sim_stage_spec), stage_fields };

static const struct yaml_field chain_fields[] = {
	COUNT("clients", struct sim_chain_spec, clients, 1, 1, SIM_CLIENTS_MAX),
	TIME("think", struct sim_chain_spec, think_ns, 0, 0, 60 * SECOND),
	{ .key = "spread", .kind = YAML_WORD, .offset = offsetof(struct sim_chain_spec, spread),
	  .initial = SIM_SPREAD_UNIFORM, .words = spread_words },
	LIST("path", YAML_LIST, struct sim_chain_spec, stage, n_stages, SIM_STAGES_MAX, &stage_object),
	{ NULL },
};
static const struct yaml_object chain_object = { "a chain", sizeof(struct sim_chain_spec), chain_fields };

static const struct yaml_field spec_fields[] = {
	COUNT("cpus", struct sim_spec, cpus, 4, 1, CO_CPUS_MAX),
	TIME("duration", struct sim_spec, duration_ns, 60 * SECOND, MS, SIM_DURATION_MAX_NS),
	TIME("warmup", struct sim_spec, warmup_ns, 3 * SECOND, 0, 86400 * SECOND),
	COUNT("seeds", struct sim_spec, seeds, 8, 1, SIM_SEEDS_MAX),
	COUNT("first_seed", struct sim_spec, first_seed, 1, 0, UINT32_MAX),
	{ .key = "algorithms", .kind = YAML_WORDS, .offset = offsetof(struct sim_spec, algorithm),
	  .words = sim_algorithm_words, .count_offset = offsetof(struct sim_spec, n_algorithms), .count_most = SIM_ALGORITHMS },
	TIME("period", struct sim_spec, period_ns, 30 * MS, MS, SECOND),
	TIME("slice", struct sim_spec, slice_ns, 30 * MS, MS / 10, SECOND),
	TIME("floor", struct sim_spec, floor_ns, 30 * MS, 0, CO_PERIOD_MAX_NS),
	TIME("debt_limit", struct sim_spec, debt_limit_ns, 30 * MS, 0, 64 * CO_PERIOD_MAX_NS),
	TIME("credit_limit", struct sim_spec, credit_limit_ns, 120 * MS, 0, 64 * CO_PERIOD_MAX_NS),
	TIME("boost", struct sim_spec, boost_ns, 10 * MS, 0, SECOND),
	{ .key = "ask_on_wake", .kind = YAML_WORD, .offset = offsetof(struct sim_spec, ask_on_wake), .words = off_words },
	TIME("switch_cost", struct sim_spec, switch_ns, 2000, 0, 10 * MS),
	TIME("kick_cost", struct sim_spec, kick_ns, 2000, 0, 10 * MS),
	TIME("kick_delay", struct sim_spec, kick_delay_ns, 1000, 0, 10 * MS),
	LIST("vms", YAML_BY_NAME, struct sim_spec, vm, n_vms, SIM_VMS_MAX, &vm_object),
	LIST("groups", YAML_BY_NAME, struct sim_spec, group, n_groups, SIM_GROUPS_MAX, &group_object),
	LIST("chains", YAML_BY_NAME, struct sim_spec, chain, n_chains, SIM_CHAINS_MAX, &chain_object),
	{ NULL },
};
static const struct yaml_object spec_object = { "a simulation", sizeof(struct sim_spec), spec_fields };

/* --- what must hold between objects --- */

/* The VM of that name, or the first of its copies; CO_NONE: told. */
static unsigned find_vm(struct yaml *y, const struct sim_spec *s, const struct sim_name *name)
{
	struct suggest near;

	suggest_init(&near, name->text);
	for (unsigned i = 0; i < s->n_vms; i++) {
		if (strcmp(s->vm[i].name.text, name->text) == 0)
			return i;
		suggest_offer(&near, s->vm[i].name.text);
	}
	if (suggest_best(&near))
		yaml_error(y, name->at, "there is no VM '%s'; did you mean '%s'?", name->text, suggest_best(&near));
	else
		yaml_error(y, name->at, "there is no VM '%s'", name->text);
	return CO_NONE;
}

static void check_group(struct yaml *y, struct sim_spec *s, unsigned g)
{
	struct sim_group_spec *group = &s->group[g];
	uint64_t members = 0;

	if (group->n_vms == 0)
		yaml_error(y, group->name.at, "group '%s' has no vms", group->name.text);
	for (size_t i = 0; i < group->n_vms; i++) {
		unsigned vm = find_vm(y, s, &group->vm[i]);

		if (vm == CO_NONE)
			continue;
		if (s->vm[vm].group != CO_NONE)
			yaml_error(y, group->vm[i].at, "VM '%s' is in group '%s' already", group->vm[i].text,
				   s->group[s->vm[vm].group].name.text);
		s->vm[vm].group = g;
		members += s->vm[vm].vcpus * s->vm[vm].copies;
	}
	if (members > s->cpus)
		yaml_error(y, group->name.at, "group '%s' has %llu vCPUs, more than the %llu CPUs: they can never run together",
			   group->name.text, (unsigned long long)members, (unsigned long long)s->cpus);
}

static void check_stage(struct yaml *y, struct sim_spec *s, struct sim_chain_spec *chain, struct sim_stage_spec *stage)
{
	if (!stage->vm.text[0] || !stage->cost_ns) {
		yaml_error(y, stage->vm.at.line ? stage->vm.at : chain->name.at, "a stage of chain '%s' needs %s",
			   chain->name.text, stage->vm.text[0] ? "a cost" : "a vm");
		return;
	}
	stage->index = find_vm(y, s, &stage->vm);
	if (stage->index == CO_NONE)
		return;
	if (s->vm[stage->index].runs > SIM_RUNS_POLL)
		yaml_error(y, stage->vm.at, "VM '%s' runs '%s' and serves no chain", stage->vm.text,
			   runs_words[s->vm[stage->index].runs]);
	if (s->vm[stage->index].copies > 1)
		yaml_error(y, stage->vm.at, "VM '%s' has copies: which of them is meant?", stage->vm.text);
}

/* The number in NAME-number, if that is the name of a copy of `vm`; 0: it is not. */
static unsigned long copy_number(const struct sim_vm_spec *vm, const char *name)
{
	size_t n = strlen(vm->name.text);
	unsigned long number;
	char *end;

	if (vm->copies == 1 || strncmp(name, vm->name.text, n) != 0 || name[n] != '-' || name[n + 1] < '1' || name[n + 1] > '9')
		return 0;
	number = strtoul(name + n + 1, &end, 10);
	return *end == '\0' && number <= vm->copies ? number : 0;
}

/* Results are told by name: of VMs, and of accounts, which are groups and VMs that are in none. */
static void check_names(struct yaml *y, const struct sim_spec *s)
{
	for (unsigned i = 0; i < s->n_vms; i++) {
		for (unsigned k = 0; k < s->n_vms; k++)
			if (copy_number(&s->vm[k], s->vm[i].name.text))
				yaml_error(y, s->vm[i].name.at, "'%s' is the name of a copy of '%s', too", s->vm[i].name.text,
					   s->vm[k].name.text);
		for (unsigned g = 0; g < s->n_groups && s->vm[i].group == CO_NONE; g++)
			if (strcmp(s->group[g].name.text, s->vm[i].name.text) == 0 || copy_number(&s->vm[i], s->group[g].name.text))
				yaml_error(y, s->group[g].name.at, "group '%s' has the name of a VM that is in no group",
					   s->group[g].name.text);
	}
}

static bool serves(const struct sim_spec *s, unsigned vm)
{
	for (size_t i = 0; i < s->n_chains; i++)
		for (size_t j = 0; j < s->chain[i].n_stages; j++)
			if (s->chain[i].stage[j].index == vm)
				return true;
	return false;
}

static void check_vm(struct yaml *y, const struct sim_spec *s, unsigned i)
{
	const struct sim_vm_spec *vm = &s->vm[i];

	if (vm->runs == SIM_RUNS_SERVE && !serves(s, i))
		yaml_error(y, vm->name.at, "VM '%s' serves no chain: give it `runs: hog`, idle, sleeper or locker", vm->name.text);
	if (vm->cap_percent > 100 * s->cpus)
		yaml_error(y, vm->name.at, "VM '%s': cap %" PRIu64 " is more than the machine's %" PRIu64, vm->name.text,
			   vm->cap_percent, 100 * s->cpus);
}

static void check(struct yaml *y, struct sim_spec *s)
{
	uint64_t vms = 0, vcpus = 0, clients = 0;

	for (unsigned i = 0; i < s->n_vms; i++) {
		s->vm[i].group = CO_NONE;
		vms += s->vm[i].copies;
		vcpus += s->vm[i].copies * s->vm[i].vcpus;
	}
	if (!vms)
		yaml_error(y, (struct sim_at){ 1, 1 }, "there are no vms");
	if (vms > SIM_VMS_MAX || vcpus > CO_MEMBERS_MAX)
		yaml_error(y, s->vm[0].name.at, "more than %u VMs or %u vCPUs", SIM_VMS_MAX, CO_MEMBERS_MAX);
	for (unsigned i = 0; i < s->n_groups; i++)
		check_group(y, s, i);
	check_names(y, s);
	for (size_t i = 0; i < s->n_chains; i++) {
		clients += s->chain[i].clients;
		if (s->chain[i].n_stages == 0)
			yaml_error(y, s->chain[i].name.at, "chain '%s' has no path", s->chain[i].name.text);
		for (size_t j = 0; j < s->chain[i].n_stages; j++)
			check_stage(y, s, &s->chain[i], &s->chain[i].stage[j]);
	}
	if (clients > SIM_CLIENTS_MAX)
		yaml_error(y, s->chain[0].name.at, "more than %u clients in all", SIM_CLIENTS_MAX);
	for (unsigned i = 0; i < s->n_vms; i++)
		check_vm(y, s, i);
}

/* --- after the checks --- */

/* NAME with copies becomes NAME-1, NAME-2, ... behind all others, so that indices of stages stay what they are. */
static void unfold_copies(struct sim_spec *s)
{
	size_t written = s->n_vms;

	for (size_t i = 0; i < written; i++) {
		struct sim_vm_spec *vm = &s->vm[i];
		char base[SIM_NAME_MAX];

		if (vm->copies == 1)
			continue;
		memcpy(base, vm->name.text, sizeof(base));
		vm->copy = 1;
		for (unsigned copy = 1; copy <= vm->copies; copy++) {
			struct sim_vm_spec *to = copy == 1 ? vm : &s->vm[s->n_vms++];

			*to = *vm;
			to->copy = copy;
			snprintf(to->name.text, sizeof(to->name.text), "%.*s-%u", SIM_NAME_MAX - 8, base, copy);
		}
	}
}

int sim_spec_read(const char *file, const char *text, size_t length, struct sim_spec *ret, FILE *errors)
{
	struct yaml y = { .file = file, .text = text, .length = length, .errors = errors };
	int r = yaml_read(&y, &spec_object, ret);

	if (r < 0)
		return r;
	if (!y.n_errors)
		check(&y, ret);
	if (y.n_errors)
		return -EINVAL;
	unfold_copies(ret);
	if (!ret->n_algorithms)
		for (unsigned i = SIM_CREDIT; i <= SIM_POOLED; i++)
			ret->algorithm[ret->n_algorithms++] = i;
	return 0;
}

int sim_spec_algorithms(struct sim_spec *spec, const char *list)
{
	unsigned chosen[SIM_ALGORITHMS];
	size_t n = 0;

	for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',') {
		size_t length = strcspn(p, ","), i = 0;

		while (sim_algorithm_words[i] && (strlen(sim_algorithm_words[i]) != length ||
						  strncmp(sim_algorithm_words[i], p, length) != 0))
			i++;
		if (!sim_algorithm_words[i])
			return -EINVAL;
		for (size_t k = 0; k < n; k++)
			if (chosen[k] == i)
				return -EINVAL;
		chosen[n++] = (unsigned)i;
	}
	if (!n)
		return -EINVAL;
	memcpy(spec->algorithm, chosen, sizeof(chosen));
	spec->n_algorithms = n;
	return 0;
}
