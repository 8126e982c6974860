/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairleadd: reads the policy, starts the host, serves until SIGTERM. Wiring only.
 */
#include "base/clock.h"
#include "base/log.h"
#include "ctl/commands.h"
#include "ctl/slo_watch.h"
#include "daemon/options.h"
#include "daemon/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

struct daemon {
	sd_event *event;
	struct options options;
	struct host *host;
	struct ctl_context ctl;
	int status;    /* to exit with */
	bool ending;
};

/* --- policy --- */

/* The files' texts go with the control socket's context, for changes to what runs. */
static int load(struct daemon *d, struct policy **ret)
{
	const struct options *o = &d->options;
	struct policy_diagnostics diag = { 0 };
	struct policy_source *s = NULL;
	size_t n = 0;
	int err;

	if (o->blk_file) {
		s = calloc(1, sizeof(*s));
		if (s) {
			n = 1;
			s->name = strdup("--blk-file");
			s->text = options_one_disk_policy(o);
		}
		err = !s || !s->name ? -ENOMEM : s->text ? 0 : -errno;
	} else {
		err = policy_sources_find(o->config, &s, &n);
	}
	policy_sources_read(s, n);
	if (err == 0)
		err = policy_load_sources(s, n, ret, &diag);
	else
		log_err("%s: %s", o->blk_file ? o->blk_file : o->config, strerror(-err));
	for (size_t i = 0; i < diag.n; i++) {
		char *text = policy_diagnostic_text(&diag.d[i]);

		log_line(diag.d[i].severity == POLICY_ERROR ? LOG_LEVEL_ERR : LOG_LEVEL_WARNING, "%s", text ? text : "?");
		free(text);
	}
	policy_diagnostics_fini(&diag);
	d->ctl.sources = s;
	d->ctl.n_sources = n;
	return err;
}

/* --- the end --- */

static void host_gone(void *arg, const struct host_error *error)
{
	struct daemon *d = arg;

	(void)error;
	ctl_commands_fini(&d->ctl);
	d->host = NULL;
	sd_event_exit(d->event, d->status);
}

/* No new orders, then the disks. */
static void end_control(struct daemon *d)
{
	slo_watch_destroy(d->ctl.watch);
	ctl_server_destroy(d->ctl.server);
	ctl_commands_stop(&d->ctl);
	d->ctl.server = NULL;
	d->ctl.watch = NULL;
}

static void end(struct daemon *d, int status)
{
	if (d->ending)
		return;
	d->ending = true;
	d->status = status;
	sd_notify(0, "STOPPING=1");
	end_control(d);
	host_destroy(d->host, host_gone, d);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	(void)s;
	(void)si;
	end(arg, 0);
	return 0;
}

/* --- applying --- */

static void reloaded(void *arg, const struct host_error *error)
{
	(void)arg;
	if (error->err)
		log_err("policy not applied: %s", error->text);
	else
		log_notice("policy applied");
	sd_notify(0, "READY=1");
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct daemon *d = arg;

	(void)s;
	(void)si;
	if (d->ending || !d->ctl.server)
		return 0;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / NSEC_PER_USEC));
	change_reload(&d->ctl, reloaded, d);
	return 0;
}

/* --- the control socket, bound last: when it exists, every device socket listens --- */

static int begin_control(struct daemon *d)
{
	const struct policy_daemon *p = &d->host->policy->daemon;
	int err = ctl_server_create(d->event, &d->ctl.server);

	d->ctl.host = d->host;
	d->ctl.config = d->options.config;
	d->ctl.started_ns = clock_now_ns();
	if (err >= 0)
		err = ctl_commands_init(&d->ctl);
	if (err >= 0)
		err = slo_watch_create(d->event, d->host, d->ctl.server, &d->ctl.watch);
	/* Serving one disk without a policy needs no control socket, so it takes none that another daemon may want. */
	if (err >= 0 && d->options.config)
		err = ctl_server_listen(d->ctl.server, p->control, p->socket_mode, p->socket_group);
	if (err < 0)
		log_err("control socket %s: %s", p->control, strerror(-err));
	return err;
}

static void first_applied(void *arg, const struct host_error *error)
{
	struct daemon *d = arg;

	/* SIGTERM came first. */
	if (d->ending)
		return;
	if (error->err)
		log_err("%s", error->text);
	if (error->err || begin_control(d) < 0) {
		end(d, EX_CONFIG);
		return;
	}
	log_notice("serving");
	sd_notify(0, "READY=1");
}

/* --- events of disks --- */

static void on_disk(void *arg, const struct host_disk *disk, const char *event, const char *detail)
{
	struct daemon *d = arg;
	char name[32];

	log_info("%s/%s: %s%s%s", disk->vm, disk->name, event, *detail ? ": " : "", detail);
	if (!d->ctl.server)
		return;
	snprintf(name, sizeof(name), "disk.%s", event);
	ctl_server_publish(d->ctl.server, name,
			   json_pack("{s:s, s:s, s:s}", "vm", disk->vm, "disk", disk->name, "detail", detail));
}

/* --- start --- */

/* Every queue has three descriptors, every VM its memory's: the soft limit of 1024 is for select(2)'s sake. */
static void raise_file_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int main(int argc, char **argv)
{
	struct daemon d = { 0 };
	struct host_events events = { .disk = on_disk, .arg = &d };
	struct host_error error = { 0 };
	struct policy *policy;
	int err;

	options_parse(argc, argv, &d.options);
	if (d.options.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	if (load(&d, &policy) < 0)
		return EX_CONFIG;
	raise_file_limit();
	err = sd_event_new(&d.event);
	if (err >= 0)
		err = signals_listen(d.event, on_signal, on_reload, &d);
	if (err < 0) {
		log_err("event loop: %s", strerror(-err));
		return EX_OSERR;
	}
	if (host_create(d.event, policy, &events, &d.host, &error) < 0) {
		log_err("%s", error.text);
		policy_free(policy);
		return EX_CONFIG;
	}
	if (d.options.fd >= 0)
		host_use_fd(d.host, d.options.fd);
	host_apply(d.host, policy, first_applied, &d);
	err = sd_event_loop(d.event);
	sd_event_unref(d.event);
	return err < 0 ? EX_OSERR : err;
}
