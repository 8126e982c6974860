/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time. Pure layers never call this: they are given `now`.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)

/* CLOCK_REALTIME - CLOCK_MONOTONIC in ns: what makes a date of a monotonic time. */
static inline uint64_t clock_boot_ns(void)
{
	struct timespec real, mono;

	clock_gettime(CLOCK_REALTIME, &real);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	return (uint64_t)(real.tv_sec - mono.tv_sec) * NSEC_PER_SEC + (uint64_t)real.tv_nsec - (uint64_t)mono.tv_nsec;
}

/* CLOCK_MONOTONIC in ns; a vDSO call, no system call. */
static inline uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}
