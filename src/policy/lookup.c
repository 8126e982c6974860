/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding objects by name, and the class of a request.
 */
#include "policy/policy.h"

#include "base/clock.h"

#include <string.h>

#define FIND(array, n, wanted)                                  \
	do {                                                    \
		for (size_t i_ = 0; i_ < (n); i_++)             \
			if (strcmp((array)[i_].name, wanted) == 0) \
				return (int)i_;                 \
		return -1;                                      \
	} while (0)

int policy_pool_find(const struct policy *p, const char *name)
{
	FIND(p->pools, p->n_pools, name);
}

int policy_vm_find(const struct policy *p, const char *name)
{
	FIND(p->vms, p->n_vms, name);
}

int policy_disk_find(const struct policy_vm *vm, const char *name)
{
	FIND(vm->disks, vm->n_disks, name);
}

int policy_class_find(const struct policy_vm *vm, const char *name)
{
	FIND(vm->classes, vm->n_classes, name);
}

/* Whole I/O classes first, so that single levels overwrite them. */
static void map_selectors(struct policy_class_map *m, enum policy_selector_kind kind, uint8_t class,
			  const struct policy_class *c)
{
	for (size_t i = 0; i < c->n_selectors; i++) {
		const struct policy_selector *s = &c->selectors[i];

		if (s->kind != kind)
			continue;
		if (kind == POLICY_SELECT_CLASS)
			memset(m->level[s->ioclass], class, sizeof(m->level[0]));
		else if (kind == POLICY_SELECT_LEVEL)
			m->level[s->ioclass][s->level] = class;
		else
			m->hint[s->hint] = class;
	}
}

void policy_class_map_build(const struct policy_vm *vm, struct policy_class_map *ret)
{
	ret->default_class = (uint8_t)vm->default_class;
	memset(ret->level, ret->default_class, sizeof(ret->level));
	memset(ret->hint, POLICY_CLASS_NONE, sizeof(ret->hint));
	for (enum policy_selector_kind kind = POLICY_SELECT_CLASS; kind <= POLICY_SELECT_HINT; kind++)
		for (size_t i = 0; i < vm->n_classes; i++)
			map_selectors(ret, kind, (uint8_t)i, &vm->classes[i]);
}

unsigned policy_class_of(const struct policy_vm *vm, uint16_t ioprio)
{
	struct policy_class_map map;

	policy_class_map_build(vm, &map);
	return policy_class_map_find(&map, ioprio);
}

/*
 * A model's own times, for its faster direction: what is refused because of this is impossible whatever the guests do.
 * iops: of 4 KiB; bandwidth: of the largest request that counts as one.
 */
static uint64_t model_rate(const struct policy_pool *pool, uint64_t request_bytes, uint64_t multiply)
{
	uint64_t latency_ns = min_u64(pool->read_latency_ns, pool->write_latency_ns);
	unsigned __int128 ps =
		(unsigned __int128)latency_ns * 1000 + (unsigned __int128)request_bytes * pool->byte_time_ps;
	unsigned __int128 rate;

	if (ps == 0)
		return 0;
	rate = (unsigned __int128)pool->channels * multiply * NSEC_PER_SEC * 1000 / ps;
	return rate > UINT64_MAX ? UINT64_MAX : (uint64_t)rate;
}

struct policy_rate policy_pool_capacity(const struct policy_pool *pool)
{
	struct policy_rate c = pool->capacity;

	if (pool->type != POLICY_POOL_MODEL)
		return c;
	if (c.iops == 0)
		c.iops = model_rate(pool, 4096, 1);
	if (c.bandwidth_bytes == 0)
		c.bandwidth_bytes = model_rate(pool, pool->split_bytes, pool->split_bytes);
	return c;
}
