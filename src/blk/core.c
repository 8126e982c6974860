/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The owner's side of the gate: it alone touches the pool's scheduler.
 *
 * Requests enter as tickets, leave as parts. While anything is held or in flight the owner polls this as one of its sources;
 * with nothing to decide it is armed with the scheduler's next time as its deadline, so a class held at 2.6 requests a second
 * costs a wake-up per request and not a polling CPU.
 */
#include "blk/core.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define GRANTS_PER_TURN 64u

static uint64_t now_of(const struct blk_core *core)
{
	return worker_now_ns(core->owner);
}

static bool is_local(const struct blk_core *core, const struct blk_port *p)
{
	return p->reply == &core->gate->reply[core->index];
}

static void note_to_worker(struct blk_core *core, struct blk_port *p, struct blk_note *n, enum blk_note_kind kind)
{
	n->kind = kind;
	blk_outbox_add(&core->reply_out[p->reply - core->gate->reply], n);
	worker_source_wake(&core->source);
}

void blk_core_flush(struct blk_core *core)
{
	for (unsigned i = 0; i < core->gate->n_workers; i++)
		blk_outbox_send(&core->reply_out[i], &core->gate->reply[i]);
}

/* --- VMs, classes, flows --- */

static struct blk_core_vm *vm_find(struct blk_core *core, const char *name)
{
	struct blk_core_vm *vm;

	list_for_each(vm, &core->vms, node)
		if (strcmp(vm->name, name) == 0)
			return vm;
	return NULL;
}

void blk_core_join(struct blk_core *core, struct blk_port *p)
{
	if (p->vm)
		return;
	p->vm = vm_find(core, p->vm_name);
	/* Control adds a VM before its disks are served. */
	assert(p->vm);
	list_append(&p->vm->ports, &p->node);
}

static unsigned class_of(const struct blk_core_vm *vm, uint16_t ioprio)
{
	return vm->place[slo_classmap_lookup(&vm->map, ioprio)];
}

struct slo_flow *blk_core_flow(struct blk_port *p, uint16_t ioprio)
{
	return p->vm ? p->flow[class_of(p->vm, ioprio)] : NULL;
}

static struct slo_flow *flow_of(struct blk_port *p, uint16_t ioprio)
{
	struct blk_core_vm *vm = p->vm;
	unsigned c = class_of(vm, ioprio);

	if (likely(p->flow[c]))
		return p->flow[c];
	/* Once per queue and class. Without memory the request goes with the default class or, at worst, with any that exists. */
	if (slo_flow_add(vm->class[c].node, p, &p->flow[c]) == 0)
		return p->flow[c];
	for (c = 0; c < BLK_CLASSES_MAX; c++)
		if (p->flow[c])
			return p->flow[c];
	return NULL;
}

static bool class_in_use(const struct blk_core_vm *vm, unsigned c)
{
	struct blk_port *p;

	list_for_each(p, &vm->ports, node)
		if (p->flow[c])
			return true;
	return false;
}

/* Before anything changes in which class a request is. */
static void lanes_shut(struct blk_core *core, struct blk_core_vm *vm)
{
	struct blk_port *p;

	list_for_each(p, &vm->ports, node)
		if (is_local(core, p))
			blk_port_lane_shut(p);
}

/* Removes a flow that holds nothing; one with requests in flight stays until the VM changes again, or its port leaves. */
static void flow_drop(struct blk_port *p, unsigned c)
{
	if (p->flow[c] && slo_flow_remove(p->flow[c]) == 0)
		p->flow[c] = NULL;
}

static void class_remove(struct blk_core_class *k)
{
	if (slo_class_remove(k->node) < 0)
		return;
	if (k->users)
		__atomic_fetch_sub(k->users, 1, __ATOMIC_RELEASE);
	memset(k, 0, sizeof(*k));
}

static void bury_dead_classes(struct blk_core_vm *vm)
{
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		struct blk_core_class *k = &vm->class[c];

		if (k->node && k->dead && !class_in_use(vm, c))
			class_remove(k);
	}
}

/* Those that had requests in flight when they left the policy and have none now. */
static void sweep_dead_classes(struct blk_core_vm *vm)
{
	struct blk_port *p;

	list_for_each(p, &vm->ports, node)
		for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
			if (vm->class[c].dead)
				flow_drop(p, c);
	bury_dead_classes(vm);
}

/* What a class that left the policy holds goes to the VM's default class. */
static void empty_class(struct blk_core *core, struct blk_core_vm *vm, unsigned c)
{
	struct blk_port *p;

	list_for_each(p, &vm->ports, node) {
		struct list held;

		if (!p->flow[c])
			continue;
		list_init(&held);
		slo_flow_take(p->flow[c], now_of(core), &held);
		while (!list_empty(&held)) {
			struct slo_req *r = list_first(&held, struct slo_req, node);
			struct slo_flow *f = flow_of(p, 0);

			list_remove(&r->node);
			slo_enqueue(f ? f : p->flow[c], r, now_of(core));
		}
		flow_drop(p, c);
	}
}

/*
 * In slices by their number, which is nobody else's as long as one is there: balance.c compares what stands at the same place in
 * all of them, whoever has yet to leave.
 */
static int class_place(const struct blk_core *core, const struct blk_core_vm *vm, const struct blk_gate_class *spec)
{
	int empty = -ENOSPC;

	if (core->gate->slices)
		return spec->id;
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		if (vm->class[c].node && strcmp(vm->class[c].name, spec->name) == 0)
			return (int)c;
		if (!vm->class[c].node && empty < 0)
			empty = (int)c;
	}
	return empty;
}

static int set_class(struct blk_core *core, struct blk_core_vm *vm, const struct slo_promise *vms,
		     const struct blk_gate_class *spec, uint8_t *ret_place)
{
	int c = class_place(core, vm, spec);
	struct slo_promise promise;
	struct blk_core_class *k;
	int err;

	if (c < 0)
		return c;
	k = &vm->class[c];
	k->whole = spec->promise;
	k->slot = spec->slot;
	promise = blk_slice_promise(core, vms, &spec->promise);
	if (k->node) {
		err = slo_update(k->node, &promise, now_of(core));
	} else {
		err = slo_class_add(vm->slo, &promise, k, &k->node);
		memcpy(k->name, spec->name, sizeof(k->name));
		k->users = err < 0 ? NULL : spec->users;
		if (k->users)
			__atomic_fetch_add(k->users, 1, __ATOMIC_RELAXED);
	}
	if (err < 0)
		return err;
	k->dead = false;
	*ret_place = (uint8_t)c;
	return 0;
}

static int vm_add(struct blk_core *core, const struct blk_gate_vm *spec, struct blk_core_vm **ret)
{
	struct blk_core_vm *vm = calloc(1, sizeof(*vm));
	struct slo_promise promise;
	int err;

	if (!vm)
		return -ENOMEM;
	promise = blk_slice_promise(core, NULL, &spec->promise);
	err = slo_vm_add(core->sched, &promise, vm, &vm->slo);
	if (err < 0) {
		free(vm);
		return err;
	}
	memcpy(vm->name, spec->name, sizeof(vm->name));
	list_init(&vm->ports);
	list_append(&core->vms, &vm->node);
	*ret = vm;
	return 0;
}

static bool in_spec(const struct blk_gate_vm *spec, const char *name)
{
	for (unsigned i = 0; i < spec->n_classes; i++)
		if (strcmp(spec->class[i].name, name) == 0)
			return true;
	return false;
}

int blk_core_set_vm(struct blk_core *core, const struct blk_gate_vm *spec)
{
	struct blk_core_vm *vm = vm_find(core, spec->name);
	struct slo_promise promise = blk_slice_promise(core, NULL, &spec->promise);
	uint8_t place[BLK_CLASSES_MAX] = { 0 };
	int err = vm ? slo_update(vm->slo, &promise, now_of(core)) : vm_add(core, spec, &vm);

	if (err == 0)
		sweep_dead_classes(vm);
	for (unsigned i = 0; err == 0 && i < spec->n_classes; i++)
		err = set_class(core, vm, &spec->promise, &spec->class[i], &place[i]);
	if (err < 0)
		return err;
	vm->whole = spec->promise;
	lanes_shut(core, vm);
	memcpy(vm->place, place, sizeof(place));
	vm->map = spec->map;
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		struct blk_core_class *k = &vm->class[c];

		if (!k->node || k->dead || in_spec(spec, k->name))
			continue;
		k->dead = true;
		empty_class(core, vm, c);
		blk_slice_forget(core, k);
	}
	bury_dead_classes(vm);
	/* Promises may let go now what was held a moment ago. */
	blk_core_run(core);
	worker_source_wake(&core->source);
	return 0;
}

void blk_core_remove_vm(struct blk_core *core, const char *name)
{
	struct blk_core_vm *vm = vm_find(core, name);

	if (!vm)
		return;
	assert(list_empty(&vm->ports));
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		if (vm->class[c].node) {
			blk_slice_forget(core, &vm->class[c]);
			class_remove(&vm->class[c]);
		}
	slo_vm_remove(vm->slo);
	list_remove(&vm->node);
	free(vm);
}

/* --- requests --- */

static void ticket_free(struct blk_core *core, struct blk_ticket *t)
{
	if (is_local(core, t->port))
		blk_port_freed(t);
	else
		note_to_worker(core, t->port, &t->note, BLK_NOTE_FREE);
}

static void grant(struct blk_core *core, struct blk_part *part)
{
	struct blk_ticket *t = part->ticket;

	if (is_local(core, t->port))
		blk_port_granted(part);
	else
		note_to_worker(core, t->port, &part->note, BLK_NOTE_GRANT);
}

/* The part that carries a piece: the ticket's own for a whole request. */
static struct blk_part *part_for(struct blk_core *core, const struct slo_piece *piece)
{
	struct blk_ticket *t = container_of(piece->req, struct blk_ticket, slo);
	struct blk_part *part = &t->whole;

	if (unlikely(piece->bytes != piece->req->bytes)) {
		part = core->free_part;
		core->free_part = part->next_free;
	}
	part->ticket = t;
	part->slo = *piece;
	if (core->gate->slices)
		blk_slice_used(core, piece->flow, piece->cost);
	return part;
}

void blk_core_enqueue(struct blk_core *core, struct blk_ticket *t)
{
	struct slo_flow *f;
	struct slo_piece piece;

	blk_core_join(core, t->port);
	f = flow_of(t->port, t->ioprio);
	if (unlikely(!f)) {
		/* No memory for a single flow: the request passes unscheduled rather than not at all. */
		t->whole.ticket = t;
		t->whole.slo = (struct slo_piece){ 0 };
		grant(core, &t->whole);
		return;
	}
	if (t->at_once) {
		slo_bypass(f, &t->slo, now_of(core), &piece);
		grant(core, part_for(core, &piece));
	} else if (slo_admit_fast(f, &t->slo, now_of(core), &piece)) {
		grant(core, part_for(core, &piece));
	} else {
		slo_enqueue(f, &t->slo, now_of(core));
		worker_source_wake(&core->source);
	}
}

void blk_core_done(struct blk_core *core, struct blk_part *part)
{
	struct blk_ticket *t = part->ticket;
	bool last = true;

	if (likely(part->slo.req)) {
		if (core->gate->slices)
			blk_slice_done(core, &part->slo);
		last = slo_complete(&part->slo, now_of(core), part->result);
	}
	if (part != &t->whole) {
		part->next_free = core->free_part;
		core->free_part = part;
	}
	if (last)
		ticket_free(core, t);
	if (slo_held(core->sched))
		worker_source_wake(&core->source);
}

unsigned blk_core_run(struct blk_core *core)
{
	struct slo_piece piece;
	unsigned n = 0;

	/* A piece may need a part of its own, so without one nothing is decided. */
	while (n < GRANTS_PER_TURN && core->free_part && slo_dispatch(core->sched, now_of(core), &piece)) {
		grant(core, part_for(core, &piece));
		n++;
	}
	return n;
}

/* Out they go, past window and limits, owed by their classes; what needs a part while none is free has to come back. */
static void drain(struct blk_core *core, struct blk_port *p)
{
	struct slo_piece piece;

	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		while (p->flow[c] && core->free_part && slo_flow_drain(p->flow[c], now_of(core), &piece))
			grant(core, part_for(core, &piece));
}

void blk_core_recall(struct blk_core *core, struct blk_port *p, bool go)
{
	struct list held;

	if (go)
		drain(core, p);
	list_init(&held);
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		if (p->flow[c])
			slo_flow_take(p->flow[c], now_of(core), &held);
	while (!list_empty(&held)) {
		struct slo_req *r = list_first(&held, struct slo_req, node);
		struct blk_ticket *t = container_of(r, struct blk_ticket, slo);

		list_remove(&r->node);
		t->given_bytes = (uint32_t)r->given_bytes;
		t->has_parts = r->pieces > 0;
		/* The last part that is out ends the ticket; the rest will come with another one. */
		r->bytes = r->given_bytes;
		if (is_local(core, p))
			blk_port_returned(t);
		else
			note_to_worker(core, p, &t->back, BLK_NOTE_RETURN);
	}
}

void blk_core_leave(struct blk_core *core, struct blk_port *p)
{
	if (!p->vm)
		return;
	if (is_local(core, p))
		blk_port_lane_shut(p);
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		flow_drop(p, c);
		assert(!p->flow[c]);
	}
	list_remove(&p->node);
	bury_dead_classes(p->vm);
	p->vm = NULL;
}

/* --- what the owner polls --- */

void blk_core_deliver(struct blk_box *inbox, struct blk_note *first)
{
	struct blk_core *core = container_of(inbox, struct blk_core, inbox);

	for (struct blk_note *next, *n = first; n; n = next) {
		struct blk_port *p;

		next = n->next;
		switch ((enum blk_note_kind)n->kind) {
		case BLK_NOTE_SUBMIT:
			blk_core_enqueue(core, container_of(n, struct blk_ticket, note));
			break;
		case BLK_NOTE_DONE:
			blk_core_done(core, container_of(n, struct blk_part, note));
			break;
		case BLK_NOTE_RECALL:
		case BLK_NOTE_DRAIN:
			p = container_of(n, struct blk_port, ask);
			blk_core_recall(core, p, n->kind == BLK_NOTE_DRAIN);
			note_to_worker(core, p, &p->answer, BLK_NOTE_RECALLED);
			break;
		case BLK_NOTE_LEAVE:
			p = container_of(n, struct blk_port, ask);
			blk_core_leave(core, p);
			note_to_worker(core, p, &p->answer, BLK_NOTE_LEFT);
			break;
		case BLK_NOTE_FULL:
			p = container_of(n, struct blk_port, full);
			if (p->vm)
				slo_vm_ring_full(p->vm->slo, now_of(core));
			store_release(&p->full_told, false);
			break;
		default:
			assert(!"a note that is not for the owner");
		}
	}
	blk_core_run(core);
	blk_core_flush(core);
}

unsigned blk_core_turn(struct blk_core *core)
{
	if (core->gate->slices)
		blk_slice_turn(core);
	return blk_core_run(core);
}

static unsigned core_poll(struct worker_source *s, uint64_t now_ns)
{
	struct blk_core *core = container_of(s, struct blk_core, source);
	unsigned n = blk_core_turn(core);

	(void)now_ns;
	blk_core_flush(core);
	return n;
}

static bool core_arm(struct worker_source *s)
{
	(void)s;
	return false; /* notes and completions wake it themselves */
}

static uint64_t core_deadline(const struct worker_source *s)
{
	const struct blk_core *core = container_of(s, struct blk_core, source);

	return min_u64(slo_next_ns(core->sched), blk_slice_deadline_ns(core));
}

const struct worker_source_ops blk_core_source = {
	.poll = core_poll,
	.arm = core_arm,
	.deadline_ns = core_deadline,
};
