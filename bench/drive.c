/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-drive: puts load on a vhost-user-blk back-end, ours or another, and prints what it gave, as JSON. One thread a
 * queue. Without a back-end (--hook) it measures its own cost, and with --memcpy that of copying.
 *
 * With --against it compares two: both stay attached, and take turns that are too short for the machine to change between one
 * and the next, so that what counts is the ratio of neighbouring turns. The order is there and back (A B, B A, ...): what drifts
 * steadily favours nobody. A back-end that is not loaded must sleep by itself.
 */
#include "bench/driver.h"

#include "base/clock.h"
#include "base/cpus.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define QUEUES_MAX 64u

struct options {
	struct frontend_config front;
	struct driver_load load;
	const char *ioprio, *against;
	unsigned cpu[QUEUES_MAX], n_cpus, turns;
	double seconds, warmup, rate;
	bool hook, memcpy, crossed;
};

enum { KEY_OP = 256, KEY_BYTES, KEY_SPAN, KEY_IOPRIO, KEY_RATE, KEY_CALLS, KEY_SPIN, KEY_SECONDS, KEY_WARMUP, KEY_OPS, KEY_PACKED,
       KEY_EVENT_IDX, KEY_INDIRECT, KEY_NO_INFLIGHT, KEY_RING, KEY_CPUS, KEY_HUGE, KEY_HOOK, KEY_MEMCPY, KEY_CROSSED, KEY_AGAINST, KEY_TURNS };

static const struct argp_option table[] = {
	{ "socket", 's', "PATH", 0, "Where the back-end listens", 0 },
	{ "op", KEY_OP, "OP", 0, "read, write, randread (default) or randwrite", 0 },
	{ "bytes", KEY_BYTES, "N", 0, "Of one request (default 4096)", 0 },
	{ "span", KEY_SPAN, "N", 0, "Of the disk that is used (default all of it)", 0 },
	{ "depth", 'd', "N", 0, "Requests in flight, each queue (default 1)", 0 },
	{ "queues", 'q', "N", 0, "Queues, a thread each (default 1)", 0 },
	{ "ring", KEY_RING, "N", 0, "Ring size (default 256)", 0 },
	{ "cpus", KEY_CPUS, "LIST", 0, "One CPU for each queue's thread, in turn", 0 },
	{ "ioprio", KEY_IOPRIO, "LIST", 0, "rt/0..7, be/0..7, idle or none for each queue, in turn", 0 },
	{ "rate", KEY_RATE, "IOPS", 0, "Open loop: requests per second, each queue", 0 },
	{ "calls", KEY_CALLS, NULL, 0, "Sleep until called instead of polling", 0 },
	{ "spin", KEY_SPIN, NULL, 0, "Poll without PAUSE, with which a CPU that is emulated gives its turn away", 0 },
	{ "seconds", KEY_SECONDS, "S", 0, "Measured time (default 1)", 0 },
	{ "warmup", KEY_WARMUP, "S", 0, "Before that (default 0.2)", 0 },
	{ "ops", KEY_OPS, "N", 0, "Instead: stop after so many requests, each queue", 0 },
	{ "packed", KEY_PACKED, NULL, 0, "Packed rings", 0 },
	{ "event-idx", KEY_EVENT_IDX, NULL, 0, "Negotiate EVENT_IDX", 0 },
	{ "indirect", KEY_INDIRECT, NULL, 0, "Negotiate indirect descriptors", 0 },
	{ "no-inflight", KEY_NO_INFLIGHT, NULL, 0, "Do not keep an inflight region", 0 },
	{ "huge", KEY_HUGE, NULL, 0, "Guest memory in huge pages", 0 },
	{ "crossed", KEY_CROSSED, NULL, 0, "Without completion affinity: completions are seen by the next queue's thread first", 0 },
	{ "against", KEY_AGAINST, "PATH", 0, "Another back-end: both in turns of --seconds, after --warmup each", 0 },
	{ "turns", KEY_TURNS, "N", 0, "Of each, with --against (default 100)", 0 },
	{ "hook", KEY_HOOK, NULL, 0, "No back-end: the cost of driving alone", 0 },
	{ "memcpy", KEY_MEMCPY, NULL, 0, "No back-end: a plain loop that copies --bytes from --span at random", 0 },
	{ 0 },
};

/* --- options --- */

static int parse_ioprio(const char *word, uint16_t *ret)
{
	static const struct { const char *name; uint16_t class; } classes[] = { { "rt/", 1 }, { "be/", 2 } };

	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++) {
		if (!strncmp(word, classes[i].name, 3) && word[3] >= '0' && word[3] <= '7') {
			*ret = (uint16_t)(classes[i].class << 13 | (word[3] - '0'));
			return 0;
		}
	}
	*ret = !strcmp(word, "idle") ? 3 << 13 : 0;
	return *ret || !strcmp(word, "none") ? 0 : -EINVAL;
}

/* The n-th of a list, which begins anew at its end. */
static int nth_ioprio(const char *list, unsigned n, uint16_t *ret)
{
	char copy[256], *save = NULL, *word[QUEUES_MAX];
	unsigned words = 0;

	snprintf(copy, sizeof(copy), "%s", list);
	for (char *w = strtok_r(copy, ",", &save); w && words < QUEUES_MAX; w = strtok_r(NULL, ",", &save))
		word[words++] = w;
	return words ? parse_ioprio(word[n % words], ret) : -EINVAL;
}

static int parse_op(struct options *o, const char *op)
{
	o->load.random = !strncmp(op, "rand", 4);
	op += o->load.random ? 4 : 0;
	o->load.write = !strcmp(op, "write");
	return o->load.write || !strcmp(op, "read") ? 0 : -EINVAL;
}

static double number(struct argp_state *state, const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || v < 0)
		argp_error(state, "`%s' is not a number", text);
	return v;
}

static error_t parse_number(int key, double v, struct options *o)
{
	switch (key) {
	case KEY_BYTES: o->load.bytes = (uint32_t)v; return 0;
	case KEY_SPAN: o->load.span_bytes = (uint64_t)v; return 0;
	case 'd': o->load.depth = (unsigned)v; return 0;
	case 'q': o->front.queues = (unsigned)v; return 0;
	case KEY_RING: o->front.queue_size = (uint16_t)v; return 0;
	case KEY_RATE: o->rate = v; return 0;
	case KEY_SECONDS: o->seconds = v; return 0;
	case KEY_WARMUP: o->warmup = v; return 0;
	case KEY_OPS: o->load.ops_max = (uint64_t)v; return 0;
	case KEY_TURNS: o->turns = (unsigned)v; return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_flag(int key, struct options *o)
{
	switch (key) {
	case KEY_CALLS: o->load.calls = o->front.calls = true; return 0;
	case KEY_SPIN: o->load.spin = true; return 0;
	case KEY_PACKED: o->front.packed = true; return 0;
	case KEY_EVENT_IDX: o->front.event_idx = true; return 0;
	case KEY_INDIRECT: o->front.indirect = true; return 0;
	case KEY_NO_INFLIGHT: o->front.inflight = false; return 0;
	case KEY_HUGE: o->front.huge = true; return 0;
	case KEY_CROSSED: o->crossed = true; return 0;
	case KEY_HOOK: o->hook = true; return 0;
	case KEY_MEMCPY: o->memcpy = true; return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static void check(struct options *o, struct argp_state *state)
{
	const struct driver_load *l = &o->load;
	uint16_t ioprio;

	if (!o->front.path && !o->hook && !o->memcpy)
		argp_error(state, "--socket is needed");
	if (!o->front.queues || o->front.queues > QUEUES_MAX)
		argp_error(state, "--queues: 1 to %u", QUEUES_MAX);
	if (!l->bytes || l->bytes % 512 || !l->depth)
		argp_error(state, "--bytes is a multiple of 512, --depth at least 1");
	if (l->depth * (o->front.indirect ? 1u : 3u) > o->front.queue_size)
		argp_error(state, "--depth %u does not fit a ring of %u", l->depth, o->front.queue_size);
	for (unsigned i = 0; i < o->front.queues; i++)
		if (nth_ioprio(o->ioprio, i, &ioprio) < 0)
			argp_error(state, "--ioprio: `%s'", o->ioprio);
	if (o->crossed && (o->front.packed || o->load.calls))
		argp_error(state, "--crossed goes with polled split rings");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	int n;

	switch (key) {
	case 's':
		o->front.path = arg;
		return 0;
	case KEY_OP:
		if (parse_op(o, arg) < 0)
			argp_error(state, "--op: `%s'", arg);
		return 0;
	case KEY_IOPRIO:
		o->ioprio = arg;
		return 0;
	case KEY_AGAINST:
		o->against = arg;
		return 0;
	case KEY_CPUS:
		n = cpus_parse(arg, o->cpu, QUEUES_MAX);
		if (n <= 0)
			argp_error(state, "--cpus: `%s'", arg);
		o->n_cpus = (unsigned)n;
		return 0;
	case ARGP_KEY_END:
		check(o, state);
		return 0;
	default:
		if (arg)
			return parse_number(key, number(state, arg), o);
		return parse_flag(key, o);
	}
}

/* --- the run --- */

static enum driver_phase phase;

static void wait_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	nanosleep(&ts, NULL);
}

static int run_drivers(const struct options *o, struct driver *d)
{
	unsigned n = o->front.queues;
	int r = 0;

	store_relaxed(&phase, o->load.ops_max ? DRIVER_MEASURE : DRIVER_WARM_UP);
	for (unsigned i = 0; i < n; i++) {
		int e = driver_start(&d[i]);

		if (e)
			return e;
	}
	if (!o->load.ops_max) {
		wait_ns((uint64_t)(o->warmup * 1e9));
		store_release(&phase, DRIVER_MEASURE);
		wait_ns((uint64_t)(o->seconds * 1e9));
		store_release(&phase, DRIVER_STOP);
	}
	for (unsigned i = 0; i < n; i++) {
		int e = driver_join(&d[i]);

		r = r ? r : e;
	}
	return r;
}

static json_t *result_of(const struct hist *h, uint64_t ops, double seconds, const struct options *o)
{
	return json_pack("{s:f, s:f, s:I, s:f, s:{s:I, s:I, s:I, s:I, s:I, s:I}}", "iops", (double)ops / seconds, "bytes",
			 (double)ops * o->load.bytes / seconds, "ops", (json_int_t)ops, "seconds", seconds, "latency_ns", "mean",
			 (json_int_t)(h->count ? h->sum / h->count : 0), "p50", (json_int_t)hist_quantile(h, 500), "p90",
			 (json_int_t)hist_quantile(h, 900), "p99", (json_int_t)hist_quantile(h, 990), "p999",
			 (json_int_t)hist_quantile(h, 999), "max", (json_int_t)h->max);
}

static void print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(j);
}

static void report(const struct options *o, const struct driver *d)
{
	uint64_t ops = 0, errors = 0, kicks = 0, calls = 0, began = UINT64_MAX, ended = 0;
	json_t *all, *queues = json_array();
	static struct hist latency;

	for (unsigned i = 0; i < o->front.queues; i++) {
		double seconds = (double)(d[i].ended_ns - d[i].began_ns) / 1e9;
		json_t *one = result_of(&d[i].latency, d[i].ops, seconds, o);

		json_object_set_new(one, "ioprio", json_integer(d[i].load.ioprio));
		json_array_append_new(queues, one);
		hist_merge(&latency, &d[i].latency);
		ops += d[i].ops;
		errors += d[i].errors;
		kicks += d[i].kicks;
		calls += d[i].calls;
		began = min_u64(began, d[i].began_ns);
		ended = max_u64(ended, d[i].ended_ns);
	}
	all = result_of(&latency, ops, (double)(ended - began) / 1e9, o);
	json_object_set_new(all, "errors", json_integer(o->hook ? 0 : (json_int_t)errors));
	json_object_set_new(all, "kicks", json_integer((json_int_t)kicks));
	json_object_set_new(all, "calls", json_integer((json_int_t)calls));
	json_object_set_new(all, "queues", queues);
	print_json(all);
}

/* Rings and memory of a driver whose device is driver_echo(). */
static int start_alone(struct frontend *f)
{
	f->features = 1ull << VIRTIO_F_VERSION_1;
	for (unsigned i = 0; i < f->config.queues; i++) {
		int r = frontend_queue_make(f, i);

		if (r)
			return r;
		((struct vring_used *)f->queue[i].ring.device)->flags = VRING_USED_F_NO_NOTIFY;
	}
	return 0;
}

static int span_of(struct options *o, struct frontend *f)
{
	uint64_t sectors = 0;
	int r = o->hook ? 0 : frontend_config_read(f, 0, &sectors, sizeof(sectors));

	if (r)
		return r;
	if (o->hook)
		sectors = 1 << 21;
	if (!o->load.span_bytes || o->load.span_bytes > sectors * 512)
		o->load.span_bytes = sectors * 512;
	return o->load.span_bytes < o->load.bytes ? -ENOSPC : 0;
}

/* A back-end and what drives it. */
struct side {
	struct frontend *front;
	struct driver *d; /* one a queue */
};

static int side_make(struct options *o, const char *path, struct side *s)
{
	struct driver *d = aligned_alloc(CACHE_LINE, o->front.queues * sizeof(*d));
	int r;

	s->d = d;
	if (!d)
		return -ENOMEM;
	memset(d, 0, o->front.queues * sizeof(*d));
	o->front.path = path;
	r = frontend_create(&o->front, &s->front);
	if (!r)
		r = o->hook ? start_alone(s->front) : frontend_attach(s->front);
	if (!r)
		r = span_of(o, s->front);
	for (unsigned i = 0; i < o->front.queues && !r; i++) {
		nth_ioprio(o->ioprio, i, &o->load.ioprio);
		d[i].cpu = o->n_cpus ? (int)o->cpu[i % o->n_cpus] : -1;
		d[i].phase = &phase;
		d[i].echo = o->hook ? driver_echo : NULL;
		d[i].waits_for_hint = o->crossed;
		d[i].looks_at = o->crossed ? &d[(i + 1) % o->front.queues] : NULL;
		r = driver_init(&d[i], s->front, i, &o->load);
	}
	return r;
}

static void side_free(const struct options *o, struct side *s)
{
	for (unsigned i = 0; s->d && i < o->front.queues; i++)
		driver_fini(&s->d[i]);
	frontend_destroy(s->front);
	free(s->d);
}

static int turn(const struct options *o, struct side *s, json_t *results)
{
	double iops = 0;
	int r;

	for (unsigned i = 0; i < o->front.queues; i++)
		s->d[i].ops = 0;
	r = run_drivers(o, s->d);
	for (unsigned i = 0; i < o->front.queues; i++)
		iops += (double)s->d[i].ops * 1e9 / (double)(s->d[i].ended_ns - s->d[i].began_ns);
	json_array_append_new(results, json_real(iops));
	return r;
}

static int take_turns(const struct options *o, struct side side[2])
{
	json_t *results[2] = { json_array(), json_array() };
	int r = 0;

	for (unsigned i = 0; i < 2 * o->turns && !r; i++) {
		unsigned which = (i + i / 2) % 2;

		r = turn(o, &side[which], results[which]);
	}
	print_json(json_pack("{s:o, s:o}", "iops", results[0], "against", results[1]));
	return r;
}

static int drive(struct options *o)
{
	struct side side[2] = { 0 };
	int r = side_make(o, o->front.path, &side[0]);

	if (!r && o->against)
		r = side_make(o, o->against, &side[1]);
	if (!r)
		r = o->against ? take_turns(o, side) : run_drivers(o, side[0].d);
	if (!r && !o->against)
		report(o, side[0].d);
	for (unsigned i = 0; i < 2; i++)
		side_free(o, &side[i]);
	return r;
}

/* The memory traffic of a read from a disk in memory, and nothing else: a random block into one of `depth` buffers. */
static int copy(struct options *o)
{
	size_t span = o->load.span_bytes ? o->load.span_bytes : 256u << 20, blocks = span / o->load.bytes;
	uint8_t *from = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *to = aligned_alloc(4096, (size_t)o->load.bytes * o->load.depth);
	uint64_t began, end, ops = 0, x = 88172645463325252u;
	struct hist none = { 0 };

	if (from == MAP_FAILED || !to || !blocks)
		return -ENOMEM;
	memset(from, 1, span);
	if (o->n_cpus)
		cpus_pin_self(o->cpu[0]);
	began = clock_now_ns();
	end = began + (uint64_t)(o->seconds * 1e9);
	do {
		for (unsigned i = 0; i < o->load.depth; i++, ops++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			memcpy(to + (size_t)i * o->load.bytes, from + (size_t)((unsigned __int128)x * blocks >> 64) * o->load.bytes,
			       o->load.bytes);
			__asm__ volatile("" ::: "memory");
		}
	} while (clock_now_ns() < end);
	print_json(result_of(&none, ops, (double)(clock_now_ns() - began) / 1e9, o));
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = { .options = table, .parser = parse, .doc = "Drives a vhost-user-blk back-end." };
	struct options o = {
		.front = { .queues = 1, .queue_size = 256, .inflight = true, .data_segs_max = 1 },
		.load = { .random = true, .bytes = 4096, .depth = 1 },
		.ioprio = "none",
		.seconds = 1,
		.warmup = 0.2,
		.turns = 100,
	};
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	if (o.memcpy)
		return copy(&o) < 0;
	o.front.data_bytes = (size_t)o.front.queues * o.load.depth * ((o.load.bytes + 4095) & ~4095u) + (1u << 20);
	o.load.interval_ns = o.rate > 0 ? (uint64_t)(1e9 / o.rate) : 0;
	r = drive(&o);
	if (r)
		fprintf(stderr, "fairlead-drive: %s: %s\n", o.front.path ? o.front.path : "alone", strerror(-r));
	return r != 0;
}
