/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues, threads and traces of the BPF scheduler; included by sched.bpf.c alone.
 *
 * Each CPU has a queue for members that are UNDER, one for OVER, one for PARKED, each in order of arrival (BOOST before all
 * others of UNDER). A state changes while a member waits: UNDER to OVER when others of its account run, which is seen when
 * it is at the head, and it is moved on; the other way at a settlement only, which sorts the queues anew. So a pick looks at
 * heads: O(log n) for the tree that a queue is, and each member is moved at most twice a period.
 */
#pragma once

#include "cosched/kernel.bpf.h"

#include "cosched/shared.h"
#include "cosched/settle.h"

#define BPF_STRUCT(name, args...) SEC("struct_ops/" #name) BPF_PROG(on_##name, ##args)
#define BPF_STRUCT_SLEEPABLE(name, args...) SEC("struct_ops.s/" #name) BPF_PROG(on_##name, ##args)

#define DSQ_FAIR (SCHED_QUEUES * CO_CPUS_MAX)
#define BOOST_AHEAD_NS (1ull << 50)
#define FAIR_LAG_MAX_NS 1000000000ll
#define LOCK_RETRY_NS 1000000ull
/* Of another CPU's queue, how many that may not run here are passed over. */
#define STEAL_DEPTH 8u

const volatile struct sched_config config SEC(SCHED_MAP_CONFIG);
struct co_world world SEC(SCHED_MAP_WORLD);
struct sched_state state SEC(SCHED_MAP_STATE);
__u32 n_cpu_ids;

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

/* --- traces --- */

static void trace(__u8 kind, __u32 member, __u32 cpu, __u8 flags, __u64 value, __u64 now)
{
	struct co_event *e;

	if (!config.trace)
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

static struct sched_cpu *sched_cpu_of(__u32 cpu)
{
	return &state.cpu[cpu & (CO_CPUS_MAX - 1)];
}
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

/* Set by the kernel for a thread that must not leave its CPU now, whatever its mask says. */
static bool is_pinned(struct task_struct *p)
{
	return p->migration_disabled > 0;
}
static bool may_run(struct task_struct *p, __u32 cpu)
{
	return bpf_cpumask_test_cpu(cpu, p->cpus_ptr) && (!is_pinned(p) || (__u32)scx_bpf_task_cpu(p) == cpu);
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

/* Virtual time that a thread of the fair queue used: its slice so far, by weight. */
static __u64 fair_used(struct task_struct *p)
{
	__u64 left = p->scx.slice, weight = p->scx.weight ?: 1;

	return left < config.fair_slice_ns ? (config.fair_slice_ns - left) * 100 / weight : 0;
}

/* Who runs on `cpu` pays for it, whichever kind it is. On that CPU only. */
static void charge(__u32 cpu, __u64 now)
{
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u64 ran = now - c->since_ns;

	if ((__s64)ran <= 0)
		return;
	c->since_ns = now;
	if (!c->running) {
		c->fair_ns += ran;
		return;
	}
	c->member_ns += ran;
	co_charge(&world, co_member_of(&world, c->running - 1), now);
}

/* It is neither queued nor runs: asleep, or gone. */
static void member_away(__u32 slot, __u64 now)
{
	struct co_member *m = co_member_of(&world, slot);

	if (CO_READ(m->where) == CO_RUNNING) {
		co_charge(&world, m, now);
		co_stop(&world, m);
	}
	co_wait(&world, m, 0, now);
	CO_WRITE(m->where, CO_ASLEEP);
}

/* --- queues --- */

static __u64 queue_dsq(__u32 cpu, enum sched_queue queue)
{
	return queue * CO_CPUS_MAX + (cpu & (CO_CPUS_MAX - 1));
}

/* Where a member waits: at home, so that those of a group are spread; elsewhere only if it may not run there. */
static __u32 queue_cpu(struct task_struct *p, __u32 slot, __s32 now_on)
{
	__u32 home = co_member_of(&world, slot)->home;
	struct sched_cpu *c = sched_cpu_of(home);

	if (home < CO_CPUS_MAX && c->online && c->usable && may_run(p, home))
		return home;
	sched_cpu_of(now_on)->misplaced++;
	return now_on;
}

static enum co_state queue_state(__u32 slot)
{
	return sched_slot_of(slot)->rescue ? CO_STATE_BOOST : co_state(&world, co_member_of(&world, slot));
}
static enum sched_queue queue_for(enum co_state s)
{
	return s == CO_STATE_PARKED ? SCHED_QUEUE_PARKED : s == CO_STATE_OVER ? SCHED_QUEUE_OVER : SCHED_QUEUE_UNDER;
}
static __u64 queue_slice(__u32 slot)
{
	return sched_slot_of(slot)->rescue ? config.rescue_slice_ns : co_slice_ns(&world, co_member_of(&world, slot));
}

static void queue_insert(struct task_struct *p, __u32 slot, __u32 cpu, __u64 enq_flags, __u64 now)
{
	struct sched_slot *s = sched_slot_of(slot);
	enum co_state st = queue_state(slot);

	s->tid = p->pid;
	s->queued_ns = now;
	s->queue = queue_for(st);
	scx_bpf_dsq_insert_vtime(p, queue_dsq(cpu, s->queue), queue_slice(slot),
				 st == CO_STATE_BOOST ? now - BOOST_AHEAD_NS : now, enq_flags);
}

/*
 * From a queue of CPU `from`, the first that may run on `cpu` and whose state is `worst` or better, goes onto `cpu`: slot + 1.
 * Those at the head whose state has become worse than the queue's are moved to where they belong.
 */
static __u32 queue_take(__u32 from, enum sched_queue queue, __u32 cpu, enum co_state worst)
{
	struct task_struct *p;
	__u32 slot, passed = 0;

	bpf_for_each(scx_dsq, p, queue_dsq(from, queue), 0) {
		enum co_state s;

		slot = slot_stored(p);
		if (!slot)
			continue;
		s = queue_state(slot - 1);
		if (queue_for(s) > queue) {
			sched_slot_of(slot - 1)->queue = queue_for(s);
			scx_bpf_dsq_move_vtime(&___it, p, queue_dsq(from, queue_for(s)), 0);
			sched_cpu_of(cpu)->demoted++;
			continue;
		}
		if (s > worst)
			break;
		if (!may_run(p, cpu)) {
			sched_cpu_of(cpu)->affine_skips++;
			if (++passed >= STEAL_DEPTH)
				break;
			continue;
		}
		scx_bpf_dsq_move_set_slice(&___it, queue_slice(slot - 1));
		if (scx_bpf_dsq_move(&___it, p, SCX_DSQ_LOCAL, 0))
			return slot;
	}
	return 0;
}

/* The member in `slot`, which waits on `cpu`, goes onto it, out of its turn. */
static bool queue_take_member(__u32 slot, __u32 cpu)
{
	struct sched_slot *s = sched_slot_of(slot);
	struct task_struct *p = bpf_task_from_pid(CO_READ(s->tid));
	struct bpf_iter_scx_dsq it;
	bool moved = false;

	if (!p)
		return false;
	if (slot_of(p) == slot + 1 && may_run(p, cpu)) {
		if (!bpf_iter_scx_dsq_new(&it, queue_dsq(cpu, s->queue), 0)) {
			scx_bpf_dsq_move_set_slice(&it, queue_slice(slot));
			moved = scx_bpf_dsq_move(&it, p, SCX_DSQ_LOCAL, 0);
		}
		bpf_iter_scx_dsq_destroy(&it);
	}
	bpf_task_release(p);
	return moved;
}

/* One member of a queue that is sorted anew. */
static void queue_sort_one(struct bpf_iter_scx_dsq *it, struct task_struct *p, __u32 cpu, enum sched_queue queue, __u64 now)
{
	__u32 slot = slot_stored(p), to_cpu;
	enum sched_queue to;
	struct sched_slot *s;

	if (!slot)
		return;
	s = sched_slot_of(slot - 1);
	if (queue != SCHED_QUEUE_UNDER && (__s64)(now - s->queued_ns) > (__s64)config.rescue_ns && !s->rescue) {
		s->rescue = 1;
		sched_cpu_of(cpu)->rescued++;
	}
	to = queue_for(queue_state(slot - 1));
	to_cpu = sched_cpu_of(cpu)->online ? cpu : queue_cpu(p, slot - 1, scx_bpf_task_cpu(p));
	if (to == queue && to_cpu == cpu)
		return;
	s->queue = to;
	CO_WRITE(co_member_of(&world, slot - 1)->cpu, to_cpu);
	scx_bpf_dsq_move_vtime(it, p, queue_dsq(to_cpu, to), 0);
}

/* After a settlement: who is no longer in debt or parked waits where it belongs, and whoever is idle looks again. */
static void queue_sort(__u32 cpu, __u64 now)
{
	enum sched_queue queue;
	struct task_struct *p;
	__u32 i;

	bpf_for(i, 0, SCHED_QUEUES) {
		queue = i;
		if (scx_bpf_dsq_nr_queued(queue_dsq(cpu, queue)) <= 0)
			continue;
		if (queue == SCHED_QUEUE_UNDER && sched_cpu_of(cpu)->online)
			continue;
		bpf_for_each(scx_dsq, p, queue_dsq(cpu, queue), 0)
			queue_sort_one(&___it, p, cpu, queue, now);
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
	}
}
