/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A simulation's report for people.
 */
#pragma once

#include "sim/report.h"

/* To stdout; `file`: what it is about. */
void sim_view_print(const char *file, const struct sim_report *r);
