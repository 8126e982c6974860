/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * slo.*: promises, what came of them, and changing them.
 */
#include "ctl/commands.h"
#include "ctl/slo_json.h"

#include <errno.h>
#include <string.h>

static void shown(void *arg, struct slo_snapshot *s)
{
	struct ctl_call *call = arg;

	if (!s) {
		ctl_fail(call, CTL_ERROR_INTERNAL, NULL, "out of memory");
		return;
	}
	ctl_reply(call, slo_json(s));
	slo_snapshot_free(s);
}

static void show(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;

	(void)params;
	slo_snapshot_take(c->host, shown, call);
}

/* Whether somebody is promised something under that name: what is set for nobody would only lie about in the file. */
static bool target_known(const struct policy *p, const char *target)
{
	const char *slash = strchr(target, '/');
	bool known = false;

	for (size_t i = 0; i < p->n_vms; i++) {
		const struct policy_vm *vm = &p->vms[i];
		size_t n = slash ? (size_t)(slash - target) : strlen(target);
		bool of_vm = n == 0 || (strlen(vm->name) == n && memcmp(vm->name, target, n) == 0);

		known |= of_vm && (!slash || policy_class_find(vm, slash + 1) >= 0);
	}
	for (size_t i = 0; i < p->n_classes; i++)
		known |= target[0] == '/' && strcmp(p->classes[i].name, target + 1) == 0;
	return known;
}

static void refuse(struct ctl_call *call, const char *target, int err)
{
	switch (err) {
	case -ENOENT:
		ctl_fail(call, CTL_ERROR_NOT_FOUND, NULL, "nothing was set for %s at run time", target);
		break;
	case -ENOKEY:
		ctl_fail(call, CTL_ERROR_PARAMS, "there are shares, reservation.*, limit.*, burst.* and latency.*",
			 "%s: no such key of a promise", target);
		break;
	case -EINVAL:
		ctl_fail(call, CTL_ERROR_PARAMS, "a target is VM, VM/CLASS, or /CLASS for every VM", "'%s' is no target", target);
		break;
	default:
		ctl_fail(call, CTL_ERROR_FAILED, NULL, "%s: %s", target, strerror(-err));
	}
}

static void change(struct ctl_context *c, struct ctl_call *call, json_t *params, bool set)
{
	const char *target = json_string_value(json_object_get(params, "target"));
	struct policy_overlay *o = c->overlay ? policy_overlay_copy(c->overlay) : NULL;
	int err;

	if (!o) {
		ctl_fail(call, CTL_ERROR_FAILED, "start fairleadd with --config", "this daemon has no policy that can change");
		return;
	}
	err = set ? policy_overlay_promise_set(o, target, json_object_get(params, "promise")) :
		    policy_overlay_promise_unset(o, target);
	if (err == 0 && (!set || target_known(c->host->policy, target))) {
		change_begin(c, call, NULL, 0, o);
		return;
	}
	policy_overlay_free(o);
	if (err < 0)
		refuse(call, target, err);
	else
		ctl_fail(call, CTL_ERROR_NOT_FOUND, "`fairlead slo' shows all VMs and classes", "there is no VM or class %s", target);
}

static void set(struct ctl_call *call, json_t *params, void *context)
{
	if (!change_must_wait(context, call, params, set))
		change(context, call, params, true);
}

static void unset(struct ctl_call *call, json_t *params, void *context)
{
	if (!change_must_wait(context, call, params, unset))
		change(context, call, params, false);
}

static const struct ctl_param set_params[] = {
	{ "target", CTL_STRING, true, "VM, VM/CLASS, or /CLASS for every VM" },
	{ "promise", CTL_OBJECT, true, "keys as in the policy: shares, reservation, limit, burst, latency" },
	{ 0 },
};

static const struct ctl_param unset_params[] = {
	{ "target", CTL_STRING, true, "VM, VM/CLASS, or /CLASS for every VM" },
	{ 0 },
};

const struct ctl_method cmd_slo[] = {
	{ "slo.show", NULL, show, "promises of VMs and classes, what they attained, and why not more" },
	{ "slo.set", set_params, set, "change promises, for good" },
	{ "slo.unset", unset_params, unset, "back to what the policy's files promise" },
	{ 0 },
};
