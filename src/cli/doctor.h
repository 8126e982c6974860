/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `fairlead doctor` looks at, a check a function; each adds what it finds. Read-only, as far as the user's rights
 * go: what cannot be looked at is not a finding.
 */
#pragma once

#include "cli/cli.h"

#include "policy/policy.h"

enum doctor_severity { DOCTOR_ERROR, DOCTOR_WARNING, DOCTOR_NOTE };

struct doctor {
	json_t *findings;
	const struct policy *policy; /* NULL: none could be read */
	json_t *status;		     /* daemon.status; NULL: no daemon */
	json_t *slo;		     /* slo.show; NULL */
	int daemon_pid;		     /* 0: no daemon */
	bool bad;		     /* there is an error or a warning */
};

/* fix: what the operator can do about it. */
void doctor_add(struct doctor *d, enum doctor_severity severity, const char *object, const char *fix,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

/* A small file as text, without its last newline; NULL. */
char *doctor_read(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether `cpu` is in a list as the kernel writes them; NULL and "": no. */
bool doctor_in_list(const char *list, unsigned cpu);

/* doctor_host.c */
void doctor_kernel(struct doctor *d);
void doctor_limits(struct doctor *d);
void doctor_workers(struct doctor *d);
void doctor_apparmor(struct doctor *d);
void doctor_pools(struct doctor *d);
/* doctor_cosched.c */
void doctor_cosched(struct doctor *d, const struct cli *c);
/* doctor_guests.c */
void doctor_guests(struct doctor *d);
