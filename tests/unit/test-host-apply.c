/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what a policy asks for runs, all of it or nothing.
 */
#include "host_run.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static void fill(struct host_run *run, const char *vm, uint8_t with)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .data_bytes = 1 << 20 };
	struct frontend *f = host_run_attach(run, vm, "root", &config);
	uint8_t *data = frontend_alloc(f, 4096);
	struct front_buf buf = front_buf_of(f, data, 4096);
	struct front_request r = { .type = VIRTIO_BLK_T_OUT, .data = &buf, .n_data = 1 };

	memset(data, with, 4096);
	assert_int_equal(front_run(&f->queue[0], &r), 0);
	frontend_destroy(f);
}

static uint8_t first_byte(struct host_run *run, const char *vm)
{
	struct frontend_config config = { .queues = 1, .queue_size = 64, .data_bytes = 1 << 20 };
	struct frontend *f = host_run_attach(run, vm, "root", &config);
	uint8_t *data = frontend_alloc(f, 4096), byte;
	struct front_buf buf = front_buf_of(f, data, 4096);
	struct front_request r = { .type = VIRTIO_BLK_T_IN, .data = &buf, .n_data = 1 };

	assert_int_equal(front_run(&f->queue[0], &r), 0);
	byte = data[0];
	frontend_destroy(f);
	return byte;
}

/* Also one that comes when the other has gone: it must not find what the other wrote. */
static void disks_of_one_name_are_each_vms_own(void **state)
{
	struct host_run run;

	(void)state;
	host_run_start(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: root, pool: ram, size: 1MiB } ] },\n"
			     "  b: { disks: [ { name: root, pool: ram, size: 1MiB } ] } }\n");
	fill(&run, "a", 1);
	fill(&run, "b", 2);
	assert_int_equal(first_byte(&run, "a"), 1);
	host_run_apply(&run, "pools: { ram: { type: ram } }\nvms: { c: { disks: [ { name: root, pool: ram, size: 1MiB } ] } }\n");
	assert_int_equal(run.error.err, 0);
	assert_int_equal(first_byte(&run, "c"), 0);
	host_run_stop(&run);
}

/* Sockets that are there keep their mode: to say that they have the new one would be a promise of who may connect. */
static void what_needs_a_restart_is_refused(void **state)
{
	static const char text[] = "pools: { ram: { type: ram } }\nvms: { a: { disks: [ { name: d, pool: ram, size: 1MiB } ] } }\n";
	struct host_run run;
	struct policy *p;

	(void)state;
	host_run_start(&run, text);
	p = host_run_policy(&run, text);
	p->daemon.socket_mode = 0600;
	host_run_do(&run, host_run_apply_now, p);
	assert_int_equal(run.error.err, -EBUSY);
	assert_non_null(strstr(run.error.text, "socket_mode"));
	p = host_run_policy(&run, text);
	p->daemon.socket_group = strdup("nobody");
	host_run_do(&run, host_run_apply_now, p);
	assert_int_equal(run.error.err, -EBUSY);
	host_run_apply(&run, text);
	assert_int_equal(run.error.err, 0);
	host_run_stop(&run);
}

/* --- sizes --- */

static void size_now(struct host_run *r, void *arg)
{
	uint64_t *sizes = arg;
	struct host_error none = { 0 };

	sizes[0] = load_relaxed(&host_disk_find(r->host, "a", "d")->store->size_bytes);
	sizes[1] = load_relaxed(&host_disk_find(r->host, "a", "e")->store->size_bytes);
	host_run_done(r, &none);
}

/* The first disk can grow, the second is asked for more than a file may have. */
static void a_size_that_fails_changes_none(void **state)
{
	struct rlimit limit, low;
	struct host_run run;
	uint64_t sizes[2];

	(void)state;
	host_run_start(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 8MiB }, { name: e, pool: ram, size: 8MiB } ] } }\n");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	low = limit;
	low.rlim_cur = 32 * MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	host_run_apply(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 16MiB }, { name: e, pool: ram, size: 64MiB } ] } }\n");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(run.error.err, -EFBIG);
	host_run_do(&run, size_now, sizes);
	assert_int_equal(sizes[0], 8 * MIB);
	assert_int_equal(sizes[1], 8 * MIB);
	/* And later, with room, both; and back. */
	host_run_apply(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 16MiB }, { name: e, pool: ram, size: 4MiB } ] } }\n");
	assert_int_equal(run.error.err, 0);
	host_run_do(&run, size_now, sizes);
	assert_int_equal(sizes[0], 16 * MIB);
	assert_int_equal(sizes[1], 4 * MIB);
	host_run_stop(&run);
}

/* The first disk can grow, the last can be made; the second is only read, and would be cut once there is no way back. */
static void a_size_that_cannot_shrink_changes_none(void **state)
{
	struct host_run run;
	uint64_t sizes[2];

	(void)state;
	host_run_start(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 8MiB },\n"
			     "  { name: e, pool: ram, size: 8MiB, read_only: on } ] } }\n");
	host_run_apply(&run, "pools: { ram: { type: ram } }\n"
			     "vms: { a: { disks: [ { name: d, pool: ram, size: 16MiB },\n"
			     "  { name: e, pool: ram, size: 4MiB, read_only: on }, { name: f, pool: ram, size: 4MiB } ] } }\n");
	assert_int_equal(run.error.err, -EROFS);
	host_run_do(&run, size_now, sizes);
	assert_int_equal(sizes[0], 8 * MIB);
	assert_int_equal(sizes[1], 8 * MIB);
	assert_null(host_disk_find(run.host, "a", "f"));
	host_run_stop(&run);
}

/* Not one new queue's disk is attached to what its policy said before. */
static void a_disk_made_anew_has_its_new_size(void **state)
{
	char folder[] = "/tmp/fairlead-test-XXXXXX", policy[512], command[64];
	static const unsigned mib[] = { 4, 8, 2 };
	struct host_run run;
	uint64_t sizes[2];

	(void)state;
	assert_non_null(mkdtemp(folder));
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(mib); i++) {
		unsigned at = i % ARRAY_SIZE(mib);

		snprintf(policy, sizeof(policy), "pools: { files: { type: file, directory: %s } }\n"
			 "vms: { a: { disks: [ { name: d, pool: files, queues: %u, size: %uMiB },\n"
			 "  { name: e, pool: files, image: d2.raw, size: 1MiB } ] } }\n",
			 folder, i + 1, mib[at]);
		if (i == 0)
			host_run_start(&run, policy);
		else
			host_run_apply(&run, policy);
		assert_int_equal(run.error.err, 0);
		host_run_do(&run, size_now, sizes);
		assert_int_equal(sizes[0], mib[at] * MIB);
	}
	host_run_stop(&run);
	/* And when the policy changed between two daemons: it grows, and is not cut. */
	for (unsigned i = 0; i < ARRAY_SIZE(mib); i++) {
		snprintf(policy, sizeof(policy), "pools: { files: { type: file, directory: %s } }\n"
			 "vms: { a: { disks: [ { name: d, pool: files, size: %uMiB },\n"
			 "  { name: e, pool: files, image: d2.raw, size: 2MiB, read_only: on } ] } }\n",
			 folder, mib[i]);
		host_run_start(&run, policy);
		host_run_do(&run, size_now, sizes);
		assert_int_equal(sizes[0], (i == 0 ? 4 : 8) * MIB);
		assert_int_equal(sizes[1], MIB);
		host_run_apply(&run, policy);
		assert_int_equal(run.error.err, 0);
		host_run_stop(&run);
	}
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	assert_int_equal(system(command), 0);
}

static off_t size_of(const char *folder, const char *name)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

/* Images that it made are gone again, one that it gave a size is empty again, what somebody has is as it was. */
static void what_fails_leaves_no_images(void **state)
{
	char folder[] = "/tmp/fairlead-test-XXXXXX", policy[512], command[160];
	static const char *const wrong[] = { "missing/c.raw", "folder" };
	struct host_run run;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command), "cd %s && mkdir folder && : >empty.raw && head -c 2097152 /dev/zero >has.raw", folder);
	assert_int_equal(system(command), 0);
	host_run_start(&run, "pools: { ram: { type: ram } }");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(policy, sizeof(policy), "pools: { files: { type: file, directory: %s } }\n"
			 "vms: { a: { disks: [ { name: a, pool: files, image: folder/new.raw, size: 1MiB },\n"
			 "  { name: b, pool: files, image: empty.raw, size: 1MiB }, { name: c, pool: files, image: has.raw, size: 4MiB },\n"
			 "  { name: d, pool: files, image: %s, size: 1MiB } ] } }\n",
			 folder, wrong[i]);
		host_run_apply(&run, policy);
		assert_int_not_equal(run.error.err, 0);
		assert_int_equal(size_of(folder, "folder/new.raw"), -1);
		assert_int_equal(size_of(folder, "empty.raw"), 0);
		assert_int_equal(size_of(folder, "has.raw"), 2 * MIB);
	}
	*strstr(policy, ", { name: c") = '\0';
	strcat(policy, " ] } }\n");
	host_run_apply(&run, policy);
	assert_int_equal(run.error.err, 0);
	host_run_stop(&run);
	assert_int_equal(size_of(folder, "folder/new.raw"), MIB);
	assert_int_equal(size_of(folder, "empty.raw"), MIB);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	assert_int_equal(system(command), 0);
}

/* --- promises --- */

static void shares_now(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };

	*(uint64_t *)arg = r->host->policy->vms[0].promise.shares;
	host_run_done(r, &none);
}

/* Slices keep the names of a VM's classes for good, and have room for a number of them. */
static void promises_that_are_refused_change_nothing(void **state)
{
	uint64_t shares, applied = 1;
	struct host_run run;
	char policy[320];

	(void)state;
	host_run_start(&run, "pools: { ram: { type: ram, slo: on, schedule: sliced, capacity: { iops: 100k } } }\n"
			     "vms: { a: { shares: 1, disks: [ { name: d, pool: ram, size: 1MiB } ] } }\n");
	for (uint64_t i = 2; i < 200 && run.error.err == 0; i++) {
		snprintf(policy, sizeof(policy), "pools: { ram: { type: ram, slo: on, schedule: sliced, capacity: { iops: 100k } } }\nclasses: { c%llu: { shares: 7 } }\n"
			 "vms: { a: { shares: %llu, disks: [ { name: d, pool: ram, size: 1MiB } ] } }\n",
			 (unsigned long long)i, (unsigned long long)i);
		host_run_apply(&run, policy);
		if (run.error.err == 0)
			applied = i;
	}
	host_run_do(&run, shares_now, &shares);
	assert_int_equal(shares, applied);
	host_run_stop(&run);
}

/* An image that was there may be larger than the policy says: what is past that is somebody's data. */
static void an_image_is_not_cut_unasked(void **state)
{
	char folder[] = "/tmp/fairlead-test-XXXXXX", path[96], policy[3][320], command[64];
	static const unsigned mib[] = { 4, 4, 6 };
	struct host_run run;
	struct stat st;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/d.raw", folder);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	close(fd);
	for (unsigned i = 0; i < 3; i++)
		snprintf(policy[i], sizeof(policy[i]), "pools: { files: { type: file, directory: %s } }\n"
			 "vms: { a: { shares: %u, disks: [ { name: d, pool: files, image: d.raw, size: %uMiB } ] } }\n",
			 folder, 100 + i, mib[i]);
	host_run_start(&run, policy[0]);
	host_run_apply(&run, policy[1]);
	assert_int_equal(run.error.err, 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 8 * MIB);
	/* Asked. */
	host_run_apply(&run, policy[2]);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 6 * MIB);
	host_run_stop(&run);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	assert_int_equal(system(command), 0);
}

/* Its data has no other place; and the way that the message names works. */
static void a_disk_in_memory_says_what_cannot_change(void **state)
{
	struct host_run run;

	(void)state;
	host_run_start(&run, "pools: { ram: { type: ram } }\nvms: { a: { disks: [ { name: d, pool: ram, size: 1MiB, queues: 1 } ] } }\n");
	host_run_apply(&run, "pools: { ram: { type: ram } }\nvms: { a: { disks: [ { name: d, pool: ram, size: 1MiB, queues: 2 } ] } }\n");
	assert_int_equal(run.error.err, -EBUSY);
	assert_non_null(strstr(run.error.text, "a/d: `queues` cannot change"));
	host_run_apply(&run, "pools: { ram: { type: ram } }\n");
	assert_int_equal(run.error.err, 0);
	host_run_apply(&run, "pools: { ram: { type: ram } }\nvms: { a: { disks: [ { name: d, pool: ram, size: 1MiB, queues: 2 } ] } }\n");
	assert_int_equal(run.error.err, 0);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(disks_of_one_name_are_each_vms_own),
		cmocka_unit_test(what_needs_a_restart_is_refused),
		cmocka_unit_test(a_size_that_fails_changes_none),
		cmocka_unit_test(a_size_that_cannot_shrink_changes_none),
		cmocka_unit_test(a_disk_made_anew_has_its_new_size),
		cmocka_unit_test(promises_that_are_refused_change_nothing),
		cmocka_unit_test(an_image_is_not_cut_unasked),
		cmocka_unit_test(what_fails_leaves_no_images),
		cmocka_unit_test(a_disk_in_memory_says_what_cannot_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
