/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image file or block device: opening it beneath the pool's directory, what alignment it asks for, its size, its
 * lock. Control thread only.
 */
#pragma once

#include "base/util.h"

enum image_made { IMAGE_FOUND, IMAGE_SIZED, IMAGE_CREATED };

struct image {
	int fd;
	enum image_made made;	  /* what opening did: nothing, gave an empty file its size, made the file */
	bool block_device, read_only;
	bool buffered;		  /* O_DIRECT is impossible here */
	uint32_t memory_align;	  /* of buffers, for O_DIRECT; 1 when buffered */
	uint32_t block_size;	  /* of offsets and lengths */
	uint32_t physical_block_size;
	uint64_t size_bytes;	  /* a multiple of block_size: a ragged end is padded, or cut with 4 KiB blocks */
};

/*
 * Opens `path`, which must stay beneath the directory `dir_fd` on its way, symbolic links included: -EXDEV otherwise
 * (-ELOOP for a magic link). Where nothing is there and size_bytes is not 0, a sparse file of that size is made; an
 * image that exists keeps its own size. -EINVAL: neither file nor block device.
 */
int image_open(struct image *i, int dir_fd, const char *path, uint64_t size_bytes, bool read_only);
/*
 * Takes back what opening has made, unless somebody has written to it or uses it; a failed image_open() has done so. Still to be
 * closed.
 */
void image_unmake(const struct image *i, int dir_fd, const char *path);
/* image_open() for an open file, which stays the caller's. */
int image_adopt(struct image *i, int fd, bool read_only);
void image_close(struct image *i);
int image_resize(struct image *i, uint64_t size_bytes);

/*
 * QEMU's lock: an open file description lock that QEMU's tools and other daemons understand. A writer excludes all
 * others, a reader writers. -EAGAIN: somebody else is in the way.
 */
int image_lock(const struct image *i);
void image_unlock(const struct image *i);
