/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * YAML into structs by tables: a key, its kind, its bounds and where the value goes. Private to this folder.
 */
#pragma once

#include "sim/spec.h"

#include "base/util.h"
#include "policy/units.h"

enum yaml_kind {
	YAML_QUANTITY, /* uint64_t, in `units` */
	YAML_WORD,     /* uint64_t, index into `words` */
	YAML_WORDS,    /* unsigned[], a list of such */
	YAML_NAME,     /* struct sim_name */
	YAML_NAMES,    /* struct sim_name[] */
	YAML_BY_NAME,  /* structs that begin with a sim_name, from a map NAME: { ... } */
	YAML_LIST,     /* structs, from a list of maps */
};

struct yaml_object;

struct yaml_field {
	const char *key; /* NULL ends a table */
	enum yaml_kind kind;
	size_t offset;
	enum units units;
	uint64_t initial, least, most;
	const char *const *words;
	/* Lists: where the size_t of their length is, and its bound. */
	size_t count_offset, count_most;
	const struct yaml_object *object;
};

struct yaml_object {
	const char *noun;
	size_t size;
	const struct yaml_field *fields;
};

struct yaml {
	const char *file, *text;
	size_t length;
	FILE *errors;
	unsigned n_errors;
};

/* One document into an object that is all zeroes. 0 or -ENOMEM; mistakes are counted in `n_errors`. */
int yaml_read(struct yaml *y, const struct yaml_object *o, void *object);
void yaml_error(struct yaml *y, struct sim_at at, const char *format, ...) __attribute__((format(printf, 3, 4)));
