/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the vhost tests and the message fuzzer share: a small but real device model (its queues are real virtqueues)
 * and a raw front-end that can send anything. Everything runs on the caller's thread and its event loop, so nothing
 * depends on time.
 */
#pragma once

#include "base/list.h"
#include "vhost/session.h"
#include "vhost/wire.h"
#include "virtio/ring.h"
#include "virtio/virtqueue_struct.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* --- device model --- */

#define MODEL_QUEUES 64u
#define MODEL_FEATURE 5u
#define MODEL_CONFIG 60u
#define MODEL_FILL 0x5a

/* When continuations are called: at once, from the event loop, or when the test says so. */
enum model_answers { MODEL_NOW, MODEL_LATER, MODEL_HELD };

struct model_answer {
	struct list node;
	struct vhost_done done;
	int result;
	uint32_t value;
};

struct model_queue {
	struct virtqueue vq;
	struct virtqueue_setup setup;
	bool running, kept_inflight;
	int kick, call, err;
};

struct model {
	struct vhost_device device;
	sd_event *event;
	unsigned queues;
	struct model_queue queue[MODEL_QUEUES];
	struct memmap *map; /* as last given */
	struct dirty_log *log;
	uint64_t features;
	uint8_t config[MODEL_CONFIG];
	struct vhost_session *session;
	enum model_answers answers;
	int start_result; /* what queue_start answers */
	struct list waiting;
	sd_event_source *later;
	unsigned starts, stops, memory_sets, log_sets, began, ended, completed;
};

static struct model *model_of(struct vhost_device *d)
{
	return container_of(d, struct model, device);
}

static inline void model_release(struct model *m)
{
	while (!list_empty(&m->waiting)) {
		struct model_answer *a = list_first(&m->waiting, struct model_answer, node);

		list_remove(&a->node);
		a->done.fn(a->done.arg, a->result, a->value);
		free(a);
	}
}

static int model_later(sd_event_source *source, void *arg)
{
	model_release(arg);
	return 0;
}

static void model_answer(struct model *m, struct vhost_done done, int result, uint32_t value)
{
	struct model_answer *a;

	if (m->answers == MODEL_NOW) {
		done.fn(done.arg, result, value);
		return;
	}
	a = calloc(1, sizeof(*a));
	*a = (struct model_answer){ .done = done, .result = result, .value = value };
	list_append(&m->waiting, &a->node);
	if (m->answers == MODEL_LATER)
		sd_event_source_set_enabled(m->later, SD_EVENT_ONESHOT);
}

static uint64_t model_features(struct vhost_device *d)
{
	return UINT64_C(1) << MODEL_FEATURE;
}

static unsigned model_queues_max(struct vhost_device *d)
{
	return model_of(d)->queues;
}

static void model_config_read(struct vhost_device *d, uint32_t offset, uint8_t *buf, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		buf[i] = (uint64_t)offset + i < MODEL_CONFIG ? model_of(d)->config[offset + i] : 0;
}

/* Only byte 32 is writable. */
static int model_config_write(struct vhost_device *d, uint32_t offset, const uint8_t *buf, uint32_t len)
{
	if (offset != 32 || len != 1)
		return -EINVAL;
	model_of(d)->config[32] = buf[0];
	return 0;
}

static void model_features_set(struct vhost_device *d, uint64_t features)
{
	model_of(d)->features = features;
}

static void model_fd_replace(int *fd, int with)
{
	cleanup_close_fd(fd);
	*fd = with;
}

static void model_queue_start(struct vhost_device *d, unsigned i, const struct virtqueue_setup *setup, struct memmap *map,
			      int kick, int call, int err, struct vhost_done done)
{
	struct model *m = model_of(d);
	struct model_queue *q = &m->queue[i];
	int r = m->start_result;

	q->setup = *setup;
	q->setup.log = m->log;
	if (r == 0)
		r = virtqueue_start(&q->vq, &q->setup, map);
	q->kick = kick;
	q->call = call;
	q->err = err;
	if (r < 0) {
		model_fd_replace(&q->kick, -1);
		model_fd_replace(&q->call, -1);
		model_fd_replace(&q->err, -1);
	} else {
		q->running = true;
		m->starts++;
		m->map = map;
	}
	model_answer(m, done, r, 0);
}

static void model_queue_stop(struct vhost_device *d, unsigned i, bool keep_inflight, struct vhost_done done)
{
	struct model *m = model_of(d);
	struct model_queue *q = &m->queue[i];

	m->stops++;
	q->running = false;
	q->kept_inflight = keep_inflight;
	model_fd_replace(&q->kick, -1);
	model_fd_replace(&q->call, -1);
	model_fd_replace(&q->err, -1);
	model_answer(m, done, 0, virtqueue_stop(&q->vq));
}

static void model_call_fd(struct vhost_device *d, unsigned i, int fd)
{
	model_fd_replace(&model_of(d)->queue[i].call, fd);
	if (fd >= 0 && write(fd, &(uint64_t){ 1 }, 8) < 0 && errno != EAGAIN)
		abort();
}

static void model_kick_fd(struct vhost_device *d, unsigned i, int fd)
{
	model_fd_replace(&model_of(d)->queue[i].kick, fd);
}

static void model_err_fd(struct vhost_device *d, unsigned i, int fd)
{
	model_fd_replace(&model_of(d)->queue[i].err, fd);
}

static void model_memory_set(struct vhost_device *d, struct memmap *map, struct vhost_done done)
{
	struct model *m = model_of(d);

	m->memory_sets++;
	m->map = map;
	for (unsigned i = 0; i < m->queues; i++)
		if (m->queue[i].running)
			virtqueue_remap(&m->queue[i].vq, map);
	model_answer(m, done, 0, 0);
}

static void model_log_set(struct vhost_device *d, struct dirty_log *log, struct vhost_done done)
{
	struct model *m = model_of(d);

	m->log_sets++;
	m->log = log;
	for (unsigned i = 0; i < m->queues; i++)
		if (m->queue[i].running)
			virtqueue_set_log(&m->queue[i].vq, log);
	model_answer(m, done, 0, 0);
}

static void model_session_began(struct vhost_device *d, struct vhost_session *s)
{
	model_of(d)->session = s;
	model_of(d)->began++;
}

static void model_session_ended(struct vhost_device *d)
{
	model_of(d)->session = NULL;
	model_of(d)->ended++;
}

static const struct vhost_device_ops model_ops = {
	.features = model_features,
	.queues_max = model_queues_max,
	.config_read = model_config_read,
	.config_write = model_config_write,
	.features_set = model_features_set,
	.queue_start = model_queue_start,
	.queue_stop = model_queue_stop,
	.queue_call_fd = model_call_fd,
	.queue_kick_fd = model_kick_fd,
	.queue_err_fd = model_err_fd,
	.memory_set = model_memory_set,
	.log_set = model_log_set,
	.session_began = model_session_began,
	.session_ended = model_session_ended,
};

static inline void model_init(struct model *m, sd_event *event, unsigned queues)
{
	memset(m, 0, sizeof(*m));
	m->device.ops = &model_ops;
	snprintf(m->device.name, sizeof(m->device.name), "model");
	m->event = event;
	m->queues = queues;
	list_init(&m->waiting);
	for (unsigned i = 0; i < MODEL_QUEUES; i++)
		m->queue[i].kick = m->queue[i].call = m->queue[i].err = -1;
	for (unsigned i = 0; i < MODEL_CONFIG; i++)
		m->config[i] = (uint8_t)(i + 1);
	sd_event_add_defer(event, &m->later, model_later, m);
	sd_event_source_set_enabled(m->later, SD_EVENT_OFF);
}

static inline void model_fini(struct model *m)
{
	sd_event_source_disable_unref(m->later);
}

static void model_fill(struct model *m, const struct virtq_chain *c)
{
	for (unsigned i = c->n_out; i < c->n_seg; i++) {
		struct iovec iov[16];
		int n = memmap_iov(m->map, c->seg[i].gpa, c->seg[i].len, iov, ARRAY_SIZE(iov));

		for (int k = 0; k < n; k++)
			memset(iov[k].iov_base, MODEL_FILL, iov[k].iov_len);
	}
}

/* Serves what is there: fills every writable byte. Returns how many requests it completed. */
static inline unsigned model_poll(struct model *m)
{
	unsigned total = 0;

	for (unsigned i = 0; i < m->queues; i++) {
		struct model_queue *q = &m->queue[i];
		struct virtq_chain *chain[32];
		unsigned n = q->running ? virtqueue_take(&q->vq, chain, ARRAY_SIZE(chain)) : 0;

		for (unsigned k = 0; k < n; k++) {
			model_fill(m, chain[k]);
			virtqueue_push(&q->vq, chain[k], chain[k]->in_bytes);
		}
		if (q->running && virtqueue_publish(&q->vq) && q->call >= 0 && write(q->call, &(uint64_t){ 1 }, 8) < 0 &&
		    errno != EAGAIN)
			abort();
		total += n;
	}
	m->completed += total;
	return total;
}

/* --- front-end --- */

#define GUEST_GPA UINT64_C(0x100000)
#define GUEST_UVA UINT64_C(0x7f0000000000)
#define GUEST_BYTES (1u << 20)
#define RING_SIZE 8u
/* Queue i has a page for its rings and one for its data. */
#define RING_AT(i) ((i) * 0x2000u)
#define DATA_AT(i) (RING_AT(i) + 0x1000u)
#define RING_AVAIL 0x200u
#define RING_USED 0x400u

struct client {
	sd_event *event;
	int fd;
	int memory_fd;
	uint8_t *memory;
	int kick, call;
	uint16_t avail;
	bool need_reply;
};

static inline int client_memory(const char *name, size_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		abort();
	return fd;
}

static inline void client_init(struct client *c, sd_event *event, int fd)
{
	*c = (struct client){ .event = event, .fd = fd };
	c->memory_fd = client_memory("guest", GUEST_BYTES);
	c->memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->memory_fd, 0);
	c->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->memory == MAP_FAILED || c->kick < 0 || c->call < 0)
		abort();
}

static inline void client_fini(struct client *c)
{
	cleanup_close_fd(&c->fd);
	close(c->memory_fd);
	munmap(c->memory, GUEST_BYTES);
	close(c->kick);
	close(c->call);
}

/* Any bytes with any descriptors. */
static inline int client_send_raw(int socket, const void *bytes, size_t size, const int *fd, unsigned n_fds)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * 64)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
							 .cmsg_len = CMSG_LEN(sizeof(int) * n_fds) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fd, sizeof(int) * n_fds);
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : -errno;
}

static inline int client_send(struct client *c, uint32_t request, const void *payload, uint32_t size, const int *fd,
			      unsigned n_fds)
{
	struct {
		struct vhost_header header;
		uint8_t payload[sizeof(union vhost_payload)];
	} m = { .header = { request, VHOST_VERSION | (c->need_reply ? VHOST_NEED_REPLY : 0), size } };

	if (size > 0)
		memcpy(m.payload, payload, size);
	return client_send_raw(c->fd, &m, sizeof(m.header) + size, fd, n_fds);
}

/* Lets the event loop do what it can without waiting. */
static inline void loop_settle(sd_event *event)
{
	while (sd_event_run(event, 0) > 0)
		;
}

/* 1: something to read (or the end); 0: nothing. */
static inline int client_readable(const struct client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return poll(&p, 1, 0);
}

/* Runs the loop until the back-end answered. Size of the payload, -ENOTCONN at the end. */
static inline int client_receive(struct client *c, uint32_t request, void *payload, size_t max, int *ret_fd)
{
	struct vhost_header h;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = &h, .iov_len = sizeof(h) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	if (ret_fd)
		*ret_fd = -1;
	while (!client_readable(c))
		if (sd_event_run(c->event, UINT64_C(60000000)) == 0)
			abort(); /* hangs */
	n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n != sizeof(h))
		return -ENOTCONN;
	if (h.request != request || h.flags != (VHOST_VERSION | VHOST_REPLY) || h.size > max)
		abort();
	if (msg.msg_controllen >= CMSG_LEN(sizeof(int)) && ret_fd)
		memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	if (h.size > 0 && recv(c->fd, payload, h.size, 0) != (ssize_t)h.size)
		return -ENOTCONN;
	return (int)h.size;
}

/* A request with a 64-bit reply, or an acknowledgement. UINT64_MAX: the connection ended. */
static inline uint64_t client_receive_u64(struct client *c, uint32_t request)
{
	uint64_t v = 0;

	return client_receive(c, request, &v, sizeof(v), NULL) == sizeof(v) ? v : UINT64_MAX;
}

static inline uint64_t client_get(struct client *c, uint32_t request)
{
	if (client_send(c, request, NULL, 0, NULL, 0) < 0)
		return UINT64_MAX;
	return client_receive_u64(c, request);
}

/* Sends, and receives the acknowledgement where one is asked for. 0, 1 (refused) or UINT64_MAX. */
static inline uint64_t client_set(struct client *c, uint32_t request, const void *payload, uint32_t size, const int *fd,
				  unsigned n_fds)
{
	if (client_send(c, request, payload, size, fd, n_fds) < 0)
		return UINT64_MAX;
	if (c->need_reply)
		return client_receive_u64(c, request);
	loop_settle(c->event);
	return 0;
}

static inline uint64_t client_set_u64(struct client *c, uint32_t request, uint64_t v)
{
	return client_set(c, request, &v, sizeof(v), NULL, 0);
}

static inline uint64_t client_set_number(struct client *c, uint32_t request, uint32_t index, uint32_t num)
{
	return client_set(c, request, &(struct vhost_vring_number){ index, num }, 8, NULL, 0);
}

static inline uint64_t client_set_fd(struct client *c, uint32_t request, uint32_t index, int fd)
{
	uint64_t v = index | (fd < 0 ? VHOST_VRING_NO_FD : 0);

	return client_set(c, request, &v, sizeof(v), &fd, fd >= 0);
}

static inline uint64_t client_set_memory(struct client *c)
{
	struct vhost_mem_table t = { .n = 1, .region[0] = { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0 } };

	return client_set(c, VHOST_SET_MEM_TABLE, &t, 8 + 32, &c->memory_fd, 1);
}

static inline uint64_t client_set_addresses(struct client *c, uint32_t i, uint32_t flags)
{
	struct vhost_vring_addresses a = {
		.index = i, .flags = flags, .desc = GUEST_UVA + RING_AT(i), .avail = GUEST_UVA + RING_AT(i) + RING_AVAIL,
		.used = GUEST_UVA + RING_AT(i) + RING_USED, .log = GUEST_GPA + RING_AT(i) + RING_USED,
	};

	return client_set(c, VHOST_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
}

#define CLIENT_FEATURES                                                                                     \
	(UINT64_C(1) << VIRTIO_F_VERSION_1_BIT | UINT64_C(1) << VHOST_F_PROTOCOL_FEATURES_BIT |             \
	 UINT64_C(1) << MODEL_FEATURE)

static inline void client_negotiate(struct client *c, uint64_t without)
{
	uint64_t protocol = client_get(c, VHOST_GET_PROTOCOL_FEATURES) & ~without;

	client_send(c, VHOST_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	client_send(c, VHOST_SET_OWNER, NULL, 0, NULL, 0);
	client_send(c, VHOST_SET_FEATURES, &(uint64_t){ CLIENT_FEATURES }, 8, NULL, 0);
	loop_settle(c->event);
}

static inline void client_set_queue(struct client *c, uint32_t i)
{
	client_set_number(c, VHOST_SET_VRING_NUM, i, RING_SIZE);
	client_set_number(c, VHOST_SET_VRING_BASE, i, 0);
	client_set_addresses(c, i, 0);
	client_set_fd(c, VHOST_SET_VRING_CALL, i, c->call);
	client_set_fd(c, VHOST_SET_VRING_KICK, i, c->kick);
	client_set_number(c, VHOST_SET_VRING_ENABLE, i, 1);
}

/* Offers one request of queue i: `len` bytes to be written to its data page. */
static inline void client_offer(struct client *c, unsigned i, uint32_t len)
{
	uint8_t *ring = c->memory + RING_AT(i);
	struct virtq_desc *desc = (void *)ring;
	struct virtq_avail *avail = (void *)(ring + RING_AVAIL);
	uint16_t at = avail->idx % RING_SIZE;

	desc[at] = (struct virtq_desc){ .addr = GUEST_GPA + DATA_AT(i), .len = len, .flags = VIRTQ_DESC_F_WRITE };
	avail->ring[at] = at;
	store_release(&avail->idx, (uint16_t)(avail->idx + 1));
}

static inline uint16_t client_used(const struct client *c, unsigned i)
{
	const struct virtq_used *used = (const void *)(c->memory + RING_AT(i) + RING_USED);

	return load_acquire(&used->idx);
}

static inline uint32_t client_get_base(struct client *c, uint32_t i)
{
	struct vhost_vring_number n = { .index = i };

	client_send(c, VHOST_GET_VRING_BASE, &n, sizeof(n), NULL, 0);
	return client_receive(c, VHOST_GET_VRING_BASE, &n, sizeof(n), NULL) == sizeof(n) && n.index == i ? n.num : UINT32_MAX;
}

static inline unsigned fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}
