/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The loop of an I/O thread: what it looks at in a turn, when a source is polled and when armed, when the thread
 * sleeps.
 *
 * A turn: the clock (read once), messages, hot sources, completions, submission. A turn that found nothing arms the
 * sources that have been idle for long enough; when none is hot any more and nothing in flight is expected at once, it
 * sleeps.
 *
 * Worked example, adaptive, poll_idle 50 us: a driver that sends one read at a time to a disk of 80 us keeps its queue
 * hot, because a request in flight holds off arming for IN_FLIGHT_NS and its completion counts as work; a disk of 12 ms
 * does not: after 100 us the queue is armed and the worker asleep, and the 12 ms cost nothing.
 */
#include "worker/worker_internal.h"

#include "base/clock.h"
#include "base/cpus.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* How long work in flight keeps a source hot and the worker awake since it was last given some. */
#define IN_FLIGHT_NS (100 * NSEC_PER_USEC)
/* A sleep shorter than this is not worth its two context switches: poll instead. */
#define SLEEP_MIN_NS (30 * NSEC_PER_USEC)

/* --- sources --- */

static bool source_is_attended(const struct worker_source *s)
{
	return s->fed_by_threads || s->ops->deadline_ns;
}

/* Wakers may skip us only while every source that they feed is polled. */
static void attention_update(struct worker *w)
{
	store_relaxed(&w->state.attention, w->fed_armed ? WORKER_ASKS : WORKER_LOOKS);
}

static void source_unlink(struct worker_source *s)
{
	struct worker *w = s->worker;

	if (w->poll_next == s)
		w->poll_next = list_entry(s->node.next, struct worker_source, node);
	if (w->polling == s)
		w->polling = NULL;
	list_remove(&s->node);
	if (s->armed && s->fed_by_threads) {
		w->fed_armed--;
		attention_update(w);
	}
	s->armed = false;
}

/* At the front: while the hot sources are being polled, it is the next turn's, and so a turn ends. */
static void source_link_hot(struct worker *w, struct worker_source *s)
{
	list_insert_before(w->hot.next, &s->node);
	s->last_work_ns = w->now_ns;
}

static void source_make_hot(struct worker_source *s)
{
	source_unlink(s);
	source_link_hot(s->worker, s);
}

void worker_source_add(struct worker *w, struct worker_source *s)
{
	assert_on_worker(w);
	assert(!s->worker);
	s->worker = w;
	s->armed = false;
	s->turn_found = 0;
	source_link_hot(w, s);
}

void worker_source_remove(struct worker_source *s)
{
	if (!s->worker)
		return;
	assert_on_worker(s->worker);
	source_unlink(s);
	s->worker = NULL;
}

void worker_source_wake_armed(struct worker_source *s)
{
	assert_on_worker(s->worker);
	source_make_hot(s);
	if (s->ops->disarm)
		s->ops->disarm(s);
}

static void source_arm(struct worker *w, struct worker_source *s)
{
	source_unlink(s);
	s->armed = true;
	list_append(source_is_attended(s) ? &w->attended : &w->armed, &s->node);
	if (s->fed_by_threads) {
		w->fed_armed++;
		attention_update(w);
		/*
		 * Pairs with the first fence in worker_wake(): either arm() sees the work, or the waker sees that we
		 * ask.
		 */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	if (s->ops->arm(s))
		source_make_hot(s);
	else if (s->ops->deadline_ns)
		w->deadline_ns = min_u64(w->deadline_ns, s->ops->deadline_ns(s));
}

static bool source_is_idle(const struct worker *w, const struct worker_source *s)
{
	uint64_t idle_ns = w->now_ns - s->last_work_ns;

	switch (w->config.poll) {
	case WORKER_POLL_ALWAYS:
		return false;
	case WORKER_POLL_NEVER:
		return true;
	case WORKER_POLL_ADAPTIVE:
		break;
	}
	return idle_ns >= (s->in_flight ? max_u64(w->config.poll_idle_ns, IN_FLIGHT_NS) : w->config.poll_idle_ns);
}

/* The turn before is divided among the sources that found work in it: one clock read a turn serves them all. */
static void source_settle(const struct worker *w, struct worker_source *s)
{
	uint64_t share = w->turn_ns;

	if (s->turn_found != w->last_turn_found)
		share = share * s->turn_found / w->last_turn_found;
	counter_add(&s->busy_ns, share);
	s->turn_found = 0;
}

static void source_poll(struct worker *w, struct worker_source *s)
{
	unsigned found;

	if (s->turn_found)
		source_settle(w, s);
	w->polling = s;
	found = s->ops->poll(s, w->now_ns);
	w->turn_found += found;
	if (!w->polling)
		return; /* it was removed, maybe freed */
	if (found) {
		s->turn_found = found;
		s->last_work_ns = w->now_ns;
		counter_add(&s->found, found);
	} else if (source_is_idle(w, s)) {
		source_arm(w, s);
	}
}

/* Sources may be added, woken and removed meanwhile; those that come in are polled in the next turn. */
static void sources_poll(struct worker *w)
{
	struct worker_source *s = list_first(&w->hot, struct worker_source, node);

	while (&s->node != &w->hot) {
		w->poll_next = list_entry(s->node.next, struct worker_source, node);
		source_poll(w, s);
		s = w->poll_next;
	}
	w->poll_next = w->polling = NULL;
}

/*
 * A turn that found nothing goes on looking: a look is one load where a turn reads the clock, visits messages, completions
 * and every source, so what comes is seen sooner and served in this turn, by its clock. Bounded, because meanwhile nothing else
 * is looked at: less than a microsecond.
 */
#define LOOKS 24u

static bool work_comes(const struct worker *w)
{
	const struct worker_source *s;

	if (w->in_flight)
		return false;
	for (unsigned looks = 0; looks < LOOKS && !list_empty(&w->hot); cpu_relax()) {
		list_for_each(s, &w->hot, node) {
			if (s->ops->pending && s->ops->pending(s))
				return true;
			looks++;
		}
	}
	return false;
}

/* Another thread gave work to some source that is armed. */
static void nudge_run(struct worker *w)
{
	struct worker_source *s, *tmp;

	/* An exchange: a nudge that comes between looking and clearing is taken with what it stands for. */
	if (!load_relaxed(&w->inbox.nudged) || !__atomic_exchange_n(&w->inbox.nudged, 0, __ATOMIC_SEQ_CST))
		return;
	list_for_each_safe(s, tmp, &w->attended, node)
		if (s->fed_by_threads)
			worker_source_wake(s);
}

/* First deadline of the armed sources, those that have passed being made hot. */
static void deadlines_run(struct worker *w)
{
	struct worker_source *s, *tmp;
	uint64_t first = UINT64_MAX;

	list_for_each_safe(s, tmp, &w->attended, node) {
		uint64_t at = s->ops->deadline_ns ? s->ops->deadline_ns(s) : UINT64_MAX;

		if (at <= w->now_ns)
			worker_source_wake(s);
		else
			first = min_u64(first, at);
	}
	w->deadline_ns = first;
}

/* --- sleeping --- */

static bool may_sleep(struct worker *w)
{
	if (w->config.poll == WORKER_POLL_ALWAYS || !list_empty(&w->hot) || w->stop)
		return false;
	if (w->config.poll == WORKER_POLL_NEVER)
		return true;
	if (w->in_flight && w->now_ns - w->last_submit_ns < IN_FLIGHT_NS)
		return false;
	return w->deadline_ns > w->now_ns + SLEEP_MIN_NS;
}

static void worker_sleep(struct worker *w)
{
	uint64_t deadline_ns;

	deadlines_run(w);
	if (!may_sleep(w))
		return;
	/* A timer wakes late: get up early and poll the rest, except where cycles matter more. */
	deadline_ns = w->deadline_ns;
	if (w->config.poll == WORKER_POLL_ADAPTIVE && deadline_ns != UINT64_MAX)
		deadline_ns -= SLEEP_MIN_NS;
	store_relaxed(&w->state.attention, WORKER_SLEEPS);
	/*
	 * Pairs with the fences in worker_post() and worker_wake(): either we see their work or they see that we sleep.
	 */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (mailbox_empty(w) && !load_relaxed(&w->inbox.nudged)) {
		counter_add(&w->counters.sleeps, 1);
		ring_wait(w, deadline_ns);
	}
	attention_update(w);
}

/* The counter is never read back: the poll reports each write as an event of its own. */
static void wake_ready(struct worker_watch *watch)
{
	counter_add(&watch->worker->counters.wakes_sent, 1);
}

/* --- the thread --- */

/* Returns false if it found nothing to do; then it may have slept. */
static bool worker_turn(struct worker *w)
{
	unsigned found;

	w->last_turn_found = w->turn_found;
	w->turn_found = 0;
	found = mailbox_run(w);
	nudge_run(w);
	if (w->now_ns >= w->deadline_ns)
		deadlines_run(w);
	sources_poll(w);
	if (!found && !w->turn_found && work_comes(w))
		sources_poll(w);
	found += ring_reap(w) + w->turn_found;
	ring_submit(w);
	counter_add(&w->counters.loops, 1);
	if (found)
		return true;
	counter_add(&w->counters.loops_empty, 1);
	if (may_sleep(w))
		worker_sleep(w);
	return false;
}

static void worker_loop(struct worker *w)
{
	bool found = false;

	w->now_ns = clock_now_ns();
	while (!w->stop) {
		uint64_t began = w->now_ns;

		w->now_ns = clock_now_ns();
		w->turn_ns = w->now_ns - began;
		if (found)
			counter_add(&w->counters.busy_ns, w->turn_ns);
		found = worker_turn(w);
	}
	while (mailbox_run(w))
		;
	ring_submit(w);
	ring_reap(w);
}

/* Synchronous faults must reach their handlers; all other signals are the control thread's. */
static void block_signals(void)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGILL);
	sigdelset(&set, SIGFPE);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static int worker_setup(struct worker *w)
{
	char name[16];
	int r;

	block_signals();
	snprintf(name, sizeof(name), "fairlead/%u", w->config.index);
	pthread_setname_np(pthread_self(), name);
	w->tid = gettid();
	if (w->config.cpu >= 0) {
		r = cpus_pin_self((unsigned)w->config.cpu);
		if (r < 0)
			return r;
	}
	r = ring_open(w);
	if (r < 0)
		return r;
	w->wake_watch = (struct worker_watch){ .fd = w->wake_fd, .ready = wake_ready };
	worker_watch_add(w, &w->wake_watch);
	return 0;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	bool ok;

	worker_self = w;
	w->start_result = worker_setup(w);
	ok = w->start_result == 0;
	sem_post(&w->started);
	if (ok) {
		worker_loop(w);
		assert(list_empty(&w->hot) && list_empty(&w->armed) && list_empty(&w->attended));
		assert(w->in_flight == 0);
	}
	ring_close(w);
	worker_self = NULL;
	return NULL;
}

static void worker_free(struct worker *w)
{
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	if (w->probe_fd >= 0)
		close(w->probe_fd);
	sem_destroy(&w->started);
	free(w);
}

int worker_create(const struct worker_config *config, struct worker **ret)
{
	struct worker *w = aligned_alloc(CACHE_LINE, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	memset(w, 0, sizeof(*w));
	w->config = *config;
	w->deadline_ns = UINT64_MAX;
	list_init(&w->hot);
	list_init(&w->armed);
	list_init(&w->attended);
	sem_init(&w->started, 0, 0);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->probe_fd = epoll_create1(EPOLL_CLOEXEC);
	r = w->wake_fd < 0 || w->probe_fd < 0 ? -errno : worker_replies_fd();
	if (r >= 0)
		r = -pthread_create(&w->thread, NULL, worker_main, w);
	if (r < 0) {
		worker_free(w);
		return r;
	}
	while (sem_wait(&w->started) < 0 && errno == EINTR)
		;
	r = w->start_result;
	if (r < 0) {
		pthread_join(w->thread, NULL);
		worker_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static void stop_run(struct worker_msg *m, struct worker *w)
{
	w->stop = true;
}

void worker_destroy(struct worker *w)
{
	struct worker_msg stop = { .run = stop_run };

	if (!w)
		return;
	worker_post(w, &stop);
	pthread_join(w->thread, NULL);
	worker_free(w);
}

unsigned worker_index(const struct worker *w)
{
	return w->config.index;
}

int worker_cpu(const struct worker *w)
{
	return w->config.cpu;
}

const struct worker_counters *worker_counters(const struct worker *w)
{
	return &w->counters;
}

bool worker_is_current(const struct worker *w)
{
	return worker_self == w;
}

int worker_tid(const struct worker *w)
{
	return w->tid;
}

uint64_t worker_now_ns(const struct worker *w)
{
	return w->now_ns;
}
