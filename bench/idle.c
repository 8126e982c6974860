/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-idle CPU SOCKET... (the CPU that the back-end runs on): attaches to many disks, then does nothing until told, so that somebody else can look at what an
 * idle back-end costs. On a line of input it measures, after some idle time each, how long a first request takes from kick to
 * call, and beside it the same way there and back over bare eventfds to a thread that sleeps in read(2). End of input ends it.
 */
#include "base/clock.h"
#include "base/cpus.h"
#include "base/hist.h"
#include "frontend/frontend.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define SAMPLES 40u
#define IDLE_NS (20 * NSEC_PER_MSEC)

struct echo {
	int there, back;
	unsigned cpu; /* the back-end's: the bare wake-up goes between the same two CPUs */
};

static void *echo_main(void *arg)
{
	struct echo *e = arg;
	eventfd_t n;
	int r = cpus_pin_self(e->cpu);

	if (r < 0)
		fprintf(stderr, "fairlead-idle: CPU %u: %s\n", e->cpu, strerror(-r));
	while (eventfd_read(e->there, &n) == 0 && n < 1000)
		eventfd_write(e->back, 1);
	return NULL;
}

static void be_idle(void)
{
	struct timespec ts = { .tv_nsec = IDLE_NS };

	nanosleep(&ts, NULL);
}

static int first_request(struct frontend *f, const struct front_buf *buf, struct hist *h)
{
	struct front_request r = { .type = VIRTIO_BLK_T_IN, .data = buf, .n_data = 1 };
	uint64_t began;
	int e;

	be_idle();
	began = clock_now_ns();
	e = front_run(&f->queue[0], &r);
	hist_add(h, clock_now_ns() - began);
	return e;
}

static void ping(const struct echo *e, struct hist *h)
{
	uint64_t began;
	eventfd_t n;

	be_idle();
	began = clock_now_ns();
	eventfd_write(e->there, 1);
	if (eventfd_read(e->back, &n) == 0)
		hist_add(h, clock_now_ns() - began);
}

static int measure(struct frontend **f, const struct front_buf *buf, unsigned n, const struct echo *e)
{
	struct hist first = { 0 }, bare = { 0 };

	for (unsigned i = 0; i < SAMPLES; i++) {
		int r = first_request(f[i * 7 % n], &buf[i * 7 % n], &first);

		if (r)
			return r;
		ping(e, &bare);
	}
	printf("{\"first_ns\": {\"p50\": %lu, \"p90\": %lu}, \"ping_ns\": {\"p50\": %lu, \"p90\": %lu}}\n",
	       (unsigned long)hist_quantile(&first, 500), (unsigned long)hist_quantile(&first, 900),
	       (unsigned long)hist_quantile(&bare, 500), (unsigned long)hist_quantile(&bare, 900));
	fflush(stdout);
	return 0;
}

static int attach(const char *path, struct frontend **ret, struct front_buf *ret_buf)
{
	struct frontend_config c = { .path = path, .queues = 1, .queue_size = 128, .inflight = true, .event_idx = true,
				     .calls = true, .data_segs_max = 1, .data_bytes = 8192 };
	int r = frontend_create(&c, ret);

	if (r)
		return r;
	r = frontend_attach(*ret);
	*ret_buf = front_buf_of(*ret, frontend_alloc(*ret, 4096), 4096);
	return r;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)argc - 2 : 0;
	struct frontend **f = calloc(n + 1, sizeof(struct frontend *));
	struct front_buf *buf = calloc(n + 1, sizeof(*buf));
	struct echo e = { .there = eventfd(0, 0), .back = eventfd(0, 0) };
	pthread_t thread;
	char line[16];
	int r = n ? 0 : -EINVAL;

	for (unsigned i = 0; i < n && !r; i++)
		r = attach(argv[i + 2], &f[i], &buf[i]);
	e.cpu = n ? (unsigned)atoi(argv[1]) : 0;
	pthread_create(&thread, NULL, echo_main, &e);
	if (!r) {
		puts("attached");
		fflush(stdout);
	}
	while (!r && fgets(line, sizeof(line), stdin))
		r = measure(f, buf, n, &e);
	eventfd_write(e.there, 1000);
	pthread_join(thread, NULL);
	for (unsigned i = 0; i < n; i++)
		frontend_destroy(f[i]);
	free(f);
	free(buf);
	if (r)
		fprintf(stderr, "fairlead-idle: %s\n", strerror(-r));
	return r != 0;
}
