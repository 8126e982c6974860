/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request scheduler of one pool: VM -> class -> flow, each with a promise {reservation, limit, shares, latency}.
 *
 * Pure: time comes in as `now` (ns, never going back), nothing is read from the machine, nothing is logged, no threads; one
 * owner calls everything (the pool's worker; tests and the simulator in virtual time). Only the add functions allocate.
 * doc/slo.md has the model, the bounds and their proof, and a worked example.
 *
 * How a device model's gate uses it:
 *
 *	slo_req_init(&r->slo, op, offset, bytes);
 *	if (slo_admit_fast(flow, &r->slo, now, &piece))     // nothing queued, window open, no limit near: no heap is touched
 *		submit(piece);
 *	else
 *		slo_enqueue(flow, &r->slo, now);
 *	while (slo_dispatch(sched, now, &piece))            // after enqueuing a batch, after completions, at slo_next_ns()
 *		submit(piece);
 *	...
 *	slo_complete(&piece, now, result);                  // once per piece; the request is done with its last piece
 *
 * Requests larger than `split` are given out in pieces of that size, each charged and scheduled alone, so that a 1 MiB write
 * does not hold up a 4 KiB read. The gate keeps the `struct slo_piece` until its completion.
 */
#pragma once

#include "base/hist.h"
#include "base/list.h"

/* In the order of enum store_op. */
enum slo_op { SLO_READ, SLO_WRITE, SLO_FLUSH, SLO_DISCARD, SLO_WRITE_ZEROES, SLO_OPS };

/* 0: not promised. */
struct slo_rate {
	uint64_t milli_iops;	/* thousandths of a request per second; a request above `split` counts as several */
	uint64_t bandwidth;	/* bytes per second, reads and writes */
};

#define SLO_SHARES_MIN 1u
#define SLO_SHARES_MAX 100000u
#define SLO_SHARES_DEFAULT 100u

struct slo_promise {
	uint32_t shares;	      /* 0: SLO_SHARES_DEFAULT */
	struct slo_rate reservation;  /* a VM's: 0 = the sum of its classes' */
	struct slo_rate limit;
	/*
	 * How much may go out at once under a limit, at least one piece; 0: one piece, and half of one or what the limit gives
	 * in 10 ms, whichever is more.
	 */
	uint64_t burst_milli_requests, burst_bytes;
	uint64_t p50_ns, p99_ns;      /* latency targets from arrival to completion; 0: none. Classes only. */
};

struct slo_sched;
struct slo_node; /* a VM, a class of a VM, or a flow */
struct slo_flow;

struct slo_sched_options {
	unsigned depth;		      /* pieces in flight that the device makes use of: the largest window; 0: 128 */
	uint64_t split_bytes;	      /* 0: 128 KiB; UINT64_MAX: never */
	unsigned anticipate_permille; /* share of the pool's time that may idle for a reservation; 0: none; default 50 */
	const struct slo_cost_model *cost; /* saved earlier; NULL: learn from nothing */
	bool cost_frozen;	      /* do not learn */
	bool part;		      /* one of several schedulers of the device */
};

#define SLO_SCHED_OPTIONS_DEFAULT ((struct slo_sched_options){ .depth = 128, .split_bytes = 128 << 10, .anticipate_permille = 50 })

/* --- tree --- */

/* 0, -EINVAL or -ENOMEM. `options` may be NULL. */
int slo_sched_create(const struct slo_sched_options *options, struct slo_sched **ret);
/* Everything held must have been drained or taken, nothing be in flight. NULL is allowed; frees the whole tree. */
void slo_sched_destroy(struct slo_sched *s);

/* `user` is the caller's, for finding its own object from a node (see slo_node_user). -EINVAL: bad promise. */
int slo_vm_add(struct slo_sched *s, const struct slo_promise *p, void *user, struct slo_node **ret);
int slo_class_add(struct slo_node *vm, const struct slo_promise *p, void *user, struct slo_node **ret);
int slo_flow_add(struct slo_node *class, void *user, struct slo_flow **ret);
/* -EBUSY: still has children, held requests or pieces in flight. A node is freed. */
int slo_vm_remove(struct slo_node *vm);
int slo_class_remove(struct slo_node *class);
int slo_flow_remove(struct slo_flow *f);

void *slo_node_user(const struct slo_node *n);
struct slo_node *slo_node_parent(const struct slo_node *n); /* NULL for a VM */
struct slo_node *slo_flow_node(struct slo_flow *f);
void *slo_flow_user(const struct slo_flow *f);
const struct slo_promise *slo_node_promise(const struct slo_node *n);

/* A new promise for a VM or a class, at once; what is in flight is untouched, what is held stays held. 0 or -EINVAL. */
int slo_update(struct slo_node *n, const struct slo_promise *p, uint64_t now);
/*
 * For a pool that several schedulers share: a class that has no credit left anywhere is held back until it has. What it queues
 * waits; its VM's flushes do not wait for it.
 */
void slo_class_hold(struct slo_node *class, bool hold);
/* Another largest window (a slice of a pool is given its part of the pool's depth). */
void slo_sched_set_depth(struct slo_sched *s, unsigned depth);

/* --- requests --- */

/* Embedded in the gate's request. Written by the scheduler only, after slo_req_init. */
struct slo_req {
	struct list node;	/* in its flow's queue while any of it is held */
	struct slo_flow *flow;
	uint64_t offset_bytes, bytes;
	uint64_t given_bytes;	/* has been given out in pieces */
	uint64_t arrival_ns;
	uint32_t pieces;	/* in flight */
	uint8_t op;
	bool whole;		/* set by the gate after init: never given out in pieces (charged all the same) */
};

/* What may go to the store now: `bytes` of the request, beginning `start_bytes` after the request's beginning. */
struct slo_piece {
	struct slo_req *req;
	struct slo_flow *flow;
	uint64_t start_bytes, bytes;
	uint64_t dispatch_ns;
	uint64_t cost;
	uint64_t wait_ns;	/* what others waited at the device when it went */
	uint32_t in_flight;	/* at dispatch, with this one */
	bool sequential;
	bool light;		/* internal: not accounted for alone */
	bool last;		/* nothing of the request is held any more */
};

static inline void slo_req_init(struct slo_req *r, enum slo_op op, uint64_t offset_bytes, uint64_t bytes)
{
	*r = (struct slo_req){ .op = (uint8_t)op, .offset_bytes = offset_bytes, .bytes = bytes };
	list_init(&r->node);
}

/*
 * True: `piece` (the whole request) may go to the store at once; it has been charged. False: nothing has changed, enqueue
 * it. Never reorders within a flow: it is false while anything of the pool is queued. A flush is different: it goes whatever is
 * queued or limited, charged to the flow's VM, unless that has had more than its share while others wait. Then it is enqueued,
 * before all that the VM's classes have queued.
 */
bool slo_admit_fast(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret);

/*
 * The way past all that, for batches. While nobody waits and no limit is near, all that has to be known of most requests is how
 * many there were (light.c). `room`: so many may go without being admitted one by one (reads and writes, none larger than
 * `split`), of which `kept` may not be done at once; 0: admit or enqueue the next one, which may open the way for more. It holds
 * until anything else is called for the scheduler. `passed`: books what went, and returns what it cost, for those who charge it
 * elsewhere too. What is not done at once is reported by `out`, and by `back` when it is done, with the time since which it was on
 * its way.
 */
struct slo_passed {
	unsigned n[2], instant; /* reads and writes; of both, done at once */
	uint64_t bytes[2];
	uint64_t end_bytes[2]; /* where on the disk the last of them ended */
};

struct slo_room {
	unsigned all, kept;
};

struct slo_room slo_flow_room(const struct slo_flow *f, uint64_t now);
uint64_t slo_flow_passed(struct slo_flow *f, const struct slo_passed *p, uint64_t now);
void slo_flow_out(struct slo_flow *f, uint64_t now);
void slo_flow_back(struct slo_flow *f, enum slo_op op, uint64_t bytes, uint64_t since_ns, uint64_t now);
uint64_t slo_split_bytes(const struct slo_sched *s);

void slo_enqueue(struct slo_flow *f, struct slo_req *r, uint64_t now);

/* Gives out the next piece; false: nothing may go now (window full, nothing held, limits, or a pause for a reservation). */
bool slo_dispatch(struct slo_sched *s, uint64_t now, struct slo_piece *ret);

/* When slo_dispatch may have something although nothing arrives or completes; UINT64_MAX: never. */
uint64_t slo_next_ns(const struct slo_sched *s);

/*
 * The store is done with a piece; result: 0 or -errno (an error teaches the cost model nothing). True: that was the last
 * piece of its request.
 */
bool slo_complete(const struct slo_piece *piece, uint64_t now, int result);
/* What a flush that is done owes for its time at the device (toll.c), which slo_complete() charges to shares; 0 for all other pieces. */
uint64_t slo_flush_owes(const struct slo_piece *piece, uint64_t now);

/* Goes at once, whatever is queued, limited or owed: a debt. Complete it like any piece. */
void slo_bypass(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret);

/*
 * For reset, GET_VRING_BASE and shutdown: gives out what the flow holds, past window and limits, charged as a debt that its
 * class and VM pay back. Call until false.
 */
bool slo_flow_drain(struct slo_flow *f, uint64_t now, struct slo_piece *ret);
/* For a queue that moves to another scheduler: moves all that is held, unchanged and uncharged, to the end of `out`. */
void slo_flow_take(struct slo_flow *f, uint64_t now, struct list *out);

unsigned slo_held(const struct slo_sched *s);	   /* requests queued in the pool */
unsigned slo_in_flight(const struct slo_sched *s); /* pieces */
unsigned slo_flow_held(const struct slo_flow *f);
unsigned slo_flow_in_flight(const struct slo_flow *f);
unsigned slo_window(const struct slo_sched *s);
unsigned slo_node_held(const struct slo_node *n); /* requests queued below a VM or class */
/* Of those of a class, as many small ones as its limits and its VM's will let go until then. */
unsigned slo_class_ready(const struct slo_node *class, uint64_t until_ns);

/* The guest's ring of this VM had no free descriptor left to show us more: demand may be hidden. Called when seen. */
void slo_vm_ring_full(struct slo_node *vm, uint64_t now);

/* --- cost model: what a piece costs the device, in ns of one channel's time --- */

#define SLO_COST_SIZES 24 /* powers of two from 512 B to 4 GiB */

struct slo_cost_cell {
	double bytes, ns;	/* running means of the pieces seen */
	uint64_t samples;
};

struct slo_cost_model {
	struct slo_cost_cell cell[SLO_OPS][2][SLO_COST_SIZES]; /* [op][sequential][size class] */
};

/* What is known beforehand: a request of that size takes `ns`, sequential or not. */
void slo_cost_know(struct slo_cost_model *m, enum slo_op op, uint64_t bytes, uint64_t ns);

/* The model as learned so far, for saving; and its text form: one line a cell. */
const struct slo_cost_model *slo_sched_cost(const struct slo_sched *s);
/* Returns the text's length (without 0), or -ENOSPC. */
int slo_cost_format(const struct slo_cost_model *m, char *buf, size_t size);
/* -EINVAL: not such a text; `ret` is then untouched. */
int slo_cost_parse(const char *text, struct slo_cost_model *ret);
/* What a request would cost, were it dispatched now (not sequential). */
uint64_t slo_sched_estimate(const struct slo_sched *s, enum slo_op op, uint64_t bytes);
/* Replaces what was learned. */
void slo_sched_set_cost(struct slo_sched *s, const struct slo_cost_model *m);
void slo_sched_freeze_cost(struct slo_sched *s, bool frozen);
