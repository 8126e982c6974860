/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From one policy to the next.
 *
 *   prepare  make every new pool, hand out promises, open every new disk's image, bind new sockets that no outgoing disk has,
 *            grow images, look whether others can shrink. Anything that fails here undoes what was done: nothing has changed.
 *   commit   end outgoing disks, shrink images, tell guests of new sizes, serve what could not be bound before, end empty
 *            pools.
 *
 * Ending a disk waits for its front-end's requests, so a change is an object that lives until its last continuation.
 */
#include "host/host_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct host_change {
	struct list node;
	struct host *host;
	struct policy *policy;
	unsigned waits;
	void (*next)(struct host_change *); /* when all waits are over */
	struct host_error error;
	host_done done;
	void *arg;
};

static void prepare(struct host_change *c);

static void wait_add(void *arg)
{
	struct host_change *c = arg;

	c->waits++;
}

static void wait_over(void *arg)
{
	struct host_change *c = arg;

	if (--c->waits == 0)
		c->next(c);
}

static void promise_given(void *arg, int result)
{
	struct host_change *c = arg;

	if (result < 0 && c->error.err == 0)
		host_error_set(&c->error, result, "promises could not be handed to the scheduler: %s", strerror(-result));
	wait_over(c);
}

static void finish(struct host_change *c)
{
	struct host *h = c->host;

	/* Before the next one begins, which may be over at once. What `done` applies waits behind us. */
	c->done(c->arg, &c->error);
	list_remove(&c->node);
	free(c);
	if (!list_empty(&h->changes))
		prepare(list_first(&h->changes, struct host_change, node));
}

/* --- prepare --- */

static int make_pools(struct host_change *c)
{
	for (size_t i = 0; i < c->policy->n_pools; i++) {
		struct host_pool *pool;
		int err;

		if (host_pool_find(c->host, c->policy->pools[i].name))
			continue;
		err = host_pool_make(c->host, c->policy, &c->policy->pools[i], &pool, &c->error);
		if (err < 0)
			return err;
		pool->fresh = true;
	}
	return 0;
}

static void hand_out_promises(struct host_change *c)
{
	struct host_pool *pool;

	list_for_each(pool, &c->host->pools, node)
		host_pool_promise(pool, c->policy, wait_add, (struct blk_gate_done){ promise_given, c });
}

static bool socket_is_leaving(const struct host_change *c, const char *socket)
{
	struct host_disk *d;

	list_for_each(d, &c->host->disks, node)
		if (!d->fresh && !d->removing && strcmp(d->socket, socket) == 0 && !host_disk_stays(d, c->policy))
			return true;
	return false;
}

/* A disk of the new policy that does not run yet, or not like this. */
static int make_disk(struct host_change *c, const struct policy_vm *vm, const struct policy_disk *spec)
{
	struct host_disk *now = host_disk_find(c->host, vm->name, spec->name), *d;
	struct host_pool *pool = host_pool_find(c->host, c->policy->pools[spec->pool].name);
	int err;

	if (now && host_disk_stays(now, c->policy))
		return 0;
	err = host_disk_make(c->host, c->policy, vm, spec, pool, &d, &c->error);
	if (err < 0)
		return err;
	d->fresh = true;
	if (socket_is_leaving(c, spec->socket))
		return 0;
	return host_disk_serve(d, c->policy, spec, &c->error);
}

static int make_disks(struct host_change *c)
{
	for (size_t v = 0; v < c->policy->n_vms; v++)
		for (size_t i = 0; i < c->policy->vms[v].n_disks; i++) {
			int err = make_disk(c, &c->policy->vms[v], &c->policy->vms[v].disks[i]);

			if (err < 0)
				return err;
		}
	return 0;
}

/*
 * An image that was there may be larger than its policy says; it is cut only when the policy's size has changed. One that is
 * smaller grows, also if its policy was changed while no daemon ran; what is only read stays as it is then. As when it was
 * opened, a disk has whole blocks.
 */
static uint64_t size_wanted(const struct host_change *c, const struct host_disk *d)
{
	const struct policy_disk *was = host_spec_find(c->host->policy, d->vm, d->name);
	const struct policy_disk *spec = host_spec_find(c->policy, d->vm, d->name);
	uint64_t now = load_relaxed(&d->store->size_bytes), will = spec->size_bytes - spec->size_bytes % d->store->limits.block_size;

	if (was && will && spec->size_bytes != was->size_bytes)
		return will;
	return will > now && !d->store->read_only ? will : now;
}

static void resize_failed(struct host_change *c, const struct host_disk *d, uint64_t size_bytes, int err)
{
	host_error_set(&c->error, err, "disk %s/%s: resizing to %llu bytes: %s", d->vm, d->name, (unsigned long long)size_bytes,
		       strerror(-err));
}

static bool resize_store(struct host_change *c, struct host_disk *d, uint64_t size_bytes)
{
	int err = store_disk_resize(d->store, size_bytes);

	if (err < 0)
		resize_failed(c, d, size_bytes, err);
	return err == 0;
}

/* Part of the new policy: of those that are not, another policy says the size. */
static bool will_run(const struct host_change *c, const struct host_disk *d)
{
	return d->fresh || (!d->removing && host_disk_stays(d, c->policy));
}

/* No guest sees it before commit. Unlike shrinking it can be taken back; so of that, only whether it can be done. */
static void grow_disks(struct host_change *c)
{
	struct host_disk *d;

	list_for_each(d, &c->host->disks, node) {
		uint64_t now = load_relaxed(&d->store->size_bytes), wanted = will_run(c, d) ? size_wanted(c, d) : now;
		int err = wanted < now ? store_disk_may_resize(d->store, wanted) : 0;

		if (err < 0)
			resize_failed(c, d, wanted, err);
		else if (wanted > now && resize_store(c, d, wanted))
			d->grown_from_bytes = now;
		if (c->error.err < 0)
			return;
	}
}

/* VMs that have a disk on the pool in one policy and none in the other. */
static void forget_vms(struct host_change *c, struct host_pool *pool, const struct policy *of, const struct policy *not_of);

/* --- undo --- */

static void failed(struct host_change *c)
{
	policy_free(c->policy);
	finish(c);
}

static void undo_pools(struct host_change *c)
{
	struct host_pool *pool, *tmp;

	c->waits = 1;
	c->next = failed;
	list_for_each_safe(pool, tmp, &c->host->pools, node) {
		if (pool->fresh) {
			wait_add(c);
			host_pool_end(pool, wait_over, c);
		} else if (c->host->policy) {
			forget_vms(c, pool, c->policy, c->host->policy);
			host_pool_promise(pool, c->host->policy, wait_add, (struct blk_gate_done){ promise_given, c });
		}
	}
	wait_over(c);
}

static void undo(struct host_change *c)
{
	struct host_disk *d, *tmp;

	c->waits++;
	c->next = undo_pools;
	list_for_each_safe(d, tmp, &c->host->disks, node) {
		if (d->grown_from_bytes)
			(void)store_disk_resize(d->store, d->grown_from_bytes);
		d->grown_from_bytes = 0;
		if (d->fresh) {
			wait_add(c);
			host_disk_end(d, wait_over, c);
		}
	}
	wait_over(c);
}

/* --- commit --- */

static void settle(struct host_change *c)
{
	struct host_disk *d;
	struct host_pool *pool;

	list_for_each(d, &c->host->disks, node)
		d->fresh = false;
	list_for_each(pool, &c->host->pools, node)
		pool->fresh = false;
	finish(c);
}

static bool vm_has_disk_there(const struct policy *p, const char *vm, const char *pool)
{
	int v = policy_vm_find(p, vm);

	for (size_t i = 0; v >= 0 && i < p->vms[v].n_disks; i++)
		if (strcmp(p->pools[p->vms[v].disks[i].pool].name, pool) == 0)
			return true;
	return false;
}

static void forget_vms(struct host_change *c, struct host_pool *pool, const struct policy *of, const struct policy *not_of)
{
	for (size_t v = 0; pool->blk->gate && v < of->n_vms; v++)
		if (vm_has_disk_there(of, of->vms[v].name, pool->name) &&
		    !vm_has_disk_there(not_of, of->vms[v].name, pool->name)) {
			wait_add(c);
			blk_gate_remove_vm(pool->blk->gate, of->vms[v].name, (struct blk_gate_done){ promise_given, c });
		}
}

/* VMs that have left a pool leave its gate; pools that have left the policy end. */
static void clear_away(struct host_change *c, const struct policy *was)
{
	struct host_pool *pool, *tmp;

	c->waits = 1;
	c->next = settle;
	list_for_each_safe(pool, tmp, &c->host->pools, node) {
		if (policy_pool_find(c->policy, pool->name) < 0) {
			wait_add(c);
			host_pool_end(pool, wait_over, c);
		} else if (was) {
			forget_vms(c, pool, was, c->policy);
		}
	}
}

static void serve_late(struct host_change *c)
{
	struct host_disk *d;

	list_for_each(d, &c->host->disks, node) {
		struct host_error e = { 0 };

		if (d->server)
			continue;
		/* The old owner of the socket is gone; if it cannot be bound all the same, the disk stays without one. */
		if (host_disk_serve(d, c->policy, host_spec_find(c->policy, d->vm, d->name), &e) < 0 && c->error.err == 0)
			c->error = e;
	}
}

static void resize_disk(struct host_change *c, struct host_disk *d)
{
	uint64_t wanted = size_wanted(c, d);
	bool shrinks = wanted < load_relaxed(&d->store->size_bytes);

	if (!d->grown_from_bytes && !(shrinks && resize_store(c, d, wanted)))
		return;
	d->grown_from_bytes = 0;
	blk_disk_resized(d->blk);
	if (d->server && vhost_server_session(d->server))
		vhost_session_config_changed(vhost_server_session(d->server));
}

static void outgoing_gone(struct host_change *c)
{
	struct policy *was = c->host->policy;
	struct host_disk *d;

	/* Nobody writes any more where an image made anew is cut. */
	list_for_each(d, &c->host->disks, node)
		if (d->fresh)
			resize_disk(c, d);
	serve_late(c);
	clear_away(c, was);
	c->host->policy = c->policy;
	policy_free(was);
	wait_over(c);
}

static void commit(struct host_change *c)
{
	struct host_disk *d, *tmp;

	c->waits++;
	c->next = outgoing_gone;
	list_for_each_safe(d, tmp, &c->host->disks, node) {
		if (d->fresh || d->removing)
			continue;
		if (host_disk_stays(d, c->policy)) {
			/* Its VM may have joined or left a group; what runs moves at the next look. */
			d->blk->own = host_worker_of(c->host, c->policy, d->vm);
			resize_disk(c, d);
			continue;
		}
		wait_add(c);
		host_disk_end(d, wait_over, c);
	}
	wait_over(c);
}

/* Promises may have been refused meanwhile. */
static void prepared(struct host_change *c)
{
	if (c->error.err < 0)
		undo(c);
	else
		commit(c);
}

static void prepare(struct host_change *c)
{
	int err = host_check_change(c->host, c->policy, &c->error);

	if (err == 0)
		err = make_pools(c);
	if (err < 0) {
		undo(c);
		return;
	}
	/* Promises first: a front-end may be there the moment its socket is. */
	c->waits = 1;
	hand_out_promises(c);
	if (make_disks(c) == 0)
		grow_disks(c);
	c->next = prepared;
	wait_over(c);
}

void host_apply(struct host *h, struct policy *policy, host_done done, void *arg)
{
	struct host_change *c = calloc(1, sizeof(*c));
	struct host_error e = { 0 };
	bool first = list_empty(&h->changes);

	if (!c) {
		policy_free(policy);
		host_error_set(&e, -ENOMEM, "out of memory");
		done(arg, &e);
		return;
	}
	c->host = h;
	c->policy = policy;
	c->done = done;
	c->arg = arg;
	list_append(&h->changes, &c->node);
	if (first)
		prepare(c);
}
