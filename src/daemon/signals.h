/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What both daemons do about signals and the watchdog: SIGTERM and SIGINT end, SIGHUP reloads, SIGPIPE is nothing. Control
 * thread; before other threads start, so that they inherit what is blocked.
 */
#pragma once

#include <systemd/sd-event.h>

/* 0 or -errno. */
int signals_listen(sd_event *event, sd_event_signal_handler_t end, sd_event_signal_handler_t reload, void *arg);
