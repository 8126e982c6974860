/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes the control socket: an input is what a client sends before it goes. Its methods answer at once, later or never
 * before the client has gone; events come meanwhile. Whatever it sends, nothing of it is left afterwards.
 */
#include "check.h"

#include "ctl/server_internal.h"

#include <string.h>
#include <sys/socket.h>

static struct ctl_server *server;
static sd_event *event;
static struct ctl_call *kept[4];
static unsigned n_kept;

static void echo(struct ctl_call *call, json_t *params, void *context)
{
	(void)context;
	ctl_reply(call, json_incref(params));
}

static void refuse(struct ctl_call *call, json_t *params, void *context)
{
	(void)context;
	ctl_fail_data(call, CTL_ERROR_FAILED, json_incref(params), "a hint", "%s", "no");
}

static void later(struct ctl_call *call, json_t *params, void *context)
{
	unsigned i = n_kept++ % (unsigned)ARRAY_SIZE(kept);

	(void)params;
	(void)context;
	if (kept[i])
		ctl_reply(kept[i], NULL);
	kept[i] = call;
}

static void publish(struct ctl_call *call, json_t *params, void *context)
{
	(void)context;
	ctl_server_publish(server, "e", json_incref(params));
	ctl_reply(call, NULL);
}

static const struct ctl_param params[] = {
	{ "s", CTL_STRING, false, "" }, { "i", CTL_INTEGER, true, "" }, { "b", CTL_BOOLEAN, false, "" },
	{ "o", CTL_OBJECT, false, "" }, { "a", CTL_ARRAY, false, "" }, { "x", CTL_ANY, false, "" }, { NULL },
};
static const struct ctl_method methods[] = {
	{ "echo", params, echo, "" }, { "fail", params, refuse, "" }, { "later", NULL, later, "" },
	{ "publish", params, publish, "" }, { NULL },
};
static const struct ctl_event events[] = { { "e", "" }, { "f", "" }, { NULL } };

static void set_up(void)
{
	if (server)
		return;
	CHECK(sd_event_new(&event) == 0 && ctl_server_create(event, &server) == 0);
	CHECK(ctl_server_methods_add(server, methods, NULL) == 0 && ctl_server_events_add(server, events) == 0);
}

static void answer_all(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++) {
		if (kept[i])
			ctl_reply(kept[i], NULL);
		kept[i] = NULL;
	}
}

static void turn(void)
{
	while (sd_event_run(event, 0) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char answers[4096];
	int fd[2];

	set_up();
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	CHECK(connection_create(server, fd[0]) == 0);
	for (size_t sent = 0, stuck = 0; sent < size && stuck < 3;) {
		ssize_t n = send(fd[1], data + sent, size - sent, MSG_NOSIGNAL);

		turn();
		/* A client that reads, but slowly. */
		stuck += n <= 0;
		if (n > 0)
			sent += (size_t)n;
		else if (recv(fd[1], answers, sizeof(answers), 0) > 0)
			stuck = 0;
	}
	turn();
	if (size % 2)
		answer_all();
	close(fd[1]);
	turn();
	answer_all();
	CHECK(server->n_connections == 0 && list_empty(&server->connections));
	return 0;
}
