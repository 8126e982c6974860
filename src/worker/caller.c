/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "worker/caller.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* As for a worker's ring: what this program never does with it, nobody can. */
static void restrict_ops(struct io_uring *ring)
{
	struct io_uring_restriction r[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_NOP },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_EVENTFD },
		{ .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_EVENTFD },
	};

	(void)io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, r, ARRAY_SIZE(r));
}

int worker_caller_init(struct worker_caller *c)
{
	int r = io_uring_queue_init(1, &c->ring, IORING_SETUP_R_DISABLED);

	if (r < 0)
		return r;
	restrict_ops(&c->ring);
	r = io_uring_register((unsigned)c->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r < 0) {
		io_uring_queue_exit(&c->ring);
		return r;
	}
	c->open = true;
	c->fd = -1;
	return 0;
}

static void forget(struct worker_caller *c)
{
	if (c->fd < 0)
		return;
	(void)io_uring_register((unsigned)c->ring.ring_fd, IORING_UNREGISTER_EVENTFD, NULL, 0);
	close(c->fd);
	c->fd = -1;
}

void worker_caller_fini(struct worker_caller *c)
{
	if (!c->open)
		return;
	forget(c);
	io_uring_queue_exit(&c->ring);
	c->open = false;
}

int worker_caller_set(struct worker_caller *c, int fd)
{
	int r;

	forget(c);
	if (fd < 0)
		return 0;
	r = io_uring_register((unsigned)c->ring.ring_fd, IORING_REGISTER_EVENTFD, &fd, 1);
	if (r < 0) {
		close(fd);
		return r;
	}
	c->fd = fd;
	return 0;
}

static bool signal_it(struct worker_caller *c)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);

	/* None: the last one has not gone down yet, and goes now. */
	if (sqe)
		io_uring_prep_nop(sqe);
	if (io_uring_submit(&c->ring) < 1)
		return false;
	io_uring_cq_advance(&c->ring, 1);
	return true;
}

bool worker_caller_call(struct worker_caller *c)
{
	return c->fd < 0 || signal_it(c);
}

void worker_caller_call_other(struct worker_caller *c, int fd)
{
	unsigned ring = (unsigned)c->ring.ring_fd;

	if (c->fd >= 0)
		(void)io_uring_register(ring, IORING_UNREGISTER_EVENTFD, NULL, 0);
	if (io_uring_register(ring, IORING_REGISTER_EVENTFD, &fd, 1) == 0) {
		(void)signal_it(c);
		(void)io_uring_register(ring, IORING_UNREGISTER_EVENTFD, NULL, 0);
	}
	if (c->fd >= 0)
		(void)io_uring_register(ring, IORING_REGISTER_EVENTFD, &c->fd, 1);
}
