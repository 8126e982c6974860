/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small daemon inside a test: control thread with its event loop, two workers, one RAM pool, one disk behind a
 * vhost-user socket. The test's own thread is the front-end.
 */
#pragma once

#include "blk/disk.h"
#include "store/store.h"
#include "vhost/server.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define HOST_WORKERS 2u

struct host_options {
	uint64_t disk_bytes;
	unsigned queues, workers;
	bool read_only;
	const char *pool_type; /* NULL: ram */
	uint64_t latency_ns;   /* model */
};

struct host {
	struct host_options options;
	char path[108];
	pthread_t thread;
	sd_event *event;
	int calls_fd;
	sem_t called;
	void (*call)(struct host *h, void *arg);
	void *call_arg;

	struct worker *worker[HOST_WORKERS];
	struct blk_team team;
	struct blk_pool pool;
	struct store_disk *store;
	struct blk_disk *disk;
	struct vhost_server *server;
	unsigned connected, disconnected, refused; /* the control thread writes, anybody reads */
	char reason[200];
};

static void host_on_connected(void *arg, pid_t pid)
{
	counter_add(&((struct host *)arg)->connected, 1);
}

static void host_on_disconnected(void *arg, const char *reason)
{
	struct host *h = arg;

	counter_add(&h->disconnected, 1);
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
}

static void host_on_queue_refused(void *arg, unsigned queue, int error)
{
	counter_add(&((struct host *)arg)->refused, 1);
}

static const struct vhost_server_events host_events = {
	.connected = host_on_connected, .disconnected = host_on_disconnected, .queue_refused = host_on_queue_refused,
};

static void host_must(int result)
{
	if (result < 0) {
		fprintf(stderr, "host: %s\n", strerror(-result));
		abort();
	}
}

static void host_make(struct host *h)
{
	const struct host_options *o = &h->options;
	struct store_pool_options pool = { .name = "pool", .type = o->pool_type ? o->pool_type : "ram", .depth = 64, .channels = 4,
					   .read_latency_ns = o->latency_ns, .write_latency_ns = o->latency_ns };
	struct store_disk_options store = { .name = "disk", .size_bytes = o->disk_bytes, .read_only = o->read_only, .fd = -1 };
	struct blk_disk_options disk = { .vm = "vm", .name = "disk", .queues = o->queues, .workers = o->workers };
	struct vhost_server_options server = { .mode = VHOST_LISTEN, .path = h->path, .socket_mode = 0600,
					       .socket_group = (gid_t)-1 };

	for (unsigned i = 0; i < HOST_WORKERS; i++) {
		struct worker_config w = { .index = i, .cpu = -1, .poll = WORKER_POLL_ADAPTIVE, .poll_idle_ns = 20000 };

		host_must(worker_create(&w, &h->worker[i]));
	}
	host_must(blk_team_init(&h->team, h->worker, HOST_WORKERS));
	host_must(store_pool_create(&pool, &h->pool.store));
	host_must(store_disk_open(h->pool.store, &store, &h->store));
	host_must(blk_disk_create(&disk, &h->pool, h->store, &h->team, &h->disk));
	host_must(vhost_server_create(h->event, &h->disk->device, &server, &host_events, h, &h->server));
}

static void host_unmake(void *arg, int result, uint32_t value)
{
	struct host *h = arg;

	blk_disk_destroy(h->disk);
	store_disk_close(h->store);
	for (unsigned i = 0; i < HOST_WORKERS; i++)
		worker_destroy(h->worker[i]);
	store_pool_destroy(h->pool.store);
	sd_event_exit(h->event, 0);
}

static int host_on_call(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct host *h = arg;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) == sizeof(n)) {
		h->call(h, h->call_arg);
		sem_post(&h->called);
	}
	return 0;
}

static int host_on_replies(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	worker_replies_run();
	return 0;
}

static void *host_run(void *arg)
{
	struct host *h = arg;

	host_must(sd_event_new(&h->event));
	host_must(sd_event_add_io(h->event, NULL, h->calls_fd, EPOLLIN, host_on_call, h));
	host_must(sd_event_add_io(h->event, NULL, worker_replies_fd(), EPOLLIN, host_on_replies, NULL));
	host_make(h);
	sem_post(&h->called);
	host_must(sd_event_loop(h->event));
	sd_event_unref(h->event);
	return NULL;
}

/* Runs `fn` on the control thread and waits for it. */
static inline void host_call(struct host *h, void (*fn)(struct host *h, void *arg), void *arg)
{
	h->call = fn;
	h->call_arg = arg;
	if (write(h->calls_fd, &(uint64_t){ 1 }, 8) != 8)
		abort();
	while (sem_wait(&h->called) < 0)
		;
}

static inline struct host *host_create(const char *path, const struct host_options *options)
{
	struct host *h;
	void *p;

	if (posix_memalign(&p, CACHE_LINE, sizeof(*h)))
		abort();
	h = memset(p, 0, sizeof(*h));
	h->options = *options;
	snprintf(h->path, sizeof(h->path), "%s", path);
	h->calls_fd = eventfd(0, EFD_CLOEXEC);
	sem_init(&h->called, 0, 0);
	if (h->calls_fd < 0 || pthread_create(&h->thread, NULL, host_run, h) != 0)
		abort();
	while (sem_wait(&h->called) < 0)
		;
	return h;
}

static void host_end(struct host *h, void *arg)
{
	vhost_server_destroy(h->server, (struct vhost_done){ .fn = host_unmake, .arg = h });
}

static inline void host_destroy(struct host *h)
{
	host_call(h, host_end, NULL);
	pthread_join(h->thread, NULL);
	sem_destroy(&h->called);
	close(h->calls_fd);
	free(h);
}
