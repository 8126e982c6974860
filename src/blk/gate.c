/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate as the control thread sees it: made, changed and ended by messages to its cores, one after the other.
 */
#include "blk/slices.h"
#include "blk/team.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Parts for split requests: what may be in flight, and some for what goes past the window. */
#define SPARE_PARTS 64u
#define DEPTH_DEFAULT 128u

/* --- life --- */

static void core_fini(struct blk_core *core)
{
	if (core->part_iov)
		munmap(core->part_iov, core->part_iov_bytes);
	slo_sched_destroy(core->sched);
	free(core->parts);
	free(core->reply_out);
}

static void gate_free(struct blk_gate *g)
{
	for (unsigned i = 0; g->core && i < g->n_cores; i++)
		core_fini(&g->core[i]);
	blk_slices_destroy(g->slices);
	free(g->core);
	free(g->reply);
	free(g);
}

static int make_parts(struct blk_core *core, unsigned depth)
{
	void *iov;

	core->n_parts = depth + SPARE_PARTS;
	core->parts = calloc(core->n_parts, sizeof(*core->parts));
	if (!core->parts)
		return -ENOMEM;
	core->part_iov_bytes = (size_t)core->n_parts * BLK_IOV_MAX * sizeof(struct iovec);
	iov = mmap(NULL, core->part_iov_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (iov == MAP_FAILED)
		return -ENOMEM;
	core->part_iov = iov;
	for (unsigned i = 0; i < core->n_parts; i++) {
		core->parts[i].slice.io.iov = core->part_iov + (size_t)i * BLK_IOV_MAX;
		core->parts[i].next_free = core->free_part;
		core->free_part = &core->parts[i];
	}
	return 0;
}

static int core_init(struct blk_core *core, struct blk_gate *g, const struct slo_sched_options *options,
		     struct blk_team *team, unsigned member)
{
	int err = slo_sched_create(options, &core->sched);

	core->gate = g;
	core->owner = team->member[member].worker;
	core->index = member;
	list_init(&core->vms);
	if (err == 0)
		err = make_parts(core, g->depth);
	if (err < 0)
		return err;
	core->reply_out = calloc(team->n, sizeof(*core->reply_out));
	blk_box_init(&core->inbox, core->owner, blk_core_deliver);
	return core->reply_out ? 0 : -ENOMEM;
}

static void run_begin(struct worker_msg *m, struct worker *w)
{
	struct blk_core *core = container_of(m, struct blk_core, begin);

	core->source.ops = &blk_core_source;
	worker_source_add(w, &core->source);
}

static void *zeroed_lines(size_t n, size_t size)
{
	void *mem;

	return posix_memalign(&mem, CACHE_LINE, n * size) ? NULL : memset(mem, 0, n * size);
}

/* `first`: the owner, or 0 with n slices. */
static int gate_make(const struct slo_sched_options *options, struct blk_team *team, unsigned first, unsigned n,
		     struct blk_gate **ret)
{
	struct blk_gate *g = calloc(1, sizeof(*g));
	int err = 0;

	if (!g)
		return -ENOMEM;
	g->depth = options->depth ? options->depth : DEPTH_DEFAULT;
	g->n_workers = team->n;
	g->reply = zeroed_lines(team->n, sizeof(*g->reply));
	g->core = zeroed_lines(n, sizeof(*g->core));
	if (!g->reply || !g->core)
		err = -ENOMEM;
	for (unsigned i = 0; err == 0 && i < team->n; i++)
		blk_box_init(&g->reply[i], team->member[i].worker, blk_port_deliver);
	for (unsigned i = 0; err == 0 && i < n; i++) {
		g->n_cores++;
		err = core_init(&g->core[i], g, options, team, first + i);
	}
	if (err < 0)
		gate_free(g);
	else
		*ret = g;
	return err;
}

/* Messages of one thread arrive in order: whatever comes later finds the sources in place. */
static void gate_begin(struct blk_gate *g)
{
	for (unsigned i = 0; i < g->n_cores; i++) {
		g->core[i].begin.run = run_begin;
		worker_post(g->core[i].owner, &g->core[i].begin);
	}
}

int blk_gate_create(const struct slo_sched_options *options, struct blk_team *team, unsigned owner, struct blk_gate **ret)
{
	int err = gate_make(options, team, owner, 1, ret);

	if (err == 0)
		gate_begin(*ret);
	return err;
}

int blk_gate_create_sliced(const struct slo_sched_options *options, struct blk_team *team, uint64_t capacity_iops,
			   struct blk_gate **ret)
{
	struct slo_sched_options o = *options;
	struct blk_gate *g = NULL;
	int err;

	o.cost_frozen = true;
	o.part = true;
	err = gate_make(&o, team, 0, team->n, &g);
	if (err == 0)
		err = blk_slices_create(g, capacity_iops, &g->slices);
	if (err < 0) {
		if (g)
			gate_free(g);
		return err;
	}
	gate_begin(g);
	*ret = g;
	return 0;
}

void blk_gate_set_capacity(struct blk_gate *g, uint64_t capacity_iops)
{
	if (g->slices && capacity_iops)
		blk_slices_set_capacity(g->slices, capacity_iops);
}

struct ledger_book *blk_gate_book(const struct blk_gate *g)
{
	return g->slices ? blk_slices_book(g->slices) : NULL;
}

bool blk_gate_account_name(const struct blk_gate *g, unsigned vm, unsigned class, const char **ret_vm, const char **ret_class)
{
	return g->slices && blk_slices_account_name(g->slices, vm, class, ret_vm, ret_class);
}

struct worker *blk_gate_owner(const struct blk_gate *g)
{
	return g->slices ? NULL : g->core[0].owner;
}

/* --- orders: to each core in its turn --- */

struct gate_order {
	struct worker_msg msg;
	struct blk_gate *gate;
	unsigned at; /* the core that has it */
	int result;
	void (*run)(struct gate_order *o, struct blk_core *core);
	void (*last)(struct gate_order *o); /* on the control thread, after all cores; optional */
	struct blk_gate_vm *vm;	 /* set */
	char name[BLK_NAME_MAX]; /* remove */
	struct blk_balance *balance;
	bool dealing;
	void (*visit)(struct blk_core *, struct slo_sched *, void *);
	void *arg;
	struct blk_gate_done done;
};

static void order_run(struct worker_msg *m, struct worker *w)
{
	struct gate_order *o = container_of(m, struct gate_order, msg);

	(void)w;
	o->run(o, &o->gate->core[o->at]);
}

static void order_end(struct gate_order *o)
{
	struct blk_gate_done done = o->done;
	int result;

	if (o->last)
		o->last(o);
	result = o->result;
	free(o->vm);
	free(o);
	if (done.fn)
		done.fn(done.arg, result);
}

static void order_next(struct worker_msg *m)
{
	struct gate_order *o = container_of(m, struct gate_order, msg);

	if (++o->at < o->gate->n_cores)
		worker_post(o->gate->core[o->at].owner, &o->msg);
	else
		order_end(o);
}

static struct gate_order *order_new(struct blk_gate *g, struct blk_gate_done done,
				    void (*run)(struct gate_order *, struct blk_core *))
{
	struct gate_order *o = calloc(1, sizeof(*o));

	if (!o) {
		if (done.fn)
			done.fn(done.arg, -ENOMEM);
		return NULL;
	}
	o->gate = g;
	o->done = done;
	o->run = run;
	o->msg.run = order_run;
	o->msg.done = order_next;
	return o;
}

static void order_send(struct gate_order *o)
{
	worker_post(o->gate->core[o->at].owner, &o->msg);
}

static void run_set(struct gate_order *o, struct blk_core *core)
{
	int err = blk_core_set_vm(core, o->vm);

	if (err < 0)
		o->result = err;
}

static void last_set(struct gate_order *o)
{
	blk_slices_vm_set(o->gate->slices, o->vm->name);
}

void blk_gate_set_vm(struct blk_gate *g, const struct blk_gate_vm *vm, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_set);

	if (!o)
		return;
	o->vm = malloc(sizeof(*vm));
	o->result = o->vm ? 0 : -ENOMEM;
	if (o->vm)
		*o->vm = *vm;
	if (o->vm && g->slices) {
		o->result = blk_slices_set_vm(g->slices, o->vm);
		o->last = o->result < 0 ? NULL : last_set;
	}
	if (o->result < 0)
		order_end(o);
	else
		order_send(o);
}

static void run_remove(struct gate_order *o, struct blk_core *core)
{
	blk_core_remove_vm(core, o->name);
}

static void last_remove(struct gate_order *o)
{
	if (o->gate->slices)
		blk_slices_remove_vm(o->gate->slices, o->name);
}

void blk_gate_remove_vm(struct blk_gate *g, const char *name, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_remove);

	if (!o)
		return;
	strncpy(o->name, name, sizeof(o->name) - 1);
	o->last = last_remove;
	order_send(o);
}

static void run_visit(struct gate_order *o, struct blk_core *core)
{
	o->visit(core, core->sched, o->arg);
}

void blk_gate_visit(struct blk_gate *g, void (*fn)(struct blk_core *core, struct slo_sched *s, void *arg), void *arg,
		    struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_visit);

	if (!o)
		return;
	o->visit = fn;
	o->arg = arg;
	order_send(o);
}

static void run_balance(struct gate_order *o, struct blk_core *core)
{
	if (o->dealing)
		blk_balance_deal(o->balance, core);
	else
		blk_balance_gather(o->balance, core);
}

/* After the first round comes the second, on the same order; then what waits to end the gate, as it frees what both use. */
static void balance_next(struct worker_msg *m)
{
	struct gate_order *o = container_of(m, struct gate_order, msg), *ending = o->gate->ending;

	if (++o->at < o->gate->n_cores) {
		order_send(o);
	} else if (!o->dealing && !ending) {
		o->dealing = true;
		o->at = 0;
		order_send(o);
	} else {
		struct blk_gate *g = o->gate;

		g->balancing = false;
		blk_balance_destroy(o->balance);
		order_end(o);
		if (g->ending)
			order_send(g->ending);
	}
}

void blk_gate_balance(struct blk_gate *g)
{
	struct gate_order *o;

	if (!g->slices || g->balancing)
		return;
	o = order_new(g, (struct blk_gate_done){ 0 }, run_balance);
	if (!o)
		return;
	if (blk_balance_create(g, &o->balance) < 0) {
		free(o);
		return;
	}
	g->balancing = true;
	o->msg.done = balance_next;
	order_send(o);
}

static void run_end(struct gate_order *o, struct blk_core *core)
{
	(void)o;
	while (!list_empty(&core->vms))
		blk_core_remove_vm(core, list_first(&core->vms, struct blk_core_vm, node)->name);
	worker_source_remove(&core->source);
}

static void run_nothing(struct worker_msg *m, struct worker *w)
{
	(void)m;
	(void)w;
}

/*
 * After the cores, every worker once more: its last notes may have come with an earlier bell, and the bell that was rung for
 * them still be on its way to a box that goes with the gate.
 */
static void end_next(struct worker_msg *m)
{
	struct gate_order *o = container_of(m, struct gate_order, msg);
	struct blk_gate *g = o->gate;

	if (++o->at < g->n_cores) {
		order_send(o);
	} else if (o->at < g->n_cores + g->n_workers) {
		m->run = run_nothing;
		worker_post(g->reply[o->at - g->n_cores].worker, m);
	} else {
		gate_free(g);
		order_end(o);
	}
}

void blk_gate_destroy(struct blk_gate *g, struct blk_gate_done done)
{
	struct gate_order *o = order_new(g, done, run_end);

	if (!o)
		return;
	o->msg.done = end_next;
	/* A balance goes round twice, so one that began before would be overtaken. */
	if (g->balancing)
		g->ending = o;
	else
		order_send(o);
}

/* --- for visitors --- */

uint64_t blk_core_now_ns(const struct blk_core *core)
{
	return worker_now_ns(core->owner);
}

bool blk_core_node_at(struct blk_core *core, unsigned index, struct blk_gate_node *ret)
{
	struct blk_core_vm *vm;

	list_for_each(vm, &core->vms, node) {
		if (index-- == 0) {
			*ret = (struct blk_gate_node){ vm->name, NULL, vm->slo, &vm->whole };
			return true;
		}
		for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
			const struct blk_core_class *k = &vm->class[c];

			if (!k->node || k->dead)
				continue;
			if (index-- == 0) {
				*ret = (struct blk_gate_node){ vm->name, k->name, k->node, &k->whole };
				return true;
			}
		}
	}
	return false;
}
