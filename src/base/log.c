/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes each line with one write(2), so that lines of several threads never mix.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static enum log_level most_told = LOG_LEVEL_INFO;

void log_set_level(enum log_level most)
{
	most_told = most;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	size_t n = 0;
	va_list ap;
	int r;

	if (level > most_told)
		return;
	/* journald sets JOURNAL_STREAM for the services whose stderr it reads. */
	if (getenv("JOURNAL_STREAM"))
		n = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	va_start(ap, format);
	r = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
	va_end(ap);
	if (r < 0)
		return;
	n += (size_t)r;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nowhere left to say so */
}

bool log_limit_pass(struct log_limit *l, uint64_t now_ns, unsigned *ret_held_back)
{
	if (now_ns - l->began_ns >= l->interval_ns || l->began_ns == 0) {
		l->began_ns = now_ns;
		l->used = 0;
	}
	if (l->used >= l->burst) {
		l->held_back++;
		return false;
	}
	l->used++;
	*ret_held_back = l->held_back;
	l->held_back = 0;
	return true;
}
