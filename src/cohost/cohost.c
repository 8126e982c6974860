/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of co-scheduling: what is watched, what happens every second, the end.
 */
#include "cohost/cohost_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void cohost_tell(struct cohost *h, const char *event, const char *name, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (h->events.told)
		h->events.told(h->events.arg, event, name, text);
}

char *cohost_beside(const char *other, const char *name)
{
	const char *slash = strrchr(other, '/');
	char *path;

	if (asprintf(&path, "%.*s/%s", slash ? (int)(slash - other) : 1, slash ? other : ".", name) < 0)
		return NULL;
	return path;
}

/* --- members --- */

static int look(struct cohost *h)
{
	uint64_t next_ns = members_work(h->members, clock_now_ns());

	sd_event_source_set_time(h->on_look, next_ns / NSEC_PER_USEC + 1);
	return sd_event_source_set_enabled(h->on_look, SD_EVENT_ONESHOT);
}

static int on_members(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	(void)s;
	(void)fd;
	(void)revents;
	return look(arg);
}

static int on_look(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s;
	(void)usec;
	return look(arg);
}

/* --- the scheduler --- */

static int on_sched(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct cohost *h = arg;
	char why[COSCHED_WHY_MAX];

	(void)s;
	(void)fd;
	(void)revents;
	cohost_trace_drain(h);
	if (h->sched && cosched_ended(h->sched, why))
		h->events.ended(h->events.arg, why);
	return 0;
}

int cohost_watch(struct cohost *h)
{
	return sd_event_add_io(h->event, &h->on_sched, cosched_fd(h->sched), EPOLLIN, on_sched, h);
}

void cohost_unload(struct cohost *h)
{
	for (unsigned vm = 0; vm < CO_VMS_MAX; vm++)
		cohost_members_give_all(h, vm);
	sd_event_source_disable_unref(h->on_sched);
	h->on_sched = NULL;
	cohost_ledger_end(h);
	cosched_unload(h->sched);
	h->sched = NULL;
	cohost_place_end(h);
	h->foreign = (struct cohost_foreign){ 0 };
	/* The next scheduler counts from zero. */
	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		cohost_span_clear(&h->vm[i].span);
	for (unsigned i = 0; i < CO_ACCOUNTS_MAX; i++)
		cohost_span_clear(&h->account[i].span);
}

/* --- every second --- */

static void keep_account(struct cohost *h, const struct co_world *w, unsigned i, uint64_t now_ns)
{
	const struct co_account *a = &w->account[i];
	struct cohost_totals t = { now_ns, load_relaxed(&a->total_ran_ns), load_relaxed(&a->total_waited_ns),
				   load_relaxed(&a->total_entitled_ns), load_relaxed(&a->co_ran_ns) };

	cohost_span_keep(&h->account[i].span, &t);
}

static void keep_vm(struct cohost *h, const struct co_world *w, unsigned i, uint64_t now_ns)
{
	struct cohost_totals t = { .time_ns = now_ns,
				   .ran_ns = load_relaxed(&w->vm[i].total_ran_ns),
				   .waited_ns = load_relaxed(&w->vm[i].total_waited_ns) };

	cohost_span_keep(&h->vm[i].span, &t);
}

static int on_second(sd_event_source *s, uint64_t usec, void *arg)
{
	struct cohost *h = arg;
	const struct co_world *w = h->sched ? cosched_world(h->sched) : NULL;
	uint64_t now_ns = clock_now_ns();

	(void)usec;
	for (unsigned i = 0; w && i < CO_ACCOUNTS_MAX; i++)
		if (h->account[i].name[0])
			keep_account(h, w, i, now_ns);
	for (unsigned i = 0; w && i < CO_VMS_MAX; i++)
		if (h->vm[i].name[0])
			keep_vm(h, w, i, now_ns);
	cohost_place_look(h, now_ns);
	cohost_ledger_settle(h, now_ns);
	/* From now: who could not run for a while has nothing to catch up with. */
	sd_event_source_set_time(s, (now_ns + COHOST_INTERVAL_NS) / NSEC_PER_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* --- begin and end --- */

int cohost_create(sd_event *event, const struct cohost_options *options, const struct cohost_events *events, struct cohost **ret)
{
	struct cohost *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return -ENOMEM;
	h->claim = -1;
	h->event = sd_event_ref(event);
	h->options = *options;
	h->events = *events;
	err = members_create(options->proc ? options->proc : "/proc", options->cgroups ? options->cgroups : "/sys/fs/cgroup",
			     &cohost_members_ops, h, &h->members);
	if (err >= 0)
		err = sd_event_add_io(event, &h->on_members, members_fd(h->members), EPOLLIN, on_members, h);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &h->on_look, CLOCK_MONOTONIC, 0, 0, on_look, h);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &h->on_second, CLOCK_MONOTONIC, COHOST_INTERVAL_NS / NSEC_PER_USEC, 0,
						 on_second, h);
	if (err < 0) {
		cohost_destroy(h);
		return err;
	}
	*ret = h;
	return 0;
}

void cohost_destroy(struct cohost *h)
{
	if (!h)
		return;
	cohost_unload(h);
	sd_event_source_disable_unref(h->on_members);
	sd_event_source_disable_unref(h->on_look);
	sd_event_source_disable_unref(h->on_second);
	members_destroy(h->members);
	cohost_trace_free(h->trace);
	policy_free(h->policy);
	free(h->cpus);
	cohost_keep_end(h);
	sd_event_unref(h->event);
	free(h);
}
