/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks in files and on block devices: the pool's directory, opening, locking and resizing of disks. Control thread.
 * What happens to requests is in file_io.c.
 */
#include "store/file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int file_pool_open(struct store_pool *p, const struct store_pool_options *options)
{
	struct file_pool *fp = container_of(p, struct file_pool, base);

	fp->dir_fd = -1; /* no directory: only files that are given open */
	if (options->directory) {
		fp->dir_fd = open(options->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fp->dir_fd < 0)
			return -errno;
	}
	slots_set_init(&fp->slots);
	return 0;
}

static void file_pool_close(struct store_pool *p)
{
	struct file_pool *fp = container_of(p, struct file_pool, base);

	slots_set_fini(&fp->slots);
	if (fp->dir_fd >= 0)
		close(fp->dir_fd);
}

static int file_disk_open(struct store_disk *d, const struct store_disk_options *options)
{
	struct file_pool *p = container_of(d->pool, struct file_pool, base);
	struct file_disk *fd = container_of(d, struct file_disk, base);
	int r;

	if (options->fd >= 0)
		r = image_adopt(&fd->image, options->fd, options->read_only);
	else if (options->image && p->dir_fd >= 0)
		r = image_open(&fd->image, p->dir_fd, options->image, options->size_bytes, options->read_only);
	else
		r = -EINVAL;
	if (r < 0)
		return r;
	/* Without the memory for its name what was made stays. */
	if (fd->image.made != IMAGE_FOUND)
		fd->made_path = strdup(options->image);
	slots_key_new(&p->slots, &fd->key);
	d->size_bytes = fd->image.size_bytes;
	d->limits = (struct store_limits){ .block_size = fd->image.block_size,
					   .physical_block_size = fd->image.physical_block_size,
					   .discard = true, .write_zeroes = true, .buffered = fd->image.buffered };
	return 0;
}

static void file_disk_unmake(struct store_disk *d)
{
	struct file_disk *fd = container_of(d, struct file_disk, base);

	if (fd->made_path)
		image_unmake(&fd->image, container_of(d->pool, struct file_pool, base)->dir_fd, fd->made_path);
}

static void file_disk_close(struct store_disk *d)
{
	struct file_disk *fd = container_of(d, struct file_disk, base);

	/* A worker may have the file open for a little longer: that must not keep the lock. */
	image_unlock(&fd->image);
	slots_key_drop(&container_of(d->pool, struct file_pool, base)->slots, &fd->key);
	image_close(&fd->image);
	free(fd->made_path);
}

static int file_disk_resize(struct store_disk *d, uint64_t size_bytes)
{
	struct file_disk *fd = container_of(d, struct file_disk, base);
	uint64_t had = d->size_bytes;
	int r;

	if (size_bytes < had)
		store_relaxed(&d->size_bytes, size_bytes);
	r = image_resize(&fd->image, size_bytes);
	store_relaxed(&d->size_bytes, r < 0 ? had : size_bytes);
	return r;
}

static int file_disk_lock(struct store_disk *d)
{
	return image_lock(&container_of(d, struct file_disk, base)->image);
}

static void file_disk_unlock(struct store_disk *d)
{
	image_unlock(&container_of(d, struct file_disk, base)->image);
}

const struct store_ops store_file_ops = {
	.type = "file",
	.pool_size = sizeof(struct file_pool),
	.disk_size = sizeof(struct file_disk),
	.channel_size = sizeof(struct file_channel),
	.pool_open = file_pool_open,
	.pool_close = file_pool_close,
	.disk_open = file_disk_open,
	.disk_unmake = file_disk_unmake,
	.disk_close = file_disk_close,
	.disk_resize = file_disk_resize,
	.disk_lock = file_disk_lock,
	.disk_unlock = file_disk_unlock,
	.channel_open = file_channel_open,
	.channel_close = file_channel_close,
	.submit = file_submit,
};
