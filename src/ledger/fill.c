/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Water-filling, exact in integers. Called by the planner (VMs, then each VM's classes, then workers) on a worker's thread,
 * by ledger_set_finish() on the control thread.
 *
 * Wanted: the level L with sum(clamp(L * weight, floor, cap)) = amount. All items that are not yet fixed share what is left,
 * `rest`, by their weights, which gives a level rest/weights. At this level some lie below their floor, some above their
 * cap. If clamping makes the sum too large, the true level is lower, and those at their floor stay there: fix them, repeat;
 * if too small, fix those at their cap. Each pass fixes an item or ends; two to four passes are usual. Everything is
 * compared after multiplication by `weights`, so there is no division and no error before the last step.
 *
 *	Example: 100 between A(weight 1, cap 10) B(weight 1) C(weight 2, floor 60). Level 25: A 25>10, B 25, C 50<60.
 *	Clamped sum 10+25+60 = 95 < 100: A is fixed at 10. Level 90/3 = 30: B 30, C 60: sum right. 10 + 30 + 60.
 *
 * Rounding: items get the whole part of their share; the fractions, all over `weights`, add up to the k credits that are
 * left. Laid end to end on a line that starts at an offset below one credit, each fraction that crosses a whole number gets
 * one: exactly k do. The offset moves with the phase by the golden ratio, so each item's error stays within a few credits
 * for ever, and no memory of it is needed.
 */
#include "ledger/fill.h"

typedef unsigned __int128 u128;

/* What is not fixed yet: its part of the amount and the sum of its weights. */
struct fill_left {
	uint64_t rest, weights;
};

static void fill_fix(struct ledger_fill_item *it, uint64_t got, struct fill_left *left)
{
	it->got = got;
	it->fixed = true;
	left->rest -= got;
	left->weights -= it->weight;
}

/* Fixes what the current level puts out of bounds on the side that is sure. False when the level is the right one. */
static bool fill_pass(struct ledger_fill_item *item, unsigned n, struct fill_left *left)
{
	const struct fill_left at = *left;
	u128 raised = 0, lowered = 0; /* what clamping adds to the sum and takes from it, times the weights */

	for (unsigned i = 0; i < n; i++) {
		u128 share = (u128)at.rest * item[i].weight;
		u128 floor = (u128)item[i].floor * at.weights, cap = (u128)item[i].cap * at.weights;

		if (item[i].fixed)
			continue;
		if (share < floor)
			raised += floor - share;
		else if (share > cap)
			lowered += share - cap;
	}
	if (raised == lowered)
		return false;
	for (unsigned i = 0; i < n; i++) {
		u128 share = (u128)at.rest * item[i].weight;

		if (item[i].fixed)
			continue;
		if (raised > lowered && share < (u128)item[i].floor * at.weights)
			fill_fix(&item[i], item[i].floor, left);
		else if (raised < lowered && share > (u128)item[i].cap * at.weights)
			fill_fix(&item[i], item[i].cap, left);
	}
	return true;
}

/* Gives every item that is not fixed its share in whole credits. */
static void fill_round(struct ledger_fill_item *item, unsigned n, const struct fill_left *left, uint64_t phase)
{
	/* The golden ratio's fraction in 32 bits: multiples of it spread evenly. */
	uint64_t turn = (phase * UINT64_C(0x9e3779b9)) & UINT32_MAX;
	uint64_t line = (uint64_t)(((u128)left->weights * turn) >> 32);

	for (unsigned i = 0; i < n; i++) {
		u128 share;

		if (item[i].fixed)
			continue;
		share = (u128)left->rest * item[i].weight;
		if (share <= (u128)item[i].floor * left->weights) {
			item[i].got = item[i].floor;
		} else if (share >= (u128)item[i].cap * left->weights) {
			item[i].got = item[i].cap;
		} else {
			item[i].got = (uint64_t)(share / left->weights);
			line += (uint64_t)(share % left->weights);
			if (line >= left->weights) {
				line -= left->weights;
				item[i].got++;
			}
		}
	}
}

/* The floors alone are too much: each gets its proportion. */
static void fill_floors(uint64_t amount, struct ledger_fill_item *item, unsigned n, uint64_t floors, uint64_t phase)
{
	const struct fill_left left = { amount, floors };

	for (unsigned i = 0; i < n; i++) {
		/* What is left of weight and bounds after this is only read by fill_round(). */
		item[i].fixed = item[i].floor == 0;
		item[i].got = 0;
		item[i].weight = item[i].floor;
		item[i].cap = item[i].floor;
		item[i].floor = 0;
	}
	fill_round(item, n, &left, phase);
}

void ledger_fill(uint64_t amount, struct ledger_fill_item *item, unsigned n, uint64_t phase)
{
	uint64_t floors = 0, caps = 0;
	struct fill_left left = { amount, 0 };

	for (unsigned i = 0; i < n; i++) {
		floors += item[i].floor;
		caps = item[i].cap > UINT64_MAX - caps ? UINT64_MAX : caps + item[i].cap;
		left.weights += item[i].weight;
		item[i].fixed = false;
	}
	if (floors > amount) {
		fill_floors(amount, item, n, floors, phase);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (caps <= amount || item[i].floor == item[i].cap)
			fill_fix(&item[i], item[i].cap, &left);
	if (left.weights == 0)
		return;
	while (fill_pass(item, n, &left))
		;
	fill_round(item, n, &left, phase);
}
