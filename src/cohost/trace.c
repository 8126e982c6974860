/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recording what the scheduler does. What was there when it began is told as if it had just come, so that a recording stands by
 * itself.
 */
#include "cohost/cohost_internal.h"

#include "base/clock.h"

#include <errno.h>

/* 48 MB; what comes after is counted as lost. */
#define EVENTS_MAX (2u << 20)

static void keep(struct cohost_trace *t, const struct co_event *e)
{
	if (t->n == EVENTS_MAX)
		t->lost++;
	else
		t->event[t->n++] = *e;
}

/* As of one settlement: a purse that is being paid into would be wrong by a period's due. */
static void look(const struct co_world *w, void *arg)
{
	/* Looked at, not changed: what the core has for it serves the kernel, too. */
	co_event_tell((struct co_world *)(uintptr_t)w, arg);
}

static void keep_with_credit(struct cohost *h, struct co_event e)
{
	e.time_ns = clock_now_ns();
	cosched_look(h->sched, look, &e);
	keep(h->trace, &e);
}

/* Once more when the period in which the recording began has been paid for: what was due in its first part is not in it. */
static void tell_credit(struct cohost *h)
{
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		for (unsigned kind = CO_EVENT_PURSE; kind <= CO_EVENT_PART; kind++)
			if (h->member[i].used && h->member[i].slot < CO_MEMBERS_MAX)
				keep_with_credit(h, (struct co_event){ .kind = (__u8)kind, .member = h->member[i].slot,
								       .cpu = (__u16)h->trace->member[h->member[i].slot].home });
	h->trace->has_credit = true;
}

static void on_event(const struct co_event *e, void *arg)
{
	struct cohost *h = arg;

	if (!h->trace)
		return;
	keep(h->trace, e);
	if (e->kind == CO_EVENT_SETTLED && !h->trace->has_credit)
		tell_credit(h);
}

void cohost_trace_drain(struct cohost *h)
{
	uint64_t lost = 0;

	if (!h->sched)
		return;
	(void)cosched_trace_read(h->sched, on_event, h, &lost);
	if (h->trace)
		h->trace->lost += lost;
}

void cohost_trace_came(struct cohost *h, const struct cohost_member *m)
{
	struct co_trace_member *told;

	if (!h->trace || m->slot >= CO_MEMBERS_MAX)
		return;
	told = &h->trace->member[m->slot];
	*told = (struct co_trace_member){ .vm = m->vm, .tid = (__u32)m->member.tid, .is_worker = h->vm[m->vm].is_worker,
					  .home = cosched_cpu_number(h->sched, cosched_world(h->sched)->member[m->slot].home) };
	keep_with_credit(h, (struct co_event){ .kind = CO_EVENT_ADD, .member = m->slot, .cpu = (__u16)told->home });
}

void cohost_trace_went(struct cohost *h, const struct cohost_member *m)
{
	struct co_event e = { .time_ns = clock_now_ns(), .kind = CO_EVENT_GONE, .member = m->slot };

	if (!h->trace || m->slot >= CO_MEMBERS_MAX)
		return;
	e.cpu = (__u16)h->trace->member[m->slot].home;
	keep(h->trace, &e);
}

static void tell_who_is_there(struct cohost *h)
{
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		if (h->member[i].used)
			cohost_trace_came(h, &h->member[i]);
}

int cohost_trace_start(struct cohost *h)
{
	struct cohost_trace *t;
	int err;

	if (!h->sched)
		return -ENOTCONN;
	if (h->trace)
		return -EBUSY;
	t = calloc(1, sizeof(*t));
	if (!t || !(t->event = calloc(EVENTS_MAX, sizeof(*t->event)))) {
		free(t);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++)
		t->member[i].vm = CO_NONE;
	/* Of an earlier recording. */
	cohost_trace_drain(h);
	h->trace = t;
	tell_who_is_there(h);
	err = cosched_trace_set(h->sched, true);
	if (err < 0) {
		h->trace = NULL;
		cohost_trace_free(t);
	}
	return err;
}

struct cohost_trace *cohost_trace_stop(struct cohost *h)
{
	struct cohost_trace *t = h->trace;

	if (!t)
		return NULL;
	if (h->sched)
		(void)cosched_trace_set(h->sched, false);
	cohost_trace_drain(h);
	h->trace = NULL;
	return t;
}

void cohost_trace_free(struct cohost_trace *t)
{
	if (!t)
		return;
	free(t->event);
	free(t);
}
