/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Co-scheduling as it runs, brought in line with a policy: the scheduler in the kernel, the VMs and groups in it, their
 * threads. One thread, that of fairlead-cosched; its sd-event loop.
 *
 * Names are the policy's; numbers ("slots") are what the scheduler knows. A VM or group keeps its slot as long as it is in the
 * policy. A co-group's own I/O worker is a VM of its own, "GROUP/worker", in the group's account: it is charged to the group.
 */
#pragma once

#include "cosched/members.h"
#include "cosched/scheduler.h"
#include "cosched/slices.h"
#include "ledger/cpu.h"
#include "cohost/span.h"
#include "policy/policy.h"

#include <sched.h>
#include <systemd/sd-event.h>

#define COHOST_NAME_MAX (POLICY_NAME_MAX + 8)
#define COHOST_PERIOD_NS (30 * UINT64_C(1000000)) /* Xen's */
#define COHOST_INTERVAL_NS UINT64_C(1000000000)

struct cohost_vm {
	char name[COHOST_NAME_MAX]; /* "": the slot is free */
	bool wanted, is_worker;
	unsigned account;
	unsigned weight, cap_percent; /* as in the policy */
	unsigned n;		      /* members that are scheduled */
	struct cohost_span span;
};

struct cohost_account {
	char name[COHOST_NAME_MAX];
	bool wanted, is_group;
	bool crowded; /* more members than CPUs: has been told */
	struct cohost_span span;
};

struct cohost_member {
	bool used;
	struct member member;
	unsigned vm;
	unsigned slot;	  /* of the scheduler; CO_NONE in a rehearsal */
	cpu_set_t before; /* where it might run when it came */
	bool narrowed;
};

struct cohost_error {
	int err;
	char text[COSCHED_WHY_MAX + 64];
};

struct cohost_options {
	bool rehearse; /* find, and tell what would be scheduled; load nothing, change nothing */
	const char *proc, *cgroups; /* roots; NULL: the machine's */
	const char *systemd;	    /* its address, see slices.h; NULL: the machine's; "": there is none */
};

/* What others use of the co-scheduled CPUs, over the last ten seconds. */
struct cohost_foreign {
	uint64_t time_ns, busy_ns, members_ns; /* as of the last look; 0: none yet */
	double percent;
	bool told;
};

struct cohost_events {
	/* For logs and for the control socket's subscribers. `name`: of a VM or group. */
	void (*told)(void *arg, const char *event, const char *name, const char *detail);
	/* The kernel has ended the scheduler. */
	void (*ended)(void *arg, const char *why);
	void *arg;
};

/* A stretch of events that somebody records. */
struct cohost_trace {
	struct co_event *event;
	size_t n;
	uint64_t lost;
	struct co_trace_member member[CO_MEMBERS_MAX]; /* by slot: all that were there meanwhile */
	bool has_credit;
};

struct cohost {
	sd_event *event;
	struct cohost_options options;
	struct cohost_events events;
	struct policy *policy; /* that runs */
	struct cosched *sched; /* NULL: mode off, or a rehearsal */
	unsigned *cpus;	       /* where members may run */
	size_t n_cpus;
	struct members *members;
	sd_event_source *on_members, *on_sched, *on_look, *on_second;
	/* Beside fairleadd's control socket as it was at first; see cosched/keep.h. NULL until then, and in a rehearsal. */
	char *keep_taken, *keep_slices, *keep_lock;
	int claim;		    /* on keep_lock; -1: none */
	struct slices *slices;	    /* others that are kept off; NULL: nobody is */
	struct cohost_foreign foreign;
	struct ledger_cpu_book *book; /* what accounts used and were entitled to; NULL: nothing is loaded */
	struct cohost_trace *trace; /* NULL: nobody records */
	unsigned n_members;
	struct cohost_vm vm[CO_VMS_MAX];
	struct cohost_account account[CO_ACCOUNTS_MAX];
	struct cohost_member member[CO_MEMBERS_MAX];
};

int cohost_create(sd_event *event, const struct cohost_options *options, const struct cohost_events *events, struct cohost **ret);
/* Gives all threads back. NULL is allowed. */
void cohost_destroy(struct cohost *h);

/* Takes `policy` in any case: it runs, or nothing has changed and *error says why. 0 or -errno. */
int cohost_apply(struct cohost *h, struct policy *policy, struct cohost_error *error);

/* Records from now on. -ENOTCONN: nothing is loaded; -EBUSY: somebody does; -ENOMEM. */
int cohost_trace_start(struct cohost *h);
/* Ends it and hands over what there is; the caller frees it. NULL: nobody recorded. */
struct cohost_trace *cohost_trace_stop(struct cohost *h);
void cohost_trace_free(struct cohost_trace *t);

/* The path of that name beside another file, fairleadd's control socket. New; NULL without memory. */
char *cohost_beside(const char *other, const char *name);

/* The thread of a group's worker, as fairleadd tells; NULL: it has none (any more). */
void cohost_worker_is(struct cohost *h, const char *group, const struct member *worker);
