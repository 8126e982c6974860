/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a real control server and clients of all manners: ones that do not read, that go away before they are answered,
 * that are too many.
 */
#include "ctl_rig.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_may_come_later),
		cmocka_unit_test(a_client_may_end_its_questions),
		cmocka_unit_test(a_client_may_leave_before_its_answer),
		cmocka_unit_test(events_come_to_those_who_want_them),
		cmocka_unit_test(a_slow_reader_loses_events),
		cmocka_unit_test(a_client_that_never_reads_is_held_off),
		cmocka_unit_test(clients_are_limited),
		cmocka_unit_test(without_descriptors_clients_wait),
	};

	return cmocka_run_group_tests(tests, start, end);
}
