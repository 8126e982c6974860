/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: memory tables translate what is mapped and nothing else, refuse regions that make no sense, share
 * mappings between tables, and survive the truncation of a file under them; a SIGBUS elsewhere still kills.
 */
#include "base/sigbus.h"
#include "virtio/memmap.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define PAGE 4096ull
#define KB64 65536ull

static int memory_file(size_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	return fd;
}

static struct memmap_region_spec region(int fd, uint64_t gpa, uint64_t size, uint64_t uva, uint64_t offset)
{
	return (struct memmap_region_spec){ .gpa = gpa, .size = size, .uva = uva, .mmap_offset = offset, .fd = fd };
}

static void addresses_translate(void **state)
{
	int fd = memory_file(4 * KB64);
	/* Given out of order; the last two touch in guest-physical space. */
	const struct memmap_region_spec s[] = {
		region(fd, 0x200000 + KB64, KB64, 0x7000000, KB64),
		region(fd, 0, KB64, 0x9000000, 2 * KB64),
		region(fd, 0x200000, KB64, 0x8000000, 3 * KB64 - PAGE),
	};
	struct memmap *m = NULL;
	struct iovec iov[3];
	uint8_t *p;

	assert_int_equal(memmap_create(s, 3, &m), 0);
	p = memmap_gpa(m, 0x200000 + KB64 + 5, 3);
	assert_non_null(p);
	*p = 42;
	assert_ptr_equal(memmap_uva(m, 0x7000005, 1), p);
	assert_int_equal(pread(fd, &(char){ 0 }, 1, KB64 + 5), 1);
	assert_non_null(memmap_gpa(m, 0, KB64));
	assert_null(memmap_gpa(m, 0, KB64 + 1));
	assert_null(memmap_gpa(m, KB64, 1));
	assert_null(memmap_gpa(m, 0x200000 - 1, 2));
	assert_null(memmap_gpa(m, 0x200000 + KB64 - 1, 2)); /* adjacent, but two mappings */
	assert_null(memmap_gpa(m, UINT64_MAX, 2));
	assert_null(memmap_gpa(m, 5, UINT64_MAX));
	assert_null(memmap_uva(m, 0x9000000 + KB64, 1));
	assert_null(memmap_uva(m, 0x9000000, KB64 + 1));
	assert_null(memmap_uva(m, 0, 1));

	assert_int_equal(memmap_iov(m, 0x200000 + KB64 - 10, 30, iov, 3), 2);
	assert_int_equal(iov[0].iov_len, 10);
	assert_int_equal(iov[1].iov_len, 20);
	assert_ptr_equal(iov[1].iov_base, p - 5);
	assert_int_equal(memmap_iov(m, 0x200000 + KB64 - 10, 30, iov, 1), -E2BIG);
	assert_int_equal(memmap_iov(m, 0x200000, 2 * KB64, iov, 3), 2);
	assert_int_equal(memmap_iov(m, 0x200000, 2 * KB64 + 1, iov, 3), -EFAULT);
	assert_int_equal(memmap_iov(m, KB64 - 1, 2, iov, 3), -EFAULT);
	assert_int_equal(memmap_iov(m, UINT64_MAX, 1, iov, 3), -EFAULT);
	assert_int_equal(memmap_iov(m, UINT64_MAX - 1, 5, iov, 3), -EFAULT);
	assert_int_equal(memmap_iov(m, 0, 0, iov, 3), 0);
	memmap_put(m);
	close(fd);
}

static void nonsense_is_refused(void **state)
{
	int fd = memory_file(4 * KB64), pipes[2], zero = open("/dev/zero", O_RDWR);
	int self = open("/proc/self/exe", O_RDONLY);
	struct memmap *m = (void *)1;
	const struct {
		struct memmap_region_spec s;
		int expected;
	} cases[] = {
		{ region(fd, 0, 0, 0, 0), -EINVAL },
		{ region(fd, 1, KB64, 0, 0), -EINVAL },
		{ region(fd, 0, KB64, 0, 512), -EINVAL },
		{ region(fd, UINT64_MAX - KB64 + 1 + PAGE, KB64, 0, 0), -EINVAL },
		{ region(fd, 0, KB64, UINT64_MAX - 5, 0), -EINVAL },
		{ region(fd, 0, KB64, 0, UINT64_MAX - PAGE + 1), -EINVAL },
		{ region(fd, 0, 1ull << 63, 0, 1ull << 63), -EINVAL },
		{ region(fd, 0, 4 * KB64 + PAGE, 0, 0), -ENOSPC },
		{ region(fd, 0, KB64, 0, 4 * KB64), -ENOSPC },
		{ region(-1, 0, KB64, 0, 0), -EBADF },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(memmap_create(&cases[i].s, 1, &m), cases[i].expected);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	for (unsigned i = 0; i < 3; i++) {
		const struct memmap_region_spec s = region((int[]){ pipes[0], zero, self }[i], 0, PAGE, 0, 0);

		assert_int_equal(memmap_create(&s, 1, &m), -EBADF);
	}
	assert_ptr_equal(m, (void *)1);
	close(pipes[0]);
	close(pipes[1]);
	close(zero);
	close(self);
	close(fd);
}

/* libblkio shares its rings and request headers to the byte. */
static void regions_may_end_within_a_page(void **state)
{
	int fd = memory_file(PAGE + 100);
	const struct memmap_region_spec s = region(fd, KB64, PAGE + 100, 0x9000000, 0), long_one = region(fd, 0, PAGE + 101, 0, 0);
	struct memmap *m = NULL;

	assert_int_equal(memmap_create(&s, 1, &m), 0);
	assert_non_null(memmap_gpa(m, KB64 + PAGE + 99, 1));
	assert_null(memmap_gpa(m, KB64 + PAGE + 99, 2));
	assert_null(memmap_uva(m, 0x9000000 + PAGE + 100, 1));
	memmap_put(m);
	assert_int_equal(memmap_create(&long_one, 1, &m), -ENOSPC);
	close(fd);
}

static void overlaps_are_refused(void **state)
{
	int fd = memory_file(4 * KB64);
	struct memmap_region_spec s[2] = { region(fd, KB64, KB64, 0, 0) };
	static struct memmap_region_spec many[MEMMAP_REGIONS_MAX + 1];
	const uint64_t bad[] = { KB64, KB64 + PAGE, PAGE, 2 * KB64 - PAGE };
	struct memmap *m = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		s[1] = region(fd, bad[i], KB64, KB64, KB64);
		assert_int_equal(memmap_create(s, 2, &m), -EINVAL);
	}
	s[1] = region(fd, 2 * KB64, KB64, KB64, KB64);
	assert_int_equal(memmap_create(s, 2, &m), 0);
	memmap_put(m);
	for (unsigned i = 0; i <= MEMMAP_REGIONS_MAX; i++)
		many[i] = region(fd, i * PAGE, PAGE, i * PAGE, 0);
	assert_int_equal(memmap_create(many, MEMMAP_REGIONS_MAX + 1, &m), -E2BIG);
	assert_int_equal(memmap_create(many, MEMMAP_REGIONS_MAX, &m), 0);
	assert_int_equal(memmap_add(m, &many[MEMMAP_REGIONS_MAX], &(struct memmap *){ NULL }), -E2BIG);
	memmap_put(m);
	close(fd);
}

static void tables_share_mappings(void **state)
{
	int fd = memory_file(4 * KB64);
	const struct memmap_region_spec a = region(fd, 0, KB64, KB64, 0);
	const struct memmap_region_spec b = region(fd, 2 * KB64, KB64, 8 * KB64, KB64);
	struct memmap *one = NULL, *two = NULL, *three = NULL;
	char *p;

	assert_int_equal(memmap_add(NULL, &a, &one), 0);
	assert_int_equal(memmap_add(one, &a, &two), -EINVAL);
	assert_int_equal(memmap_add(one, &b, &two), 0);
	assert_true(two->generation != one->generation);
	p = memmap_gpa(one, 5, 1);
	assert_ptr_equal(memmap_gpa(two, 5, 1), p);
	memmap_put(memmap_get(one));
	memmap_put(one);
	*p = 1; /* still mapped */
	assert_int_equal(memmap_remove(two, 2 * KB64, KB64, 7 * KB64, &three), -ENOENT);
	assert_int_equal(memmap_remove(two, 2 * KB64, PAGE, 8 * KB64, &three), -ENOENT);
	assert_int_equal(memmap_remove(two, 2 * KB64, KB64, 8 * KB64, &three), 0);
	memmap_put(two);
	assert_ptr_equal(memmap_gpa(three, 5, 1), p);
	assert_null(memmap_gpa(three, 2 * KB64, 1));
	*p = 2;
	assert_int_equal(memmap_remove(three, 0, KB64, KB64, &one), 0);
	assert_int_equal(one->n, 0);
	assert_null(memmap_gpa(one, 0, 1));
	memmap_put(one);
	memmap_put(three);
	memmap_put(NULL);
	close(fd);
}

static void *touch(void *p)
{
	return (void *)(uintptr_t)(*(volatile char *)p + 1);
}

static void truncation_is_survived(void **state)
{
	int fd = memory_file(4 * KB64), other = memory_file(KB64);
	const struct memmap_region_spec a = region(fd, 0, 4 * KB64, 0, 0), b = region(other, 0, KB64, 0, 0);
	struct memmap *m = NULL, *neighbour = NULL;
	unsigned before = sigbus_faults;
	pthread_t thread;
	void *result;
	char *p;

	assert_int_equal(memmap_create(&a, 1, &m), 0);
	assert_int_equal(memmap_create(&b, 1, &neighbour), 0);
	p = memmap_gpa(m, 0, 4 * KB64);
	memset(p, 7, 4 * KB64);
	memset(memmap_gpa(neighbour, 0, 1), 9, KB64);
	assert_int_equal(ftruncate(fd, KB64), 0);
	assert_int_equal(p[0], 7);
	assert_false(memmap_faulted(m));
	/* On another thread, as workers will. */
	assert_int_equal(pthread_create(&thread, NULL, touch, p + 2 * KB64), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((uintptr_t)result, 1);
	assert_true(memmap_faulted(m));
	assert_int_equal(sigbus_faults, before + 1);
	p[3 * KB64] = 1; /* nothing faults any more */
	assert_int_equal(p[0], 0);
	assert_int_equal(sigbus_faults, before + 1);
	assert_false(memmap_faulted(neighbour));
	assert_int_equal(*(char *)memmap_gpa(neighbour, KB64 - 1, 1), 9);
	memmap_put(m);
	memmap_put(neighbour);
	close(fd);
	close(other);
}

/* Many guards come and go; the handler finds the right one. */
static void guards_are_reused(void **state)
{
	enum { N = 200 };
	static bool faulted[N];
	char *p[N];
	int fd = memory_file(PAGE);

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++) {
			p[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			assert_ptr_not_equal(p[i], MAP_FAILED);
			faulted[i] = false;
			assert_int_equal(sigbus_guard_add(p[i], PAGE, &faulted[i]), 0);
		}
		assert_int_equal(ftruncate(fd, 0), 0);
		for (unsigned i = round; i < N; i += 3) {
			assert_int_equal(*(volatile char *)p[i], 0);
			for (unsigned k = 0; k < N; k++)
				assert_int_equal(faulted[k], k <= i && k >= round && (k - round) % 3 == 0);
		}
		assert_int_equal(ftruncate(fd, PAGE), 0);
		for (unsigned i = 0; i < N; i++) {
			sigbus_guard_remove(p[i]);
			munmap(p[i], PAGE);
		}
	}
	sigbus_guard_remove(p[0]);
	assert_int_equal(sigbus_guard_add(NULL, PAGE, &faulted[0]), -EINVAL);
	close(fd);
}

/* A fault that nobody registered, and a signal that somebody sent: both end the process as without a handler. */
static void foreign_faults_kill(void **state)
{
	bool unused;
	int fd = memory_file(PAGE);
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	char *guarded = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_int_equal(sigbus_guard_add(guarded, PAGE, &unused), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	for (unsigned sent = 0; sent < 2; sent++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
			signal(SIGBUS, SIG_DFL); /* the test framework's handler is what would be called otherwise */
			sigbus_guard_remove(guarded);
			if (sigbus_guard_add(guarded, PAGE, &unused))
				_exit(1);
			if (sent)
				raise(SIGBUS);
			else
				touch(p);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGBUS);
	}
	sigbus_guard_remove(guarded);
	munmap(guarded, PAGE);
	munmap(p, PAGE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_translate),	  cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(regions_may_end_within_a_page),
		cmocka_unit_test(overlaps_are_refused),	  cmocka_unit_test(tables_share_mappings),
		cmocka_unit_test(truncation_is_survived), cmocka_unit_test(guards_are_reused),
		cmocka_unit_test(foreign_faults_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
