/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: flushes of a queue go to the store one at a time, those that come meanwhile end together with the next, and all
 * are answered, whether the queue goes on, moves to another worker, stops, or loses its front-end meanwhile.
 */
#include "host_run.h"

#include "base/clock.h"
#include "slo/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define STORM 60u

static const char *const policy[] = {
	"pools: { slow: { type: model, channels: 8, flush_latency: 20ms } }\n"
	"vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n",
	"pools: { slow: { type: model, channels: 8, flush_latency: 20ms, slo: off } }\n"
	"vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n",
};

static void begin_storm(struct front_queue *q, struct front_request *r)
{
	for (unsigned i = 0; i < STORM; i++) {
		r[i] = (struct front_request){ .type = VIRTIO_BLK_T_FLUSH, .status = 0xff };
		assert_int_equal(front_submit(q, &r[i]), 0);
	}
	front_kick(q);
}

/* How many have been answered, well. */
static unsigned answered(struct front_queue *q, const struct front_request *r)
{
	unsigned n = 0;

	while (front_poll(q))
		;
	assert_int_equal(q->error, 0);
	for (unsigned i = 0; i < STORM; i++) {
		if (r[i].status == 0xff)
			continue;
		assert_int_equal(r[i].status, VIRTIO_BLK_S_OK);
		n++;
	}
	return n;
}

static void look(struct blk_core *core, struct slo_sched *s, void *arg)
{
	(void)core;
	*(unsigned *)arg = slo_in_flight(s);
}

static void looked(void *arg, int result)
{
	host_run_done(arg, &(struct host_error){ .err = result });
}

static void look_now(struct host_run *r, void *arg)
{
	blk_gate_visit(host_disk_find(r->host, "a", "d")->blk->pool->gate, look, arg, (struct blk_gate_done){ looked, r });
}

static void one_at_a_time(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[2][STORM];
	unsigned in_flight, most = 0;
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, policy[0]);
	f = host_run_attach(&run, "a", "d", &config);
	for (unsigned i = 0; i < 2; i++)
		begin_storm(&f->queue[i], r[i]);
	while (answered(&f->queue[0], r[0]) < STORM || answered(&f->queue[1], r[1]) < STORM) {
		host_run_do(&run, look_now, &in_flight);
		most = in_flight > most ? in_flight : most;
		assert_true(in_flight <= 2);
	}
	print_message("  %u flushes on each of two queues: at most %u at the store\n", STORM, most);
	frontend_destroy(f);
	host_run_stop(&run);
}

struct move {
	unsigned queue, to;
};

static void move_now(struct host_run *r, void *arg)
{
	struct move *m = arg;
	struct host_error none = { 0 };

	none.err = blk_disk_move_queue(host_disk_find(r->host, "a", "d")->blk, m->queue, m->to);
	host_run_done(r, &none);
}

/* The queue goes to the other worker and back while they wait. */
static void all_answered_after_moves(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[STORM];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(policy); p++) {
		struct host_run run;
		struct frontend *f;

		host_run_start(&run, policy[p]);
		f = host_run_attach(&run, "a", "d", &config);
		begin_storm(&f->queue[0], r);
		for (unsigned i = 0; i < 10; i++)
			do
				host_run_do(&run, move_now, &(struct move){ 0, i % 2 });
			while (run.error.err == -EBUSY);
		while (answered(&f->queue[0], r) < STORM)
			;
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

/* What the device has taken is done when it says that it has stopped. */
static void all_answered_at_a_stop(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[STORM];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(policy); p++)
		for (unsigned queue = 0; queue < 2; queue++) {
			struct host_run run;
			struct frontend *f;
			uint32_t base;

			host_run_start(&run, policy[p]);
			f = host_run_attach(&run, "a", "d", &config);
			begin_storm(&f->queue[queue], r);
			while (!answered(&f->queue[queue], r))
				;
			assert_int_equal(frontend_queue_stop(f, queue, &base), 0);
			assert_int_equal(answered(&f->queue[queue], r), base);
			frontend_destroy(f);
			host_run_stop(&run);
		}
}

static void count_flushes(struct host_run *r, void *arg)
{
	unsigned *n = arg;

	*n = 0;
	for (unsigned w = 0; w < BLK_WORKERS_MAX; w++)
		*n += (unsigned)load_relaxed(&host_disk_find(r->host, "a", "d")->blk->pool->on[w].counters.ops[STORE_FLUSH]);
	host_run_done(r, &(struct host_error){ 0 });
}

static unsigned flushes(struct host_run *run)
{
	unsigned n;

	host_run_do(run, count_flushes, &n);
	return n;
}

/* The one that is under way may have begun before what the later one has to cover was written. */
static void one_that_comes_later_is_not_covered(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	struct front_request r[2];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(policy); p++) {
		struct host_run run;
		struct frontend *f;

		host_run_start(&run, policy[p]);
		f = host_run_attach(&run, "a", "d", &config);
		for (unsigned i = 0; i < 2; i++) {
			r[i] = (struct front_request){ .type = VIRTIO_BLK_T_FLUSH, .status = 0xff };
			assert_int_equal(front_submit(&f->queue[0], &r[i]), 0);
			front_kick(&f->queue[0]);
			while (flushes(&run) == 0)
				;
		}
		for (unsigned i = 0; i < 2; i++)
			while (r[i].status == 0xff)
				front_poll(&f->queue[0]);
		assert_int_equal(flushes(&run), 2);
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

/* --- a store whose flushes fail --- */

static struct store_ops failing;
static int (*submit_well)(struct store_channel *, struct store_io *);
static void (*well_done)(struct store_io *, int);

static void done_badly(struct store_io *io, int result)
{
	(void)result;
	io->done = well_done;
	well_done(io, -EIO);
}

static int submit_failing(struct store_channel *c, struct store_io *io)
{
	if (io->op == STORE_FLUSH) {
		well_done = io->done;
		io->done = done_badly;
	}
	return submit_well(c, io);
}

static void break_store(struct host_run *r, void *arg)
{
	struct store_pool *pool = host_disk_find(r->host, "a", "d")->blk->pool->store;

	(void)arg;
	failing = *pool->ops;
	submit_well = failing.submit;
	failing.submit = submit_failing;
	pool->ops = &failing;
	host_run_done(r, &(struct host_error){ 0 });
}

static void all_covered_hear_of_an_error(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[STORM];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(policy); p++) {
		struct host_run run;
		struct frontend *f;

		host_run_start(&run, policy[p]);
		host_run_do(&run, break_store, NULL);
		f = host_run_attach(&run, "a", "d", &config);
		begin_storm(&f->queue[0], r);
		for (unsigned i = 0; i < STORM; i++) {
			while (r[i].status == 0xff)
				front_poll(&f->queue[0]);
			assert_int_equal(r[i].status, VIRTIO_BLK_S_IOERR);
		}
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

/* --- ends --- */

struct taken {
	const char *vm;
	uint64_t n; /* from its ring, and sent on */
};

static void count_taken(struct host_run *r, void *arg)
{
	struct taken *t = arg;
	const struct blk_slot *slot = host_disk_find(r->host, t->vm, "d")->blk->slot[0];

	/* Made when the front-end's messages have been read. */
	t->n = slot ? load_relaxed(&slot->queue.counters.batch.sum) : 0;
	host_run_done(r, &(struct host_error){ 0 });
}

/* A stop takes as long as what it has to wait for: that is not one flush after another for all that wait. */
static bool stop_in_a_storm(const char *slo, unsigned latency_ms)
{
	struct frontend_config config = { .queues = 1, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[STORM];
	struct taken taken = { .vm = "a" };
	unsigned before;
	struct host_run run;
	struct frontend *f;
	uint32_t base;
	char text[256];

	snprintf(text, sizeof(text), "pools: { slow: { type: model, channels: 8, flush_latency: %ums, slo: %s } }\n"
		 "vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, queues: 1 } ] } }\n", latency_ms, slo);
	host_run_start(&run, text);
	f = host_run_attach(&run, "a", "d", &config);
	begin_storm(&f->queue[0], r);
	do
		host_run_do(&run, count_taken, &taken);
	while (taken.n < STORM);
	before = flushes(&run);
	assert_int_equal(frontend_queue_stop(f, 0, &base), 0);
	assert_int_equal(base, STORM);
	assert_int_equal(answered(&f->queue[0], r), STORM);
	if (before == 1)
		assert_int_equal(flushes(&run), 2);
	frontend_destroy(f);
	host_run_stop(&run);
	return before == 1;
}

/* The first one has to be under way until the others have been taken: on a busy machine that is a matter of its latency. */
static void one_covers_all_at_a_stop(void **state)
{
	static const char *const slo[] = { "on", "off" };

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(slo); p++)
		for (unsigned ms = 200; !stop_in_a_storm(slo[p], ms); ms *= 2)
			assert_true(ms < 60000);
}

/* --- a VM whose flushes are more than its share: they wait at the gate, too --- */

#define READS 100u

/* One thousandth of the device for its flushes of 60 ms, beside a hundred reads of another VM. */
static const char poor_policy[] = "pools: { slow: { type: model, depth: 2, channels: 1, read_latency: %ums, flush_latency: 60ms } }\n"
				  "vms: { a: { shares: 1, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] },\n"
				  "       b: { shares: 1000, disks: [ { name: d, pool: slow, size: 8MiB } ] } }\n";

struct poor {
	struct host_run run;
	struct frontend *a, *b;
	struct front_request read[READS], flush[STORM];
	struct front_buf buf;
};

static unsigned reads_left(struct poor *p)
{
	unsigned n = 0;

	while (front_poll(&p->b->queue[0]))
		;
	for (unsigned i = 0; i < READS; i++)
		n += p->read[i].status == 0xff;
	return n;
}

static void poor_start(struct poor *p, unsigned read_ms)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20, .inflight = true };
	struct taken taken = { .vm = "b" };
	char text[512];

	snprintf(text, sizeof(text), poor_policy, read_ms);
	host_run_start(&p->run, text);
	p->a = host_run_attach(&p->run, "a", "d", &config);
	config.queues = 1;
	p->b = host_run_attach(&p->run, "b", "d", &config);
	p->buf = front_buf_of(p->b, frontend_alloc(p->b, 4096), 4096);
	for (unsigned i = 0; i < READS; i++) {
		p->read[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .data = &p->buf, .n_data = 1, .status = 0xff };
		assert_int_equal(front_submit(&p->b->queue[0], &p->read[i]), 0);
	}
	front_kick(&p->b->queue[0]);
	while (taken.n < READS || reads_left(p) == READS)
		host_run_do(&p->run, count_taken, &taken);
	begin_storm(&p->a->queue[0], p->flush);
	/* The first one goes as nothing is owed yet; when it is done, one is sent for the others. */
	while (!answered(&p->a->queue[0], p->flush))
		;
}

static void poor_stop(struct poor *p)
{
	while (p->read[READS - 1].status == 0xff)
		front_poll(&p->b->queue[0]);
	frontend_destroy(p->a);
	frontend_destroy(p->b);
	host_run_stop(&p->run);
}

/* False: the reads were over too early to say anything. */
static bool waits_for_reads(unsigned read_ms)
{
	static struct poor p;
	unsigned before, after;

	poor_start(&p, read_ms);
	before = reads_left(&p);
	while (answered(&p.a->queue[0], p.flush) < STORM)
		;
	after = reads_left(&p);
	if (before >= READS / 4) {
		print_message("  %u of another VM's %u reads were left when the first flush was done, %u after the second\n", before,
			      READS, after);
		assert_in_range(after, 0, 2);
	}
	poor_stop(&p);
	return before >= READS / 4;
}

static void more_than_its_share_waits(void **state)
{
	(void)state;
	for (unsigned ms = 5; !waits_for_reads(ms); ms *= 2)
		assert_true(ms < 1000);
}

static void what_waits_at_the_gate_goes_with_its_queue(void **state)
{
	static struct poor p;

	(void)state;
	poor_start(&p, 5);
	for (unsigned i = 0; i < 10; i++)
		do
			host_run_do(&p.run, move_now, &(struct move){ 0, i % 2 });
		while (p.run.error.err == -EBUSY);
	while (answered(&p.a->queue[0], p.flush) < STORM)
		;
	poor_stop(&p);
}

static void what_waits_at_the_gate_goes_at_a_stop(void **state)
{
	static struct poor p;
	uint32_t base;

	(void)state;
	poor_start(&p, 5);
	assert_int_equal(frontend_queue_stop(p.a, 0, &base), 0);
	assert_int_equal(answered(&p.a->queue[0], p.flush), base);
	poor_stop(&p);
}

static void what_waits_at_the_gate_survives_a_loss(void **state)
{
	static struct poor p;

	(void)state;
	poor_start(&p, 5);
	frontend_detach(p.a);
	assert_int_equal(frontend_attach(p.a), 0);
	while (answered(&p.a->queue[0], p.flush) < STORM)
		;
	poor_stop(&p);
}

/* The front-end vanishes and comes back. */
static void all_answered_after_a_loss(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 128, .indirect = true, .data_bytes = 1 << 20, .inflight = true };
	static struct front_request r[STORM];

	(void)state;
	for (unsigned p = 0; p < ARRAY_SIZE(policy); p++) {
		struct host_run run;
		struct frontend *f;

		host_run_start(&run, policy[p]);
		f = host_run_attach(&run, "a", "d", &config);
		begin_storm(&f->queue[0], r);
		while (!answered(&f->queue[0], r))
			;
		frontend_detach(f);
		assert_int_equal(frontend_attach(f), 0);
		while (answered(&f->queue[0], r) < STORM)
			;
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(all_answered_after_moves),
		cmocka_unit_test(all_answered_at_a_stop),
		cmocka_unit_test(one_that_comes_later_is_not_covered),
		cmocka_unit_test(all_covered_hear_of_an_error),
		cmocka_unit_test(one_covers_all_at_a_stop),
		cmocka_unit_test(all_answered_after_a_loss),
		cmocka_unit_test(more_than_its_share_waits),
		cmocka_unit_test(what_waits_at_the_gate_goes_with_its_queue),
		cmocka_unit_test(what_waits_at_the_gate_goes_at_a_stop),
		cmocka_unit_test(what_waits_at_the_gate_survives_a_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
