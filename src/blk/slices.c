/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool too fast for one scheduler: every worker has a slice, with a scheduler of its own for its own queues.
 *
 * What binds slices together is a ledger in device time. Reservations and shares become credit: each piece is charged to its
 * class's account, and a class without credit is held back in that slice until the next plan (at most a millisecond) gives it
 * some. While the pool has room to spare the planner lets everybody spend (LEDGER_OPEN), so nobody waits for a plan.
 * Limits count requests and bytes, not device time, so they are not the ledger's: each slice keeps a part of a limit, and the
 * window likewise, divided ten times a second by who asked for how much. The parts add up to the whole at every moment (each
 * slice takes a smaller part before another takes a larger one can only be off for the time between two messages), so a
 * limit holds; a class whose demand jumps from one worker to another is short of it for a tenth of a second. Where a VM has a
 * limit, that is what its classes compete for, so their reservations and shares are divided likewise (balance.c).
 *
 * blk_slice_* run on the slice's worker; blk_slices_* on the control thread.
 */
#include "blk/slices.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define ACCOUNTS_MAX 1024u
#define SMALL_BYTES 4096u
#define LARGE_BYTES (128u << 10)
/* What a limit lets go until the next plan but one is wanted now. */
#define WANT_NS (2 * NSEC_PER_MSEC)

/* --- on the slice's worker --- */

struct slo_promise blk_slice_promise(const struct blk_core *core, const struct slo_promise *vm, const struct slo_promise *whole)
{
	bool in_limited = vm && (vm->limit.milli_iops || vm->limit.bandwidth);
	struct slo_promise part = *whole;
	unsigned n = core->gate->n_cores;

	if (!core->gate->slices)
		return part;
	/* The ledger's; but of a VM's limit it knows nothing. */
	part.reservation = (struct slo_rate){ in_limited ? whole->reservation.milli_iops / n : 0,
					      in_limited ? whole->reservation.bandwidth / n : 0 };
	/* Until the first balance: equal parts. */
	part.limit.milli_iops = whole->limit.milli_iops ? max_u64(whole->limit.milli_iops / n, 1) : 0;
	part.limit.bandwidth = whole->limit.bandwidth ? max_u64(whole->limit.bandwidth / n, 1) : 0;
	part.burst_milli_requests = whole->burst_milli_requests / n;
	part.burst_bytes = whole->burst_bytes / n;
	return part;
}

static struct blk_core_class *class_of(struct slo_flow *f)
{
	return slo_node_user(slo_node_parent(slo_flow_node(f)));
}

bool blk_slice_open(const struct blk_core *core, struct slo_flow *f)
{
	return !core->gate->slices || ledger_book_open(blk_slices_book(core->gate->slices), core->index, class_of(f)->slot);
}

void blk_slice_passed(struct blk_core *core, struct slo_flow *f, unsigned n, uint64_t cost)
{
	struct blk_core_class *class = class_of(f);

	if (!core->gate->slices)
		return;
	class->granted += n;
	class->mean_cost += ((int64_t)(cost / n) - (int64_t)class->mean_cost) * (int64_t)min_u64(n, 8) / 8;
	ledger_book_use(blk_slices_book(core->gate->slices), core->index, class->slot, cost);
}

static void spend(struct blk_core *core, struct blk_core_class *class, uint64_t cost)
{
	struct ledger_book *book = blk_slices_book(core->gate->slices);

	ledger_book_use(book, core->index, class->slot, cost);
	if (!ledger_book_may(book, core->index, class->slot))
		slo_class_hold(class->node, true);
}

void blk_slice_used(struct blk_core *core, struct slo_flow *f, uint64_t cost)
{
	struct blk_core_class *class = class_of(f);

	class->granted++;
	class->mean_cost += ((int64_t)cost - (int64_t)class->mean_cost) / 8;
	spend(core, class, cost);
}

void blk_slice_done(struct blk_core *core, const struct slo_piece *p)
{
	struct blk_core_class *class = class_of(p->flow);
	uint64_t owes = slo_flush_owes(p, worker_now_ns(core->owner));

	/* The account of a class that left the policy may be another's by now. */
	if (owes && !class->dead)
		spend(core, class, owes);
}

/* Calls `each` for every living class. */
static void for_classes(struct blk_core *core, void (*each)(struct blk_core *core, struct blk_core_class *class))
{
	struct blk_core_vm *vm;

	list_for_each(vm, &core->vms, node)
		for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
			if (vm->class[c].node && !vm->class[c].dead)
				each(core, &vm->class[c]);
}

static void let_go(struct blk_core *core, struct blk_core_class *class)
{
	bool may = ledger_book_may(blk_slices_book(core->gate->slices), core->index, class->slot);

	slo_class_hold(class->node, !may);
}

/* What a limit holds back anyway is no demand: else all others would be short of credit because of it. */
static void tell_want(struct blk_core *core, struct blk_core_class *class)
{
	unsigned ready = slo_class_ready(class->node, worker_now_ns(core->owner) + WANT_NS);
	uint64_t want = ready * max_u64(class->mean_cost, 1);

	ledger_book_want(blk_slices_book(core->gate->slices), core->index, class->slot, min_u64(want, LEDGER_WANT_MAX));
}

void blk_slice_forget(struct blk_core *core, struct blk_core_class *class)
{
	if (core->gate->slices)
		ledger_book_want(blk_slices_book(core->gate->slices), core->index, class->slot, 0);
}

void blk_slice_turn(struct blk_core *core)
{
	struct ledger_book *book = blk_slices_book(core->gate->slices);
	bool held = slo_held(core->sched) > 0;

	if (held || core->wanting) {
		for_classes(core, tell_want);
		core->wanting = held;
	}
	if (ledger_book_tick(book, core->index, worker_now_ns(core->owner)))
		for_classes(core, let_go);
}

uint64_t blk_slice_deadline_ns(const struct blk_core *core)
{
	if (!core->gate->slices)
		return UINT64_MAX;
	return ledger_book_deadline_ns(blk_slices_book(core->gate->slices), core->index);
}

/* --- control thread: what was promised, in credits --- */

/*
 * Who has a class's id. A name keeps it as long as the policy has it, or any slice a class of that name, which may have requests in
 * flight. Afterwards another may have it, but first those that nobody ever had, and then those that were left first: until then
 * the ledger's logs are read with the names that they were written for.
 */
struct class_id {
	char name[BLK_NAME_MAX];
	unsigned users; /* slices; atomic, they count themselves */
	uint64_t left;	/* when it left the policy, in changes; 0: it is there */
};

struct slices_vm {
	struct list node;
	uint16_t id;
	struct class_id class[BLK_CLASSES_MAX];
	unsigned pending; /* changes that slices have yet to hear of */
	uint64_t changes;
	struct blk_gate_vm spec;
};

struct blk_slices {
	struct ledger_book *book;
	struct list vms;
	uint16_t next_vm;
	uint64_t request_cost, large_cost; /* of a 4 KiB and of a 128 KiB read */
	uint64_t capacity;		   /* credits (ns of device time) per second */
};

struct ledger_book *blk_slices_book(const struct blk_slices *s)
{
	return s->book;
}

void blk_slices_set_capacity(struct blk_slices *s, uint64_t capacity_iops)
{
	s->capacity = capacity_iops * s->request_cost;
}

int blk_slices_create(struct blk_gate *g, uint64_t capacity_iops, struct blk_slices **ret)
{
	struct ledger_book_config config = { .workers = g->n_cores, .accounts_max = ACCOUNTS_MAX, .boot_ns = clock_boot_ns() };
	struct slo_sched *sched = g->core[0].sched;
	struct blk_slices *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	list_init(&s->vms);
	s->request_cost = max_u64(slo_sched_estimate(sched, SLO_READ, SMALL_BYTES), 1);
	s->large_cost = max_u64(slo_sched_estimate(sched, SLO_READ, LARGE_BYTES), s->request_cost);
	blk_slices_set_capacity(s, capacity_iops);
	err = ledger_book_create(&config, &s->book);
	if (err < 0) {
		free(s);
		return err;
	}
	*ret = s;
	return 0;
}

void blk_slices_destroy(struct blk_slices *s)
{
	if (!s)
		return;
	while (!list_empty(&s->vms)) {
		struct slices_vm *vm = list_first(&s->vms, struct slices_vm, node);

		list_remove(&vm->node);
		free(vm);
	}
	ledger_book_destroy(s->book);
	free(s);
}

/* Whichever of the two takes more of the device; bandwidth is promised in large requests, requests in small ones. */
static uint64_t credits_of(const struct blk_slices *s, const struct slo_rate *r)
{
	double requests = (double)r->milli_iops * (double)s->request_cost / 1000;
	double bytes = (double)r->bandwidth * (double)s->large_cost / LARGE_BYTES;

	return (uint64_t)(requests > bytes ? requests : bytes);
}

static struct ledger_promise ledger_promise_of(const struct blk_slices *s, const struct slo_promise *p)
{
	return (struct ledger_promise){
		.reservation = credits_of(s, &p->reservation),
		.limit = LEDGER_UNLIMITED,
		.shares = p->shares ? p->shares : SLO_SHARES_DEFAULT,
	};
}

static struct slices_vm *vm_find(const struct blk_slices *s, const char *name)
{
	struct slices_vm *vm;

	list_for_each(vm, &s->vms, node)
		if (strcmp(vm->spec.name, name) == 0)
			return vm;
	return NULL;
}

static int id_find(const struct slices_vm *vm, const char *name)
{
	for (unsigned i = 0; i < BLK_CLASSES_MAX; i++)
		if (strcmp(vm->class[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static int id_free(const struct slices_vm *vm)
{
	int first = -ENOSPC;

	for (unsigned i = 0; i < BLK_CLASSES_MAX; i++) {
		const struct class_id *c = &vm->class[i];

		if (!c->name[0])
			return (int)i;
		/* What a slice has yet to hear of, it has not counted. */
		if (!c->left || vm->pending || __atomic_load_n(&c->users, __ATOMIC_ACQUIRE))
			continue;
		if (first < 0 || c->left < vm->class[first].left)
			first = (int)i;
	}
	return first;
}

static int class_id(struct slices_vm *vm, const char *name)
{
	int id = id_find(vm, name);

	if (id < 0)
		id = id_free(vm);
	if (id < 0)
		return id;
	memcpy(vm->class[id].name, name, BLK_NAME_MAX);
	vm->class[id].left = 0;
	return id;
}

static bool in_spec(const struct blk_gate_vm *spec, const char *name)
{
	for (unsigned c = 0; c < spec->n_classes; c++)
		if (strcmp(spec->class[c].name, name) == 0)
			return true;
	return false;
}

static void ids_leave(struct slices_vm *vm)
{
	vm->changes++;
	for (unsigned i = 0; i < BLK_CLASSES_MAX; i++)
		if (vm->class[i].name[0] && !vm->class[i].left && !in_spec(&vm->spec, vm->class[i].name))
			vm->class[i].left = vm->changes;
}

static void count_all(const struct blk_slices *s, unsigned *ret_vms, unsigned *ret_classes)
{
	struct slices_vm *vm;

	*ret_vms = *ret_classes = 0;
	list_for_each(vm, &s->vms, node) {
		*ret_vms += 1;
		*ret_classes += vm->spec.n_classes;
	}
}

static int fill_spec(struct blk_slices *s, struct ledger_spec *spec)
{
	struct slices_vm *vm;
	unsigned v = 0, a = 0;

	list_for_each(vm, &s->vms, node) {
		struct slo_promise envelope = vm->spec.promise;
		struct ledger_promise *p = &spec->vm[v].promise;

		spec->vm[v].vm = vm->id;
		*p = ledger_promise_of(s, &envelope);
		for (unsigned c = 0; c < vm->spec.n_classes; c++, a++) {
			int id = class_id(vm, vm->spec.class[c].name);

			if (id < 0)
				return id;
			spec->account[a].vm = vm->id;
			spec->account[a].class = (uint16_t)id;
			spec->account[a].promise = ledger_promise_of(s, &vm->spec.class[c].promise);
			/* A VM pays its classes' reservations, so its own is never less. */
			if (!envelope.reservation.milli_iops && !envelope.reservation.bandwidth)
				p->reservation += spec->account[a].promise.reservation;
		}
		v++;
	}
	return 0;
}

static void take_slots(struct blk_slices *s, const struct ledger_spec *spec)
{
	struct slices_vm *vm;
	unsigned a = 0;

	list_for_each(vm, &s->vms, node)
		for (unsigned c = 0; c < vm->spec.n_classes; c++, a++) {
			vm->spec.class[c].id = spec->account[a].class;
			vm->spec.class[c].slot = spec->account[a].slot;
			vm->spec.class[c].users = &vm->class[spec->account[a].class].users;
		}
}

static int apply(struct blk_slices *s)
{
	struct ledger_spec spec = { .capacity = s->capacity, .quantum = s->large_cost };
	int err;

	count_all(s, &spec.vms, &spec.accounts);
	spec.vm = calloc(spec.vms + 1, sizeof(*spec.vm));
	spec.account = calloc(spec.accounts + 1, sizeof(*spec.account));
	err = spec.vm && spec.account ? fill_spec(s, &spec) : -ENOMEM;
	if (err == 0)
		err = ledger_book_apply(s->book, &spec);
	if (err == 0)
		take_slots(s, &spec);
	free(spec.vm);
	free(spec.account);
	return err;
}

int blk_slices_set_vm(struct blk_slices *s, struct blk_gate_vm *spec)
{
	struct slices_vm *vm = vm_find(s, spec->name);
	cleanup_free struct blk_gate_vm *was = malloc(sizeof(*was));
	int err;

	if (!was)
		return -ENOMEM;
	if (!vm) {
		vm = calloc(1, sizeof(*vm));
		if (!vm)
			return -ENOMEM;
		vm->id = s->next_vm++;
		memcpy(vm->spec.name, spec->name, sizeof(vm->spec.name));
		list_append(&s->vms, &vm->node);
	}
	*was = vm->spec;
	vm->spec = *spec;
	err = apply(s);
	/* One that cannot be must not stand in the way of other VMs' changes. */
	if (err < 0)
		vm->spec = *was;
	ids_leave(vm);
	if (err < 0)
		return err;
	vm->pending++;
	memcpy(spec->class, vm->spec.class, sizeof(spec->class));
	return 0;
}

void blk_slices_vm_set(struct blk_slices *s, const char *name)
{
	struct slices_vm *vm = vm_find(s, name);

	if (vm)
		vm->pending--;
}

void blk_slices_remove_vm(struct blk_slices *s, const char *name)
{
	struct slices_vm *vm = vm_find(s, name);

	if (!vm)
		return;
	list_remove(&vm->node);
	free(vm);
	(void)apply(s); /* without memory the account stays open, unused */
}

unsigned blk_slices_vms(const struct blk_slices *s)
{
	unsigned vms, classes;

	count_all(s, &vms, &classes);
	return vms;
}

bool blk_slices_account_name(const struct blk_slices *s, unsigned id, unsigned class, const char **ret_vm,
			     const char **ret_class)
{
	struct slices_vm *vm;

	list_for_each(vm, &s->vms, node) {
		if (vm->id != id || class >= BLK_CLASSES_MAX)
			continue;
		*ret_vm = vm->spec.name;
		*ret_class = vm->class[class].name;
		return true;
	}
	return false;
}
