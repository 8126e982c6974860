/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared logs. What is decided here: how a record reaches readers whole although nobody waits for anybody.
 *
 * A slot is eight 64-bit words, always stored and loaded one by one and untorn. The writer
 *
 *	1. stores 0 as the slot's sequence,		2. stores words 1-7,
 *	3. stores the slot's sequence,			4. stores head = sequence + 1,
 *
 * each with release order, so that nobody sees a later store without the earlier ones. A reader loads head, then the slot's
 * words, sequence last, all with acquire order. If it got any word of a newer record, it then also sees that record's
 * step 1 or 3, so the sequence is not the one it wanted: overrun, and it goes on with what is still there. With the right
 * sequence, a wrong check can only be damage (of a saved file, or by a stray store).
 *
 * Release and acquire per word instead of fences: on x86 they are plain moves, and thread sanitizers understand them.
 */
#include "ledger/log.h"

#include "ledger/plan.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RECORD_WORDS (sizeof(struct ledger_record) / sizeof(uint64_t))
#define LOG_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

_Static_assert(offsetof(struct ledger_record, sequence) == 0, "word 0 is the sequence");
_Static_assert(sizeof(struct ledger_log_header) <= LEDGER_LOG_HEADER_BYTES, "the header is one page");

static size_t log_bytes(uint64_t records)
{
	return LEDGER_LOG_HEADER_BYTES + records * sizeof(struct ledger_record);
}

static void log_place(struct ledger_log *log, void *map, size_t bytes, int fd)
{
	log->header = map;
	log->ring = (struct ledger_record *)((char *)map + LEDGER_LOG_HEADER_BYTES);
	log->mask = log->header->records - 1;
	log->bytes = bytes;
	log->fd = fd;
}

/* After the writer's own mapping nobody can make another one that writes. */
static int log_seal(int fd)
{
	int seals = LOG_SEALS | F_SEAL_SEAL;

#ifdef F_SEAL_FUTURE_WRITE
	seals |= F_SEAL_FUTURE_WRITE;
#endif
	return fcntl(fd, F_ADD_SEALS, seals) < 0 ? -errno : 0;
}

int ledger_log_create(struct ledger_log *log, uint16_t resource, uint16_t worker, uint64_t records,
		      uint64_t boot_ns)
{
	size_t bytes = log_bytes(records);
	void *map;
	int r;

	if (records < 64 || records > LEDGER_LOG_RECORDS_MAX || (records & (records - 1)))
		return -EINVAL;
	cleanup_close int fd = memfd_create("fairlead-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = log_seal(fd);
	if (r < 0) {
		munmap(map, bytes);
		return r;
	}
	*(struct ledger_log_header *)map = (struct ledger_log_header){
		.magic = LEDGER_LOG_MAGIC,
		.version = LEDGER_LOG_VERSION,
		.record_bytes = sizeof(struct ledger_record),
		.records = records,
		.boot_ns = boot_ns,
		.resource = resource,
		.worker = worker,
		.rules = LEDGER_PLAN_RULES,
		.head = 1,
	};
	log_place(log, map, bytes, take_fd(&fd));
	log->head = 1;
	log->live = true;
	return 0;
}

static int header_check(const struct ledger_log_header *h, uint64_t file_bytes)
{
	if (h->magic != LEDGER_LOG_MAGIC)
		return -EBADMSG;
	if (h->version != LEDGER_LOG_VERSION || h->record_bytes != sizeof(struct ledger_record))
		return -EPROTONOSUPPORT;
	if (h->records == 0 || h->records > LEDGER_LOG_RECORDS_MAX || (h->records & (h->records - 1)) ||
	    file_bytes < log_bytes(h->records))
		return -EBADMSG;
	return 0;
}

static int read_whole(int fd, void *to, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, (char *)to + done, bytes - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		done += (size_t)n;
	}
	return 0;
}

int ledger_log_open(struct ledger_log *log, int given_fd)
{
	cleanup_close int fd = given_fd;
	struct ledger_log_header h;
	struct stat st;
	bool live;
	size_t bytes;
	void *map;
	int r, seals;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	r = read_whole(fd, &h, sizeof(h));
	if (r < 0)
		return r;
	r = header_check(&h, (uint64_t)st.st_size);
	if (r < 0)
		return r;
	/* Without the seals its owner could truncate it under the mapping. */
	seals = fcntl(fd, F_GET_SEALS);
	live = seals >= 0 && (seals & LOG_SEALS) == LOG_SEALS;
	bytes = log_bytes(h.records);
	map = live ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0) :
		     mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = live ? 0 : read_whole(fd, map, bytes);
	if (r == 0) /* the file may have changed since; `records` decides what is touched */
		r = ((struct ledger_log_header *)map)->records == h.records ? 0 : -EBADMSG;
	if (r < 0) {
		munmap(map, bytes);
		return r;
	}
	log_place(log, map, bytes, take_fd(&fd));
	log->head = 0;
	log->live = live;
	return 0;
}

void ledger_log_close(struct ledger_log *log)
{
	if (!log->header)
		return;
	munmap(log->header, log->bytes);
	cleanup_close_fd(&log->fd);
	memset(log, 0, sizeof(*log));
	log->fd = -1;
}

void ledger_log_append(struct ledger_log *log, struct ledger_record *r)
{
	uint64_t *slot = (uint64_t *)&log->ring[log->head & log->mask];
	uint64_t word[RECORD_WORDS];

	r->sequence = log->head;
	r->check = ledger_record_check(r);
	memcpy(word, r, sizeof(word));
	store_release(&slot[0], 0);
	for (size_t i = 1; i < RECORD_WORDS; i++)
		store_release(&slot[i], word[i]);
	store_release(&slot[0], word[0]);
	store_release(&log->header->head, ++log->head);
}

/* Pairs with ledger_log_append(): see the top of the file. */
static void record_load(const struct ledger_record *from, struct ledger_record *to)
{
	const uint64_t *slot = (const uint64_t *)from;
	uint64_t word[RECORD_WORDS];

	for (size_t i = RECORD_WORDS; i-- > 0;)
		word[i] = load_acquire(&slot[i]);
	memcpy(to, word, sizeof(word));
}

static uint64_t log_oldest(const struct ledger_log *log, uint64_t head)
{
	return head > log->mask + 1 ? head - log->mask - 1 : 1;
}

void ledger_reader_init(struct ledger_reader *rd, const struct ledger_log *log)
{
	*rd = (struct ledger_reader){ .log = log, .next = log_oldest(log, load_acquire(&log->header->head)) };
}

/* Why the slot of the wanted sequence does not hold it: true if its writer has come round, false if it was damaged. */
static bool record_overwritten(const struct ledger_reader *rd, const struct ledger_record *r)
{
	static const struct ledger_record never;

	if (rd->log->live && load_acquire(&rd->log->header->head) - rd->next > rd->log->mask)
		return true;
	if (memcmp(r, &never, sizeof(*r)) == 0)
		return true;
	return r->sequence > rd->next && r->check == ledger_record_check(r);
}

bool ledger_reader_next(struct ledger_reader *rd, struct ledger_record *ret)
{
	for (;;) {
		uint64_t head = load_acquire(&rd->log->header->head), oldest = log_oldest(rd->log, head);
		struct ledger_record r;

		if (rd->next >= head)
			return false;
		if (rd->next < oldest) {
			rd->lost += oldest - rd->next;
			rd->next = oldest;
		}
		record_load(&rd->log->ring[rd->next & rd->log->mask], &r);
		if (r.sequence == rd->next && r.check == ledger_record_check(&r)) {
			rd->next++;
			*ret = r;
			return true;
		}
		if (record_overwritten(rd, &r))
			rd->lost++;
		else
			rd->damaged++;
		rd->next++;
	}
}

static int write_whole(int fd, const void *from, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pwrite(fd, (const char *)from + done, bytes - done, (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int ledger_log_save(const struct ledger_log *log, int fd)
{
	cleanup_free struct ledger_log_header *copy = calloc(1, log->bytes);
	struct ledger_record *ring, r;
	struct ledger_reader rd;

	if (!copy)
		return -ENOMEM;
	ring = (struct ledger_record *)((char *)copy + LEDGER_LOG_HEADER_BYTES);
	memcpy(copy, log->header, offsetof(struct ledger_log_header, head));
	ledger_reader_init(&rd, log);
	/* No more than the ring holds, or a fast writer would keep this going for ever. */
	for (uint64_t i = 0; i <= log->mask && ledger_reader_next(&rd, &r); i++)
		ring[r.sequence & log->mask] = r;
	copy->head = rd.next;
	return write_whole(fd, copy, log->bytes);
}
