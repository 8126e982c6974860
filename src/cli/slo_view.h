/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What slo.show answers, for people: shared by `slo` and `top`.
 */
#pragma once

#include "cli/cli.h"

/* "web/gold", or "web" for a whole VM. */
const char *slo_target(const json_t *node, char text[80]);
/* "50 iops, p99 20ms, limit 20k iops, shares 100": the promise in words. */
void slo_promise_text(const json_t *promise, char *text, size_t size);
/* "kept", or what is violated and why, over `span` ("1s", "10s", "60s"). True: kept. */
bool slo_verdict_text(const json_t *node, const char *span, char *text, size_t size);
