/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dividing limits and the window among slices, by demand: pieces granted since the last time and requests held now. Two
 * rounds of messages from the control thread: gather, then deal. All slices hear of VMs in the same order, so the n-th VM of
 * one is the n-th of all.
 *
 * In a VM with a limit the ledger does not divide what there is: the device has room, it is the limit that leaves no more. So
 * there a slice's part is what its classes are due of the limit, reservations first and the rest by shares, each class where it
 * asks; and in the slice a class has the same part of its reservation and of its shares. Then gold on one worker and bronze on
 * another have what they would have on one.
 */
#include "blk/slices.h"
#include "blk/team.h"
#include "ledger/fill.h"

#include <errno.h>
#include <string.h>

/*
 * A foot in the door for slices that ask for nothing, all together: one that wakes has a little of a limit until the next
 * time. Those that ask get their exact parts of the rest, else ratios between classes on several slices would be off.
 */
#define FEET 0.02

/* Demand of each class of a VM, [BLK_CLASSES_MAX] for the VM itself. */
struct demand {
	uint32_t of[BLK_CLASSES_MAX + 1];
	uint32_t granted[BLK_CLASSES_MAX];
};

struct blk_balance {
	unsigned n_cores, n_vms;
	uint64_t granted[BLK_TEAM_MAX], granted_sum; /* pieces of each slice since the last time */
	struct demand demand[]; /* core * n_vms + vm */
};

int blk_balance_create(struct blk_gate *g, struct blk_balance **ret)
{
	unsigned n = blk_slices_vms(g->slices);
	struct blk_balance *b;

	b = calloc(1, sizeof(*b) + (size_t)n * g->n_cores * sizeof(b->demand[0]));
	if (!b)
		return -ENOMEM;
	b->n_cores = g->n_cores;
	b->n_vms = n;
	*ret = b;
	return 0;
}

void blk_balance_destroy(struct blk_balance *b)
{
	free(b);
}

static struct demand *demand_at(const struct blk_balance *b, unsigned core, unsigned vm)
{
	return (struct demand *)(uintptr_t)&b->demand[(size_t)core * b->n_vms + vm];
}

void blk_balance_gather(struct blk_balance *b, struct blk_core *core)
{
	struct blk_core_vm *vm;
	unsigned v = 0;

	list_for_each(vm, &core->vms, node) {
		struct demand *d;

		if (v == b->n_vms)
			break;
		d = demand_at(b, core->index, v++);
		for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
			struct blk_core_class *k = &vm->class[c];

			if (!k->node)
				continue;
			d->of[c] = (uint32_t)min_u64(k->granted + slo_node_held(k->node), UINT32_MAX / 64);
			d->of[BLK_CLASSES_MAX] += d->of[c];
			d->granted[c] = (uint32_t)min_u64(k->granted, UINT32_MAX / 64);
			b->granted[core->index] += k->granted;
			k->granted = 0;
		}
	}
	b->granted_sum += b->granted[core->index];
}

/* What a slice gets that is due `part` of what is asked for of a VM's class, or of the VM. */
static double with_feet(const struct blk_balance *b, unsigned core, unsigned vm, unsigned c, double part)
{
	unsigned idle = 0;

	for (unsigned i = 0; i < b->n_cores; i++)
		idle += !demand_at(b, i, vm)->of[c];
	if (idle == b->n_cores)
		return 1.0 / b->n_cores;
	if (!demand_at(b, core, vm)->of[c])
		return FEET / b->n_cores;
	return (1 - FEET * idle / b->n_cores) * part;
}

/* This slice's part of what all slices ask for. */
static double part_of(const struct blk_balance *b, unsigned core, unsigned vm, unsigned c)
{
	double sum = 0;

	for (unsigned i = 0; i < b->n_cores; i++)
		sum += demand_at(b, i, vm)->of[c];
	return with_feet(b, core, vm, c, sum > 0 ? demand_at(b, core, vm)->of[c] / sum : 0);
}

/* --- a VM with a limit --- */

/* Of a limit, in whole parts: what its classes are due of it. */
#define WHOLE (UINT64_C(1) << 30)

static double shares_of(const struct slo_promise *p)
{
	return p->shares ? p->shares : SLO_SHARES_DEFAULT;
}

static bool is_limited(const struct slo_promise *p)
{
	return p->limit.milli_iops || p->limit.bandwidth;
}

static double rate_of(uint64_t reservation, uint64_t limit)
{
	return limit ? (double)reservation / (double)limit : 0;
}

/* What a class has reserved of its VM's limit, where both are of the same kind. */
static double reserved_of(const struct slo_promise *class, const struct slo_promise *vm)
{
	double iops = rate_of(class->reservation.milli_iops, vm->limit.milli_iops),
	       bandwidth = rate_of(class->reservation.bandwidth, vm->limit.bandwidth);
	double part = iops > bandwidth ? iops : bandwidth;

	return part < 1 ? part : 1;
}

static void sum_demand(const struct blk_balance *b, unsigned v, unsigned c, uint64_t *ret_granted, uint64_t *ret_asked)
{
	*ret_granted = *ret_asked = 0;
	for (unsigned i = 0; i < b->n_cores; i++) {
		*ret_granted += demand_at(b, i, v)->granted[c];
		*ret_asked += demand_at(b, i, v)->of[c];
	}
}

/* What each class is due of the limit: at most what it asks for, a quarter more than it had if nothing of it waits. */
static uint64_t fill_classes(const struct blk_balance *b, const struct blk_core_vm *vm, unsigned v,
			     struct ledger_fill_item item[BLK_CLASSES_MAX])
{
	uint64_t granted[BLK_CLASSES_MAX], asked[BLK_CLASSES_MAX], all = 0, sum = 0;

	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		sum_demand(b, v, c, &granted[c], &asked[c]);
		all += granted[c];
	}
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		const struct slo_promise *p = &vm->class[c].whole;
		double cap = asked[c] > granted[c] ? 1 : all ? 1.25 * (double)asked[c] / (double)all : 0;
		double floor = vm->class[c].node ? reserved_of(p, &vm->whole) : 0;

		item[c].cap = vm->class[c].node ? (uint64_t)((double)WHOLE * (cap < 1 ? cap : 1)) : 0;
		item[c].floor = min_u64((uint64_t)((double)WHOLE * floor), item[c].cap);
		item[c].weight = (uint64_t)shares_of(p);
	}
	ledger_fill(WHOLE, item, BLK_CLASSES_MAX, 0);
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		sum += item[c].got;
	return sum;
}

static double part_of_limited(const struct blk_balance *b, unsigned core, const struct blk_core_vm *vm, unsigned v)
{
	struct ledger_fill_item item[BLK_CLASSES_MAX] = { 0 };
	uint64_t sum = fill_classes(b, vm, v, item);
	double part = 0;

	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		uint64_t granted, asked;

		sum_demand(b, v, c, &granted, &asked);
		if (asked)
			part += (double)item[c].got * demand_at(b, core, v)->of[c] / (double)asked;
	}
	return with_feet(b, core, v, BLK_CLASSES_MAX, sum ? part / (double)sum : 0);
}

static bool close_to(uint64_t a, uint64_t b)
{
	return a > b ? a - b <= b / 256 : b - a <= a / 256;
}

/* Of a limit; 0 would be none at all. */
static uint64_t rate_part(uint64_t whole, double part)
{
	return whole ? max_u64((uint64_t)((double)whole * part), 1) : 0;
}

static bool rate_close(const struct slo_rate *a, const struct slo_rate *b)
{
	return close_to(a->milli_iops, b->milli_iops) && close_to(a->bandwidth, b->bandwidth);
}

static struct slo_rate rate_parts(const struct slo_rate *whole, double part)
{
	return (struct slo_rate){ rate_part(whole->milli_iops, part), rate_part(whole->bandwidth, part) };
}

static void deal_one(struct blk_core *core, struct slo_node *n, const struct slo_promise *to)
{
	const struct slo_promise *has = slo_node_promise(n);

	if (rate_close(&has->limit, &to->limit) && rate_close(&has->reservation, &to->reservation) &&
	    close_to(has->shares, to->shares))
		return;
	slo_update(n, to, worker_now_ns(core->owner));
}

static struct slo_promise limit_part(const struct slo_node *n, const struct slo_promise *whole, double part)
{
	struct slo_promise p = *slo_node_promise(n);

	p.limit = rate_parts(&whole->limit, part);
	p.burst_milli_requests = (uint64_t)((double)whole->burst_milli_requests * part);
	p.burst_bytes = (uint64_t)((double)whole->burst_bytes * part);
	return p;
}

/* Shares as large as can be: a fiftieth of the smallest is still a number. */
static double shares_scale(const struct blk_core_vm *vm)
{
	double most = 1;

	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		if (vm->class[c].node && shares_of(&vm->class[c].whole) > most)
			most = shares_of(&vm->class[c].whole);
	return SLO_SHARES_MAX / most;
}

static void deal_class(const struct blk_balance *b, struct blk_core *core, const struct blk_core_vm *vm, unsigned v, unsigned c,
		       double scale)
{
	const struct blk_core_class *k = &vm->class[c];
	double part = part_of(b, core->index, v, c);
	struct slo_promise p = limit_part(k->node, &k->whole, part);

	if (is_limited(&vm->whole)) {
		p.reservation = rate_parts(&k->whole.reservation, part);
		p.shares = (uint32_t)max_u64((uint64_t)(shares_of(&k->whole) * scale * part), 1);
	}
	deal_one(core, k->node, &p);
}

static void deal_vm(const struct blk_balance *b, struct blk_core *core, const struct blk_core_vm *vm, unsigned v)
{
	bool limited = is_limited(&vm->whole);
	double scale = shares_scale(vm);
	struct slo_promise p;

	if (limited) {
		p = limit_part(vm->slo, &vm->whole, part_of_limited(b, core->index, vm, v));
		deal_one(core, vm->slo, &p);
	}
	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++)
		if (vm->class[c].node && (limited || is_limited(&vm->class[c].whole)))
			deal_class(b, core, vm, v, c, scale);
}

static uint64_t demand_of(const struct blk_balance *b, unsigned vm, unsigned c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < b->n_cores; i++)
		sum += demand_at(b, i, vm)->of[c];
	return sum;
}

/* This slice's part of what a VM's classes are entitled to, of those that ask for anything, each where it asks. */
static double entitled_in_vm(const struct blk_balance *b, unsigned core, const struct blk_core_vm *vm, unsigned v)
{
	double mine = 0, all = 0;

	for (unsigned c = 0; c < BLK_CLASSES_MAX; c++) {
		double shares = vm->class[c].node ? shares_of(&vm->class[c].whole) : 0;
		uint64_t demand = demand_of(b, v, c);

		if (!demand || shares == 0)
			continue;
		all += shares;
		mine += shares * (double)demand_at(b, core, v)->of[c] / (double)demand;
	}
	return all > 0 ? mine / all : 0;
}

static double entitled(const struct blk_balance *b, struct blk_core *core)
{
	double mine = 0, all = 0;
	struct blk_core_vm *vm;
	unsigned v = 0;

	list_for_each(vm, &core->vms, node) {
		if (v == b->n_vms)
			break;
		if (demand_of(b, v, BLK_CLASSES_MAX)) {
			all += shares_of(&vm->whole);
			mine += shares_of(&vm->whole) * entitled_in_vm(b, core->index, vm, v);
		}
		v++;
	}
	return all > 0 ? mine / all : 0;
}

/*
 * What a slice may have in flight: its part of the device by what its classes are entitled to, or by what it has used, if
 * that was more because others ask for less. Both together may be more than the device's depth for a while: who gets how
 * much is the ledger's to say, this only keeps the device's own queue short.
 */
static unsigned depth_of(const struct blk_balance *b, struct blk_core *core)
{
	double used = b->granted_sum ? (double)b->granted[core->index] / (double)b->granted_sum : 1.0 / b->n_cores;
	double part = entitled(b, core);

	part = part > used ? part : used;
	return (unsigned)min_u64(core->gate->depth, 1 + (uint64_t)((double)core->gate->depth * part + 0.999));
}

void blk_balance_deal(const struct blk_balance *b, struct blk_core *core)
{
	struct blk_core_vm *vm;
	unsigned v = 0;

	list_for_each(vm, &core->vms, node) {
		if (v == b->n_vms)
			break;
		deal_vm(b, core, vm, v++);
	}
	slo_sched_set_depth(core->sched, depth_of(b, core));
	blk_core_run(core);
	worker_source_wake(&core->source);
}
