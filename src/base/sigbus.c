/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of guarded ranges and the signal handler. The control thread alone changes the table; the handler, on
 * whatever thread faulted, reads it without locks: slots live in chunks that are never freed, and each slot has a
 * sequence number that is odd while it changes, so that the handler never mixes the base of one range with the length
 * of the next.
 */
#include "base/sigbus.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS 64

struct slot {
	unsigned sequence;
	uintptr_t base; /* 0: free */
	size_t length;
	bool *faulted;
};

struct chunk {
	struct slot slot[SLOTS];
	struct chunk *next;
};

unsigned sigbus_faults;

static struct chunk first_chunk;
static struct sigaction previous;

/*
 * False if the slot changed meanwhile; then the range was removed, and nobody may touch a range that is being removed.
 */
static bool slot_read(const struct slot *s, struct slot *copy)
{
	unsigned sequence = load_acquire(&s->sequence);

	copy->base = load_acquire(&s->base);
	copy->length = load_acquire(&s->length);
	copy->faulted = load_acquire(&s->faulted);
	return !(sequence & 1) && load_relaxed(&s->sequence) == sequence;
}

static bool cover(uintptr_t address)
{
	struct slot s;

	for (struct chunk *c = &first_chunk; c; c = load_acquire(&c->next)) {
		for (unsigned i = 0; i < SLOTS; i++) {
			if (!slot_read(&c->slot[i], &s) || !s.base || address - s.base >= s.length)
				continue;
			if (mmap((void *)s.base, s.length, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
				return false;
			store_release(s.faulted, true);
			__atomic_fetch_add(&sigbus_faults, 1, __ATOMIC_RELEASE);
			return true;
		}
	}
	return false;
}

static void handle(int signal, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	/* BUS_ADRERR is what a truncated file raises; a sender's kill() has no address to believe in. */
	if (info->si_code == BUS_ADRERR && cover((uintptr_t)info->si_addr)) {
		errno = saved_errno;
		return;
	}
	if (previous.sa_flags & SA_SIGINFO) {
		previous.sa_sigaction(signal, info, context);
	} else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
		previous.sa_handler(signal);
	} else {
		/*
		 * Returning runs the faulting instruction again, now with the default action; a sent signal is sent
		 * again.
		 */
		sigaction(SIGBUS, &previous, NULL);
		if (info->si_code <= 0)
			raise(SIGBUS);
	}
	errno = saved_errno;
}

/* Looked at every time: a library, or a test's framework, may have put its own in our place. */
static int install(void)
{
	struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK }, now;

	if (sigaction(SIGBUS, NULL, &now) < 0)
		return -errno;
	if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == handle)
		return 0;
	previous = now;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

static struct slot *slot_find(uintptr_t base)
{
	for (struct chunk *c = &first_chunk; c; c = c->next)
		for (unsigned i = 0; i < SLOTS; i++)
			if (c->slot[i].base == base)
				return &c->slot[i];
	return NULL;
}

static struct slot *slot_new(void)
{
	struct slot *s = slot_find(0);
	struct chunk *c;

	if (s)
		return s;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->next = first_chunk.next;
	/* Pairs with the acquire in cover(): the chunk is empty before it can be seen. */
	store_release(&first_chunk.next, c);
	return &c->slot[0];
}

/* Pairs with slot_read(): the odd number is seen before any new field, the even one after all of them. */
static void slot_write(struct slot *s, uintptr_t base, size_t length, bool *faulted)
{
	__atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_SEQ_CST);
	store_release(&s->base, base);
	store_release(&s->length, length);
	store_release(&s->faulted, faulted);
	store_release(&s->sequence, s->sequence + 1);
}

int sigbus_guard_add(void *base, size_t length, bool *faulted)
{
	struct slot *s;
	int r;

	if (!base || !length)
		return -EINVAL;
	r = install();
	if (r)
		return r;
	s = slot_new();
	if (!s)
		return -ENOMEM;
	slot_write(s, (uintptr_t)base, length, faulted);
	return 0;
}

void sigbus_guard_remove(void *base)
{
	struct slot *s = base ? slot_find((uintptr_t)base) : NULL;

	if (s)
		slot_write(s, 0, 0, NULL);
}
