/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A front-end's session: memory, connection, negotiation and queue set-up in the order in which QEMU does it. See
 * frontend.h.
 */
#include "frontend/frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#define DATA_SEGS_DEFAULT 6

static uint16_t data_segs(const struct frontend_config *c)
{
	return c->data_segs_max ? c->data_segs_max : DATA_SEGS_DEFAULT;
}

/* Rings, tables, areas and alignment; data comes on top. */
static size_t memory_estimate(const struct frontend_config *c)
{
	size_t a_queue = c->queue_size * ((data_segs(c) + 5) * 16ul + sizeof(struct front_area) + 32) + 32768;

	return a_queue * c->queues + c->data_bytes + 4096;
}

int frontend_create(const struct frontend_config *config, struct frontend **ret)
{
	struct frontend *f;
	unsigned regions = config->regions ? config->regions : 1;
	int r = -ENOMEM;

	if (!config->queues || !config->queue_size)
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->config = *config;
	f->fd = f->inflight_fd = f->memory.fd = -1;
	f->queue = calloc(config->queues, sizeof(*f->queue));
	f->path = config->path ? strdup(config->path) : NULL;
	if (!f->queue || (config->path && !f->path))
		goto fail;
	for (unsigned i = 0; i < config->queues; i++)
		f->queue[i].kick_fd = f->queue[i].call_fd = -1;
	/* What does not fit behind a region's end goes to the next: with several, each has room for all. */
	r = front_memory_init(&f->memory, memory_estimate(config) * regions, regions, config->huge);
	if (r)
		goto fail;
	*ret = f;
	return 0;
fail:
	frontend_destroy(f);
	return r;
}

static void queue_fini(struct front_queue *q)
{
	front_ring_fini(&q->ring);
	free(q->free_tag);
	cleanup_close_fd(&q->kick_fd);
	cleanup_close_fd(&q->call_fd);
}

void frontend_destroy(struct frontend *f)
{
	if (!f)
		return;
	frontend_detach(f);
	for (unsigned i = 0; f->queue && i < f->config.queues; i++)
		queue_fini(&f->queue[i]);
	cleanup_close_fd(&f->inflight_fd);
	front_memory_fini(&f->memory);
	free(f->queue);
	free(f->path);
	free(f);
}

void frontend_detach(struct frontend *f)
{
	cleanup_close_fd(&f->fd);
	f->fd = -1;
}

void *frontend_alloc(struct frontend *f, size_t bytes)
{
	return front_memory_alloc(&f->memory, bytes, 4096);
}

/* --- messages --- */

int frontend_set(struct frontend *f, uint32_t request, const void *body, uint32_t size, const int *fds, unsigned n_fds)
{
	bool acknowledged = f->protocol_features & FRONT_PROTOCOL_REPLY_ACK;
	struct front_wire_message m;
	int r = front_message_send(f->fd, request, acknowledged ? FRONT_FLAGS_NEED_REPLY : 0, body, size, fds, n_fds);

	if (r || !acknowledged)
		return r;
	r = front_message_receive(f->fd, &m, NULL);
	if (r)
		return r;
	if (m.header.request != request || m.header.size != sizeof(uint64_t))
		return -EPROTO;
	return m.body.u64 ? -EREMOTEIO : 0;
}

static int set_u64(struct frontend *f, uint32_t request, uint64_t value)
{
	return frontend_set(f, request, &value, sizeof(value), NULL, 0);
}

static int get_u64(struct frontend *f, uint32_t request, uint64_t *ret)
{
	struct front_wire_message m;
	int r = front_message_ask(f->fd, request, NULL, 0, NULL, 0, &m, NULL);

	if (!r)
		*ret = m.body.u64;
	return r;
}

static int set_vring_state(struct frontend *f, uint32_t request, unsigned queue, uint32_t num)
{
	struct front_wire_vring_state s = { .index = queue, .num = num };

	return frontend_set(f, request, &s, sizeof(s), NULL, 0);
}

static int set_vring_fd(struct frontend *f, uint32_t request, unsigned queue, int fd)
{
	uint64_t value = queue | (fd < 0 ? FRONT_VRING_NO_FD : 0);

	return frontend_set(f, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

/* --- negotiation --- */

static uint64_t features_wanted(const struct frontend_config *c)
{
	uint64_t device = 1ull << VIRTIO_BLK_F_SIZE_MAX | 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_RO |
			  1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			  1ull << VIRTIO_BLK_F_CONFIG_WCE | 1ull << VIRTIO_BLK_F_MQ | 1ull << VIRTIO_BLK_F_DISCARD |
			  1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	uint64_t rings = 1ull << VIRTIO_F_VERSION_1 | FRONT_F_PROTOCOL_FEATURES;

	if (c->packed)
		rings |= 1ull << VIRTIO_F_RING_PACKED;
	if (c->event_idx)
		rings |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	if (c->indirect)
		rings |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	return (device | rings) & ~c->features_masked;
}

static uint64_t protocol_wanted(const struct frontend_config *c)
{
	uint64_t p = FRONT_PROTOCOL_MQ | FRONT_PROTOCOL_REPLY_ACK | FRONT_PROTOCOL_CONFIG;

	if (c->inflight)
		p |= FRONT_PROTOCOL_INFLIGHT_SHMFD;
	if (c->mem_slots)
		p |= FRONT_PROTOCOL_CONFIGURE_MEM_SLOTS;
	return p & ~c->protocol_masked;
}

static int negotiate_protocol(struct frontend *f)
{
	uint64_t queues = 1, agreed;
	int r = get_u64(f, FRONT_GET_PROTOCOL_FEATURES, &f->protocol_offered);

	if (r)
		return r;
	agreed = f->protocol_offered & protocol_wanted(&f->config);
	r = set_u64(f, FRONT_SET_PROTOCOL_FEATURES, agreed);
	if (r)
		return r;
	f->protocol_features = agreed;
	if (agreed & FRONT_PROTOCOL_MQ)
		r = get_u64(f, FRONT_GET_QUEUE_NUM, &queues);
	f->queues_offered = queues;
	return r;
}

int frontend_negotiate(struct frontend *f)
{
	uint64_t agreed;
	int r;

	f->protocol_features = 0;
	f->queues_offered = 1;
	r = get_u64(f, FRONT_GET_FEATURES, &f->features_offered);
	if (r)
		return r;
	agreed = f->features_offered & features_wanted(&f->config);
	if (f->rings_made && agreed != f->features)
		return -EPROTO;
	f->features = agreed;
	if (agreed & FRONT_F_PROTOCOL_FEATURES)
		r = negotiate_protocol(f);
	if (!r)
		r = frontend_set(f, FRONT_SET_OWNER, NULL, 0, NULL, 0);
	return r;
}

/* --- memory and inflight region --- */

static struct front_wire_region wire_region(const struct front_region *r)
{
	return (struct front_wire_region){
		.gpa = r->gpa, .size = r->size, .uva = r->uva, .mmap_offset = r->mmap_offset,
	};
}

static int memory_send_slots(struct frontend *f)
{
	int r = 0;

	for (unsigned i = 0; i < f->memory.n && !r; i++) {
		struct front_wire_region_single one = { .region = wire_region(&f->memory.region[i]) };

		r = frontend_set(f, FRONT_ADD_MEM_REG, &one, sizeof(one), &f->memory.fd, 1);
	}
	return r;
}

int frontend_memory_send(struct frontend *f)
{
	struct front_wire_memory table = { .n = f->memory.n };
	int fds[FRONT_REGIONS_MAX];

	if (f->protocol_features & FRONT_PROTOCOL_CONFIGURE_MEM_SLOTS)
		return memory_send_slots(f);
	for (unsigned i = 0; i < table.n; i++) {
		table.region[i] = wire_region(&f->memory.region[i]);
		fds[i] = f->memory.fd;
	}
	return frontend_set(f, FRONT_SET_MEM_TABLE, &table, offsetof(struct front_wire_memory, region[table.n]), fds,
			    table.n);
}

static int inflight_get(struct frontend *f)
{
	struct front_wire_inflight want = { .num_queues = f->config.queues, .queue_size = f->config.queue_size };
	struct front_wire_message m;
	int fd = -1, r = front_message_ask(f->fd, FRONT_GET_INFLIGHT_FD, &want, sizeof(want), NULL, 0, &m, &fd);

	if (r)
		return r;
	if (fd < 0 || !m.body.inflight.mmap_size) {
		cleanup_close_fd(&fd);
		return -EPROTO;
	}
	f->inflight_fd = fd;
	f->inflight = m.body.inflight;
	return 0;
}

int frontend_inflight_send(struct frontend *f)
{
	int r = 0;

	if (!(f->protocol_features & FRONT_PROTOCOL_INFLIGHT_SHMFD))
		return 0;
	if (f->inflight_fd < 0)
		r = inflight_get(f);
	f->inflight.num_queues = f->config.queues;
	f->inflight.queue_size = f->config.queue_size;
	return r ? r : frontend_set(f, FRONT_SET_INFLIGHT_FD, &f->inflight, sizeof(f->inflight), &f->inflight_fd, 1);
}

/* --- queues --- */

int frontend_queue_make(struct frontend *f, unsigned queue)
{
	struct front_queue *q = &f->queue[queue];
	uint16_t size = f->config.queue_size;
	struct front_ring_config c = {
		.size = size,
		.packed = f->features >> VIRTIO_F_RING_PACKED & 1,
		.event_idx = f->features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.indirect = f->features >> VIRTIO_RING_F_INDIRECT_DESC & 1,
		.segs_max = data_segs(&f->config) + 2,
	};
	int r = front_ring_init(&q->ring, &c, &f->memory);

	if (r)
		return r;
	q->memory = &f->memory;
	q->area = front_memory_alloc(&f->memory, size * sizeof(*q->area), CACHE_LINE);
	q->free_tag = calloc(size, sizeof(*q->free_tag));
	if (!q->area || !q->free_tag)
		return -ENOMEM;
	for (unsigned i = 0; i < size; i++)
		q->free_tag[i] = size - 1 - i;
	q->n_free_tags = size;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* Even one that polls gives a call eventfd: some back-ends cannot do without. */
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->sleeps = f->config.calls;
	front_ring_calls_off(&q->ring);
	return q->kick_fd < 0 || q->call_fd < 0 ? -errno : 0;
}

static int queues_make(struct frontend *f)
{
	int r = 0;

	for (unsigned i = 0; i < f->config.queues && !r; i++)
		r = frontend_queue_make(f, i);
	f->rings_made = !r;
	return r;
}

int frontend_queue_enable(struct frontend *f, unsigned queue, bool on)
{
	return set_vring_state(f, FRONT_SET_VRING_ENABLE, queue, on);
}

int frontend_queue_start(struct frontend *f, unsigned queue, uint32_t base)
{
	struct front_queue *q = &f->queue[queue];
	struct front_wire_vring_addr addr = {
		.index = queue,
		.desc = front_memory_uva(q->ring.desc),
		.avail = front_memory_uva(q->ring.driver),
		.used = front_memory_uva(q->ring.device),
	};
	int r = set_vring_state(f, FRONT_SET_VRING_NUM, queue, q->ring.config.size);

	if (!r)
		r = set_vring_state(f, FRONT_SET_VRING_BASE, queue, base);
	if (!r)
		r = frontend_set(f, FRONT_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
	if (!r)
		r = set_vring_fd(f, FRONT_SET_VRING_KICK, queue, q->kick_fd);
	if (!r)
		r = set_vring_fd(f, FRONT_SET_VRING_CALL, queue, q->call_fd);
	if (!r && f->features & FRONT_F_PROTOCOL_FEATURES)
		r = frontend_queue_enable(f, queue, true);
	/* What is in the ring already may have had its kick long ago. */
	if (!r)
		eventfd_write(q->kick_fd, 1);
	return r;
}

int frontend_queue_stop(struct frontend *f, unsigned queue, uint32_t *ret_base)
{
	struct front_wire_vring_state s = { .index = queue };
	struct front_wire_message m;
	int r = front_message_ask(f->fd, FRONT_GET_VRING_BASE, &s, sizeof(s), NULL, 0, &m, NULL);

	if (!r && m.body.state.index != queue)
		r = -EPROTO;
	if (!r)
		*ret_base = m.body.state.num;
	return r;
}

static int queues_start(struct frontend *f)
{
	int r = 0;

	for (unsigned i = 0; i < f->config.queues && !r; i++)
		r = frontend_queue_start(f, i, front_ring_base(&f->queue[i].ring));
	return r;
}

static int attach(struct frontend *f)
{
	int r = frontend_negotiate(f);

	if (!r && f->queues_offered < f->config.queues)
		r = -EPROTO;
	if (!r && !f->rings_made)
		r = queues_make(f);
	if (!r)
		r = set_u64(f, FRONT_SET_FEATURES, f->features);
	if (!r)
		r = frontend_inflight_send(f);
	if (!r)
		r = frontend_memory_send(f);
	if (!r)
		r = queues_start(f);
	return r;
}

int frontend_attach_fd(struct frontend *f, int fd)
{
	int r;

	frontend_detach(f);
	f->fd = fd;
	r = attach(f);
	if (r)
		frontend_detach(f);
	return r;
}

int frontend_attach(struct frontend *f)
{
	int fd = front_socket_connect(f->path);

	return fd < 0 ? fd : frontend_attach_fd(f, fd);
}

/* --- configuration space --- */

int frontend_config_read(struct frontend *f, uint32_t offset, void *to, uint32_t n)
{
	struct front_wire_config c = { .offset = offset, .size = n };
	uint32_t size = offsetof(struct front_wire_config, payload) + n;
	struct front_wire_message m;
	int r;

	if (n > sizeof(c.payload))
		return -EINVAL;
	r = front_message_ask(f->fd, FRONT_GET_CONFIG, &c, size, NULL, 0, &m, NULL);
	if (r)
		return r;
	if (m.header.size != size)
		return -EREMOTEIO;
	memcpy(to, m.body.config.payload, n);
	return 0;
}

int frontend_config_write(struct frontend *f, uint32_t offset, const void *from, uint32_t n)
{
	struct front_wire_config c = { .offset = offset, .size = n };

	if (n > sizeof(c.payload))
		return -EINVAL;
	memcpy(c.payload, from, n);
	return frontend_set(f, FRONT_SET_CONFIG, &c, offsetof(struct front_wire_config, payload) + n, NULL, 0);
}
