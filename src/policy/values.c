/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single values: text as written in the file -> a member of the policy, or a message that says what would be right.
 */
#include "policy/loader.h"
#include "policy/suggest.h"

#include "base/cpus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool loader_name_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n > 0 && name[n] == '\0' && n < POLICY_NAME_MAX;
}

static void read_quantity(struct loader *l, const struct schema_field *f, void *member, const char *text,
			  struct policy_at at)
{
	char bound[UNITS_TEXT_MAX];
	uint64_t value;
	int r;

	if (f->zero_word && strcmp(text, f->zero_word) == 0) {
		*(uint64_t *)member = 0;
		return;
	}
	r = units_parse(f->units, text, &value);
	if (r == -EINVAL)
		loader_error(l, at, "'%s' is not %s%s%s%s", text, units_example(f->units), f->zero_word ? ", or '" : "",
			     f->zero_word ? f->zero_word : "", f->zero_word ? "'" : "");
	else if (r == -EDOM)
		loader_error(l, at, "'%s' is finer than %s is kept", text, f->key);
	else if (r == -ERANGE || (f->most && value > f->most))
		loader_error(l, at, "%s: '%s' is too large%s%s", f->key, text, f->most ? "; at most " : "",
			     f->most ? units_format(f->units, f->most, bound) : "");
	else if (value < f->least)
		loader_error(l, at, "%s: '%s' is too small; at least %s%s%s%s", f->key, text,
			     units_format(f->units, f->least, bound), f->zero_word ? ", or '" : "",
			     f->zero_word ? f->zero_word : "", f->zero_word ? "'" : "");
	else
		*(uint64_t *)member = value;
}

static void read_bool(struct loader *l, const struct schema_field *f, void *member, const char *text,
		      struct policy_at at)
{
	static const struct {
		const char *word;
		bool value;
	} words[] = { { "true", true },	  { "on", true },   { "yes", true },
		      { "false", false }, { "off", false }, { "no", false } };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcmp(text, words[i].word) != 0)
			continue;
		*(bool *)member = words[i].value;
		return;
	}
	loader_error(l, at, "%s: '%s' is neither on nor off", f->key, text);
}

/* "adaptive, always or never" */
static void list_words(const char *const *words, char *text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; words[i] && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ",
					 words[i]);
}

static void read_word(struct loader *l, const struct schema_field *f, void *member, const char *text,
		      struct policy_at at)
{
	char known[128];

	for (unsigned i = 0; f->words[i]; i++) {
		if (strcmp(text, f->words[i]) != 0)
			continue;
		*(unsigned *)member = i;
		return;
	}
	list_words(f->words, known, sizeof(known));
	loader_error(l, at, "%s: '%s' is not %s", f->key, text, known);
}

static void read_string(struct loader *l, void *member, const char *text)
{
	char *copy = strdup(text);

	if (!copy) {
		l->no_memory = true;
		return;
	}
	free(*(char **)member);
	*(char **)member = copy;
}

static void read_mode(struct loader *l, const struct schema_field *f, void *member, const char *text,
		      struct policy_at at)
{
	size_t n = strspn(text, "01234567");
	unsigned long mode = strtoul(text, NULL, 8);

	if (n == 0 || text[n] != '\0' || n > 5 || mode > 0777)
		loader_error(l, at, "%s: '%s' is not an octal mode like \"0660\"", f->key, text);
	else
		*(unsigned *)member = (unsigned)mode;
}

static void read_mac(struct loader *l, const struct schema_field *f, void *member, const char *text,
		     struct policy_at at)
{
	unsigned b[6];
	uint8_t *mac = member;
	int end = 0;

	if (strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 ||
	    end != 17) {
		loader_error(l, at, "%s: '%s' is not an address like \"52:54:00:00:00:01\"", f->key, text);
		return;
	}
	if (b[0] & 1) {
		loader_error(l, at, "%s: '%s' is a multicast address; its first byte must be even", f->key, text);
		return;
	}
	for (size_t i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
}

static int compare_cpus(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

static void read_cpus(struct loader *l, const struct schema_field *f, void *member, const char *text,
		      struct policy_at at)
{
	struct policy_cpus *cpus = member;
	unsigned found[CPUS_MAX], *grown;
	int n = cpus_parse(text, found, CPUS_MAX);

	if (n < 0) {
		loader_error(l, at, "%s: '%s' is not a CPU number or a range like 4-15", f->key, text);
		return;
	}
	for (int i = 0; i < n; i++) {
		if (cpus->n && bsearch(&found[i], cpus->cpu, cpus->n, sizeof(*cpus->cpu), compare_cpus)) {
			loader_error(l, at, "%s: CPU %u is listed twice", f->key, found[i]);
			return;
		}
	}
	grown = reallocarray(cpus->cpu, cpus->n + (size_t)n, sizeof(*grown));
	if (!grown) {
		l->no_memory = true;
		return;
	}
	memcpy(grown + cpus->n, found, (size_t)n * sizeof(*found));
	cpus->cpu = grown;
	cpus->n += (size_t)n;
	qsort(cpus->cpu, cpus->n, sizeof(*cpus->cpu), compare_cpus);
}

/* Decimal without sign or spaces, at most `most`; -EINVAL. */
static int parse_small(const char *text, unsigned most, unsigned *ret)
{
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 4 || text[n] != '\0')
		return -EINVAL;
	*ret = (unsigned)strtoul(text, NULL, 10);
	return *ret <= most ? 0 : -EINVAL;
}

static int parse_selector(const char *text, struct policy_selector *s)
{
	static const char *const classes[] = { "rt", "be", "idle" };
	unsigned number;

	if (strncmp(text, "hint/", 5) == 0) {
		s->kind = POLICY_SELECT_HINT;
		if (parse_small(text + 5, 1023, &number) < 0 || number == 0)
			return -EINVAL;
		s->hint = (uint16_t)number;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
		size_t n = strlen(classes[i]);

		if (strncmp(text, classes[i], n) != 0)
			continue;
		s->ioclass = (uint8_t)(i + 1);
		s->kind = POLICY_SELECT_CLASS;
		if (text[n] == '\0')
			return 0;
		/* The idle class has no levels. */
		if (text[n] != '/' || s->ioclass == 3 || parse_small(text + n + 1, 7, &number) < 0)
			return -EINVAL;
		s->kind = POLICY_SELECT_LEVEL;
		s->level = (uint8_t)number;
		return 0;
	}
	return -EINVAL;
}

static void read_selector(struct loader *l, const struct schema_field *f, void *object, const char *text,
			  struct policy_at at)
{
	struct policy_selector s = { .at = at }, *grown;
	size_t *n = schema_count(f, object);

	if (parse_selector(text, &s) < 0) {
		loader_error(l, at, "%s: '%s' is not one of rt, rt/0-7, be, be/0-7, idle, hint/1-1023", f->key, text);
		return;
	}
	/* Linux itself gives 1-7 a meaning for some devices; a guest may set them for that. */
	if (s.kind == POLICY_SELECT_HINT && s.hint < 8)
		loader_warning(l, at,
			       "hints 1 to 7 mean command duration limits to Linux; 16 and above are free to use");
	grown = reallocarray(*(void **)schema_member(f, object), *n + 1, sizeof(*grown));
	if (!grown) {
		l->no_memory = true;
		return;
	}
	grown[*n] = s;
	*(struct policy_selector **)schema_member(f, object) = grown;
	(*n)++;
}

bool loader_list_has_room(struct loader *l, const struct schema_field *f, const void *object, struct policy_at at)
{
	if (!f->most || *schema_count(f, object) < f->most)
		return true;
	if (!l->too_large)
		loader_error(l, at, "%s: more than %" PRIu64 " of them", f->key, f->most);
	l->too_large = true; /* the rest would only take time */
	return false;
}

static void read_list_name(struct loader *l, const struct schema_field *f, void *object, const char *text,
			   struct policy_at at)
{
	char ***names = schema_member(f, object), **grown, *copy;
	size_t *n = schema_count(f, object);

	for (size_t i = 0; i < *n; i++) {
		if (strcmp((*names)[i], text) != 0)
			continue;
		loader_error(l, at, "%s: '%s' is listed twice", f->key, text);
		return;
	}
	if (!loader_list_has_room(l, f, object, at))
		return;
	grown = reallocarray(*names, *n + 1, sizeof(*grown));
	if (grown)
		*names = grown;
	copy = grown ? strdup(text) : NULL;
	if (copy)
		grown[(*n)++] = copy;
	else
		l->no_memory = true;
}

void loader_value_read(struct loader *l, const struct schema_field *f, void *object, const char *text,
		       struct policy_at at)
{
	void *member = schema_member(f, object);

	switch (f->kind) {
	case SCHEMA_QUANTITY:
		read_quantity(l, f, member, text, at);
		break;
	case SCHEMA_BOOL:
		read_bool(l, f, member, text, at);
		break;
	case SCHEMA_WORD:
		read_word(l, f, member, text, at);
		break;
	case SCHEMA_STRING:
	case SCHEMA_NAME:
		if (*text)
			read_string(l, member, text);
		else
			loader_error(l, at, "%s is empty", f->key);
		break;
	case SCHEMA_MODE:
		read_mode(l, f, member, text, at);
		break;
	case SCHEMA_MAC:
		read_mac(l, f, member, text, at);
		break;
	case SCHEMA_CPUS:
		read_cpus(l, f, member, text, at);
		break;
	case SCHEMA_SELECTORS:
		read_selector(l, f, object, text, at);
		break;
	case SCHEMA_NAMES:
		read_list_name(l, f, object, text, at);
		break;
	case SCHEMA_MAP:
	case SCHEMA_OBJECTS:
		break;
	}
}

void loader_value_clear(const struct schema_field *f, void *object)
{
	char **names = *(char ***)schema_member(f, object);

	if (f->kind == SCHEMA_CPUS)
		((struct policy_cpus *)schema_member(f, object))->n = 0;
	if (f->kind == SCHEMA_NAMES)
		for (size_t i = 0; i < *schema_count(f, object); i++)
			free(names[i]);
	if (f->kind == SCHEMA_NAMES || f->kind == SCHEMA_SELECTORS)
		*schema_count(f, object) = 0;
}
