/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes a virtqueue from the driver's side: an input is a program that writes anything into the rings, tables and
 * inflight region, offers proper chains in between, and lets the device take, complete, publish, arm, die and start
 * again in any order. Fuzzed with the sanitizers: nothing is read or written out of bounds, and nothing loops.
 *
 * Beyond that: a chain handed out is within its limits, is handed out once, and every byte that it maps can be touched.
 */
#include "check.h"

#include "frontend/ring.h"
#include "virtio/virtqueue_struct.h"

#include <string.h>

#define RING_MAX 32u
#define USED_BYTES 65536u /* of guest memory, so that random addresses hit */
#define INFLIGHT_BYTES 4096u
#define SEGS_MAX 8u

enum { PACKED = 1, EVENT_IDX = 2, INDIRECT = 4, INFLIGHT = 8, LOGGED = 16 };

struct program {
	const uint8_t *at;
	size_t left;
};

struct guest {
	struct front_memory memory;
	struct memmap *map;
	struct front_ring ring;
	struct virtqueue queue;
	struct virtqueue_setup setup;
	struct virtq_chain *held[VIRTQUEUE_SIZE_MAX];
	unsigned n_held;
	struct dirty_log log;
	uint8_t log_bits[64];
	_Alignas(CACHE_LINE) uint8_t inflight[INFLIGHT_BYTES];
};

static struct guest g;

static uint8_t next_u8(struct program *p)
{
	if (!p->left)
		return 0;
	p->left--;
	return *p->at++;
}

static uint16_t next_u16(struct program *p)
{
	uint16_t low = next_u8(p);

	return low | next_u8(p) << 8;
}

/* Memory is mapped once a process; an input finds its first part zeroed. */
static void memory_reset(void)
{
	struct memmap_region_spec spec;

	if (!g.map) {
		CHECK(!front_memory_init(&g.memory, USED_BYTES, 1, false));
		spec = (struct memmap_region_spec){ .gpa = g.memory.region[0].gpa, .size = USED_BYTES,
						    .uva = g.memory.region[0].uva, .fd = g.memory.fd };
		CHECK(!memmap_create(&spec, 1, &g.map));
	}
	memset(g.memory.base, 0, USED_BYTES);
	memset(g.inflight, 0, sizeof(g.inflight));
	g.memory.used = 0;
	g.n_held = 0;
}

static bool queue_start(void)
{
	g.n_held = 0;
	return virtqueue_start(&g.queue, &g.setup, g.map) == 0;
}

static bool guest_begin(uint8_t flags, uint8_t size)
{
	struct front_ring_config c = { .size = 1 + size % RING_MAX, .packed = flags & PACKED,
				       .event_idx = flags & EVENT_IDX, .indirect = flags & INDIRECT, .segs_max = SEGS_MAX };

	if (!c.packed)
		c.size = 1u << size % 6;
	memory_reset();
	CHECK(!front_ring_init(&g.ring, &c, &g.memory));
	g.log = (struct dirty_log){ .bits = g.log_bits, .bytes = sizeof(g.log_bits) };
	g.setup = (struct virtqueue_setup){
		.size = c.size, .packed = c.packed, .event_idx = c.event_idx, .indirect = c.indirect,
		.desc_uva = front_memory_uva(g.ring.desc), .avail_uva = front_memory_uva(g.ring.driver),
		.used_uva = front_memory_uva(g.ring.device), .base = front_ring_base(&g.ring),
		.log = flags & LOGGED ? &g.log : NULL,
	};
	if (flags & INFLIGHT) {
		g.setup.inflight = g.inflight;
		g.setup.inflight_bytes = virtqueue_inflight_bytes(c.size, c.packed);
	}
	memset(&g.queue, 0, sizeof(g.queue));
	return queue_start();
}

/* --- what the program can do --- */

static void bytes_write(uint8_t *to, size_t room, struct program *p)
{
	size_t at = next_u16(p) % room, n = next_u8(p) % 64;

	/* In a statement of its own: what is left is known only once the length has been read. */
	n = min_u64(min_u64(n, p->left), room - at);
	memcpy(to + at, p->at, n);
	p->at += n;
	p->left -= n;
}

static void guest_write(struct program *p)
{
	bytes_write(g.memory.base, USED_BYTES, p);
}

static void inflight_write(struct program *p)
{
	bytes_write(g.inflight, sizeof(g.inflight), p);
}

static void chain_offer(struct program *p)
{
	struct front_buf b[SEGS_MAX];
	unsigned n = 1 + next_u8(p) % SEGS_MAX, out = next_u8(p) % (n + 1);

	for (unsigned i = 0; i < n; i++) {
		b[i].gpa = g.memory.region[0].gpa + next_u16(p);
		b[i].len = next_u16(p);
	}
	front_ring_add(&g.ring, b, out, n - out, &g);
	if (next_u8(p) & 1)
		front_ring_publish(&g.ring);
}

/* Slots as they stand in memory, made available: the shortest way to whatever guest_write() put there. */
static void slots_offer(struct program *p)
{
	unsigned n = next_u8(p);

	if (g.setup.packed) {
		struct vring_packed_desc *d = (struct vring_packed_desc *)g.ring.desc + g.queue.avail_idx;

		d->flags = (next_u8(p) & 7) |
			   (g.queue.avail_wrap ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED);
	} else {
		struct vring_avail *a = g.ring.driver;

		store_release(&a->idx, a->idx + n);
	}
}

static void chain_check(const struct virtq_chain *c)
{
	uint32_t bytes[2] = { 0 };
	struct iovec iov[4];

	CHECK(c->id < g.setup.size && c->n_seg && c->n_seg <= VIRTQUEUE_CHAIN_MAX && c->n_out <= c->n_seg);
	for (unsigned i = 0; i < g.n_held; i++)
		CHECK(g.held[i] != c);
	for (unsigned i = 0; i < c->n_seg; i++) {
		int n = memmap_iov(g.map, c->seg[i].gpa, c->seg[i].len, iov, 4);

		bytes[i >= c->n_out] += c->seg[i].len;
		for (int k = 0; k < n; k++)
			if (i >= c->n_out)
				((volatile uint8_t *)iov[k].iov_base)[iov[k].iov_len - 1] = 0x55;
			else
				(void)((volatile uint8_t *)iov[k].iov_base)[iov[k].iov_len - 1];
	}
	CHECK(bytes[0] == c->out_bytes && bytes[1] == c->in_bytes);
}

static void device_take(struct program *p)
{
	struct virtq_chain *chain[40];
	unsigned max = 1 + next_u8(p) % 40, n = virtqueue_take(&g.queue, chain, max);

	CHECK(n <= max && g.n_held + n <= g.setup.size);
	for (unsigned i = 0; i < n; i++) {
		chain_check(chain[i]);
		g.held[g.n_held++] = chain[i];
	}
}

static void device_push(struct program *p)
{
	unsigned at = next_u8(p);

	if (!g.n_held)
		return;
	at %= g.n_held;
	virtqueue_push(&g.queue, g.held[at], next_u8(p));
	g.held[at] = g.held[--g.n_held];
}

static void device_publish(struct program *p)
{
	virtqueue_publish(&g.queue);
}

static void device_arm(struct program *p)
{
	if (next_u8(p) & 1)
		virtqueue_kicks_on(&g.queue);
	else
		virtqueue_kicks_off(&g.queue);
	virtqueue_pending(&g.queue);
}

/* Dead or stopped: with an inflight region, what it held is found again. */
static void device_restart(struct program *p)
{
	uint32_t base = virtqueue_stop(&g.queue);

	if (!(next_u8(p) & 1))
		g.setup.base = base;
	if (!queue_start())
		p->left = 0;
}

static void driver_get(struct program *p)
{
	uint32_t written;
	int error = 0;

	while (front_ring_get(&g.ring, &written, &error))
		;
}

static void (*const command[])(struct program *) = {
	guest_write,  inflight_write, chain_offer, slots_offer,	   device_take,
	device_push,  device_publish, device_arm,  device_restart, driver_get,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program p = { .at = data, .left = size };
	uint8_t flags = next_u8(&p);

	if (guest_begin(flags, next_u8(&p)))
		while (p.left)
			command[next_u8(&p) % ARRAY_SIZE(command)](&p);
	virtqueue_stop(&g.queue);
	front_ring_fini(&g.ring);
	return 0;
}
