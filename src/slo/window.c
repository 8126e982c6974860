/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many pieces are in flight at the device. What has been dispatched cannot be overtaken, so a latency target (and the
 * reservation of a depth-1 reader) is kept by keeping the device's own queue short; throughput is kept by not starving it.
 *
 * The window is the pool's depth until a target is missed. Then it shrinks, in proportion when the device alone takes a
 * multiple of the target, never below the *floor*: what is known to be needed for 95 % of the *reference* throughput, which
 * is measured at the full depth before the first shrink. Throughput is measured in epochs of some completions, in cost units,
 * while the window is full. Two low epochs in a row raise the floor and the window; a floor is doubted after half a minute.
 *
 * A miss of p99 weighs 99 hits (p50: one): the score drifts up exactly when more than 1 % miss, and it speaks after a handful
 * of requests, where a windowed percentile takes minutes at low rates. Called from dispatch.c on the owner's thread.
 */
#include "slo/internal.h"

#define WELL_FED 0.95
#define AS_GOOD 0.98
#define SURPRISE 1.1
#define EPOCH_MIN 64
#define P99_MISS 99
#define P99_TRIGGER (2 * P99_MISS)
#define P99_BANK (-10 * P99_MISS)
#define P50_TRIGGER 8
#define P50_BANK (-16)
#define RESERVE_MISS 9
#define RESERVE_TRIGGER (2 * RESERVE_MISS)
#define RESERVE_BANK (-10 * RESERVE_MISS)
#define SHRINK_MOST 32
#define FORGET_NS (2 * NSEC_PER_SEC)
#define DOUBT_NS (30 * NSEC_PER_SEC)
#define GROW_WAIT_MIN_NS NSEC_PER_SEC
#define GROW_WAIT_MAX_NS (64 * NSEC_PER_SEC)

void slo_window_init(struct slo_window *w, unsigned depth)
{
	*w = (struct slo_window){ .depth = depth, .size = depth, .floor = 1, .grow_wait_ns = GROW_WAIT_MIN_NS };
}

static void epoch_stop(struct slo_window *w)
{
	w->running = w->ending = w->broken = false;
}

static void epoch_start(struct slo_window *w, uint64_t now, bool broken)
{
	if (w->running || w->settling)
		return;
	w->running = true;
	w->ending = false;
	w->broken = broken;
	w->completions = 0;
	w->cost = 0;
	w->start_ns = now;
	w->target = EPOCH_MIN > 4 * w->size ? EPOCH_MIN : 4 * w->size;
}

static void resize(struct slo_window *w, unsigned size, uint64_t now)
{
	if (size == w->size)
		return;
	if (size < w->size)
		w->shrinks++;
	else
		w->grows++;
	w->size = size;
	w->epochs = w->low_epochs = 0;
	w->peak = 0;
	w->changed_ns = now;
	w->settling = true;
	w->at_floor_ns = 0;
	epoch_stop(w);
}

/* The window needs more than this to feed the device. */
static void raise_floor(struct slo_window *w, double throughput, uint64_t now)
{
	unsigned more = throughput < w->reference / 2 ? w->size * 2 : w->size + 1;

	w->floor = more < w->depth ? more : w->depth;
	w->floor_ns = now;
	resize(w, w->floor, now);
}

static void remeasure(struct slo_window *w, uint64_t now)
{
	w->reference = 0;
	w->floor = 1;
	resize(w, w->depth, now);
}

/* A whole epoch with the window full. */
static void judge(struct slo_window *w, double throughput, uint64_t now)
{
	w->epochs++;
	if (throughput > w->reference * SURPRISE && w->size < w->depth) {
		remeasure(w, now);
		return;
	}
	if (throughput >= w->reference * AS_GOOD && w->size < w->reference_size)
		w->reference_size = w->size;
	if (w->size >= w->reference_size || throughput > w->reference)
		w->reference += (throughput - w->reference) / 8;
	if (throughput >= w->reference * WELL_FED || w->size >= w->reference_size) {
		w->low_epochs = 0;
		if (throughput < w->reference * AS_GOOD && w->size < w->depth && now - w->changed_ns > w->grow_wait_ns)
			resize(w, w->size + 1 + w->size / 8 < w->depth ? w->size + 1 + w->size / 8 : w->depth, now);
		return;
	}
	if (++w->low_epochs >= 2)
		raise_floor(w, throughput, now);
}

static void epoch_finish(struct slo_window *w, uint64_t now)
{
	double throughput = (double)w->cost / (double)max_u64(w->end_ns - w->start_ns, 1);
	bool full = !w->broken;

	epoch_stop(w);
	if (w->reference == 0 && w->size == w->depth) {
		/* What the load gets without us is what has to be kept, whether or not it fills the depth. */
		w->reference = throughput;
		w->reference_size = w->depth;
		w->epochs++;
	} else if (w->reference == 0 && full) {
		remeasure(w, now);
	} else if (full) {
		judge(w, throughput, now);
	} else {
		w->epochs++;
		if (throughput > w->reference && w->size == w->depth)
			w->reference = throughput;
	}
}

static void shrink(struct slo_window *w, double ratio, uint64_t now)
{
	unsigned size = w->size - 1 - w->size / 16;

	if (w->size <= w->floor) {
		if (!w->at_floor_ns)
			w->at_floor_ns = max_u64(now, 1);
		if (w->floor > 1 && now - w->floor_ns > DOUBT_NS) {
			w->floor--;
			w->floor_ns = now;
		}
		return;
	}
	/* Not before it is known what this size gives. */
	if (!w->epochs || w->reference == 0)
		return;
	if (ratio > 1)
		size = (unsigned)(w->size / (ratio < SHRINK_MOST ? ratio : SHRINK_MOST));
	if (w->peak && w->peak < w->size && size < w->peak)
		size = w->peak;
	if (size >= w->size)
		size = w->size - 1;
	if (w->grows)
		w->grow_wait_ns = min_u64(w->grow_wait_ns * 2, GROW_WAIT_MAX_NS);
	resize(w, size > w->floor ? size : w->floor, now);
}

void slo_window_dispatched(struct slo_sched *s)
{
	if (s->root.in_flight > s->window.peak)
		s->window.peak = s->root.in_flight;
}

void slo_window_starved(struct slo_sched *s)
{
	struct slo_window *w = &s->window;

	if (w->running)
		w->broken = true;
	else
		epoch_start(w, s->now_ns, true);
}

void slo_window_full(struct slo_sched *s, uint64_t now)
{
	struct slo_window *w = &s->window;

	if (w->size < w->depth && now - w->latency_ns > FORGET_NS) {
		resize(w, w->depth, now);
		return;
	}
	epoch_start(w, now, false);
}

/* True when the score says "too many misses"; it then starts afresh. */
static bool score(int64_t *sum, bool miss, int64_t weight, int64_t bank, int64_t trigger)
{
	*sum += miss ? weight : -1;
	if (*sum < bank)
		*sum = bank;
	if (*sum < trigger)
		return false;
	*sum = 0;
	return true;
}

static void judge_latency(struct slo_sched *s, struct slo_node *class, uint64_t latency, uint64_t device, bool fresh,
			  uint64_t now)
{
	const struct slo_promise *p = &class->promise;
	struct slo_class_state *c = class->class;
	struct slo_bucket_counts *b = slo_meter_bucket(&class->meter, now);
	struct slo_window *w = &s->window;
	uint64_t target = p->p99_ns ? p->p99_ns : p->p50_ns;
	bool trouble = false;

	b->completed++;
	b->missed_p99 += p->p99_ns && latency > p->p99_ns;
	b->missed_p50 += p->p50_ns && latency > p->p50_ns;
	c->active_ns = w->latency_ns = now;
	if (!fresh)
		return;
	if (latency > target)
		c->late_ratio += ((double)device / (double)target - c->late_ratio) / 4;
	if (p->p99_ns)
		trouble |= score(&c->score_p99, latency > p->p99_ns, P99_MISS, P99_BANK, P99_TRIGGER);
	if (p->p50_ns)
		trouble |= score(&c->score_p50, latency > p->p50_ns, 1, P50_BANK, P50_TRIGGER);
	if (trouble) {
		shrink(w, c->late_ratio, now);
	} else if (c->score_p99 <= P99_BANK / 2 && c->score_p50 <= 0 && latency <= target) {
		w->at_floor_ns = 0;
		c->late_ratio = 0;
	}
}

/* A reader with all it has in flight: does the device return it soon enough for its reservation? */
static void judge_reservation(struct slo_sched *s, struct slo_node *class, const struct slo_piece *p, uint64_t device,
			      uint64_t now)
{
	double period = class->due.ns_per_unit[SLO_IOPS] * 1000 * class->in_flight;
	bool miss = (double)device > period && p->in_flight > class->in_flight;

	if (period == 0 || class->held)
		return;
	s->window.latency_ns = now;
	if (score(&class->class->score_reserve, miss, RESERVE_MISS, RESERVE_BANK, RESERVE_TRIGGER))
		shrink(&s->window, (double)device / period, now);
}

void slo_window_completed(struct slo_sched *s, const struct slo_piece *p, bool last, uint64_t now)
{
	struct slo_node *class = p->flow->node.parent;
	struct slo_window *w = &s->window;
	uint64_t device = now - p->dispatch_ns;
	bool fresh;

	if (w->running && w->ending && now > w->end_ns)
		epoch_finish(w, now);
	if (w->settling && s->root.in_flight <= w->size) {
		w->settling = false;
		w->settled_ns = now;
	}
	if (w->running) {
		w->cost += p->cost;
		if (++w->completions >= w->target) {
			w->ending = true;
			w->end_ns = now;
		}
	}
	/* What was dispatched into a longer queue says nothing about this size. */
	fresh = !w->settling && p->dispatch_ns >= w->settled_ns;
	if (last && (class->promise.p99_ns || class->promise.p50_ns))
		judge_latency(s, class, now - p->req->arrival_ns, device, fresh, now);
	if (fresh && class->due.any)
		judge_reservation(s, class, p, device, now);
}
