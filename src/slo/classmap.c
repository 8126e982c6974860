/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Builds the table from ioprio to class; control thread, when a policy is applied.
 */
#include "slo/classmap.h"

#include <errno.h>

static bool selector_valid(const struct slo_selector *s)
{
	if (s->class == SLO_CLASS_NONE)
		return false;
	if (s->kind == SLO_SELECT_HINT)
		return s->hint > 0 && s->hint < SLO_HINTS;
	if (s->ioclass <= SLO_IOCLASS_NONE || s->ioclass >= SLO_IOCLASSES)
		return false;
	return s->kind == SLO_SELECT_CLASS || (s->kind == SLO_SELECT_LEVEL && s->level < SLO_LEVELS);
}

static bool same(const struct slo_selector *a, const struct slo_selector *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == SLO_SELECT_HINT)
		return a->hint == b->hint;
	return a->ioclass == b->ioclass && (a->kind == SLO_SELECT_CLASS || a->level == b->level);
}

static int selectors_check(const struct slo_selector *s, size_t n, size_t *ret_bad)
{
	for (size_t i = 0; i < n; i++) {
		int r = selector_valid(&s[i]) ? 0 : -EINVAL;

		for (size_t j = 0; j < i && !r; j++)
			if (same(&s[i], &s[j]) && s[i].class != s[j].class)
				r = -EEXIST;
		if (r) {
			if (ret_bad)
				*ret_bad = i;
			return r;
		}
	}
	return 0;
}

static void select_kind(struct slo_classmap *m, const struct slo_selector *s, size_t n, enum slo_selector_kind kind)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i].kind != kind)
			continue;
		if (kind == SLO_SELECT_HINT)
			m->hint[s[i].hint] = s[i].class;
		else if (kind == SLO_SELECT_LEVEL)
			m->level[s[i].ioclass][s[i].level] = s[i].class;
		else
			for (unsigned l = 0; l < SLO_LEVELS; l++)
				m->level[s[i].ioclass][l] = s[i].class;
	}
}

int slo_classmap_build(struct slo_classmap *m, const struct slo_selector *selector, size_t n, uint16_t default_class,
		       size_t *ret_bad)
{
	int r = selectors_check(selector, n, ret_bad);

	if (r < 0)
		return r;
	m->default_class = default_class;
	for (unsigned c = 0; c < SLO_IOCLASSES; c++)
		for (unsigned l = 0; l < SLO_LEVELS; l++)
			m->level[c][l] = default_class;
	for (unsigned h = 0; h < SLO_HINTS; h++)
		m->hint[h] = SLO_CLASS_NONE;
	/* Less specific first. */
	select_kind(m, selector, n, SLO_SELECT_CLASS);
	select_kind(m, selector, n, SLO_SELECT_LEVEL);
	select_kind(m, selector, n, SLO_SELECT_HINT);
	return 0;
}
