/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device that does nothing, at once: reads leave the guest's memory as it is. For measuring everything else.
 */
#include "store/store_internal.h"

#include <errno.h>

static int null_disk_open(struct store_disk *d, const struct store_disk_options *options)
{
	if (options->size_bytes == 0)
		return -EINVAL;
	d->size_bytes = options->size_bytes;
	return 0;
}

static int null_disk_resize(struct store_disk *d, uint64_t size_bytes)
{
	store_relaxed(&d->size_bytes, size_bytes);
	return 0;
}

static int null_submit(struct store_channel *c, struct store_io *io)
{
	return 0;
}

const struct store_ops store_null_ops = {
	.type = "null",
	.disk_open = null_disk_open,
	.disk_resize = null_disk_resize,
	.submit = null_submit,
};
