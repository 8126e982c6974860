/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the device's side of split and packed virtqueues against an independent driver: sizes, laps, completions
 * out of order, notifications in both directions, and a random walk whose seed is printed and can be given as argument.
 */
#include "virtqueue_rig.h"

#include <errno.h>
#include <stdio.h>

static const uint16_t sizes[] = { 1, 2, 4, 64, 256, 1024 };
static const uint16_t odd_sizes[] = { 3, 5, 100, 1023 };
static uint64_t seed_only;

/* Every kind of queue of every size that the kind allows. */
static void for_each_mode(void (*test)(const struct rig_mode *))
{
	for (unsigned bits = 0; bits < 16; bits++) {
		struct rig_mode m = { .packed = bits & 1, .event_idx = bits & 2, .indirect = bits & 4,
				      .inflight = bits & 8 };

		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			m.size = sizes[i];
			test(&m);
		}
		for (unsigned i = 0; m.packed && i < ARRAY_SIZE(odd_sizes); i++) {
			m.size = odd_sizes[i];
			test(&m);
		}
	}
}

static unsigned chain_len(const struct rig_mode *m, uintptr_t tag)
{
	unsigned most = m->indirect ? 16 : m->size < 16 ? m->size : 16;

	return 1 + tag % most;
}

/* The ring is kept full; each request comes back once, with its length, in the order in which it was pushed. */
static void full_laps(const struct rig_mode *m)
{
	uintptr_t added = 0, taken = 0, total = 5u * m->size + 7;
	struct virtq_chain *chain[VIRTQUEUE_SIZE_MAX];
	struct rig g;
	intptr_t got = 0;

	rig_init(&g, m);
	while ((uintptr_t)got < total) {
		unsigned n;
		uint32_t written;

		while (added < total && !rig_add(&g, chain_len(m, added), added))
			added++;
		front_ring_publish(&g.ring);
		assert_true(virtqueue_pending(&g.queue));
		n = virtqueue_take(&g.queue, chain, 1 + added % m->size);
		assert_true(n > 0);
		for (unsigned i = 0; i < n; i++, taken++) {
			rig_chain_check(&g, chain[i], chain_len(m, taken), taken);
			virtqueue_push(&g.queue, chain[i], taken % 5);
		}
		virtqueue_publish(&g.queue);
		for (intptr_t tag; (tag = rig_get(&g, &written)) >= 0; got++) {
			assert_int_equal(tag, got);
			assert_int_equal(written, got % 5);
		}
	}
	assert_false(virtqueue_pending(&g.queue));
	assert_int_equal(g.queue.broken, VIRTQUEUE_OK);
	assert_int_equal(g.queue.counters.taken, total);
	assert_int_equal(g.queue.counters.pushed, total);
	assert_int_equal(virtqueue_stop(&g.queue), front_ring_base(&g.ring));
	rig_fini(&g);
}

static void every_size_and_kind(void **state)
{
	for_each_mode(full_laps);
}

/* Split indices run through 65,536; the driver always finds what it sent. */
static void index_wraps(void **state)
{
	for (unsigned bits = 0; bits < 4; bits++) {
		struct rig_mode m = { .size = 256, .packed = bits & 1, .event_idx = bits & 2 };
		struct virtq_chain *chain[32];
		struct rig g;
		uint32_t written;

		rig_init(&g, &m);
		for (uintptr_t tag = 0; tag < 140000; tag += 32) {
			for (unsigned i = 0; i < 32; i++)
				assert_int_equal(rig_add(&g, 3, tag + i), 0);
			front_ring_publish(&g.ring);
			assert_int_equal(virtqueue_take(&g.queue, chain, 32), 32);
			for (unsigned i = 0; i < 32; i++)
				virtqueue_push(&g.queue, chain[31 - i], 1);
			virtqueue_publish(&g.queue);
			for (unsigned i = 0; i < 32; i++)
				assert_int_equal(rig_get(&g, &written), tag + 31 - i);
		}
		rig_fini(&g);
	}
}

/* Sends one request through; returns whether the device kicked (bit 0: driver kicks, bit 1: device calls). */
static unsigned ping(struct rig *g)
{
	struct virtq_chain *chain;
	uint32_t written;
	unsigned bits;

	assert_int_equal(rig_add(g, 1, 0), 0);
	bits = front_ring_publish(&g->ring);
	assert_int_equal(virtqueue_take(&g->queue, &chain, 1), 1);
	virtqueue_push(&g->queue, chain, 0);
	bits |= virtqueue_publish(&g->queue) << 1;
	assert_int_equal(rig_get(g, &written), 0);
	return bits;
}

static void notifications(const struct rig_mode *m)
{
	struct rig g;

	rig_init(&g, m);
	virtqueue_kicks_off(&g.queue);
	front_ring_calls_off(&g.ring);
	ping(&g); /* the first call may come in any case */
	for (unsigned i = 0; i < 3u * m->size; i++)
		assert_int_equal(ping(&g), 0);
	for (unsigned i = 0; i < 3u * m->size; i++) {
		assert_false(virtqueue_kicks_on(&g.queue));
		assert_false(front_ring_calls_on(&g.ring));
		assert_int_equal(ping(&g), 3);
		virtqueue_kicks_off(&g.queue);
		front_ring_calls_off(&g.ring);
		assert_int_equal(ping(&g), 0);
	}
	/* With the event index, armed once means told once. */
	if (m->event_idx && m->size > 2) {
		virtqueue_kicks_on(&g.queue);
		front_ring_calls_on(&g.ring);
		assert_int_equal(ping(&g), 3);
		assert_int_equal(ping(&g), 0);
	}
	/* What came before arming is reported by arming. */
	assert_int_equal(rig_add(&g, 1, 0), 0);
	front_ring_publish(&g.ring);
	assert_true(virtqueue_kicks_on(&g.queue));
	rig_fini(&g);
}

static void notifications_everywhere(void **state)
{
	for_each_mode(notifications);
}

/* Each of two requests shown by itself; `rest`: the second only by publish. Returns whether a call was wanted. */
static bool show_two(struct rig *g, bool rest)
{
	struct virtq_chain *chain[2];
	uint32_t written;

	assert_int_equal(rig_add(g, 1, 0), 0);
	assert_int_equal(rig_add(g, 1, 1), 0);
	front_ring_publish(&g->ring);
	assert_int_equal(virtqueue_take(&g->queue, chain, 2), 2);
	virtqueue_push(&g->queue, chain[0], 0);
	assert_int_equal(rig_get(g, &written), -1);
	virtqueue_show(&g->queue);
	assert_int_equal(rig_get(g, &written), 0);
	assert_int_equal(rig_get(g, &written), -1);
	virtqueue_push(&g->queue, chain[1], 0);
	if (!rest) {
		virtqueue_show(&g->queue);
		assert_int_equal(rig_get(g, &written), 1);
		return virtqueue_publish(&g->queue);
	}
	rest = virtqueue_publish(&g->queue);
	assert_int_equal(rig_get(g, &written), 1);
	return rest;
}

/* What is shown is seen at once; the call for it is decided once, for all that was shown since the last time. */
static void shown(const struct rig_mode *m)
{
	struct rig g;

	if (m->size < 2)
		return;
	rig_init(&g, m);
	front_ring_calls_off(&g.ring);
	ping(&g); /* the first call may come in any case */
	for (unsigned i = 0; i < 3u * m->size; i++) {
		assert_false(show_two(&g, i & 1));
		assert_false(front_ring_calls_on(&g.ring));
		assert_true(show_two(&g, i & 1));
		assert_false(virtqueue_publish(&g.queue));
		front_ring_calls_off(&g.ring);
	}
	assert_int_equal(virtqueue_stop(&g.queue), front_ring_base(&g.ring));
	rig_fini(&g);
}

static void shown_everywhere(void **state)
{
	for_each_mode(shown);
}

static void publish_of_nothing(void **state)
{
	struct rig_mode m = { .size = 4, .inflight = true };
	struct rig g;

	rig_init(&g, &m);
	assert_true(virtqueue_publish(&g.queue)); /* a predecessor's call may be owed */
	assert_false(virtqueue_publish(&g.queue));
	rig_fini(&g);
	m.inflight = false;
	rig_init(&g, &m);
	assert_false(virtqueue_publish(&g.queue));
	rig_fini(&g);
}

/* Both rings go on where GET_VRING_BASE said, in a new queue. */
static void stop_and_start(const struct rig_mode *m)
{
	struct rig g;

	rig_init(&g, m);
	for (unsigned i = 0; i < 3u * m->size + 1; i++) {
		ping(&g);
		g.setup.base = virtqueue_stop(&g.queue);
		assert_int_equal(g.setup.base, front_ring_base(&g.ring));
		assert_int_equal(virtqueue_start(&g.queue, &g.setup, g.map), 0);
	}
	rig_fini(&g);
}

static void stop_and_start_everywhere(void **state)
{
	for_each_mode(stop_and_start);
}

static void setup_is_checked(void **state)
{
	struct rig_mode m = { .size = 4 };
	struct virtqueue q = { 0 };
	struct virtqueue_setup s;
	struct rig g;

	rig_init(&g, &m);
	s = g.setup;
	s.size = 3;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EINVAL);
	s.size = 0;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EINVAL);
	s.size = 2048;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EINVAL);
	s = g.setup;
	s.packed = true;
	s.base = 4;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EINVAL);
	s = g.setup;
	s.used_uva += 2;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EFAULT);
	s = g.setup;
	s.avail_uva = g.memory.region[0].uva + g.memory.region[0].size - 6;
	assert_int_equal(virtqueue_start(&q, &s, g.map), -EFAULT);
	rig_fini(&g);
}

/* --- a random walk against a model: which tags are with whom --- */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

enum { WITH_DRIVER, AVAILABLE, TAKEN, PUSHED };

struct walk {
	struct rig g;
	struct rig_mode m;
	uint64_t random;
	uint8_t where[4096];
	uint8_t len[4096];
	struct virtq_chain *held[VIRTQUEUE_SIZE_MAX];
	uintptr_t held_tag[VIRTQUEUE_SIZE_MAX];
	unsigned n_held;
	uintptr_t added, taken;
	bool kicks_on, calls_on;
};

static void walk_add(struct walk *w)
{
	unsigned n = 1 + next_random(&w->random) % 8;

	while (n--) {
		uintptr_t tag = w->added % 4096;

		if (w->where[tag] != WITH_DRIVER)
			break;
		w->len[tag] = chain_len(&w->m, next_random(&w->random) % 16);
		if (rig_add(&w->g, w->len[tag], tag))
			break;
		w->where[tag] = AVAILABLE;
		w->added++;
	}
	front_ring_publish(&w->g.ring);
}

static void walk_take(struct walk *w)
{
	unsigned max = 1 + next_random(&w->random) % 40;
	struct virtq_chain *chain[40];
	unsigned n = virtqueue_take(&w->g.queue, chain, max);
	uintptr_t most = w->added - w->taken;

	assert_int_equal(n, most < max ? most : max);
	for (unsigned i = 0; i < n; i++) {
		uintptr_t tag = w->taken++ % 4096;

		assert_int_equal(w->where[tag], AVAILABLE);
		w->where[tag] = TAKEN;
		rig_chain_check(&w->g, chain[i], w->len[tag], tag);
		w->held[w->n_held] = chain[i];
		w->held_tag[w->n_held++] = tag;
	}
}

static void walk_push(struct walk *w)
{
	unsigned n = next_random(&w->random) % 8;

	while (n-- && w->n_held) {
		unsigned at = next_random(&w->random) % w->n_held;
		uintptr_t tag = w->held_tag[at];

		rig_chain_check(&w->g, w->held[at], w->len[tag], tag);
		virtqueue_push(&w->g.queue, w->held[at], tag);
		w->where[tag] = PUSHED;
		w->n_held--;
		w->held[at] = w->held[w->n_held];
		w->held_tag[at] = w->held_tag[w->n_held];
	}
}

static void walk_get(struct walk *w)
{
	uint32_t written;
	intptr_t tag;

	if (next_random(&w->random) & 1)
		virtqueue_show(&w->g.queue);
	else
		virtqueue_publish(&w->g.queue);
	while ((tag = rig_get(&w->g, &written)) >= 0) {
		assert_int_equal(w->where[tag], PUSHED);
		assert_int_equal(written, tag);
		w->where[tag] = WITH_DRIVER;
	}
	assert_int_equal(w->g.ring.outstanding, w->n_held + (w->added - w->taken));
}

static void walk_once(uint64_t seed)
{
	static struct walk w;

	memset(&w, 0, sizeof(w));
	w.random = seed * 0x9e3779b97f4a7c15ull | 1;
	w.m = (struct rig_mode){
		.packed = next_random(&w.random) & 1, .event_idx = next_random(&w.random) & 1,
		.indirect = next_random(&w.random) & 1, .inflight = next_random(&w.random) & 1,
	};
	w.m.size = w.m.packed ? 1 + next_random(&w.random) % 300 : 1u << next_random(&w.random) % 10;
	rig_init(&w.g, &w.m);
	for (unsigned step = 0; step < 20000; step++) {
		switch (next_random(&w.random) % 4) {
		case 0: walk_add(&w); break;
		case 1: walk_take(&w); break;
		case 2: walk_push(&w); break;
		default: walk_get(&w); break;
		}
		assert_int_equal(w.g.queue.broken, VIRTQUEUE_OK);
	}
	rig_fini(&w.g);
}

static void random_walks(void **state)
{
	if (seed_only) {
		walk_once(seed_only);
		return;
	}
	for (uint64_t seed = 1; seed <= 40; seed++) {
		printf("seed %lu\n", (unsigned long)seed);
		walk_once(seed);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_and_kind),	      cmocka_unit_test(index_wraps),
		cmocka_unit_test(notifications_everywhere),   cmocka_unit_test(publish_of_nothing),
		cmocka_unit_test(stop_and_start_everywhere),  cmocka_unit_test(setup_is_checked),
		cmocka_unit_test(shown_everywhere),	      cmocka_unit_test(random_walks),
	};

	seed_only = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
