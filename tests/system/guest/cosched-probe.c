/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads the co-scheduler in a guest, lets busy threads run under it and prints one JSON line: who got how much, what the
 * CPUs counted, how it ended. VMs of one spinning thread each; the first GROUP of them are a co-group.
 *
 *   cosched-probe MODE PLACEMENT SECONDS VMS [GROUP [FAULT]]
 *     MODE: credit boost co-credit pooled   PLACEMENT: partial all   FAULT: error stall
 */
#include "cosched/scheduler.h"
#include "cosched/shared.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define THREADS_MAX 256

struct thread {
	pthread_t thread;
	pid_t tid;
	unsigned member;
	clockid_t clock;
	unsigned long long began, ran;
};

static struct thread threads[THREADS_MAX];
static volatile int end;

static void *spin(void *argument)
{
	struct thread *t = argument;

	__atomic_store_n(&t->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	while (!end)
		;
	return NULL;
}

static unsigned long long now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

static int word(const char *text, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], text))
			return i;
	fprintf(stderr, "cosched-probe: what is %s?\n", text);
	exit(64);
}

static void start(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (pthread_create(&threads[i].thread, NULL, spin, &threads[i]))
			exit(1);
		while (!__atomic_load_n(&threads[i].tid, __ATOMIC_ACQUIRE))
			sched_yield();
		pthread_getcpuclockid(threads[i].thread, &threads[i].clock);
	}
}

static void take_in(struct cosched *s, unsigned n, unsigned group)
{
	int error = 0;

	for (unsigned i = 0; i < n && !error; i++) {
		unsigned account = i < group ? 0 : i;

		error = cosched_account_set(s, account, true, i < group);
		if (!error)
			error = cosched_vm_set(s, i, account, 256, 0);
		if (!error)
			error = cosched_member_add(s, threads[i].tid, i, &threads[i].member);
		if (error)
			fprintf(stderr, "cosched-probe: thread %u: %s\n", i, strerror(-error));
	}
	if (error)
		exit(1);
}

static void print_threads(const struct co_world *w, unsigned n, unsigned long long took)
{
	printf("{\"took_ms\": %llu, \"threads\": [", took / MS);
	for (unsigned i = 0; i < n; i++) {
		const struct co_member *m = &w->member[threads[i].member];

		printf("%s{\"share\": %.4f, \"ran_ms\": %llu, \"waited_ms\": %llu, \"runs\": %llu, \"policy\": %d}", i ? ", " : "",
		       (double)threads[i].ran / (double)took, m->total_ran_ns / MS, m->total_waited_ns / MS,
		       (unsigned long long)m->total_runs, sched_getscheduler(threads[i].tid));
	}
	printf("], ");
}

static void print_cpus(const struct cosched *s, unsigned n)
{
	const struct co_world *w = cosched_world(s);
	struct cosched_counters k;

	printf("\"settlements\": %llu, \"cpus\": [", (unsigned long long)w->settlements);
	for (unsigned i = 0; i < n; i++) {
		const struct co_cpu *c = &w->cpu[i];

		cosched_counters(s, i, &k);
		printf("%s{\"sent\": %llu, \"honoured\": %llu, \"refused\": %llu, \"void\": %llu, \"steals\": %llu, \"under\": %llu, "
		       "\"over\": %llu, \"boost\": %llu, \"idles\": %llu, \"dispatches\": %lu, \"kicks_idle\": %lu, \"kicks_preempt\": %lu, "
		       "\"kicks_asked\": %lu, \"rescued\": %lu, \"fair_picks\": %lu, \"lost\": %lu, \"fair_ms\": %llu, \"member_ms\": %llu}", i ? ", " : "", c->requests_sent, c->requests_honoured,
		       c->requests_refused, c->requests_void, c->steals, c->picks_under, c->picks_over, c->picks_boost, c->idles,
		       k.dispatches, k.kicks_idle, k.kicks_preempt, k.kicks_asked, k.rescued, k.fair_picks, k.lost_moves, k.fair_ns / MS,
		       k.member_ns / MS);
	}
	printf("], ");
}

static void wait_end(struct cosched *s, unsigned long long until, char why[COSCHED_WHY_MAX])
{
	struct pollfd p = {.fd = cosched_fd(s), .events = POLLIN};
	uint64_t lost;

	while (now_ns(CLOCK_MONOTONIC) < until && !cosched_ended(s, why)) {
		poll(&p, 1, 100);
		cosched_trace_read(s, NULL, NULL, &lost);
	}
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"credit", "boost", "co-credit", "pooled", NULL};
	static const char *const placements[] = {"partial", "all", NULL};
	static const char *const faults[] = {"none", "error", "stall", NULL};
	unsigned cpus[CO_CPUS_MAX], n_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN), n, group;
	struct cosched_config config = {.cpus = cpus, .n_cpus = n_cpus, .params = {.period_ns = 30 * MS, .slice_ns = 30 * MS,
		.floor_ns = 30 * MS, .debt_limit_ns = 30 * MS, .credit_limit_ns = 300 * MS, .boost_ns = 10 * MS}};
	char why[COSCHED_WHY_MAX] = "";
	unsigned long long began, took;
	struct cosched *s;
	int error;

	if (argc < 5)
		return 64;
	config.params.mode = (unsigned)word(argv[1], modes);
	config.placement = (enum cosched_placement)word(argv[2], placements);
	n = (unsigned)atoi(argv[4]);
	group = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	for (unsigned i = 0; i < n_cpus; i++)
		cpus[i] = i;
	error = cosched_load(&config, &s, why);
	if (error) {
		printf("{\"error\": %d, \"why\": \"%s\"}\n", error, why);
		return 1;
	}
	start(n > THREADS_MAX ? THREADS_MAX : n);
	take_in(s, n, group);
	began = now_ns(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < n; i++)
		threads[i].began = now_ns(threads[i].clock);
	if (argc > 6)
		cosched_fault(s, (enum cosched_fault)word(argv[6], faults));
	wait_end(s, began + (unsigned long long)atoi(argv[3]) * 1000 * MS, why);
	took = now_ns(CLOCK_MONOTONIC) - began;
	for (unsigned i = 0; i < n; i++)
		threads[i].ran = now_ns(threads[i].clock) - threads[i].began;
	print_threads(cosched_world(s), n, took);
	print_cpus(s, n_cpus);
	for (unsigned i = 0; i < n; i++)
		cosched_member_remove(s, threads[i].member);
	cosched_unload(s);
	end = 1;
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
	printf("\"ended\": \"%s\"}\n", why);
	return 0;
}
