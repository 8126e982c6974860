/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests in, pieces out: who is next. Due reservations first, the earliest deadline among them; then the smallest share
 * tag; at both levels, VM and class, then the class's flows by turns of equal cost. What its limit forbids is put aside until
 * it may go. Called by the gate on the owner's thread; each decision walks three small heaps, and none is touched while
 * nothing is held.
 */
#include "slo/internal.h"

/*
 * Reservations are admitted up to 90 % of the device. Where capacity was not known they may promise more than there is, and
 * within a VM one class's may take all that the VM gets; then those without a reservation still get one twentieth by
 * shares, so that nobody starves: reservations may be ahead by half a second of the device.
 */
#define DUE_PER_SHARE 19
#define DUE_AHEAD_NS (500 * NSEC_PER_MSEC)
/*
 * How far a VM may be ahead of its share for its flushes to go at once: some pieces, as whoever has requests queued is ahead by one
 * at times.
 */
#define FLUSH_AHEAD_NS (25 * NSEC_PER_MSEC)
/* The same of its limit: what else it asks for waits no longer than that for flushes that went before. */
#define FLUSH_PAST_LIMIT_NS NSEC_PER_SEC
/* So long it waits for its own turn where its VM has turns only for reservations of classes. */
#define FLUSH_HELD_MOST_NS NSEC_PER_SEC

static uint64_t limit_ready_ns(const struct slo_node *n, const struct slo_amount *a)
{
	uint64_t ready = 0;

	for (unsigned i = 0; i < SLO_DIMENSIONS; i++)
		ready = max_u64(ready, slo_limit_ready_ns(&n->limit[i], a->units[i]));
	return ready;
}

/* The next piece of `r`, costed now: a cost is fixed at dispatch. */
static void piece_make(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret)
{
	struct slo_sched *s = f->node.sched;
	uint64_t left = r->bytes - r->given_bytes;
	uint64_t bytes = r->whole ? left : min_u64(left, slo_piece_max(s, r->op));
	uint64_t at = r->offset_bytes + r->given_bytes;

	*ret = (struct slo_piece){ .req = r, .flow = f, .start_bytes = r->given_bytes, .bytes = bytes, .dispatch_ns = now,
				   .sequential = f->next_offset[r->op] == at && at != 0, .last = bytes == left };
	ret->cost = slo_cost_of(&s->cost, r->op, ret->sequential, bytes);
	ret->wait_ns = (uint64_t)s->wait_ns;
}

/* Counts what goes out. */
static void piece_count(struct slo_flow *f, struct slo_piece *p, const struct slo_amount *a)
{
	struct slo_req *r = p->req;
	struct slo_bucket_counts *b = slo_meter_bucket(&f->node.meter, p->dispatch_ns);

	f->next_offset[r->op] = r->offset_bytes + r->given_bytes + p->bytes;
	r->given_bytes += p->bytes;
	r->pieces++;
	b->requests += a->units[SLO_IOPS] / 1000;
	b->bytes += a->units[SLO_BANDWIDTH];
	b->cost += p->cost;
	slo_flight_add(f, p->dispatch_ns);
	if (r->op == SLO_FLUSH)
		slo_toll_out(f->node.sched, p->dispatch_ns);
	p->in_flight = f->node.sched->root.in_flight;
	if (f->node.sched->targets)
		slo_window_dispatched(f->node.sched);
}

/* Books what goes out; by reservation of its VM, its class, or both, or not. */
static void piece_give(struct slo_flow *f, struct slo_piece *p, const struct slo_amount *a, bool vm_due, bool class_due)
{
	if (p->start_bytes == 0)
		hist_add(&f->node.parent->class->queue_time, p->dispatch_ns - p->req->arrival_ns);
	slo_charge(f, a, p->cost, vm_due, class_due, p->dispatch_ns);
	piece_count(f, p, a);
}

/* What goes while nobody waits takes nothing from anybody: it is not charged to shares. */
static void piece_pass(struct slo_flow *f, struct slo_piece *p, const struct slo_amount *a)
{
	struct slo_node *class = f->node.parent;

	if (class->rated || class->parent->rated)
		slo_charge_rates(f, a, false, false, p->dispatch_ns);
	hist_add(&class->class->queue_time, 0);
	piece_count(f, p, a);
}

static void req_arrive(struct slo_flow *f, struct slo_req *r, uint64_t now)
{
	f->node.sched->now_ns = now;
	if (!r->arrival_ns)
		r->arrival_ns = now;
	r->flow = f;
}

static bool limits_allow(const struct slo_node *class, const struct slo_node *vm, const struct slo_amount *a, uint64_t now)
{
	return (!class->limited || limit_ready_ns(class, a) <= now) && (!vm->limited || limit_ready_ns(vm, a) <= now);
}

/*
 * What is owed for earlier flushes is paid before others go: by others getting theirs, or when the VM's own reservation is due; and
 * what a limit is owed by time. What is promised to a class of the VM is not promised to its flushes.
 */
static bool flush_waits(const struct slo_node *vm, uint64_t now)
{
	const struct slo_node *root = vm->parent;
	uint64_t ahead = (uint64_t)((double)FLUSH_AHEAD_NS * vm->tag_per_cost);
	struct slo_amount a = slo_amount_of(vm->sched, SLO_FLUSH, 0);

	if (!list_empty(&vm->flushes) || (vm->limited && limit_ready_ns(vm, &a) > now + FLUSH_PAST_LIMIT_NS))
		return true;
	return root->by_share.n > slo_heap_has(&vm->in_share) && vm->start_tag > root->vtime + ahead &&
	       slo_due_own_ns(vm) > now;
}

bool slo_admit_fast(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret)
{
	struct slo_sched *s = f->node.sched;
	struct slo_node *class = f->node.parent, *vm = class->parent;
	struct slo_amount a;

	if (r->op == SLO_FLUSH) {
		if (flush_waits(vm, now))
			return false;
		slo_bypass(f, r, now, ret);
		return true;
	}
	if (s->root.held || s->root.in_flight >= s->window.size || s->anticipation.node || class->held_back)
		return false;
	/* The last free place may have to wait for somebody whose reservation is due. */
	if (s->expect.n && s->root.in_flight + 1 == s->window.size && slo_heap_key(&s->expect) <= now)
		return false;
	if (r->op <= SLO_WRITE && r->bytes <= s->split_bytes && slo_flow_room(f, now).kept) {
		slo_light_go(f, r, now, ret);
		return true;
	}
	a = slo_amount_of(s, r->op, r->bytes);
	if ((a.units[SLO_IOPS] > 1000 && !r->whole) || !limits_allow(class, vm, &a, now))
		return false;
	req_arrive(f, r, now);
	if (s->targets) {
		slo_node_wake(class, now);
		slo_node_wake(vm, now);
		slo_window_starved(s);
	}
	piece_make(f, r, now, ret);
	piece_pass(f, ret, &a);
	slo_light_begin(f, now);
	s->toll.starved = true;
	s->fast++;
	return true;
}

void slo_enqueue(struct slo_flow *f, struct slo_req *r, uint64_t now)
{
	struct slo_node *vm = f->node.parent->parent;

	req_arrive(f, r, now);
	list_append(r->op == SLO_FLUSH ? &vm->flushes : &f->queue, &r->node);
	slo_held_add(f, now);
	slo_node_activate(r->op == SLO_FLUSH ? vm : &f->node);
}

void slo_bypass(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret)
{
	struct slo_sched *s = f->node.sched;
	struct slo_amount a = slo_amount_of(s, r->op, r->bytes);

	req_arrive(f, r, now);
	slo_node_wake(f->node.parent, now);
	slo_node_wake(f->node.parent->parent, now);
	r->whole = true;
	piece_make(f, r, now, ret);
	if (s->root.held)
		piece_give(f, ret, &a, false, false);
	else
		piece_pass(f, ret, &a);
}

/* A child of `p`: one that is due, unless these have had too much, or the one with the smallest share tag. */
static struct slo_node *child_next(struct slo_node *p, uint64_t now, bool *due)
{
	bool had_too_much = p->due_debt >= DUE_AHEAD_NS * p->sched->window.size && p->by_share.n > p->by_due.n;

	if (slo_heap_key(&p->by_due) <= now && !had_too_much) {
		*due = true;
		return slo_heap_top(&p->by_due, struct slo_node, in_due);
	}
	return slo_heap_top(&p->by_share, struct slo_node, in_share);
}

static void due_account(struct slo_node *p, bool due, uint64_t cost)
{
	if (due)
		p->due_debt = min_u64(p->due_debt + cost, 2 * DUE_AHEAD_NS * p->sched->window.size);
	else
		p->due_debt -= min_u64(p->due_debt, cost * DUE_PER_SHARE);
}

/* Throttles the class or the VM if its limit does not allow the piece. A flush is not its class's affair. */
static bool limits_throttle(struct slo_node *class, struct slo_node *vm, const struct slo_amount *a, uint64_t now)
{
	struct slo_node *n = class;
	uint64_t ready = class->limited && !a->flush ? limit_ready_ns(class, a) : 0;

	if (ready <= now && vm->limited) {
		n = vm;
		ready = limit_ready_ns(vm, a);
	}
	if (ready <= now)
		return false;
	slo_node_throttle(n, ready, now);
	return true;
}

static void held_leave(struct slo_flow *f, struct slo_req *r, uint64_t now)
{
	struct slo_node *n = r->op == SLO_FLUSH ? f->node.parent->parent : &f->node;

	list_remove(&r->node);
	if (!slo_node_has_work(n))
		slo_node_deactivate(n);
	slo_held_remove(f, now);
}

/*
 * A VM that is due as one of its classes is, and for nothing else, has its turn for that class. Else each such turn would be a
 * flush's, and the class as due as before. But what has waited for long goes: a VM that gets all it does by its classes'
 * reservations has no other turns.
 */
static bool flush_next(const struct slo_node *vm, bool due, uint64_t now)
{
	if (list_empty(&vm->flushes))
		return false;
	return !due || slo_due_own_ns(vm) <= now || now - list_first(&vm->flushes, struct slo_req, node)->arrival_ns >= FLUSH_HELD_MOST_NS;
}

/* What goes next of this VM. */
static struct slo_req *vm_next(struct slo_node *vm, bool due, uint64_t now, bool *ret_class_due)
{
	struct slo_node *class;
	struct slo_flow *f;

	if (flush_next(vm, due, now))
		return list_first(&vm->flushes, struct slo_req, node);
	class = child_next(vm, now, ret_class_due);
	f = slo_flow_of(slo_heap_top(&class->by_share, struct slo_node, in_share));
	return list_first(&f->queue, struct slo_req, node);
}

static void timers_run(struct slo_sched *s, uint64_t now)
{
	while (slo_heap_key(&s->timers) <= now)
		slo_node_unthrottle(slo_heap_top(&s->timers, struct slo_node, in_timer), now);
}

bool slo_dispatch(struct slo_sched *s, uint64_t now, struct slo_piece *ret)
{
	s->now_ns = now;
	timers_run(s, now);
	slo_anticipate_expire(s, now);
	while (s->root.by_share.n) {
		bool due = false, vm_due, class_due = false;
		struct slo_node *vm;
		struct slo_req *r;
		struct slo_amount a;

		if (s->root.in_flight >= s->window.size) {
			if (s->targets)
				slo_window_full(s, now);
			return false;
		}
		vm = child_next(&s->root, now, &due);
		vm_due = due;
		r = vm_next(vm, due, now, &class_due);
		piece_make(r->flow, r, now, ret);
		a = slo_amount_of(s, r->op, ret->bytes);
		if (limits_throttle(r->flow->node.parent, vm, &a, now))
			continue;
		if (!vm_due && slo_anticipate(s, now)) {
			s->toll.starved = true;
			return false;
		}
		due_account(&s->root, vm_due, ret->cost);
		due_account(vm, class_due, ret->cost);
		s->dispatched++;
		s->due += vm_due;
		piece_give(r->flow, ret, &a, vm_due, class_due);
		if (ret->last)
			held_leave(r->flow, r, now);
		return true;
	}
	if (s->root.in_flight < s->window.size) {
		s->toll.starved = true;
		if (s->targets)
			slo_window_starved(s);
	}
	return false;
}

uint64_t slo_next_ns(const struct slo_sched *s)
{
	/* With a full window only a completion helps. */
	if (!s->root.held || s->root.in_flight >= s->window.size)
		return UINT64_MAX;
	return min_u64(slo_heap_key(&s->timers), s->anticipation.node ? s->anticipation.until_ns : UINT64_MAX);
}

/* What a flush owes is paid by the VM, all of it, before its next flush goes. */
static void charge_afterwards(struct slo_flow *f, const struct slo_piece *p, uint64_t now)
{
	struct slo_sched *s = f->node.sched;
	double beyond = (double)(now - p->dispatch_ns) - (double)p->cost;
	uint64_t owes = slo_flush_owes(p, now);

	if (p->req->op != SLO_FLUSH)
		s->wait_ns += ((beyond > 0 ? beyond : 0) - s->wait_ns) / 16;
	else if (owes && s->root.held) {
		slo_charge_share(&f->node, owes);
		slo_charge_share(f->node.parent, owes);
		slo_owe_share(f->node.parent->parent, owes);
	}
}

bool slo_complete(const struct slo_piece *p, uint64_t now, int result)
{
	struct slo_flow *f = p->flow;
	struct slo_sched *s = f->node.sched;
	struct slo_node *class = f->node.parent;
	struct slo_req *r = p->req;
	bool last;

	if (p->light) {
		slo_light_return(p, now);
		return true;
	}
	/* A request that was moved while a piece of it was out is not done with that piece. */
	last = --r->pieces == 0 && r->given_bytes == r->bytes;
	s->now_ns = now;
	hist_add(&class->class->device_time, now - p->dispatch_ns);
	charge_afterwards(f, p, now);
	slo_toll_back(s, p, now);
	if (result == 0 && (p->in_flight <= 1 || p->in_flight <= s->window.floor / 2))
		slo_cost_learn(&s->cost, r->op, p->sequential, p->bytes, now - p->dispatch_ns);
	if (s->targets) {
		slo_anticipate_served(s, now - p->dispatch_ns);
		slo_window_completed(s, p, r->arrival_ns, last, now);
	}
	slo_flight_remove(f, now);
	if (class->due.any)
		slo_anticipate_idle(class, now);
	return last;
}

/* The first that the flow holds; NULL: nothing. */
static struct slo_req *held_first(struct slo_flow *f)
{
	struct slo_req *r;

	list_for_each(r, &f->node.parent->parent->flushes, node)
		if (r->flow == f)
			return r;
	return list_empty(&f->queue) ? NULL : list_first(&f->queue, struct slo_req, node);
}

bool slo_flow_drain(struct slo_flow *f, uint64_t now, struct slo_piece *ret)
{
	struct slo_req *r = held_first(f);
	struct slo_amount a;

	if (!r)
		return false;
	f->node.sched->now_ns = now;
	piece_make(f, r, now, ret);
	a = slo_amount_of(f->node.sched, r->op, ret->bytes);
	piece_give(f, ret, &a, false, false);
	if (ret->last)
		held_leave(f, r, now);
	return true;
}

void slo_flow_take(struct slo_flow *f, uint64_t now, struct list *out)
{
	struct slo_req *r;

	while ((r = held_first(f))) {
		held_leave(f, r, now);
		list_append(out, &r->node);
	}
}

unsigned slo_held(const struct slo_sched *s)
{
	return s->root.held;
}

unsigned slo_in_flight(const struct slo_sched *s)
{
	return s->root.in_flight;
}

unsigned slo_flow_held(const struct slo_flow *f)
{
	return f->node.held;
}

unsigned slo_flow_in_flight(const struct slo_flow *f)
{
	return f->node.in_flight;
}

unsigned slo_window(const struct slo_sched *s)
{
	return s->window.size;
}
