/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stretch of scheduling as a picture: one row a CPU, one bar a run, the members of co-groups in strong colours and all
 * others pale, requests between CPUs as arrows, and below a row a group that shows when it ran together. For `sim cosched
 * --svg` and `cosched trace`: both have struct co_event streams.
 */
#pragma once

#include "cosched/event.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* By slot, as in the events. */
struct timeline_member {
	const char *label; /* its VM's, or with the vCPU: "web/1" */
	uint32_t vm;	   /* members of a VM share a colour */
	uint32_t group;	   /* CO_NONE: none */
};

struct timeline {
	const char *title, *subtitle;
	uint32_t n_cpus;
	const struct timeline_member *member;
	size_t n_members;
	const char *const *vm; /* names for the legend, by number */
	size_t n_vms;
	const char *const *group;
	size_t n_groups;
	uint64_t from_ns, to_ns;
	const struct co_event *event; /* ascending; those before `from_ns` tell who ran then */
	size_t n_events;
};

/* An SVG document, 1200 wide. 0 or -ENOMEM; whoever closes `out` sees write errors. */
int timeline_write(const struct timeline *t, FILE *out);
