/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many pieces are in flight at the device. What has been dispatched cannot be overtaken, so a latency target (and the
 * reservation of a depth-1 reader) is kept by keeping the device's own queue short; throughput is kept by not starving it.
 *
 * The window is the pool's depth until a target is missed. Then it shrinks, in proportion when the device alone takes a
 * multiple of the target, never below the *floor*: what is known to be needed for 95 % of the throughput that the device
 * gives when well fed. When two epochs in a row give less than that (or more than was known), the cause is either the window
 * or another mix of requests, and a *probe* tells which: some epochs at this size and some at a quarter more. If throughput
 * grows, the window was the limit and the floor rises; else what "well fed" means is corrected. With a latency target and
 * nothing known, the window starts small and finds its size by the same probes, as a deep queue at the start would be missed
 * targets for as long as it takes to drain.
 *
 * Throughput is measured in cost units in epochs of some completions while the window is full; a piece counts with the part
 * of its time in flight that lies in the epoch, because whole pieces at an epoch's ends would be a tenth of what is measured.
 *
 * A miss of p99 weighs 99 hits (p50: one): the score drifts up exactly when more than 1 % miss, and it speaks after a handful
 * of requests, where a windowed percentile takes minutes at low rates. Called from dispatch.c on the owner's thread.
 */
#include "slo/internal.h"

#include <math.h>

#define WELL_FED 0.95
#define SURPRISE 1.1
#define EPOCH_MIN 128
#define PROBE_EPOCHS 3
#define GROWTH 1.06
#define START_SIZE 8
#define P99_MISS 99
#define P99_TRIGGER (2 * P99_MISS)
#define P99_BANK (-10 * P99_MISS)
#define P50_TRIGGER 8
#define P50_BANK (-16)
#define RESERVE_MISS 9
#define RESERVE_TRIGGER (8 * RESERVE_MISS)
/* The device's own queue at least doubles a piece's time. */
#define QUEUED 2
#define RESERVE_BANK (-10 * RESERVE_MISS)
#define SHRINK_MOST 32
#define FORGET_NS (2 * NSEC_PER_SEC)
#define DOUBT_NS (30 * NSEC_PER_SEC)

void slo_window_init(struct slo_window *w, unsigned depth)
{
	*w = (struct slo_window){ .depth = depth, .size = depth, .floor = 1 };
}

static void epoch_stop(struct slo_window *w)
{
	w->running = w->ending = w->broken = false;
	w->pending = 0;
}

void slo_window_begin(struct slo_window *w)
{
	epoch_stop(w);
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
	w->target = EPOCH_MIN > w->size ? EPOCH_MIN : w->size;
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
	w->epochs = w->odd_epochs = 0;
	w->probe_sum = 0;
	w->probe_epochs = 0;
	w->probe = SLO_PROBE_NONE;
	w->peak = 0;
	w->settling = true;
	w->at_floor_ns = 0;
	epoch_stop(w);
}

void slo_window_set_depth(struct slo_window *w, unsigned depth, uint64_t now)
{
	bool whole = w->size == w->depth;

	w->depth = depth;
	if (w->floor > depth)
		w->floor = depth;
	/* What is known about the device stays. */
	if (whole || w->size > depth)
		resize(w, depth, now);
}

static void probe_begin(struct slo_window *w)
{
	w->probe = SLO_PROBE_BASE;
	w->probe_from = w->size;
}

/* The base has been measured: try more. */
static void probe_more(struct slo_window *w, double base, uint64_t now)
{
	unsigned more = w->size + w->size / 4 + (w->size < 4);

	resize(w, more < w->depth ? more : w->depth, now);
	w->probe = SLO_PROBE_MORE;
	w->probe_base = base;
}

/* Throughput grew with the window: it was the limit. */
static void probe_limited(struct slo_window *w, double throughput, uint64_t now)
{
	/* It grows at most in proportion. */
	double need = w->probe_from * w->reference * WELL_FED / w->probe_base;

	w->probe = SLO_PROBE_NONE;
	w->floor = w->size;
	w->floor_ns = now;
	if (throughput < w->reference * WELL_FED && need > w->size) {
		w->floor = need < w->depth ? (unsigned)need : w->depth;
		resize(w, w->floor, now);
		return;
	}
	if (throughput > w->reference)
		w->reference = throughput;
	if (w->size < w->depth)
		probe_begin(w);
}

static void probe_end(struct slo_window *w, double throughput, uint64_t now)
{
	if (throughput > w->probe_base * GROWTH) {
		probe_limited(w, throughput, now);
		return;
	}
	w->reference = (throughput + w->probe_base) / 2;
	resize(w, w->probe_from, now);
}

/* A whole epoch with the window full. */
static void judge(struct slo_window *w, double throughput, uint64_t now)
{
	bool odd = throughput < w->reference * WELL_FED || throughput > w->reference * SURPRISE;

	w->epochs++;
	if (w->probe != SLO_PROBE_NONE) {
		w->probe_sum += throughput;
		if (++w->probe_epochs < PROBE_EPOCHS)
			return;
		throughput = w->probe_sum / PROBE_EPOCHS;
		w->probe_sum = 0;
		w->probe_epochs = 0;
		if (w->probe == SLO_PROBE_BASE && w->size < w->depth)
			probe_more(w, throughput, now);
		else
			probe_end(w, throughput, now);
	} else if (w->size == w->depth) {
		w->reference = w->reference > 0 ? w->reference + (throughput - w->reference) / 4 : throughput;
	} else {
		w->odd_epochs = odd ? w->odd_epochs + 1 : 0;
		if (w->odd_epochs >= 2)
			probe_begin(w);
	}
}

static void epoch_finish(struct slo_window *w, uint64_t now)
{
	double throughput = w->cost / (double)max_u64(w->end_ns - w->start_ns, 1);
	bool full = !w->broken;

	epoch_stop(w);
	if (full)
		judge(w, throughput, now);
	else
		w->epochs++;
}

/* `n` more are back and `others` are not yet: the epoch ends when there were enough. */
static void epoch_completed(struct slo_window *w, unsigned n, unsigned others, uint64_t now)
{
	w->completions += n;
	if (w->completions < w->target)
		return;
	w->ending = true;
	w->end_ns = now;
	w->pending = others;
	if (!others)
		epoch_finish(w, now);
}

/* Adds what of the piece's time in flight lies in the epoch; ends it when all that was in flight at its end is back. */
static void epoch_count(struct slo_sched *s, const struct slo_piece *p, uint64_t now)
{
	struct slo_window *w = &s->window;
	uint64_t from = max_u64(p->dispatch_ns, w->start_ns), to = w->ending ? min_u64(now, w->end_ns) : now;

	if (!w->running || p->dispatch_ns > to)
		return;
	if (to > from)
		w->cost += (double)p->cost * (double)(to - from) / (double)(now - p->dispatch_ns);
	if (!w->ending)
		epoch_completed(w, 1, s->root.in_flight - 1, now);
	else if (--w->pending == 0)
		epoch_finish(w, now);
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
	/* Not before it is known that this size is enough, but at once from a full depth that is much too deep. */
	if (w->probe != SLO_PROBE_NONE || w->odd_epochs)
		return;
	if ((w->size < w->depth || ratio < 2) && (!w->epochs || w->reference == 0))
		return;
	if (ratio > 1)
		size = (unsigned)(w->size / (ratio < SHRINK_MOST ? ratio : SHRINK_MOST));
	if (w->peak && w->peak < w->size && size < w->peak)
		size = w->peak;
	if (size >= w->size)
		size = w->size - 1;
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

	if (!w->latency_ns)
		w->latency_ns = now;
	if (w->size < w->depth && now - w->latency_ns > FORGET_NS) {
		w->remembered = w->size;
		resize(w, w->depth, now);
		return;
	}
	epoch_start(w, now, false);
}

/* A latency target or a reservation is at work. */
static void active(struct slo_window *w, uint64_t now)
{
	w->latency_ns = now;
	if (!w->remembered)
		return;
	if (w->remembered < w->size)
		resize(w, w->remembered, now);
	w->remembered = 0;
}

void slo_window_target_added(struct slo_sched *s)
{
	struct slo_window *w = &s->window;

	if (w->reference == 0 && !w->shrinks && w->size > START_SIZE)
		resize(w, START_SIZE, s->now_ns);
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

/* A hit: is all well? */
static void relax(struct slo_window *w, struct slo_class_state *c)
{
	if (c->score_p99 <= P99_BANK / 2 && c->score_p50 <= 0) {
		w->at_floor_ns = 0;
		c->late_ratio = 0;
	}
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
	active(w, now);
	if (!fresh)
		return;
	if (latency > target)
		c->late_ratio += ((double)device / (double)target - c->late_ratio) / 4;
	if (p->p99_ns)
		trouble |= score(&c->score_p99, latency > p->p99_ns, P99_MISS, P99_BANK, P99_TRIGGER);
	if (p->p50_ns)
		trouble |= score(&c->score_p50, latency > p->p50_ns, 1, P50_BANK, P50_TRIGGER);
	if (trouble)
		shrink(w, c->late_ratio, now);
	else if (latency <= target)
		relax(w, c);
}

/*
 * A reader with all it has in flight, and its reservation overdue: is it the device's queue that keeps it so long? One that
 * is not overdue gets enough, however long its requests take.
 */
static void judge_reservation(struct slo_sched *s, struct slo_node *class, const struct slo_piece *p, uint64_t device,
			      uint64_t now)
{
	double period = class->due.ns_per_unit[SLO_IOPS] * 1000;
	bool overdue = (double)class->due.tag_ns[SLO_IOPS] + period < (double)now;
	double queued = (double)device / (double)p->cost;
	bool slow = (double)device > period * class->in_flight && p->in_flight > class->in_flight && queued > QUEUED;

	if (period == 0 || class->held)
		return;
	active(&s->window, now);
	if (score(&class->class->score_reserve, overdue && slow, RESERVE_MISS, RESERVE_BANK, RESERVE_TRIGGER))
		shrink(&s->window, fmin((double)device / (period * class->in_flight), queued), now);
}

static void settle(struct slo_sched *s, uint64_t now)
{
	struct slo_window *w = &s->window;

	if (w->settling && s->root.in_flight <= w->size) {
		w->settling = false;
		w->settled_ns = now;
	}
}

void slo_window_completed(struct slo_sched *s, const struct slo_piece *p, uint64_t arrival_ns, bool last, uint64_t now)
{
	struct slo_node *class = p->flow->node.parent;
	struct slo_window *w = &s->window;
	uint64_t device = now - p->dispatch_ns;
	bool fresh;

	epoch_count(s, p, now);
	settle(s, now);
	/* What was dispatched into a longer queue says nothing about this size. */
	fresh = !w->settling && w->probe != SLO_PROBE_MORE && p->dispatch_ns >= w->settled_ns;
	if (last && (class->promise.p99_ns || class->promise.p50_ns))
		judge_latency(s, class, now - arrival_ns, device, fresh, now);
	if (fresh && class->due.any)
		judge_reservation(s, class, p, device, now);
}

static void hits(int64_t *sum, unsigned n, int64_t bank)
{
	*sum = *sum - n > bank ? *sum - n : bank;
}

void slo_window_instant(struct slo_sched *s, struct slo_node *class, unsigned n, uint64_t now)
{
	struct slo_class_state *c = class->class;
	struct slo_window *w = &s->window;
	bool target = class->promise.p99_ns || class->promise.p50_ns;

	if (w->running && !w->ending)
		epoch_completed(w, n, s->root.in_flight, now);
	settle(s, now);
	if (!target && class->due.ns_per_unit[SLO_IOPS] == 0)
		return;
	active(w, now);
	if (target)
		slo_meter_bucket(&class->meter, now)->completed += n;
	if (w->settling || w->probe == SLO_PROBE_MORE)
		return;
	if (class->promise.p99_ns)
		hits(&c->score_p99, n, P99_BANK);
	if (class->promise.p50_ns)
		hits(&c->score_p50, n, P50_BANK);
	if (class->due.ns_per_unit[SLO_IOPS] != 0)
		hits(&c->score_reserve, n, RESERVE_BANK);
	if (target)
		relax(w, c);
}
