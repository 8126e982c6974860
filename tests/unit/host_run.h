/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole host (workers, pools, disks, sockets) on a control thread of its own, for tests that drive it from outside through
 * frontend/.
 */
#pragma once

#include "frontend/frontend.h"
#include "host/host.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

struct host_run {
	sd_event *event;
	struct host *host;
	pthread_t thread;
	sem_t done;
	int pipe[2];
	char folder[64];
	struct host_error error;
};

struct host_run_call {
	struct host_run *run;
	void (*fn)(struct host_run *, void *arg); /* answers with host_run_done() */
	void *arg;
};

/* On the control thread: the call that host_run_do() waits for is over. */
static inline void host_run_done(void *arg, const struct host_error *error)
{
	struct host_run *r = arg;

	r->error = *error;
	sem_post(&r->done);
}

static inline int host_run_on_call(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct host_run_call c;

	(void)s;
	(void)revents;
	(void)arg;
	if (read(fd, &c, sizeof(c)) == sizeof(c))
		c.fn(c.run, c.arg);
	return 0;
}

static inline void *host_run_thread(void *arg)
{
	struct host_run *r = arg;

	sd_event_loop(r->event);
	return NULL;
}

/* Runs `fn` on the control thread and waits until it has called host_run_done(). */
static inline void host_run_do(struct host_run *r, void (*fn)(struct host_run *, void *arg), void *arg)
{
	struct host_run_call c = { r, fn, arg };

	if (write(r->pipe[1], &c, sizeof(c)) != sizeof(c))
		abort();
	while (sem_wait(&r->done) < 0)
		;
}

/* More workers than a policy could have on this machine: they share its CPUs. 0: one on each of the first two. */
static unsigned host_run_workers;
/* How long they poll what is idle; 0: as by default. */
static uint64_t host_run_poll_idle_ns;

static inline void host_run_set_workers(struct policy *p)
{
	struct policy_cpus *cpus = &p->daemon.workers;
	unsigned n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);

	if (host_run_poll_idle_ns)
		p->daemon.poll_idle_ns = host_run_poll_idle_ns;
	if (!host_run_workers)
		return;
	free(cpus->cpu);
	cpus->cpu = calloc(host_run_workers, sizeof(*cpus->cpu));
	if (!cpus->cpu)
		abort();
	for (cpus->n = 0; cpus->n < host_run_workers; cpus->n++)
		cpus->cpu[cpus->n] = cpus->n % n;
}

static inline struct policy *host_run_policy(struct host_run *r, const char *yaml)
{
	struct policy_diagnostics diag = { 0 };
	struct policy_source source = { .name = (char *)(uintptr_t)"test" };
	struct policy *p = NULL;
	char *text;

	if (asprintf(&text, "daemon: { control: %s/control.sock, workers: [0, 1], state: %s }\n%s", r->folder, r->folder, yaml) < 0)
		abort();
	source.text = text;
	policy_load_sources(&source, 1, &p, &diag);
	for (size_t i = 0; i < diag.n; i++)
		fprintf(stderr, "%u: %s\n", diag.d[i].at.line, diag.d[i].message);
	policy_diagnostics_fini(&diag);
	free(text);
	assert(p);
	host_run_set_workers(p);
	return p;
}

static inline void host_run_apply_now(struct host_run *r, void *policy)
{
	host_apply(r->host, policy, host_run_done, r);
}

/* Applies a policy (without its daemon section). */
static inline void host_run_apply(struct host_run *r, const char *yaml)
{
	host_run_do(r, host_run_apply_now, host_run_policy(r, yaml));
	if (r->error.err)
		fprintf(stderr, "%s\n", r->error.text);
}

static inline void host_run_start_with(struct host_run *r, const char *yaml, const struct host_events *events)
{
	struct policy *p;
	int err;

	memset(r, 0, sizeof(*r));
	strcpy(r->folder, "/tmp/fairlead-test-XXXXXX");
	if (!mkdtemp(r->folder) || pipe(r->pipe) < 0 || sem_init(&r->done, 0, 0) < 0)
		abort();
	p = host_run_policy(r, yaml);
	err = sd_event_new(&r->event);
	if (err >= 0)
		err = sd_event_add_io(r->event, NULL, r->pipe[0], EPOLLIN, host_run_on_call, r);
	if (err >= 0)
		err = host_create(r->event, p, events, &r->host, &r->error);
	if (err < 0 || pthread_create(&r->thread, NULL, host_run_thread, r) != 0) {
		fprintf(stderr, "host: %d %s\n", err, r->error.text);
		abort();
	}
	host_run_do(r, host_run_apply_now, p);
	assert(r->error.err == 0);
}

static inline void host_run_start(struct host_run *r, const char *yaml)
{
	host_run_start_with(r, yaml, &(struct host_events){ 0 });
}

static inline void host_run_ended(void *arg, const struct host_error *error)
{
	struct host_run *r = arg;

	sd_event_exit(r->event, 0);
	host_run_done(r, error);
}

static inline void host_run_end_now(struct host_run *r, void *arg)
{
	(void)arg;
	host_destroy(r->host, host_run_ended, r);
}

static inline void host_run_stop(struct host_run *r)
{
	char command[128];

	host_run_do(r, host_run_end_now, NULL);
	pthread_join(r->thread, NULL);
	sd_event_unref(r->event);
	close(r->pipe[0]);
	close(r->pipe[1]);
	sem_destroy(&r->done);
	snprintf(command, sizeof(command), "rm -rf %s", r->folder);
	if (system(command) != 0)
		abort();
}

/* A front-end attached to disk `name` of VM `vm` (at the default socket). */
static inline struct frontend *host_run_attach(struct host_run *r, const char *vm, const char *name,
					       const struct frontend_config *config)
{
	struct frontend_config c = *config;
	struct frontend *f = NULL;
	char path[128];
	int err;

	snprintf(path, sizeof(path), "%s/%s-%s.sock", r->folder, vm, name);
	c.path = path;
	err = frontend_create(&c, &f);
	if (err == 0)
		err = frontend_attach(f);
	if (err < 0) {
		fprintf(stderr, "front-end: %s\n", strerror(-err));
		abort();
	}
	return f;
}
