/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A load of virtual machines without the machines: processes and threads that look like QEMU's from outside and wait for
 * each other as VMs do, for measuring schedulers.
 *
 *   coload run FILE OPTIONS            starts them; ends when it is told to (SIGTERM), with all of them
 *   coload wait FILE                   until all of them have begun
 *   coload hog SECONDS                 computes, whoever else would like to
 *   coload measure FILE WARMUP SECONDS prints what was done in a stretch of time, as JSON
 *
 * Each group has a driver (the I/O worker in front of the VMs, and its clients: a closed loop of WINDOW requests) and a
 * chain of VMs: a request costs the driver CPU time, then each VM of the chain, then the driver again. Beside them: adders,
 * which never sleep. Costs are numbers of instructions, so an emulator that counts them repeats every run exactly.
 *
 * The seed decides the order in which VMs begin, and with it where schedulers put them, and the costs' jitter.
 */
#include "coload.h"

#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIT_HZ 1193182u

static struct {
	unsigned adders, chain, groups, idle, hungry, spin, pit_hz;
} shape = { .adders = 7, .chain = 1, .groups = 1 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct coload *map_file(const char *path, bool create)
{
	int fd = open(path, create ? O_RDWR | O_CREAT | O_TRUNC : O_RDWR, 0600);
	struct stat st = { 0 };
	struct coload *c;

	if (fd < 0 || (create && ftruncate(fd, sizeof(*c))))
		die(path);
	while (fstat(fd, &st) == 0 && st.st_size < (off_t)sizeof(*c))
		usleep(10000);
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		die("mmap");
	close(fd);
	return c;
}

/* --- who there is --- */

static unsigned vm_add(struct coload *c, const char *name, enum kind kind, int group)
{
	struct vm *vm = &c->vm[c->n_vms];

	if (c->n_vms == VMS_MAX) {
		fprintf(stderr, "coload: more than %u VMs\n", VMS_MAX);
		exit(64);
	}
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	vm->kind = kind;
	vm->group = group;
	vm->n_vcpus = kind == KIND_SPIN ? 2 : 1;
	return c->n_vms++;
}

static void group_add(struct coload *c, int g)
{
	char name[32];
	unsigned driver, last;

	snprintf(name, sizeof(name), "g%d-driver", g);
	driver = last = vm_add(c, name, KIND_DRIVER, g);
	for (unsigned i = 0; i < shape.chain; i++) {
		unsigned stage;

		snprintf(name, sizeof(name), "g%d-web%u", g, i);
		stage = vm_add(c, name, KIND_STAGE, g);
		c->vm[last].next = stage;
		last = stage;
	}
	c->vm[last].next = driver;
	for (unsigned i = 0; i < shape.idle; i++) {
		snprintf(name, sizeof(name), "g%d-idle%u", g, i);
		vm_add(c, name, KIND_IDLE, g);
	}
	for (unsigned i = 0; i < shape.hungry; i++) {
		snprintf(name, sizeof(name), "g%d-hungry%u", g, i);
		vm_add(c, name, KIND_ADDER, g);
	}
}

static void population(struct coload *c)
{
	char name[32];

	for (c->n_groups = 0; c->n_groups < shape.groups; c->n_groups++)
		group_add(c, (int)c->n_groups);
	for (unsigned i = 0; i < shape.spin; i++) {
		snprintf(name, sizeof(name), "spin%u", i);
		vm_add(c, name, KIND_SPIN, -1);
	}
	for (unsigned i = 0; i < shape.adders; i++) {
		snprintf(name, sizeof(name), "adder%u", i);
		vm_add(c, name, KIND_ADDER, -1);
	}
}

/* --- starting --- */

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Steps per microsecond of CPU time, measured here: for machines whose instructions take as long as they take. */
static double calibrate(void)
{
	struct timespec before, after;
	uint64_t n = 1 << 17;

	steps(n);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	steps(n);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	return (double)n / ((double)(after.tv_sec - before.tv_sec) * 1e6 + (double)(after.tv_nsec - before.tv_nsec) / 1e3);
}

/* Becomes a process that looks like a VM's: name, command line. Its threads inherit the CPU it begins on. */
static void vm_exec(const struct coload *c, unsigned i, unsigned place, const char *file)
{
	char name[64], number[16];
	cpu_set_t set;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* On its first CPU now, anywhere later. */
	CPU_ZERO(&set);
	CPU_SET(place % c->cpus, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (unsigned cpu = 0; cpu < c->cpus; cpu++)
		CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	snprintf(name, sizeof(name), "guest=%s,debug-threads=on", c->vm[i].name);
	snprintf(number, sizeof(number), "%u", i);
	setenv("COLOAD_FILE", file, 1);
	setenv("COLOAD_VM", number, 1);
	execl("/proc/self/exe", "qemu-system-x86_64", "-name", name, (char *)NULL);
	die("exec");
}

static void start_all(struct coload *c, const char *file)
{
	unsigned order[VMS_MAX], vcpus = 0;
	pid_t pid;

	for (unsigned i = 0; i < c->n_vms; i++)
		order[i] = i;
	for (unsigned i = c->n_vms; i-- > 1;) {
		unsigned j = (unsigned)(mix((uint64_t)c->seed << 32 | i) % (i + 1)), swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	for (unsigned n = 0; n < c->n_vms; n++) {
		struct vm *vm = &c->vm[order[n]];

		for (unsigned v = 0; v < vm->n_vcpus; v++)
			vm->vcpu[v].random = mix((uint64_t)c->seed << 16 | order[n] << 4 | v) | 1;
		vcpus += vm->n_vcpus;
		pid = fork();
		if (pid == 0)
			vm_exec(c, order[n], n, file);
		vm->pid = pid;
		/* One after another, so that their order is that of their numbers. */
		while (__atomic_load_n(&c->ready, __ATOMIC_SEQ_CST) < vcpus)
			usleep(1000);
	}
	__atomic_store_n(&c->n_vcpus, vcpus, __ATOMIC_SEQ_CST);
}

/* A timer that nobody listens to: an emulator whose CPUs take turns makes the turns short. */
static void pit_start(unsigned hz)
{
	unsigned divisor = PIT_HZ / hz;

	if (iopl(3))
		die("iopl");
	outb(0x34, 0x43); /* channel 0, both bytes, rate generator */
	outb(divisor & 0xff, 0x40);
	outb(divisor >> 8, 0x40);
}

static void pit_stop(void)
{
	outb(0x30, 0x43); /* channel 0, both bytes, once and no more */
	outb(0xff, 0x40);
	outb(0xff, 0x40);
}

static int hog(double seconds)
{
	uint64_t end = coload_now_ns() + (uint64_t)(seconds * 1e9);

	while (coload_now_ns() < end)
		steps(256);
	return 0;
}

/* --- command line --- */

enum {
	OPT_CPUS = 1,
	OPT_ADDERS,
	OPT_CHAIN,
	OPT_GROUPS,
	OPT_IDLE,
	OPT_HUNGRY,
	OPT_SPIN,
	OPT_WINDOW,
	OPT_BATCH,
	OPT_DRIVER_US,
	OPT_STAGE_US,
	OPT_LOCK_US,
	OPT_OUTSIDE_US,
	OPT_JITTER,
	OPT_SEED,
	OPT_INSNS_PER_US,
	OPT_PIT,
	OPT_TOGETHER,
};

static const struct option options[] = {
	{ "cpus", 1, NULL, OPT_CPUS },
	{ "adders", 1, NULL, OPT_ADDERS },
	{ "chain", 1, NULL, OPT_CHAIN },
	{ "groups", 1, NULL, OPT_GROUPS },
	{ "idle", 1, NULL, OPT_IDLE },
	{ "hungry", 1, NULL, OPT_HUNGRY },
	{ "spin", 1, NULL, OPT_SPIN },
	{ "window", 1, NULL, OPT_WINDOW },
	{ "batch", 1, NULL, OPT_BATCH },
	{ "driver-us", 1, NULL, OPT_DRIVER_US },
	{ "stage-us", 1, NULL, OPT_STAGE_US },
	{ "lock-us", 1, NULL, OPT_LOCK_US },
	{ "outside-us", 1, NULL, OPT_OUTSIDE_US },
	{ "jitter", 1, NULL, OPT_JITTER },
	{ "seed", 1, NULL, OPT_SEED },
	{ "insns-per-us", 1, NULL, OPT_INSNS_PER_US },
	{ "pit", 1, NULL, OPT_PIT },
	{ "together", 0, NULL, OPT_TOGETHER },
	{ NULL, 0, NULL, 0 },
};

static bool option_set(struct coload *c, int option, const char *value)
{
	unsigned count = (unsigned)strtoul(value, NULL, 0);
	double number = strtod(value, NULL);

	switch (option) {
	case OPT_CPUS: c->cpus = count; break;
	case OPT_ADDERS: shape.adders = count; break;
	case OPT_CHAIN: shape.chain = count; break;
	case OPT_GROUPS: shape.groups = count; break;
	case OPT_IDLE: shape.idle = count; break;
	case OPT_HUNGRY: shape.hungry = count; break;
	case OPT_SPIN: shape.spin = count; break;
	case OPT_WINDOW: c->window = count; break;
	case OPT_BATCH: c->batch = count; break;
	case OPT_DRIVER_US: c->cost_driver_us = number; break;
	case OPT_STAGE_US: c->cost_stage_us = number; break;
	case OPT_LOCK_US: c->cost_lock_us = number; break;
	case OPT_OUTSIDE_US: c->cost_outside_us = number; break;
	case OPT_JITTER: c->jitter = number; break;
	case OPT_SEED: c->seed = count; break;
	case OPT_INSNS_PER_US: c->steps_per_us = number / STEP_INSNS; break;
	case OPT_PIT: shape.pit_hz = count; break;
	case OPT_TOGETHER: c->together = true; break;
	default: return false;
	}
	return true;
}

static int run(const char *file, int argc, char **argv)
{
	struct coload *c = map_file(file, true);
	int option, signal;
	sigset_t ends;

	c->pid = getpid();
	c->cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	c->window = c->batch = 100;
	c->cost_driver_us = 200;
	c->cost_stage_us = 1000;
	c->cost_lock_us = 20;
	c->cost_outside_us = 80;
	c->jitter = 0.5;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!option_set(c, option, optarg ? optarg : "0"))
			return 64;
	if (c->window >= RING_SIZE || !c->batch || c->batch > c->window || shape.groups > GROUPS_MAX || !c->cpus || (shape.groups && !shape.chain)) {
		fprintf(stderr, "coload: a window below %u and a batch no larger, at most %u groups, at least one CPU, a chain of one VM or more\n",
			RING_SIZE, GROUPS_MAX);
		return 64;
	}
	if (c->steps_per_us <= 0)
		c->steps_per_us = calibrate();
	if (shape.pit_hz)
		pit_start(shape.pit_hz);
	population(c);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	start_all(c, file);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	sigwait(&ends, &signal);
	for (unsigned i = 0; i < c->n_vms; i++)
		kill(c->vm[i].pid, SIGKILL);
	while (wait(NULL) > 0)
		;
	if (shape.pit_hz)
		pit_stop();
	return 0;
}

/* Whoever asks may be faster than who was asked to begin. */
static int wait_ready(const char *path)
{
	const struct coload *c;

	while (access(path, F_OK))
		usleep(10000);
	c = map_file(path, false);
	while (!__atomic_load_n(&c->n_vcpus, __ATOMIC_SEQ_CST) || __atomic_load_n(&c->ready, __ATOMIC_SEQ_CST) < c->n_vcpus)
		usleep(10000);
	return 0;
}

int main(int argc, char **argv)
{
	const char *file = getenv("COLOAD_FILE"), *vm = getenv("COLOAD_VM");

	if (file && vm)
		coload_vm_run(map_file(file, false), (unsigned)atoi(vm));
	if (argc >= 3 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argc - 2, argv + 2);
	if (argc == 3 && strcmp(argv[1], "hog") == 0)
		return hog(strtod(argv[2], NULL));
	if (argc == 3 && strcmp(argv[1], "wait") == 0)
		return wait_ready(argv[2]);
	if (argc == 5 && strcmp(argv[1], "measure") == 0)
		return coload_measure(map_file(argv[2], false), strtod(argv[3], NULL), strtod(argv[4], NULL));
	fprintf(stderr, "usage: coload run FILE OPTIONS | wait FILE | hog SECONDS | measure FILE WARMUP SECONDS\n");
	return 64;
}
