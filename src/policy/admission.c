/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Admission: promises that a device cannot keep are refused before anybody relies on them.
 *
 * A reservation takes a part of its pool: iops over the pool's iops, or bandwidth over its bandwidth, whichever is more
 * (a request counts for both, so the two are not added). The parts of all VMs that have a disk there may come to 90 %.
 * Example: a device with one channel and 12 ms a request does 83.3 iops, so 75.0 can be promised; two VMs with 50 each
 * are 25.0 too many. A VM that has disks in several pools may draw its reservation in any of them, so it counts in
 * each.
 */
#include "policy/loader.h"

#include <stdio.h>
#include <string.h>

struct sum {
	double part, iops, bandwidth;
	bool reported;
};

/* Not whole numbers here: 90 % of 83.3 is not 90 % of 83. */
struct capacity {
	double iops, bandwidth;
};

static struct capacity pool_capacity(const struct policy_pool *pool)
{
	struct capacity c = { (double)pool->capacity.milli_iops / 1000, (double)pool->capacity.bandwidth_bytes };
	double latency = (double)min_u64(pool->read_latency_ns, pool->write_latency_ns) * 1e-9;
	double byte_time = (double)pool->byte_time_ps * 1e-12, split = (double)pool->split_bytes;
	double small = latency + 4096 * byte_time, large = latency + split * byte_time;

	if (pool->type != POLICY_POOL_MODEL || small <= 0)
		return c;
	if (c.iops == 0)
		c.iops = (double)pool->channels / small;
	if (c.bandwidth == 0)
		c.bandwidth = (double)pool->channels * split / large;
	return c;
}

static double part_of(double reservation, double capacity)
{
	return capacity > 0 ? reservation / capacity : 0;
}

static void describe_excess(const struct sum *s, struct capacity c, char *text, size_t size)
{
	double share = POLICY_RESERVABLE_PERCENT / 100.0;
	bool iops = part_of(s->iops, c.iops) > share, bandwidth = part_of(s->bandwidth, c.bandwidth) > share;

	/* Where one of the two is too much by itself, that one is named. */
	if (iops && !bandwidth)
		snprintf(text, size, "%.1f iops reserved, %.1f can be promised (%d %% of %.1f): %.1f too many", s->iops,
			 c.iops * share, POLICY_RESERVABLE_PERCENT, c.iops, s->iops - c.iops * share);
	else if (bandwidth && !iops)
		snprintf(text, size, "%.1f MB/s reserved, %.1f can be promised (%d %% of %.1f): %.1f MB/s too much",
			 s->bandwidth / 1e6, c.bandwidth * share / 1e6, POLICY_RESERVABLE_PERCENT, c.bandwidth / 1e6,
			 (s->bandwidth - c.bandwidth * share) / 1e6);
	else
		snprintf(text, size, "%.1f %% of its capacity reserved, %d %% can be promised: %.1f %% too much",
			 s->part * 100, POLICY_RESERVABLE_PERCENT, (s->part - share) * 100);
}

static struct policy_at reservation_at(struct loader *l, const struct policy_vm *vm)
{
	struct policy_at at = vm->at;

	for (size_t i = 0; i < vm->n_classes; i++) {
		const char *class = vm->classes[i].name;

		at = loader_at(l, at, "classes/%s/reservation", class);
		at = loader_at(l, at, "vms/%s/classes/%s/reservation", vm->name, class);
	}
	return loader_at(l, at, "vms/%s/reservation", vm->name);
}

static bool uses_pool(const struct policy_vm *vm, int pool)
{
	for (size_t i = 0; i < vm->n_disks; i++)
		if (vm->disks[i].pool == pool)
			return true;
	return false;
}

/* Told once, at the reservation that is one too many; the figures are those of all. */
static void admit_pool(struct loader *l, int index)
{
	const struct policy *p = l->policy;
	const struct policy_pool *pool = &p->pools[index];
	struct capacity c = pool_capacity(pool);
	struct policy_at at = pool->at;
	struct sum s = { 0 };
	char text[160];

	for (size_t i = 0; i < p->n_vms; i++) {
		const struct policy_rate *r = &p->vms[i].promise.reservation;
		double iops = part_of((double)r->milli_iops / 1000, c.iops),
		       bandwidth = part_of((double)r->bandwidth_bytes, c.bandwidth);

		if (!uses_pool(&p->vms[i], index))
			continue;
		s.part += iops > bandwidth ? iops : bandwidth;
		s.iops += (double)r->milli_iops / 1000;
		s.bandwidth += (double)r->bandwidth_bytes;
		if (!s.reported && s.part * 100 > POLICY_RESERVABLE_PERCENT) {
			s.reported = true;
			at = reservation_at(l, &p->vms[i]);
		}
	}
	if (!s.reported)
		return;
	describe_excess(&s, c, text, sizeof(text));
	loader_error(l, at, "pool '%s' cannot keep this: %s", pool->name, text);
}

static void admit_uplink(struct loader *l, int index)
{
	const struct policy *p = l->policy;
	const struct policy_uplink *u = &p->uplinks[index];
	struct capacity c = { .bandwidth = (double)u->bandwidth_bytes };
	struct policy_at at = u->at;
	struct sum s = { 0 };
	char text[160];

	for (size_t i = 0; i < p->n_vms; i++) {
		for (size_t j = 0; j < p->vms[i].n_nics; j++) {
			const struct policy_nic *n = &p->vms[i].nics[j];

			if (n->uplink != index)
				continue;
			s.bandwidth += (double)n->promise.reservation.bandwidth_bytes;
			s.part = part_of(s.bandwidth, c.bandwidth);
			if (!s.reported && s.part * 100 > POLICY_RESERVABLE_PERCENT) {
				s.reported = true;
				at = loader_at(l, n->at, "vms/%s/nics/%s/reservation", p->vms[i].name, n->name);
			}
		}
	}
	if (!s.reported)
		return;
	describe_excess(&s, c, text, sizeof(text));
	loader_error(l, at, "uplink '%s' cannot keep this: %s", u->name, text);
}

/* --- classes against their VM --- */

static void check_sum(struct loader *l, const struct policy_vm *vm, enum units units, uint64_t classes, uint64_t own,
		      const char *what)
{
	char sum[UNITS_TEXT_MAX], has[UNITS_TEXT_MAX], over[UNITS_TEXT_MAX];

	if (classes <= own)
		return;
	units_format(units, classes, sum);
	units_format(units, own, has);
	units_format(units, classes - own, over);
	loader_error(l, reservation_at(l, vm), "VM '%s' reserves %s %s, but its classes reserve %s: %s too much",
		     vm->name, has, what, sum, over);
}

static void admit_classes(struct loader *l, const struct policy_vm *vm)
{
	struct policy_rate sum = loader_classes_reserve(vm);

	check_sum(l, vm, UNITS_RATE, sum.milli_iops, vm->promise.reservation.milli_iops, "iops");
	check_sum(l, vm, UNITS_BANDWIDTH, sum.bandwidth_bytes, vm->promise.reservation.bandwidth_bytes, "of bandwidth");
}

/* --- promises that nobody keeps --- */

static bool has_promise(const struct policy_promise *p)
{
	return p->reservation.milli_iops || p->reservation.bandwidth_bytes || p->limit.milli_iops || p->limit.bandwidth_bytes ||
	       p->latency.p50_ns || p->latency.p99_ns;
}

/* Only a model's latencies are known before it runs. */
static void check_reach(struct loader *l, const struct policy_vm *vm, const struct policy_class *c, const struct policy_pool *pool,
			const char *name, uint64_t target_ns)
{
	uint64_t fastest_ns = min_u64(pool->read_latency_ns, pool->write_latency_ns);
	struct policy_at at = loader_at(l, c->at, "classes/%s/latency", c->name);
	char target[UNITS_TEXT_MAX], fastest[UNITS_TEXT_MAX], over[UNITS_TEXT_MAX];

	if (target_ns && target_ns < fastest_ns)
		loader_warning(l, loader_at(l, at, "vms/%s/classes/%s/latency", vm->name, c->name),
			       "%s %s is out of reach in pool '%s': one request takes %s, %s more", name,
			       units_format(UNITS_DURATION, target_ns, target), pool->name,
			       units_format(UNITS_DURATION, fastest_ns, fastest),
			       units_format(UNITS_DURATION, fastest_ns - target_ns, over));
}

static void check_kept(struct loader *l, const struct policy_vm *vm, const struct policy_disk *d)
{
	const struct policy_pool *pool = &l->policy->pools[d->pool];
	bool promised = has_promise(&vm->promise);

	for (size_t i = 0; i < vm->n_classes; i++) {
		const struct policy_class *c = &vm->classes[i];

		promised |= has_promise(&c->promise);
		check_reach(l, vm, c, pool, "p50", c->promise.latency.p50_ns);
		check_reach(l, vm, c, pool, "p99", c->promise.latency.p99_ns);
	}
	if (promised && !pool->slo)
		loader_warning(l, d->at, "'%s/%s' is in pool '%s', which has slo off: no promise is kept there",
			       vm->name, d->name, pool->name);
}

/* --- bursts of nothing --- */

static bool vm_limits(const struct policy *p, const char *class, bool bandwidth)
{
	for (size_t v = 0; v < p->n_vms; v++)
		for (size_t i = 0; i < p->vms[v].n_classes; i++) {
			const struct policy_class *c = &p->vms[v].classes[i];

			if (strcmp(c->name, class) == 0 &&
			    (bandwidth ? c->promise.limit.bandwidth_bytes : c->promise.limit.milli_iops))
				return true;
		}
	return false;
}

static void burst_of_nothing(struct loader *l, struct policy_at at, const char *what)
{
	loader_warning(l, at, "a burst of %s without a limit of %s means nothing", what, what);
}

static void check_burst(struct loader *l, struct policy_at at, const struct policy_promise *p)
{
	if (p->burst.milli_iops && !p->limit.milli_iops)
		burst_of_nothing(l, at, "iops");
	if (p->burst.bandwidth_bytes && !p->limit.bandwidth_bytes)
		burst_of_nothing(l, at, "bandwidth");
}

/* A class's burst may be for those VMs that give it a limit. */
static void check_class_burst(struct loader *l, const struct policy_class *c)
{
	struct policy_promise p = c->promise;

	if (vm_limits(l->policy, c->name, false))
		p.burst.milli_iops = 0;
	if (vm_limits(l->policy, c->name, true))
		p.burst.bandwidth_bytes = 0;
	check_burst(l, loader_at(l, c->at, "classes/%s/burst", c->name), &p);
}

static void check_vm_bursts(struct loader *l, const struct policy_vm *vm)
{
	check_burst(l, loader_at(l, vm->at, "vms/%s/burst", vm->name), &vm->promise);
	for (size_t i = 0; i < vm->n_classes; i++) {
		const struct policy_class *c = &vm->classes[i];

		if (loader_given(l, "vms/%s/classes/%s/burst", vm->name, c->name))
			check_burst(l, loader_at(l, c->at, "vms/%s/classes/%s/burst", vm->name, c->name), &c->promise);
	}
}

void loader_admit(struct loader *l)
{
	const struct policy *p = l->policy;

	for (size_t i = 0; i < p->n_pools; i++)
		admit_pool(l, (int)i);
	for (size_t i = 0; i < p->n_uplinks; i++)
		admit_uplink(l, (int)i);
	for (size_t i = 0; i < p->n_classes; i++)
		check_class_burst(l, &p->classes[i]);
	for (size_t i = 0; i < p->n_vms; i++) {
		admit_classes(l, &p->vms[i]);
		check_vm_bursts(l, &p->vms[i]);
		for (size_t j = 0; j < p->vms[i].n_disks; j++)
			if (p->vms[i].disks[j].pool >= 0)
				check_kept(l, &p->vms[i], &p->vms[i].disks[j]);
	}
}
