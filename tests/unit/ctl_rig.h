/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real control server on a thread of its own, its methods for tests, and clients that speak to it: proper ones, and ones that
 * send what they like.
 */
#pragma once

#include "ctl/client.h"
#include "ctl/server.h"

#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <cmocka.h>

#define HANG_MS 120000

static char folder[] = "/tmp/fairlead-ctl-XXXXXX", path[64];
static pthread_t thread;
static sd_event *event;
static struct ctl_server *server;
/* Calls that `test.later` keeps, answered by `test.release`. */
static struct ctl_call *kept[CTL_CALLS_MAX * 2];
static size_t n_kept;

/* --- methods --- */

static inline void echo(struct ctl_call *call, json_t *params, void *context)
{
	(void)context;
	ctl_reply(call, json_incref(params));
}

static inline void peer(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_reply(call, json_pack("{s:i}", "pid", (int)ctl_call_peer(call)->pid));
}

static inline void refuse(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_fail_data(call, CTL_ERROR_FAILED, json_pack("{s:i}", "number", 5), "try harder", "it %s", "failed");
}

static inline void later(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	kept[n_kept++] = call;
}

static inline void release(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_call *released[ARRAY_SIZE(kept)];
	size_t n = n_kept;

	(void)params;
	(void)context;
	/* An answer makes room for the client's next call, which may be kept at once: not for this time. */
	memcpy(released, kept, sizeof(kept));
	n_kept = 0;
	for (size_t i = 0; i < n; i++)
		ctl_reply(released[i], json_pack("{s:i}", "order", (int)i));
	ctl_reply(call, NULL);
}

static inline void counts(struct ctl_call *call, json_t *params, void *context)
{
	uint64_t turns = 0;

	(void)params;
	(void)context;
	sd_event_get_iteration(event, &turns);
	ctl_reply(call, json_pack("{s:i, s:i, s:I}", "kept", (int)n_kept, "clients", (int)ctl_server_clients(server), "turns",
				  (json_int_t)turns));
}

/* Events with a body of `bytes`. */
static inline void publish(struct ctl_call *call, json_t *params, void *context)
{
	size_t bytes = (size_t)json_integer_value(json_object_get(params, "bytes"));
	json_int_t n = json_integer_value(json_object_get(params, "n"));
	char *text = malloc(bytes + 1);

	(void)context;
	memset(text, 'x', bytes);
	text[bytes] = '\0';
	for (json_int_t i = 0; i < n; i++)
		ctl_server_publish(server, "test.event", json_pack("{s:I, s:s}", "i", i, "text", text));
	free(text);
	ctl_reply(call, NULL);
}

static inline void stop(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_reply(call, NULL);
	sd_event_exit(event, 0);
}

static const struct ctl_param any_params[] = {
	{ "text", CTL_STRING, false, "any" },  { "number", CTL_INTEGER, false, "any" },
	{ "flag", CTL_BOOLEAN, false, "any" }, { "object", CTL_OBJECT, false, "any" },
	{ "array", CTL_ARRAY, false, "any" },  { NULL },
};
static const struct ctl_param publish_params[] = {
	{ "n", CTL_INTEGER, true, "how many" }, { "bytes", CTL_INTEGER, true, "each" }, { NULL },
};
static const struct ctl_method methods[] = {
	{ "test.echo", any_params, echo, "gives back what it gets" },
	{ "test.peer", NULL, peer, "who asks" },
	{ "test.fail", NULL, refuse, "fails" },
	{ "test.later", NULL, later, "is answered by test.release" },
	{ "test.release", NULL, release, "answers all that wait" },
	{ "test.counts", NULL, counts, "what the server holds" },
	{ "test.publish", publish_params, publish, "sends events" },
	{ "test.stop", NULL, stop, "ends the server" },
	{ NULL },
};
static const struct ctl_event events[] = { { "test.event", "sent by test.publish" },
					   { "test.other", "never" },
					   { NULL } };

/* --- the server's life --- */

static inline void *run(void *arg)
{
	sd_event_loop(event);
	ctl_server_destroy(server);
	(void)arg;
	sd_event_unref(event);
	return NULL;
}

static inline int start(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/c.sock", folder);
	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(ctl_server_create(event, &server), 0);
	assert_int_equal(ctl_server_methods_add(server, methods, NULL), 0);
	assert_int_equal(ctl_server_events_add(server, events), 0);
	assert_int_equal(ctl_server_listen(server, path, 0640, NULL), 0);
	return pthread_create(&thread, NULL, run, NULL);
}

static inline struct ctl_client *connect_client(void)
{
	struct ctl_client *c;

	assert_int_equal(ctl_client_connect(path, HANG_MS, &c), 0);
	return c;
}

static inline json_t *call(struct ctl_client *c, const char *method, json_t *params)
{
	json_t *result = NULL, *error = NULL;

	assert_int_equal(ctl_client_call(c, method, params, &result, &error), 0);
	assert_non_null(result);
	return result;
}

static inline json_int_t count_of(struct ctl_client *c, const char *what)
{
	json_t *result = call(c, "test.counts", NULL);
	json_int_t n = json_integer_value(json_object_get(result, what));

	json_decref(result);
	return n;
}

static inline void wait_for_count(struct ctl_client *c, const char *what, json_int_t n)
{
	/* Ends with the test's own time limit. */
	while (count_of(c, what) != n)
		poll(NULL, 0, 1);
}

static inline int end(void **state)
{
	struct ctl_client *c = connect_client();

	(void)state;
	json_decref(call(c, "test.stop", NULL));
	ctl_client_close(c);
	pthread_join(thread, NULL);
	/* The socket goes with its server. */
	return rmdir(folder);
}

/* A plain socket, for what the client would never send. */
static inline int connect_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void send_text(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = send(fd, text, length, MSG_NOSIGNAL);

		/* It may be cut off before it has said all. */
		if (n < 0)
			return;
		text += n;
		length -= (size_t)n;
	}
}

/* One line without its end, new; NULL: the server has closed. */
static inline char *receive_line(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char *line;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	for (;;) {
		char c;

		assert_int_equal(poll(&p, 1, HANG_MS), 1);
		if (recv(fd, &c, 1, 0) != 1) {
			fclose(out);
			free(line);
			return NULL;
		}
		if (c == '\n')
			break;
		fputc(c, out);
	}
	fclose(out);
	return line;
}

static inline void expect(int fd, const char *wanted)
{
	char *line = receive_line(fd);

	assert_non_null(line);
	assert_string_equal(line, wanted);
	free(line);
}

#define ERROR(id, code, message) \
	"{\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":" #code ",\"message\":\"" message "\"}}"
#define NOT_JSON ERROR("null", -32700, "not one JSON document on one line")
#define NOT_RPC(id) ERROR(id, -32600, "not a JSON-RPC 2.0 request")
#define CALL(id, method, params) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\",\"params\":" params "}"
