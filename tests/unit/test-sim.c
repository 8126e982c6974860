/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: the simulator of co-scheduling. Its files' mistakes are told with their places; the examples run, and what
 * must hold in any of them does: time is conserved, the same seed gives the same bytes, pooled shares are what accounts are
 * entitled to. Virtual time throughout: a minute of it takes a few hundredths of a second.
 */
#include "base/util.h"
#include "sim/random.h"
#include "sim/record.h"
#include "sim/replay.h"
#include "sim/report.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct sim_spec spec;
static struct sim_result result;

/* --- files and their mistakes --- */

static int read_text(const char *text, char **ret_errors)
{
	size_t n;
	FILE *errors = open_memstream(ret_errors, &n);
	int r = sim_spec_read("x.yaml", text, strlen(text), &spec, errors);

	fclose(errors);
	return r;
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *error;
	} bad[] = {
		{ "", "x.yaml:1:1: error: nothing is written here" },
		{ "cpus: 4", "x.yaml:1:1: error: there are no vms" },
		{ "cpus: 4\n%YAML 1.1", "x.yaml:2:1: error: a line may not begin" },
		{ "cpus: [", "x.yaml:" },
		{ "cpu: 4", "x.yaml:1:1: error: a simulation has no key 'cpu'; did you mean 'cpus'?" },
		{ "cpus: 0", "x.yaml:1:7: error: cpus: '0' is not from 1 to 256" },
		{ "slice: 30", "x.yaml:1:8: error: slice: '30' is not a time" },
		{ "algorithms: [credit, poled]", "x.yaml:1:22: error: algorithms: there is no 'poled'; did you mean 'pooled'?" },
		{ "vms:\n  a: { runs: hogs }", "x.yaml:2:14: error: runs: there is no 'hogs'; did you mean 'hog'?" },
		{ "vms:\n  a: { runs: hog, wieght: 1 }", "x.yaml:2:19: error: a VM has no key 'wieght'; did you mean 'weight'?" },
		{ "vms: { a: { runs: hog, weight: 0 } }", "weight: '0' is not from 1" },
		{ "vms: { a: { runs: hog, cap: 500 } }", "x.yaml:1:8: error: VM 'a': cap 500 is more than the machine's 400" },
		{ "vms: { a: }", "x.yaml:1:8: error: VM 'a' serves no chain" },
		{ "vms: { a: { runs: hog } }\ngroups: { g: { vms: [b] } }", "x.yaml:2:22: error: there is no VM 'b'" },
		{ "vms: { a: { runs: hog } }\ngroups: { g: { vms: [a, a] } }", "x.yaml:2:25: error: VM 'a' is in group 'g' already" },
		{ "vms: { a: { runs: hog, vcpus: 5 } }\ngroups: { g: { vms: [a] } }", "more than the 4 CPUs" },
		{ "vms: { a: { runs: hog } }\nchains: { c: { path: [ { vm: a, cost: 1ms } ] } }", "serves no chain" },
		{ "vms: { a: }\nchains: { c: { path: [ { vm: a } ] } }", "x.yaml:2:30: error: a stage of chain 'c' needs a cost" },
		{ "vms: { a: { runs: hog }, a: { runs: hog } }", "error" },
		{ "vms: [ a ]", "vms must be a map" },
		{ "vms: { a b: { runs: hog } }", "is no name" },
		{ "vms: { a: { runs: hog } }\n---\ncpu: 4", "x.yaml:3:1: error: a file holds one document" },
		{ "vms: { a: { runs: hog } }\n\xff", "x.yaml:2:1: error: not UTF-8 text" },
		{ "algorithms: [fair, credit, fair]", "x.yaml:1:28: error: algorithms: 'fair' is listed twice" },
		{ "vms: { a: { runs: hog, copies: 2 }, a-2: { runs: hog } }", "x.yaml:1:37: error: 'a-2' is the name of a copy of 'a'" },
		{ "vms: { a: { runs: hog }, b: { runs: hog } }\ngroups: { b: { vms: [a] } }",
		  "x.yaml:2:11: error: group 'b' has the name of a VM that is in no group" },
		{ "vms: { a: { runs: hog, copies: 2 }, b: { runs: hog } }\ngroups: { a-1: { vms: [b] } }", "group 'a-1' has the name" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *errors = NULL;
		int r = read_text(bad[i].text, &errors);

		if (r != -EINVAL || !strstr(errors, bad[i].error))
			fail_msg("%s\n  gave %d: %s\n  wanted: %s", bad[i].text, r, errors, bad[i].error);
		free(errors);
	}
}

static void test_copies(void **state)
{
	char *errors = NULL;

	assert_int_equal(read_text("vms: { a: { runs: hog, copies: 3 }, b: { runs: idle } }", &errors), 0);
	assert_int_equal(spec.n_vms, 4);
	assert_string_equal(spec.vm[0].name.text, "a-1");
	assert_string_equal(spec.vm[1].name.text, "b");
	assert_string_equal(spec.vm[3].name.text, "a-3");
	free(errors);
	/* No copies, and a group of the name of its VM: told apart. */
	assert_int_equal(read_text("vms: { a: { runs: hog, copies: 2 }, a-3: { runs: hog }, a-01: { runs: hog } }\n"
				   "groups: { a-3: { vms: [a-3] } }", &errors), 0);
	free(errors);
}

/* --- examples --- */

static const char *const examples[] = { "chain", "idle-member", "lock", "many", "never-sleeps", "two-groups", "web" };

static void read_example(const char *name)
{
	char path[512], text[16384];
	size_t n;
	FILE *in;

	snprintf(path, sizeof(path), EXAMPLES "/%s.yaml", name);
	in = fopen(path, "re");
	assert_non_null(in);
	n = fread(text, 1, sizeof(text), in);
	fclose(in);
	assert_int_equal(sim_spec_read(path, text, n, &spec, stderr), 0);
	spec.seeds = 2;
	spec.duration_ns = UINT64_C(60000000000);
}

static double sum_ran(void)
{
	double sum = result.idle;

	for (size_t i = 0; i < spec.n_vms; i++)
		sum += result.vm[i].share.ran;
	return sum;
}

/* All CPU time went to somebody or was idle; a closed loop has as many requests in it as clients (Little). */
static void check_conserved(const char *name, enum sim_algorithm algorithm)
{
	if (fabs(sum_ran() - (double)spec.cpus) > 1e-6 * (double)spec.cpus)
		fail_msg("%s, %s: %.9f CPUs ran or were idle", name, sim_algorithm_words[algorithm], sum_ran());
	for (size_t i = 0; i < spec.n_chains; i++) {
		double inside = result.chain[i].mean_ms / result.chain[i].ms_per_request;

		if (fabs(inside / (double)spec.chain[i].clients - 1) > 0.02)
			fail_msg("%s, %s: %.2f requests on the way", name, sim_algorithm_words[algorithm], inside);
	}
}

static void check_shares(const char *name)
{
	for (unsigned i = 0; i < sim_accounts(&spec); i++)
		if (fabs(result.account[i].error) > 0.01)
			fail_msg("%s, pooled: %s ran %.4f, is entitled to %.4f", name, sim_account_name(&spec, i),
				 result.account[i].share.ran, result.account[i].share.entitled);
}

static void test_examples(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
		read_example(examples[i]);
		for (unsigned a = 0; a < SIM_ALGORITHMS; a++)
			for (uint64_t seed = 1; seed <= (a == SIM_POOLED ? 2 : 1); seed++) {
				assert_int_equal(sim_run(&spec, (enum sim_algorithm)a, seed, NULL, &result), 0);
				check_conserved(examples[i], (enum sim_algorithm)a);
				if (a == SIM_POOLED || a == SIM_POOLED_MUTE)
					check_shares(examples[i]);
			}
	}
}

static void test_same_seed_same_bytes(void **state)
{
	struct sim_report report;
	char *text[2];

	read_example("web");
	spec.duration_ns = UINT64_C(5000000000);
	for (int i = 0; i < 2; i++) {
		json_t *json;

		assert_int_equal(sim_report_run(&spec, &report, NULL), 0);
		json = sim_report_json(&report);
		text[i] = json_dumps(json, JSON_SORT_KEYS);
		json_decref(json);
		sim_report_free(&report);
	}
	assert_string_equal(text[0], text[1]);
	free(text[0]);
	free(text[1]);
}

/* Its group gets nothing beyond its entitlement, and those outside lose nothing. */
static void test_never_sleeping_member_gains_nothing(void **state)
{
	read_example("never-sleeps");
	assert_int_equal(sim_run(&spec, SIM_POOLED, 3, NULL, &result), 0);
	assert_true(result.account[0].share.ran < 1.01 * result.account[0].share.entitled);
	for (unsigned i = 1; i < sim_accounts(&spec); i++)
		assert_true(result.account[i].share.ran > 0.99 * result.account[i].share.entitled);
}

static void test_idle_member_costs_nothing(void **state)
{
	struct sim_result with;
	unsigned spare = 2;

	read_example("idle-member");
	assert_string_equal(spec.vm[spare].name.text, "spare");
	assert_int_equal(sim_run(&spec, SIM_POOLED, 1, NULL, &with), 0);
	assert_true(with.vm[spare].share.ran == 0);
	read_example("web");
	assert_int_equal(sim_run(&spec, SIM_POOLED, 1, NULL, &result), 0);
	assert_true(with.chain[0].ms_per_request < 1.02 * result.chain[0].ms_per_request);
}

/* An I/O worker that polls never sleeps either: it serves its requests and spins beside. */
static void test_polling_member(void **state)
{
	read_example("web");
	spec.vm[0].runs = SIM_RUNS_POLL;
	for (unsigned a = 0; a < SIM_ALGORITHMS; a++) {
		assert_int_equal(sim_run(&spec, (enum sim_algorithm)a, 1, NULL, &result), 0);
		check_conserved("web, polling", (enum sim_algorithm)a);
		assert_true(result.chain[0].done > 1000);
		assert_true(result.vm[0].spun > 0 && result.vm[0].spun < result.vm[0].worked);
		if (a == SIM_POOLED)
			check_shares("web, polling");
	}
}

static void test_caps_and_weights(void **state)
{
	char *errors = NULL;

	assert_int_equal(read_text("cpus: 2\n"
				   "vms:\n"
				   "  light: { runs: hog, weight: 100 }\n"
				   "  heavy: { runs: hog, weight: 300 }\n"
				   "  middle: { runs: hog, weight: 200 }\n"
				   "  capped: { runs: hog, weight: 1000, cap: 20 }\n",
				   &errors),
			 0);
	assert_int_equal(sim_run(&spec, SIM_POOLED, 1, NULL, &result), 0);
	assert_true(fabs(result.vm[0].share.ran - 0.3) < 0.003);
	assert_true(fabs(result.vm[1].share.ran - 0.9) < 0.009);
	assert_true(fabs(result.vm[2].share.ran - 0.6) < 0.006);
	assert_true(fabs(result.vm[3].share.ran - 0.2) < 0.002);
	free(errors);
}

/* However much shorter than a turn a cap is, nobody is entitled to more, and it is what it gets. */
static void test_entitled_to_the_cap(void **state)
{
	char *errors = NULL;

	assert_int_equal(read_text("cpus: 2\n"
				   "vms:\n"
				   "  other: { runs: hog, copies: 2 }\n"
				   "  smp: { runs: hog, vcpus: 2, cap: 20 }\n"
				   "  small: { runs: hog, cap: 1 }\n",
				   &errors),
			 0);
	free(errors);
	for (unsigned a = SIM_CREDIT; a <= SIM_POOLED; a++) {
		assert_int_equal(sim_run(&spec, (enum sim_algorithm)a, 1, NULL, &result), 0);
		for (unsigned i = 1; i <= 2; i++) {
			double cap = (double)spec.vm[i].cap_percent / 100;

			if (fabs(result.account[i].share.entitled - cap) > 0.01 * cap || fabs(result.account[i].error) > 0.01)
				fail_msg("%s, cap %.2f: entitled to %.4f, ran %.4f", sim_algorithm_words[a], cap,
					 result.account[i].share.entitled, result.account[i].share.ran);
		}
	}
}

/* On one CPU beside one that never sleeps, half of the time in which it runs or waits, whoever schedules. */
static void test_entitled_while_awake(void **state)
{
	char *errors = NULL;

	assert_int_equal(read_text("cpus: 1\n"
				   "vms: { sleeper: { runs: sleeper, on: 5ms, off: 20ms }, other: { runs: hog } }",
				   &errors),
			 0);
	free(errors);
	for (unsigned a = 0; a < SIM_ALGORITHMS; a++) {
		const struct sim_share *share = &result.account[0].share;

		assert_int_equal(sim_run(&spec, (enum sim_algorithm)a, 1, NULL, &result), 0);
		if (fabs(share->entitled - (share->ran + share->waited) / 2) > 1e-4)
			fail_msg("%s: ran %.4f and waited %.4f, entitled to %.4f", sim_algorithm_words[a], share->ran, share->waited,
				 share->entitled);
		assert_true(fabs(share->entitled + result.account[1].share.entitled - 1) < 1e-6);
		if (a == SIM_POOLED || a == SIM_POOLED_MUTE)
			check_shares("one that sleeps");
	}
}

/* The weight of a VM that slept for less than a second counts in its group's; of one that never wakes up it does not. */
static void test_entitled_by_who_is_awake(void **state)
{
	static const struct {
		const char *partner;
		double entitled;
	} cases[] = { { "sleeper, on: 1ms, off: 20ms", 2.0 / 3 }, { "idle", 2.0 / 5 } };
	char text[256], *errors = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "cpus: 2\nvms: { a: { runs: hog }, b: { runs: %s }, c: { runs: hog, copies: 4 } }\n"
					     "groups: { g: { vms: [a, b] } }", cases[i].partner);
		assert_int_equal(read_text(text, &errors), 0);
		free(errors);
		assert_int_equal(sim_run(&spec, SIM_POOLED, 1, NULL, &result), 0);
		assert_true(fabs(result.account[0].share.entitled - cases[i].entitled) < 1e-4);
		check_shares(cases[i].partner);
	}
}

/* Ratios of a thing to itself. */
static void test_report(void **state)
{
	struct sim_report report;
	struct sim_mean mean;
	char *text;
	size_t n, lines = 0;
	FILE *out;

	read_example("web");
	spec.duration_ns = UINT64_C(2000000000);
	assert_int_equal(sim_spec_algorithms(&spec, "pooled,credit"), 0);
	assert_int_equal(sim_spec_algorithms(&spec, "pooled,debit"), -EINVAL);
	assert_int_equal(sim_spec_algorithms(&spec, "pooled,pooled"), -EINVAL);
	assert_int_equal(sim_report_run(&spec, &report, NULL), 0);
	assert_int_equal(report.baseline, 1);
	mean = sim_report_mean(&report, 1, sim_report_find(&report, "machine", "", "kicks_per_s"));
	assert_true(fabs(mean.ratio - 1) < 1e-12 && mean.least <= mean.mean && mean.mean <= mean.most);
	assert_int_equal(sim_report_find(&report, "vm", "nobody", "ran"), -1);
	out = open_memstream(&text, &n);
	sim_report_csv(&report, out);
	fclose(out);
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	assert_int_equal(lines, 1 + 4 * report.n_metrics);
	free(text);
	sim_report_free(&report);
}

/* --- traces and pictures --- */

/* What a run decided, it decides again from what its members wanted. */
static void test_replay(void **state)
{
	static const char *const names[] = { "web", "many", "lock" };
	struct replay *r = calloc(1, sizeof(*r));
	struct trace t;
	const char *why;

	assert_non_null(r);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (unsigned a = SIM_CREDIT; a <= SIM_POOLED; a++) {
			read_example(names[i]);
			spec.duration_ns = UINT64_C(2000000000);
			assert_int_equal(sim_record(&spec, (enum sim_algorithm)a, 1, 0, UINT64_MAX, &t), 0);
			assert_int_equal(replay_run(&t, (enum sim_algorithm)a, r, &why), 0);
			if (r->same_cpu < 0.999)
				fail_msg("%s, %s: the same for %.4f of the time", names[i], sim_algorithm_words[a], r->same_cpu);
			assert_true(fabs(r->recorded.ran[0] - r->replayed.ran[0]) < 0.001);
			/* Each step by itself, too, and each request. */
			assert_true(r->steps.steps > 0);
			assert_int_equal(r->steps.same, r->steps.steps);
			assert_int_equal(r->steps.asked_same, r->steps.asked);
			assert_int_equal(r->steps.interrupted, 0);
			trace_free(&t);
		}
	/* A limit below a slice is of no effect, here and there. */
	read_example("web");
	spec.duration_ns = UINT64_C(2000000000);
	spec.credit_limit_ns = 0;
	assert_int_equal(sim_record(&spec, SIM_POOLED, 1, 0, UINT64_MAX, &t), 0);
	assert_int_equal(replay_run(&t, SIM_POOLED, r, &why), 0);
	assert_int_equal(r->steps.same, r->steps.steps);
	trace_free(&t);
	read_example("web");
	spec.duration_ns = UINT64_C(2000000000);
	assert_int_equal(sim_record(&spec, SIM_CREDIT, 1, UINT64_MAX - 1, UINT64_MAX, &t), 0);
	assert_int_equal(replay_run(&t, SIM_CREDIT, r, &why), -EBADMSG);
	assert_string_equal(why, "it holds no events");
	trace_free(&t);
	free(r);
}

/* One that begins in the middle: purses, what is due and parts are told after its first settlement, and all follows from them. */
static void test_replay_from_the_middle(void **state)
{
	static const char *const names[] = { "chain", "idle-member", "lock", "never-sleeps", "two-groups", "web" };
	static const enum sim_algorithm algorithms[] = { SIM_CREDIT, SIM_CO_CREDIT, SIM_POOLED };
	struct replay *r = calloc(1, sizeof(*r));
	struct trace t;
	const char *why;

	assert_non_null(r);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (unsigned a = 0; a < sizeof(algorithms) / sizeof(algorithms[0]); a++) {
			read_example(names[i]);
			spec.duration_ns = UINT64_C(1000000000);
			assert_int_equal(sim_record(&spec, algorithms[a], 1, UINT64_C(2005000000), UINT64_MAX, &t), 0);
			assert_int_equal(replay_run(&t, algorithms[a], r, &why), 0);
			if (!r->steps.steps || r->steps.same != r->steps.steps || r->steps.asked_same != r->steps.asked)
				fail_msg("%s, %s: %llu of %llu steps are the same", names[i], sim_algorithm_words[algorithms[a]],
					 (unsigned long long)r->steps.same, (unsigned long long)r->steps.steps);
			trace_free(&t);
		}
	free(r);
}

/* Recorded by earlier versions: which VMs were awake, what accounts were due and parts may be missing; it follows what is there. */
static void test_replay_of_older_traces(void **state)
{
	struct replay *r = calloc(1, sizeof(*r));
	struct trace t;
	const char *why;
	size_t n = 0;

	assert_non_null(r);
	read_example("idle-member");
	spec.duration_ns = UINT64_C(1000000000);
	assert_int_equal(sim_record(&spec, SIM_POOLED, 1, UINT64_C(2005000000), UINT64_MAX, &t), 0);
	for (size_t i = 0; i < t.n_events; i++)
		if (t.event[i].kind == CO_EVENT_DUE)
			t.event[i].flags = 0;
	assert_int_equal(replay_run(&t, SIM_POOLED, r, &why), 0);
	assert_true(r->steps.steps > 100 && r->steps.same > r->steps.steps / 2);
	t.header.version = CO_TRACE_OLDEST;
	for (size_t i = 0; i < t.n_events; i++)
		if (t.event[i].kind != CO_EVENT_DUE && t.event[i].kind != CO_EVENT_PART)
			t.event[n++] = t.event[i];
	t.n_events = n;
	assert_int_equal(replay_run(&t, SIM_POOLED, r, &why), 0);
	assert_true(r->steps.steps > 100 && r->steps.same > r->steps.steps / 2);
	trace_free(&t);
	free(r);
}

/* Files are foreign: whatever events say, and in whatever order, it ends well. */
static void test_replay_of_nonsense(void **state)
{
	struct sim_random random = { 1 };
	struct replay *r = calloc(1, sizeof(*r));
	struct trace t;
	const char *why;

	assert_non_null(r);
	read_example("web");
	spec.duration_ns = UINT64_C(300000000);
	for (unsigned round = 0; round < 200; round++) {
		assert_int_equal(sim_record(&spec, SIM_POOLED, 1, 0, UINT64_MAX, &t), 0);
		for (size_t i = 0; i < t.n_events / 10; i++) {
			struct co_event *e = &t.event[random_next(&random) % t.n_events];
			uint64_t bits = random_next(&random);

			e->kind = (uint8_t)(bits % 16);
			e->cpu = (uint16_t)(bits >> 8 & 1 ? bits >> 16 & 7 : bits >> 16);
			e->member = (uint32_t)(bits >> 9 & 1 ? bits >> 32 & 15 : bits >> 32);
			e->value = bits >> 10 & 1 ? random_next(&random) : bits >> 40;
		}
		if (replay_run(&t, SIM_POOLED, r, &why) == 0)
			assert_true(r->steps.same <= r->steps.steps);
		trace_free(&t);
	}
	free(r);
}

static void record_web(struct trace *ret)
{
	read_example("web");
	spec.duration_ns = UINT64_C(2000000000);
	assert_int_equal(sim_record(&spec, SIM_POOLED, 1, 0, UINT64_MAX, ret), 0);
}

static void test_trace_file(void **state)
{
	struct trace t, back;
	const char *why;
	char *text;
	size_t n;
	FILE *file = open_memstream(&text, &n);

	record_web(&t);
	assert_int_equal(trace_write(file, &t), 0);
	fclose(file);
	file = fmemopen(text, n, "r");
	assert_int_equal(trace_read(file, &back, &why), 0);
	fclose(file);
	assert_int_equal(back.n_events, t.n_events);
	assert_memory_equal(back.event, t.event, t.n_events * sizeof(*t.event));
	assert_string_equal(back.vm[0].group, "shop");
	trace_free(&back);
	for (size_t cut = 0; cut < sizeof(t.header) + 100; cut += 40) {
		file = fmemopen(text, cut + 1, "r");
		assert_int_equal(trace_read(file, &back, &why), -EBADMSG);
		fclose(file);
	}
	/* Of versions, those that can be followed. */
	for (uint32_t version = 0; version <= CO_TRACE_VERSION + 1; version++) {
		memcpy(text + offsetof(struct co_trace_header, version), &version, sizeof(version));
		file = fmemopen(text, n, "r");
		if (version >= CO_TRACE_OLDEST && version <= CO_TRACE_VERSION) {
			assert_int_equal(trace_read(file, &back, &why), 0);
			trace_free(&back);
		} else {
			assert_int_equal(trace_read(file, &back, &why), -EBADMSG);
			assert_non_null(strstr(why, "another version"));
		}
		fclose(file);
	}
	text[0]++;
	file = fmemopen(text, n, "r");
	assert_int_equal(trace_read(file, &back, &why), -EBADMSG);
	assert_string_equal(why, "not a trace of co-scheduling");
	fclose(file);
	free(text);
	trace_free(&t);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void test_picture(void **state)
{
	struct trace t;
	char *text;
	size_t n;
	FILE *file = open_memstream(&text, &n);

	record_web(&t);
	snprintf(t.vm[0].name, sizeof(t.vm[0].name), "<&>");
	t.event[5].cpu = 9999;
	t.event[6].member = 12345;
	assert_int_equal(trace_draw(&t, "a & b", NULL, UINT64_C(4000000000), UINT64_C(4300000000), file), 0);
	fclose(file);
	assert_int_equal(strncmp(text, "<svg ", 5), 0);
	assert_string_equal(text + n - 7, "</svg>\n");
	assert_int_equal(count(text, "<g>"), count(text, "</g>"));
	assert_int_equal(count(text, "<text "), count(text, "</text>"));
	assert_true(count(text, "<g>") > 10);
	assert_non_null(strstr(text, "a &amp; b"));
	assert_non_null(strstr(text, "&lt;&amp;&gt;"));
	assert_null(strstr(text, "nan"));
	free(text);
	trace_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_same_seed_same_bytes),
		cmocka_unit_test(test_never_sleeping_member_gains_nothing),
		cmocka_unit_test(test_idle_member_costs_nothing),
		cmocka_unit_test(test_polling_member),
		cmocka_unit_test(test_caps_and_weights),
		cmocka_unit_test(test_entitled_to_the_cap),
		cmocka_unit_test(test_entitled_while_awake),
		cmocka_unit_test(test_entitled_by_who_is_awake),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_trace_file),
		cmocka_unit_test(test_picture),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_replay_from_the_middle),
		cmocka_unit_test(test_replay_of_older_traces),
		cmocka_unit_test(test_replay_of_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
