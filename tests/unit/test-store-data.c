/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: every store that keeps data keeps it right: random reads, writes, flushes, discards and zeroing from two
 * workers at once, many in flight, checked against a shadow, then once more from a disk that was closed and opened
 * again.
 */
#include "store_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define DISK_BYTES (UINT64_C(16) << 20)
#define CHUNKS (DISK_BYTES / DRIVER_CHUNK / 2)

static uint64_t seed;

static struct store_disk *open_disk(struct store_pool *p, uint64_t size)
{
	struct store_disk_options options = { .name = "d", .image = "d.raw", .size_bytes = size, .fd = -1 };
	struct store_disk *d = NULL;

	assert_int_equal(store_disk_open(p, &options, &d), 0);
	assert_int_equal(d->size_bytes, DISK_BYTES);
	return d;
}

static void check_all(struct worker *w, struct store_disk *d, const uint8_t *shadow)
{
	uint8_t *got = aligned_alloc(4096, DISK_BYTES);

	memset(got, 0xee, DISK_BYTES);
	assert_int_equal(one_io(w, d, STORE_READ, 0, got, DISK_BYTES, 0, NULL), 0);
	assert_memory_equal(got, shadow, DISK_BYTES);
	free(got);
}

static void random_ops(const struct store_pool_options *options, bool unaligned, unsigned ops)
{
	static struct driver driver[2];
	uint8_t *shadow = calloc(1, DISK_BYTES);
	struct worker *w[2] = { new_worker(0, WORKER_POLL_ADAPTIVE), new_worker(1, WORKER_POLL_NEVER) };
	struct store_pool *p = NULL;
	struct store_disk *d;

	assert_int_equal(store_pool_create(options, &p), 0);
	d = open_disk(p, DISK_BYTES);
	assert_int_equal(store_disk_lock(d), 0);
	check_all(w[0], d, shadow);
	for (unsigned i = 0; i < 2; i++) {
		memset(&driver[i], 0, sizeof(driver[i]));
		driver[i].w = w[i];
		driver[i].disk = d;
		driver[i].shadow = shadow;
		driver[i].first_chunk = i * CHUNKS;
		driver[i].chunks = CHUNKS;
		driver[i].unaligned = unaligned;
		driver[i].ops = ops;
		driver[i].seed = seed + i;
		driver_launch(&driver[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		driver_join(&driver[i]);
	store_disk_unlock(d);
	store_disk_close(d);
	d = open_disk(p, 0);
	check_all(w[1], d, shadow);
	store_disk_close(d);
	store_pool_destroy(p);
	for (unsigned i = 0; i < 2; i++)
		worker_destroy(w[i]);
	free(shadow);
}

static void ram(void **state)
{
	(void)state;
	random_ops(&(struct store_pool_options){ .name = "p", .type = "ram", .huge_pages = true }, true, 20000);
}

static void model(void **state)
{
	(void)state;
	random_ops(&(struct store_pool_options){ .name = "p", .type = "model", .channels = 4, .read_latency_ns = 30000,
						 .write_latency_ns = 50000, .flush_latency_ns = 1000,
						 .byte_time_ps = 100 },
		   true, 5000);
}

/* "DIR/d.raw" is made in a folder of its own and removed. */
static void file_in(const char *parent, bool unaligned)
{
	char dir[128], path[160];
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/fairlead-test-XXXXXX", parent);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/d.raw", dir);
	random_ops(&(struct store_pool_options){ .name = "p", .type = "file", .directory = dir }, unaligned, 4000);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, DISK_BYTES);
	unlink(path);
	rmdir(dir);
}

static void file_aligned(void **state)
{
	(void)state;
	file_in("/var/tmp", false);
}

static void file_unaligned(void **state)
{
	(void)state;
	file_in("/var/tmp", true);
}

/* No O_DIRECT before Linux 6.6, no FALLOC_FL_ZERO_RANGE. */
static void file_on_tmpfs(void **state)
{
	(void)state;
	file_in("/dev/shm", true);
}

static void null(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct store_pool *p = NULL;
	struct store_disk *d;
	char buf[512] = "untouched";

	(void)state;
	assert_int_equal(store_pool_create(&(struct store_pool_options){ .name = "p", .type = "null" }, &p), 0);
	d = open_disk(p, DISK_BYTES);
	for (enum store_op op = 0; op < STORE_OPS; op++) {
		struct store_counters c;

		assert_int_equal(one_io(w, d, op, 512, buf, sizeof(buf), 0, &c), 0);
		assert_int_equal(c.ops[op], 1);
		assert_int_equal(c.bytes[op], 512);
		assert_int_equal(c.errors, 0);
	}
	assert_string_equal(buf, "untouched");
	assert_int_equal(store_disk_resize(d, 1024), 0);
	/* Past the end of a disk that shrank meanwhile. */
	assert_int_equal(one_io(w, d, STORE_READ, 1024, buf, sizeof(buf), 0, NULL), -EIO);
	assert_int_equal(store_disk_resize(d, 1000), -EINVAL);
	store_disk_close(d);
	store_pool_destroy(p);
	worker_destroy(w);
}

/* Zeroes where a disk shrank and grew again, memory kept by name, one user at a time; past the first mapping's end. */
static void memory_resizes(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct store_disk_options options = { .name = "d", .size_bytes = 0, .fd = -1 };
	struct store_pool *p = NULL;
	struct store_disk *d, *other;
	uint8_t buf[4096], zero[4096] = { 0 };
	uint64_t large = UINT64_C(200) << 30;

	(void)state;
	assert_int_equal(store_pool_create(&(struct store_pool_options){ .name = "p", .type = "ram" }, &p), 0);
	assert_int_equal(store_disk_open(p, &options, &d), -EINVAL);
	d = open_disk(p, DISK_BYTES);
	assert_int_equal(store_disk_open(p, &options, &other), -EBUSY);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, buf, sizeof(buf), 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, DISK_BYTES - 4096, buf, sizeof(buf), 0, NULL), 0);
	assert_int_equal(store_disk_resize(d, DISK_BYTES / 2), 0);
	assert_int_equal(one_io(w, d, STORE_READ, DISK_BYTES - 4096, buf, sizeof(buf), 0, NULL), -EIO);
	assert_int_equal(store_disk_resize(d, large), 0);
	assert_int_equal(one_io(w, d, STORE_READ, DISK_BYTES - 4096, buf, sizeof(buf), 0, NULL), 0);
	assert_memory_equal(buf, zero, sizeof(buf));
	memset(buf, 9, sizeof(buf));
	assert_int_equal(one_io(w, d, STORE_WRITE, large - 4096, buf, sizeof(buf), 0, NULL), 0);
	store_disk_close(d);
	assert_int_equal(store_disk_open(p, &options, &d), 0);
	assert_int_equal(d->size_bytes, large);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(one_io(w, d, STORE_READ, large - 4096, buf, sizeof(buf), 0, NULL), 0);
	assert_int_equal(buf[4095], 9);
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, sizeof(buf), 0, NULL), 0);
	assert_int_equal(buf[0], 7);
	store_disk_close(d);
	store_pool_destroy(p);
	worker_destroy(w);
}

static void unknown_type(void **state)
{
	struct store_pool *p = NULL;

	(void)state;
	assert_int_equal(store_pool_create(&(struct store_pool_options){ .name = "p", .type = "no such" }, &p), -EINVAL);
	assert_null(p);
	store_pool_destroy(NULL);
	store_disk_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null),		cmocka_unit_test(ram),		  cmocka_unit_test(memory_resizes),
		cmocka_unit_test(model),	cmocka_unit_test(file_aligned),	  cmocka_unit_test(file_unaligned),
		cmocka_unit_test(file_on_tmpfs), cmocka_unit_test(unknown_type),
	};
	const char *given = getenv("FAIRLEAD_SEED");

	seed = given ? strtoull(given, NULL, 0) : clock_now_ns();
	printf("FAIRLEAD_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
