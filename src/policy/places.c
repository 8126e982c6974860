/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where each key of the policy was written.
 */
#include "policy/loader.h"

#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct loader_place *)a)->path, ((const struct loader_place *)b)->path);
}

struct loader_place *loader_place_find(struct loader *l, const char *path)
{
	struct loader_place key = { .path = (char *)(uintptr_t)path }, **found = tfind(&key, &l->places, compare);

	return found ? *found : NULL;
}

size_t loader_path_push(struct loader *l, const char *key)
{
	size_t length = l->path_length;
	int n = snprintf(l->path + length, sizeof(l->path) - length, "%s%s", length ? "/" : "", key);

	/* Keys come from the schema and names are short, so it fits; cut short it would only blur a message. */
	l->path_length = min_u64(length + (size_t)n, sizeof(l->path) - 1);
	return length;
}

void loader_path_pop(struct loader *l, size_t length)
{
	l->path_length = length;
	l->path[length] = '\0';
}

void loader_place_note(struct loader *l, const char *key, struct policy_at at)
{
	size_t length = loader_path_push(l, key);
	struct loader_place *place = loader_place_find(l, l->path);

	if (!place) {
		place = calloc(1, sizeof(*place));
		if (place)
			place->path = strdup(l->path);
		if (!place || !place->path || !tsearch(place, &l->places, compare)) {
			l->no_memory = true;
			if (place)
				free(place->path);
			free(place);
			loader_path_pop(l, length);
			return;
		}
	}
	place->at = at;
	place->overlay = l->source->overlay;
	loader_path_pop(l, length);
}

static void free_place(void *p)
{
	struct loader_place *place = p;

	free(place->path);
	free(place);
}

void loader_places_free(struct loader *l)
{
	tdestroy(l->places, free_place);
	l->places = NULL;
}

static struct loader_place *find_formatted(struct loader *l, const char *format, va_list args)
{
	char path[sizeof(l->path)];

	vsnprintf(path, sizeof(path), format, args);
	return loader_place_find(l, path);
}

bool loader_given(struct loader *l, const char *format, ...)
{
	struct loader_place *place;
	va_list args;

	va_start(args, format);
	place = find_formatted(l, format, args);
	va_end(args);
	return place;
}

struct policy_at loader_at(struct loader *l, struct policy_at otherwise, const char *format, ...)
{
	struct loader_place *place;
	va_list args;

	va_start(args, format);
	place = find_formatted(l, format, args);
	va_end(args);
	return place ? place->at : otherwise;
}
