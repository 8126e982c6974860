/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: threads of a run that was killed are given back where they might run before, if they are those threads still and
 * nobody has moved them meanwhile; a file that is somebody else's is not believed, and links are not followed.
 */
#include "cosched/keep.h"
#include "cosched/place.h"
#include "cosched/procfs.h"
#include "cosched/taken.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test-taken-XXXXXX", path[64], other[64];
static unsigned cpu; /* one of ours */
static pid_t pid;
static struct taken taken;

static cpu_set_t mask_of(pid_t tid)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(tid, sizeof(set), &set), 0);
	return set;
}

static uint64_t start_of(pid_t tid)
{
	int proc = open("/proc", O_RDONLY | O_DIRECTORY);
	struct procfs_thread t;

	assert_int_equal(procfs_thread_read(proc, tid, tid, &t), 0);
	close(proc);
	return t.start;
}

static int begin(void **state)
{
	(void)state;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	for (cpu = 0; !CPU_ISSET(cpu, &(cpu_set_t[]){ mask_of(0) }[0]);)
		cpu++;
	taken = (struct taken){ pid, pid, start_of(pid), true, mask_of(pid) };
	return place_narrow(pid, &cpu, 1);
}

static int finish(void **state)
{
	(void)state;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
	return 0;
}

static bool is_narrow(void)
{
	cpu_set_t now = mask_of(pid);

	return CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now);
}

static bool is_back(void)
{
	cpu_set_t now = mask_of(pid);

	return CPU_EQUAL(&now, &taken.before);
}

static bool could_move(void)
{
	return CPU_COUNT(&taken.before) > 1;
}

static void what_lives_is_given_back(void **state)
{
	struct taken gone = taken;

	(void)state;
	gone.start++;
	assert_int_equal(taken_add(path, &cpu, 1, &gone), 0);
	assert_int_equal(taken_add(path, &cpu, 1, &taken), 0);
	assert_int_equal(taken_count(path, "/proc"), could_move());
	assert_int_equal(taken_give_back(path, "/proc"), 1);
	assert_true(is_back());
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(taken_give_back(path, "/proc"), 0);
}

static void others_of_that_number_are_left_alone(void **state)
{
	(void)state;
	taken.start++;
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 1), 0);
	assert_int_equal(taken_count(path, "/proc"), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 0);
	assert_true(is_narrow());
}

static void who_was_not_narrowed_stays(void **state)
{
	(void)state;
	taken.narrowed = false;
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 1), 0);
	assert_int_equal(taken_count(path, "/proc"), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 1);
	assert_true(is_narrow());
}

static void who_was_moved_meanwhile_stays(void **state)
{
	(void)state;
	if (!could_move())
		skip();
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 1), 0);
	CPU_CLR(cpu, &taken.before);
	assert_int_equal(sched_setaffinity(pid, sizeof(taken.before), &taken.before), 0);
	assert_int_equal(taken_count(path, "/proc"), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 1);
	assert_true(is_back());
}

static void nobody_left_removes_the_file(void **state)
{
	(void)state;
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 1), 0);
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 0), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 0), 0);
	assert_int_equal(taken_write("/nowhere/file", &cpu, 1, &taken, 1), -ENOENT);
}

static void links_and_strangers_are_not_believed(void **state)
{
	struct stat st;
	off_t size;

	(void)state;
	assert_int_equal(taken_write(other, &cpu, 1, &taken, 1), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 0);
	assert_true(is_narrow());
	/* A link that waits for a writer is replaced, not written through. */
	assert_int_equal(taken_write(path, &cpu, 1, &taken, 1), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 12345, 12345), 0);
		assert_int_equal(taken_give_back(path, "/proc"), 0);
		assert_true(is_narrow());
	}
	/* Another file of ours, which must not get lines of this kind; and one that nobody ever reads. */
	unlink(path);
	assert_int_equal(link(other, path), 0);
	assert_int_equal(stat(other, &st), 0);
	size = st.st_size;
	assert_int_equal(taken_add(path, &cpu, 1, &taken), 0);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_size, size);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(taken_count(path, "/proc"), 0);
	assert_int_equal(taken_add(path, &cpu, 1, &taken), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 1);
	unlink(other);
}

static void nonsense_is_passed_over(void **state)
{
	static const char *const lines[] = { "", "x", "1 2", "-5 0 0 0 0", "1 1 1 1-0 1", "1 1 1 9999 0", "1 1 1 - ", "%s %n" };
	FILE *f = fopen(path, "w");

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		fprintf(f, "%s\n", lines[i]);
	for (unsigned i = 0; i < 100000; i++)
		fputc('9', f);
	fclose(f);
	assert_int_equal(taken_count(path, "/proc"), 0);
	assert_int_equal(taken_give_back(path, "/proc"), 0);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/cosched.threads", folder);
	snprintf(other, sizeof(other), "%s/other", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, finish)

/* The right to these files: one has it at a time, and what somebody else has laid there does not keep it from being had. */
static void one_has_the_right_at_a_time(void **state)
{
	int fd = keep_claim(path), status;
	pid_t child;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(keep_claim(path), -EBUSY);
	keep_disclaim(fd, path);
	assert_int_equal(access(path, F_OK), -1);
	/* As a kill leaves it. */
	child = fork();
	if (child == 0)
		_exit(keep_claim(path) < 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(access(path, F_OK), 0);
	fd = keep_claim(path);
	assert_true(fd >= 0);
	keep_disclaim(fd, path);
	/* Anybody could have a lock on this one. */
	close(open(path, O_WRONLY | O_CREAT, 0644));
	fd = keep_claim(path);
	assert_true(fd >= 0);
	keep_disclaim(fd, path);
	assert_int_equal(symlink(other, path), 0);
	fd = keep_claim(path);
	assert_true(fd >= 0);
	assert_int_equal(access(other, F_OK), -1);
	keep_disclaim(fd, path);
	keep_disclaim(-1, path);
	assert_int_equal(keep_claim("/nowhere/file"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_lives_is_given_back),
		TEST(others_of_that_number_are_left_alone),
		TEST(who_was_not_narrowed_stays),
		TEST(who_was_moved_meanwhile_stays),
		TEST(nobody_left_removes_the_file),
		TEST(links_and_strangers_are_not_believed),
		TEST(nonsense_is_passed_over),
		TEST(one_has_the_right_at_a_time),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
