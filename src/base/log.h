/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines for people, one per event, on stderr. Under journald each line starts with its priority ("<3>") as
 * sd-daemon(3) describes; on a terminal it does not. Libraries below daemon/ and ctl/ do not log: they return errors.
 * Never on a worker's data path: workers record, the control thread logs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Lines less urgent than `most` are dropped; the default is INFO. */
void log_set_level(enum log_level most);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* At most `burst` events per `interval_ns`; what was held back is counted and told with the next line let through. */
struct log_limit {
	uint64_t interval_ns, began_ns;
	unsigned burst, used, held_back;
};

/* True: log, and add `*ret_held_back` to the line when it is not 0. */
bool log_limit_pass(struct log_limit *l, uint64_t now_ns, unsigned *ret_held_back);
