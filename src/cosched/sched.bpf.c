// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The scheduler in the kernel: sched_ext's callbacks around the policy core (core.h, settle.h). The core says who is in
 * debt, who asks whom and who pays; here are queues, CPUs and the kernel's rules. queue.bpf.h has the queues.
 *
 * A callback about a thread runs with its CPU's run queue locked; dispatch() on the CPU that looks for work; the settlement
 * in a timer, on whichever CPU. The kernel's order at a switch: dispatch(prev), stopping(prev), running(next). So `prev` is
 * charged in dispatch(), or it would be compared with what it had at its start.
 *
 * Who is a member: the loader stores a slot with the thread (task storage, by pidfd, so never another thread of the same
 * number). All others of this scheduling class share one fair queue. On a CPU on which both kinds wait, the kind that has
 * had less of it goes first: neither can starve the other, nor the watchdog's patience.
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

static void kick_idle(struct sched_cpu *from, __s32 cpu)
{
	from->kicks_idle++;
	scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
}
static void kick_preempt(struct sched_cpu *from, __s32 cpu)
{
	from->kicks_preempt++;
	scx_bpf_kick_cpu(cpu, SCX_KICK_PREEMPT);
}

/* `p` waits on `cpu`: somebody idle shall look. False: nobody is. */
static bool kick_for(struct task_struct *p, __s32 cpu)
{
	struct sched_cpu *here = sched_cpu_of(bpf_get_smp_processor_id());
	__s32 idle = cpu;

	if (!scx_bpf_test_and_clear_cpu_idle(cpu))
		idle = scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	if (idle < 0)
		return false;
	kick_idle(here, idle);
	return true;
}

/* --- a thread becomes runnable --- */

__s32 BPF_STRUCT(select_cpu, struct task_struct *p, __s32 prev_cpu, __u64 wake_flags)
{
	__u32 slot = slot_of(p);
	bool idle = false;
	__s32 cpu;

	if (slot)
		return queue_cpu(p, slot - 1, prev_cpu);
	cpu = scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	if (idle)
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, config.fair_slice_ns, 0);
	return cpu;
}

/* A thread without a slot. One that can run on one CPU only does not stand in the shared queue: it would be in others' way. */
static void enqueue_fair(struct task_struct *p, __u64 enq_flags)
{
	__u64 vtime = p->scx.dsq_vtime, now = CO_READ(state.fair_vtime);
	__s32 cpu = scx_bpf_task_cpu(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	bool behind = c->running && c->fair_ns < c->member_ns;

	if ((__s64)(vtime - (now - config.fair_slice_ns)) < 0 || (__s64)(vtime - now) > FAIR_LAG_MAX_NS)
		vtime = now - config.fair_slice_ns;
	if (p->nr_cpus_allowed == 1 || is_pinned(p)) {
		scx_bpf_dsq_insert(p, SCX_DSQ_LOCAL, config.fair_slice_ns, enq_flags | (behind ? SCX_ENQ_PREEMPT : 0));
		return;
	}
	scx_bpf_dsq_insert_vtime(p, DSQ_FAIR, config.fair_slice_ns, vtime, enq_flags);
	if (!kick_for(p, cpu) && behind && (enq_flags & SCX_ENQ_WAKEUP))
		kick_preempt(sched_cpu_of(bpf_get_smp_processor_id()), cpu);
}

void BPF_STRUCT(enqueue, struct task_struct *p, __u64 enq_flags)
{
	__u32 slot = slot_of(p), cpu, running;
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
	cpu = queue_cpu(p, slot - 1, scx_bpf_task_cpu(p));
	co_queue(&world, m, cpu, woken, now);
	if (woken)
		trace(CO_EVENT_WAKE, slot - 1, cpu, 0, 0, now);
	queue_insert(p, slot - 1, cpu, enq_flags, now);
	if (kick_for(p, cpu) || !woken)
		return;
	running = CO_READ(sched_cpu_of(cpu)->running);
	if (running && co_preempts(co_state(&world, m), co_state(&world, co_member_of(&world, running - 1))))
		kick_preempt(sched_cpu_of(bpf_get_smp_processor_id()), cpu);
}

void BPF_STRUCT(quiescent, struct task_struct *p, __u64 deq_flags)
{
	__u32 slot = slot_stored(p);

	if (slot)
		member_away(slot - 1, bpf_ktime_get_ns());
}

/* --- the schedule step --- */

/* The group that `account` is asks for the CPUs on which its members wait. */
static void ask(__u32 account, __u32 cpu, __u64 now)
{
	struct co_account *a = co_account_of(&world, account);
	struct sched_cpu *here = sched_cpu_of(cpu);
	__u32 i, there;

	if (!a->is_group || !co_asks(&world))
		return;
	bpf_for(i, 0, a->n_members) {
		there = co_ask(&world, account, i, cpu, now);
		if (there == CO_NONE)
			continue;
		trace(CO_EVENT_ASK, a->member[i & (CO_GROUP_MEMBERS_MAX - 1)], cpu, 0, there, now);
		kick_preempt(here, there);
	}
}

/* A request that is pending is taken: slot + 1 of the member that it brings onto this CPU. */
static __u32 honour(__u32 cpu, __u64 now)
{
	struct co_cpu *c = co_cpu_of(&world, cpu);
	__u32 account = co_request_take(c), i, slot, refused = CO_NONE;
	struct co_account *a = co_account_of(&world, account);

	if (account == CO_NONE)
		return 0;
	bpf_for(i, 0, a->n_members) {
		struct co_member *m;

		slot = a->member[i & (CO_GROUP_MEMBERS_MAX - 1)] & (CO_MEMBERS_MAX - 1);
		m = co_member_of(&world, slot);
		if (m->vm == CO_NONE || CO_READ(m->where) != CO_QUEUED || CO_READ(m->cpu) != cpu)
			continue;
		if (!co_request_allows(&world, m)) {
			refused = slot;
			continue;
		}
		if (!queue_take_member(slot, cpu))
			continue;
		c->requests_honoured++;
		c->request_wait_ns += now - CO_READ(c->requested_at_ns);
		return slot + 1;
	}
	if (refused == CO_NONE) {
		c->requests_void++;
		return 0;
	}
	c->requests_refused++;
	trace(CO_EVENT_REFUSED, refused, cpu, 0, 0, now);
	return 0;
}

/* From another CPU's queue: whoever is first there. */
static __u32 steal(__u32 cpu, enum sched_queue queue, enum co_state worst)
{
	__u32 i, n = CO_READ(n_cpu_ids), from, slot = 0;

	bpf_for(i, 1, n) {
		from = cpu + i < n ? cpu + i : cpu + i - n;
		if (scx_bpf_dsq_nr_queued(queue_dsq(from, queue)) <= 0)
			continue;
		slot = queue_take(from, queue, cpu, worst);
		if (slot)
			break;
	}
	if (slot)
		co_cpu_of(&world, cpu)->steals++;
	return slot;
}

/* The next member for this CPU: slot + 1. `prev`: slot + 1 of who has run until now and may go on, or 0. */
static __u32 pick(__u32 cpu, __u32 prev, __u32 *flags, __u64 now)
{
	enum co_state kept = prev ? co_state(&world, co_member_of(&world, prev - 1)) : CO_STATE_PARKED;
	__u32 slot = honour(cpu, now);

	*flags = CO_RUN_REQUESTED;
	if (slot)
		return slot;
	*flags = 0;
	slot = queue_take(cpu, SCHED_QUEUE_UNDER, cpu, kept == CO_STATE_BOOST ? CO_STATE_BOOST : CO_STATE_UNDER);
	if (slot)
		return slot;
	if (kept <= CO_STATE_UNDER)
		return prev;
	*flags = CO_RUN_STOLEN;
	slot = steal(cpu, SCHED_QUEUE_UNDER, CO_STATE_UNDER);
	if (slot)
		return slot;
	*flags = 0;
	slot = queue_take(cpu, SCHED_QUEUE_OVER, cpu, CO_STATE_OVER);
	if (slot)
		return slot;
	if (kept == CO_STATE_OVER)
		return prev;
	*flags = CO_RUN_STOLEN;
	return steal(cpu, SCHED_QUEUE_OVER, CO_STATE_OVER);
}

/* `prev` goes on with a new slice. */
static void keep(struct task_struct *prev, __u32 slot, __u32 cpu, __u64 now)
{
	struct co_member *m = co_member_of(&world, slot - 1);

	set_slice(prev, co_slice_ns(&world, m));
	ask(co_vm_of(&world, m->vm)->account, cpu, now);
}

/* True: the fair queue's turn, and it has been given. */
static bool dispatch_fair(struct sched_cpu *c, struct task_struct *prev, bool prev_fair)
{
	if (scx_bpf_dsq_nr_queued(DSQ_FAIR) > 0 && scx_bpf_dsq_move_to_local(DSQ_FAIR)) {
		c->fair_picks++;
		return true;
	}
	if (prev_fair)
		set_slice(prev, config.fair_slice_ns);
	return prev_fair;
}

void BPF_STRUCT(dispatch, __s32 cpu, struct task_struct *prev)
{
	struct sched_cpu *c = sched_cpu_of(cpu);
	struct co_cpu *core = co_cpu_of(&world, cpu);
	bool runnable = prev && (prev->scx.flags & SCX_TASK_QUEUED);
	__u32 prev_slot = runnable ? slot_of(prev) : 0, slot, flags = 0;
	bool prev_fair = runnable && !prev_slot;
	__u64 now = bpf_ktime_get_ns();

	if (state.fault == SCHED_FAULT_STALL)
		return;
	c->dispatches++;
	charge(cpu, now);
	if (!prev_fair && scx_bpf_dsq_nr_queued(DSQ_FAIR) <= 0)
		c->fair_ns = c->member_ns > c->fair_ns ? c->member_ns : c->fair_ns;
	else if (c->fair_ns < c->member_ns && dispatch_fair(c, prev, prev_fair)) {
		c->picked = 0;
		co_working_set(&world, core, NULL);
		return;
	}
	slot = pick(cpu, prev_slot, &flags, now);
	c->picked = slot;
	c->picked_flags = flags;
	co_working_set(&world, core, slot ? co_member_of(&world, slot - 1) : NULL);
	if (slot && slot == prev_slot)
		keep(prev, slot, cpu, now);
	if (slot)
		return;
	c->member_ns = c->fair_ns > c->member_ns ? c->fair_ns : c->member_ns;
	if (dispatch_fair(c, prev, prev_fair))
		return;
	core->idles++;
	trace(CO_EVENT_IDLE, CO_NONE, cpu, 0, 0, now);
}

/* --- running --- */

static __u8 count_pick(struct co_cpu *c, enum co_state s)
{
	switch (s) {
	case CO_STATE_BOOST:
		c->picks_boost++;
		return CO_RUN_BOOSTED;
	case CO_STATE_UNDER:
		c->picks_under++;
		return 0;
	default:
		c->picks_over++;
		return CO_RUN_OVER;
	}
}

void BPF_STRUCT(running, struct task_struct *p)
{
	__u32 cpu = scx_bpf_task_cpu(p), slot = slot_of(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	struct co_cpu *core = co_cpu_of(&world, cpu);
	__u64 now = bpf_ktime_get_ns(), queued;
	struct co_member *m;
	__u8 flags;

	c->running = slot;
	c->since_ns = now;
	if (!slot) {
		if ((__s64)(p->scx.dsq_vtime - CO_READ(state.fair_vtime)) > 0)
			CO_WRITE(state.fair_vtime, p->scx.dsq_vtime);
		co_working_set(&world, core, NULL);
		return;
	}
	m = co_member_of(&world, slot - 1);
	queued = CO_READ(m->queued_at_ns);
	state.slot[(slot - 1) & (CO_MEMBERS_MAX - 1)].rescue = 0;
	co_run(&world, m, cpu, now);
	flags = count_pick(core, co_state(&world, m));
	if (c->picked == slot)
		flags |= c->picked_flags;
	c->picked = slot;
	trace(CO_EVENT_RUN, slot - 1, cpu, flags, queued ? now - queued : 0, now);
	co_working_set(&world, core, m);
	ask(co_vm_of(&world, m->vm)->account, cpu, now);
}

void BPF_STRUCT(stopping, struct task_struct *p, bool runnable)
{
	__u32 cpu = scx_bpf_task_cpu(p), slot = slot_stored(p);
	struct sched_cpu *c = sched_cpu_of(cpu);
	__u64 now = bpf_ktime_get_ns();
	struct co_member *m;

	charge(cpu, now);
	if (!c->running) {
		set_vtime(p, p->scx.dsq_vtime + fair_used(p));
		return;
	}
	c->running = 0;
	if (!slot)
		return;
	m = co_member_of(&world, slot - 1);
	co_stop(&world, m);
	trace(runnable ? CO_EVENT_STOP : CO_EVENT_SLEEP, slot - 1, cpu, 0, 0, now);
	/* A thread of a higher class takes the CPU: nobody was picked, so nobody runs that could be worked with. */
	if (c->picked == slot)
		co_working_set(&world, co_cpu_of(&world, cpu), NULL);
	if (runnable)
		co_queue(&world, m, cpu, false, now);
}

void BPF_STRUCT(tick, struct task_struct *p)
{
	__u32 cpu = bpf_get_smp_processor_id(), slot = sched_cpu_of(cpu)->running;

	charge(cpu, bpf_ktime_get_ns());
	if (slot && co_state(&world, co_member_of(&world, slot - 1)) == CO_STATE_PARKED)
		set_slice(p, 0);
}

/* A CPU has become idle. Who was queued while it looked and saw it busy has not kicked it: the kernel marks it idle first. */
void BPF_STRUCT(update_idle, __s32 cpu, bool idle)
{
	__u32 i;

	if (!idle)
		return;
	co_working_set(&world, co_cpu_of(&world, cpu), NULL);
	bpf_for(i, 0, CO_READ(n_cpu_ids)) {
		if (scx_bpf_dsq_nr_queued(queue_dsq(i, SCHED_QUEUE_UNDER)) <= 0 &&
		    scx_bpf_dsq_nr_queued(queue_dsq(i, SCHED_QUEUE_OVER)) <= 0)
			continue;
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
		return;
	}
	if (scx_bpf_dsq_nr_queued(DSQ_FAIR) > 0)
		scx_bpf_kick_cpu(cpu, SCX_KICK_IDLE);
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
		member_away(slot - 1, bpf_ktime_get_ns());
}

void BPF_STRUCT(cpu_online, __s32 cpu)
{
	sched_cpu_of(cpu)->online = 1;
}

/* Who is still queued here is moved by the next settlement; idle CPUs find them before. */
void BPF_STRUCT(cpu_offline, __s32 cpu)
{
	sched_cpu_of(cpu)->online = 0;
	co_working_set(&world, co_cpu_of(&world, cpu), NULL);
	co_request_take(co_cpu_of(&world, cpu));
}

/* --- the settlement --- */

static int settle(void *map, __u32 *key, struct settle_timer *t)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 i;

	if (!CO_CLAIM(state.lock, 0, 1)) {
		state.settle_late++;
		bpf_timer_start(&t->timer, LOCK_RETRY_NS, 0);
		return 0;
	}
	co_settle(&world, now);
	CO_SWAP(state.lock, 0);
	bpf_for(i, 0, CO_READ(n_cpu_ids))
		queue_sort(i, now);
	trace(CO_EVENT_SETTLED, CO_NONE, bpf_get_smp_processor_id(), 0, world.settlements, now);
	bpf_timer_start(&t->timer, world.params.period_ns, 0);
	return 0;
}

/* --- the scheduler comes and goes --- */

__s32 BPF_STRUCT_SLEEPABLE(init)
{
	const struct cpumask *online = scx_bpf_get_online_cpumask();
	struct settle_timer *t;
	__u32 i, key = 0;
	__s32 error = scx_bpf_create_dsq(DSQ_FAIR, -1);

	n_cpu_ids = scx_bpf_nr_cpu_ids();
	/* Asked for the type's sake: only one that is named in code, not just pointed to, goes into the program's own types. */
	if (n_cpu_ids > CO_CPUS_MAX || !bpf_core_type_exists(struct cpumask))
		error = -95;
	bpf_for(i, 0, n_cpu_ids) {
		sched_cpu_of(i)->online = bpf_cpumask_test_cpu(i, online);
		error = error ?: scx_bpf_create_dsq(queue_dsq(i, SCHED_QUEUE_UNDER), -1);
		error = error ?: scx_bpf_create_dsq(queue_dsq(i, SCHED_QUEUE_OVER), -1);
		error = error ?: scx_bpf_create_dsq(queue_dsq(i, SCHED_QUEUE_PARKED), -1);
	}
	scx_bpf_put_cpumask(online);
	if (error)
		return error;
	t = bpf_map_lookup_elem(&timers, &key);
	if (!t)
		return -2;
	error = bpf_timer_init(&t->timer, &timers, CLOCK_MONOTONIC);
	error = error ?: bpf_timer_set_callback(&t->timer, settle);
	return error ?: bpf_timer_start(&t->timer, world.params.period_ns, 0);
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
