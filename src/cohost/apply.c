/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From one policy to the next. What the kernel may refuse (another mode or other CPUs need another scheduler) comes first; the
 * rest is numbers that have been checked, changed while everything runs.
 */
#include "cohost/cohost_internal.h"

#include "base/clock.h"
#include "cosched/place.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CPU_PERCENT 100u

static int fail(struct cohost_error *e, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(struct cohost_error *e, int err, const char *format, ...)
{
	va_list ap;

	e->err = err;
	va_start(ap, format);
	vsnprintf(e->text, sizeof(e->text), format, ap);
	va_end(ap);
	return err;
}

/* --- what the policy says, as the scheduler's numbers --- */

static struct co_params params_of(const struct policy_cosched *c)
{
	static const enum co_mode mode[] = {
		[POLICY_COSCHED_POOLED] = CO_MODE_POOLED,
		[POLICY_COSCHED_CO_CREDIT] = CO_MODE_CO_CREDIT,
		[POLICY_COSCHED_CREDIT] = CO_MODE_CREDIT,
		[POLICY_COSCHED_CREDIT_BOOST] = CO_MODE_CREDIT_BOOST,
	};

	return (struct co_params){
		.mode = mode[c->algorithm],
		.period_ns = COHOST_PERIOD_NS,
		.slice_ns = c->slice_ns,
		.floor_ns = COHOST_PERIOD_NS,
		.debt_limit_ns = c->debt_limit_ns,
		/* A second's worth: who leaves the CPU for longer has no claim on what others made of it. */
		.credit_limit_ns = max_u64(NSEC_PER_SEC, c->slice_ns),
		.boost_ns = 10 * NSEC_PER_MSEC,
	};
}

/*
 * A worker is charged to its group and must not add to what the group is due. Pooled, the group's weight is the sum of its
 * VMs', so the worker's is made as good as none: weights are multiplied by this, a worker's is 1. Within the group it may have as
 * much as all others together (cosched_vm_serves()): it works for them. In the other modes every VM lives on its own weight, as the
 * paper's driver domain did, and a worker has the mean of its group's.
 */
static unsigned weight_factor(const struct policy *p)
{
	uint64_t most = 1;

	if (p->cosched.algorithm != POLICY_COSCHED_POOLED)
		return 1;
	for (size_t i = 0; i < p->n_vms; i++)
		most = max_u64(most, p->vms[i].cpu.weight);
	return (unsigned)(CO_WEIGHT_MAX / most);
}

/* Of the group's VMs together, times `factor`. */
static unsigned group_weight(const struct policy *p, const struct policy_cogroup *g, unsigned factor)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < g->n_vms; i++)
		sum += (uint64_t)p->vms[policy_vm_find(p, g->vm_names[i])].cpu.weight * factor;
	return (unsigned)min_u64(sum, CO_WEIGHT_MAX);
}

static unsigned worker_weight(const struct policy *p, const struct policy_cogroup *g)
{
	if (p->cosched.algorithm == POLICY_COSCHED_POOLED || !g->n_vms)
		return 1;
	return group_weight(p, g, 1) / (unsigned)g->n_vms;
}

static int cpus_of(const struct policy_cosched *c, unsigned **ret, size_t *ret_n, struct cohost_error *e)
{
	int err;

	if (!c->cpus.n) {
		err = place_online(ret, ret_n);
		return err < 0 ? fail(e, err, "the CPUs that are online: %s", strerror(-err)) : 0;
	}
	*ret = malloc(c->cpus.n * sizeof(**ret));
	if (!*ret)
		return fail(e, -ENOMEM, "no memory");
	memcpy(*ret, c->cpus.cpu, c->cpus.n * sizeof(**ret));
	*ret_n = c->cpus.n;
	return 0;
}

/* --- slots --- */

static int vm_slot(struct cohost *h, const char *name)
{
	int free_slot = -1;

	for (int i = 0; i < (int)CO_VMS_MAX; i++) {
		if (strcmp(h->vm[i].name, name) == 0)
			return i;
		if (!h->vm[i].name[0] && free_slot < 0)
			free_slot = i;
	}
	return free_slot;
}

/* A VM without a group has an account of its own name; a group may have the same name. */
static int account_slot(struct cohost *h, const char *name, bool is_group)
{
	int free_slot = -1;

	for (int i = 0; i < (int)CO_ACCOUNTS_MAX; i++) {
		if (h->account[i].is_group == is_group && strcmp(h->account[i].name, name) == 0)
			return i;
		if (!h->account[i].name[0] && free_slot < 0)
			free_slot = i;
	}
	return free_slot;
}

/* New and kept ones are wanted from now on; the scheduler is told. */
static int want_account(struct cohost *h, const char *name, bool is_group)
{
	int i = account_slot(h, name, is_group);
	struct cohost_account *a = &h->account[i];

	if (!a->name[0]) {
		*a = (struct cohost_account){ .is_group = is_group };
		snprintf(a->name, sizeof(a->name), "%s", name);
	}
	a->wanted = true;
	if (h->sched && cosched_account_set(h->sched, (unsigned)i, true, is_group) < 0)
		cohost_tell(h, "cosched.refused", name, "its account is in use by others: systemctl restart fairlead-cosched");
	return i;
}

static int want_vm(struct cohost *h, const char *name, unsigned account, unsigned weight, unsigned factor, unsigned cap_percent)
{
	int i = vm_slot(h, name), err = 0;
	struct cohost_vm *vm = &h->vm[i];

	if (!vm->name[0]) {
		*vm = (struct cohost_vm){ .weight = 0 };
		snprintf(vm->name, sizeof(vm->name), "%s", name);
	}
	vm->wanted = true;
	vm->account = account;
	vm->weight = weight;
	vm->cap_percent = cap_percent;
	if (h->sched)
		err = cosched_vm_set(h->sched, (unsigned)i, account, weight * factor, cap_percent * COHOST_PERIOD_NS / CPU_PERCENT);
	if (err < 0)
		cohost_tell(h, "cosched.refused", name, "its weight, cap and group stay as they were: %s",
			    err == -ENOSPC ? "the group would have more than 64 members, make it smaller" : strerror(-err));
	return i;
}

static void want_threads(struct cohost *h, unsigned slot, const struct policy_vm *vm)
{
	const struct policy_cpu *c = &vm->cpu;
	enum members_way way = c->qmp	  ? MEMBERS_BY_QMP :
			       c->process ? MEMBERS_BY_PROCESS :
			       c->cgroup  ? MEMBERS_BY_CGROUP :
					    MEMBERS_BY_GUEST;
	const char *value = c->qmp ? c->qmp : c->process ? c->process : c->cgroup ? c->cgroup : vm->name;

	if (members_want(h->members, slot, way, value) < 0)
		cohost_tell(h, "cosched.refused", vm->name, "no memory");
}

static void want_all(struct cohost *h, const struct policy *p)
{
	unsigned factor = weight_factor(p);

	for (size_t g = 0; g < p->n_cogroups; g++) {
		const struct policy_cogroup *group = &p->cogroups[g];
		int account = want_account(h, group->name, true), vm;
		char name[COHOST_NAME_MAX];

		if (!group->workers)
			continue;
		snprintf(name, sizeof(name), "%s/worker", group->name);
		vm = want_vm(h, name, (unsigned)account, worker_weight(p, group), 1, 0);
		h->vm[vm].is_worker = true;
		if (h->sched)
			cosched_vm_serves(h->sched, (unsigned)vm, group_weight(p, group, factor));
	}
	for (size_t v = 0; v < p->n_vms; v++) {
		const struct policy_vm *vm = &p->vms[v];
		int g = policy_cogroup_of(p, vm->name);
		int account = want_account(h, g < 0 ? vm->name : p->cogroups[g].name, g >= 0);
		int slot = want_vm(h, vm->name, (unsigned)account, (unsigned)vm->cpu.weight, factor, (unsigned)vm->cpu.cap_percent);

		want_threads(h, (unsigned)slot, vm);
	}
}

static void drop_unwanted(struct cohost *h)
{
	for (unsigned i = 0; i < CO_VMS_MAX; i++) {
		struct cohost_vm *vm = &h->vm[i];

		if (!vm->name[0] || vm->wanted)
			continue;
		(void)members_want(h->members, i, MEMBERS_BY_GUEST, NULL);
		cohost_members_give_all(h, i);
		if (h->sched)
			(void)cosched_vm_set(h->sched, i, vm->account, 0, 0);
		vm->name[0] = '\0';
	}
	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++) {
		struct cohost_account *a = &h->account[i];

		if (!a->name[0] || a->wanted)
			continue;
		if (h->sched)
			(void)cosched_account_set(h->sched, i, false, a->is_group);
		a->name[0] = '\0';
	}
}

/* --- before anything changes --- */

static int check_room(const struct policy *p, struct cohost_error *e)
{
	size_t vms = p->n_vms, accounts = p->n_cogroups;

	for (size_t i = 0; i < p->n_cogroups; i++)
		vms += p->cogroups[i].workers;
	for (size_t i = 0; i < p->n_vms; i++)
		accounts += policy_cogroup_of(p, p->vms[i].name) < 0;
	/* While a policy is replaced the old one's and the new one's names are there together. */
	if (vms > CO_VMS_MAX / 2 || accounts > CO_ACCOUNTS_MAX / 2)
		return fail(e, -EINVAL, "at most %u VMs and groups can be co-scheduled", CO_VMS_MAX / 2);
	return 0;
}

static int check_caps(const struct policy *p, size_t n_cpus, struct cohost_error *e)
{
	for (size_t i = 0; i < p->n_vms; i++)
		if (p->vms[i].cpu.cap_percent > n_cpus * CPU_PERCENT)
			return fail(e, -EINVAL, "VM %s: cap %u is above what %zu CPUs have, %zu (percent of one CPU); lower it",
				    p->vms[i].name, (unsigned)p->vms[i].cpu.cap_percent, n_cpus, n_cpus * CPU_PERCENT);
	for (size_t i = 0; i < p->n_cogroups; i++)
		if (p->cogroups[i].n_vms > n_cpus)
			return fail(e, -EINVAL, "co-group %s has %zu VMs, but there are %zu CPUs: they could never all run together; %s",
				    p->cogroups[i].name, p->cogroups[i].n_vms, n_cpus, "take VMs out");
	return 0;
}

/* --- the scheduler --- */

static bool needs_loading(const struct cohost *h, const struct policy *p, const unsigned *cpus, size_t n)
{
	if (!h->sched)
		return true;
	return h->policy->cosched.mode != p->cosched.mode || h->n_cpus != n || memcmp(h->cpus, cpus, n * sizeof(*cpus)) != 0;
}

static struct cosched_config config_of(const struct policy_cosched *c, const unsigned *cpus, size_t n)
{
	return (struct cosched_config){
		.placement = c->mode == POLICY_COSCHED_ALL ? COSCHED_ALL : COSCHED_PARTIAL,
		.params = params_of(c),
		.cpus = cpus,
		.n_cpus = n,
	};
}

static int load(struct cohost *h, const struct policy_cosched *c, const unsigned *cpus, size_t n, struct cohost_error *e)
{
	struct cosched_config config = config_of(c, cpus, n);
	char why[COSCHED_WHY_MAX] = "";
	int err = cosched_load(&config, &h->sched, why);

	if (err >= 0)
		err = cohost_watch(h);
	if (err < 0)
		cohost_unload(h);
	return err < 0 ? fail(e, err, "%s", why[0] ? why : strerror(-err)) : 0;
}

/* What goes with a scheduler that has been loaded. */
static void surround(struct cohost *h)
{
	int err = cohost_ledger_begin(h);

	if (err < 0)
		cohost_tell(h, "cosched.placement", "", "CPU time is not kept in the ledger: %s", strerror(-err));
	if (h->policy->cosched.mode == POLICY_COSCHED_PARTIAL)
		cohost_place_begin(h);
}

/* Before the old one goes, with all credit: what would be in the new one's way is looked for. */
static int check_loading(const struct policy_cosched *c, const unsigned *cpus, size_t n, struct cohost_error *e)
{
	struct cosched_config config = config_of(c, cpus, n);
	char why[COSCHED_WHY_MAX] = "";
	int err = c->mode == POLICY_COSCHED_OFF ? 0 : cosched_check(&config, why);

	return err < 0 ? fail(e, err, "%s", why) : 0;
}

/*
 * The kernel has one at a time, so the old one goes first; if the kernel refuses the new one all the same, the old one comes back.
 */
static int reload(struct cohost *h, const struct policy *p, const unsigned *cpus, size_t n, struct cohost_error *e)
{
	struct cohost_error again;
	bool had = h->sched != NULL;
	int err = had ? check_loading(&p->cosched, cpus, n, e) : 0;

	if (err < 0)
		return err;
	cohost_unload(h);
	if (p->cosched.mode == POLICY_COSCHED_OFF)
		return 0;
	err = load(h, &p->cosched, cpus, n, e);
	if (err < 0 && had && load(h, &h->policy->cosched, h->cpus, h->n_cpus, &again) == 0) {
		surround(h);
		want_all(h, h->policy);
	} else if (err < 0 && had) {
		cohost_tell(h, "cosched.refused", "", "the former scheduler cannot be loaded again, so nothing is: %s; %s", again.text,
			    "systemctl restart fairlead-cosched");
	}
	if (err < 0)
		cohost_members_take_again(h);
	return err;
}

static int bring_up(struct cohost *h, const struct policy *p, const unsigned *cpus, size_t n, struct cohost_error *e)
{
	struct co_params params = params_of(&p->cosched);
	int err;

	if (h->options.rehearse || (p->cosched.mode == POLICY_COSCHED_OFF && !h->sched))
		return 0;
	if (needs_loading(h, p, cpus, n))
		return reload(h, p, cpus, n, e);
	err = cosched_params_set(h->sched, &params);
	return err < 0 ? fail(e, err, "algorithm and slice: %s", strerror(-err)) : 0;
}

/* The first policy says where what is taken is written down. */
static int claim(struct cohost *h, const struct policy *p, struct cohost_error *e)
{
	int err = h->policy || h->options.rehearse ? 0 : cohost_keep_begin(h, p->daemon.control);

	if (err == -EBUSY)
		return fail(e, err, "another fairlead-cosched runs, and has %s: end that one first", h->keep_lock);
	return err < 0 ? fail(e, err, "%s", strerror(-err)) : 0;
}

int cohost_apply(struct cohost *h, struct policy *policy, struct cohost_error *e)
{
	unsigned *cpus = NULL;
	size_t n = 0;
	bool fresh;
	int err = claim(h, policy, e);

	if (err >= 0)
		err = cpus_of(&policy->cosched, &cpus, &n, e);
	if (err >= 0)
		err = check_room(policy, e);
	if (err >= 0)
		err = check_caps(policy, n, e);
	fresh = err >= 0 && !h->options.rehearse && needs_loading(h, policy, cpus, n);
	if (err >= 0)
		err = bring_up(h, policy, cpus, n, e);
	if (err < 0) {
		free(cpus);
		policy_free(policy);
		return err;
	}
	free(h->cpus);
	h->cpus = cpus;
	h->n_cpus = n;
	policy_free(h->policy);
	h->policy = policy;
	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		h->vm[i].wanted = false;
	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++)
		h->account[i].wanted = false;
	if (fresh && h->sched)
		surround(h);
	if (policy->cosched.mode != POLICY_COSCHED_OFF)
		want_all(h, policy);
	drop_unwanted(h);
	if (fresh && h->sched)
		cohost_members_take_again(h);
	members_look_again(h->members);
	return 0;
}
