/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-cosched: loads the co-scheduler, follows VMs' threads, serves until SIGTERM. Wiring only.
 */
#include "base/clock.h"
#include "base/log.h"
#include "ctl/cosched.h"
#include "daemon/signals.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

const char *argp_program_version = "fairlead-cosched " FAIRLEAD_VERSION;
const char *argp_program_bug_address;

struct daemon {
	sd_event *event;
	const char *config, *control;
	struct cohost_options options;
	struct cosched_context ctl;
	bool debug;
};

/* --- command line --- */

enum { KEY_CONTROL = 256, KEY_REHEARSE, KEY_DEBUG };

static const struct argp_option table[] = {
	{ "config", 'c', "FILE", 0, "Schedule by this policy (default /etc/fairlead/fairlead.yaml)", 1 },
	{ "control", KEY_CONTROL, "PATH", 0, "Control socket (default cosched.sock beside fairleadd's)", 1 },
	{ "rehearse", KEY_REHEARSE, NULL, 0, "Find VMs' threads and tell what would be scheduled; load and change nothing", 2 },
	{ "debug", KEY_DEBUG, NULL, 0, "Log more", 2 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct daemon *d = state->input;

	switch (key) {
	case 'c':
		d->config = arg;
		return 0;
	case KEY_CONTROL:
		d->control = arg;
		return 0;
	case KEY_REHEARSE:
		d->options.rehearse = true;
		return 0;
	case KEY_DEBUG:
		d->debug = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "`%s': there are options only", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = table,
	.parser = parse,
	.doc = "Schedules virtual machines that work together at the same time (sched_ext).",
};

/* --- what happens --- */

static void on_told(void *arg, const char *event, const char *name, const char *detail)
{
	struct daemon *d = arg;
	bool usual = strcmp(event, "cosched.joined") == 0 || strcmp(event, "cosched.left") == 0;

	log_line(usual ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "%s%s%s: %s", name, *name ? ": " : "", strchr(event, '.') + 1, detail);
	if (d->ctl.server)
		ctl_server_publish(d->ctl.server, event, json_pack("{s:s, s:s}", "name", name, "detail", detail));
}

/* Nothing is scheduled by us any more, so there is nothing to stay for; the service manager starts us anew. */
static void on_ended(void *arg, const char *why)
{
	struct daemon *d = arg;

	log_err("the kernel has ended the scheduler: %s; all threads are scheduled as before", why);
	ctl_server_publish(d->ctl.server, "cosched.ended", json_pack("{s:s, s:s}", "name", "", "detail", why));
	sd_notify(0, "STOPPING=1");
	sd_event_exit(d->event, EXIT_FAILURE);
}

static int on_end(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	(void)s;
	(void)si;
	sd_notify(0, "STOPPING=1");
	return sd_event_exit(d->event, EX_OK);
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;
	struct cohost_error error;

	(void)s;
	(void)si;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NSEC_PER_USEC));
	if (cosched_reload(&d->ctl, &error) < 0)
		log_err("policy not applied: %s", error.text);
	else
		log_notice("policy applied");
	sd_notify(0, "READY=1");
	return 0;
}

/* --- start --- */

static int begin(struct daemon *d)
{
	struct cohost_events events = { .told = on_told, .ended = on_ended, .arg = d };
	int err = sd_event_new(&d->event);

	if (err >= 0)
		err = signals_listen(d->event, on_end, on_reload, d);
	if (err >= 0)
		err = ctl_server_create(d->event, &d->ctl.server);
	if (err >= 0)
		err = cohost_create(d->event, &d->options, &events, &d->ctl.host);
	if (err >= 0)
		err = cosched_commands_init(&d->ctl, d->config);
	if (err < 0)
		log_err("start: %s", strerror(-err));
	return err < 0 ? EX_OSERR : EX_OK;
}

/* What helps, when the control socket cannot be made. */
static const char *socket_advice(int err)
{
	if (err == -EADDRINUSE)
		return ": another fairlead-cosched listens there; give --control another path";
	if (err == -ENOENT)
		return ": make its folder, or give --control another path";
	return "";
}

/* Bound last: when it exists, the scheduler runs. */
static int serve(struct daemon *d)
{
	const struct policy_daemon *p;
	struct cohost_error error;
	char *path;
	int err = cosched_reload(&d->ctl, &error);

	if (err < 0) {
		log_err("%s", error.text);
		return err == -EINVAL || err == -ENOENT ? EX_CONFIG : EX_UNAVAILABLE;
	}
	p = &d->ctl.host->policy->daemon;
	path = d->control ? strdup(d->control) : cohost_beside(p->control, "cosched.sock");
	err = path ? ctl_server_listen(d->ctl.server, path, p->socket_mode, p->socket_group) : -ENOMEM;
	if (err < 0)
		log_err("control socket %s: %s%s", path ? path : "", strerror(-err), socket_advice(err));
	free(path);
	return err < 0 ? EX_CONFIG : EX_OK;
}

static int run(struct daemon *d)
{
	int err;

	log_notice("%s, algorithm %s, on %zu CPUs", d->ctl.host->sched ? "scheduling" : d->options.rehearse ?
		   "rehearsing" : "cosched.mode is off, waiting for a policy that has one",
		   policy_cosched_algorithm_name(d->ctl.host->policy->cosched.algorithm), d->ctl.host->n_cpus);
	sd_notify(0, "READY=1");
	err = sd_event_loop(d->event);
	return err < 0 ? EX_OSERR : err;
}

int main(int argc, char **argv)
{
	struct daemon d = { .config = "/etc/fairlead/fairlead.yaml" };
	int status;

	argp_err_exit_status = EX_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &d);
	if (d.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	d.ctl.started_ns = clock_now_ns();
	status = begin(&d);
	if (status == EX_OK)
		status = serve(&d);
	if (status == EX_OK)
		status = run(&d);
	cosched_commands_fini(&d.ctl);
	cohost_destroy(d.ctl.host);
	ctl_server_destroy(d.ctl.server);
	sd_event_unref(d.event);
	return status;
}
