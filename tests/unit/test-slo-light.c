/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: what goes lightly, in batches, leaves everything as if each request had been admitted alone. Two schedulers see
 * the same random requests (the seed is printed), one in batches and one by one; all tags, scores and counts stay equal, and
 * when somebody has to wait at last, both give out the same requests in the same order. (Only whether a reservation suffers from
 * the device's own queue is judged by what else is in flight when a request comes back, instead of when it went.) And a stream
 * that passes lightly is known as one.
 */
#include "slo-sim.h"

#include "slo/internal.h"

#define ROUNDS 40
#define STEPS 400
#define FLOWS 4
#define OUT_MAX 64
#define FLOOD 24
#define BYTES 4096

struct pair {
	struct slo_sched *s;
	struct slo_node *vm[2], *class[FLOWS];
	struct slo_flow *flow[FLOWS];
	struct slo_piece piece[OUT_MAX]; /* in flight; light: has no request */
	struct slo_req req[OUT_MAX];
};

struct both {
	struct pair batch, single;
	struct sim rng;
	uint64_t now;
	uint64_t end[FLOWS][2]; /* where the last request of each operation ended on the disk */
	uint64_t jump; /* from there to the next one: none in a stream */
	unsigned out[FLOWS * OUT_MAX], outs; /* places in use */
	bool used[OUT_MAX];
	uint64_t lightly, all;
};

/* Rates whose periods are whole numbers of ns: sums of rounded times are then as exact as times of sums. */
static void pair_init(struct pair *p)
{
	struct slo_promise vm = { .reservation = { .milli_iops = 8000000 }, .limit = { .milli_iops = 200000000 } };
	struct slo_promise class[FLOWS] = {
		{ .shares = 500, .reservation = { .milli_iops = 5000000 }, .p99_ns = 2 * NSEC_PER_MSEC, .p50_ns = 500 * NSEC_PER_USEC },
		{ .shares = 200, .limit = { .milli_iops = 100000000, .bandwidth = 1000000000 } },
		{ .shares = 100, .reservation = { .bandwidth = 10000000 } },
		{ .shares = 100 },
	};
	struct slo_sched_options o = SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_cost_model model = { 0 };

	for (unsigned op = 0; op < SLO_OPS; op++) {
		slo_cost_know(&model, (enum slo_op)op, BYTES, 100 * NSEC_PER_USEC);
		model.cell[op][1][slo_cost_size_class(BYTES)].ns /= 4; /* sequential */
	}
	o.depth = 64;
	o.cost = &model;
	o.cost_frozen = true;
	o.anticipate_permille = 0; /* how long a reader usually pauses is learned from some of its requests */
	assert_int_equal(slo_sched_create(&o, &p->s), 0);
	p->vm[0] = sim_vm(p->s, vm);
	p->vm[1] = sim_vm(p->s, (struct slo_promise){ 0 });
	for (unsigned i = 0; i < FLOWS; i++) {
		p->class[i] = sim_class(p->vm[i == 3], class[i]);
		p->flow[i] = sim_flow(p->class[i]);
	}
}

static unsigned place_take(struct both *b)
{
	unsigned at = 0;

	while (b->used[at])
		at++;
	b->used[at] = true;
	b->out[b->outs++] = at;
	return at;
}

/* One request alone, accounted for in full. */
static void admit_one(struct both *b, struct pair *p, unsigned f, enum slo_op op, unsigned at)
{
	p->flow[f]->light_left = 0;
	slo_req_init(&p->req[at], op, b->end[f][op] + b->jump, BYTES);
	assert_true(slo_admit_fast(p->flow[f], &p->req[at], b->now, &p->piece[at]));
	assert_false(p->piece[at].light);
}

static void finish(struct both *b, struct pair *p, unsigned at)
{
	if (p->piece[at].req)
		assert_true(slo_complete(&p->piece[at], b->now, 0));
	else
		slo_flow_back(p->piece[at].flow, SLO_WRITE, BYTES, p->piece[at].dispatch_ns, b->now);
}

/* What neither is in flight afterwards nor was held before. */
static void instant_one(struct both *b, struct pair *p, unsigned f, enum slo_op op)
{
	struct slo_piece piece;
	struct slo_req r;

	p->flow[f]->light_left = 0;
	slo_req_init(&r, op, b->end[f][op] + b->jump, BYTES);
	assert_true(slo_admit_fast(p->flow[f], &r, b->now, &piece));
	assert_true(slo_complete(&piece, b->now, 0));
}

static uint64_t move_on(struct both *b, unsigned f, enum slo_op op)
{
	return b->end[f][op] += b->jump + BYTES;
}

static void arrive(struct both *b)
{
	unsigned f = (unsigned)sim_below(&b->rng, FLOWS), n = 1 + (unsigned)sim_below(&b->rng, 32), kept;
	struct slo_flow *flow = b->batch.flow[f];
	struct slo_passed passed = { 0 };
	struct slo_room room;

	if (b->batch.s->root.in_flight >= b->batch.s->window.size)
		return;
	b->jump = sim_below(&b->rng, 2) ? 0 : 1 << 20;
	/* One in full opens the way for others; in the other scheduler it is one like all. */
	instant_one(b, &b->batch, f, SLO_READ);
	instant_one(b, &b->single, f, SLO_READ);
	move_on(b, f, SLO_READ);
	room = slo_flow_room(flow, b->now);
	n = (unsigned)min_u64(n, room.all);
	kept = (unsigned)min_u64(sim_below(&b->rng, 4), min_u64(n, room.kept));
	kept = (unsigned)min_u64(kept, OUT_MAX - b->outs);
	/* With the window full nothing more goes. */
	if (kept == room.kept)
		n = kept;
	for (unsigned i = 0; i < kept; i++) {
		unsigned at = place_take(b);

		slo_flow_out(flow, b->now);
		b->batch.piece[at] = (struct slo_piece){ .flow = flow, .dispatch_ns = b->now };
		admit_one(b, &b->single, f, SLO_WRITE, at);
		passed.end_bytes[SLO_WRITE] = move_on(b, f, SLO_WRITE);
	}
	for (unsigned i = kept; i < n; i++) {
		instant_one(b, &b->single, f, SLO_READ);
		passed.end_bytes[SLO_READ] = move_on(b, f, SLO_READ);
	}
	passed.n[SLO_WRITE] = kept;
	passed.n[SLO_READ] = passed.instant = n - kept;
	for (unsigned op = 0; op < 2; op++)
		passed.bytes[op] = passed.n[op] * (uint64_t)BYTES;
	slo_flow_passed(flow, &passed, b->now);
	b->lightly += n;
	b->all += n + 1;
}

static void complete(struct both *b)
{
	unsigned i, at;

	if (!b->outs)
		return;
	i = (unsigned)sim_below(&b->rng, b->outs);
	at = b->out[i];
	b->out[i] = b->out[--b->outs];
	b->used[at] = false;
	finish(b, &b->batch, at);
	finish(b, &b->single, at);
}

/* Each limit's charge is rounded up by itself. */
#define ROUNDED_NS 100000

static void same_node(const struct slo_node *a, const struct slo_node *b, uint64_t now)
{
	assert_int_equal(a->in_flight, b->in_flight);
	assert_int_equal(a->held, b->held);
	assert_int_equal(a->idle_ns, b->idle_ns);
	assert_int_equal(a->start_tag, b->start_tag);
	assert_int_equal(a->meter.state, b->meter.state);
	for (unsigned i = 0; i < SLO_DIMENSIONS; i++) {
		uint64_t few = max_u64(a->limit[i].tag_ns, now), many = max_u64(b->limit[i].tag_ns, now);

		assert_int_equal(a->due.tag_ns[i], b->due.tag_ns[i]);
		assert_true(few <= many && many - few <= ROUNDED_NS);
	}
	if (a->kind != SLO_CLASS)
		return;
	assert_int_equal(a->class->score_p99, b->class->score_p99);
	assert_int_equal(a->class->score_p50, b->class->score_p50);
	assert_int_equal(a->class->queue_time.count, b->class->queue_time.count);
	assert_int_equal(a->class->device_time.count, b->class->device_time.count);
	assert_int_equal(a->class->device_time.sum, b->class->device_time.sum);
}

static void same(struct both *b)
{
	for (unsigned i = 0; i < 2; i++)
		same_node(b->batch.vm[i], b->single.vm[i], b->now);
	for (unsigned i = 0; i < FLOWS; i++)
		same_node(b->batch.class[i], b->single.class[i], b->now);
	assert_int_equal(slo_in_flight(b->batch.s), slo_in_flight(b->single.s));
	assert_int_equal(slo_window(b->batch.s), slo_window(b->single.s));
}

static void same_attained(struct both *b)
{
	for (unsigned i = 0; i < FLOWS; i++) {
		struct slo_report r[2];

		slo_node_report(b->batch.class[i], b->now, &r[0]);
		slo_node_report(b->single.class[i], b->now, &r[1]);
		for (unsigned k = 0; k < SLO_SPANS; k++) {
			assert_int_equal(r[0].attained[k].busy_ns, r[1].attained[k].busy_ns);
			assert_int_equal(r[0].attained[k].completed, r[1].attained[k].completed);
			assert_int_equal(r[0].attained[k].missed_p99, r[1].attained[k].missed_p99);
			assert_int_equal(r[0].attained[k].missed_p50, r[1].attained[k].missed_p50);
		}
		assert_int_equal(r[0].attained[SLO_SPAN_60S].requests, r[1].attained[SLO_SPAN_60S].requests);
		assert_int_equal(r[0].attained[SLO_SPAN_60S].bytes, r[1].attained[SLO_SPAN_60S].bytes);
		assert_int_equal(r[0].attained[SLO_SPAN_60S].cost, r[1].attained[SLO_SPAN_60S].cost);
	}
}

/* The window is full at last: who is next is what the tags say. */
static void contend(struct both *b)
{
	static struct slo_req r[2][FLOWS * FLOOD];
	struct pair *p[2] = { &b->batch, &b->single };
	unsigned held = FLOWS * FLOOD;

	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < held; i++) {
			slo_req_init(&r[k][i], SLO_READ, 0, BYTES);
			slo_enqueue(p[k]->flow[i % FLOWS], &r[k][i], b->now);
		}
	while (held) {
		struct slo_piece piece[2];
		bool given = slo_dispatch(p[0]->s, b->now, &piece[0]);

		assert_int_equal(given, slo_dispatch(p[1]->s, b->now, &piece[1]));
		if (given) {
			assert_int_equal(piece[0].req - r[0], piece[1].req - r[1]);
			b->now += 50 * NSEC_PER_USEC;
			for (unsigned k = 0; k < 2; k++)
				assert_true(slo_complete(&piece[k], b->now, 0));
			held--;
			same(b);
		} else if (b->outs) {
			complete(b);
		} else {
			b->now += NSEC_PER_MSEC;
		}
	}
}

static void batches_are_as_if_alone(void **state)
{
	static struct both b;
	uint64_t seed = 0x5eed;

	(void)state;
	b.rng.rng = seed;
	b.now = 10 * NSEC_PER_SEC;
	pair_init(&b.batch);
	pair_init(&b.single);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < STEPS; i++) {
			b.now += sim_below(&b.rng, 50) ? sim_below(&b.rng, 300 * NSEC_PER_USEC) : sim_below(&b.rng, 30 * NSEC_PER_MSEC);
			if (sim_below(&b.rng, 2))
				arrive(&b);
			else
				complete(&b);
			same(&b);
		}
		contend(&b);
	}
	while (b.outs)
		complete(&b);
	/* What passed last is booked when somebody looks: in the second in which it went. */
	for (unsigned i = 0; i < FLOWS; i++)
		slo_flow_settle(b.batch.flow[i], b.now);
	b.now += NSEC_PER_SEC;
	same_attained(&b);
	print_message("  seed %#llx: %llu of %llu requests went lightly; %u times contended\n", (unsigned long long)seed,
		      (unsigned long long)b.lightly, (unsigned long long)b.all, ROUNDS);
	assert_true(b.lightly > b.all / 2);
	slo_sched_destroy(b.batch.s);
	slo_sched_destroy(b.single.s);
}

#define STREAM 20000u

/* The device takes 20 us for the next of a stream: that is what the model learns, and of other requests nothing. */
static void a_stream_is_known_as_one(void **state)
{
	static const uint64_t size[] = { BYTES, 2 * BYTES };
	struct slo_sched *s = sim_sched(32);
	struct slo_flow *f = sim_flow(sim_class(sim_vm(s, (struct slo_promise){ 0 }), (struct slo_promise){ 0 }));
	const struct slo_cost_model *model = slo_sched_cost(s);
	uint64_t now = NSEC_PER_SEC, at = BYTES, random = 0, stream = 0, light = 0;

	(void)state;
	for (unsigned i = 0; i < STREAM; i++) {
		struct slo_piece piece;
		struct slo_req r;

		slo_req_init(&r, SLO_READ, at, size[i % 2]);
		assert_true(slo_admit_fast(f, &r, now, &piece));
		now += 20 * NSEC_PER_USEC;
		assert_true(slo_complete(&piece, now, 0));
		light += piece.light;
		at += size[i % 2];
	}
	for (unsigned c = 0; c < SLO_COST_SIZES; c++) {
		random += model->cell[SLO_READ][0][c].samples;
		stream += model->cell[SLO_READ][1][c].samples;
	}
	print_message("  %llu of a stream of %u lightly: learned from %llu as of a stream, %llu as of others\n",
		      (unsigned long long)light, STREAM, (unsigned long long)stream, (unsigned long long)random);
	assert_true(light > STREAM * 9 / 10);
	assert_int_equal(random, 1); /* the first */
	assert_true(stream > STREAM / 200);
	slo_sched_destroy(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(batches_are_as_if_alone),
		cmocka_unit_test(a_stream_is_known_as_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
