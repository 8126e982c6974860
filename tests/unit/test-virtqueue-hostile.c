/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: whatever a driver writes into its rings, the queue is marked broken with the right reason at worst,
 * takes what was good before, and keeps giving back what it holds; rings outside memory and memory that goes away are
 * survived.
 */
#include "virtqueue_rig.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>

#define SIZE 256u

static struct rig rig;

static struct vring_desc *split_desc(void)
{
	return rig.ring.desc;
}

static struct vring_packed_desc *packed_desc(void)
{
	return rig.ring.desc;
}

static void begin(bool packed, bool indirect)
{
	rig_init(&rig, &(struct rig_mode){ .size = SIZE, .packed = packed, .event_idx = true, .indirect = indirect });
}

static void split_desc_set(struct vring_desc *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	*d = (struct vring_desc){ .addr = addr, .len = len, .flags = flags, .next = next };
}

static void packed_desc_set(struct vring_packed_desc *d, uint64_t addr, uint32_t len, uint16_t flags, uint16_t id)
{
	flags |= 1 << VRING_PACKED_DESC_F_AVAIL;
	*d = (struct vring_packed_desc){ .addr = addr, .len = len, .flags = flags, .id = id };
}

/* Offers head in slot 0. */
static void split_offer(uint16_t head)
{
	struct vring_avail *a = rig.ring.driver;

	a->ring[a->idx % SIZE] = head;
	store_release(&a->idx, a->idx + 1);
}

static void ends_with(enum virtqueue_fault why)
{
	struct virtq_chain *chain[4];

	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 0);
	assert_int_equal(rig.queue.broken, why);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 0);
	assert_false(virtqueue_pending(&rig.queue));
	assert_false(virtqueue_kicks_on(&rig.queue));
	virtqueue_kicks_off(&rig.queue);
	assert_false(virtqueue_publish(&rig.queue));
	rig_fini(&rig);
}

static void split_index_jumps(void **state)
{
	begin(false, false);
	((struct vring_avail *)rig.ring.driver)->idx = SIZE + 1;
	ends_with(VIRTQUEUE_AVAIL_INDEX);
	begin(false, false);
	((struct vring_avail *)rig.ring.driver)->idx = 0xffff;
	ends_with(VIRTQUEUE_AVAIL_INDEX);
}

static void split_heads(void **state)
{
	struct virtq_chain *chain[4];

	begin(false, false);
	split_offer(SIZE);
	ends_with(VIRTQUEUE_HEAD);
	begin(false, false);
	split_offer(0xffff);
	ends_with(VIRTQUEUE_HEAD);
	/* One good, then the same again while it is in flight. */
	begin(false, false);
	split_desc_set(&split_desc()[3], 0, 1, 0, 0);
	split_offer(3);
	split_offer(3);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_HEAD);
	virtqueue_push(&rig.queue, chain[0], 0);
	assert_true(virtqueue_publish(&rig.queue));
	assert_int_equal(((struct vring_used *)rig.ring.device)->idx, 1);
	rig_fini(&rig);
	/* Offered again after push, before it was published. */
	begin(false, false);
	split_desc_set(&split_desc()[3], 0, 1, 0, 0);
	split_offer(3);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
	virtqueue_push(&rig.queue, chain[0], 0);
	split_offer(3);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 0);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_HEAD);
	rig_fini(&rig);
	begin(false, false);
	split_desc_set(&split_desc()[0], 0, 1, VRING_DESC_F_NEXT, SIZE);
	split_offer(0);
	ends_with(VIRTQUEUE_HEAD);
}

static void split_loops(void **state)
{
	struct virtq_chain *chain[1];

	begin(false, false);
	split_desc_set(&split_desc()[0], 0, 1, VRING_DESC_F_NEXT, 0);
	split_offer(0);
	ends_with(VIRTQUEUE_CHAIN_LOOP);
	begin(false, false);
	split_desc_set(&split_desc()[0], 0, 1, VRING_DESC_F_NEXT, 1);
	split_desc_set(&split_desc()[1], 0, 1, VRING_DESC_F_NEXT, 0);
	split_offer(0);
	ends_with(VIRTQUEUE_CHAIN_LOOP);
	/* The cap is exact. */
	for (unsigned n = VIRTQUEUE_CHAIN_MAX; n <= VIRTQUEUE_CHAIN_MAX + 1; n++) {
		begin(false, false);
		for (unsigned i = 0; i < n; i++)
			split_desc_set(&split_desc()[i], i, i, i + 1 < n ? VRING_DESC_F_NEXT : 0, i + 1);
		split_offer(0);
		if (n > VIRTQUEUE_CHAIN_MAX) {
			ends_with(VIRTQUEUE_CHAIN_LOOP);
			continue;
		}
		assert_int_equal(virtqueue_take(&rig.queue, chain, 1), 1);
		assert_int_equal(chain[0]->n_seg, n);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(chain[0]->seg[i].len, i);
		rig_fini(&rig);
	}
}

static void order_and_lengths(void **state)
{
	begin(false, false);
	split_desc_set(&split_desc()[0], 0, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	split_desc_set(&split_desc()[1], 0, 1, 0, 0);
	split_offer(0);
	ends_with(VIRTQUEUE_ORDER);
	for (unsigned write = 0; write < 2; write++) {
		uint16_t flags = write ? VRING_DESC_F_WRITE : 0;

		begin(false, false);
		split_desc_set(&split_desc()[0], 0, 0x80000000, VRING_DESC_F_NEXT | flags, 1);
		split_desc_set(&split_desc()[1], 0, 0x80000000, flags, 0);
		split_offer(0);
		ends_with(VIRTQUEUE_LENGTH);
		begin(true, false);
		packed_desc_set(&packed_desc()[1], 0, 0x80000000, flags, 0);
		packed_desc_set(&packed_desc()[0], 0, 0x80000000, VRING_DESC_F_NEXT | flags, 0);
		ends_with(VIRTQUEUE_LENGTH);
	}
	begin(true, false);
	packed_desc_set(&packed_desc()[1], 0, 1, 0, 0);
	packed_desc_set(&packed_desc()[0], 0, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0);
	ends_with(VIRTQUEUE_ORDER);
}

/* A table of n descriptors behind the data's start, offered by slot 0. */
static void *table_offer(uint64_t addr, uint32_t len, uint16_t flags)
{
	flags |= VRING_DESC_F_INDIRECT;
	if (rig.setup.packed) {
		packed_desc_set(&packed_desc()[0], addr, len, flags, 0);
	} else {
		split_desc_set(&split_desc()[0], addr, len, flags, 1);
		split_offer(0);
	}
	return memmap_gpa(rig.map, addr, 1);
}

static void indirect_tables(void **state)
{
	for (unsigned packed = 0; packed < 2; packed++) {
		uint64_t end;
		struct vring_desc *t;

		begin(packed, false);
		table_offer(rig.data_gpa, 16, 0);
		ends_with(VIRTQUEUE_INDIRECT); /* not negotiated */
		begin(packed, true);
		table_offer(rig.data_gpa, 0, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		table_offer(rig.data_gpa, 24, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		table_offer(rig.data_gpa, 16, VRING_DESC_F_NEXT);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		table_offer(1ull << 60, 16, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		table_offer(UINT64_MAX - 7, 16, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		end = rig.memory.region[0].gpa + rig.memory.region[0].size;
		table_offer(end - 16, 32, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		begin(packed, true);
		table_offer(rig.data_gpa, 0xfffffff0, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		/* Indirect in indirect. */
		begin(packed, true);
		t = table_offer(rig.data_gpa, 16, 0);
		if (packed)
			((struct vring_packed_desc *)t)->flags = VRING_DESC_F_INDIRECT;
		else
			split_desc_set(t, rig.data_gpa, 16, VRING_DESC_F_INDIRECT, 0);
		ends_with(VIRTQUEUE_INDIRECT);
		/* A table longer than any chain may be. */
		begin(packed, true);
		t = table_offer(rig.data_gpa, (VIRTQUEUE_CHAIN_MAX + 1) * 16, 0);
		for (unsigned i = 0; i <= VIRTQUEUE_CHAIN_MAX; i++)
			if (packed)
				t[i] = (struct vring_desc){ 0 };
			else
				split_desc_set(&t[i], 0, 1, VRING_DESC_F_NEXT, i + 1);
		ends_with(VIRTQUEUE_CHAIN_LOOP);
	}
	/* A split table that points past its end, and one that loops. */
	begin(false, true);
	split_desc_set(table_offer(rig.data_gpa, 16, 0), 0, 1, VRING_DESC_F_NEXT, 1);
	ends_with(VIRTQUEUE_INDIRECT);
	begin(false, true);
	split_desc_set(table_offer(rig.data_gpa, 16, 0), 0, 1, VRING_DESC_F_NEXT, 0);
	ends_with(VIRTQUEUE_CHAIN_LOOP);
}

/* Allowed by VIRTIO 2.7.5.3.2: direct descriptors, then a table. And tables need no alignment. */
static void direct_then_indirect(void **state)
{
	struct virtq_chain *chain[1];
	struct vring_desc one = { .addr = 77, .len = 5, .flags = VRING_DESC_F_WRITE };

	begin(false, true);
	split_desc_set(&split_desc()[0], 11, 3, VRING_DESC_F_NEXT, 1);
	split_desc_set(&split_desc()[1], rig.data_gpa + 1, 16, VRING_DESC_F_INDIRECT, 0);
	memcpy(memmap_gpa(rig.map, rig.data_gpa + 1, 16), &one, sizeof(one));
	split_offer(0);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 1), 1);
	assert_int_equal(chain[0]->n_seg, 2);
	assert_int_equal(chain[0]->n_out, 1);
	assert_int_equal(chain[0]->seg[1].gpa, 77);
	rig_fini(&rig);
}

static void packed_ids(void **state)
{
	struct virtq_chain *chain[4];

	begin(true, false);
	packed_desc_set(&packed_desc()[0], 0, 1, 0, SIZE);
	ends_with(VIRTQUEUE_HEAD);
	begin(true, false);
	packed_desc_set(&packed_desc()[0], 0, 1, 0, 7);
	packed_desc_set(&packed_desc()[1], 0, 1, 0, 7);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_HEAD);
	rig_fini(&rig);
}

static void packed_loops(void **state)
{
	begin(true, false);
	for (unsigned i = 0; i < SIZE; i++)
		packed_desc_set(&packed_desc()[i], 0, 1, VRING_DESC_F_NEXT, i);
	ends_with(VIRTQUEUE_CHAIN_LOOP);
	/* In a ring shorter than the cap, the chain would run over itself. */
	rig_init(&rig, &(struct rig_mode){ .size = 5, .packed = true });
	for (unsigned i = 0; i < 5; i++)
		packed_desc_set(&packed_desc()[i], 0, 1, VRING_DESC_F_NEXT, i);
	ends_with(VIRTQUEUE_AVAIL_INDEX);
}

/* The driver makes slots available of which the device has not given back the chains. */
static void packed_overrun(void **state)
{
	struct virtq_chain *chain[8];
	unsigned n;

	rig_init(&rig, &(struct rig_mode){ .size = 4, .packed = true });
	for (unsigned i = 0; i < 4; i++)
		packed_desc_set(&packed_desc()[i], 0, 1, i & 1 ? 0 : VRING_DESC_F_NEXT, i);
	n = virtqueue_take(&rig.queue, chain, 8);
	assert_int_equal(n, 2);
	/* Next lap: ids 0 and 2 are free, the slots are not. */
	for (unsigned i = 0; i < 4; i++)
		packed_desc()[i] = (struct vring_packed_desc){ .len = 1, .id = i & 2,
							       .flags = 1 << VRING_PACKED_DESC_F_USED };
	ends_with(VIRTQUEUE_AVAIL_INDEX);
}

static void memory_goes_away(void **state)
{
	struct virtq_chain *chain[4];
	struct memmap *empty = NULL;

	for (unsigned packed = 0; packed < 2; packed++) {
		/* A memory table without the rings, with a chain in flight. */
		begin(packed, false);
		assert_int_equal(rig_add(&rig, 2, 5), 0);
		front_ring_publish(&rig.ring);
		assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
		assert_int_equal(virtqueue_remap(&rig.queue, rig.map), 0);
		assert_int_equal(memmap_create(NULL, 0, &empty), 0);
		assert_int_equal(virtqueue_remap(&rig.queue, empty), -EFAULT);
		memmap_put(rig.map);
		rig.map = empty;
		virtqueue_push(&rig.queue, chain[0], 1);
		ends_with(VIRTQUEUE_UNMAPPED);
		/* The file is truncated. */
		begin(packed, false);
		assert_int_equal(rig_add(&rig, 2, 5), 0);
		front_ring_publish(&rig.ring);
		assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
		assert_int_equal(ftruncate(rig.memory.fd, 0), 0);
		virtqueue_push(&rig.queue, chain[0], 1);
		virtqueue_publish(&rig.queue);
		assert_true(memmap_faulted(rig.map));
		ends_with(VIRTQUEUE_UNMAPPED);
	}
}

/* Another session's fault is looked into once and costs nothing else. */
static void other_memory_goes_away(void **state)
{
	struct rig other;
	struct virtq_chain *chain[4];

	begin(false, false);
	rig_init(&other, &(struct rig_mode){ .size = 4 });
	assert_int_equal(ftruncate(other.memory.fd, 0), 0);
	virtqueue_pending(&other.queue);
	assert_int_equal(virtqueue_take(&other.queue, chain, 4), 0);
	assert_int_equal(virtqueue_take(&other.queue, chain, 4), 0);
	assert_int_equal(other.queue.broken, VIRTQUEUE_UNMAPPED);
	assert_int_equal(rig_add(&rig, 2, 5), 0);
	front_ring_publish(&rig.ring);
	assert_int_equal(virtqueue_take(&rig.queue, chain, 4), 1);
	assert_int_equal(rig.queue.broken, VIRTQUEUE_OK);
	front_ring_fini(&other.ring);
	virtqueue_stop(&other.queue);
	memmap_put(other.map);
	front_memory_fini(&other.memory);
	rig_fini(&rig);
}

static void reasons_have_names(void **state)
{
	struct virtqueue q = { 0 };

	for (unsigned i = 0; i <= VIRTQUEUE_UNMAPPED; i++)
		assert_true(strlen(virtqueue_fault_text(i)) > 0);
	assert_non_null(virtqueue_fault_text(99));
	virtqueue_break(&q, VIRTQUEUE_ORDER);
	virtqueue_break(&q, VIRTQUEUE_HEAD);
	assert_int_equal(q.broken, VIRTQUEUE_ORDER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_index_jumps), cmocka_unit_test(split_heads),
		cmocka_unit_test(split_loops),	     cmocka_unit_test(order_and_lengths),
		cmocka_unit_test(indirect_tables),   cmocka_unit_test(direct_then_indirect),
		cmocka_unit_test(packed_ids),	     cmocka_unit_test(packed_loops),
		cmocka_unit_test(packed_overrun),    cmocka_unit_test(memory_goes_away),
		cmocka_unit_test(other_memory_goes_away), cmocka_unit_test(reasons_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
