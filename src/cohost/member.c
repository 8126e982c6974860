/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that was found becomes a member: it may run on the co-scheduled CPUs only, and is scheduled there. Before it goes,
 * both are taken back.
 */
#include "cohost/cohost_internal.h"

#include "cosched/place.h"
#include "cosched/taken.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct cohost_member *member_find(struct cohost *h, const struct member *m)
{
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (h->member[i].used && h->member[i].member.tid == m->tid && h->member[i].member.start == m->start)
			return &h->member[i];
	return NULL;
}

static struct cohost_member *member_free(struct cohost *h)
{
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (!h->member[i].used)
			return &h->member[i];
	return NULL;
}

/* --- what people are told --- */

static unsigned account_members(const struct cohost *h, unsigned account)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		n += h->vm[i].name[0] && h->vm[i].account == account ? h->vm[i].n : 0;
	return n;
}

/* A group of which one always waits can still be asked for, but never all run. */
static void look_for_crowd(struct cohost *h, unsigned account)
{
	struct cohost_account *a = &h->account[account];
	unsigned n = account_members(h, account);
	bool crowded = a->is_group && n > h->n_cpus;

	if (crowded && !a->crowded)
		cohost_tell(h, "cosched.crowded", a->name, "%u members on %zu CPUs: they cannot all run at the same time", n, h->n_cpus);
	a->crowded = crowded;
}

static const char *refusal(int err)
{
	switch (err) {
	case -EEXIST:
		return "another VM has this thread";
	case -ENOSPC:
		return "there are too many members";
	case -ESRCH:
		return "it has gone";
	case -EINVAL:
		return "its cgroup allows it none of the co-scheduled CPUs: allow them (cpuset.cpus, AllowedCPUs=)";
	case -EPERM:
		return "not permitted: fairlead-cosched needs root, or CAP_SYS_NICE";
	default:
		return strerror(-err);
	}
}

static void tell_came(struct cohost *h, const struct cohost_vm *vm, const struct member *m)
{
	const struct cohost_account *a = &h->account[vm->account];
	char what[32] = "thread";

	if (m->vcpu >= 0)
		snprintf(what, sizeof(what), "vCPU %d", m->vcpu);
	if (vm->is_worker)
		strcpy(what, "I/O worker");
	cohost_tell(h, "cosched.joined", vm->name, "%s, thread %d of process %d%s%s%s", what, (int)m->tid, (int)m->pid,
		    a->is_group ? ", in group " : "", a->is_group ? a->name : "",
		    h->sched ? "" : " (not scheduled: nothing is loaded)");
}

/* --- what the next run gives back, should this one be killed --- */

static void tell_unkept(struct cohost *h, int err)
{
	if (err < 0)
		cohost_tell(h, "cosched.placement", "",
			    "%s cannot be written (%s), so after a kill threads could not be given back: make room for it",
			    h->keep_taken, strerror(-err));
}

static struct taken taken_of(const struct cohost_member *m)
{
	return (struct taken){ m->member.pid, m->member.tid, m->member.start, m->narrowed, m->before };
}

static void keep_one(struct cohost *h, const struct cohost_member *m)
{
	struct taken t = taken_of(m);

	if (h->keep_taken)
		tell_unkept(h, taken_add(h->keep_taken, h->cpus, h->n_cpus, &t));
}

static void keep_rest(struct cohost *h)
{
	struct taken t[CO_MEMBERS_MAX];
	size_t n = 0;

	if (!h->sched || !h->keep_taken)
		return;
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (h->member[i].used)
			t[n++] = taken_of(&h->member[i]);
	tell_unkept(h, taken_write(h->keep_taken, h->cpus, h->n_cpus, t, n));
}

/* --- in and out --- */

static int schedule(struct cohost *h, struct cohost_member *slot)
{
	/* Without a word on CPUs, where a thread may run is for others to say. */
	bool narrow = h->policy->cosched.cpus.n > 0;
	int err = 0;

	cohost_place_member(h, &slot->member);
	if (narrow && sched_getaffinity(slot->member.tid, sizeof(slot->before), &slot->before) < 0)
		return -errno;
	slot->narrowed = narrow;
	keep_one(h, slot);
	if (narrow)
		err = place_narrow(slot->member.tid, h->cpus, h->n_cpus);
	if (err == 0)
		err = cosched_member_add(h->sched, slot->member.tid, slot->vm, &slot->slot);
	if (err == 0)
		return 0;
	if (narrow)
		place_restore(slot->member.tid, h->cpus, h->n_cpus, &slot->before);
	keep_rest(h);
	return err;
}

void cohost_member_take(struct cohost *h, unsigned vm, const struct member *m)
{
	struct cohost_member *slot = member_find(h, m) ? NULL : member_free(h);
	int err = slot ? 0 : member_find(h, m) ? -EEXIST : -ENOSPC;

	if (slot) {
		*slot = (struct cohost_member){ .member = *m, .vm = vm, .slot = CO_NONE };
		err = h->sched ? schedule(h, slot) : 0;
	}
	if (err < 0) {
		if (err != -ESRCH)
			cohost_tell(h, "cosched.refused", h->vm[vm].name, "thread %d: %s", (int)m->tid, refusal(err));
		return;
	}
	slot->used = true;
	cohost_trace_came(h, slot);
	h->n_members++;
	h->vm[vm].n++;
	tell_came(h, &h->vm[vm], m);
	look_for_crowd(h, h->vm[vm].account);
}

static bool is_the_same_thread(const struct cohost *h, const struct member *m)
{
	return members_is_alive(h->members, m);
}

static void give(struct cohost *h, struct cohost_member *slot)
{
	if (slot->slot != CO_NONE) {
		cosched_member_remove(h->sched, slot->slot);
		cohost_trace_went(h, slot);
	}
	if (slot->narrowed && is_the_same_thread(h, &slot->member))
		place_restore(slot->member.tid, h->cpus, h->n_cpus, &slot->before);
	slot->used = false;
	h->n_members--;
	h->vm[slot->vm].n--;
}

void cohost_member_give(struct cohost *h, unsigned vm, const struct member *m)
{
	struct cohost_member *slot = member_find(h, m);

	if (!slot || slot->vm != vm)
		return;
	give(h, slot);
	keep_rest(h);
	cohost_tell(h, "cosched.left", h->vm[vm].name, "thread %d of process %d", (int)m->tid, (int)m->pid);
	look_for_crowd(h, h->vm[vm].account);
}

void cohost_members_give_all(struct cohost *h, unsigned vm)
{
	bool any = false;

	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++) {
		if (!h->member[i].used || h->member[i].vm != vm)
			continue;
		give(h, &h->member[i]);
		any = true;
	}
	if (any)
		keep_rest(h);
}

void cohost_members_take_again(struct cohost *h)
{
	struct members_seen seen;

	for (unsigned vm = 0; vm < CO_VMS_MAX; vm++) {
		if (!h->vm[vm].name[0] || h->vm[vm].is_worker)
			continue;
		members_see(h->members, vm, &seen);
		for (unsigned i = 0; i < seen.n; i++)
			cohost_member_take(h, vm, &seen.member[i]);
	}
}

static void came(void *arg, unsigned vm, const struct member *m)
{
	cohost_member_take(arg, vm, m);
}

static void left(void *arg, unsigned vm, const struct member *m)
{
	cohost_member_give(arg, vm, m);
}

const struct members_ops cohost_members_ops = { came, left };

/* --- workers --- */

void cohost_worker_is(struct cohost *h, const char *group, const struct member *worker)
{
	char name[COHOST_NAME_MAX];
	struct cohost_member *now = NULL;

	snprintf(name, sizeof(name), "%.*s/worker", POLICY_NAME_MAX - 1, group);
	for (unsigned vm = 0; vm < CO_VMS_MAX; vm++) {
		if (strcmp(h->vm[vm].name, name) != 0)
			continue;
		for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
			if (h->member[i].used && h->member[i].vm == vm)
				now = &h->member[i];
		if (now && worker && now->member.tid == worker->tid && now->member.start == worker->start)
			return;
		if (now)
			cohost_member_give(h, vm, &now->member);
		if (worker)
			cohost_member_take(h, vm, worker);
		return;
	}
}
