/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: sources are polled, armed, woken by hand, by other threads and by their deadlines, in every polling
 * mode; they come and go while the worker is busy, also from within their own poll; idle ones cost nothing.
 */
#include "on_worker.h"

#include "base/spsc.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

static const enum worker_poll modes[] = { WORKER_POLL_ADAPTIVE, WORKER_POLL_ALWAYS, WORKER_POLL_NEVER };

/* Waits for a condition that another thread brings about; expr must be safe to evaluate meanwhile. */
#define wait_for(expr)                                                       \
	do {                                                                 \
		uint64_t limit_ = clock_now_ns() + HANG_NS;                  \
		while (!(expr)) {                                            \
			assert_true(clock_now_ns() < limit_);                \
			usleep(100);                                         \
		}                                                            \
	} while (0)

/* --- arming --- */

struct probe {
	struct worker_source source;
	uint64_t polls, arms, disarms; /* atomic */
	uint64_t deadline_ns, polled_after_deadline; /* atomic */
	unsigned work;			/* worker's own */
};

static unsigned probe_poll(struct worker_source *s, uint64_t now_ns)
{
	struct probe *p = container_of(s, struct probe, source);
	uint64_t deadline_ns = load_relaxed(&p->deadline_ns);

	assert(now_ns == worker_now_ns(s->worker));
	counter_add(&p->polls, 1);
	if (deadline_ns && now_ns >= deadline_ns) {
		store_relaxed(&p->deadline_ns, 0);
		store_relaxed(&p->polled_after_deadline, 1);
		return 1;
	}
	if (p->work) {
		p->work--;
		return 1;
	}
	return 0;
}

static bool probe_arm(struct worker_source *s)
{
	struct probe *p = container_of(s, struct probe, source);

	counter_add(&p->arms, 1);
	return p->work != 0;
}

static void probe_disarm(struct worker_source *s)
{
	counter_add(&container_of(s, struct probe, source)->disarms, 1);
}

static uint64_t probe_deadline(const struct worker_source *s)
{
	uint64_t at = load_relaxed(&container_of(s, struct probe, source)->deadline_ns);

	return at ? at : UINT64_MAX;
}

static const struct worker_source_ops probe_ops = { .poll = probe_poll, .arm = probe_arm, .disarm = probe_disarm };
static const struct worker_source_ops timed_ops = { .poll = probe_poll, .arm = probe_arm,
						    .deadline_ns = probe_deadline };

static void add(struct worker *w, void *arg)
{
	worker_source_add(w, arg);
}

static void take_away(struct worker *w, void *arg)
{
	worker_source_remove(arg);
	worker_source_remove(arg); /* harmless */
}

static void give_work(struct worker *w, void *arg)
{
	struct probe *p = arg;

	p->work += 3;
	worker_source_wake(&p->source);
}

static void idle_is_armed_and_woken(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct worker *w = new_worker(0, modes[i]);
		struct probe p = { .source.ops = &probe_ops };

		on_worker(w, add, &p.source);
		if (modes[i] == WORKER_POLL_ALWAYS) {
			wait_for(load_relaxed(&p.polls) > 100000);
			assert_int_equal(load_relaxed(&p.arms), 0);
			assert_int_equal(load_relaxed(&worker_counters(w)->sleeps), 0);
		} else {
			wait_for(load_relaxed(&p.arms) == 1 && load_relaxed(&worker_counters(w)->sleeps) > 0);
			on_worker(w, give_work, &p);
			wait_for(load_relaxed(&p.arms) >= 2);
			assert_int_equal(load_relaxed(&p.disarms), 1);
		}
		on_worker(w, take_away, &p.source);
		assert_null(p.source.worker);
		if (modes[i] != WORKER_POLL_ALWAYS)
			assert_int_equal(p.source.found, 3);
		worker_destroy(w);
	}
}

/* A source with a request in flight is kept hot for a while, but neither it nor its worker for ever. */
static void in_flight_is_bounded(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct probe p = { .source.ops = &probe_ops };

	(void)state;
	p.source.in_flight = 1;
	on_worker(w, add, &p.source);
	wait_for(load_relaxed(&p.arms) == 1 && load_relaxed(&worker_counters(w)->sleeps) > 0);
	on_worker(w, take_away, &p.source);
	worker_destroy(w);
}

static void deadlines_are_kept(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct worker *w = new_worker(0, modes[i]);
		struct probe p = { .source.ops = &timed_ops };

		/* From "at once" to one that is slept for. */
		for (uint64_t after_ns = 1000; after_ns < 50 * NSEC_PER_MSEC; after_ns *= 5) {
			uint64_t at = clock_now_ns() + after_ns;

			store_relaxed(&p.polled_after_deadline, 0);
			store_relaxed(&p.deadline_ns, at);
			on_worker(w, add, &p.source);
			wait_for(load_relaxed(&p.polled_after_deadline));
			assert_true(clock_now_ns() >= at);
			on_worker(w, take_away, &p.source);
		}
		worker_destroy(w);
	}
}

/* A busy neighbour keeps the worker from sleeping; the deadline of an armed source is kept all the same. */
static void deadlines_are_kept_beside_a_busy_source(void **state)
{
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	struct probe busy = { .source.ops = &probe_ops, .work = UINT32_MAX }, p = { .source.ops = &timed_ops };
	uint64_t sleeps;

	(void)state;
	on_worker(w, add, &busy.source);
	sleeps = load_relaxed(&worker_counters(w)->sleeps); /* while there was nothing */
	store_relaxed(&p.deadline_ns, clock_now_ns() + 20 * NSEC_PER_MSEC);
	on_worker(w, add, &p.source);
	wait_for(load_relaxed(&p.polled_after_deadline));
	wait_for(load_relaxed(&p.arms) > 1);
	on_worker(w, take_away, &p.source);
	assert_int_equal(load_relaxed(&worker_counters(w)->sleeps), sleeps);
	on_worker(w, take_away, &busy.source);
	assert_true(busy.source.busy_ns > 0);
	worker_destroy(w);
}

static void idle_costs_nothing(void **state)
{
	static struct probe p[256];
	struct worker *w = new_worker(0, WORKER_POLL_ADAPTIVE);
	uint64_t loops, limit = clock_now_ns() + HANG_NS;

	(void)state;
	memset(p, 0, sizeof(p));
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++) {
		p[i].source.ops = i % 2 ? &probe_ops : &timed_ops;
		p[i].source.fed_by_threads = i % 3 == 0;
		on_worker(w, add, &p[i].source);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		wait_for(load_relaxed(&p[i].arms) > 0);
	/* Some time it has no turn at all. */
	do {
		assert_true(clock_now_ns() < limit);
		loops = load_relaxed(&worker_counters(w)->loops);
		usleep(200000);
	} while (load_relaxed(&worker_counters(w)->loops) != loops);
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		on_worker(w, take_away, &p[i].source);
	worker_destroy(w);
}

/* --- fed by other threads --- */

#define FEEDERS 3
#define FED 60000u

struct feeder {
	struct worker_source source;
	struct spsc ring;
	struct worker *w;
	pthread_t thread;
	uintptr_t expected;
	bool disorder, all;
};

static unsigned feeder_poll(struct worker_source *s, uint64_t now_ns)
{
	struct feeder *f = container_of(s, struct feeder, source);
	unsigned n = 0;
	void *p;

	while (n < 8 && (p = spsc_pop(&f->ring))) {
		if ((uintptr_t)p != ++f->expected)
			f->disorder = true;
		n++;
	}
	if (f->expected == FED)
		__atomic_store_n(&f->all, true, __ATOMIC_RELEASE);
	return n;
}

static bool feeder_arm(struct worker_source *s)
{
	return !spsc_empty(&container_of(s, struct feeder, source)->ring);
}

static const struct worker_source_ops feeder_ops = { .poll = feeder_poll, .arm = feeder_arm };

static void *feed(void *arg)
{
	struct feeder *f = arg;

	for (uintptr_t i = 1; i <= FED; i++) {
		while (!spsc_push(&f->ring, (void *)i))
			sched_yield();
		worker_wake(f->w);
		/* Sometimes long enough for the worker to fall asleep, or nearly. */
		if (i % 16 == 0)
			for (volatile unsigned n = 0; n < i % 4096; n++)
				;
	}
	return NULL;
}

static void fed_by_threads(enum worker_poll mode, bool busy_too)
{
	struct worker_config config = { .cpu = -1, .poll = mode, .poll_idle_ns = 200 };
	struct feeder f[FEEDERS];
	struct probe busy = { .source.ops = &probe_ops, .work = UINT32_MAX };
	struct worker *w = NULL;

	assert_int_equal(worker_create(&config, &w), 0);
	memset(f, 0, sizeof(f));
	if (busy_too)
		on_worker(w, add, &busy.source);
	for (unsigned i = 0; i < FEEDERS; i++) {
		assert_int_equal(spsc_init(&f[i].ring, 64), 0);
		f[i].source.ops = &feeder_ops;
		f[i].source.fed_by_threads = true;
		f[i].w = w;
		on_worker(w, add, &f[i].source);
	}
	for (unsigned i = 0; i < FEEDERS; i++)
		assert_int_equal(pthread_create(&f[i].thread, NULL, feed, &f[i]), 0);
	for (unsigned i = 0; i < FEEDERS; i++)
		wait_until(&f[i].all);
	for (unsigned i = 0; i < FEEDERS; i++) {
		pthread_join(f[i].thread, NULL);
		on_worker(w, take_away, &f[i].source);
		assert_false(f[i].disorder);
		spsc_fini(&f[i].ring);
	}
	on_worker(w, take_away, &busy.source);
	worker_destroy(w);
}

static void fed_adaptive(void **state)
{
	(void)state;
	fed_by_threads(WORKER_POLL_ADAPTIVE, false);
}

static void fed_never(void **state)
{
	(void)state;
	fed_by_threads(WORKER_POLL_NEVER, false);
}

static void fed_always(void **state)
{
	(void)state;
	fed_by_threads(WORKER_POLL_ALWAYS, false);
}

static void fed_beside_busy_source(void **state)
{
	(void)state;
	fed_by_threads(WORKER_POLL_ADAPTIVE, true);
}

/* --- coming and going --- */

#define CROWD 16

struct member {
	struct worker_source source;
	struct crowd *crowd;
};

struct crowd {
	struct member member[CROWD];
	uint64_t seed;
	uint64_t polls; /* atomic */
};

static unsigned crowd_random(struct crowd *c, unsigned below)
{
	c->seed = c->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(c->seed >> 33) % below;
}

/* Anything may happen to any source, the polled one and its neighbours included. */
static void crowd_stir(struct worker *w, struct crowd *c)
{
	struct worker_source *s = &c->member[crowd_random(c, CROWD)].source;

	switch (crowd_random(c, 4)) {
	case 0:
		worker_source_remove(s);
		break;
	case 1:
		worker_source_wake(s);
		break;
	default:
		if (!s->worker) {
			s->fed_by_threads = crowd_random(c, 2);
			worker_source_add(w, s);
		}
		break;
	}
}

static unsigned member_poll(struct worker_source *s, uint64_t now_ns)
{
	struct member *m = container_of(s, struct member, source);

	counter_add(&m->crowd->polls, 1);
	crowd_stir(s->worker, m->crowd);
	return crowd_random(m->crowd, 2);
}

static bool member_arm(struct worker_source *s)
{
	return crowd_random(container_of(s, struct member, source)->crowd, 8) == 0;
}

static const struct worker_source_ops member_ops = { .poll = member_poll, .arm = member_arm };

static void crowd_message(struct worker *w, void *arg)
{
	for (unsigned i = 0; i < 4; i++)
		crowd_stir(w, arg);
}

static void crowd_leaves(struct worker *w, void *arg)
{
	struct crowd *c = arg;

	for (unsigned i = 0; i < CROWD; i++)
		worker_source_remove(&c->member[i].source);
}

static void sources_come_and_go_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		struct worker *w = new_worker(0, modes[i]);
		struct crowd c = { .seed = 42 + i };

		for (unsigned k = 0; k < CROWD; k++) {
			c.member[k].source.ops = &member_ops;
			c.member[k].crowd = &c;
		}
		for (unsigned k = 0; k < 5000; k++) {
			on_worker(w, crowd_message, &c);
			if (k % 7 == 0)
				worker_wake(w);
		}
		assert_true(load_relaxed(&c.polls) > 0);
		on_worker(w, crowd_leaves, &c);
		worker_destroy(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_is_armed_and_woken),
		cmocka_unit_test(in_flight_is_bounded),
		cmocka_unit_test(deadlines_are_kept),
		cmocka_unit_test(deadlines_are_kept_beside_a_busy_source),
		cmocka_unit_test(idle_costs_nothing),
		cmocka_unit_test(fed_adaptive),
		cmocka_unit_test(fed_never),
		cmocka_unit_test(fed_always),
		cmocka_unit_test(fed_beside_busy_source),
		cmocka_unit_test(sources_come_and_go_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
