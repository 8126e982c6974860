/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether reservations are kept in a sliced pool. Slices do not know them, so what all of them attained is judged when a
 * snapshot is whole, on the control thread, as src/slo/verdict.c judges where one schedules for all: kept if it is there
 * to within the tick's tolerance, or if less was asked for, which shows in a queue that is empty most of the time.
 */
#include "ctl/slo_snapshot.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

#define KEPT 0.95
/* Parts of the time: wanted more; was held back so long that this explains it. */
#define ASKED 0.5
#define EXPLAINS 0.33

static const struct slo_attained *attained_of(const struct slo_seen *s, enum slo_span i)
{
	return &s->report.attained[i];
}

static bool has_reservation(const struct slo_attained *a, const struct slo_rate *r)
{
	double seconds = (double)a->span_ns / NSEC_PER_SEC;

	return (double)a->requests * 1000 >= KEPT * seconds * (double)r->milli_iops &&
	       (double)a->bytes >= KEPT * seconds * (double)r->bandwidth;
}

static bool is_part(uint64_t ns, const struct slo_attained *a, double part)
{
	return (double)ns > (double)a->span_ns * part;
}

/* The time in which it wanted more: a VM does not by what only its classes' own limits hold back. */
static uint64_t asked_ns(const struct slo_pool_seen *p, const struct slo_seen *s, enum slo_span span)
{
	uint64_t sum = 0;

	if (s->class[0])
		return attained_of(s, span)->held_ns;
	for (unsigned i = 0; i < p->n; i++) {
		const struct slo_attained *a = attained_of(&p->seen[i], span);

		if (p->seen[i].class[0] && strcmp(p->seen[i].vm, s->vm) == 0)
			sum += a->held_ns - min_u64(a->held_ns, a->throttled_ns);
	}
	return min_u64(sum, attained_of(s, span)->held_ns);
}

static enum slo_reason reason_for(const struct slo_pool_seen *p, const struct slo_seen *s, enum slo_span span)
{
	const struct slo_attained *a = attained_of(s, span);
	const struct slo_seen *vm = slo_snapshot_find(p, s->vm, "");

	if (has_reservation(a, &s->promise.reservation))
		return SLO_REASON_NONE;
	if (!is_part(asked_ns(p, s, span), a, ASKED))
		return s->report.ring_full[span] ? SLO_REASON_RING_FULL : SLO_REASON_DEMAND;
	if (is_part(a->throttled_ns, a, EXPLAINS))
		return SLO_REASON_OWN_LIMIT;
	if (vm && is_part(attained_of(vm, span)->throttled_ns, a, EXPLAINS))
		return SLO_REASON_VM_LIMIT;
	return SLO_REASON_SATURATED;
}

/* The class that cost the device most, beside it and, for a VM, beside its own. */
static void name_most_costly(const struct slo_pool_seen *p, struct slo_seen *s)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < p->n; i++) {
		const struct slo_seen *o = &p->seen[i];
		uint64_t cost = attained_of(o, SLO_SPAN_10S)->cost;

		if (!o->class[0] || o == s || (!s->class[0] && strcmp(o->vm, s->vm) == 0) || cost <= most)
			continue;
		most = cost;
		snprintf(s->culprit, sizeof(s->culprit), "%s/%s", o->vm, o->class);
	}
}

static void judge(const struct slo_pool_seen *p, struct slo_seen *s)
{
	for (unsigned i = 0; i < SLO_SPANS; i++) {
		enum slo_reason reason = reason_for(p, s, (enum slo_span)i);

		s->report.reservation[i] = (struct slo_verdict){
			.kept = reason == SLO_REASON_NONE || reason == SLO_REASON_DEMAND, .reason = reason
		};
	}
	if (s->report.reservation[SLO_SPAN_10S].reason == SLO_REASON_SATURATED)
		name_most_costly(p, s);
}

void slo_judge_slices(struct slo_pool_seen *p)
{
	for (unsigned i = 0; i < p->n; i++)
		judge(p, &p->seen[i]);
}
