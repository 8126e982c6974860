/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deceptive idleness: a reader with one request at a time is never queued when its turn comes, because its next request
 * follows the last one's completion by some microseconds. When its reservation is overdue at that moment and something that
 * is not due would take the device's last free place, the place is kept free for a little while: about twice the reader's
 * usual pause, never longer than the other piece would take, and in total never more than 5 % of the pool's time. The
 * idling is charged to the reader. One that does not come is waited for less and less often.
 *
 * It suffices to wait when the reservation *is* overdue: before that, letting one other piece go delays the reader by no
 * more than that piece, which it makes up for at its next turns. Called from dispatch.c on the owner's thread.
 */
#include "slo/internal.h"

#define PATIENCE_MIN_NS (100 * NSEC_PER_USEC)
#define THINK_MAX_NS (50 * NSEC_PER_MSEC)
#define SKIP_NS (10 * NSEC_PER_MSEC)
#define SKIP_DOUBLINGS 7

static void budget_refresh(struct slo_anticipation *a, uint64_t now)
{
	uint64_t most = a->permille * NSEC_PER_MSEC;

	if (a->budget_at_ns)
		a->budget_ns = min_u64(a->budget_ns + (now - a->budget_at_ns) * a->permille / 1000, most);
	a->budget_at_ns = now;
}

void slo_anticipate_served(struct slo_sched *s, uint64_t device_ns)
{
	s->anticipation.service_ns += ((double)device_ns - s->anticipation.service_ns) / 16;
}

/* Time after which a place becomes free anyway: waiting longer is worse than letting the other go. */
static double block_ns(const struct slo_sched *s)
{
	return s->anticipation.service_ns / s->window.size;
}

static uint64_t patience_ns(const struct slo_sched *s, const struct slo_node *class)
{
	double think = class->class->think_ns, block = block_ns(s);
	double p = think > 0 ? 2 * think + 50 * NSEC_PER_USEC : block / 4;

	if (p < PATIENCE_MIN_NS)
		p = PATIENCE_MIN_NS;
	return (uint64_t)(p < block ? p : block);
}

void slo_anticipate_idle(struct slo_node *class, uint64_t now)
{
	struct slo_sched *s = class->sched;

	/* Where nobody waits, nobody has to be waited for. */
	if (class->held || class->in_flight || !s->root.held)
		return;
	if (s->anticipation.permille && class->due.any && !class->throttled && now >= class->class->skip_until_ns)
		slo_heap_set(&s->expect, &class->in_expect, slo_due_ns(class));
	if (!s->anticipation.budget_at_ns)
		budget_refresh(&s->anticipation, now);
}

void slo_anticipate_wake(struct slo_node *class, uint64_t now)
{
	struct slo_class_state *c = class->class;
	uint64_t think = now - class->idle_ns;

	if (class->due.any && class->idle_ns && think < THINK_MAX_NS)
		c->think_ns += c->think_ns > 0 ? ((double)think - c->think_ns) / 8 : (double)max_u64(think, 1);
	slo_heap_remove(&class->sched->expect, &class->in_expect);
	if (class->sched->anticipation.node == class)
		slo_anticipate_stop(class->sched, now, true);
}

void slo_anticipate_stop(struct slo_sched *s, uint64_t now, bool came)
{
	struct slo_anticipation *a = &s->anticipation;
	struct slo_node *class = a->node;
	uint64_t waited = now - a->since_ns, idled = waited / s->window.size;

	a->node = NULL;
	a->idled_ns += idled;
	a->budget_ns -= min_u64(a->budget_ns, idled);
	slo_charge_share(class, waited);
	slo_charge_share(class->parent, waited);
	if (came) {
		class->class->in_vain = 0;
		return;
	}
	a->lost++;
	slo_heap_remove(&s->expect, &class->in_expect);
	class->class->skip_until_ns = now + (SKIP_NS << class->class->in_vain);
	if (class->class->in_vain < SKIP_DOUBLINGS)
		class->class->in_vain++;
}

void slo_anticipate_forget(struct slo_node *class)
{
	slo_heap_remove(&class->sched->expect, &class->in_expect);
	if (class->sched->anticipation.node == class)
		slo_anticipate_stop(class->sched, class->sched->now_ns, false);
}

static bool pause_begin(struct slo_sched *s, struct slo_node *class, uint64_t now)
{
	struct slo_anticipation *a = &s->anticipation;
	uint64_t until = class->idle_ns + patience_ns(s, class), most;
	uint64_t usual = class->idle_ns + (uint64_t)(class->class->think_ns * 1.25);

	budget_refresh(a, now);
	most = now + a->budget_ns * s->window.size;
	/* A pause that the budget would cut before the reader usually comes is idling for nothing. */
	if (until <= now || most < min_u64(usual, until) || most == now)
		return false;
	until = min_u64(until, most);
	a->node = class;
	a->since_ns = now;
	a->until_ns = until;
	a->pauses++;
	return true;
}

void slo_anticipate_expire(struct slo_sched *s, uint64_t now)
{
	if (s->anticipation.node && now >= s->anticipation.until_ns)
		slo_anticipate_stop(s, now, false);
}

bool slo_anticipate(struct slo_sched *s, uint64_t now)
{
	struct slo_anticipation *a = &s->anticipation;

	/* One place is kept, not the whole device. */
	if (s->root.in_flight + 1 < s->window.size)
		return false;
	if (a->node)
		return true;
	while (slo_heap_key(&s->expect) <= now) {
		struct slo_node *class = slo_heap_top(&s->expect, struct slo_node, in_expect);

		if (class->class->think_ns <= block_ns(s) && now < class->idle_ns + patience_ns(s, class))
			return pause_begin(s, class, now);
		slo_heap_remove(&s->expect, &class->in_expect);
	}
	return false;
}
