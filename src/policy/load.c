/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From sources to a policy: read all, complete, check, and only then hand out.
 */
#include "policy/loader.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *keep_file_name(struct policy *p, const char *name)
{
	char **grown = reallocarray(p->files, p->n_files + 1, sizeof(*grown)), *copy;

	if (!grown)
		return NULL;
	p->files = grown;
	copy = strdup(name);
	if (copy)
		p->files[p->n_files++] = copy;
	return copy;
}

#define OBJECTS_MAX 65536u

bool loader_has_room(struct loader *l, size_t n, struct policy_at at)
{
	l->n_objects += (unsigned)min_u64(n, OBJECTS_MAX);
	if (l->n_objects <= OBJECTS_MAX)
		return true;
	if (!l->too_large)
		loader_error(l, at, "more than %u objects in all, classes counted for each VM that has them", OBJECTS_MAX);
	l->too_large = true;
	return false;
}

static bool goes_on(const struct loader *l)
{
	return !l->no_memory && !l->too_large;
}

int policy_source_read(const struct policy_source *s, char **ret, size_t *ret_length)
{
	return s->plain ? file_read_plain(s->name, FILE_BYTES_MAX, ret, ret_length) :
			  file_read(s->name, FILE_BYTES_MAX, ret, ret_length);
}

const char *policy_source_why(int error)
{
	return error == -ENXIO ? "not a plain file" : strerror(-error);
}

static void read_source(struct loader *l, const struct policy_source *s)
{
	cleanup_free char *text = NULL;
	size_t length = s->text ? strlen(s->text) : 0;
	int r = 0;

	l->source = s;
	l->file = keep_file_name(l->policy, s->name);
	if (!l->file) {
		l->no_memory = true;
		return;
	}
	if (s->overlay)
		l->overlay_file = l->file;
	if (!s->text)
		r = policy_source_read(s, &text, &length);
	if (r < 0)
		loader_error(l, ((struct policy_at){ .file = l->file }), "cannot be read: %s", policy_source_why(r));
	else
		loader_read(l, s->text ? s->text : text, length);
}

int policy_load_sources(const struct policy_source *s, size_t n, struct policy **ret, struct policy_diagnostics *diag)
{
	struct loader l = { .diag = diag, .policy = calloc(1, sizeof(*l.policy)) };

	if (!l.policy)
		return -ENOMEM;
	schema_object_init(&schema_policy, l.policy);
	/* The overlay wins, so it comes after all others. */
	for (int overlay = 0; overlay < 2; overlay++)
		for (size_t i = 0; i < n; i++)
			if (s[i].overlay == overlay && goes_on(&l))
				read_source(&l, &s[i]);
	if (goes_on(&l))
		loader_resolve(&l);
	if (goes_on(&l))
		loader_check(&l);
	if (goes_on(&l))
		loader_admit(&l);
	loader_places_free(&l);
	loader_diagnostics_sort(diag);
	if (l.no_memory || diag->n_errors) {
		policy_free(l.policy);
		return l.no_memory ? -ENOMEM : -EINVAL;
	}
	*ret = l.policy;
	return 0;
}

/* --- files --- */

static bool is_overlay(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strcmp(slash ? slash + 1 : path, POLICY_OVERLAY_NAME) == 0;
}

int policy_load(const char *const *paths, size_t n, struct policy **ret, struct policy_diagnostics *diag)
{
	struct policy_source *s = calloc(n + 1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		s[i] = (struct policy_source){ .name = (char *)(uintptr_t)paths[i], .overlay = is_overlay(paths[i]) };
	r = policy_load_sources(s, n, ret, diag);
	free(s);
	return r;
}

void policy_sources_free(struct policy_source *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(s[i].name);
		free(s[i].text);
	}
	free(s);
}

void policy_sources_read(struct policy_source *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t length;
		char *text;

		if (s[i].text || policy_source_read(&s[i], &text, &length) < 0)
			continue;
		/* With a NUL in it, it is no text. */
		if (strlen(text) == length)
			s[i].text = text;
		else
			free(text);
	}
}

int policy_sources_copy(const struct policy_source *s, size_t n, struct policy_source **ret)
{
	struct policy_source *copy = calloc(n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = (struct policy_source){ .name = strdup(s[i].name), .overlay = s[i].overlay, .plain = s[i].plain };
		if (s[i].text)
			copy[i].text = strdup(s[i].text);
		if (copy[i].name && (copy[i].text || !s[i].text))
			continue;
		policy_sources_free(copy, i + 1);
		return -ENOMEM;
	}
	*ret = copy;
	return 0;
}

static int is_yaml(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return e->d_name[0] != '.' && dot && strcmp(dot, ".yaml") == 0;
}

int policy_sources_find(const char *main_file, struct policy_source **ret, size_t *ret_n)
{
	const char *slash = strrchr(main_file, '/');
	int length = slash ? (int)(slash - main_file) + 1 : 0, found;
	struct dirent **entries = NULL;
	struct policy_source *s;
	char *folder;

	if (asprintf(&folder, "%.*sconf.d", length, main_file) < 0)
		return -ENOMEM;
	found = scandir(folder, &entries, is_yaml, alphasort);
	if (found < 0 && errno != ENOENT && errno != ENOTDIR) {
		int r = -errno;

		free(folder);
		return r;
	}
	found = found < 0 ? 0 : found;
	s = calloc((size_t)found + 1, sizeof(*s));
	if (s) {
		s[0].name = strdup(main_file);
		for (int i = 0; i < found; i++) {
			if (asprintf(&s[i + 1].name, "%s/%s", folder, entries[i]->d_name) < 0)
				s[i + 1].name = NULL;
			s[i + 1].overlay = is_overlay(entries[i]->d_name);
			s[i + 1].plain = true;
		}
	}
	for (int i = 0; i < found; i++)
		free(entries[i]);
	free(entries);
	free(folder);
	for (int i = 0; s && i <= found; i++) {
		if (s[i].name)
			continue;
		policy_sources_free(s, (size_t)found + 1);
		return -ENOMEM;
	}
	if (!s)
		return -ENOMEM;
	*ret = s;
	*ret_n = (size_t)found + 1;
	return 0;
}
