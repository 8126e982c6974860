/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages into workers, replies out of them, and waking.
 *
 * Both directions are stacks that any thread pushes to and one thread empties with a single exchange; since the
 * consumer takes everything there is no ABA problem, and reversing what it took restores the order in which messages
 * were pushed.
 *
 * Sleeping and waking are Dekker's pattern: each side publishes, then fences, then looks at what the other published.
 * At least one of them sees the other, so a wake is never lost:
 *
 *   worker (worker.c, worker_sleep)          waker (here)
 *     attention = SLEEPS                       mail pushed / nudged = 1
 *     fence                                    fence
 *     mail or nudged? then do not sleep        attention == SLEEPS? then write the eventfd
 */
#include "worker/worker_internal.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>

__thread struct worker *worker_self;

/*
 * Returns true if it was empty. The release pairs with the acquire in stack_take: the message is complete when seen.
 * Once pushed it belongs to the other side: it is not looked at again.
 */
static bool stack_push(struct worker_msg **head, struct worker_msg *m)
{
	struct worker_msg *first = load_relaxed(head);

	do
		m->next = first;
	while (!__atomic_compare_exchange_n(head, &first, m, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	return first == NULL;
}

/* All messages, first pushed first. */
static struct worker_msg *stack_take(struct worker_msg **head)
{
	struct worker_msg *m = __atomic_exchange_n(head, NULL, __ATOMIC_ACQUIRE), *first = NULL;

	while (m) {
		struct worker_msg *next = m->next;

		m->next = first;
		first = m;
		m = next;
	}
	return first;
}

static void eventfd_write_one(int fd)
{
	static const uint64_t one = 1;

	/* EAGAIN would mean 2^64 - 2 unread wakes: the reader is woken anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

/* The caller has published its work and fenced. */
static void wake_if_asleep(struct worker *w)
{
	uint32_t sleeps = WORKER_SLEEPS;

	if (load_relaxed(&w->state.attention) != WORKER_SLEEPS)
		return;
	/* Of several wakers one writes. ASKS: until the worker is up, others that feed it must leave their nudge. */
	if (__atomic_compare_exchange_n(&w->state.attention, &sleeps, WORKER_ASKS, false, __ATOMIC_SEQ_CST,
					__ATOMIC_RELAXED))
		eventfd_write_one(w->wake_fd);
}

void worker_wake(struct worker *w)
{
	/* Pairs with the fence in source_arm(): either we see that it asks, or it sees our work. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (load_relaxed(&w->state.attention) == WORKER_LOOKS)
		return;
	/* Release: who takes the nudge with its acquire sees the work. */
	store_release(&w->inbox.nudged, 1);
	/* Pairs with the fence in worker_sleep(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wake_if_asleep(w);
}

/* A message that `run` hands on is no longer its worker's: mailbox_run must not look at it again. */
static void message_leaves(const struct worker_msg *m)
{
	if (worker_self && worker_self->running == m)
		worker_self->running = NULL;
}

void worker_post(struct worker *w, struct worker_msg *m)
{
	message_leaves(m);
	m->worker = w;
	stack_push(&w->inbox.mail, m);
	/* Pairs with the fence in worker_sleep(). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wake_if_asleep(w);
}

unsigned mailbox_run(struct worker *w)
{
	struct worker_msg *m, *next;
	unsigned n = 0;

	if (mailbox_empty(w))
		return 0;
	for (m = stack_take(&w->inbox.mail); m; m = next, n++) {
		/* Without `done` it is its owner's, or freed, as soon as it runs. */
		bool answered = m->done != NULL;

		next = m->next;
		/* Before it runs: who has its answer finds it counted. */
		counter_add(&w->counters.messages, 1);
		m->keep = false;
		w->running = answered ? m : NULL;
		m->run(m, w);
		if (w->running && !m->keep)
			worker_reply(m);
		w->running = NULL;
	}
	return n;
}

/* --- replies: multiple producers, the control thread consumes --- */

static struct worker_msg *replies;
static int replies_fd = -1;
static pthread_once_t replies_once = PTHREAD_ONCE_INIT;

static void replies_init(void)
{
	replies_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int worker_replies_fd(void)
{
	pthread_once(&replies_once, replies_init);
	return replies_fd < 0 ? -EMFILE : replies_fd;
}

void worker_reply(struct worker_msg *m)
{
	int fd = worker_replies_fd();

	assert(m->done);
	message_leaves(m);
	/* Who finds the stack empty writes; the others' messages are taken along with that one. */
	if (stack_push(&replies, m))
		eventfd_write_one(fd);
}

void worker_replies_run(void)
{
	struct worker_msg *m, *next;
	uint64_t ignored;

	/* First the eventfd, then the stack: a reply pushed in between makes it readable again. */
	if (read(worker_replies_fd(), &ignored, sizeof(ignored)) < 0)
		assert(errno == EAGAIN);
	for (m = stack_take(&replies); m; m = next) {
		next = m->next;
		m->done(m);
	}
}
