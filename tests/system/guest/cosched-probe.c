/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads the co-scheduler in a guest, lets busy threads run under it and prints one JSON line: who got how much, what the
 * CPUs counted, how it ended. VMs of one spinning thread each; the first GROUP of them are a co-group.
 *
 *   cosched-probe MODE PLACEMENT SECONDS VMS [GROUP]
 *   cosched-probe hold MODE PLACEMENT SECONDS PID...    takes in the threads of these processes, a VM each; says when it has
 *   cosched-probe fault error|stall                     breaks whatever scheduler is loaded, in its memory
 *     MODE: credit boost co-credit pooled   PLACEMENT: partial all
 */
#include "cosched/scheduler.h"
#include "cosched/shared.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static struct cosched *load(const char *mode, const char *placement)
{
	static const char *const modes[] = {"credit", "boost", "co-credit", "pooled", NULL};
	static const char *const placements[] = {"partial", "all", NULL};
	unsigned cpus[CO_CPUS_MAX], n_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	struct cosched_config config = {.cpus = cpus, .n_cpus = n_cpus, .params = {.period_ns = 30 * MS, .slice_ns = 30 * MS,
		.floor_ns = 30 * MS, .debt_limit_ns = 30 * MS, .credit_limit_ns = 300 * MS, .boost_ns = 10 * MS}};
	char why[COSCHED_WHY_MAX] = "";
	struct cosched *s;
	int error;

	config.params.mode = (unsigned)word(mode, modes);
	config.placement = (enum cosched_placement)word(placement, placements);
	for (unsigned i = 0; i < n_cpus; i++)
		cpus[i] = i;
	error = cosched_load(&config, &s, why);
	if (error) {
		printf("{\"error\": %d, \"why\": \"%s\"}\n", error, why);
		exit(1);
	}
	return s;
}

/* --- one that is broken from outside --- */

static int fault(const char *which)
{
	static const char *const faults[] = {"none", "error", "stall", NULL};
	size_t size = (sizeof(struct sched_state) + 4095) & ~4095ul;
	struct sched_state *state = MAP_FAILED;
	struct bpf_map_info info;
	__u32 id = 0, length;

	while (state == MAP_FAILED && !bpf_map_get_next_id(id, &id)) {
		int fd = bpf_map_get_fd_by_id(id);

		length = sizeof(info);
		memset(&info, 0, sizeof(info));
		if (fd >= 0 && !bpf_map_get_info_by_fd(fd, &info, &length) && !strcmp(info.name, SCHED_MAP_STATE))
			state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (state == MAP_FAILED)
		return 1;
	CO_WRITE(state->fault, (__u32)word(which, faults));
	return 0;
}

/* --- one that schedules others' threads --- */

static void hold_process(struct cosched *s, int pid, unsigned vm)
{
	char path[64];
	struct dirent *entry;
	unsigned member;
	DIR *tasks;
	int error;

	cosched_account_set(s, vm, true, false);
	cosched_vm_set(s, vm, vm, 256, 0);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		error = atoi(entry->d_name) > 0 ? cosched_member_add(s, atoi(entry->d_name), vm, &member) : 0;
		if (error)
			printf("{\"thread\": %s, \"error\": %d}\n", entry->d_name, error);
	}
	if (tasks)
		closedir(tasks);
}

static int hold(int n, char **words)
{
	char why[COSCHED_WHY_MAX] = "";
	struct cosched *s = load(words[0], words[1]);

	for (int i = 3; i < n; i++)
		hold_process(s, atoi(words[i]), (unsigned)i);
	printf("{\"held\": %d}\n", n - 3);
	fflush(stdout);
	wait_end(s, now_ns(CLOCK_MONOTONIC) + (unsigned long long)atoi(words[2]) * 1000 * MS, why);
	cosched_unload(s);
	printf("{\"ended\": \"%s\"}\n", why);
	return 0;
}

/* --- one with threads of its own --- */

static int run(int argc, char **argv)
{
	unsigned n = (unsigned)atoi(argv[4]), group = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	char why[COSCHED_WHY_MAX] = "";
	unsigned long long began, took;
	struct cosched *s = load(argv[1], argv[2]);

	n = n > THREADS_MAX ? THREADS_MAX : n;
	start(n);
	take_in(s, n, group);
	began = now_ns(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < n; i++)
		threads[i].began = now_ns(threads[i].clock);
	wait_end(s, began + (unsigned long long)atoi(argv[3]) * 1000 * MS, why);
	took = now_ns(CLOCK_MONOTONIC) - began;
	for (unsigned i = 0; i < n; i++)
		threads[i].ran = now_ns(threads[i].clock) - threads[i].began;
	print_threads(cosched_world(s), n, took);
	print_cpus(s, cosched_world(s)->params.n_cpus);
	for (unsigned i = 0; i < n; i++)
		cosched_member_remove(s, threads[i].member);
	cosched_unload(s);
	end = 1;
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
	printf("\"ended\": \"%s\"}\n", why);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "fault"))
		return fault(argv[2]);
	if (argc > 5 && !strcmp(argv[1], "hold"))
		return hold(argc - 2, argv + 2);
	return argc >= 5 ? run(argc, argv) : 64;
}
