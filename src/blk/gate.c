/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate as the control thread sees it: made, changed and ended by messages to the owner.
 */
#include "blk/core.h"
#include "blk/team.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Parts for split requests: what may be in flight, and some for what goes past the window. */
#define SPARE_PARTS 64u

static void free_gate(struct blk_gate *g)
{
	if (g->part_iov)
		munmap(g->part_iov, g->part_iov_bytes);
	slo_sched_destroy(g->sched);
	free(g->parts);
	free(g->reply);
	free(g->reply_out);
	free(g);
}

static int make_parts(struct blk_gate *g, unsigned depth)
{
	void *iov;

	g->n_parts = depth + SPARE_PARTS;
	g->parts = calloc(g->n_parts, sizeof(*g->parts));
	if (!g->parts)
		return -ENOMEM;
	g->part_iov_bytes = (size_t)g->n_parts * BLK_IOV_MAX * sizeof(struct iovec);
	iov = mmap(NULL, g->part_iov_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (iov == MAP_FAILED)
		return -ENOMEM;
	g->part_iov = iov;
	for (unsigned i = 0; i < g->n_parts; i++) {
		g->parts[i].slice.io.iov = g->part_iov + (size_t)i * BLK_IOV_MAX;
		g->parts[i].next_free = g->free_part;
		g->free_part = &g->parts[i];
	}
	return 0;
}

static int make_boxes(struct blk_gate *g, struct blk_team *team)
{
	void *mem;

	g->n_workers = team->n;
	g->reply_out = calloc(team->n, sizeof(*g->reply_out));
	if (!g->reply_out || posix_memalign(&mem, CACHE_LINE, team->n * sizeof(*g->reply)))
		return -ENOMEM;
	g->reply = mem;
	for (unsigned i = 0; i < team->n; i++)
		blk_box_init(&g->reply[i], team->member[i].worker, blk_port_deliver);
	blk_box_init(&g->inbox, g->owner, blk_core_deliver);
	return 0;
}

static void run_begin(struct worker_msg *m, struct worker *w)
{
	struct blk_gate *g = container_of(m, struct blk_gate, begin);

	g->source.ops = &blk_core_source;
	worker_source_add(w, &g->source);
}

int blk_gate_create(const struct slo_sched_options *options, struct blk_team *team, unsigned owner, struct blk_gate **ret)
{
	struct blk_gate *g;
	void *mem;
	int err;

	if (posix_memalign(&mem, CACHE_LINE, sizeof(*g)))
		return -ENOMEM;
	g = memset(mem, 0, sizeof(*g));
	g->owner = team->member[owner].worker;
	g->owner_index = owner;
	list_init(&g->vms);
	err = slo_sched_create(options, &g->sched);
	if (err == 0)
		err = make_parts(g, options->depth ? options->depth : 128);
	if (err == 0)
		err = make_boxes(g, team);
	if (err < 0) {
		free_gate(g);
		return err;
	}
	/* Messages of one thread arrive in order: whatever comes later finds the source in place. */
	g->begin.run = run_begin;
	worker_post(g->owner, &g->begin);
	*ret = g;
	return 0;
}

/* --- orders to the owner --- */

struct gate_order {
	struct worker_msg msg;
	struct blk_gate *gate;
	int result;
	struct blk_gate_vm *vm;	    /* set */
	char name[BLK_NAME_MAX];    /* remove */
	void (*visit)(struct blk_gate *, struct slo_sched *, void *);
	void *arg;
	struct blk_gate_done done;
};

static struct gate_order *order_of(struct worker_msg *m)
{
	return container_of(m, struct gate_order, msg);
}

static void order_done(struct worker_msg *m)
{
	struct gate_order *o = order_of(m);

	if (o->done.fn)
		o->done.fn(o->done.arg, o->result);
	free(o->vm);
	free(o);
}

static struct gate_order *order_new(struct blk_gate *g, struct blk_gate_done done,
				    void (*run)(struct worker_msg *, struct worker *))
{
	struct gate_order *o = calloc(1, sizeof(*o));

	if (!o) {
		if (done.fn)
			done.fn(done.arg, -ENOMEM);
		return NULL;
	}
	o->gate = g;
	o->done = done;
	o->msg.run = run;
	o->msg.done = order_done;
	return o;
}

static void run_set(struct worker_msg *m, struct worker *w)
{
	struct gate_order *o = order_of(m);

	(void)w;
	o->result = blk_core_set_vm(o->gate, o->vm);
}

void blk_gate_set_vm(struct blk_gate *g, const struct blk_gate_vm *vm, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_set);

	if (!o)
		return;
	o->vm = malloc(sizeof(*vm));
	if (!o->vm) {
		o->result = -ENOMEM;
		order_done(&o->msg);
		return;
	}
	*o->vm = *vm;
	worker_post(g->owner, &o->msg);
}

static void run_remove(struct worker_msg *m, struct worker *w)
{
	struct gate_order *o = order_of(m);

	(void)w;
	blk_core_remove_vm(o->gate, o->name);
}

void blk_gate_remove_vm(struct blk_gate *g, const char *name, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_remove);

	if (!o)
		return;
	strncpy(o->name, name, sizeof(o->name) - 1);
	worker_post(g->owner, &o->msg);
}

static void run_visit(struct worker_msg *m, struct worker *w)
{
	struct gate_order *o = order_of(m);

	(void)w;
	o->visit(o->gate, o->gate->sched, o->arg);
}

void blk_gate_visit(struct blk_gate *g, void (*fn)(struct blk_gate *g, struct slo_sched *s, void *arg), void *arg,
		    struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_visit);

	if (!o)
		return;
	o->visit = fn;
	o->arg = arg;
	worker_post(g->owner, &o->msg);
}

struct worker *blk_gate_owner(const struct blk_gate *g)
{
	return g->owner;
}

uint64_t blk_gate_now_ns(const struct blk_gate *g)
{
	return worker_now_ns(g->owner);
}

bool blk_gate_node_at(struct blk_gate *g, unsigned index, struct blk_gate_node *ret)
{
	struct blk_core_vm *vm;

	list_for_each(vm, &g->vms, node) {
		if (index-- == 0) {
			*ret = (struct blk_gate_node){ vm->name, NULL, vm->slo };
			return true;
		}
		for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
			if (!vm->class[c].node || vm->class[c].dead)
				continue;
			if (index-- == 0) {
				*ret = (struct blk_gate_node){ vm->name, vm->class[c].name, vm->class[c].node };
				return true;
			}
		}
	}
	return false;
}

static void run_end(struct worker_msg *m, struct worker *w)
{
	struct blk_gate *g = order_of(m)->gate;

	(void)w;
	while (!list_empty(&g->vms))
		blk_core_remove_vm(g, list_first(&g->vms, struct blk_core_vm, node)->name);
	worker_source_remove(&g->source);
}

static void ended(struct worker_msg *m)
{
	free_gate(order_of(m)->gate);
	order_done(m);
}

void blk_gate_destroy(struct blk_gate *g, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_end);

	if (!o)
		return;
	o->msg.done = ended;
	worker_post(g->owner, &o->msg);
}
