/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctl/asker.h"

#include "base/util.h"
#include "ctl/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Questions that pass without an answer before the connection is given up. */
#define PATIENCE 5u

struct ctl_asker {
	sd_event *event;
	const char *method;
	ctl_answer answer;
	void *arg;
	int fd;
	pid_t peer;
	sd_event_source *source;
	char *text;
	size_t used;
	unsigned unanswered;
};

int ctl_asker_create(sd_event *event, const char *method, ctl_answer answer, void *arg, struct ctl_asker **ret)
{
	struct ctl_asker *a = calloc(1, sizeof(*a));

	if (!a || !(a->text = malloc(CTL_MESSAGE_MAX))) {
		free(a);
		return -ENOMEM;
	}
	a->event = sd_event_ref(event);
	a->method = method;
	a->answer = answer;
	a->arg = arg;
	a->fd = -1;
	*ret = a;
	return 0;
}

static void disconnect(struct ctl_asker *a)
{
	sd_event_source_disable_unref(a->source);
	a->source = NULL;
	cleanup_close_fd(&a->fd);
	a->fd = -1;
	a->used = 0;
	a->unanswered = 0;
}

void ctl_asker_destroy(struct ctl_asker *a)
{
	if (!a)
		return;
	disconnect(a);
	sd_event_unref(a->event);
	free(a->text);
	free(a);
}

static void give_up(struct ctl_asker *a)
{
	disconnect(a);
	a->answer(a->arg, NULL, 0);
}

/* --- hearing --- */

static void hear_lines(struct ctl_asker *a)
{
	size_t begin = 0;
	char *end;

	while ((end = memchr(a->text + begin, '\n', a->used - begin))) {
		json_t *message = json_loadb(a->text + begin, (size_t)(end - a->text) - begin, 0, NULL);

		a->unanswered = 0;
		a->answer(a->arg, json_object_get(message, "result"), a->peer);
		json_decref(message);
		begin = (size_t)(end - a->text) + 1;
	}
	memmove(a->text, a->text + begin, a->used - begin);
	a->used -= begin;
}

static int on_readable(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct ctl_asker *a = arg;
	ssize_t n = recv(fd, a->text + a->used, CTL_MESSAGE_MAX - a->used, MSG_DONTWAIT);

	(void)s;
	(void)revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0) {
		a->used += (size_t)n;
		hear_lines(a);
	}
	if (n <= 0 || a->used == CTL_MESSAGE_MAX)
		give_up(a);
	return 0;
}

/* --- asking --- */

static int connect_to(struct ctl_asker *a, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockopt(a->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return -errno;
	a->peer = peer.pid;
	return sd_event_add_io(a->event, &a->source, a->fd, EPOLLIN, on_readable, a);
}

void ctl_asker_ask(struct ctl_asker *a, const char *path)
{
	char question[128];
	int n = snprintf(question, sizeof(question), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"}\n", a->method);

	if (a->fd >= 0 && a->unanswered >= PATIENCE)
		disconnect(a);
	if (a->fd < 0 && connect_to(a, path) < 0) {
		give_up(a);
		return;
	}
	a->unanswered++;
	if (send(a->fd, question, (size_t)n, MSG_NOSIGNAL) != n)
		give_up(a);
}
