/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-strawman: how disks are served without dedicated polling threads, as the lower rungs of the ladder. A device of
 * `latency` with any number of requests under way, no data copied; one thread for all queues, woken by kicks and calling
 * after every request.
 *
 *   sync   takes a request, waits until the device has done it, answers, takes the next: one request at a time
 *   async  starts all that are there, answers each when it is due; every step takes the device's lock
 *
 * Control thread: the vhost-user session. Serving thread: the rest; both under `lock`.
 */
#include "base/clock.h"
#include "base/log.h"
#include "vhost/server.h"
#include "virtio/virtqueue_struct.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

#define QUEUES_MAX 64u
#define BATCH 32u

struct straw_queue {
	struct virtqueue vq;
	struct memmap *map;
	int kick_fd, call_fd, err_fd;
	bool running;
	/* Under way, oldest first: all take the same time, so they are due in their order. */
	struct {
		struct virtq_chain *chain;
		uint64_t due_ns;
	} flight[VIRTQUEUE_SIZE_MAX];
	unsigned first, n;
};

struct straw {
	struct vhost_device device;
	pthread_mutex_t lock;
	struct straw_queue queue[QUEUES_MAX];
	uint64_t latency_ns;
	bool async;
	int poke_fd; /* queues have changed */
};

static struct straw *straw_of(struct vhost_device *d)
{
	return container_of(d, struct straw, device);
}

/* --- serving --- */

static void answer(struct straw_queue *q, struct virtq_chain *c)
{
	const struct virtq_seg *last = &c->seg[c->n_seg - 1];
	uint8_t *status = memmap_gpa(q->map, last->gpa + last->len - 1, 1);
	uint64_t one = 1;

	if (status)
		*status = VIRTIO_BLK_S_OK;
	virtqueue_push(&q->vq, c, c->in_bytes);
	if (virtqueue_publish(&q->vq) && write(q->call_fd, &one, sizeof(one)) < 0)
		return;
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/* One request of one queue, from beginning to end. */
static void serve_sync(struct straw *s, struct straw_queue *q)
{
	struct virtq_chain *c;

	while (q->running && virtqueue_take(&q->vq, &c, 1)) {
		sleep_until(clock_now_ns() + s->latency_ns);
		answer(q, c);
		/* The session may want the queue. */
		pthread_mutex_unlock(&s->lock);
		pthread_mutex_lock(&s->lock);
	}
}

static void start_async(struct straw *s, struct straw_queue *q)
{
	struct virtq_chain *c[BATCH];
	unsigned n;

	while (q->running && (n = virtqueue_take(&q->vq, c, BATCH)) > 0) {
		for (unsigned i = 0; i < n; i++) {
			unsigned at = (q->first + q->n++) % VIRTQUEUE_SIZE_MAX;

			q->flight[at].chain = c[i];
			q->flight[at].due_ns = clock_now_ns() + s->latency_ns;
			pthread_mutex_unlock(&s->lock);
			pthread_mutex_lock(&s->lock);
		}
	}
}

static void finish_async(struct straw *s, struct straw_queue *q)
{
	while (q->running && q->n && q->flight[q->first].due_ns <= clock_now_ns()) {
		answer(q, q->flight[q->first].chain);
		q->first = (q->first + 1) % VIRTQUEUE_SIZE_MAX;
		q->n--;
		pthread_mutex_unlock(&s->lock);
		pthread_mutex_lock(&s->lock);
	}
}

static uint64_t first_due_ns(const struct straw *s)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < QUEUES_MAX; i++)
		if (s->queue[i].running && s->queue[i].n)
			due = min_u64(due, s->queue[i].flight[s->queue[i].first].due_ns);
	return due;
}

static void serve_all(struct straw *s)
{
	for (unsigned i = 0; i < QUEUES_MAX; i++) {
		struct straw_queue *q = &s->queue[i];

		if (!q->running)
			continue;
		if (s->async) {
			start_async(s, q);
			finish_async(s, q);
		} else {
			serve_sync(s, q);
		}
	}
}

static void wait_for_kicks(struct straw *s)
{
	struct pollfd p[QUEUES_MAX + 1] = { { .fd = s->poke_fd, .events = POLLIN } };
	uint64_t due = first_due_ns(s), now = clock_now_ns(), left = due > now ? due - now : 0, n;
	struct timespec ts = { .tv_sec = (time_t)(left / NSEC_PER_SEC), .tv_nsec = (long)(left % NSEC_PER_SEC) };
	unsigned fds = 1;

	for (unsigned i = 0; i < QUEUES_MAX; i++)
		if (s->queue[i].running)
			p[fds++] = (struct pollfd){ .fd = s->queue[i].kick_fd, .events = POLLIN };
	pthread_mutex_unlock(&s->lock);
	if (ppoll(p, fds, due == UINT64_MAX ? NULL : &ts, NULL) > 0)
		for (unsigned i = 0; i < fds; i++)
			if (p[i].revents & POLLIN && read(p[i].fd, &n, sizeof(n)) < 0)
				continue;
	pthread_mutex_lock(&s->lock);
}

static void *serve_main(void *arg)
{
	struct straw *s = arg;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		serve_all(s);
		wait_for_kicks(s);
	}
	return NULL;
}

/* --- what the session asks --- */

static void done(struct vhost_done d, int result, uint32_t value)
{
	if (d.fn)
		d.fn(d.arg, result, value);
}

static void poke(struct straw *s)
{
	eventfd_write(s->poke_fd, 1);
}

static uint64_t features(struct vhost_device *d)
{
	(void)d;
	return 1ull << VIRTIO_BLK_F_MQ;
}

static unsigned queues_max(struct vhost_device *d)
{
	(void)d;
	return QUEUES_MAX;
}

static void config_read(struct vhost_device *d, uint32_t offset, uint8_t *buf, uint32_t len)
{
	struct virtio_blk_config c = { .capacity = 1 << 21, .num_queues = QUEUES_MAX };

	(void)d;
	memset(buf, 0, len);
	if (offset < sizeof(c))
		memcpy(buf, (uint8_t *)&c + offset, min_u64(len, sizeof(c) - offset));
}

static int config_write(struct vhost_device *d, uint32_t offset, const uint8_t *buf, uint32_t len)
{
	return -EINVAL;
}

static void features_set(struct vhost_device *d, uint64_t f)
{
}

static void queue_start(struct vhost_device *d, unsigned queue, const struct virtqueue_setup *setup, struct memmap *map,
			int kick_fd, int call_fd, int err_fd, struct vhost_done answered)
{
	struct straw *s = straw_of(d);
	struct straw_queue *q = &s->queue[queue];
	int r;

	pthread_mutex_lock(&s->lock);
	q->first = q->n = 0;
	q->map = map;
	r = virtqueue_start(&q->vq, setup, map);
	q->kick_fd = kick_fd;
	q->call_fd = call_fd;
	q->err_fd = err_fd;
	q->running = r == 0;
	if (r == 0)
		virtqueue_kicks_on(&q->vq);
	pthread_mutex_unlock(&s->lock);
	poke(s);
	done(answered, r, 0);
}

/* What is under way is answered at once: nobody measures any more. */
static void queue_stop(struct vhost_device *d, unsigned queue, bool keep_inflight, struct vhost_done answered)
{
	struct straw *s = straw_of(d);
	struct straw_queue *q = &s->queue[queue];
	uint32_t base = 0;

	pthread_mutex_lock(&s->lock);
	if (q->running) {
		for (; q->n; q->n--, q->first = (q->first + 1) % VIRTQUEUE_SIZE_MAX)
			answer(q, q->flight[q->first].chain);
		q->running = false;
		base = virtqueue_stop(&q->vq);
		cleanup_close_fd(&q->kick_fd);
		cleanup_close_fd(&q->call_fd);
		cleanup_close_fd(&q->err_fd);
	}
	pthread_mutex_unlock(&s->lock);
	poke(s);
	done(answered, 0, base);
}

static void queue_fd(struct vhost_device *d, int *fd, int new_fd)
{
	struct straw *s = straw_of(d);

	pthread_mutex_lock(&s->lock);
	cleanup_close_fd(fd);
	*fd = new_fd;
	pthread_mutex_unlock(&s->lock);
	poke(s);
}

static void queue_call_fd(struct vhost_device *d, unsigned queue, int fd)
{
	queue_fd(d, &straw_of(d)->queue[queue].call_fd, fd);
}

static void queue_kick_fd(struct vhost_device *d, unsigned queue, int fd)
{
	queue_fd(d, &straw_of(d)->queue[queue].kick_fd, fd);
}

static void memory_set(struct vhost_device *d, struct memmap *map, struct vhost_done answered)
{
	struct straw *s = straw_of(d);

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < QUEUES_MAX; i++) {
		if (!s->queue[i].running)
			continue;
		s->queue[i].map = map;
		virtqueue_remap(&s->queue[i].vq, map);
	}
	pthread_mutex_unlock(&s->lock);
	done(answered, 0, 0);
}

static void log_set(struct vhost_device *d, struct dirty_log *log, struct vhost_done answered)
{
	done(answered, 0, 0);
}

static void session_began(struct vhost_device *d, struct vhost_session *session)
{
}

static void session_ended(struct vhost_device *d)
{
}

static const struct vhost_device_ops ops = {
	.features = features,
	.queues_max = queues_max,
	.config_read = config_read,
	.config_write = config_write,
	.features_set = features_set,
	.queue_start = queue_start,
	.queue_stop = queue_stop,
	.queue_call_fd = queue_call_fd,
	.queue_kick_fd = queue_kick_fd,
	.memory_set = memory_set,
	.log_set = log_set,
	.session_began = session_began,
	.session_ended = session_ended,
};

int main(int argc, char **argv)
{
	static struct straw s = { .device = { .ops = &ops, .name = "strawman" }, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct vhost_server_options options = { .mode = VHOST_LISTEN, .socket_mode = 0600, .socket_group = (gid_t)-1, .fd = -1 };
	struct vhost_server_events events = { 0 };
	struct vhost_server *server;
	pthread_t thread;
	sd_event *event;

	if (argc != 4 || (strcmp(argv[1], "sync") != 0 && strcmp(argv[1], "async") != 0)) {
		fprintf(stderr, "usage: fairlead-strawman sync|async LATENCY_US SOCKET\n");
		return 64;
	}
	s.async = strcmp(argv[1], "async") == 0;
	s.latency_ns = (uint64_t)(strtod(argv[2], NULL) * 1000);
	options.path = argv[3];
	s.poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sd_event_new(&event) < 0 || pthread_create(&thread, NULL, serve_main, &s))
		return 71;
	if (vhost_server_create(event, &s.device, &options, &events, NULL, &server) < 0) {
		fprintf(stderr, "fairlead-strawman: cannot listen at %s\n", argv[3]);
		return 71;
	}
	return sd_event_loop(event) < 0;
}
