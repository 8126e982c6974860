/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: shares of 3 : 1 hold over one, two and four workers, whether one of them schedules for all or each has its
 * slice, and while queues move from worker to worker all the time. Each class has queues of its own, so with four workers no
 * scheduler sees both on one queue. All requests are there from the beginning, and what counts is how far the device has come
 * with each queue, whenever this thread gets to look at it: so it does not matter how busy the machine is, unless a class has
 * run out by then. With an argument the device is that many times slower, for machines whose CPUs take turns.
 */
#include "host_run.h"

#include "base/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CHUNK 4096u
#define QUEUES 4u
#define EACH 1000u /* requests of a queue */
#define SKIP 200u  /* completions before it counts: where slices begin to know each other */
#define COUNT 1200u /* at least */
#define MOVE_EVERY 40u
#define CHANNELS 4u
#define LATENCY_US 2000u
#define BE(level) (2u << 13 | (level))
#define CLASSES "classes: { gold: { ioprio: [be/0], shares: 300 }, bronze: { ioprio: [be/7], shares: 100 } }\n"

static struct front_request request[QUEUES][EACH];
static unsigned slower = 1;

struct move {
	unsigned queue, to;
	unsigned moved; /* of the moves that were asked for: not those to where it was */
};

static void move_now(struct host_run *r, void *arg)
{
	struct move *m = arg;
	struct host_error none = { 0 };

	m->moved += blk_disk_move_queue(host_disk_find(r->host, "a", "d")->blk, m->queue, m->to) == 0;
	host_run_done(r, &none);
}

static void submit_all(struct frontend *f)
{
	static struct front_buf buf;

	buf = front_buf_of(f, frontend_alloc(f, CHUNK), CHUNK);
	for (unsigned i = 0; i < EACH; i++)
		for (unsigned q = 0; q < QUEUES; q++) {
			request[q][i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .ioprio = BE(q < QUEUES / 2 ? 0 : 7),
								.data = &buf, .n_data = 1 };
			assert_int_equal(front_submit(&f->queue[q], &request[q][i]), 0);
		}
	for (unsigned q = 0; q < QUEUES; q++)
		front_kick(&f->queue[q]);
}

/* What the device has given back of each class, at one moment. */
struct given {
	unsigned gold, bronze;
	bool gone; /* a queue had no more to give */
	uint64_t at_ns;
};

static struct given given_once(const struct frontend *f)
{
	struct given g = { .at_ns = clock_now_ns() };

	for (unsigned q = 0; q < QUEUES; q++) {
		const struct vring_used *used = f->queue[q].ring.device;
		unsigned n = load_acquire(&used->idx);

		g.gone |= n == EACH;
		*(q < QUEUES / 2 ? &g.gold : &g.bronze) += n;
	}
	return g;
}

static struct given given_now(const struct frontend *f)
{
	struct given g, again = given_once(f);

	do {
		g = again;
		again = given_once(f);
	} while (again.gold != g.gold || again.bronze != g.bronze);
	return g;
}

static struct given given_after(const struct given *before, const struct given *g)
{
	return (struct given){ g->gold - before->gold, g->bronze - before->bronze, g->gone, g->at_ns - before->at_ns };
}

/* What is promised: classes, and their VM. The device gives 2000 a second, and each class has its queues. */
struct promised {
	const char *classes, *vm;
	double ratio;
	bool moves; /* queues do */
};

static const struct promised by_shares = { CLASSES, "", 3, true };
/* Half of the device: the limit is what there is to divide. */
static const struct promised by_shares_of_a_limit = { CLASSES, "limit: { iops: 1000 }, ", 3, false };
static const struct promised by_reservation_of_a_limit = {
	"classes: { gold: { ioprio: [be/0], shares: 1, reservation: { iops: 800 } }, bronze: { ioprio: [be/7], shares: 1000 } }\n",
	"limit: { iops: 1000 }, ", 4, false
};

/* What was given between SKIP and SKIP + COUNT, or a little more. */
static struct given watch(const struct promised *p, struct host_run *run, struct frontend *f, unsigned workers, struct move *m)
{
	unsigned asked = 0, reaped = 0;
	struct given began = { 0 }, g = { 0 };

	do {
		for (unsigned q = 0; q < QUEUES; q++) {
			struct front_request *done = front_poll(&f->queue[q]);

			assert_int_equal(f->queue[q].error, 0);
			if (!done)
				continue;
			assert_int_equal(done->status, VIRTIO_BLK_S_OK);
			if (p->moves && ++reaped % MOVE_EVERY == 0) {
				m->queue = asked % QUEUES;
				m->to = (asked + asked / QUEUES) % workers;
				asked++;
				host_run_do(run, move_now, m);
			}
		}
		g = given_now(f);
		if (!began.at_ns && g.gold + g.bronze >= SKIP)
			began = g;
	} while (!began.at_ns || g.gold + g.bronze < began.gold + began.bronze + COUNT);
	return given_after(&began, &g);
}

/* False: this thread came too late, a queue had run out. */
static bool try_ratio(const struct promised *p, bool sliced, unsigned workers, double *ret_ratio, double *ret_total)
{
	unsigned latency_us = LATENCY_US * slower, iops = CHANNELS * 1000000 / latency_us;
	struct frontend_config config = { .queues = QUEUES, .queue_size = 1024, .indirect = true, .data_bytes = 1 << 20 };
	struct move m = { 0 };
	char policy[1024], schedule[64] = "";
	struct host_run run;
	struct frontend *f;
	struct given g;

	host_run_workers = workers;
	if (sliced)
		snprintf(schedule, sizeof(schedule), ", schedule: sliced, capacity: { iops: %u }", iops);
	snprintf(policy, sizeof(policy),
		 "pools: { p: { type: model, channels: %u, read_latency: %uus, write_latency: %uus%s } }\n%s"
		 "vms: { a: { %sdisks: [ { name: d, pool: p, size: 8MiB, queues: %u, workers: %u } ] } }\n",
		 CHANNELS, latency_us, latency_us, schedule, p->classes, p->vm, QUEUES, workers);
	host_run_start(&run, policy);
	f = host_run_attach(&run, "a", "d", &config);
	submit_all(f);
	g = watch(p, &run, f, workers, &m);
	*ret_ratio = (double)g.gold / g.bronze;
	*ret_total = (g.gold + g.bronze) * 1e9 / (double)g.at_ns / iops;
	if (!g.gone)
		print_message("  %-6s %u worker%s: gold : bronze = %.3f of %.0f, total %.1f %% of the device, %u moves\n",
			      sliced ? "sliced" : "owner", workers, workers > 1 ? "s" : " ", *ret_ratio, p->ratio,
			      *ret_total * 100, m.moved);
	assert_true(workers == 1 || !p->moves || m.moved > 0);
	frontend_destroy(f);
	host_run_stop(&run);
	return !g.gone;
}

static double ratio_on(const struct promised *p, bool sliced, unsigned workers, double *ret_total)
{
	double ratio;

	while (!try_ratio(p, sliced, workers, &ratio, ret_total))
		;
	return ratio;
}

static void shares_with_an_owner(void **state)
{
	double total;

	(void)state;
	for (unsigned workers = 1; workers <= 4; workers *= 2)
		assert_true(fabs(ratio_on(&by_shares, false, workers, &total) / 3 - 1) <= 0.05);
}

/*
 * What slices may spend is settled once a millisecond of real time, so a machine that lets workers wait for each other for tens
 * of milliseconds is seen in the ratio; the device's own throughput tells whether it did.
 */
static void shares_over_slices(void **state)
{
	double total;

	(void)state;
	for (unsigned workers = 1; workers <= 4; workers *= 2) {
		double ratio = ratio_on(&by_shares, true, workers, &total);

		assert_true(total < 0.9 || ratio > 1.5);
		assert_true(total < 0.97 || fabs(ratio / 3 - 1) <= 0.15);
	}
}

/*
 * A VM's limit is divided by its classes' promises, not by their demand. On a busy machine slices learn late what others ask for,
 * hence the wide bounds: by demand or by shares alone, the class with the reservation would have a thousandth.
 */
static void limits_over_slices(void **state)
{
	static const struct promised *const cases[] = { &by_shares_of_a_limit, &by_reservation_of_a_limit };
	double total;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (unsigned workers = 1; workers <= 4; workers *= 2) {
			double ratio = ratio_on(cases[i], true, workers, &total);

			assert_true(total <= 0.6);
			assert_true(ratio > 0.2);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_with_an_owner),
		cmocka_unit_test(shares_over_slices),
		cmocka_unit_test(limits_over_slices),
	};

	if (argc > 1)
		slower = (unsigned)atoi(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
