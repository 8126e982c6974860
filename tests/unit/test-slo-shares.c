/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: one slow disk (one channel, 12 ms) is divided by shares: threads in classes of 2600 to 100 get what they were
 * promised within 5 %, nothing of the device is lost; without scheduling all get the same. VM shares win between VMs.
 */
#include "slo-sim.h"

#define CLASSES 5

/* Together the KB/s, times ten, that one 12 ms disk gives in 4 KiB reads: 341. */
#define SHARES 3410
static const uint32_t shares[CLASSES] = { 2600, 400, 200, 110, 100 };

/* One guest, five classes, four outstanding each: requests done per class. */
static void headline(bool off, uint64_t ns, uint64_t ret_done[CLASSES])
{
	static struct sim_client c[CLASSES];
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ 0 });
	struct sim_client *list[CLASSES];
	struct sim m;

	sim_init(&m, off ? NULL : s, 1, 12 * NSEC_PER_MSEC, 0, 1);
	for (unsigned i = 0; i < CLASSES; i++) {
		c[i] = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ .shares = shares[i] })),
					    .op = SLO_READ, .bytes = 4096, .depth = 4 };
		list[i] = &c[i];
		sim_client_start(&m, &c[i]);
	}
	sim_run_for(&m, ns);
	for (unsigned i = 0; i < CLASSES; i++) {
		ret_done[i] = c[i].done;
		print_message("  %-3s shares %4u  %6.1f KB/s\n", off ? "off" : "on", shares[i],
			      (double)c[i].done_bytes / ((double)ns / 1e9) / 1000);
	}
	sim_fini(&m, list, CLASSES);
	slo_sched_destroy(s);
}

static void paper_headline(void **state)
{
	uint64_t on[CLASSES], off[CLASSES], ns = 100 * NSEC_PER_SEC, total = 0, total_off = 0;

	(void)state;
	headline(true, ns, off);
	headline(false, ns, on);
	for (unsigned i = 0; i < CLASSES; i++) {
		double part = (double)on[i] * 12e-3 / 100, promised = (double)shares[i] / SHARES;

		assert_true(part > promised * 0.95 && part < promised * 1.05);
		assert_true(off[i] * 100 >= off[0] * 95 && off[i] * 100 <= off[0] * 105);
		total += on[i];
		total_off += off[i];
	}
	/* 260 KB/s for the best. */
	assert_true(on[0] * 4096 / 100 >= 260000);
	assert_true(total * 100 >= total_off * 98);
}

/* Three VMs with shares 100, 200, 400, whose classes say the opposite: VM shares win between VMs, classes inside. */
static void vm_envelopes_win(void **state)
{
	static struct sim_client c[3][2];
	static const uint32_t inside[3][2] = { { 5000, 1000 }, { 50, 10 }, { 1, 5 } };
	struct slo_sched *s = sim_sched(1);
	struct sim_client *list[6];
	struct sim m;
	uint64_t total = 0;

	(void)state;
	sim_init(&m, s, 1, 12 * NSEC_PER_MSEC, 0, 2);
	for (unsigned v = 0; v < 3; v++) {
		struct slo_node *vm = sim_vm(s, (struct slo_promise){ .shares = 100u << v });

		for (unsigned i = 0; i < 2; i++) {
			struct slo_node *class = sim_class(vm, (struct slo_promise){ .shares = inside[v][i] });

			c[v][i] = (struct sim_client){ .flow = sim_flow(class), .op = SLO_WRITE, .bytes = 4096, .depth = 6 };
			list[v * 2 + i] = &c[v][i];
			sim_client_start(&m, &c[v][i]);
		}
	}
	sim_run_for(&m, 100 * NSEC_PER_SEC);
	for (unsigned i = 0; i < 6; i++)
		total += list[i]->done;
	assert_true(total * 12 >= 98000);
	for (unsigned v = 0; v < 3; v++) {
		double got = (double)(c[v][0].done + c[v][1].done) / (double)total, promised = (double)(1u << v) / 7;
		double part = (double)c[v][0].done / (double)(c[v][0].done + c[v][1].done);
		double part_promised = (double)inside[v][0] / (inside[v][0] + inside[v][1]);

		print_message("  vm %u: %.3f of the device (promised %.3f), first class %.3f of that (promised %.3f)\n", v, got,
			      promised, part, part_promised);
		assert_true(got > promised * 0.95 && got < promised * 1.05);
		assert_true(part > part_promised * 0.95 && part < part_promised * 1.05);
	}
	sim_fini(&m, list, 6);
	slo_sched_destroy(s);
}

/* A class that was idle comes back: no claim from then, and its share from the next request on. */
static void idle_time_gives_no_claim(void **state)
{
	static struct sim_client a, b;
	struct slo_sched *s = sim_sched(1);
	struct slo_node *vm = sim_vm(s, (struct slo_promise){ 0 });
	struct sim_client *list[2] = { &a, &b };
	struct sim m;
	uint64_t before;

	(void)state;
	sim_init(&m, s, 1, 10 * NSEC_PER_MSEC, 0, 3);
	a = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ 0 })), .bytes = 4096, .depth = 4 };
	b = (struct sim_client){ .flow = sim_flow(sim_class(vm, (struct slo_promise){ 0 })), .bytes = 4096, .depth = 4 };
	sim_client_start(&m, &a);
	sim_run_for(&m, 20 * NSEC_PER_SEC);
	before = a.done;
	sim_client_start(&m, &b);
	sim_run_for(&m, 2 * NSEC_PER_SEC);
	print_message("  after 20 s alone: %llu against %llu of the newcomer in 2 s\n",
		      (unsigned long long)(a.done - before), (unsigned long long)b.done);
	assert_in_range(a.done - before, 98, 102);
	assert_in_range(b.done, 98, 102);
	sim_fini(&m, list, 2);
	slo_sched_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paper_headline),
		cmocka_unit_test(vm_envelopes_win),
		cmocka_unit_test(idle_time_gives_no_claim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
