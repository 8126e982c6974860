/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control thread. The verdict over ten seconds is what counts: over one, a class with little demand would flicker.
 */
#include "ctl/slo_watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "ctl/slo_snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOOK_NS NSEC_PER_SEC
#define QUIET_NS (10 * NSEC_PER_SEC)

enum promise_kind { PROMISE_RESERVATION, PROMISE_LATENCY, PROMISE_KINDS };
static const char *const kind_name[] = { "reservation", "latency" };

struct promise_state {
	struct list node;
	char pool[POLICY_NAME_MAX], vm[BLK_NAME_MAX], class[BLK_NAME_MAX];
	enum promise_kind kind;
	bool violated;	    /* as told last */
	uint64_t told_ns;
	unsigned look; /* that saw it last */
};

struct slo_watch {
	struct host *host;
	struct ctl_server *server;
	sd_event_source *timer;
	struct list promises;
	bool looking, dead;
	unsigned look;
};

static struct promise_state *state_of(struct slo_watch *w, const char *pool, const struct slo_seen *s, enum promise_kind kind)
{
	struct promise_state *p;

	list_for_each(p, &w->promises, node)
		if (p->kind == kind && strcmp(p->pool, pool) == 0 && strcmp(p->vm, s->vm) == 0 &&
		    strcmp(p->class, s->class) == 0)
			return p;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->kind = kind;
	snprintf(p->pool, sizeof(p->pool), "%s", pool);
	memcpy(p->vm, s->vm, sizeof(p->vm));
	memcpy(p->class, s->class, sizeof(p->class));
	list_append(&w->promises, &p->node);
	return p;
}

static void tell(struct slo_watch *w, const struct promise_state *p, const struct slo_seen *s, const struct slo_verdict *v)
{
	const char *slash = s->class[0] ? "/" : "", *reason = slo_reason_text(v->reason);

	if (v->kept)
		log_notice("%s%s%s on %s: its %s is kept again", s->vm, slash, s->class, p->pool, kind_name[p->kind]);
	else
		log_warning("%s%s%s on %s: its %s is not kept: %s%s%s", s->vm, slash, s->class, p->pool, kind_name[p->kind],
			    reason, s->culprit[0] ? ", busy with " : "", s->culprit);
	ctl_server_publish(w->server, v->kept ? "slo.kept" : "slo.violated",
			   json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "pool", p->pool, "vm", s->vm, "class", s->class, "promise",
				     kind_name[p->kind], "reason", reason, "device_busy_with", s->culprit));
}

static void judge(struct slo_watch *w, const struct slo_pool_seen *pool, const struct slo_seen *s, enum promise_kind kind)
{
	const struct slo_verdict *v = kind == PROMISE_RESERVATION ? &s->report.reservation[SLO_SPAN_10S] :
								    &s->report.latency[SLO_SPAN_10S];
	struct promise_state *p = state_of(w, pool->name, s, kind);
	uint64_t now = clock_now_ns();

	if (p)
		p->look = w->look;
	if (!p || p->violated == !v->kept || (p->told_ns && now - p->told_ns < QUIET_NS))
		return;
	p->violated = !v->kept;
	p->told_ns = now;
	tell(w, p, s, v);
}

/* Promises that this look has not seen: of VMs, classes and pools that are gone, or promised nothing any more. */
static void forget_gone(struct slo_watch *w)
{
	struct promise_state *p, *next;

	list_for_each_safe(p, next, &w->promises, node)
		if (p->look != w->look) {
			list_remove(&p->node);
			free(p);
		}
}

static void free_watch(struct slo_watch *w)
{
	while (!list_empty(&w->promises)) {
		struct promise_state *p = list_first(&w->promises, struct promise_state, node);

		list_remove(&p->node);
		free(p);
	}
	free(w);
}

static void looked(void *arg, struct slo_snapshot *snapshot)
{
	struct slo_watch *w = arg;

	w->looking = false;
	w->look++;
	for (unsigned i = 0; !w->dead && snapshot && i < snapshot->n; i++)
		for (unsigned k = 0; k < snapshot->pool[i].n; k++) {
			const struct slo_seen *s = &snapshot->pool[i].seen[k];

			if (s->promise.reservation.milli_iops || s->promise.reservation.bandwidth)
				judge(w, &snapshot->pool[i], s, PROMISE_RESERVATION);
			if (s->promise.p50_ns || s->promise.p99_ns)
				judge(w, &snapshot->pool[i], s, PROMISE_LATENCY);
		}
	if (!w->dead && snapshot)
		forget_gone(w);
	slo_snapshot_free(snapshot);
	if (w->dead)
		free_watch(w);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *arg)
{
	struct slo_watch *w = arg;

	(void)usec;
	sd_event_source_set_time_relative(s, LOOK_NS / NSEC_PER_USEC);
	sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	if (w->looking || !w->host->policy)
		return 0;
	w->looking = true;
	slo_snapshot_take(w->host, looked, w);
	return 0;
}

int slo_watch_create(sd_event *event, struct host *h, struct ctl_server *server, struct slo_watch **ret)
{
	struct slo_watch *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->host = h;
	w->server = server;
	list_init(&w->promises);
	err = sd_event_add_time_relative(event, &w->timer, CLOCK_MONOTONIC, LOOK_NS / NSEC_PER_USEC, 0, on_timer, w);
	if (err < 0) {
		free(w);
		return err;
	}
	*ret = w;
	return 0;
}

void slo_watch_destroy(struct slo_watch *w)
{
	if (!w)
		return;
	w->timer = sd_event_source_disable_unref(w->timer);
	w->dead = true;
	if (!w->looking)
		free_watch(w);
}
