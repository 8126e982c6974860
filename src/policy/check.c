/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is wrong between the lines: keys that do not belong to this kind of pool, paths that leave their folder, sockets
 * and selectors used twice, promises that contradict themselves. check_cosched.c looks at co-scheduling; admission.c adds
 * what a device cannot carry.
 */
#include "policy/loader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* --- pools --- */

/* Keys that only some types have, by type. */
static const struct {
	const char *key;
	unsigned types;
} pool_keys[] = {
	{ "directory", 1u << POLICY_POOL_FILE },
	{ "huge_pages", 1u << POLICY_POOL_RAM },
	{ "channels", 1u << POLICY_POOL_MODEL },
	{ "read_latency", 1u << POLICY_POOL_MODEL },
	{ "write_latency", 1u << POLICY_POOL_MODEL },
	{ "flush_latency", 1u << POLICY_POOL_MODEL },
	{ "byte_time", 1u << POLICY_POOL_MODEL },
};

static void check_pool(struct loader *l, const struct policy_pool *pool)
{
	if (pool->type == POLICY_POOL_TYPES) {
		/* A wrong one has been reported. */
		if (!loader_given(l, "pools/%s/type", pool->name))
			loader_error(l, pool->at, "pool '%s' needs a type: null, ram, model or file", pool->name);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(pool_keys); i++) {
		struct policy_at at = loader_at(l, pool->at, "pools/%s/%s", pool->name, pool_keys[i].key);

		if (loader_given(l, "pools/%s/%s", pool->name, pool_keys[i].key) &&
		    !(pool_keys[i].types & 1u << pool->type))
			loader_error(l, at, "a pool of type %s has no %s", policy_pool_type_name(pool->type),
				     pool_keys[i].key);
	}
	if (pool->split_bytes % 512)
		loader_error(l, loader_at(l, pool->at, "pools/%s/split", pool->name), "split: parts are multiples of 512 bytes");
	if (pool->schedule == POLICY_SCHEDULE_SLICED && !pool->capacity.milli_iops)
		loader_error(l, loader_at(l, pool->at, "pools/%s/schedule", pool->name),
			     "schedule: slices divide what the pool gives, so it needs capacity: { iops: ... } "
			     "(4 KiB reads a second; `fairlead pool calibrate %s' measures it)",
			     pool->name);
	if (pool->type != POLICY_POOL_FILE)
		return;
	if (!pool->directory)
		loader_error(l, pool->at, "pool '%s' needs a directory", pool->name);
	else if (pool->directory[0] != '/')
		loader_error(l, loader_at(l, pool->at, "pools/%s/directory", pool->name),
			     "directory: '%s' is not absolute", pool->directory);
}

/* --- promises --- */

static void check_pair(struct loader *l, struct policy_at at, enum units units, uint64_t reservation, uint64_t limit,
		       const char *what)
{
	char r[UNITS_TEXT_MAX], m[UNITS_TEXT_MAX], over[UNITS_TEXT_MAX];

	if (limit == 0 || reservation <= limit)
		return;
	units_format(units, reservation, r);
	units_format(units, limit, m);
	units_format(units, reservation - limit, over);
	loader_error(l, at, "%s: reservation %s is above the limit %s, by %s", what, r, m, over);
}

/* `whose` stands before what is told, where the place alone does not say it. */
static void check_promise(struct loader *l, const struct policy_promise *p, struct policy_at at, const char *whose)
{
	char iops[POLICY_NAME_MAX + 64], bandwidth[POLICY_NAME_MAX + 64];

	snprintf(iops, sizeof(iops), "%siops", whose);
	snprintf(bandwidth, sizeof(bandwidth), "%sbandwidth", whose);
	check_pair(l, at, UNITS_RATE, p->reservation.milli_iops, p->limit.milli_iops, iops);
	check_pair(l, at, UNITS_BANDWIDTH, p->reservation.bandwidth_bytes, p->limit.bandwidth_bytes, bandwidth);
	if (p->latency.p50_ns && p->latency.p99_ns && p->latency.p50_ns > p->latency.p99_ns)
		loader_error(l, at, "latency: the p50 target is above the p99 target");
}

/* Where the reservation of a VM's class is written: with the VM, or with the class. */
static struct policy_at class_reservation_at(struct loader *l, const struct policy_vm *vm, const struct policy_class *c)
{
	struct policy_at at = loader_at(l, c->at, "classes/%s/reservation", c->name);

	return loader_at(l, at, "vms/%s/classes/%s/reservation", vm->name, c->name);
}

/* --- selectors --- */

static bool same_selector(const struct policy_selector *a, const struct policy_selector *b)
{
	return a->kind == b->kind && a->ioclass == b->ioclass && a->level == b->level && a->hint == b->hint;
}

static void check_selector(struct loader *l, const struct policy_class *classes, size_t class, size_t selector)
{
	const struct policy_selector *s = &classes[class].selectors[selector];

	for (size_t i = 0; i <= class; i++) {
		for (size_t j = 0; j < (i < class ? classes[i].n_selectors : selector); j++) {
			if (!same_selector(s, &classes[i].selectors[j]))
				continue;
			loader_error(l, s->at, "this ioprio selects class '%s' already, at %s:%u", classes[i].name,
				     classes[i].selectors[j].at.file, classes[i].selectors[j].at.line);
			return;
		}
	}
}

static void check_selectors(struct loader *l, const struct policy_class *classes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < classes[i].n_selectors; j++)
			check_selector(l, classes, i, j);
}

/* --- disks --- */

static bool leaves_directory(const char *image)
{
	if (image[0] == '/')
		return true;
	for (const char *part = image; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return true;
	return false;
}

static void check_disk_size(struct loader *l, const struct policy_vm *vm, const struct policy_disk *d,
			    const struct policy_pool *pool)
{
	struct policy_at at = loader_at(l, d->at, "vms/%s/disks/%s/size", vm->name, d->name);

	if (d->size_bytes % 512)
		loader_error(l, at, "size: a disk is a multiple of 512 bytes");
	if (d->size_bytes == 0 && pool->type != POLICY_POOL_FILE)
		loader_error(l, at, "disk '%s/%s' needs a size, as every disk of a %s pool", vm->name, d->name,
			     policy_pool_type_name(pool->type));
}

static void check_disk(struct loader *l, const struct policy_vm *vm, const struct policy_disk *d)
{
	const struct policy *p = l->policy;
	bool pool_known = d->pool >= 0 && p->pools[d->pool].type != POLICY_POOL_TYPES;
	const struct policy_pool *pool = pool_known ? &p->pools[d->pool] : NULL;
	struct policy_at image_at = loader_at(l, d->at, "vms/%s/disks/%s/image", vm->name, d->name);
	struct policy_at workers_at = loader_at(l, d->at, "vms/%s/disks/%s/workers", vm->name, d->name);

	if (pool && pool->type != POLICY_POOL_FILE && d->image)
		loader_error(l, image_at, "a disk of a %s pool has no image", policy_pool_type_name(pool->type));
	else if (d->image && leaves_directory(d->image))
		loader_error(l, image_at, "image: '%s' leaves the pool's directory; it is a path beneath it", d->image);
	if (pool)
		check_disk_size(l, vm, d, pool);
	if (d->workers > d->queues)
		loader_warning(l, workers_at, "%" PRIu64 " workers for %" PRIu64 " queues: %" PRIu64 " would have none",
			       d->workers, d->queues, d->workers - d->queues);
	else if (p->daemon.workers.n && d->workers > p->daemon.workers.n)
		loader_warning(l, workers_at, "%" PRIu64 " workers, but the daemon has %zu", d->workers,
			       p->daemon.workers.n);
}

/* --- sockets, images and addresses used twice --- */

struct use {
	const char *key; /* what must be unique */
	const char *vm, *name;
	const char *pool;
	struct policy_at at;
	bool shareable;
};

static int compare_uses(const void *pa, const void *pb)
{
	const struct use *a = pa, *b = pb;
	int by_pool = strcmp(a->pool, b->pool), by_key = strcmp(a->key, b->key);

	if (by_pool || by_key)
		return by_pool ? by_pool : by_key;
	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	return a->at.column < b->at.column ? -1 : a->at.column > b->at.column;
}

static void check_uses(struct loader *l, struct use *u, size_t n, enum policy_severity severity, const char *what)
{
	qsort(u, n, sizeof(*u), compare_uses);
	for (size_t i = 1; i < n; i++)
		if (strcmp(u[i].key, u[i - 1].key) == 0 && strcmp(u[i].pool, u[i - 1].pool) == 0 &&
		    !(u[i].shareable && u[i - 1].shareable))
			loader_report(l, severity, u[i].at, "%s '%s' is used by %s%s%s already", what, u[i].key,
				      u[i - 1].vm, *u[i - 1].name ? "/" : "", u[i - 1].name);
}

static size_t count_devices(const struct policy *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_vms; i++)
		n += p->vms[i].n_disks + p->vms[i].n_nics;
	return n;
}

static void add_socket(struct loader *l, struct use *u, const char *socket, const char *vm, const char *name,
		       struct policy_at at)
{
	*u = (struct use){ .key = socket ? socket : "", .pool = "", .vm = vm, .name = name, .at = at };
	if (u->key[0] != '/')
		loader_error(l, at, "socket: '%s' is not an absolute path", u->key);
	else if (strlen(u->key) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		loader_error(l, at, "socket: '%s' is longer than the %zu characters a socket's path can have", u->key,
			     sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
}

static void check_sockets(struct loader *l, struct use *u)
{
	const struct policy *p = l->policy;
	size_t n = 0;

	add_socket(l, &u[n++], p->daemon.control, "the daemon's control", "",
		   loader_at(l, p->daemon.at, "daemon/control"));
	for (size_t i = 0; i < p->n_vms; i++) {
		const struct policy_vm *vm = &p->vms[i];

		for (size_t j = 0; j < vm->n_disks; j++)
			add_socket(
				l, &u[n++], vm->disks[j].socket, vm->name, vm->disks[j].name,
				loader_at(l, vm->disks[j].at, "vms/%s/disks/%s/socket", vm->name, vm->disks[j].name));
		for (size_t j = 0; j < vm->n_nics; j++)
			add_socket(l, &u[n++], vm->nics[j].socket, vm->name, vm->nics[j].name,
				   loader_at(l, vm->nics[j].at, "vms/%s/nics/%s/socket", vm->name, vm->nics[j].name));
	}
	check_uses(l, u, n, POLICY_ERROR, "socket");
}

/* Two VMs may take turns with one image, the lock sees to it; more often it is a slip. */
static void check_images(struct loader *l, struct use *u)
{
	const struct policy *p = l->policy;
	size_t n = 0;

	for (size_t i = 0; i < p->n_vms; i++) {
		const struct policy_vm *vm = &p->vms[i];

		for (size_t j = 0; j < vm->n_disks; j++) {
			const struct policy_disk *d = &vm->disks[j];

			if (!d->image || d->pool < 0)
				continue;
			u[n++] = (struct use){ .key = d->image, .pool = d->pool_name, .vm = vm->name, .name = d->name,
					       .shareable = d->read_only,
					       .at = loader_at(l, d->at, "vms/%s/disks/%s/image", vm->name, d->name) };
		}
	}
	check_uses(l, u, n, POLICY_WARNING, "image");
}

static void check_macs(struct loader *l, struct use *u)
{
	const struct policy *p = l->policy;
	char(*text)[18] = calloc(count_devices(p) + 1, sizeof(*text));
	size_t n = 0;

	if (!text) {
		l->no_memory = true;
		return;
	}
	for (size_t i = 0; i < p->n_vms; i++) {
		const struct policy_vm *vm = &p->vms[i];

		for (size_t j = 0; j < vm->n_nics; j++) {
			const uint8_t *m = vm->nics[j].mac;

			snprintf(text[n], sizeof(*text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
				 m[5]);
			u[n] = (struct use){ .key = text[n], .pool = "", .vm = vm->name, .name = vm->nics[j].name,
					     .at = loader_at(l, vm->nics[j].at, "vms/%s/nics/%s/mac", vm->name,
							     vm->nics[j].name) };
			n++;
		}
	}
	check_uses(l, u, n, POLICY_ERROR, "mac");
	free(text);
}

/* --- VMs, uplinks --- */

static void check_vm(struct loader *l, const struct policy_vm *vm)
{
	char whose[POLICY_NAME_MAX + 32] = "";

	if (!loader_given(l, "vms/%s/reservation", vm->name))
		snprintf(whose, sizeof(whose), "all classes of VM '%s' together: ", vm->name);
	check_promise(l, &vm->promise, loader_at(l, vm->at, "vms/%s/reservation", vm->name), whose);
	if (vm->n_classes > POLICY_CLASSES_MAX)
		loader_error(l, vm->at, "VM '%s' has %zu classes; at most %d", vm->name, vm->n_classes,
			     POLICY_CLASSES_MAX);
	check_selectors(l, vm->classes, vm->n_classes);
	for (size_t i = 0; i < vm->n_classes; i++)
		check_promise(l, &vm->classes[i].promise, class_reservation_at(l, vm, &vm->classes[i]), "");
	for (size_t i = 0; i < vm->n_disks; i++)
		check_disk(l, vm, &vm->disks[i]);
	for (size_t i = 0; i < vm->n_nics; i++)
		check_promise(l, &vm->nics[i].promise, vm->nics[i].at, "");
	if (vm->n_nics > 0)
		loader_warning(l, vm->nics[0].at, "VM '%s' has NICs: they are checked, but fairleadd serves disks only",
			       vm->name);
}

static void check_uplink(struct loader *l, const struct policy_uplink *u)
{
	if (!loader_given(l, "uplinks/%s/type", u->name))
		loader_error(l, u->at, "uplink '%s' needs a type: none, tap, packet or xdp", u->name);
	else if (u->type != POLICY_UPLINK_NONE && !u->device)
		loader_error(l, u->at, "uplink '%s' needs a device", u->name);
}

void loader_check(struct loader *l)
{
	const struct policy *p = l->policy;
	struct use *uses = calloc(count_devices(p) + 1, sizeof(*uses));

	if (!uses) {
		l->no_memory = true;
		return;
	}
	for (size_t i = 0; i < p->n_pools; i++)
		check_pool(l, &p->pools[i]);
	for (size_t i = 0; i < p->n_vms; i++)
		check_vm(l, &p->vms[i]);
	/* Every VM sees its own choice of them; without VMs, all there are. */
	if (p->n_vms == 0)
		check_selectors(l, p->classes, p->n_classes);
	for (size_t i = 0; i < p->n_classes; i++)
		check_promise(l, &p->classes[i].promise,
			      loader_at(l, p->classes[i].at, "classes/%s/reservation", p->classes[i].name), "");
	for (size_t i = 0; i < p->n_uplinks; i++)
		check_uplink(l, &p->uplinks[i]);
	loader_check_cosched(l);
	check_sockets(l, uses);
	check_images(l, uses);
	check_macs(l, uses);
	free(uses);
}
