/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a worker that cannot open a channel to the store gets no queue. One that was to move there stays where it is, with all
 * its requests, and its ring's position is known at the end; a new kick descriptor needs no new channel.
 */
#include "base/clock.h"
#include "host_run.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#define REQUESTS 5u

static struct host_run host;
static struct store_ops ops;
static bool no_memory; /* atomic */

static int open_if_memory(struct store_channel *c)
{
	return load_relaxed(&no_memory) ? -ENOMEM : 0;
}

static struct blk_disk *the_disk(struct host_run *r)
{
	return host_disk_find(r->host, "vm", "disk")->blk;
}

static void watch_store(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	struct store_pool *store = host_pool_find(r->host, "pool")->blk->store;

	(void)arg;
	ops = *store->ops;
	assert(!ops.channel_open);
	ops.channel_open = open_if_memory;
	store->ops = &ops;
	host_run_done(r, &none);
}

struct seen {
	unsigned worker, queues[2], moves;
	bool calm;
};

static void look(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	struct blk_slot *s = the_disk(r)->slot[0];
	struct seen *ret = arg;

	ret->worker = worker_index(s->worker);
	ret->queues[0] = r->host->team.member[0].queues;
	ret->queues[1] = r->host->team.member[1].queues;
	ret->moves = (unsigned)s->queue.counters.moves;
	ret->calm = blk_slot_calm(s);
	host_run_done(r, &none);
}

static struct seen settled(void)
{
	uint64_t limit = clock_now_ns() + 120 * NSEC_PER_SEC;
	struct seen s;

	do {
		host_run_do(&host, look, &s);
		assert_true(clock_now_ns() < limit);
	} while (!s.calm);
	return s;
}

static void move_away(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	int *ret = arg;

	*ret = blk_disk_move_queue(the_disk(r), 0, 1 - worker_index(the_disk(r)->slot[0]->worker));
	host_run_done(r, &none);
}

static struct frontend *begin(bool packed)
{
	const struct frontend_config c = { .queues = 1, .queue_size = 64, .packed = packed, .data_bytes = 1 << 20 };

	no_memory = false;
	host_run_start(&host, "pools: { pool: { type: ram, slo: off } }\n"
			      "vms: { vm: { disks: [ { name: disk, pool: pool, size: 1MiB, queues: 1 } ] } }\n");
	host_run_do(&host, watch_store, NULL);
	return host_run_attach(&host, "vm", "disk", &c);
}

static void serves(struct frontend *f, unsigned n)
{
	struct front_buf buf = front_buf_of(f, frontend_alloc(f, 4096), 4096);

	for (unsigned i = 0; i < n; i++) {
		struct front_request r = { .type = VIRTIO_BLK_T_OUT, .data = &buf, .n_data = 1, .sector = 8 * i };

		assert_int_equal(front_run(&f->queue[0], &r), 0);
	}
}

static void test_a_queue_stays_where_it_can_be_served(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct frontend *f = begin(packed);
		struct seen before, after;
		uint32_t base = 0;
		int r;

		serves(f, REQUESTS);
		before = settled();
		store_relaxed(&no_memory, true);
		host_run_do(&host, move_away, &r);
		assert_int_equal(r, 0);
		after = settled();
		assert_int_equal(after.worker, before.worker);
		assert_int_equal(after.moves, before.moves);
		assert_memory_equal(after.queues, before.queues, sizeof(after.queues));
		serves(f, REQUESTS);
		store_relaxed(&no_memory, false);
		host_run_do(&host, move_away, &r);
		assert_int_equal(r, 0);
		after = settled();
		assert_int_not_equal(after.worker, before.worker);
		serves(f, REQUESTS);
		assert_int_equal(frontend_queue_stop(f, 0, &base), 0);
		assert_int_equal(base, front_ring_base(&f->queue[0].ring));
		frontend_destroy(f);
		host_run_stop(&host);
	}
}

static void test_a_new_kick_needs_no_new_channel(void **state)
{
	struct frontend *f = begin(false);
	struct front_queue *q = &f->queue[0];
	uint64_t which = 0;
	uint32_t base = 0;

	serves(f, REQUESTS);
	store_relaxed(&no_memory, true);
	close(q->kick_fd);
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(q->kick_fd >= 0);
	assert_int_equal(frontend_set(f, FRONT_SET_VRING_KICK, &which, sizeof(which), &q->kick_fd, 1), 0);
	settled();
	serves(f, REQUESTS);
	assert_int_equal(frontend_queue_stop(f, 0, &base), 0);
	assert_int_equal(base, 2 * REQUESTS);
	frontend_destroy(f);
	host_run_stop(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_queue_stays_where_it_can_be_served),
		cmocka_unit_test(test_a_new_kick_needs_no_new_channel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
