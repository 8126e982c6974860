/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks in memory (memory.c): data is copied in submit, on the worker that took the request.
 */
#include "store/memory.h"
#include "store/store_internal.h"

static int ram_submit(struct store_channel *c, struct store_io *io)
{
	return memory_execute(io);
}

const struct store_ops store_ram_ops = {
	.type = "ram",
	.pool_size = sizeof(struct memory_pool),
	.disk_size = sizeof(struct memory_disk),
	.channel_size = sizeof(struct store_channel),
	.pool_open = memory_pool_open,
	.pool_close = memory_pool_close,
	.disk_open = memory_disk_open,
	.disk_close = memory_disk_close,
	.disk_resize = memory_disk_resize,
	.submit = ram_submit,
};
