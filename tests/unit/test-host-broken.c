/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a driver that breaks its ring is told of, once each time and no more than so often, and its neighbours are
 * served meanwhile.
 */
#include "base/clock.h"
#include "host_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BREAKS 8u
#define TOLD 5u /* in a minute */

struct told {
	sem_t event;
	unsigned n; /* the control thread's, read by the test after the host's end */
};

static void on_disk(void *arg, const struct host_disk *d, const char *event, const char *detail)
{
	struct told *t = arg;

	if (strcmp(event, "queue-broken") != 0)
		return;
	assert(strcmp(d->name, "d") == 0 && strncmp(detail, "queue 0: ", 9) == 0);
	t->n++;
	sem_post(&t->event);
}

/* More heads than the ring has. */
static void break_ring(struct frontend *f)
{
	struct vring_avail *avail = f->queue[0].ring.driver;

	store_release(&avail->idx, (uint16_t)(load_relaxed(&avail->idx) + 1000));
	if (write(f->queue[0].kick_fd, &(uint64_t){ 1 }, 8) != 8)
		abort();
}

static void look(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	const struct blk_slot *s = host_disk_find(r->host, "a", "d")->blk->slot[0];

	*(uint64_t *)arg = load_relaxed(&s->queue.counters.broken);
	host_run_done(r, &none);
}

static void wait_broken(struct host_run *run, uint64_t times)
{
	uint64_t seen;

	do
		host_run_do(run, look, &seen);
	while (seen < times);
}

static void a_broken_queue_is_told_of(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .data_bytes = 1 << 20 };
	struct front_request r = { .type = VIRTIO_BLK_T_FLUSH };
	struct frontend *f, *neighbour;
	struct host_run run;
	struct told told = { .n = 0 };
	uint64_t began = clock_now_ns();

	(void)state;
	assert_int_equal(sem_init(&told.event, 0, 0), 0);
	host_run_start_with(&run, "pools: { ram: { type: ram } }\n"
				  "vms: { a: { disks: [ { name: d, pool: ram, size: 1MiB }, { name: e, pool: ram, size: 1MiB } ] } }\n",
			    &(struct host_events){ on_disk, &told });
	neighbour = host_run_attach(&run, "a", "e", &config);
	for (unsigned i = 1; i <= BREAKS; i++) {
		f = host_run_attach(&run, "a", "d", &config);
		break_ring(f);
		wait_broken(&run, i);
		for (; i <= TOLD && sem_wait(&told.event) < 0;)
			;
		r.status = 0xff;
		assert_int_equal(front_run(&neighbour->queue[0], &r), 0);
		frontend_destroy(f);
	}
	frontend_destroy(neighbour);
	host_run_stop(&run);
	/* On a machine that needs a minute for this, some more may be told. */
	if (clock_now_ns() - began < 60 * NSEC_PER_SEC)
		assert_int_equal(told.n, TOLD);
	assert_in_range(told.n, TOLD, BREAKS);
	sem_destroy(&told.event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_broken_queue_is_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
