/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What keeps a sched_ext scheduler from being loaded, found out before it is tried.
 */
#pragma once

#include "cosched/scheduler.h"

/* 0, or -EOPNOTSUPP or -EBUSY with a sentence for people. */
int preflight(char why[COSCHED_WHY_MAX]);
/* The same but for what is loaded already: whether one could follow it. */
int preflight_machine(char why[COSCHED_WHY_MAX]);
/* Whether the machine has these CPUs, online or not; 0 or -EINVAL. */
int preflight_cpus(const unsigned *cpus, size_t n, char why[COSCHED_WHY_MAX]);
