/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making and unmaking of SPSC rings; the operations are inline in the header.
 */
#include "base/spsc.h"

#include <errno.h>
#include <string.h>

int spsc_init(struct spsc *r, uint32_t capacity)
{
	if (capacity == 0 || (capacity & (capacity - 1)))
		return -EINVAL;
	memset(r, 0, sizeof(*r));
	r->slot = calloc(capacity, sizeof(*r->slot));
	if (!r->slot)
		return -ENOMEM;
	r->mask = capacity - 1;
	return 0;
}

void spsc_fini(struct spsc *r)
{
	free(r->slot);
	r->slot = NULL;
}
