/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cosched.trace.*: one recording at a time, for as long as was asked for; then it is read in portions, as a message has a limit.
 */
#include "ctl/cosched.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define SECONDS_MAX 600
/* Of at most 90 characters each. */
#define PORTION 8192u

struct cosched_tracer {
	struct cohost *host;
	sd_event_source *timer;
	struct cohost_trace *result; /* NULL: under way */
	size_t read;
};

void cosched_tracer_destroy(struct cosched_tracer *t)
{
	if (!t)
		return;
	if (!t->result)
		cohost_trace_free(cohost_trace_stop(t->host));
	cohost_trace_free(t->result);
	sd_event_source_disable_unref(t->timer);
	free(t);
}

static void finish(struct cosched_tracer *t)
{
	if (!t->result)
		t->result = cohost_trace_stop(t->host);
	t->timer = sd_event_source_disable_unref(t->timer);
}

static int on_time(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s;
	(void)usec;
	finish(arg);
	return 0;
}

static int begin(struct cosched_context *c, double seconds)
{
	struct cosched_tracer *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	err = cohost_trace_start(c->host);
	if (err < 0) {
		free(t);
		return err;
	}
	t->host = c->host;
	err = sd_event_add_time_relative(c->host->event, &t->timer, CLOCK_MONOTONIC, (uint64_t)(seconds * 1e6), 0, on_time, t);
	if (err < 0) {
		cosched_tracer_destroy(t);
		return err;
	}
	c->tracer = t;
	return 0;
}

static void start(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;
	double seconds = json_number_value(json_object_get(params, "seconds"));
	int err;

	if (!(seconds > 0 && seconds <= SECONDS_MAX)) {
		ctl_fail(call, CTL_ERROR_PARAMS, NULL, "seconds: more than 0, at most %d", SECONDS_MAX);
		return;
	}
	if (c->tracer && !c->tracer->result) {
		ctl_fail(call, CTL_ERROR_BUSY, "wait for its end, or cosched.trace.stop", "another recording is under way");
		return;
	}
	cosched_tracer_destroy(c->tracer);
	c->tracer = NULL;
	err = begin(c, seconds);
	if (err == -ENOTCONN)
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "no scheduler is loaded, so there is nothing to record");
	else if (err < 0)
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "recording: %s", strerror(-err));
	else
		ctl_reply(call, NULL);
}

static void stop(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;

	(void)params;
	if (c->tracer)
		finish(c->tracer);
	ctl_reply(call, NULL);
}

/* --- reading --- */

static json_t *events_json(struct cosched_tracer *t)
{
	json_t *list = json_array();
	size_t end = min_u64(t->read + PORTION, t->result->n);

	for (; t->read < end; t->read++) {
		const struct co_event *e = &t->result->event[t->read];

		json_array_append_new(list, json_pack("[I, i, i, I, I, i]", (json_int_t)e->time_ns, (int)e->kind, (int)e->cpu,
						      (json_int_t)e->member, (json_int_t)e->value, (int)e->flags));
	}
	return list;
}

/* By slot: null where there is none. A worker has its group's name. */
static json_t *vms_json(const struct cohost *h)
{
	const struct co_world *w = h->sched ? cosched_world(h->sched) : NULL;
	json_t *list = json_array();

	for (unsigned i = 0; w && i < CO_VMS_MAX; i++) {
		const struct cohost_vm *vm = &h->vm[i];
		const struct cohost_account *a = &h->account[vm->account];

		if (!vm->name[0]) {
			json_array_append_new(list, json_null());
			continue;
		}
		json_array_append_new(list, json_pack("{s:s, s:s?, s:i, s:i, s:I}", "name", vm->is_worker ? a->name : vm->name, "group",
						      a->is_group ? a->name : NULL, "account", (int)vm->account, "weight",
						      (int)load_relaxed(&w->vm[i].weight), "cap_ns",
						      (json_int_t)load_relaxed(&w->vm[i].cap_ns)));
	}
	return list;
}

static json_t *members_json(const struct cohost_trace *t)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++) {
		const struct co_trace_member *m = &t->member[i];

		json_array_append_new(list, m->vm == CO_NONE ? json_null() :
							       json_pack("{s:i, s:I, s:i, s:b}", "vm", (int)m->vm, "tid",
									 (json_int_t)m->tid, "home", (int)m->home, "worker",
									 m->is_worker != 0));
	}
	return list;
}

static json_t *params_json(const struct cohost *h)
{
	static const struct co_params none;
	const struct co_params *p = h->sched ? &cosched_world(h->sched)->params : &none;

	return json_pack("{s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "mode", (int)p->mode, "n_cpus",
			 (int)(h->n_cpus ? h->cpus[h->n_cpus - 1] + 1 : 0), "ask_on_wake", p->ask_on_wake != 0, "period_ns",
			 (json_int_t)p->period_ns, "slice_ns", (json_int_t)p->slice_ns, "floor_ns", (json_int_t)p->floor_ns,
			 "debt_limit_ns", (json_int_t)p->debt_limit_ns, "credit_limit_ns", (json_int_t)p->credit_limit_ns,
			 "boost_ns", (json_int_t)p->boost_ns);
}

static void read_portion(struct ctl_call *call, json_t *params, void *context)
{
	struct cosched_context *c = context;
	struct cosched_tracer *t = c->tracer;
	json_t *o;

	(void)params;
	if (!t) {
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "cosched.trace.start begins one", "there is no recording");
		return;
	}
	if (!t->result) {
		ctl_reply(call, json_pack("{s:[], s:b, s:b}", "events", "recording", 1, "done", 0));
		return;
	}
	o = json_pack("{s:b, s:o, s:I}", "recording", 0, "events", events_json(t), "lost", (json_int_t)t->result->lost);
	json_object_set_new(o, "done", json_boolean(t->read == t->result->n));
	if (t->read == t->result->n) {
		json_object_set_new(o, "params", params_json(t->host));
		json_object_set_new(o, "vms", vms_json(t->host));
		json_object_set_new(o, "members", members_json(t->result));
		cosched_tracer_destroy(t);
		c->tracer = NULL;
	}
	ctl_reply(call, o);
}

static const struct ctl_param how_long[] = {
	{ "seconds", CTL_ANY, true, "how long to record" },
	{ 0 },
};

const struct ctl_method cmd_cosched_trace[] = {
	{ "cosched.trace.start", how_long, start, "record every decision for a while" },
	{ "cosched.trace.stop", NULL, stop, "end a recording early" },
	{ "cosched.trace.read", NULL, read_portion, "the next portion of what was recorded; with the last one, who was who" },
	{ 0 },
};
