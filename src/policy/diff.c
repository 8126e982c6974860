/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What changed between two policies, object by object: what `fairlead diff` prints and what the daemon applies.
 *
 * Objects are the same when they have the same name in the same place. Two values are the same when a person would
 * write them alike; positions in the files do not count.
 */
#include "policy/schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct context {
	struct policy_changes *changes;
	int before_vm, after_vm;
	const char *vm; /* prefix of names; NULL outside of VMs */
	int result;
};

static const char *const object_names[] = {
	[POLICY_OBJECT_DAEMON] = "daemon", [POLICY_OBJECT_POOL] = "pool",	    [POLICY_OBJECT_CLASS] = "class",
	[POLICY_OBJECT_VM] = "vm",	   [POLICY_OBJECT_VM_CLASS] = "vm class",   [POLICY_OBJECT_DISK] = "disk",
	[POLICY_OBJECT_NIC] = "nic",	   [POLICY_OBJECT_UPLINK] = "uplink",	    [POLICY_OBJECT_COSCHED] = "cosched",
	[POLICY_OBJECT_COGROUP] = "cogroup",
};

const char *policy_object_name(enum policy_object object)
{
	return object_names[object];
}

static void free_change(struct policy_change *c)
{
	for (size_t i = 0; i < c->n_fields; i++) {
		free((char *)(uintptr_t)c->fields[i].field);
		free(c->fields[i].before);
		free(c->fields[i].after);
	}
	free(c->fields);
	free(c->name);
}

void policy_changes_fini(struct policy_changes *c)
{
	for (size_t i = 0; i < c->n; i++)
		free_change(&c->c[i]);
	free(c->c);
	*c = (struct policy_changes){ 0 };
}

bool policy_change_has(const struct policy_change *c, const char *field)
{
	size_t n = strlen(field);

	for (size_t i = 0; i < c->n_fields; i++) {
		const char *f = c->fields[i].field;

		/* "limit" also stands for "limit.iops". */
		if (strncmp(f, field, n) == 0 && (f[n] == '\0' || f[n] == '.'))
			return true;
	}
	return false;
}

/* --- fields --- */

static void add_field(struct context *x, struct policy_change *c, char *field, char *before, char *after)
{
	struct policy_field_change *grown = reallocarray(c->fields, c->n_fields + 1, sizeof(*grown));

	if (grown)
		c->fields = grown;
	if (!grown || !field || !before || !after) {
		x->result = -ENOMEM;
		free(field);
		free(before);
		free(after);
		return;
	}
	grown[c->n_fields++] = (struct policy_field_change){ field, before, after };
}

static char *join(const char *prefix, const char *separator, const char *name)
{
	char *text;

	return asprintf(&text, "%s%s%s", prefix, separator, name) < 0 ? NULL : text;
}

/* before NULL: everything is new, and what is left empty is not worth a line. after NULL: likewise. */
static void compare_fields(struct context *x, struct policy_change *c, const struct schema_object *o,
			   const void *before, const void *after, const char *prefix)
{
	for (const struct schema_field *f = o->fields; f->key; f++) {
		char *name, *old, *new;

		if (f->kind == SCHEMA_OBJECTS || f->internal ||
		    (f->kind != SCHEMA_MAP && before && after && schema_field_same(f, before, after)))
			continue;
		name = join(prefix, *prefix ? "." : "", f->key);
		if (!name)
			x->result = -ENOMEM;
		if (name && f->kind == SCHEMA_MAP)
			compare_fields(x, c, f->object, before ? schema_member(f, before) : NULL,
				       after ? schema_member(f, after) : NULL, name);
		if (!name || f->kind == SCHEMA_MAP) {
			free(name);
			continue;
		}
		old = before ? schema_field_text(f, before) : strdup("");
		new = after ? schema_field_text(f, after) : strdup("");
		if (old && new && strcmp(old, new) == 0) {
			free(name);
			free(old);
			free(new);
		} else {
			add_field(x, c, name, old, new);
		}
	}
}

/* --- objects --- */

static void emit(struct context *x, struct policy_change c)
{
	struct policy_change *grown;

	if (c.kind == POLICY_CHANGED && c.n_fields == 0) {
		free_change(&c);
		return;
	}
	grown = reallocarray(x->changes->c, x->changes->n + 1, sizeof(*grown));
	if (!grown || !c.name) {
		x->result = -ENOMEM;
		if (grown)
			x->changes->c = grown;
		free_change(&c);
		return;
	}
	x->changes->c = grown;
	grown[x->changes->n++] = c;
}

static void compare_object(struct context *x, enum policy_object object, const struct schema_object *o,
			   const void *before, const void *after, int before_index, int after_index)
{
	struct policy_change c = {
		.kind = !before ? POLICY_ADDED : !after ? POLICY_REMOVED : POLICY_CHANGED,
		.object = object,
		.before = before_index, .after = after_index,
		.before_vm = x->before_vm, .after_vm = x->after_vm,
	};
	const char *name = !o->named ? "" : after ? after : before;

	c.name = x->vm ? join(x->vm, "/", name) : strdup(name);
	compare_fields(x, &c, o, before, after, "");
	emit(x, c);
}

static const struct schema_field *member_of(const struct schema_object *o, const char *key)
{
	return schema_find(o, key);
}

enum pass { REMOVALS, THE_REST };

static void compare_objects(struct context *x, enum pass pass, enum policy_object object, const struct schema_field *f,
			    const void *before, const void *after)
{
	size_t n_before = before ? *schema_count(f, before) : 0, n_after = after ? *schema_count(f, after) : 0;

	for (size_t i = 0; pass == REMOVALS && i < n_before; i++) {
		const char *old = schema_element(f, before, i);

		if (!after || schema_objects_find(f, after, old) < 0)
			compare_object(x, object, f->object, old, NULL, (int)i, -1);
	}
	for (size_t i = 0; pass == THE_REST && i < n_after; i++) {
		const char *new = schema_element(f, after, i);
		int old = before ? schema_objects_find(f, before, new) : -1;

		compare_object(x, object, f->object, old < 0 ? NULL : schema_element(f, before, (size_t)old), new, old,
			       (int)i);
	}
}

static const struct {
	enum policy_object object;
	const char *key;
} vm_parts[] = { { POLICY_OBJECT_VM_CLASS, "classes" },
		 { POLICY_OBJECT_DISK, "disks" },
		 { POLICY_OBJECT_NIC, "nics" } };

static void compare_vm_parts(struct context *x, enum pass pass, const struct policy *before, const struct policy *after,
			     int b, int a)
{
	const struct schema_object *o = member_of(&schema_policy, "vms")->object;
	const struct policy_vm *old = b < 0 ? NULL : &before->vms[b], *new = a < 0 ? NULL : &after->vms[a];

	x->before_vm = b;
	x->after_vm = a;
	x->vm = new ? new->name : old->name;
	for (size_t i = 0; i < ARRAY_SIZE(vm_parts); i++)
		compare_objects(x, pass, vm_parts[i].object, member_of(o, vm_parts[i].key), old, new);
	x->before_vm = x->after_vm = -1;
	x->vm = NULL;
}

static void compare_all_vm_parts(struct context *x, enum pass pass, const struct policy *before,
				 const struct policy *after)
{
	for (size_t i = 0; pass == REMOVALS && before && i < before->n_vms; i++)
		compare_vm_parts(x, pass, before, after, (int)i, policy_vm_find(after, before->vms[i].name));
	for (size_t i = 0; pass == THE_REST && i < after->n_vms; i++)
		compare_vm_parts(x, pass, before, after, before ? policy_vm_find(before, after->vms[i].name) : -1,
				 (int)i);
}

static void compare_single(struct context *x, enum policy_object object, const char *key, const struct policy *before,
			   const struct policy *after)
{
	const struct schema_field *f = member_of(&schema_policy, key);

	compare_object(x, object, f->object, before ? schema_member(f, before) : NULL, schema_member(f, after), -1, -1);
}

static const struct {
	enum policy_object object;
	const char *key;
} lists[] = {
	{ POLICY_OBJECT_POOL, "pools" }, { POLICY_OBJECT_CLASS, "classes" }, { POLICY_OBJECT_UPLINK, "uplinks" },
	{ POLICY_OBJECT_VM, "vms" },	 { POLICY_OBJECT_COGROUP, "cogroups" },
};

int policy_diff(const struct policy *before, const struct policy *after, struct policy_changes *ret)
{
	struct context x = { .changes = ret, .before_vm = -1, .after_vm = -1 };

	*ret = (struct policy_changes){ 0 };
	/* Parts before what they are in, users before what they use. */
	compare_all_vm_parts(&x, REMOVALS, before, after);
	for (size_t i = ARRAY_SIZE(lists); i-- > 0;)
		compare_objects(&x, REMOVALS, lists[i].object, member_of(&schema_policy, lists[i].key), before, after);
	compare_single(&x, POLICY_OBJECT_DAEMON, "daemon", before, after);
	compare_single(&x, POLICY_OBJECT_COSCHED, "cosched", before, after);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		compare_objects(&x, THE_REST, lists[i].object, member_of(&schema_policy, lists[i].key), before, after);
	compare_all_vm_parts(&x, THE_REST, before, after);
	if (x.result < 0)
		policy_changes_fini(ret);
	return x.result;
}
