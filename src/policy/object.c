/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be done to any object of a policy by walking its table: make, free, copy, print a value. Also policy_copy()
 * and policy_free(), which are these walks from the root.
 */
#include "policy/schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* SCHEMA_WORD members are written through this. */
_Static_assert(sizeof(enum policy_pool_type) == sizeof(unsigned), "enums are as wide as unsigned");

const struct schema_field *schema_find(const struct schema_object *o, const char *key)
{
	for (const struct schema_field *f = o->fields; f->key; f++)
		if (strcmp(f->key, key) == 0)
			return f;
	return NULL;
}

static void init_fields(const struct schema_object *o, void *object)
{
	for (const struct schema_field *f = o->fields; f->key; f++) {
		void *member = schema_member(f, object);

		if (f->kind == SCHEMA_MAP)
			init_fields(f->object, member);
		else if (f->kind == SCHEMA_QUANTITY)
			*(uint64_t *)member = f->initial;
		else if (f->kind == SCHEMA_BOOL)
			*(bool *)member = f->initial != 0;
		else if (f->kind == SCHEMA_WORD || f->kind == SCHEMA_MODE)
			*(unsigned *)member = (unsigned)f->initial;
	}
}

void schema_object_init(const struct schema_object *o, void *object)
{
	memset(object, 0, o->size);
	init_fields(o, object);
}

static void free_names(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

void schema_object_fini(const struct schema_object *o, void *object)
{
	for (const struct schema_field *f = o->fields; f->key; f++) {
		void *member = schema_member(f, object);

		switch (f->kind) {
		case SCHEMA_STRING:
		case SCHEMA_NAME:
		case SCHEMA_SELECTORS:
			free(*(void **)member);
			break;
		case SCHEMA_CPUS:
			free(((struct policy_cpus *)member)->cpu);
			break;
		case SCHEMA_NAMES:
			free_names(*(char ***)member, *schema_count(f, object));
			break;
		case SCHEMA_MAP:
			schema_object_fini(f->object, member);
			break;
		case SCHEMA_OBJECTS:
			for (size_t i = 0; i < *schema_count(f, object); i++)
				schema_object_fini(f->object, schema_element(f, object, i));
			free(*(void **)member);
			break;
		default:
			break;
		}
	}
}

/* --- arrays of objects --- */

int schema_objects_find(const struct schema_field *f, const void *object, const char *name)
{
	for (size_t i = 0; i < *schema_count(f, object); i++)
		if (strcmp(schema_element(f, object, i), name) == 0)
			return (int)i;
	return -1;
}

void *schema_objects_append(const struct schema_field *f, void *object)
{
	size_t *n = schema_count(f, object);
	void *grown = reallocarray(*(void **)schema_member(f, object), *n + 1, f->object->size);

	if (!grown)
		return NULL;
	*(void **)schema_member(f, object) = grown;
	(*n)++;
	schema_object_init(f->object, schema_element(f, object, *n - 1));
	return schema_element(f, object, *n - 1);
}

void schema_objects_remove(const struct schema_field *f, void *object, size_t i)
{
	size_t *n = schema_count(f, object);
	char *element = schema_element(f, object, i);

	schema_object_fini(f->object, element);
	memmove(element, element + f->object->size, (*n - i - 1) * f->object->size);
	(*n)--;
}

/* --- copying --- */

static void *copy_bytes(const void *from, size_t bytes, int *result)
{
	void *copy;

	if (!from)
		return NULL;
	copy = malloc(bytes ? bytes : 1);
	if (copy)
		memcpy(copy, from, bytes);
	else
		*result = -ENOMEM;
	return copy;
}

static char *copy_string(const char *from, int *result)
{
	return from ? copy_bytes(from, strlen(from) + 1, result) : NULL;
}

static int copy_objects(const struct schema_field *f, void *into, const void *from)
{
	size_t n = *schema_count(f, from);
	int result = 0;

	*(void **)schema_member(f, into) = copy_bytes(*(void **)schema_member(f, from), n * f->object->size, &result);
	*schema_count(f, into) = *(void **)schema_member(f, into) ? n : 0;
	/* All of them, or the ones left out would share what they own with `from`. */
	for (size_t i = 0; i < *schema_count(f, into); i++)
		if (schema_object_copy(f->object, schema_element(f, into, i), schema_element(f, from, i)) < 0)
			result = -ENOMEM;
	return result;
}

static int copy_names(const struct schema_field *f, void *into, const void *from)
{
	char **names = *(char ***)schema_member(f, from), **copy;
	size_t n = *schema_count(f, from);
	int result = 0;

	copy = calloc(n + 1, sizeof(*copy));
	*(char ***)schema_member(f, into) = copy;
	*schema_count(f, into) = copy ? n : 0;
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		copy[i] = copy_string(names[i], &result);
	return result;
}

int schema_field_copy(const struct schema_field *f, void *into, const void *from)
{
	const void *source = schema_member(f, from);
	void *target = schema_member(f, into);
	const struct policy_cpus *cpus = source;
	int result = 0;

	switch (f->kind) {
	case SCHEMA_QUANTITY:
		*(uint64_t *)target = *(const uint64_t *)source;
		break;
	case SCHEMA_BOOL:
		*(bool *)target = *(const bool *)source;
		break;
	case SCHEMA_WORD:
	case SCHEMA_MODE:
		*(unsigned *)target = *(const unsigned *)source;
		break;
	case SCHEMA_MAC:
		memmove(target, source, 6);
		break;
	case SCHEMA_STRING:
	case SCHEMA_NAME:
		*(char **)target = copy_string(*(char *const *)source, &result);
		break;
	case SCHEMA_CPUS:
		((struct policy_cpus *)target)->n = cpus->n;
		((struct policy_cpus *)target)->cpu = copy_bytes(cpus->cpu, cpus->n * sizeof(*cpus->cpu), &result);
		if (result < 0)
			((struct policy_cpus *)target)->n = 0;
		break;
	case SCHEMA_SELECTORS:
		*schema_count(f, into) = *schema_count(f, from);
		*(void **)target = copy_bytes(*(void *const *)source,
					      *schema_count(f, from) * sizeof(struct policy_selector), &result);
		if (result < 0)
			*schema_count(f, into) = 0;
		break;
	case SCHEMA_NAMES:
		return copy_names(f, into, from);
	case SCHEMA_MAP:
		return schema_object_copy(f->object, target, source);
	case SCHEMA_OBJECTS:
		return copy_objects(f, into, from);
	}
	return result;
}

int schema_object_copy(const struct schema_object *o, void *into, const void *from)
{
	int result = 0;

	for (const struct schema_field *f = o->fields; f->key; f++)
		if (schema_field_copy(f, into, from) < 0)
			result = -ENOMEM;
	return result;
}

/* --- a whole policy --- */

static void move_at(const struct policy *from, const struct policy *to, struct policy_at *at)
{
	for (size_t i = 0; i < from->n_files; i++)
		if (at->file == from->files[i])
			at->file = to->files[i];
}

/* Every `at` names a file by pointer into its own policy. */
static void move_files(const struct schema_object *o, void *object, const struct policy *from, const struct policy *to)
{
	if (o->placed)
		move_at(from, to, schema_at(o, object));
	for (const struct schema_field *f = o->fields; f->key; f++) {
		struct policy_selector *const *selectors = schema_member(f, object);

		if (f->kind == SCHEMA_MAP)
			move_files(f->object, schema_member(f, object), from, to);
		for (size_t i = 0; f->kind == SCHEMA_OBJECTS && i < *schema_count(f, object); i++)
			move_files(f->object, schema_element(f, object, i), from, to);
		for (size_t i = 0; f->kind == SCHEMA_SELECTORS && i < *schema_count(f, object); i++)
			move_at(from, to, &(*selectors)[i].at);
	}
}

struct policy *policy_copy(const struct policy *p)
{
	struct policy *copy = malloc(sizeof(*copy));
	int result = 0;

	if (!copy)
		return NULL;
	*copy = *p;
	copy->files = calloc(p->n_files + 1, sizeof(*copy->files));
	copy->n_files = copy->files ? p->n_files : 0;
	for (size_t i = 0; i < copy->n_files; i++)
		copy->files[i] = copy_string(p->files[i], &result);
	if (schema_object_copy(&schema_policy, copy, p) < 0 || !copy->files || result < 0) {
		policy_free(copy);
		return NULL;
	}
	move_files(&schema_policy, copy, p, copy);
	return copy;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	schema_object_fini(&schema_policy, p);
	free_names(p->files, p->n_files);
	free(p);
}
