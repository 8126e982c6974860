/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks one YAML document and the schema side by side and fills in the policy. Everything that can be told from one
 * document alone is reported here; what depends on several objects comes later (resolve.c, check.c).
 *
 * The text is foreign (files of the administrator, but also what a client sends with policy.apply): depth is bounded by
 * the schema, aliases are followed without copying, so that nested ones cannot blow up, a value that many refer to is short, and
 * libfyaml never prints.
 */
#include "policy/loader.h"

#include "base/utf8.h"
#include "policy/suggest.h"

#include <libfyaml.h>
#include <stdio.h>
#include <string.h>

/* has_name: the map's key `name` has been dealt with. */
static void read_map(struct loader *l, const struct schema_object *o, void *object, struct fy_node *node,
		     struct policy_at at, bool has_name);

/* Collections have no mark of their own here: `otherwise`, the place of their key, stands for them. */
static struct policy_at place_of(struct loader *l, struct fy_node *node, struct policy_at otherwise)
{
	struct fy_token *token = fy_node_is_scalar(node) ? fy_node_get_scalar_token(node) : NULL;
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
	unsigned quote = 0;

	if (!mark)
		return otherwise;
	/* Some versions of libfyaml mark a quoted value at its quote, some behind it. */
	if (fy_node_get_style(node) == FYNS_SINGLE_QUOTED || fy_node_get_style(node) == FYNS_DOUBLE_QUOTED)
		quote = mark->column > 0 && mark->input_pos < l->text_length &&
			!strchr("\"'", l->text[mark->input_pos]);
	return (struct policy_at){ l->file, (unsigned)mark->line + 1, (unsigned)mark->column + 1 - quote };
}

static struct fy_node *follow(struct fy_node *node)
{
	return node && fy_node_is_alias(node) ? fy_node_resolve_alias(node) : node;
}

/* Longer than any path. Each that refers to a value has it, and each mistake in it is told with it. */
#define TEXT_MOST 4095u

/* A scalar as a new string; NULL, and reported, if it is none. */
static char *text_of(struct loader *l, struct fy_node *node, struct policy_at at)
{
	struct fy_node *target = follow(node);
	const char *text;
	char *copy;
	size_t length = 0;

	if (!target || !fy_node_is_scalar(target)) {
		loader_error(l, at, "a single value is expected here");
		return NULL;
	}
	text = fy_node_get_scalar(target, &length);
	if (length && memchr(text, '\0', length)) {
		loader_error(l, at, "a NUL character is not allowed");
		return NULL;
	}
	if (length > TEXT_MOST) {
		loader_error(l, at, "a value of more than %u bytes", TEXT_MOST);
		return NULL;
	}
	copy = text ? strndup(text, length) : strdup("");
	if (!copy)
		l->no_memory = true;
	return copy;
}

/* "key:" with nothing after it stands for an empty collection. */
static bool is_empty(struct fy_node *node)
{
	size_t length = 0;

	return !node || (fy_node_is_scalar(node) && fy_node_is_null(node) &&
			 (!fy_node_get_scalar(node, &length) || length == 0));
}

static void report_unknown_key(struct loader *l, const struct schema_object *o, const char *key, struct policy_at at)
{
	struct suggest s;
	const char *near;

	suggest_init(&s, key);
	for (const struct schema_field *f = o->fields; f->key; f++)
		if (!f->internal)
			suggest_offer(&s, f->key);
	near = suggest_best(&s);
	if (near)
		loader_error(l, at, "unknown key '%s' in %s; did you mean '%s'?", key, o->noun, near);
	else
		loader_error(l, at, "unknown key '%s' in %s", key, o->noun);
}

/* True if what follows may be read; notes the place. A collection may be continued by another file, a value may not. */
static bool may_write(struct loader *l, const char *key, bool collection, struct policy_at at)
{
	size_t length = loader_path_push(l, key);
	const struct loader_place *place = loader_place_find(l, l->path);

	loader_path_pop(l, length);
	if (place && !(l->source->overlay && !place->overlay) && (!collection || place->at.file == l->file)) {
		loader_error(l, at, "'%s' is written twice; first at %s:%u", key, place->at.file, place->at.line);
		return false;
	}
	loader_place_note(l, key, at);
	return true;
}

static void read_value(struct loader *l, const struct schema_field *f, void *object, struct fy_node *node,
		       struct policy_at at)
{
	struct policy_at value_at = place_of(l, node, at);
	char *text;

	if (is_empty(node)) {
		loader_error(l, at, "%s has no value", f->key);
		return;
	}
	text = text_of(l, node, value_at);
	if (text)
		loader_value_read(l, f, object, text, value_at);
	free(text);
}

/* A list of values; a single one may stand for itself. */
static void read_values(struct loader *l, const struct schema_field *f, void *object, struct fy_node *node,
			struct policy_at at)
{
	struct fy_node *list = follow(node), *item;
	void *next = NULL;

	loader_value_clear(f, object);
	if (list && fy_node_is_sequence(list))
		while ((item = fy_node_sequence_iterate(list, &next)) && !l->too_large && loader_has_room(l, 1, at))
			read_value(l, f, object, item, at);
	else
		read_value(l, f, object, node, at);
}

/* The object of that name, made if it is new. NULL: reported. */
static void *enter_object(struct loader *l, const struct schema_field *f, void *parent, const char *name,
			  struct policy_at at)
{
	const struct loader_place *place;
	size_t length;
	void *object;
	int i;

	if (!loader_name_valid(name)) {
		loader_error(l, at, "'%s' is no name for a %s: 1 to %d characters of a-z, 0-9, '_' and '-'", name,
			     f->object->noun, POLICY_NAME_MAX - 1);
		return NULL;
	}
	length = loader_path_push(l, name);
	place = loader_place_find(l, l->path);
	loader_path_pop(l, length);
	/* Lists of several files are joined: the same name in two of them is two objects. */
	if (place && (place->at.file == l->file || (f->listed && !l->source->overlay))) {
		loader_error(l, at, "%s '%s' is written twice; first at %s:%u", f->object->noun, name, place->at.file,
			     place->at.line);
		return NULL;
	}
	/* One whose place is not known is new. */
	i = place ? schema_objects_find(f, parent, name) : -1;
	if (i < 0 && (!loader_list_has_room(l, f, parent, at) || !loader_has_room(l, 1, at)))
		return NULL;
	loader_place_note(l, name, at);
	if (i >= 0)
		return schema_element(f, parent, (size_t)i);
	object = schema_objects_append(f, parent);
	if (!object) {
		l->no_memory = true;
		return NULL;
	}
	memcpy(object, name, strlen(name) + 1);
	*schema_at(f->object, object) = at;
	return object;
}

static void read_object(struct loader *l, const struct schema_field *f, void *parent, const char *name,
			struct fy_node *node, struct policy_at at)
{
	void *object = enter_object(l, f, parent, name, at);
	size_t length;

	if (!object)
		return;
	length = loader_path_push(l, name);
	if (!is_empty(node))
		read_map(l, f->object, object, node, at, f->listed);
	loader_path_pop(l, length);
}

static void read_objects_by_name(struct loader *l, const struct schema_field *f, void *parent, struct fy_node *map,
				 struct policy_at at)
{
	struct fy_node_pair *pair;
	void *next = NULL;

	if (!fy_node_is_mapping(map)) {
		loader_error(l, at, "%s must be a map: NAME: { … }", f->key);
		return;
	}
	while ((pair = fy_node_mapping_iterate(map, &next)) && !l->too_large) {
		struct policy_at key_at = place_of(l, fy_node_pair_key(pair), at);
		char *name = text_of(l, fy_node_pair_key(pair), key_at);

		if (name)
			read_object(l, f, parent, name, follow(fy_node_pair_value(pair)), key_at);
		free(name);
	}
}

static struct fy_node *find_name(struct fy_node *map)
{
	struct fy_node_pair *pair;
	void *next = NULL;

	while ((pair = fy_node_mapping_iterate(map, &next))) {
		struct fy_node *key = fy_node_pair_key(pair);
		size_t length = 0;
		const char *text = key && fy_node_is_scalar(key) ? fy_node_get_scalar(key, &length) : NULL;

		if (text && length == 4 && memcmp(text, "name", 4) == 0)
			return fy_node_pair_value(pair);
	}
	return NULL;
}

/* The place of a map's first key: better than that of the list it is in. */
static struct policy_at place_of_map(struct loader *l, struct fy_node *map, struct policy_at otherwise)
{
	void *next = NULL;
	struct fy_node_pair *pair = fy_node_mapping_iterate(map, &next);

	return pair && fy_node_pair_key(pair) ? place_of(l, fy_node_pair_key(pair), otherwise) : otherwise;
}

static void read_list_item(struct loader *l, const struct schema_field *f, void *parent, struct fy_node *item,
			   struct policy_at at)
{
	struct fy_node *target = follow(item), *name_node;
	char *name;

	if (target && fy_node_is_mapping(target)) {
		at = place_of_map(l, target, at);
		name_node = find_name(target);
		if (!name_node) {
			loader_error(l, at, "a %s needs a name", f->object->noun);
			return;
		}
		at = place_of(l, name_node, at);
	} else if (f->bare_name && !is_empty(target)) {
		name_node = item;
		target = NULL;
		at = place_of(l, item, at);
	} else {
		loader_error(l, place_of(l, item, at), "a %s is written as a map: { name: …, … }", f->object->noun);
		return;
	}
	name = text_of(l, name_node, at);
	if (name)
		read_object(l, f, parent, name, target, at);
	free(name);
}

static void read_objects_listed(struct loader *l, const struct schema_field *f, void *parent, struct fy_node *list,
				struct policy_at at)
{
	struct fy_node *item;
	void *next = NULL;

	if (!fy_node_is_sequence(list)) {
		loader_error(l, at, "%s must be a list", f->key);
		return;
	}
	while ((item = fy_node_sequence_iterate(list, &next)) && !l->too_large)
		read_list_item(l, f, parent, item, at);
}

static void read_field(struct loader *l, const struct schema_field *f, void *object, struct fy_node *node,
		       struct policy_at at)
{
	bool collection = f->kind == SCHEMA_MAP || f->kind == SCHEMA_OBJECTS;
	struct fy_node *target = follow(node);
	size_t length;

	if (!may_write(l, f->key, collection, at))
		return;
	if (f->kind == SCHEMA_CPUS || f->kind == SCHEMA_SELECTORS || f->kind == SCHEMA_NAMES) {
		read_values(l, f, object, node, at);
		return;
	}
	if (!collection) {
		loader_place_note(l, f->key, place_of(l, node, at));
		read_value(l, f, object, node, at);
		return;
	}
	if (is_empty(target))
		return;
	length = loader_path_push(l, f->key);
	if (f->kind == SCHEMA_MAP) {
		if (f->object->placed)
			*schema_at(f->object, schema_member(f, object)) = at;
		read_map(l, f->object, schema_member(f, object), target, at, false);
	} else if (f->listed) {
		read_objects_listed(l, f, object, target, at);
	} else {
		read_objects_by_name(l, f, object, target, at);
	}
	loader_path_pop(l, length);
}

static void read_map(struct loader *l, const struct schema_object *o, void *object, struct fy_node *node,
		     struct policy_at at, bool has_name)
{
	struct fy_node_pair *pair;
	void *next = NULL;

	if (!fy_node_is_mapping(node)) {
		loader_error(l, place_of(l, node, at), "%s must be a map: { KEY: VALUE, … }", o->noun);
		return;
	}
	while ((pair = fy_node_mapping_iterate(node, &next)) && !l->too_large) {
		struct policy_at key_at = place_of(l, fy_node_pair_key(pair), at);
		char *key = text_of(l, fy_node_pair_key(pair), key_at);
		const struct schema_field *f = key ? schema_find(o, key) : NULL;

		if (f)
			read_field(l, f, object, fy_node_pair_value(pair), key_at);
		else if (key && !(has_name && strcmp(key, "name") == 0))
			report_unknown_key(l, o, key, key_at);
		free(key);
	}
}

static void report_syntax(struct loader *l, struct fy_diag *diag)
{
	struct fy_diag_error *error;
	void *next = NULL;
	bool told = false;

	while ((error = fy_diag_errors_iterate(diag, &next))) {
		struct policy_at at = { l->file, (unsigned)error->line, (unsigned)error->column };

		if (error->type != FYET_ERROR)
			continue;
		loader_error(l, at, "%s", error->msg ? error->msg : "not YAML");
		told = true;
	}
	if (!told)
		loader_error(l, ((struct policy_at){ l->file, 1, 1 }), "not YAML");
}

/*
 * What libfyaml does not get to see: bytes that are no text, and directives ("%YAML"), which a policy does not need;
 * its scanner does not come to an end of some of them. False: reported.
 */
static bool check_text(struct loader *l, const char *text, size_t length)
{
	struct policy_at at = { l->file, 1, 1 };

	for (size_t i = 0, n; i < length; i += n) {
		n = utf8_character(text + i, length - i);
		if (n == 0) {
			loader_error(l, at, "not UTF-8 text");
			return false;
		}
		if (at.column == 1 && text[i] == '%') {
			loader_error(l, at, "a line may not begin with '%%'");
			return false;
		}
		at.column++;
		if (text[i] == '\n') {
			at.line++;
			at.column = 1;
		}
	}
	return true;
}

/* Nothing but blanks and comments, for which libfyaml makes no document. */
static bool is_blank(const char *text, size_t length)
{
	const char *end = text + length;

	for (const char *p = text; p < end; p++) {
		if (*p == '#')
			while (p < end && *p != '\n')
				p++;
		else if (!memchr(" \t\r\n", *p, 4))
			return false;
	}
	return true;
}

/* One document; a second one would be overlooked by anybody who reads the file. */
static void read_documents(struct loader *l, const struct fy_parse_cfg *config, const char *text, size_t length)
{
	struct policy_at start = { l->file, 1, 1 };
	struct fy_parser *parser = fy_parser_create(config);
	struct fy_document *document;
	unsigned n = 0;

	if (!parser || fy_parser_set_string(parser, text, length) < 0) {
		l->no_memory = true;
		fy_parser_destroy(parser);
		return;
	}
	while ((document = fy_parse_load_document(parser))) {
		struct fy_node *root = fy_document_root(document);

		if (n++ == 0 && !is_empty(root))
			read_map(l, &schema_policy, l->policy, root, start, false);
		else if (n == 2)
			loader_error(l, root ? place_of_map(l, root, start) : start, "a file holds one document");
		fy_parse_document_destroy(parser, document);
	}
	if (fy_parser_get_stream_error(parser))
		report_syntax(l, config->diag);
	fy_parser_destroy(parser);
}

void loader_read(struct loader *l, const char *text, size_t length)
{
	struct fy_diag_cfg diag_config;
	struct fy_parse_cfg config = { .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_ALLOW_DUPLICATE_KEYS };
	if (is_blank(text, length) || !check_text(l, text, length))
		return;
	l->text = text;
	l->text_length = length;
	fy_diag_cfg_default(&diag_config);
	diag_config.fp = NULL;
	config.diag = fy_diag_create(&diag_config);
	if (!config.diag) {
		l->no_memory = true;
		return;
	}
	fy_diag_set_collect_errors(config.diag, true);
	read_documents(l, &config, text, length);
	fy_diag_destroy(config.diag);
}
