/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a real control server on a thread of its own, and clients of all manners: proper ones, ones that send
 * rubbish, that do not read, that go away before they are answered.
 */
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

static void echo(struct ctl_call *call, json_t *params, void *context)
{
	(void)context;
	ctl_reply(call, json_incref(params));
}

static void peer(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_reply(call, json_pack("{s:i}", "pid", (int)ctl_call_peer(call)->pid));
}

static void refuse(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	ctl_fail_data(call, CTL_ERROR_FAILED, json_pack("{s:i}", "number", 5), "try harder", "it %s", "failed");
}

static void later(struct ctl_call *call, json_t *params, void *context)
{
	(void)params;
	(void)context;
	kept[n_kept++] = call;
}

static void release(struct ctl_call *call, json_t *params, void *context)
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

static void counts(struct ctl_call *call, json_t *params, void *context)
{
	uint64_t turns = 0;

	(void)params;
	(void)context;
	sd_event_get_iteration(event, &turns);
	ctl_reply(call, json_pack("{s:i, s:i, s:I}", "kept", (int)n_kept, "clients", (int)ctl_server_clients(server), "turns",
				  (json_int_t)turns));
}

/* Events with a body of `bytes`. */
static void publish(struct ctl_call *call, json_t *params, void *context)
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

static void stop(struct ctl_call *call, json_t *params, void *context)
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

static void *run(void *arg)
{
	sd_event_loop(event);
	ctl_server_destroy(server);
	(void)arg;
	sd_event_unref(event);
	return NULL;
}

static int start(void **state)
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

static struct ctl_client *connect_client(void)
{
	struct ctl_client *c;

	assert_int_equal(ctl_client_connect(path, HANG_MS, &c), 0);
	return c;
}

static json_t *call(struct ctl_client *c, const char *method, json_t *params)
{
	json_t *result = NULL, *error = NULL;

	assert_int_equal(ctl_client_call(c, method, params, &result, &error), 0);
	assert_non_null(result);
	return result;
}

static json_int_t count_of(struct ctl_client *c, const char *what)
{
	json_t *result = call(c, "test.counts", NULL);
	json_int_t n = json_integer_value(json_object_get(result, what));

	json_decref(result);
	return n;
}

static void wait_for_count(struct ctl_client *c, const char *what, json_int_t n)
{
	/* Ends with the test's own time limit. */
	while (count_of(c, what) != n)
		poll(NULL, 0, 1);
}

static int end(void **state)
{
	struct ctl_client *c = connect_client();

	(void)state;
	json_decref(call(c, "test.stop", NULL));
	ctl_client_close(c);
	pthread_join(thread, NULL);
	/* The socket goes with its server. */
	return rmdir(folder);
}

/* --- tests --- */

static void a_call_is_answered(void **state)
{
	struct ctl_client *c = connect_client();
	json_t *sent = json_pack("{s:s, s:i, s:b, s:[i], s:{}}", "text", "h\xc3\xa9\n\"", "number", 3, "flag", 1,
				 "array", 1, "object");
	json_t *got = call(c, "test.echo", json_incref(sent));

	(void)state;
	assert_true(json_equal(sent, got));
	json_decref(sent);
	json_decref(got);
	got = call(c, "test.peer", NULL);
	assert_int_equal(json_integer_value(json_object_get(got, "pid")), getpid());
	json_decref(got);
	ctl_client_close(c);
}

static void a_failure_says_why(void **state)
{
	struct ctl_client *c = connect_client();
	json_t *result = NULL, *error = NULL, *data;

	(void)state;
	assert_int_equal(ctl_client_call(c, "test.fail", NULL, &result, &error), -EREMOTEIO);
	data = json_object_get(error, "data");
	assert_int_equal(json_integer_value(json_object_get(error, "code")), CTL_ERROR_FAILED);
	assert_string_equal(json_string_value(json_object_get(error, "message")), "it failed");
	assert_string_equal(json_string_value(json_object_get(data, "hint")), "try harder");
	assert_int_equal(json_integer_value(json_object_get(data, "number")), 5);
	json_decref(error);
	ctl_client_close(c);
}

/* What an answer quotes is cut at some length, maybe in a character's midst. */
static void an_answer_quotes_any_name(void **state)
{
	char name[80 + 1], object[100 + 40];
	json_t *result = NULL, *error;
	struct ctl_client *c = connect_client();

	(void)state;
	for (size_t ascii = 60; ascii <= 66; ascii++) {
		memset(name, 'x', ascii);
		strcpy(name + ascii, "\xf0\x9f\x9a\xa2");
		error = NULL;
		assert_int_equal(ctl_client_call(c, name, NULL, &result, &error), -EREMOTEIO);
		assert_int_equal(json_integer_value(json_object_get(error, "code")), CTL_ERROR_METHOD);
		json_decref(error);
		error = NULL;
		snprintf(object, sizeof(object), "{\"%s\": 1}", name);
		assert_int_equal(ctl_client_call(c, "test.echo", json_loads(object, 0, NULL), &result, &error), -EREMOTEIO);
		assert_int_equal(json_integer_value(json_object_get(error, "code")), CTL_ERROR_PARAMS);
		json_decref(error);
	}
	ctl_client_close(c);
}

static void describe_lists_everything(void **state)
{
	struct ctl_client *c = connect_client();
	json_t *d = call(c, "rpc.describe", NULL), *list = json_object_get(d, "methods"), *m;
	bool found = false;
	size_t i;

	(void)state;
	assert_int_equal(json_integer_value(json_object_get(d, "protocol")), CTL_PROTOCOL);
	assert_string_equal(json_string_value(json_object_get(d, "version")), FAIRLEAD_VERSION);
	json_array_foreach (list, i, m) {
		json_t *params = json_object_get(m, "params");

		assert_true(json_is_string(json_object_get(m, "doc")));
		if (strcmp(json_string_value(json_object_get(m, "name")), "test.publish") != 0)
			continue;
		found = true;
		assert_int_equal(json_array_size(params), 2);
		assert_string_equal(json_string_value(json_object_get(json_array_get(params, 0), "type")), "integer");
		assert_true(json_is_true(json_object_get(json_array_get(params, 0), "required")));
	}
	assert_true(found);
	assert_int_equal(json_array_size(json_object_get(d, "events")), 2);
	json_decref(d);
	ctl_client_close(c);
}

/* A plain socket, for what the client would never send. */
static int connect_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void send_text(int fd, const char *text, size_t length)
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
static char *receive_line(int fd)
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

static void expect(int fd, const char *wanted)
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

static const struct {
	const char *sent, *wanted;
} lines[] = {
	{ "{", NOT_JSON },
	{ "hello", NOT_JSON },
	{ "{} {}", NOT_JSON },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"test.peer\"}", NOT_JSON },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"test.\\u0000peer\"}", NOT_JSON },
	{ "\xff\xfe", NOT_JSON },
	{ "{}", NOT_RPC("null") },
	{ "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"test.peer\"}", NOT_RPC("1") },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1}", NOT_RPC("1") },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", NOT_RPC("1") },
	{ "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"test.peer\"}", NOT_RPC("null") },
	{ "[]", ERROR("null", -32600, "an empty batch") },
	{ CALL("\"a\"", "test.echo", "{}"), "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{}}" },
	{ CALL("null", "test.echo", "{}"), "{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{}}" },
	{ CALL("1", "test.ech", "{}"), "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"no "
				       "method 'test.ech'\",\"data\":{\"hint\":\"did you "
				       "mean test.echo?\"}}}" },
	{ CALL("1", "test.echo", "{\"txt\":1}"),
	  "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"test.echo has no parameter "
	  "'txt'\",\"data\":{\"hint\":\"did you mean text?\"}}}" },
	{ CALL("1", "test.echo", "{\"number\":1.5}"),
	  ERROR("1", -32602, "test.echo: 'number' must be of type integer") },
	{ CALL("1", "test.publish", "{\"n\":1}"), ERROR("1", -32602, "test.publish: 'bytes' is missing") },
	{ CALL("1", "test.echo", "[1]"),
	  "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32602,\"message\":\"parameters are given by name, as an "
	  "object\",\"data\":{\"hint\":\"rpc.describe lists them\"}}}" },
	{ "[" CALL("1", "test.echo", "{}") ", 5, {\"jsonrpc\":\"2.0\",\"method\":\"test.echo\"}]",
	  "[{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}," NOT_RPC("null") "]" },
	/* Notifications have no answer, even wrong ones, alone and in a batch; the line after them shows it. */
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"nope\"}\n[{\"jsonrpc\":\"2.0\",\"method\":\"nope\"}]\n\n  \n" CALL(
		  "9", "test.echo", "{}"),
	  "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}" },
};

static void rubbish_is_refused_and_survived(void **state)
{
	int fd = connect_raw();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		send_text(fd, lines[i].sent, strlen(lines[i].sent));
		send_text(fd, "\n", 1);
		expect(fd, lines[i].wanted);
	}
	close(fd);
}

static void deep_nesting_is_refused(void **state)
{
	char *deep = malloc(100000);
	int fd = connect_raw();

	(void)state;
	memset(deep, '[', 100000);
	deep[99999] = '\n';
	send_text(fd, deep, 100000);
	expect(fd, NOT_JSON);
	free(deep);
	close(fd);
}

static void bytes_may_come_one_by_one(void **state)
{
	static const char text[] = CALL("1", "test.echo", "{}") "\n";
	int fd = connect_raw();

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		send_text(fd, &text[i], 1);
	expect(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
	close(fd);
}

static void a_message_has_a_longest_length(void **state)
{
	struct ctl_client *c = connect_client();
	size_t fits = CTL_MESSAGE_MAX - 100, too_long = CTL_MESSAGE_MAX * 3;
	char *text = malloc(too_long + 1);
	json_t *got;
	int fd = connect_raw();
	char *line;

	(void)state;
	memset(text, 'x', too_long);
	text[fits] = '\0';
	got = call(c, "test.echo", json_pack("{s:s}", "text", text));
	assert_int_equal(json_string_length(json_object_get(got, "text")), fits);
	json_decref(got);
	text[fits] = 'x';
	send_text(fd, text, too_long);
	expect(fd, ERROR("null", -32600, "the message is longer than 1 MiB"));
	line = receive_line(fd);
	assert_null(line);
	close(fd);
	free(text);
	ctl_client_close(c);
}

/* What waits is answered in any order; a client with 64 unanswered calls is not read from until one is answered. */
static void answers_may_come_later(void **state)
{
	struct ctl_client *c = connect_client();
	int fd = connect_raw();

	(void)state;
	for (int i = 0; i < CTL_CALLS_MAX + 8; i++) {
		char text[128];
		int n = snprintf(text, sizeof(text), CALL("%d", "test.later", "{}") "\n", i);

		send_text(fd, text, (size_t)n);
	}
	wait_for_count(c, "kept", CTL_CALLS_MAX);
	json_decref(call(c, "test.release", NULL));
	for (int i = 0; i < CTL_CALLS_MAX; i++) {
		char wanted[128];

		snprintf(wanted, sizeof(wanted), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":{\"order\":%d}}", i, i);
		expect(fd, wanted);
	}
	wait_for_count(c, "kept", 8);
	json_decref(call(c, "test.release", NULL));
	for (int i = 0; i < 8; i++)
		free(receive_line(fd));
	close(fd);
	ctl_client_close(c);
}

/* `printf ... | nc -U`: all questions, and the end of them, before the first answer. */
static void a_client_may_end_its_questions(void **state)
{
	static const char later[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"test.later\"}\n",
			  now[] = "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"test.echo\"}\n";
	struct ctl_client *c = connect_client();
	int fd = connect_raw();
	char end;

	(void)state;
	for (unsigned i = 0; i < CTL_CALLS_MAX; i++)
		send_text(fd, later, strlen(later));
	/* Read only when one of those is answered. */
	send_text(fd, now, strlen(now));
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	wait_for_count(c, "kept", CTL_CALLS_MAX);
	json_decref(call(c, "test.release", NULL));
	for (unsigned i = 0; i <= CTL_CALLS_MAX; i++) {
		char *line = receive_line(fd);

		assert_non_null(line);
		free(line);
	}
	assert_int_equal(read(fd, &end, 1), 0);
	close(fd);
	wait_for_count(c, "clients", 1);
	ctl_client_close(c);
}

static void a_client_may_leave_before_its_answer(void **state)
{
	struct ctl_client *c = connect_client();
	static const char text[] = "[" CALL("1", "test.later", "{}") "," CALL("2", "test.later", "{}") "]\n" CALL(
		"3", "test.later", "{}") "\n";
	int fd = connect_raw();

	(void)state;
	send_text(fd, text, sizeof(text) - 1);
	wait_for_count(c, "kept", 3);
	close(fd);
	wait_for_count(c, "clients", 1);
	json_decref(call(c, "test.release", NULL));
	ctl_client_close(c);
}

static void events_come_to_those_who_want_them(void **state)
{
	struct ctl_client *a = connect_client(), *b = connect_client();
	json_t *result, *error, *got;

	(void)state;
	json_decref(call(a, "rpc.subscribe", json_pack("{s:[s]}", "events", "test.event")));
	assert_int_equal(ctl_client_call(a, "rpc.subscribe", json_pack("{s:[s]}", "events", "nope"), &result, &error),
			 -EREMOTEIO);
	json_decref(error);
	json_decref(call(b, "rpc.subscribe", json_pack("{s:[s]}", "events", "test.other")));
	json_decref(call(a, "test.publish", json_pack("{s:i, s:i}", "n", 3, "bytes", 10)));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ctl_client_event(a, &got), 0);
		assert_string_equal(json_string_value(json_object_get(got, "method")), "test.event");
		assert_int_equal(json_integer_value(json_object_get(json_object_get(got, "params"), "i")), i);
		json_decref(got);
	}
	json_decref(call(b, "rpc.subscribe", NULL));
	json_decref(call(a, "rpc.unsubscribe", NULL));
	json_decref(call(a, "test.publish", json_pack("{s:i, s:i}", "n", 1, "bytes", 10)));
	assert_int_equal(ctl_client_event(b, &got), 0);
	json_decref(got);
	ctl_client_close(a);
	ctl_client_close(b);
}

/* It loses events, is told how many, and keeps nobody else waiting. */
static void a_slow_reader_loses_events(void **state)
{
	struct ctl_client *fast = connect_client(), *slow = connect_client();
	const int n = 200, bytes = 60000;
	json_int_t got_events = 0, lost = 0;
	json_t *got;

	(void)state;
	json_decref(call(slow, "rpc.subscribe", NULL));
	json_decref(call(fast, "test.publish", json_pack("{s:i, s:i}", "n", n, "bytes", bytes)));
	while (lost == 0) {
		assert_int_equal(ctl_client_event(slow, &got), 0);
		if (strcmp(json_string_value(json_object_get(got, "method")), "rpc.lost") == 0)
			lost = json_integer_value(json_object_get(json_object_get(got, "params"), "events"));
		else
			got_events++;
		json_decref(got);
		/* Once it has read what waited, the next event finds room, and the loss is told before it. */
		if (got_events > 0 && lost == 0)
			json_decref(call(fast, "test.publish", json_pack("{s:i, s:i}", "n", 1, "bytes", 1)));
	}
	assert_true(got_events < n);
	ctl_client_close(fast);
	ctl_client_close(slow);
}

/* Answers wait in the server while it is not read from, up to a bound; then it is not read from either. */
static void a_client_that_never_reads_is_held_off(void **state)
{
	struct ctl_client *c = connect_client();
	char *text = malloc(300001), *request;
	int fd = connect_raw(), n;

	(void)state;
	memset(text, 'x', 300000);
	text[300000] = '\0';
	n = asprintf(&request, CALL("1", "test.echo", "{\"text\":\"%s\"}") "\n", text);
	assert_true(n > 0);
	for (int i = 0; i < 400; i++) {
		size_t left = (size_t)n;

		/* Until the server takes no more: whole lines or not. */
		while (left > 0) {
			ssize_t sent = send(fd, request + ((size_t)n - left), left, MSG_NOSIGNAL | MSG_DONTWAIT);

			if (sent > 0) {
				left -= (size_t)sent;
			} else if (errno == EAGAIN) {
				/* Two calls of another client later it still takes nothing: it is held off. */
				json_decref(call(c, "test.counts", NULL));
				json_decref(call(c, "test.counts", NULL));
				if (poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, 0) == 0)
					goto held_off;
			} else {
				fail();
			}
		}
	}
	fail_msg("%s", "it was read from for ever");
held_off:
	json_decref(call(c, "test.peer", NULL));
	close(fd);
	free(request);
	free(text);
	ctl_client_close(c);
}

static void clients_are_limited(void **state)
{
	int fd[CTL_CLIENTS_MAX + 1];
	struct ctl_client *c;

	(void)state;
	c = connect_client();
	wait_for_count(c, "clients", 1);
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		fd[i] = connect_raw();
	expect(fd[CTL_CLIENTS_MAX - 1], ERROR("null", -32003, "too many clients"));
	for (int i = 0; i < CTL_CLIENTS_MAX; i++)
		close(fd[i]);
	wait_for_count(c, "clients", 1);
	ctl_client_close(c);
}

/* The server shares this process' descriptors. A client that it has none for waits, and nobody turns in circles for it. */
static void without_descriptors_clients_wait(void **state)
{
	struct rlimit limit, low;
	struct ctl_client *c = connect_client();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	json_int_t turns;

	(void)state;
	wait_for_count(c, "clients", 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	turns = count_of(c, "turns");
	poll(NULL, 0, 300);
	turns = count_of(c, "turns") - turns;
	assert_int_equal(count_of(c, "clients"), 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(turns < 100);
	wait_for_count(c, "clients", 2);
	close(fd);
	ctl_client_close(c);
}

static void the_socket_is_what_was_asked_for(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ctl_server *second;
	struct ctl_client *c;
	char other[80];
	struct stat st;
	sd_event *e;
	int fd;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(sd_event_new(&e), 0);
	assert_int_equal(ctl_server_create(e, &second), 0);
	assert_int_equal(ctl_server_listen(second, path, 0600, NULL), -EADDRINUSE);
	snprintf(other, sizeof(other), "%s/other", folder);
	assert_int_equal(ctl_server_listen(second, other, 0600, "no-such-group-here"), -ESRCH);
	assert_int_equal(stat(other, &st), -1);
	/* What a killed daemon leaves behind. */
	strcpy(address.sun_path, other);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(ctl_client_connect(other, HANG_MS, &c), -ECONNREFUSED);
	assert_int_equal(ctl_server_listen(second, other, 0600, NULL), 0);
	assert_int_equal(ctl_client_connect(other, HANG_MS, &c), 0);
	ctl_client_close(c);
	ctl_server_destroy(second);
	assert_int_equal(ctl_client_connect(other, HANG_MS, &c), -ENOENT);
	sd_event_unref(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_is_answered),
		cmocka_unit_test(a_failure_says_why),
		cmocka_unit_test(an_answer_quotes_any_name),
		cmocka_unit_test(describe_lists_everything),
		cmocka_unit_test(rubbish_is_refused_and_survived),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(bytes_may_come_one_by_one),
		cmocka_unit_test(a_message_has_a_longest_length),
		cmocka_unit_test(answers_may_come_later),
		cmocka_unit_test(a_client_may_end_its_questions),
		cmocka_unit_test(a_client_may_leave_before_its_answer),
		cmocka_unit_test(events_come_to_those_who_want_them),
		cmocka_unit_test(a_slow_reader_loses_events),
		cmocka_unit_test(a_client_that_never_reads_is_held_off),
		cmocka_unit_test(clients_are_limited),
		cmocka_unit_test(without_descriptors_clients_wait),
		cmocka_unit_test(the_socket_is_what_was_asked_for),
	};

	return cmocka_run_group_tests(tests, start, end);
}
