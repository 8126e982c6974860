/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a co-group's own worker serves its VMs' disks and no others, also when VMs join and leave groups while their
 * requests are under way.
 */
#include "host_run.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HANG_NS (120 * NSEC_PER_SEC)

#define DISKS                                                                                                       \
	"pools: { ram: { type: ram, slo: on } }\n"                                                                    \
	"vms: { a: { disks: [ { name: d, pool: ram, size: 1MiB } ] }, b: { disks: [ { name: d, pool: ram, size: 1MiB } ] } }\n"

/* --- where queues are --- */

struct where {
	const char *vm;
	char group[64]; /* of the worker that serves queue 0; "": a shared one; "?": none does */
	unsigned shared, n;
};

static void look_now(struct host_run *r, void *arg)
{
	struct where *w = arg;
	struct host_disk *d = host_disk_find(r->host, w->vm, "d");
	const struct blk_slot *s = d ? d->blk->slot[0] : NULL;
	struct host_error none = { 0 };

	strcpy(w->group, "?");
	w->n = r->host->team.n;
	w->shared = r->host->team.shared;
	for (unsigned i = 0; s && s->running && i < r->host->team.n; i++)
		if (r->host->team.member[i].worker == s->worker)
			strcpy(w->group, r->host->group[i]);
	host_run_done(r, &none);
}

static struct where look(struct host_run *r, const char *vm)
{
	struct where w = { .vm = vm };

	host_run_do(r, look_now, &w);
	return w;
}

static struct frontend *attach(struct host_run *r, const char *vm)
{
	struct frontend_config config = { .queues = 2, .queue_size = 64, .data_bytes = 1 << 20 };

	return host_run_attach(r, vm, "d", &config);
}

/* Requests, one after the other, until its queue is where it should be; each must come out right. */
static void work_until(struct host_run *r, struct frontend *f, const char *vm, const char *group)
{
	uint8_t *data = frontend_alloc(f, 4096), count = 0;
	struct front_buf buf = front_buf_of(f, data, 4096);
	uint64_t began = clock_now_ns();

	while (strcmp(look(r, vm).group, group) != 0) {
		struct front_request write = { .type = VIRTIO_BLK_T_OUT, .data = &buf, .n_data = 1 };
		struct front_request read = { .type = VIRTIO_BLK_T_IN, .data = &buf, .n_data = 1 };

		assert_true(clock_now_ns() - began < HANG_NS);
		memset(data, ++count, 4096);
		assert_int_equal(front_run(&f->queue[0], &write), 0);
		memset(data, 0, 4096);
		assert_int_equal(front_run(&f->queue[0], &read), 0);
		assert_int_equal(data[4095], count);
	}
}

static void a_group_has_a_worker_of_its_own(void **state)
{
	struct host_run run;
	struct frontend *a, *b;

	(void)state;
	host_run_start(&run, DISKS "cogroups: { g: { vms: [ a ], workers: true } }\n");
	a = attach(&run, "a");
	b = attach(&run, "b");
	assert_string_equal(look(&run, "a").group, "g");
	assert_string_equal(look(&run, "b").group, "");
	assert_int_equal(look(&run, "a").n, look(&run, "a").shared + 1);
	/* They change places; nobody is detached. */
	host_run_apply(&run, DISKS "cogroups: { g: { vms: [ b ], workers: true } }\n");
	assert_int_equal(run.error.err, 0);
	work_until(&run, a, "a", "");
	work_until(&run, b, "b", "g");
	/* A group that shares. */
	host_run_apply(&run, DISKS "cogroups: { g: { vms: [ a, b ] } }\n");
	assert_int_equal(run.error.err, 0);
	work_until(&run, b, "b", "");
	assert_string_equal(look(&run, "a").group, "");
	/* And again: the worker is there still. */
	host_run_apply(&run, DISKS "cogroups: { g: { vms: [ a, b ], workers: true } }\n");
	assert_int_equal(run.error.err, 0);
	work_until(&run, a, "a", "g");
	work_until(&run, b, "b", "g");
	frontend_destroy(a);
	frontend_destroy(b);
	host_run_stop(&run);
}

static void a_new_one_needs_a_restart(void **state)
{
	struct host_run run;

	(void)state;
	host_run_start(&run, DISKS);
	host_run_apply(&run, DISKS "cogroups: { g: { vms: [ a ], workers: true } }\n");
	assert_int_equal(run.error.err, -EBUSY);
	assert_non_null(strstr(run.error.text, "co-group g"));
	host_run_apply(&run, DISKS "cogroups: { g: { vms: [ a ] } }\n");
	assert_int_equal(run.error.err, 0);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_group_has_a_worker_of_its_own),
		cmocka_unit_test(a_new_one_needs_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
