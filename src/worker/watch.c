/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Watches: file descriptors whose readability wakes the worker and is reported to whoever asked, through one multishot
 * poll each. Worker's thread only.
 *
 * Lifecycle: add -> polled by the kernel -> (remove: cancel -> last completion) -> gone. `active` says that the kernel
 * still has the watch's address; its last completion is the one without IORING_CQE_F_MORE.
 */
#include "worker/worker_internal.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

static void watch_complete(struct worker_cqe *cqe, int result, uint32_t flags);

/* Watches are always outstanding: they must not look like work in flight. */
static void watch_arm(struct worker_watch *watch)
{
	struct io_uring_sqe *sqe = worker_sqe(watch->worker);

	watch->worker->in_flight--;
	io_uring_prep_poll_multishot(sqe, watch->fd, POLLIN);
	io_uring_sqe_set_data(sqe, &watch->cqe);
	watch->active = true;
}

static void watch_complete(struct worker_cqe *cqe, int result, uint32_t flags)
{
	struct worker_watch *watch = container_of(cqe, struct worker_watch, cqe);
	bool last = !(flags & IORING_CQE_F_MORE);

	if (last) {
		watch->worker->in_flight++; /* the reaper took it off, watch_arm() had not put it on */
		watch->active = false;
	}
	if (watch->gone) {
		if (last)
			watch->gone(watch);
		return;
	}
	/*
	 * The kernel ends a multishot poll when completions overflow: go on before ready() is called, which may remove
	 * the watch, and with it nothing to touch afterwards. An error or a hang-up is final: polling again would spin.
	 */
	if (last && result > 0 && !(result & (POLLERR | POLLHUP | POLLNVAL)))
		watch_arm(watch);
	if (result > 0)
		watch->ready(watch);
}

/*
 * A file without poll (a regular file, /dev/zero) counts as readable at all times: its poll would end and begin again
 * for ever, and what is watched may come from a hostile peer. epoll, unlike io_uring, says so.
 */
static bool can_be_polled(const struct worker *w, int fd)
{
	struct epoll_event none = { .events = 0 };

	if (epoll_ctl(w->probe_fd, EPOLL_CTL_ADD, fd, &none) == 0) {
		(void)epoll_ctl(w->probe_fd, EPOLL_CTL_DEL, fd, NULL);
		return true;
	}
	return errno == ENOSPC || errno == ENOMEM; /* no answer */
}

void worker_watch_add(struct worker *w, struct worker_watch *watch)
{
	assert_on_worker(w);
	watch->worker = w;
	watch->gone = NULL;
	watch->active = false;
	watch->cqe.complete = watch_complete;
	if (can_be_polled(w, watch->fd))
		watch_arm(watch);
}

void worker_watch_remove(struct worker_watch *watch, void (*gone)(struct worker_watch *))
{
	struct io_uring_sqe *sqe;

	assert_on_worker(watch->worker);
	assert(!watch->gone && gone);
	watch->gone = gone;
	if (!watch->active) {
		gone(watch);
		return;
	}
	/* Not POLL_REMOVE: that one gives up on a poll that is about to complete. */
	sqe = worker_sqe(watch->worker);
	io_uring_prep_cancel(sqe, &watch->cqe, 0);
	io_uring_sqe_set_data(sqe, NULL);
}
