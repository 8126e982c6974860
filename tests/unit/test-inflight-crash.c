/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a queue's owner dies behind every single store that it makes to the rings and to the inflight region,
 * and a second one dies behind every store of its recovery. A successor on the same memory finishes the work. Each
 * request is completed exactly once, executed at least once, and replayed in the order of its submission.
 *
 * The driver lives on and may go on between death and recovery, reusing what it got back: both ways are tried. Deaths
 * are jumps out of the fault point, so what was stored before is there and nothing behind it, as after kill -9.
 */
#include "virtqueue_rig.h"

#include <stdio.h>

void virtqueue_fault_point(void);

#define REQUESTS 24

static jmp_buf death;
static unsigned points, die_at; /* counted; 0: live */

void virtqueue_fault_point(void)
{
	if (++points == die_at)
		longjmp(death, 1);
}

/* All that the jump must not lose is static. */
static struct rig rig;
static struct {
	struct rig_mode m;
	uint64_t random;
	uintptr_t added;
	unsigned executed[REQUESTS], completed[REQUESTS], n_completed;
	struct virtq_chain *held[VIRTQUEUE_SIZE_MAX];
	uintptr_t held_tag[VIRTQUEUE_SIZE_MAX];
	unsigned n_held;
	intptr_t last_taken; /* by this owner */
	bool overlap;	     /* the driver goes on before recovery */
} run;

static unsigned random_below(unsigned n)
{
	run.random = run.random * 6364136223846793005ull + 1442695040888963407ull;
	return (run.random >> 33) % n;
}

static unsigned chain_len(uintptr_t tag)
{
	unsigned most = run.m.indirect ? 3 : run.m.size < 3 ? run.m.size : 3;

	return 1 + (tag * 7 + tag / 3) % most;
}

static void driver_step(void)
{
	uint32_t written;
	intptr_t tag;

	while ((tag = rig_get(&rig, &written)) >= 0) {
		assert_true(run.executed[tag] > 0);
		assert_int_equal(written, tag % 3);
		assert_int_equal(run.completed[tag]++, 0);
		run.n_completed++;
	}
	while (run.added < REQUESTS && !rig_add(&rig, chain_len(run.added), run.added))
		run.added++;
	front_ring_publish(&rig.ring);
}

/* A chain says who it is by its first address. */
static uintptr_t chain_tag(const struct virtq_chain *c)
{
	uintptr_t low = (c->seg[0].gpa - rig.data_gpa) / 1024;

	rig_chain_check(&rig, c, chain_len(low), low);
	return low;
}

static void device_take(void)
{
	struct virtq_chain *chain[4];
	unsigned n = virtqueue_take(&rig.queue, chain, 1 + random_below(4));

	for (unsigned i = 0; i < n; i++) {
		intptr_t tag = chain_tag(chain[i]);

		/* Replays first, then what is new: one owner sees tags in the driver's order. */
		assert_true(tag > run.last_taken);
		assert_int_equal(run.completed[tag], 0);
		run.last_taken = tag;
		run.held[run.n_held] = chain[i];
		run.held_tag[run.n_held++] = tag;
	}
}

/* Completes some of what it holds, in any order. */
static void device_complete(void)
{
	unsigned n = random_below(run.n_held + 1);

	while (n--) {
		unsigned at = random_below(run.n_held);

		run.executed[run.held_tag[at]]++;
		virtqueue_push(&rig.queue, run.held[at], run.held_tag[at] % 3);
		run.n_held--;
		run.held[at] = run.held[run.n_held];
		run.held_tag[at] = run.held_tag[run.n_held];
		if (!random_below(4))
			virtqueue_show(&rig.queue);
	}
	virtqueue_publish(&rig.queue);
}

static void device_work(void)
{
	for (unsigned idle = 0; run.n_completed < REQUESTS; idle++) {
		unsigned before = run.n_completed;

		device_take();
		assert_int_equal(rig.queue.broken, VIRTQUEUE_OK);
		if (random_below(2))
			device_take();
		device_complete();
		if (random_below(2))
			driver_step();
		if (run.n_completed != before)
			idle = 0;
		assert_true(idle < 1000);
	}
}

/* A new owner: what it knew is gone, the memory is not. */
static void device_restart(void)
{
	die_at = 0;
	virtqueue_stop(&rig.queue); /* frees what a dead process would have lost; stores nothing */
	memset(&rig.queue, 0, sizeof(rig.queue));
	run.n_held = 0;
	run.last_taken = -1;
	if (run.overlap)
		driver_step();
	/* QEMU gives the used position; a region that is in use overrules it. */
	rig.setup.base = front_ring_base(&rig.ring);
}

/* Lives until its `nth` store from here; false if it came to the end of the work alive. */
static bool live(unsigned nth)
{
	points = 0;
	die_at = nth;
	if (setjmp(death))
		return true;
	assert_int_equal(virtqueue_start(&rig.queue, &rig.setup, rig.map), 0);
	device_work();
	die_at = 0;
	return false;
}

static void run_begin(const struct rig_mode *m, unsigned seed, bool overlap)
{
	memset(&run, 0, sizeof(run));
	run.m = *m;
	run.random = seed;
	run.overlap = overlap;
	run.last_taken = -1;
	die_at = 0;
	rig_reset(&rig, m);
	driver_step();
}

static void run_end(void)
{
	for (unsigned i = 0; i < REQUESTS; i++) {
		assert_int_equal(run.completed[i], 1);
		assert_true(run.executed[i] >= 1);
	}
	assert_int_equal(rig.ring.outstanding, 0);
}

static unsigned deaths;

/* Dies behind store `first`; its successor behind store `second` of its life (0: it lives). False: nobody died. */
static bool die_twice(const struct rig_mode *m, unsigned seed, bool overlap, unsigned first, unsigned second,
		      bool *ret_second_died)
{
	bool died;

	run_begin(m, seed, overlap);
	died = live(first);
	*ret_second_died = false;
	if (died) {
		deaths++;
		device_restart();
		*ret_second_died = live(second);
		if (*ret_second_died) {
			deaths++;
			device_restart();
			live(0);
		}
	}
	run_end();
	return died;
}

/*
 * The first owner dies everywhere; the second within its first stores, which are those of recovery and the first
 * batches.
 */
#define SECOND_MAX 24

static void die_everywhere(const struct rig_mode *m, unsigned seed)
{
	for (unsigned overlap = 0; overlap < 2; overlap++) {
		bool second_died;

		for (unsigned first = 1; die_twice(m, seed, overlap, first, 0, &second_died); first++)
			for (unsigned second = 1 + first % 2; second <= SECOND_MAX; second += 2)
				if (die_twice(m, seed, overlap, first, second, &second_died) && !second_died)
					break;
	}
}

static void all_kinds(bool packed)
{
	static const uint16_t sizes[] = { 1, 4, 8 }, odd_sizes[] = { 3, 7 };

	deaths = 0;
	rig_prepare(&rig, &(struct rig_mode){ .size = 1 });
	for (unsigned bits = 0; bits < 2; bits++) {
		struct rig_mode m = { .packed = packed, .event_idx = true, .indirect = bits, .inflight = true };

		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			m.size = sizes[i];
			die_everywhere(&m, 1 + bits);
		}
		for (unsigned i = 0; packed && i < ARRAY_SIZE(odd_sizes); i++) {
			m.size = odd_sizes[i];
			die_everywhere(&m, 5 + bits);
		}
	}
	rig_fini(&rig);
	printf("%u deaths\n", deaths);
}

static void a_split_ring_survives_death_anywhere(void **state)
{
	all_kinds(false);
}

static void a_packed_ring_survives_death_anywhere(void **state)
{
	all_kinds(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_split_ring_survives_death_anywhere),
		cmocka_unit_test(a_packed_ring_survives_death_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
