/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection of a front-end: from the connected socket to the moment when nothing of it is left. Control thread
 * only, driven by its event loop; nothing here blocks.
 */
#pragma once

#include "vhost/device.h"

#include <sys/types.h>
#include <systemd/sd-event.h>

/* Called from the event loop, never from within a function of this header. None may be NULL. */
struct vhost_session_events {
	/*
	 * Nothing is left of the session: its queues are stopped, its memory unmapped, its descriptors closed, and
	 * it is freed. A new one may begin. `reason` says why it ended, for people.
	 */
	void (*ended)(void *arg, const char *reason);
	/*
	 * A queue whose set-up is complete could not be served; it stays stopped. -EAGAIN: not yet (told once), it
	 * is tried again until it can be or is stopped.
	 */
	void (*queue_refused)(void *arg, unsigned queue, int error);
};

struct vhost_session_status {
	pid_t peer_pid; /* 0: unknown */
	uint64_t features, protocol_features;
	unsigned queues_running, memory_regions;
	bool logging, inflight; /* dirty log on; requests recorded in an inflight region */
	uint8_t status;		/* virtio device status, where the front-end tells it */
};

/* Takes the socket, on failure too. */
int vhost_session_create(sd_event *event, struct vhost_device *device, int socket,
			 const struct vhost_session_events *events, void *arg, struct vhost_session **ret);

/* Begins the end; `ended` follows. The first reason stays. */
void vhost_session_end(struct vhost_session *s, const char *reason);

bool vhost_session_ending(const struct vhost_session *s);

/* True if the front-end has closed its side, noticed or not. */
bool vhost_session_hung_up(const struct vhost_session *s);

/* The device's config space changed: tells the front-end, where it gave a channel for that. */
void vhost_session_config_changed(struct vhost_session *s);

void vhost_session_status_get(const struct vhost_session *s, struct vhost_session_status *ret);

/* What is offered: the device's features and the transport's. */
uint64_t vhost_session_features(struct vhost_device *device);
