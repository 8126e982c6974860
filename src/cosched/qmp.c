/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QEMU Machine Protocol, as far as it is needed: greeting, capabilities, one question, its answer. Events in between are
 * passed over. A message is a line.
 */
#include "cosched/qmp.h"

#include "base/util.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* An answer has about 200 bytes a vCPU. */
#define MESSAGE_MAX (256u * 1024)

enum step { GREETING, CAPABILITIES, ANSWER, DONE };

struct qmp {
	int fd;
	enum step step;
	pid_t peer;
	char *text;
	size_t used;
	struct qmp_vcpu *vcpu;
	size_t n;
};

int qmp_fd(const struct qmp *q)
{
	return q->fd;
}

pid_t qmp_peer(const struct qmp *q)
{
	return q->peer;
}

size_t qmp_vcpus(const struct qmp *q, const struct qmp_vcpu **ret)
{
	*ret = q->vcpu;
	return q->n;
}

void qmp_destroy(struct qmp *q)
{
	if (!q)
		return;
	cleanup_close_fd(&q->fd);
	free(q->text);
	free(q->vcpu);
	free(q);
}

int qmp_ask(const char *path, struct qmp **ret)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct qmp *q;
	int err = -ENAMETOOLONG;

	if (strlen(path) >= sizeof(address.sun_path))
		return err;
	strcpy(address.sun_path, path);
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	q->text = malloc(MESSAGE_MAX);
	if (!q->text)
		err = -ENOMEM;
	else if (q->fd < 0 || connect(q->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		 getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		err = -errno;
	else
		err = 0;
	if (err < 0) {
		qmp_destroy(q);
		return err;
	}
	q->peer = peer.pid;
	*ret = q;
	return 0;
}

/* A line of a few bytes into an empty socket buffer: it fits or the peer is not worth waiting for. */
static int say(struct qmp *q, const char *line)
{
	ssize_t n = send(q->fd, line, strlen(line), MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN ? -EPROTO : -errno;
	return (size_t)n == strlen(line) ? 0 : -EPROTO;
}

static int take_vcpus(struct qmp *q, const json_t *list)
{
	size_t n = json_array_size(list), i;
	json_t *v;

	if (!json_is_array(list) || n > QMP_VCPUS_MAX)
		return -EPROTO;
	q->vcpu = calloc(n + 1, sizeof(*q->vcpu));
	if (!q->vcpu)
		return -ENOMEM;
	json_array_foreach (list, i, v) {
		json_int_t tid = json_integer_value(json_object_get(v, "thread-id"));
		json_int_t index = json_integer_value(json_object_get(v, "cpu-index"));

		if (tid <= 0 || tid > INT32_MAX || index < 0 || index > INT32_MAX)
			return -EPROTO;
		q->vcpu[q->n++] = (struct qmp_vcpu){ (pid_t)tid, (unsigned)index };
	}
	return 0;
}

static int hear(struct qmp *q, const json_t *message)
{
	const json_t *result = json_object_get(message, "return");

	if (json_object_get(message, "event"))
		return 0;
	if (q->step == GREETING && json_object_get(message, "QMP")) {
		q->step = CAPABILITIES;
		return say(q, "{\"execute\":\"qmp_capabilities\"}\n");
	}
	if (q->step == CAPABILITIES && result) {
		q->step = ANSWER;
		return say(q, "{\"execute\":\"query-cpus-fast\"}\n");
	}
	if (q->step == ANSWER && result) {
		q->step = DONE;
		return take_vcpus(q, result);
	}
	return -EPROTO;
}

static int hear_lines(struct qmp *q)
{
	size_t begin = 0;
	char *end;
	int err = 0;

	while (err == 0 && q->step != DONE && (end = memchr(q->text + begin, '\n', q->used - begin))) {
		json_t *message = json_loadb(q->text + begin, (size_t)(end - q->text) - begin, 0, NULL);

		err = message ? hear(q, message) : -EPROTO;
		json_decref(message);
		begin = (size_t)(end - q->text) + 1;
	}
	memmove(q->text, q->text + begin, q->used - begin);
	q->used -= begin;
	return err;
}

int qmp_work(struct qmp *q)
{
	while (q->step != DONE) {
		ssize_t n = q->used < MESSAGE_MAX ? recv(q->fd, q->text + q->used, MESSAGE_MAX - q->used, 0) : 0;
		int err;

		if (n < 0)
			return errno == EINTR ? -EAGAIN : -errno;
		if (n == 0)
			return q->used < MESSAGE_MAX ? -ECONNRESET : -EPROTO;
		q->used += (size_t)n;
		err = hear_lines(q);
		if (err < 0)
			return err;
	}
	return 0;
}
