/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Co-scheduling brought in line with policies. Processes, threads and affinities are real; the scheduler, which few kernels of
 * test machines can load, is a table (cohost_kernel.h).
 */
#include "base/clock.h"
#include "base/util.h"
#include "cosched/taken.h"
#include "ctl/cosched.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "cohost_kernel.h"

#define HANG_USEC (120 * UINT64_C(1000000))

/* --- a co-scheduled host --- */

static struct {
	unsigned ended;
	char last[64];
} told;

static void on_told(void *arg, const char *event, const char *name, const char *detail)
{
	(void)arg;
	(void)detail;
	snprintf(told.last, sizeof(told.last), "%.40s %.20s", event, name);
}

static void on_ended(void *arg, const char *why)
{
	(void)arg;
	assert_string_equal(why, "it stalled");
	told.ended++;
}

static sd_event *event;
static struct cohost *host;
/* Where its files are. */
static char folder[] = "/tmp/test-cohost-XXXXXX";

static int begin(void **state)
{
	struct cohost_events events = { on_told, on_ended, NULL };
	struct cohost_options options = { .systemd = "" };

	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	memset(&told, 0, sizeof(told));
	return sd_event_new(&event) < 0 || cohost_create(event, &options, &events, &host) < 0;
}

static int finish(void **state)
{
	(void)state;
	cohost_destroy(host);
	sd_event_unref(event);
	return kernel.now != NULL;
}

static int apply_error(const char *text, struct cohost_error *error)
{
	char own[128];
	struct policy_source s[] = { { .name = (char *)(uintptr_t)"own.yaml", .text = own },
				     { .name = (char *)(uintptr_t)"p.yaml", .text = (char *)(uintptr_t)text } };
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;

	snprintf(own, sizeof(own), "daemon: { control: %s/control.sock }\n", folder);
	if (policy_load_sources(s, 2, &p, &diag) < 0)
		fail_msg("%s", diag.d[0].message);
	policy_diagnostics_fini(&diag);
	return cohost_apply(host, p, error);
}

static void apply(const char *text)
{
	struct cohost_error error;

	if (apply_error(text, &error) < 0)
		fail_msg("%s", error.text);
}

static void turn_until(bool (*done)(void))
{
	uint64_t began = clock_now_ns();

	while (!done()) {
		assert_true(clock_now_ns() - began < HANG_USEC * 1000);
		members_look_again(host->members);
		sd_event_source_set_time(host->on_look, 0);
		sd_event_run(event, 20000);
	}
}

/* --- what the scheduler has been told --- */

static unsigned slot_of(const char *vm)
{
	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		if (strcmp(host->vm[i].name, vm) == 0)
			return i;
	return CO_NONE;
}

static const struct co_vm *vm_of(const char *vm)
{
	assert_int_not_equal(slot_of(vm), CO_NONE);
	return &kernel.now->world.vm[slot_of(vm)];
}

static const struct co_account *account_of(const char *vm)
{
	return &kernel.now->world.account[vm_of(vm)->account];
}

static unsigned count_used_vms(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CO_VMS_MAX; i++)
		n += kernel.now->world.vm[i].weight > 0;
	return n;
}

/* --- numbers --- */

static void a_policy_becomes_numbers(void **state)
{
	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1], slice: 5ms, debt_limit: 80ms }\n"
	      "vms: { a: { cpu: { weight: 512 } }, b: { cpu: { cap: 150 } }, c: {} }\ncogroups: { g: { vms: [a, b] } }\n");
	assert_int_equal(kernel.now->config.placement, COSCHED_PARTIAL);
	assert_int_equal(kernel.now->config.n_cpus, 2);
	assert_int_equal(kernel.now->world.params.mode, CO_MODE_POOLED);
	assert_int_equal(kernel.now->world.params.slice_ns, 5000000);
	assert_int_equal(kernel.now->world.params.debt_limit_ns, 80000000);
	assert_int_equal(count_used_vms(), 3);
	/* By the same factor. */
	assert_int_equal(vm_of("a")->weight, 2 * vm_of("b")->weight);
	assert_int_equal(vm_of("b")->weight, vm_of("c")->weight);
	assert_int_equal(vm_of("b")->cap_ns, 45000000);
	assert_true(account_of("a")->is_group);
	assert_ptr_equal(account_of("a"), account_of("b"));
	assert_false(account_of("c")->is_group);
}

/* Slots stay, the scheduler stays; weights, caps and groups change under it. */
static void changes_are_live(void **state)
{
	unsigned a, b;

	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {}, b: {}, c: {} }\ncogroups: { g: { vms: [a, b] } }\n");
	a = slot_of("a");
	b = slot_of("b");
	apply("cosched: { mode: partial, cpus: [0, 1], algorithm: credit, slice: 10ms }\n"
	      "vms: { b: { cpu: { weight: 7, cap: 50 } }, a: {}, d: {} }\ncogroups: { h: { vms: [b, d] } }\n");
	assert_int_equal(kernel.loads, 1);
	assert_int_equal(slot_of("a"), a);
	assert_int_equal(slot_of("b"), b);
	assert_int_equal(slot_of("c"), CO_NONE);
	assert_int_equal(count_used_vms(), 3);
	assert_int_equal(kernel.now->world.params.mode, CO_MODE_CREDIT);
	assert_int_equal(vm_of("b")->weight, 7);
	assert_int_equal(vm_of("b")->cap_ns, 15000000);
	assert_false(account_of("a")->is_group);
	assert_true(account_of("b")->is_group);
	assert_ptr_equal(account_of("b"), account_of("d"));
	/* A thousand times, and nothing is used up. */
	for (unsigned i = 0; i < 500; i++) {
		apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {}, b: {}, e: {} }\ncogroups: { g: { vms: [e] } }\n");
		apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {}, f: {} }\n");
	}
	assert_int_equal(kernel.loads, 1);
	assert_int_equal(count_used_vms(), 2);
	assert_int_equal(slot_of("a"), a);
}

/* Pooled, it adds nothing to its group's weight worth a word, but has what it wants within; else it has the mean of it. */
static void a_worker_has_a_weight(void **state)
{
	static const char *const policy =
		"cosched: { mode: all, algorithm: %s }\npools: { r: { type: ram } }\n"
		"vms: { a: { cpu: { weight: 100 }, disks: [{ name: d, pool: r, size: 1MiB }] }, b: { cpu: { weight: 300 } } }\n"
		"cogroups: { g: { vms: [a, b], workers: true } }\n";
	char text[512];

	(void)state;
	snprintf(text, sizeof(text), policy, "pooled");
	apply(text);
	assert_int_equal(vm_of("g/worker")->weight, 1);
	assert_int_equal(vm_of("g/worker")->serves, CO_WEIGHT_MAX); /* of 87,000 */
	assert_int_equal(vm_of("a")->serves, 0);
	assert_true(vm_of("a")->weight > 10000);
	assert_ptr_equal(account_of("g/worker"), account_of("a"));
	snprintf(text, sizeof(text), policy, "co-credit");
	apply(text);
	assert_int_equal(vm_of("g/worker")->weight, 200);
	assert_int_equal(vm_of("a")->weight, 100);
}

static void what_cannot_be_is_refused(void **state)
{
	struct cohost_error error;

	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {} }\n");
	/* The machine's own number of CPUs is known only here. */
	assert_int_equal(apply_error("cosched: { mode: all }\nvms: { a: { cpu: { cap: 102400 } } }\n", &error), -EINVAL);
	assert_non_null(strstr(error.text, "VM a: cap 102400 is above"));
	/* What can be told beforehand leaves the one that runs as it is, with its credit. */
	assert_int_equal(apply_error("cosched: { mode: partial, cpus: [0, 99] }\nvms: { b: {} }\n", &error), -EINVAL);
	assert_string_equal(error.text, "no such CPU");
	assert_int_equal(kernel.unloads, 0);
	assert_true(vm_of("a")->weight > 0);
	/* Other CPUs need another scheduler; the kernel refuses it, so the old one comes back. */
	kernel.refuse = 1;
	assert_int_equal(apply_error("cosched: { mode: partial, cpus: [0] }\nvms: { b: {} }\n", &error), -EBUSY);
	assert_string_equal(error.text, "not today");
	assert_int_equal(kernel.loads, 2);
	assert_int_equal(kernel.now->config.n_cpus, 2);
	assert_int_equal(count_used_vms(), 1);
	assert_true(vm_of("a")->weight > 0);
}

static void off_unloads(void **state)
{
	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {} }\n");
	apply("cosched: { mode: off }\nvms: { a: {} }\n");
	assert_null(kernel.now);
	assert_null(host->sched);
	apply("cosched: { mode: all }\nvms: { a: {} }\n");
	assert_int_equal(kernel.loads, 2);
	assert_int_equal(kernel.now->config.placement, COSCHED_ALL);
	assert_int_equal(count_used_vms(), 1);
}

static bool has_ended(void)
{
	return told.ended > 0;
}

static void the_end_is_told(void **state)
{
	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {} }\n");
	kernel.now->ended = true;
	assert_int_equal(eventfd_write(kernel.now->fd, 1), 0);
	turn_until(has_ended);
}

/* --- threads --- */

static void *sleep_named(void *name)
{
	pthread_setname_np(pthread_self(), name);
	for (;;)
		pause();
	return NULL;
}

static pid_t start_vmm(const char *name)
{
	int pair[2];
	pthread_t t;
	pid_t pid;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = fork();
	if (pid) {
		assert_int_equal(read(pair[0], &byte, 1), 1);
		close(pair[0]);
		close(pair[1]);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"CPU 0/KVM");
	pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"CPU 1/KVM");
	if (write(pair[1], "", 1) != 1)
		_exit(1);
	sleep_named((void *)(uintptr_t)name);
	_exit(0);
}

static unsigned count_members(void)
{
	unsigned n = 0;

	for (unsigned i = 0; kernel.now && i < CO_MEMBERS_MAX; i++)
		n += kernel.now->tid[i] != 0;
	return n;
}

/* Before its threads have names, all are taken: three. */
static bool has_two(void)
{
	return count_members() == 2 && host->n_members == 2;
}
static bool has_none(void)
{
	return count_members() == 0 && host->n_members == 0;
}

static unsigned first_cpu(void)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	for (unsigned i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			return i;
	return 0;
}

static bool may_run_on_one_only(pid_t tid, unsigned cpu)
{
	cpu_set_t set;

	assert_int_equal(sched_getaffinity(tid, sizeof(set), &set), 0);
	return CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set);
}

static void threads_are_taken_and_given_back(void **state)
{
	char name[16], policy[256];
	struct cohost_trace *trace;
	cpu_set_t mine, theirs;
	unsigned cpu = first_cpu();
	pid_t pid, tid;
	int status, there = 0;

	(void)state;
	snprintf(name, sizeof(name), "vm-%d", (int)getpid());
	snprintf(policy, sizeof(policy), "cosched: { mode: partial, cpus: [%u] }\nvms: { a: { cpu: { process: %s } } }\n", cpu, name);
	pid = start_vmm(name);
	apply(policy);
	turn_until(has_two);
	tid = host->member[0].used ? host->member[0].member.tid : 0;
	assert_true(tid > 0 && tid != pid);
	assert_true(may_run_on_one_only(tid, cpu));
	assert_int_equal(host->vm[slot_of("a")].n, 2);
	/* A recording says who was there. */
	assert_int_equal(cohost_trace_start(host), 0);
	assert_int_equal(cohost_trace_start(host), -EBUSY);
	trace = cohost_trace_stop(host);
	assert_int_equal(trace->n, 2);
	assert_int_equal(trace->event[0].kind, CO_EVENT_ADD);
	assert_int_equal(trace->event[0].cpu, NUMBERS_FROM);
	assert_int_equal(trace->member[trace->event[0].member].home, NUMBERS_FROM);
	assert_int_equal(trace->member[trace->event[1].member].vm, slot_of("a"));
	cohost_trace_free(trace);
	/* Not in the policy any more. */
	apply("cosched: { mode: all }\n");
	turn_until(has_none);
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	assert_int_equal(sched_getaffinity(tid, sizeof(theirs), &theirs), 0);
	assert_true(CPU_EQUAL(&mine, &theirs));
	/* Back, and through another scheduler. */
	apply(policy);
	turn_until(has_two);
	assert_int_equal(cohost_trace_start(host), 0);
	kill(pid, SIGKILL);
	turn_until(has_none);
	assert_string_equal(told.last, "cosched.left a");
	/* And who went meanwhile; one that is dying may have been found once more. */
	trace = cohost_trace_stop(host);
	assert_true(trace->n >= 4);
	for (size_t i = 0; i < trace->n; i++)
		there += trace->event[i].kind == CO_EVENT_ADD ? 1 : -1;
	assert_int_equal(there, 0);
	assert_int_equal(trace->event[trace->n - 1].kind, CO_EVENT_GONE);
	cohost_trace_free(trace);
	waitpid(pid, &status, 0);
}

/* Written down while they are members, and given back by the next run, if this one had no time to. */
static void a_killed_runs_threads_are_given_back(void **state)
{
	char name[16], policy[256], path[64], aside[64];
	struct cohost_error error;
	cpu_set_t mine, theirs, one;
	unsigned cpu = first_cpu();
	pid_t pid, tid;

	(void)state;
	snprintf(path, sizeof(path), "%s/cosched.threads", folder);
	snprintf(aside, sizeof(aside), "%s/aside", folder);
	snprintf(name, sizeof(name), "vm-%d", (int)getpid());
	snprintf(policy, sizeof(policy), "cosched: { mode: partial, cpus: [%u] }\nvms: { a: { cpu: { process: %s } } }\n", cpu, name);
	pid = start_vmm(name);
	apply(policy);
	turn_until(has_two);
	tid = host->member[0].used ? host->member[0].member.tid : 0;
	assert_int_equal(link(path, aside), 0);
	finish(NULL);
	assert_int_equal(access(path, F_OK), -1);
	/* As a kill would have left it. */
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	assert_int_equal(sched_setaffinity(tid, sizeof(one), &one), 0);
	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(taken_count(path, "/proc"), CPU_EQUAL(&one, &mine) ? 0 : 1);
	begin(NULL);
	/* Also by one that cannot begin. */
	kernel.refuse = 1;
	assert_int_equal(apply_error(policy, &error), -EBUSY);
	assert_int_equal(sched_getaffinity(tid, sizeof(theirs), &theirs), 0);
	assert_true(CPU_EQUAL(&mine, &theirs));
	assert_int_equal(access(path, F_OK), -1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Mode all instead: the kernel refuses it, and the former one after it. Nothing is scheduled, and nobody stays narrowed. */
static void what_a_refused_change_had_taken_is_given_back(void **state)
{
	char name[16], policy[256];
	struct cohost_error error;
	cpu_set_t mine, theirs;
	unsigned cpu = first_cpu();
	pid_t pid, tid;

	(void)state;
	snprintf(name, sizeof(name), "vm-%d", (int)getpid());
	snprintf(policy, sizeof(policy), "cosched: { mode: partial, cpus: [%u] }\nvms: { a: { cpu: { process: %s } } }\n", cpu, name);
	pid = start_vmm(name);
	apply(policy);
	turn_until(has_two);
	tid = host->member[0].used ? host->member[0].member.tid : 0;
	kernel.refuse = 2;
	assert_int_equal(apply_error("cosched: { mode: all }\nvms: { a: {} }\n", &error), -EBUSY);
	assert_null(kernel.now);
	assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
	assert_int_equal(sched_getaffinity(tid, sizeof(theirs), &theirs), 0);
	assert_true(CPU_EQUAL(&mine, &theirs));
	assert_int_equal(access(host->keep_taken, F_OK), -1);
	/* Found, and told; taken in when it can be. */
	assert_int_equal(host->n_members, 2);
	apply(policy);
	turn_until(has_two);
	assert_true(may_run_on_one_only(tid, cpu));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* One at a time where files are kept: the other has not been killed, so nothing of it is given back. */
static void another_run_is_let_be(void **state)
{
	struct cohost *first = host;
	struct cohost_error error;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "%s/cosched.lock", folder);
	apply("cosched: { mode: off }\n");
	assert_int_equal(cohost_create(event, &first->options, &first->events, &host), 0);
	assert_int_equal(apply_error("cosched: { mode: off }\n", &error), -EBUSY);
	assert_non_null(strstr(error.text, "another fairlead-cosched runs"));
	cohost_destroy(host);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(cohost_create(event, &first->options, &first->events, &host), 0);
	cohost_destroy(first);
	apply("cosched: { mode: off }\n");
}

static void a_worker_comes_and_goes(void **state)
{
	struct member m = { .pid = getpid(), .tid = gettid(), .vcpu = -1 };
	cpu_set_t before, after;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	apply("cosched: { mode: all }\npools: { r: { type: ram } }\nvms: { a: { disks: [{ name: d, pool: r, size: 1MiB }] } }\n"
	      "cogroups: { g: { vms: [a], workers: true } }\n");
	assert_int_equal(members_identify(host->members, &m), 0);
	cohost_worker_is(host, "g", &m);
	cohost_worker_is(host, "g", &m);
	assert_int_equal(count_members(), 1);
	assert_int_equal(kernel.now->world.member[0].vm, slot_of("g/worker"));
	cohost_worker_is(host, "other", NULL);
	assert_int_equal(count_members(), 1);
	cohost_worker_is(host, "g", NULL);
	assert_int_equal(count_members(), 0);
	assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
	assert_true(CPU_EQUAL(&before, &after));
}

/* --- what is told --- */

static const json_t *named(const json_t *list, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach (list, i, o)
		if (strcmp(json_string_value(json_object_get(o, "name")), name) == 0)
			return o;
	return NULL;
}

static void has_keys(const json_t *o, const char *const keys[])
{
	assert_true(json_is_object(o));
	for (; *keys; keys++)
		if (!json_object_get(o, *keys))
			fail_msg("no %s", *keys);
}

static void check_status(bool loaded)
{
	static const char *const all[] = { "mode", "algorithm", "loaded", "slice_ns", "cpus", "foreign_percent", "vms", "groups",
					   "per_cpu", NULL };
	static const char *const of_vm[] = { "name", "worker", "weight", "cap_percent", "why", "members", "spans", NULL };
	static const char *const of_group[] = { "name", "vms", "members", "weight", "spans", "requests", "credit_ns", "debt_ns", NULL };
	json_t *s = cosched_status_json(host, 1), *cpu;
	size_t i;

	has_keys(s, all);
	json_array_foreach (json_object_get(s, "per_cpu"), i, cpu)
		assert_int_equal(json_integer_value(json_object_get(cpu, "kicks_idle")), 10 + (int)i);
	assert_int_equal(json_is_true(json_object_get(s, "loaded")), loaded);
	has_keys(named(json_object_get(s, "vms"), "a"), of_vm);
	has_keys(named(json_object_get(s, "vms"), "g/worker"), of_vm);
	has_keys(named(json_object_get(s, "groups"), "g"), of_group);
	assert_int_equal(json_array_size(json_object_get(s, "per_cpu")), loaded ? json_array_size(json_object_get(s, "cpus")) : 0);
	json_decref(s);
}

static void all_is_told(void **state)
{
	static const char *const policy =
		"cosched: { mode: all, algorithm: %s }\npools: { r: { type: ram } }\n"
		"vms: { a: { disks: [{ name: d, pool: r, size: 1MiB }] }, b: { cpu: { process: nobody } } }\n"
		"cogroups: { g: { vms: [a], workers: true } }\n";
	static const char *const algorithms[] = { "pooled", "co-credit", "credit", "credit+boost" };
	struct member m = { .pid = getpid(), .tid = gettid(), .vcpu = -1 };
	char text[512];

	(void)state;
	assert_int_equal(members_identify(host->members, &m), 0);
	for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
		snprintf(text, sizeof(text), policy, algorithms[i]);
		apply(text);
		cohost_worker_is(host, "g", &m);
		check_status(true);
	}
	host->options.rehearse = true;
	apply("cosched: { mode: off }\n");
	finish(NULL);
	begin(NULL);
	host->options.rehearse = true;
	snprintf(text, sizeof(text), policy, "pooled");
	apply(text);
	cohost_worker_is(host, "g", &m);
	check_status(false);
}

static void seconds_are_kept(void **state)
{
	struct cohost_span s = { .n = 0 };
	struct cohost_totals t;

	(void)state;
	assert_int_equal(cohost_span_over(&s, 10).time_ns, 0);
	for (uint64_t i = 0; i < 200; i++) {
		t = (struct cohost_totals){ .time_ns = i * NSEC_PER_SEC, .ran_ns = i * i };
		cohost_span_keep(&s, &t);
		if (i == 5)
			assert_int_equal(cohost_span_over(&s, 10).time_ns, 5 * NSEC_PER_SEC);
	}
	assert_int_equal(cohost_span_over(&s, 1).ran_ns, 199 * 199 - 198 * 198);
	assert_int_equal(cohost_span_over(&s, 60).time_ns, 60 * NSEC_PER_SEC);
	assert_int_equal(cohost_span_over(&s, 600).ran_ns, 199 * 199 - 139 * 139);
}

/* Another scheduler counts from zero: what the former one had counted is no part of a span. */
static void a_span_is_of_one_scheduler(void **state)
{
	static const struct cohost_totals before[] = { { .time_ns = NSEC_PER_SEC }, { .time_ns = 2 * NSEC_PER_SEC, .ran_ns = NSEC_PER_SEC } };
	static const struct cohost_totals after = { .time_ns = 3 * NSEC_PER_SEC };
	unsigned slot;

	(void)state;
	apply("cosched: { mode: partial, cpus: [0, 1] }\nvms: { a: {} }\n");
	slot = slot_of("a");
	for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
		cohost_span_keep(&host->vm[slot].span, &before[i]);
		cohost_span_keep(&host->account[host->vm[slot].account].span, &before[i]);
	}
	apply("cosched: { mode: partial, cpus: [0, 1], slice: 5ms }\nvms: { a: {} }\n");
	assert_int_equal(cohost_span_over(&host->vm[slot].span, 60).ran_ns, NSEC_PER_SEC);
	apply("cosched: { mode: partial, cpus: [1] }\nvms: { a: {} }\n");
	assert_int_equal(slot_of("a"), slot);
	cohost_span_keep(&host->vm[slot].span, &after);
	cohost_span_keep(&host->account[host->vm[slot].account].span, &after);
	assert_int_equal(cohost_span_over(&host->vm[slot].span, 60).ran_ns, 0);
	assert_int_equal(cohost_span_over(&host->account[host->vm[slot].account].span, 60).time_ns, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, finish)

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

/* Every run has taken its files away. */
static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_policy_becomes_numbers),
		TEST(changes_are_live),
		TEST(a_worker_has_a_weight),
		TEST(what_cannot_be_is_refused),
		TEST(off_unloads),
		TEST(the_end_is_told),
		TEST(threads_are_taken_and_given_back),
		TEST(a_killed_runs_threads_are_given_back),
		TEST(what_a_refused_change_had_taken_is_given_back),
		TEST(another_run_is_let_be),
		TEST(a_worker_comes_and_goes),
		TEST(all_is_told),
		TEST(seconds_are_kept),
		TEST(a_span_is_of_one_scheduler),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
