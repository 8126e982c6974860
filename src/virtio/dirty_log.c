/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets bits in the front-end's dirty bitmap. Called on every worker that writes to the guest, after the write and
 * before its completion is published: the front-end clears a bit before it copies the page, so a bit set too early
 * could be lost.
 */
#include "virtio/dirty_log.h"

void dirty_log_mark(struct dirty_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t page = gpa / DIRTY_LOG_PAGE, last;

	if (!len)
		return;
	if (__builtin_add_overflow(gpa, len - 1, &last))
		last = UINT64_MAX;
	last /= DIRTY_LOG_PAGE;
	while (page <= last && page / 8 < log->bytes) {
		uint8_t *byte = &log->bits[page / 8];
		uint64_t end = min_u64(last, page | 7);
		uint8_t bits = (uint8_t)(0xff << (page & 7)) & (uint8_t)(0xff >> (7 - (end & 7)));

		/*
		 * Hot pages are marked again and again: a read keeps their line shared. The release pairs with the
		 * front-end's atomic exchange: who sees the bit sees the data. A set bit that it clears while we look
		 * was set for older data, so the shortcut needs the fence below it: our write is visible before we
		 * look.
		 */
		full_fence();
		if ((load_relaxed(byte) & bits) != bits)
			__atomic_fetch_or(byte, bits, __ATOMIC_RELEASE);
		page = end + 1;
	}
}
