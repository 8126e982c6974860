/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk.*: changes that last, through the overlay; and letting go of what is held.
 */
#include "ctl/commands.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

/* A copy of the overlay to change; NULL: the call has been answered. */
static struct policy_overlay *begin(struct ctl_context *c, struct ctl_call *call)
{
	struct policy_overlay *o = c->overlay ? policy_overlay_copy(c->overlay) : NULL;

	if (!o)
		ctl_fail(call, CTL_ERROR_FAILED, "start fairleadd with --config", "this daemon has no policy that can change");
	return o;
}

static const char *text(json_t *params, const char *key)
{
	return json_string_value(json_object_get(params, key));
}

static void add(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	struct policy_overlay *o;
	json_t *disk;
	int err;

	if (change_must_wait(c, call, params, add))
		return;
	if (host_disk_find(c->host, text(params, "vm"), text(params, "name"))) {
		ctl_fail(call, CTL_ERROR_EXISTS, NULL, "VM %s has a disk %s already", text(params, "vm"), text(params, "name"));
		return;
	}
	o = begin(c, call);
	if (!o)
		return;
	disk = json_copy(params);
	json_object_del(disk, "vm");
	err = policy_overlay_disk_add(o, text(params, "vm"), disk);
	json_decref(disk);
	if (err < 0) {
		policy_overlay_free(o);
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "disk not added: %s", strerror(-err));
		return;
	}
	change_begin(c, call, NULL, 0, o);
}

static bool find(struct ctl_context *c, struct ctl_call *call, json_t *params)
{
	if (host_disk_find(c->host, text(params, "vm"), text(params, "name")))
		return true;
	ctl_fail(call, CTL_ERROR_NOT_FOUND, "`fairlead vm list' shows all disks", "VM %s has no disk %s", text(params, "vm"),
		 text(params, "name"));
	return false;
}

/* True if a file of the administrator has it, too, so that leaving it out of the overlay would not remove it. */
static bool written_elsewhere(const struct ctl_context *c, json_t *params)
{
	const struct policy *p = c->host->policy;
	int v = policy_vm_find(p, text(params, "vm")), d = v < 0 ? -1 : policy_disk_find(&p->vms[v], text(params, "name"));
	const char *file = d < 0 ? NULL : p->vms[v].disks[d].at.file;

	return file && strcmp(file, c->overlay_path) != 0;
}

static void change(struct ctl_context *c, struct ctl_call *call, struct policy_overlay *o, int err)
{
	if (err == 0) {
		change_begin(c, call, NULL, 0, o);
		return;
	}
	policy_overlay_free(o);
	ctl_fail(call, CTL_ERROR_FAILED, NULL, "%s", strerror(-err));
}

static void remove_disk(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	struct policy_overlay *o;

	if (change_must_wait(c, call, params, remove_disk))
		return;
	o = find(c, call, params) ? begin(c, call) : NULL;
	if (o)
		change(c, call, o, policy_overlay_disk_remove(o, text(params, "vm"), text(params, "name"),
							      written_elsewhere(c, params)));
}

static void resize(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	json_int_t size = json_integer_value(json_object_get(params, "size_bytes"));
	struct policy_overlay *o;

	if (change_must_wait(c, call, params, resize))
		return;
	if (size <= 0 || size % STORE_SECTOR) {
		ctl_fail(call, CTL_ERROR_PARAMS, NULL, "size_bytes: a positive multiple of %u is wanted", STORE_SECTOR);
		return;
	}
	o = find(c, call, params) ? begin(c, call) : NULL;
	if (o)
		change(c, call, o,
		       policy_overlay_disk_resize(o, text(params, "vm"), text(params, "name"), (uint64_t)size));
}

#define DRAIN_SECONDS 10
#define DRAIN_SECONDS_MOST 600

static void drained(void *arg, int result, uint32_t value)
{
	struct ctl_call *call = arg;

	(void)value;
	if (result < 0)
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "%s", strerror(-result));
	else
		ctl_reply(call, json_object());
}

static void drain(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	json_t *given = json_object_get(params, "seconds");
	json_int_t seconds = given ? json_integer_value(given) : DRAIN_SECONDS;

	if (seconds < 0 || seconds > DRAIN_SECONDS_MOST)
		ctl_fail(call, CTL_ERROR_PARAMS, NULL, "seconds: 0 to %u", DRAIN_SECONDS_MOST);
	else if (find(c, call, params))
		blk_disk_drain(host_disk_find(c->host, text(params, "vm"), text(params, "name"))->blk,
			       (uint64_t)seconds * NSEC_PER_SEC, (struct vhost_done){ drained, call });
}

static const struct ctl_param disk_to_add[] = {
	{ "vm", CTL_STRING, true, "the VM; made if there is none of that name" },
	{ "name", CTL_STRING, true, "the disk's name" },
	{ "pool", CTL_STRING, true, "the pool" },
	{ "image", CTL_STRING, false, "file pools: path beneath the pool's directory" },
	{ "size", CTL_ANY, false, "as in the policy: \"20GiB\"" },
	{ "queues", CTL_INTEGER, false, "as in the policy" },
	{ "workers", CTL_ANY, false, "as in the policy" },
	{ "ioprio", CTL_STRING, false, "as in the policy" },
	{ "read_only", CTL_BOOLEAN, false, "as in the policy" },
	{ "socket", CTL_STRING, false, "as in the policy" },
	{ "connect", CTL_BOOLEAN, false, "as in the policy" },
	{ 0 },
};

static const struct ctl_param which_disk[] = {
	{ "vm", CTL_STRING, true, "the VM" },
	{ "name", CTL_STRING, true, "the disk" },
	{ 0 },
};

static const struct ctl_param disk_to_resize[] = {
	{ "vm", CTL_STRING, true, "the VM" },
	{ "name", CTL_STRING, true, "the disk" },
	{ "size_bytes", CTL_INTEGER, true, "its new size" },
	{ 0 },
};

static const struct ctl_param disk_to_drain[] = {
	{ "vm", CTL_STRING, true, "the VM" },
	{ "name", CTL_STRING, true, "the disk" },
	{ "seconds", CTL_INTEGER, false, "for how long nothing more is held; 10 without it" },
	{ 0 },
};

const struct ctl_method cmd_disk[] = {
	{ "disk.add", disk_to_add, add, "attach a disk, for good" },
	{ "disk.remove", which_disk, remove_disk, "detach a disk, for good; its image stays" },
	{ "disk.resize", disk_to_resize, resize, "change a disk's size; a running guest sees it" },
	{ "disk.drain", disk_to_drain, drain, "let go of what promises hold back of a disk, as a debt: before it is unplugged" },
	{ 0 },
};
