/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps one queue busy; see driver.h. Everything but init, start, join and fini runs on the driver's own thread.
 */
#include "bench/driver.h"

#include "base/clock.h"
#include "base/cpus.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define BATCH 64u
#define SLEEP_MS 100

static uint64_t data_bytes(const struct driver_load *l)
{
	return ((uint64_t)l->bytes + 4095) & ~UINT64_C(4095);
}

int driver_init(struct driver *d, struct frontend *f, unsigned queue, const struct driver_load *load)
{
	uint8_t *data;

	d->queue = &f->queue[queue];
	d->load = *load;
	d->random = 88172645463325252u + queue;
	d->cursor = load->span_bytes / f->config.queues / load->bytes * queue;
	d->request = calloc(load->depth, sizeof(*d->request));
	data = frontend_alloc(f, data_bytes(load) * load->depth);
	if (!d->request || !data)
		return -ENOMEM;
	for (unsigned i = 0; i < load->depth; i++) {
		struct driver_request *r = &d->request[i];

		memset(data, (int)i, load->bytes);
		r->buf = front_buf_of(f, data, load->bytes);
		r->front = (struct front_request){
			.type = load->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, .ioprio = load->ioprio, .data = &r->buf, .n_data = 1,
		};
		r->next = d->idle;
		d->idle = r;
		data += data_bytes(load);
	}
	return 0;
}

void driver_fini(struct driver *d)
{
	free(d->request);
	d->request = NULL;
}

static uint64_t next_sector(struct driver *d)
{
	uint64_t blocks = d->load.span_bytes / d->load.bytes, block = d->cursor++;

	if (d->load.random) {
		d->random ^= d->random << 13;
		d->random ^= d->random >> 7;
		d->random ^= d->random << 17;
		/* The upper bits of a product: no division on the way. */
		block = (uint64_t)((unsigned __int128)d->random * blocks >> 64);
	} else if (d->cursor >= blocks) {
		d->cursor = 0;
	}
	return block * d->load.bytes / 512;
}

static void submit(struct driver *d, uint64_t began_ns)
{
	struct driver_request *r = d->idle;

	r->began_ns = began_ns;
	r->front.sector = next_sector(d);
	d->error = front_submit(d->queue, &r->front);
	if (d->error)
		return;
	d->idle = r->next;
	d->in_flight++;
}

/* All that may be under way now, in one publication. */
static void refill(struct driver *d, uint64_t now_ns)
{
	unsigned n = 0;

	for (; d->idle && !d->error; n++) {
		if (!d->load.interval_ns) {
			submit(d, now_ns);
			continue;
		}
		/* Latency counts from when it was due: a back-end that is late cannot slow down its own examination. */
		if (d->next_due_ns > now_ns)
			break;
		submit(d, d->next_due_ns);
		d->next_due_ns += d->load.interval_ns;
	}
	if (n)
		front_kick(d->queue);
	if (d->echo)
		d->echo(d->queue);
}

static void complete(struct driver *d, struct driver_request *r, uint64_t now_ns)
{
	d->in_flight--;
	if (unlikely(r->front.status != VIRTIO_BLK_S_OK))
		d->errors++;
	if (d->measuring) {
		d->ops++;
		hist_add(&d->latency, now_ns - r->began_ns);
	}
	r->next = d->idle;
	d->idle = r;
}

static unsigned reap(struct driver *d, uint64_t *now_ns)
{
	struct front_request *done[BATCH];
	unsigned n = 0, max = BATCH;

	if (d->waits_for_hint) {
		uint32_t seen = load_acquire(&d->hint.seen) - d->reaped;

		max = seen < max ? seen : max;
	}
	while (n < max && (done[n] = front_poll(d->queue)))
		n++;
	if (n)
		*now_ns = clock_now_ns();
	for (unsigned i = 0; i < n; i++)
		complete(d, container_of(done[i], struct driver_request, front), *now_ns);
	d->reaped += n;
	return n;
}

/* On the wrong thread: how far the device has come with the other's queue. Split rings start at index 0. */
static void look_for_other(struct driver *other)
{
	const struct vring_used *used = other->queue->ring.device;
	uint16_t idx = load_acquire(&used->idx);
	uint32_t seen = other->hint.seen;

	if ((uint16_t)seen != idx)
		store_release(&other->hint.seen, seen + (uint16_t)(idx - (uint16_t)seen));
}

static uint64_t calls_of(struct driver *d)
{
	eventfd_t count = 0;

	if (eventfd_read(d->queue->call_fd, &count) == 0)
		d->queue->calls += count;
	return d->queue->calls;
}

static enum driver_phase follow_phase(struct driver *d)
{
	enum driver_phase phase = load_acquire(d->phase);

	if (phase == DRIVER_MEASURE && !d->measuring) {
		d->measuring = true;
		d->kicks_before = d->queue->kicks;
		d->calls_before = d->load.calls ? d->queue->calls : calls_of(d);
		d->began_ns = clock_now_ns();
	}
	return d->load.ops_max && d->ops >= d->load.ops_max ? DRIVER_STOP : phase;
}

static void idle(struct driver *d, uint64_t *now_ns)
{
	if (d->load.interval_ns) {
		*now_ns = clock_now_ns();
	} else if (d->load.calls) {
		int r = front_wait(d->queue, SLEEP_MS);

		if (r && r != -ETIMEDOUT)
			d->error = r;
	} else if (!d->load.spin) {
		__builtin_ia32_pause();
	}
}

static void drain(struct driver *d)
{
	uint64_t now_ns, limit = clock_now_ns() + FRONT_HANG_MS * NSEC_PER_MSEC;

	d->waits_for_hint = false;
	while (d->in_flight && !d->error) {
		if (reap(d, &now_ns))
			continue;
		if (d->echo)
			d->echo(d->queue);
		if (clock_now_ns() > limit)
			d->error = -ETIMEDOUT;
	}
}

static void *driver_main(void *arg)
{
	struct driver *d = arg;
	uint64_t now_ns = clock_now_ns();

	if (d->cpu >= 0)
		cpus_pin_self((unsigned)d->cpu);
	d->next_due_ns = now_ns;
	refill(d, now_ns);
	while (!d->error && follow_phase(d) != DRIVER_STOP) {
		unsigned n;

		if (d->looks_at)
			look_for_other(d->looks_at);
		n = reap(d, &now_ns);
		if (n == 0)
			idle(d, &now_ns);
		if (n || d->load.interval_ns)
			refill(d, now_ns);
		if (unlikely(d->queue->error))
			d->error = d->queue->error;
	}
	d->ended_ns = clock_now_ns();
	d->measuring = false;
	d->kicks = d->queue->kicks - d->kicks_before;
	d->calls = calls_of(d) - d->calls_before;
	drain(d);
	return NULL;
}

int driver_start(struct driver *d)
{
	return -pthread_create(&d->thread, NULL, driver_main, d);
}

int driver_join(struct driver *d)
{
	pthread_join(d->thread, NULL);
	return d->error;
}

void driver_echo(struct front_queue *q)
{
	struct front_ring *r = &q->ring;
	const struct vring_avail *avail = r->driver;
	struct vring_used *used = r->device;
	uint16_t mask = r->config.size - 1, at = used->idx, end = load_acquire(&avail->idx);

	for (; at != end; at++) {
		uint16_t head = avail->ring[at & mask];

		used->ring[at & mask] = (struct vring_used_elem){ .id = head, .len = 1 };
	}
	store_release(&used->idx, end);
}
