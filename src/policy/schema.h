/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy's shape as data: which keys every object has, of which kind, where in the structs of policy.h they are
 * kept and what they default to. Reading, copying, freeing and comparing a policy are each one walk over these tables,
 * so a new key is one line here and one member there.
 */
#pragma once

#include "policy/policy.h"
#include "policy/units.h"

enum schema_kind {
	SCHEMA_QUANTITY,  /* uint64_t; `units` */
	SCHEMA_BOOL,	  /* bool: on, off, yes, no, true, false */
	SCHEMA_WORD,	  /* an enum; `words` in the order of its values */
	SCHEMA_STRING,	  /* char * */
	SCHEMA_NAME,	  /* char *, refers to an object */
	SCHEMA_MODE,	  /* unsigned, octal */
	SCHEMA_MAC,	  /* uint8_t[6] */
	SCHEMA_CPUS,	  /* struct policy_cpus */
	SCHEMA_SELECTORS, /* struct policy_selector * and the count in `count_offset` */
	SCHEMA_NAMES,	  /* char ** and the count */
	SCHEMA_MAP,	  /* keys of `object`, in a map of their own; their offsets count from this field's */
	SCHEMA_OBJECTS,	  /* array of `object` and the count */
};

struct schema_object;

struct schema_field {
	const char *key; /* NULL ends a table */
	enum schema_kind kind;
	size_t offset, count_offset;
	enum units units;
	const char *zero_word; /* stands for 0: "none", "auto"; NULL: nothing does */
	uint64_t least, most; /* most 0: no bound. SCHEMA_OBJECTS, SCHEMA_NAMES: of how many */
	uint64_t initial;
	const char *const *words; /* NULL-ended */
	const struct schema_object *object;
	/* SCHEMA_OBJECTS: written as a list of maps that have a `name`, not as a map by name. */
	bool listed;
	/* A listed object may be a bare name. */
	bool bare_name;
	/* Not written by people and no difference between two policies. */
	bool internal;
};

struct schema_object {
	const char *noun; /* "pool", "disk" */
	size_t size;
	bool placed; /* has a struct policy_at */
	size_t at_offset;
	bool named; /* begins with char name[POLICY_NAME_MAX] */
	const struct schema_field *fields;
};

extern const struct schema_object schema_policy;

static inline struct policy_at *schema_at(const struct schema_object *o, void *object)
{
	return (struct policy_at *)(void *)((char *)object + o->at_offset);
}

static inline void *schema_member(const struct schema_field *f, const void *object)
{
	return (char *)(uintptr_t)object + f->offset;
}

static inline size_t *schema_count(const struct schema_field *f, const void *object)
{
	return (size_t *)(void *)((char *)(uintptr_t)object + f->count_offset);
}

/* Element `i` of a SCHEMA_OBJECTS field. */
static inline void *schema_element(const struct schema_field *f, const void *object, size_t i)
{
	return *(char **)schema_member(f, object) + i * f->object->size;
}

/* The field of that key; NULL. */
const struct schema_field *schema_find(const struct schema_object *o, const char *key);
/* Zeroes and fills in constant defaults. */
void schema_object_init(const struct schema_object *o, void *object);
/* Frees what it owns, not itself. */
void schema_object_fini(const struct schema_object *o, void *object);
/* Element of that name; -1. */
int schema_objects_find(const struct schema_field *f, const void *object, const char *name);
/* Appends an initialised element and returns it; NULL without memory. Moves the others. */
void *schema_objects_append(const struct schema_field *f, void *object);
void schema_objects_remove(const struct schema_field *f, void *object, size_t i);
/* The value as a person would write it, new; NULL without memory. Not for SCHEMA_MAP and SCHEMA_OBJECTS. */
char *schema_field_text(const struct schema_field *f, const void *object);
/* True: the values in two objects are written alike. False says only that their texts have to be compared. */
bool schema_field_same(const struct schema_field *f, const void *a, const void *b);
/* Copies into an object that holds plain bytes of `from` (shallow): everything it owns becomes its own. 0 or -ENOMEM,
 * and then both are safe to finish. */
int schema_field_copy(const struct schema_field *f, void *into, const void *from);
int schema_object_copy(const struct schema_object *o, void *into, const void *from);
