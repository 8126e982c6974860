/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one wrapper that every call into a store crosses: finds the store by its type, makes and frees the objects,
 * asserts what callers have promised, counts. Pools and disks on the control thread, channels on their workers.
 */
#include "store/store_internal.h"

#include <assert.h>
#include <errno.h>

static const struct store_ops *const stores[] = {
	&store_null_ops,
	&store_ram_ops,
	&store_model_ops,
	&store_file_ops,
};

static const struct store_ops *find_store(const char *type)
{
	for (unsigned i = 0; i < ARRAY_SIZE(stores); i++)
		if (!strcmp(stores[i]->type, type))
			return stores[i];
	return NULL;
}

/* Zeroed, and apart from other objects' cache lines: a channel is one worker's. */
static void *object_new(size_t size, size_t size_min)
{
	size_t rounded = (max_u64(size, size_min) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1);
	void *p = aligned_alloc(CACHE_LINE, rounded);

	if (p)
		memset(p, 0, rounded);
	return p;
}

int store_pool_create(const struct store_pool_options *options, struct store_pool **ret)
{
	const struct store_ops *ops = find_store(options->type);
	struct store_pool *p;
	int r = 0;

	if (!ops)
		return -EINVAL;
	p = object_new(ops->pool_size, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->ops = ops;
	p->depth = options->depth ? options->depth : 128;
	p->name = strdup(options->name);
	if (!p->name)
		r = -ENOMEM;
	else if (ops->pool_open)
		r = ops->pool_open(p, options);
	if (r < 0) {
		free(p->name);
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void store_pool_destroy(struct store_pool *p)
{
	if (!p)
		return;
	if (p->ops->pool_close)
		p->ops->pool_close(p);
	free(p->name);
	free(p);
}

int store_disk_open(struct store_pool *p, const struct store_disk_options *options, struct store_disk **ret)
{
	struct store_disk *d;
	int r;

	if (options->size_bytes % STORE_SECTOR)
		return -EINVAL;
	d = object_new(p->ops->disk_size, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->pool = p;
	d->read_only = options->read_only;
	d->limits = (struct store_limits){ .block_size = STORE_SECTOR, .physical_block_size = 4096,
					   .discard = true, .write_zeroes = true };
	r = p->ops->disk_open(d, options);
	if (r < 0) {
		free(d);
		return r;
	}
	assert(d->size_bytes > 0 && d->size_bytes % STORE_SECTOR == 0);
	*ret = d;
	return 0;
}

void store_disk_unmake(struct store_disk *d)
{
	if (d && d->pool->ops->disk_unmake)
		d->pool->ops->disk_unmake(d);
}

void store_disk_close(struct store_disk *d)
{
	if (!d)
		return;
	if (d->pool->ops->disk_close)
		d->pool->ops->disk_close(d);
	free(d);
}

int store_disk_may_resize(const struct store_disk *d, uint64_t size_bytes)
{
	if (size_bytes == 0 || size_bytes % max_u64(d->limits.block_size, STORE_SECTOR))
		return -EINVAL;
	if (d->read_only)
		return -EROFS;
	return d->pool->ops->disk_resize ? 0 : -EOPNOTSUPP;
}

int store_disk_resize(struct store_disk *d, uint64_t size_bytes)
{
	int r = store_disk_may_resize(d, size_bytes);

	return r < 0 ? r : d->pool->ops->disk_resize(d, size_bytes);
}

int store_disk_lock(struct store_disk *d)
{
	return d->pool->ops->disk_lock ? d->pool->ops->disk_lock(d) : 0;
}

void store_disk_unlock(struct store_disk *d)
{
	if (d->pool->ops->disk_unlock)
		d->pool->ops->disk_unlock(d);
}

int store_channel_open(struct store_pool *p, struct worker *w, struct store_counters *counters,
		       struct store_channel **ret)
{
	struct store_channel *c;
	int r;

	assert(worker_is_current(w));
	c = object_new(p->ops->channel_size, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->pool = p;
	c->worker = w;
	c->counters = counters;
	r = p->ops->channel_open ? p->ops->channel_open(c) : 0;
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void store_channel_close(struct store_channel *c)
{
	if (!c)
		return;
	assert(worker_is_current(c->worker));
	assert(c->in_flight == 0);
	if (c->pool->ops->channel_close)
		c->pool->ops->channel_close(c);
	free(c);
}

void store_check_request(const struct store_channel *c, const struct store_io *io)
{
	assert(worker_is_current(c->worker));
	assert(io->disk->pool == c->pool);
	assert(io->op < STORE_OPS && io->done);
	assert(io->offset_bytes % STORE_SECTOR == 0 && io->length_bytes % STORE_SECTOR == 0);
	assert(io->offset_bytes + io->length_bytes >= io->offset_bytes);
	assert(!io->disk->read_only || io->op == STORE_READ || io->op == STORE_FLUSH);
	assert((io->op != STORE_READ && io->op != STORE_WRITE) || (io->iov && io->iovcnt));
	(void)c;
	(void)io;
}
