/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Quantities as people write them. Arithmetic is exact: what is not a whole number of the unit kept is refused, never
 * rounded, and nothing overflows silently.
 */
#pragma once

#include <stdint.h>

enum units {
	UNITS_COUNT,	 /* 400, 20k, 1.5M */
	UNITS_RATE,	 /* thousandths a second: 400, 2.6, 20k */
	UNITS_SIZE,	 /* bytes: 4096, 20GiB (powers of 1024), 20GB (powers of 1000) */
	UNITS_BANDWIDTH, /* bytes a second: 200MiB/s, 100MB/s, 100Mbit/s (powers of 1000, eight bits a byte) */
	UNITS_DURATION,	 /* ns: 50us, 12ms, 1.5s; a bare 0 needs no unit */
	UNITS_BYTE_TIME, /* ps: as a duration, fractions of a ns allowed */
	UNITS_KINDS,
};

/* 0; -EINVAL: not of this form; -ERANGE: too large; -EDOM: not a whole number of what is kept. */
int units_parse(enum units kind, const char *text, uint64_t *ret);

/* How such a quantity is written, for messages: "a size like 20GiB or 512kB". */
const char *units_example(enum units kind);

#define UNITS_TEXT_MAX 32
/* The shortest exact form, which units_parse() reads back as the same value. Returns `text`. */
const char *units_format(enum units kind, uint64_t value, char text[UNITS_TEXT_MAX]);
