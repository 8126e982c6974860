/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying plans to and from the board, word by word. Any worker, and the control thread for show.
 */
#include "ledger/board.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The scalars at the start of struct ledger_state that belong to the plan. */
#define STATE_WORDS (offsetof(struct ledger_state, accounts_max) / sizeof(uint64_t))
#define WORDS(type) (sizeof(type) / sizeof(uint64_t))

_Static_assert(offsetof(struct ledger_state, accounts_max) % sizeof(uint64_t) == 0, "copied in words");
_Static_assert(sizeof(struct ledger_bucket) % sizeof(uint64_t) == 0, "copied in words");
_Static_assert(sizeof(struct ledger_standing) % sizeof(uint64_t) == 0, "copied in words");
_Static_assert(LEDGER_WORKERS_MAX * 2 <= UINT8_MAX + 1, "a sheet's number fits in 8 bits");

int ledger_board_init(struct ledger_board *b, uint32_t accounts_max, uint32_t workers)
{
	int r = 0;

	*b = (struct ledger_board){ .accounts_max = accounts_max, .workers = workers };
	b->sheet = calloc((size_t)workers * 2, sizeof(*b->sheet));
	if (!b->sheet)
		return -ENOMEM;
	for (uint32_t i = 0; i < workers * 2 && r == 0; i++) {
		r = ledger_state_create(accounts_max, workers, &b->sheet[i].state);
		b->sheet[i].seen = calloc((size_t)accounts_max * workers, sizeof(uint64_t));
		if (!b->sheet[i].seen)
			r = -ENOMEM;
	}
	if (r < 0)
		ledger_board_fini(b);
	return r;
}

void ledger_board_fini(struct ledger_board *b)
{
	for (uint32_t i = 0; b->sheet && i < b->workers * 2; i++) {
		ledger_state_destroy(b->sheet[i].state);
		free(b->sheet[i].seen);
	}
	free(b->sheet);
	b->sheet = NULL;
}

/* From a sheet to private memory; `to` has `words`, of which the sheet has `have`. */
static void words_load(void *to, const void *from, size_t have, size_t words)
{
	uint64_t *t = to;
	const uint64_t *f = from;

	have = have < words ? have : words;
	for (size_t i = 0; i < have; i++)
		t[i] = load_acquire(&f[i]);
	memset(t + have, 0, (words - have) * sizeof(*t));
}

static void words_store(void *to, const void *from, size_t words)
{
	uint64_t *t = to;
	const uint64_t *f = from;

	for (size_t i = 0; i < words; i++)
		store_release(&t[i], f[i]);
}

bool ledger_board_load(const struct ledger_board *b, uint64_t up, const struct ledger_set *set, struct ledger_state *state,
		       uint64_t *seen)
{
	const struct ledger_sheet *s = ledger_board_sheet(b, up);
	size_t vms = load_acquire(&s->vms), accounts = load_acquire(&s->accounts);

	words_load(state, s->state, STATE_WORDS, STATE_WORDS);
	words_load(state->vm, s->state->vm, vms * WORDS(*state->vm), set->vms * WORDS(*state->vm));
	words_load(state->account, s->state->account, accounts * WORDS(*state->account), set->accounts * WORDS(*state->account));
	words_load(state->standing, s->state->standing, accounts * WORDS(*state->standing),
		   set->accounts * WORDS(*state->standing));
	words_load(state->mode, s->state->mode, accounts, set->accounts);
	for (uint32_t w = 0; w < b->workers; w++) {
		size_t at = (size_t)w * b->accounts_max;

		words_load(state->balance + at, s->state->balance + at, accounts, set->accounts);
		words_load(seen + at, s->seen + at, accounts, set->accounts);
	}
	return load_acquire(&b->up) == up;
}

bool ledger_board_publish(struct ledger_board *b, uint64_t up, uint32_t w, unsigned sheet, const struct ledger_set *set,
			  const struct ledger_state *state, const uint64_t *seen)
{
	struct ledger_sheet *s = &b->sheet[w * 2 + sheet];
	uint64_t mine = state->generation << 8 | w << 1 | sheet;

	assert((up & UINT8_MAX) != (mine & UINT8_MAX));
	store_release(&s->vms, set->vms);
	store_release(&s->accounts, set->accounts);
	words_store(s->state, state, STATE_WORDS);
	words_store(s->state->vm, state->vm, set->vms * WORDS(*state->vm));
	words_store(s->state->account, state->account, set->accounts * WORDS(*state->account));
	words_store(s->state->standing, state->standing, set->accounts * WORDS(*state->standing));
	words_store(s->state->mode, state->mode, set->accounts);
	for (uint32_t v = 0; v < b->workers; v++) {
		size_t at = (size_t)v * b->accounts_max;

		words_store(s->state->balance + at, state->balance + at, set->accounts);
		words_store(s->seen + at, seen + at, set->accounts);
	}
	/* Release: the sheet before the board. A reader that sees `mine` sees all of it. */
	return __atomic_compare_exchange_n(&b->up, &up, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
