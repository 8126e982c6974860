/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host as JSON: what `fairlead status`, `vm list` and `stats` show. Shapes are documented in doc/rpc.md.
 */
#pragma once

#include "host/host.h"

#include <jansson.h>

/* NULL without memory; otherwise a new reference. */
json_t *report_status(struct host *h, uint64_t uptime_s);
json_t *report_workers(struct host *h);
json_t *report_stats(struct host *h);
json_t *report_vms(struct host *h);
