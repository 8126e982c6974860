/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The gate of a pool: where the requests of all queues meet the scheduler (slo/) before they reach the store.
 *
 * The scheduler has an owner, one worker. Workers that took a request pass it to the owner as a note (box.h) and dispatch
 * and complete it themselves when it comes back as granted, so a store still sees each queue's own worker. When the owner
 * took the request there are no notes, only calls, and an uncontended request passes without touching a heap.
 *
 *   gate_*   control thread
 *   port_*   the worker of the queue whose port it is
 *   core     the owner (core.h)
 */
#pragma once

#include "blk/box.h"
#include "slo/classmap.h"
#include "slo/sched.h"

#define BLK_NAME_MAX 32u
#define BLK_CLASSES_MAX 64u

struct blk_core;
struct blk_gate;
struct ledger_book;
struct blk_port;
struct blk_queue;
struct blk_request;
struct blk_team;

/* --- control thread --- */

struct blk_gate_class {
	char name[BLK_NAME_MAX];
	struct slo_promise promise;
	uint16_t id;   /* internal, slices only: its number in the VM, the same as long as any slice has the class */
	uint32_t slot; /* internal: its account in the ledger */
	unsigned *users; /* internal: in how many slices a class stands at that number's place; atomic */
};

/* What the policy says of a VM on one pool. */
struct blk_gate_vm {
	char name[BLK_NAME_MAX];
	struct slo_promise promise;
	unsigned n_classes;
	struct blk_gate_class class[BLK_CLASSES_MAX];
	struct slo_classmap map; /* ioprio -> index into `class` */
};

/* Called on the control thread when the owner has done it. */
struct blk_gate_done {
	void (*fn)(void *arg, int result);
	void *arg;
};

/* `owner` is one of the team's workers. -ENOMEM and what slo_sched_create returns. */
int blk_gate_create(const struct slo_sched_options *options, struct blk_team *team, unsigned owner, struct blk_gate **ret);
/*
 * The same promises kept by a scheduler on every worker, each for its own queues: for pools that are too fast for one. What
 * each slice may spend of an account comes from a ledger, settled every millisecond. `capacity_iops`: 4 KiB reads per second
 * that the pool gives. Costs are not learned meanwhile: all slices must reckon alike.
 */
int blk_gate_create_sliced(const struct slo_sched_options *options, struct blk_team *team, uint64_t capacity_iops,
			   struct blk_gate **ret);
/* Slices only: from the next blk_gate_set_vm() on. 0: as it is. */
void blk_gate_set_capacity(struct blk_gate *g, uint64_t capacity_iops);
/* Slices only, ten times a second: limits and the window are divided anew by who asks for how much. */
void blk_gate_balance(struct blk_gate *g);
/* NULL with an owner. */
struct ledger_book *blk_gate_book(const struct blk_gate *g);
/* Names of a book's account; false: none has that id. */
bool blk_gate_account_name(const struct blk_gate *g, unsigned vm, unsigned class, const char **ret_vm, const char **ret_class);
/* No port is left; the owner's part ends first, then done. */
void blk_gate_destroy(struct blk_gate *g, struct blk_gate_done done);

/* Adds the VM or changes its promises, classes and map, all at one moment. What is held stays held, in its class by name. */
void blk_gate_set_vm(struct blk_gate *g, const struct blk_gate_vm *vm, struct blk_gate_done done);
/* The VM's ports have been closed. */
void blk_gate_remove_vm(struct blk_gate *g, const char *name, struct blk_gate_done done);

/* Runs `fn` on the owner, or on one slice after the other: for reading statistics and the cost model. */
void blk_gate_visit(struct blk_gate *g, void (*fn)(struct blk_core *core, struct slo_sched *s, void *arg), void *arg,
		    struct blk_gate_done done);

/* NULL: sliced. */
struct worker *blk_gate_owner(const struct blk_gate *g);

/* For a visitor: the time the scheduler goes by. */
uint64_t blk_core_now_ns(const struct blk_core *core);

/* For a visitor: the VMs and classes, by index; false past the last. */
struct blk_gate_node {
	const char *vm, *class; /* class NULL: the VM itself */
	struct slo_node *node;
	const struct slo_promise *promise; /* as a whole, where slices keep parts of it */
};
bool blk_core_node_at(struct blk_core *core, unsigned index, struct blk_gate_node *ret);

/* --- ports --- */

/*
 * A queue's way past its gate while nobody waits there: requests of one class, in one batch. The port opens it, the queue uses
 * it up; `flow` is NULL, and no room, where requests have to be shown to the owner one by one.
 */
struct blk_lane {
	struct slo_flow *flow;
	struct slo_room room;
	uint16_t ioprio, ioprio_mask;
	uint32_t bytes_max; /* of one request */
	struct slo_passed passed; /* not yet booked */
};

/* Begin of a batch. */
void blk_port_lane_open(struct blk_port *p);
/* A request of another class comes: false: it has to be submitted. */
bool blk_port_lane_switch(struct blk_port *p, uint16_t ioprio);
/* End of a batch: books what passed. */
void blk_port_lane_book(struct blk_port *p);
/* The store is done with one that it kept. */
void blk_port_lane_back(struct blk_port *p, struct slo_flow *f, enum slo_op op, uint64_t bytes, uint64_t since_ns);

/*
 * True: a read or write (SLO_READ, SLO_WRITE) may go to the store. One that the store keeps is reported by blk_lane_out and
 * blk_port_lane_back.
 */
static inline bool blk_lane_pass(struct blk_lane *l, struct blk_port *p, uint16_t ioprio, unsigned op, uint64_t offset_bytes,
				 uint32_t bytes)
{
	ioprio &= l->ioprio_mask;
	if (unlikely(!l->room.all || bytes > l->bytes_max))
		return false;
	if (ioprio != l->ioprio && !blk_port_lane_switch(p, ioprio))
		return false;
	l->room.all--;
	l->passed.n[op]++;
	l->passed.bytes[op] += bytes;
	l->passed.end_bytes[op] = offset_bytes + bytes;
	return true;
}

static inline void blk_lane_out(struct blk_lane *l, uint64_t now_ns)
{
	slo_flow_out(l->flow, now_ns);
	if (--l->room.kept == 0)
		l->room.all = 0;
}

/* Control thread, before the queue's first attach. `size`: of its ring. -ENOMEM. */
int blk_port_create(struct blk_gate *g, struct blk_queue *q, const char *vm, bool ioprio_ignore, uint16_t size,
		    struct blk_port **ret);
/* After the queue's last detach. NULL is allowed. */
void blk_port_destroy(struct blk_port *p);

/* The queue has come to its worker. */
void blk_port_attach(struct blk_port *p);
/* The request is held, or dispatched through blk_queue_dispatch, maybe before this returns. */
void blk_port_submit(struct blk_port *p, struct blk_request *r);
/* How many requests can be submitted now, at most `max`. */
unsigned blk_port_room(const struct blk_port *p, unsigned max);
/* End of a batch of submissions or completions. */
void blk_port_flush(struct blk_port *p);
/*
 * Everything held comes back by blk_queue_take_back, or, with `go`, is granted at once as a debt; then blk_queue_recalled is
 * called.
 */
void blk_port_recall(struct blk_port *p, bool go);
/* Nothing that the queue submits before `until_ns` is held: it is granted at once, as a debt. */
void blk_port_drain(struct blk_port *p, uint64_t until_ns);
/* Nothing is held or dispatched: the owner forgets the queue, then blk_queue_left is called. */
void blk_port_leave(struct blk_port *p);
/* The driver's ring is exhausted: every descriptor it has is here, so demand may be hidden behind it. */
void blk_port_ring_full(struct blk_port *p);

/* A part of a large request, or all of one, as granted. Its completion: blk_port_part_done. */
struct blk_part;
void blk_port_part_done(struct blk_part *part, int result);
