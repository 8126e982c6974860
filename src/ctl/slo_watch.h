/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks every second whether promises are kept, and tells when one begins or ceases to be violated: a log line and an event
 * on the control socket. Each promise speaks at most once in ten seconds.
 */
#pragma once

#include "ctl/server.h"
#include "host/host.h"

struct slo_watch;

int slo_watch_create(sd_event *event, struct host *h, struct ctl_server *server, struct slo_watch **ret);
/* NULL is allowed. A look under way ends by itself. */
void slo_watch_destroy(struct slo_watch *w);
