/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations in terms of the worker's primitives (queue.h):
 *
 *   START  attach                                    STOP  quiesce, [flush what came back], detach
 *   MOVE   reserve there | quiesce, detach | attach  REMAP quiesce, new map, resume
 *   KICK   reserve here | quiesce, detach | attach   DRAIN  quiesce (what is held goes), resume
 *   LOG, CALL, ERR  at once
 *
 * The bar is a return to the control thread between two messages. A queue leaves its worker only when another is sure to have it.
 */
#include "blk/slot.h"

#include "blk/gate.h"

#include <errno.h>
#include <string.h>

static void begin_first(struct blk_slot *s);

static void close_fds(struct blk_op *op)
{
	int *fds[] = { &op->kick_fd, &op->call_fd, &op->err_fd };

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static void finish(struct blk_op *op, int result)
{
	struct blk_slot *s = op->slot;
	struct vhost_done done = op->done;
	uint32_t value = op->value;

	list_remove(&op->node);
	close_fds(op);
	free(op);
	/* The next one first: `done` may queue more, or free the slot when nothing is left. */
	if (!list_empty(&s->ops))
		begin_first(s);
	if (done.fn)
		done.fn(done.arg, result, value);
}

/* --- on the worker --- */

static struct blk_op *op_of(struct worker_msg *m)
{
	return container_of(m, struct blk_op, msg);
}

static void reply(struct blk_queue *q, void *arg)
{
	struct blk_op *op = arg;

	(void)q;
	worker_reply(&op->msg);
}

static void run_attach(struct worker_msg *m, struct worker *w)
{
	struct blk_op *op = op_of(m);

	op->result = blk_queue_attach(&op->slot->queue, w);
}

static void run_reserve(struct worker_msg *m, struct worker *w)
{
	op_of(m)->result = blk_queue_reserve(&op_of(m)->slot->queue, w);
}

static void run_attach_reserved(struct worker_msg *m, struct worker *w)
{
	run_attach(m, w);
	blk_queue_release(&op_of(m)->slot->queue, w);
}

static void then_detach(struct blk_queue *q, void *arg)
{
	blk_queue_detach(q, reply, arg);
}

static void then_flush(struct blk_queue *q, void *arg)
{
	struct blk_op *op = arg;

	if (op->keep_inflight)
		blk_queue_detach(q, reply, arg);
	else
		blk_queue_flush_returned(q, then_detach, arg);
}

static void run_stop(struct worker_msg *m, struct worker *w)
{
	(void)w;
	m->keep = true;
	blk_queue_quiesce(&op_of(m)->slot->queue, op_of(m)->keep_inflight ? BLK_HELD_RETURNS : BLK_HELD_GOES, then_flush, op_of(m));
}

static void run_leave(struct worker_msg *m, struct worker *w)
{
	(void)w;
	m->keep = true;
	blk_queue_quiesce(&op_of(m)->slot->queue, BLK_HELD_RETURNS, then_detach, op_of(m));
}

static void then_remap(struct blk_queue *q, void *arg)
{
	struct blk_op *op = arg;

	q->map = op->map;
	/* Rings outside the new memory: the queue is broken and says so; its neighbours are not concerned. */
	op->result = virtqueue_remap(&q->vq, op->map);
	blk_queue_resume(q);
	worker_reply(&op->msg);
}

static void run_remap(struct worker_msg *m, struct worker *w)
{
	(void)w;
	m->keep = true;
	blk_queue_quiesce(&op_of(m)->slot->queue, BLK_HELD_RETURNS, then_remap, op_of(m));
}

static void then_resume(struct blk_queue *q, void *arg)
{
	struct blk_op *op = arg;

	if (q->port)
		blk_port_drain(q->port, worker_now_ns(q->worker) + op->drain_ns);
	blk_queue_resume(q);
	worker_reply(&op->msg);
}

static void run_drain(struct worker_msg *m, struct worker *w)
{
	(void)w;
	m->keep = true;
	blk_queue_quiesce(&op_of(m)->slot->queue, BLK_HELD_GOES, then_resume, op_of(m));
}

static void run_log(struct worker_msg *m, struct worker *w)
{
	struct blk_op *op = op_of(m);

	(void)w;
	virtqueue_set_log(&op->slot->queue.vq, op->log);
}

static void run_call(struct worker_msg *m, struct worker *w)
{
	struct blk_op *op = op_of(m);

	(void)w;
	blk_queue_set_call(&op->slot->queue, take_fd(&op->call_fd));
}

static void run_err(struct worker_msg *m, struct worker *w)
{
	struct blk_op *op = op_of(m);

	(void)w;
	blk_queue_set_err(&op->slot->queue, take_fd(&op->err_fd));
}

/* --- back on the control thread --- */

static void post_to(struct worker *w, struct blk_op *op, void (*run)(struct worker_msg *, struct worker *),
		    void (*done)(struct worker_msg *))
{
	op->msg.run = run;
	op->msg.done = done;
	op->msg.keep = false;
	worker_post(w, &op->msg);
}

static void post(struct blk_op *op, void (*run)(struct worker_msg *, struct worker *), void (*done)(struct worker_msg *))
{
	post_to(op->slot->worker, op, run, done);
}

static uint32_t unstart(struct blk_slot *s)
{
	uint32_t base = virtqueue_stop(&s->queue.vq);

	blk_port_destroy(s->queue.port);
	s->queue.port = NULL;
	blk_queue_fini(&s->queue);
	s->running = false;
	return base;
}

static void started(struct worker_msg *m)
{
	struct blk_op *op = op_of(m);

	if (op->result < 0)
		unstart(op->slot);
	else
		op->slot->running = true;
	finish(op, op->result);
}

static void stopped(struct worker_msg *m)
{
	struct blk_op *op = op_of(m);

	op->value = unstart(op->slot);
	finish(op, 0);
}

static void replied(struct worker_msg *m)
{
	finish(op_of(m), op_of(m)->result);
}

static void left(struct worker_msg *m)
{
	struct blk_op *op = op_of(m);
	struct blk_slot *s = op->slot;

	if (op->kind == BLK_OP_MOVE) {
		s->worker = op->to;
		s->queue.counters.moves++;
	} else {
		int old = s->queue.kick.fd;

		s->queue.kick.fd = take_fd(&op->kick_fd);
		if (old >= 0)
			close(old);
	}
	post(op, run_attach_reserved, replied);
}

/* Or not, and it stays where it is. */
static void reserved(struct worker_msg *m)
{
	struct blk_op *op = op_of(m);

	if (op->result < 0)
		finish(op, op->result);
	else
		post(op, run_leave, left);
}

static int prepare_start(struct blk_op *op)
{
	struct blk_queue *q = &op->slot->queue;
	int err = blk_queue_init(q, op->setup.size);

	if (err < 0)
		return err;
	if (q->pool->gate)
		err = blk_port_create(q->pool->gate, q, op->slot->vm, op->slot->ioprio_ignore, op->setup.size, &q->port);
	if (err == 0)
		err = virtqueue_start(&q->vq, &op->setup, op->map);
	if (err < 0) {
		blk_port_destroy(q->port);
		q->port = NULL;
		blk_queue_fini(q);
		return err;
	}
	op->slot->fault_seen = false;
	/* After a crash the first publish, even of nothing, makes up for the call that the dead owner may have kept back. */
	q->unpublished = q->vq.call_owed;
	q->map = op->map;
	q->kick.fd = take_fd(&op->kick_fd);
	(void)worker_caller_set(&q->caller, take_fd(&op->call_fd)); /* the session has seen that it is an eventfd */
	q->err_fd = take_fd(&op->err_fd);
	return 0;
}

static void begin_start(struct blk_op *op)
{
	int err = prepare_start(op);

	if (err < 0)
		finish(op, err);
	else
		post(op, run_attach, started);
}

static void begin_first(struct blk_slot *s)
{
	struct blk_op *op = list_first(&s->ops, struct blk_op, node);

	if (op->kind == BLK_OP_START) {
		begin_start(op);
		return;
	}
	if (!s->running) {
		finish(op, 0);
		return;
	}
	switch (op->kind) {
	case BLK_OP_STOP:
		post(op, run_stop, stopped);
		break;
	case BLK_OP_REMAP:
		post(op, run_remap, replied);
		break;
	case BLK_OP_DRAIN:
		post(op, run_drain, replied);
		break;
	case BLK_OP_LOG:
		post(op, run_log, replied);
		break;
	case BLK_OP_CALL:
		post(op, run_call, replied);
		break;
	case BLK_OP_ERR:
		post(op, run_err, replied);
		break;
	default:
		post_to(op->kind == BLK_OP_MOVE ? op->to : s->worker, op, run_reserve, reserved);
		break;
	}
}

void blk_slot_init(struct blk_slot *s, struct blk_pool *pool, struct store_disk *store, const struct blk_geometry *geometry,
		   const bool *write_through, unsigned index)
{
	memset(s, 0, sizeof(*s));
	list_init(&s->ops);
	s->queue.pool = pool;
	s->queue.store = store;
	s->queue.geometry = geometry;
	s->queue.write_through = write_through;
	s->queue.index = index;
	s->queue.kick.fd = s->queue.err_fd = -1;
}

struct blk_op *blk_op_new(enum blk_op_kind kind, struct vhost_done done)
{
	struct blk_op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->kind = kind;
	op->done = done;
	op->kick_fd = op->call_fd = op->err_fd = -1;
	return op;
}

void blk_slot_do(struct blk_slot *s, struct blk_op *op)
{
	bool first = list_empty(&s->ops);

	op->slot = s;
	list_append(&s->ops, &op->node);
	if (first)
		begin_first(s);
}

const char *blk_slot_fault(struct blk_slot *s)
{
	enum virtqueue_fault fault = s->running && !s->fault_seen ? load_relaxed(&s->queue.vq.broken) : 0;

	if (!fault)
		return NULL;
	s->fault_seen = true;
	return virtqueue_fault_text(fault);
}

bool blk_slot_calm(const struct blk_slot *s)
{
	return list_empty(&s->ops);
}
