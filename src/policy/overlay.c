/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overlay is a JSON tree in the shape of the policy. Lists of objects stay lists (`disks`, a VM's `classes`), their
 * members found by name.
 */
#include "policy/overlay.h"

#include "base/file.h"
#include "policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char heading[] =
	"# Written by fairleadd: what was changed at run time. It is read after all other files, and wins.\n";

struct policy_overlay {
	json_t *root;
};

/* --- life --- */

static struct policy_overlay *overlay_create(json_t *root)
{
	struct policy_overlay *o = root ? calloc(1, sizeof(*o)) : NULL;

	if (o)
		o->root = root;
	else
		json_decref(root);
	return o;
}

/* jansson does not know comments; the heading is the only one. NULL: it is no map. */
static json_t *load_tree(const char *text, size_t length)
{
	const char *end = text + length;
	json_t *root;

	while (text < end && *text == '#') {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));

		text = line_end ? line_end + 1 : end;
	}
	if (text == end)
		return json_object();
	root = json_loadb(text, (size_t)(end - text), JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(root))
		return root;
	json_decref(root);
	return NULL;
}

char *policy_overlay_path(const char *main_file)
{
	const char *slash = strrchr(main_file, '/');
	char *path;

	/* As policy_sources_find() names it. */
	if (asprintf(&path, "%.*sconf.d/%s", slash ? (int)(slash - main_file) + 1 : 0, main_file, POLICY_OVERLAY_NAME) < 0)
		return NULL;
	return path;
}

int policy_overlay_load(const char *path, struct policy_overlay **ret)
{
	cleanup_free char *text = NULL;
	struct policy_overlay *o;
	size_t length = 0;
	json_t *root;
	int r = file_read_plain(path, FILE_BYTES_MAX, &text, &length);

	if (r < 0 && r != -ENOENT)
		return r;
	root = load_tree(text ? text : "", length);
	if (!root)
		return -EINVAL;
	o = overlay_create(root);
	if (!o)
		return -ENOMEM;
	*ret = o;
	return 0;
}

struct policy_overlay *policy_overlay_copy(const struct policy_overlay *o)
{
	return overlay_create(json_deep_copy(o->root));
}

void policy_overlay_free(struct policy_overlay *o)
{
	if (!o)
		return;
	json_decref(o->root);
	free(o);
}

/* --- finding and making what is on the way --- */

/* The map of that name, made if `make`; NULL. Borrowed. */
static json_t *child_map(json_t *map, const char *key, bool make)
{
	json_t *child = json_object_get(map, key);

	if (!child && make && json_object_set_new(map, key, json_object()) == 0)
		child = json_object_get(map, key);
	return json_is_object(child) ? child : NULL;
}

static json_t *vm_map(struct policy_overlay *o, const char *vm, bool make)
{
	json_t *vms = child_map(o->root, "vms", make);

	return vms ? child_map(vms, vm, make) : NULL;
}

/* Index in the list `key` of `map` of the object with that name; -1. */
static int list_find(const json_t *map, const char *key, const char *name)
{
	json_t *list = json_object_get(map, key), *item;
	size_t i;

	json_array_foreach (list, i, item) {
		const char *has = json_string_value(json_object_get(item, "name"));

		if (has && strcmp(has, name) == 0)
			return (int)i;
	}
	return -1;
}

/* The object of that name in a list, made if it is new. Borrowed. */
static json_t *list_item(json_t *map, const char *key, const char *name)
{
	int i = list_find(map, key, name);
	json_t *list;

	if (i >= 0)
		return json_array_get(json_object_get(map, key), (size_t)i);
	if (!json_object_get(map, key) && json_object_set_new(map, key, json_array()) < 0)
		return NULL;
	list = json_object_get(map, key);
	if (json_array_append_new(list, json_pack("{s:s}", "name", name)) < 0)
		return NULL;
	return json_array_get(list, json_array_size(list) - 1);
}

static void list_remove(json_t *map, const char *key, const char *name)
{
	json_t *list = json_object_get(map, key);
	int i = list_find(map, key, name);

	if (i >= 0)
		json_array_remove(list, (size_t)i);
	if (json_array_size(list) == 0)
		json_object_del(map, key);
}

static void remove_if_empty(json_t *map, const char *key)
{
	if (json_object_size(json_object_get(map, key)) == 0)
		json_object_del(map, key);
}

static void tidy_vm(struct policy_overlay *o, const char *vm)
{
	json_t *vms = json_object_get(o->root, "vms");

	if (vms)
		remove_if_empty(vms, vm);
	remove_if_empty(o->root, "vms");
}

/* --- disks --- */

int policy_overlay_disk_add(struct policy_overlay *o, const char *vm, json_t *disk)
{
	const char *name = json_string_value(json_object_get(disk, "name"));
	json_t *map = vm_map(o, vm, true), *item;

	if (!name)
		return -EINVAL;
	item = map ? list_item(map, "disks", name) : NULL;
	if (!item)
		return -ENOMEM;
	json_object_clear(item);
	return json_object_update(item, disk) < 0 ? -ENOMEM : 0;
}

int policy_overlay_disk_remove(struct policy_overlay *o, const char *vm, const char *name, bool elsewhere)
{
	json_t *map = vm_map(o, vm, elsewhere), *item;

	if (!elsewhere) {
		if (map)
			list_remove(map, "disks", name);
		tidy_vm(o, vm);
		return 0;
	}
	item = map ? list_item(map, "disks", name) : NULL;
	if (!item || json_object_clear(item) < 0 || json_object_set_new(item, "name", json_string(name)) < 0 ||
	    json_object_set_new(item, "removed", json_true()) < 0)
		return -ENOMEM;
	return 0;
}

int policy_overlay_disk_resize(struct policy_overlay *o, const char *vm, const char *name, uint64_t size_bytes)
{
	json_t *map = vm_map(o, vm, true), *item = map ? list_item(map, "disks", name) : NULL;

	if (!item || json_object_set_new(item, "size", json_integer((json_int_t)size_bytes)) < 0)
		return -ENOMEM;
	return 0;
}

/* --- promises --- */

static const char *const promise_keys[] = { "reservation", "limit", "burst", "shares", "latency", "cpu" };

struct target {
	char vm[POLICY_NAME_MAX], class[POLICY_NAME_MAX]; /* "": none */
};

static int parse_target(const char *text, struct target *ret)
{
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text), m = slash ? strlen(slash + 1) : 0;

	if (n >= sizeof(ret->vm) || m >= sizeof(ret->class) || (slash && m == 0) || (!slash && n == 0))
		return -EINVAL;
	*ret = (struct target){ 0 };
	memcpy(ret->vm, text, n);
	if (slash)
		memcpy(ret->class, slash + 1, m);
	return 0;
}

static json_t *target_map(struct policy_overlay *o, const struct target *t, bool make)
{
	json_t *map;

	if (!t->vm[0]) {
		map = child_map(o->root, "classes", make);
		return map ? child_map(map, t->class, make) : NULL;
	}
	map = vm_map(o, t->vm, make);
	if (!map || !t->class[0])
		return map;
	if (!make && list_find(map, "classes", t->class) < 0)
		return NULL;
	return list_item(map, "classes", t->class);
}

/* Reservation, limit, burst and latency are maps of their own: iops given alone leaves bandwidth as it is. */
static int set_key(json_t *map, const char *key, json_t *value)
{
	json_t *has = json_object_get(map, key);

	if (json_is_object(has) && json_is_object(value))
		return json_object_update(has, value);
	/* A copy: later changes here must not reach the caller's. */
	return json_object_set_new(map, key, json_deep_copy(value));
}

int policy_overlay_promise_set(struct policy_overlay *o, const char *target, json_t *promise)
{
	struct target t;
	json_t *map, *value;
	const char *key;

	if (parse_target(target, &t) < 0)
		return -EINVAL;
	map = target_map(o, &t, true);
	if (!map)
		return -ENOMEM;
	json_object_foreach (promise, key, value) {
		bool known = false;

		for (size_t i = 0; i < ARRAY_SIZE(promise_keys); i++)
			known |= strcmp(key, promise_keys[i]) == 0;
		if (!known)
			return -ENOKEY;
		if (set_key(map, key, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

int policy_overlay_promise_unset(struct policy_overlay *o, const char *target)
{
	struct target t;
	json_t *map;
	bool any = false;

	if (parse_target(target, &t) < 0)
		return -EINVAL;
	map = target_map(o, &t, false);
	for (size_t i = 0; map && i < ARRAY_SIZE(promise_keys); i++)
		any |= json_object_del(map, promise_keys[i]) == 0;
	if (!any)
		return -ENOENT;
	if (!t.vm[0]) {
		remove_if_empty(json_object_get(o->root, "classes"), t.class);
		remove_if_empty(o->root, "classes");
		return 0;
	}
	if (t.class[0] && json_object_size(map) == 1)
		list_remove(vm_map(o, t.vm, false), "classes", t.class);
	tidy_vm(o, t.vm);
	return 0;
}

/* --- writing --- */

char *policy_overlay_text(const struct policy_overlay *o)
{
	char *tree = json_dumps(o->root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)), *text = NULL;

	if (tree && asprintf(&text, "%s%s\n", heading, tree) < 0)
		text = NULL;
	free(tree);
	return text;
}

static int write_all(int fd, const char *text)
{
	for (size_t left = strlen(text); left > 0;) {
		ssize_t n = write(fd, text, left);

		if (n < 0)
			return -errno;
		text += n;
		left -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The rename is safe only once the folder itself is on disk. */
static int sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	cleanup_close int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return folder ? -errno : -ENOMEM;
	return fsync(fd) < 0 ? -errno : 0;
}

int policy_overlay_write(const struct policy_overlay *o, const char *path)
{
	cleanup_free char *text = policy_overlay_text(o), *temporary = NULL;
	cleanup_close int fd = -1;
	int r;

	if (!text || asprintf(&temporary, "%s.new", path) < 0)
		return -ENOMEM;
	/* One left behind by a kill is simply written over; its name does not end in .yaml, so nobody reads it. */
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temporary);
		return r;
	}
	return sync_folder(path);
}
