/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What keeps a sched_ext scheduler from being loaded, found out before it is tried.
 */
#pragma once

#include "cosched/scheduler.h"

/* 0, or -EOPNOTSUPP or -EBUSY with a sentence for people. */
int preflight(char why[COSCHED_WHY_MAX]);
