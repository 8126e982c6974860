/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a worker's io_uring: more entries in one turn than it holds, results for each, completions while the
 * worker sleeps, opcodes that the kernel refuses, and the table of fixed files.
 */
#include "on_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

struct op {
	struct worker_cqe cqe;
	struct batch *batch;
	int result;
};

struct batch {
	struct op *op;
	unsigned n, finished;
	int slot;
	char *buf;
	void (*prepare)(struct io_uring_sqe *, const struct batch *, unsigned index);
	bool done;
};

static void op_complete(struct worker_cqe *cqe, int result, uint32_t flags)
{
	struct op *op = container_of(cqe, struct op, cqe);

	op->result = result;
	if (++op->batch->finished == op->batch->n)
		__atomic_store_n(&op->batch->done, true, __ATOMIC_RELEASE);
}

static void submit(struct worker *w, void *arg)
{
	struct batch *b = arg;

	for (unsigned i = 0; i < b->n; i++) {
		struct io_uring_sqe *sqe = worker_sqe(w);

		b->op[i].batch = b;
		b->op[i].cqe.complete = op_complete;
		b->prepare(sqe, b, i);
		io_uring_sqe_set_data(sqe, &b->op[i].cqe);
	}
}

static void run(struct worker *w, struct batch *b, unsigned n)
{
	b->op = calloc(n, sizeof(*b->op));
	b->n = n;
	b->finished = 0;
	b->done = false;
	on_worker(w, submit, b);
	wait_until(&b->done);
}

static void prepare_nop(struct io_uring_sqe *sqe, const struct batch *b, unsigned index)
{
	io_uring_prep_nop(sqe);
}

static void more_entries_than_the_ring_has(void **state)
{
	(void)state;
	for (enum worker_poll mode = WORKER_POLL_ADAPTIVE; mode <= WORKER_POLL_NEVER; mode++) {
		struct worker *w = new_worker(0, mode);
		struct batch b = { .prepare = prepare_nop };

		run(w, &b, 20000);
		for (unsigned i = 0; i < b.n; i++)
			assert_int_equal(b.op[i].result, 0);
		free(b.op);
		worker_destroy(w);
	}
}

/* Fixed files, each with its number in it, read in one go. */
static void prepare_read(struct io_uring_sqe *sqe, const struct batch *b, unsigned index)
{
	io_uring_prep_read(sqe, b->slot + (int)index, b->buf + index * 8, 8, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
}

#define FILES 100

static int file_fd[FILES], file_slot[FILES];

static void register_all(struct worker *w, void *arg)
{
	for (unsigned i = 0; i < FILES; i++)
		file_slot[i] = worker_file_register(w, file_fd[i]);
}

static void unregister_all(struct worker *w, void *arg)
{
	for (unsigned i = 0; i < FILES; i++)
		worker_file_unregister(w, file_slot[i]);
}

static void register_too_many(struct worker *w, void *arg)
{
	static int slot[2000];
	int *ret_got = arg;

	for (*ret_got = 0; *ret_got < 2000; ++*ret_got) {
		slot[*ret_got] = worker_file_register(w, file_fd[0]);
		if (slot[*ret_got] < 0)
			break;
	}
	if (slot[*ret_got] != -ENFILE)
		*ret_got = -1;
	for (int i = 0; i < *ret_got; i++)
		worker_file_unregister(w, slot[i]);
}

static void files_are_registered_and_given_back(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	char text[FILES * 8], number[16];
	struct batch b = { .prepare = prepare_read, .buf = text };
	int got = 0;

	(void)state;
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(number, sizeof(number), "%08u", i);
		file_fd[i] = memfd_create("f", MFD_CLOEXEC);
		assert_int_equal(write(file_fd[i], number, 8), 8);
	}
	on_worker(w, register_all, NULL);
	for (unsigned i = 0; i < FILES; i++)
		assert_int_equal(file_slot[i], file_slot[0] + (int)i);
	b.slot = file_slot[0];
	run(w, &b, FILES);
	for (unsigned i = 0; i < FILES; i++) {
		assert_int_equal(b.op[i].result, 8);
		snprintf(number, sizeof(number), "%08u", i);
		assert_memory_equal(text + i * 8, number, 8);
	}
	free(b.op);
	on_worker(w, unregister_all, NULL);
	on_worker(w, register_too_many, &got);
	assert_int_equal(got, 1024);
	/* After that, nothing is there. */
	run(w, &b, FILES);
	for (unsigned i = 0; i < FILES; i++)
		assert_int_equal(b.op[i].result, -EBADF);
	free(b.op);
	for (unsigned i = 0; i < FILES; i++)
		close(file_fd[i]);
	worker_destroy(w);
}

static void prepare_open(struct io_uring_sqe *sqe, const struct batch *b, unsigned index)
{
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
}

static void other_opcodes_are_refused(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct batch b = { .prepare = prepare_open };

	(void)state;
	run(w, &b, 1);
	if (b.op[0].result >= 0) {
		/* Restrictions came with Linux 5.10. */
		close(b.op[0].result);
		print_message("no restrictions in this kernel\n");
		free(b.op);
		worker_destroy(w);
		skip();
	}
	assert_int_equal(b.op[0].result, -EACCES);
	free(b.op);
	worker_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(more_entries_than_the_ring_has),
		cmocka_unit_test(files_are_registered_and_given_back),
		cmocka_unit_test(other_opcodes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
