/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: pools leave while something of them is still under way on the workers: a balance, a bell, a calibration.
 * Nothing that a worker may yet touch is freed, and nothing waits for longer than it must.
 */
#include "host_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define SLICED "{ type: ram, slo: on, schedule: sliced, capacity: { iops: 100000 } }"
static const char one_pool[] = "pools: { stays: { type: ram } }\n";

/* --- a balance --- */

static void balance_and_apply(struct host_run *r, void *policy)
{
	blk_gate_balance(host_pool_find(r->host, "goes")->blk->gate);
	host_apply(r->host, policy, host_run_done, r);
}

/* A balance goes to every slice twice, an end once: the end waits. AddressSanitizer sees it if it does not. */
static void a_balance_ends_before_its_gate(void **state)
{
	struct host_run run;

	(void)state;
	host_run_start(&run, one_pool);
	for (unsigned i = 0; i < 20; i++) {
		host_run_apply(&run, "pools: { stays: { type: ram }, goes: " SLICED " }\n");
		host_run_do(&run, balance_and_apply, host_run_policy(&run, one_pool));
		assert_int_equal(run.error.err, 0);
	}
	host_run_stop(&run);
}

/* --- a bell --- */

struct stall {
	struct worker_msg stall, probe;
	struct host_run *run;
	struct policy *policy;
	sem_t go;
	bool applied, applied_early;
};

static void stall_run(struct worker_msg *m, struct worker *w)
{
	(void)w;
	while (sem_wait(&container_of(m, struct stall, stall)->go) < 0)
		;
}

static void probe_run(struct worker_msg *m, struct worker *w)
{
	(void)m;
	(void)w;
}

static void probe_done(struct worker_msg *m)
{
	struct stall *s = container_of(m, struct stall, probe);

	s->applied_early = s->applied;
	sem_post(&s->go);
}

static void stall_applied(void *arg, const struct host_error *error)
{
	struct stall *s = arg;

	s->applied = true;
	host_run_done(s->run, error);
}

static void stall_and_apply(struct host_run *r, void *arg)
{
	struct stall *s = arg;
	struct blk_team *team = &r->host->team;
	unsigned owner = host_pool_find(r->host, "goes")->owner;

	worker_post(team->member[!owner].worker, &s->stall);
	host_apply(r->host, s->policy, stall_applied, s);
	/* Answered after the gate's end on its owner. */
	worker_post(team->member[owner].worker, &s->probe);
}

/* A worker that has not looked into its mailbox yet may find a bell of the gate there. */
static void a_gate_waits_for_every_mailbox(void **state)
{
	struct stall s = { .stall.run = stall_run, .probe = { .run = probe_run, .done = probe_done } };
	struct host_run run;

	(void)state;
	host_run_start(&run, "pools: { stays: { type: ram }, goes: { type: ram, slo: on } }\n");
	s.run = &run;
	s.policy = host_run_policy(&run, one_pool);
	assert_int_equal(sem_init(&s.go, 0, 0), 0);
	host_run_do(&run, stall_and_apply, &s);
	assert_int_equal(run.error.err, 0);
	assert_false(s.applied_early);
	host_run_stop(&run);
	sem_destroy(&s.go);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_balance_ends_before_its_gate),
		cmocka_unit_test(a_gate_waits_for_every_mailbox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
