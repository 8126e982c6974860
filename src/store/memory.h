/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sparse disk images in memory, by name, kept as long as their pool: what `ram` serves from and `model` keeps its data in.
 */
#pragma once

#include "base/list.h"
#include "store/store.h"

struct memory_window; /* one mapping of an image */

struct memory_image {
	uint8_t *base; /* atomically read by workers: the newest window. Older ones show the same memory */
	uint64_t size_bytes;
	char *name;
	int fd;
	bool huge, in_use;
	struct memory_window *windows;
	struct list node;
};

struct memory_images {
	struct list list;
	bool huge_pages;
};

/* All on the control thread. */
void memory_images_init(struct memory_images *m, bool huge_pages);
void memory_images_fini(struct memory_images *m);
/*
 * The image of that name, made of zeroes if there is none. size_bytes 0: its own size (-EINVAL if it is new); else it is
 * resized. -EBUSY: open already.
 */
int memory_image_open(struct memory_images *m, const char *name, uint64_t size_bytes, struct memory_image **ret);
void memory_image_close(struct memory_image *i);
int memory_image_resize(struct memory_image *i, uint64_t size_bytes);

/* On a worker: the range must be within the image. Copies between a request's iovecs and the image. */
void memory_image_read(const struct memory_image *i, const struct store_io *io);
void memory_image_write(struct memory_image *i, const struct store_io *io);
void memory_image_zero(struct memory_image *i, const struct store_io *io);
