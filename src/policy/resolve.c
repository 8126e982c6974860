/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completes a policy that has been read: drops what the overlay says about objects that are gone, gives every VM its
 * own classes, turns names into indexes and fills in the defaults that depend on other keys.
 */
#include "policy/loader.h"
#include "policy/suggest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool from_overlay(const struct loader *l, struct policy_at at)
{
	return l->overlay_file && at.file == l->overlay_file;
}

static void set_string(struct loader *l, char **member, char *text)
{
	if (!text)
		l->no_memory = true;
	free(*member);
	*member = text;
}

/* printf into a new string; NULL without memory. */
static __attribute__((format(printf, 1, 2))) char *format_text(const char *format, ...)
{
	va_list args;
	char *text;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	return n < 0 ? NULL : text;
}

/* "unknown pool 'nvm'; did you mean 'nvme'?" over an array of named objects. */
static void report_unknown(struct loader *l, struct policy_at at, const char *noun, const char *name,
			   const void *objects, size_t n, size_t size)
{
	struct suggest s;
	const char *near;

	suggest_init(&s, name);
	for (size_t i = 0; i < n; i++)
		suggest_offer(&s, (const char *)objects + i * size);
	near = suggest_best(&s);
	if (near)
		loader_error(l, at, "unknown %s '%s'; did you mean '%s'?", noun, name, near);
	else
		loader_error(l, at, "unknown %s '%s'", noun, name);
}

static int find_named(const void *objects, size_t n, size_t size, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp((const char *)objects + i * size, name) == 0)
			return (int)i;
	return -1;
}

/* --- what the overlay left behind --- */

static void drop_stale_classes(struct loader *l)
{
	const struct schema_field *f = schema_find(&schema_policy, "classes");
	struct policy *p = l->policy;

	for (size_t i = p->n_classes; i-- > 0;) {
		if (!from_overlay(l, p->classes[i].at))
			continue;
		loader_warning(l, p->classes[i].at, "class '%s' is gone; what was set for it at run time is left out",
			       p->classes[i].name);
		schema_objects_remove(f, p, i);
	}
}

static void drop_disks(struct loader *l, const struct schema_field *f, struct policy_vm *vm)
{
	for (size_t i = vm->n_disks; i-- > 0;) {
		const struct policy_disk *d = &vm->disks[i];
		bool stale = from_overlay(l, d->at) && (d->removed || !d->pool_name);

		/* One that was to be removed is gone as it should be. */
		if (stale && !d->removed)
			loader_warning(l, d->at, "disk '%s/%s' is gone; what was changed at run time is left out",
				       vm->name, d->name);
		if (stale || d->removed)
			schema_objects_remove(f, vm, i);
	}
}

/* A VM of which nothing but run-time changes to its promises remains. */
static void drop_stale_vms(struct loader *l)
{
	const struct schema_field *f = schema_find(&schema_policy, "vms");
	const struct schema_field *disks = schema_find(f->object, "disks");
	struct policy *p = l->policy;

	for (size_t i = p->n_vms; i-- > 0;) {
		struct policy_vm *vm = &p->vms[i];

		drop_disks(l, disks, vm);
		if (!from_overlay(l, vm->at) || vm->n_disks || vm->n_nics)
			continue;
		loader_warning(l, vm->at, "VM '%s' is gone; what was changed at run time is left out", vm->name);
		schema_objects_remove(f, p, i);
	}
}

/* --- classes of a VM --- */

/* Takes from `from` what was written below the current path. */
static void take_given(struct loader *l, const struct schema_object *o, void *into, const void *from)
{
	for (const struct schema_field *f = o->fields; f->key; f++) {
		size_t length = loader_path_push(l, f->key);

		if (f->kind == SCHEMA_MAP) {
			take_given(l, f->object, schema_member(f, into), schema_member(f, from));
		} else if (loader_place_find(l, l->path)) {
			if (f->kind == SCHEMA_SELECTORS)
				free(*(void **)schema_member(f, into));
			if (schema_field_copy(f, into, from) < 0)
				l->no_memory = true;
		}
		loader_path_pop(l, length);
	}
}

static void add_class(struct loader *l, const struct policy_vm *vm, const struct policy_class *base,
		      struct policy_at at, const struct policy_class *own, struct policy_class *ret)
{
	const struct schema_object *o = schema_find(&schema_policy, "classes")->object;
	char path[sizeof(l->path)];
	size_t length;

	*ret = *base;
	ret->at = at;
	if (schema_object_copy(o, ret, base) < 0)
		l->no_memory = true;
	if (!own)
		return;
	snprintf(path, sizeof(path), "vms/%s/classes/%s", vm->name, base->name);
	length = loader_path_push(l, path);
	take_given(l, o, ret, own);
	loader_path_pop(l, length);
}

/* The VM's list says which classes it has, unless only the overlay wrote it; then it has them all. */
static size_t count_members(const struct loader *l, const struct policy_vm *vm)
{
	size_t n = 0;

	for (size_t i = 0; i < vm->n_classes; i++)
		n += !from_overlay(l, vm->classes[i].at);
	return n;
}

/* Classes, and what selects them, that the VM is to have for its own. */
static size_t count_copies(const struct loader *l, const struct policy_vm *vm, size_t members)
{
	const struct policy *p = l->policy;
	size_t n = 0;

	for (size_t i = 0; i < p->n_classes; i++)
		if (members == 0 || find_named(vm->classes, vm->n_classes, sizeof(*vm->classes), p->classes[i].name) >= 0)
			n += 1 + p->classes[i].n_selectors;
	return n;
}

static void report_class(struct loader *l, const struct policy_vm *vm, const struct policy_class *c)
{
	const struct policy *p = l->policy;

	if (from_overlay(l, c->at))
		loader_warning(l, c->at, "VM '%s' has no class '%s' any more; what was set for it is left out",
			       vm->name, c->name);
	else
		report_unknown(l, c->at, "class", c->name, p->classes, p->n_classes, sizeof(*p->classes));
}

static void resolve_vm_classes(struct loader *l, struct policy_vm *vm)
{
	const struct schema_field *f = schema_find(schema_find(&schema_policy, "vms")->object, "classes");
	const struct policy *p = l->policy;
	size_t members = count_members(l, vm), n = 0;
	struct policy_class *classes;

	if (!loader_has_room(l, count_copies(l, vm, members), vm->at))
		return;
	classes = calloc(members ? members : p->n_classes, sizeof(*classes));
	if (!classes) {
		l->no_memory = true;
		return;
	}
	for (size_t i = 0; i < vm->n_classes; i++) {
		const struct policy_class *own = &vm->classes[i];
		int base = find_named(p->classes, p->n_classes, sizeof(*p->classes), own->name);
		bool member = members ? !from_overlay(l, own->at) : base >= 0;

		if (base < 0 || !member)
			report_class(l, vm, own);
		else if (members)
			add_class(l, vm, &p->classes[base], own->at, own, &classes[n++]);
	}
	for (size_t i = 0; members == 0 && i < p->n_classes; i++) {
		int own = find_named(vm->classes, vm->n_classes, sizeof(*vm->classes), p->classes[i].name);

		add_class(l, vm, &p->classes[i], p->classes[i].at, own < 0 ? NULL : &vm->classes[own], &classes[n++]);
	}
	for (size_t i = 0; i < vm->n_classes; i++)
		schema_object_fini(f->object, &vm->classes[i]);
	free(vm->classes);
	vm->classes = classes;
	vm->n_classes = n;
}

static void resolve_default_class(struct loader *l, struct policy_vm *vm)
{
	struct policy_at at = loader_at(l, vm->at, "vms/%s/default_class", vm->name);

	vm->default_class = -1;
	if (vm->n_classes == 0)
		return;
	if (!vm->default_class_name)
		set_string(l, &vm->default_class_name, strdup(vm->classes[vm->n_classes - 1].name));
	if (!vm->default_class_name)
		return;
	vm->default_class = policy_class_find(vm, vm->default_class_name);
	if (vm->default_class < 0)
		report_unknown(l, at, "class", vm->default_class_name, vm->classes, vm->n_classes,
			       sizeof(*vm->classes));
}

struct policy_rate loader_classes_reserve(const struct policy_vm *vm)
{
	struct policy_rate sum = { 0 };

	for (size_t i = 0; i < vm->n_classes; i++) {
		const struct policy_rate *r = &vm->classes[i].promise.reservation;

		if (__builtin_add_overflow(sum.milli_iops, r->milli_iops, &sum.milli_iops))
			sum.milli_iops = UINT64_MAX;
		if (__builtin_add_overflow(sum.bandwidth_bytes, r->bandwidth_bytes, &sum.bandwidth_bytes))
			sum.bandwidth_bytes = UINT64_MAX;
	}
	return sum;
}

/* A VM that says nothing else reserves what its classes do. */
static void resolve_vm_reservation(struct policy_vm *vm)
{
	struct policy_rate sum = loader_classes_reserve(vm), *own = &vm->promise.reservation;

	if (own->milli_iops == 0)
		own->milli_iops = sum.milli_iops;
	if (own->bandwidth_bytes == 0)
		own->bandwidth_bytes = sum.bandwidth_bytes;
}

/* --- parts --- */

/* The folder of the control socket, without a slash at its end. */
static int socket_folder_length(const struct policy *p)
{
	const char *slash = strrchr(p->daemon.control, '/');

	return slash ? (int)(slash - p->daemon.control) : 0;
}

static char *default_socket(const struct policy *p, const struct policy_vm *vm, const char *name)
{
	return format_text("%.*s/%s-%s.sock", socket_folder_length(p), p->daemon.control, vm->name, name);
}

static void resolve_disk(struct loader *l, const struct policy_vm *vm, struct policy_disk *d)
{
	const struct policy *p = l->policy;
	struct policy_at at = loader_at(l, d->at, "vms/%s/disks/%s/pool", vm->name, d->name);

	d->pool = d->pool_name ? policy_pool_find(p, d->pool_name) : -1;
	if (!d->pool_name)
		loader_error(l, at, "disk '%s/%s' needs a pool", vm->name, d->name);
	else if (d->pool < 0)
		report_unknown(l, at, "pool", d->pool_name, p->pools, p->n_pools, sizeof(*p->pools));
	if (!d->socket)
		set_string(l, &d->socket, default_socket(p, vm, d->name));
	if (!d->image && d->pool >= 0 && p->pools[d->pool].type == POLICY_POOL_FILE)
		set_string(l, &d->image, format_text("%s-%s.raw", vm->name, d->name));
}

/* Local administered and the same at every start: FNV-1a over the names. */
static void default_mac(const struct policy_vm *vm, struct policy_nic *n)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (const char *part = vm->name;; part = n->name) {
		for (const char *c = part; *c; c++)
			hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
		hash = (hash ^ '/') * UINT64_C(0x100000001b3);
		if (part == n->name)
			break;
	}
	n->mac[0] = 0x02;
	for (size_t i = 1; i < 6; i++)
		n->mac[i] = (uint8_t)(hash >> (8 * i));
}

static void resolve_nic(struct loader *l, const struct policy_vm *vm, struct policy_nic *n)
{
	const struct policy *p = l->policy;
	struct policy_at at = loader_at(l, n->at, "vms/%s/nics/%s/uplink", vm->name, n->name);

	n->uplink = n->uplink_name ? find_named(p->uplinks, p->n_uplinks, sizeof(*p->uplinks), n->uplink_name) : -1;
	if (n->uplink_name && n->uplink < 0)
		report_unknown(l, at, "uplink", n->uplink_name, p->uplinks, p->n_uplinks, sizeof(*p->uplinks));
	if (!n->socket)
		set_string(l, &n->socket, default_socket(p, vm, n->name));
	if (!loader_given(l, "vms/%s/nics/%s/mac", vm->name, n->name))
		default_mac(vm, n);
}

static void resolve_pool(struct loader *l, struct policy_pool *pool)
{
	bool takes_time = pool->type == POLICY_POOL_FILE || pool->type == POLICY_POOL_MODEL;

	if (!loader_given(l, "pools/%s/slo", pool->name))
		pool->slo = takes_time;
	/* A model serves as many requests at a time as it has channels; more only wait inside it. */
	if (pool->type == POLICY_POOL_MODEL && !loader_given(l, "pools/%s/depth", pool->name))
		pool->depth = pool->channels;
}

static void resolve_cogroup(struct loader *l, const struct policy_cogroup *g)
{
	const struct policy *p = l->policy;
	struct policy_at at = loader_at(l, g->at, "cogroups/%s/vms", g->name);

	for (size_t i = 0; i < g->n_vms; i++)
		if (policy_vm_find(p, g->vm_names[i]) < 0)
			report_unknown(l, at, "VM", g->vm_names[i], p->vms, p->n_vms, sizeof(*p->vms));
}

static void add_default_class(struct loader *l)
{
	struct policy_class *c;

	if (l->policy->n_classes)
		return;
	c = schema_objects_append(schema_find(&schema_policy, "classes"), l->policy);
	if (c)
		strcpy(c->name, "default");
	else
		l->no_memory = true;
}

void loader_resolve(struct loader *l)
{
	struct policy *p = l->policy;

	if (!p->daemon.control)
		set_string(l, &p->daemon.control, strdup("/run/fairlead/control.sock"));
	if (!p->daemon.state)
		set_string(l, &p->daemon.state, strdup("/var/lib/fairlead"));
	drop_stale_classes(l);
	drop_stale_vms(l);
	add_default_class(l);
	if (l->no_memory)
		return;
	for (size_t i = 0; i < p->n_pools; i++)
		resolve_pool(l, &p->pools[i]);
	for (size_t i = 0; i < p->n_vms && !l->too_large; i++) {
		struct policy_vm *vm = &p->vms[i];

		resolve_vm_classes(l, vm);
		resolve_default_class(l, vm);
		resolve_vm_reservation(vm);
		for (size_t j = 0; j < vm->n_disks; j++)
			resolve_disk(l, vm, &vm->disks[j]);
		for (size_t j = 0; j < vm->n_nics; j++)
			resolve_nic(l, vm, &vm->nics[j]);
	}
	for (size_t i = 0; i < p->n_cogroups; i++)
		resolve_cogroup(l, &p->cogroups[i]);
}
