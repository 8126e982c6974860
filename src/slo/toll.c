/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a flush pays when it is done. What it costs depends on what it has to write, so it cannot be known when it goes, and a
 * wrong price would let it take what others were promised. So it pays for the time that it was at the device beyond its price,
 * less what others waited there when it went (afterwards they also wait for itself).
 *
 * That is time by the clock; all else is priced by the cost model (cost.c). As long as the model says what a channel's time is,
 * the two are the same. Where it does not (nothing was learned yet, the device is another one than it was learned from), they
 * are two currencies: with costs of a tenth of the truth, a VM that flushes would pay tenfold. Nor does the clock know whether
 * a flush was served or waited for other flushes. So what flushes take is measured as well: it is what others lose by them. That
 * is what the device gives while no flush is there (`free_rate`, costs per ns, of stretches of some pieces), for the time that
 * flushes were there, less what it gave in that time. It is measured while the device has all that it can take, else what is
 * missing is demand; and each flush pays its part of it.
 *
 * On a device that does many things at once, one flush takes little of what is given, and less than that is known of it. So the
 * clock is believed unless what is missing differs from what it says by a tenth of all that the device gives.
 *
 * Called from dispatch.c and light.c on the owner's thread.
 */
#include "slo/internal.h"

#include <math.h>

/* A stretch without flushes that counts. Shorter ones than between two flushes' ends tell nothing. */
#define FREE_PIECES 64
/* One with flushes ends with the last of them, or where there is always one, after so many. */
#define FLUSHES_MOST 32
/* From so much time of flushes, about; less than the least tells nothing. */
#define KNOWN_LEAST_NS (50.0 * NSEC_PER_MSEC)
#define KNOWN_MOST_NS (2.0 * NSEC_PER_SEC)
#define DOUBT 0.1
#define RATE_MOST 1000.0

/*
 * What one flush owes at most. A device that stands still for a minute (a remote one that is away) does so for everybody, and who
 * had a flush there must not be shut out for that minute, and for as many as his share is smaller than others', when it is back.
 */
#define OWES_MAX_NS (2 * NSEC_PER_SEC)

static void stretch_begin(struct slo_sched *s, uint64_t now)
{
	struct slo_toll *t = &s->toll;

	t->since_ns = now;
	t->given = t->flush_ns = t->flush_weight = 0;
	t->pieces = t->ended = 0;
	t->starved = !s->root.held;
}

/* By the clock. */
static double clock_ns(const struct slo_piece *p, uint64_t now)
{
	uint64_t took = now - p->dispatch_ns;

	return took > p->wait_ns ? (double)(took - p->wait_ns) : 0;
}

/* Its part of what all flushes took. Others may have waited for flushes, so what they waited is not all to be left out. */
static double weight(const struct slo_piece *p, uint64_t now)
{
	return fmax(clock_ns(p, now), (double)(now - p->dispatch_ns) / 8);
}

static bool refuted(const struct slo_toll *t)
{
	return t->weights >= KNOWN_LEAST_NS && fabs(t->taken - t->clock_ns) > DOUBT * t->free_rate * t->span_ns;
}

uint64_t slo_flush_owes(const struct slo_piece *p, uint64_t now)
{
	const struct slo_toll *t = &p->flow->node.sched->toll;
	double due = clock_ns(p, now);

	if (p->req->op != SLO_FLUSH)
		return 0;
	if (!t->part && refuted(t))
		due = weight(p, now) * fmin(fmax(t->taken / t->weights, 0), RATE_MOST);
	else if (!t->part && t->free_rate > 0) /* no more than all that the device gives, whatever it does */
		due *= fmin(t->free_rate, 1);
	return due > (double)p->cost ? min_u64((uint64_t)due - p->cost, OWES_MAX_NS) : 0;
}

void slo_toll_out(struct slo_sched *s, uint64_t now)
{
	if (s->toll.flushes++ == 0)
		stretch_begin(s, now);
}

/* A stretch without flushes. */
static void learn_free(struct slo_toll *t, uint64_t now)
{
	double is = t->given / (double)max_u64(now - t->since_ns, 1);

	if (!t->starved)
		t->free_rate = t->free_rate > 0 ? t->free_rate + (is - t->free_rate) / 8 : is;
}

/* One with flushes. */
static void learn_taken(struct slo_toll *t, uint64_t now)
{
	double span = (double)(now - t->since_ns);

	if (t->starved || t->free_rate <= 0)
		return;
	t->span_ns += span;
	t->taken += t->free_rate * span - t->given;
	t->clock_ns += t->flush_ns;
	t->weights += t->flush_weight;
	for (; t->weights > KNOWN_MOST_NS; t->weights /= 2) {
		t->span_ns /= 2;
		t->clock_ns /= 2;
		t->taken /= 2;
	}
}

void slo_toll_back(struct slo_sched *s, const struct slo_piece *p, uint64_t now)
{
	struct slo_toll *t = &s->toll;
	bool flush = p->req->op == SLO_FLUSH;

	t->starved |= !s->root.held;
	t->pieces++;
	if (flush) {
		t->flushes--;
		t->flush_ns += clock_ns(p, now);
		t->flush_weight += weight(p, now);
		t->ended++;
	} else {
		t->given += (double)p->cost;
	}
	/* Those that came together have to end together: what is missing is of them all. */
	if (flush && (!t->flushes || t->ended >= FLUSHES_MOST))
		learn_taken(t, now);
	else if (!t->flushes && t->pieces >= FREE_PIECES)
		learn_free(t, now);
	else
		return;
	stretch_begin(s, now);
}
