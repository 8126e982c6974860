/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's life: workers first, then whatever policies bring, and the end of it all.
 */
#include "host/host_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Without one, timers may wait a quarter of a second for each other: limits would be divided by demand of long ago. */
#define BALANCE_ACCURACY_USEC 1000

void host_error_set(struct host_error *e, int err, const char *format, ...)
{
	va_list ap;

	e->err = err;
	va_start(ap, format);
	vsnprintf(e->text, sizeof(e->text), format, ap);
	va_end(ap);
}

struct host_disk *host_disk_find(struct host *h, const char *vm, const char *name)
{
	struct host_disk *d;

	list_for_each(d, &h->disks, node)
		if (!d->removing && strcmp(d->vm, vm) == 0 && strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

struct host_pool *host_pool_find(struct host *h, const char *name)
{
	struct host_pool *p;

	list_for_each(p, &h->pools, node)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static int on_replies(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	(void)s;
	(void)fd;
	(void)revents;
	(void)arg;
	worker_replies_run();
	return 0;
}

static int on_balance(sd_event_source *s, uint64_t usec, void *arg)
{
	struct host *h = arg;
	struct host_pool *pool;
	struct host_disk *d;

	blk_team_balance(&h->team, clock_now_ns());
	list_for_each(d, &h->disks, node) {
		host_disk_look(d, clock_now_ns());
		blk_disk_move_home(d->blk);
	}
	list_for_each(pool, &h->pools, node)
		if (pool->blk->gate)
			blk_gate_balance(pool->blk->gate);
	sd_event_source_set_time(s, usec + BLK_TEAM_INTERVAL_NS / NSEC_PER_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void free_host(struct host *h)
{
	blk_team_fini(&h->team);
	for (unsigned i = 0; i < h->team.n; i++)
		worker_destroy(h->team.member[i].worker);
	sd_event_source_disable_unref(h->replies);
	sd_event_source_disable_unref(h->balance);
	sd_event_source_disable_unref(h->save);
	sd_event_unref(h->event);
	policy_free(h->policy);
	if (h->fd >= 0)
		close(h->fd);
	free(h);
}

int host_create(sd_event *event, const struct policy *policy, const struct host_events *events, struct host **ret,
		struct host_error *e)
{
	struct host *h = calloc(1, sizeof(*h));
	int err = -ENOMEM;

	if (!h)
		goto fail;
	h->event = sd_event_ref(event);
	h->fd = -1;
	h->events = *events;
	list_init(&h->pools);
	list_init(&h->disks);
	list_init(&h->changes);
	err = sd_event_add_io(event, &h->replies, worker_replies_fd(), EPOLLIN, on_replies, h);
	if (err >= 0)
		err = sd_event_add_time_relative(event, &h->balance, CLOCK_MONOTONIC, BLK_TEAM_INTERVAL_NS / NSEC_PER_USEC,
						 BALANCE_ACCURACY_USEC, on_balance, h);
	if (err >= 0)
		err = host_state_begin(h);
	if (err < 0)
		goto fail;
	err = host_workers_start(h, policy, e);
	if (err < 0) {
		free_host(h);
		return err;
	}
	*ret = h;
	return 0;
fail:
	host_error_set(e, err, "%s", strerror(-err));
	if (h)
		free_host(h);
	return err;
}

void host_use_fd(struct host *h, int fd)
{
	h->fd = fd;
}

/* --- the end: a policy with nothing in it, then the workers --- */

struct host_end {
	struct host *host;
	host_done done;
	void *arg;
};

static int last_turn(sd_event_source *s, void *arg)
{
	struct host_end end = *(struct host_end *)arg;
	struct host_error none = { 0 };

	sd_event_source_disable_unref(s);
	free(arg);
	free_host(end.host);
	end.done(end.arg, &none);
	return 0;
}

static void all_gone(void *arg, const struct host_error *error)
{
	struct host_end *end = arg;
	sd_event_source *s;

	(void)error;
	/* Not from within the host's own functions. */
	if (sd_event_add_defer(end->host->event, &s, last_turn, end) < 0)
		abort();
}

void host_destroy(struct host *h, host_done done, void *arg)
{
	struct host_end *end = malloc(sizeof(*end));
	struct policy *empty = calloc(1, sizeof(*empty));

	if (!end || !empty)
		abort(); /* the process ends anyway; the inflight regions keep what was under way */
	*end = (struct host_end){ h, done, arg };
	/* Orders to a gate arrive in turn: this is saved before its end. */
	host_state_save(h, NULL, (struct blk_gate_done){ 0 });
	host_apply(h, empty, all_gone, end);
}
