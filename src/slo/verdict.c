/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a promise is kept, and if not, why: what people read in `fairlead slo`. On the owner's thread, when somebody looks.
 */
#include "slo/internal.h"

/* A whole second rarely holds a whole number of requests. */
#define KEPT 0.98
/* A node that is idle for a tenth of the time is not waiting for anybody. */
#define DEMANDING 0.9
/* Being held back for a third of the time explains a promise that was missed. */
#define EXPLAINS 0.33

static const unsigned span_seconds[SLO_SPANS] = { 1, 10, 60 };

static bool rate_attained(const struct slo_rate *r, const struct slo_attained *a)
{
	double seconds = (double)a->span_ns / 1e9;
	/* One request may just not have fallen into the span. */
	double requests = (double)r->milli_iops / 1000 * seconds * KEPT - 1;

	return (double)a->requests >= requests && (double)a->bytes >= (double)r->bandwidth * seconds * KEPT - 4096;
}

static bool explains(uint64_t ns, const struct slo_attained *a)
{
	return (double)ns >= (double)a->span_ns * EXPLAINS;
}

/* The class that cost the device most, beside `n` (and, for a VM, beside its own). */
static const struct slo_node *culprit_find(struct slo_node *n, unsigned seconds, uint64_t now)
{
	const struct slo_node *worst = NULL;
	struct slo_node *vm, *class;
	uint64_t most = 0;

	list_for_each(vm, &n->sched->root.children, siblings)
		list_for_each(class, &vm->children, siblings) {
			struct slo_attained a;

			if (class == n || vm == n)
				continue;
			slo_node_attained(class, seconds, now, &a);
			if (a.cost > most) {
				most = a.cost;
				worst = class;
			}
		}
	return worst;
}

/* Limits first: they are what the operator can change. */
static enum slo_reason limit_reason(struct slo_node *n, const struct slo_attained *a, unsigned seconds, uint64_t now)
{
	struct slo_attained vm;

	if (explains(a->throttled_ns, a))
		return SLO_REASON_OWN_LIMIT;
	if (n->kind != SLO_CLASS)
		return SLO_REASON_NONE;
	slo_node_attained(n->parent, seconds, now, &vm);
	return explains(vm.throttled_ns, a) ? SLO_REASON_VM_LIMIT : SLO_REASON_NONE;
}

static struct slo_verdict violated(struct slo_node *n, enum slo_reason reason, unsigned seconds, uint64_t now)
{
	struct slo_verdict v = { .kept = false, .reason = reason };

	if (reason == SLO_REASON_SATURATED)
		v.culprit = culprit_find(n, seconds, now);
	return v;
}

/* Its VM promises less than its classes together: theirs are cut in proportion. */
static bool cut_by_vm(const struct slo_node *n)
{
	const struct slo_rate *r = &n->promise.reservation;

	return (n->due.ns_per_unit[SLO_IOPS] * (double)r->milli_iops > 1.001e9) ||
	       (n->due.ns_per_unit[SLO_BANDWIDTH] * (double)r->bandwidth > 1.001e9);
}

/* The time in which the node wanted more: a VM does not by what only its classes' own limits hold back. */
static uint64_t wanting_ns(struct slo_node *n, const struct slo_attained *a, unsigned seconds, uint64_t now)
{
	uint64_t sum = 0;
	struct slo_node *class;

	if (n->kind == SLO_CLASS)
		return a->busy_ns;
	list_for_each(class, &n->children, siblings) {
		struct slo_attained of;

		slo_node_attained(class, seconds, now, &of);
		sum += of.busy_ns - min_u64(of.busy_ns, of.throttled_ns);
	}
	return min_u64(sum, a->busy_ns);
}

static struct slo_verdict reservation_verdict(struct slo_node *n, const struct slo_attained *a, unsigned seconds,
					      uint64_t now)
{
	const struct slo_rate *r = &n->promise.reservation;
	const struct slo_node *vm = n->kind == SLO_CLASS ? n->parent : n;
	enum slo_reason reason;

	if ((!r->milli_iops && !r->bandwidth) || rate_attained(r, a))
		return (struct slo_verdict){ .kept = true };
	if ((double)wanting_ns(n, a, seconds, now) < (double)a->span_ns * DEMANDING) {
		reason = slo_node_ring_full(vm, seconds, now) ? SLO_REASON_RING_FULL : SLO_REASON_DEMAND;
		return (struct slo_verdict){ .kept = reason == SLO_REASON_DEMAND, .reason = reason };
	}
	reason = limit_reason(n, a, seconds, now);
	if (!reason && cut_by_vm(n))
		reason = SLO_REASON_VM_LIMIT;
	return violated(n, reason ? reason : SLO_REASON_SATURATED, seconds, now);
}

static struct slo_verdict latency_verdict(struct slo_node *n, const struct slo_attained *a, unsigned seconds, uint64_t now)
{
	const struct slo_window *w = &n->sched->window;
	enum slo_reason reason;

	if (a->missed_p99 * 100 <= a->completed && a->missed_p50 * 2 <= a->completed)
		return (struct slo_verdict){ .kept = true,
					     .reason = a->completed ? SLO_REASON_NONE : SLO_REASON_DEMAND };
	reason = limit_reason(n, a, seconds, now);
	if (!reason && w->at_floor_ns)
		reason = SLO_REASON_UNREACHABLE;
	return violated(n, reason ? reason : SLO_REASON_SATURATED, seconds, now);
}

void slo_node_report(struct slo_node *n, uint64_t now, struct slo_report *ret)
{
	const struct slo_node *vm = n->kind == SLO_CLASS ? n->parent : n;

	*ret = (struct slo_report){ .throttled = n->throttled, .held = n->held, .in_flight = n->in_flight };
	for (unsigned i = 0; i < SLO_SPANS; i++) {
		struct slo_attained *a = &ret->attained[i];

		slo_node_attained(n, span_seconds[i], now, a);
		ret->ring_full[i] = slo_node_ring_full(vm, span_seconds[i], now) != 0;
		ret->reservation[i] = reservation_verdict(n, a, span_seconds[i], now);
		if (n->promise.p99_ns || n->promise.p50_ns)
			ret->latency[i] = latency_verdict(n, a, span_seconds[i], now);
		else
			ret->latency[i].kept = true;
	}
}

const char *slo_reason_text(enum slo_reason r)
{
	static const char *const text[SLO_REASONS] = {
		[SLO_REASON_NONE] = "kept",
		[SLO_REASON_DEMAND] = "demand too low",
		[SLO_REASON_RING_FULL] = "ring full",
		[SLO_REASON_OWN_LIMIT] = "own limit",
		[SLO_REASON_VM_LIMIT] = "limit of VM",
		[SLO_REASON_SATURATED] = "device saturated",
		[SLO_REASON_UNREACHABLE] = "target unreachable",
	};

	return r < SLO_REASONS ? text[r] : "?";
}
