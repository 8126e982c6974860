/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What coload's VMs do. Each is a process with a thread a vCPU, named as QEMU names them; an idle vCPU sleeps in a futex, as
 * a halted one does, and is woken by whoever has work for it.
 */
#include "coload.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct self {
	struct coload *c;
	struct vm *vm;
	struct vcpu *vcpu;
};

uint64_t coload_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static double random_unit(struct vcpu *v)
{
	v->random ^= v->random << 13;
	v->random ^= v->random >> 7;
	v->random ^= v->random << 17;
	return (double)(v->random >> 11) / (double)(UINT64_C(1) << 53);
}

/* CPU time of `us` on the average, give or take the jitter. */
static void work(const struct self *s, double us)
{
	double factor = 1 + s->c->jitter * (2 * random_unit(s->vcpu) - 1);

	steps((uint64_t)(us * factor * s->c->steps_per_us + 0.5));
}

/* --- queues --- */

static const struct request *ring_peek(const struct ring *r)
{
	uint32_t head = r->head;

	if (__atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == head)
		return NULL;
	return &r->request[head % RING_SIZE];
}

static struct request ring_pop(struct ring *r)
{
	struct request q = r->request[r->head % RING_SIZE];

	__atomic_store_n(&r->head, r->head + 1, __ATOMIC_RELEASE);
	return q;
}

static void ring_push(struct ring *r, uint64_t born_ns)
{
	r->request[r->tail % RING_SIZE] = (struct request){ .born_ns = born_ns, .arrived_ns = coload_now_ns() };
	__atomic_store_n(&r->tail, r->tail + 1, __ATOMIC_RELEASE);
}

static void send_to(struct vm *vm, uint64_t born_ns)
{
	ring_push(&vm->in, born_ns);
	__atomic_add_fetch(&vm->doorbell, 1, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&vm->asleep, 0, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &vm->doorbell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Until the doorbell rings, unless it has rung since `seen`. */
static void sleep_unless_rung(struct vm *vm, uint32_t seen)
{
	/* Each time: who rang before `seen`, and looks only now whether somebody sleeps, has taken the flag and woken us in vain. */
	for (;;) {
		__atomic_store_n(&vm->asleep, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&vm->doorbell, __ATOMIC_SEQ_CST) != seen)
			break;
		syscall(SYS_futex, &vm->doorbell, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	__atomic_store_n(&vm->asleep, 0, __ATOMIC_SEQ_CST);
}

/* --- kinds --- */

/* The next one in the order of arrival: false when there is none. */
static bool driver_take(const struct self *s, struct request *ret, bool *ret_done)
{
	struct group *g = &s->c->group[s->vm->group];
	const struct request *done = ring_peek(&s->vm->in), *fresh = ring_peek(&g->fresh);

	if (!done && !fresh)
		return false;
	*ret_done = done && (!fresh || done->arrived_ns <= fresh->arrived_ns);
	*ret = ring_pop(*ret_done ? &s->vm->in : &g->fresh);
	return true;
}

/* A client has its answer, and sends the next request. */
static void driver_answer(const struct self *s, const struct request *q)
{
	struct group *g = &s->c->group[s->vm->group];

	hist_add(&g->latency, coload_now_ns() - q->born_ns);
	s->vcpu->work++;
	ring_push(&g->fresh, coload_now_ns());
}

/* An event loop: it takes what is there, up to a batch, works on it, and hands all of it on. */
static bool driver_step(const struct self *s)
{
	struct request q[RING_SIZE];
	bool done[RING_SIZE];
	unsigned n = 0;

	while (n < s->c->batch && driver_take(s, &q[n], &done[n]))
		n++;
	for (unsigned i = 0; i < n; i++)
		work(s, s->c->cost_driver_us);
	for (unsigned i = 0; i < n; i++) {
		if (done[i])
			driver_answer(s, &q[i]);
		else
			send_to(&s->c->vm[s->vm->next], q[i].born_ns);
	}
	return n > 0;
}

static bool stage_step(const struct self *s)
{
	uint64_t born_ns;

	if (!ring_peek(&s->vm->in))
		return false;
	born_ns = ring_pop(&s->vm->in).born_ns;
	work(s, s->c->cost_stage_us);
	s->vcpu->work++;
	send_to(&s->c->vm[s->vm->next], born_ns);
	return true;
}

static void serve(const struct self *s, bool (*step)(const struct self *))
{
	for (;;) {
		uint32_t seen = __atomic_load_n(&s->vm->doorbell, __ATOMIC_SEQ_CST);

		if (!step(s))
			sleep_unless_rung(s->vm, seen);
	}
}

static void drive(const struct self *s)
{
	for (unsigned i = 0; i < s->c->window; i++)
		ring_push(&s->c->group[s->vm->group].fresh, coload_now_ns());
	serve(s, driver_step);
}

static void add(const struct self *s)
{
	for (;;) {
		steps(16);
		store_relaxed(&s->vcpu->work, s->vcpu->work + 16);
	}
}

/* `doorbell` is the lock. A plain test and set: as with a guest's spin lock, who is preempted in it stops the other. */
static void spin(const struct self *s)
{
	for (;;) {
		while (__atomic_exchange_n(&s->vm->doorbell, 1, __ATOMIC_ACQUIRE)) {
			steps(1);
			s->vcpu->spun++;
		}
		work(s, s->c->cost_lock_us);
		__atomic_store_n(&s->vm->doorbell, 0, __ATOMIC_RELEASE);
		work(s, s->c->cost_outside_us);
		s->vcpu->work++;
	}
}

static void idle(const struct self *s)
{
	for (;;)
		sleep_unless_rung(s->vm, s->vm->doorbell);
}

static void *vcpu_main(void *arg)
{
	const struct self *s = arg;
	char name[16];

	snprintf(name, sizeof(name), "CPU %u/TCG", (unsigned)(s->vcpu - s->vm->vcpu));
	prctl(PR_SET_NAME, name);
	s->vcpu->tid = (pid_t)syscall(SYS_gettid);
	__atomic_add_fetch(&s->c->ready, 1, __ATOMIC_SEQ_CST);
	while (s->c->together && !__atomic_load_n(&s->c->n_vcpus, __ATOMIC_SEQ_CST))
		usleep(10000);
	switch (s->vm->kind) {
	case KIND_DRIVER: drive(s); break;
	case KIND_STAGE: serve(s, stage_step); break;
	case KIND_ADDER: add(s); break;
	case KIND_SPIN: spin(s); break;
	case KIND_IDLE: idle(s); break;
	}
	return NULL;
}

void coload_vm_run(struct coload *c, unsigned i)
{
	static struct self self[VCPUS_MAX];
	struct vm *vm = &c->vm[i];
	pthread_t thread;

	for (unsigned v = 0; v < vm->n_vcpus; v++) {
		self[v] = (struct self){ .c = c, .vm = vm, .vcpu = &vm->vcpu[v] };
		if (pthread_create(&thread, NULL, vcpu_main, &self[v])) {
			perror("coload: pthread_create");
			exit(1);
		}
	}
	for (;;)
		pause();
}
