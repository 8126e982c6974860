/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hog CPU...: for guests that are emulated by instruction count. Such a guest's CPUs take turns on one engine, so a CPU that
 * sleeps makes the others faster: hogs keep all busy, and all speeds the same. A timer that nobody listens to (channel 0 of the
 * PIT, 5 kHz) makes the turns short.
 *
 * A hog looks at the clock every few hundred instructions, as a polling program does: that costs an emulated CPU part of its
 * turn, and beside hogs that never look a program would get a quarter less than its share.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/io.h>
#include <unistd.h>
#include <x86intrin.h>

#define PIT_HZ 1193182u
#define TURNS_HZ 5000u

static void *hog(void *arg)
{
	struct sched_param lowest = { 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((int)(long)arg, &set);
	sched_setaffinity(0, sizeof(set), &set);
	sched_setscheduler(0, SCHED_IDLE, &lowest);
	for (;;) {
		for (unsigned i = 0; i < 50; i++)
			__asm__ volatile("nop; nop; nop; nop");
		__rdtsc();
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned divisor = PIT_HZ / TURNS_HZ;
	pthread_t t;

	if (iopl(3) == 0) {
		outb(0x34, 0x43); /* channel 0, both bytes, rate generator */
		outb(divisor & 0xff, 0x40);
		outb(divisor >> 8, 0x40);
	}
	for (int i = 1; i < argc; i++)
		pthread_create(&t, NULL, hog, (void *)(long)atoi(argv[i]));
	pause();
	return 0;
}
