/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/signals.h"

#include <signal.h>
#include <stdbool.h>

int signals_listen(sd_event *event, sd_event_signal_handler_t end, sd_event_signal_handler_t reload, void *arg)
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	err = sd_event_add_signal(event, NULL, SIGTERM, end, arg);
	if (err >= 0)
		err = sd_event_add_signal(event, NULL, SIGINT, end, arg);
	if (err >= 0)
		err = sd_event_add_signal(event, NULL, SIGHUP, reload, arg);
	if (err >= 0)
		err = sd_event_set_watchdog(event, true);
	return err < 0 ? err : 0;
}
