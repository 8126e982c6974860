/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads, CPUs, lists and traces of the BPF scheduler: what the core's schedule step (pick.h) asks of its driver. Included by
 * sched.bpf.c alone.
 *
 * Each of the core's lists is a dispatch queue (DSQ), which has a lock of its own. Two CPUs may look at one list at once: the
 * one whose scx_bpf_dsq_move() succeeds has the thread. The core's record of a member (its list, and the counters that
 * follow) is changed under the slot's `busy`, so it is right whoever wins.
 */
#pragma once

#include "cosched/kernel.bpf.h"

/* The core's lock. Of this program alone, in a section of its own: the loader may not map a map that holds one. */
static struct bpf_spin_lock core_lock SEC(".bss.lock");
#define CO_LOCK(w) bpf_spin_lock(&core_lock)
#define CO_UNLOCK(w) bpf_spin_unlock(&core_lock)

#include "cosched/pick.h"
#include "cosched/settle.h"
#include "cosched/shared.h"

#define BPF_STRUCT(name, args...) SEC("struct_ops/" #name) BPF_PROG(on_##name, ##args)
/*
 * A function that the verifier looks at once, on its own, with any arguments; others at each call, in each state of the
 * caller, which multiplies. Weak as in core.h: compilers are to know no more of it than the verifier does.
 */
#define BPF_ALONE __attribute__((noinline, weak))
#define BPF_STRUCT_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(on_##name, ##args)

#define DSQ_FAIR (SCHED_LISTS * CO_CPUS_MAX)
#define FAIR_LAG_MAX_NS 1000000000ll
#define LOCK_RETRY_NS 1000000ull
#define BUSY_TRIES 4096
/* On a list, how many that may not run here are passed over. */
#define LIST_DEPTH 8u

const volatile struct sched_config config SEC(SCHED_MAP_CONFIG);
struct co_world world SEC(SCHED_MAP_WORLD);
struct sched_state state SEC(SCHED_MAP_STATE);

/* slot + 1 of a member; written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

#define sched_error(text)                                                                                              \
	({                                                                                                             \
		static char error_text[] = text;                                                                       \
		unsigned long long none[1] = {0};                                                                      \
		scx_bpf_error_bstr(error_text, none, 0);                                                               \
	})

/* --- CPUs; `cpu` is the core's number everywhere but where the kernel is called --- */

static struct sched_cpu *sched_cpu_of(__u32 cpu)
{
	return &state.cpu[cpu & (CO_CPUS_MAX - 1)];
}
static __u32 cpu_index(__s32 number)
{
	return config.index[number & (CO_CPUS_MAX - 1)];
}
static __s32 cpu_number(__u32 cpu)
{
	return config.number[cpu & (CO_CPUS_MAX - 1)];
}
static __u32 cpu_here(void)
{
	return cpu_index(bpf_get_smp_processor_id());
}
static __u32 cpu_of(struct task_struct *p)
{
	return cpu_index(scx_bpf_task_cpu(p));
}

/* --- traces --- */

static void trace(__u8 kind, __u32 member, __u32 cpu, __u8 flags, __u64 value, __u64 now)
{
	struct co_event *e;

	if (!CO_READ(state.trace))
		return;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		CO_ADD(state.events_lost, 1);
		return;
	}
	*e = (struct co_event){.time_ns = now, .value = value, .member = member, .cpu = cpu, .kind = kind, .flags = flags};
	/* The reader is woken once a period: more often, and the trace would be of the reader. */
	bpf_ringbuf_submit(e, kind == CO_EVENT_SETTLED ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static void trace_end(void)
{
	struct co_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	*e = (struct co_event){.kind = SCHED_EVENT_END, .member = CO_NONE};
	bpf_ringbuf_submit(e, BPF_RB_FORCE_WAKEUP);
}

/* --- threads --- */

static struct sched_slot *sched_slot_of(__u32 slot)
{
	return &state.slot[slot & (CO_MEMBERS_MAX - 1)];
}

/* slot + 1 of a thread that is a member or was one just now; 0: no member. */
static __u32 slot_stored(struct task_struct *p)
{
	__u32 *stored = bpf_task_storage_get(&members, p, 0, 0);

	return stored && *stored <= CO_MEMBERS_MAX ? *stored : 0;
}
/* The same for one that stays. */
static __u32 slot_of(struct task_struct *p)
{
	__u32 slot = slot_stored(p);

	return slot && CO_READ(sched_slot_of(slot - 1)->leaving) ? 0 : slot;
}

/*
 * Whoever holds it runs with interrupts off and does little, so this is short. Were it ever given up, a counter would be
 * wrong by one: the core would look at a list in vain, or reckon with a CPU too many.
 */
static void slot_lock(__u32 slot)
{
	__u32 i;

	bpf_for(i, 0, BUSY_TRIES)
		if (CO_CLAIM(sched_slot_of(slot)->busy, 0, 1))
			break;
}
static void slot_unlock(__u32 slot)
{
	CO_SWAP(sched_slot_of(slot)->busy, 0);
}

/* Some must not leave their CPU now, whatever their mask says. The kernel counts this program's own stay for its `current`. */
static bool is_pinned(struct task_struct *p)
{
	return p->migration_disabled > 1 || (p->migration_disabled && bpf_get_current_task_btf() != p);
}
/*
 * False: it is about to go offline, which cpu_offline() tells only after a grace period. Until then the kernel asks it for
 * threads, so that those that have run there leave, but lets no other come: it puts that into a queue of its own, which all CPUs
 * empty before they ask dispatch(). A CPU that went on taking members would keep the fair queue's threads from running, and
 * with them the one that ends the grace period.
 */
BPF_ALONE int is_active(__u32 cpu)
{
	const char *mask = &__cpu_active_mask;
	__u32 number = cpu_number(cpu);
	__u64 word = 0;

	if (!mask || bpf_probe_read_kernel(&word, sizeof(word), mask + number / 64 * sizeof(word)))
		return true;
	return word >> (number & 63) & 1;
}
static bool may_run(struct task_struct *p, __u32 cpu)
{
	return bpf_cpumask_test_cpu(cpu_number(cpu), p->cpus_ptr) && (cpu_of(p) == cpu || (!is_pinned(p) && is_active(cpu)));
}

static void set_slice(struct task_struct *p, __u64 slice)
{
	if (bpf_ksym_exists(scx_bpf_task_set_slice))
		scx_bpf_task_set_slice(p, slice);
	else
		p->scx.slice = slice;
}
static void set_vtime(struct task_struct *p, __u64 vtime)
{
	if (bpf_ksym_exists(scx_bpf_task_set_dsq_vtime))
		scx_bpf_task_set_dsq_vtime(p, vtime);
	else
		p->scx.dsq_vtime = vtime;
}

/*
 * Virtual time of `ran_ns`. Not what its slice lacks: that is gone when it is preempted, and a thread that wakes up often, like
 * the kernel's that end a grace period, would pay for what it never had.
 */
static __u64 fair_used(struct task_struct *p, __u64 ran_ns)
{
	return ran_ns * 100 / (p->scx.weight ?: 1);
}

/* Who runs on `cpu` pays for it, whichever kind it is; since_ns is 0 when nobody does. On that CPU only. */
BPF_ALONE int charge(__u32 cpu, __u64 now)
{
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u64 ran = now - c->since_ns;

	if (!c->since_ns || (__s64)ran <= 0)
		return 0;
	c->since_ns = now;
	if (!c->running) {
		c->fair_ns += ran;
		return 0;
	}
	c->member_ns += ran;
	co_charge(&world, co_member_of(&world, c->running - 1), now);
	return 0;
}

/* It is neither queued nor runs: asleep, or gone; or `runnable`: on its way to another list, or to run again. */
BPF_ALONE int member_stop(__u32 slot, bool runnable, __u64 now)
{
	struct co_member *m = co_member_of(&world, slot);

	slot_lock(slot);
	if (CO_READ(m->where) == CO_RUNNING)
		co_charge(&world, m, now);
	if (!runnable)
		co_stop(&world, m, now);
	else if (CO_READ(m->where) != CO_ASLEEP)
		co_yield(&world, m, now);
	slot_unlock(slot);
	return 0;
}

/* --- lists --- */

static __u64 list_dsq(__u32 cpu, __u32 list)
{
	return list * CO_CPUS_MAX + (cpu & (CO_CPUS_MAX - 1));
}

/* Where a member waits: at home, so that those of a group are spread; elsewhere only if it may not run there. */
static __u32 list_cpu(struct task_struct *p, __u32 slot, __u32 now_on)
{
	__u32 home = co_member_of(&world, slot)->home;

	if (home < CO_CPUS_MAX && sched_cpu_of(home)->online && may_run(p, home))
		return home;
	sched_cpu_of(now_on)->misplaced++;
	return now_on;
}

/* The member in `slot` goes from one DSQ to another, wherever it stands there. */
BPF_ALONE int list_transfer(__u32 slot, __u64 from, __u64 to, __u32 here, __u64 slice)
{
	struct task_struct *p = bpf_task_from_pid(CO_READ(sched_slot_of(slot)->tid));
	struct bpf_iter_scx_dsq it;
	bool moved = false;

	if (!p)
		return false;
	if (slot_stored(p) == slot + 1 && (to != SCX_DSQ_LOCAL || may_run(p, here))) {
		if (!bpf_iter_scx_dsq_new(&it, from, 0)) {
			if (slice)
				scx_bpf_dsq_move_set_slice(&it, slice);
			moved = scx_bpf_dsq_move(&it, p, to, 0);
		}
		bpf_iter_scx_dsq_destroy(&it);
	}
	bpf_task_release(p);
	if (!moved)
		sched_cpu_of(here)->lost_moves++;
	return moved;
}

BPF_ALONE __u32 list_first(__u32 cpu, __u32 list, __u32 here)
{
	__u32 slot, passed = 0;
	struct task_struct *p;

	bpf_for_each(scx_dsq, p, list_dsq(cpu, list), 0) {
		slot = slot_stored(p);
		if (slot && may_run(p, here))
			return slot - 1;
		sched_cpu_of(here)->passed_over++;
		if (++passed >= LIST_DEPTH)
			break;
	}
	return CO_NONE;
}

/* Before the move: who wins a race for it then runs it, which takes it off whatever list it says here. */
static void list_record(__u32 slot, __u32 cpu, __u32 to)
{
	struct co_member *m = co_member_of(&world, slot);

	slot_lock(slot);
	if (m->where == CO_QUEUED && m->cpu == cpu)
		co_relist(&world, m, to, bpf_ktime_get_ns());
	slot_unlock(slot);
}

/* The same for another CPU's lists. Returns the list; CO_NONE: it does not wait on `cpu` any more, somebody runs it. */
BPF_ALONE __u32 list_rerecord(__u32 slot, __u32 cpu, __u32 to_cpu, __u64 now)
{
	struct co_member *m = co_member_of(&world, slot);
	__u32 to = CO_NONE;

	slot_lock(slot);
	if (m->where == CO_QUEUED && m->cpu == cpu) {
		co_yield(&world, m, now);
		to = co_queue(&world, m, to_cpu, false, now);
	}
	slot_unlock(slot);
	return to;
}

BPF_ALONE int list_move(__u32 cpu, __u32 list, __u32 slot, __u32 to)
{
	list_record(slot, cpu, to);
	return list_transfer(slot, list_dsq(cpu, list), list_dsq(cpu, to), cpu_here(), 0);
}

BPF_ALONE int list_take(__u32 cpu, __u32 list, __u32 slot, __u32 here)
{
	return list_transfer(slot, list_dsq(cpu, list), SCX_DSQ_LOCAL, here, co_slice_ns(&world, co_member_of(&world, slot)));
}

BPF_ALONE int list_sift(__u32 cpu, __u32 list)
{
	struct task_struct *p;
	__u32 slot, to;

	bpf_rcu_read_lock(); /* see list_rescue() */
	bpf_for_each(scx_dsq, p, list_dsq(cpu, list), 0) {
		slot = slot_stored(p);
		if (!slot)
			continue;
		to = co_state(&world, co_member_of(&world, slot - 1));
		if (to == list)
			continue;
		list_record(slot - 1, cpu, to);
		scx_bpf_dsq_move(&___it, p, list_dsq(cpu, to), 0);
	}
	bpf_rcu_read_unlock();
	return 0;
}

static inline __u32 co_list_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here)
{
	return list_first(cpu, list, here);
}
static inline bool co_list_move(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 to)
{
	return list_move(cpu, list, member, to);
}
static inline bool co_list_take(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 here)
{
	return list_take(cpu, list, member, here);
}
static inline void co_list_sift(struct co_world *w, __u32 cpu, __u32 list)
{
	list_sift(cpu, list);
}

/* Those at the head of a list of debtors that have waited for too long run for a moment. */
BPF_ALONE int list_rescue(__u32 cpu, __u32 list, __u64 now)
{
	struct task_struct *p;
	__u32 slot;

	/* A timer of a program that may sleep counts as one that may sleep, too. */
	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, list_dsq(cpu, list), 0) {
		slot = slot_stored(p);
		if (!slot || (__s64)(now - sched_slot_of(slot - 1)->queued_ns) < (__s64)config.rescue_ns)
			break;
		scx_bpf_dsq_move_set_slice(&___it, config.rescue_slice_ns);
		if (scx_bpf_dsq_move(&___it, p, list_dsq(cpu, SCHED_LIST_RESCUE), 0))
			sched_cpu_of(cpu)->rescued++;
	}
	bpf_rcu_read_unlock();
	return 0;
}

/* The CPU is offline: whoever waits there waits elsewhere from now on. */
BPF_ALONE int list_leave(__u32 cpu, __u32 list, __u64 now)
{
	struct task_struct *p;
	__u32 slot, to_cpu, to;

	bpf_rcu_read_lock();
	bpf_for_each(scx_dsq, p, list_dsq(cpu, list), 0) {
		slot = slot_stored(p);
		if (!slot)
			continue;
		to_cpu = list_cpu(p, slot - 1, cpu_of(p));
		if (to_cpu == cpu)
			continue;
		to = list_rerecord(slot - 1, cpu, to_cpu, now);
		if (to == CO_NONE)
			continue;
		if (scx_bpf_dsq_move(&___it, p, list_dsq(to_cpu, to), 0))
			sched_cpu_of(cpu)->moved_off++;
		scx_bpf_kick_cpu(cpu_number(to_cpu), SCX_KICK_IDLE);
	}
	bpf_rcu_read_unlock();
	return 0;
}
