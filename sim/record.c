/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes traces of simulated runs. Called by the CLI and by tests.
 */
#include "sim/record.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

static int fill_tables(const struct sim_spec *spec, const struct sim_recording *r, struct trace *t)
{
	uint32_t n = 0;

	t->vm = calloc(spec->n_vms, sizeof(*t->vm));
	t->member = calloc(CO_MEMBERS_MAX, sizeof(*t->member));
	if (!t->vm || !t->member)
		return -ENOMEM;
	for (unsigned i = 0; i < spec->n_vms; i++) {
		const struct sim_vm_spec *vm = &spec->vm[i];

		snprintf(t->vm[i].name, sizeof(t->vm[i].name), "%s", vm->name.text);
		if (vm->group != CO_NONE)
			snprintf(t->vm[i].group, sizeof(t->vm[i].group), "%s", spec->group[vm->group].name.text);
		t->vm[i].account = sim_account_of(spec, i);
		t->vm[i].weight = (__u32)vm->weight;
		t->vm[i].cap_ns = vm->cap_percent * spec->period_ns / 100;
		for (uint64_t j = 0; j < vm->vcpus; j++, n++)
			t->member[n] = (struct co_trace_member){ .vm = i, .tid = n + 1, .home = r->home[n] };
	}
	t->header = (struct co_trace_header){ .magic = CO_TRACE_MAGIC, .version = CO_TRACE_VERSION, .params = r->params,
					      .n_cpus = (__u32)spec->cpus, .n_members = n, .n_vms = (__u32)spec->n_vms };
	return 0;
}

int sim_record(const struct sim_spec *spec, enum sim_algorithm algorithm, uint64_t seed, uint64_t from_ns, uint64_t to_ns,
	       struct trace *ret)
{
	struct sim_recording r = { .from_ns = from_ns, .to_ns = to_ns };
	struct sim_result *result = calloc(1, sizeof(*result));
	struct trace t = { 0 };
	int e = result ? sim_run(spec, algorithm, seed, &r, result) : -ENOMEM;

	free(result);
	t.event = r.event;
	t.n_events = r.n;
	if (e == 0)
		e = fill_tables(spec, &r, &t);
	if (e < 0) {
		trace_free(&t);
		return e;
	}
	*ret = t;
	return 0;
}
