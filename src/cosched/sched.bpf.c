// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scheduler in the kernel: sched_ext's callbacks around the policy core (core.h, settle.h). The core says who is in
 * debt, who asks whom and who pays; here are queues, CPUs and the kernel's rules. queue.bpf.h has the lists.
 *
 * A callback about a thread runs with its CPU's run queue locked; dispatch() on the CPU that looks for work; the settlement
 * in a timer, on whichever CPU. The kernel's order at a switch: dispatch(prev), stopping(prev), running(next). So `prev` is
 * charged in dispatch(), or it would be compared with what it had at its start.
 *
 * Who is a member: the loader stores a slot with the thread (task storage, by pidfd, so never another thread of the same
 * number). All others of this scheduling class share one fair queue, but those that can run on one CPU only, which have one
 * there. On a CPU on which both kinds wait, the kind that has had less of it goes first: neither can starve the other, nor the
 * watchdog's patience. So nobody is put on a CPU's local queue but by dispatch(), which the kernel does not call as long as
 * something is there; or by select_cpu(), if the CPU is idle.
 */
#include "cosched/queue.bpf.h"

char _license[] SEC("license") = "GPL";

struct settle_timer {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settle_timer);
} timers SEC(".maps");

/* --- kicks --- */

/* `p` waits on `cpu`: somebody idle shall look. False: nobody is. */
static bool kick_idle(struct task_struct *p, __u32 cpu)
{
	__s32 idle = cpu_number(cpu);

	if (!scx_bpf_test_and_clear_cpu_idle(idle))
		idle = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	if (idle < 0)
		return false;
	sched_cpu_of(cpu_here())->kicks_idle++;
	scx_bpf_kick_cpu(idle, SCX_KICK_IDLE);
	return true;
}

BPF_ALONE __u32 displaces(__u32 slot)
{
	return co_displaces(&world, co_member_of(&world, slot));
}

BPF_ALONE int ask_on_wake(__u32 slot, __u64 now)
{
	return co_ask_on_wake(&world, co_member_of(&world, slot), cpu_here(), now);
}

/* A member was queued while nobody was idle. */
static void kick_busy(struct task_struct *p, __u32 slot, __u32 cpu, bool woken, __u64 now)
{
	__u32 here = cpu_here(), there = displaces(slot);
	struct sched_cpu *c = sched_cpu_of(there);

	/* Of a thread of the other kind only its due is taken. */
	if (there != CO_NONE && may_run(p, there) && (c->running || c->member_ns <= c->fair_ns)) {
		sched_cpu_of(here)->kicks_preempt++;
		scx_bpf_kick_cpu(cpu_number(there), SCX_KICK_PREEMPT);
		return;
	}
	if (!woken || !ask_on_wake(slot, now))
		return;
	trace(CO_EVENT_ASK, slot, here, 0, cpu, now);
	sched_cpu_of(here)->kicks_asked++;
	scx_bpf_kick_cpu(cpu_number(cpu), SCX_KICK_PREEMPT);
}

/* --- a thread becomes runnable --- */

__s32 BPF_STRUCT(select_cpu, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	__u32 slot = slot_of(p);
	bool idle = false;
	__s32 cpu;

	if (slot)
		return cpu_number(list_cpu(p, slot - 1, cpu_index(prev_cpu)));
	cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	if (idle)
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, config.fair_slice_ns, 0);
	return cpu;
}

static bool runs_here_only(struct task_struct *p)
{
	return p->nr_cpus_allowed == 1 || is_pinned(p);
}

/* A thread without a slot. One that can run on one CPU only does not stand in the shared queue: it would be in others' way. */
static void enqueue_fair(struct task_struct *p, __u64 enq_flags)
{
	__u64 vtime = p->scx.dsq_vtime, fair = CO_READ(state.fair_vtime);
	__u32 cpu = cpu_of(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	bool behind = c->running && c->fair_ns < c->member_ns;

	if ((__s64)(vtime - (fair - config.fair_slice_ns)) < 0 || (__s64)(vtime - fair) > FAIR_LAG_MAX_NS)
		vtime = fair - config.fair_slice_ns;
	scx_bpf_dsq_insert_vtime(p, runs_here_only(p) ? list_dsq(cpu, SCHED_LIST_PINNED) : DSQ_FAIR, config.fair_slice_ns, vtime,
				 enq_flags);
	if (kick_idle(p, cpu) || !behind || !(enq_flags & SCX_ENQ_WAKEUP))
		return;
	sched_cpu_of(cpu_here())->kicks_preempt++;
	scx_bpf_kick_cpu(cpu_number(cpu), SCX_KICK_PREEMPT);
}

BPF_ALONE __u32 queue(__u32 slot, __u32 cpu, bool woken, __u64 now)
{
	return co_queue(&world, co_member_of(&world, slot), cpu, woken, now);
}

void BPF_STRUCT(enqueue, struct task_struct *p, __u64 enq_flags)
{
	__u32 slot = slot_of(p), cpu, list;
	__u64 now = bpf_ktime_get_ns();
	bool woken = enq_flags & SCX_ENQ_WAKEUP;
	struct co_member *m;

	if (state.fault == SCHED_FAULT_ERROR)
		sched_error("an error was asked for");
	if (!slot) {
		enqueue_fair(p, enq_flags);
		return;
	}
	m = co_member_of(&world, slot - 1);
	cpu = list_cpu(p, slot - 1, cpu_of(p));
	sched_slot_of(slot - 1)->tid = p->pid;
	sched_slot_of(slot - 1)->queued_ns = now;
	member_stop(slot - 1, true, now);
	list = queue(slot - 1, cpu, woken, now);
	if (woken)
		trace(CO_EVENT_WAKE, slot - 1, cpu, 0, 0, now);
	scx_bpf_dsq_insert(p, list_dsq(cpu, list), co_slice_ns(&world, m), enq_flags);
	if (list != CO_STATE_PARKED && !kick_idle(p, cpu))
		kick_busy(p, slot - 1, cpu, woken, now);
}

void BPF_STRUCT(quiescent, struct task_struct *p, __u64 deq_flags)
{
	__u32 slot = slot_stored(p);

	if (slot)
		member_stop(slot - 1, false, bpf_ktime_get_ns());
}

/* --- the schedule step --- */

/* The group of the member that begins to run, or goes on, asks for the CPUs on which others of it wait. */
BPF_ALONE int ask(__u32 slot, __u32 cpu, __u64 now)
{
	__u32 account = co_vm_of(&world, co_member_of(&world, slot)->vm)->account, i, there;
	struct co_account *a = co_account_of(&world, account);

	if (!a->is_group || !co_asks(&world))
		return 0;
	bpf_for(i, 0, a->n_members) {
		there = co_ask(&world, account, i, cpu, now);
		if (there == CO_NONE)
			continue;
		trace(CO_EVENT_ASK, a->member[i & (CO_GROUP_MEMBERS_MAX - 1)], cpu, 0, there, now);
		sched_cpu_of(cpu)->kicks_asked++;
		scx_bpf_kick_cpu(cpu_number(there), SCX_KICK_PREEMPT);
	}
	return 0;
}

/* `cpu` keeps its member, which was in state `was` when it was chosen: another one is to look for whoever it was kicked for. */
BPF_ALONE int pass_on(__u32 cpu, __u32 was)
{
	__u32 there = co_passes_on(&world, cpu, was);

	if (there == CO_NONE)
		return 0;
	sched_cpu_of(cpu)->kicks_preempt++;
	scx_bpf_kick_cpu(cpu_number(there), SCX_KICK_PREEMPT);
	return 0;
}

BPF_ALONE int working_set(__u32 cpu, __u32 slot, __u32 flags)
{
	co_working_set(&world, cpu, slot ? co_member_of(&world, slot - 1) : NULL, flags & CO_RUN_REQUESTED);
	return 0;
}

static bool fair_waits(__u32 cpu)
{
	return scx_bpf_dsq_nr_queued(DSQ_FAIR) > 0 || scx_bpf_dsq_nr_queued(list_dsq(cpu, SCHED_LIST_PINNED)) > 0;
}

/* The virtual time of a queue's first; none: beyond all. */
BPF_ALONE __u64 fair_first(__u64 dsq)
{
	struct task_struct *p;

	bpf_for_each(scx_dsq, p, dsq, 0)
		return p->scx.dsq_vtime;
	return -1ull >> 1;
}

/* Of both queues, first the one whose first has had less. */
static bool fair_move(__u32 cpu)
{
	__u64 pinned = list_dsq(cpu, SCHED_LIST_PINNED);
	bool pinned_first = (__s64)(fair_first(pinned) - fair_first(DSQ_FAIR)) <= 0;

	return scx_bpf_dsq_move_to_local(pinned_first ? pinned : DSQ_FAIR) ||
	       scx_bpf_dsq_move_to_local(pinned_first ? DSQ_FAIR : pinned);
}

/* True: the fair queues' turn, and it has been given. */
static bool dispatch_fair(struct sched_cpu *c, __u32 cpu, struct task_struct *prev, bool prev_fair, __u64 now)
{
	if (fair_waits(cpu) && fair_move(cpu)) {
		c->fair_picks++;
		return true;
	}
	if (!prev_fair)
		return false;
	/* What it ran while nobody waited, nobody is owed. */
	c->ran_since_ns = now;
	set_slice(prev, config.fair_slice_ns);
	return true;
}

/* Who is rescued: slot + 1. */
static __u32 dispatch_rescued(__u32 cpu)
{
	__u32 slot = co_list_first(&world, cpu, SCHED_LIST_RESCUE, cpu);

	if (slot == CO_NONE || !list_transfer(slot, list_dsq(cpu, SCHED_LIST_RESCUE), SCX_DSQ_LOCAL, cpu, 0))
		return 0;
	return slot + 1;
}

/* The core's schedule step; `prev` is a slot or CO_NONE. Returns the slot, and with it CO_RUN_... and KEPT above 32 bits. */
#define KEPT 128ull

BPF_ALONE __u64 pick(__u32 cpu, __u32 prev, __u64 now)
{
	struct co_pick p;
	__u64 flags;

	co_pick(&world, cpu, prev, now, &p);
	if (p.refused)
		trace(CO_EVENT_REFUSED, CO_NONE, cpu, 0, p.request, now);
	flags = (p.requested ? CO_RUN_REQUESTED : 0) | (p.stolen ? CO_RUN_STOLEN : 0) |
		(p.state >= CO_STATE_OVER && p.state <= CO_STATE_LAST ? CO_RUN_OVER : 0) |
		(p.state <= CO_STATE_BOOST ? CO_RUN_BOOSTED : 0) | (p.kept ? KEPT : 0);
	return flags << 32 | p.member;
}

/* The next member, slot + 1, or 0. `prev_slot`: slot + 1 of who has run until now and may go on, or 0. */
static __u32 dispatch_member(__u32 cpu, struct task_struct *prev, __u32 prev_slot, __u64 now)
{
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u32 slot = 0, was = CO_READ(co_cpu_of(&world, cpu)->state);
	__u64 picked;

	if (scx_bpf_dsq_nr_queued(list_dsq(cpu, SCHED_LIST_RESCUE)) > 0)
		slot = dispatch_rescued(cpu);
	if (slot)
		return slot;
	picked = pick(cpu, prev_slot ? prev_slot - 1 : CO_NONE, now);
	slot = picked;
	if (slot == CO_NONE)
		return 0;
	c->picked_flags = picked >> 32 & ~KEPT;
	if (prev && (picked >> 32 & KEPT)) {
		set_slice(prev, co_slice_ns(&world, co_member_of(&world, slot)));
		trace(CO_EVENT_KEPT, slot, cpu, c->picked_flags, 0, now);
		working_set(cpu, slot + 1, c->picked_flags);
		pass_on(cpu, was);
		ask(slot, cpu, now);
	}
	return slot + 1;
}

void BPF_STRUCT(dispatch, __s32 number, struct task_struct *prev)
{
	__u32 cpu = cpu_index(number);
	struct sched_cpu *c = sched_cpu_of(cpu);
	bool runnable = prev && (prev->scx.flags & SCX_TASK_QUEUED);
	__u32 prev_slot = runnable ? slot_of(prev) : 0;
	bool prev_fair = runnable && !prev_slot;
	__u64 now = bpf_ktime_get_ns();

	if (state.fault == SCHED_FAULT_STALL)
		return;
	c->dispatches++;
	charge(cpu, now);
	c->picked_flags = 0;
	c->picked = 0;
	if (!prev_fair && !fair_waits(cpu))
		c->fair_ns = c->member_ns > c->fair_ns ? c->member_ns : c->fair_ns;
	else if (c->fair_ns < c->member_ns && dispatch_fair(c, cpu, prev, prev_fair, now)) {
		working_set(cpu, 0, 0);
		return;
	}
	c->picked = dispatch_member(cpu, prev, prev_slot, now);
	working_set(cpu, c->picked, c->picked_flags);
	if (c->picked)
		return;
	c->member_ns = c->fair_ns > c->member_ns ? c->fair_ns : c->member_ns;
	if (!dispatch_fair(c, cpu, prev, prev_fair, now))
		trace(CO_EVENT_IDLE, CO_NONE, cpu, 0, 0, now);
}

/* --- running --- */

void BPF_STRUCT(running, struct task_struct *p)
{
	__u32 cpu = cpu_of(p), slot = slot_of(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u64 now = bpf_ktime_get_ns(), queued;
	struct co_member *m;
	__u32 flags;

	c->running = slot;
	c->since_ns = c->ran_since_ns = now;
	if (!slot) {
		if ((__s64)(p->scx.dsq_vtime - CO_READ(state.fair_vtime)) > 0)
			CO_WRITE(state.fair_vtime, p->scx.dsq_vtime);
		working_set(cpu, 0, 0);
		return;
	}
	m = co_member_of(&world, slot - 1);
	/* A settlement counts waits until then, and begins them anew. */
	queued = CO_READ(m->queued_at_ns) ? sched_slot_of(slot - 1)->queued_ns : 0;
	slot_lock(slot - 1);
	co_run(&world, m, cpu, now);
	slot_unlock(slot - 1);
	flags = c->picked == slot ? c->picked_flags : 0;
	c->picked = slot;
	trace(CO_EVENT_RUN, slot - 1, cpu, flags, queued && now > queued ? now - queued : 0, now);
	working_set(cpu, slot, flags);
	ask(slot - 1, cpu, now);
}

void BPF_STRUCT(stopping, struct task_struct *p, bool runnable)
{
	__u32 cpu = cpu_of(p), slot = slot_stored(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u64 now = bpf_ktime_get_ns();
	struct co_member *m;

	charge(cpu, now);
	c->since_ns = 0;
	if (!c->running) {
		set_vtime(p, p->scx.dsq_vtime + fair_used(p, now - c->ran_since_ns));
		return;
	}
	c->running = 0;
	/* A thread of a higher class takes the CPU: nobody was picked, so nobody runs that could be worked with. */
	if (c->picked == slot)
		working_set(cpu, 0, 0);
	if (!slot)
		return;
	m = co_member_of(&world, slot - 1);
	trace(runnable ? CO_EVENT_STOP : CO_EVENT_SLEEP, slot - 1, cpu, 0, now - c->ran_since_ns, now);
	member_stop(slot - 1, runnable, now);
	/* It may be put back before all others without being queued here again: it waits all the same. */
	if (runnable) {
		CO_WRITE(m->queued_at_ns, now);
		sched_slot_of(slot - 1)->queued_ns = now;
	}
}

void BPF_STRUCT(tick, struct task_struct *p)
{
	__u32 cpu = cpu_here(), slot = sched_cpu_of(cpu)->running;

	charge(cpu, bpf_ktime_get_ns());
	if (slot && co_state(&world, co_member_of(&world, slot - 1)) == CO_STATE_PARKED)
		set_slice(p, 0);
}

/* Anywhere, but those whose cap is used up. */
static bool members_wait(void)
{
	__u64 waits = 0;
	__u32 i, k;

	for (i = 0; i < CO_STATE_PARKED; i++)
		for (k = 0; k < CO_CPU_WORDS; k++)
			waits |= CO_READ(world.waits[i][k]);
	return waits;
}

/* A CPU has become idle. Who was queued while it looked and saw it busy has not kicked it: the kernel marks it idle first. */
void BPF_STRUCT(update_idle, __s32 number, bool idle)
{
	if (!idle)
		return;
	working_set(cpu_index(number), 0, 0);
	/*
	 * One that goes offline becomes idle once more after its last interrupt. A kick is an irq_work of the CPU that asks: it
	 * would stay queued, and after the CPU is back keep all others from being done there, that which ends a scheduler too.
	 */
	if (!sched_cpu_of(cpu_index(number))->online)
		return;
	if (members_wait() || fair_waits(cpu_index(number)))
		scx_bpf_kick_cpu(number, SCX_KICK_IDLE);
}

/* --- threads and CPUs come and go --- */

void BPF_STRUCT(enable, struct task_struct *p)
{
	set_vtime(p, CO_READ(state.fair_vtime));
}

void BPF_STRUCT(disable, struct task_struct *p)
{
	__u32 slot = slot_stored(p);

	if (slot)
		member_stop(slot - 1, false, bpf_ktime_get_ns());
}

void BPF_STRUCT(cpu_online, __s32 number)
{
	sched_cpu_of(cpu_index(number))->online = 1;
}

/* Who is still queued here is moved by the next settlement; idle CPUs find them before. */
void BPF_STRUCT(cpu_offline, __s32 number)
{
	__u32 cpu = cpu_index(number);

	sched_cpu_of(cpu)->online = 0;
	working_set(cpu, 0, 0);
	co_request_take(co_cpu_of(&world, cpu));
}

/* --- the settlement --- */

/* After a settlement, for each CPU: who waits there for too long, or in vain. */
BPF_ALONE int settle_lists(__u32 cpu, __u64 now)
{
	struct co_cpu *core = co_cpu_of(&world, cpu);
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u32 list, waiting = 0;

	for (list = 0; list < CO_STATES; list++)
		waiting += CO_READ(core->n_listed[list]);
	if (!waiting)
		return 0;
	if (!c->online || !is_active(cpu)) {
		bpf_for(list, 0, SCHED_LISTS)
			list_leave(cpu, list, now);
		return 0;
	}
	co_unpark(&world, cpu);
	bpf_for(list, CO_STATE_OVER, CO_STATES)
		list_rescue(cpu, list, now);
	scx_bpf_kick_cpu(cpu_number(cpu), SCX_KICK_IDLE);
	return 0;
}

/* And who runs there for want of better. A thread of the other kind is left alone, whoever waits. */
BPF_ALONE int settle_cpu(__u32 cpu, __u32 best, __u64 now)
{
	struct sched_cpu *c = sched_cpu_of(cpu);

	settle_lists(cpu, now);
	if (!c->online || !CO_READ(c->running) || !co_looks_again(&world, cpu, best))
		return 0;
	sched_cpu_of(cpu_here())->kicks_preempt++;
	scx_bpf_kick_cpu(cpu_number(cpu), SCX_KICK_PREEMPT);
	return 0;
}

/* Who waits matters only to those that run for want of better: mostly nobody does. */
BPF_ALONE __u32 best_waiting(void)
{
	if (!co_cpu_any(world.runs[CO_STATE_DEEP]) && !co_cpu_any(world.runs[CO_STATE_LAST]))
		return CO_STATE_PARKED;
	return co_best_waiting(&world);
}

BPF_ALONE int settle_world(__u64 now)
{
	co_settle(&world, now);
	return 0;
}

static int settle(void *map, __u32 *key, struct settle_timer *t)
{
	__u64 now = bpf_ktime_get_ns(), period = world.params.period_ns;
	__u32 i, best;

	if (!CO_CLAIM(state.lock, 0, 1)) {
		state.settle_late++;
		bpf_timer_start(&t->timer, LOCK_RETRY_NS, 0);
		return 0;
	}
	settle_world(now);
	CO_SWAP(state.lock, 0);
	best = best_waiting();
	bpf_for(i, 0, state.n_cpus)
		settle_cpu(i, best, now);
	trace(CO_EVENT_SETTLED, CO_NONE, cpu_here(), 0, world.settlements, now);
	/* From when it was due: a late one does not make the next one late. */
	state.due_ns += period;
	if ((__s64)(state.due_ns - now) <= 0)
		state.due_ns = now + period;
	bpf_timer_start(&t->timer, state.due_ns, BPF_F_TIMER_ABS);
	state.settle_ns += bpf_ktime_get_ns() - now;
	return 0;
}

/* --- the scheduler comes and goes --- */

__s32 BPF_STRUCT_SLEEPABLE(init)
{
	const struct cpumask *online = scx_bpf_get_online_cpumask();
	struct settle_timer *t;
	__u32 i, list, key = 0;
	__s32 error = scx_bpf_create_dsq(DSQ_FAIR, -1);

	state.n_cpus = scx_bpf_nr_cpu_ids();
	/* Asked for the type's sake: only one that is named in code, not just pointed to, goes into the program's own types. */
	if (state.n_cpus > CO_CPUS_MAX || !bpf_core_type_exists(struct cpumask))
		error = -95;
	bpf_for(i, 0, state.n_cpus) {
		sched_cpu_of(cpu_index(i))->online = bpf_cpumask_test_cpu(i, online);
		bpf_for(list, 0, SCHED_LISTS)
			error = error ?: scx_bpf_create_dsq(list_dsq(i, list), -1);
	}
	scx_bpf_put_cpumask(online);
	if (error)
		return error;
	t = bpf_map_lookup_elem(&timers, &key);
	if (!t)
		return -2;
	error = bpf_timer_init(&t->timer, &timers, CLOCK_MONOTONIC);
	error = error ?: bpf_timer_set_callback(&t->timer, settle);
	state.due_ns = bpf_ktime_get_ns() + world.params.period_ns;
	return error ?: bpf_timer_start(&t->timer, state.due_ns, BPF_F_TIMER_ABS);
}

void BPF_STRUCT(exit, struct scx_exit_info *info)
{
	struct sched_exit *e = &state.exit;

	e->kind = info->kind;
	e->code = info->exit_code;
	bpf_probe_read_kernel_str(e->reason, sizeof(e->reason), info->reason);
	bpf_probe_read_kernel_str(e->message, sizeof(e->message), info->msg);
	CO_SWAP(e->done, 1);
	trace_end();
}

SEC(".struct_ops.link")
struct sched_ext_ops fairlead_ops = {
	.select_cpu = (void *)on_select_cpu,
	.enqueue = (void *)on_enqueue,
	.dispatch = (void *)on_dispatch,
	.tick = (void *)on_tick,
	.running = (void *)on_running,
	.stopping = (void *)on_stopping,
	.quiescent = (void *)on_quiescent,
	.update_idle = (void *)on_update_idle,
	.enable = (void *)on_enable,
	.disable = (void *)on_disable,
	.cpu_online = (void *)on_cpu_online,
	.cpu_offline = (void *)on_cpu_offline,
	.init = (void *)on_init,
	.exit = (void *)on_exit,
	.flags = SCX_OPS_KEEP_BUILTIN_IDLE | SCX_OPS_ENQ_LAST,
	.timeout_ms = 30000,
	.name = "fairlead",
};
