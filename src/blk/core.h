/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the gate: what passes between the owner of a pool's scheduler and the queues' workers. Only port.c, core.c and
 * gate.c include this.
 */
#pragma once

#include "blk/gate.h"
#include "blk/queue.h"

enum blk_note_kind {
	/* worker -> owner */
	BLK_NOTE_SUBMIT,  /* ticket */
	BLK_NOTE_DONE,	  /* part */
	BLK_NOTE_RECALL,  /* port */
	BLK_NOTE_DRAIN,	  /* port: a recall whose requests go instead of coming back */
	BLK_NOTE_LEAVE,	  /* port */
	BLK_NOTE_FULL,	  /* port: its ring is exhausted */
	/* owner -> worker */
	BLK_NOTE_GRANT,	  /* part */
	BLK_NOTE_RETURN,  /* ticket, undispatched (or undispatched in part) */
	BLK_NOTE_FREE,	  /* ticket: the owner is through with it */
	BLK_NOTE_RECALLED,/* port */
	BLK_NOTE_LEFT,	  /* port */
};

struct blk_ticket;

/* What the store gets of a request at once. Requests that are not split use the one in their ticket and their own store_io. */
struct blk_part {
	struct blk_note note;
	struct blk_ticket *ticket;
	struct slo_piece slo;
	int result;
	struct blk_slice slice; /* split requests only */
	struct blk_part *next_free;
};

/*
 * A request's stay at the gate. It outlives the request: the worker answers the guest at once, and the ring may bring a new
 * request of the same id before the owner has read that the old one is done. So a port has twice as many tickets as its
 * ring has entries, and takes nothing while all are out.
 */
struct blk_ticket {
	struct blk_note note;
	struct blk_note back; /* RETURN: the ticket's parts may end, and free it, before that note is read */
	uint32_t given_bytes; /* with RETURN: dispatched in parts */
	bool has_parts;	      /* with RETURN: it stays with them */
	struct blk_port *port;
	struct blk_request *request;
	struct slo_req slo;
	uint16_t ioprio;
	bool at_once; /* its queue is being drained: past the scheduler, as a debt */
	struct blk_part whole;
	struct blk_ticket *next_free;
};

struct blk_port {
	struct blk_gate *gate;
	struct blk_core *core; /* that schedules it: the owner's, or its own worker's slice */
	struct blk_queue *queue;
	char vm_name[BLK_NAME_MAX];
	bool ioprio_ignore;
	/* The queue's worker. */
	struct blk_ticket *tickets, *free;
	unsigned n_tickets, fresh; /* tickets from `fresh` on have never been used: their memory is untouched */
	unsigned out;		   /* tickets in use */
	bool local;		   /* its worker is the owner */
	uint64_t drain_until_ns;   /* nothing that comes before that is held */
	bool full_told; /* atomic: `full` is on its way; the owner clears it */
	struct blk_outbox outbox;
	/* The owner's. */
	struct list node; /* in the VM's ports */
	struct blk_core_vm *vm;
	struct blk_box *reply; /* of the worker that it is on */
	struct slo_flow *flow[BLK_CLASSES_MAX]; /* made at the first request of each class */
	/* One of each is enough: they are sent one after the other. */
	struct blk_note ask, answer, full;
};

struct blk_core_class {
	char name[BLK_NAME_MAX];
	struct slo_node *node; /* NULL: the place is free */
	bool dead;	       /* not in the policy any more; goes with its last request in flight */
	/* Slices: its account in the ledger, and what a piece of it costs on average (for wants). */
	uint32_t slot;
	unsigned *users; /* see blk_gate_class */
	uint64_t mean_cost;
	uint64_t granted;	  /* pieces since the last balance */
	struct slo_promise whole; /* as promised; limits are divided among slices */
};

struct blk_core_vm {
	struct list node, ports;
	char name[BLK_NAME_MAX];
	struct slo_node *slo;
	struct blk_core_class class[BLK_CLASSES_MAX];
	uint8_t place[BLK_CLASSES_MAX]; /* index in the policy's list -> index in `class` */
	struct slo_classmap map;
	struct slo_promise whole; /* slices, as above */
};

/* One scheduler and what it needs, on one worker. */
struct blk_core {
	struct blk_gate *gate;
	struct slo_sched *sched;
	struct worker *owner;
	unsigned index; /* of its worker */
	struct worker_msg begin;
	struct worker_source source;
	struct list vms;
	struct blk_part *free_part, *parts; /* for split requests */
	struct iovec *part_iov;
	size_t part_iov_bytes;
	unsigned n_parts;
	struct blk_box inbox;
	struct blk_outbox *reply_out; /* one per worker */
	bool wanting;		      /* slices: some class has been told to want credit */
} cache_aligned;

struct gate_order;

struct blk_gate {
	unsigned n_workers;
	struct blk_box *reply; /* one per worker */
	unsigned n_cores;      /* 1: an owner; otherwise a slice per worker, by the worker's number */
	struct blk_core *core;
	unsigned depth;
	bool balancing; /* control thread: a balance is under way */
	struct gate_order *ending; /* control thread: waits for the balance */
	struct blk_slices *slices; /* slices.c; NULL with an owner */
};

/* --- the owner's side --- */

extern const struct worker_source_ops blk_core_source;
void blk_core_deliver(struct blk_box *inbox, struct blk_note *first);
/* Into the scheduler; the caller runs blk_core_run when its batch is complete. */
void blk_core_enqueue(struct blk_core *core, struct blk_ticket *t);
void blk_core_done(struct blk_core *core, struct blk_part *p);
/* Grants what may go. Returns how many. */
unsigned blk_core_run(struct blk_core *core);
/* The same, after looking for new credit. */
unsigned blk_core_turn(struct blk_core *core);
void blk_core_join(struct blk_core *core, struct blk_port *p);
/* The flow of requests with this ioprio, if there have been any; NULL: they have to be submitted. */
struct slo_flow *blk_core_flow(struct blk_port *p, uint16_t ioprio);
void blk_core_recall(struct blk_core *core, struct blk_port *p, bool go);
void blk_core_leave(struct blk_core *core, struct blk_port *p);
int blk_core_set_vm(struct blk_core *core, const struct blk_gate_vm *vm);
void blk_core_remove_vm(struct blk_core *core, const char *name);
void blk_core_flush(struct blk_core *core);

/* --- slices (slices.c); for an owner these do nothing, and all is open --- */

/* A piece of the flow's class went out at this cost. */
void blk_slice_used(struct blk_core *core, struct slo_flow *f, uint64_t cost);
/* It is done: what it owes now. */
void blk_slice_done(struct blk_core *core, const struct slo_piece *p);
/* What passes need not be asked for one by one: the flow's class may spend as it likes until the next blk_slice_turn(). */
bool blk_slice_open(const struct blk_core *core, struct slo_flow *f);
void blk_slice_passed(struct blk_core *core, struct slo_flow *f, unsigned n, uint64_t cost);
/* The class has left the policy: it wants nothing more. */
void blk_slice_forget(struct blk_core *core, struct blk_core_class *class);
/* Takes new credit, and tells what waits. Once per turn. */
void blk_slice_turn(struct blk_core *core);
uint64_t blk_slice_deadline_ns(const struct blk_core *core);
/* The part of a promise that a slice keeps by itself. */
struct slo_promise blk_slice_promise(const struct blk_core *core, const struct slo_promise *vm, const struct slo_promise *whole);

/* --- the queue's side --- */

void blk_port_deliver(struct blk_box *reply, struct blk_note *first);
void blk_port_granted(struct blk_part *part);
void blk_port_returned(struct blk_ticket *t);
void blk_port_freed(struct blk_ticket *t);
/* The classes change, or the queue leaves: nothing passes until a request has been submitted. */
void blk_port_lane_shut(struct blk_port *p);
