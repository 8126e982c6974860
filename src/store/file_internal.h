/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the two halves of the file store share: file.c for pools and disks (control thread), file_io.c for requests
 * (workers).
 */
#pragma once

#include "store/image.h"
#include "store/slots.h"
#include "store/store_internal.h"

#define BOUNCE_BUFFERS 16u

struct file_pool {
	struct store_pool base;
	int dir_fd;
	struct slots_set slots;
};

struct file_disk {
	struct store_disk base;
	struct image image;
	char *made_path; /* NULL: opening made nothing */
	struct slots_key key;
	bool no_punch, no_zero; /* learned by workers; any of them writes the same */
};

struct file_channel {
	struct store_channel base;
	struct slots *slots;
	uint8_t *buffers;		   /* all bounce buffers; untouched memory until the first is needed */
	void *buffer_free[BOUNCE_BUFFERS];
	unsigned buffers_free;
	struct store_io *waiting_first, **waiting_last; /* for a bounce buffer */
};

int file_channel_open(struct store_channel *c);
void file_channel_close(struct store_channel *c);
int file_submit(struct store_channel *c, struct store_io *io);
