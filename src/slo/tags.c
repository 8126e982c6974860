/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tags: who stands in which heap of the tree, and what a dispatch does to them. The same rule holds at every level:
 *
 * - A child stands in its parent's heaps while it could go: something is held below it and neither it nor all below it are
 *   throttled. So an empty or throttled subtree costs nothing.
 * - Share (start-time fair queueing): a dispatch of cost c moves the child's start tag by c / shares; the parent's virtual
 *   time is the smallest start tag at the last dispatch; a child that comes back begins at that time, if its own is
 *   smaller: idle time gives no claim.
 * - Reservation: a tag in real time, when the next unit is due. Whatever serves the child counts, but service by shares
 *   never counts ahead: after it, at time t, the next unit is due at the latest one period after t. So any backlogged
 *   stretch of length T gets at least rate * T, however much it had before.
 *
 * A VM is due when its own reservation is or a class's is (whose reservation it pays: node.c sees to it that together they
 * promise no more than the VM's). Called by dispatch.c, node.c and anticipate.c on the owner's thread.
 */
#include "slo/internal.h"

/*
 * How far a start tag may run ahead of virtual time, in device time: reservations and debts may take a node beyond its
 * share, and without a bound its other classes would wait for hours until its neighbours have caught up.
 */
#define LEAD_MAX_NS (100 * NSEC_PER_MSEC)
/* For what bounds itself, as nothing more of it goes while it is owed: only so that tags stay numbers. */
#define OWED_MAX_NS (600 * NSEC_PER_SEC)
/* A class that is idle for less is between two requests of a depth-1 reader: its reservation goes on. */
#define PAUSE_MAX_NS (10 * NSEC_PER_MSEC)
#define TYPICAL_BYTES 4096

static uint64_t due_own_ns(const struct slo_due *d)
{
	uint64_t at = UINT64_MAX;

	for (unsigned i = 0; i < SLO_DIMENSIONS; i++)
		if (d->ns_per_unit[i] != 0)
			at = min_u64(at, d->tag_ns[i]);
	return at;
}

uint64_t slo_due_own_ns(const struct slo_node *n)
{
	return n->due.any ? due_own_ns(&n->due) : UINT64_MAX;
}

uint64_t slo_due_ns(const struct slo_node *n)
{
	return min_u64(slo_due_own_ns(n), slo_heap_key(&n->by_due));
}

void slo_due_rekey(struct slo_node *n)
{
	for (; n->parent && slo_heap_has(&n->in_share); n = n->parent) {
		uint64_t at = slo_due_ns(n);

		if (at != UINT64_MAX)
			slo_heap_set(&n->parent->by_due, &n->in_due, at);
		else
			slo_heap_remove(&n->parent->by_due, &n->in_due);
	}
}

/*
 * `by_reservation`: it went because this was due, so the tag moves by exactly one period, whoever of VM and class was due.
 * `n` pieces of the same size, one after the other: the tag comes to rest at most one of their periods after now.
 */
static void due_charge(struct slo_due *d, const struct slo_amount *a, unsigned n, bool by_reservation, uint64_t now)
{
	for (unsigned i = 0; i < SLO_DIMENSIONS; i++) {
		double period = d->ns_per_unit[i] * (i == SLO_IOPS ? 1000 : TYPICAL_BYTES);
		uint64_t late = max_u64(SLO_LATE_MAX_NS, (uint64_t)(period * SLO_LATE_MAX_PERIODS));
		uint64_t time = (uint64_t)((double)a->units[i] * d->ns_per_unit[i]), tag;

		if (d->ns_per_unit[i] == 0)
			continue;
		tag = max_u64(d->tag_ns[i], now > late ? now - late : 0);
		d->tag_ns[i] = by_reservation ? tag + time : max_u64(tag, min_u64(tag + time, now + time / n));
	}
}

static uint64_t pause_ns(const struct slo_due *d)
{
	double half = PAUSE_MAX_NS;

	if (d->ns_per_unit[SLO_IOPS] != 0 && half > d->ns_per_unit[SLO_IOPS] * 1000 / 2)
		half = d->ns_per_unit[SLO_IOPS] * 1000 / 2;
	if (d->ns_per_unit[SLO_BANDWIDTH] != 0 && half > d->ns_per_unit[SLO_BANDWIDTH] * TYPICAL_BYTES / 2)
		half = d->ns_per_unit[SLO_BANDWIDTH] * TYPICAL_BYTES / 2;
	return (uint64_t)half;
}

void slo_node_wake(struct slo_node *n, uint64_t now)
{
	if (n->held || n->in_flight)
		return;
	if (n->due.any && now - n->idle_ns > pause_ns(&n->due))
		for (unsigned i = 0; i < SLO_DIMENSIONS; i++)
			n->due.tag_ns[i] = max_u64(n->due.tag_ns[i], now);
	if (n->kind == SLO_CLASS)
		slo_anticipate_wake(n, now);
}

bool slo_node_has_work(const struct slo_node *n)
{
	if (n->kind == SLO_FLOW)
		return !list_empty(&container_of(n, const struct slo_flow, node)->queue);
	return n->by_share.n > 0 || !list_empty(&n->flushes);
}

void slo_node_activate(struct slo_node *n)
{
	for (; n->parent; n = n->parent) {
		struct slo_node *p = n->parent;

		if (slo_heap_has(&n->in_share)) {
			slo_due_rekey(n);
			return;
		}
		if (n->throttled || n->held_back || !slo_node_has_work(n))
			return;
		n->start_tag = max_u64(n->start_tag, p->vtime);
		slo_heap_set(&p->by_share, &n->in_share, n->start_tag);
		if (slo_due_ns(n) != UINT64_MAX)
			slo_heap_set(&p->by_due, &n->in_due, slo_due_ns(n));
	}
}

void slo_node_deactivate(struct slo_node *n)
{
	for (; n->parent && slo_heap_has(&n->in_share); n = n->parent) {
		struct slo_node *p = n->parent;

		slo_heap_remove(&p->by_share, &n->in_share);
		slo_heap_remove(&p->by_due, &n->in_due);
		if (slo_node_has_work(p)) {
			slo_due_rekey(p);
			return;
		}
	}
}

static void show_state(struct slo_node *n, uint64_t now)
{
	slo_meter_state(&n->meter,
			(uint8_t)((n->held || n->in_flight ? SLO_STATE_BUSY : 0) | (n->held ? SLO_STATE_HELD : 0) |
				  (n->throttled && n->held ? SLO_STATE_THROTTLED : 0)),
			now);
}

void slo_node_throttle(struct slo_node *n, uint64_t until_ns, uint64_t now)
{
	n->throttled = true;
	slo_node_deactivate(n);
	slo_heap_set(&n->sched->timers, &n->in_timer, until_ns);
	show_state(n, now);
}

void slo_node_unthrottle(struct slo_node *n, uint64_t now)
{
	if (!n->throttled)
		return;
	n->throttled = false;
	slo_heap_remove(&n->sched->timers, &n->in_timer);
	show_state(n, now);
	slo_node_activate(n);
}

void slo_class_hold(struct slo_node *n, bool hold)
{
	if (n->held_back == hold)
		return;
	n->held_back = hold;
	if (hold)
		slo_node_deactivate(n);
	else
		slo_node_activate(n);
}

void slo_held_add(struct slo_flow *f, uint64_t now)
{
	for (struct slo_node *n = &f->node; n; n = n->parent) {
		if (n->kind != SLO_ROOT)
			slo_node_wake(n, now);
		if (n->held++ == 0 && (n->kind == SLO_CLASS || n->kind == SLO_VM))
			show_state(n, now);
	}
}

void slo_held_remove(struct slo_flow *f, uint64_t now)
{
	for (struct slo_node *n = &f->node; n; n = n->parent) {
		assert(n->held);
		if (--n->held == 0 && (n->kind == SLO_CLASS || n->kind == SLO_VM))
			show_state(n, now);
		if (!n->held && !n->in_flight)
			n->idle_ns = now;
	}
}

static void flight_add(struct slo_node *n, uint64_t now)
{
	if (n->in_flight++ == 0 && !n->held)
		show_state(n, now);
}

static void flight_remove(struct slo_node *n, uint64_t now)
{
	assert(n->in_flight);
	if (--n->in_flight || n->held)
		return;
	n->idle_ns = now;
	show_state(n, now);
}

void slo_flight_add(struct slo_flow *f, uint64_t now)
{
	struct slo_node *class = f->node.parent;

	f->node.in_flight++;
	flight_add(class, now);
	flight_add(class->parent, now);
	f->node.sched->root.in_flight++;
}

void slo_flight_remove(struct slo_flow *f, uint64_t now)
{
	struct slo_node *class = f->node.parent;

	f->node.in_flight--;
	flight_remove(class, now);
	flight_remove(class->parent, now);
	f->node.sched->root.in_flight--;
}

void slo_tags_rebase(struct slo_node *parent)
{
	struct slo_node *n;
	uint64_t base = parent->vtime;

	list_for_each(n, &parent->children, siblings)
		n->start_tag = n->start_tag > base ? n->start_tag - base : 0;
	/* Nobody in the heap is behind virtual time, so the order stays. */
	for (unsigned i = 1; i <= parent->by_share.n; i++) {
		struct slo_heap_entry *e = &parent->by_share.entry[i];

		e->key = e->key > base ? e->key - base : 0;
	}
	parent->vtime = 0;
}

/* `lead_ns`: how far ahead of virtual time the charge may put it. */
static void charge_share(struct slo_node *n, uint64_t cost, uint64_t lead_ns)
{
	struct slo_node *p = n->parent;
	uint64_t lead;

	if (!slo_heap_has(&n->in_share))
		n->start_tag = max_u64(n->start_tag, p->vtime);
	/* The smallest start tag of all that could go: the one that goes, when it goes by shares. */
	p->vtime = max_u64(p->vtime, min_u64(slo_heap_key(&p->by_share), n->start_tag));
	lead = p->vtime + (uint64_t)((double)lead_ns * n->tag_per_cost);
	n->start_tag = min_u64(n->start_tag + (uint64_t)((double)cost * n->tag_per_cost), max_u64(lead, n->start_tag));
	if (slo_heap_has(&n->in_share))
		slo_heap_set(&p->by_share, &n->in_share, n->start_tag);
	if (n->start_tag > SLO_TAG_MAX)
		slo_tags_rebase(p);
}

void slo_charge_share(struct slo_node *n, uint64_t cost)
{
	charge_share(n, cost, cost + LEAD_MAX_NS);
}

void slo_owe_share(struct slo_node *n, uint64_t cost)
{
	charge_share(n, cost, OWED_MAX_NS);
}

static void charge_rates(struct slo_flow *f, const struct slo_amount *a, unsigned pieces, bool vm_due, bool class_due,
			 uint64_t now)
{
	struct slo_node *class = f->node.parent, *vm = class->parent;

	for (struct slo_node *n = class; n->parent; n = n->parent) {
		if (n->due.any)
			due_charge(&n->due, a, pieces, n == vm ? vm_due : class_due, now);
		if (n->limited && (n == vm || !a->flush))
			for (unsigned i = 0; i < SLO_DIMENSIONS; i++)
				slo_limit_charge(&n->limit[i], a->units[i], now);
	}
	if (!class->due.any && !vm->due.any)
		return;
	/* A flush may go while its class has nothing held, or is throttled, and the VM has other classes that could go. */
	slo_due_rekey(class);
	if (!slo_heap_has(&class->in_share))
		slo_due_rekey(vm);
}

void slo_charge_rates(struct slo_flow *f, const struct slo_amount *a, bool vm_due, bool class_due, uint64_t now)
{
	charge_rates(f, a, 1, vm_due, class_due, now);
}

void slo_charge_rates_many(struct slo_flow *f, const struct slo_amount *a, unsigned n, uint64_t now)
{
	charge_rates(f, a, n, false, false, now);
}

void slo_charge(struct slo_flow *f, const struct slo_amount *a, uint64_t cost, bool vm_due, bool class_due, uint64_t now)
{
	for (struct slo_node *n = &f->node; n->parent; n = n->parent)
		slo_charge_share(n, cost);
	slo_charge_rates(f, a, vm_due, class_due, now);
}
