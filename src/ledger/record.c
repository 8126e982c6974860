/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check of a record, and names for people. Called by writers and readers of logs on any thread.
 */
#include "ledger/record.h"

#include <string.h>

/*
 * Each step is a bijection of `h` for a fixed word and of the word for a fixed `h`: two records that differ in one word
 * cannot have the same check. The odd constant is 2^64 / golden ratio.
 */
static uint64_t mix(uint64_t h, uint64_t word)
{
	h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return h ^ (h >> 32);
}

uint64_t ledger_record_check(const struct ledger_record *r)
{
	uint64_t word[offsetof(struct ledger_record, check) / sizeof(uint64_t)];
	uint64_t h = UINT64_C(0x666169726c656164); /* an empty record's check must not be 0 */

	memcpy(word, r, sizeof(word));
	for (size_t i = 0; i < ARRAY_SIZE(word); i++)
		h = mix(h, word[i]);
	return h;
}

const char *ledger_op_name(unsigned op)
{
	static const char *const name[LEDGER_OPS] = {
		[LEDGER_USE] = "use",
		[LEDGER_TICK] = "tick",
		[LEDGER_GRANT] = "grant",
		[LEDGER_SETTLE] = "settle",
		[LEDGER_END] = "end",
		[LEDGER_BOOK] = "book",
		[LEDGER_SHAPE] = "shape",
		[LEDGER_CLOCK] = "clock",
		[LEDGER_PROMISE] = "promise",
		[LEDGER_BUCKET] = "bucket",
		[LEDGER_REMAINDER] = "remainder",
		[LEDGER_BIRTH] = "birth",
		[LEDGER_BALANCE] = "balance",
	};

	return op < LEDGER_OPS && name[op] ? name[op] : "?";
}
