/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's life on its worker: attaching and detaching, its file descriptors and memory, and quiescing; path.c is what it does
 * in between.
 *
 * Everything that changes under a running queue (its memory, its worker, its end) goes through one primitive: quiesce. It
 * stops taking, recalls what the gate holds, waits for what the store has. Held requests know guest addresses only, so they
 * survive a change of memory and a move to another worker.
 */
#include "blk/queue_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Its counter is not read back: the poll reports each kick as an event of its own, and a read could wait for ever, for the
 * front-end can empty the counter before us and take O_NONBLOCK away.
 */
static void kick_ready(struct worker_watch *watch)
{
	struct blk_queue *q = container_of(watch, struct blk_queue, kick);

	counter_add(&q->counters.kicks, 1);
	worker_source_wake(&q->source);
}

/* --- quiescing --- */

void blk_queue_check_quiet(struct blk_queue *q)
{
	void (*quiet)(struct blk_queue *, void *) = q->quiet;

	if (q->state != BLK_QUEUE_QUIESCING || q->dispatched > 0 || !quiet)
		return;
	q->state = BLK_QUEUE_QUIET;
	if (q->unpublished)
		blk_queue_publish(q);
	q->quiet = NULL;
	quiet(q, q->quiet_arg);
}

void blk_queue_quiesce(struct blk_queue *q, enum blk_held held, void (*quiet)(struct blk_queue *, void *arg), void *arg)
{
	assert(q->state == BLK_QUEUE_SERVING);
	q->state = BLK_QUEUE_QUIESCING;
	blk_flush_recall(q);
	if (held == BLK_HELD_RETURNS)
		blk_queue_recall_rest(q);
	q->quiet_arg = arg;
	if (q->port) {
		q->quiet = NULL;
		q->quiet_later = quiet;
		blk_port_recall(q->port, held == BLK_HELD_GOES);
		return;
	}
	q->quiet = quiet;
	blk_queue_check_quiet(q);
}

void blk_queue_take_back(struct blk_queue *q, struct blk_request *r, uint32_t given_bytes)
{
	if (unlikely(r == q->flush.running))
		blk_flush_give_up(q);
	r->given_bytes += given_bytes;
	/* undone_bytes counts the rest, too: parts that are out do not finish the request. */
	r->next = NULL;
	*q->returned_tail = r;
	q->returned_tail = &r->next;
}

void blk_queue_recalled(struct blk_queue *q)
{
	q->quiet = q->quiet_later;
	blk_queue_check_quiet(q);
}

static struct blk_request *take_returned(struct blk_queue *q)
{
	struct blk_request *r = q->returned;

	q->returned = NULL;
	q->returned_tail = &q->returned;
	return r;
}

static void serve(struct blk_queue *q)
{
	struct blk_request *next, *r = take_returned(q);

	q->state = BLK_QUEUE_SERVING;
	for (; r; r = next) {
		next = r->next;
		blk_queue_send_on(q, r);
	}
	blk_queue_end_batch(q);
	worker_source_wake(&q->source);
}

void blk_queue_resume(struct blk_queue *q)
{
	assert(q->state == BLK_QUEUE_QUIET);
	serve(q);
}

void blk_queue_flush_returned(struct blk_queue *q, void (*quiet)(struct blk_queue *, void *arg), void *arg)
{
	struct blk_request *next, *r = take_returned(q);

	assert(q->state == BLK_QUEUE_QUIET);
	q->state = BLK_QUEUE_QUIESCING;
	for (; r; r = next) {
		next = r->next;
		if (r->type != VIRTIO_BLK_T_FLUSH || !blk_flush_share(q, r))
			blk_queue_dispatch(q, r, NULL);
	}
	store_flush_batch(q->channel);
	q->quiet_arg = arg;
	q->quiet = quiet;
	blk_queue_check_quiet(q);
}

/* --- attaching and detaching --- */

int blk_queue_reserve(const struct blk_queue *q, struct worker *w)
{
	struct blk_channel *c = &q->pool->on[worker_index(w)];
	int err;

	if (!c->channel) {
		err = store_channel_open(q->pool->store, w, &c->counters, &c->channel);
		if (err < 0)
			return err;
	}
	c->users++;
	return 0;
}

void blk_queue_release(const struct blk_queue *q, struct worker *w)
{
	struct blk_channel *c = &q->pool->on[worker_index(w)];

	if (--c->users == 0) {
		store_channel_close(c->channel);
		c->channel = NULL;
	}
}

int blk_queue_attach(struct blk_queue *q, struct worker *w)
{
	int err;

	assert(q->state == BLK_QUEUE_DETACHED);
	q->worker = w;
	err = blk_queue_reserve(q, w);
	if (err < 0)
		return err;
	q->channel = q->pool->on[worker_index(w)].channel;
	q->source.ops = &blk_queue_source;
	worker_source_add(w, &q->source);
	virtqueue_kicks_off(&q->vq);
	if (q->kick.fd >= 0) {
		q->kick.ready = kick_ready;
		worker_watch_add(w, &q->kick);
	}
	if (q->port)
		blk_port_attach(q->port);
	serve(q);
	return 0;
}

static void watch_gone(struct worker_watch *watch)
{
	struct blk_queue *q = container_of(watch, struct blk_queue, kick);

	q->detached(q, q->detached_arg);
}

void blk_queue_left(struct blk_queue *q)
{
	worker_source_remove(&q->source);
	q->channel = NULL;
	blk_queue_release(q, q->worker);
	/* Kicks are left on: whoever serves it next looks at the ring first. */
	if (!q->vq.broken)
		virtqueue_kicks_on(&q->vq);
	if (q->kick.active)
		worker_watch_remove(&q->kick, watch_gone);
	else
		q->detached(q, q->detached_arg);
}

void blk_queue_detach(struct blk_queue *q, void (*detached)(struct blk_queue *, void *arg), void *arg)
{
	assert(q->state == BLK_QUEUE_QUIET);
	q->state = BLK_QUEUE_DETACHED;
	q->detached = detached;
	q->detached_arg = arg;
	if (q->port)
		blk_port_leave(q->port);
	else
		blk_queue_left(q);
}

/* --- file descriptors --- */

void blk_queue_set_call(struct blk_queue *q, int fd)
{
	(void)worker_caller_set(&q->caller, fd);
	/* A call that went to the old fd may have been lost with it. */
	if (!worker_caller_call(&q->caller)) {
		q->vq.call_owed = q->unpublished = true;
		worker_source_wake(&q->source);
	}
}

void blk_queue_set_err(struct blk_queue *q, int fd)
{
	if (q->err_fd >= 0)
		close(q->err_fd);
	q->err_fd = fd;
	if (q->told_broken)
		blk_queue_tell_broken(q);
}

/* --- memory --- */

int blk_queue_init(struct blk_queue *q, uint16_t size)
{
	q->requests = calloc(size, sizeof(*q->requests));
	if (!q->requests)
		return -ENOMEM;
	if (worker_caller_init(&q->caller) < 0)
		goto fail;
	q->iov_bytes = (size_t)size * BLK_IOV_MAX * sizeof(struct iovec);
	/* Untouched pages cost nothing, so an idle queue has none of them. */
	q->iov = mmap(NULL, q->iov_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->iov == MAP_FAILED)
		goto fail;
	for (unsigned i = 0; i < size; i++) {
		struct blk_request *r = &q->requests[i];

		r->queue = q;
		r->io.iov = q->iov + (size_t)i * BLK_IOV_MAX;
		r->io.disk = q->store;
		r->io.done = blk_queue_store_done;
	}
	q->state = BLK_QUEUE_DETACHED;
	take_returned(q);
	blk_flush_init(q);
	blk_list_init(&q->rest);
	q->turn_left = 0;
	q->outstanding = q->dispatched = 0;
	/* The first publish calls the driver if whoever served the ring before us died owing it that. */
	q->unpublished = true;
	q->told_broken = false;
	q->kick.fd = q->err_fd = -1;
	return 0;
fail:
	worker_caller_fini(&q->caller);
	free(q->requests);
	q->requests = NULL;
	return -ENOMEM;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void blk_queue_fini(struct blk_queue *q)
{
	if (!q->requests)
		return;
	munmap(q->iov, q->iov_bytes);
	free(q->requests);
	q->requests = NULL;
	close_fd(&q->kick.fd);
	close_fd(&q->err_fd);
	worker_caller_fini(&q->caller);
}
