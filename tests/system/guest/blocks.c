/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes blocks that prove where and when they were written, and checks them.
 *
 *   blocks fill  DEVICE SEED FIRST COUNT          writes generation 1 everywhere, then syncs
 *   blocks check DEVICE SEED FIRST COUNT          reads it back
 *   blocks churn DEVICE SEED FIRST COUNT DEPTH STOPFILE
 *       random writes, DEPTH in flight, each block with one request at a time; now and then a read of a block at rest,
 *       which must show its last acknowledged write, and a sync; until STOPFILE exists; then everything is read back
 *
 * Prints one line of JSON and exits 1 if anything was wrong. FIRST and COUNT are in blocks of 4 KiB; I/O is O_DIRECT through
 * io_uring. One thread.
 */
#define _GNU_SOURCE
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DEPTH_MAX 256u
#define COMPLAINTS_MAX 5u

enum op { OP_WRITE, OP_READ, OP_SYNC, OPS };

struct slot {
	enum op op;
	uint64_t block, generation;
	uint64_t *data;
};

static struct {
	int fd;
	uint64_t seed, first, count;
	unsigned depth;
	struct io_uring ring;
	struct slot slot[DEPTH_MAX];
	unsigned idle[DEPTH_MAX], n_idle;
	uint64_t *generation; /* last acknowledged, per block */
	bool *busy;
	uint64_t done[OPS], errors, mismatches;
	uint64_t random;
} c;

static void die(const char *what)
{
	printf("{\"error\": \"%s: %s\"}\n", what, strerror(errno));
	exit(1);
}

static uint64_t random_next(void)
{
	return mix64(c.random++);
}

static void complain(const struct slot *s, int result)
{
	unsigned at = pattern_check(s->data, c.seed, s->block, s->generation);

	if (c.errors + c.mismatches > COMPLAINTS_MAX)
		return;
	if (result != (int)BLOCK_BYTES && result != 0)
		fprintf(stderr, "op %d block %llu: result %d\n", s->op, (unsigned long long)s->block, result);
	else
		fprintf(stderr, "block %llu generation %llu: word %u; it says seed %llx block %llu generation %llu\n",
			(unsigned long long)s->block, (unsigned long long)s->generation, at,
			(unsigned long long)s->data[0], (unsigned long long)s->data[1], (unsigned long long)s->data[2]);
}

static void complete(struct slot *s, int result)
{
	c.done[s->op]++;
	if (result != (s->op == OP_SYNC ? 0 : (int)BLOCK_BYTES)) {
		c.errors++;
		complain(s, result);
	} else if (s->op == OP_READ && pattern_check(s->data, c.seed, s->block, s->generation) != BLOCK_WORDS) {
		c.mismatches++;
		complain(s, result);
	} else if (s->op == OP_WRITE) {
		c.generation[s->block - c.first] = s->generation;
	}
	if (s->op != OP_SYNC)
		c.busy[s->block - c.first] = false;
	c.idle[c.n_idle++] = (unsigned)(s - c.slot);
}

/* Hands requests on and takes completions; waits for one at least. */
static void turn(void)
{
	struct io_uring_cqe *cqe;
	int ret;

	do
		ret = io_uring_submit_and_wait(&c.ring, 1);
	while (ret == -EINTR);
	if (ret < 0) {
		errno = -ret;
		die("io_uring_enter");
	}
	while (io_uring_peek_cqe(&c.ring, &cqe) == 0) {
		complete(io_uring_cqe_get_data(cqe), cqe->res);
		io_uring_cqe_seen(&c.ring, cqe);
	}
}

static void request(enum op op, uint64_t block, uint64_t generation)
{
	struct io_uring_sqe *sqe;
	struct slot *s;

	while (c.n_idle == 0)
		turn();
	s = &c.slot[c.idle[--c.n_idle]];
	s->op = op;
	s->block = block;
	s->generation = generation;
	sqe = io_uring_get_sqe(&c.ring);
	if (op == OP_SYNC) {
		io_uring_prep_fsync(sqe, c.fd, IORING_FSYNC_DATASYNC);
	} else {
		c.busy[block - c.first] = true;
		if (op == OP_WRITE) {
			pattern_fill(s->data, c.seed, block, generation);
			io_uring_prep_write(sqe, c.fd, s->data, BLOCK_BYTES, block * BLOCK_BYTES);
		} else {
			io_uring_prep_read(sqe, c.fd, s->data, BLOCK_BYTES, block * BLOCK_BYTES);
		}
	}
	io_uring_sqe_set_data(sqe, s);
}

static void drain(void)
{
	while (c.n_idle < c.depth)
		turn();
}

static void fill(void)
{
	for (uint64_t i = 0; i < c.count; i++)
		request(OP_WRITE, c.first + i, 1);
	drain();
	if (fsync(c.fd))
		die("fsync");
}

/* Reads everything and compares with `generation` (0: what was acknowledged). */
static void check(uint64_t generation)
{
	for (uint64_t i = 0; i < c.count; i++)
		request(OP_READ, c.first + i, generation ? generation : c.generation[i]);
	drain();
}

static void churn(const char *stop_file)
{
	uint64_t next = 1;

	while (access(stop_file, F_OK) != 0) {
		for (unsigned i = 0; i < 256; i++) {
			uint64_t r = random_next(), at = (r >> 8) % c.count;

			if (c.busy[at])
				continue;
			if ((r & 0xff) == 0)
				request(OP_SYNC, 0, 0);
			else if ((r & 0xff) < 48)
				request(OP_READ, c.first + at, c.generation[at]);
			else
				request(OP_WRITE, c.first + at, ++next);
		}
		if (c.n_idle < c.depth)
			turn();
	}
	drain();
	check(0);
}

static void set_up(char **argv, unsigned depth)
{
	c.fd = open(argv[0], O_RDWR | O_DIRECT);
	if (c.fd < 0)
		die(argv[0]);
	c.seed = strtoull(argv[1], NULL, 0);
	c.first = strtoull(argv[2], NULL, 0);
	c.count = strtoull(argv[3], NULL, 0);
	c.depth = depth < 1 ? 1 : depth > DEPTH_MAX ? DEPTH_MAX : depth;
	c.random = c.seed;
	c.generation = calloc(c.count, sizeof(*c.generation));
	c.busy = calloc(c.count, sizeof(*c.busy));
	if (!c.generation || !c.busy || c.count == 0)
		die("no memory");
	errno = -io_uring_queue_init(DEPTH_MAX, &c.ring, 0);
	if (errno)
		die("io_uring_setup");
	for (unsigned i = 0; i < c.depth; i++) {
		c.slot[i].data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
		c.idle[c.n_idle++] = i;
	}
}

int main(int argc, char **argv)
{
	bool is_churn = argc == 8 && strcmp(argv[1], "churn") == 0;

	if (!is_churn && (argc != 6 || (strcmp(argv[1], "fill") && strcmp(argv[1], "check")))) {
		fprintf(stderr, "usage: blocks fill|check|churn DEVICE SEED FIRST COUNT [DEPTH STOPFILE]\n");
		return 64;
	}
	set_up(argv + 2, is_churn ? (unsigned)atoi(argv[6]) : 32);
	if (is_churn)
		churn(argv[7]);
	else if (strcmp(argv[1], "fill") == 0)
		fill();
	else
		check(1);
	printf("{\"writes\": %llu, \"reads\": %llu, \"syncs\": %llu, \"errors\": %llu, \"mismatches\": %llu}\n",
	       (unsigned long long)c.done[OP_WRITE], (unsigned long long)c.done[OP_READ], (unsigned long long)c.done[OP_SYNC],
	       (unsigned long long)c.errors, (unsigned long long)c.mismatches);
	return c.errors || c.mismatches;
}
