/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a vhost-user session needs of a device model (block now, net later). The session, on the control thread,
 * speaks the protocol; the device owns the queues and knows the workers. Nothing here blocks: what takes time ends
 * in a continuation.
 */
#pragma once

#include "virtio/dirty_log.h"
#include "virtio/memmap.h"
#include "virtio/virtqueue.h"

struct vhost_device;
struct vhost_session;

/* Called exactly once, on the control thread, maybe before the function that it was given to returns. */
struct vhost_done {
	void (*fn)(void *arg, int result, uint32_t value);
	void *arg;
};

struct vhost_device_ops {
	/* Device features offered; the session adds the transport's (VERSION_1, rings, PROTOCOL_FEATURES, LOG_ALL). */
	uint64_t (*features)(struct vhost_device *);
	unsigned (*queues_max)(struct vhost_device *);
	/* Reads config space; bytes past its end read as zero. */
	void (*config_read)(struct vhost_device *, uint32_t offset, uint8_t *buf, uint32_t len);
	/* -EINVAL: not writable. */
	int (*config_write)(struct vhost_device *, uint32_t offset, const uint8_t *buf, uint32_t len);
	/* Features the driver accepted; called while no queue runs. */
	void (*features_set)(struct vhost_device *, uint64_t features);
	/*
	 * A queue's rings are known and it is enabled: serve it. `map` stays referenced by the session until
	 * queue_stop is done. kick_fd, call_fd, err_fd: given to the device, which closes them (-1: none; without
	 * kick_fd the queue is polled). done(0) once served; done(-errno): refused, the fds are closed. -EAGAIN:
	 * not yet (another process still holds the image, say): it is asked again every moment until it can or the
	 * driver's front-end stops the queue.
	 */
	void (*queue_start)(struct vhost_device *, unsigned queue, const struct virtqueue_setup *, struct memmap *map,
			    int kick_fd, int call_fd, int err_fd, struct vhost_done done);
	/*
	 * Stops taking requests, finishes those dispatched (held ones are dispatched at once), then done(0, base).
	 * It cannot fail. keep_inflight: the front-end follows the inflight region, held requests may stay recorded there.
	 */
	void (*queue_stop)(struct vhost_device *, unsigned queue, bool keep_inflight, struct vhost_done done);
	/*
	 * SET_VRING_CALL / KICK / ERR on a running queue: new fd (-1: none). A new call fd is signalled once: what
	 * completed before went to the old one, which nobody may read any more.
	 */
	void (*queue_call_fd)(struct vhost_device *, unsigned queue, int fd);
	void (*queue_kick_fd)(struct vhost_device *, unsigned queue, int fd);
	/* Optional. */
	void (*queue_err_fd)(struct vhost_device *, unsigned queue, int fd);
	/* New memory for all running queues; done(0) when no worker uses the old map any more, done(-errno): nothing has changed. */
	void (*memory_set)(struct vhost_device *, struct memmap *map, struct vhost_done done);
	/*
	 * Dirty log on (not NULL) or off for all queues; done(0) when every worker writes to the new one and none to
	 * the old, done(-errno): nothing has changed.
	 */
	void (*log_set)(struct vhost_device *, struct dirty_log *log, struct vhost_done done);
	/* The session began or ended (front-end gone: queues have been stopped by then). */
	void (*session_began)(struct vhost_device *, struct vhost_session *);
	void (*session_ended)(struct vhost_device *);
};

struct vhost_device {
	const struct vhost_device_ops *ops;
	char name[64]; /* for logs: "web/root" */
};
