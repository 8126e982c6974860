/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks twice at what coload's VMs have done, and at what the kernel says of their threads, and prints the difference.
 */
#include "coload.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct look {
	uint64_t at_ns;
	struct hist latency[GROUPS_MAX];
	struct {
		uint64_t work, spun;
		/* /proc/PID/task/TID/schedstat: CPU time, time in a run queue, number of turns. */
		unsigned long long ran_ns, waited_ns, runs;
	} vcpu[VMS_MAX][VCPUS_MAX];
};

static void look_at_thread(const struct vm *vm, unsigned v, struct look *l, unsigned i)
{
	char path[64], text[96] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", vm->pid, vm->vcpu[v].tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) > 0)
			sscanf(text, "%llu %llu %llu", &l->vcpu[i][v].ran_ns, &l->vcpu[i][v].waited_ns, &l->vcpu[i][v].runs);
		close(fd);
	}
	l->vcpu[i][v].work = load_relaxed(&vm->vcpu[v].work);
	l->vcpu[i][v].spun = load_relaxed(&vm->vcpu[v].spun);
}

static void look(const struct coload *c, struct look *l)
{
	memset(l, 0, sizeof(*l));
	l->at_ns = coload_now_ns();
	for (unsigned g = 0; g < c->n_groups; g++)
		hist_merge(&l->latency[g], &c->group[g].latency);
	for (unsigned i = 0; i < c->n_vms; i++)
		for (unsigned v = 0; v < c->vm[i].n_vcpus; v++)
			look_at_thread(&c->vm[i], v, l, i);
}

static void print_groups(const struct coload *c, struct look *now, const struct look *before)
{
	double seconds = (double)(now->at_ns - before->at_ns) / 1e9;

	printf("\"groups\": [");
	for (unsigned g = 0; g < c->n_groups; g++) {
		struct hist *h = &now->latency[g];

		hist_subtract(h, &before->latency[g]);
		printf("%s{\"name\": \"g%u\", \"requests\": %llu, \"ms_per_request\": %.6f, \"mean_ms\": %.4f, "
		       "\"p50_ms\": %.4f, \"p95_ms\": %.4f, \"p99_ms\": %.4f}",
		       g ? ", " : "", g, (unsigned long long)h->count, h->count ? seconds * 1000 / (double)h->count : 0,
		       h->count ? (double)h->sum / (double)h->count / 1e6 : 0, (double)hist_quantile(h, 500) / 1e6,
		       (double)hist_quantile(h, 950) / 1e6, (double)hist_quantile(h, 990) / 1e6);
	}
	printf("]");
}

static void print_vms(const struct coload *c, const struct look *now, const struct look *before)
{
	printf("\"vms\": [");
	for (unsigned i = 0; i < c->n_vms; i++) {
		const struct vm *vm = &c->vm[i];

		printf("%s{\"name\": \"%s\", \"group\": %d, \"vcpus\": [", i ? ", " : "", vm->name, vm->group);
		for (unsigned v = 0; v < vm->n_vcpus; v++)
			printf("%s{\"ran_ns\": %llu, \"waited_ns\": %llu, \"runs\": %llu, \"work\": %llu, \"spun\": %llu, "
			       "\"policy\": %d}",
			       v ? ", " : "", now->vcpu[i][v].ran_ns - before->vcpu[i][v].ran_ns,
			       now->vcpu[i][v].waited_ns - before->vcpu[i][v].waited_ns,
			       now->vcpu[i][v].runs - before->vcpu[i][v].runs,
			       (unsigned long long)(now->vcpu[i][v].work - before->vcpu[i][v].work),
			       (unsigned long long)(now->vcpu[i][v].spun - before->vcpu[i][v].spun),
			       sched_getscheduler(vm->vcpu[v].tid));
		printf("]}");
	}
	printf("]");
}

int coload_measure(struct coload *c, double warmup, double seconds)
{
	static struct look before, now;

	usleep((useconds_t)(warmup * 1e6));
	look(c, &before);
	usleep((useconds_t)(seconds * 1e6));
	look(c, &now);
	printf("{\"seconds\": %.9f, \"cpus\": %u, \"seed\": %u, \"steps_per_us\": %.4f, ",
	       (double)(now.at_ns - before.at_ns) / 1e9, c->cpus, c->seed, c->steps_per_us);
	print_groups(c, &now, &before);
	printf(", ");
	print_vms(c, &now, &before);
	printf("}\n");
	return 0;
}
