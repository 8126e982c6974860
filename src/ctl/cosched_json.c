/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Co-scheduling as JSON; the shape is in doc/rpc.md. The kernel goes on while its numbers are read: each is whole, the set is
 * not of one instant.
 */
#include "ctl/cosched.h"

#include <string.h>

static const unsigned spans[] = { 1, 10, 60 };

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* CPU time in percent of one CPU; ready time in percent of the time that so many threads had. */
static json_t *span_json(const struct cohost_totals *t, unsigned threads, bool entitled, bool group)
{
	json_t *o = json_pack("{s:f, s:f}", "cpu_percent", percent(t->ran_ns, t->time_ns), "ready_percent",
			      percent(t->waited_ns, t->time_ns * (threads ? threads : 1)));

	if (entitled)
		json_object_set_new(o, "entitled_percent", json_real(percent(t->entitled_ns, t->time_ns)));
	if (group)
		json_object_set_new(o, "co_run_percent", json_real(percent(t->co_ran_ns, t->time_ns)));
	return o;
}

static json_t *spans_json(const struct cohost_span *s, unsigned threads, bool entitled, bool group)
{
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		struct cohost_totals t = cohost_span_over(s, spans[i]);
		char name[8];

		snprintf(name, sizeof(name), "%us", spans[i]);
		json_object_set_new(o, name, span_json(&t, threads, entitled, group));
	}
	return o;
}

/* Ever, to the end of the last period: what was given out then and what was used then are told together. */
static json_t *vm_totals_json(const struct co_vm *v)
{
	return json_pack("{s:I, s:I}", "ran_ns", (json_int_t)load_relaxed(&v->total_ran_ns), "waited_ns",
			 (json_int_t)load_relaxed(&v->total_waited_ns));
}

static json_t *account_totals_json(const struct co_account *a)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "ran_ns", (json_int_t)load_relaxed(&a->total_ran_ns), "waited_ns",
			 (json_int_t)load_relaxed(&a->total_waited_ns), "entitled_ns",
			 (json_int_t)load_relaxed(&a->total_entitled_ns), "co_ran_ns",
			 (json_int_t)load_relaxed(&a->co_ran_ns));
}

/* --- members --- */

static const char *where_name(const struct co_member *m)
{
	static const char *const name[] = { [CO_ASLEEP] = "asleep", [CO_QUEUED] = "waiting", [CO_RUNNING] = "running" };
	unsigned where = load_relaxed(&m->where);

	return where <= CO_RUNNING ? name[where] : "?";
}

static json_t *member_json(const struct cohost *h, const struct cohost_member *m)
{
	const struct co_world *w = h->sched ? cosched_world(h->sched) : NULL;
	json_t *o = json_pack("{s:i, s:i, s:i, s:b}", "tid", (int)m->member.tid, "pid", (int)m->member.pid, "vcpu",
			      m->member.vcpu, "scheduled", m->slot != CO_NONE);

	if (w && m->slot < CO_MEMBERS_MAX) {
		const struct co_member *k = &w->member[m->slot];

		json_object_set_new(o, "slot", json_integer((json_int_t)m->slot));
		json_object_set_new(o, "state", json_string(where_name(k)));
		json_object_set_new(o, "cpu", json_integer(cosched_cpu_number(h->sched, load_relaxed(&k->cpu))));
		json_object_set_new(o, "ran_ns", json_integer((json_int_t)load_relaxed(&k->total_ran_ns)));
		json_object_set_new(o, "waited_ns", json_integer((json_int_t)load_relaxed(&k->total_waited_ns)));
	}
	return o;
}

static json_t *members_json(const struct cohost *h, unsigned vm)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (h->member[i].used && h->member[i].vm == vm)
			json_array_append_new(list, member_json(h, &h->member[i]));
	return list;
}

/* --- credit --- */

/* Of Xen's modes: the sum of the members' purses. */
static int64_t vm_credit_ns(const struct cohost *h, unsigned vm)
{
	const struct co_world *w = cosched_world(h->sched);
	int64_t sum = 0;

	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (h->member[i].used && h->member[i].vm == vm && h->member[i].slot < CO_MEMBERS_MAX)
			sum += load_relaxed(&w->member[h->member[i].slot].purse.credit_ns);
	return sum;
}

static int64_t account_credit_ns(const struct cohost *h, unsigned account)
{
	int64_t sum = 0;

	if (!h->sched)
		return 0;
	if (h->policy->cosched.algorithm == POLICY_COSCHED_POOLED)
		return load_relaxed(&cosched_world(h->sched)->account[account].purse.credit_ns);
	for (unsigned vm = 0; vm < CO_VMS_MAX; vm++)
		if (h->vm[vm].name[0] && h->vm[vm].account == account)
			sum += vm_credit_ns(h, vm);
	return sum;
}

static void add_credit(json_t *o, int64_t credit_ns)
{
	json_object_set_new(o, "credit_ns", json_integer(credit_ns));
	json_object_set_new(o, "debt_ns", json_integer(credit_ns < 0 ? -credit_ns : 0));
}

/* --- VMs, groups, CPUs --- */

static json_t *vm_json(const struct cohost *h, unsigned i)
{
	const struct cohost_vm *vm = &h->vm[i];
	const struct cohost_account *a = &h->account[vm->account];
	bool pooled = h->policy->cosched.algorithm == POLICY_COSCHED_POOLED;
	/* What a VM of a group is due is its group's matter. */
	struct cohost_span span = a->is_group ? vm->span : a->span;
	struct members_seen seen;
	json_t *o;

	members_see(h->members, i, &seen);
	o = json_pack("{s:s, s:s?, s:b, s:i, s:i, s:i, s:s, s:o, s:o}", "name", vm->name, "group", a->is_group ? a->name : NULL,
		      "worker", vm->is_worker, "weight", (int)vm->weight, "cap_percent", (int)vm->cap_percent, "pid",
		      (int)seen.pid, "why", vm->is_worker && !vm->n ? "fairleadd does not tell of one" : seen.why, "members",
		      members_json(h, i), "spans", spans_json(&span, vm->n, !a->is_group, false));
	if (h->sched)
		json_object_set_new(o, "totals", !a->is_group ?
				    account_totals_json(&cosched_world(h->sched)->account[vm->account]) :
				    vm_totals_json(&cosched_world(h->sched)->vm[i]));
	if (h->sched && !(pooled && a->is_group))
		add_credit(o, pooled ? account_credit_ns(h, vm->account) : vm_credit_ns(h, i));
	return o;
}

static json_t *requests_json(const struct co_account *a)
{
	uint64_t honoured = load_relaxed(&a->requests_honoured);

	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "sent", (json_int_t)load_relaxed(&a->requests_sent), "honoured",
			 (json_int_t)honoured, "late", (json_int_t)load_relaxed(&a->requests_void), "refused",
			 (json_int_t)load_relaxed(&a->requests_refused), "mean_wait_ns",
			 (json_int_t)(honoured ? load_relaxed(&a->request_wait_ns) / honoured : 0));
}

static json_t *group_json(const struct cohost *h, unsigned i)
{
	static const struct co_account nothing;
	const struct co_account *k = h->sched ? &cosched_world(h->sched)->account[i] : &nothing;
	const struct cohost_account *a = &h->account[i];
	json_t *vms = json_array(), *o;
	unsigned n = 0, weight = 0;

	for (unsigned v = 0; v < CO_VMS_MAX; v++) {
		const struct cohost_vm *vm = &h->vm[v];

		if (!vm->name[0] || vm->account != i)
			continue;
		json_array_append_new(vms, json_string(vm->name));
		n += vm->n;
		weight += vm->is_worker ? 0 : vm->weight;
	}
	o = json_pack("{s:s, s:o, s:i, s:i, s:o, s:o}", "name", a->name, "vms", vms, "members", (int)n, "weight", (int)weight,
		      "spans", spans_json(&a->span, n, true, true), "requests", requests_json(k));
	json_object_set_new(o, "totals", account_totals_json(k));
	add_credit(o, account_credit_ns(h, i));
	return o;
}

/* Name of the group whose number + 1 the kernel keeps; NULL: none. */
static const char *group_name(const struct cohost *h, uint32_t account_plus_1)
{
	uint32_t i = account_plus_1 - 1;

	return i < CO_ACCOUNTS_MAX && h->account[i].name[0] ? h->account[i].name : NULL;
}

/* What happened on a CPU beside the core's decisions. */
static void add_counters(json_t *o, const struct cosched *s, size_t i)
{
	struct cosched_counters k;

	cosched_counters(s, (unsigned)i, &k);
	json_object_set_new(o, "dispatches", json_integer((json_int_t)k.dispatches));
	json_object_set_new(o, "kicks_idle", json_integer((json_int_t)k.kicks_idle));
	json_object_set_new(o, "kicks_preempt", json_integer((json_int_t)k.kicks_preempt));
	json_object_set_new(o, "kicks_asked", json_integer((json_int_t)k.kicks_asked));
	json_object_set_new(o, "rescued", json_integer((json_int_t)k.rescued));
	json_object_set_new(o, "fair_picks", json_integer((json_int_t)k.fair_picks));
	json_object_set_new(o, "misplaced", json_integer((json_int_t)k.misplaced));
	json_object_set_new(o, "passed_over", json_integer((json_int_t)k.passed_over));
	json_object_set_new(o, "lost_moves", json_integer((json_int_t)k.lost_moves));
	json_object_set_new(o, "moved_off", json_integer((json_int_t)k.moved_off));
}

/* `i`: its position in the policy's list, which is the scheduler's number. */
static json_t *cpu_json(const struct cohost *h, size_t i)
{
	const struct co_cpu *c = &cosched_world(h->sched)->cpu[i];
	json_t *o;

	o = json_pack("{s:i, s:s?, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "cpu", (int)h->cpus[i], "working",
		      group_name(h, load_relaxed(&c->working)), "asked_for", group_name(h, load_relaxed(&c->request)),
		      "requests_sent", (json_int_t)load_relaxed(&c->requests_sent), "requests_honoured",
		      (json_int_t)load_relaxed(&c->requests_honoured), "requests_late",
		      (json_int_t)load_relaxed(&c->requests_void), "requests_refused",
		      (json_int_t)load_relaxed(&c->requests_refused), "steals", (json_int_t)load_relaxed(&c->steals),
		      "picks_boost", (json_int_t)load_relaxed(&c->picks_boost), "picks_part",
		      (json_int_t)load_relaxed(&c->picks_part), "picks_under", (json_int_t)load_relaxed(&c->picks_under),
		      "picks_over", (json_int_t)load_relaxed(&c->picks_over), "picks_deep",
		      (json_int_t)load_relaxed(&c->picks_deep), "idles", (json_int_t)load_relaxed(&c->idles));
	add_counters(o, h->sched, i);
	return o;
}

static json_t *scheduler_json(const struct cohost *h)
{
	const struct co_world *w;

	if (!h->sched)
		return json_null();
	w = cosched_world(h->sched);
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "settlements", (json_int_t)load_relaxed(&w->settlements), "settle_ns",
			 (json_int_t)cosched_settle_ns(h->sched), "bank_ns",
			 (json_int_t)load_relaxed(&w->bank_ns), "forgiven_ns", (json_int_t)load_relaxed(&w->forgiven_ns),
			 "forfeited_ns", (json_int_t)load_relaxed(&w->forfeited_ns));
}

json_t *cosched_status_json(const struct cohost *h, uint64_t uptime_s)
{
	const struct policy_cosched *p = &h->policy->cosched;
	json_t *vms = json_array(), *groups = json_array(), *cpus = json_array(), *per_cpu = json_array();

	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		if (h->vm[i].name[0])
			json_array_append_new(vms, vm_json(h, i));
	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++)
		if (h->account[i].name[0] && h->account[i].is_group)
			json_array_append_new(groups, group_json(h, i));
	for (size_t i = 0; i < h->n_cpus; i++) {
		json_array_append_new(cpus, json_integer(h->cpus[i]));
		if (h->sched)
			json_array_append_new(per_cpu, cpu_json(h, i));
	}
	return json_pack("{s:s, s:I, s:s, s:s, s:b, s:b, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o}", "version", FAIRLEAD_VERSION,
			 "uptime_s", (json_int_t)uptime_s, "mode", policy_cosched_mode_name(p->mode), "algorithm",
			 policy_cosched_algorithm_name(p->algorithm), "loaded", h->sched != NULL, "rehearsal",
			 h->options.rehearse, "slice_ns", (json_int_t)p->slice_ns, "period_ns", (json_int_t)COHOST_PERIOD_NS,
			 "foreign_percent", h->foreign.percent, "cpus", cpus, "scheduler", scheduler_json(h), "vms", vms,
			 "groups", groups, "per_cpu", per_cpu);
}
