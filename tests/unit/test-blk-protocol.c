/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole path of a disk without a guest: front-end, vhost-user session, block device, workers, store. Everything
 * that a front-end may change while requests are in flight is changed while they are, and the data is compared.
 */
#include "host_run.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#define DISK_BYTES (8u << 20)
#define BLOCK 4096u
#define BLOCKS (DISK_BYTES / BLOCK)
#define DEPTH 32u
#define QUEUES 2u

static char folder[] = "/tmp/blk-protocol-XXXXXX", path[64];
static struct host_run host;
static unsigned connected, refused; /* the control thread writes, anybody reads */

struct disk_options {
	uint64_t disk_bytes;
	const char *pool, *disk; /* more of the policy's keys */
};

static const struct disk_options plain = { DISK_BYTES, "type: ram", "" };
static const struct frontend_config usual = { .path = path, .queues = QUEUES, .queue_size = 128, .event_idx = true,
					      .indirect = true, .inflight = true, .data_bytes = 4 << 20 };

static void on_disk(void *arg, const struct host_disk *d, const char *event, const char *detail)
{
	if (strcmp(event, "connected") == 0)
		counter_add(&connected, 1);
	else if (strcmp(event, "queue-refused") == 0)
		counter_add(&refused, 1);
}

static const char *policy_text(const struct disk_options *o)
{
	static char text[512];

	snprintf(text, sizeof(text),
		 "pools: { pool: { %s, depth: 64, slo: off } }\n"
		 "vms: { vm: { disks: [ { name: disk, pool: pool, size: %llu, queues: 4, workers: 2, socket: %s%s } ] } }\n",
		 o->pool, (unsigned long long)o->disk_bytes, path, o->disk);
	return text;
}

static void host_begin(const struct disk_options *o)
{
	static const struct host_events events = { .disk = on_disk };

	connected = refused = 0;
	host_run_start_with(&host, policy_text(o), &events);
}

static void host_finish(void)
{
	host_run_stop(&host);
}

static struct host_disk *the_disk(struct host_run *r)
{
	return host_disk_find(r->host, "vm", "disk");
}

/* --- load: blocks whose contents tell which write they are from --- */

struct job {
	struct front_request request;
	struct front_buf buf;
	uint8_t *data;
	uint32_t block, version;
	bool busy;
};

struct load {
	struct frontend *f;
	struct job job[QUEUES][DEPTH];
	uint32_t version[BLOCKS]; /* last written; 0: never */
	bool taken[BLOCKS];	  /* a request on it is in flight */
	uint64_t random;
	unsigned in_flight, completed;
};

static uint32_t draw(struct load *l, uint32_t n)
{
	l->random ^= l->random << 13;
	l->random ^= l->random >> 7;
	l->random ^= l->random << 17;
	return (uint32_t)(l->random >> 20) % n;
}

static void pattern(uint8_t *data, uint32_t block, uint32_t version)
{
	uint32_t *word = (uint32_t *)(void *)data;

	for (uint32_t i = 0; i < BLOCK / 4; i++)
		word[i] = version ? (block * 0x9e3779b1u) ^ (version << 12) ^ i : 0;
}

static void load_init(struct load *l, struct frontend *f)
{
	memset(l, 0, sizeof(*l));
	l->f = f;
	l->random = 88172645463325252u;
	for (unsigned q = 0; q < QUEUES; q++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			l->job[q][i].data = frontend_alloc(f, BLOCK);
			assert_non_null(l->job[q][i].data);
		}
	}
}

static void job_submit(struct load *l, unsigned q, struct job *j)
{
	bool write = draw(l, 3) > 0;

	do {
		j->block = draw(l, BLOCKS / QUEUES) * QUEUES + q;
	} while (l->taken[j->block]);
	l->taken[j->block] = j->busy = true;
	j->version = l->version[j->block];
	if (write)
		pattern(j->data, j->block, j->version = ++l->version[j->block]);
	else
		memset(j->data, 0xee, BLOCK);
	j->buf = front_buf_of(l->f, j->data, BLOCK);
	j->request = (struct front_request){ .type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .sector = j->block * 8ull,
					     .data = &j->buf, .n_data = 1, .owner = j };
	assert_int_equal(front_submit(&l->f->queue[q], &j->request), 0);
	l->in_flight++;
}

/* Fills every queue to its depth. */
static void load_offer(struct load *l)
{
	for (unsigned q = 0; q < QUEUES; q++) {
		for (unsigned i = 0; i < DEPTH; i++)
			if (!l->job[q][i].busy)
				job_submit(l, q, &l->job[q][i]);
		front_kick(&l->f->queue[q]);
	}
}

static void job_check(struct load *l, struct job *j)
{
	uint8_t expected[BLOCK];

	assert_true(j->busy);
	assert_int_equal(j->request.status, VIRTIO_BLK_S_OK);
	pattern(expected, j->block, j->version);
	assert_memory_equal(j->data, expected, BLOCK);
	l->taken[j->block] = j->busy = false;
	l->in_flight--;
	l->completed++;
}

/* What has completed; everything, if `all`. */
static void load_reap(struct load *l, bool all)
{
	time_t limit = time(NULL) + 120;

	do {
		for (unsigned q = 0; q < QUEUES; q++) {
			struct front_request *r;

			while ((r = front_poll(&l->f->queue[q])))
				job_check(l, r->owner);
			assert_int_equal(l->f->queue[q].error, 0);
		}
		if (all && l->in_flight > 0)
			sched_yield();
		assert_true(time(NULL) < limit);
	} while (all && l->in_flight > 0);
}

/*
 * Blocks are written through one queue and verified through another. Not where ThreadSanitizer watches: it cannot
 * see that the front-end's ring orders the two, because front-end and device map it at different addresses.
 */
static unsigned reader_of(uint32_t block)
{
#ifdef UNDER_THREAD_SANITIZER
	return block % QUEUES;
#else
	return (block + 1) % QUEUES;
#endif
}

/* Every block that was ever written, read again. */
static void load_verify(struct load *l)
{
	for (uint32_t b = 0; b < BLOCKS; b++) {
		unsigned q = reader_of(b);
		struct job *j = &l->job[q][0];

		if (l->version[b] == 0)
			continue;
		*j = (struct job){ .data = j->data, .block = b, .version = l->version[b], .busy = true };
		j->buf = front_buf_of(l->f, j->data, BLOCK);
		j->request = (struct front_request){ .type = VIRTIO_BLK_T_IN, .sector = b * 8ull, .data = &j->buf, .n_data = 1 };
		l->in_flight++;
		assert_int_equal(front_run(&l->f->queue[q], &j->request), 0);
		job_check(l, j);
	}
}

static struct frontend *attached(const struct frontend_config *config)
{
	struct frontend *f = NULL;

	assert_int_equal(frontend_create(config, &f), 0);
	assert_int_equal(frontend_attach(f), 0);
	return f;
}

/* `change` between offering and reaping, `rounds` times. */
static void under_load(const struct frontend_config *config, unsigned rounds,
		       void (*change)(struct load *l, unsigned round))
{
	struct load *l = calloc(1, sizeof(*l));

	load_init(l, attached(config));
	for (unsigned i = 0; i < rounds; i++) {
		load_offer(l);
		if (change)
			change(l, i);
		load_reap(l, i % 4 == 3);
	}
	load_reap(l, true);
	load_verify(l);
	frontend_destroy(l->f);
	free(l);
}

/* --- tests --- */

static void test_every_kind_of_ring(void **state)
{
	for (unsigned kind = 0; kind < 64; kind++) {
		struct frontend_config c = usual;

		host_begin(&plain);
		c.packed = kind & 1;
		c.event_idx = kind & 2;
		c.indirect = kind & 4;
		c.calls = kind & 8;
		c.inflight = kind & 16;
		c.mem_slots = kind & 32;
		c.regions = 1 + kind % 3;
		under_load(&c, 4, NULL);
		host_finish();
	}
}

static void change_memory(struct load *l, unsigned round)
{
	assert_int_equal(frontend_memory_send(l->f), 0);
}

static void test_memory_changes_under_load(void **state)
{
	struct frontend_config c = usual;

	host_begin(&plain);
	for (unsigned packed = 0; packed < 2; packed++) {
		c.packed = packed;
		c.regions = 1 + packed;
		under_load(&c, 40, change_memory);
		/* The next begins with an empty disk. */
		host_finish();
		host_begin(&plain);
	}
	host_finish();
}

static void change_stop_and_start(struct load *l, unsigned round)
{
	unsigned q = round % QUEUES;
	uint32_t base;

	assert_int_equal(frontend_queue_stop(l->f, q, &base), 0);
	/* A stopped ring has given back everything it took. */
	assert_int_equal(frontend_queue_start(l->f, q, base), 0);
}

static void change_enabled(struct load *l, unsigned round)
{
	assert_int_equal(frontend_queue_enable(l->f, round % QUEUES, false), 0);
	assert_int_equal(frontend_queue_enable(l->f, round % QUEUES, true), 0);
}

static void move_queue(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	unsigned round = *(unsigned *)arg;

	blk_disk_move_queue(the_disk(r)->blk, round % QUEUES, round / 2 % 2);
	host_run_done(r, &none);
}

static void change_worker(struct load *l, unsigned round)
{
	host_run_do(&host, move_queue, &round);
}

static void change_everything(struct load *l, unsigned round)
{
	static void (*const changes[])(struct load *, unsigned) = {
		change_worker, change_memory, change_worker, change_stop_and_start, change_worker, change_enabled,
	};

	changes[round % ARRAY_SIZE(changes)](l, round);
}

static void test_everything_changes_under_load(void **state)
{
	static const struct disk_options slow = { DISK_BYTES, "type: model, channels: 4, read_latency: 20us, write_latency: 20us", "" };
	static void (*const changes[])(struct load *, unsigned) = { change_stop_and_start, change_enabled, change_worker,
								   change_everything };

	for (unsigned i = 0; i < 4 * ARRAY_SIZE(changes); i++) {
		struct frontend_config c = usual;

		host_begin(i & 1 ? &slow : &plain);
		c.packed = i & 2;
		under_load(&c, 40, changes[i / 4]);
		assert_int_equal(load_relaxed(&refused), 0);
		host_finish();
	}
}

/* The front-end loses its connection with requests in flight and comes back: each is completed, exactly once. */
static void change_connection(struct load *l, unsigned round)
{
	frontend_detach(l->f);
	assert_int_equal(frontend_attach(l->f), 0);
}

static void test_reconnecting_under_load(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct frontend_config c = usual;

		host_begin(&plain);
		c.packed = packed;
		under_load(&c, 40, change_connection);
		assert_int_equal(load_relaxed(&connected), 41);
		host_finish();
	}
}

/* The disk goes while it is busy: the other side sees the end of the connection, and nothing hangs. */
static void test_disk_goes_under_load(void **state)
{
	struct load *l = calloc(1, sizeof(*l));

	host_begin(&plain);
	load_init(l, attached(&usual));
	load_offer(l);
	host_finish();
	host_begin(&plain);
	assert_int_equal(frontend_attach(l->f), 0);
	frontend_destroy(l->f);
	free(l);
	host_finish();
}

/* --- single requests --- */

static uint8_t run(struct frontend *f, uint32_t type, uint64_t sector, void *data, uint32_t bytes)
{
	struct front_buf buf = front_buf_of(f, data, bytes);
	struct front_request r = { .type = type, .sector = sector, .data = &buf, .n_data = bytes > 0 };
	int e = front_run(&f->queue[0], &r);

	assert_true(e == 0 || e == -EIO);
	return r.status;
}

static void test_requests(void **state)
{
	struct virtio_blk_discard_write_zeroes *range;
	struct frontend *f;
	uint8_t *data;

	host_begin(&plain);
	f = attached(&usual);
	data = frontend_alloc(f, 65536);
	range = frontend_alloc(f, BLOCK);
	pattern(data, 7, 1);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, 8, data, BLOCK), VIRTIO_BLK_S_OK);
	assert_int_equal(run(f, VIRTIO_BLK_T_FLUSH, 0, data, 0), VIRTIO_BLK_S_OK);
	memset(data, 0xee, 65536);
	assert_int_equal(run(f, VIRTIO_BLK_T_GET_ID, 0, data, 20), VIRTIO_BLK_S_OK);
	assert_string_equal((char *)data, "disk");
	assert_int_equal(run(f, VIRTIO_BLK_T_IN, 0, data, 65536), VIRTIO_BLK_S_OK);
	*range = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = 4 };
	assert_int_equal(run(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, range, sizeof(*range)), VIRTIO_BLK_S_OK);
	range->flags = 1;
	assert_int_equal(run(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, range, sizeof(*range)), VIRTIO_BLK_S_OK);
	assert_int_equal(run(f, VIRTIO_BLK_T_IN, 0, data, 65536), VIRTIO_BLK_S_OK);
	for (unsigned i = BLOCK; i < BLOCK + 2048; i++)
		assert_int_equal(data[i], 0);
	assert_int_not_equal(data[BLOCK + 2048 + 1] | data[BLOCK + 2048], 0);
	range->flags = 0;
	assert_int_equal(run(f, VIRTIO_BLK_T_DISCARD, 0, range, sizeof(*range)), VIRTIO_BLK_S_OK);

	/* What the specification refuses. */
	assert_int_equal(run(f, VIRTIO_BLK_T_IN, DISK_BYTES / 512, data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, DISK_BYTES / 512 - 1, data, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(f, VIRTIO_BLK_T_IN, UINT64_MAX, data, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, 0, data, 511), VIRTIO_BLK_S_IOERR);
	assert_int_equal(run(f, 77, 0, data, 0), VIRTIO_BLK_S_UNSUPP);
	range->sector = DISK_BYTES / 512;
	assert_int_equal(run(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, range, sizeof(*range)), VIRTIO_BLK_S_IOERR);
	frontend_destroy(f);
	host_finish();
}

static void test_read_only(void **state)
{
	static const struct disk_options options = { DISK_BYTES, "type: ram", ", read_only: true" };
	struct frontend *f;
	uint8_t *data;

	host_begin(&options);
	f = attached(&usual);
	data = frontend_alloc(f, BLOCK);
	assert_true(f->features >> VIRTIO_BLK_F_RO & 1);
	assert_int_equal(run(f, VIRTIO_BLK_T_IN, 0, data, BLOCK), VIRTIO_BLK_S_OK);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, 0, data, BLOCK), VIRTIO_BLK_S_IOERR);
	frontend_destroy(f);
	host_finish();
}

static void flushes_now(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };
	const struct host_pool *pool = host_pool_find(r->host, "pool");
	uint64_t *n = arg;

	*n = 0;
	for (unsigned w = 0; w < r->host->team.n; w++)
		*n += load_relaxed(&pool->blk->on[w].counters.ops[STORE_FLUSH]);
	host_run_done(r, &none);
}

/* What config space says that a range may have, and not one sector more: it would be work without a bound. */
static void test_range_limits(void **state)
{
	static const uint32_t types[] = { VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES };
	struct disk_options large = { UINT64_C(8) << 40, "type: \"null\"", "" };
	struct virtio_blk_discard_write_zeroes *range;
	struct frontend *f;

	host_begin(&large);
	f = attached(&usual);
	range = frontend_alloc(f, BLOCK);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		range[0] = range[1] = (struct virtio_blk_discard_write_zeroes){ .num_sectors = BLK_RANGE_SECTORS_MAX };
		assert_int_equal(run(f, types[i], 0, range, 2 * sizeof(*range)), VIRTIO_BLK_S_OK);
		range[1].num_sectors++;
		assert_int_equal(run(f, types[i], 0, range, 2 * sizeof(*range)), VIRTIO_BLK_S_IOERR);
		range[1].num_sectors = UINT32_MAX;
		assert_int_equal(run(f, types[i], 0, range, 2 * sizeof(*range)), VIRTIO_BLK_S_IOERR);
	}
	frontend_destroy(f);
	host_finish();
}

/* Without a write cache zeroes are durable when they are answered, like data; one flush serves all ranges. */
static void zeroes_are_written_through(struct frontend *f)
{
	struct virtio_blk_discard_write_zeroes *range = frontend_alloc(f, BLOCK);
	uint64_t before, after;

	range[0] = (struct virtio_blk_discard_write_zeroes){ .sector = 8, .num_sectors = 4 };
	range[1] = (struct virtio_blk_discard_write_zeroes){ .sector = 80, .num_sectors = 4 };
	host_run_do(&host, flushes_now, &before);
	assert_int_equal(run(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, range, 2 * sizeof(*range)), VIRTIO_BLK_S_OK);
	assert_int_equal(run(f, VIRTIO_BLK_T_DISCARD, 0, range, 2 * sizeof(*range)), VIRTIO_BLK_S_OK);
	host_run_do(&host, flushes_now, &after);
	assert_int_equal(after, before + 1);
}

static void test_config_and_cache_mode(void **state)
{
	struct virtio_blk_config config;
	struct frontend *f;
	uint8_t wce = 0;

	host_begin(&plain);
	f = attached(&usual);
	assert_int_equal(frontend_config_read(f, 0, &config, sizeof(config)), 0);
	assert_int_equal(config.capacity, DISK_BYTES / 512);
	assert_int_equal(config.num_queues, 4);
	assert_int_equal(config.seg_max, 126);
	assert_int_equal(config.wce, 1);
	assert_int_equal(frontend_config_write(f, offsetof(struct virtio_blk_config, wce), &wce, 1), 0);
	assert_int_equal(frontend_config_read(f, offsetof(struct virtio_blk_config, wce), &wce, 1), 0);
	assert_int_equal(wce, 0);
	zeroes_are_written_through(f);
	assert_true(frontend_config_write(f, 0, &config, 8) < 0);
	frontend_destroy(f);
	host_finish();
}

static void test_resize(void **state)
{
	static const struct disk_options twice = { 2 * DISK_BYTES, "type: ram", "" };
	struct virtio_blk_config config;
	struct front_wire_message notice;
	struct frontend *f;
	uint8_t *data;
	int pair[2];
	uint64_t protocol;

	host_begin(&plain);
	f = attached(&usual);
	data = frontend_alloc(f, BLOCK);
	protocol = f->protocol_features | FRONT_PROTOCOL_BACKEND_REQ;
	assert_int_equal(frontend_set(f, FRONT_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(frontend_set(f, FRONT_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1), 0);
	close(pair[1]);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, DISK_BYTES / 512, data, BLOCK), VIRTIO_BLK_S_IOERR);
	host_run_apply(&host, policy_text(&twice));
	assert_int_equal(host.error.err, 0);
	assert_int_equal(front_message_receive(pair[0], &notice, NULL), 0);
	assert_int_equal(notice.header.request, 2);
	assert_int_equal(frontend_config_read(f, 0, &config, sizeof(config)), 0);
	assert_int_equal(config.capacity, 2 * DISK_BYTES / 512);
	assert_int_equal(run(f, VIRTIO_BLK_T_OUT, DISK_BYTES / 512, data, BLOCK), VIRTIO_BLK_S_OK);
	close(pair[0]);
	frontend_destroy(f);
	host_finish();
}

/* Every page of guest memory that changed while the log was on is in the log. */
static void test_dirty_log(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		struct frontend_config c = usual;
		struct load *l = calloc(1, sizeof(*l));
		struct front_wire_log area = { .size = 0x40000, .offset = 0 };
		int log = memfd_create("log", MFD_CLOEXEC);
		uint64_t features;
		uint8_t *bits, *before;
		size_t bytes;

		host_begin(&plain);
		c.packed = packed;
		load_init(l, attached(&c));
		bytes = l->f->memory.bytes;
		load_offer(l);
		load_reap(l, true);
		assert_int_equal(ftruncate(log, (off_t)area.size), 0);
		bits = mmap(NULL, area.size, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
		features = l->f->protocol_features | FRONT_PROTOCOL_LOG_SHMFD;
		assert_int_equal(frontend_set(l->f, FRONT_SET_PROTOCOL_FEATURES, &features, 8, NULL, 0), 0);
		assert_int_equal(frontend_set(l->f, FRONT_SET_LOG_BASE, &area, sizeof(area), &log, 1), 0);
		features = l->f->features | 1u << 26;
		assert_int_equal(frontend_set(l->f, FRONT_SET_FEATURES, &features, 8, NULL, 0), 0);
		/* Only the device's writes count: ours are made, then memory is copied, then they become visible. */
		before = malloc(bytes);
		for (unsigned i = 0; i < DEPTH; i++)
			job_submit(l, 0, &l->job[0][i]);
		memcpy(before, l->f->memory.base, bytes);
		front_kick(&l->f->queue[0]);
		load_reap(l, true);
		for (size_t page = 0; page < bytes / 4096; page++) {
			uint64_t n = front_memory_gpa(&l->f->memory, l->f->memory.base + page * 4096) / 4096;
			uint8_t *ring = (uint8_t *)l->f->queue[0].ring.driver, *at = l->f->memory.base + page * 4096;

			/* The page on which the driver itself publishes may differ by that. */
			if (memcmp(at, before + page * 4096, 4096) != 0 && (ring < at || ring >= at + 4096))
				assert_true(bits[n / 8] >> n % 8 & 1);
		}
		munmap(bits, area.size);
		close(log);
		free(before);
		frontend_destroy(l->f);
		free(l);
		host_finish();
	}
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/disk.sock", folder);
	return 0;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_ring),
		cmocka_unit_test(test_memory_changes_under_load),
		cmocka_unit_test(test_everything_changes_under_load),
		cmocka_unit_test(test_reconnecting_under_load),
		cmocka_unit_test(test_disk_goes_under_load),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_range_limits),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_config_and_cache_mode),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_dirty_log),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
