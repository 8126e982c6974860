/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: driver and device on two threads, each sleeping on its eventfd whenever it finds nothing: a lost kick or call
 * would stop both, and a fence at the wrong place loses one sooner or later.
 */
#include "virtqueue_rig.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define REQUESTS 30000u
#define HANG_MS 120000

struct pair {
	struct rig g;
	int kick, call;
	unsigned kicks, calls;
};

/* Not an assertion of the framework: those may only be used on its own thread. */
static void must(bool holds)
{
	if (!holds)
		abort();
}

static void sleep_on(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	eventfd_t count;

	must(poll(&p, 1, HANG_MS) == 1);
	must(!eventfd_read(fd, &count));
}

static void *device_run(void *arg)
{
	struct pair *p = arg;
	struct virtqueue *q = &p->g.queue;
	unsigned served = 0;

	while (served < REQUESTS) {
		struct virtq_chain *chain[8];
		unsigned n = virtqueue_take(q, chain, 8);

		must(!q->broken);
		/* Now and then the driver sees a part before the rest; nothing but publish may call it. */
		for (unsigned i = 0; i < n; i++) {
			virtqueue_push(q, chain[i], chain[i]->n_seg);
			if (i % 3 == served % 3)
				virtqueue_show(q);
		}
		if (virtqueue_publish(q)) {
			p->calls++;
			eventfd_write(p->call, 1);
		}
		served += n;
		if (!n && !virtqueue_kicks_on(q))
			sleep_on(p->kick);
		if (!n)
			virtqueue_kicks_off(q);
	}
	return NULL;
}

static void driver_run(struct pair *p)
{
	unsigned added = 0, completed = 0, burst = 0;
	uint32_t written;

	while (completed < REQUESTS) {
		unsigned before = completed;

		/* Bursts of changing length, so that both sides run empty now and then. */
		for (burst = 1 + (burst * 5 + 3) % 17; burst && added < REQUESTS && !rig_add(&p->g, 1 + added % 3, added); burst--)
			added++;
		if (front_ring_publish(&p->g.ring)) {
			p->kicks++;
			eventfd_write(p->kick, 1);
		}
		for (intptr_t tag; (tag = rig_get(&p->g, &written)) >= 0; completed++)
			assert_int_equal(written, 1 + tag % 3);
		if (completed != before || (p->g.ring.n_free > 3 && added < REQUESTS && completed + 8 > added))
			continue;
		if (!front_ring_calls_on(&p->g.ring))
			sleep_on(p->call);
		front_ring_calls_off(&p->g.ring);
	}
	assert_int_equal(added, REQUESTS);
}

static void nothing_is_lost(void **state)
{
	for (unsigned bits = 0; bits < 8; bits++) {
		struct rig_mode m = { .size = 16, .packed = bits & 1, .event_idx = bits & 2, .indirect = bits & 4,
				      .inflight = bits & 4 };
		static struct pair p;
		pthread_t device;

		rig_init(&p.g, &m);
		p.kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		p.call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		p.kicks = p.calls = 0;
		assert_int_equal(pthread_create(&device, NULL, device_run, &p), 0);
		driver_run(&p);
		assert_int_equal(pthread_join(device, NULL), 0);
		print_message("%s%s%s: %u kicks, %u calls\n", m.packed ? "packed" : "split", m.event_idx ? ", event index" : "",
			      m.indirect ? ", indirect" : "", p.kicks, p.calls);
		close(p.kick);
		close(p.call);
		rig_fini(&p.g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_is_lost) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
