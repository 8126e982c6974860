/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest sees of a disk (features, config space), and the session's orders to its queues. Control thread.
 */
#include "blk/disk.h"

#include "blk/place.h"
#include "vhost/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Linux takes seg_max for its scatter lists; header and status come on top and make VIRTQUEUE_CHAIN_MAX. */
#define SEG_MAX 126u
#define SIZE_MAX_BYTES (1u << 20)

static struct blk_disk *disk_of(struct vhost_device *v)
{
	return container_of(v, struct blk_disk, device);
}

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t disk_features(struct vhost_device *v)
{
	const struct blk_disk *d = disk_of(v);
	uint64_t f = BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) |
		     BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) |
		     BIT(VIRTIO_BLK_F_MQ);

	if (d->geometry.read_only)
		f |= BIT(VIRTIO_BLK_F_RO);
	if (d->geometry.discard)
		f |= BIT(VIRTIO_BLK_F_DISCARD);
	if (d->geometry.write_zeroes)
		f |= BIT(VIRTIO_BLK_F_WRITE_ZEROES);
	return f;
}

static unsigned disk_queues_max(struct vhost_device *v)
{
	return disk_of(v)->queues_max;
}

static void disk_config_read(struct vhost_device *v, uint32_t offset, uint8_t *buf, uint32_t len)
{
	const struct blk_disk *d = disk_of(v);

	memset(buf, 0, len);
	if (offset < sizeof(d->config))
		memcpy(buf, (const uint8_t *)&d->config + offset, min_u64(len, sizeof(d->config) - offset));
}

/* Every write is written through unless the driver may flush and wants a write cache (VIRTIO 1.2, 5.2.5). */
static void update_cache_mode(struct blk_disk *d)
{
	bool may_flush = d->features & BIT(VIRTIO_BLK_F_FLUSH);
	bool through = !may_flush;

	if (d->features & BIT(VIRTIO_BLK_F_CONFIG_WCE))
		through = through || !d->config.wce;
	store_relaxed(&d->write_through, through);
}

static int disk_config_write(struct vhost_device *v, uint32_t offset, const uint8_t *buf, uint32_t len)
{
	struct blk_disk *d = disk_of(v);

	if (offset != offsetof(struct virtio_blk_config, wce) || len != 1 || buf[0] > 1)
		return -EINVAL;
	d->config.wce = buf[0];
	update_cache_mode(d);
	return 0;
}

static void disk_features_set(struct vhost_device *v, uint64_t features)
{
	struct blk_disk *d = disk_of(v);

	d->features = features;
	update_cache_mode(d);
}

static void fail(struct vhost_done done, int err)
{
	if (done.fn)
		done.fn(done.arg, err, 0);
}

static unsigned member_of(const struct blk_team *t, const struct worker *w)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->member[i].worker == w)
			return i;
	return 0;
}

/* --- starting and stopping queues --- */

/* What stands between an operation's end and the session's continuation. */
struct disk_wait {
	struct blk_disk *disk;
	struct blk_slot *slot;
	struct vhost_done done;
	struct worker *to; /* moves */
};

static void place(struct blk_disk *d, struct blk_slot *s, unsigned member)
{
	d->running++;
	d->team->member[member].queues++;
	s->worker = d->team->member[member].worker;
	s->placed = true;
}

static void unplace(struct blk_disk *d, struct blk_slot *s)
{
	if (!s->placed)
		return;
	s->placed = false;
	d->team->member[member_of(d->team, s->worker)].queues--;
	if (--d->running == 0)
		store_disk_unlock(d->store);
}

/* One that was not carried out. */
static void op_forget(struct blk_op *op)
{
	if (op)
		free(op->done.arg);
	free(op);
}

static void queue_started(void *arg, int result, uint32_t value)
{
	struct disk_wait *w = arg;
	struct vhost_done done = w->done;

	if (result < 0) {
		unplace(w->disk, w->slot);
		op_forget(w->slot->stop);
		w->slot->stop = NULL;
	}
	free(w);
	done.fn(done.arg, result, value);
}

static void queue_stopped(void *arg, int result, uint32_t value)
{
	struct disk_wait *w = arg;
	struct vhost_done done = w->done;

	unplace(w->disk, w->slot);
	free(w);
	done.fn(done.arg, result, value);
}

static struct blk_slot *slot_for(struct blk_disk *d, unsigned queue)
{
	void *p;

	if (!d->slot[queue]) {
		/* The counters stand on cache lines of their own. */
		if (posix_memalign(&p, CACHE_LINE, sizeof(struct blk_slot)))
			return NULL;
		d->slot[queue] = p;
		blk_slot_init(d->slot[queue], d->pool, d->store, &d->geometry, &d->write_through, queue);
		d->slot[queue]->vm = d->vm;
		d->slot[queue]->ioprio_ignore = d->ioprio_ignore;
	}
	return d->slot[queue];
}

static struct blk_op *op_waited_for(struct blk_disk *d, struct blk_slot *s, enum blk_op_kind kind, struct vhost_done done,
				    void (*then)(void *, int, uint32_t))
{
	struct disk_wait *w = malloc(sizeof(*w));
	struct blk_op *op;

	if (!w)
		return NULL;
	*w = (struct disk_wait){ .disk = d, .slot = s, .done = done };
	op = blk_op_new(kind, (struct vhost_done){ then, w });
	if (!op)
		free(w);
	return op;
}

static void close_all(int a, int b, int c)
{
	int fds[] = { a, b, c };

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void disk_queue_start(struct vhost_device *v, unsigned queue, const struct virtqueue_setup *setup,
			     struct memmap *map, int kick_fd, int call_fd, int err_fd, struct vhost_done done)
{
	struct blk_disk *d = disk_of(v);
	struct blk_slot *s = slot_for(d, queue);
	struct blk_op *op = s ? op_waited_for(d, s, BLK_OP_START, done, queue_started) : NULL;
	struct blk_op *stop = s ? op_waited_for(d, s, BLK_OP_STOP, done, queue_stopped) : NULL;
	int err = op && stop ? 0 : -ENOMEM;

	/*
	 * The image's lock also proves that a daemon that died has nothing in flight any more: the kernel drops the lock only
	 * after the last request of its ring. So recovered requests are replayed only behind it.
	 */
	if (!err && d->running == 0)
		err = store_disk_lock(d->store);
	if (err) {
		op_forget(op);
		op_forget(stop);
		close_all(kick_fd, call_fd, err_fd);
		fail(done, err);
		return;
	}
	place(d, s, blk_place(d, queue));
	s->stop = stop;
	op->setup = *setup;
	op->setup.log = d->log;
	op->map = map;
	op->kick_fd = kick_fd;
	op->call_fd = call_fd;
	op->err_fd = err_fd;
	blk_slot_do(s, op);
}

static void disk_queue_stop(struct vhost_device *v, unsigned queue, bool keep_inflight, struct vhost_done done)
{
	struct blk_disk *d = disk_of(v);
	struct blk_slot *s = d->slot[queue];
	struct blk_op *op = s->stop;

	s->stop = NULL;
	((struct disk_wait *)op->done.arg)->done = done;
	op->keep_inflight = keep_inflight;
	blk_slot_do(s, op);
}

static void change_fd(struct blk_disk *d, unsigned queue, enum blk_op_kind kind, int fd)
{
	struct blk_slot *s = d->slot[queue];
	struct blk_op *op = s ? blk_op_new(kind, (struct vhost_done){ 0 }) : NULL;

	if (!op) {
		close_all(fd, -1, -1);
		return;
	}
	switch (kind) {
	case BLK_OP_CALL:
		op->call_fd = fd;
		break;
	case BLK_OP_KICK:
		op->kick_fd = fd;
		break;
	default:
		op->err_fd = fd;
		break;
	}
	blk_slot_do(s, op);
}

static void disk_queue_call_fd(struct vhost_device *v, unsigned queue, int fd)
{
	change_fd(disk_of(v), queue, BLK_OP_CALL, fd);
}

static void disk_queue_kick_fd(struct vhost_device *v, unsigned queue, int fd)
{
	change_fd(disk_of(v), queue, BLK_OP_KICK, fd);
}

static void disk_queue_err_fd(struct vhost_device *v, unsigned queue, int fd)
{
	change_fd(disk_of(v), queue, BLK_OP_ERR, fd);
}

/* --- operations on all queues --- */

struct all_wait {
	unsigned left;
	struct vhost_done done;
};

static void one_of_all(void *arg, int result, uint32_t value)
{
	struct all_wait *w = arg;
	struct vhost_done done = w->done;

	(void)value;
	(void)result; /* a queue that cannot follow is broken and told so through its own error fd */
	if (--w->left > 0)
		return;
	free(w);
	done.fn(done.arg, 0, 0);
}

/* All or nothing: -ENOMEM, and nothing will be done. */
static int ops_for_all(const struct blk_disk *d, const struct blk_op *like, struct all_wait *w, struct blk_op **ret)
{
	for (unsigned i = 0; i < d->queues_max; i++) {
		if (!d->slot[i])
			continue;
		ret[i] = blk_op_new(like->kind, (struct vhost_done){ one_of_all, w });
		if (!ret[i])
			return -ENOMEM;
		ret[i]->map = like->map;
		ret[i]->log = like->log;
		ret[i]->drain_ns = like->drain_ns;
		w->left++;
	}
	return 0;
}

static int on_all(struct blk_disk *d, const struct blk_op *like, struct vhost_done done)
{
	struct all_wait *w = calloc(1, sizeof(*w));
	struct blk_op *op[BLK_QUEUES_MAX] = { NULL };
	int err = w ? ops_for_all(d, like, w, op) : -ENOMEM;

	if (err < 0) {
		for (unsigned i = 0; i < d->queues_max; i++)
			free(op[i]);
		free(w);
		return err;
	}
	w->left++; /* ours, so that it does not end before all have begun */
	w->done = done;
	for (unsigned i = 0; i < d->queues_max; i++)
		if (op[i])
			blk_slot_do(d->slot[i], op[i]);
	one_of_all(w, 0, 0);
	return 0;
}

static void disk_memory_set(struct vhost_device *v, struct memmap *map, struct vhost_done done)
{
	int err = on_all(disk_of(v), &(struct blk_op){ .kind = BLK_OP_REMAP, .map = map }, done);

	if (err < 0)
		fail(done, err);
}

static void disk_log_set(struct vhost_device *v, struct dirty_log *log, struct vhost_done done)
{
	struct blk_disk *d = disk_of(v);
	struct dirty_log *old = d->log;
	int err;

	d->log = log; /* queues may start before all have it */
	err = on_all(d, &(struct blk_op){ .kind = BLK_OP_LOG, .log = log }, done);
	if (err < 0) {
		d->log = old;
		fail(done, err);
	}
}

void blk_disk_drain(struct blk_disk *d, uint64_t for_ns, struct vhost_done done)
{
	int err = on_all(d, &(struct blk_op){ .kind = BLK_OP_DRAIN, .drain_ns = for_ns }, done);

	if (err < 0)
		fail(done, err);
}

static void disk_session_began(struct vhost_device *v, struct vhost_session *session)
{
	struct blk_disk *d = disk_of(v);

	struct vhost_session_status status;

	vhost_session_status_get(session, &status);
	d->peer = status.peer_pid;
	d->config.wce = 1;
	d->features = 0;
	update_cache_mode(d);
}

static void disk_session_ended(struct vhost_device *v)
{
	disk_of(v)->peer = 0;
	disk_of(v)->log = NULL;
}

static const struct vhost_device_ops disk_ops = {
	.features = disk_features,
	.queues_max = disk_queues_max,
	.config_read = disk_config_read,
	.config_write = disk_config_write,
	.features_set = disk_features_set,
	.queue_start = disk_queue_start,
	.queue_stop = disk_queue_stop,
	.queue_call_fd = disk_queue_call_fd,
	.queue_kick_fd = disk_queue_kick_fd,
	.queue_err_fd = disk_queue_err_fd,
	.memory_set = disk_memory_set,
	.log_set = disk_log_set,
	.session_began = disk_session_began,
	.session_ended = disk_session_ended,
};

/* --- moving --- */

static void recount(struct blk_team *t, const struct worker *from, const struct worker *to)
{
	t->member[member_of(t, from)].queues--;
	t->member[member_of(t, to)].queues++;
}

static void queue_moved(void *arg, int result, uint32_t value)
{
	struct disk_wait *w = arg;

	(void)value;
	/* It could not be served there, and stayed. */
	if (result < 0)
		recount(w->disk->team, w->to, w->slot->worker);
	free(w);
}

int blk_disk_move_queue(struct blk_disk *d, unsigned queue, unsigned worker)
{
	struct blk_slot *s = queue < d->queues_max ? d->slot[queue] : NULL;
	struct blk_op *op;

	if (!s || !s->running || !blk_slot_calm(s))
		return -EBUSY;
	if (worker >= d->team->n)
		return -EINVAL;
	if (member_of(d->team, s->worker) == worker)
		return -EALREADY;
	op = op_waited_for(d, s, BLK_OP_MOVE, (struct vhost_done){ 0 }, queue_moved);
	if (!op)
		return -ENOMEM;
	op->to = ((struct disk_wait *)op->done.arg)->to = d->team->member[worker].worker;
	recount(d->team, s->worker, op->to);
	blk_slot_do(s, op);
	return 0;
}

/* It runs where it should: on its own worker, or on one that is nobody's own. */
static bool is_at_home(const struct blk_disk *d, unsigned member)
{
	return d->own ? member == d->own - 1 : member < d->team->shared;
}

void blk_disk_move_home(struct blk_disk *d)
{
	for (unsigned q = 0; q < d->queues_max; q++) {
		struct blk_slot *s = d->slot[q];

		if (!s || !s->running || is_at_home(d, member_of(d->team, s->worker)))
			continue;
		/* One that is busy with something else: at the next look. */
		(void)blk_disk_move_queue(d, q, blk_place(d, q));
		return;
	}
}

/* --- making --- */

static void set_config(struct blk_disk *d)
{
	struct virtio_blk_config *c = &d->config;
	const struct store_limits *l = &d->store->limits;
	uint32_t block = l->block_size ? l->block_size : STORE_SECTOR;
	uint32_t physical = l->physical_block_size > block ? l->physical_block_size : block;

	c->capacity = load_relaxed(&d->geometry.capacity_sectors);
	c->size_max = SIZE_MAX_BYTES;
	c->seg_max = SEG_MAX;
	c->blk_size = block;
	c->physical_block_exp = (uint8_t)__builtin_ctz(physical / block);
	c->min_io_size = (uint16_t)(physical / block);
	c->opt_io_size = 0;
	c->wce = 1;
	c->num_queues = (uint16_t)d->queues_max;
	if (d->geometry.discard) {
		c->max_discard_sectors = BLK_RANGE_SECTORS_MAX;
		c->max_discard_seg = BLK_RANGES_MAX;
		c->discard_sector_alignment = block / STORE_SECTOR;
	}
	if (d->geometry.write_zeroes) {
		c->max_write_zeroes_sectors = BLK_RANGE_SECTORS_MAX;
		c->max_write_zeroes_seg = BLK_RANGES_MAX;
		c->write_zeroes_may_unmap = 1;
	}
}

void blk_disk_resized(struct blk_disk *d)
{
	uint64_t sectors = load_relaxed(&d->store->size_bytes) / STORE_SECTOR;

	store_relaxed(&d->geometry.capacity_sectors, sectors);
	d->config.capacity = sectors;
}

int blk_disk_create(const struct blk_disk_options *o, struct blk_pool *pool, struct store_disk *store, struct blk_team *team,
		    struct blk_disk **ret)
{
	struct blk_disk *d;

	if (o->queues == 0 || o->queues > BLK_QUEUES_MAX || o->workers > team->n || o->own > team->n)
		return -EINVAL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->device.ops = &disk_ops;
	d->pool = pool;
	d->store = store;
	d->team = team;
	d->queues_max = o->queues;
	d->workers_wanted = o->workers;
	d->own = o->own;
	d->ioprio_ignore = o->ioprio_ignore;
	snprintf(d->vm, sizeof(d->vm), "%s", o->vm);
	snprintf(d->name, sizeof(d->name), "%s", o->name);
	snprintf(d->device.name, sizeof(d->device.name), "%s/%s", o->vm, o->name);
	/* The guest reads it as /dev/disk/by-id/virtio-SERIAL: the disk's name, cut to what fits. */
	memcpy(d->geometry.serial, d->name, strnlen(d->name, BLK_SERIAL_BYTES));
	d->geometry.read_only = store->read_only;
	d->geometry.discard = store->limits.discard && !store->read_only;
	d->geometry.write_zeroes = store->limits.write_zeroes && !store->read_only;
	d->write_through = true;
	blk_disk_resized(d);
	set_config(d);
	list_append(&team->disks, &d->node);
	*ret = d;
	return 0;
}

void blk_disk_destroy(struct blk_disk *d)
{
	if (!d)
		return;
	list_remove(&d->node);
	for (unsigned i = 0; i < d->queues_max; i++)
		free(d->slot[i]);
	free(d);
}
