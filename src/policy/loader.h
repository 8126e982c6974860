/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the steps of policy_load_sources() share: read (yaml.c, values.c), complete (resolve.c), check (check.c,
 * admission.c). Private to this folder.
 *
 * A *place* remembers where each key was written, by its path ("vms/web/limit/iops"; listed objects by their name). It
 * serves to find what is written twice, to tell "given" from "left at its default", and for positions in later
 * messages.
 */
#pragma once

#include "policy/schema.h"

struct loader {
	struct policy *policy;
	struct policy_diagnostics *diag;
	const struct policy_source *source; /* being read */
	const char *file;		    /* its name, owned by the policy */
	const char *text; /* its text */
	size_t text_length;
	const char *overlay_file;	    /* the overlay's name, if there is one; it is read last */
	char path[256];			    /* of what is being read; room for any path of valid keys and names */
	size_t path_length;
	void *places; /* tsearch(3) tree of struct loader_place */
	unsigned n_objects;
	bool no_memory, too_large; /* either ends the loading */
};

struct loader_place {
	char *path;
	struct policy_at at;
	bool overlay;
};

/* diagnostics.c */
void loader_report(struct loader *l, enum policy_severity severity, struct policy_at at, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
#define loader_error(l, at, ...) loader_report(l, POLICY_ERROR, at, __VA_ARGS__)
#define loader_warning(l, at, ...) loader_report(l, POLICY_WARNING, at, __VA_ARGS__)
/*
 * Before `n` more objects, or values of a list, are made: false, and reported, if that is more than any host has. A few lines with
 * aliases could ask for any number.
 */
bool loader_has_room(struct loader *l, size_t n, struct policy_at at);
void loader_diagnostics_sort(struct policy_diagnostics *d);

/* places.c */
/* `key` below the current path; NULL if it was not written. */
struct loader_place *loader_place_find(struct loader *l, const char *path);
/* Notes that `key` below the current path is written at `at`. */
void loader_place_note(struct loader *l, const char *key, struct policy_at at);
void loader_places_free(struct loader *l);
/* Goes down to `key`; returns what loader_path_pop() needs to come back. */
size_t loader_path_push(struct loader *l, const char *key);
void loader_path_pop(struct loader *l, size_t length);
/* Was it written, and where: `otherwise` if it was not. Paths are whole, printf style. */
bool loader_given(struct loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct policy_at loader_at(struct loader *l, struct policy_at otherwise, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* yaml.c: adds one source to the policy. */
void loader_read(struct loader *l, const char *text, size_t length);

/* values.c: one value, or one item of a list of values, into its member. Reports what is wrong with it. */
/* Before one more is put into a list of objects or names: false, and reported, if it may have no more. */
bool loader_list_has_room(struct loader *l, const struct schema_field *f, const void *object, struct policy_at at);
void loader_value_read(struct loader *l, const struct schema_field *f, void *object, const char *text,
		       struct policy_at at);
/* Forgets what a list holds, before a source that wins over others writes it anew. */
void loader_value_clear(const struct schema_field *f, void *object);
bool loader_name_valid(const char *name);

/* resolve.c, check.c (of which check_cosched.c is a part), admission.c: in this order, each only looks at what the ones before it made. */
void loader_resolve(struct loader *l);
/* All of a VM's classes together, UINT64_MAX where that does not fit. */
struct policy_rate loader_classes_reserve(const struct policy_vm *vm);
void loader_check(struct loader *l);
void loader_check_cosched(struct loader *l);
void loader_admit(struct loader *l);
