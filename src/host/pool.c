/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools: from the policy's words to a store and, with `slo: on`, a gate.
 */
#include "host/host_internal.h"

#include <errno.h>
#include <string.h>

static struct store_pool_options store_options(const struct policy_pool *p)
{
	return (struct store_pool_options){
		.name = p->name,
		.type = policy_pool_type_name(p->type),
		.directory = p->directory,
		.depth = (unsigned)p->depth,
		.channels = (unsigned)p->channels,
		.read_latency_ns = p->read_latency_ns,
		.write_latency_ns = p->write_latency_ns,
		.flush_latency_ns = p->flush_latency_ns,
		.byte_time_ps = p->byte_time_ps,
		.huge_pages = p->huge_pages,
	};
}

/*
 * An owner is exact and costs a note each way for queues on other workers, so it is the choice up to what one worker decides
 * with ease. A slice needs to know what the pool can do.
 */
#define OWNER_IOPS_MAX 50000u

static bool is_sliced(const struct host *h, const struct policy_pool *p)
{
	if (p->schedule == POLICY_SCHEDULE_AUTO)
		return h->team.shared > 1 && p->type != POLICY_POOL_MODEL && p->capacity.milli_iops / 1000 > OWNER_IOPS_MAX;
	return p->schedule == POLICY_SCHEDULE_SLICED;
}

/*
 * A model's times are written down: nothing is learned, so that what a busy host adds to a few first requests does not become
 * their price.
 */
static void model_cost(const struct policy_pool *p, struct slo_cost_model *ret)
{
	static const uint64_t bytes[] = { 4096, 128 << 10 };

	memset(ret, 0, sizeof(*ret));
	for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++) {
		uint64_t move_ns = bytes[i] * p->byte_time_ps / 1000;

		slo_cost_know(ret, SLO_READ, bytes[i], p->read_latency_ns + move_ns);
		slo_cost_know(ret, SLO_WRITE, bytes[i], p->write_latency_ns + move_ns);
		slo_cost_know(ret, SLO_DISCARD, bytes[i], p->write_latency_ns);
		slo_cost_know(ret, SLO_WRITE_ZEROES, bytes[i], p->write_latency_ns);
		slo_cost_know(ret, SLO_FLUSH, bytes[i], p->flush_latency_ns);
	}
}

static int make_gate(struct host *h, const struct policy *policy, const struct policy_pool *p, struct host_pool *pool)
{
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_cost_model cost;

	o.depth = (unsigned)p->depth;
	o.split_bytes = p->split_bytes;
	/* A model's device does one thing per channel: more in flight only waits where the scheduler cannot order it. */
	if (p->type == POLICY_POOL_MODEL && p->channels < p->depth)
		o.depth = (unsigned)p->channels;
	if (p->type == POLICY_POOL_MODEL) {
		model_cost(p, &cost);
		o.cost_frozen = true;
		o.cost = &cost;
	} else if (host_state_load(policy, p->name, &cost) == 0) {
		o.cost = &cost;
	}
	if (is_sliced(h, p))
		return blk_gate_create_sliced(&o, &h->team, p->capacity.milli_iops / 1000, &pool->blk->gate);
	pool->owner = h->pools_made % h->team.shared;
	return blk_gate_create(&o, &h->team, pool->owner, &pool->blk->gate);
}

int host_pool_make(struct host *h, const struct policy *policy, const struct policy_pool *p, struct host_pool **ret, struct host_error *e)
{
	struct store_pool_options options = store_options(p);
	struct host_pool *pool = calloc(1, sizeof(*pool));
	void *blk = NULL;
	int err = -ENOMEM;

	if (!pool || posix_memalign(&blk, CACHE_LINE, sizeof(struct blk_pool)))
		goto fail;
	pool->blk = memset(blk, 0, sizeof(struct blk_pool));
	memcpy(pool->name, p->name, sizeof(pool->name));
	err = store_pool_create(&options, &pool->blk->store);
	if (err == 0 && p->slo)
		err = make_gate(h, policy, p, pool);
	if (err < 0)
		goto fail;
	h->pools_made++;
	list_append(&h->pools, &pool->node);
	*ret = pool;
	return 0;
fail:
	host_error_set(e, err, "pool %s: %s%s%s", p->name, p->directory ? p->directory : "", p->directory ? ": " : "",
		       strerror(-err));
	if (pool && pool->blk && pool->blk->store)
		store_pool_destroy(pool->blk->store);
	free(blk);
	free(pool);
	return err;
}

static void gate_ended(void *arg, int result)
{
	struct host_pool *pool = arg;
	void (*gone)(void *) = pool->gone;
	void *gone_arg = pool->gone_arg;

	(void)result;
	store_pool_destroy(pool->blk->store);
	free(pool->blk);
	free(pool);
	gone(gone_arg);
}

static void end_now(struct host_pool *pool)
{
	if (pool->blk->gate)
		blk_gate_destroy(pool->blk->gate, (struct blk_gate_done){ gate_ended, pool });
	else
		gate_ended(pool, 0);
}

void host_pool_end(struct host_pool *pool, void (*gone)(void *arg), void *arg)
{
	pool->gone = gone;
	pool->gone_arg = arg;
	store_relaxed(&pool->ending, true);
	list_remove(&pool->node);
	if (!pool->held)
		end_now(pool);
}

int host_pool_hold(struct host_pool *pool)
{
	if (pool->held)
		return -EBUSY;
	pool->held = true;
	return 0;
}

void host_pool_release(struct host_pool *pool)
{
	pool->held = false;
	if (pool->ending)
		end_now(pool);
}

/* --- promises --- */

static struct slo_rate rate_of(const struct policy_rate *r)
{
	return (struct slo_rate){ .milli_iops = r->milli_iops, .bandwidth = r->bandwidth_bytes };
}

static struct slo_promise promise_of(const struct policy_promise *p)
{
	return (struct slo_promise){
		.shares = (uint32_t)p->shares,
		.reservation = rate_of(&p->reservation),
		.limit = rate_of(&p->limit),
		.burst_milli_requests = p->burst.milli_iops,
		.burst_bytes = p->burst.bandwidth_bytes,
		.p50_ns = p->latency.p50_ns,
		.p99_ns = p->latency.p99_ns,
	};
}

static int gate_vm_of(const struct policy_vm *vm, struct blk_gate_vm *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->name, vm->name, sizeof(ret->name));
	ret->promise = promise_of(&vm->promise);
	ret->n_classes = (unsigned)vm->n_classes;
	for (size_t c = 0; c < vm->n_classes; c++) {
		memcpy(ret->class[c].name, vm->classes[c].name, sizeof(ret->class[c].name));
		ret->class[c].promise = promise_of(&vm->classes[c].promise);
	}
	return policy_class_map_build(vm, &ret->map);
}

static bool has_disk_there(const struct policy *p, const struct policy_vm *vm, const char *pool)
{
	for (size_t i = 0; i < vm->n_disks; i++)
		if (strcmp(p->pools[vm->disks[i].pool].name, pool) == 0)
			return true;
	return false;
}

void host_pool_promise(struct host_pool *pool, const struct policy *policy, void (*began)(void *arg),
		       struct blk_gate_done each)
{
	struct blk_gate_vm *spec = malloc(sizeof(*spec));
	int at = policy_pool_find(policy, pool->name);

	if (pool->blk->gate && at >= 0)
		blk_gate_set_capacity(pool->blk->gate, policy->pools[at].capacity.milli_iops / 1000);
	for (size_t v = 0; pool->blk->gate && v < policy->n_vms; v++) {
		const struct policy_vm *vm = &policy->vms[v];
		int err;

		if (!has_disk_there(policy, vm, pool->name))
			continue;
		began(each.arg);
		err = spec ? gate_vm_of(vm, spec) : -ENOMEM;
		if (err < 0)
			each.fn(each.arg, err);
		else
			blk_gate_set_vm(pool->blk->gate, spec, each);
	}
	free(spec);
}
