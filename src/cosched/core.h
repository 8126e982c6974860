/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy core of co-scheduling: who may run, who is asked to run beside whom, and who pays. One set of pure functions,
 * compiled into the BPF scheduler (sched.bpf.c) and into the simulator (sim/); time comes in as an argument.
 *
 * Theory of operation. A *member* is a thread that is scheduled here: a vCPU or an I/O worker. It pays for its CPU time out
 * of a *purse*. Each period the purses are settled (settle.h): what is due to each *account* (a VM, or a co-group as one)
 * by weighted max-min is added. A member whose purse is not in debt is UNDER, otherwise OVER; UNDER goes first, and within a
 * state it is first come, first served. So far this is Xen's credit scheduler.
 *
 * VMs of a *co-group* wait for each other, so they ought to run at the same time. When a CPU starts to run a member it asks
 * each CPU on which another member of that group is queued to run it now: the asked CPU has a *request pending*, takes it
 * at its next schedule step and runs the member even if it is OVER. A CPU that runs any member is *co-working* and is not
 * asked, nor is one that has been asked already: so requests neither pile up nor chase each other. Nothing waits for
 * anything: it is only asked that they run together (unlike gang scheduling).
 * Source: the co-credit scheduler (Chang and Liu, 2011) for Xen 3.1; `pooled` is this project's.
 *
 * Modes. CREDIT: a purse per member, Xen's floor under debts (what is below it is forgiven), no requests. CREDIT_BOOST: the
 * same, and an UNDER member that wakes up goes first for a while. CO_CREDIT: CREDIT and requests, as in the paper. POOLED:
 * a purse per account, nothing is ever forgiven or forfeited, and a request is refused while the group owes more than its
 * debt limit: running together shifts a group's time, it never adds to it. First come, first served says nothing of how far
 * purses drift apart, so pooled has two more states: BOOST is for accounts that are owed more than half a slice or two
 * periods' due, DEEP for those that owe more than their limit. What a purse holds is divided among the account's VMs, too: each
 * has a *part*, and in state PART a VM that lacks some of it goes before its partners (co_state_part).
 *
 * The files. Here: types, states, what members do, charging. flags.h: who asks whom. settle.h: credits at the end of a period.
 * pick.h: the schedule step over a driver's lists. change.h: VMs, accounts and members come, change and go.
 *
 * On whose thread: charge, pick and the flags on the CPU concerned; settle on one CPU at a time, changes on one thread.
 * Fields that several CPUs write are changed with atomics only and are marked "many writers" below.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#include <stdbool.h>
#endif

/* Powers of two: indices are masked, which the BPF verifier asks for. A test that keeps many worlds makes them small. */
#ifndef CO_CPUS_MAX
#define CO_CPUS_MAX 256u
#define CO_MEMBERS_MAX 1024u
#define CO_ACCOUNTS_MAX 256u
#define CO_VMS_MAX 256u
#define CO_GROUP_MEMBERS_MAX 64u /* a group is no larger than the CPUs it may use */
#endif
#define CO_CPU_WORDS ((CO_CPUS_MAX + 63) / 64)
#define CO_NONE (~0u)

/* With these no product in settle.h exceeds 64 bits: a group's weight is below 2^24, a period's supply below 2^39. */
#define CO_WEIGHT_MAX 65535u
#define CO_PERIOD_MAX_NS 1000000000ull

/*
 * For so many settlements after a VM ran or waited last, its weight counts in its group's: about a second. Who is served at once
 * sleeps in most periods; its group must not be due less for that.
 */
#define CO_AWAKE 32u

#define CO_INLINE static inline __attribute__((always_inline))
/*
 * BPF's verifier looks at these on their own: at its callers' it then sees one number instead of one path for each result. Weak,
 * or clang concludes from the body what that number can be, and leaves out masks that the verifier needs.
 */
#ifdef __bpf__
#define CO_ALONE __attribute__((noinline, weak))
#else
#define CO_ALONE static inline
#endif

/* Every access to what several CPUs share goes through these: a test that tries every order of them has its own. */
#ifndef CO_READ
#define CO_READ(x) (*(const volatile __typeof__(x) *)&(x))
#define CO_WRITE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#define CO_ADD(x, v) __sync_fetch_and_add(&(x), (v))
#define CO_OR(x, v) __sync_fetch_and_or(&(x), (v))
#define CO_AND(x, v) __sync_fetch_and_and(&(x), (v))
#define CO_SWAP(x, v) __sync_lock_test_and_set(&(x), (v))
#define CO_CLAIM(x, from, to) (__sync_val_compare_and_swap(&(x), (from), (to)) == (from))
#endif
/* Loops over states: the verifier forgets which one it was in a loop within, so each is to be code of its own. */
#ifdef __bpf__
#define CO_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CO_UNROLL
#endif
#ifdef __bpf__
#define CO_FOR(i, n) bpf_for(i, 0, n)
#else
#define CO_FOR(i, n) for (i = 0; i < (n); i++)
#endif

enum co_mode { CO_MODE_CREDIT, CO_MODE_CREDIT_BOOST, CO_MODE_CO_CREDIT, CO_MODE_POOLED };

/* In the order in which they are picked. Each CPU has a FIFO list of waiting members for each of them. */
enum co_state {
	CO_STATE_BOOST,	 /* CREDIT_BOOST: woke up UNDER; POOLED: is owed more than half a slice */
	CO_STATE_PART,	 /* POOLED: its VM lacks more than half a slice of its part of what its group is due */
	CO_STATE_UNDER,	 /* not in debt */
	CO_STATE_OVER,	 /* in debt: runs when nobody UNDER waits anywhere, or on request */
	CO_STATE_DEEP,	 /* POOLED: owes more than its debt limit: runs when nobody else waits anywhere */
	CO_STATE_PARKED, /* its VM has used up its cap: does not run before the next period */
	CO_STATES
};

struct co_params {
	__u32 mode, n_cpus;
	__u32 ask_on_wake;   /* a member that wakes up while one of its group runs is asked for at once (not in the paper) */
	__u32 pad;
	__u64 period_ns;     /* between settlements; Xen: 30 ms */
	__u64 slice_ns;	     /* longest uninterrupted run; Xen: 30 ms */
	__u64 floor_ns;	     /* Xen's modes: deepest debt, and highest credit, at a settlement; Xen: one period */
	__u64 debt_limit_ns; /* pooled: requests of a group that owes more are refused; see co_debt_limit_ns() */
	__u64 credit_limit_ns; /* pooled: who could not use more than this has it handed to others, through the bank */
	__u64 boost_ns;	     /* BOOST ends after running this long; Xen: a tick of 10 ms */
};

/* Credit in ns of CPU time. */
struct co_purse {
	__s64 credit_ns; /* many writers */
};

/* What weight and cap belong to: a virtual machine. Totals only grow. */
struct co_vm {
	__u32 account; /* its co-group's, or its own */
	__u32 weight;  /* >= 1; 0: not in use */
	__u64 cap_ns;  /* of CPU time in a period; 0: none */
	__s64 cap_left_ns; /* many writers; with a cap: until it is parked */
	__s64 cap_claim_ns; /* with a cap: how much it may claim at the next settlement */
	__s64 part_ns; /* many writers; pooled: of its account's purse, what it was due itself and has not run. See co_state() */
	__u64 wants_ns; /* of the settlement: what it ran and waited */
	__u32 awake;	/* settlements for which it counts in its group's weight; see CO_AWAKE */
	__u32 pad;
	__u32 n_members;
	__u32 n_active; /* members that ran or waited in the period that was settled last */
	/* This period; many writers, taken by the settlement. */
	__u64 ran_ns, waited_ns;
	/* Ever; one writer (the settlement). */
	__u64 total_ran_ns, total_waited_ns;
};

/* What is settled: a VM of its own, or a co-group. */
struct co_account {
	__u32 used;	  /* 0: free */
	__u32 is_group;	  /* its members ask for each other */
	struct co_purse purse; /* pooled */
	__u64 due_ns;	  /* pooled: what it is due in a period, smoothed over those in which it ran or waited */
	/* How many members; of a group also which, for requests. Written by changes only. */
	__u32 n_members;
	__u32 member[CO_GROUP_MEMBERS_MAX];
	__u32 running;	  /* many writers: its members that run now */
	__u64 co_since_ns; /* since when two or more of them do */
	/* Ever; one writer (the settlement). Entitled: weighted max-min of the time that was used, in every mode. */
	__u64 total_ran_ns, total_waited_ns, total_entitled_ns, total_forfeited_ns;
	__u64 co_ran_ns; /* ever, many writers: time in which two or more ran */
	/* Ever, many writers: requests for its members, as counted by the CPUs. */
	__u64 requests_sent, requests_honoured, requests_refused, requests_void, request_wait_ns;
};

/* What a settlement reckons with: of each account, or of each VM. */
struct co_claim {
	__u64 weight, demand_ns, due_ns;
	__u32 pool; /* what it is paid from */
	__u32 pad;
};
struct co_pool {
	__u64 rest_ns, weights; /* what is left, and of those that are not satisfied yet */
};

#define CO_RAN (~0ull)

enum co_where {
	CO_ASLEEP,
	CO_QUEUED,  /* on `cpu`'s queue */
	CO_RUNNING, /* on `cpu` */
};

struct co_member {
	__u32 vm;	/* CO_NONE: the slot is free */
	__u32 tid;
	__u32 home;	/* the CPU it is queued on when nothing speaks for another */
	__u32 cpu;	/* where it is queued or runs */
	__u32 where;	/* enum co_where */
	__u32 list;	/* enum co_state: on which of the CPU's lists, while it is queued */
	__u32 account;	/* that it runs for, while it runs: its VM may be moved to another meanwhile */
	__u32 boosted;
	struct co_purse purse; /* Xen's modes */
	__u64 queued_at_ns; /* many writers, swapped: whoever gets it counts the wait; 0: nothing to count */
	__u64 started_at_ns, running_since_ns, boosted_ran_ns;
	__u64 displaced_at_ns; /* when it displaced somebody last because of its VM's part */
	__u32 displaces; /* queued: it woke up, or ran for a while before */
	__u64 queued_entitled_ns; /* queued: what its account had been due till then; CO_RAN: it runs */
	__u32 active; /* ran or waited in this period */
	/* Ever. */
	__u64 total_ran_ns, total_waited_ns, total_runs;
};

/*
 * The two bits of a CPU. `working` has one writer, the CPU itself. `request` goes from none to a group by whoever asks
 * (claimed, so that one asker wins) and back by the CPU itself (swapped, so that none is lost). An asker kicks the CPU after
 * its claim; the CPU takes the request after the kick: so a request is always seen by a schedule step that begins later.
 */
struct co_cpu {
	__u32 working;	/* account of the group whose member runs here, + 1; 0: none */
	__u32 request;	/* account of the group that is asked for, + 1; 0: none */
	__u32 state;	/* of whom it runs, when that was chosen; CO_STATES: of nobody. Written by the CPU itself */
	__u64 requested_at_ns; /* by the asker, after its claim: an estimate for statistics */
	__u32 n_listed[CO_STATES]; /* many writers: members on its lists */
	__u32 seen;	/* many writers: the generation for which its lists were sorted last */
	__u32 home_mates, home_others; /* of co_home() alone */
	/* Counters: one writer, the CPU itself. */
	__u64 requests_sent, requests_honoured, requests_refused, requests_void, request_wait_ns;
	__u64 steals, picks_boost, picks_part, picks_under, picks_over, picks_deep, idles; /* picks: by enum co_state */
} __attribute__((aligned(64)));

struct co_world {
	struct co_params params;
	__u32 n_vms, n_accounts, n_members; /* slots ever used: bounds of the loops */
	__s64 bank_ns; /* pooled: credit of accounts that left; handed out at settlements. Sum of purses + bank is constant */
	__u64 settlements, forfeited_ns, forgiven_ns; /* the latter two: see settle.h */
	__u32 generation; /* many writers: grows when states on lists may have become better */
	/* Bit per CPU, many writers: members may wait there in that state. See pick.h. */
	__u64 waits[CO_STATES][CO_CPU_WORDS];
	/* Bit per CPU, set and cleared by it: runs a member in that state, and not on request. */
	__u64 runs[CO_STATES][CO_CPU_WORDS];
	struct co_claim claim[CO_VMS_MAX];
	struct co_pool pool[CO_ACCOUNTS_MAX];
	struct co_vm vm[CO_VMS_MAX];
	struct co_account account[CO_ACCOUNTS_MAX];
	struct co_member member[CO_MEMBERS_MAX];
	struct co_cpu cpu[CO_CPUS_MAX];
};

CO_INLINE struct co_vm *co_vm_of(struct co_world *w, __u32 vm)
{
	return &w->vm[vm & (CO_VMS_MAX - 1)];
}
CO_INLINE struct co_account *co_account_of(struct co_world *w, __u32 account)
{
	return &w->account[account & (CO_ACCOUNTS_MAX - 1)];
}
CO_INLINE struct co_member *co_member_of(struct co_world *w, __u32 member)
{
	return &w->member[member & (CO_MEMBERS_MAX - 1)];
}
CO_INLINE struct co_cpu *co_cpu_of(struct co_world *w, __u32 cpu)
{
	return &w->cpu[cpu & (CO_CPUS_MAX - 1)];
}

/* Slots ever used: how far loops over them go. */
CO_INLINE __u32 co_n_vms(const struct co_world *w)
{
	__u32 n = CO_READ(w->n_vms);

	return n < CO_VMS_MAX ? n : CO_VMS_MAX;
}
CO_INLINE __u32 co_n_accounts(const struct co_world *w)
{
	__u32 n = CO_READ(w->n_accounts);

	return n < CO_ACCOUNTS_MAX ? n : CO_ACCOUNTS_MAX;
}
CO_INLINE __u32 co_n_members(const struct co_world *w)
{
	__u32 n = CO_READ(w->n_members);

	return n < CO_MEMBERS_MAX ? n : CO_MEMBERS_MAX;
}

CO_INLINE void co_cpu_set(__u64 *set, __u32 cpu)
{
	CO_OR(set[(cpu / 64) & (CO_CPU_WORDS - 1)], 1ull << (cpu & 63));
}
CO_INLINE void co_cpu_clear(__u64 *set, __u32 cpu)
{
	CO_AND(set[(cpu / 64) & (CO_CPU_WORDS - 1)], ~(1ull << (cpu & 63)));
}
CO_INLINE bool co_cpu_isset(const __u64 *set, __u32 cpu)
{
	return CO_READ(set[(cpu / 64) & (CO_CPU_WORDS - 1)]) >> (cpu & 63) & 1;
}

/* The lowest bit of a word that is not 0: BPF has no instruction for it. */
CO_ALONE __u32 co_lowest(__u64 bits)
{
	__u32 n = 0;

	if (!(bits & 0xffffffff))
		n += 32;
	if (!(bits >> n & 0xffff))
		n += 16;
	if (!(bits >> n & 0xff))
		n += 8;
	if (!(bits >> n & 0xf))
		n += 4;
	if (!(bits >> n & 3))
		n += 2;
	return n + !(bits >> n & 1);
}

/* The lowest CPU of a set that is `from` or higher, or CO_NONE. */
CO_INLINE __u32 co_cpu_from(const __u64 *set, __u32 from)
{
	__u64 bits, mask = ~0ull << (from & 63);
	__u32 k;

	CO_FOR(k, CO_CPU_WORDS) {
		if (k < from / 64)
			continue;
		bits = CO_READ(set[k & (CO_CPU_WORDS - 1)]) & mask;
		if (bits)
			return k * 64 + co_lowest(bits);
		mask = ~0ull;
	}
	return CO_NONE;
}

/* Whose purse a member pays from, that of `account` when pooled. */
CO_INLINE struct co_purse *co_purse_of(struct co_world *w, struct co_member *m, __u32 account)
{
	return w->params.mode == CO_MODE_POOLED ? &co_account_of(w, account)->purse : &m->purse;
}

CO_INLINE bool co_asks(const struct co_world *w)
{
	return w->params.mode == CO_MODE_CO_CREDIT || w->params.mode == CO_MODE_POOLED;
}

/*
 * How much an account may owe and still be asked for, and what a turn of it may cost: what it is due in eight periods, so
 * that the error stays far below 1 % of a minute whatever its weight, and no more than debt_limit_ns. But a slice at least,
 * or nobody small would ever run, and what it is due in a period, or somebody large would owe too much all the time.
 */
CO_INLINE __s64 co_debt_limit_ns(const struct co_world *w, const struct co_account *a)
{
	__u64 due = CO_READ(a->due_ns), limit = due * 8;

	if (limit > w->params.debt_limit_ns)
		limit = w->params.debt_limit_ns;
	if (limit < due)
		limit = due;
	return limit > w->params.slice_ns ? limit : w->params.slice_ns;
}

/* How much an account may be owed before it goes first. */
CO_INLINE __s64 co_lag_limit_ns(const struct co_world *w, const struct co_account *a)
{
	__u64 limit = CO_READ(a->due_ns) * 2;

	return limit > w->params.slice_ns / 2 ? limit : w->params.slice_ns / 2;
}

/* State by credit alone, of a pooled account. */
CO_INLINE enum co_state co_state_pooled(const struct co_world *w, const struct co_account *a)
{
	__s64 credit = CO_READ(a->purse.credit_ns);

	if (credit >= 0)
		return credit > co_lag_limit_ns(w, a) ? CO_STATE_BOOST : CO_STATE_UNDER;
	return credit > -co_debt_limit_ns(w, a) ? CO_STATE_OVER : CO_STATE_DEEP;
}

/*
 * Pooled: whether `m` has waited while its account was due two turns of each member. Others of the account must have had
 * them, always nearer to a free CPU; now it is its turn, debt or no debt: the account earns twice as much meanwhile.
 */
CO_INLINE bool co_overlooked(const struct co_world *w, const struct co_account *a, const struct co_member *m)
{
	__u64 from = CO_READ(m->queued_entitled_ns), due = CO_READ(a->total_entitled_ns);

	return a->n_members > 1 && from != CO_RAN && (__s64)(due - from) > (__s64)(2 * a->n_members * w->params.slice_ns);
}

/*
 * Pooled, in a group whose purse says `state`: what the part of VM `vm` makes of it. The purse says when it is the group's turn,
 * parts say whose turn it is within: a VM that lacks some of its part goes first, and while the group is in debt one that has
 * had more than its part waits. So a VM that needs less leaves the rest to its partners, and none of them takes what it needs.
 */
CO_INLINE enum co_state co_state_part(const struct co_world *w, const struct co_account *a, const struct co_vm *vm,
				      enum co_state state)
{
	__s64 part = CO_READ(vm->part_ns), lag = co_lag_limit_ns(w, a);

	if (part > lag)
		return state > CO_STATE_PART ? CO_STATE_PART : state;
	if (state <= CO_STATE_UNDER)
		return state;
	if (part > 0)
		return CO_STATE_UNDER;
	return part < -lag ? CO_STATE_DEEP : state;
}

CO_INLINE enum co_state co_state(struct co_world *w, struct co_member *m)
{
	const struct co_vm *vm = co_vm_of(w, m->vm);

	if (vm->cap_ns && CO_READ(vm->cap_left_ns) <= 0)
		return CO_STATE_PARKED;
	if (w->params.mode == CO_MODE_POOLED) {
		const struct co_account *a = co_account_of(w, vm->account);
		enum co_state state = co_state_pooled(w, a);

		if (a->is_group)
			state = co_state_part(w, a, vm, state);
		return state > CO_STATE_UNDER && co_overlooked(w, a, m) ? CO_STATE_UNDER : state;
	}
	if (m->boosted)
		return CO_STATE_BOOST;
	return CO_READ(m->purse.credit_ns) >= 0 ? CO_STATE_UNDER : CO_STATE_OVER;
}

CO_INLINE __u64 co_part_ns(__s64 ns, __u32 among)
{
	if (ns <= 0 || !among)
		return 0;
	return (__u64)ns / among;
}

/*
 * The longest that `m` may run now. What is left of a cap, and of what a pooled account may spend, is divided by those who
 * may spend it at the same time. Who is DEEP runs because nobody else wants to.
 */
CO_INLINE __u64 co_slice_ns(struct co_world *w, struct co_member *m)
{
	const struct co_vm *vm = co_vm_of(w, m->vm);
	struct co_account *a = co_account_of(w, vm->account);
	__u64 slice = w->params.slice_ns, part;
	__s64 room;

	if (w->params.mode == CO_MODE_POOLED) {
		room = CO_READ(a->purse.credit_ns) + co_debt_limit_ns(w, a);
		if (a->is_group && room < CO_READ(vm->part_ns))
			room = CO_READ(vm->part_ns);
		part = co_part_ns(room, a->n_members);
		slice = room > 0 && part < slice ? part : slice;
	}
	if (vm->cap_ns) {
		part = co_part_ns(CO_READ(vm->cap_left_ns), vm->n_members);
		slice = part < slice ? part : slice;
		/* What they run beyond it before they are charged is half a slice in all. */
		part = w->params.slice_ns / (2 * (vm->n_members ? vm->n_members : 1));
		slice = part < slice ? part : slice;
	}
	return slice > w->params.slice_ns / 32 ? slice : w->params.slice_ns / 32;
}

/* --- what a member does --- */

/* Counters of the list it stands on. `by` is 1 or -1. */
CO_INLINE void co_list_count(struct co_world *w, __u32 cpu, __u32 list, __s32 by)
{
	struct co_cpu *c = co_cpu_of(w, cpu);

	if (list >= CO_STATES)
		return;
	CO_ADD(c->n_listed[list], by);
	/* After the counter: who clears the bit looks at the counter then (pick.h). */
	if (by > 0)
		co_cpu_set(w->waits[list], cpu);
}

/* It is being moved from its list to another of the same CPU. */
CO_INLINE void co_relist(struct co_world *w, struct co_member *m, __u32 list)
{
	co_list_count(w, CO_READ(m->cpu), list, 1);
	co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
	CO_WRITE(m->list, list);
}

/*
 * Whether `m` is to be kicked for, in state `list`. Who goes first only because of its VM's part is, but not all the time: a
 * driver that serves what its partner left since it ran last would else run for each single request.
 */
CO_INLINE bool co_may_kick(struct co_world *w, struct co_member *m, __u32 list, __u64 now_ns)
{
	const struct co_account *a = co_account_of(w, co_vm_of(w, m->vm)->account);

	if (w->params.mode != CO_MODE_POOLED || list >= co_state_pooled(w, a))
		return true;
	if (now_ns - m->displaced_at_ns < w->params.slice_ns / 24)
		return false;
	m->displaced_at_ns = now_ns;
	return true;
}

/*
 * It became runnable, or is runnable still and does not run on. `woken`: it slept before. The driver puts it at the tail
 * of the list of `cpu` that is returned.
 */
CO_INLINE __u32 co_queue(struct co_world *w, struct co_member *m, __u32 cpu, bool woken, __u64 now_ns)
{
	__u32 list = co_state(w, m);

	if (woken && w->params.mode == CO_MODE_CREDIT_BOOST && list == CO_STATE_UNDER) {
		m->boosted = 1;
		m->boosted_ran_ns = 0;
		list = CO_STATE_BOOST;
	}
	m->displaces = (woken || now_ns - m->started_at_ns >= w->params.slice_ns / 8) && co_may_kick(w, m, list, now_ns);
	CO_WRITE(m->queued_at_ns, now_ns);
	m->active = 1;
	CO_WRITE(m->queued_entitled_ns, CO_READ(co_account_of(w, co_vm_of(w, m->vm)->account)->total_entitled_ns));
	CO_WRITE(m->list, list);
	CO_WRITE(m->cpu, cpu);
	CO_WRITE(m->where, CO_QUEUED);
	co_list_count(w, cpu, list, 1);
	return list;
}

/* Counts the time that `m` has waited since this was done last. */
CO_INLINE void co_wait(struct co_world *w, struct co_member *m, __u64 again_from_ns, __u64 now_ns)
{
	__u64 since = CO_SWAP(m->queued_at_ns, again_from_ns);

	if (!since || (__s64)(now_ns - since) <= 0)
		return;
	CO_ADD(m->total_waited_ns, now_ns - since);
	CO_ADD(co_vm_of(w, m->vm)->waited_ns, now_ns - since);
}

/* It runs on `cpu` from now on. */
CO_INLINE void co_run(struct co_world *w, struct co_member *m, __u32 cpu, __u64 now_ns)
{
	struct co_account *a;
	__u32 where = CO_READ(m->where);

	if (where == CO_RUNNING)
		return;
	if (where == CO_QUEUED)
		co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
	co_wait(w, m, 0, now_ns);
	m->account = co_vm_of(w, m->vm)->account;
	m->started_at_ns = m->running_since_ns = now_ns;
	CO_WRITE(m->queued_entitled_ns, CO_RAN);
	m->total_runs++;
	m->active = 1;
	CO_WRITE(m->cpu, cpu);
	CO_WRITE(m->where, CO_RUNNING);
	a = co_account_of(w, m->account);
	if (CO_ADD(a->running, 1) == 1)
		CO_WRITE(a->co_since_ns, now_ns);
}

/* It has run until now; it may go on running. Before anybody asks for its state. */
CO_INLINE void co_charge(struct co_world *w, struct co_member *m, __u64 now_ns)
{
	struct co_vm *vm = co_vm_of(w, m->vm);
	__u64 ran = now_ns - m->running_since_ns;

	if (m->where != CO_RUNNING || (__s64)ran <= 0)
		return;
	m->running_since_ns = now_ns;
	m->total_ran_ns += ran;
	m->active = 1;
	CO_ADD(co_purse_of(w, m, m->account)->credit_ns, -(__s64)ran);
	CO_ADD(vm->ran_ns, ran);
	CO_ADD(vm->part_ns, -(__s64)ran);
	if (vm->cap_ns)
		CO_ADD(vm->cap_left_ns, -(__s64)ran);
	if (m->boosted && (m->boosted_ran_ns += ran) >= w->params.boost_ns)
		m->boosted = 0;
}

/* It stops running or leaves its list: asleep, or co_queue() follows. Charge first. */
CO_INLINE void co_stop(struct co_world *w, struct co_member *m, __u64 now_ns)
{
	struct co_account *a = co_account_of(w, m->account);
	__u32 where = CO_READ(m->where);

	if (where == CO_QUEUED) {
		co_list_count(w, CO_READ(m->cpu), CO_READ(m->list), -1);
		co_wait(w, m, 0, now_ns);
	} else if (where == CO_RUNNING && CO_ADD(a->running, -1) == 2) {
		CO_ADD(a->co_ran_ns, now_ns - CO_READ(a->co_since_ns));
	}
	CO_WRITE(m->where, CO_ASLEEP);
}
