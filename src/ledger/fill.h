/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Weighted max-min division of whole credits between bounds.
 */
#pragma once

#include "base/util.h"

struct ledger_fill_item {
	uint64_t floor, cap; /* floor <= cap */
	uint64_t weight;     /* 1 or more where floor < cap */
	uint64_t got;	     /* the result */
	bool fixed;	     /* working memory */
};

/*
 * Divides `amount`: got = clamp(level * weight, floor, cap) for the one level at which the sum is exactly
 * min(amount, sum of caps); where the floors alone exceed the amount, they are met in proportion to themselves.
 * No item is further than one credit from its exact part. `phase` is any number; over consecutive phases the rounding of
 * each item averages out.
 *
 * Sums of floors and weights must stay below 2^62, amount and single caps below 2^62.
 */
void ledger_fill(uint64_t amount, struct ledger_fill_item *item, unsigned n, uint64_t phase);
