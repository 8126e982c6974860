/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The board of a book: the last plan, where all workers can read it. Each worker has two sheets; it writes a plan on the one
 * that is not up, and hangs it up with one compare-and-swap, which fails if another worker was faster. Nobody ever waits for
 * a worker that was interrupted while planning: its plan is thrown away.
 *
 * A reader copies from the sheet that is up and then looks whether it still is; if not, it may have been rewritten meanwhile,
 * and the copy is worthless. Words are stored with release and loaded with acquire order: a reader that got any word of a
 * later plan then also sees that the board has changed since it began. No fences, so that thread sanitizers can follow.
 */
#pragma once

#include "ledger/plan.h"

struct ledger_sheet {
	uint64_t vms, accounts; /* how much of it is written */
	struct ledger_state *state;
	uint64_t *seen; /* each pair's used sum, up to which it is booked; indexed as balances are */
};

struct ledger_board {
	uint64_t up cache_aligned; /* generation << 8 | worker << 1 | sheet */
	uint32_t accounts_max, workers;
	struct ledger_sheet *sheet; /* worker * 2 + 0 or 1 */
};

/* Sheet 0 of worker 0 is up, with an empty state. */
int ledger_board_init(struct ledger_board *b, uint32_t accounts_max, uint32_t workers);
void ledger_board_fini(struct ledger_board *b);

static inline uint64_t ledger_board_up(const struct ledger_board *b)
{
	return load_acquire(&b->up);
}

static inline const struct ledger_sheet *ledger_board_sheet(const struct ledger_board *b, uint64_t up)
{
	return &b->sheet[up & UINT8_MAX];
}

/* Copies the plan `up`, and zeroes what `set` has more. False: it has been replaced, the copy is worthless. */
bool ledger_board_load(const struct ledger_board *b, uint64_t up, const struct ledger_set *set, struct ledger_state *state,
		       uint64_t *seen);
/* Writes the plan on `w`'s sheet `sheet`, which is not up, and hangs it up in place of `up`. False: somebody was faster. */
bool ledger_board_publish(struct ledger_board *b, uint64_t up, uint32_t w, unsigned sheet, const struct ledger_set *set,
			  const struct ledger_state *state, const uint64_t *seen);
