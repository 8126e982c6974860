/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Signals an eventfd of a peer that is not trusted, and never blocks.
 *
 * write(2) may: the peer shares the file's flags, so it can clear O_NONBLOCK at any time, and fill the counter. Asking first
 * (F_GETFL, poll) leaves a moment in between; pwritev2(RWF_NOWAIT) does not exist for eventfds, and an io_uring write looks at
 * the same flags first. What cannot wait is the kernel's own signal, which lets a full counter be: so a caller is an io_uring of
 * one entry with the eventfd registered to it, and a call is a NOP, whose completion signals it. It costs 0.1 us more than a
 * write (0.28 instead of 0.18).
 *
 * One thread at a time; init and fini on the control thread, for they take 60 us.
 */
#pragma once

#include <liburing.h>
#include <stdbool.h>

struct worker_caller {
	struct io_uring ring;
	bool open;
	int fd; /* registered, and ours; -1: none */
};

int worker_caller_init(struct worker_caller *c);
/* Closes its eventfd. A caller that is all zero, or was ended before, is allowed. */
void worker_caller_fini(struct worker_caller *c);
/* Takes over `fd` (-1: none) and closes the one before. -EINVAL: it is no eventfd; it has been closed. */
int worker_caller_set(struct worker_caller *c, int fd);
/* False: the kernel had no memory for it; call again. Without an eventfd it does nothing. */
bool worker_caller_call(struct worker_caller *c);
/* Once, another eventfd, which stays whose it is. */
void worker_caller_call_other(struct worker_caller *c, int fd);
