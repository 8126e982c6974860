/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the flags {working, request} of two and three CPUs in every order of their accesses. The functions of flags.h
 * and pick.h run as they are; each access that they make to a flag, to where a member is, to a list, and each kick, is a
 * step, and every interleaving of steps is tried, with slices that end, members that sleep, wake up and are stolen.
 *
 * How a function is stopped between two accesses: it is not. It runs again from its start, on a copy of the world that was
 * made when it started (its own plain accesses), with the results of the accesses so far read from a log; the next one is
 * made in the real world, and longjmp() leaves. So a state is plain memory, and can be copied and compared.
 *
 * What is done under the lock of fluid.h is one access that is no step: none of the flags depends on it, in whatever order CPUs
 * come to it. It is made on what the real world holds then, and what it left there is what must hold when all is quiet.
 *
 * What must hold, whatever the order:
 * - a request is taken once, by its CPU; when all is quiet none is pending;
 * - a CPU that has a request pending is not asked again; one that is co-working is asked only if it began while it was
 *   being asked, that is between the asker's look at its flag and its claim;
 * - when all is quiet, working tells of the group that runs, each member is in one place, and counted if it is runnable;
 * - asking ends: with no slice ending and nobody waking or sleeping any more, every order comes to rest.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CO_CPUS_MAX 4u
#define CO_MEMBERS_MAX 8u
#define CO_ACCOUNTS_MAX 8u
#define CO_VMS_MAX 8u
#define CO_GROUP_MEMBERS_MAX 4u
#define CO_LEVEL_BITS 5 /* the coarsest there are */

#pragma GCC diagnostic ignored "-Wunused-value" /* not every caller wants what was there before */

enum access { READ, WRITE, ADD, OR, AND, SWAP, CLAIM, FIRST, TAKE, MOVE, APPEND, KICK };
static uint64_t access_do(enum access kind, const volatile void *at, unsigned size, uint64_t a, uint64_t b);
static void lock_take(void), lock_give(void);

#define CO_READ(x) ((__typeof__(x))access_do(READ, &(x), sizeof(x), 0, 0))
#define CO_WRITE(x, v) ((void)access_do(WRITE, &(x), sizeof(x), (uint64_t)(v), 0))
#define CO_ADD(x, v) ((__typeof__(x))access_do(ADD, &(x), sizeof(x), (uint64_t)(v), 0))
#define CO_OR(x, v) ((__typeof__(x))access_do(OR, &(x), sizeof(x), (uint64_t)(v), 0))
#define CO_AND(x, v) ((__typeof__(x))access_do(AND, &(x), sizeof(x), (uint64_t)(v), 0))
#define CO_SWAP(x, v) ((__typeof__(x))access_do(SWAP, &(x), sizeof(x), (uint64_t)(v), 0))
#define CO_LOCK(w) lock_take()
#define CO_UNLOCK(w) lock_give()
#define CO_CLAIM(x, from, to) (access_do(CLAIM, &(x), sizeof(x), (uint64_t)(from), (uint64_t)(to)) == (from))

#include "base/util.h"
#include "cosched/change.h"
#include "cosched/pick.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CPUS 3u
#define THREADS (CPUS + 1) /* the last one wakes members up */
#define MEMBERS 6u
#define LOG_MAX 400u
#define GROUP 6u /* account */

enum op { NOTHING, SCHEDULE, SLEEP, WAKE };

struct thread {
	enum op op;
	uint32_t member; /* to be woken */
	uint32_t logged;
	uint64_t log[LOG_MAX];
	uint32_t saw_working[CPUS]; /* writes of a CPU's flag when this thread looked at it last */
	struct co_world view;	    /* when the operation began */
};

static struct state {
	struct co_world world;
	uint8_t list[CPUS][CO_STATES][MEMBERS], n[CPUS][CO_STATES];
	uint32_t running[CPUS];
	bool kicked[CPUS], asleep[MEMBERS];
	uint8_t slices, sleeps, wakes; /* how many may still end, happen */
	uint32_t claimed[CPUS], taken[CPUS];   /* for the checks */
	uint32_t working_writes[CPUS];
	struct thread thread[THREADS];
} s;

/* The thread that makes a step. */
static struct {
	uint32_t t, at; /* accesses so far in this run */
	bool stepped;
	struct co_world view, base; /* with its own accesses; without its plain writes */
	jmp_buf stop;
} now;

static uint32_t cpus, members, late;

/* --- accesses --- */

static uint64_t load(const volatile void *at, unsigned size)
{
	return size == 8 ? *(const volatile uint64_t *)at : *(const volatile uint32_t *)at;
}
static void store(volatile void *at, unsigned size, uint64_t v)
{
	if (size == 8)
		*(volatile uint64_t *)at = v;
	else
		*(volatile uint32_t *)at = (uint32_t)v;
}

/* What `kind` makes of `old`. */
static uint64_t result_of(enum access kind, unsigned size, uint64_t old, uint64_t a, uint64_t b)
{
	switch (kind) {
	case WRITE:
	case SWAP: return a;
	case ADD: return old + a;
	case OR: return old | a;
	case AND: return old & a;
	case CLAIM: return old == (size == 8 ? a : (uint32_t)a) ? b : old;
	default: return old;
	}
}

static uint64_t list_do(enum access kind, uint32_t cpu, uint32_t list, uint32_t member)
{
	uint8_t *l = s.list[cpu][list], *n = &s.n[cpu][list];
	uint32_t i;

	if (kind == FIRST)
		return *n ? l[0] : CO_NONE;
	if (kind == APPEND) {
		l[(*n)++] = (uint8_t)member;
		return 1;
	}
	for (i = 0; i < *n && l[i] != member; i++)
		;
	if (i == *n)
		return 0;
	memmove(l + i, l + i + 1, *n - i - 1);
	(*n)--;
	return 1;
}

/* Which CPU's flag an address is. CO_NONE: of none. */
static uint32_t flag_of(size_t offset, size_t field)
{
	for (uint32_t c = 0; c < cpus; c++)
		if (offset == offsetof(struct co_world, cpu) + c * sizeof(struct co_cpu) + field)
			return c;
	return CO_NONE;
}

/*
 * A step: others could notice, or change its result. The rest only depends on these, or is statistics. To look at a list is
 * none of its own: whatever another CPU does to the list before it might as well have been done before the step before.
 */
static bool is_step(enum access kind, size_t offset)
{
	size_t member = offset - offsetof(struct co_world, member);

	if (kind >= FIRST)
		return kind != FIRST;
	if (offset >= offsetof(struct co_world, cpu))
		return flag_of(offset, offsetof(struct co_cpu, working)) != CO_NONE ||
		       flag_of(offset, offsetof(struct co_cpu, request)) != CO_NONE;
	/* Where members of the group are; for the others nobody looks. */
	if (offset < offsetof(struct co_world, member) || member >= members / 2 * sizeof(struct co_member))
		return false;
	member %= sizeof(struct co_member);
	return member == offsetof(struct co_member, where) || member == offsetof(struct co_member, cpu);
}

static void check_access(enum access kind, size_t offset, uint64_t old, uint64_t new)
{
	uint32_t c = flag_of(offset, offsetof(struct co_cpu, working));

	if (c != CO_NONE && kind == READ)
		s.thread[now.t].saw_working[c] = s.working_writes[c];
	if (c != CO_NONE && kind == WRITE)
		s.working_writes[c]++;
	c = flag_of(offset, offsetof(struct co_cpu, request));
	if (c == CO_NONE || old == new)
		return;
	if (kind == CLAIM) {
		assert_int_equal(old, 0);
		s.claimed[c]++;
		if (s.world.cpu[c].working) {
			assert_int_not_equal(s.thread[now.t].saw_working[c], s.working_writes[c]);
			late++;
		}
	} else {
		assert_int_equal(new, 0);
		assert_int_equal(now.t, c);
		s.taken[c]++;
	}
	assert_int_equal(s.claimed[c] - s.taken[c], new != 0);
}

static uint64_t access_do(enum access kind, const volatile void *at, unsigned size, uint64_t a, uint64_t b)
{
	size_t offset = kind >= FIRST ? 0 : (size_t)((const volatile char *)at - (const volatile char *)&now.view);
	struct thread *t = now.t == CO_NONE ? NULL : &s.thread[now.t];
	volatile char *real;
	uint64_t old, new;

	if (!t) { /* while the world is made: at once */
		old = load(at, size);
		store((volatile void *)(uintptr_t)at, size, result_of(kind, size, old, a, b));
		return old;
	}
	if (now.at == t->logged) {
		bool step = is_step(kind, offset);

		if (step && now.stepped)
			longjmp(now.stop, 1);
		now.stepped |= step;
		if (t->logged == LOG_MAX)
			abort();
		if (kind == KICK) {
			s.kicked[a] = true;
			old = 0;
		} else if (kind >= FIRST) {
			old = list_do(kind, (uint32_t)(a >> 32), (uint32_t)a, (uint32_t)b);
		} else {
			real = (volatile char *)&s.world + offset;
			old = load(real, size);
			new = result_of(kind, size, old, a, b);
			store(real, size, new);
			check_access(kind, offset, old, new);
		}
		t->log[t->logged++] = old;
	}
	old = t->log[now.at++];
	if (kind < FIRST) {
		new = result_of(kind, size, old, a, b);
		store((volatile char *)&now.view + offset, size, new);
		store((volatile char *)&now.base + offset, size, new);
	}
	return old;
}

/* --- what the lock protects --- */

static void protected_copy(struct co_world *to, const struct co_world *from)
{
	to->fluid = from->fluid;
	for (uint32_t i = 0; i < CO_ACCOUNTS_MAX; i++)
		to->account[i].share = from->account[i].share;
	for (uint32_t i = 0; i < CO_VMS_MAX; i++)
		to->vm[i].awake = from->vm[i].awake;
	for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
		to->member[i].counted = from->member[i].counted;
}

/* Whether it is done now, not done again; told by the log. While the world is made there is none. */
static bool lock_use(void)
{
	struct thread *t = &s.thread[now.t];
	bool first = now.at == t->logged;

	if (t->logged == LOG_MAX)
		abort();
	t->logged += first;
	now.at++;
	return first;
}

static void lock_take(void)
{
	if (now.t != CO_NONE && lock_use())
		protected_copy(&now.view, &s.world);
}

static void lock_give(void)
{
	if (now.t == CO_NONE)
		return;
	if (lock_use())
		protected_copy(&s.world, &now.view);
	protected_copy(&now.base, &now.view); /* not to be written once more at the end */
}

/* --- the driver's lists, each use of them one access --- */

static uint64_t where_of(uint32_t cpu, uint32_t list)
{
	return (uint64_t)cpu << 32 | list;
}
static inline __u32 co_list_first(struct co_world *w, __u32 cpu, __u32 list, __u32 here)
{
	return (__u32)access_do(FIRST, NULL, 0, where_of(cpu, list), 0);
}
static inline bool co_list_take(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 here)
{
	return access_do(TAKE, NULL, 0, where_of(cpu, list), member);
}
static inline bool co_list_move(struct co_world *w, __u32 cpu, __u32 list, __u32 member, __u32 to)
{
	fail(); /* no state changes here */
	return false;
}
static inline void co_list_sift(struct co_world *w, __u32 cpu, __u32 list)
{
}

/* --- what CPUs do --- */

static void queue(struct co_world *w, uint32_t i, bool woken)
{
	struct co_member *m = co_member_of(w, i);
	uint32_t list = co_queue(w, m, m->home, woken, 1);

	access_do(APPEND, NULL, 0, where_of(m->home, list), i);
	/* The driver kicks less often: when it is idle, or runs somebody worse. */
	if (woken || m->home != now.t)
		access_do(KICK, NULL, 0, m->home, 0);
}

static void do_schedule(struct co_world *w, uint32_t cpu, uint32_t prev)
{
	struct co_member *m;
	struct co_pick p;
	uint32_t account, there;

	co_pick(w, cpu, prev, 1, &p);
	m = p.member == CO_NONE ? NULL : co_member_of(w, p.member);
	if (prev != CO_NONE && !p.kept)
		co_yield(w, co_member_of(w, prev), 1);
	if (m)
		co_run(w, m, cpu, 1);
	co_working_set(w, cpu, m, p.requested);
	if (prev != CO_NONE && !p.kept)
		queue(w, prev, false);
	account = m ? co_vm_of(w, m->vm)->account : 0;
	for (uint32_t i = 0; m && account == GROUP && i < members / 2; i++) {
		there = co_ask(w, account, i, cpu, 1);
		if (there != CO_NONE)
			access_do(KICK, NULL, 0, there, 0);
	}
	s.running[cpu] = p.member; /* not reached before the operation's end: nobody else looks at it */
}

static void do_op(struct thread *t)
{
	struct co_world *w = &now.view;
	uint32_t cpu = now.t, prev = cpu < CPUS ? s.running[cpu] : CO_NONE;

	if (t->op == WAKE) {
		queue(w, t->member, true);
		if (co_ask_on_wake(w, co_member_of(w, t->member), CPUS, 1))
			access_do(KICK, NULL, 0, co_member_of(w, t->member)->home, 0);
		return;
	}
	if (t->op == SLEEP)
		co_stop(w, co_member_of(w, prev), 1);
	do_schedule(w, cpu, t->op == SLEEP ? CO_NONE : prev);
	if (t->op == SLEEP)
		s.asleep[prev] = true;
}

/* One step of thread `i`, which has begun an operation. */
static void step(uint32_t i)
{
	struct thread *t = &s.thread[i];
	const char *view = (const char *)&now.view, *base = (const char *)&now.base;

	now.t = i;
	now.at = 0;
	now.stepped = false;
	memcpy(&now.view, &t->view, sizeof(now.view));
	memcpy(&now.base, &t->view, sizeof(now.base));
	if (setjmp(now.stop))
		return;
	do_op(t);
	/* Over. Its plain writes are to fields that nobody else writes. */
	for (size_t k = 0; k < sizeof(now.view); k++)
		if (view[k] != base[k])
			((char *)&s.world)[k] = view[k];
	memset(t, 0, sizeof(*t));
}

static void begin(uint32_t i, enum op op, uint32_t member)
{
	struct thread *t = &s.thread[i];

	t->op = op;
	t->member = member;
	memcpy(&t->view, &s.world, sizeof(t->view));
	if (op != WAKE)
		s.kicked[i] = false;
	step(i);
}

/* --- every order --- */

static void check_quiet(void)
{
	uint32_t places[MEMBERS] = { 0 }, counted[CO_ACCOUNTS_MAX] = { 0 }, running = 0;

	for (uint32_t c = 0; c < cpus; c++) {
		uint32_t i = s.running[c];
		bool group = i != CO_NONE && s.world.vm[s.world.member[i].vm].account == GROUP;

		assert_int_equal(s.world.cpu[c].request, 0);
		assert_int_equal(s.world.cpu[c].working, group ? GROUP + 1 : 0);
		if (i != CO_NONE) {
			places[i]++;
			running++;
			assert_int_equal(s.world.member[i].where, CO_RUNNING);
			assert_int_equal(s.world.member[i].cpu, c);
		}
		for (uint32_t l = 0; l < CO_STATES; l++) {
			assert_int_equal(s.world.cpu[c].n_listed[l], s.n[c][l]);
			for (uint32_t k = 0; k < s.n[c][l]; k++) {
				places[s.list[c][l][k]]++;
				assert_int_equal(s.world.member[s.list[c][l][k]].where, CO_QUEUED);
				assert_int_equal(s.world.member[s.list[c][l][k]].cpu, c);
			}
		}
	}
	for (uint32_t i = 0; i < members; i++) {
		assert_int_equal(places[i], !s.asleep[i]);
		assert_int_equal(s.world.member[i].counted, s.asleep[i] ? 0 : s.world.vm[s.world.member[i].vm].account + 1);
		counted[s.world.vm[s.world.member[i].vm].account] += !s.asleep[i];
	}
	for (uint32_t i = 0; i < CO_ACCOUNTS_MAX; i++)
		assert_int_equal(s.world.account[i].share.n, counted[i]);
	assert_int_equal(s.world.fluid.running, running);
}

/* Statistics are no part of a state. */
static void forget(struct co_world *w)
{
	for (uint32_t c = 0; c < CO_CPUS_MAX; c++) {
		struct co_cpu *cpu = &w->cpu[c];

		cpu->requested_at_ns = cpu->requests_sent = cpu->requests_honoured = cpu->requests_refused = 0;
		cpu->requests_void = cpu->request_wait_ns = cpu->steals = 0;
		cpu->picks_part = cpu->picks_under = cpu->picks_over = cpu->picks_deep = 0;
		cpu->picks_boost = cpu->idles = 0;
	}
	for (uint32_t i = 0; i < CO_MEMBERS_MAX; i++)
		w->member[i].total_runs = 0;
}

struct key {
	uint64_t a, b;
};

static void mix(struct key *k, const void *data, size_t bytes)
{
	const char *at = data;
	uint64_t v;

	for (; bytes; at += sizeof(v)) {
		size_t n = bytes < sizeof(v) ? bytes : sizeof(v);

		v = 0;
		memcpy(&v, at, n);
		k->a = (k->a ^ v) * 0x9e3779b97f4a7c15ull;
		k->a ^= k->a >> 29;
		k->b = (k->b + v) * 0xd6e8feb86659fd93ull;
		k->b ^= k->b >> 32;
		bytes -= n;
	}
}

static struct key state_key(void)
{
	struct key k = { 1, 2 };

	forget(&s.world);
	mix(&k, &s.world, sizeof(s.world));
	mix(&k, s.list, sizeof(s.list));
	mix(&k, s.n, sizeof(s.n));
	mix(&k, s.running, sizeof(s.running));
	mix(&k, s.kicked, offsetof(struct state, claimed) - offsetof(struct state, kicked));
	for (uint32_t t = 0; t < THREADS; t++) {
		mix(&k, &s.thread[t], offsetof(struct thread, log));
		mix(&k, s.thread[t].log, s.thread[t].logged * sizeof(uint64_t));
		/* Its view is told by the log only in part: what it reads plainly nobody else writes meanwhile. */
	}
	return k;
}

#define SEEN_MAX (1u << 22)
static struct {
	struct key *key;
	uint8_t *open; /* on the path that is being tried: to meet it again would be a circle */
	uint32_t n, depth, deepest;
} seen;

static uint32_t seen_find(struct key k)
{
	uint32_t i = (uint32_t)k.a & (SEEN_MAX - 1);

	while (seen.key[i].a && (seen.key[i].a != k.a || seen.key[i].b != k.b))
		i = (i + 1) & (SEEN_MAX - 1);
	return i;
}

static void explore(void);

static void explore_after(const struct state *before)
{
	explore();
	memcpy(&s, before, sizeof(s));
}

static void explore_cpu(const struct state *before, uint32_t c)
{
	if (s.thread[c].op != NOTHING) {
		step(c);
		explore_after(before);
		return;
	}
	if (s.kicked[c] || s.slices) {
		s.slices -= !s.kicked[c];
		begin(c, SCHEDULE, 0);
		explore_after(before);
	}
	if (s.sleeps && s.running[c] != CO_NONE && s.running[c] < members / 2) {
		s.sleeps--;
		begin(c, SLEEP, 0);
		explore_after(before);
	}
}

static void explore_waker(const struct state *before)
{
	if (s.thread[CPUS].op != NOTHING) {
		step(CPUS);
		explore_after(before);
		return;
	}
	for (uint32_t i = 0; i < members && s.wakes; i++)
		if (s.asleep[i]) {
			s.wakes--;
			s.asleep[i] = false;
			begin(CPUS, WAKE, i);
			explore_after(before);
		}
}

static void explore(void)
{
	struct key k = state_key();
	uint32_t at = seen_find(k);
	struct state *before;
	bool quiet = true;

	if (seen.key[at].a) {
		assert_false(seen.open[at]); /* asking without end */
		return;
	}
	assert_true(++seen.n < SEEN_MAX / 2);
	seen.key[at] = k;
	seen.open[at] = 1;
	if (++seen.depth > seen.deepest)
		seen.deepest = seen.depth;
	for (uint32_t t = 0; t < THREADS; t++)
		quiet = quiet && s.thread[t].op == NOTHING && (t == CPUS || !s.kicked[t]);
	if (quiet)
		check_quiet();
	before = malloc(sizeof(*before));
	assert_non_null(before);
	memcpy(before, &s, sizeof(s));
	for (uint32_t c = 0; c < cpus; c++)
		explore_cpu(before, c);
	explore_waker(before);
	free(before);
	seen.depth--;
	seen.open[seen_find(k)] = 0;
}

/*
 * `n` CPUs, each the home of a member of the group (slots 0..n-1) and of another (n..2n-1); members of the group may be
 * `asleep` (bits), then only CPU 0 begins by itself.
 */
static void start(uint32_t n, enum co_mode mode, uint8_t slices, uint8_t sleeps, uint8_t wakes, uint32_t asleep)
{
	struct co_params params = { .mode = mode, .n_cpus = n, .ask_on_wake = 1, .period_ns = 1000, .slice_ns = 1000,
				    .floor_ns = 1000, .debt_limit_ns = 1000, .credit_limit_ns = 1000 };

	now.t = CO_NONE;
	memset(&s, 0, sizeof(s));
	cpus = n;
	members = 2 * n;
	late = 0;
	co_world_init(&s.world, &params);
	assert_int_equal(co_account_set(&s.world, GROUP, true, true), 0);
	for (uint32_t i = 0; i < members && i < CO_MEMBERS_MAX; i++) {
		uint32_t list;

		if (i >= n)
			assert_int_equal(co_account_set(&s.world, i, true, false), 0);
		assert_int_equal(co_vm_set(&s.world, i, i < n ? GROUP : i, 1, 0), 0);
		assert_int_equal(co_member_add(&s.world, i, i, i, i % n), 0);
		s.world.member[i].purse.credit_ns = i < n ? -1 : 0; /* the group is OVER: it runs on request */
		if (i < n && asleep >> i & 1) {
			s.asleep[i] = true;
			continue;
		}
		list = co_queue(&s.world, &s.world.member[i], i % n, false, 1);
		list_do(APPEND, i % n, list, i);
	}
	for (uint32_t c = 0; c < CPUS; c++) {
		s.running[c] = CO_NONE;
		s.kicked[c] = c < n && (asleep == 0 || c == 0);
	}
	/* The first member of the group is asked for from outside, so that something happens. */
	s.world.cpu[0].request = GROUP + 1;
	s.claimed[0] = 1;
	s.slices = slices;
	s.sleeps = sleeps;
	s.wakes = wakes;
	free(seen.key);
	free(seen.open);
	seen.key = calloc(SEEN_MAX, sizeof(*seen.key));
	seen.open = calloc(SEEN_MAX, 1);
	assert_non_null(seen.key);
	assert_non_null(seen.open);
	seen.n = seen.depth = seen.deepest = 0;
	explore();
	print_message("%u CPUs, mode %u, %u slices, %u sleeps, %u wake-ups: %u states, %u steps at most, %u asked late\n", n, mode,
		      slices, sleeps, wakes, seen.n, seen.deepest, late);
}

static void test_two(void **context)
{
	(void)context;
#ifndef UNDER_SANITIZER /* one thread: what it visits is the same in every build */
	start(2, CO_MODE_CO_CREDIT, 2, 0, 0, 0);
	start(2, CO_MODE_CO_CREDIT, 0, 1, 1, 0);
#endif
	start(2, CO_MODE_POOLED, 1, 1, 1, 2);
}

static void test_three(void **context)
{
	(void)context;
	start(3, CO_MODE_CO_CREDIT, 0, 0, 0, 0);
#ifndef UNDER_SANITIZER
	start(3, CO_MODE_POOLED, 0, 0, 1, 4);
#endif
}

static int teardown(void **context)
{
	(void)context;
	free(seen.key);
	free(seen.open);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_two), cmocka_unit_test(test_three) };

	return cmocka_run_group_tests(tests, NULL, teardown);
}
