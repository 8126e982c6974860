/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the inflight region has the specification's layout, a predecessor's requests come back in their order,
 * and a region with any nonsense in it is refused or at worst breaks the queue. test-inflight-crash.c has the deaths.
 */
#include "virtqueue_rig.h"
#include "virtio/ring.h"

#include <errno.h>
#include <stdio.h>

static struct rig rig;

/* Ten requests in a queue of 16; those whose tags are set in `done` are completed, the others left in flight. */
static void leave_some(bool packed, unsigned done)
{
	struct virtq_chain *chain[10];
	uint32_t written;

	rig_init(&rig, &(struct rig_mode){ .size = 16, .packed = packed, .indirect = true, .inflight = true });
	for (uintptr_t tag = 0; tag < 10; tag++)
		assert_int_equal(rig_add(&rig, tag % 2 ? 1 : 3, tag), 0);
	front_ring_publish(&rig.ring);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 10), 10);
	for (unsigned tag = 10; tag--;)
		if (done >> tag & 1)
			virtqueue_push(&rig.queue, chain[tag], 0);
	virtqueue_publish(&rig.queue);
	while (rig_get(&rig, &written) >= 0)
		;
	virtqueue_stop(&rig.queue);
	memset(&rig.queue, 0, sizeof(rig.queue));
}

static int restart(void)
{
	return virtqueue_start(&rig.queue, &rig.setup, rig.map);
}

static void sizes_follow_the_specification(void **state)
{
	assert_int_equal(virtqueue_inflight_bytes(1, false), 64);
	assert_int_equal(virtqueue_inflight_bytes(256, false), 64 + 256 * 16);
	assert_int_equal(virtqueue_inflight_bytes(256, true), 64 + 256 * 32);
	assert_int_equal(offsetof(struct virtq_inflight_split, last_batch_head), 12);
	assert_int_equal(offsetof(struct virtq_inflight_split, used_idx), 14);
	assert_int_equal(offsetof(struct virtq_inflight_split_desc, next), 6);
	assert_int_equal(offsetof(struct virtq_inflight_split_desc, counter), 8);
	assert_int_equal(offsetof(struct virtq_inflight_packed, free_head), 12);
	assert_int_equal(offsetof(struct virtq_inflight_packed, used.used_idx), 16);
	assert_int_equal(offsetof(struct virtq_inflight_packed, used.old_used_idx), 18);
	assert_int_equal(offsetof(struct virtq_inflight_packed, used.used_wrap), 20);
	assert_int_equal(offsetof(struct virtq_inflight_packed, used.old_used_wrap), 21);
	assert_int_equal(offsetof(struct virtq_inflight_packed, desc), 32);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, last), 4);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, num), 6);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, counter), 8);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, id), 16);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, flags), 18);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, len), 20);
	assert_int_equal(offsetof(struct virtq_inflight_packed_desc, addr), 24);
}

static void requests_come_back_in_order(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		for (unsigned done = 0; done < 1024; done += 37) {
			struct virtq_chain *chain[3];
			uint32_t written;
			unsigned n, tag = 0;

			leave_some(packed, done);
			rig_add(&rig, 2, 10);
			front_ring_publish(&rig.ring);
			assert_int_equal(restart(), 0);
			assert_true(virtqueue_pending(&rig.queue));
			assert_true(virtqueue_kicks_on(&rig.queue));
			while ((n = virtqueue_take(&rig.queue, chain, 3))) {
				for (unsigned i = 0; i < n; i++, tag++) {
					while (tag < 10 && done >> tag & 1)
						tag++;
					rig_chain_check(&rig, chain[i], tag == 10 ? 2 : tag % 2 ? 1 : 3, tag);
					virtqueue_push(&rig.queue, chain[i], 0);
				}
			}
			assert_int_equal(tag, 11);
			assert_true(virtqueue_publish(&rig.queue));
			while (rig_get(&rig, &written) >= 0)
				;
			assert_int_equal(rig.ring.outstanding, 0);
			rig_fini(&rig);
		}
	}
}

static void small_regions_are_refused(void **state)
{
	leave_some(false, 0);
	rig.setup.inflight_bytes--;
	assert_int_equal(restart(), -EINVAL);
	rig_fini(&rig);
}

/* One wrong value each, on a region with requests 0, 1, 8 and 9 in flight. */
static void expect_refusal(bool packed, size_t offset, uint16_t value)
{
	leave_some(packed, 0xfc);
	memcpy((char *)rig.setup.inflight + offset, &value, sizeof(value));
	assert_int_equal(restart(), -EPROTO);
	/* Being refused again is as harmless. */
	assert_int_equal(restart(), -EPROTO);
	rig_fini(&rig);
}

static void split_nonsense_is_refused(void **state)
{
	const size_t desc0 = offsetof(struct virtq_inflight_split, desc);

	expect_refusal(false, offsetof(struct virtq_inflight_split, version), 2);
	expect_refusal(false, offsetof(struct virtq_inflight_split, desc_num), 15);
	expect_refusal(false, offsetof(struct virtq_inflight_split, used_idx), 1000);
	expect_refusal(false, offsetof(struct virtq_inflight_split, used_idx), (uint16_t)-20);
	expect_refusal(false, desc0, 0xff);

	/* An unfinished batch whose list is out of range, or cyclic. */
	for (unsigned cyclic = 0; cyclic < 2; cyclic++) {
		struct virtq_inflight_split *r;

		leave_some(false, 0xfc);
		r = rig.setup.inflight;
		r->used_idx -= 3;
		r->desc[r->last_batch_head].next = cyclic ? r->last_batch_head : 16;
		assert_int_equal(restart(), -EPROTO);
		rig_fini(&rig);
	}
	/* Two with one number. */
	leave_some(false, 0xfc);
	((struct virtq_inflight_split *)rig.setup.inflight)->desc[8].counter = 0;
	((struct virtq_inflight_split *)rig.setup.inflight)->desc[8].inflight = 1;
	((struct virtq_inflight_split *)rig.setup.inflight)->desc[9].counter = 0;
	((struct virtq_inflight_split *)rig.setup.inflight)->desc[9].inflight = 1;
	assert_int_equal(restart(), -EPROTO);
	rig_fini(&rig);
}

static void packed_nonsense_is_refused(void **state)
{
	const size_t desc0 = offsetof(struct virtq_inflight_packed, desc);
	struct virtq_inflight_packed *r;

	expect_refusal(true, offsetof(struct virtq_inflight_packed, version), 2);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, desc_num), 17);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, used.used_idx), 16);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, used.old_used_idx), 99);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, used.used_wrap), 2);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, used.used_wrap), 0x201);
	expect_refusal(true, offsetof(struct virtq_inflight_packed, old_free_head), 17);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, num), 0);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, num), 2);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, num), 17);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, last), 3);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, id), 16);
	expect_refusal(true, desc0 + offsetof(struct virtq_inflight_packed_desc, id), 1); /* twice */
	expect_refusal(true, desc0, 0); /* neither in flight nor free */
	/* A free list that bites its tail. */
	leave_some(true, 0xfc);
	r = rig.setup.inflight;
	r->desc[r->free_head].next = r->free_head;
	assert_int_equal(restart(), -EPROTO);
	rig_fini(&rig);
}

/* Changed behind our back while the queue runs: broken, nothing worse. */
static void changes_while_running(void **state)
{
	struct virtq_inflight_packed *r;
	struct virtq_chain *chain[4];
	uint32_t written;

	leave_some(true, 0x3ff);
	assert_int_equal(restart(), 0);
	r = rig.setup.inflight;
	r->free_head = 500;
	rig_add(&rig, 1, 0);
	front_ring_publish(&rig.ring);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 0);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_INFLIGHT);
	rig_fini(&rig);

	leave_some(true, 0x3ff);
	assert_int_equal(restart(), 0);
	r = rig.setup.inflight;
	rig_add(&rig, 1, 0);
	front_ring_publish(&rig.ring);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
	for (unsigned i = 0; i < 16; i++)
		r->desc[i].last = 500;
	virtqueue_push(&rig.queue, chain[0], 0);
	virtqueue_publish(&rig.queue);
	assert_int_equal(rig_get(&rig, &written), 0);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_INFLIGHT);
	rig_fini(&rig);
}

/* Whatever bytes lie there: an answer, no crash, no endless loop; and what starts can be run. */
static void random_bytes_are_survived(void **state)
{
	uint64_t s = 88172645463325252ull;
	unsigned started = 0;

	for (unsigned round = 0; round < 20000; round++) {
		struct virtq_chain *chain[16];
		uint8_t *bytes;
		unsigned n;

		if (round % 2000 == 0)
			leave_some(round / 2000 % 2, 0x155);
		bytes = rig.setup.inflight;
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			s ^= s << 13;
			s ^= s >> 7;
			s ^= s << 17;
			bytes[s % rig.setup.inflight_bytes] = s >> 40;
		}
		if (!restart()) {
			started++;
			n = virtqueue_take(&rig.queue, chain, 16);
			for (unsigned i = 0; i < n; i++)
				virtqueue_push(&rig.queue, chain[i], 0);
			virtqueue_publish(&rig.queue);
			virtqueue_stop(&rig.queue);
		}
		if (round % 2000 == 1999)
			rig_fini(&rig);
		else if (round % 20 == 19) {
			rig_fini(&rig);
			leave_some(round / 2000 % 2, 0x155);
		}
	}
	printf("%u of 20000 started\n", started);
	assert_true(started > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_follow_the_specification),
		cmocka_unit_test(requests_come_back_in_order),
		cmocka_unit_test(small_regions_are_refused),
		cmocka_unit_test(split_nonsense_is_refused),
		cmocka_unit_test(packed_nonsense_is_refused),
		cmocka_unit_test(changes_while_running),
		cmocka_unit_test(random_bytes_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
