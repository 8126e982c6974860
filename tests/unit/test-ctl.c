/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a real control server, what it answers to calls and to rubbish, and its socket.
 */
#include "ctl_rig.h"

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
	/* Somebody's file, whose name was given by mistake, stays. */
	fclose(fopen(other, "w"));
	assert_int_equal(ctl_server_listen(second, other, 0600, NULL), -EEXIST);
	assert_int_equal(stat(other, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(other);
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
		cmocka_unit_test(the_socket_is_what_was_asked_for),
	};

	return cmocka_run_group_tests(tests, start, end);
}
