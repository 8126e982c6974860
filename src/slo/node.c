/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tree: adding and removing nodes, and changing what they are promised. The only file that allocates: heaps get their
 * room here, so that scheduling never does. On the owner's thread, between dispatches.
 */
#include "slo/internal.h"

#include <errno.h>

/* Beyond these, times per unit or tags would lose their meaning. */
#define RATE_MAX (UINT64_C(1) << 50)
#define DEPTH_MAX 65536u
#define SMALL_BYTES 4096u

bool slo_promise_valid(const struct slo_promise *p)
{
	const uint64_t rate[] = { p->reservation.milli_iops, p->reservation.bandwidth, p->limit.milli_iops,
				  p->limit.bandwidth, p->burst_milli_requests, p->burst_bytes };

	for (size_t i = 0; i < ARRAY_SIZE(rate); i++)
		if (rate[i] > RATE_MAX)
			return false;
	return p->shares <= SLO_SHARES_MAX;
}

static double ns_per_unit(uint64_t rate)
{
	return rate ? (double)NSEC_PER_SEC / (double)rate : 0;
}

/* What has gone above the old limit is owed at the new one. */
static void limit_set(struct slo_limit *l, uint64_t rate, uint64_t burst, uint64_t now)
{
	double old = l->ns_per_unit;

	l->ns_per_unit = ns_per_unit(rate);
	l->burst_ns = (uint64_t)((double)burst * l->ns_per_unit);
	if (old == 0 || l->tag_ns <= now)
		l->tag_ns = 0;
	else
		l->tag_ns = now + (uint64_t)((double)(l->tag_ns - now) / old * l->ns_per_unit);
}

static void due_set(struct slo_due *d, enum slo_dimension i, double rate, uint64_t now)
{
	uint64_t unit = i == SLO_IOPS ? 1000 : 4096;

	if (d->ns_per_unit[i] == 0)
		d->tag_ns[i] = now;
	d->ns_per_unit[i] = rate >= 1 ? (double)NSEC_PER_SEC / rate : 0;
	d->tag_ns[i] = min_u64(d->tag_ns[i], now + (uint64_t)((double)unit * d->ns_per_unit[i]));
	d->any = d->ns_per_unit[SLO_IOPS] != 0 || d->ns_per_unit[SLO_BANDWIDTH] != 0;
}

/* Keeps count of those that window and pauses work for. */
static void node_rate(struct slo_node *n)
{
	bool target = n->due.any || n->promise.p50_ns || n->promise.p99_ns;

	n->rated = n->limited || n->due.any;
	if (target && !n->sched->targets)
		slo_window_begin(&n->sched->window);
	if (target != n->target)
		n->sched->targets += target ? 1 : -1u;
	n->target = target;
}

static uint64_t reserved(const struct slo_node *n, enum slo_dimension i)
{
	const struct slo_rate *r = &n->promise.reservation;

	return i == SLO_IOPS ? r->milli_iops : r->bandwidth;
}

void slo_node_reservations(struct slo_node *vm, uint64_t now)
{
	struct slo_node *n;

	for (unsigned i = 0; i < SLO_DIMENSIONS; i++) {
		double sum = 0, own = (double)reserved(vm, i), scale = 1;

		list_for_each(n, &vm->children, siblings)
			sum += (double)reserved(n, i);
		if (own > 0 && sum > own)
			scale = own / sum;
		list_for_each(n, &vm->children, siblings)
			due_set(&n->due, i, (double)reserved(n, i) * scale, now);
		due_set(&vm->due, i, own, now);
	}
	list_for_each(n, &vm->children, siblings) {
		if (!n->due.any)
			slo_anticipate_forget(n);
		node_rate(n);
		slo_due_rekey(n);
	}
	node_rate(vm);
	slo_due_rekey(vm);
}

static void promise_set(struct slo_node *n, const struct slo_promise *p, uint64_t now)
{
	double old = n->tag_per_cost;
	uint64_t virtual_now = n->parent->vtime;

	n->promise = *p;
	if (!n->promise.shares)
		n->promise.shares = SLO_SHARES_DEFAULT;
	n->tag_per_cost = SLO_TAG_ONE / n->promise.shares;
	/* How far it is ahead, in device time, stays. */
	if (old != 0 && n->start_tag > virtual_now)
		n->start_tag = virtual_now +
			       (uint64_t)((double)(n->start_tag - virtual_now) / old * n->tag_per_cost);
	if (slo_heap_has(&n->in_share))
		slo_heap_set(&n->parent->by_share, &n->in_share, n->start_tag);
	limit_set(&n->limit[SLO_IOPS], p->limit.milli_iops, p->burst_milli_requests, now);
	limit_set(&n->limit[SLO_BANDWIDTH], p->limit.bandwidth, p->burst_bytes, now);
	n->limited = p->limit.milli_iops || p->limit.bandwidth;
	/* If the new limit forbids the next piece too, it is found again. */
	slo_node_unthrottle(n, now);
	slo_node_reservations(n->kind == SLO_VM ? n : n->parent, now);
	if (p->p50_ns || p->p99_ns)
		slo_window_target_added(n->sched);
}

static void node_init(struct slo_node *n, struct slo_sched *s, struct slo_node *parent, enum slo_kind kind, void *user)
{
	n->kind = kind;
	n->sched = s;
	n->parent = parent;
	n->user = user;
	n->by_share.steps = n->by_due.steps = &s->steps;
	n->tag_per_cost = SLO_TAG_ONE / SLO_SHARES_DEFAULT;
	list_init(&n->siblings);
	list_init(&n->children);
	list_init(&n->flushes);
}

static int node_link(struct slo_node *n, struct slo_node *parent)
{
	struct slo_sched *s = n->sched;
	unsigned nodes = s->nodes + (n->kind != SLO_FLOW);
	int r = slo_heap_reserve(&parent->by_share, parent->children_n + 1);

	if (!r && n->kind != SLO_FLOW)
		r = slo_heap_reserve(&parent->by_due, parent->children_n + 1);
	if (!r)
		r = slo_heap_reserve(&s->timers, nodes);
	if (!r)
		r = slo_heap_reserve(&s->expect, nodes);
	if (r < 0)
		return r;
	s->nodes = nodes;
	parent->children_n++;
	list_append(&parent->children, &n->siblings);
	return 0;
}

static void node_free(struct slo_node *n)
{
	slo_heap_fini(&n->by_share);
	slo_heap_fini(&n->by_due);
	free(n->class);
	if (n->kind == SLO_FLOW)
		free(slo_flow_of(n));
	else
		free(n);
}

static int node_add(struct slo_sched *s, struct slo_node *parent, enum slo_kind kind, const struct slo_promise *p,
		    void *user, struct slo_node **ret)
{
	struct slo_node *n;
	int r;

	if (!slo_promise_valid(p))
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	node_init(n, s, parent, kind, user);
	if (kind == SLO_CLASS && !(n->class = calloc(1, sizeof(*n->class))))
		r = -ENOMEM;
	else
		r = node_link(n, parent);
	if (r < 0) {
		node_free(n);
		return r;
	}
	promise_set(n, p, s->now_ns);
	*ret = n;
	return 0;
}

int slo_vm_add(struct slo_sched *s, const struct slo_promise *p, void *user, struct slo_node **ret)
{
	return node_add(s, &s->root, SLO_VM, p, user, ret);
}

int slo_class_add(struct slo_node *vm, const struct slo_promise *p, void *user, struct slo_node **ret)
{
	if (vm->kind != SLO_VM)
		return -EINVAL;
	return node_add(vm->sched, vm, SLO_CLASS, p, user, ret);
}

int slo_flow_add(struct slo_node *class, void *user, struct slo_flow **ret)
{
	struct slo_flow *f;
	int r;

	if (class->kind != SLO_CLASS)
		return -EINVAL;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	node_init(&f->node, class->sched, class, SLO_FLOW, user);
	list_init(&f->queue);
	r = node_link(&f->node, class);
	if (r < 0) {
		node_free(&f->node);
		return r;
	}
	*ret = f;
	return 0;
}

static int node_remove(struct slo_node *n)
{
	struct slo_node *p = n->parent;

	if (n->held || n->in_flight || n->children_n)
		return -EBUSY;
	if (n->kind == SLO_CLASS)
		slo_anticipate_forget(n);
	slo_node_unthrottle(n, n->sched->now_ns);
	list_remove(&n->siblings);
	p->children_n--;
	if (n->kind != SLO_FLOW)
		n->sched->nodes--;
	n->sched->targets -= n->target;
	if (n->kind == SLO_FLOW)
		slo_flow_settle(slo_flow_of(n), n->sched->now_ns);
	slo_meter_fold(&p->meter, &n->meter);
	if (n->kind == SLO_CLASS)
		slo_node_reservations(p, n->sched->now_ns);
	node_free(n);
	return 0;
}

int slo_vm_remove(struct slo_node *vm)
{
	return node_remove(vm);
}

int slo_class_remove(struct slo_node *class)
{
	return node_remove(class);
}

int slo_flow_remove(struct slo_flow *f)
{
	return node_remove(&f->node);
}

int slo_update(struct slo_node *n, const struct slo_promise *p, uint64_t now)
{
	if (!slo_promise_valid(p) || (n->kind != SLO_VM && n->kind != SLO_CLASS))
		return -EINVAL;
	n->sched->now_ns = now;
	promise_set(n, p, now);
	return 0;
}

int slo_sched_create(const struct slo_sched_options *options, struct slo_sched **ret)
{
	struct slo_sched_options o = options ? *options : SLO_SCHED_OPTIONS_DEFAULT;
	struct slo_sched *s;

	if (o.depth > DEPTH_MAX || o.anticipate_permille > 1000 || (o.split_bytes && o.split_bytes < 512))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	node_init(&s->root, s, NULL, SLO_ROOT, NULL);
	s->timers.steps = s->expect.steps = &s->steps;
	s->split_bytes = o.split_bytes ? o.split_bytes : 128 << 10;
	s->anticipation.permille = o.anticipate_permille;
	s->toll.part = o.part;
	slo_window_init(&s->window, o.depth ? o.depth : 128);
	slo_cost_init(&s->cost, o.cost, o.cost_frozen);
	*ret = s;
	return 0;
}

static void tree_free(struct slo_node *n)
{
	struct slo_node *c, *tmp;

	list_for_each_safe(c, tmp, &n->children, siblings)
		tree_free(c);
	if (n->parent)
		node_free(n);
}

void slo_sched_destroy(struct slo_sched *s)
{
	if (!s)
		return;
	assert(!s->root.held && !s->root.in_flight);
	tree_free(&s->root);
	slo_heap_fini(&s->root.by_share);
	slo_heap_fini(&s->root.by_due);
	slo_heap_fini(&s->timers);
	slo_heap_fini(&s->expect);
	free(s);
}

void slo_sched_set_depth(struct slo_sched *s, unsigned depth)
{
	if (depth && depth <= DEPTH_MAX && depth != s->window.depth)
		slo_window_set_depth(&s->window, depth, s->now_ns);
}

const struct slo_cost_model *slo_sched_cost(const struct slo_sched *s)
{
	return &s->cost.model;
}

uint64_t slo_sched_estimate(const struct slo_sched *s, enum slo_op op, uint64_t bytes)
{
	return slo_cost_of(&s->cost, op, false, bytes);
}

unsigned slo_node_held(const struct slo_node *n)
{
	return n->held;
}

static uint64_t limits_room(const struct slo_node *n, uint64_t until_ns)
{
	return min_u64(slo_limit_room(&n->limit[SLO_IOPS], 1000, 1000, until_ns),
		       slo_limit_room(&n->limit[SLO_BANDWIDTH], SMALL_BYTES, SMALL_BYTES, until_ns));
}

unsigned slo_class_ready(const struct slo_node *class, uint64_t until_ns)
{
	return (unsigned)min_u64(class->held, min_u64(limits_room(class, until_ns), limits_room(class->parent, until_ns)));
}

void slo_sched_set_cost(struct slo_sched *s, const struct slo_cost_model *m)
{
	slo_cost_init(&s->cost, m, s->cost.frozen);
}

void slo_sched_freeze_cost(struct slo_sched *s, bool frozen)
{
	s->cost.frozen = frozen;
}

void *slo_node_user(const struct slo_node *n)
{
	return n->user;
}

struct slo_node *slo_node_parent(const struct slo_node *n)
{
	return n->parent && n->parent->kind != SLO_ROOT ? n->parent : NULL;
}

struct slo_node *slo_flow_node(struct slo_flow *f)
{
	return &f->node;
}

void *slo_flow_user(const struct slo_flow *f)
{
	return f->node.user;
}

const struct slo_promise *slo_node_promise(const struct slo_node *n)
{
	return &n->promise;
}
