/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker's io_uring: making it, submitting, reaping, waiting, and its table of fixed files. Worker's thread only.
 *
 * With DEFER_TASKRUN completions appear only inside io_uring_enter, so nothing interrupts the loop; the kernel sets
 * IORING_SQ_TASKRUN when there are some, and only then is entering worth its cost. The kernel refuses opcodes that no
 * part of this program uses: seccomp does not see them.
 */
#include "worker/worker_internal.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define RING_ENTRIES 256u
#define RING_COMPLETIONS 4096u
#define RING_REAP_MAX 256u
/*
 * Entries that are queued before the turn's end go down in portions of this: the device starts on the first meanwhile.
 */
#define RING_PORTION 4u

static const uint8_t allowed_ops[] = {
	IORING_OP_NOP,	 IORING_OP_READ,      IORING_OP_WRITE,	  IORING_OP_READV,	  IORING_OP_WRITEV,
	IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
};
static const uint8_t allowed_registrations[] = {
	IORING_REGISTER_FILES_UPDATE,
	IORING_UNREGISTER_RING_FDS,
};

/* Best first. Linux 6.1 has all, 5.19 has the second, any older one the last. */
static const unsigned setups[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	0,
};

/* Kernels without restrictions, or with fewer opcodes than we know, serve without. */
static void restrict_ops(struct io_uring *ring)
{
	struct io_uring_restriction r[ARRAY_SIZE(allowed_ops) + ARRAY_SIZE(allowed_registrations) + 1] = { 0 };
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(allowed_ops); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_SQE_OP;
		r[n].sqe_op = allowed_ops[i];
	}
	for (unsigned i = 0; i < ARRAY_SIZE(allowed_registrations); i++, n++) {
		r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
		r[n].register_op = allowed_registrations[i];
	}
	r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	r[n++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_ASYNC;
	/* The plain system call, here and below: liburing 2.3 declares wrappers for both and exports neither. */
	(void)io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, r, n);
}

/* Disabled rings can be restricted; enabling makes the calling thread their single issuer. */
static int ring_setup(struct worker *w, unsigned flags)
{
	struct io_uring_params p = { .flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
				     .cq_entries = RING_COMPLETIONS };
	int r = io_uring_queue_init_params(RING_ENTRIES, &w->ring, &p);

	if (r < 0)
		return r;
	r = io_uring_register_files_sparse(&w->ring, WORKER_FILES);
	if (r < 0)
		goto fail;
	(void)io_uring_register_ring_fd(&w->ring); /* saves a look-up per enter; not everywhere */
	restrict_ops(&w->ring);
	r = io_uring_register((unsigned)w->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r < 0)
		goto fail;
	w->ring_open = true;
	return 0;
fail:
	io_uring_queue_exit(&w->ring);
	return r;
}

int ring_open(struct worker *w)
{
	int r = -EINVAL;

	for (unsigned i = 0; i < ARRAY_SIZE(setups); i++) {
		r = ring_setup(w, setups[i]);
		if (r != -EINVAL)
			break;
	}
	return r;
}

void ring_close(struct worker *w)
{
	if (w->ring_open)
		io_uring_queue_exit(&w->ring);
	w->ring_open = false;
}

struct io_uring *worker_ring(struct worker *w)
{
	return &w->ring;
}

static bool kernel_has_completions(const struct worker *w)
{
	return load_relaxed(w->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

void ring_submit(struct worker *w)
{
	int r;

	if (io_uring_sq_ready(&w->ring) == 0)
		return;
	counter_add(&w->counters.enters, 1);
	/* Entering anyway: completions come along. */
	r = kernel_has_completions(w) ? io_uring_submit_and_get_events(&w->ring) : io_uring_submit(&w->ring);
	w->last_submit_ns = w->now_ns;
	/* EBUSY, EAGAIN, EINTR: what is left goes down with the next turn. Anything else is our bug. */
	assert(r >= 0 || r == -EBUSY || r == -EAGAIN || r == -EINTR || r == -ENOMEM);
	(void)r;
}

struct io_uring_sqe *worker_sqe(struct worker *w)
{
	struct io_uring_sqe *sqe;

	assert_on_worker(w);
	if (io_uring_sq_ready(&w->ring) >= RING_PORTION)
		ring_submit(w);
	while (!(sqe = io_uring_get_sqe(&w->ring))) {
		/* The kernel is short of memory or has completions that we must make room for. */
		ring_submit(w);
		(void)io_uring_get_events(&w->ring);
	}
	w->in_flight++;
	return sqe;
}

unsigned ring_reap(struct worker *w)
{
	struct io_uring_cqe *cqe;
	unsigned n;

	if (kernel_has_completions(w)) {
		counter_add(&w->counters.enters, 1);
		(void)io_uring_get_events(&w->ring);
	}
	for (n = 0; n < RING_REAP_MAX && io_uring_cq_ready(&w->ring); n++) {
		struct worker_cqe *c;
		uint32_t flags;
		int result;

		cqe = &w->ring.cq.cqes[*w->ring.cq.khead & w->ring.cq.ring_mask];
		c = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		flags = cqe->flags;
		/* Its slot is free before it is handled: handlers may submit, and so need room. */
		io_uring_cq_advance(&w->ring, 1);
		if (!(flags & IORING_CQE_F_MORE))
			w->in_flight--;
		if (c)
			c->complete(c, result, flags);
	}
	return n;
}

void ring_wait(struct worker *w, uint64_t deadline_ns)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *ignored;
	uint64_t now;

	if (deadline_ns == UINT64_MAX) {
		counter_add(&w->counters.enters, 1);
		(void)io_uring_submit_and_wait(&w->ring, 1);
		return;
	}
	now = clock_now_ns();
	if (now >= deadline_ns)
		return;
	counter_add(&w->counters.enters, 1);
	ts.tv_sec = (int64_t)((deadline_ns - now) / NSEC_PER_SEC);
	ts.tv_nsec = (int64_t)((deadline_ns - now) % NSEC_PER_SEC);
	(void)io_uring_submit_and_wait_timeout(&w->ring, &ignored, 1, &ts, NULL);
}

int worker_file_register(struct worker *w, int fd)
{
	assert_on_worker(w);
	for (unsigned i = 0; i < ARRAY_SIZE(w->file_used); i++) {
		unsigned slot;
		int r;

		if (w->file_used[i] == UINT64_MAX)
			continue;
		slot = i * 64 + (unsigned)__builtin_ctzll(~w->file_used[i]);
		r = io_uring_register_files_update(&w->ring, slot, &fd, 1);
		if (r < 0)
			return r;
		w->file_used[i] |= UINT64_C(1) << slot % 64;
		return (int)slot;
	}
	return -ENFILE;
}

void worker_file_unregister(struct worker *w, int slot)
{
	int none = -1;

	assert_on_worker(w);
	assert(slot >= 0 && (unsigned)slot < WORKER_FILES && (w->file_used[slot / 64] & UINT64_C(1) << slot % 64));
	(void)io_uring_register_files_update(&w->ring, (unsigned)slot, &none, 1);
	w->file_used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}
