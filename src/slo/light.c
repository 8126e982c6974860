/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going lightly: what is uncontended costs nearly nothing, whatever was promised.
 *
 * While nobody waits, a request takes nothing from anybody, so nothing has to be decided about it; it only has to be known what
 * went, for the moment at which somebody does wait. That can be told of many at once, and everything is then as if each had been
 * accounted for alone:
 *
 *	limits		the bucket gives what they need together; `room` is what it has, so that one by one they could go
 *	reservations	they count, but not ahead: the tag rises to now at most, and by one period more
 *	shares		not charged, as always while nobody waits
 *	window		it is never exceeded; how long each took is judged when it comes back, what was done at once is a hit (who
 *			shared the device with it is asked then, and not when it went)
 *	pauses		a class that may be waited for is seen to wake and to fall idle; the last free place is left alone
 *	cost		that of their mean size, for statistics and whoever else charges it; as of one stream, if together they reach
 *			from where the last one ended just as far as they are long
 *
 * One in LIGHT_RUN, and at least one in LIGHT_NS, is accounted for in full: it teaches the cost model and books the others.
 * On the owner's thread: batches by the queue's port, single requests of other workers' queues by slo_admit_fast().
 */
#include "slo/internal.h"

#define LIGHT_RUN 511u
#define LIGHT_NS (2 * NSEC_PER_MSEC)
/* A sector, the smallest request. */
#define LEAST_BYTES 512u

void slo_flow_settle(struct slo_flow *f, uint64_t now)
{
	struct slo_bucket_counts *b;

	if (!f->light.requests)
		return;
	b = slo_meter_bucket(&f->node.meter, now);
	b->requests += f->light.requests;
	b->bytes += f->light.bytes;
	b->cost += f->light.cost;
	f->light.requests = f->light.bytes = f->light.cost = 0;
}

void slo_light_begin(struct slo_flow *f, uint64_t now)
{
	slo_flow_settle(f, now);
	f->light_left = LIGHT_RUN;
	f->light_until_ns = now + LIGHT_NS;
}

/* Requests of unknown size that the limits of class and VM let go now. */
static uint64_t limits_room(const struct slo_node *class, uint64_t now)
{
	uint64_t room = UINT64_MAX;

	for (const struct slo_node *n = class; n->parent; n = n->parent) {
		if (!n->limited)
			continue;
		room = min_u64(room, slo_limit_room(&n->limit[SLO_IOPS], 1000, 1000, now));
		room = min_u64(room, slo_limit_room(&n->limit[SLO_BANDWIDTH], LEAST_BYTES, n->sched->split_bytes, now));
	}
	return room;
}

struct slo_room slo_flow_room(const struct slo_flow *f, uint64_t now)
{
	const struct slo_node *class = f->node.parent;
	const struct slo_sched *s = f->node.sched;
	uint64_t room = f->light_left;
	unsigned places;

	if (!f->light_left || now >= f->light_until_ns || class->held_back || s->anticipation.node || s->root.held ||
	    s->root.in_flight >= s->window.size)
		return (struct slo_room){ 0 };
	/* The last free place may have to wait for somebody whose reservation is due. */
	places = s->window.size - s->root.in_flight - (s->expect.n > 0);
	if (class->rated || class->parent->rated)
		room = min_u64(room, limits_room(class, now));
	return (struct slo_room){ places ? (unsigned)room : 0, (unsigned)min_u64(room, places) };
}

/* Before something goes, for what a node's idle time says about its reservation. */
static void wake(struct slo_node *class, uint64_t now)
{
	slo_node_wake(class, now);
	slo_node_wake(class->parent, now);
}

/* Reservations and latency targets are at work in the pool. */
static void targets_passed(struct slo_sched *s, struct slo_node *class, unsigned instant, uint64_t now)
{
	slo_window_starved(s);
	if (!instant)
		return;
	wake(class, now);
	for (struct slo_node *n = class; n->parent; n = n->parent)
		if (!n->in_flight)
			n->idle_ns = now;
	slo_window_instant(s, class, instant, now);
}

/* Costs rise in proportion to sizes, so that n times the mean's is that of all. Moves on where a sequential one would begin. */
static uint64_t passed_cost(struct slo_flow *f, const struct slo_passed *p)
{
	uint64_t cost = 0;

	for (unsigned op = SLO_READ; op <= SLO_WRITE; op++) {
		bool stream = f->next_offset[op] && f->next_offset[op] + p->bytes[op] == p->end_bytes[op];

		if (!p->n[op])
			continue;
		cost += p->n[op] * slo_cost_of(&f->node.sched->cost, (enum slo_op)op, stream, p->bytes[op] / p->n[op]);
		f->next_offset[op] = p->end_bytes[op];
	}
	return cost;
}

uint64_t slo_flow_passed(struct slo_flow *f, const struct slo_passed *p, uint64_t now)
{
	struct slo_node *class = f->node.parent;
	struct slo_sched *s = f->node.sched;
	unsigned n = p->n[SLO_READ] + p->n[SLO_WRITE];
	struct slo_amount a = { { n * UINT64_C(1000), p->bytes[SLO_READ] + p->bytes[SLO_WRITE] } };
	uint64_t cost = passed_cost(f, p);

	if (!n)
		return 0;
	s->now_ns = now;
	s->fast += n;
	s->toll.starved = true;
	if (s->targets)
		targets_passed(s, class, p->instant, now);
	if (class->rated || class->parent->rated)
		slo_charge_rates_many(f, &a, n, now);
	f->light_left -= (unsigned)min_u64(n, f->light_left);
	f->light.requests += n;
	f->light.bytes += a.units[SLO_BANDWIDTH];
	f->light.cost += cost;
	hist_add_many(&class->class->queue_time, 0, n);
	hist_add_many(&class->class->device_time, 0, p->instant);
	return cost;
}

void slo_flow_out(struct slo_flow *f, uint64_t now)
{
	struct slo_sched *s = f->node.sched;

	if (s->targets)
		wake(f->node.parent, now);
	slo_flight_add(f, now);
	if (s->targets)
		slo_window_dispatched(s);
}

void slo_flow_back(struct slo_flow *f, enum slo_op op, uint64_t bytes, uint64_t since_ns, uint64_t now)
{
	struct slo_node *class = f->node.parent;
	struct slo_sched *s = f->node.sched;

	s->now_ns = now;
	hist_add(&class->class->device_time, now - since_ns);
	if (s->targets) {
		struct slo_piece p = { .flow = f, .bytes = bytes, .dispatch_ns = since_ns, .in_flight = s->root.in_flight,
				       .cost = slo_cost_of(&s->cost, op, false, bytes) };

		slo_anticipate_served(s, now - since_ns);
		slo_window_completed(s, &p, since_ns, true, now);
	}
	slo_flight_remove(f, now);
	if (class->due.any)
		slo_anticipate_idle(class, now);
}

uint64_t slo_split_bytes(const struct slo_sched *s)
{
	return s->split_bytes;
}

void slo_light_go(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret)
{
	struct slo_passed passed = { 0 };

	passed.n[r->op] = 1;
	passed.bytes[r->op] = r->bytes;
	passed.end_bytes[r->op] = r->offset_bytes + r->bytes;
	r->flow = f;
	r->given_bytes = r->bytes;
	r->pieces = 1;
	if (!r->arrival_ns)
		r->arrival_ns = now;
	*ret = (struct slo_piece){ .req = r, .flow = f, .bytes = r->bytes, .dispatch_ns = now, .light = true, .last = true };
	slo_flow_out(f, now);
	ret->cost = slo_flow_passed(f, &passed, now);
}

void slo_light_return(const struct slo_piece *p, uint64_t now)
{
	slo_flow_back(p->flow, (enum slo_op)p->req->op, p->bytes, p->dispatch_ns, now);
	p->req->pieces = 0;
}
