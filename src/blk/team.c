/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elastic placement. Control thread.
 *
 * A move costs a drain of what the queue has at the store, so it must pay: the source has been above BUSY for PATIENCE
 * intervals, the target is below ROOM, and the queue that moves is one whose load fits there without making the target the
 * next busy one. With one busy queue on a worker nothing can be gained by moving it.
 */
#include "blk/team.h"

#include "blk/disk.h"

#include <errno.h>
#include <string.h>

#define BUSY 0.80
#define ROOM 0.50
#define PATIENCE 3u

int blk_team_init(struct blk_team *t, struct worker *const worker[], unsigned n)
{
	if (n == 0 || n > BLK_TEAM_MAX)
		return -EINVAL;
	memset(t, 0, sizeof(*t));
	t->n = t->shared = n;
	list_init(&t->disks);
	for (unsigned i = 0; i < n; i++)
		t->member[i].worker = worker[i];
	/* Without it, placement goes by load alone. */
	if (n > 1 && topology_create(NULL, &t->topology) < 0)
		t->topology = NULL;
	return 0;
}

void blk_team_fini(struct blk_team *t)
{
	topology_destroy(t->topology);
	t->topology = NULL;
}

static void measure(struct blk_team *t, uint64_t now_ns)
{
	uint64_t interval = now_ns - t->last_ns;

	for (unsigned i = 0; i < t->n; i++) {
		struct blk_team_member *m = &t->member[i];
		uint64_t busy_ns = load_relaxed(&worker_counters(m->worker)->busy_ns);

		m->busy = interval ? (double)(busy_ns - m->last_busy_ns) / (double)interval : 0;
		m->last_busy_ns = busy_ns;
		m->busy_for = m->busy > BUSY ? m->busy_for + 1 : 0;
	}
	t->last_ns = now_ns;
}

/* How many distinct members serve the disk. */
static unsigned spread_of(const struct blk_disk *d)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->team->n; i++) {
		for (unsigned q = 0; q < d->queues_max; q++) {
			if (d->slot[q] && d->slot[q]->running && d->slot[q]->worker == d->team->member[i].worker) {
				n++;
				break;
			}
		}
	}
	return n;
}

struct candidate {
	struct blk_disk *disk;
	unsigned queue;
	uint64_t load_ns;
};

/*
 * Of the queues on `from`, the busiest but one: moving the busiest would only move the problem. Disks with a fixed number of
 * workers keep their places.
 */
static bool pick_queue(struct blk_team *t, unsigned from, struct candidate *ret)
{
	struct candidate first = { 0 }, second = { 0 };
	unsigned busy = 0;
	struct blk_disk *d;

	list_for_each(d, &t->disks, node) {
		for (unsigned i = 0; i < d->queues_max; i++) {
			struct blk_slot *s = d->slot[i];
			struct candidate c = { d, i, 0 };

			if (!s || !s->running || s->worker != t->member[from].worker)
				continue;
			c.load_ns = load_relaxed(&s->queue.source.busy_ns) - s->seen_busy_ns;
			if (c.load_ns == 0)
				continue;
			busy++;
			if (c.load_ns > first.load_ns) {
				second = first;
				first = c;
			} else if (c.load_ns > second.load_ns) {
				second = c;
			}
		}
	}
	if (busy < 2)
		return false;
	*ret = second;
	return second.disk->workers_wanted == 0 && second.disk->own == 0 && spread_of(second.disk) < t->shared;
}

static void remember_loads(struct blk_team *t)
{
	struct blk_disk *d;

	list_for_each(d, &t->disks, node)
		for (unsigned i = 0; i < d->queues_max; i++)
			if (d->slot[i])
				d->slot[i]->seen_busy_ns = load_relaxed(&d->slot[i]->queue.source.busy_ns);
}

static bool rebalance(struct blk_team *t)
{
	unsigned from = 0, to = 0;
	struct candidate c;

	for (unsigned i = 1; i < t->shared; i++) {
		if (t->member[i].busy_for > t->member[from].busy_for)
			from = i;
		if (t->member[i].busy < t->member[to].busy)
			to = i;
	}
	if (t->member[from].busy_for < PATIENCE || t->member[to].busy > ROOM || from == to)
		return false;
	if (!pick_queue(t, from, &c))
		return false;
	t->member[from].busy_for = 0;
	return blk_disk_move_queue(c.disk, c.queue, to) == 0;
}

bool blk_team_balance(struct blk_team *t, uint64_t now_ns)
{
	bool moved;

	measure(t, now_ns);
	moved = rebalance(t);
	remember_loads(t);
	return moved;
}
