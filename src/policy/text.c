/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Values of a policy as a person would write them: for `diff` and for messages.
 */
#include "policy/schema.h"

#include "base/util.h"

#include <stdio.h>
#include <string.h>

static const char *const ioclass_words[] = { "none", "rt", "be", "idle" };

static void print_selectors(FILE *out, const struct policy_selector *s, size_t n)
{
	for (size_t i = 0; i < n; i++, s++) {
		fputs(i ? ", " : "", out);
		if (s->kind == POLICY_SELECT_HINT)
			fprintf(out, "hint/%u", s->hint);
		else if (s->kind == POLICY_SELECT_LEVEL)
			fprintf(out, "%s/%u", ioclass_words[s->ioclass], s->level);
		else
			fputs(ioclass_words[s->ioclass], out);
	}
}

/* Runs of CPUs as ranges: "2-5, 8". */
static void print_cpus(FILE *out, const struct policy_cpus *cpus)
{
	for (size_t i = 0, last; i < cpus->n; i = last + 1) {
		for (last = i; last + 1 < cpus->n && cpus->cpu[last + 1] == cpus->cpu[last] + 1; last++)
			;
		fprintf(out, "%s%u", i ? ", " : "", cpus->cpu[i]);
		if (last > i)
			fprintf(out, "-%u", cpus->cpu[last]);
	}
}

static void print_names(FILE *out, char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? ", " : "", names[i]);
}

static void print_value(FILE *out, const struct schema_field *f, const void *object)
{
	const void *member = schema_member(f, object);
	const uint8_t *mac = member;
	const char *string;
	char text[UNITS_TEXT_MAX];

	switch (f->kind) {
	case SCHEMA_QUANTITY:
		if (*(const uint64_t *)member == 0 && f->zero_word)
			fputs(f->zero_word, out);
		else
			fputs(units_format(f->units, *(const uint64_t *)member, text), out);
		break;
	case SCHEMA_BOOL:
		fputs(*(const bool *)member ? "true" : "false", out);
		break;
	case SCHEMA_WORD:
		fputs(f->words[*(const unsigned *)member], out);
		break;
	case SCHEMA_STRING:
	case SCHEMA_NAME:
		string = *(char *const *)member;
		fputs(string ? string : "", out);
		break;
	case SCHEMA_MODE:
		fprintf(out, "%04o", *(const unsigned *)member);
		break;
	case SCHEMA_MAC:
		fprintf(out, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		break;
	case SCHEMA_CPUS:
		print_cpus(out, member);
		break;
	case SCHEMA_SELECTORS:
		print_selectors(out, *(struct policy_selector *const *)member, *schema_count(f, object));
		break;
	case SCHEMA_NAMES:
		print_names(out, *(char **const *)member, *schema_count(f, object));
		break;
	case SCHEMA_MAP:
	case SCHEMA_OBJECTS:
		break;
	}
}

char *schema_field_text(const struct schema_field *f, const void *object)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	print_value(out, f, object);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

/* A stream for each text is what a comparison of large policies would spend its time on. */
bool schema_field_same(const struct schema_field *f, const void *a, const void *b)
{
	static const size_t bytes[] = {
		[SCHEMA_QUANTITY] = sizeof(uint64_t), [SCHEMA_BOOL] = sizeof(bool),    [SCHEMA_WORD] = sizeof(unsigned),
		[SCHEMA_MODE] = sizeof(unsigned),     [SCHEMA_MAC] = sizeof(uint8_t[6]),
	};
	const struct policy_cpus *cpus_a = schema_member(f, a), *cpus_b = schema_member(f, b);
	const char *old, *new;

	switch (f->kind) {
	case SCHEMA_STRING:
	case SCHEMA_NAME:
		old = *(char *const *)schema_member(f, a);
		new = *(char *const *)schema_member(f, b);
		return strcmp(old ? old : "", new ? new : "") == 0;
	case SCHEMA_CPUS:
		return cpus_a->n == cpus_b->n && (!cpus_a->n || memcmp(cpus_a->cpu, cpus_b->cpu, cpus_a->n * sizeof(*cpus_a->cpu)) == 0);
	case SCHEMA_SELECTORS:
	case SCHEMA_NAMES:
		return !*schema_count(f, a) && !*schema_count(f, b);
	default:
		return f->kind < ARRAY_SIZE(bytes) && memcmp(schema_member(f, a), schema_member(f, b), bytes[f->kind]) == 0;
	}
}
