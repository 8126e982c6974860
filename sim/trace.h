/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of recorded events (src/cosched/event.h): read whole, checked, written whole.
 */
#pragma once

#include "cosched/event.h"
#include "sim/timeline.h"

struct trace {
	struct co_trace_header header;
	struct co_trace_vm *vm;
	struct co_trace_member *member;
	struct co_event *event;
	size_t n_events;
};

/* 0; -EBADMSG: not a trace, or a damaged one, and *ret_why says how; -errno. */
int trace_read(FILE *in, struct trace *ret, const char **ret_why);
/* 0 or -EIO. */
int trace_write(FILE *out, const struct trace *t);
/* By time; equal times keep their order. False: they are far from it. */
bool trace_sort(struct trace *t);
void trace_free(struct trace *t);
/* The picture of a stretch of it; times are the trace's own. `title`, `subtitle`: timeline.h. */
int trace_draw(const struct trace *t, const char *title, const char *subtitle, uint64_t from_ns, uint64_t to_ns, FILE *out);
