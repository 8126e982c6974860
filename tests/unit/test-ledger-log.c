/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a log's readers get every record whole and in order, or are told how many they lost; a changed bit anywhere in
 * a record is found; files that are no logs are refused.
 */
#include "ledger/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

static void append(struct ledger_log *log, uint64_t n)
{
	struct ledger_record r = { .time_ns = n * 3, .tick = n, .amount = (int64_t)n, .balance = -(int64_t)n, .op = LEDGER_USE };

	ledger_log_append(log, &r);
}

static int file_new(void)
{
	FILE *f = tmpfile();
	int fd = dup(fileno(f));

	assert_true(fd >= 0);
	fclose(f);
	return fd;
}

static void reads_what_was_written(void **state)
{
	struct ledger_log log;
	struct ledger_reader rd;
	struct ledger_record r;

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	ledger_reader_init(&rd, &log);
	assert_false(ledger_reader_next(&rd, &r));
	for (uint64_t n = 1; n <= 1000; n++) {
		append(&log, n);
		assert_true(ledger_reader_next(&rd, &r));
		assert_true(r.sequence == n && r.tick == n && r.amount == (int64_t)n && r.balance == -(int64_t)n);
		assert_false(ledger_reader_next(&rd, &r));
	}
	assert_int_equal(rd.lost + rd.damaged, 0);
	ledger_log_close(&log);
}

static void counts_what_it_lost(void **state)
{
	struct ledger_log log;
	struct ledger_reader rd;
	struct ledger_record r;
	uint64_t n = 0;

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	ledger_reader_init(&rd, &log);
	for (uint64_t i = 1; i <= 1000; i++)
		append(&log, i);
	for (; ledger_reader_next(&rd, &r); n++)
		assert_int_equal(r.sequence, 1000 - 64 + 1 + n);
	assert_int_equal(n, 64);
	assert_int_equal(rd.lost, 1000 - 64);
	assert_int_equal(rd.damaged, 0);
	ledger_log_close(&log);
}

#define RECORDS 5

/* Flips every bit of every byte of a saved record in turn. */
static void any_flipped_bit_is_found(void **state)
{
	struct ledger_log log, file;
	unsigned found = 0;
	int fd = file_new();

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	for (uint64_t i = 1; i <= RECORDS; i++)
		append(&log, i * UINT64_C(0x123456789));
	assert_int_equal(ledger_log_save(&log, fd), 0);
	for (unsigned bit = 0; bit < RECORDS * sizeof(struct ledger_record) * 8; bit++) {
		/* Sequence 1 is in slot 1. */
		off_t at = (off_t)(LEDGER_LOG_HEADER_BYTES + sizeof(struct ledger_record) + bit / 8);
		struct ledger_reader rd;
		struct ledger_record r;
		uint8_t byte, flipped;
		unsigned n = 0;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		flipped = byte ^ (uint8_t)(1u << bit % 8);
		assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
		assert_int_equal(ledger_log_open(&file, dup(fd)), 0);
		ledger_reader_init(&rd, &file);
		while (ledger_reader_next(&rd, &r))
			n++;
		assert_int_equal(n, RECORDS - 1);
		assert_int_equal(rd.damaged, 1);
		found++;
		ledger_log_close(&file);
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(found, RECORDS * 512);
	close(fd);
	ledger_log_close(&log);
}

static void refuses_what_is_no_log(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		int result;
	} change[] = {
		{ offsetof(struct ledger_log_header, magic), 0, -EBADMSG },
		{ offsetof(struct ledger_log_header, version), 9, -EPROTONOSUPPORT },
		{ offsetof(struct ledger_log_header, record_bytes), 32, -EPROTONOSUPPORT },
		{ offsetof(struct ledger_log_header, records), 65, -EBADMSG },
		{ offsetof(struct ledger_log_header, records), 128, -EBADMSG },
		{ offsetof(struct ledger_log_header, records) + 5, 1, -EBADMSG },
		{ offsetof(struct ledger_log_header, records), 0, -EBADMSG },
	};
	struct ledger_log log, file;
	int fd = file_new(), pipes[2];

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 63, 0), -EINVAL);
	assert_int_equal(ledger_log_create(&log, 3, 1, 96, 0), -EINVAL);
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	assert_int_equal(ledger_log_open(&file, dup(fd)), -EBADMSG);
	assert_int_equal(ledger_log_save(&log, fd), 0);
	for (size_t i = 0; i < ARRAY_SIZE(change); i++) {
		uint8_t byte;

		assert_int_equal(pread(fd, &byte, 1, (off_t)change[i].at), 1);
		assert_int_equal(pwrite(fd, &change[i].value, 1, (off_t)change[i].at), 1);
		assert_int_equal(ledger_log_open(&file, dup(fd)), change[i].result);
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)change[i].at), 1);
	}
	assert_int_equal(ledger_log_open(&file, dup(fd)), 0);
	ledger_log_close(&file);
	assert_int_equal(ftruncate(fd, LEDGER_LOG_HEADER_BYTES + 64), 0);
	assert_int_equal(ledger_log_open(&file, dup(fd)), -EBADMSG);
	close(fd);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ledger_log_open(&file, pipes[0]), -EBADMSG);
	close(pipes[1]);
	ledger_log_close(&log);
}

/* A head from nowhere in a file must not keep the reader busy or out of bounds. */
static void survives_any_head(void **state)
{
	static const uint64_t head[] = { 0, 1, 2, 63, 64, 65, 1000, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX };
	struct ledger_log log, file;
	int fd = file_new();

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	for (uint64_t i = 1; i <= 64; i++)
		append(&log, i);
	assert_int_equal(ledger_log_save(&log, fd), 0);
	for (size_t i = 0; i < ARRAY_SIZE(head); i++) {
		struct ledger_reader rd;
		struct ledger_record r;
		unsigned n = 0;

		assert_int_equal(pwrite(fd, &head[i], 8, offsetof(struct ledger_log_header, head)), 8);
		assert_int_equal(ledger_log_open(&file, dup(fd)), 0);
		ledger_reader_init(&rd, &file);
		while (ledger_reader_next(&rd, &r))
			n++;
		assert_true(n <= 64);
		ledger_log_close(&file);
	}
	close(fd);
	ledger_log_close(&log);
}

/* Another process: opens the memfd by its path, reads the live log, cannot write or shrink it. */
static void other_process_reads(void **state)
{
	struct ledger_log log;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	for (uint64_t i = 1; i <= 10; i++)
		append(&log, i);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char path[64];
		struct ledger_log theirs;
		struct ledger_reader rd;
		struct ledger_record r;
		unsigned n = 0;
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), log.fd);
		fd = open(path, O_RDWR);
		if (fd < 0 || ftruncate(fd, 0) == 0 || mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
			_exit(1);
		if (ledger_log_open(&theirs, fd) < 0 || !theirs.live)
			_exit(2);
		ledger_reader_init(&rd, &theirs);
		while (ledger_reader_next(&rd, &r))
			n += r.sequence == n + 1;
		_exit(n == 10 && rd.damaged == 0 ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ledger_log_close(&log);
}

#define STRESS 300000u

static void *writer(void *arg)
{
	for (uint64_t i = 1; i <= STRESS; i++)
		append(arg, i);
	return NULL;
}

/* A writer at full speed on a small ring: what the reader gets is whole, and what it does not get is counted. */
static void overrun_is_never_torn(void **state)
{
	struct ledger_log log;
	struct ledger_reader rd;
	struct ledger_record r = { .sequence = 0 };
	uint64_t got = 0;
	pthread_t thread;

	(void)state;
	assert_int_equal(ledger_log_create(&log, 3, 1, 64, 0), 0);
	ledger_reader_init(&rd, &log);
	assert_int_equal(pthread_create(&thread, NULL, writer, &log), 0);
	while (r.sequence < STRESS) {
		if (!ledger_reader_next(&rd, &r))
			continue;
		assert_true(r.tick == r.sequence && r.time_ns == r.sequence * 3 && r.amount == (int64_t)r.sequence);
		got++;
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(got + rd.lost, STRESS);
	assert_int_equal(rd.damaged, 0);
	ledger_log_close(&log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_was_written), cmocka_unit_test(counts_what_it_lost),
		cmocka_unit_test(any_flipped_bit_is_found), cmocka_unit_test(refuses_what_is_no_log),
		cmocka_unit_test(survives_any_head),	    cmocka_unit_test(other_process_reads),
		cmocka_unit_test(overrun_is_never_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
