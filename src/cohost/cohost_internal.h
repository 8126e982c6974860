/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared within the folder only.
 */
#pragma once

#include "cohost/cohost.h"

/* cohost.c */
void cohost_tell(struct cohost *h, const char *event, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Watches the scheduler that has been loaded. */
int cohost_watch(struct cohost *h);
/* Ends the scheduler; threads are back on EEVDF, where they were before. Members are as if they had not come. */
void cohost_unload(struct cohost *h);

/* place.c */
void cohost_place_begin(struct cohost *h);
void cohost_place_end(struct cohost *h);
/*
 * What is written down beside `control` is this run's from now on; what an earlier one that was killed had taken, threads and
 * others' CPUs, is given back. -EBUSY: another run has it, and lives.
 */
int cohost_keep_begin(struct cohost *h, const char *control);
void cohost_keep_end(struct cohost *h);
/* Its slice must not be kept off. Before it is told where it may run. */
void cohost_place_member(struct cohost *h, const struct member *m);
/* Every second. */
void cohost_place_look(struct cohost *h, uint64_t now_ns);

/* ledger.c */
int cohost_ledger_begin(struct cohost *h);
void cohost_ledger_end(struct cohost *h);
/* Every second. */
void cohost_ledger_settle(struct cohost *h, uint64_t now_ns);

/* trace.c */
void cohost_trace_drain(struct cohost *h);
void cohost_trace_came(struct cohost *h, const struct cohost_member *m);
void cohost_trace_went(struct cohost *h, const struct cohost_member *m);

/* member.c */
extern const struct members_ops cohost_members_ops;
/* Takes in a thread that was found; gives one back. */
void cohost_member_take(struct cohost *h, unsigned vm, const struct member *m);
void cohost_member_give(struct cohost *h, unsigned vm, const struct member *m);
void cohost_members_give_all(struct cohost *h, unsigned vm);
/* After a new scheduler was loaded. */
void cohost_members_take_again(struct cohost *h);
