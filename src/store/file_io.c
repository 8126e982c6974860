/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks in files and on block devices, with O_DIRECT through the worker's io_uring.
 *
 * A request is a sequence of steps, mostly one: each step is one entry in the io_uring, and file_step_done() decides
 * what follows. A transfer goes on where a short one ended. Guest memory that is not aligned as the file asks goes
 * through one of the channel's bounce buffers, piece by piece; a request that finds none free waits for one. Zeroes and
 * holes are made by the file system if it can, else zeroes are written. On block devices, too, all of this is
 * fallocate: the kernel turns punching into an unmapping write-zeroes command, so no ioctl is needed, which would have
 * to wait in the worker.
 *
 * Per-request state is in `scratch`; iovecs are changed in place as the transfer proceeds.
 */
#include "store/file_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <sys/uio.h>

#define BOUNCE_BYTES (256u << 10)
#define BOUNCE_ALIGN 4096u
#define ZERO_BYTES (256u << 10)

enum file_step {
	STEP_TRANSFER, /* straight between file and guest memory */
	STEP_BOUNCE,   /* between file and a bounce buffer */
	STEP_PUNCH,    /* fallocate, deallocating */
	STEP_ZERO,     /* fallocate, keeping the blocks */
	STEP_FILL,     /* writing zeroes */
	STEP_SYNC,
};

/* What scratch holds. */
struct file_state {
	uint64_t moved_bytes;
	void *buffer;	   /* STEP_BOUNCE */
	uint32_t step;
	uint32_t iov_next; /* first entry with something left */
	uint32_t asked_bytes; /* by the step under way; 0: all that is left */
	bool refused;	   /* the kernel said EAGAIN: next time it shall wait elsewhere */
	bool sync_after;
};

_Static_assert(sizeof(struct file_state) <= sizeof(((struct store_io *)0)->scratch), "fits");

static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(BOUNCE_ALIGN)));

static struct file_state *state(struct store_io *io)
{
	return (struct file_state *)(void *)io->scratch;
}

static struct file_disk *disk_of(const struct store_io *io)
{
	return container_of(io->disk, struct file_disk, base);
}

static struct file_channel *channel_of(const struct store_io *io)
{
	return container_of(io->channel, struct file_channel, base);
}

/* --- iovecs --- */

/* O_DIRECT asks for it of every entry; buffered I/O of none. */
static bool iov_aligned(const struct store_io *io, const struct image *image)
{
	uintptr_t bits = 0;

	if (image->buffered)
		return true;
	for (unsigned i = 0; i < io->iovcnt; i++)
		bits |= ((uintptr_t)io->iov[i].iov_base & (image->memory_align - 1)) |
			(io->iov[i].iov_len & (image->block_size - 1));
	return bits == 0;
}

/* Steps over the next `bytes`. */
static void iov_advance(struct store_io *io, size_t bytes)
{
	struct file_state *s = state(io);

	while (bytes) {
		struct iovec *v = &io->iov[s->iov_next];
		size_t n = min_u64(bytes, v->iov_len);

		v->iov_base = (char *)v->iov_base + n;
		v->iov_len -= n;
		bytes -= n;
		if (v->iov_len == 0)
			s->iov_next++;
	}
}

/* The next `bytes` of guest memory, from where the transfer stands. */
static void iov_copy_in(struct store_io *io, const uint8_t *from, size_t bytes)
{
	for (unsigned i = state(io)->iov_next; bytes; i++) {
		size_t n = min_u64(bytes, io->iov[i].iov_len);

		memcpy(io->iov[i].iov_base, from, n);
		from += n;
		bytes -= n;
	}
}

static void iov_copy_out(struct store_io *io, uint8_t *to, size_t bytes)
{
	for (unsigned i = state(io)->iov_next; bytes; i++) {
		size_t n = min_u64(bytes, io->iov[i].iov_len);

		memcpy(to, io->iov[i].iov_base, n);
		to += n;
		bytes -= n;
	}
}

/* What lies past the end of the file reads as zeroes. */
static void iov_clear_rest(struct store_io *io)
{
	for (unsigned i = state(io)->iov_next; i < io->iovcnt; i++)
		memset(io->iov[i].iov_base, 0, io->iov[i].iov_len);
}

/* --- steps --- */

static void file_step(struct store_io *io);

static void file_step_done(struct worker_cqe *cqe, int result, uint32_t flags);

static uint64_t bytes_left(struct store_io *io)
{
	return io->length_bytes - state(io)->moved_bytes;
}

static void prepare_transfer(struct store_io *io, struct io_uring_sqe *sqe, uint64_t at)
{
	struct file_state *s = state(io);
	struct iovec *v = &io->iov[s->iov_next];
	unsigned n = io->iovcnt - s->iov_next;

	s->asked_bytes = 0;
	if (n == 1 && v->iov_len <= UINT32_MAX) {
		if (io->op == STORE_READ)
			io_uring_prep_read(sqe, -1, v->iov_base, (unsigned)v->iov_len, at);
		else
			io_uring_prep_write(sqe, -1, v->iov_base, (unsigned)v->iov_len, at);
	} else {
		if (io->op == STORE_READ)
			io_uring_prep_readv(sqe, -1, v, n, at);
		else
			io_uring_prep_writev(sqe, -1, v, n, at);
	}
}

static void prepare_bounce(struct store_io *io, struct io_uring_sqe *sqe, uint64_t at)
{
	struct file_state *s = state(io);

	s->asked_bytes = (uint32_t)min_u64(bytes_left(io), BOUNCE_BYTES);
	if (io->op == STORE_READ) {
		io_uring_prep_read(sqe, -1, s->buffer, s->asked_bytes, at);
	} else {
		iov_copy_out(io, s->buffer, s->asked_bytes);
		io_uring_prep_write(sqe, -1, s->buffer, s->asked_bytes, at);
	}
}

static void prepare(struct store_io *io, struct io_uring_sqe *sqe)
{
	struct file_state *s = state(io);
	uint64_t at = io->offset_bytes + s->moved_bytes;

	switch ((enum file_step)s->step) {
	case STEP_TRANSFER:
		prepare_transfer(io, sqe, at);
		break;
	case STEP_BOUNCE:
		prepare_bounce(io, sqe, at);
		break;
	case STEP_PUNCH:
		io_uring_prep_fallocate(sqe, -1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
					(off_t)bytes_left(io));
		break;
	case STEP_ZERO:
		io_uring_prep_fallocate(sqe, -1, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)at,
					(off_t)bytes_left(io));
		break;
	case STEP_FILL:
		s->asked_bytes = (uint32_t)min_u64(bytes_left(io), ZERO_BYTES);
		io_uring_prep_write(sqe, -1, zeroes, s->asked_bytes, at);
		break;
	case STEP_SYNC:
		io_uring_prep_fsync(sqe, -1, IORING_FSYNC_DATASYNC);
		break;
	}
	if (io->op == STORE_WRITE && io->flags & STORE_FUA)
		sqe->rw_flags = RWF_DSYNC;
}

static void file_step(struct store_io *io)
{
	struct file_disk *d = disk_of(io);
	int slot = slots_get(channel_of(io)->slots, &d->key, d->image.fd);
	struct io_uring_sqe *sqe = worker_sqe(io->channel->worker);

	prepare(io, sqe);
	sqe->fd = slot >= 0 ? slot : d->image.fd;
	if (slot >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
	if (state(io)->refused)
		sqe->flags |= IOSQE_ASYNC;
	io->cqe.complete = file_step_done;
	io_uring_sqe_set_data(sqe, &io->cqe);
}

/* --- bounce buffers --- */

static void bounce_start(struct store_io *io)
{
	struct file_channel *c = channel_of(io);

	counter_add(&c->base.counters->bounced, 1);
	state(io)->step = STEP_BOUNCE;
	if (c->buffers_free == 0) {
		io->next = NULL;
		*c->waiting_last = io;
		c->waiting_last = &io->next;
		return;
	}
	state(io)->buffer = c->buffer_free[--c->buffers_free];
	file_step(io);
}

/* The buffer goes to who waits for it, else back. */
static void bounce_end(struct file_channel *c, void *buffer)
{
	struct store_io *io = c->waiting_first;

	if (!io) {
		c->buffer_free[c->buffers_free++] = buffer;
		return;
	}
	c->waiting_first = io->next;
	if (!c->waiting_first)
		c->waiting_last = &c->waiting_first;
	state(io)->buffer = buffer;
	file_step(io);
}

/* --- results --- */

static void file_finish(struct store_io *io, int result)
{
	struct file_state *s = state(io);

	if (s->step == STEP_BOUNCE)
		bounce_end(channel_of(io), s->buffer);
	if (result == 0 && s->sync_after) {
		s->sync_after = false;
		s->step = STEP_SYNC;
		file_step(io);
		return;
	}
	store_complete(io, result);
}

static void file_moved(struct store_io *io, uint64_t bytes)
{
	struct file_state *s = state(io);
	bool end_of_file = io->op == STORE_READ && (bytes == 0 || bytes % STORE_SECTOR);

	if (s->step == STEP_BOUNCE && io->op == STORE_READ)
		iov_copy_in(io, s->buffer, bytes);
	s->moved_bytes += bytes;
	if (bytes_left(io) == 0) {
		file_finish(io, 0);
		return;
	}
	if (s->step != STEP_FILL)
		iov_advance(io, bytes);
	if (end_of_file) {
		iov_clear_rest(io);
		file_finish(io, 0);
		return;
	}
	if (bytes == 0) {
		file_finish(io, -EIO);
		return;
	}
	if (bytes != s->asked_bytes)
		counter_add(&io->channel->counters->short_transfers, 1);
	file_step(io);
}

/* A file system that cannot do it: the next best, which is remembered. */
static bool file_fall_back(struct store_io *io)
{
	struct file_state *s = state(io);

	if (s->step == STEP_PUNCH) {
		store_relaxed(&disk_of(io)->no_punch, true);
		if (io->op == STORE_DISCARD) {
			file_finish(io, 0); /* advice, which nobody must follow */
			return true;
		}
		s->step = load_relaxed(&disk_of(io)->no_zero) ? STEP_FILL : STEP_ZERO;
	} else if (s->step == STEP_ZERO) {
		store_relaxed(&disk_of(io)->no_zero, true);
		s->step = STEP_FILL;
	} else {
		return false;
	}
	file_step(io);
	return true;
}

static void file_failed(struct store_io *io, int result)
{
	struct file_state *s = state(io);

	switch (result) {
	case -EAGAIN:
		s->refused = true;
		file_step(io);
		return;
	case -EINTR:
		file_step(io);
		return;
	case -EOPNOTSUPP:
	case -ENODEV:
		if (file_fall_back(io))
			return;
		break;
	case -EINVAL:
		/* Stricter than it said: some stacked devices are. */
		if (s->step == STEP_TRANSFER && !disk_of(io)->image.buffered) {
			bounce_start(io);
			return;
		}
		break;
	}
	file_finish(io, result);
}

static void file_step_done(struct worker_cqe *cqe, int result, uint32_t flags)
{
	struct store_io *io = container_of(cqe, struct store_io, cqe);

	if (unlikely(result < 0)) {
		file_failed(io, result);
		return;
	}
	switch ((enum file_step)state(io)->step) {
	case STEP_TRANSFER:
	case STEP_BOUNCE:
	case STEP_FILL:
		file_moved(io, (uint64_t)result);
		break;
	case STEP_PUNCH:
	case STEP_ZERO:
	case STEP_SYNC:
		file_finish(io, 0);
		break;
	}
}

/* --- submission --- */

static enum file_step zeroes_step(const struct store_io *io)
{
	const struct file_disk *d = disk_of(io);

	if (io->flags & STORE_UNMAP && !load_relaxed(&d->no_punch))
		return STEP_PUNCH;
	return load_relaxed(&d->no_zero) ? STEP_FILL : STEP_ZERO;
}

int file_submit(struct store_channel *c, struct store_io *io)
{
	struct file_state *s = state(io);

	*s = (struct file_state){ .step = STEP_TRANSFER };
	if (io->length_bytes == 0 && io->op != STORE_FLUSH)
		return 0;
	switch (io->op) {
	case STORE_READ:
	case STORE_WRITE:
		if (!iov_aligned(io, &disk_of(io)->image)) {
			bounce_start(io);
			return STORE_LATER;
		}
		break;
	case STORE_FLUSH:
	case STORE_OPS:
		s->step = STEP_SYNC;
		break;
	case STORE_DISCARD:
		s->step = STEP_PUNCH;
		if (load_relaxed(&disk_of(io)->no_punch))
			return 0;
		break;
	case STORE_WRITE_ZEROES:
		s->step = zeroes_step(io);
		s->sync_after = io->flags & STORE_FUA;
		break;
	}
	file_step(io);
	return STORE_LATER;
}

int file_channel_open(struct store_channel *c)
{
	struct file_pool *p = container_of(c->pool, struct file_pool, base);
	struct file_channel *fc = container_of(c, struct file_channel, base);
	int r;

	fc->waiting_last = &fc->waiting_first;
	fc->buffers = aligned_alloc(BOUNCE_ALIGN, (size_t)BOUNCE_BUFFERS * BOUNCE_BYTES);
	if (!fc->buffers)
		return -ENOMEM;
	for (unsigned i = 0; i < BOUNCE_BUFFERS; i++)
		fc->buffer_free[i] = fc->buffers + (size_t)i * BOUNCE_BYTES;
	fc->buffers_free = BOUNCE_BUFFERS;
	r = slots_open(&p->slots, c->worker, &fc->slots);
	if (r < 0)
		free(fc->buffers);
	return r;
}

void file_channel_close(struct store_channel *c)
{
	struct file_channel *fc = container_of(c, struct file_channel, base);

	assert(!fc->waiting_first);
	slots_close(&container_of(c->pool, struct file_pool, base)->slots, fc->slots);
	free(fc->buffers);
}
