/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes what reads logs: `fairlead ledger dump` and `replay` are given files from anywhere. The first byte says what follows:
 * 0: a log file; else records, each 64 bytes, which are put into that many logs (at most four) by turns as their writers would
 * have, so that sequence and check are right and replay takes them at their word. Whatever they say, reading ends, counts fit,
 * and every record that was read is dumped.
 */
#include "check.h"

#include "ledger/plan.h"
#include "ledger/replay.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LOGS_MAX 4u
#define RECORDS 1024u

static void count_line(void *to, const char *text)
{
	CHECK(strlen(text) > 0);
	++*(int64_t *)to;
}

static void use(struct ledger_log *logs, unsigned n)
{
	const struct ledger_log *list[LOGS_MAX];
	struct ledger_replay replay = { 0 };
	int r;

	for (unsigned i = 0; i < n; i++)
		list[i] = &logs[i];
	r = ledger_replay_run(list, n, &replay);
	CHECK(r == 0 || r == -EINVAL || r == -EBADMSG || r == -ENOMEM);
	CHECK(r != 0 || (replay.replayed <= replay.plans && replay.broken <= replay.records));
	for (unsigned json = 0; json < 2; json++) {
		struct ledger_dump_options options = { .json = json };
		int64_t lines = 0, records = ledger_dump(list, n, &options, count_line, &lines);

		CHECK(records < 0 || lines >= records);
	}
}

static int file_open(const uint8_t *data, size_t size, struct ledger_log *ret)
{
	int r, fd = memfd_create("log", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
	r = ledger_log_open(ret, fd);
	/* Nobody guesses numbers that are compared. */
	if (r == 0 && !ret->live)
		ret->header->rules = LEDGER_PLAN_RULES;
	return r;
}

static void records_append(const uint8_t *data, size_t size, struct ledger_log *logs, unsigned n)
{
	for (size_t i = 0; (i + 1) * sizeof(struct ledger_record) <= size; i++) {
		struct ledger_record r;

		memcpy(&r, data + i * sizeof(r), sizeof(r));
		ledger_log_append(&logs[i % n], &r);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ledger_log logs[LOGS_MAX] = { 0 };
	unsigned n = 1;

	if (size < 1)
		return 0;
	if (data[0] == 0) {
		if (file_open(data + 1, size - 1, &logs[0]) < 0)
			return 0;
	} else {
		n = 1 + (data[0] - 1u) % LOGS_MAX;
		for (unsigned i = 0; i < n; i++)
			CHECK(ledger_log_create(&logs[i], 1, (uint16_t)i, RECORDS, 0) == 0);
		records_append(data + 1, size - 1, logs, n);
	}
	use(logs, n);
	for (unsigned i = 0; i < n; i++)
		ledger_log_close(&logs[i]);
	return 0;
}
