/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks in memory (memory.c): data is copied in submit, on the worker that took the request. Giving memory back is a system
 * call, which goes through the worker's io_uring so that the worker does not wait for it.
 */
#include "store/memory.h"
#include "store/store_internal.h"

#include <errno.h>
#include <linux/falloc.h>

/* Up to here zeroing takes less than a system call does. */
#define ZERO_INLINE_BYTES (64u << 10)

struct ram_pool {
	struct store_pool base;
	struct memory_images images;
};

struct ram_disk {
	struct store_disk base;
	struct memory_image *image;
};

static int ram_pool_open(struct store_pool *p, const struct store_pool_options *options)
{
	memory_images_init(&container_of(p, struct ram_pool, base)->images, options->huge_pages);
	return 0;
}

static void ram_pool_close(struct store_pool *p)
{
	memory_images_fini(&container_of(p, struct ram_pool, base)->images);
}

static int ram_disk_open(struct store_disk *d, const struct store_disk_options *options)
{
	struct ram_pool *pool = container_of(d->pool, struct ram_pool, base);
	struct ram_disk *ram = container_of(d, struct ram_disk, base);
	int r = memory_image_open(&pool->images, options->name, options->size_bytes, &ram->image);

	if (r == 0)
		d->size_bytes = ram->image->size_bytes;
	return r;
}

static void ram_disk_close(struct store_disk *d)
{
	memory_image_close(container_of(d, struct ram_disk, base)->image);
}

/* Workers see the new size after there is memory for it, and before memory is taken away. */
static int ram_disk_resize(struct store_disk *d, uint64_t size_bytes)
{
	struct ram_disk *ram = container_of(d, struct ram_disk, base);
	uint64_t had = d->size_bytes;
	int r;

	if (size_bytes < had)
		store_release(&d->size_bytes, size_bytes);
	r = memory_image_resize(ram->image, size_bytes);
	store_release(&d->size_bytes, r < 0 ? had : size_bytes);
	return r;
}

static void ram_punched(struct worker_cqe *cqe, int result, uint32_t flags)
{
	store_complete(container_of(cqe, struct store_io, cqe), result);
}

/* A hole reads as zeroes: discarding and zeroing are the same here. */
static void ram_zero(struct store_channel *c, struct store_io *io)
{
	struct ram_disk *ram = container_of(io->disk, struct ram_disk, base);
	struct io_uring_sqe *sqe;

	if (io->length_bytes <= ZERO_INLINE_BYTES && io->op == STORE_WRITE_ZEROES) {
		memory_image_zero(ram->image, io);
		store_complete(io, 0);
		return;
	}
	io->cqe.complete = ram_punched;
	sqe = worker_sqe(c->worker);
	io_uring_prep_fallocate(sqe, ram->image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset_bytes,
				(off_t)io->length_bytes);
	io_uring_sqe_set_data(sqe, &io->cqe);
}

static void ram_submit(struct store_channel *c, struct store_io *io)
{
	struct ram_disk *ram = container_of(io->disk, struct ram_disk, base);

	switch (io->op) {
	case STORE_READ:
		memory_image_read(ram->image, io);
		break;
	case STORE_WRITE:
		memory_image_write(ram->image, io);
		break;
	case STORE_DISCARD:
	case STORE_WRITE_ZEROES:
		if (io->length_bytes) {
			ram_zero(c, io);
			return;
		}
		break;
	case STORE_FLUSH:
	case STORE_OPS:
		break;
	}
	store_complete(io, 0);
}

const struct store_ops store_ram_ops = {
	.type = "ram",
	.pool_size = sizeof(struct ram_pool),
	.disk_size = sizeof(struct ram_disk),
	.channel_size = sizeof(struct store_channel),
	.pool_open = ram_pool_open,
	.pool_close = ram_pool_close,
	.disk_open = ram_disk_open,
	.disk_close = ram_disk_close,
	.disk_resize = ram_disk_resize,
	.submit = ram_submit,
};
