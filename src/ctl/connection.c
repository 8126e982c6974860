/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes between the control socket's clients and rpc.c: lines in, lines out, with bounds on both. Clients are local
 * users that the socket's group lets in; they may still be broken, slow or hostile.
 */
#include "ctl/server_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Per turn of the event loop and client, so that none keeps the others waiting. */
#define READ_BYTES (16u << 10)
/* A client that has this much to read is not read from, and gets no events. */
#define BACKLOG_BYTES (1u << 20)
/* What calls already made may add to that before the client is cut off. */
#define BACKLOG_MAX (64u << 20)

static void connection_free(struct ctl_connection *c)
{
	json_decref(c->topics);
	free(c->in);
	free(c->out);
	free(c);
}

void connection_close(struct ctl_connection *c)
{
	struct ctl_call *call, *next;

	if (c->fd < 0)
		return;
	c->source = sd_event_source_disable_unref(c->source);
	close(take_fd(&c->fd));
	list_remove(&c->node);
	c->server->n_connections--;
	/* Their handlers still hold them, and will answer into nothing. */
	list_for_each_safe(call, next, &c->calls, node) {
		list_remove(&call->node);
		call->connection = NULL;
	}
	if (!c->busy)
		connection_free(c);
}

static size_t backlog(const struct ctl_connection *c)
{
	return c->out_used - c->out_sent;
}

bool connection_backlogged(const struct ctl_connection *c)
{
	return backlog(c) > BACKLOG_BYTES;
}

static bool paused(const struct ctl_connection *c)
{
	return c->ending || connection_backlogged(c) || c->n_calls >= CTL_CALLS_MAX;
}

/* Asks the event loop for what can be done now. */
static void watch(struct ctl_connection *c)
{
	uint32_t events = (paused(c) || c->half ? 0 : EPOLLIN) | (backlog(c) ? EPOLLOUT : 0);

	if (c->fd >= 0)
		sd_event_source_set_io_events(c->source, events);
}

/* -errno when the client has gone. */
static int flush(struct ctl_connection *c)
{
	while (backlog(c)) {
		ssize_t n = send(c->fd, c->out + c->out_sent, backlog(c), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		c->out_sent += (size_t)n;
	}
	c->out_sent = c->out_used = 0;
	return 0;
}

static int make_room(char **buffer, size_t *room, size_t need)
{
	size_t grown = *room ? *room : 4096;
	char *moved;

	if (need <= *room)
		return 0;
	while (grown < need)
		grown *= 2;
	moved = realloc(*buffer, grown);
	if (!moved)
		return -ENOMEM;
	*buffer = moved;
	*room = grown;
	return 0;
}

static int append_line(struct ctl_connection *c, const char *text, size_t length)
{
	if (c->out_sent) {
		memmove(c->out, c->out + c->out_sent, backlog(c));
		c->out_used -= c->out_sent;
		c->out_sent = 0;
	}
	if (backlog(c) + length > BACKLOG_MAX || make_room(&c->out, &c->out_room, c->out_used + length + 1) < 0)
		return -ENOBUFS;
	memcpy(c->out + c->out_used, text, length);
	c->out[c->out_used + length] = '\n';
	c->out_used += length + 1;
	return 0;
}

void connection_send(struct ctl_connection *c, json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	int r = text ? append_line(c, text, strlen(text)) : -ENOMEM;

	free(text);
	json_decref(message);
	if (r == 0)
		r = flush(c);
	if (r < 0)
		connection_close(c);
	else
		watch(c);
}

/* --- input --- */

/* Handles the next whole line from `start` on; returns where the one after it begins, 0: there is none. */
static size_t take_line(struct ctl_connection *c, size_t start)
{
	char *line = c->in + start, *end = start < c->in_used ? memchr(line, '\n', c->in_used - start) : NULL;
	size_t length;

	if (!end)
		return 0;
	length = (size_t)(end - line);
	if (strspn(line, " \t\r") < length)
		rpc_message(c, line, length);
	return start + length + 1;
}

static void take_lines(struct ctl_connection *c)
{
	size_t start = 0, next;

	while (c->fd >= 0 && !paused(c) && (next = take_line(c, start)) > 0)
		start = next;
	if (start == 0)
		return;
	c->in_used -= start;
	memmove(c->in, c->in + start, c->in_used);
}

static bool over(const struct ctl_connection *c)
{
	return backlog(c) == 0 && (c->ending || (c->half && c->n_calls == 0));
}

void connection_work(struct ctl_connection *c)
{
	if (c->busy)
		return;
	c->busy = true;
	take_lines(c);
	if (c->fd >= 0 && !paused(c) && c->in_used > CTL_MESSAGE_MAX) {
		c->ending = true;
		rpc_refuse(c, CTL_ERROR_REQUEST, "the message is longer than 1 MiB");
	}
	c->busy = false;
	if (c->fd < 0)
		connection_free(c);
	else if (over(c))
		connection_close(c);
	else
		watch(c);
}

/* -errno: gone. */
static int read_some(struct ctl_connection *c)
{
	ssize_t n;

	if (make_room(&c->in, &c->in_room, c->in_used + READ_BYTES + 1) < 0)
		return -ENOMEM;
	n = recv(c->fd, c->in + c->in_used, READ_BYTES, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		c->half = true;
	c->in_used += (size_t)n;
	c->in[c->in_used] = '\0';
	return 0;
}

static int on_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct ctl_connection *c = userdata;
	int r = 0;

	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		r = flush(c);
	if (r == 0 && events & EPOLLIN)
		r = read_some(c);
	/* What it sent before it went counts; whoever has gone, and not just ended his questions, gets no answers. */
	if (r == 0 && events & (EPOLLHUP | EPOLLERR) && (c->half || !(events & EPOLLIN)))
		r = -ECONNRESET;
	if (r < 0)
		connection_close(c);
	else
		connection_work(c);
	return 0;
}

int connection_create(struct ctl_server *s, int fd)
{
	struct ctl_connection *c = calloc(1, sizeof(*c));
	socklen_t size = sizeof(c->peer);
	int r;

	if (!c)
		return -ENOMEM;
	list_init(&c->node);
	list_init(&c->calls);
	c->server = s;
	c->fd = fd;
	r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &size) < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(s->event, &c->source, fd, EPOLLIN, on_ready, c);
	if (r < 0) {
		free(c);
		return r;
	}
	list_append(&s->connections, &c->node);
	s->n_connections++;
	if (s->n_connections > CTL_CLIENTS_MAX) {
		c->ending = true;
		c->busy = true;
		rpc_refuse(c, CTL_ERROR_BUSY, "too many clients");
		c->busy = false;
		connection_work(c);
	}
	return 0;
}
