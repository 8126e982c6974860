/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what must hold for every policy and load, tried on 10,000 random ones in virtual time: limits are never
 * broken, admissible reservations are kept, backlogged neighbours lag by no more than one piece each (the bound of
 * doc/slo.md), the device never idles beside work that may go but for the counted pauses, nobody starves, requests of a flow
 * stay in order and every byte goes out once. Prints its seed; FAIRLEAD_SEED and FAIRLEAD_RUNS choose others.
 */
#include "slo-sim.h"

#include "slo/internal.h"

#include <math.h>

#define VMS_MAX 4
#define CLASSES_MAX 5
#define CLIENTS_MAX (VMS_MAX * CLASSES_MAX * 2)
#define NODES_MAX (VMS_MAX * (CLASSES_MAX + 1))

/* One VM or class, as the checks see it. */
struct seen {
	struct slo_node *node;
	unsigned parent;	/* group: nodes that share are compared */
	bool plain;		/* no limit or reservation in it or below: only shares */
	double cost, largest;	/* given out, per share; the largest piece, per share */
	double level[SLO_DIMENSIONS]; /* of a leaky bucket of its own, in units */
	uint64_t level_ns[SLO_DIMENSIONS];
	uint64_t units[SLO_DIMENSIONS], pieces, backlog_from_ns;
	bool backlogged;
};

static struct world {
	struct seen node[NODES_MAX];
	unsigned nodes;
	struct sim_client client[CLIENTS_MAX];
	struct sim_client *list[CLIENTS_MAX];
	uint64_t next_start[CLIENTS_MAX]; /* order within a flow */
	struct slo_req *current[CLIENTS_MAX];
	unsigned clients;
	/* Of each pair: the range of the difference in service while both are backlogged. */
	double low[NODES_MAX][NODES_MAX], high[NODES_MAX][NODES_MAX], at[NODES_MAX];
	struct sim sim;
	double worst_lag; /* as a part of its bound */
	uint64_t seed;
} w;

static void fail_run(const char *what, unsigned i)
{
	print_error("seed %llu: %s (node %u at %llu ns)\n", (unsigned long long)w.seed, what, i, (unsigned long long)w.sim.now);
	fail();
}

static struct seen *seen_of(const struct slo_node *n)
{
	for (unsigned i = 0; i < w.nodes; i++)
		if (w.node[i].node == n)
			return &w.node[i];
	return NULL;
}

static uint64_t rate_of(const struct slo_rate *r, unsigned i)
{
	return i == SLO_IOPS ? r->milli_iops : r->bandwidth;
}

/* A leaky bucket that knows nothing of the scheduler's. */
static void check_limit(struct seen *s, unsigned i, uint64_t units)
{
	const struct slo_promise *p = &s->node->promise;
	uint64_t burst = i == SLO_IOPS ? p->burst_milli_requests : p->burst_bytes;
	double rate = (double)rate_of(&p->limit, i), full = (double)burst;

	if (rate == 0 || !units)
		return;
	s->level[i] -= rate * (double)(w.sim.now - s->level_ns[i]) / 1e9;
	if (s->level[i] < 0)
		s->level[i] = 0;
	s->level_ns[i] = w.sim.now;
	s->level[i] += (double)units;
	if (full < (double)units)
		full = (double)units;
	if (!burst)
		full += fmax((double)units / 2, rate / 100);
	if (s->level[i] > full * 1.0001 + 1)
		fail_run("limit broken", (unsigned)(s - w.node));
}

static void check_lag(struct seen *s)
{
	unsigned i = (unsigned)(s - w.node);

	/* Whoever ran empty within this batch is not backlogged while the rest of it goes. */
	for (unsigned j = 0; j < w.nodes; j++)
		w.node[j].backlogged &= w.node[j].node->held > 0;

	for (unsigned j = 0; j < w.nodes; j++) {
		struct seen *o = &w.node[j];
		unsigned a = i < j ? i : j, b = i < j ? j : i;
		double d = w.node[a].cost - w.node[b].cost, bound = s->largest + o->largest, lag;

		if (j == i || o->parent != s->parent || !s->plain || !o->plain || !s->backlogged || !o->backlogged)
			continue;
		w.low[a][b] = fmin(w.low[a][b], d);
		w.high[a][b] = fmax(w.high[a][b], d);
		lag = (w.high[a][b] - w.low[a][b]) / bound;
		if (lag > w.worst_lag)
			w.worst_lag = lag;
		if (lag > 1.001)
			fail_run("lag above the bound", i);
	}
}

static void backlog_begins(struct seen *s)
{
	unsigned i = (unsigned)(s - w.node);

	s->backlogged = true;
	s->backlog_from_ns = w.sim.now;
	memset(s->units, 0, sizeof(s->units));
	s->pieces = 0;
	for (unsigned j = 0; j < w.nodes; j++) {
		unsigned a = i < j ? i : j, b = i < j ? j : i;

		w.low[a][b] = w.high[a][b] = w.node[a].cost - w.node[b].cost;
	}
}

static void check_order(const struct slo_piece *p)
{
	struct sim_client *c = container_of(p->req, struct sim_req, slo)->client;
	unsigned i = (unsigned)(c - w.client);

	if (p->start_bytes == 0) {
		if (w.current[i])
			fail_run("a request overtook another of its flow", i);
		w.current[i] = p->req;
		w.next_start[i] = 0;
	}
	if (w.current[i] != p->req || w.next_start[i] != p->start_bytes)
		fail_run("pieces out of order", i);
	w.next_start[i] += p->bytes;
	if (p->last) {
		if (w.next_start[i] != p->req->bytes)
			fail_run("bytes lost", i);
		w.current[i] = NULL;
	}
}

static void piece_seen(struct sim *m, const struct slo_piece *p)
{
	struct slo_amount a = slo_amount_of(m->sched, p->req->op, p->bytes);

	check_order(p);
	for (struct slo_node *n = slo_node_parent(slo_flow_node(p->flow)); n; n = slo_node_parent(n)) {
		struct seen *s = seen_of(n);
		double cost = (double)p->cost / n->promise.shares;

		s->largest = fmax(s->largest, cost);
		s->cost += cost;
		s->pieces++;
		for (unsigned i = 0; i < SLO_DIMENSIONS; i++) {
			s->units[i] += a.units[i];
			check_limit(s, i, a.units[i]);
		}
		check_lag(s);
	}
}

static bool may_go(const struct slo_node *class)
{
	return class->held && !class->throttled && !class->parent->throttled;
}

static void settled(struct sim *m)
{
	bool work = false;

	for (unsigned i = 0; i < w.nodes; i++) {
		struct seen *s = &w.node[i];
		bool backlogged = s->node->held > 0 && !s->node->throttled;

		if (backlogged && !s->backlogged)
			backlog_begins(s);
		s->backlogged = backlogged;
		work |= s->node->kind == SLO_CLASS && may_go(s->node);
	}
	if (work && slo_in_flight(m->sched) < slo_window(m->sched) && !m->sched->anticipation.node)
		fail_run("idle beside work that may go", 0);
	if ((double)m->sched->anticipation.idled_ns > 0.05 * (double)m->now)
		fail_run("idled beyond the budget", 0);
}

/* A sixth of the runs has latency targets, so that the window moves. */
static bool targets(void)
{
	return w.seed % 6 == 0;
}

static uint64_t pick(const uint64_t *of, size_t n)
{
	return of[sim_below(&w.sim, n)];
}

static struct slo_promise random_promise(double capacity, double *left)
{
	static const uint64_t shares[] = { 1, 10, 20, 50, 100, 100, 200, 500, 1000 };
	struct slo_promise p = { .shares = (uint32_t)pick(shares, ARRAY_SIZE(shares)) };

	if (targets() && sim_below(&w.sim, 2))
		p.p99_ns = sim_below(&w.sim, 20) * NSEC_PER_MSEC / 10 + 1;
	if (sim_below(&w.sim, 4) == 0) {
		/* A part of what can still be promised, in whole requests. */
		double part = *left * (double)(1 + sim_below(&w.sim, 60)) / 100;

		p.reservation.milli_iops = (uint64_t)(capacity * part * 1000);
		*left -= part;
	} else if (sim_below(&w.sim, 4) == 0) {
		if (sim_below(&w.sim, 2))
			p.limit.milli_iops = (uint64_t)(capacity * (double)(1 + sim_below(&w.sim, 50)) * 10);
		else
			p.limit.bandwidth = (uint64_t)(capacity * 4096 * (double)(1 + sim_below(&w.sim, 50)) / 100) + 1;
		p.burst_milli_requests = 1000 * sim_below(&w.sim, 20);
		p.burst_bytes = sim_below(&w.sim, 20) * 10000;
	}
	return p;
}

static unsigned node_seen(struct slo_node *n, unsigned parent)
{
	w.node[w.nodes] = (struct seen){ .node = n, .parent = parent, .backlogged = false };
	return w.nodes++;
}

static bool promises_plain(const struct slo_promise *p)
{
	return !p->limit.milli_iops && !p->limit.bandwidth && !p->reservation.milli_iops;
}

static void client_add(struct slo_node *class, uint64_t largest)
{
	static const uint64_t sizes[] = { 512, 4096, 4096, 4096, 16384, 65536, 300000 / 512 * 512, 1 << 20 };
	struct sim_client *c = &w.client[w.clients];

	*c = (struct sim_client){ .flow = sim_flow(class), .op = sim_below(&w.sim, 2) ? SLO_READ : SLO_WRITE,
				  .bytes = min_u64(pick(sizes, ARRAY_SIZE(sizes)), largest),
				  .depth = 1 + (unsigned)sim_below(&w.sim, 24) };
	if (sim_below(&w.sim, 4) == 0)
		c->think_ns = sim_below(&w.sim, 20 * NSEC_PER_MSEC);
	w.list[w.clients] = c;
	w.current[w.clients++] = NULL;
}

static void world_build(struct slo_sched *s, double capacity)
{
	unsigned vms = 1 + (unsigned)sim_below(&w.sim, VMS_MAX);
	double left = 0.85;

	for (unsigned v = 0; v < vms; v++) {
		struct slo_promise p = random_promise(capacity, &left);
		unsigned classes = 1 + (unsigned)sim_below(&w.sim, CLASSES_MAX), vm;
		bool plain = promises_plain(&p);
		/* A VM's own reservation counts; its classes' are paid from it. */
		double reserved = (double)p.reservation.milli_iops / 1000 / capacity, inside = reserved;
		double *pot = reserved > 0 ? &inside : &left;

		vm = node_seen(sim_vm(s, p), NODES_MAX);
		for (unsigned c = 0; c < classes; c++) {
			unsigned class, flows = 1 + (unsigned)sim_below(&w.sim, 2);

			p = random_promise(capacity, pot);
			class = node_seen(sim_class(w.node[vm].node, p), vm);
			w.node[class].plain = promises_plain(&p);
			plain &= w.node[class].plain;
			for (unsigned f = 0; f < flows; f++)
				client_add(w.node[class].node, p.reservation.milli_iops || reserved > 0 ? 4096 : UINT64_MAX);
		}
		w.node[vm].plain = plain;
	}
}

/* What a node with a reservation and a backlog throughout got: all of it but a start and one piece of everybody. */
static void check_reservation(struct seen *s, double capacity, uint64_t largest_ns, unsigned channels)
{
	double rate = (double)s->node->promise.reservation.milli_iops / 1000;
	double time = (double)(w.sim.now - s->backlog_from_ns) / 1e9;
	struct slo_node *n;
	double late = (double)largest_ns / 1e9 * (1 + (double)w.nodes / channels) + (double)w.nodes / capacity;

	/* While the window looks for its size, the device gives less than its capacity. */
	if (targets() || rate == 0 || !s->backlogged || (s->node->kind == SLO_CLASS && s->node->parent->limited))
		return;
	list_for_each(n, &s->node->children, siblings)
		if (n->limited)
			return;
	if ((double)s->units[SLO_IOPS] / 1000 < rate * (time - late) - 2) {
		print_error("%s: %.1f of %.1f in %.3f s (late %.3f)\n", s->node->kind == SLO_VM ? "VM" : "class",
			    (double)s->units[SLO_IOPS] / 1000, rate * time, time, late);
		fail_run("reservation missed", (unsigned)(s - w.node));
	}
}

/* A twentieth of the share that even the worst of all cases leaves it; if that is some pieces, it had one. */
static void check_starvation(struct seen *s, unsigned channels, uint64_t largest_ns)
{
	double part = 0.05, time = (double)(w.sim.now - s->backlog_from_ns);

	if (!s->backlogged || s->node->kind != SLO_CLASS)
		return;
	for (struct slo_node *n = s->node; n->parent; n = n->parent) {
		double sum = 0;
		struct slo_node *o;

		if (n->limited)
			return;
		list_for_each(o, &n->parent->children, siblings)
			sum += o->promise.shares;
		part *= n->promise.shares / sum;
	}
	/* Reservations may be ahead by 0.5 s, shares by 0.1 s of device time. */
	if (part * (time - 0.6e9) * channels > 4.0 * (double)largest_ns + 0.1e9 && !s->pieces)
		fail_run("starved", (unsigned)(s - w.node));
}

static uint64_t one_run(uint64_t seed)
{
	static const uint64_t latencies[] = { 50000, 100000, 500000, 2000000 };
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_cost_model model;
	struct slo_sched *s;
	unsigned channels;
	uint64_t latency, byte_ps, done, largest_ns;
	double capacity;

	w.seed = seed;
	w.nodes = w.clients = 0;
	sim_init(&w.sim, NULL, 1, 0, 0, seed);
	channels = 1u << sim_below(&w.sim, 4);
	latency = pick(latencies, ARRAY_SIZE(latencies));
	byte_ps = sim_below(&w.sim, 2) ? latency / 40 : 0;
	capacity = channels / ((double)(latency + 4096 * byte_ps / 1000) / 1e9);
	/* Costs are the device's: what is tested here is not learning. */
	memset(&model, 0, sizeof(model));
	for (unsigned op = 0; op < SLO_OPS; op++)
		for (unsigned c = 0; c < 2; c++)
			model.cell[op][0][c * 8] = (struct slo_cost_cell){ 512u << c * 8,
				(double)latency + (double)(512u << c * 8) * (double)byte_ps / 1000, 1000 };
	o.depth = channels;
	o.cost = &model;
	o.cost_frozen = true;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	w.sim.sched = s;
	w.sim.channels = channels;
	w.sim.byte_ps = byte_ps;
	w.sim.no_fast = sim_below(&w.sim, 2);
	for (unsigned i = 0; i < SLO_OPS; i++)
		w.sim.latency_ns[i] = latency;
	w.sim.dispatched = piece_seen;
	w.sim.settled = settled;
	world_build(s, capacity);
	for (unsigned i = 0; i < w.clients; i++)
		sim_client_start(&w.sim, &w.client[i]);
	largest_ns = latency + 131072 * byte_ps / 1000;
	/* Some hundred pieces. */
	sim_run_for(&w.sim, (uint64_t)(600 / capacity * 1e9) + NSEC_PER_MSEC);
	for (unsigned i = 0; i < w.nodes; i++) {
		check_reservation(&w.node[i], capacity, largest_ns, channels);
		check_starvation(&w.node[i], channels, largest_ns);
	}
	done = s->dispatched + s->fast;
	w.sim.settled = NULL;
	sim_fini(&w.sim, w.list, w.clients);
	assert_int_equal(slo_held(s), 0);
	assert_int_equal(slo_in_flight(s), 0);
	assert_int_equal(s->root.by_share.n + s->root.by_due.n, 0);
	slo_sched_destroy(s);
	return done;
}

static unsigned long long from_env(const char *name, unsigned long long otherwise)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 10) : otherwise;
}

static void random_policies(void **state)
{
	unsigned long long seed = from_env("FAIRLEAD_SEED", 1), runs = from_env("FAIRLEAD_RUNS", 10000), done = 0;

	(void)state;
	print_message("  seed %llu, %llu runs\n", seed, runs);
	for (unsigned long long i = 0; i < runs; i++)
		done += one_run(seed + i);
	print_message("  %llu pieces; largest lag %.3f of its bound\n", done, w.worst_lag);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_policies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
