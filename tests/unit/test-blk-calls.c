/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a front-end shares its eventfds' flags and counters with us. One that takes O_NONBLOCK away, fills the call
 * eventfd and empties the kick eventfd before we look gets its requests done like any other, and keeps no worker from its
 * neighbours.
 */
#include "host_run.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CHUNK 4096u
#define NEIGHBOURS 3u
#define ROUNDS 300u

static const char policy[] = "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 1MiB } ] }, b: { disks: [ { name: d, pool: ram, size: 1MiB } ] },\n"
			     "  c: { disks: [ { name: d, pool: ram, size: 1MiB } ] }, e: { disks: [ { name: d, pool: ram, size: 1MiB } ] } }\n";

static struct frontend *attach(struct host_run *run, const char *vm, bool calls)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .data_bytes = 1 << 20, .calls = calls };

	return host_run_attach(run, vm, "d", &config);
}

static void block(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
}

/* One request, after which the ring asks for a call; our own kick is taken away again, in a race with the worker. */
static void nasty_request(struct frontend *f, struct front_request *r)
{
	struct front_queue *q = &f->queue[0];
	eventfd_t n;

	r->status = 0xff;
	front_ring_calls_on(&q->ring);
	assert_int_equal(front_submit(q, r), 0);
	front_kick(q);
	assert_int_equal(fcntl(q->kick_fd, F_SETFL, O_NONBLOCK), 0);
	(void)!read(q->kick_fd, &n, sizeof(n));
	block(q->kick_fd);
	while (r->status == 0xff)
		front_poll(q);
	assert_int_equal(r->status, VIRTIO_BLK_S_OK);
}

static void a_full_call_keeps_nobody(void **state)
{
	static const char *const names[NEIGHBOURS] = { "b", "c", "e" };
	struct frontend *nasty, *good[NEIGHBOURS];
	struct front_request r = { .type = VIRTIO_BLK_T_IN, .n_data = 1 };
	struct front_buf buf;
	struct host_run run;

	(void)state;
	host_run_start(&run, policy);
	nasty = attach(&run, "a", false);
	for (unsigned i = 0; i < NEIGHBOURS; i++)
		good[i] = attach(&run, names[i], true);
	block(nasty->queue[0].call_fd);
	assert_int_equal(eventfd_write(nasty->queue[0].call_fd, UINT64_MAX - 1), 0);
	buf = front_buf_of(nasty, frontend_alloc(nasty, CHUNK), CHUNK);
	r.data = &buf;
	for (unsigned round = 0; round < ROUNDS; round++) {
		nasty_request(nasty, &r);
		for (unsigned i = 0; i < NEIGHBOURS; i++) {
			struct front_request request = { .type = VIRTIO_BLK_T_FLUSH };

			assert_int_equal(front_run(&good[i]->queue[0], &request), 0);
		}
	}
	frontend_destroy(nasty);
	for (unsigned i = 0; i < NEIGHBOURS; i++)
		frontend_destroy(good[i]);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_call_keeps_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
