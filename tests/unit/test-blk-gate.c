/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the gate between queues and a pool's scheduler, on real workers and driven over real sockets: data is right
 * while queues move between workers and memory changes, classes get their parts in order, and nothing that is held can hold
 * up a stop, a change of promises or the end.
 */
#include "host_run.h"

#include "base/clock.h"
#include "slo/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CHUNK 4096u
#define BE(level) (2u << 13 | (level))

static void wait_status(struct front_queue *q, struct front_request *r)
{
	while (r->status == 0xff) {
		front_poll(q);
		assert_int_equal(q->error, 0);
	}
}

static void submit_one(struct front_queue *q, struct front_request *r, struct front_buf *data)
{
	r->data = data;
	r->n_data = 1;
	r->status = 0xff;
	assert_int_equal(front_submit(q, r), 0);
	front_kick(q);
}

static void do_one(struct front_queue *q, struct front_request *r, struct front_buf *data)
{
	submit_one(q, r, data);
	wait_status(q, r);
}

/* --- looking at the scheduler of a/d --- */

struct look {
	uint64_t full;
	unsigned in_flight;
};

static void look_at(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct look *look = arg;
	struct blk_gate_node node;

	assert_true(blk_core_node_at(core, 0, &node));
	look->in_flight = slo_in_flight(s);
	look->full += slo_node_ring_full(node.node, 60, blk_core_now_ns(core));
}

static void looked(void *arg, int result)
{
	host_run_done(arg, &(struct host_error){ .err = result });
}

static void look_now(struct host_run *r, void *arg)
{
	struct blk_disk *d = host_disk_find(r->host, "a", "d")->blk;

	blk_gate_visit(d->pool->gate, look_at, arg, (struct blk_gate_done){ looked, r });
}

/* --- moves --- */

struct move {
	const char *vm, *name;
	unsigned queue, to;
};

static void move_now(struct host_run *r, void *arg)
{
	struct move *m = arg;
	struct host_error none = { 0 };

	/* -EBUSY while the last one is under way: tried again by the caller. */
	none.err = blk_disk_move_queue(host_disk_find(r->host, m->vm, m->name)->blk, m->queue, m->to);
	host_run_done(r, &none);
}

/* One request of 1..64 chunks at a random place; checked against a shadow. */
struct io {
	struct front_request request;
	struct front_buf buf;
	uint8_t *data;
	uint64_t chunk;
	unsigned chunks;
	bool busy;
};

#define DISK_CHUNKS 2048u
#define IOS 8u
#define IO_CHUNKS 64u

static bool overlaps(const struct io *io, uint64_t chunk, unsigned chunks)
{
	for (unsigned i = 0; i < IOS; i++)
		if (io[i].busy && chunk < io[i].chunk + io[i].chunks && io[i].chunk < chunk + chunks)
			return true;
	return false;
}

static void check_read(const struct io *io, const uint8_t *shadow)
{
	if (io->request.type == VIRTIO_BLK_T_IN)
		for (unsigned c = 0; c < io->chunks; c++)
			for (unsigned b = 0; b < CHUNK; b += 512)
				assert_int_equal(io->data[c * CHUNK + b], shadow[io->chunk + c]);
}

static void begin_io(struct frontend *f, struct front_queue *q, struct io *all, struct io *io, uint8_t *shadow)
{
	unsigned chunks = 1 + (unsigned)rand() % IO_CHUNKS;
	uint64_t chunk = (uint64_t)rand() % (DISK_CHUNKS - chunks);

	if (overlaps(all, chunk, chunks))
		return;
	io->chunk = chunk;
	io->chunks = chunks;
	io->busy = true;
	io->buf = front_buf_of(f, io->data, chunks * CHUNK);
	io->request = (struct front_request){
		.type = rand() % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.ioprio = BE((unsigned)rand() % 8),
		.sector = chunk * (CHUNK / 512),
		.data = &io->buf,
		.n_data = 1,
		.owner = io,
	};
	for (unsigned c = 0; c < chunks && io->request.type == VIRTIO_BLK_T_OUT; c++) {
		shadow[chunk + c] = (uint8_t)rand();
		memset(io->data + c * CHUNK, shadow[chunk + c], CHUNK);
	}
	assert_int_equal(front_submit(q, &io->request), 0);
	front_kick(q);
}

/* Two thousand requests, most of them split, while the queue goes back and forth and the memory table is sent again. */
static void data_survives(const char *policy)
{
	static uint8_t shadow[DISK_CHUNKS];
	struct frontend_config config = { .queues = 1, .queue_size = 64, .inflight = true, .indirect = true,
					  .data_bytes = IOS * IO_CHUNKS * CHUNK };
	struct io io[IOS] = { 0 };
	struct host_run run;
	struct frontend *f;
	unsigned done = 0, seed = 7;

	srand(seed);
	memset(shadow, 0, sizeof(shadow));
	host_run_start(&run, policy);
	f = host_run_attach(&run, "a", "d", &config);
	for (unsigned i = 0; i < IOS; i++)
		io[i].data = frontend_alloc(f, IO_CHUNKS * CHUNK);
	while (done < 2000) {
		struct front_request *r;

		for (unsigned i = 0; i < IOS; i++)
			if (!io[i].busy)
				begin_io(f, &f->queue[0], io, &io[i], shadow);
		while ((r = front_poll(&f->queue[0]))) {
			struct io *of = r->owner;

			assert_int_equal(r->status, VIRTIO_BLK_S_OK);
			check_read(of, shadow);
			of->busy = false;
			done++;
			if (done % 50 == 0)
				host_run_do(&run, move_now, &(struct move){ "a", "d", 0, done / 50 % 2 });
			if (done % 333 == 0)
				assert_int_equal(frontend_memory_send(f), 0);
		}
		assert_int_equal(f->queue[0].error, 0);
	}
	frontend_destroy(f);
	host_run_stop(&run);
}

static void data_survives_moves_and_remaps(void **state)
{
	(void)state;
	data_survives("pools: { ram: { type: ram, slo: on, split: 64KiB } }\n"
		      "vms: { a: { disks: [ { name: d, pool: ram, size: 8MiB } ] } }\n");
}

static void data_survives_from_slice_to_slice(void **state)
{
	(void)state;
	/* Less than the driver asks for, so that requests are held, taken back and moved. */
	data_survives("pools: { ram: { type: ram, slo: on, split: 64KiB, schedule: sliced, capacity: { iops: 20000 } } }\n"
		      "vms: { a: { limit: { iops: 4000 }, disks: [ { name: d, pool: ram, size: 8MiB } ] } }\n");
}

/* --- classes --- */

#define EACH 100u

/* As many requests of each class at once, none after: the order in which they come back shows what each class got. */
static unsigned gold_among_first(struct frontend *f, struct front_queue *q, unsigned first)
{
	static struct front_request r[2 * EACH];
	struct front_buf buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
	unsigned gold = 0;

	for (unsigned i = 0; i < 2 * EACH; i++) {
		r[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .ioprio = BE(i % 2 ? 7 : 0), .data = &buf, .n_data = 1 };
		assert_int_equal(front_submit(q, &r[i]), 0);
	}
	front_kick(q);
	for (unsigned n = 0; n < 2 * EACH;) {
		struct front_request *done = front_poll(q);

		assert_int_equal(q->error, 0);
		if (!done)
			continue;
		assert_int_equal(done->status, VIRTIO_BLK_S_OK);
		if (n++ < first && done->ioprio == BE(0))
			gold++;
	}
	return gold;
}

static const char three_to_one[] = "pools: { slow: { type: model, channels: 1, read_latency: 500us, write_latency: 500us } }\n"
				   "classes: { gold: { ioprio: [be/0], shares: 300 }, bronze: { ioprio: [be/7], shares: 100 } }\n"
				   "vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

/* On the owner's worker, and on another one that passes notes. */
static void classes_share_on_every_worker(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 256, .indirect = true, .data_bytes = 4 << 20 };
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, three_to_one);
	f = host_run_attach(&run, "a", "d", &config);
	for (unsigned queue = 0; queue < 2; queue++) {
		unsigned gold = gold_among_first(f, &f->queue[queue], 120);

		/* 90 of 120; the first batch may pass before the rest is seen. */
		assert_in_range(gold, 80, 100);
	}
	frontend_destroy(f);
	host_run_stop(&run);
}

static const char three_to_one_sliced[] =
	"pools: { slow: { type: model, channels: 4, read_latency: 1ms, write_latency: 1ms, schedule: sliced, capacity: { iops: 4000 } } }\n"
	"classes: { gold: { ioprio: [be/0], shares: 300 }, bronze: { ioprio: [be/7], shares: 100 } }\n"
	"vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

static void submit_both(struct frontend *f, struct front_queue *q, struct front_request *r)
{
	struct front_buf *buf = frontend_alloc(f, sizeof(*buf));

	*buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
	for (unsigned i = 0; i < 2 * EACH; i++) {
		r[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .ioprio = BE(i % 2 ? 7 : 0), .data = buf, .n_data = 1 };
		assert_int_equal(front_submit(q, &r[i]), 0);
	}
	front_kick(q);
}

/* Gold on one worker, bronze on both: shares hold over the pool, not within each slice. */
static void classes_share_over_slices(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 256, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r[2][2 * EACH];
	unsigned gold = 0, n = 0, all = 0;
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, three_to_one_sliced);
	f = host_run_attach(&run, "a", "d", &config);
	for (unsigned q = 0; q < 2; q++)
		submit_both(f, &f->queue[q], r[q]);
	while (all < 4 * EACH)
		for (unsigned q = 0; q < 2; q++) {
			struct front_request *done = front_poll(&f->queue[q]);

			assert_int_equal(f->queue[q].error, 0);
			if (!done)
				continue;
			assert_int_equal(done->status, VIRTIO_BLK_S_OK);
			all++;
			if (n < 240 && ++n)
				gold += done->ioprio == BE(0);
		}
	/* 180 of 240; the first batches pass before the ledger has seen any demand. */
	print_message("gold got %u of the first %u\n", gold, n);
	assert_in_range(gold, 150, 200);
	frontend_destroy(f);
	host_run_stop(&run);
}

/* --- what is held --- */

static const char held_at_one[] = "pools: { slow: { type: model, channels: 1, read_latency: 100us, write_latency: 100us } }\n"
				  "classes: { slow: { ioprio: [be/7], limit: { iops: 1 } }, free: { ioprio: [be/0] } }\n"
				  "vms: { a: { default_class: free, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";
static const char not_held[] = "pools: { slow: { type: model, channels: 1, read_latency: 100us, write_latency: 100us } }\n"
			       "classes: { slow: { ioprio: [be/7] }, free: { ioprio: [be/0] } }\n"
			       "vms: { a: { default_class: free, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";
static const char class_gone[] = "pools: { slow: { type: model, channels: 1, read_latency: 100us, write_latency: 100us } }\n"
				 "classes: { free: { ioprio: [be/0] } }\n"
				 "vms: { a: { default_class: free, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

#define SLICED_POOL "{ type: model, channels: 1, read_latency: 100us, write_latency: 100us, schedule: sliced, capacity: { iops: 10000 } }"
static const char held_in_slices[] = "pools: { slow: " SLICED_POOL " }\n"
				     "classes: { slow: { ioprio: [be/7], limit: { iops: 2 } }, free: { ioprio: [be/0] } }\n"
				     "vms: { a: { default_class: free, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";
static const char not_in_slices[] = "pools: { slow: " SLICED_POOL " }\n"
				    "classes: { free: { ioprio: [be/0] } }\n"
				    "vms: { a: { default_class: free, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

#define HELD 60u

static void submit_held(struct frontend *f, struct front_queue *q, struct front_request *r)
{
	static struct front_buf buf;

	buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
	for (unsigned i = 0; i < HELD; i++) {
		r[i] = (struct front_request){ .type = VIRTIO_BLK_T_OUT, .ioprio = BE(7), .data = &buf, .n_data = 1, .status = 0xff };
		assert_int_equal(front_submit(q, &r[i]), 0);
	}
	front_kick(q);
	/* One goes at once; the others of its batch are held by then. */
	wait_status(q, &r[0]);
}

static void all_end_well(struct front_queue *q, struct front_request *r)
{
	for (unsigned i = 0; i < HELD; i++) {
		wait_status(q, &r[i]);
		assert_int_equal(r[i].status, VIRTIO_BLK_S_OK);
	}
}

/* At one request a second this would take a minute for each queue. */
static void lifting_a_limit_lets_go(void **state)
{
	static const char *const before[] = { held_at_one, held_at_one, held_in_slices };
	static const char *const after[] = { not_held, class_gone, not_in_slices };
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r[HELD];

	(void)state;
	for (unsigned way = 0; way < ARRAY_SIZE(after); way++)
		for (unsigned queue = 0; queue < 2; queue++) {
			struct host_run run;
			struct frontend *f;

			host_run_start(&run, before[way]);
			f = host_run_attach(&run, "a", "d", &config);
			submit_held(f, &f->queue[queue], r);
			host_run_apply(&run, after[way]);
			assert_int_equal(run.error.err, 0);
			all_end_well(&f->queue[queue], r);
			frontend_destroy(f);
			host_run_stop(&run);
		}
}

static void a_stop_finishes_what_is_held(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r[HELD];
	struct host_run run;
	struct frontend *f;

	(void)state;
	/* A new host each time: what went at the first stop is owed, at one a second. */
	for (unsigned queue = 0; queue < 2; queue++) {
		uint32_t base;

		host_run_start(&run, held_at_one);
		f = host_run_attach(&run, "a", "d", &config);
		submit_held(f, &f->queue[queue], r);
		assert_int_equal(frontend_queue_stop(f, queue, &base), 0);
		/* What the device has taken is done; the rest stays in the ring for whoever goes on from there. */
		assert_in_range(base, 2, HELD);
		for (unsigned i = 0; i < base; i++)
			wait_status(&f->queue[queue], &r[i]);
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

static void drained(void *arg, int result, uint32_t value)
{
	struct host_error none = { .err = result };

	(void)value;
	host_run_done(arg, &none);
}

static void drain_now(struct host_run *r, void *arg)
{
	(void)arg;
	blk_disk_drain(host_disk_find(r->host, "a", "d")->blk, 300 * NSEC_PER_SEC, (struct vhost_done){ drained, r });
}

/* What was held goes, and what comes later is not held; with an owner on this or another worker, and in slices. */
static void draining_lets_go(void **state)
{
	static const char *const policy[] = { held_at_one, held_in_slices };
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r[2][HELD];
	struct host_run run;
	struct frontend *f;

	(void)state;
	for (unsigned way = 0; way < ARRAY_SIZE(policy); way++) {
		host_run_start(&run, policy[way]);
		f = host_run_attach(&run, "a", "d", &config);
		submit_held(f, &f->queue[0], r[0]);
		submit_held(f, &f->queue[1], r[1]);
		host_run_do(&run, drain_now, NULL);
		assert_int_equal(run.error.err, 0);
		for (unsigned again = 0; again < 2; again++)
			for (unsigned q = 0; q < 2; q++) {
				all_end_well(&f->queue[q], r[q]);
				submit_held(f, &f->queue[q], r[q]);
			}
		for (unsigned q = 0; q < 2; q++)
			all_end_well(&f->queue[q], r[q]);
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

/* The end of the daemon and a front-end that vanishes, with requests held; then they are done after all, exactly once. */
static void held_requests_outlive_the_daemon(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20, .inflight = true };
	static struct front_request r[HELD];
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, held_at_one);
	f = host_run_attach(&run, "a", "d", &config);
	submit_held(f, &f->queue[0], r);
	frontend_detach(f);
	host_run_apply(&run, not_held);
	assert_int_equal(frontend_attach(f), 0);
	all_end_well(&f->queue[0], r);
	frontend_destroy(f);
	host_run_stop(&run);
}

/* A queue with held requests goes to another worker and back, and a new limit there is the old one. */
static void held_requests_move_under(const char *before, const char *after)
{
	struct frontend_config config = { .queues = 2, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r[HELD];
	struct host_run run;
	struct frontend *f;

	host_run_start(&run, before);
	f = host_run_attach(&run, "a", "d", &config);
	submit_held(f, &f->queue[0], r);
	for (unsigned i = 0; i < 10; i++)
		do
			host_run_do(&run, move_now, &(struct move){ "a", "d", 0, i % 2 });
		while (run.error.err == -EBUSY);
	host_run_apply(&run, after);
	all_end_well(&f->queue[0], r);
	frontend_destroy(f);
	host_run_stop(&run);
}

static void held_requests_move(void **state)
{
	(void)state;
	held_requests_move_under(held_at_one, not_held);
	held_requests_move_under(held_in_slices, not_in_slices);
}

/*
 * A write that passed the gate by itself fills the window of its pool, and behind it waits a class that has to wait for its limit
 * afterwards. When the write is done the class's time has to be known, although the worker is kept busy by another pool and never
 * sleeps: else it would wait for as long as that goes on.
 */
static void a_limit_is_known_when_the_window_opens(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 16, .indirect = true, .data_bytes = 1 << 20 };
	struct front_request read = { .type = VIRTIO_BLK_T_IN }, write = { .type = VIRTIO_BLK_T_OUT }, slow = read, busy = read;
	struct look look = { 0 };
	struct frontend *f[3];
	struct front_buf buf[3];
	struct host_run run;

	(void)state;
	host_run_workers = 1;
	host_run_poll_idle_ns = 100 * NSEC_PER_MSEC;
	host_run_start(&run, "pools: { one: { type: model, channels: 1, read_latency: 1us, write_latency: 500ms },\n"
			     "  other: { type: \"null\" } }\n"
			     "vms: { a: { disks: [ { name: d, pool: one, size: 8MiB } ] },\n"
			     "  b: { limit: { iops: 0.5 }, disks: [ { name: d, pool: one, size: 8MiB } ] },\n"
			     "  c: { disks: [ { name: d, pool: other, size: 8MiB } ] } }\n");
	for (unsigned i = 0; i < 3; i++) {
		f[i] = host_run_attach(&run, (const char *[]){ "a", "b", "c" }[i], "d", &config);
		buf[i] = front_buf_of(f[i], frontend_alloc(f[i], CHUNK), CHUNK);
	}
	do_one(&f[1]->queue[0], &slow, &buf[1]);
	do_one(&f[0]->queue[0], &read, &buf[0]);
	submit_one(&f[0]->queue[0], &write, &buf[0]);
	while (!look.in_flight && write.status == 0xff) {
		front_poll(&f[0]->queue[0]);
		host_run_do(&run, look_now, &look);
	}
	submit_one(&f[1]->queue[0], &slow, &buf[1]);
	while (slow.status == 0xff) {
		do_one(&f[2]->queue[0], &busy, &buf[2]);
		front_poll(&f[1]->queue[0]);
	}
	assert_int_equal(slow.status, VIRTIO_BLK_S_OK);
	wait_status(&f[0]->queue[0], &write);
	for (unsigned i = 0; i < 3; i++)
		frontend_destroy(f[i]);
	host_run_stop(&run);
	host_run_workers = 0;
	host_run_poll_idle_ns = 0;
}

/* --- what is seen --- */

static const char held_for_long[] = "pools: { slow: { type: model, channels: 1, read_latency: 100us, write_latency: 100us } }\n"
				    "vms: { a: { limit: { iops: 0.01 }, disks: [ { name: d, pool: slow, size: 8MiB, workers: 2, queues: 2 } ] } }\n";

/* All descriptors are here, on the owner's worker or on another: there may be more behind them. */
static void a_full_ring_is_told(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 16, .indirect = true, .data_bytes = 1 << 20 };
	struct front_request first = { .type = VIRTIO_BLK_T_IN }, r[16];

	(void)state;
	for (unsigned queue = 0; queue < 2; queue++) {
		struct look look = { 0 };
		struct host_run run;
		struct frontend *f;
		struct front_buf buf;

		host_run_start(&run, held_for_long);
		f = host_run_attach(&run, "a", "d", &config);
		buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
		do_one(&f->queue[queue], &first, &buf);
		host_run_do(&run, look_now, &look);
		assert_int_equal(look.full, 0);
		for (unsigned i = 0; i < 16; i++) {
			r[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN };
			submit_one(&f->queue[queue], &r[i], &buf);
		}
		/* A second is counted when it is over. */
		while (!look.full)
			host_run_do(&run, look_now, &look);
		frontend_destroy(f);
		host_run_stop(&run);
	}
}

/* --- the window --- */

#define WINDOW 4u
#define BURST 32u

static const char small_window[] = "pools: { slow: { type: model, channels: 4, depth: 4, read_latency: 5ms, write_latency: 5ms } }\n"
				   "vms: { a: { disks: [ { name: d, pool: slow, size: 8MiB } ] } }\n";

/* What goes in one batch without being asked for one by one is no more than the device is to have. */
static void the_window_holds_in_batches(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .indirect = true, .data_bytes = 1 << 20 };
	struct front_request r[BURST];
	struct look look = { 0 };
	unsigned most = 0;
	struct host_run run;
	struct frontend *f;
	struct front_buf buf;

	(void)state;
	host_run_start(&run, small_window);
	f = host_run_attach(&run, "a", "d", &config);
	buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < BURST; i++) {
			r[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .data = &buf, .n_data = 1, .status = 0xff };
			assert_int_equal(front_submit(&f->queue[0], &r[i]), 0);
		}
		front_kick(&f->queue[0]);
		do {
			host_run_do(&run, look_now, &look);
			most = look.in_flight > most ? look.in_flight : most;
		} while (look.in_flight);
		for (unsigned i = 0; i < BURST; i++)
			wait_status(&f->queue[0], &r[i]);
	}
	print_message("  bursts of %u: at most %u in flight\n", BURST, most);
	assert_true(most <= WINDOW);
	frontend_destroy(f);
	host_run_stop(&run);
}

/* --- changes --- */

static void a_policy_that_fails_changes_nothing(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 128, .indirect = true, .data_bytes = 4 << 20 };
	static struct front_request r = { .type = VIRTIO_BLK_T_FLUSH };
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, not_held);
	f = host_run_attach(&run, "a", "d", &config);
	/* The second disk's folder is not there. */
	host_run_apply(&run, "pools: { slow: { type: model, channels: 1, read_latency: 100us, write_latency: 100us },\n"
			     "  gone: { type: file, directory: /nonexistent } }\n"
			     "vms: { b: { disks: [ { name: n, pool: slow, size: 8MiB }, { name: m, pool: gone, size: 8MiB } ] } }\n");
	assert_int_not_equal(run.error.err, 0);
	r.status = 0xff;
	assert_int_equal(front_submit(&f->queue[0], &r), 0);
	front_kick(&f->queue[0]);
	wait_status(&f->queue[0], &r);
	assert_int_equal(r.status, VIRTIO_BLK_S_OK);
	frontend_destroy(f);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_survives_moves_and_remaps),
		cmocka_unit_test(data_survives_from_slice_to_slice),
		cmocka_unit_test(classes_share_on_every_worker),
		cmocka_unit_test(classes_share_over_slices),
		cmocka_unit_test(lifting_a_limit_lets_go),
		cmocka_unit_test(a_stop_finishes_what_is_held),
		cmocka_unit_test(draining_lets_go),
		cmocka_unit_test(held_requests_outlive_the_daemon),
		cmocka_unit_test(held_requests_move),
		cmocka_unit_test(a_limit_is_known_when_the_window_opens),
		cmocka_unit_test(a_full_ring_is_told),
		cmocka_unit_test(the_window_holds_in_batches),
		cmocka_unit_test(a_policy_that_fails_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
