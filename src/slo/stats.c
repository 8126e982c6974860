/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was attained, in one-second buckets. What is dispatched is counted once, at the flow, and summed up the tree when
 * somebody looks; times in a state (busy, held, throttled) are booked when the state changes, at classes and VMs. A node
 * that is removed leaves its buckets to its parent. On the owner's thread.
 */
#include "slo/internal.h"

static void book(struct slo_meter *m, uint64_t from, uint64_t to)
{
	struct slo_bucket_counts *b = slo_meter_bucket(m, from);

	if (m->state & SLO_STATE_BUSY)
		b->busy_ns += to - from;
	if (m->state & SLO_STATE_HELD)
		b->held_ns += to - from;
	if (m->state & SLO_STATE_THROTTLED)
		b->throttled_ns += to - from;
}

void slo_meter_state(struct slo_meter *m, uint8_t state, uint64_t now)
{
	uint64_t at = m->state_ns, ring = (SLO_RING - 1) * NSEC_PER_SEC;

	if (state == m->state && state == 0)
		return;
	/* Older seconds have left the ring. */
	if (at + ring < now)
		at = now - ring;
	while (m->state && at < now) {
		uint64_t end = min_u64(now, (at / NSEC_PER_SEC + 1) * NSEC_PER_SEC);

		book(m, at, end);
		at = end;
	}
	m->state = state;
	m->state_ns = now;
}

void slo_meter_fold(struct slo_meter *into, const struct slo_meter *from)
{
	for (unsigned i = 0; i < SLO_RING; i++) {
		const struct slo_bucket_counts *f = &from->ring[i];
		struct slo_bucket_counts *b = &into->ring[i];

		if (f->second < b->second)
			continue;
		if (f->second > b->second)
			*b = (struct slo_bucket_counts){ .second = f->second };
		b->requests += f->requests;
		b->bytes += f->bytes;
		b->cost += f->cost;
	}
	if (from->seen && (!into->seen || from->since_ns < into->since_ns)) {
		into->seen = true;
		into->since_ns = from->since_ns;
	}
}

static bool in_span(const struct slo_bucket_counts *b, uint64_t first, uint64_t end)
{
	return b->second >= first && b->second < end;
}

static void attained_add(const struct slo_node *n, uint64_t first, uint64_t end, struct slo_attained *a, uint64_t *since)
{
	const struct slo_node *c;

	if (n->meter.seen)
		*since = min_u64(*since, n->meter.since_ns);
	for (unsigned i = 0; i < SLO_RING; i++) {
		const struct slo_bucket_counts *b = &n->meter.ring[i];

		if (!in_span(b, first, end))
			continue;
		a->requests += b->requests;
		a->bytes += b->bytes;
		a->cost += b->cost;
		a->completed += b->completed;
		a->missed_p50 += b->missed_p50;
		a->missed_p99 += b->missed_p99;
	}
	list_for_each(c, &n->children, siblings)
		attained_add(c, first, end, a, since);
}

/* Light requests count when somebody looks at the latest. */
static void settle_below(struct slo_node *n, uint64_t now)
{
	struct slo_node *c;

	if (n->kind == SLO_FLOW)
		slo_flow_settle(slo_flow_of(n), now);
	list_for_each(c, &n->children, siblings)
		settle_below(c, now);
}

void slo_node_attained(struct slo_node *n, unsigned seconds, uint64_t now, struct slo_attained *ret)
{
	uint64_t end = now / NSEC_PER_SEC, first = end > seconds ? end - seconds : 0, since = UINT64_MAX;

	*ret = (struct slo_attained){ 0 };
	settle_below(n, now);
	slo_meter_state(&n->meter, n->meter.state, now);
	attained_add(n, first, end, ret, &since);
	since = max_u64(since, first * NSEC_PER_SEC);
	ret->span_ns = end * NSEC_PER_SEC > since ? end * NSEC_PER_SEC - since : 0;
	for (unsigned i = 0; i < SLO_RING; i++) {
		const struct slo_bucket_counts *b = &n->meter.ring[i];

		if (!in_span(b, first, end))
			continue;
		ret->busy_ns += b->busy_ns;
		ret->held_ns += b->held_ns;
		ret->throttled_ns += b->throttled_ns;
	}
}

uint64_t slo_node_ring_full(const struct slo_node *n, unsigned seconds, uint64_t now)
{
	uint64_t end = now / NSEC_PER_SEC, first = end > seconds ? end - seconds : 0, sum = 0;

	for (unsigned i = 0; i < SLO_RING; i++)
		if (in_span(&n->meter.ring[i], first, end))
			sum += n->meter.ring[i].ring_full;
	return sum;
}

void slo_vm_ring_full(struct slo_node *vm, uint64_t now)
{
	slo_meter_bucket(&vm->meter, now)->ring_full++;
}

void slo_node_times(const struct slo_node *n, struct hist *ret_queue, struct hist *ret_device)
{
	const struct slo_node *c;

	if (n->kind == SLO_CLASS) {
		hist_merge(ret_queue, &n->class->queue_time);
		hist_merge(ret_device, &n->class->device_time);
		return;
	}
	list_for_each(c, &n->children, siblings)
		slo_node_times(c, ret_queue, ret_device);
}

void slo_sched_report(const struct slo_sched *s, struct slo_sched_report *ret)
{
	const struct slo_window *w = &s->window;
	const struct slo_anticipation *a = &s->anticipation;

	*ret = (struct slo_sched_report){
		.depth = w->depth, .window = w->size, .window_floor = w->floor,
		.held = s->root.held, .in_flight = s->root.in_flight,
		.latency_unreachable = w->at_floor_ns != 0,
		.anticipated_ns = a->idled_ns, .anticipations = a->pauses, .anticipations_lost = a->lost,
		.fast = s->fast, .dispatched = s->dispatched, .due = s->due, .steps = s->steps,
		.window_shrinks = w->shrinks, .window_grows = w->grows,
	};
}
