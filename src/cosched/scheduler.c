/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads sched.bpf.c into the kernel and changes what it schedules by: see scheduler.h. One thread, that of its caller.
 *
 * The world is memory that the kernel and this process share. What a settlement reads is changed under `lock`, which the
 * settlement tries and, if it is taken, comes back for; what a callback reads is written so that each step leaves something
 * valid. A thread is held by a pidfd: its number may be somebody else's tomorrow.
 */
#include "cosched/scheduler.h"

#include "base/clock.h"
#include "base/util.h"
#include "cosched/change.h"
#include "cosched/ops.h"
#include "cosched/preflight.h"
#include "cosched/shared.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SCHED_EXT
#define SCHED_EXT 7
#endif
#define PIDFD_THREAD O_EXCL
#define TRACE_BYTES (4u << 20)
#define COMPLAINT_LINE 200
#define LOCK_TRIES 100000
#define GONE_TRIES (LOCK_TRIES + 10000) /* ten seconds more */
#define RESCUE_NS 5000000000ull
#define RESCUE_SLICE_NS 1000000ull
#define FAIR_SLICE_NS 3000000ull

/* The compiled sched.bpf.c. */
extern const unsigned char cosched_object[];
extern const size_t cosched_object_size;

struct cosched {
	struct bpf_object *object;
	struct bpf_link *link;
	struct ring_buffer *ring;
	struct co_world *world;
	struct sched_state *state;
	struct co_params params; /* as loaded */
	const struct sched_config *config; /* as the program has it */
	int members_fd;
	enum cosched_placement placement;
	int pidfd[CO_MEMBERS_MAX]; /* -1: the slot is free */
	void (*event)(const struct co_event *event, void *context);
	void *context;
	unsigned n_events;
	uint64_t lost_before;
};

/* --- what libbpf says --- */

static char complaint[COSCHED_WHY_MAX];

/* Keeps the first lines, of a long one its end: a verifier's reasons stand there. */
__attribute__((format(printf, 2, 0))) static int keep_complaint(enum libbpf_print_level level, const char *format,
								va_list arguments)
{
	size_t length = strlen(complaint), size;
	char *text = NULL;

	if (level != LIBBPF_WARN || vasprintf(&text, format, arguments) < 0)
		return 0;
	size = strlen(text);
	snprintf(complaint + length, sizeof(complaint) - length, "%s", size > COMPLAINT_LINE ? text + size - COMPLAINT_LINE : text);
	free(text);
	return 0;
}

/* The function of the kernel's that the program wants and this kernel lacks; false: that is not what libbpf complained of. */
static bool lacks_function(char ret[COMPLAINT_LINE])
{
	const char *said = strstr(complaint, "(func ksym) '");

	return said && strstr(said, "not found") && sscanf(said, "(func ksym) '%199[^']", ret) == 1;
}

/* On one line, as part of a sentence. */
static const char *complained(void)
{
	size_t length = strlen(complaint);

	while (length > 0 && complaint[length - 1] == '\n')
		complaint[--length] = '\0';
	for (char *p = complaint; (p = strchr(p, '\n'));)
		*p = ' ';
	return complaint;
}

__attribute__((format(printf, 3, 4))) static int fail(int error, char why[COSCHED_WHY_MAX], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, COSCHED_WHY_MAX, format, arguments);
	va_end(arguments);
	return error;
}

/* --- shared memory --- */

/* What a map is to begin with. */
static void *map_initial(struct bpf_object *object, const char *name, size_t size)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);
	size_t actual = 0;
	void *memory = map ? bpf_map__initial_value(map, &actual) : NULL;

	return memory && actual >= size ? memory : NULL;
}

static size_t map_bytes(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

/* The memory that the loaded program works in. */
static void *map_shared(struct bpf_object *object, const char *name, size_t size)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);
	void *memory = mmap(NULL, map_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Against the settlement, which takes microseconds. Once the scheduler has ended, nobody holds it. */
static void lock(struct cosched *s)
{
	for (int i = 0; i < LOCK_TRIES && !CO_CLAIM(s->state->lock, 0, 1); i++)
		sched_yield();
}
static void unlock(struct cosched *s)
{
	__atomic_store_n(&s->state->lock, 0, __ATOMIC_RELEASE);
}

/* --- threads --- */

static bool thread_is_alive(int pidfd)
{
	return !syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) || errno == EPERM;
}

/* Not of one that has gone: its number may be somebody else's by now. */
static int policy_set(struct cosched *s, unsigned slot, int policy)
{
	if (!thread_is_alive(s->pidfd[slot]))
		return -ESRCH;
	return sched_setscheduler((pid_t)s->world->member[slot].tid, policy, &(struct sched_param){0}) ? -errno : 0;
}

/* --- loading --- */

/* The configured CPUs first, then the others. */
static void cpus_number(struct sched_config *values, const struct cosched_config *config)
{
	bool listed[CO_CPUS_MAX] = {false};
	unsigned n = 0;

	for (size_t i = 0; i < config->n_cpus; i++) {
		listed[config->cpus[i]] = true;
		values->number[n++] = (__u16)config->cpus[i];
	}
	for (unsigned cpu = 0; cpu < CO_CPUS_MAX; cpu++)
		if (!listed[cpu])
			values->number[n++] = (__u16)cpu;
	for (unsigned i = 0; i < CO_CPUS_MAX; i++)
		values->index[values->number[i]] = (__u16)i;
}

/* The operations as sched.bpf.c declares them; libbpf translates them to the kernel's layout. */
static void ops_init(struct bpf_map *ops, const struct cosched_config *config)
{
	size_t size = 0;
	struct sched_ext_ops *values = bpf_map__initial_value(ops, &size);

	if (config->placement == COSCHED_PARTIAL)
		values->flags |= SCX_OPS_SWITCH_PARTIAL;
}

static int configure(struct bpf_object *object, const struct cosched_config *config, const struct co_params *params)
{
	struct sched_config *values = map_initial(object, SCHED_MAP_CONFIG, sizeof(*values));
	struct co_world *world = map_initial(object, SCHED_MAP_WORLD, sizeof(*world));
	struct bpf_map *ops = bpf_object__find_map_by_name(object, "fairlead_ops");
	struct bpf_map *events = bpf_object__find_map_by_name(object, "events");

	if (!values || !world || !ops || !events)
		return -EINVAL;
	*values = (struct sched_config){.rescue_ns = RESCUE_NS, .rescue_slice_ns = RESCUE_SLICE_NS, .fair_slice_ns = FAIR_SLICE_NS};
	cpus_number(values, config);
	co_world_init(world, params);
	ops_init(ops, config);
	return bpf_map__set_max_entries(events, TRACE_BYTES);
}

static int ring_event(void *context, void *data, size_t size)
{
	struct cosched *s = context;
	struct co_event event;

	if (size < sizeof(event))
		return 0;
	memcpy(&event, data, sizeof(event));
	if (event.kind == SCHED_EVENT_END)
		return 0;
	event.cpu = (__u16)cosched_cpu_number(s, event.cpu);
	if (event.kind == CO_EVENT_ASK)
		event.value = cosched_cpu_number(s, (unsigned)event.value);
	s->n_events++;
	if (s->event)
		s->event(&event, s->context);
	return 0;
}

static int load_object(struct cosched *s, const struct cosched_config *config, char why[COSCHED_WHY_MAX])
{
	char function[COMPLAINT_LINE];
	int error;

	complaint[0] = '\0';
	s->object = bpf_object__open_mem(cosched_object, cosched_object_size, NULL);
	if (!s->object)
		return fail(-errno, why, "the scheduler's BPF program cannot be opened: %s", complained());
	error = configure(s->object, config, &s->params);
	if (error)
		return fail(error, why, "the scheduler's BPF program is not the loader's: build both anew");
	error = bpf_object__load(s->object);
	if (error == -EPERM)
		return fail(-EPERM, why, "loading a scheduler needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_NICE: %s", complained());
	if (error && lacks_function(function))
		return fail(-EOPNOTSUPP, why, "this kernel's sched_ext has no %s(), which the scheduler calls: Debian's have it from 7.0 on",
			    function);
	if (error)
		return fail(-EOPNOTSUPP, why, "this kernel's sched_ext lacks what the scheduler needs (%s): %s", strerror(-error),
			    complained());
	s->world = map_shared(s->object, SCHED_MAP_WORLD, sizeof(*s->world));
	s->state = map_shared(s->object, SCHED_MAP_STATE, sizeof(*s->state));
	if (!s->world || !s->state)
		return fail(-ENOMEM, why, "the scheduler's memory cannot be shared: %s", strerror(errno));
	s->config = map_initial(s->object, SCHED_MAP_CONFIG, sizeof(*s->config));
	s->state->trace = config->trace;
	s->members_fd = bpf_object__find_map_fd_by_name(s->object, "members");
	s->ring = ring_buffer__new(bpf_object__find_map_fd_by_name(s->object, "events"), ring_event, s, NULL);
	return s->ring ? 0 : fail(-errno, why, "no ring buffer: %s", strerror(errno));
}

static int attach(struct cosched *s, char why[COSCHED_WHY_MAX])
{
	int error;

	s->link = bpf_map__attach_struct_ops(bpf_object__find_map_by_name(s->object, "fairlead_ops"));
	if (s->link)
		return 0;
	error = -errno;
	return fail(error == -EOPNOTSUPP || error == -EPERM ? error : -EBUSY, why, "the kernel refuses the scheduler (%s)%s%s",
		    strerror(-error), s->state->exit.done ? ": " : "; its log says why",
		    s->state->exit.done ? s->state->exit.message : "");
}

static struct co_params params_of(const struct cosched_config *config)
{
	struct co_params params = config->params;

	params.n_cpus = (__u32)config->n_cpus;
	return params;
}

static int check_config(const struct cosched_config *config, char why[COSCHED_WHY_MAX])
{
	struct co_params params = params_of(config);

	for (size_t i = 0; i < config->n_cpus; i++)
		if (config->cpus[i] >= CO_CPUS_MAX)
			return fail(-EINVAL, why, "CPU %u: numbers up to %u can be scheduled", config->cpus[i], CO_CPUS_MAX - 1);
	if (config->n_cpus > CO_CPUS_MAX || co_params_check(&params))
		return fail(-EINVAL, why, "no CPUs, or a period, slice, floor or limit out of bounds");
	return preflight_cpus(config->cpus, config->n_cpus, why);
}

int cosched_check(const struct cosched_config *config, char why[COSCHED_WHY_MAX])
{
	int error = check_config(config, why);

	return error ? error : preflight_machine(why);
}

int cosched_load(const struct cosched_config *config, struct cosched **ret, char why[COSCHED_WHY_MAX])
{
	struct cosched *s;
	int error = check_config(config, why);

	if (!error)
		error = preflight(why);
	if (error)
		return error;
	s = calloc(1, sizeof(*s));
	if (!s)
		return fail(-ENOMEM, why, "no memory");
	memset(s->pidfd, -1, sizeof(s->pidfd));
	s->placement = config->placement;
	s->params = params_of(config);
	libbpf_set_print(keep_complaint);
	error = load_object(s, config, why);
	if (!error)
		error = attach(s, why);
	if (error) {
		cosched_unload(s);
		return error;
	}
	*ret = s;
	return 0;
}

void cosched_unload(struct cosched *s)
{
	if (!s)
		return;
	bpf_link__destroy(s->link);
	for (unsigned i = 0; i < CO_MEMBERS_MAX; i++) {
		if (s->pidfd[i] < 0)
			continue;
		policy_set(s, i, SCHED_OTHER);
		close(s->pidfd[i]);
	}
	ring_buffer__free(s->ring);
	if (s->world)
		munmap(s->world, map_bytes(sizeof(*s->world)));
	if (s->state)
		munmap(s->state, map_bytes(sizeof(*s->state)));
	bpf_object__close(s->object);
	free(s);
}

const struct co_world *cosched_world(const struct cosched *s)
{
	return s->world;
}

unsigned cosched_cpu_number(const struct cosched *s, unsigned cpu)
{
	return s->config->number[cpu & (CO_CPUS_MAX - 1)];
}

void cosched_look(struct cosched *s, void (*look)(const struct co_world *w, void *arg), void *arg)
{
	lock(s);
	look(s->world, arg);
	unlock(s);
}

/* --- configuration --- */

int cosched_params_set(struct cosched *s, const struct co_params *params)
{
	struct co_params p = *params;

	p.n_cpus = s->world->params.n_cpus;
	if (co_params_check(&p))
		return -EINVAL;
	lock(s);
	co_params_set(s->world, &p);
	unlock(s);
	return 0;
}

int cosched_vm_set(struct cosched *s, unsigned vm, unsigned account, unsigned weight, uint64_t cap_ns)
{
	int rc;

	lock(s);
	rc = co_vm_set(s->world, vm, account, weight, cap_ns);
	unlock(s);
	return rc;
}

void cosched_vm_serves(struct cosched *s, unsigned vm, unsigned weight)
{
	lock(s);
	CO_WRITE(co_vm_of(s->world, vm)->serves, weight);
	unlock(s);
}

int cosched_account_set(struct cosched *s, unsigned account, bool used, bool is_group)
{
	int rc;

	lock(s);
	rc = co_account_set(s->world, account, used, is_group);
	unlock(s);
	return rc;
}

/* --- members --- */

/* The CPU where a thread is at home: among those that it may use, unless there are none yet. */
static unsigned choose_home(struct cosched *s, pid_t tid, unsigned vm)
{
	const struct sched_config *config = s->config;
	__u64 allowed[CO_CPU_WORDS] = {0}, any[CO_CPU_WORDS] = {0};
	unsigned home;
	cpu_set_t set;

	if (sched_getaffinity(tid, sizeof(set), &set))
		CPU_ZERO(&set);
	for (unsigned i = 0; i < s->world->params.n_cpus; i++) {
		if (!s->state->cpu[i].online)
			continue;
		co_cpu_set(any, i);
		if (CPU_ISSET(config->number[i], &set))
			co_cpu_set(allowed, i);
	}
	home = co_home(s->world, vm, allowed);
	return home != CO_NONE ? home : co_home(s->world, vm, any);
}

static int slot_find(struct cosched *s, pid_t tid, unsigned *ret)
{
	*ret = CO_NONE;
	for (unsigned i = CO_MEMBERS_MAX; i-- > 0;) {
		if (s->pidfd[i] < 0)
			*ret = i;
		else if (s->world->member[i].tid == (unsigned)tid && thread_is_alive(s->pidfd[i]))
			return -EEXIST;
	}
	return *ret == CO_NONE ? -ENOSPC : 0;
}

static int slot_fill(struct cosched *s, unsigned slot, pid_t tid, unsigned vm)
{
	int rc;

	lock(s);
	s->state->slot[slot] = (struct sched_slot){.tid = (unsigned)tid};
	rc = co_member_add(s->world, slot, (unsigned)tid, vm, choose_home(s, tid, vm));
	unlock(s);
	return rc;
}

static void slot_clear(struct cosched *s, unsigned slot)
{
	lock(s);
	co_member_remove(s->world, slot, clock_now_ns());
	unlock(s);
	close(s->pidfd[slot]);
	s->pidfd[slot] = -1;
}

/* The thread is held and known to the core: the kernel learns of it, and schedules it here from now on. */
static int member_attach(struct cosched *s, unsigned slot)
{
	__u32 stored = slot + 1;
	int error = bpf_map_update_elem(s->members_fd, &s->pidfd[slot], &stored, BPF_ANY);

	if (!error)
		error = policy_set(s, slot, SCHED_EXT);
	if (error || thread_is_alive(s->pidfd[slot]))
		return error;
	/* It went in this very moment, and its successor of that number may have been given the policy. */
	sched_setscheduler((pid_t)s->world->member[slot].tid, SCHED_OTHER, &(struct sched_param){0});
	return -ESRCH;
}

int cosched_member_add(struct cosched *s, pid_t tid, unsigned vm, unsigned *ret_member)
{
	unsigned slot;
	int error, pidfd;

	if (vm >= CO_VMS_MAX || !s->world->vm[vm].weight)
		return -EINVAL;
	pidfd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
	if (pidfd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	error = slot_find(s, tid, &slot);
	if (!error)
		error = slot_fill(s, slot, tid, vm);
	if (error) {
		close(pidfd);
		return error;
	}
	s->pidfd[slot] = pidfd;
	error = member_attach(s, slot);
	if (error) {
		cosched_member_remove(s, slot);
		return error;
	}
	*ret_member = slot;
	return 0;
}

/* From now on it is no member; where all threads are scheduled here, that takes effect when it is queued anew. */
static void member_detach(struct cosched *s, unsigned slot)
{
	const struct co_member *m = &s->world->member[slot];

	CO_WRITE(s->state->slot[slot].leaving, 1);
	if (s->placement == COSCHED_ALL)
		policy_set(s, slot, SCHED_EXT);
	policy_set(s, slot, SCHED_OTHER);
	/* One that exits is reported before its CPU has let go of it; and what it is counted in only the kernel can lock. */
	for (int i = 0; i < GONE_TRIES && CO_READ(m->where) != CO_ASLEEP && !s->state->exit.done; i++)
		i < LOCK_TRIES ? sched_yield() : usleep(1000);
	bpf_map_delete_elem(s->members_fd, &s->pidfd[slot]);
}

void cosched_member_remove(struct cosched *s, unsigned member)
{
	if (member >= CO_MEMBERS_MAX || s->pidfd[member] < 0)
		return;
	member_detach(s, member);
	slot_clear(s, member);
}

/* --- watching --- */

void cosched_counters(const struct cosched *s, unsigned cpu, struct cosched_counters *ret)
{
	const struct sched_cpu *c = &s->state->cpu[cpu & (CO_CPUS_MAX - 1)];

	*ret = (struct cosched_counters){
		.dispatches = load_relaxed(&c->dispatches), .kicks_idle = load_relaxed(&c->kicks_idle),
		.kicks_preempt = load_relaxed(&c->kicks_preempt), .kicks_asked = load_relaxed(&c->kicks_asked),
		.rescued = load_relaxed(&c->rescued), .fair_picks = load_relaxed(&c->fair_picks),
		.misplaced = load_relaxed(&c->misplaced), .passed_over = load_relaxed(&c->passed_over),
		.lost_moves = load_relaxed(&c->lost_moves), .moved_off = load_relaxed(&c->moved_off),
		.member_ns = load_relaxed(&c->member_ns), .fair_ns = load_relaxed(&c->fair_ns),
	};
}

uint64_t cosched_settle_ns(const struct cosched *s)
{
	return load_relaxed(&s->state->settle_ns);
}

int cosched_trace_set(struct cosched *s, bool on)
{
	CO_WRITE(s->state->trace, on);
	return 0;
}

int cosched_fd(const struct cosched *s)
{
	return ring_buffer__epoll_fd(s->ring);
}

int cosched_trace_read(struct cosched *s, void (*event)(const struct co_event *, void *), void *context, uint64_t *ret_lost)
{
	uint64_t lost = load_relaxed(&s->state->events_lost);

	s->event = event;
	s->context = context;
	s->n_events = 0;
	ring_buffer__consume(s->ring);
	*ret_lost = lost - s->lost_before;
	s->lost_before = lost;
	return (int)s->n_events;
}

bool cosched_ended(struct cosched *s, char why[COSCHED_WHY_MAX])
{
	const struct sched_exit *e = &s->state->exit;

	if (!__atomic_load_n(&e->done, __ATOMIC_ACQUIRE))
		return false;
	snprintf(why, COSCHED_WHY_MAX, "%s%s%s", e->reason, e->message[0] ? ": " : "", e->message);
	return true;
}
