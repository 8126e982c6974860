/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sparse disk images in memory, by name, kept as long as their pool: what `ram` serves from and `model` keeps its data
 * in. The functions that take a pool or a disk fit into a `struct store_ops` of a store whose structs begin with these.
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

struct memory_pool {
	struct store_pool base;
	struct list images;
	bool huge_pages;
};

struct memory_disk {
	struct store_disk base;
	struct memory_image *image;
};

/* Control thread. */
int memory_pool_open(struct store_pool *p, const struct store_pool_options *options);
void memory_pool_close(struct store_pool *p);
/*
 * Finds the image of the disk's name, or makes one of zeroes. Size 0: the image's own (-EINVAL if it is new); else it
 * is resized. -EBUSY: another disk has it.
 */
int memory_disk_open(struct store_disk *d, const struct store_disk_options *options);
void memory_disk_close(struct store_disk *d);
int memory_disk_resize(struct store_disk *d, uint64_t size_bytes);

/* The channel's worker: does what the request says. 0, or STORE_LATER: completes it later. */
int memory_execute(struct store_io *io);
