/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the scheduler tells of its decisions while somebody traces: fixed records through a BPF ring buffer, in files one
 * after another behind a header. `fairlead cosched trace` draws them, `fairlead sim cosched --replay` takes from them when
 * members came, woke up and how long they ran until they slept, and compares the decisions.
 */
#pragma once

#include "cosched/core.h"

#define CO_TRACE_MAGIC 0x45434152544f4346ull /* "FCOTRACE" */
#define CO_TRACE_VERSION 3u
#define CO_TRACE_OLDEST 2u /* readable still: without what accounts are due and VMs' parts */

enum co_event_kind {
	CO_EVENT_ADD,	  /* a member came, its home is `cpu`; value: its purse (its account's when pooled), signed */
	CO_EVENT_GONE,	  /* a member left */
	CO_EVENT_WAKE,	  /* became runnable on `cpu` */
	CO_EVENT_RUN,	  /* began to run on `cpu`; value: how long it had waited, ns; flags */
	CO_EVENT_STOP,	  /* stopped, still runnable; value: how long it ran, ns */
	CO_EVENT_SLEEP,	  /* stopped and sleeps; value: how long it ran, ns */
	CO_EVENT_ASK,	  /* `cpu` asked CPU `value` to run the group of `member` */
	CO_EVENT_REFUSED, /* a request on `cpu` was refused: debt or cap */
	CO_EVENT_SETTLED, /* value: settlements so far */
	CO_EVENT_IDLE,	  /* `cpu` has nothing to run */
	CO_EVENT_KEPT,	  /* a schedule step of `cpu` let it run on; flags */
	/* After the first settlement, of each member. */
	CO_EVENT_PURSE,	  /* value: as of CO_EVENT_ADD */
	CO_EVENT_DUE,	  /* value: what its account is due in a period, smoothed; flags: its VM's `awake`, 0: not told */
	CO_EVENT_PART,	  /* value: its VM's part of its account's purse, signed */
};

/* Of CO_EVENT_RUN and CO_EVENT_KEPT. */
#define CO_RUN_REQUESTED 1u
#define CO_RUN_STOLEN 2u
#define CO_RUN_OVER 4u
#define CO_RUN_BOOSTED 8u

struct co_event {
	__u64 time_ns;
	__u64 value;
	__u32 member; /* its slot; CO_NONE where there is none */
	__u16 cpu;
	__u8 kind, flags;
};

struct co_trace_header {
	__u64 magic;
	__u32 version, n_cpus, n_members, n_vms;
	struct co_params params;
	/* Then: struct co_trace_vm for each VM, struct co_trace_member for each member, events to the end of the file. */
};
struct co_trace_vm {
	char name[64];
	__u32 account, weight;
	__u64 cap_ns;
	char group[64]; /* empty: none */
};
struct co_trace_member {
	__u32 vm, tid;
	__u32 home, is_worker;
};

/* What the members of a VM have run since they were charged. */
CO_INLINE __u64 co_event_uncharged_ns(struct co_world *w, __u32 vm, __u64 now_ns)
{
	__u64 ran = 0;
	__u32 i;

	CO_FOR(i, co_n_members(w)) {
		struct co_member *m = co_member_of(w, i);

		if (CO_READ(m->where) == CO_RUNNING && CO_READ(m->vm) == vm)
			ran += now_ns - CO_READ(m->running_since_ns);
	}
	return ran;
}

/* What is left of its VM's part, if all that run had been charged until now. */
CO_INLINE __s64 co_event_part_ns(struct co_world *w, __u32 member, __u64 now_ns)
{
	__u32 vm = co_member_of(w, member)->vm;

	return CO_READ(co_vm_of(w, vm)->part_ns) - (__s64)co_event_uncharged_ns(w, vm, now_ns);
}

CO_INLINE __u64 co_event_due_ns(struct co_world *w, __u32 member)
{
	return CO_READ(co_account_of(w, co_vm_of(w, co_member_of(w, member)->vm)->account)->due_ns);
}

/* What a member has in its purse, if all that run had been charged until now. */
CO_INLINE __s64 co_event_purse_ns(struct co_world *w, __u32 member, __u64 now_ns)
{
	struct co_member *m = co_member_of(w, member);
	struct co_purse *purse = co_purse_of(w, m, co_vm_of(w, m->vm)->account);
	__s64 credit = CO_READ(purse->credit_ns);
	__u32 i;

	CO_FOR(i, co_n_members(w)) {
		struct co_member *other = co_member_of(w, i);

		if (CO_READ(other->where) == CO_RUNNING && co_purse_of(w, other, other->account) == purse)
			credit -= (__s64)(now_ns - CO_READ(other->running_since_ns));
	}
	return credit;
}

/* What CO_EVENT_ADD, PURSE, DUE and PART of a member tell: `e` has the kind, the member and the time already. */
CO_INLINE void co_event_tell(struct co_world *w, struct co_event *e)
{
	if (e->kind == CO_EVENT_DUE) {
		e->value = co_event_due_ns(w, e->member);
		e->flags = (__u8)CO_READ(co_vm_of(w, co_member_of(w, e->member)->vm)->awake);
	} else if (e->kind == CO_EVENT_PART) {
		e->value = (__u64)co_event_part_ns(w, e->member, e->time_ns);
	} else {
		e->value = (__u64)co_event_purse_ns(w, e->member, e->time_ns);
	}
}
