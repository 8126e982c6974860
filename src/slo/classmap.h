/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which class a request belongs to: from the ioprio that a Linux guest's virtio_blk puts into the request header to the index
 * of a class. Built by the control thread, read by workers as part of an immutable snapshot.
 *
 * ioprio = class << 13 | hint << 3 | level; classes: 1 RT, 2 BE, 3 IDLE; level 0 (best) to 7. Only the low 16 bits count
 * (some kernels use the upper ones); class 0 and anything that is not such a value mean "no wish": the default class.
 */
#pragma once

#include "base/util.h"

#define SLO_HINTS 1024
#define SLO_LEVELS 8

enum slo_ioclass { SLO_IOCLASS_NONE, SLO_IOCLASS_RT, SLO_IOCLASS_BE, SLO_IOCLASS_IDLE, SLO_IOCLASSES };

enum slo_selector_kind {
	SLO_SELECT_CLASS, /* "rt": every level of it */
	SLO_SELECT_LEVEL, /* "be/7" */
	SLO_SELECT_HINT,  /* "hint/17", whatever class and level */
};

/* The most specific match wins: hint, then class and level, then class. */
struct slo_selector {
	enum slo_selector_kind kind;
	enum slo_ioclass ioclass; /* CLASS, LEVEL */
	unsigned level;		  /* LEVEL */
	unsigned hint;		  /* HINT */
	uint16_t class;		  /* index of the class that is meant */
};

struct slo_classmap {
	uint16_t default_class;
	uint16_t level[SLO_IOCLASSES][SLO_LEVELS];
	uint16_t hint[SLO_HINTS]; /* SLO_CLASS_NONE: no class asks for it */
};

#define SLO_CLASS_NONE UINT16_MAX

/*
 * 0; -EINVAL: a selector out of range (class NONE, hint 0); -EEXIST: two selectors name the same and mean different classes.
 * *ret_bad (may be NULL) is then its position.
 */
int slo_classmap_build(struct slo_classmap *m, const struct slo_selector *selector, size_t n, uint16_t default_class,
		       size_t *ret_bad);

static inline uint16_t slo_classmap_lookup(const struct slo_classmap *m, uint32_t ioprio)
{
	unsigned ioclass = ioprio >> 13 & 7, hint = ioprio >> 3 & (SLO_HINTS - 1), level = ioprio & 7;

	if (ioclass == SLO_IOCLASS_NONE || ioclass >= SLO_IOCLASSES)
		return m->default_class;
	if (hint && m->hint[hint] != SLO_CLASS_NONE)
		return m->hint[hint];
	return m->level[ioclass][level];
}
