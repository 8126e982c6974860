/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPU lists as people write them ("2,3", "4-15") and pinning of the calling thread.
 */
#pragma once

#include <stddef.h>

#define CPUS_MAX 1024

/* Parses a list into at most `max` CPU numbers, ascending and unique. Returns how many, -EINVAL or -E2BIG. */
int cpus_parse(const char *text, unsigned cpu[], size_t max);

/* Pins the calling thread; -errno. */
int cpus_pin_self(unsigned cpu);

/* True if the calling process may run on `cpu`. */
int cpus_allowed(unsigned cpu);
