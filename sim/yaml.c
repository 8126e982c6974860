/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks a YAML document and the tables of spec.c side by side. Called when a file is read; nothing is kept of the document.
 * All mistakes of a file are told, each with its place; libfyaml itself never prints.
 */
#include "sim/yaml.h"

#include "base/utf8.h"
#include "policy/suggest.h"

#include <errno.h>
#include <libfyaml.h>
#include <stdarg.h>
#include <string.h>

static void read_map(struct yaml *y, const struct yaml_object *o, void *object, struct fy_node *node, struct sim_at at);

void yaml_error(struct yaml *y, struct sim_at at, const char *format, ...)
{
	va_list args;

	fprintf(y->errors, "%s:%u:%u: error: ", y->file, at.line, at.column);
	va_start(args, format);
	vfprintf(y->errors, format, args);
	va_end(args);
	fputc('\n', y->errors);
	y->n_errors++;
}

/* Collections have no mark of their own: `otherwise`, the place of their key, stands for them. */
static struct sim_at place_of(struct fy_node *node, struct sim_at otherwise)
{
	struct fy_token *token = fy_node_is_scalar(node) ? fy_node_get_scalar_token(node) : NULL;
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;

	return mark ? (struct sim_at){ (unsigned)mark->line + 1, (unsigned)mark->column + 1 } : otherwise;
}

/* Where a document begins, by its first key. */
static struct sim_at place_of_document(struct fy_node *root, struct sim_at otherwise)
{
	struct fy_node_pair *first = root && fy_node_is_mapping(root) ? fy_node_mapping_get_by_index(root, 0) : NULL;

	return first ? place_of(fy_node_pair_key(first), otherwise) : otherwise;
}

/* A scalar as a new string; NULL: told. */
static char *text_of(struct yaml *y, struct fy_node *node, struct sim_at at)
{
	struct fy_node *target = node && fy_node_is_alias(node) ? fy_node_resolve_alias(node) : node;
	const char *text;
	size_t length = 0;

	if (!target || !fy_node_is_scalar(target)) {
		yaml_error(y, at, "a single value is expected here");
		return NULL;
	}
	text = fy_node_get_scalar(target, &length);
	return text ? strndup(text, length) : strdup("");
}

static void report_unknown(struct yaml *y, struct sim_at at, const char *what, const char *text, const char *near)
{
	if (near)
		yaml_error(y, at, "%s '%s'; did you mean '%s'?", what, text, near);
	else
		yaml_error(y, at, "%s '%s'", what, text);
}

static void read_quantity(struct yaml *y, const struct yaml_field *f, uint64_t *ret, const char *text, struct sim_at at)
{
	char least[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];
	uint64_t value;

	if (units_parse(f->units, text, &value) < 0)
		yaml_error(y, at, "%s: '%s' is not %s", f->key, text, units_example(f->units));
	else if (value < f->least || value > f->most)
		yaml_error(y, at, "%s: '%s' is not from %s to %s", f->key, text, units_format(f->units, f->least, least),
			   units_format(f->units, f->most, most));
	else
		*ret = value;
}

/* The index of a word; -1: told. */
static int find_word(struct yaml *y, const struct yaml_field *f, const char *text, struct sim_at at)
{
	char what[80];
	struct suggest near;

	suggest_init(&near, text);
	for (int i = 0; f->words[i]; i++) {
		if (strcmp(f->words[i], text) == 0)
			return i;
		suggest_offer(&near, f->words[i]);
	}
	snprintf(what, sizeof(what), "%s: there is no", f->key);
	report_unknown(y, at, what, text, suggest_best(&near));
	return -1;
}

static bool is_name(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && n < SIM_NAME_MAX - 8 &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == n;
}

static void read_name(struct yaml *y, struct sim_name *ret, const char *text, struct sim_at at)
{
	if (!is_name(text)) {
		yaml_error(y, at, "'%s' is no name: 1 to %d characters of a-z, 0-9, '_' and '-'", text, SIM_NAME_MAX - 9);
		return;
	}
	snprintf(ret->text, sizeof(ret->text), "%s", text);
	ret->at = at;
}

/* Room for one more in a list; NULL: told. */
static void *append(struct yaml *y, const struct yaml_field *f, void *object, size_t size, struct sim_at at)
{
	size_t *n = (size_t *)(void *)((char *)object + f->count_offset);

	if (*n == f->count_most) {
		yaml_error(y, at, "%s: more than %zu", f->key, f->count_most);
		return NULL;
	}
	return (char *)object + f->offset + (*n)++ * size;
}

static bool is_listed(const struct yaml_field *f, const void *object, unsigned word)
{
	size_t n = *(const size_t *)(const void *)((const char *)object + f->count_offset);
	const unsigned *list = (const unsigned *)(const void *)((const char *)object + f->offset);

	for (size_t i = 0; i < n; i++)
		if (list[i] == word)
			return true;
	return false;
}

static void read_scalar(struct yaml *y, const struct yaml_field *f, void *object, struct fy_node *node, struct sim_at at)
{
	struct sim_at there = place_of(node, at);
	char *text = text_of(y, node, there);
	void *member = (char *)object + f->offset;
	int word;

	if (!text)
		return;
	if (f->kind == YAML_QUANTITY) {
		read_quantity(y, f, member, text, there);
	} else if (f->kind == YAML_NAME) {
		read_name(y, member, text, there);
	} else if (f->kind == YAML_NAMES) {
		member = append(y, f, object, sizeof(struct sim_name), there);
		if (member)
			read_name(y, member, text, there);
	} else if ((word = find_word(y, f, text, there)) >= 0) {
		if (f->kind == YAML_WORD)
			*(uint64_t *)member = (uint64_t)word;
		else if (is_listed(f, object, (unsigned)word))
			yaml_error(y, there, "%s: '%s' is listed twice", f->key, text);
		else if ((member = append(y, f, object, sizeof(unsigned), there)))
			*(unsigned *)member = (unsigned)word;
	}
	free(text);
}

/* A list of values; a single one may stand for itself. */
static void read_scalars(struct yaml *y, const struct yaml_field *f, void *object, struct fy_node *node, struct sim_at at)
{
	struct fy_node *item;
	void *next = NULL;

	*(size_t *)(void *)((char *)object + f->count_offset) = 0;
	if (!fy_node_is_sequence(node))
		read_scalar(y, f, object, node, at);
	else
		while ((item = fy_node_sequence_iterate(node, &next)))
			read_scalar(y, f, object, item, at);
}

static void object_init(const struct yaml_object *o, void *object)
{
	memset(object, 0, o->size);
	for (const struct yaml_field *f = o->fields; f->key; f++)
		if (f->kind == YAML_QUANTITY || f->kind == YAML_WORD)
			*(uint64_t *)(void *)((char *)object + f->offset) = f->initial;
}

static bool is_written_twice(const struct yaml_field *f, void *object, const char *name)
{
	size_t n = *(size_t *)(void *)((char *)object + f->count_offset);

	for (size_t i = 0; i < n; i++)
		if (strcmp(((struct sim_name *)(void *)((char *)object + f->offset + i * f->object->size))->text, name) == 0)
			return true;
	return false;
}

static void read_by_name(struct yaml *y, const struct yaml_field *f, void *object, struct fy_node *map, struct sim_at at)
{
	struct fy_node_pair *pair;
	void *next = NULL, *element;

	if (!fy_node_is_mapping(map)) {
		yaml_error(y, at, "%s must be a map: NAME: { … }", f->key);
		return;
	}
	while ((pair = fy_node_mapping_iterate(map, &next))) {
		struct sim_at there = place_of(fy_node_pair_key(pair), at);
		char *name = text_of(y, fy_node_pair_key(pair), there);

		if (name && is_written_twice(f, object, name))
			yaml_error(y, there, "'%s' is written twice", name);
		else if (name && (element = append(y, f, object, f->object->size, there))) {
			object_init(f->object, element);
			read_name(y, element, name, there);
			read_map(y, f->object, element, fy_node_pair_value(pair), there);
		}
		free(name);
	}
}

static void read_list(struct yaml *y, const struct yaml_field *f, void *object, struct fy_node *list, struct sim_at at)
{
	struct fy_node *item;
	void *next = NULL, *element;

	if (!fy_node_is_sequence(list)) {
		yaml_error(y, at, "%s must be a list of maps", f->key);
		return;
	}
	while ((item = fy_node_sequence_iterate(list, &next))) {
		element = append(y, f, object, f->object->size, at);
		if (!element)
			return;
		object_init(f->object, element);
		read_map(y, f->object, element, item, at);
	}
}

static void read_field(struct yaml *y, const struct yaml_field *f, void *object, struct fy_node *node, struct sim_at at)
{
	if (!node)
		yaml_error(y, at, "%s has no value", f->key);
	else if (f->kind == YAML_BY_NAME)
		read_by_name(y, f, object, node, at);
	else if (f->kind == YAML_LIST)
		read_list(y, f, object, node, at);
	else if (f->kind == YAML_WORDS || f->kind == YAML_NAMES)
		read_scalars(y, f, object, node, at);
	else
		read_scalar(y, f, object, node, at);
}

static void read_key(struct yaml *y, const struct yaml_object *o, void *object, const char *key, struct fy_node *value,
		     struct sim_at at)
{
	struct suggest near;
	char what[80];

	suggest_init(&near, key);
	for (const struct yaml_field *f = o->fields; f->key; f++) {
		if (strcmp(f->key, key) == 0) {
			read_field(y, f, object, value, at);
			return;
		}
		suggest_offer(&near, f->key);
	}
	snprintf(what, sizeof(what), "%s has no key", o->noun);
	report_unknown(y, at, what, key, suggest_best(&near));
}

static void read_map(struct yaml *y, const struct yaml_object *o, void *object, struct fy_node *node, struct sim_at at)
{
	struct fy_node_pair *pair;
	void *next = NULL;

	/* "NAME:" with nothing after it has all its defaults. */
	if (!node || (fy_node_is_scalar(node) && fy_node_is_null(node)))
		return;
	if (!fy_node_is_mapping(node)) {
		yaml_error(y, place_of(node, at), "%s must be a map: { KEY: VALUE, … }", o->noun);
		return;
	}
	while ((pair = fy_node_mapping_iterate(node, &next))) {
		struct sim_at there = place_of(fy_node_pair_key(pair), at);
		char *key = text_of(y, fy_node_pair_key(pair), there);

		if (key)
			read_key(y, o, object, key, fy_node_pair_value(pair), there);
		free(key);
	}
}

static void report_syntax(struct yaml *y, struct fy_diag *diag)
{
	struct fy_diag_error *error;
	void *next = NULL;
	unsigned before = y->n_errors;

	while ((error = fy_diag_errors_iterate(diag, &next)))
		if (error->type == FYET_ERROR)
			yaml_error(y, (struct sim_at){ (unsigned)error->line, (unsigned)error->column }, "%s",
				   error->msg ? error->msg : "not YAML");
	if (y->n_errors == before)
		yaml_error(y, (struct sim_at){ 1, 1 }, "nothing is written here");
}

/*
 * What libfyaml does not get to see: bytes that are no text (it would end there), and directives ("%YAML"), which are not needed;
 * its scanner does not come to an end of some of them. False: reported.
 */
static bool check_text(struct yaml *y)
{
	struct sim_at at = { 1, 1 };

	for (size_t i = 0, n; i < y->length; i += n) {
		n = utf8_character(y->text + i, y->length - i);
		if (n == 0 || (at.column == 1 && y->text[i] == '%')) {
			yaml_error(y, at, n ? "a line may not begin with '%%'" : "not UTF-8 text");
			return false;
		}
		at.column++;
		if (y->text[i] == '\n')
			at = (struct sim_at){ at.line + 1, 1 };
	}
	return true;
}

/* One document; a second one would be overlooked. */
static int read_documents(struct yaml *y, const struct yaml_object *o, void *object, const struct fy_parse_cfg *config)
{
	struct fy_parser *parser = fy_parser_create(config);
	struct fy_document *document;
	struct sim_at at = { 1, 1 };
	unsigned n = 0;

	if (!parser || fy_parser_set_string(parser, y->text, y->length) < 0) {
		fy_parser_destroy(parser);
		return -ENOMEM;
	}
	while ((document = fy_parse_load_document(parser))) {
		if (n++ == 0)
			read_map(y, o, object, fy_document_root(document), at);
		else if (n == 2)
			yaml_error(y, place_of_document(fy_document_root(document), at), "a file holds one document");
		fy_parse_document_destroy(parser, document);
	}
	if (n == 0 || fy_parser_get_stream_error(parser))
		report_syntax(y, config->diag);
	fy_parser_destroy(parser);
	return 0;
}

int yaml_read(struct yaml *y, const struct yaml_object *o, void *object)
{
	struct fy_diag_cfg diag_config;
	struct fy_parse_cfg config = { .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG };
	int r;

	object_init(o, object);
	if (!check_text(y))
		return 0;
	fy_diag_cfg_default(&diag_config);
	diag_config.fp = NULL;
	config.diag = fy_diag_create(&diag_config);
	if (!config.diag)
		return -ENOMEM;
	fy_diag_set_collect_errors(config.diag, true);
	r = read_documents(y, o, object, &config);
	fy_diag_destroy(config.diag);
	return r;
}
