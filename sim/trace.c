/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recorded events in files. Called by the CLI; what is in a file is foreign and checked here, once.
 */
#include "sim/trace.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

#define EVENTS_MAX (64u << 20)
#define MOVES_MAX (256u << 20)

void trace_free(struct trace *t)
{
	free(t->vm);
	free(t->member);
	free(t->event);
	*t = (struct trace){ 0 };
}

static bool read_array(FILE *in, void *ret, size_t size, size_t n)
{
	void *a = calloc(n + 1, size);

	*(void **)ret = a;
	return a && fread(a, size, n, in) == n;
}

/* NULL, or what is wrong. */
static const char *check_header(const struct co_trace_header *h)
{
	if (h->magic != CO_TRACE_MAGIC)
		return "not a trace of co-scheduling";
	if (h->version < CO_TRACE_OLDEST || h->version > CO_TRACE_VERSION)
		return "a trace of another version (2 and 3 can be read)";
	if (!h->n_cpus || h->n_cpus > CO_CPUS_MAX || h->n_members > CO_MEMBERS_MAX || h->n_vms > CO_VMS_MAX)
		return "numbers of CPUs, members or VMs that cannot be";
	return NULL;
}

static const char *check_tables(struct trace *t)
{
	for (uint32_t i = 0; i < t->header.n_vms; i++) {
		t->vm[i].name[sizeof(t->vm[i].name) - 1] = '\0';
		t->vm[i].group[sizeof(t->vm[i].group) - 1] = '\0';
		if (t->vm[i].account >= CO_ACCOUNTS_MAX)
			return "an account that cannot be";
	}
	for (uint32_t i = 0; i < t->header.n_members; i++)
		if (t->member[i].vm != CO_NONE && t->member[i].vm >= t->header.n_vms)
			return "a member of no VM";
	return NULL;
}

static int read_events(FILE *in, struct trace *t)
{
	size_t room = 0, n;

	do {
		struct co_event *grown;

		room = room ? 2 * room : 4096;
		grown = room > EVENTS_MAX ? NULL : reallocarray(t->event, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		t->event = grown;
		n = fread(t->event + t->n_events, sizeof(*grown), room - t->n_events, in);
		t->n_events += n;
	} while (t->n_events == room);
	return ferror(in) ? -EIO : 0;
}

/* Several CPUs wrote them, each in order: nearly sorted, and equal times keep their order. False: far from it. */
bool trace_sort(struct trace *t)
{
	size_t moves = 0;

	for (size_t i = 1; i < t->n_events; i++) {
		struct co_event e = t->event[i];
		size_t j = i;

		for (; j && t->event[j - 1].time_ns > e.time_ns; j--, moves++)
			t->event[j] = t->event[j - 1];
		t->event[j] = e;
		if (moves > MOVES_MAX)
			return false;
	}
	return true;
}

int trace_read(FILE *in, struct trace *ret, const char **ret_why)
{
	struct trace t = { 0 };
	int r = 0;

	*ret_why = "it ends early";
	if (fread(&t.header, sizeof(t.header), 1, in) != 1)
		return -EBADMSG;
	*ret_why = check_header(&t.header);
	if (*ret_why)
		return -EBADMSG;
	if (!read_array(in, &t.vm, sizeof(*t.vm), t.header.n_vms) ||
	    !read_array(in, &t.member, sizeof(*t.member), t.header.n_members))
		*ret_why = "it ends early";
	else
		*ret_why = check_tables(&t);
	r = *ret_why ? -EBADMSG : read_events(in, &t);
	if (r == 0 && !trace_sort(&t)) {
		*ret_why = "its events are not in order";
		r = -EBADMSG;
	}
	if (r < 0) {
		trace_free(&t);
		return r;
	}
	*ret = t;
	return 0;
}

int trace_write(FILE *out, const struct trace *t)
{
	bool written = fwrite(&t->header, sizeof(t->header), 1, out) == 1 &&
		       fwrite(t->vm, sizeof(*t->vm), t->header.n_vms, out) == t->header.n_vms &&
		       fwrite(t->member, sizeof(*t->member), t->header.n_members, out) == t->header.n_members &&
		       fwrite(t->event, sizeof(*t->event), t->n_events, out) == t->n_events;

	return written ? 0 : -EIO;
}

/* --- the picture --- */

struct names {
	const char *vm[CO_VMS_MAX], *group[CO_VMS_MAX];
	uint32_t group_of[CO_VMS_MAX];
	size_t n_groups;
	struct timeline_member member[CO_MEMBERS_MAX];
	char label[CO_MEMBERS_MAX][80];
};

static uint32_t group_number(struct names *n, const char *group)
{
	if (!*group)
		return CO_NONE;
	for (uint32_t i = 0; i < n->n_groups; i++)
		if (strcmp(n->group[i], group) == 0)
			return i;
	n->group[n->n_groups] = group;
	return (uint32_t)n->n_groups++;
}

/* "web", or "web/1" where a VM has several members; a worker of its own is called one. */
static void name_member(struct names *n, const struct trace *t, uint32_t m)
{
	uint32_t vm = t->member[m].vm, index = 0, of = 0;

	n->member[m].group = CO_NONE;
	if (vm == CO_NONE) {
		n->member[m].label = "?";
		return;
	}
	for (uint32_t i = 0; i < t->header.n_members; i++)
		if (t->member[i].vm == vm && !t->member[i].is_worker) {
			index += i < m;
			of++;
		}
	if (t->member[m].is_worker)
		snprintf(n->label[m], sizeof(n->label[m]), "%s/worker", t->vm[vm].name);
	else if (of > 1)
		snprintf(n->label[m], sizeof(n->label[m]), "%s/%u", t->vm[vm].name, index);
	else
		snprintf(n->label[m], sizeof(n->label[m]), "%s", t->vm[vm].name);
	n->member[m] = (struct timeline_member){ n->label[m], vm, n->group_of[vm] };
}

int trace_draw(const struct trace *t, const char *title, const char *subtitle, uint64_t from_ns, uint64_t to_ns, FILE *out)
{
	struct names *n = calloc(1, sizeof(*n));
	struct timeline timeline;
	int r;

	if (!n)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->header.n_vms; i++) {
		n->vm[i] = t->vm[i].name;
		n->group_of[i] = group_number(n, t->vm[i].group);
	}
	for (uint32_t i = 0; i < t->header.n_members; i++)
		name_member(n, t, i);
	timeline = (struct timeline){ .title = title, .subtitle = subtitle, .n_cpus = t->header.n_cpus, .member = n->member,
				      .n_members = t->header.n_members, .vm = n->vm, .n_vms = t->header.n_vms,
				      .group = n->group, .n_groups = n->n_groups, .from_ns = from_ns, .to_ns = to_ns,
				      .event = t->event, .n_events = t->n_events };
	r = timeline_write(&timeline, out);
	free(n);
	return r;
}
