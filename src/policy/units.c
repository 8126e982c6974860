/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One table of suffixes a kind of quantity, used in both directions. Called when a policy is read and when values are
 * shown to people.
 */
#include "policy/units.h"

#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KILO UINT64_C(1000)
#define MEGA (KILO * KILO)
#define GIGA (KILO * MEGA)
#define TERA (KILO * GIGA)
#define KIBI UINT64_C(1024)
#define MEBI (KIBI * KIBI)
#define GIBI (KIBI * MEBI)
#define TEBI (KIBI * GIBI)

/* value = number * multiply / divide */
struct suffix {
	const char *text;
	uint64_t multiply;
	unsigned divide;
	bool read_only; /* understood, never written */
};

/* Each table is in the order of preference for writing. */
static const struct suffix counts[] = {
	{ "G", GIGA, 1 }, { "M", MEGA, 1 }, { "k", KILO, 1 }, { "", 1, 1 }, { NULL },
};
static const struct suffix rates[] = {
	{ "G", TERA, 1 }, { "M", GIGA, 1 }, { "k", MEGA, 1 }, { "", KILO, 1 }, { NULL },
};
static const struct suffix sizes[] = {
	{ "TiB", TEBI, 1 }, { "GiB", GIBI, 1 }, { "MiB", MEBI, 1 }, { "TB", TERA, 1 }, { "GB", GIGA, 1 },
	{ "MB", MEGA, 1 }, { "KiB", KIBI, 1 }, { "kB", KILO, 1 }, { "", 1, 1 }, { "B", 1, 1, true }, { NULL },
};
static const struct suffix bandwidths[] = {
	{ "GiB/s", GIBI, 1 }, { "MiB/s", MEBI, 1 }, { "Gbit/s", GIGA, 8 }, { "GB/s", GIGA, 1, true },
	{ "MB/s", MEGA, 1 }, { "Mbit/s", MEGA, 8 }, { "KiB/s", KIBI, 1 }, { "kB/s", KILO, 1 },
	{ "kbit/s", KILO, 8 }, { "B/s", 1, 1 }, { "bit/s", 1, 8, true }, { NULL },
};
static const struct suffix durations[] = {
	{ "s", GIGA, 1 }, { "ms", MEGA, 1 }, { "us", KILO, 1 }, { "ns", 1, 1 }, { NULL },
};
static const struct suffix byte_times[] = {
	{ "s", TERA, 1, true }, { "ms", GIGA, 1 }, { "us", MEGA, 1 }, { "ns", KILO, 1 }, { NULL },
};

static const struct {
	const struct suffix *suffixes;
	const char *example;
	bool bare_zero;
} kinds[UNITS_KINDS] = {
	[UNITS_COUNT] = { counts, "a count like 400 or 20k", true },
	[UNITS_RATE] = { rates, "a rate like 400, 2.6 or 20k", true },
	[UNITS_SIZE] = { sizes, "a size like 20GiB or 512kB", true },
	[UNITS_BANDWIDTH] = { bandwidths, "a bandwidth like 200MiB/s or 100Mbit/s", true },
	[UNITS_DURATION] = { durations, "a time like 50us or 12ms", true },
	[UNITS_BYTE_TIME] = { byte_times, "a time like 6.1ns", true },
};

/* "12.5ms" -> digits 125, scale 10; at most nine decimals. Returns what follows, NULL if it is no number. */
static const char *parse_decimal(const char *p, uint64_t *ret_digits, uint64_t *ret_scale, bool *ret_overflow)
{
	uint64_t digits = 0, scale = 1;
	bool overflow = false, point = false;

	if (!isdigit((unsigned char)*p))
		return NULL;
	for (;; p++) {
		if (*p == '.' && !point && isdigit((unsigned char)p[1])) {
			point = true;
			continue;
		}
		if (!isdigit((unsigned char)*p))
			break;
		if (point && scale == GIGA)
			return NULL;
		overflow |= __builtin_mul_overflow(digits, UINT64_C(10), &digits);
		overflow |= __builtin_add_overflow(digits, (uint64_t)(*p - '0'), &digits);
		if (point)
			scale *= 10;
	}
	*ret_digits = digits;
	*ret_scale = scale;
	*ret_overflow = overflow;
	return p;
}

int units_parse(enum units kind, const char *text, uint64_t *ret)
{
	const struct suffix *s = kinds[kind].suffixes;
	uint64_t digits, scale, divide;
	unsigned __int128 value;
	bool overflow;
	const char *unit = parse_decimal(text, &digits, &scale, &overflow);

	if (!unit)
		return -EINVAL;
	if (overflow)
		return -ERANGE;
	/* "20 GiB" is as clear as "20GiB". */
	while (*unit == ' ')
		unit++;
	while (s->text && strcmp(s->text, unit) != 0)
		s++;
	if (!s->text) {
		if (*unit != '\0' || digits != 0 || !kinds[kind].bare_zero)
			return -EINVAL;
		*ret = 0;
		return 0;
	}
	value = (unsigned __int128)digits * s->multiply;
	divide = scale * s->divide;
	if (value % divide != 0)
		return -EDOM;
	value /= divide;
	if (value > UINT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)value;
	return 0;
}

const char *units_example(enum units kind)
{
	return kinds[kind].example;
}

/* Thousandths that are no whole number of what people write, ns or requests: a decimal fraction of one. */
static const char *format_fraction(uint64_t thousandths, const char *unit, char *text)
{
	int n = snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 ".%03" PRIu64, thousandths / KILO, thousandths % KILO);

	while (text[n - 1] == '0')
		n--;
	snprintf(text + n, (size_t)(UNITS_TEXT_MAX - n), "%s", unit);
	return text;
}

const char *units_format(enum units kind, uint64_t value, char text[UNITS_TEXT_MAX])
{
	unsigned __int128 scaled;

	if (value == 0) {
		snprintf(text, UNITS_TEXT_MAX, "0");
		return text;
	}
	for (const struct suffix *s = kinds[kind].suffixes; s->text; s++) {
		scaled = (unsigned __int128)value * s->divide;
		if (s->read_only || scaled % s->multiply != 0)
			continue;
		snprintf(text, UNITS_TEXT_MAX, "%" PRIu64 "%s", (uint64_t)(scaled / s->multiply), s->text);
		return text;
	}
	return format_fraction(value, kind == UNITS_BYTE_TIME ? "ns" : "", text);
}
