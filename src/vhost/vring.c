/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues as a front-end sets them up: size, addresses, base, file descriptors, enabled or not, in any order. Called
 * by the session on the control thread.
 *
 * The protocol says that a ring starts with the first kick. We start it when everything is known and a kick
 * descriptor (or the word that there is none) has come: requests that were put into the ring before, by a driver
 * that then crashed or by one that polls, are served without waiting for a kick that may never come. A ring is
 * "started" from SET_VRING_KICK to GET_VRING_BASE, and served while it is enabled as well.
 *
 *   STOPPED --complete, started, enabled--> BUSY --> RUNNING --disabled, base asked for, reset, end--> BUSY --> STOPPED
 */
#include "vhost/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* A packed ring begins with both wrap counters at 1. */
#define PACKED_BASE 0x80008000u

void vhost_vrings_init(struct vhost_session *s, unsigned n)
{
	s->n_vrings = n;
	for (unsigned i = 0; i < n; i++)
		s->vring[i] = (struct vhost_vring){
			.session = s, .index = i, .kick_fd = -1, .call_fd = -1, .err_fd = -1,
		};
}

void vhost_vrings_reset(struct vhost_session *s)
{
	for (unsigned i = 0; i < s->n_vrings; i++) {
		cleanup_close_fd(&s->vring[i].kick_fd);
		cleanup_close_fd(&s->vring[i].call_fd);
		cleanup_close_fd(&s->vring[i].err_fd);
	}
	vhost_vrings_init(s, s->n_vrings);
}

void vhost_vrings_halt(struct vhost_session *s)
{
	for (unsigned i = 0; i < s->n_vrings; i++) {
		struct vhost_vring *v = &s->vring[i];

		cleanup_close_fd(&v->kick_fd);
		v->kick_fd = -1;
		v->kicked = v->again = v->enabled = false;
	}
}

unsigned vhost_vrings_running(const struct vhost_session *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->n_vrings; i++)
		n += s->vring[i].state != VRING_STOPPED;
	return n;
}

/* --- starting and stopping --- */

static bool vring_packed(const struct vhost_vring *v)
{
	return vhost_driver_has(v->session, VIRTIO_F_RING_PACKED_BIT);
}

static bool vring_complete(const struct vhost_vring *v)
{
	const struct vhost_session *s = v->session;
	/* Without the feature there is no message to enable a ring with. */
	bool enabled = v->enabled || !vhost_driver_has(s, VHOST_F_PROTOCOL_FEATURES_BIT);

	return !v->refused && s->features_known && s->map && v->size > 0 && v->addressed && v->kicked && enabled;
}

/*
 * Where writes to the used ring are logged; 0: where it lies. Front-ends set the ring's log flag only when migration
 * begins, on running rings; ours are logged whenever a log is there, so that they need not be stopped for it. Only when
 * the front-end gives an address other than the ring's own does that count (and for packed rings none can: they have no
 * used ring in the sense of the flag).
 */
static uint64_t vring_used_log_gpa(const struct vhost_vring *v, const struct vhost_vring_addresses *a)
{
	if (vring_packed(v) || !(a->flags & VHOST_VRING_ADDR_LOG) || a->log == memmap_uva_gpa(v->session->map, a->used))
		return 0;
	return a->log;
}

static uint32_t vring_base(const struct vhost_vring *v)
{
	if (v->based)
		return v->base;
	return vring_packed(v) ? PACKED_BASE : 0;
}

static int setup_fill(struct vhost_vring *v, struct virtqueue_setup *setup)
{
	const struct vhost_session *s = v->session;
	bool packed = vring_packed(v);

	if (!packed && (v->size & (v->size - 1)) != 0)
		return -EINVAL;
	v->used_log_gpa = vring_used_log_gpa(v, &v->addresses);
	*setup = (struct virtqueue_setup){
		.size = v->size,
		.packed = packed,
		.event_idx = vhost_driver_has(s, VIRTIO_F_RING_EVENT_IDX_BIT),
		.indirect = vhost_driver_has(s, VIRTIO_F_RING_INDIRECT_DESC_BIT),
		.desc_uva = v->addresses.desc,
		.avail_uva = v->addresses.avail,
		.used_uva = v->addresses.used,
		.used_log_gpa = v->used_log_gpa,
		.base = vring_base(v),
	};
	if (!s->inflight)
		return 0;
	/*
	 * A region that the front-end follows but that has no room for this queue: better none of its requests than
	 * lost ones.
	 */
	return vhost_inflight_slice(s, v->index, &setup->inflight, &setup->inflight_bytes) ? 0 : -ENOSPC;
}

/* -1 stays -1. */
static int fd_dup(int fd, int *ret)
{
	*ret = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd >= 0 && *ret < 0 ? -errno : 0;
}

static void vring_started(void *arg, int result, uint32_t value)
{
	struct vhost_vring *v = arg;
	struct vhost_session *s = v->session;

	v->state = result < 0 ? VRING_STOPPED : VRING_RUNNING;
	v->refused = result < 0;
	v->again = result == -EAGAIN;
	if (v->refused) {
		vhost_session_refuse(s, result, "queue %u cannot be served: %s", v->index, strerror(-result));
		if (!v->again || !v->told_again)
			s->events->queue_refused(s->arg, v->index, result);
	}
	v->told_again = v->again;
	/* Not yet is no refusal: the driver waits for its requests, not the front-end for an answer. */
	if (v->again)
		vhost_session_try_later(s);
	vhost_wait_leave(s, v->again ? 0 : result);
}

static void vring_start(struct vhost_vring *v)
{
	struct vhost_session *s = v->session;
	cleanup_close int kick = -1, call = -1, err = -1;
	struct vhost_done done = { .fn = vring_started, .arg = v };
	struct virtqueue_setup setup;
	int r;

	v->state = VRING_BUSY;
	vhost_wait_enter(s);
	r = setup_fill(v, &setup);
	if (r == 0)
		r = fd_dup(v->kick_fd, &kick);
	if (r == 0)
		r = fd_dup(v->call_fd, &call);
	if (r == 0)
		r = fd_dup(v->err_fd, &err);
	if (r < 0)
		done.fn(done.arg, r, 0);
	else
		s->device->ops->queue_start(s->device, v->index, &setup, s->map, take_fd(&kick),
					    take_fd(&call), take_fd(&err), done);
}

static void vring_stopped(void *arg, int result, uint32_t value)
{
	struct vhost_vring *v = arg;

	v->state = VRING_STOPPED;
	v->base = value;
	v->based = true;
	if (!v->keeps_inflight)
		vhost_inflight_forget(v->session, v->index);
	vhost_wait_leave(v->session, 0);
}

static void vring_stop(struct vhost_vring *v, bool keep_inflight)
{
	struct vhost_session *s = v->session;

	v->state = VRING_BUSY;
	v->keeps_inflight = keep_inflight;
	vhost_wait_enter(s);
	s->device->ops->queue_stop(s->device, v->index, keep_inflight,
				   (struct vhost_done){ .fn = vring_stopped, .arg = v });
}

void vhost_vrings_start(struct vhost_session *s)
{
	for (unsigned i = 0; i < s->n_vrings; i++)
		if (s->vring[i].state == VRING_STOPPED && vring_complete(&s->vring[i]))
			vring_start(&s->vring[i]);
}

void vhost_vrings_stop(struct vhost_session *s, bool keep_inflight)
{
	for (unsigned i = 0; i < s->n_vrings; i++)
		if (s->vring[i].state == VRING_RUNNING)
			vring_stop(&s->vring[i], keep_inflight);
}

void vhost_vrings_retry(struct vhost_session *s)
{
	for (unsigned i = 0; i < s->n_vrings; i++)
		s->vring[i].refused = false;
}

void vhost_vrings_start_again(struct vhost_session *s)
{
	for (unsigned i = 0; i < s->n_vrings; i++)
		if (s->vring[i].again)
			s->vring[i].refused = false;
	vhost_vrings_start(s);
}

/* The message was right, whatever became of the queue: without being asked for an acknowledgement we go on. */
static void started_answer(struct vhost_session *s, int result)
{
	s->tolerated = true;
	vhost_session_answer(s, result);
}

int vhost_vrings_start_and_answer(struct vhost_session *s)
{
	vhost_wait_begin(s, started_answer);
	if (!s->ending)
		vhost_vrings_start(s);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

/* --- handlers --- */

static struct vhost_vring *vring_of(struct vhost_session *s, uint64_t index)
{
	if (index < s->n_vrings) {
		/* Something about it changes: it is tried again. */
		s->vring[index].refused = false;
		return &s->vring[index];
	}
	vhost_session_refuse(s, -EINVAL, "queue %llu of %u", (unsigned long long)index, s->n_vrings);
	return NULL;
}

int vhost_set_vring_num(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v = vring_of(s, m->payload.number.index);
	uint32_t size = m->payload.number.num;

	if (!v)
		return -EINVAL;
	if (size == 0 || size > VIRTQUEUE_SIZE_MAX)
		return vhost_session_refuse(s, -EINVAL, "queue %u: size %u", v->index, size);
	if (v->state != VRING_STOPPED && size != v->size)
		return vhost_session_refuse(s, -EBUSY, "queue %u runs", v->index);
	v->size = (uint16_t)size;
	return vhost_vrings_start_and_answer(s);
}

static void stopped_start_again(struct vhost_session *s, int result)
{
	vhost_vrings_start_and_answer(s);
}

/* On a running queue: starting to log writes no difference for us; truly new addresses take a stop and a start. */
int vhost_set_vring_addr(struct vhost_session *s, struct vhost_message *m)
{
	const struct vhost_vring_addresses *a = &m->payload.addresses;
	struct vhost_vring *v = vring_of(s, a->index);
	bool same;

	if (!v)
		return -EINVAL;
	same = a->desc == v->addresses.desc && a->used == v->addresses.used && a->avail == v->addresses.avail;
	v->addresses = *a;
	v->addressed = true;
	if (v->state == VRING_STOPPED || (same && vring_used_log_gpa(v, a) == v->used_log_gpa))
		return vhost_vrings_start_and_answer(s);
	vhost_wait_begin(s, stopped_start_again);
	vring_stop(v, false);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

int vhost_set_vring_base(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v = vring_of(s, m->payload.number.index);

	if (!v)
		return -EINVAL;
	/* Started already because everything else was there; what it started with is not to be taken back. */
	if (v->state != VRING_STOPPED && m->payload.number.num != vring_base(v))
		return vhost_session_refuse(s, -EBUSY, "queue %u runs", v->index);
	if (s->features_known && !vring_packed(v) && m->payload.number.num > UINT16_MAX)
		return vhost_session_refuse(s, -EINVAL, "queue %u: base %u", v->index, m->payload.number.num);
	v->base = m->payload.number.num;
	v->based = true;
	return 0;
}

static void base_stopped(struct vhost_session *s, int result)
{
	struct vhost_vring *v = vring_of(s, s->message.payload.number.index);
	struct vhost_vring_number reply = { .index = v->index, .num = v->base };

	v->kicked = v->again = false;
	cleanup_close_fd(&v->kick_fd);
	v->kick_fd = -1;
	vhost_session_reply(s, &reply, sizeof(reply), -1);
	vhost_session_answer(s, 0);
}

/*
 * Stops a queue. Requests may stay in the inflight region where the front-end said that it carries the region on:
 * with the older feature on every GET_VRING_BASE, with the newer one only on the message made for it.
 */
int vhost_get_vring_base(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v = vring_of(s, m->payload.number.index);
	bool asked = m->header.request == VHOST_GET_VRING_BASE_SKIP_DRAIN;
	bool always = vhost_has(s, VHOST_PROTOCOL_BASE_INFLIGHT) && !vhost_has(s, VHOST_PROTOCOL_SKIP_DRAIN);
	bool keep = s->inflight && (asked || always);

	if (!v)
		return -EINVAL;
	vhost_wait_begin(s, base_stopped);
	if (v->state == VRING_RUNNING)
		vring_stop(v, keep);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

/* A peer's eventfd could be anything: only real ones. That they do not block is for others' sake: the peer can change it. */
static int eventfd_check(int fd)
{
	char path[32], target[32];
	int flags;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (strcmp(target, "anon_inode:[eventfd]") != 0)
		return -EBADF;
	flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Puts the message's descriptor, or -1, in place of *fd. */
static int vring_fd_set(struct vhost_session *s, struct vhost_message *m, struct vhost_vring *v, int *fd)
{
	bool none = m->payload.u64 & VHOST_VRING_NO_FD;

	if (m->payload.u64 & ~(uint64_t)(VHOST_VRING_INDEX_MASK | VHOST_VRING_NO_FD))
		return vhost_session_refuse(s, -EINVAL, "unknown bits in %#llx", (unsigned long long)m->payload.u64);
	if (none != (m->n_fds == 0))
		return vhost_session_refuse(s, -EINVAL, "queue %u: %u file descriptors", v->index, m->n_fds);
	if (!none && eventfd_check(m->fd[0]) < 0)
		return vhost_session_refuse(s, -EBADF, "queue %u: not an eventfd", v->index);
	cleanup_close_fd(fd);
	*fd = none ? -1 : take_fd(&m->fd[0]);
	return 0;
}

/* Handles one of the three kinds; a running queue gets the new descriptor by `give`. */
static int vring_fd(struct vhost_session *s, struct vhost_message *m, size_t member,
		    void (*give)(struct vhost_device *, unsigned, int), struct vhost_vring **ret)
{
	struct vhost_vring *v = vring_of(s, m->payload.u64 & VHOST_VRING_INDEX_MASK);
	int *fd, copy, r;

	if (!v)
		return -EINVAL;
	fd = (int *)(void *)((char *)v + member);
	r = vring_fd_set(s, m, v, fd);
	if (r < 0)
		return r;
	*ret = v;
	if (v->state != VRING_RUNNING || !give)
		return 0;
	r = fd_dup(*fd, &copy);
	if (r == 0)
		give(s->device, v->index, copy);
	return r;
}

int vhost_set_vring_kick(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v;
	int r = vring_fd(s, m, offsetof(struct vhost_vring, kick_fd), s->device->ops->queue_kick_fd, &v);

	if (r < 0)
		return r;
	v->kicked = true;
	return vhost_vrings_start_and_answer(s);
}

int vhost_set_vring_call(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v;

	return vring_fd(s, m, offsetof(struct vhost_vring, call_fd), s->device->ops->queue_call_fd, &v);
}

int vhost_set_vring_err(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v;

	return vring_fd(s, m, offsetof(struct vhost_vring, err_fd), s->device->ops->queue_err_fd, &v);
}

int vhost_set_vring_enable(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_vring *v = vring_of(s, m->payload.number.index);

	if (!v)
		return -EINVAL;
	if (m->payload.number.num > 1)
		return vhost_session_refuse(s, -EINVAL, "queue %u: %u is neither on nor off", v->index,
					    m->payload.number.num);
	v->enabled = m->payload.number.num == 1;
	if (v->enabled || v->state != VRING_RUNNING)
		return vhost_vrings_start_and_answer(s);
	vhost_wait_begin(s, stopped_start_again);
	vring_stop(v, false);
	vhost_wait_end(s);
	return VHOST_WAITS;
}
