/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collecting what is wrong with a policy, so that one run finds all of it.
 */
#include "policy/loader.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A file full of mistakes is one mistake: past this many, nothing is added. */
#define DIAGNOSTICS_MAX 1000

/* The loader's file names die with a refused policy. */
static const char *keep_file(struct policy_diagnostics *d, const char *file)
{
	char **grown, *copy;

	for (size_t i = 0; i < d->n_files; i++)
		if (strcmp(d->files[i], file) == 0)
			return d->files[i];
	grown = reallocarray(d->files, d->n_files + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	d->files = grown;
	copy = strdup(file);
	if (copy)
		d->files[d->n_files++] = copy;
	return copy;
}

static struct policy_diagnostic *append(struct policy_diagnostics *d)
{
	struct policy_diagnostic *grown = reallocarray(d->d, d->n + 1, sizeof(*grown));

	if (!grown)
		return NULL;
	d->d = grown;
	return &d->d[d->n];
}

void loader_report(struct loader *l, enum policy_severity severity, struct policy_at at, const char *format, ...)
{
	struct policy_diagnostics *d = l->diag;
	struct policy_diagnostic *next;
	va_list args;
	int n;

	d->n_errors += severity == POLICY_ERROR;
	if (d->n >= DIAGNOSTICS_MAX)
		return;
	next = append(d);
	if (!next) {
		l->no_memory = true;
		return;
	}
	*next = (struct policy_diagnostic){ .severity = severity, .at = at };
	if (at.file)
		next->at.file = keep_file(d, at.file);
	va_start(args, format);
	n = vasprintf(&next->message, format, args);
	va_end(args);
	if (n < 0) {
		l->no_memory = true;
		return;
	}
	utf8_clean_line(next->message);
	d->n++;
}

static size_t file_rank(const struct policy_diagnostics *d, const char *file)
{
	size_t i = 0;

	while (i < d->n_files && d->files[i] != file)
		i++;
	return i;
}

static int compare(const void *pa, const void *pb, void *arg)
{
	const struct policy_diagnostic *a = pa, *b = pb;
	size_t file_a = file_rank(arg, a->at.file), file_b = file_rank(arg, b->at.file);

	if (file_a != file_b)
		return file_a < file_b ? -1 : 1;
	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	if (a->at.column != b->at.column)
		return a->at.column < b->at.column ? -1 : 1;
	return strcmp(a->message, b->message);
}

void loader_diagnostics_sort(struct policy_diagnostics *d)
{
	size_t kept = 0;

	if (d->n == 0)
		return;
	qsort_r(d->d, d->n, sizeof(*d->d), compare, d);
	/* A class is checked for every VM that has it, and is wrong once. */
	for (size_t i = 1; i < d->n; i++) {
		if (compare(&d->d[i], &d->d[kept], d) != 0) {
			d->d[++kept] = d->d[i];
			continue;
		}
		d->n_errors -= d->d[i].severity == POLICY_ERROR;
		free(d->d[i].message);
	}
	d->n = kept + 1;
}

char *policy_diagnostic_text(const struct policy_diagnostic *d)
{
	const char *severity = d->severity == POLICY_ERROR ? "error" : "warning";
	char *text;
	int n;

	if (!d->at.file)
		n = asprintf(&text, "%s: %s", severity, d->message);
	else if (d->at.line == 0)
		n = asprintf(&text, "%s: %s: %s", d->at.file, severity, d->message);
	else
		n = asprintf(&text, "%s:%u:%u: %s: %s", d->at.file, d->at.line, d->at.column, severity, d->message);
	return n < 0 ? NULL : text;
}

void policy_diagnostics_fini(struct policy_diagnostics *d)
{
	for (size_t i = 0; i < d->n; i++)
		free(d->d[i].message);
	for (size_t i = 0; i < d->n_files; i++)
		free(d->files[i]);
	free(d->d);
	free(d->files);
	*d = (struct policy_diagnostics){ 0 };
}
