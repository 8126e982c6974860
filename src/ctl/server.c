/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The listening socket and what is registered with it.
 */
#include "ctl/server_internal.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* How long clients wait where there are no descriptors left for them. */
#define AGAIN_USEC UINT64_C(1000000)

int ctl_server_create(sd_event *event, struct ctl_server **ret)
{
	struct ctl_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->event = sd_event_ref(event);
	list_init(&s->connections);
	if (ctl_server_methods_add(s, rpc_methods, s) < 0) {
		ctl_server_destroy(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

/* Another daemon may have replaced it meanwhile. */
static void remove_socket(struct ctl_server *s)
{
	struct stat st;

	if (s->path && lstat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
		unlink(s->path);
}

void ctl_server_destroy(struct ctl_server *s)
{
	struct ctl_connection *c, *next;

	if (!s)
		return;
	remove_socket(s);
	list_for_each_safe(c, next, &s->connections, node)
		connection_close(c);
	sd_event_source_disable_unref(s->source);
	sd_event_source_disable_unref(s->again_source);
	cleanup_close_fd(&s->fd);
	sd_event_unref(s->event);
	free(s->path);
	free(s->tables);
	free(s->events);
	free(s);
}

int ctl_server_methods_add(struct ctl_server *s, const struct ctl_method *methods, void *context)
{
	struct ctl_table *grown = reallocarray(s->tables, s->n_tables + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	s->tables = grown;
	grown[s->n_tables++] = (struct ctl_table){ methods, context };
	return 0;
}

int ctl_server_events_add(struct ctl_server *s, const struct ctl_event *events)
{
	const struct ctl_event **grown = reallocarray(s->events, s->n_events + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	s->events = grown;
	grown[s->n_events++] = events;
	return 0;
}

unsigned ctl_server_clients(const struct ctl_server *s)
{
	return s->n_connections;
}

static json_t *notification(const char *method, json_t *params)
{
	return json_pack("{s:s, s:s, s:O}", "jsonrpc", "2.0", "method", method, "params", params);
}

/* Tells a client that reads again what it has missed. */
static void report_lost(struct ctl_connection *c)
{
	json_t *params = json_pack("{s:I}", "events", (json_int_t)c->events_lost);

	c->events_lost = 0;
	connection_send(c, notification("rpc.lost", params));
	json_decref(params);
}

static void notify(struct ctl_connection *c, const char *event, json_t *params)
{
	bool was_busy = c->busy;

	/* Sending may find the client gone; until we are done with it, it is not freed. */
	c->busy = true;
	if (c->events_lost)
		report_lost(c);
	if (c->fd >= 0)
		connection_send(c, notification(event, params));
	c->busy = was_busy;
	if (c->fd < 0)
		connection_work(c);
}

void ctl_server_publish(struct ctl_server *s, const char *event, json_t *params)
{
	struct ctl_connection *c, *next;

	list_for_each_safe(c, next, &s->connections, node) {
		if (!json_object_get(c->topics, event))
			continue;
		if (connection_backlogged(c)) {
			c->events_lost++;
			continue;
		}
		notify(c, event, params);
	}
	json_decref(params);
}

/* --- listening --- */

/*
 * Out of descriptors or memory: the client stays in the backlog and would wake us for ever, and with us the disks' sessions.
 * A second later, then.
 */
static void pause_listening(struct ctl_server *s)
{
	sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
	sd_event_source_set_time_relative(s->again_source, AGAIN_USEC);
	sd_event_source_set_enabled(s->again_source, SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct ctl_server *s = userdata;

	(void)source;
	(void)usec;
	sd_event_source_set_enabled(s->source, SD_EVENT_ON);
	return 0;
}

static int on_connect(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct ctl_server *s = userdata;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	if (client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
		pause_listening(s);
	if (client >= 0 && connection_create(s, client) < 0)
		close(client);
	return 0;
}

static int fill_address(const char *path, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(ret->sun_path))
		return -ENAMETOOLONG;
	strcpy(ret->sun_path, path);
	return 0;
}

/* Somebody accepts connections there. */
static bool is_alive(const char *path)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;

	if (fd < 0 || fill_address(path, &address) < 0)
		return false;
	/* EAGAIN: its queue is full, so there is one. */
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
}

static int set_group(const char *path, const char *group)
{
	struct group entry, *found = NULL;
	char buffer[4096];

	if (!group)
		return 0;
	getgrnam_r(group, &entry, buffer, sizeof(buffer), &found);
	if (!found)
		return -ESRCH;
	return lchown(path, (uid_t)-1, found->gr_gid) < 0 ? -errno : 0;
}

/* 0: nothing is there, or a socket, which nobody misses. */
static int check_free(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISSOCK(st.st_mode) ? 0 : -EEXIST;
}

/* Under another name first: the name that clients wait for appears when everything is set. */
static int bind_and_listen(const char *path, mode_t mode, const char *group, int *ret_fd)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address;
	char temporary[sizeof(address.sun_path)];
	int r;

	if (fd < 0)
		return -errno;
	if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	r = fill_address(temporary, &address);
	if (r == 0)
		r = check_free(path);
	if (r == 0)
		r = check_free(temporary);
	if (r == 0)
		unlink(temporary);
	if (r == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	if (r < 0)
		return r;
	r = set_group(temporary, group);
	if (r == 0 && chmod(temporary, mode) < 0)
		r = -errno;
	if (r == 0 && listen(fd, CTL_CLIENTS_MAX) < 0)
		r = -errno;
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temporary);
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

int ctl_server_listen(struct ctl_server *s, const char *path, mode_t mode, const char *group)
{
	cleanup_close int fd = -1;
	struct stat st;
	int r;

	if (is_alive(path))
		return -EADDRINUSE;
	r = bind_and_listen(path, mode, group, &fd);
	if (r < 0)
		return r;
	r = sd_event_add_io(s->event, &s->source, fd, EPOLLIN, on_connect, s);
	/* Now, as it may take a descriptor, too. */
	if (r >= 0)
		r = sd_event_add_time_relative(s->event, &s->again_source, CLOCK_MONOTONIC, AGAIN_USEC, 0, on_again, s);
	if (r >= 0)
		r = sd_event_source_set_enabled(s->again_source, SD_EVENT_OFF);
	s->path = strdup(path);
	if (r < 0 || !s->path || lstat(path, &st) < 0) {
		unlink(path);
		return r < 0 ? r : -ENOMEM;
	}
	s->device = st.st_dev;
	s->inode = st.st_ino;
	s->fd = take_fd(&fd);
	return 0;
}
