/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stores share: the table's entries and the one way in which a request ends.
 */
#pragma once

#include "store/store.h"

#include <string.h>

extern const struct store_ops store_null_ops, store_ram_ops, store_model_ops, store_file_ops;

/* Ends a request that submit left for later. The io may be gone, or submitted anew, when this returns. */
static inline void store_complete(struct store_io *io, int result)
{
	struct store_channel *c = io->channel;

	c->in_flight--;
	if (unlikely(result < 0))
		counter_add(&c->counters->errors, 1);
	io->done(io, result);
}
