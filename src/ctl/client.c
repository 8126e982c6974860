/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client that waits. Any thread, one at a time.
 */
#include "ctl/client.h"

#include "base/clock.h"
#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Answers are bounded by what the daemon has to say; this is where we stop to believe it. */
#define LINE_MAX_BYTES (256u << 20)

struct ctl_client {
	int fd, timeout_ms;
	json_int_t last_id;
	char *in;
	size_t used, room;
	json_t *events; /* that came while an answer was waited for */
};

int ctl_client_connect(const char *path, int timeout_ms, struct ctl_client **ret)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ctl_client *c;

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	c = calloc(1, sizeof(*c));
	if (c)
		c->events = json_array();
	if (!c || !c->events) {
		free(c);
		return -ENOMEM;
	}
	c->fd = take_fd(&fd);
	c->timeout_ms = timeout_ms;
	*ret = c;
	return 0;
}

void ctl_client_close(struct ctl_client *c)
{
	if (!c)
		return;
	close(c->fd);
	json_decref(c->events);
	free(c->in);
	free(c);
}

int ctl_client_fd(const struct ctl_client *c)
{
	return c->fd;
}

static int wait_for(const struct ctl_client *c, short events, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	for (;;) {
		uint64_t now = clock_now_ns(),
			 left_ms = deadline_ns > now ? (deadline_ns - now) / NSEC_PER_MSEC + 1 : 0;
		int r = poll(&p, 1, deadline_ns == UINT64_MAX ? -1 : (int)min_u64(left_ms, 1000000));

		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0 && left_ms == 0)
			return -ETIMEDOUT;
	}
}

static uint64_t deadline(const struct ctl_client *c)
{
	return c->timeout_ms < 0 ? UINT64_MAX : clock_now_ns() + (uint64_t)c->timeout_ms * NSEC_PER_MSEC;
}

static int send_all(struct ctl_client *c, const char *text, size_t length, uint64_t deadline_ns)
{
	while (length > 0) {
		ssize_t n = send(c->fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT);
		int r;

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return errno == EPIPE ? -ECONNRESET : -errno;
		r = n < 0 ? wait_for(c, POLLOUT, deadline_ns) : 0;
		if (r < 0)
			return r;
		text += n < 0 ? 0 : n;
		length -= n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

static int receive_some(struct ctl_client *c, uint64_t deadline_ns)
{
	ssize_t n;
	int r = wait_for(c, POLLIN, deadline_ns);

	if (r < 0)
		return r;
	if (c->room - c->used < 65536) {
		size_t grown = c->room ? c->room * 2 : 131072;
		char *moved = grown > LINE_MAX_BYTES ? NULL : realloc(c->in, grown);

		if (!moved)
			return -ENOMEM;
		c->in = moved;
		c->room = grown;
	}
	n = recv(c->fd, c->in + c->used, c->room - c->used, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	c->used += (size_t)n;
	return 0;
}

static int receive(struct ctl_client *c, uint64_t deadline_ns, json_t **ret)
{
	size_t seen = 0;
	char *end;

	while (!(end = c->used > seen ? memchr(c->in + seen, '\n', c->used - seen) : NULL)) {
		int r;

		seen = c->used;
		r = receive_some(c, deadline_ns);
		if (r < 0)
			return r;
	}
	*ret = json_loadb(c->in, (size_t)(end - c->in), 0, NULL);
	c->used -= (size_t)(end - c->in) + 1;
	memmove(c->in, end + 1, c->used);
	return *ret ? 0 : -EPROTO;
}

static int take_answer(json_t *message, json_t **ret_result, json_t **ret_error)
{
	json_t *result = json_object_get(message, "result"), *error = json_object_get(message, "error");
	int r = error ? -EREMOTEIO : result ? 0 : -EPROTO;

	if (r == 0)
		*ret_result = json_incref(result);
	else if (error)
		*ret_error = json_incref(error);
	json_decref(message);
	return r;
}

int ctl_client_call(struct ctl_client *c, const char *method, json_t *params, json_t **ret_result, json_t **ret_error)
{
	json_t *request = json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", ++c->last_id, "method", method,
				    "params", params);
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	uint64_t until = deadline(c);
	json_t *message;
	int r = text ? send_all(c, text, strlen(text), until) : -ENOMEM;

	if (r == 0)
		r = send_all(c, "\n", 1, until);
	/* It may have been refused before it was read to its end: the answer says why. */
	if (r == -ECONNRESET)
		r = 0;
	json_decref(request);
	free(text);
	while (r == 0 && (r = receive(c, until, &message)) == 0) {
		const json_t *id = json_object_get(message, "id");

		if (json_is_integer(id) && json_integer_value(id) == c->last_id)
			return take_answer(message, ret_result, ret_error);
		/* Refused as a whole, before it was a call of ours. */
		if (json_object_get(message, "error") && !json_is_integer(id))
			return take_answer(message, ret_result, ret_error);
		if (json_object_get(message, "method"))
			json_array_append(c->events, message);
		json_decref(message);
	}
	return r;
}

int ctl_client_event(struct ctl_client *c, json_t **ret_event)
{
	uint64_t until = deadline(c);
	json_t *message;
	int r;

	if (json_array_size(c->events)) {
		*ret_event = json_incref(json_array_get(c->events, 0));
		json_array_remove(c->events, 0);
		return 0;
	}
	while ((r = receive(c, until, &message)) == 0) {
		if (json_object_get(message, "method")) {
			*ret_event = message;
			return 0;
		}
		json_decref(message);
	}
	return r;
}
