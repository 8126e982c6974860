/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a run is judged by. Called by machine.c and workload.c while it runs, by run.c at its end.
 *
 * Entitlement is reckoned here anew, with the same meaning under every algorithm and without its code: at every instant, the CPUs
 * that run members are divided by weighted max-min among the accounts (a group as one), of which each wants a CPU for each of its
 * members that runs or waits. So time in which an account sleeps is nobody's debt, and what an account leaves is due to who waits.
 * What a VM's cap forbids of that is handed, at the end of a period, to those who waited in it, or in one that follows.
 */
#include "sim/machine.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SECOND_NS 1e9

struct samples {
	uint64_t *ns;
	size_t n, room;
};

/* Everything that only grows. */
struct totals {
	uint64_t time_ns, idle_ns, kicks, switches, steals, sent, honoured, refused, void_requests, forgiven_ns, forfeited_ns;
	struct {
		uint64_t ran_ns, waited_ns, worked_ns, spun_ns, loops;
	} vm[SIM_VMS_MAX];
	uint64_t co_ran_ns[SIM_VMS_MAX];
};

struct claim {
	double weight, wants, due;
};

struct sim_measure {
	bool begun, changed;
	struct totals first;
	unsigned n_accounts, account_of[SIM_VMS_MAX];
	struct {
		uint64_t ran_ns, waited_ns; /* as of the last settlement */
	} last[SIM_VMS_MAX];
	double entitled_ns[SIM_VMS_MAX];
	struct claim instant[SIM_VMS_MAX]; /* each account's on a second, as things are; anew when they have changed */
	double due_ns[SIM_VMS_MAX]; /* at every instant of this period, added up */
	double rest_ns; /* what nobody wanted of what caps forbade, until somebody does */
	double cap_left_ns[SIM_VMS_MAX]; /* of a VM with a cap: what it did not want of it */
	unsigned awake[SIM_VMS_MAX]; /* periods for which a VM still counts in its account's weight */
	int64_t deepest_ns[SIM_VMS_MAX];
	struct samples samples[SIM_CHAINS_MAX];
};

int measure_start(struct sim *s)
{
	s->measure = calloc(1, sizeof(*s->measure));
	if (!s->measure)
		return -ENOMEM;
	s->measure->n_accounts = sim_accounts(s->spec);
	for (unsigned i = 0; i < s->spec->n_vms; i++)
		s->measure->account_of[i] = sim_account_of(s->spec, i);
	return 0;
}

void measure_stop(struct sim *s)
{
	for (unsigned i = 0; s->measure && i < SIM_CHAINS_MAX; i++)
		free(s->measure->samples[i].ns);
	free(s->measure);
}

static void take_totals(const struct sim *s, struct totals *t)
{
	const struct co_world *w = s->world;

	*t = (struct totals){ .time_ns = s->now_ns, .idle_ns = s->idle_ns, .kicks = s->kicks, .switches = s->switches,
			      .forgiven_ns = w->forgiven_ns, .forfeited_ns = w->forfeited_ns };
	for (unsigned i = 0; i < s->spec->cpus; i++) {
		t->steals += w->cpu[i].steals;
		t->sent += w->cpu[i].requests_sent;
		t->honoured += w->cpu[i].requests_honoured;
		t->refused += w->cpu[i].requests_refused;
		t->void_requests += w->cpu[i].requests_void;
	}
	for (unsigned i = 0; i < s->spec->n_vms; i++) {
		t->vm[i].ran_ns = w->vm[i].total_ran_ns;
		t->vm[i].waited_ns = w->vm[i].total_waited_ns;
		t->vm[i].loops = s->vm[i].loops;
	}
	for (unsigned m = 0; m < s->n_members; m++) {
		t->vm[s->member[m].vm].worked_ns += s->member[m].worked_ns;
		t->vm[s->member[m].vm].spun_ns += s->member[m].spun_ns;
	}
	for (unsigned i = 0; i < s->measure->n_accounts; i++)
		t->co_ran_ns[i] = w->account[i].co_ran_ns;
}

/* --- entitlement --- */

/* Raises the level until all is handed out or nobody wants more: beyond what is due already. Returns what nobody wants. */
static double fill(struct claim *claim, unsigned n, double supply)
{
	for (unsigned round = 0; round <= n; round++) {
		double weights = 0, handed = 0;

		for (unsigned i = 0; i < n; i++)
			weights += claim[i].due < claim[i].wants ? claim[i].weight : 0;
		if (weights <= 0 || supply < 1)
			break;
		for (unsigned i = 0; i < n; i++) {
			double more = supply * claim[i].weight / weights, room = claim[i].wants - claim[i].due;

			if (room <= 0)
				continue;
			more = more < room ? more : room;
			claim[i].due += more;
			handed += more;
		}
		supply -= handed;
	}
	return supply;
}

/*
 * Of what a VM with a cap wants. Half a slice of what it did not want stays for the next period, as its turn may come late; a turn
 * may be longer than a small cap: what it runs too long in one period it runs too little in the next.
 */
static double claim_capped(struct sim *s, unsigned vm, double ran, double wants)
{
	double *left = &s->measure->cap_left_ns[vm], kept = (double)s->spec->slice_ns / 2;

	*left = (double)s->world->vm[vm].cap_ns + (*left < kept ? *left : kept);
	wants = fmax(fmin(wants, *left), ran);
	*left -= wants;
	return wants;
}

static double claim_period(struct sim *s, unsigned vm, struct claim *claim)
{
	struct sim_measure *m = s->measure;
	const struct co_vm *now = &s->world->vm[vm];
	double ran = (double)(now->total_ran_ns - m->last[vm].ran_ns);
	double wants = ran + (double)(now->total_waited_ns - m->last[vm].waited_ns);

	m->last[vm].ran_ns = now->total_ran_ns;
	m->last[vm].waited_ns = now->total_waited_ns;
	m->awake[vm] = wants > 0 ? CO_AWAKE : m->awake[vm] - (m->awake[vm] > 0);
	claim->weight += m->awake[vm] ? now->weight : 0;
	if (now->cap_ns)
		wants = claim_capped(s, vm, ran, wants);
	claim->wants += wants;
	return ran;
}

/* What VM `vm` wants of each second while nothing changes; returns how many of its members run. */
static unsigned claim_instant(struct sim *s, unsigned vm, struct claim *claim)
{
	const struct co_vm *v = &s->world->vm[vm];
	bool parked = v->cap_ns && v->cap_left_ns <= 0;
	unsigned runs = 0, waits = 0;

	for (uint32_t i = s->vm[vm].first; i < s->vm[vm].first + s->vm[vm].n; i++) {
		runs += s->world->member[i].where == CO_RUNNING;
		waits += s->world->member[i].where == CO_QUEUED;
	}
	if (runs + waits)
		s->measure->awake[vm] = CO_AWAKE;
	claim->weight += s->measure->awake[vm] ? v->weight : 0;
	claim->wants += SECOND_NS * (runs + (parked ? 0 : waits));
	return runs;
}

static void claim_instants(struct sim *s)
{
	struct sim_measure *m = s->measure;
	unsigned runs = 0;

	memset(m->instant, 0, m->n_accounts * sizeof(*m->instant));
	for (unsigned i = 0; i < s->spec->n_vms; i++)
		runs += claim_instant(s, i, &m->instant[m->account_of[i]]);
	fill(m->instant, m->n_accounts, SECOND_NS * runs);
	m->changed = false;
}

void measure_change(struct sim *s)
{
	s->measure->changed = true;
}

void measure_pass(struct sim *s, uint64_t until_ns)
{
	struct sim_measure *m = s->measure;
	double seconds = (double)(until_ns - s->now_ns) / SECOND_NS;

	if (until_ns == s->now_ns)
		return;
	if (m->changed)
		claim_instants(s);
	for (unsigned i = 0; i < m->n_accounts; i++)
		m->due_ns[i] += seconds * m->instant[i].due;
}

static int64_t credit_of(const struct sim *s, unsigned account)
{
	int64_t credit = 0;

	if (s->world->params.mode == CO_MODE_POOLED)
		return s->world->account[account].purse.credit_ns;
	for (unsigned m = 0; m < s->n_members; m++)
		if (s->measure->account_of[s->member[m].vm] == account && s->world->member[m].purse.credit_ns < 0)
			credit += s->world->member[m].purse.credit_ns;
	return credit;
}

void measure_settle(struct sim *s)
{
	struct sim_measure *m = s->measure;
	struct claim claim[SIM_VMS_MAX] = { 0 };

	for (unsigned i = 0; i < s->spec->n_vms; i++)
		m->rest_ns += claim_period(s, i, &claim[m->account_of[i]]);
	for (unsigned i = 0; i < m->n_accounts; i++) {
		claim[i].due = fmin(m->due_ns[i], claim[i].wants);
		m->rest_ns -= claim[i].due;
		m->due_ns[i] = 0;
	}
	m->rest_ns = fill(claim, m->n_accounts, m->rest_ns);
	if (!m->begun) {
		if (s->now_ns >= s->spec->warmup_ns) {
			m->begun = true;
			take_totals(s, &m->first);
		}
		return;
	}
	for (unsigned i = 0; i < m->n_accounts; i++) {
		int64_t credit = credit_of(s, i);

		m->entitled_ns[i] += claim[i].due;
		m->deepest_ns[i] = credit < m->deepest_ns[i] ? credit : m->deepest_ns[i];
	}
}

/* --- responses --- */

void measure_response(struct sim *s, uint32_t chain, uint64_t ns)
{
	struct samples *a = &s->measure->samples[chain];

	if (!s->measure->begun)
		return;
	if (a->n == a->room) {
		size_t room = a->room ? 2 * a->room : 4096;
		uint64_t *grown = reallocarray(a->ns, room, sizeof(*grown));

		if (!grown) {
			s->no_memory = true;
			return;
		}
		a->ns = grown;
		a->room = room;
	}
	a->ns[a->n++] = ns;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static double quantile_ms(const struct samples *a, unsigned percent)
{
	size_t rank = a->n ? (a->n - 1) * percent / 100 : 0;

	return a->n ? (double)a->ns[rank] / 1e6 : 0;
}

static void chain_result(struct samples *a, double time_ns, struct sim_chain_result *ret)
{
	double sum = 0;

	qsort(a->ns, a->n, sizeof(*a->ns), compare_u64);
	for (size_t i = 0; i < a->n; i++)
		sum += (double)a->ns[i];
	*ret = (struct sim_chain_result){
		.done = a->n,
		.ms_per_request = a->n ? time_ns / (double)a->n / 1e6 : 0,
		.mean_ms = a->n ? sum / (double)a->n / 1e6 : 0,
		.p50_ms = quantile_ms(a, 50),
		.p95_ms = quantile_ms(a, 95),
		.p99_ms = quantile_ms(a, 99),
	};
}

/* --- the result --- */

static void vm_results(const struct sim *s, const struct totals *t, double time_ns, struct sim_result *ret)
{
	const struct totals *first = &s->measure->first;

	for (unsigned i = 0; i < s->spec->n_vms; i++) {
		struct sim_vm_result *v = &ret->vm[i];
		struct sim_share *account = &ret->account[s->measure->account_of[i]].share;

		v->share.ran = (double)(t->vm[i].ran_ns - first->vm[i].ran_ns) / time_ns;
		v->share.waited = (double)(t->vm[i].waited_ns - first->vm[i].waited_ns) / time_ns;
		v->worked = (double)(t->vm[i].worked_ns - first->vm[i].worked_ns) / time_ns;
		v->spun = (double)(t->vm[i].spun_ns - first->vm[i].spun_ns) / time_ns;
		v->loops_per_s = (double)(t->vm[i].loops - first->vm[i].loops) / time_ns * 1e9;
		account->ran += v->share.ran;
		account->waited += v->share.waited;
	}
}

static void account_results(const struct sim *s, const struct totals *t, double time_ns, struct sim_result *ret)
{
	for (unsigned i = 0; i < s->measure->n_accounts; i++) {
		struct sim_account_result *a = &ret->account[i];
		int64_t credit = credit_of(s, i);

		a->share.entitled = s->measure->entitled_ns[i] / time_ns;
		a->error = a->share.entitled > 0 ? a->share.ran / a->share.entitled - 1 : 0;
		a->debt_ms = credit < 0 ? -(double)credit / 1e6 : 0;
		a->deepest_ms = -(double)s->measure->deepest_ns[i] / 1e6;
		a->co_ran = (double)(t->co_ran_ns[i] - s->measure->first.co_ran_ns[i]) / time_ns;
	}
}

void measure_result(struct sim *s, struct sim_result *ret)
{
	const struct totals *first = &s->measure->first;
	struct totals t;
	double time_ns, per_s;

	take_totals(s, &t);
	time_ns = (double)(t.time_ns - first->time_ns);
	per_s = 1e9 / time_ns;
	vm_results(s, &t, time_ns, ret);
	account_results(s, &t, time_ns, ret);
	for (unsigned i = 0; i < s->spec->n_chains; i++)
		chain_result(&s->measure->samples[i], time_ns, &ret->chain[i]);
	ret->idle = (double)(t.idle_ns - first->idle_ns) / time_ns;
	ret->kicks_per_s = (double)(t.kicks - first->kicks) * per_s;
	ret->switches_per_s = (double)(t.switches - first->switches) * per_s;
	ret->steals_per_s = (double)(t.steals - first->steals) * per_s;
	ret->sent_per_s = (double)(t.sent - first->sent) * per_s;
	ret->honoured_per_s = (double)(t.honoured - first->honoured) * per_s;
	ret->refused_per_s = (double)(t.refused - first->refused) * per_s;
	ret->void_per_s = (double)(t.void_requests - first->void_requests) * per_s;
	ret->forgiven_ms_per_s = (double)(t.forgiven_ns - first->forgiven_ns) * per_s / 1e6;
	ret->forfeited_ms_per_s = (double)(t.forfeited_ns - first->forfeited_ns) * per_s / 1e6;
}
