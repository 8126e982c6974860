/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk requests of the front-end: header, data, status in one chain. On whatever thread drives the queue.
 */
#include "frontend/frontend.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define DATA_SEGS_LIMIT 254

static bool device_writes(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

int front_submit(struct front_queue *q, struct front_request *r)
{
	struct front_buf buf[DATA_SEGS_LIMIT + 2];
	unsigned n = r->n_data, n_in = device_writes(r->type) ? n + 1 : 1;
	struct front_area *a;
	uint16_t tag;
	int e;

	if (!q->n_free_tags)
		return -ENOSPC;
	if (n > DATA_SEGS_LIMIT)
		return -EINVAL;
	tag = q->free_tag[q->n_free_tags - 1];
	a = &q->area[tag];
	a->header.type = r->type;
	a->header.ioprio = r->ioprio;
	a->header.sector = r->sector;
	a->status = 0xff;
	buf[0].gpa = front_memory_gpa(q->memory, &a->header);
	buf[0].len = sizeof(a->header);
	for (unsigned i = 0; i < n; i++)
		buf[i + 1] = r->data[i];
	buf[n + 1].gpa = buf[0].gpa + offsetof(struct front_area, status);
	buf[n + 1].len = 1;
	e = front_ring_add(&q->ring, buf, n + 2 - n_in, n_in, r);
	if (e)
		return e;
	r->tag = tag;
	q->n_free_tags--;
	return 0;
}

void front_kick(struct front_queue *q)
{
	if (!front_ring_publish(&q->ring))
		return;
	q->kicks++;
	eventfd_write(q->kick_fd, 1);
}

struct front_request *front_poll(struct front_queue *q)
{
	uint32_t written;
	struct front_request *r = front_ring_get(&q->ring, &written, &q->error);

	if (!r)
		return NULL;
	r->written = written;
	r->status = load_relaxed(&q->area[r->tag].status);
	q->free_tag[q->n_free_tags++] = r->tag;
	return r;
}

int front_wait(struct front_queue *q, int timeout_ms)
{
	struct pollfd p = { .fd = q->call_fd, .events = POLLIN };
	int r = 0;

	while (!front_ring_calls_on(&q->ring)) {
		eventfd_t count;

		r = poll(&p, 1, timeout_ms);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			r = r ? -errno : -ETIMEDOUT;
			break;
		}
		if (eventfd_read(q->call_fd, &count) == 0)
			q->calls += count;
	}
	front_ring_calls_off(&q->ring);
	return r < 0 ? r : 0;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

int front_run(struct front_queue *q, struct front_request *r)
{
	uint64_t limit = now_ms() + FRONT_HANG_MS;
	struct front_request *done;
	int e = front_submit(q, r);

	if (e)
		return e;
	front_kick(q);
	while (!(done = front_poll(q))) {
		if (q->error)
			return q->error;
		if (now_ms() > limit)
			return -ETIMEDOUT;
		if (q->sleeps) {
			e = front_wait(q, FRONT_HANG_MS);
			if (e)
				return e;
		} else {
			sched_yield();
		}
	}
	if (done != r)
		return -EBUSY; /* others were in flight: not a use for this function */
	return r->status == VIRTIO_BLK_S_OK ? 0 : -EIO;
}
