/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what slices have to agree on: the parts of a limit add up to it however many workers there are, and a class stands
 * at the same place in all slices, though one of them has yet to get rid of another that left the policy.
 */
#include "host_run.h"

#include "blk/core.h"
#include "ledger/book.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BYTES 4096u
#define WHOLE 50000000u /* milli-iops */
#define MANY 60u

static struct blk_gate *gate_of(struct host_run *r)
{
	return host_disk_find(r->host, "a", "d")->blk->pool->gate;
}

static void visited(void *arg, int result)
{
	host_run_done(arg, &(struct host_error){ .err = result });
}

/* --- limits --- */

struct parts {
	uint64_t sum, most, least;
};

static void add_part(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct parts *p = arg;
	struct blk_gate_node node;
	uint64_t part;

	(void)s;
	assert_true(blk_core_node_at(core, 0, &node));
	part = slo_node_promise(node.node)->limit.milli_iops;
	p->sum += part;
	p->most = part > p->most ? part : p->most;
	p->least = part < p->least ? part : p->least;
}

static void read_parts(struct host_run *r, void *arg)
{
	blk_gate_visit(gate_of(r), add_part, arg, (struct blk_gate_done){ visited, r });
}

static void read_one(struct front_queue *q, struct front_buf *buf)
{
	struct front_request r = { .type = VIRTIO_BLK_T_IN, .data = buf, .n_data = 1, .status = 0xff };

	assert_int_equal(front_submit(q, &r), 0);
	front_kick(q);
	while (r.status == 0xff)
		front_poll(q);
	assert_int_equal(r.status, VIRTIO_BLK_S_OK);
}

/* Only one slice asks for anything; the others keep a foot in the door, however many they are. */
static void parts_of_a_limit_add_up(void **state)
{
	struct frontend_config config = { .queues = 1, .queue_size = 16, .indirect = true, .data_bytes = 1 << 20 };
	struct parts p = { 0 };
	struct front_buf buf;
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_workers = MANY;
	host_run_poll_idle_ns = 1;
	host_run_start(&run, "pools: { p: { type: model, read_latency: 20us, schedule: sliced, capacity: { iops: 100000 } } }\n"
			     "vms: { a: { limit: { iops: 50000 }, disks: [ { name: d, pool: p, size: 8MiB } ] } }\n");
	f = host_run_attach(&run, "a", "d", &config);
	buf = front_buf_of(f, frontend_alloc(f, BYTES), BYTES);
	while (p.most < WHOLE * 4 / 10) {
		read_one(&f->queue[0], &buf);
		p = (struct parts){ .least = UINT64_MAX };
		host_run_do(&run, read_parts, &p);
		assert_true(p.most <= WHOLE);
		assert_true(p.least > 1);
	}
	print_message("  of %u slices one has %.3f of the limit, each of the others at least %.4f, all %.3f\n", MANY,
		      (double)p.most / WHOLE, (double)p.least / WHOLE, (double)p.sum / WHOLE);
	/* One may have heard of it already, and others not yet. */
	assert_true(p.sum <= 2 * WHOLE);
	frontend_destroy(f);
	host_run_stop(&run);
	host_run_workers = 0;
	host_run_poll_idle_ns = 0;
}

/* --- places --- */

#define BE(level) (2u << 13 | (level))

static const char *const classes[] = {
	"classes: { x: { ioprio: [be/0] }, rest: { ioprio: [be/4] } }\n",
	"classes: { rest: { ioprio: [be/4] }, y: { ioprio: [be/1] } }\n",
	"classes: { rest: { ioprio: [be/4] }, y: { ioprio: [be/1] }, z: { ioprio: [be/2] } }\n",
};

static const char *policy_of(unsigned i, unsigned latency_ms)
{
	static char text[512];

	snprintf(text, sizeof(text), "pools: { p: { type: model, read_latency: %ums, schedule: sliced, capacity: { iops: 1000 } } }\n%s"
		 "vms: { a: { disks: [ { name: d, pool: p, size: 8MiB, queues: 2, workers: 2 } ] } }\n", latency_ms, classes[i]);
	return text;
}

struct places {
	int of_z[2];
	unsigned dead[2];
};

static void find_places(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct blk_core_vm *vm = list_first(&core->vms, struct blk_core_vm, node);
	struct places *p = arg;

	(void)s;
	p->of_z[core->index] = -1;
	p->dead[core->index] = 0;
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		if (vm->class[c].node && strcmp(vm->class[c].name, "z") == 0)
			p->of_z[core->index] = (int)c;
		p->dead[core->index] += vm->class[c].node && vm->class[c].dead;
	}
}

static void read_places(struct host_run *r, void *arg)
{
	blk_gate_visit(gate_of(r), find_places, arg, (struct blk_gate_done){ visited, r });
}

/* False: what was to be under way when its class left was done too early. */
static bool places_agree(unsigned latency_ms)
{
	struct frontend_config config = { .queues = 2, .queue_size = 16, .indirect = true, .data_bytes = 1 << 20 };
	struct front_request r = { .type = VIRTIO_BLK_T_IN, .n_data = 1, .status = 0xff, .ioprio = BE(0) };
	struct places p = { { 0 }, { 0 } };
	struct front_buf buf;
	struct host_run run;
	struct frontend *f;

	host_run_start(&run, policy_of(0, latency_ms));
	f = host_run_attach(&run, "a", "d", &config);
	buf = front_buf_of(f, frontend_alloc(f, BYTES), BYTES);
	r.data = &buf;
	assert_int_equal(front_submit(&f->queue[1], &r), 0);
	front_kick(&f->queue[1]);
	host_run_apply(&run, policy_of(1, latency_ms));
	host_run_do(&run, read_places, &p);
	host_run_apply(&run, policy_of(2, latency_ms));
	while (r.status == 0xff)
		front_poll(&f->queue[1]);
	if (p.dead[0] + p.dead[1]) {
		host_run_do(&run, read_places, &p);
		print_message("  a class that comes later stands at place %d in one slice, at %d in the other\n", p.of_z[0], p.of_z[1]);
		assert_true(p.of_z[0] >= 0);
		assert_int_equal(p.of_z[0], p.of_z[1]);
	}
	frontend_destroy(f);
	host_run_stop(&run);
	return p.dead[0] + p.dead[1] > 0;
}

static void classes_stand_at_the_same_places(void **state)
{
	(void)state;
	for (unsigned ms = 100; !places_agree(ms); ms *= 2)
		assert_true(ms < 60000);
}

/* --- names that come and go --- */

#define NAMES (3 * BLK_CLASSES_MAX)

static const char *named_policy(unsigned i)
{
	static char text[512];

	snprintf(text, sizeof(text), "pools: { p: { type: model, channels: 1, read_latency: 2ms, schedule: sliced, capacity: { iops: 500 } } }\n"
		 "classes: { n%u: { ioprio: [be/0] }, rest: { ioprio: [be/4] } }\n"
		 "vms: { a: { disks: [ { name: d, pool: p, size: 8MiB, queues: 2, workers: 2 } ] } }\n", i);
	return text;
}

struct named {
	char name[BLK_NAME_MAX];
	int at[2];
	unsigned wanting;
};

static void find_named(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct blk_core_vm *vm = list_first(&core->vms, struct blk_core_vm, node);
	struct named *n = arg;

	(void)s;
	n->at[core->index] = -1;
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		if (vm->class[c].node && strcmp(vm->class[c].name, n->name) == 0) {
			assert_false(vm->class[c].dead);
			n->at[core->index] = (int)c;
		}
	n->wanting += ledger_book_deadline_ns(blk_gate_book(core->gate), core->index) != UINT64_MAX;
}

static void read_named(struct host_run *r, void *arg)
{
	blk_gate_visit(gate_of(r), find_named, arg, (struct blk_gate_done){ visited, r });
}

static void poll_both(struct frontend *f)
{
	for (unsigned q = 0; q < 2; q++)
		while (front_poll(&f->queue[q]))
			;
}

/*
 * A VM may have more names of classes in its life than classes at a time. Each leaves with requests of it waiting and under way;
 * afterwards nothing of it is wanted any more.
 */
static void names_come_and_go(void **state)
{
	struct frontend_config config = { .queues = 2, .queue_size = 16, .indirect = true, .data_bytes = 1 << 20 };
	static struct front_request r[2][4];
	struct named n = { .wanting = 1 };
	struct front_buf buf[2]; /* of each queue, as each has a worker */
	struct host_run run;
	struct frontend *f;

	(void)state;
	host_run_start(&run, named_policy(0));
	f = host_run_attach(&run, "a", "d", &config);
	for (unsigned q = 0; q < 2; q++)
		buf[q] = front_buf_of(f, frontend_alloc(f, BYTES), BYTES);
	for (unsigned i = 1; i <= NAMES; i++) {
		for (unsigned q = 0; q < 2; q++) {
			for (unsigned k = 0; k < 4; k++) {
				r[q][k] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .data = &buf[q], .n_data = 1, .status = 0xff,
								  .ioprio = BE(0) };
				assert_int_equal(front_submit(&f->queue[q], &r[q][k]), 0);
			}
			front_kick(&f->queue[q]);
		}
		while (r[0][0].status == 0xff)
			poll_both(f);
		host_run_apply(&run, named_policy(i));
		assert_int_equal(run.error.err, 0);
		snprintf(n.name, sizeof(n.name), "n%u", i);
		host_run_do(&run, read_named, &n);
		assert_true(n.at[0] >= 0);
		assert_int_equal(n.at[0], n.at[1]);
		for (unsigned q = 0; q < 2; q++)
			for (unsigned k = 0; k < 4; k++)
				while (r[q][k].status == 0xff)
					poll_both(f);
	}
	while (n.wanting) {
		n.wanting = 0;
		host_run_do(&run, read_named, &n);
	}
	print_message("  %u names of classes, one after the other\n", NAMES + 1);
	frontend_destroy(f);
	host_run_stop(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_of_a_limit_add_up),
		cmocka_unit_test(classes_stand_at_the_same_places),
		cmocka_unit_test(names_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
