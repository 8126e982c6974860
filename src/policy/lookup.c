/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding objects by name, and the class of a request.
 */
#include "policy/policy.h"

#include "base/clock.h"

#include <errno.h>
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

static struct slo_selector selector_of(const struct policy_selector *s, uint16_t class)
{
	static const enum slo_selector_kind kinds[] = {
		[POLICY_SELECT_CLASS] = SLO_SELECT_CLASS,
		[POLICY_SELECT_LEVEL] = SLO_SELECT_LEVEL,
		[POLICY_SELECT_HINT] = SLO_SELECT_HINT,
	};

	return (struct slo_selector){ kinds[s->kind], (enum slo_ioclass)s->ioclass, s->level, s->hint, class };
}

int policy_class_map_build(const struct policy_vm *vm, struct slo_classmap *ret)
{
	struct slo_selector *s;
	size_t n = 0, i = 0;
	int r;

	for (size_t c = 0; c < vm->n_classes; c++)
		n += vm->classes[c].n_selectors;
	s = calloc(n + 1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	for (size_t c = 0; c < vm->n_classes; c++)
		for (size_t k = 0; k < vm->classes[c].n_selectors; k++)
			s[i++] = selector_of(&vm->classes[c].selectors[k], (uint16_t)c);
	r = slo_classmap_build(ret, s, n, (uint16_t)vm->default_class, NULL);
	free(s);
	return r;
}

unsigned policy_class_of(const struct policy_vm *vm, uint16_t ioprio)
{
	struct slo_classmap map;

	if (policy_class_map_build(vm, &map) < 0)
		return (unsigned)vm->default_class;
	return slo_classmap_lookup(&map, ioprio);
}

/*
 * A model's own times, for its faster direction: what is refused because of this is impossible whatever the guests do.
 * Requests: of 4 KiB; bandwidth: of the largest request that counts as one.
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
	if (c.milli_iops == 0)
		c.milli_iops = model_rate(pool, 4096, 1000);
	if (c.bandwidth_bytes == 0)
		c.bandwidth_bytes = model_rate(pool, pool->split_bytes, pool->split_bytes);
	return c;
}

int policy_cogroup_of(const struct policy *p, const char *vm)
{
	for (size_t i = 0; i < p->n_cogroups; i++)
		for (size_t j = 0; j < p->cogroups[i].n_vms; j++)
			if (strcmp(p->cogroups[i].vm_names[j], vm) == 0)
				return (int)i;
	return -1;
}
