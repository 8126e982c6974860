/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of requests through a queue, on the worker that it is attached to: what a poll takes from the ring, where it is sent,
 * how it comes back.
 *
 * One turn publishes what completed since the last one, takes a batch of at most BATCH chains, and sends each on its way:
 * answered at once, to the pool's gate, or straight to the store. What is answered at once the driver sees in portions, to work on
 * them meanwhile. Completions, which come from the store while the worker reaps or while it submits, only push into the used ring
 * and mark the queue; the next turn makes them visible in one store. The call eventfd is written at most once a turn: a busy queue
 * costs the driver one interrupt per batch, and none when it polls.
 *
 * A turn is bounded in bytes, too, because a store in memory copies them while other queues of the worker wait: what a turn has not
 * moved of a transfer goes on in the next one. Large requests are not refused: firmware knows no size_max and may read a kernel at
 * one go, and a chain may show the same page often enough to ask for 4 GiB.
 *
 * Nearly all requests are plain transfers for a store that answers at once or keeps them, and nobody waits at the gate: those go
 * through accept_plain() from descriptors to used entry, and are counted together once the driver can see them. Everything else
 * takes the long way (request.c, port.c), which decides the same.
 */
#include "blk/queue_internal.h"

#define BATCH 32u
/*
 * The driver sees a batch in portions and works on the first while we serve the rest: shown as a whole, all that is in flight
 * goes to and fro as one ball, and one side always waits for the other. Eight entries are a cache line of the used ring;
 * portions of less move it more often, of more overlap less.
 */
#define PORTION 8u
/*
 * The most that one request has at the store at once: half a millisecond of copying or so. A turn that has moved as much ends, so it
 * moves less than twice that.
 */
#define TURN_BYTES (2u << 20)

/* --- completion --- */

static struct hist *latency_of(struct blk_queue *q, const struct blk_request *r)
{
	if (likely(r->what <= BLK_COUNT_WRITE))
		return r->what == BLK_COUNT_READ ? &q->counters.read_ns : &q->counters.write_ns;
	return r->what == BLK_COUNT_FLUSH ? &q->counters.flush_ns : NULL;
}

static void count_request(struct blk_queue *q, const struct blk_request *r, uint8_t status)
{
	unsigned what = r->what;
	struct hist *latency = latency_of(q, r);

	counter_add(&q->counters.ops[what], 1);
	if (what <= BLK_COUNT_WRITE)
		counter_add(&q->counters.bytes[what], r->data_bytes);
	if (unlikely(status != VIRTIO_BLK_S_OK))
		counter_add(&q->counters.errors, 1);
	if (latency)
		hist_add(latency, worker_now_ns(q->worker) - r->arrival_ns);
}

/* Pushes the answer. It becomes visible with the next publish. */
static void answer(struct blk_queue *q, struct blk_request *r, uint8_t status, uint32_t written)
{
	if (unlikely(!blk_request_put_status(r, q->map, status)))
		written = 0;
	count_request(q, r, status);
	virtqueue_push(&q->vq, r->chain, written);
	q->outstanding--;
	q->unpublished = true;
}

static uint8_t status_of(int result)
{
	if (likely(result == 0))
		return VIRTIO_BLK_S_OK;
	return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void finish_flush(struct blk_queue *q, int result)
{
	struct blk_request *next, *r = blk_flush_end(q);

	for (; r; r = next) {
		next = r->next;
		answer(q, r, status_of(result), 1);
	}
}

static void finish_request(struct blk_queue *q, struct blk_request *r)
{
	uint32_t written = r->type == VIRTIO_BLK_T_IN && r->result == 0 ? r->data_bytes + 1 : 1;

	answer(q, r, status_of(r->result), written);
	if (unlikely(r == q->flush.running))
		finish_flush(q, r->result);
}

/* Once: its next user may come past the gate another way. */
static void lane_back(struct blk_queue *q, struct blk_request *r)
{
	blk_port_lane_back(q->port, r->passed, (enum slo_op)r->type, r->data_bytes, r->arrival_ns);
	r->passed = NULL;
}

/* One part, maybe the whole, is done. */
static inline void part_done(struct blk_queue *q, struct blk_request *r, struct blk_part *part, uint32_t bytes, int result)
{
	if (unlikely(result < 0 && r->result == 0))
		r->result = result;
	r->undone_bytes -= bytes;
	if (part)
		blk_port_part_done(part, result);
	else if (r->passed)
		lane_back(q, r);
	if (r->undone_bytes == 0)
		finish_request(q, r);
	/* A queue that quiesces looks in its next turn: here, the store may be in the middle of its own. */
	worker_source_wake(&q->source);
}

/* What the store answers at once is not counted as dispatched: nobody could see it under way. */
static void sent(struct blk_queue *q)
{
	q->dispatched++;
	worker_source_dispatched(&q->source);
}

static void came_back(struct blk_queue *q)
{
	q->dispatched--;
	worker_source_completed(&q->source);
}

static int translate(struct blk_queue *q, struct blk_request *r, struct store_io *io, uint32_t start, uint32_t bytes)
{
	return blk_request_translate(r, io, q->map, q->geometry, load_relaxed(q->write_through), start, bytes);
}

/* What follows at the store on what has just been done: 1, 0 (nothing) or -errno. */
static int next_step(struct blk_queue *q, struct blk_request *r)
{
	int err;

	if (r->range + 1 < r->ranges) {
		r->range++;
		err = translate(q, r, &r->io, 0, 0);
		return err ? err : 1;
	}
	/* Zeroes are written through as data are, but stores have no such flag for ranges. */
	if (r->type == VIRTIO_BLK_T_WRITE_ZEROES && r->io.op != STORE_FLUSH && load_relaxed(q->write_through)) {
		r->io.op = STORE_FLUSH;
		r->io.flags = 0;
		r->io.offset_bytes = r->io.length_bytes = 0;
		return 1;
	}
	return 0;
}

/* A queue that quiesces waits for it as for what the store has. */
static void put_off(struct blk_queue *q, struct blk_request *r)
{
	blk_list_append(&q->rest, r);
	sent(q);
	worker_source_wake(&q->source);
}

/* A step of a request dispatched whole is done: the next bytes of a transfer, the next range of a discard, or the end. */
static inline void whole_done(struct blk_queue *q, struct blk_request *r, int result)
{
	if (unlikely(r->io.length_bytes < r->undone_bytes) && result == 0 && r->type <= VIRTIO_BLK_T_OUT) {
		r->undone_bytes -= (uint32_t)r->io.length_bytes;
		put_off(q, r);
		return;
	}
	while (unlikely(r->ranges) && result == 0) {
		result = next_step(q, r);
		if (result > 0)
			result = store_start(q->channel, &r->io);
		else
			break;
	}
	if (result == STORE_LATER)
		sent(q);
	else
		part_done(q, r, r->part, r->undone_bytes, result);
}

void blk_queue_store_done(struct store_io *io, int result)
{
	struct blk_request *r = container_of(io, struct blk_request, io);
	struct blk_queue *q = r->queue;

	came_back(q);
	whole_done(q, r, result);
	if (unlikely(r->ranges))
		store_flush_batch(q->channel);
}

static void slice_done(struct store_io *io, int result)
{
	struct blk_slice *s = container_of(io, struct blk_slice, io);
	struct blk_queue *q = s->request->queue;

	came_back(q);
	part_done(q, s->request, s->part, (uint32_t)io->length_bytes, result);
}

/* --- dispatch --- */

/* The next step of a request dispatched whole. Transfers are cut at fixed places, which leaves them as aligned as they were. */
static void step(struct blk_queue *q, struct blk_request *r)
{
	uint32_t bytes = (uint32_t)min_u64(r->undone_bytes, TURN_BYTES);
	int result = translate(q, r, &r->io, r->data_bytes - r->undone_bytes, bytes);

	q->turn_left -= (uint32_t)min_u64(q->turn_left, bytes);
	if (likely(result == 0))
		result = store_start(q->channel, &r->io);
	if (result == STORE_LATER)
		sent(q);
	else
		whole_done(q, r, result);
}

void blk_queue_dispatch(struct blk_queue *q, struct blk_request *r, struct blk_part *part)
{
	r->part = part;
	r->undone_bytes = r->data_bytes - r->given_bytes;
	/* The gate bounds by itself what it lets go. */
	if (part || q->turn_left || r->type > VIRTIO_BLK_T_OUT)
		step(q, r);
	else
		put_off(q, r);
}

static struct blk_request *rest_pop(struct blk_queue *q)
{
	struct blk_request *r = q->rest.first;

	q->rest.first = r->next;
	if (!r->next)
		blk_list_init(&q->rest);
	came_back(q);
	return r;
}

/* Returns how many went on. */
static unsigned go_on(struct blk_queue *q)
{
	unsigned n = 0;

	for (; q->rest.first && q->turn_left; n++)
		step(q, rest_pop(q));
	store_flush_batch(q->channel);
	return n;
}

void blk_queue_recall_rest(struct blk_queue *q)
{
	struct blk_request *next, *r = q->rest.first;

	blk_list_init(&q->rest);
	for (; r; r = next) {
		next = r->next;
		if (r->part) {
			blk_list_append(&q->rest, r);
			continue;
		}
		came_back(q);
		blk_queue_take_back(q, r, r->data_bytes - r->undone_bytes - r->given_bytes);
	}
}

void blk_queue_dispatch_slice(struct blk_queue *q, struct blk_request *r, struct blk_slice *s, uint32_t start, uint32_t bytes)
{
	int result;

	if (start == 0)
		r->undone_bytes = r->data_bytes - r->given_bytes;
	s->request = r;
	s->io.disk = q->store;
	s->io.done = slice_done;
	result = translate(q, r, &s->io, r->given_bytes + start, bytes);
	if (likely(result == 0))
		result = store_start(q->channel, &s->io);
	if (result == STORE_LATER)
		sent(q);
	else
		part_done(q, r, s->part, bytes, result);
}

static void send_now(struct blk_queue *q, struct blk_request *r)
{
	if (q->port)
		blk_port_submit(q->port, r);
	else
		blk_queue_dispatch(q, r, NULL);
}

void blk_queue_send_on(struct blk_queue *q, struct blk_request *r)
{
	if (likely(r->type != VIRTIO_BLK_T_FLUSH) || blk_flush_begin(q, r))
		send_now(q, r);
}

void blk_queue_end_batch(struct blk_queue *q)
{
	if (q->port) {
		blk_port_lane_book(q->port);
		blk_port_flush(q->port);
	}
	store_flush_batch(q->channel);
}

/* --- plain requests: nearly all --- */

/* Done at once, in this batch: counted together at its end, as nobody can see them apart. */
struct instant {
	uint32_t n[2]; /* reads, writes */
	uint64_t bytes[2];
};

static void count_instant(struct blk_queue *q, const struct instant *done)
{
	struct hist *latency[2] = { &q->counters.read_ns, &q->counters.write_ns };

	for (unsigned what = BLK_COUNT_READ; what <= BLK_COUNT_WRITE; what++) {
		if (!done->n[what])
			continue;
		counter_add(&q->counters.ops[what], done->n[what]);
		counter_add(&q->counters.bytes[what], done->bytes[what]);
		store_count(q->channel, (enum store_op)what, done->n[what], done->bytes[what]);
		hist_add_many(latency[what], 0, done->n[what]);
	}
}

/* What is known of a plain request is written down only if it does not end at once. */
static void remember(struct blk_queue *q, struct blk_request *r, struct virtq_chain *chain, uint64_t now_ns)
{
	q->outstanding++;
	r->chain = chain;
	r->arrival_ns = now_ns;
	r->sector = r->io.offset_bytes / STORE_SECTOR;
	r->status_gpa = chain->seg[2].gpa;
	r->type = r->io.op;
	r->what = (uint8_t)r->io.op;
	r->data_bytes = r->undone_bytes = (uint32_t)r->io.length_bytes;
	r->given_bytes = 0;
	r->result = 0;
	r->range = r->ranges = 0;
	r->part = NULL;
	r->passed = q->lane.flow;
	if (r->passed)
		blk_lane_out(&q->lane, now_ns);
}

/* False: not plain, or the gate has to see it. */
static inline bool accept_plain(struct blk_queue *q, struct virtq_chain *chain, uint64_t now_ns, struct instant *done)
{
	struct blk_request *r = &q->requests[chain->id];
	struct blk_plain p;
	int result;

	if (!blk_plain_read(chain, q->map, q->geometry, &p) || unlikely(p.bytes > q->turn_left))
		return false;
	if (q->port && !blk_lane_pass(&q->lane, q->port, p.ioprio, p.type, p.sector * STORE_SECTOR, p.bytes))
		return false;
	q->turn_left -= p.bytes;
	r->io.op = (enum store_op)p.type; /* STORE_READ, STORE_WRITE */
	r->io.flags = p.type && load_relaxed(q->write_through) ? STORE_FUA : 0;
	r->io.iov[0] = (struct iovec){ .iov_base = p.data, .iov_len = p.bytes };
	r->io.iovcnt = 1;
	r->io.offset_bytes = p.sector * STORE_SECTOR;
	r->io.length_bytes = p.bytes;
	result = store_start_uncounted(q->channel, &r->io);
	if (result == 0) {
		store_relaxed(p.status, VIRTIO_BLK_S_OK);
		done->n[p.type]++;
		done->bytes[p.type] += p.bytes;
		q->lane.passed.instant++;
		virtqueue_push(&q->vq, chain, p.type ? 1 : p.bytes + 1);
		q->unpublished = true;
		return true;
	}
	store_count(q->channel, r->io.op, 1, p.bytes);
	remember(q, r, chain, now_ns);
	if (result == STORE_LATER)
		sent(q);
	else
		part_done(q, r, NULL, p.bytes, result);
	return true;
}

static void accept_chain(struct blk_queue *q, struct virtq_chain *chain, uint64_t now_ns)
{
	struct blk_request *r = &q->requests[chain->id];
	int todo;

	r->chain = chain;
	r->arrival_ns = now_ns;
	q->outstanding++;
	todo = blk_request_parse(r, q->map, q->geometry);
	if (likely(todo > 0)) {
		blk_queue_send_on(q, r);
	} else if (todo == 0) {
		answer(q, r, r->status, r->written);
	} else {
		/* Nowhere to write a status: returning it with length 0 is all the protocol has. */
		counter_add(&q->counters.errors, 1);
		virtqueue_push(&q->vq, chain, 0);
		q->outstanding--;
		q->unpublished = true;
	}
}

static void accept_batch(struct blk_queue *q, struct virtq_chain *chain[BATCH], unsigned n, uint64_t now_ns, struct instant *done)
{
	/* A driver that has sent more than a batch has enough to do without seeing parts of it. */
	unsigned portion = n == BATCH && virtqueue_pending(&q->vq) ? BATCH : PORTION;

	for (unsigned i = 0; i < n; i++)
		blk_request_prefetch(chain[i], q->map);
	for (unsigned i = 0; i < n; i++) {
		if (!accept_plain(q, chain[i], now_ns, done))
			accept_chain(q, chain[i], now_ns);
		if (q->vq.n_done >= portion)
			virtqueue_show(&q->vq);
	}
}

/* --- the poll source --- */

void blk_queue_publish(struct blk_queue *q)
{
	q->unpublished = false;
	if (!virtqueue_publish(&q->vq)) {
		counter_add(&q->counters.calls_suppressed, 1);
		return;
	}
	if (q->caller.fd < 0)
		return;
	counter_add(&q->counters.calls_sent, 1);
	if (unlikely(!worker_caller_call(&q->caller)))
		q->vq.call_owed = q->unpublished = true;
}

void blk_queue_tell_broken(struct blk_queue *q)
{
	if (q->err_fd >= 0)
		worker_caller_call_other(&q->caller, q->err_fd);
}

static void found_broken(struct blk_queue *q)
{
	q->told_broken = true;
	counter_add(&q->counters.broken, 1);
	blk_queue_tell_broken(q);
}

static void send_waiting_flush(struct blk_queue *q)
{
	struct blk_request *r = blk_flush_next(q);

	if (!r)
		return;
	send_now(q, r);
	blk_queue_end_batch(q);
}

static unsigned queue_poll(struct worker_source *s, uint64_t now_ns)
{
	struct blk_queue *q = container_of(s, struct blk_queue, source);
	struct virtq_chain *chain[BATCH];
	struct instant done = { 0 };
	unsigned n, found = q->unpublished;

	counter_add(&q->counters.polls, 1);
	if (q->unpublished)
		blk_queue_publish(q);
	q->turn_left = TURN_BYTES;
	if (unlikely(q->rest.first))
		found += go_on(q);
	if (q->port)
		blk_port_flush(q->port);
	if (unlikely(q->state != BLK_QUEUE_SERVING)) {
		blk_queue_check_quiet(q);
		return found;
	}
	if (unlikely(q->rest.first))
		return found;
	if (unlikely(q->flush.waiting.first))
		send_waiting_flush(q);
	n = virtqueue_take(&q->vq, chain, q->port ? blk_port_room(q->port, BATCH) : BATCH);
	if (n == 0) {
		counter_add(&q->counters.polls_empty, 1);
		if (unlikely(q->vq.broken && !q->told_broken))
			found_broken(q);
		return found;
	}
	if (unlikely(memmap_faulted(q->map)))
		virtqueue_break(&q->vq, VIRTQUEUE_UNMAPPED);
	if (q->port)
		blk_port_lane_open(q->port);
	accept_batch(q, chain, n, now_ns, &done);
	if (q->unpublished)
		blk_queue_publish(q);
	if (q->port && q->outstanding == q->vq.size)
		blk_port_ring_full(q->port);
	blk_queue_end_batch(q);
	if (q->unpublished)
		blk_queue_publish(q);
	count_instant(q, &done);
	hist_add(&q->counters.batch, n);
	return n;
}

static bool queue_arm(struct worker_source *s)
{
	struct blk_queue *q = container_of(s, struct blk_queue, source);

	if (q->unpublished || q->rest.first)
		return true;
	if (q->state != BLK_QUEUE_SERVING)
		return false;
	/* Without a kick eventfd nobody would wake us: such a queue is polled for ever (vhost-user, SET_VRING_KICK). */
	if (q->kick.fd < 0)
		return true;
	if (!virtqueue_kicks_on(&q->vq))
		return false;
	/* It stays polled: kicks that were left on would come with every request from now on. */
	virtqueue_kicks_off(&q->vq);
	return true;
}

static void queue_disarm(struct worker_source *s)
{
	struct blk_queue *q = container_of(s, struct blk_queue, source);

	if (q->state == BLK_QUEUE_SERVING)
		virtqueue_kicks_off(&q->vq);
}

static bool queue_pending(const struct worker_source *s)
{
	const struct blk_queue *q = container_of(s, struct blk_queue, source);

	return virtqueue_pending(&q->vq);
}

const struct worker_source_ops blk_queue_source = {
	.poll = queue_poll,
	.pending = queue_pending,
	.arm = queue_arm,
	.disarm = queue_disarm,
};
