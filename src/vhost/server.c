/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listens or connects for one device and begins a session with whoever comes, one at a time. Called by the daemon
 * on the control thread; it decides nothing about messages.
 *
 * A front-end that comes while another is served is sent away, so that it can tell its user. One that comes while
 * the last session is still ending (its requests drain) waits in the backlog: that is a restarted front-end, and it
 * must not fail.
 */
#include "vhost/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 8
#define RETRY_USEC UINT64_C(1000000)

struct vhost_server {
	sd_event *event;
	struct vhost_device *device;
	struct vhost_server_options options;
	char *path;
	const struct vhost_server_events *events;
	void *arg;

	int listener; /* -1: we connect, or were given a connection */
	dev_t bound_dev; /* the socket's inode, so that we remove no other's */
	ino_t bound_ino;
	sd_event_source *listen_source, *retry_source, *destroy_source;
	struct vhost_session *session;
	bool failing; /* connecting is */
	struct vhost_done destroyed; /* fn set: the server is going */
};

static const struct vhost_server_events no_events;

static void server_free(struct vhost_server *v)
{
	sd_event_source_disable_unref(v->listen_source);
	sd_event_source_disable_unref(v->retry_source);
	sd_event_source_disable_unref(v->destroy_source);
	cleanup_close_fd(&v->listener);
	sd_event_unref(v->event);
	free(v->path);
	free(v);
}

/* Connect again, or listen again. */
static void retry_later(struct vhost_server *v)
{
	sd_event_source_set_time_relative(v->retry_source, RETRY_USEC);
	sd_event_source_set_enabled(v->retry_source, SD_EVENT_ONESHOT);
}

/* --- sessions --- */

static void session_ended(void *arg, const char *reason)
{
	struct vhost_server *v = arg;

	v->session = NULL;
	if (v->destroyed.fn) {
		sd_event_source_set_enabled(v->destroy_source, SD_EVENT_ONESHOT);
		return;
	}
	if (v->listen_source)
		sd_event_source_set_enabled(v->listen_source, SD_EVENT_ON);
	else if (v->options.mode == VHOST_CONNECT)
		retry_later(v);
	if (v->events->disconnected)
		v->events->disconnected(v->arg, reason);
}

static void session_queue_refused(void *arg, unsigned queue, int error)
{
	struct vhost_server *v = arg;

	if (v->events->queue_refused && !v->destroyed.fn)
		v->events->queue_refused(v->arg, queue, error);
}

static const struct vhost_session_events session_events = {
	.ended = session_ended,
	.queue_refused = session_queue_refused,
};

/* Takes the socket. */
static int session_begin(struct vhost_server *v, int socket)
{
	struct vhost_session_status status;
	int r = vhost_session_create(v->event, v->device, socket, &session_events, v, &v->session);

	if (r < 0)
		return r;
	vhost_session_status_get(v->session, &status);
	if (v->events->connected)
		v->events->connected(v->arg, status.peer_pid);
	return 0;
}

static void refused(struct vhost_server *v, int error)
{
	if (v->events->refused)
		v->events->refused(v->arg, error);
}

/* --- listening --- */

/*
 * Out of descriptors or memory: the connection stays in the backlog and would wake us for ever. A second later,
 * then.
 */
static void accept_failed(struct vhost_server *v, int error)
{
	if (error != EMFILE && error != ENFILE && error != ENOMEM && error != ENOBUFS)
		return;
	sd_event_source_set_enabled(v->listen_source, SD_EVENT_OFF);
	retry_later(v);
	refused(v, -error);
}

static int listener_readable(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct vhost_server *v = arg;
	int socket, r;

	/* Maybe the old front-end is gone and we have not read that far. The new one waits in the backlog. */
	if (v->session && vhost_session_hung_up(v->session))
		vhost_session_end(v->session, "the front-end disconnected");
	if (v->session && vhost_session_ending(v->session)) {
		sd_event_source_set_enabled(v->listen_source, SD_EVENT_OFF);
		return 0;
	}
	socket = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (socket < 0) {
		accept_failed(v, errno);
		return 0;
	}
	if (v->session) {
		close(socket);
		refused(v, -EBUSY);
		return 0;
	}
	r = session_begin(v, socket);
	if (r < 0)
		refused(v, r);
	return 0;
}

static int address_make(const char *path, struct sockaddr_un *ret)
{
	size_t n = strlen(path);

	if (n == 0)
		return -EINVAL;
	if (n >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret->sun_path, path, n);
	return 0;
}

static int socket_make(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Removes a socket at which nobody answers, a crashed process' that is. */
static int stale_remove(const struct sockaddr_un *address)
{
	cleanup_close int probe = -1;
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	probe = socket_make();
	if (probe < 0)
		return probe;
	if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ECONNREFUSED)
		return -errno;
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Until listen() nobody can connect, so mode and group are right before the first who can. */
static int bound_socket_open(struct vhost_server *v, const struct sockaddr_un *address)
{
	const struct vhost_server_options *o = &v->options;
	struct stat st;

	if (bind(v->listener, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	if (lstat(v->path, &st) < 0)
		return -errno;
	v->bound_dev = st.st_dev;
	v->bound_ino = st.st_ino;
	if (o->socket_group != (gid_t)-1 && lchown(v->path, (uid_t)-1, o->socket_group) < 0)
		return -errno;
	if (chmod(v->path, o->socket_mode) < 0 || listen(v->listener, BACKLOG) < 0)
		return -errno;
	return 0;
}

static void bound_socket_remove(struct vhost_server *v)
{
	struct stat st;

	if (v->bound_ino != 0 && lstat(v->path, &st) == 0 && st.st_dev == v->bound_dev && st.st_ino == v->bound_ino)
		unlink(v->path);
	v->bound_ino = 0;
}

static int listener_add(struct vhost_server *v)
{
	return sd_event_add_io(v->event, &v->listen_source, v->listener, EPOLLIN, listener_readable, v);
}

static int start_listening(struct vhost_server *v)
{
	struct sockaddr_un address;
	int r = address_make(v->path, &address);

	if (r < 0)
		return r;
	r = stale_remove(&address);
	if (r < 0)
		return r;
	v->listener = socket_make();
	if (v->listener < 0)
		return v->listener;
	r = bound_socket_open(v, &address);
	return r < 0 ? r : listener_add(v);
}

/* --- connecting --- */

static int connect_once(struct vhost_server *v)
{
	cleanup_close int fd = socket_make();
	struct sockaddr_un address;
	int r = address_make(v->path, &address);

	if (fd < 0)
		return fd;
	if (r < 0)
		return r;
	/* A local socket connects at once or not at all. */
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return session_begin(v, take_fd(&fd));
}

static int retry(sd_event_source *source, uint64_t usec, void *arg)
{
	struct vhost_server *v = arg;
	bool failed_before = v->failing;
	int r;

	if (v->listen_source) {
		sd_event_source_set_enabled(v->listen_source, SD_EVENT_ON);
		return 0;
	}
	r = connect_once(v);
	v->failing = r < 0;
	if (r < 0)
		retry_later(v);
	if (r < 0 && !failed_before && v->events->connect_failed)
		v->events->connect_failed(v->arg, r);
	return 0;
}

static int start_connecting(struct vhost_server *v)
{
	struct sockaddr_un address;
	int r = address_make(v->path, &address);

	if (r < 0)
		return r;
	sd_event_source_set_time_relative(v->retry_source, 0);
	return sd_event_source_set_enabled(v->retry_source, SD_EVENT_ONESHOT);
}

/* --- given descriptors --- */

static int start_given(struct vhost_server *v)
{
	int fd = v->options.fd, listens = 0, domain = 0, type = 0;
	socklen_t length = sizeof(int);

	v->listener = fd; /* its owner from here on */
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0)
		return -errno;
	if (domain != AF_UNIX || type != SOCK_STREAM)
		return -EINVAL;
	/* Another process may share it and be faster than us. */
	if (listens && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return -errno;
	if (listens)
		return listener_add(v);
	return session_begin(v, take_fd(&v->listener));
}

/* --- life --- */

static int server_gone(sd_event_source *source, void *arg)
{
	struct vhost_server *v = arg;
	struct vhost_done done = v->destroyed;

	server_free(v);
	done.fn(done.arg, 0, 0);
	return 0;
}

static int sources_add(struct vhost_server *v)
{
	int r = sd_event_add_time_relative(v->event, &v->retry_source, CLOCK_MONOTONIC, RETRY_USEC, 0, retry, v);

	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(v->retry_source, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = sd_event_add_defer(v->event, &v->destroy_source, server_gone, v);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(v->destroy_source, SD_EVENT_OFF);
}

static int (*const starts[])(struct vhost_server *) = {
	[VHOST_LISTEN] = start_listening,
	[VHOST_CONNECT] = start_connecting,
	[VHOST_FD] = start_given,
};

int vhost_server_create(sd_event *event, struct vhost_device *device, const struct vhost_server_options *options,
			const struct vhost_server_events *events, void *arg, struct vhost_server **ret)
{
	struct vhost_server *v = calloc(1, sizeof(*v));
	int r = -ENOMEM;

	if (!v) {
		if (options->mode == VHOST_FD)
			close(options->fd);
		return r;
	}
	v->event = sd_event_ref(event);
	v->device = device;
	v->options = *options;
	v->events = events ? events : &no_events;
	v->arg = arg;
	v->listener = -1;
	v->path = strdup(options->path ? options->path : "");
	if (v->path)
		r = sources_add(v);
	if (r == 0)
		r = starts[options->mode](v);
	else if (options->mode == VHOST_FD)
		close(options->fd);
	if (r < 0) {
		bound_socket_remove(v);
		server_free(v);
		return r;
	}
	*ret = v;
	return 0;
}

void vhost_server_destroy(struct vhost_server *v, struct vhost_done done)
{
	v->destroyed = done;
	bound_socket_remove(v);
	v->listen_source = sd_event_source_disable_unref(v->listen_source);
	sd_event_source_set_enabled(v->retry_source, SD_EVENT_OFF);
	if (v->session)
		vhost_session_end(v->session, "the device is going away");
	else
		sd_event_source_set_enabled(v->destroy_source, SD_EVENT_ONESHOT);
}

struct vhost_session *vhost_server_session(struct vhost_server *v)
{
	return v->session;
}
