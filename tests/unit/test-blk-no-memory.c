/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the control thread runs out of memory at each of its allocations in turn, while it carries out what a front-end asks
 * of running queues. Each time either nothing has changed and the front-end is told so, or the session ends; the workers never
 * lose what they use, and the guest's requests are served before and after.
 */
#include "base/clock.h"
#include "host_run.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#define QUEUES 3u

static struct host_run host;

/* --- memory that runs out, on one thread --- */

static __thread unsigned fails_in; /* 0: not; 1: the next one */

void *__real_calloc(size_t n, size_t bytes);
void *__real_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_malloc(size_t bytes);

static bool fails_now(void)
{
	return fails_in && --fails_in == 0;
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return fails_now() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_malloc(size_t bytes)
{
	return fails_now() ? NULL : __real_malloc(bytes);
}

static void arm(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };

	fails_in = *(unsigned *)arg;
	host_run_done(r, &none);
}

/* False: there was no such allocation. */
static void disarm(struct host_run *r, void *arg)
{
	struct host_error none = { 0 };

	*(bool *)arg = fails_in == 0;
	fails_in = 0;
	host_run_done(r, &none);
}

/* --- a disk whose queues run --- */

static struct frontend *begin(void)
{
	const struct frontend_config c = { .queues = QUEUES, .queue_size = 64, .inflight = true, .data_bytes = 1 << 20 };

	host_run_start(&host, "pools: { pool: { type: ram, slo: off } }\n"
			      "vms: { vm: { disks: [ { name: disk, pool: pool, size: 1MiB, queues: 3 } ] } }\n");
	return host_run_attach(&host, "vm", "disk", &c);
}

static void serves(struct frontend *f)
{
	struct front_buf buf = front_buf_of(f, f->memory.base + f->memory.bytes - 4096, 4096);

	for (unsigned q = 0; q < QUEUES; q++) {
		struct front_request r = { .type = VIRTIO_BLK_T_IN, .data = &buf, .n_data = 1 };

		assert_int_equal(front_run(&f->queue[q], &r), 0);
	}
}

/* What is refused changes nothing, and the same session serves on; any other error: the session ended, or has to. */
static void at_each_allocation(int (*ask)(struct frontend *f))
{
	struct frontend *f = begin();
	bool failed = true;

	for (unsigned i = 1; failed; i++) {
		int r;

		serves(f);
		host_run_do(&host, arm, &i);
		r = ask(f);
		host_run_do(&host, disarm, &failed);
		if (r == 0 || r == -EREMOTEIO) {
			serves(f);
			continue;
		}
		assert_true(failed);
		frontend_detach(f);
		assert_int_equal(frontend_attach(f), 0);
	}
	serves(f);
	frontend_destroy(f);
	host_run_stop(&host);
}

/* --- what is asked --- */

static int new_memory(struct frontend *f)
{
	return frontend_memory_send(f);
}

static int a_log(struct frontend *f)
{
	struct front_wire_log area = { .size = 0x40000 };
	int fd = memfd_create("log", MFD_CLOEXEC), r = ftruncate(fd, (off_t)area.size);
	uint64_t protocol = f->protocol_features | FRONT_PROTOCOL_LOG_SHMFD, on = f->features | FRONT_F_LOG_ALL;

	if (r == 0)
		r = frontend_set(f, FRONT_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	if (r == 0)
		r = frontend_set(f, FRONT_SET_FEATURES, &on, 8, NULL, 0);
	if (r == 0)
		r = frontend_set(f, FRONT_SET_LOG_BASE, &area, sizeof(area), &fd, 1);
	close(fd);
	return r;
}

static int no_log(struct frontend *f)
{
	int r = a_log(f);

	return r ? r : frontend_set(f, FRONT_SET_FEATURES, &f->features, 8, NULL, 0);
}

/* A queue that was refused is not served. */
static int started(int r)
{
	return r == -EREMOTEIO ? -ENOLINK : r;
}

static int stop_and_start(struct frontend *f)
{
	uint32_t base = 0;

	/* Stopping needs no memory. */
	assert_int_equal(frontend_queue_stop(f, 1, &base), 0);
	assert_int_equal(base, front_ring_base(&f->queue[1].ring));
	return started(frontend_queue_start(f, 1, base));
}

static int come_back(struct frontend *f)
{
	frontend_detach(f);
	return started(frontend_attach(f));
}

static void test_memory(void **state)
{
	at_each_allocation(new_memory);
}

static void test_log(void **state)
{
	at_each_allocation(a_log);
	at_each_allocation(no_log);
}

static void test_stop(void **state)
{
	at_each_allocation(stop_and_start);
}

static void test_reconnect(void **state)
{
	at_each_allocation(come_back);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_reconnect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
