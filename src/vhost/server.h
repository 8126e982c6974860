/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a device's front-end comes from: a socket that we listen on, one that we connect to, or a descriptor that
 * we were given. One front-end at a time. Control thread only.
 */
#pragma once

#include "vhost/session.h"

enum vhost_server_mode {
	VHOST_LISTEN,  /* at `path` */
	VHOST_CONNECT, /* to `path`, again every second until it succeeds, and after a front-end is gone */
	VHOST_FD,      /* `fd`: a listening socket, or one already connected (then there is one session and no more) */
};

struct vhost_server_options {
	enum vhost_server_mode mode;
	const char *path;
	mode_t socket_mode; /* listen: e.g. 0660 */
	gid_t socket_group; /* listen: (gid_t)-1 leaves it */
	int fd;		    /* taken, on failure too */
};

/* Called from the event loop. Any may be NULL. */
struct vhost_server_events {
	void (*connected)(void *arg, pid_t peer);
	/* Its session has ended and nothing of it is left. With a connected VHOST_FD no other comes. */
	void (*disconnected)(void *arg, const char *reason);
	/* A front-end came and was sent away: there is one already, or (-errno) it could not be accepted. */
	void (*refused)(void *arg, int error);
	/* Connecting has begun to fail; it goes on trying and tells again only after it has succeeded. */
	void (*connect_failed)(void *arg, int error);
	/*
	 * A queue whose set-up is complete cannot be served (its addresses, its inflight region ...). -EAGAIN: not
	 * yet (the image is locked by another process); it is tried again until it can be.
	 */
	void (*queue_refused)(void *arg, unsigned queue, int error);
};

struct vhost_server;

/*
 * -EADDRINUSE: somebody answers at the path; -EEXIST: what stands there is no socket; -ENAMETOOLONG; what bind(2),
 * chown(2) say. A socket at which nobody answers is replaced.
 */
int vhost_server_create(sd_event *event, struct vhost_device *device, const struct vhost_server_options *options,
			const struct vhost_server_events *events, void *arg, struct vhost_server **ret);

/* Ends a session, removes the socket, frees; then done(0), from the event loop. No other event comes. */
void vhost_server_destroy(struct vhost_server *server, struct vhost_done done);

/* NULL: no front-end. Valid until `disconnected`. */
struct vhost_session *vhost_server_session(struct vhost_server *server);
