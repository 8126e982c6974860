/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the rest of the machine off the co-scheduled CPUs: there the fair class comes before members. systemd's slices of
 * services, logins and of systemd itself get all other CPUs as AllowedCPUs= until the next boot, or until this ends; what they
 * had before is kept in a file, so that also the next run can give it back after this one was killed.
 *
 * A slice that a member is in is left alone: it may not be where it must be. Calls to systemd have a time limit of seconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct slices;

/* What is kept off: NULL-ended. */
extern const char *const slices_units[];

/*
 * `keep`: the file. `address`: of systemd itself, "unix:path=..."; NULL: through the system bus, or its private socket. First
 * gives back what `keep` says. -ENOENT, -ECONNREFUSED, …: there is no systemd, or it does not take that back: nothing is kept
 * off then, and the file stays.
 */
int slices_create(const char *address, const char *keep, struct slices **ret);
/* Gives back; what systemd does not take stays in the file. NULL is allowed. */
void slices_destroy(struct slices *s);

/* All of them, off `cpus`. The number of slices that it worked for, or -errno for the first one that it did not. */
int slices_keep_off(struct slices *s, const unsigned *cpus, size_t n);
/* A member is in this cgroup: if its slice is kept off, not any more; true: it was. */
bool slices_spare(struct slices *s, const char *cgroup);
