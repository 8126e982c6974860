/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a copy of the guest's memory that follows only the dirty log stays equal to that memory, whatever driver
 * and device do: random traffic, notifications in both directions, a device that dies and recovers from its inflight
 * region, memory whose guest addresses change. After each single step of the device the logged pages are
 * copied, and all of memory is compared; the driver's own writes are copied as they are (KVM logs them). Some logged pages
 * are copied, and their bits cleared, in between: behind any single store to the rings and any mark. So a bit that is set
 * before its store is as bad as none. The seed is printed and can be given as argument.
 */
#include "virtqueue_rig.h"

#include <stdio.h>

#define RUN 500u /* steps before the guest's memory moves */
#define MOVES 3u
#define HELD_MAX 64u
#define CHAIN_MAX 4u
#define BUFS 32u /* used in turn, a KiB each */

struct move {
	struct rig g;
	struct dirty_log log;
	uint8_t bits[1024]; /* for 32 MiB of guest memory */
	uint8_t *copy;
	size_t bytes; /* of memory: rings first, then data */
	uint64_t random;
	struct virtq_chain *held[HELD_MAX]; /* taken, not yet pushed */
	unsigned n_held;
	uintptr_t added, reaped;
};

static uint64_t seed = 1;

static uint32_t draw(struct move *m, uint32_t n)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return (uint32_t)(m->random >> 20) % n;
}

/* The guest's own writes. */
static void follow_driver(struct move *m)
{
	memcpy(m->copy, m->g.memory.base, m->bytes);
}

static void page_copy(struct move *m, uint64_t page)
{
	size_t at = page * DIRTY_LOG_PAGE - m->g.map->region[0].gpa;

	assert_true(at < m->bytes);
	memcpy(m->copy + at, m->g.memory.base + at, DIRTY_LOG_PAGE);
}

static void logged_copy(struct move *m)
{
	for (uint64_t byte = 0; byte < sizeof(m->bits); byte++) {
		for (unsigned bits = m->bits[byte]; bits; bits &= bits - 1)
			page_copy(m, byte * 8 + (unsigned)__builtin_ctz(bits));
		m->bits[byte] = 0;
	}
}

static struct move *running;

/* Behind every store of the queue's, and every mark: here the front-end may have come around. */
void virtqueue_fault_point(void);
void virtqueue_fault_point(void)
{
	if (running && !draw(running, 4))
		logged_copy(running);
}

/* The device's writes. */
static void follow_log(struct move *m)
{
	logged_copy(m);
	assert_memory_equal(m->copy, m->g.memory.base, m->bytes);
}

/* --- steps --- */

static void driver_adds(struct move *m)
{
	unsigned n = 1 + draw(m, CHAIN_MAX);

	while (n-- && rig_add(&m->g, 1 + draw(m, CHAIN_MAX), m->added % BUFS) == 0)
		m->added++;
	if (draw(m, 4))
		front_ring_publish(&m->g.ring);
	follow_driver(m);
}

static void driver_reaps(struct move *m)
{
	uint32_t written;

	while (rig_get(&m->g, &written) >= 0)
		m->reaped++;
	if (draw(m, 2))
		front_ring_calls_on(&m->g.ring);
	else
		front_ring_calls_off(&m->g.ring);
	follow_driver(m);
}

static void device_takes(struct move *m)
{
	m->n_held += virtqueue_take(&m->g.queue, m->held + m->n_held, (unsigned)min_u64(HELD_MAX - m->n_held, draw(m, 9)));
	follow_log(m);
}

/* All of it or a part: whatever the device says of it. */
static void data_write(struct move *m, const struct virtq_chain *c)
{
	for (unsigned i = c->n_out; i < c->n_seg; i++) {
		uint8_t *p = memmap_gpa(m->g.map, c->seg[i].gpa, c->seg[i].len);

		assert_non_null(p);
		memset(p, (int)draw(m, 256), 1 + draw(m, c->seg[i].len));
	}
}

static void complete(struct move *m, unsigned n)
{
	while (n-- && m->n_held) {
		unsigned at = draw(m, m->n_held);

		data_write(m, m->held[at]);
		virtqueue_push(&m->g.queue, m->held[at], draw(m, 2) * m->held[at]->in_bytes);
		m->held[at] = m->held[--m->n_held];
	}
	virtqueue_publish(&m->g.queue);
	follow_log(m);
}

static void device_completes(struct move *m)
{
	complete(m, draw(m, 8));
}

static void device_arms(struct move *m)
{
	virtqueue_kicks_on(&m->g.queue);
	follow_log(m);
}

static void device_polls(struct move *m)
{
	virtqueue_kicks_off(&m->g.queue);
	follow_log(m);
}

/*
 * As a packed device leaves it that dies in the middle of giving back a batch: behind the first slot there are used flags
 * already, which its successor takes back.
 */
static void batch_leave(struct move *m)
{
	struct vring_packed_desc *ring = m->g.queue.desc;

	if (!m->g.setup.packed || m->g.queue.slots < 2)
		return;
	ring[(m->g.queue.used_idx + 1) % m->g.setup.size].flags ^= 1u << VRING_PACKED_DESC_F_USED;
	follow_driver(m);
}

/* With an inflight region nothing need be complete for that. */
static void device_restarts(struct move *m)
{
	if (draw(m, 20))
		return;
	if (m->g.setup.inflight)
		batch_leave(m);
	else
		complete(m, HELD_MAX);
	m->g.setup.base = virtqueue_stop(&m->g.queue);
	m->n_held = 0;
	assert_int_equal(virtqueue_start(&m->g.queue, &m->g.setup, m->g.map), 0);
	follow_log(m);
}

static void (*const step[])(struct move *) = {
	driver_adds, driver_adds, driver_reaps, device_takes, device_completes, device_arms, device_polls, device_restarts,
};

/* Another guest address for the same memory, with nothing under way in the old one. */
static void memory_moves(struct move *m)
{
	struct memmap_region_spec spec = { .size = m->g.memory.region[0].size, .uva = m->g.memory.region[0].uva,
					   .fd = m->g.memory.fd };
	struct memmap *old = m->g.map;

	front_ring_publish(&m->g.ring);
	follow_driver(m);
	while (m->reaped < m->added) {
		device_takes(m);
		complete(m, HELD_MAX);
		driver_reaps(m);
	}
	m->g.memory.region[0].gpa += 3u * DIRTY_LOG_PAGE;
	m->g.data_gpa += 3u * DIRTY_LOG_PAGE;
	spec.gpa = m->g.memory.region[0].gpa;
	assert_int_equal(memmap_create(&spec, 1, &m->g.map), 0);
	assert_int_equal(virtqueue_remap(&m->g.queue, m->g.map), 0);
	memmap_put(old);
}

static void walk(const struct rig_mode *mode)
{
	struct move m = { .random = seed * 0x9e3779b97f4a7c15u | 1, .log = { .bytes = sizeof(m.bits) } };

	m.log.bits = m.bits;
	rig_prepare(&m.g, mode);
	m.bytes = (m.g.memory.used + DIRTY_LOG_PAGE - 1) & ~(DIRTY_LOG_PAGE - 1ul);
	m.g.data_gpa = m.g.memory.region[0].gpa + m.bytes;
	m.bytes += (BUFS / 4 + 1) * DIRTY_LOG_PAGE;
	m.copy = malloc(m.bytes);
	assert_non_null(m.copy);
	m.g.setup.log = &m.log;
	follow_driver(&m);
	running = &m;
	assert_int_equal(virtqueue_start(&m.g.queue, &m.g.setup, m.g.map), 0);
	for (unsigned i = 0; i < MOVES; i++) {
		for (unsigned n = 0; n < RUN; n++)
			step[draw(&m, ARRAY_SIZE(step))](&m);
		memory_moves(&m);
	}
	assert_int_equal(m.g.queue.broken, VIRTQUEUE_OK);
	assert_true(m.reaped > 0);
	running = NULL;
	free(m.copy);
	rig_fini(&m.g);
}

static void the_log_is_enough(void **state)
{
	static const uint16_t sizes[] = { 8, 1024 }; /* within a page, and across several */

	for (unsigned bits = 0; bits < 16; bits++) {
		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			struct rig_mode m = { .size = sizes[i], .packed = bits & 1, .event_idx = bits & 2,
					      .indirect = bits & 4, .inflight = bits & 8 };

			m.size -= m.packed; /* these need not be powers of two */
			walk(&m);
		}
	}
}

/* Only the split used ring can be logged somewhere else, and only that is. */
static void used_ring_is_logged_where_asked(void **state)
{
	static const struct rig_mode mode = { .size = 16 };
	struct virtq_chain *c;
	uint8_t bits[1024] = { 0 };
	struct dirty_log log = { .bits = bits, .bytes = sizeof(bits) };
	const uint64_t page = 1000;
	struct rig g;

	rig_prepare(&g, &mode);
	g.setup.log = &log;
	g.setup.used_log_gpa = page * DIRTY_LOG_PAGE;
	assert_int_equal(virtqueue_start(&g.queue, &g.setup, g.map), 0);
	rig_add(&g, 1, 0);
	front_ring_publish(&g.ring);
	assert_int_equal(virtqueue_take(&g.queue, &c, 1), 1);
	virtqueue_push(&g.queue, c, 0);
	virtqueue_publish(&g.queue);
	for (uint64_t i = 0; i < sizeof(bits) * 8; i++)
		assert_int_equal(bits[i / 8] >> i % 8 & 1, i == page || i == g.data_gpa / DIRTY_LOG_PAGE);
	rig_fini(&g);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_log_is_enough),
		cmocka_unit_test(used_ring_is_logged_where_asked),
	};

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	printf("seed %llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
