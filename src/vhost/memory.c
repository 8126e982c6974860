/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handlers of what the front-end shares with us: the guest's memory, the dirty log, the inflight region. Called by
 * the session on the control thread.
 *
 * Each is replaced in the same three steps: map the new one, let the device go over to it, and only when its
 * continuation says that no worker uses the old one any more, unmap that and acknowledge. Where the device could not
 * go over, the old one stays and the front-end hears of it.
 */
#include "vhost/session_internal.h"

#include <errno.h>
#include <string.h>

/* --- guest memory --- */

static void map_used(struct vhost_session *s, int result)
{
	struct memmap *next = s->map_next;

	s->map_next = NULL;
	if (result < 0) {
		memmap_put(next);
		vhost_session_answer(s, result);
		return;
	}
	memmap_put(s->map);
	s->map = next;
	vhost_vrings_start_and_answer(s);
}

static int map_replace(struct vhost_session *s, struct memmap *map)
{
	s->map_next = map;
	vhost_vrings_retry(s);
	vhost_wait_begin(s, map_used);
	if (vhost_vrings_running(s) > 0)
		s->device->ops->memory_set(s->device, map, vhost_wait_add(s));
	vhost_wait_end(s);
	return VHOST_WAITS;
}

static struct memmap_region_spec region_spec(const struct vhost_region *r, int fd)
{
	return (struct memmap_region_spec){
		.gpa = r->gpa, .size = r->size, .uva = r->uva, .mmap_offset = r->mmap_offset, .fd = fd,
	};
}

static int map_refused(struct vhost_session *s, int error)
{
	switch (error) {
	case -EINVAL:
		return vhost_session_refuse(s, error, "regions are empty, unaligned, wrap or overlap");
	case -E2BIG:
		return vhost_session_refuse(s, error, "more than %d regions", MEMMAP_REGIONS_MAX);
	case -EBADF:
		return vhost_session_refuse(s, error, "not a memory file (share the guest's memory from a "
						      "memfd, tmpfs or hugetlbfs)");
	case -ENOSPC:
		return vhost_session_refuse(s, error, "a region is larger than its file");
	case -ENOENT:
		return vhost_session_refuse(s, error, "no such region");
	default:
		return error;
	}
}

int vhost_set_mem_table(struct vhost_session *s, struct vhost_message *m)
{
	const struct vhost_mem_table *t = &m->payload.table;
	struct memmap_region_spec spec[VHOST_REGIONS_PER_TABLE];
	struct memmap *map;
	int r;

	if (t->n == 0 || t->n > VHOST_REGIONS_PER_TABLE || m->header.size != 8 + t->n * sizeof(t->region[0]) ||
	    m->n_fds != t->n)
		return vhost_session_refuse(s, -EINVAL, "%u regions in %u bytes with %u file descriptors", t->n,
					    m->header.size, m->n_fds);
	for (unsigned i = 0; i < t->n; i++)
		spec[i] = region_spec(&t->region[i], m->fd[i]);
	r = memmap_create(spec, t->n, &map);
	return r < 0 ? map_refused(s, r) : map_replace(s, map);
}

int vhost_add_mem_reg(struct vhost_session *s, struct vhost_message *m)
{
	struct memmap_region_spec spec = region_spec(&m->payload.reg.region, m->fd[0]);
	struct memmap *map;
	int r = memmap_add(s->map, &spec, &map);

	return r < 0 ? map_refused(s, r) : map_replace(s, map);
}

int vhost_rem_mem_reg(struct vhost_session *s, struct vhost_message *m)
{
	const struct vhost_region *region = &m->payload.reg.region;
	struct memmap *map;
	int r;

	if (!s->map)
		return map_refused(s, -ENOENT);
	r = memmap_remove(s->map, region->gpa, region->size, region->uva, &map);
	return r < 0 ? map_refused(s, r) : map_replace(s, map);
}

int vhost_get_max_mem_slots(struct vhost_session *s, struct vhost_message *m)
{
	uint64_t slots = MEMMAP_REGIONS_MAX;

	return vhost_session_reply(s, &slots, sizeof(slots), -1);
}

/* --- dirty log --- */

void vhost_log_free(struct vhost_log *log)
{
	if (!log)
		return;
	vhost_shm_unmap(&log->shm);
	free(log);
}

void vhost_log_apply(struct vhost_session *s)
{
	bool wanted = s->log && vhost_driver_has(s, VHOST_F_LOG_ALL_BIT);

	/* While it is on, a new log is another one. */
	if (!wanted && !s->logging)
		return;
	s->logging = wanted;
	s->device->ops->log_set(s->device, wanted ? &s->log->log : NULL, vhost_wait_add(s));
}

static void log_used(struct vhost_session *s, int result)
{
	const uint64_t reply = 0;

	/* Workers use the old one until the session's end, which follows. */
	if (result < 0) {
		vhost_session_answer(s, result);
		return;
	}
	vhost_log_free(s->log_old);
	s->log_old = NULL;
	/* The reply belongs to the message, whether or not an acknowledgement is asked for; it stands for that too. */
	vhost_session_reply(s, &reply, sizeof(reply), -1);
	vhost_session_answer(s, 0);
}

int vhost_set_log_base(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_log *log = calloc(1, sizeof(*log));
	int r;

	if (!log)
		return -ENOMEM;
	r = vhost_shm_map(&log->shm, m->fd[0], m->payload.log.offset, m->payload.log.size, &log->log.faulted);
	if (r < 0) {
		free(log);
		return r;
	}
	log->log.bits = log->shm.data;
	log->log.bytes = log->shm.bytes;
	s->log_old = s->log;
	s->log = log;
	vhost_wait_begin(s, log_used);
	vhost_log_apply(s);
	vhost_wait_end(s);
	return VHOST_WAITS;
}

/* Would be signalled when the log was written to. Nobody waits for it: front-ends read the log at their own pace. */
int vhost_set_log_fd(struct vhost_session *s, struct vhost_message *m)
{
	return 0;
}

/* --- inflight region --- */

void vhost_inflight_free(struct vhost_inflight *inflight)
{
	if (!inflight)
		return;
	vhost_shm_unmap(&inflight->shm);
	free(inflight);
}

/*
 * The layout depends on the ring's format and size, which the driver may choose after the region was made: checked
 * at each start.
 */
bool vhost_inflight_slice(const struct vhost_session *s, unsigned queue, void **ret, size_t *ret_bytes)
{
	const struct vhost_inflight *i = s->inflight;
	bool packed = vhost_driver_has(s, VIRTIO_F_RING_PACKED_BIT);

	if (!i || queue >= i->queues || virtqueue_inflight_bytes(s->vring[queue].size, packed) > i->stride)
		return false;
	*ret = i->shm.data + i->stride * queue;
	*ret_bytes = i->stride;
	return true;
}

/* Nothing is in flight, so the record starts anew: front-ends keep the region when the driver is reset, and the next one
 * counts from 0, maybe in the other layout. Both have their version among the first bytes; without it a region is fresh. */
void vhost_inflight_forget(const struct vhost_session *s, unsigned queue)
{
	const struct vhost_inflight *i = s->inflight;

	if (i && queue < i->queues)
		memset(i->shm.data + i->stride * queue, 0, CACHE_LINE);
}

static bool inflight_area_valid(const struct vhost_session *s, const struct vhost_inflight_area *a)
{
	return a->queues > 0 && a->queues <= s->n_vrings && a->queue_size > 0 && a->queue_size <= VIRTQUEUE_SIZE_MAX;
}

/*
 * Answers with the layout that was asked in: with or without the padding at its end. A size of 0 says no.
 *
 * The region does for any ring, not only for those asked for: QEMU 10 asks once, while the firmware drives the disk with
 * split rings of 256 whatever the device's queue size is, and keeps it for a kernel that takes packed ones. It is sparse.
 */
int vhost_get_inflight_fd(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_inflight_area area = m->payload.inflight;
	cleanup_close int fd = -1;

	area.size = area.offset = 0;
	area.padding = 0;
	if (inflight_area_valid(s, &area)) {
		uint64_t bytes = (uint64_t)virtqueue_inflight_bytes(VIRTQUEUE_SIZE_MAX, true) * area.queues;

		fd = vhost_shm_create("fairlead-inflight", bytes);
		area.size = fd < 0 ? 0 : bytes;
	}
	return vhost_session_reply(s, &area, m->header.size, fd);
}

int vhost_set_inflight_fd(struct vhost_session *s, struct vhost_message *m)
{
	const struct vhost_inflight_area *a = &m->payload.inflight;
	struct vhost_inflight *inflight;
	uint64_t stride;
	int r;

	if (!inflight_area_valid(s, a))
		return vhost_session_refuse(s, -EINVAL, "%u queues of size %u", a->queues, a->queue_size);
	if (vhost_vrings_running(s) > 0)
		return vhost_session_refuse(s, -EBUSY, "queues run");
	/* Whoever made it, each queue has an equal part. */
	stride = a->size / a->queues & ~(uint64_t)(CACHE_LINE - 1);
	if (stride < virtqueue_inflight_bytes(a->queue_size, vhost_driver_has(s, VIRTIO_F_RING_PACKED_BIT)))
		return vhost_session_refuse(s, -EINVAL, "%llu bytes do not do for %u queues of size %u",
					    (unsigned long long)a->size, a->queues, a->queue_size);
	inflight = calloc(1, sizeof(*inflight));
	if (!inflight)
		return -ENOMEM;
	r = vhost_shm_map(&inflight->shm, m->fd[0], a->offset, a->size, &inflight->faulted);
	if (r < 0) {
		free(inflight);
		return r;
	}
	inflight->queues = a->queues;
	inflight->stride = stride;
	vhost_inflight_free(s->inflight);
	s->inflight = inflight;
	vhost_vrings_retry(s);
	return vhost_vrings_start_and_answer(s);
}

const char *vhost_memory_fault(const struct vhost_session *s)
{
	if (s->inflight && load_relaxed(&s->inflight->faulted))
		return "the front-end truncated the inflight region";
	if (s->log && load_relaxed(&s->log->log.faulted))
		return "the front-end truncated the dirty log";
	if (s->map && memmap_faulted(s->map))
		return "the front-end truncated the guest's memory";
	return NULL;
}
