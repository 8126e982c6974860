/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual time for the scheduler's tests: clients, a device of some channels, and the gate's loop as the block device runs
 * it. Everything follows from the seed. Channels serve in order of submission: a piece begins when a channel is free.
 */
#pragma once

#include "slo/report.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define SIM_CHANNELS_MAX 64
#define SIM_SECONDS_MAX 128

struct sim_client;

struct sim_req {
	struct slo_req slo;
	struct sim_client *client;
	struct list free;
};

struct sim_event {
	uint64_t at, order;
	enum { SIM_ARRIVE, SIM_DONE } kind;
	struct sim_client *client;
	struct slo_piece piece;
};

/* Closed loop: `depth` outstanding, each followed after `think_ns` by the next. Open loop: Poisson arrivals of `rate`. */
struct sim_client {
	struct sim *sim;
	struct slo_flow *flow;
	enum slo_op op;
	uint64_t bytes, bytes_max; /* up to bytes_max at random, when that is set */
	unsigned depth;
	uint64_t think_ns;
	double rate;
	uint64_t stop_ns;	   /* 0: never */
	/* seen */
	uint64_t offset;
	unsigned outstanding;
	unsigned flushing, covered, waiting; /* at the device; ending with it; for its end */
	uint64_t done, done_bytes, dispatched_units, cost, device_ns;
	uint64_t second_done[SIM_SECONDS_MAX], second_out[SIM_SECONDS_MAX], second_out_bytes[SIM_SECONDS_MAX];
	struct hist latency;
};

struct sim {
	struct slo_sched *sched; /* NULL: no scheduling, everything goes to the device at once */
	uint64_t now, order, rng;
	unsigned channels;
	uint64_t latency_ns[SLO_OPS], byte_ps;
	uint64_t channel_free_ns[SIM_CHANNELS_MAX];
	uint64_t busy_ns, done;
	bool no_fast;
	struct sim_event **event; /* heap, [1..n]; behind it those that nobody uses */
	unsigned events, room;
	struct list free;
	/* Called after each piece that goes out. */
	void (*dispatched)(struct sim *, const struct slo_piece *);
	/* Called when the scheduler has given out what it wants to at this time. */
	void (*settled)(struct sim *);
	void *arg;
};

static inline uint64_t sim_random(struct sim *m)
{
	m->rng ^= m->rng >> 12;
	m->rng ^= m->rng << 25;
	m->rng ^= m->rng >> 27;
	return m->rng * UINT64_C(0x2545F4914F6CDD1D) >> 11;
}

static inline uint64_t sim_below(struct sim *m, uint64_t n)
{
	return sim_random(m) % n;
}

/* From an exponential distribution with mean 1, without libm's last bits: sixteen random bits suffice. */
static inline double sim_exponential(struct sim *m)
{
	double u = ((double)sim_below(m, 1 << 20) + 1) / (1 << 20), x = 0;

	/* -ln(u) by halving to [0.5, 1] and a series. */
	while (u < 0.5) {
		u *= 2;
		x += 0.69314718056;
	}
	for (double t = 1 - u, p = t, k = 1; k < 24; k++, p *= t)
		x += p / k;
	return x;
}

static inline void sim_init(struct sim *m, struct slo_sched *s, unsigned channels, uint64_t latency_ns, uint64_t byte_ps,
			    uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	m->sched = s;
	m->now = NSEC_PER_SEC;
	m->rng = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	m->channels = channels;
	m->byte_ps = byte_ps;
	for (unsigned i = 0; i < SLO_OPS; i++)
		m->latency_ns[i] = latency_ns;
	m->latency_ns[SLO_FLUSH] = 0;
	list_init(&m->free);
}

static inline bool sim_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static inline void sim_event_room(struct sim *m)
{
	unsigned room = m->room ? m->room * 2 : 64;

	m->event = realloc(m->event, room * sizeof(*m->event));
	assert_non_null(m->event);
	for (; m->room < room; m->room++) {
		m->event[m->room] = malloc(sizeof(**m->event));
		assert_non_null(m->event[m->room]);
	}
}

static inline void sim_event_add(struct sim *m, struct sim_event e)
{
	struct sim_event *added;
	unsigned pos;

	if (m->events + 1 >= m->room)
		sim_event_room(m);
	e.order = m->order++;
	added = m->event[++m->events];
	*added = e;
	for (pos = m->events; pos > 1 && sim_before(added, m->event[pos / 2]); pos /= 2)
		m->event[pos] = m->event[pos / 2];
	m->event[pos] = added;
}

static inline struct sim_event sim_event_pop(struct sim *m)
{
	struct sim_event *first = m->event[1], *last = m->event[m->events];
	unsigned pos = 1, child;

	m->event[m->events--] = first;
	while ((child = pos * 2) <= m->events) {
		if (child < m->events && sim_before(m->event[child + 1], m->event[child]))
			child++;
		if (!sim_before(m->event[child], last))
			break;
		m->event[pos] = m->event[child];
		pos = child;
	}
	if (pos <= m->events)
		m->event[pos] = last;
	return *first;
}

static inline uint64_t sim_service_ns(const struct sim *m, enum slo_op op, uint64_t bytes)
{
	return m->latency_ns[op] + (op == SLO_READ || op == SLO_WRITE ? bytes * m->byte_ps / 1000 : 0);
}

static inline unsigned sim_second(const struct sim *m)
{
	uint64_t s = m->now / NSEC_PER_SEC;

	return s < SIM_SECONDS_MAX ? (unsigned)s : SIM_SECONDS_MAX - 1;
}

static inline void sim_submit(struct sim *m, const struct slo_piece *p)
{
	struct sim_client *c = container_of(p->req, struct sim_req, slo)->client;
	uint64_t service = sim_service_ns(m, p->req->op, p->bytes), start;
	unsigned best = 0;

	for (unsigned i = 1; i < m->channels; i++)
		if (m->channel_free_ns[i] < m->channel_free_ns[best])
			best = i;
	start = max_u64(m->now, m->channel_free_ns[best]);
	m->channel_free_ns[best] = start + service;
	m->busy_ns += service;
	c->dispatched_units++;
	c->cost += p->cost;
	c->device_ns += service;
	c->second_out[sim_second(m)]++;
	c->second_out_bytes[sim_second(m)] += p->bytes;
	if (m->dispatched)
		m->dispatched(m, p);
	sim_event_add(m, (struct sim_event){ .at = start + service, .kind = SIM_DONE, .client = c, .piece = *p });
}

static inline struct sim_req *sim_req_get(struct sim *m)
{
	struct sim_req *r;

	if (list_empty(&m->free)) {
		r = calloc(1, sizeof(*r));
		assert_non_null(r);
		list_init(&r->free);
		return r;
	}
	r = list_first(&m->free, struct sim_req, free);
	list_remove(&r->free);
	return r;
}

static inline void sim_send(struct sim *m, struct sim_client *c)
{
	struct sim_req *r = sim_req_get(m);
	uint64_t bytes = c->bytes;
	struct slo_piece p;

	if (c->bytes_max > c->bytes)
		bytes += sim_below(m, (c->bytes_max - c->bytes) / 512 + 1) * 512;
	if (c->op == SLO_FLUSH)
		bytes = 0;
	slo_req_init(&r->slo, c->op, c->offset, bytes);
	c->offset += bytes + 4096;
	r->client = c;
	if (!m->sched) {
		r->slo.arrival_ns = m->now;
		r->slo.given_bytes = bytes;
		r->slo.pieces = 1;
		p = (struct slo_piece){ .req = &r->slo, .bytes = bytes, .dispatch_ns = m->now };
		sim_submit(m, &p);
	} else if ((!m->no_fast || c->op == SLO_FLUSH) && slo_admit_fast(c->flow, &r->slo, m->now, &p)) {
		sim_submit(m, &p);
	} else {
		slo_enqueue(c->flow, &r->slo, m->now);
	}
}

/* Of flushes one goes at a time and covers those that wait for it, as in blk/flush.c. */
static inline void sim_arrive(struct sim *m, struct sim_client *c)
{
	c->outstanding++;
	if (c->op == SLO_FLUSH && c->flushing) {
		c->waiting++;
		return;
	}
	c->flushing = c->op == SLO_FLUSH;
	sim_send(m, c);
}

static inline void sim_next(struct sim *m, struct sim_client *c, uint64_t wait_ns)
{
	if (!c->stop_ns || m->now + wait_ns < c->stop_ns)
		sim_event_add(m, (struct sim_event){ .at = m->now + wait_ns, .kind = SIM_ARRIVE, .client = c });
}

static inline void sim_flush_done(struct sim *m, struct sim_client *c)
{
	c->done += c->covered;
	c->outstanding -= c->covered;
	for (; c->covered; c->covered--)
		sim_next(m, c, c->think_ns);
	c->flushing = c->waiting > 0;
	if (!c->waiting)
		return;
	c->covered = c->waiting - 1;
	c->waiting = 0;
	sim_send(m, c);
}

static inline void sim_done(struct sim *m, const struct slo_piece *p)
{
	struct sim_req *r = container_of(p->req, struct sim_req, slo);
	struct sim_client *c = r->client;

	if (m->sched ? !slo_complete(p, m->now, 0) : false)
		return;
	hist_add(&c->latency, m->now - r->slo.arrival_ns);
	c->done++;
	c->done_bytes += r->slo.bytes;
	c->second_done[sim_second(m)]++;
	c->outstanding--;
	m->done++;
	list_append(&m->free, &r->free);
	if (c->rate == 0)
		sim_next(m, c, c->think_ns);
	if (c->op == SLO_FLUSH)
		sim_flush_done(m, c);
}

static inline void sim_client_start(struct sim *m, struct sim_client *c)
{
	c->sim = m;
	if (c->rate > 0)
		sim_next(m, c, (uint64_t)(sim_exponential(m) * 1e9 / c->rate));
	for (unsigned i = 0; i < c->depth; i++)
		sim_next(m, c, 0);
}

static inline void sim_step(struct sim *m, struct sim_event e)
{
	if (e.kind == SIM_DONE) {
		sim_done(m, &e.piece);
		return;
	}
	if (e.client->rate > 0)
		sim_next(m, e.client, (uint64_t)(sim_exponential(m) * 1e9 / e.client->rate));
	sim_arrive(m, e.client);
}

/* Events of one time are one batch: all are taken, then the scheduler gives out what it can. */
static inline void sim_run(struct sim *m, uint64_t until)
{
	for (;;) {
		uint64_t at = m->events ? m->event[1]->at : UINT64_MAX, timer = m->sched ? slo_next_ns(m->sched) : UINT64_MAX;
		struct slo_piece p;

		assert_true(timer > m->now || timer == UINT64_MAX);
		at = min_u64(at, timer);
		if (at > until)
			break;
		m->now = at;
		while (m->events && m->event[1]->at == m->now)
			sim_step(m, sim_event_pop(m));
		while (m->sched && slo_dispatch(m->sched, m->now, &p))
			sim_submit(m, &p);
		if (m->settled)
			m->settled(m);
	}
	m->now = until;
}

static inline void sim_run_for(struct sim *m, uint64_t ns)
{
	sim_run(m, m->now + ns);
}

/* Ends the clients, lets everything finish, and frees what the simulation allocated. */
static inline void sim_fini(struct sim *m, struct sim_client *const client[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		client[i]->stop_ns = 1;
	while (m->events || (m->sched && slo_held(m->sched))) {
		uint64_t at = m->events ? m->event[1]->at : slo_next_ns(m->sched);

		assert_true(at != UINT64_MAX);
		/* Arrivals that were due already are let go with the rest. */
		if (m->events && m->event[1]->kind == SIM_ARRIVE) {
			sim_event_pop(m);
			continue;
		}
		sim_run(m, max_u64(at, m->now));
	}
	while (!list_empty(&m->free)) {
		struct sim_req *r = list_first(&m->free, struct sim_req, free);

		list_remove(&r->free);
		free(r);
	}
	for (unsigned i = 0; i < m->room; i++)
		free(m->event[i]);
	free(m->event);
}

static inline struct slo_node *sim_vm(struct slo_sched *s, struct slo_promise p)
{
	struct slo_node *n = NULL;

	assert_int_equal(slo_vm_add(s, &p, NULL, &n), 0);
	return n;
}

static inline struct slo_node *sim_class(struct slo_node *vm, struct slo_promise p)
{
	struct slo_node *n = NULL;

	assert_int_equal(slo_class_add(vm, &p, NULL, &n), 0);
	return n;
}

static inline struct slo_flow *sim_flow(struct slo_node *class)
{
	struct slo_flow *f = NULL;

	assert_int_equal(slo_flow_add(class, NULL, &f), 0);
	return f;
}

static inline struct slo_sched *sim_sched(unsigned depth)
{
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_sched *s = NULL;

	o.depth = depth;
	assert_int_equal(slo_sched_create(&o, &s), 0);
	return s;
}
