/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where members may run: their affinity, narrowed to the co-scheduled CPUs and given back.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Thread `tid` may run on `cpus` from now on. 0 or -errno. */
int place_narrow(pid_t tid, const unsigned *cpus, size_t n);
/* Back to `before`, unless somebody else has set something other than `cpus` meanwhile. */
void place_restore(pid_t tid, const unsigned *cpus, size_t n, const cpu_set_t *before);
/* The CPUs that are online, ascending, new; 0 or -errno. */
int place_online(unsigned **ret, size_t *ret_n);
