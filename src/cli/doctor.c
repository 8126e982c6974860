/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor: the classic mistakes with vhost-user and polling workers, found before they cost an evening.
 */
#include "cli/doctor.h"

#include "base/file.h"
#include "ctl/client.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

static const char *const severity_words[] = { "error", "warning", "note" };

void doctor_add(struct doctor *d, enum doctor_severity severity, const char *object, const char *fix,
		const char *format, ...)
{
	va_list args;
	char *problem;
	int n;

	va_start(args, format);
	n = vasprintf(&problem, format, args);
	va_end(args);
	if (n < 0)
		return;
	d->bad |= severity != DOCTOR_NOTE;
	json_array_append_new(d->findings, json_pack("{s:s, s:s, s:s, s:s}", "severity", severity_words[severity],
						     "object", object, "problem", problem, "fix", fix));
	free(problem);
}

char *doctor_read(const char *format, ...)
{
	char path[4096], *text;
	size_t size;
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	if (file_read(path, FILE_BYTES_MAX, &text, &size) < 0)
		return NULL;
	if (size && text[size - 1] == '\n')
		text[size - 1] = '\0';
	return text;
}

/* --- the daemon --- */

static json_t *ask(struct ctl_client *client, const char *method)
{
	json_t *result = NULL, *error = NULL;

	if (ctl_client_call(client, method, NULL, &result, &error) < 0)
		result = NULL;
	json_decref(error);
	return result;
}

static void look_at_daemon(struct doctor *d, const char *control)
{
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);
	struct ctl_client *client;
	int r = ctl_client_connect(control, 30000, &client);

	if (r == -EACCES) {
		doctor_add(d, DOCTOR_ERROR, control,
			   "become a member of the group that owns the socket (socket_group in the policy), "
			   "then log in again",
			   "this user may not talk to the daemon");
		return;
	}
	if (r < 0) {
		doctor_add(d, DOCTOR_ERROR, control,
			   "systemctl start fairleadd, and see journalctl -u fairleadd if it does not stay up",
			   "no daemon is running there: %s", strerror(-r));
		return;
	}
	if (getsockopt(ctl_client_fd(client), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
		d->daemon_pid = peer.pid;
	d->status = ask(client, "daemon.status");
	d->slo = ask(client, "slo.show");
	ctl_client_close(client);
	if (!d->status)
		doctor_add(d, DOCTOR_ERROR, control, "restart the daemon", "it does not answer");
}

/* --- the policy --- */

static struct policy *look_at_policy(struct doctor *d, const char *path, bool asked_for)
{
	struct policy_diagnostics diag = { 0 };
	struct policy_source *s;
	struct policy *p = NULL;
	size_t n;

	if (!asked_for && access(path, R_OK) < 0)
		return NULL;
	if (policy_sources_find(path, &s, &n) < 0)
		return NULL;
	if (policy_load_sources(s, n, &p, &diag) < 0) {
		char *first = diag.n ? policy_diagnostic_text(&diag.d[0]) : NULL;

		doctor_add(d, DOCTOR_ERROR, path, "see fairlead check for all of them", "%zu mistake%s in it: %s",
			   diag.n_errors, cli_plural(diag.n_errors), first ? first : "");
		free(first);
	}
	policy_sources_free(s, n);
	policy_diagnostics_fini(&diag);
	return p;
}

/* --- disks and promises as they run --- */

static void look_at_disks(struct doctor *d)
{
	json_t *vm, *disk;
	size_t i, j;

	json_array_foreach (json_object_get(d->status, "vms"), i, vm) {
		json_array_foreach (json_object_get(vm, "disks"), j, disk) {
			char name[80];

			snprintf(name, sizeof(name), "%s/%s", cli_text(vm, "name"), cli_text(disk, "name"));
			if (json_is_true(json_object_get(disk, "buffered")))
				doctor_add(d, DOCTOR_WARNING, name,
					   "move the image to a filesystem with O_DIRECT (ext4, xfs, a block device; "
					   "not tmpfs)",
					   "its image cannot be opened with O_DIRECT, so every request is copied "
					   "through the page cache");
			if (cli_text(disk, "fault")[0])
				doctor_add(d, DOCTOR_ERROR, name,
					   "reset the device or restart the guest; its driver broke the rules",
					   "a queue is broken: %s", cli_text(disk, "fault"));
		}
	}
}

static bool says_ring_full(const json_t *node)
{
	json_t *kinds = json_object_get(node, "verdicts"), *spans, *verdict;
	const char *kind, *span;

	json_object_foreach (kinds, kind, spans)
		json_object_foreach (spans, span, verdict)
			if (!json_is_true(json_object_get(verdict, "kept")) &&
			    strstr(cli_text(verdict, "reason"), "ring full"))
				return true;
	return false;
}

static void look_at_promises(struct doctor *d)
{
	json_t *pool, *node;
	size_t i, j;

	json_array_foreach (json_object_get(d->slo, "pools"), i, pool) {
		json_array_foreach (json_object_get(pool, "nodes"), j, node) {
			char name[80];

			snprintf(name, sizeof(name), "%s/%s", cli_text(node, "vm"), cli_text(node, "class"));
			if (says_ring_full(node))
				doctor_add(d, DOCTOR_WARNING, name,
					   "give the disk a queue for each vCPU and a larger queue-size, or let the "
					   "guest keep fewer requests outstanding",
					   "a full ring hides its requests: others of the VM hold every place in the "
					   "queue, so that these wait inside the guest");
		}
		if (json_is_true(json_object_get(pool, "latency_unreachable")))
			doctor_add(d, DOCTOR_WARNING, cli_text(pool, "pool"),
				   "see fairlead slo; raise the target or take load off",
				   "a latency target is out of the device's reach");
	}
}

/* --- result --- */

static void print_findings(const json_t *findings)
{
	json_t *f;
	size_t i;

	json_array_foreach (findings, i, f)
		printf("%s: %s: %s\n    %s\n", cli_text(f, "severity"), cli_text(f, "object"), cli_text(f, "problem"),
		       cli_text(f, "fix"));
	if (json_array_size(findings) == 0)
		puts("nothing found");
}

int cli_doctor(struct cli *c)
{
	struct doctor d = { .findings = json_array() };
	struct policy *p = look_at_policy(&d, c->argc ? c->argv[0] : CLI_CONFIG_DEFAULT, c->argc > 0);

	d.policy = p;
	look_at_daemon(&d, c->control);
	look_at_disks(&d);
	look_at_promises(&d);
	doctor_kernel(&d);
	doctor_limits(&d);
	doctor_workers(&d);
	doctor_pools(&d);
	doctor_apparmor(&d);
	doctor_guests(&d);
	doctor_cosched(&d, c);
	json_decref(d.status);
	json_decref(d.slo);
	policy_free(p);
	if (c->json) {
		cli_print_json(json_pack("{s:o}", "findings", d.findings));
	} else {
		print_findings(d.findings);
		json_decref(d.findings);
	}
	return d.bad ? CLI_FAILED : CLI_OK;
}
