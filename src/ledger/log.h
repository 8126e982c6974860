/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A shared log: a ring of records in a sealed memfd. One writer (a worker); any number of readers, in this process or in
 * another one that has the fd (or opens /proc/PID/fd/N). The writer never waits for readers and does not know them: a
 * reader that falls behind by more than the ring loses records and is told how many.
 */
#pragma once

#include "ledger/record.h"

#define LEDGER_LOG_MAGIC UINT64_C(0x474f4c444c524146) /* "FARLDLOG" */
#define LEDGER_LOG_VERSION 1u
#define LEDGER_LOG_HEADER_BYTES 4096u
#define LEDGER_LOG_RECORDS_MAX (1u << 24)

/* The first page of the file. */
struct ledger_log_header {
	uint64_t magic;
	uint32_t version, record_bytes;
	uint64_t records; /* ring size, a power of two */
	uint64_t boot_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC when the log began: makes dates of the records' times */
	uint16_t resource, worker;
	uint32_t rules; /* of the planner: LEDGER_PLAN_RULES of plan.h */
	/* Written by the writer after each record: sequence of the next one. On a line of its own. */
	uint64_t head cache_aligned;
};

struct ledger_log {
	struct ledger_log_header *header;
	struct ledger_record *ring;
	uint64_t head, mask; /* the writer's own */
	size_t bytes;
	int fd;
	bool live; /* a memfd that may still be written; false: a copy read from a file */
};

/* Control thread. `records`: a power of two of at least 64. 0 or -errno. */
int ledger_log_create(struct ledger_log *log, uint16_t resource, uint16_t worker, uint64_t records, uint64_t boot_ns);
/*
 * For reading; takes the fd in any case. A sealed memfd is mapped and stays live, any other file is read into memory (a
 * mapping of it could fault). -EBADMSG: not such a log; -EPROTONOSUPPORT: another version or geometry; -EFBIG.
 */
int ledger_log_open(struct ledger_log *log, int fd);
void ledger_log_close(struct ledger_log *log);

/* The writer's thread. Fills in sequence and check; never blocks, allocates or calls the kernel. */
void ledger_log_append(struct ledger_log *log, struct ledger_record *r);

/* Writes header and readable records to `fd`, an empty file: what ledger_log_open() reads. 0 or -errno. */
int ledger_log_save(const struct ledger_log *log, int fd);

struct ledger_reader {
	const struct ledger_log *log;
	uint64_t next;	  /* sequence wanted next */
	uint64_t lost;	  /* overwritten before they were read */
	uint64_t damaged; /* there, but not as they were written */
};

/* From the oldest record that is there. */
void ledger_reader_init(struct ledger_reader *rd, const struct ledger_log *log);
/* True: *ret is the next record. False: there is none now. Lost and damaged ones are skipped and counted. */
bool ledger_reader_next(struct ledger_reader *rd, struct ledger_record *ret);
