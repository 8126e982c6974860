/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Co-scheduling: can the kernel do it, are the CPUs left to it, are the VMs found.
 */
#include "cli/doctor.h"

#include "base/cpus.h"
#include "base/util.h"
#include "cosched/preflight.h"
#include "cosched/taken.h"
#include "ctl/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOREIGN_MOST_PERCENT 5.0

/* One that we may not speak with is running all the same. */
static bool is_absent(int err)
{
	return err == -ECONNREFUSED || err == -ENOENT;
}

static json_t *ask_status(const struct cli *c, bool *ret_absent)
{
	struct cli to = *c;
	struct ctl_client *client;
	json_t *result = NULL, *error = NULL;
	int err;

	cli_use_cosched(&to);
	err = c->control_given ? -ENOENT : ctl_client_connect(to.control, 30000, &client);
	*ret_absent = is_absent(err);
	if (err < 0)
		return NULL;
	if (ctl_client_call(client, "cosched.status", NULL, &result, &error) < 0)
		result = NULL;
	json_decref(error);
	ctl_client_close(client);
	return result;
}

static void look_at_kernel(struct doctor *d, const json_t *status, bool absent)
{
	char why[COSCHED_WHY_MAX];

	if (json_is_true(json_object_get(status, "loaded")))
		return;
	if (preflight(why) < 0)
		doctor_add(d, DOCTOR_ERROR, "co-scheduling", "see fairlead-cosched(8), \"Requirements\"", "%s", why);
	else if (absent)
		doctor_add(d, DOCTOR_WARNING, "co-scheduling",
			   "systemctl start fairlead-cosched, and see journalctl -u fairlead-cosched if it does not stay up",
			   "the policy has it, but fairlead-cosched is not running");
}

static void look_at_cpus(struct doctor *d)
{
	const struct policy_cpus *cpus = &d->policy->cosched.cpus, *workers = &d->policy->daemon.workers;
	cleanup_free char *online = doctor_read("/sys/devices/system/cpu/online");
	char name[32];

	for (size_t i = 0; i < cpus->n; i++) {
		snprintf(name, sizeof(name), "CPU %u", cpus->cpu[i]);
		if (online && *online && !doctor_in_list(online, cpus->cpu[i]))
			doctor_add(d, DOCTOR_ERROR, name, "choose cosched.cpus among the online CPUs",
				   "it is to be co-scheduled, but only %s are online", online);
		for (size_t j = 0; j < workers->n; j++)
			if (workers->cpu[j] == cpus->cpu[i])
				doctor_add(d, DOCTOR_WARNING, name, "give workers CPUs that are not in cosched.cpus",
					   "it is co-scheduled, and a worker polls on it, which comes before all VMs");
	}
}

static void look_at_members(struct doctor *d, const json_t *status)
{
	double foreign = cli_number(status, "foreign_percent");
	json_t *vm;
	size_t i;

	json_array_foreach (json_object_get(status, "vms"), i, vm)
		if (json_array_size(json_object_get(vm, "members")) == 0)
			doctor_add(d, DOCTOR_NOTE, cli_text(vm, "name"), "see fairlead cosched status",
				   "none of its threads is found: %s", cli_text(vm, "why"));
	if (foreign > FOREIGN_MOST_PERCENT && d->policy->cosched.mode == POLICY_COSCHED_PARTIAL)
		doctor_add(d, DOCTOR_WARNING, "cosched.cpus", "keep others off them (AllowedCPUs=, cpusets), or use mode all",
			   "others than members use %.0f %% of these CPUs, and come before them", foreign);
}

/* Of a run that was killed. What they are when one runs is no finding. */
static void look_at_taken(struct doctor *d, const struct cli *c)
{
	struct cli to = *c;
	cleanup_free char *path = NULL;
	struct ctl_client *client;
	const char *slash;
	unsigned n;
	int err;

	cli_use_cosched(&to);
	slash = strrchr(to.control, '/');
	if (asprintf(&path, "%.*scosched.threads", slash ? (int)(slash + 1 - to.control) : 0, to.control) < 0) {
		path = NULL;
		return;
	}
	n = taken_count(path, "/proc");
	if (n == 0)
		return;
	err = ctl_client_connect(to.control, 30000, &client);
	if (err == 0)
		ctl_client_close(client);
	if (!is_absent(err))
		return;
	doctor_add(d, DOCTOR_WARNING, "co-scheduling", "start fairlead-cosched, which gives them back; or move them with taskset(1)",
		   "fairlead-cosched was killed, and %u threads may still run on its CPUs only (%s)", n, path);
}

void doctor_cosched(struct doctor *d, const struct cli *c)
{
	json_t *status;
	bool absent;

	look_at_taken(d, c);
	if (!d->policy || d->policy->cosched.mode == POLICY_COSCHED_OFF)
		return;
	status = ask_status(c, &absent);
	look_at_kernel(d, status, absent);
	look_at_cpus(d);
	look_at_members(d, status);
	json_decref(status);
}
