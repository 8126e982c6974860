/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "Did you mean …": the nearest of several words to one that was mistyped. Offer every candidate, then ask.
 */
#pragma once

struct suggest {
	const char *word;
	const char *best;
	unsigned distance;
};

void suggest_init(struct suggest *s, const char *word);
void suggest_offer(struct suggest *s, const char *candidate);
/* The nearest candidate, or NULL when none is near enough to be worth a guess. */
const char *suggest_best(const struct suggest *s);
