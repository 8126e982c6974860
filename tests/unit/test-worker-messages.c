/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: messages reach a worker from many threads, in each thread's order, none lost, none twice, whatever the
 * worker's polling mode; a kept message is answered later, also when it is answered within its own run, and one may
 * travel over several workers.
 */
#include "on_worker.h"

#include <pthread.h>

#define SENDERS 4
#define PER_SENDER 20000u

struct numbered {
	struct worker_msg msg;
	unsigned sender, number;
};

static struct {
	unsigned next[SENDERS]; /* worker's own */
	bool disorder;
	unsigned left;
	bool all;
} seen;

static void numbered_run(struct worker_msg *m, struct worker *w)
{
	struct numbered *n = container_of(m, struct numbered, msg);

	if (seen.next[n->sender]++ != n->number)
		seen.disorder = true;
	free(n);
	if (--seen.left == 0)
		__atomic_store_n(&seen.all, true, __ATOMIC_RELEASE);
}

struct sender {
	pthread_t thread;
	struct worker *w;
	unsigned index;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < PER_SENDER; i++) {
		struct numbered *n = calloc(1, sizeof(*n));

		n->msg.run = numbered_run;
		n->sender = s->index;
		n->number = i;
		worker_post(s->w, &n->msg);
	}
	return NULL;
}

static void many_senders(enum worker_poll mode)
{
	struct sender s[SENDERS];
	struct worker *w = new_worker(0, mode);

	memset(&seen, 0, sizeof(seen));
	seen.left = SENDERS * PER_SENDER;
	for (unsigned i = 0; i < SENDERS; i++) {
		s[i] = (struct sender){ .w = w, .index = i };
		assert_int_equal(pthread_create(&s[i].thread, NULL, send_all, &s[i]), 0);
	}
	wait_until(&seen.all);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(s[i].thread, NULL);
	worker_destroy(w);
	assert_false(seen.disorder);
	for (unsigned i = 0; i < SENDERS; i++)
		assert_int_equal(seen.next[i], PER_SENDER);
}

static void many_senders_adaptive(void **state)
{
	(void)state;
	many_senders(WORKER_POLL_ADAPTIVE);
}

static void many_senders_always(void **state)
{
	(void)state;
	many_senders(WORKER_POLL_ALWAYS);
}

static void many_senders_never(void **state)
{
	(void)state;
	many_senders(WORKER_POLL_NEVER);
}

/* One message at a time, so that the worker goes to sleep, or is about to, whenever the next one comes. */
static void nothing(struct worker *w, void *arg)
{
	assert_true(worker_is_current(w));
	++*(unsigned *)arg;
}

static void wake_races_sleep(void **state)
{
	struct worker *w = new_worker(3, WORKER_POLL_NEVER);
	unsigned runs = 0;

	(void)state;
	for (unsigned i = 0; i < 50000; i++)
		on_worker(w, nothing, &runs);
	assert_int_equal(runs, 50000);
	assert_int_equal(worker_index(w), 3);
	assert_true(worker_tid(w) > 0);
	assert_false(worker_is_current(w));
	/* Read while it runs: relaxed. */
	assert_true(load_relaxed(&worker_counters(w)->messages) >= 50000);
	worker_destroy(w);
}

struct answer {
	struct worker_msg msg;
	struct worker *route[3];
	unsigned hop;
	bool later;
	bool done;
	struct worker_msg second;
};

static void answer_done(struct worker_msg *m)
{
	container_of(m, struct answer, msg)->done = true;
}

static void answer_second(struct worker_msg *m, struct worker *w)
{
	worker_reply(&container_of(m, struct answer, second)->msg);
}

static void answer_run(struct worker_msg *m, struct worker *w)
{
	struct answer *a = container_of(m, struct answer, msg);

	m->keep = true;
	if (!a->later) {
		worker_reply(m); /* at once: the message may be gone when this returns */
		return;
	}
	a->second.run = answer_second;
	worker_post(w, &a->second);
}

static void a_message_may_be_kept(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct answer *a = calloc(1, sizeof(*a));

		a->msg.run = answer_run;
		a->msg.done = answer_done;
		a->later = i % 2;
		worker_post(w, &a->msg);
		wait_until(&a->done);
		free(a);
	}
	worker_destroy(w);
}

static void route_run(struct worker_msg *m, struct worker *w)
{
	struct answer *a = container_of(m, struct answer, msg);

	assert_ptr_equal(w, a->route[a->hop]);
	if (++a->hop < ARRAY_SIZE(a->route))
		worker_post(a->route[a->hop], m);
}

static void a_message_may_travel_on(void **state)
{
	struct worker *w[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		w[i] = new_worker(i, i == 1 ? WORKER_POLL_NEVER : WORKER_POLL_ADAPTIVE);
	for (unsigned i = 0; i < 2000; i++) {
		struct answer a = { .msg = { .run = route_run, .done = answer_done }, .route = { w[0], w[1], w[2] } };

		worker_post(w[0], &a.msg);
		wait_until(&a.done);
		assert_int_equal(a.hop, 3);
	}
	for (unsigned i = 0; i < 3; i++)
		worker_destroy(w[i]);
}

static void what_was_posted_before_the_end_is_run(void **state)
{
	/* What was posted before destroy is run. */
	(void)state;
	for (unsigned i = 0; i < 200; i++) {
		struct worker *w = new_worker(0, i % 3);
		struct sender s = { .w = w };

		memset(&seen, 0, sizeof(seen));
		seen.left = PER_SENDER;
		if (i % 20 == 0)
			send_all(&s);
		worker_destroy(w);
		assert_int_equal(seen.next[0], i % 20 == 0 ? PER_SENDER : 0);
	}
	worker_destroy(NULL);
}

static void a_cpu_that_is_not_there_is_refused(void **state)
{
	struct worker_config config = { .cpu = 1000 };
	struct worker *w = NULL;

	(void)state;
	assert_true(worker_create(&config, &w) < 0);
	assert_null(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_senders_adaptive),
		cmocka_unit_test(many_senders_always),
		cmocka_unit_test(many_senders_never),
		cmocka_unit_test(wake_races_sleep),
		cmocka_unit_test(a_message_may_be_kept),
		cmocka_unit_test(a_message_may_travel_on),
		cmocka_unit_test(what_was_posted_before_the_end_is_run),
		cmocka_unit_test(a_cpu_that_is_not_there_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
