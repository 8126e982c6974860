/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The types of the policy core, and how they are reached: by masked indices in BPF. See core.h.
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
#define CO_LEVEL_BITS 12
#endif
#define CO_LEVELS (1u << CO_LEVEL_BITS) /* see fluid.h */
#define CO_CPU_WORDS ((CO_CPUS_MAX + 63) / 64)
#define CO_NONE (~0u)

/* With these no product in settle.h exceeds 64 bits: a group's weight is below 2^24, a period's supply below 2^39. */
#define CO_WEIGHT_MAX 65535u
#define CO_PERIOD_MAX_NS 1000000000ull

/* Bounds on errors are for a minute: 2/3 of 1 % of one. */
#define CO_MUCH_US 400000u
/* Times what 256 CPUs do in a second it is below 2^63. */
#define CO_FOR_GOOD_MAX_US (1u << 24)
/* Over so many periods, more or less, is averaged what an account is due in one. */
#define CO_PACE 64u

/*
 * For so many settlements after a VM ran or waited last, its weight counts in its group's: a second, as periods are 30 ms. Who is
 * served at once sleeps in most periods; its group must not be due less for that.
 */
#define CO_AWAKE 32u

#define CO_INLINE static inline __attribute__((always_inline))
/*
 * BPF's verifier looks at these on their own: at its callers' it then sees one number instead of one path for each result. Weak,
 * or clang concludes from the body what that number can be, and leaves out masks that the verifier needs.
 */
#ifdef __bpf__
#define CO_ALONE __attribute__((noinline, weak))
#define CO_GIVEN __attribute__((btf_decl_tag("arg:nonnull"))) /* a pointer that is never NULL */
#else
#define CO_ALONE static inline
#define CO_GIVEN
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
/* What more than one field depends on is changed by one CPU at a time. */
#ifndef CO_LOCK
#define CO_LOCK(w) (void)(w)
#define CO_UNLOCK(w) (void)(w)
#endif
#ifdef __bpf__
#define CO_FOR(i, n) bpf_for(i, 0, n)
#else
#define CO_FOR(i, n) for (i = 0; i < (n); i++)
#endif

enum co_mode { CO_MODE_CREDIT, CO_MODE_CREDIT_BOOST, CO_MODE_CO_CREDIT, CO_MODE_POOLED };

/* In the order in which they are picked. Each CPU has a FIFO list of waiting members for each of them. */
enum co_state {
	CO_STATE_FIRST,	 /* POOLED: is owed more than twice what makes BOOST, and half of the most, in proportion */
	CO_STATE_BOOST,	 /* CREDIT_BOOST: woke up UNDER; POOLED: is owed more than half a slice */
	CO_STATE_PART,	 /* POOLED: its VM lacks more than half a slice of its part of what its group is due */
	CO_STATE_UNDER,	 /* not in debt */
	CO_STATE_OVER,	 /* in debt: runs when nobody UNDER waits anywhere, or on request */
	CO_STATE_DEEP,	 /* POOLED: owes more than its debt limit: runs when nobody else waits anywhere */
	CO_STATE_LAST,	 /* POOLED: owes half as much again, CO_MUCH_US's due, and half of the most, in proportion */
	CO_STATE_PARKED, /* its VM has used up its cap: does not run before the next period */
	CO_STATES
};
/* As above: a list is a state, its index is masked. */
#define CO_LISTS 8u
_Static_assert(CO_STATES <= CO_LISTS, "a list for each state");

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
	__u32 serves;	/* a worker of its group: the weight that counts when parts are divided; 0: its own */
	__u32 n_members;
	__u32 n_active; /* members that ran or waited in the period that was settled last */
	/* This period; many writers, taken by the settlement. */
	__u64 ran_ns, waited_ns;
	__u64 uncharged_ns; /* of the settlement: what its members that run have run since they were charged */
	__u64 early_ns; /* of that, what the last settlement has counted already */
	/* Ever; one writer (the settlement). */
	__u64 total_ran_ns, total_waited_ns;
	__u64 total_due_ns; /* pooled: its parts */
};

/* What an account is due at every instant; see fluid.h. */
struct co_share {
	__u64 n, weight;	/* runnable members, and the weights of VMs that are awake */
	__u32 level, is_in;	/* where it is counted, if at all */
	__u64 saturated_ns, integral; /* its level's, when it was looked at last */
	__u64 due;		/* since the last settlement, in ns times 2^CO_FLUID_BITS */
};

/* Cells of Fenwick trees; see fluid.h. */
struct co_level {
	__u64 n, weight;
	__u64 saturated_ns, integral;
};

struct co_fluid {
	__u64 at_ns;		/* until when everything has been reckoned */
	__u64 running, weight;	/* CPUs that run members; of all accounts with runnable members */
	__u64 integral, rest;	/* of L, ever; what was lost in rounding it */
	struct co_level level[CO_LEVELS];
};

/* What is settled: a VM of its own, or a co-group. */
struct co_account {
	__u32 used;	  /* 0: free */
	__u32 is_group;	  /* its members ask for each other */
	struct co_purse purse; /* pooled */
	__u64 due_ns;	  /* pooled: what it is due in a period, smoothed over CO_PACE of them, those in which it slept too */
	/* How many members; of a group also which, for requests. Written by changes only. */
	__u32 n_members;
	__u32 member[CO_GROUP_MEMBERS_MAX];
	struct co_share share; /* many writers, under the lock */
	__u32 saturated; /* of the settlement: it is due all that it wants, or nearly */
	__u64 owed_ns; /* of the settlement: what it is due */
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
	__u32 capped; /* a cap forbids some of it */
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
	__u64 queued_due_ns; /* what its VM had been due when it was queued, co_was_due(); CO_RAN: it has had its turn since */
	__u32 active; /* ran or waited in this period */
	__u32 counted; /* account among whose runnable members it is counted, + 1; 0: none. Under the lock */
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
	__u32 n_listed[CO_LISTS]; /* many writers: members on its lists */
	__u32 seen;	/* many writers: the generation for which its lists were sorted last */
	__u32 home_mates, home_others; /* of co_home() alone */
	/* Counters: one writer, the CPU itself. */
	__u64 requests_sent, requests_honoured, requests_refused, requests_void, request_wait_ns;
	/* Picks by enum co_state, FIRST as BOOST, LAST as DEEP. */
	__u64 steals, picks_boost, picks_part, picks_under, picks_over, picks_deep, idles;
} __attribute__((aligned(64)));

struct co_world {
	struct co_params params;
	__u32 n_vms, n_accounts, n_members; /* slots ever used: bounds of the loops */
	__s64 bank_ns; /* pooled: credit of accounts that left; handed out at settlements. Sum of purses + bank is constant */
	/* Pooled, of the last settlement: the most that anybody is owed and owes for good, in proportion to what it is due. */
	__u64 owed_us, owes_us;
	__u64 settlements, forfeited_ns, forgiven_ns; /* the latter two: see settle.h */
	__u32 generation; /* many writers: grows when states on lists may have become better */
	/* Bit per CPU, many writers: members may wait there in that state. See pick.h. */
	__u64 waits[CO_LISTS][CO_CPU_WORDS];
	/* Bit per CPU, set and cleared by it: runs a member in that state, when that was chosen, and not on request. */
	__u64 runs[CO_STATES][CO_CPU_WORDS];
	struct co_fluid fluid; /* many writers, under the lock */
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
CO_INLINE bool co_cpu_any(const __u64 *set)
{
	__u64 any = 0;
	__u32 k;

	CO_UNROLL
	for (k = 0; k < CO_CPU_WORDS; k++)
		any |= CO_READ(set[k]);
	return any;
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

/* How many bits of a word are set. Here and below without branches: each would be two paths to the verifier. */
CO_INLINE __u32 co_count(__u64 bits)
{
	bits -= bits >> 1 & 0x5555555555555555ull;
	bits = (bits & 0x3333333333333333ull) + (bits >> 2 & 0x3333333333333333ull);
	bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return bits * 0x0101010101010101ull >> 56;
}

/* The highest bit of a word that is not 0. Not CO_ALONE: what holds a lock must not call that. */
CO_INLINE __u32 co_highest(__u64 bits)
{
	bits |= bits >> 1;
	bits |= bits >> 2;
	bits |= bits >> 4;
	bits |= bits >> 8;
	bits |= bits >> 16;
	bits |= bits >> 32;
	return co_count(bits) - 1;
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

