/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Optimal string alignment distance (insertions, deletions, substitutions and swaps of neighbours cost 1 each): keys
 * are short, so the plain table does.
 */
#include "policy/suggest.h"

#include <limits.h>
#include <string.h>

#define LENGTH_MAX 32 /* longer words get no suggestion */

static unsigned min_of(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
	unsigned d[LENGTH_MAX + 1][LENGTH_MAX + 1];

	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned change = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

			d[i][j] = min_of(change, min_of(d[i - 1][j], d[i][j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = min_of(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

void suggest_init(struct suggest *s, const char *word)
{
	*s = (struct suggest){ .word = word, .distance = UINT_MAX };
}

void suggest_offer(struct suggest *s, const char *candidate)
{
	size_t n = strlen(s->word), m = strlen(candidate);
	unsigned d;

	if (n > LENGTH_MAX || m > LENGTH_MAX)
		return;
	d = distance(s->word, n, candidate, m);
	if (d >= s->distance)
		return;
	s->distance = d;
	s->best = candidate;
}

const char *suggest_best(const struct suggest *s)
{
	/* A third of the letters wrong is a typing mistake; more is another word. */
	size_t bearable = (strlen(s->word) + 2) / 3;

	return s->best && s->distance <= bearable ? s->best : NULL;
}
