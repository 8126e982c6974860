/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the scheduler's files share. See sched.h for the interface and doc/slo.md for the model.
 *
 *	node.c		the tree: adding, removing, changing promises
 *	heap.h		indexed heaps
 *	tags.c		who is in which heap, and what a dispatch does to the tags
 *	dispatch.c	who is next
 *	light.c		what goes while nobody waits
 *	bucket.h	limits
 *	window.c	how much is in flight
 *	anticipate.c	pauses for depth-1 readers with a reservation
 *	cost.c		what a piece costs;   toll.c	what a flush pays afterwards
 *	stats.c		what was attained;   verdict.c	what that says about the promise
 */
#pragma once

#include "slo/bucket.h"
#include "slo/heap.h"
#include "slo/report.h"
#include "slo/sched.h"

#include "base/clock.h"

/* Two quantities are promised, each with its own unit: thousandths of a request, and bytes. */
enum slo_dimension { SLO_IOPS, SLO_BANDWIDTH, SLO_DIMENSIONS };

struct slo_amount {
	uint64_t units[SLO_DIMENSIONS];
	bool flush; /* of its VM's limit, not of the class's with which it happens to come */
};

enum slo_kind { SLO_ROOT, SLO_VM, SLO_CLASS, SLO_FLOW };

/* Fixed point of share tags: cost (ns) << 16 / shares. */
#define SLO_TAG_ONE 65536.0
/* Tags are moved back to zero when they pass this; see slo_tags_rebase. */
#define SLO_TAG_MAX (UINT64_C(1) << 62)
/* How far a reservation's tag may stay behind: what was missed longer ago is not made up for. */
#define SLO_LATE_MAX_NS (100 * NSEC_PER_MSEC)
#define SLO_LATE_MAX_PERIODS 4

/* A reservation: the time at which the next unit is due, per dimension. */
struct slo_due {
	double ns_per_unit[SLO_DIMENSIONS]; /* 0: not promised */
	uint64_t tag_ns[SLO_DIMENSIONS];
	bool any;
};

#define SLO_RING 64 /* one-second buckets; 60 whole ones and the current one are used */

/* One second of one node. */
struct slo_bucket_counts {
	uint64_t second;
	uint64_t requests, bytes, cost;
	uint64_t completed, missed_p50, missed_p99;
	uint64_t busy_ns, held_ns, throttled_ns;
	uint32_t ring_full;
};

struct slo_meter {
	struct slo_bucket_counts ring[SLO_RING];
	uint64_t since_ns;     /* when the node was added, as far as it is known: its first event */
	uint64_t state_ns;     /* up to when the times below have been booked */
	uint8_t state;	       /* SLO_STATE_* that hold since then */
	bool seen;
};

enum { SLO_STATE_BUSY = 1, SLO_STATE_HELD = 2, SLO_STATE_THROTTLED = 4 };

/* Classes only. */
struct slo_class_state {
	struct hist queue_time, device_time;
	/* window.c: hits and misses of the latency target, and of a reservation that the device's own queue keeps from it. */
	int64_t score_p99, score_p50, score_reserve;
	double late_ratio;	/* mean of (device time / target) over recent misses */
	/* anticipate.c */
	double think_ns;	/* mean time from completion to the next arrival; 0: not known */
	uint64_t skip_until_ns; /* not waited for before, after pauses in vain */
	unsigned in_vain;
};

struct slo_node {
	enum slo_kind kind;
	struct slo_sched *sched;
	struct slo_node *parent;
	struct list siblings, children;
	unsigned children_n;
	void *user;
	struct slo_promise promise;

	/* Share tags: start tag of this node, and the virtual time of its children. */
	double tag_per_cost;
	uint64_t start_tag, vtime;
	/* Children that could go now (have work, are under their limits); those with a reservation, by when it is due. */
	struct slo_heap by_share, by_due;
	struct slo_heap_link in_share, in_due;	  /* in the parent's */
	struct slo_heap_link in_timer, in_expect; /* in the scheduler's: throttled until; awaited */
	uint64_t due_debt;			  /* cost given by reservation since shares had their part */

	struct slo_due due;
	struct slo_limit limit[SLO_DIMENSIONS];
	bool limited, throttled, held_back;
	bool rated;  /* has a limit or a reservation */
	bool target; /* has a reservation or a latency target: counted in the scheduler's `targets` */

	unsigned held, in_flight; /* of the subtree: requests, pieces */
	uint64_t idle_ns;	  /* since when neither */
	struct slo_meter meter;
	struct slo_class_state *class; /* classes only */
	struct list flushes;	       /* VMs only: requests that wait for the VM's turn, before all of its classes */
};

struct slo_flow {
	struct slo_node node;
	struct list queue;
	uint64_t next_offset[SLO_OPS]; /* where a sequential request would begin */
	/* light.c: requests that may yet go lightly before one is accounted for in full, until when; what went since. */
	unsigned light_left;
	uint64_t light_until_ns;
	struct {
		uint64_t requests, bytes, cost;
	} light;
};

/* base + per_byte * bytes, per size class: what cost.c made of the learned cells. */
struct slo_cost_line {
	double base, per_byte;
};

struct slo_cost {
	struct slo_cost_model model;
	struct slo_cost_line line[SLO_OPS][2][SLO_COST_SIZES];
	bool frozen;
	unsigned skipped;
};

enum slo_probe {
	SLO_PROBE_NONE,
	SLO_PROBE_BASE, /* measuring the size in question */
	SLO_PROBE_MORE, /* measuring a larger one */
};

struct slo_window {
	unsigned depth, size, floor;
	unsigned peak;		  /* most in flight since the last change */
	double reference;	  /* throughput (cost per ns) that the device gives when fed well; 0: not known */
	enum slo_probe probe;
	unsigned probe_from, probe_epochs; /* the size in question; epochs measured of this phase */
	double probe_base, probe_sum;	   /* what it gives; the sum over this phase's epochs */
	unsigned remembered;	  /* the size before the targets fell silent; 0: none */
	/* The epoch being measured. */
	bool running, broken, ending;
	unsigned target, completions, epochs; /* epochs measured at this size */
	unsigned odd_epochs;	  /* in a row that do not fit the reference */
	unsigned pending;	  /* in flight at the epoch's end and not yet back */
	uint64_t start_ns, end_ns;
	double cost;
	/* After a change nothing is judged until what was in flight then is gone. */
	bool settling;
	uint64_t settled_ns;
	uint64_t floor_ns;	  /* when the floor was last confirmed */
	uint64_t latency_ns;	  /* last completion with a target, of any class */
	uint64_t at_floor_ns;	  /* since when size == floor and a target is missed; 0: not */
	uint64_t shrinks, grows;
};

struct slo_anticipation {
	unsigned permille;
	uint64_t budget_ns, budget_at_ns; /* pool time that may idle, as of */
	struct slo_node *node;		  /* waited for; NULL: no pause */
	uint64_t since_ns, until_ns;
	double service_ns;		  /* mean device time of recent pieces */
	uint64_t idled_ns, pauses, lost;
};

/* toll.c */
struct slo_toll {
	bool part;	    /* not the device's only scheduler: what it takes is taken from others' too */
	bool starved;	    /* in this stretch: the device could have taken more */
	unsigned flushes;   /* at the device */
	unsigned pieces, ended; /* back in this stretch: all; flushes */
	uint64_t since_ns;  /* its begin */
	double given, flush_ns, flush_weight; /* in it: cost of what was not a flush; of the flushes, the two below */
	double free_rate;   /* cost per ns that the device gives without flushes; 0: not known */
	/* Of flushes: what they took; what their time at the device says; what their parts are parts of; their stretches' time. */
	double taken, clock_ns, weights, span_ns;
};

struct slo_sched {
	struct slo_node root;
	struct slo_toll toll;
	struct slo_heap timers; /* throttled nodes by when they may go on */
	struct slo_heap expect; /* idle classes with a reservation, by when it is due */
	unsigned nodes;		/* VMs and classes: room in the two heaps above */
	unsigned targets;	/* nodes with a reservation or a latency target; without, window and pauses are idle */
	uint64_t split_bytes;
	uint64_t now_ns;	/* last seen */
	struct slo_window window;
	struct slo_anticipation anticipation;
	struct slo_cost cost;
	double wait_ns;		/* dispatch.c: mean time at the device beyond what a piece costs: its own queue */
	uint64_t fast, dispatched, due, steps;
};

static inline struct slo_flow *slo_flow_of(struct slo_node *n)
{
	return container_of(n, struct slo_flow, node);
}

/* node.c */
bool slo_promise_valid(const struct slo_promise *p);
/* Effective reservations of a VM's classes: never more together than the VM's own. */
void slo_node_reservations(struct slo_node *vm, uint64_t now);

/* tags.c */
/* Discards and zeroes touch ranges, not data: their pieces may be so many times larger. */
#define SLO_RANGE_PIECES 64

static inline uint64_t slo_piece_max(const struct slo_sched *s, enum slo_op op)
{
	if (op == SLO_READ || op == SLO_WRITE || s->split_bytes > UINT64_MAX / SLO_RANGE_PIECES)
		return s->split_bytes;
	return s->split_bytes * SLO_RANGE_PIECES;
}

static inline struct slo_amount slo_amount_of(const struct slo_sched *s, enum slo_op op, uint64_t bytes)
{
	uint64_t max = slo_piece_max(s, op);
	struct slo_amount a = { { 1000, op == SLO_READ || op == SLO_WRITE ? bytes : 0 }, op == SLO_FLUSH };

	if (bytes > max)
		a.units[SLO_IOPS] = (bytes + max - 1) / max * 1000;
	return a;
}

/* When the node itself is due; when it or one of its children is. */
uint64_t slo_due_own_ns(const struct slo_node *n);
uint64_t slo_due_ns(const struct slo_node *n);
void slo_due_rekey(struct slo_node *n);
/* Before anything of a node that is idle comes in. */
void slo_node_wake(struct slo_node *n, uint64_t now);
bool slo_node_has_work(const struct slo_node *n);
void slo_node_activate(struct slo_node *n);
void slo_node_deactivate(struct slo_node *n);
void slo_node_throttle(struct slo_node *n, uint64_t until_ns, uint64_t now);
void slo_node_unthrottle(struct slo_node *n, uint64_t now);
void slo_held_add(struct slo_flow *f, uint64_t now);
void slo_held_remove(struct slo_flow *f, uint64_t now);
void slo_flight_add(struct slo_flow *f, uint64_t now);
void slo_flight_remove(struct slo_flow *f, uint64_t now);
/* A piece goes out: share, reservation and limit tags of flow, class and VM. */
void slo_charge(struct slo_flow *f, const struct slo_amount *a, uint64_t cost, bool vm_due, bool class_due, uint64_t now);
void slo_charge_share(struct slo_node *n, uint64_t cost);
/* All of it, however far ahead that puts the node. */
void slo_owe_share(struct slo_node *n, uint64_t cost);
/* Reservation and limit tags alone: of a piece, and of `n` pieces that went at one time, by shares. */
void slo_charge_rates(struct slo_flow *f, const struct slo_amount *a, bool vm_due, bool class_due, uint64_t now);
void slo_charge_rates_many(struct slo_flow *f, const struct slo_amount *a, unsigned n, uint64_t now);
void slo_tags_rebase(struct slo_node *parent);

/* toll.c */
/* A flush goes to the device. */
void slo_toll_out(struct slo_sched *s, uint64_t now);
/* A piece is back. */
void slo_toll_back(struct slo_sched *s, const struct slo_piece *p, uint64_t now);

/* light.c */
/* One has been accounted for in full: others may follow lightly. */
void slo_light_begin(struct slo_flow *f, uint64_t now);
void slo_light_go(struct slo_flow *f, struct slo_req *r, uint64_t now, struct slo_piece *ret);
void slo_light_return(const struct slo_piece *p, uint64_t now);
/* Books what went lightly. */
void slo_flow_settle(struct slo_flow *f, uint64_t now);

/* window.c */
void slo_window_init(struct slo_window *w, unsigned depth);
/* From now on completions are told. */
void slo_window_begin(struct slo_window *w);
void slo_window_set_depth(struct slo_window *w, unsigned depth, uint64_t now);
void slo_window_target_added(struct slo_sched *s);
void slo_window_dispatched(struct slo_sched *s);
/* The device could take more and nothing may go: what is measured now is demand, not the device. */
void slo_window_starved(struct slo_sched *s);
void slo_window_full(struct slo_sched *s, uint64_t now);
/* `arrival_ns`: of its request, which is done with its last piece. */
void slo_window_completed(struct slo_sched *s, const struct slo_piece *p, uint64_t arrival_ns, bool last, uint64_t now);
/* `n` requests that were done at once. */
void slo_window_instant(struct slo_sched *s, struct slo_node *class, unsigned n, uint64_t now);

/* anticipate.c */
/* Something that is not due is about to go. True: wait instead. */
bool slo_anticipate(struct slo_sched *s, uint64_t now);
void slo_anticipate_idle(struct slo_node *class, uint64_t now);
void slo_anticipate_served(struct slo_sched *s, uint64_t device_ns);
void slo_anticipate_wake(struct slo_node *class, uint64_t now);
void slo_anticipate_stop(struct slo_sched *s, uint64_t now, bool came);
/* Ends a pause whose time is over. */
void slo_anticipate_expire(struct slo_sched *s, uint64_t now);
void slo_anticipate_forget(struct slo_node *class);

/* cost.c */
void slo_cost_init(struct slo_cost *c, const struct slo_cost_model *saved, bool frozen);
#define SLO_COST_NS_MIN 100.0
#define SLO_COST_NS_MAX 1e11

static inline unsigned slo_cost_size_class(uint64_t bytes)
{
	unsigned c = bytes < 1024 ? 0 : 63u - (unsigned)__builtin_clzll(bytes) - 9;

	return c < SLO_COST_SIZES ? c : SLO_COST_SIZES - 1;
}

static inline uint64_t slo_cost_of(const struct slo_cost *c, enum slo_op op, bool sequential, uint64_t bytes)
{
	const struct slo_cost_line *l = &c->line[op][sequential][slo_cost_size_class(bytes)];
	double ns = l->base + l->per_byte * (double)bytes;

	return ns > SLO_COST_NS_MIN ? (uint64_t)(ns < SLO_COST_NS_MAX ? ns : SLO_COST_NS_MAX) : (uint64_t)SLO_COST_NS_MIN;
}

void slo_cost_learn(struct slo_cost *c, enum slo_op op, bool sequential, uint64_t bytes, uint64_t ns);

/* stats.c */
static inline struct slo_bucket_counts *slo_meter_bucket(struct slo_meter *m, uint64_t now)
{
	uint64_t second = now / NSEC_PER_SEC;
	struct slo_bucket_counts *b = &m->ring[second % SLO_RING];

	if (b->second == second && m->seen)
		return b;
	if (!m->seen) {
		m->seen = true;
		m->since_ns = now;
	}
	if (b->second != second)
		*b = (struct slo_bucket_counts){ .second = second };
	return b;
}

void slo_meter_state(struct slo_meter *m, uint8_t state, uint64_t now);
/* Adds the buckets of `from` to `into`, for a node that goes. */
void slo_meter_fold(struct slo_meter *into, const struct slo_meter *from);
void slo_node_attained(struct slo_node *n, unsigned seconds, uint64_t now, struct slo_attained *ret);
uint64_t slo_node_ring_full(const struct slo_node *n, unsigned seconds, uint64_t now);
