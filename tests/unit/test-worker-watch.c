/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: watched file descriptors wake a sleeping worker, every event is seen, and a watch is gone only when the
 * kernel has let go of it: removed while quiet, within its own callback, while others write to it, and when its fd
 * never worked.
 */
#include "on_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>

struct bell {
	struct worker_watch watch;
	uint64_t rung; /* sum of what was read; atomic */
	uint64_t calls;
	uint64_t remove_at; /* remove within ready() when so much has been read */
	bool is_gone;
};

static void bell_gone(struct worker_watch *watch)
{
	__atomic_store_n(&container_of(watch, struct bell, watch)->is_gone, true, __ATOMIC_RELEASE);
}

static void bell_ready(struct worker_watch *watch)
{
	struct bell *b = container_of(watch, struct bell, watch);
	uint64_t n;

	counter_add(&b->calls, 1);
	if (read(watch->fd, &n, sizeof(n)) == sizeof(n))
		counter_add(&b->rung, n);
	if (b->remove_at && b->rung >= b->remove_at) {
		b->remove_at = 0;
		worker_watch_remove(watch, bell_gone);
	}
}

static void bell_init(struct bell *b)
{
	memset(b, 0, sizeof(*b));
	b->watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(b->watch.fd >= 0);
	b->watch.ready = bell_ready;
}

static void ring_bell(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void wait_rung(const struct bell *b, uint64_t n)
{
	uint64_t limit = clock_now_ns() + HANG_NS;

	while (load_relaxed(&b->rung) < n) {
		assert_true(clock_now_ns() < limit);
		usleep(20);
	}
}

static void add(struct worker *w, void *arg)
{
	worker_watch_add(w, &((struct bell *)arg)->watch);
}

static void take_away(struct worker *w, void *arg)
{
	worker_watch_remove(&((struct bell *)arg)->watch, bell_gone);
}

static void each_ring_is_seen(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_NEVER);
	struct bell b;

	(void)state;
	bell_init(&b);
	ring_bell(b.watch.fd); /* before it is added: seen */
	on_worker(w, add, &b);
	for (uint64_t i = 1; i <= 10000; i++) {
		wait_rung(&b, i);
		ring_bell(b.watch.fd);
	}
	wait_rung(&b, 10001);
	on_worker(w, take_away, &b);
	wait_until(&b.is_gone);
	ring_bell(b.watch.fd);
	close(b.watch.fd);
	worker_destroy(w);
	assert_int_equal(b.rung, 10001);
}

static void removed_within_ready(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct bell b;

		bell_init(&b);
		b.remove_at = 1;
		if (i % 2)
			ring_bell(b.watch.fd);
		on_worker(w, add, &b);
		if (i % 2 == 0)
			ring_bell(b.watch.fd);
		wait_until(&b.is_gone);
		close(b.watch.fd);
		memset(&b, 0xa5, sizeof(b)); /* nobody looks at it any more */
	}
	worker_destroy(w);
}

static void *ring_often(void *arg)
{
	int fd = *(int *)arg;

	for (unsigned i = 0; i < 40; i++)
		ring_bell(fd);
	return NULL;
}

static void removed_while_ringing(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_NEVER);

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct bell *b = malloc(sizeof(*b));
		pthread_t thread;
		int fd;

		bell_init(b);
		fd = b->watch.fd;
		on_worker(w, add, b);
		assert_int_equal(pthread_create(&thread, NULL, ring_often, &fd), 0);
		on_worker(w, take_away, b);
		wait_until(&b->is_gone);
		free(b);
		pthread_join(thread, NULL);
		close(fd);
	}
	worker_destroy(w);
}

static void many_are_watched_at_once(void **state)
{
	static struct bell b[256];
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		bell_init(&b[i]);
		on_worker(w, add, &b[i]);
	}
	for (unsigned round = 1; round <= 20; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
			ring_bell(b[i].watch.fd);
		for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
			wait_rung(&b[i], round);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		on_worker(w, take_away, &b[i]);
		wait_until(&b[i].is_gone);
		close(b[i].watch.fd);
	}
	worker_destroy(w);
}

/* More events than the completion ring holds: the kernel may end the polls, which are then begun again. */
static void stall(struct worker *w, void *arg)
{
	struct bell *b = arg;

	for (unsigned round = 0; round < 50; round++)
		for (unsigned i = 0; i < 256; i++)
			ring_bell(b[i].watch.fd);
}

static void an_overflow_loses_none(void **state)
{
	static struct bell b[256];
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		bell_init(&b[i]);
		on_worker(w, add, &b[i]);
	}
	for (unsigned round = 1; round <= 5; round++) {
		on_worker(w, stall, b);
		for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
			wait_rung(&b[i], 50 * round);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++) {
		on_worker(w, take_away, &b[i]);
		wait_until(&b[i].is_gone);
		close(b[i].watch.fd);
	}
	worker_destroy(w);
}

/* What a hostile peer may hand over as a kick. The worker must come to rest. */
static void useless_fds_bring_no_spinning(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	int pipe_fd[2], fd[4];

	(void)state;
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC | O_NONBLOCK), 0);
	close(pipe_fd[1]); /* hung up */
	fd[0] = 12345; /* not open */
	fd[1] = pipe_fd[0];
	fd[2] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fd[3] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_SIZE(fd); i++) {
		uint64_t loops, limit = clock_now_ns() + HANG_NS;
		struct bell b;
		int own;

		bell_init(&b);
		own = b.watch.fd;
		b.watch.fd = fd[i];
		on_worker(w, add, &b);
		do {
			assert_true(clock_now_ns() < limit);
			loops = load_relaxed(&worker_counters(w)->loops);
			usleep(100000);
		} while (load_relaxed(&worker_counters(w)->loops) != loops);
		on_worker(w, take_away, &b);
		wait_until(&b.is_gone);
		if (i)
			close(b.watch.fd);
		close(own);
	}
	worker_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_ring_is_seen),
		cmocka_unit_test(removed_within_ready),
		cmocka_unit_test(removed_while_ringing),
		cmocka_unit_test(many_are_watched_at_once),
		cmocka_unit_test(an_overflow_loses_none),
		cmocka_unit_test(useless_fds_bring_no_spinning),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
