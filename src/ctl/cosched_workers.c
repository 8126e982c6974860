/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Co-groups' own I/O workers are threads of fairleadd: it tells which. What it says is taken for threads of its own process
 * and no others; when it has gone, so have they.
 */
#include "ctl/cosched.h"

#include "base/clock.h"
#include "ctl/asker.h"

#include <errno.h>
#include <string.h>

struct cosched_workers {
	struct cohost *host;
	struct ctl_asker *asker;
	sd_event_source *timer;
};

/* The worker that fairleadd has for this group; false: none. */
static bool find_worker(const json_t *result, const char *group, pid_t peer, struct member *ret)
{
	json_t *w;
	size_t i;

	json_array_foreach (json_object_get(result, "workers"), i, w) {
		const char *of = json_string_value(json_object_get(w, "group"));

		if (!of || strcmp(of, group) != 0)
			continue;
		*ret = (struct member){ .pid = peer, .tid = (pid_t)json_integer_value(json_object_get(w, "tid")), .vcpu = -1 };
		return ret->tid > 0;
	}
	return false;
}

static void answered(void *arg, json_t *result, pid_t peer)
{
	struct cosched_workers *w = arg;
	const struct policy *p = w->host->policy;

	for (size_t i = 0; p && i < p->n_cogroups; i++) {
		struct member m;
		bool found = p->cogroups[i].workers && find_worker(result, p->cogroups[i].name, peer, &m) &&
			     members_identify(w->host->members, &m) == 0;

		cohost_worker_is(w->host, p->cogroups[i].name, found ? &m : NULL);
	}
}

static bool wanted(const struct policy *p)
{
	for (size_t i = 0; p && i < p->n_cogroups; i++)
		if (p->cogroups[i].workers && p->cosched.mode != POLICY_COSCHED_OFF)
			return true;
	return false;
}

static int on_time(sd_event_source *s, uint64_t usec, void *arg)
{
	struct cosched_workers *w = arg;

	(void)usec;
	if (wanted(w->host->policy))
		ctl_asker_ask(w->asker, w->host->policy->daemon.control);
	sd_event_source_set_time(s, (clock_now_ns() + MEMBERS_INTERVAL_NS) / NSEC_PER_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int cosched_workers_create(struct cohost *h, struct cosched_workers **ret)
{
	struct cosched_workers *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	w->host = h;
	err = ctl_asker_create(h->event, "daemon.workers", answered, w, &w->asker);
	if (err >= 0)
		err = sd_event_add_time_relative(h->event, &w->timer, CLOCK_MONOTONIC, 0, 0, on_time, w);
	if (err < 0) {
		cosched_workers_destroy(w);
		return err;
	}
	*ret = w;
	return 0;
}

void cosched_workers_destroy(struct cosched_workers *w)
{
	if (!w)
		return;
	sd_event_source_disable_unref(w->timer);
	ctl_asker_destroy(w->asker);
	free(w);
}
