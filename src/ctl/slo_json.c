/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a snapshot to JSON: rates per second, times in ns, reasons in words.
 */
#include "ctl/slo_json.h"

#include "base/clock.h"

static const char *const span_name[SLO_SPANS] = { "1s", "10s", "60s" };

static json_t *rate_json(const struct slo_rate *r)
{
	json_t *o = json_object();

	if (r->milli_iops)
		json_object_set_new(o, "iops", json_real((double)r->milli_iops / 1000));
	if (r->bandwidth)
		json_object_set_new(o, "bandwidth", json_integer((json_int_t)r->bandwidth));
	return o;
}

static json_t *promise_json(const struct slo_promise *p)
{
	return json_pack("{s:i, s:o, s:o, s:{s:f, s:I}, s:{s:I, s:I}}", "shares", (int)p->shares, "reservation",
			 rate_json(&p->reservation), "limit", rate_json(&p->limit), "burst", "requests",
			 (double)p->burst_milli_requests / 1000, "bytes", (json_int_t)p->burst_bytes, "latency", "p50_ns",
			 (json_int_t)p->p50_ns, "p99_ns", (json_int_t)p->p99_ns);
}

static double per_second(uint64_t n, uint64_t span_ns)
{
	return span_ns ? (double)n * NSEC_PER_SEC / (double)span_ns : 0;
}

static double share(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static json_t *attained_json(const struct slo_attained *a)
{
	return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "iops", per_second(a->requests, a->span_ns),
			 "bandwidth", per_second(a->bytes, a->span_ns), "device_time", per_second(a->cost, a->span_ns) / 1e9,
			 "busy", share(a->busy_ns, a->span_ns), "queueing", share(a->held_ns, a->span_ns), "throttled",
			 share(a->throttled_ns, a->span_ns), "completed", (json_int_t)a->completed, "missed_p50",
			 (json_int_t)a->missed_p50, "missed_p99", (json_int_t)a->missed_p99);
}

static json_t *verdict_json(const struct slo_verdict *v)
{
	return json_pack("{s:b, s:s}", "kept", v->kept, "reason", slo_reason_text(v->reason));
}

static json_t *times_json(const struct hist *h)
{
	return json_pack("{s:I, s:I, s:I}", "count", (json_int_t)h->count, "p50_ns", (json_int_t)hist_quantile(h, 500),
			 "p99_ns", (json_int_t)hist_quantile(h, 990));
}

/* Promised something that it does not ask for: others have it meanwhile. */
static bool is_lending(const struct slo_seen *s)
{
	return (s->promise.reservation.milli_iops || s->promise.reservation.bandwidth) &&
	       s->report.reservation[SLO_SPAN_1S].reason == SLO_REASON_DEMAND;
}

static json_t *node_json(const struct slo_seen *s)
{
	json_t *attained = json_object(), *reservation = json_object(), *latency = json_object();
	const struct slo_promise *p = &s->promise;

	for (unsigned i = 0; i < SLO_SPANS; i++) {
		json_object_set_new(attained, span_name[i], attained_json(&s->report.attained[i]));
		if (p->reservation.milli_iops || p->reservation.bandwidth)
			json_object_set_new(reservation, span_name[i], verdict_json(&s->report.reservation[i]));
		if (p->p50_ns || p->p99_ns)
			json_object_set_new(latency, span_name[i], verdict_json(&s->report.latency[i]));
	}
	return json_pack("{s:s, s:s?, s:o, s:o, s:{s:o, s:o}, s:s, s:b, s:b, s:i, s:i, s:o, s:o}", "vm", s->vm, "class",
			 s->class[0] ? s->class : NULL, "promise", promise_json(p), "attained", attained, "verdicts",
			 "reservation", reservation, "latency", latency, "device_busy_with", s->culprit, "throttled",
			 s->report.throttled, "lending", is_lending(s), "held", (int)s->report.held, "in_flight",
			 (int)s->report.in_flight, "queue_time", times_json(&s->queue_time), "device_time",
			 times_json(&s->device_time));
}

json_t *slo_json(const struct slo_snapshot *s)
{
	json_t *pools = json_array();

	for (unsigned i = 0; i < s->n; i++) {
		const struct slo_pool_seen *p = &s->pool[i];
		json_t *nodes = json_array();

		for (unsigned k = 0; k < p->n; k++)
			json_array_append_new(nodes, node_json(&p->seen[k]));
		json_array_append_new(
			pools, json_pack("{s:s, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:o}", "pool", p->name, "depth",
					 (int)p->sched.depth, "window", (int)p->sched.window, "held", (int)p->sched.held,
					 "in_flight", (int)p->sched.in_flight, "latency_unreachable",
					 p->sched.latency_unreachable, "anticipated_ns", (json_int_t)p->sched.anticipated_ns,
					 "anticipations", (json_int_t)p->sched.anticipations, "fast",
					 (json_int_t)p->sched.fast, "dispatched", (json_int_t)p->sched.dispatched, "nodes",
					 nodes));
	}
	return json_pack("{s:o}", "pools", pools);
}
