/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The queue's side of the gate, on the queue's worker.
 *
 * When the worker is the owner, each step is a call and a ticket is free again with its request. Otherwise the step is a note
 * in the port's outbox, sent once per batch.
 */
#include "blk/core.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static struct blk_ticket *ticket_get(struct blk_port *p)
{
	struct blk_ticket *t = p->free;

	if (t)
		p->free = t->next_free;
	else if (p->fresh < p->n_tickets)
		t = &p->tickets[p->fresh++];
	else
		return NULL;
	p->out++;
	return t;
}

static void ticket_put(struct blk_ticket *t)
{
	struct blk_port *p = t->port;

	t->next_free = p->free;
	p->free = t;
	p->out--;
}

unsigned blk_port_room(const struct blk_port *p, unsigned max)
{
	return (unsigned)min_u64(max, p->n_tickets - p->out);
}

static void note_to_owner(struct blk_port *p, struct blk_note *n, enum blk_note_kind kind)
{
	n->kind = kind;
	blk_outbox_add(&p->outbox, n);
}

static enum slo_op op_of(const struct blk_request *r)
{
	switch (r->type) {
	case VIRTIO_BLK_T_OUT:
		return SLO_WRITE;
	case VIRTIO_BLK_T_FLUSH:
		return SLO_FLUSH;
	case VIRTIO_BLK_T_DISCARD:
		return SLO_DISCARD;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return SLO_WRITE_ZEROES;
	default:
		return SLO_READ;
	}
}

void blk_port_submit(struct blk_port *p, struct blk_request *r)
{
	struct blk_ticket *t = ticket_get(p);
	enum slo_op op = op_of(r);

	/* The queue takes no more than blk_port_room allows; what comes back from a recall had its ticket before. */
	assert(t);
	t->port = p;
	t->request = r;
	t->ioprio = p->ioprio_ignore ? 0 : r->ioprio;
	t->at_once = worker_now_ns(p->queue->worker) < p->drain_until_ns;
	t->has_parts = false;
	slo_req_init(&t->slo, op, r->sector * STORE_SECTOR + r->given_bytes, r->data_bytes - r->given_bytes);
	/* Only transfers can be cut; a discard's data are its ranges. */
	if (op != SLO_READ && op != SLO_WRITE) {
		t->slo.whole = true;
		t->slo.bytes = blk_request_range_bytes(r, p->queue->map);
	}
	if (p->local) {
		uint16_t ioprio = t->ioprio;

		/* What passed until now has to be known; then the way is looked at anew, for this request's class. */
		blk_port_lane_book(p);
		blk_core_enqueue(p->core, t);
		blk_port_lane_switch(p, ioprio);
	} else {
		note_to_owner(p, &t->note, BLK_NOTE_SUBMIT);
	}
}

/* --- the lane past the gate --- */

void blk_port_lane_open(struct blk_port *p)
{
	struct blk_lane *l = &p->queue->lane;

	l->room = (struct slo_room){ 0 };
	if (l->flow && blk_slice_open(p->core, l->flow))
		l->room = slo_flow_room(l->flow, worker_now_ns(p->queue->worker));
}

void blk_port_lane_book(struct blk_port *p)
{
	struct blk_lane *l = &p->queue->lane;
	unsigned n = l->passed.n[SLO_READ] + l->passed.n[SLO_WRITE];

	if (n)
		blk_slice_passed(p->core, l->flow, n, slo_flow_passed(l->flow, &l->passed, worker_now_ns(p->queue->worker)));
	l->passed = (struct slo_passed){ 0 };
}

void blk_port_lane_back(struct blk_port *p, struct slo_flow *f, enum slo_op op, uint64_t bytes, uint64_t since_ns)
{
	slo_flow_back(f, op, bytes, since_ns, worker_now_ns(p->queue->worker));
	/* As with a part: what waits for the window may have to wait for its limit next, which is the owner's to remember. */
	if (slo_held(p->core->sched))
		worker_source_wake(&p->core->source);
}

bool blk_port_lane_switch(struct blk_port *p, uint16_t ioprio)
{
	struct blk_lane *l = &p->queue->lane;

	blk_port_lane_book(p);
	l->flow = blk_core_flow(p, ioprio);
	l->ioprio = ioprio;
	blk_port_lane_open(p);
	return l->room.all > 0;
}

void blk_port_lane_shut(struct blk_port *p)
{
	struct blk_lane *l = &p->queue->lane;

	blk_port_lane_book(p);
	l->flow = NULL;
	l->room = (struct slo_room){ 0 };
}

void blk_port_flush(struct blk_port *p)
{
	if (p->local)
		blk_core_turn(p->core);
	else
		blk_outbox_send(&p->outbox, &p->core->inbox);
}

/* --- what comes back --- */

void blk_port_granted(struct blk_part *part)
{
	struct blk_ticket *t = part->ticket;
	struct blk_queue *q = t->port->queue;

	part->slice.part = part;
	if (part == &t->whole)
		blk_queue_dispatch(q, t->request, part);
	else
		blk_queue_dispatch_slice(q, t->request, &part->slice, (uint32_t)part->slo.start_bytes,
					 (uint32_t)part->slo.bytes);
}

void blk_port_part_done(struct blk_part *part, int result)
{
	struct blk_port *p = part->ticket->port;

	part->result = result;
	if (p->local)
		blk_core_done(p->core, part);
	else
		note_to_owner(p, &part->note, BLK_NOTE_DONE);
}

void blk_port_returned(struct blk_ticket *t)
{
	blk_queue_take_back(t->port->queue, t->request, t->given_bytes);
	if (!t->has_parts)
		ticket_put(t);
}

void blk_port_freed(struct blk_ticket *t)
{
	ticket_put(t);
}

void blk_port_deliver(struct blk_box *reply, struct blk_note *first)
{
	struct blk_queue *flush = NULL;

	(void)reply;
	for (struct blk_note *next, *n = first; n; n = next) {
		next = n->next;
		switch ((enum blk_note_kind)n->kind) {
		case BLK_NOTE_GRANT: {
			struct blk_part *part = container_of(n, struct blk_part, note);

			flush = part->ticket->port->queue;
			blk_port_granted(part);
			break;
		}
		case BLK_NOTE_RETURN:
			blk_port_returned(container_of(n, struct blk_ticket, back));
			break;
		case BLK_NOTE_FREE:
			blk_port_freed(container_of(n, struct blk_ticket, note));
			break;
		case BLK_NOTE_RECALLED:
			blk_queue_recalled(container_of(n, struct blk_port, answer)->queue);
			break;
		case BLK_NOTE_LEFT:
			blk_queue_left(container_of(n, struct blk_port, answer)->queue);
			break;
		default:
			assert(!"a note that is not for a queue");
		}
	}
	/* One channel per pool and worker: any queue of it will do. */
	if (flush)
		store_flush_batch(flush->channel);
}

/* --- coming and going --- */

void blk_port_attach(struct blk_port *p)
{
	p->core = &p->gate->core[p->gate->n_cores > 1 ? worker_index(p->queue->worker) : 0];
	p->local = p->queue->worker == p->core->owner;
	p->reply = &p->gate->reply[worker_index(p->queue->worker)];
	p->full_told = false;
	p->queue->lane = (struct blk_lane){
		.ioprio_mask = p->ioprio_ignore ? 0 : UINT16_MAX,
		.bytes_max = (uint32_t)min_u64(slo_split_bytes(p->core->sched), UINT32_MAX),
	};
	if (p->local)
		blk_core_join(p->core, p);
}

void blk_port_recall(struct blk_port *p, bool go)
{
	if (p->local) {
		blk_core_recall(p->core, p, go);
		blk_queue_recalled(p->queue);
		return;
	}
	note_to_owner(p, &p->ask, go ? BLK_NOTE_DRAIN : BLK_NOTE_RECALL);
	blk_port_flush(p);
}

void blk_port_drain(struct blk_port *p, uint64_t until_ns)
{
	p->drain_until_ns = until_ns;
}

void blk_port_leave(struct blk_port *p)
{
	if (p->local) {
		blk_core_leave(p->core, p);
		blk_queue_left(p->queue);
		return;
	}
	note_to_owner(p, &p->ask, BLK_NOTE_LEAVE);
	blk_port_flush(p);
}

void blk_port_ring_full(struct blk_port *p)
{
	if (p->local) {
		if (p->vm)
			slo_vm_ring_full(p->vm->slo, worker_now_ns(p->core->owner));
		return;
	}
	/* One at a time is under way; telling it again adds nothing. */
	if (load_acquire(&p->full_told))
		return;
	store_relaxed(&p->full_told, true);
	note_to_owner(p, &p->full, BLK_NOTE_FULL);
}

int blk_port_create(struct blk_gate *g, struct blk_queue *q, const char *vm, bool ioprio_ignore, uint16_t size,
		    struct blk_port **ret)
{
	struct blk_port *p;
	void *mem;

	if (posix_memalign(&mem, CACHE_LINE, sizeof(*p)))
		return -ENOMEM;
	p = memset(mem, 0, sizeof(*p));
	p->n_tickets = 2u * size;
	p->tickets = calloc(p->n_tickets, sizeof(*p->tickets));
	if (!p->tickets) {
		free(p);
		return -ENOMEM;
	}
	p->gate = g;
	p->queue = q;
	p->ioprio_ignore = ioprio_ignore;
	strncpy(p->vm_name, vm, sizeof(p->vm_name) - 1);
	list_init(&p->node);
	*ret = p;
	return 0;
}

void blk_port_destroy(struct blk_port *p)
{
	if (!p)
		return;
	free(p->tickets);
	free(p);
}
