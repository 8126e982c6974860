/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each account is due, at every instant: the CPUs that run members are divided by weighted max-min among the accounts that
 * have runnable members. Pure; called by core.h whenever a member becomes runnable, runs, or is neither any more, on the CPU where
 * that happens, and by settle.h.
 *
 * An account with n runnable members and weight w is due min(n, L w) CPUs. The level L is such that this adds up to the number of
 * CPUs that run members. Those with n / w <= L are *saturated*: due n. L depends on all accounts and changes with each of them,
 * but this costs the logarithm of CO_LEVELS, however many accounts there are:
 *
 * Accounts are sorted into *levels* by n / w (floating point: an exponent and seven bits, so that those of one level differ by less
 * than 0.8 %; L lies within one level at a time, and there nobody is off by more than that). Saturated is a prefix of the levels.
 * Of each level the sums of n and w are kept in Fenwick trees, so that the end of the prefix is found by descending. Two more
 * trees hold what is the same for all accounts of a level, as sums over prefixes: the time for which the level has been saturated,
 * and the integral of L over the rest. An account looks these up when its n or w changes, and at settlements:
 *
 *     due += n (saturated now - then) + w (integral now - then)
 *
 * Source: Fenwick, "A new data structure for cumulative frequency tables", Software: Practice and Experience 24(3), 1994.
 */
#pragma once

#include "cosched/world.h"

/* Integrals of L are in ns of CPU time per weight, times 2^20: that of an account is below 2^61 after a second. */
#define CO_FLUID_BITS 20
/* A ratio n / w is kept times 2^33, from 2^-22 on: 2^11, which is the first exponent. */
#define CO_RATIO_BITS 33
#define CO_MANTISSA_BITS (CO_LEVEL_BITS - 5)
#define CO_EXPONENT_MIN 11

CO_INLINE struct co_level *co_cell(struct co_fluid *f, __u32 i)
{
	return &f->level[i & (CO_LEVELS - 1)];
}

/* The level of n / weight, neither of which is 0. The last one is never used. */
CO_INLINE __u32 co_level(__u64 n, __u64 weight)
{
	__u64 ratio = (n << CO_RATIO_BITS) / weight;
	__u32 exponent = co_highest(ratio), level;

	if (exponent < CO_EXPONENT_MIN)
		return 0;
	level = (exponent - CO_EXPONENT_MIN) << CO_MANTISSA_BITS;
	level |= (__u32)(ratio >> (exponent - CO_MANTISSA_BITS)) & ((1u << CO_MANTISSA_BITS) - 1);
	return level < CO_LEVELS - 2 ? level : CO_LEVELS - 2;
}

/* All ratios of `level` are below this. */
CO_INLINE __u64 co_level_top(__u32 level)
{
	__u32 exponent = (level >> CO_MANTISSA_BITS) + CO_EXPONENT_MIN;

	return ((1ull << CO_MANTISSA_BITS) + (level & ((1u << CO_MANTISSA_BITS) - 1)) + 1) << (exponent - CO_MANTISSA_BITS);
}

/* Accounts of `level`: so many runnable members and so much weight more. */
CO_INLINE void co_level_add(struct co_fluid *f, __u32 level, __u64 n, __u64 weight)
{
	__u32 i = level, k;

	f->weight += weight;
	for (k = 0; k <= CO_LEVEL_BITS; k++) {
		if (i >= CO_LEVELS)
			break;
		co_cell(f, i)->n += n;
		co_cell(f, i)->weight += weight;
		i |= i + 1;
	}
}

/* How many levels are saturated: a prefix is if L is not below its top. What CPUs and weights are left to the others. */
CO_INLINE __u32 co_levels_saturated(struct co_fluid *f, __u64 *ret_cpus, __u64 *ret_weight)
{
	__u64 cpus = f->running, weight = f->weight;
	/* None; but were it known, each end would be another number to the verifier. */
	__u32 end = cpus >> 32, step;

	for (step = CO_LEVELS / 2; step; step /= 2) {
		const struct co_level *cell = co_cell(f, end + step - 1);
		__u64 n = cell->n, more = weight - cell->weight;

		if (n <= cpus && (!more || co_level_top(end + step - 1) <= ((cpus - n) << CO_RATIO_BITS) / more)) {
			end += step;
			cpus -= n;
			weight = more;
		}
	}
	*ret_cpus = cpus;
	*ret_weight = weight;
	return end;
}

/* Time passes until now. */
CO_INLINE void co_fluid_advance(struct co_fluid *f, __u64 now_ns)
{
	__u64 dt = now_ns - f->at_ns, cpus, weight, integral = 0;
	__u32 i, k;

	if ((__s64)dt <= 0)
		return;
	f->at_ns = now_ns;
	i = co_levels_saturated(f, &cpus, &weight);
	if (weight) {
		f->rest += (cpus * dt) << CO_FLUID_BITS;
		integral = f->rest / weight;
		f->rest -= integral * weight;
	}
	f->integral += integral;
	for (k = 0; k <= CO_LEVEL_BITS; k++) {
		if (!i)
			break;
		co_cell(f, i - 1)->saturated_ns += dt;
		co_cell(f, i - 1)->integral += integral;
		i &= i - 1;
	}
}

/* What `share` was due since this was done last. */
CO_INLINE void co_share_take(struct co_fluid *f, struct co_share *share)
{
	__u64 saturated = 0, integral = f->integral;
	__u32 i = share->level, k;

	if (!share->is_in)
		return;
	for (k = 0; k <= CO_LEVEL_BITS; k++) {
		if (i >= CO_LEVELS)
			break;
		saturated += co_cell(f, i)->saturated_ns;
		integral -= co_cell(f, i)->integral;
		i |= i + 1;
	}
	share->due += (share->n * (saturated - share->saturated_ns)) << CO_FLUID_BITS;
	share->due += share->weight * (integral - share->integral);
	share->saturated_ns = saturated;
	share->integral = integral;
}

/* From now on `share` has n runnable members and that weight. */
CO_INLINE void co_share_set(struct co_fluid *f, struct co_share *share, __u64 n, __u64 weight)
{
	__u64 due;

	co_share_take(f, share);
	if (share->is_in)
		co_level_add(f, share->level, -share->n, -share->weight);
	share->n = n;
	share->weight = weight;
	share->is_in = n && weight;
	if (!share->is_in)
		return;
	share->level = co_level(n, weight);
	co_level_add(f, share->level, n, weight);
	due = share->due;
	co_share_take(f, share);
	share->due = due;
}

/* Member `m` is one of the runnable members of account `counted` - 1, of none if that is 0. Under the lock, until now. */
CO_INLINE void co_fluid_put(struct co_world *w, struct co_member *m, __u32 counted)
{
	struct co_vm *vm = co_vm_of(w, m->vm);
	struct co_account *a;

	if (m->counted == counted)
		return;
	if (m->counted) {
		a = co_account_of(w, m->counted - 1);
		co_share_set(&w->fluid, &a->share, a->share.n - 1, a->share.weight);
	}
	m->counted = counted;
	if (!counted)
		return;
	a = co_account_of(w, counted - 1);
	co_share_set(&w->fluid, &a->share, a->share.n + 1, a->share.weight + (vm->awake ? 0 : vm->weight));
	vm->awake = vm->awake ? vm->awake : CO_AWAKE;
}

/* `m` is runnable from now on, or not; so many CPUs more (or fewer) run members. */
CO_ALONE int co_fluid_count(struct co_world *w CO_GIVEN, struct co_member *m CO_GIVEN, bool runnable, __s32 running, __u64 now_ns)
{
	__u32 counted = runnable ? CO_READ(co_vm_of(w, m->vm)->account) + 1 : 0;

	if (!running && CO_READ(m->counted) == counted)
		return 0;
	CO_LOCK(w);
	co_fluid_advance(&w->fluid, now_ns);
	w->fluid.running += (__u64)(__s64)running;
	co_fluid_put(w, m, counted);
	CO_UNLOCK(w);
	return 0;
}

/* After a change, which holds no lock: `m` is counted where its VM is now, or nowhere if it is gone. */
CO_ALONE int co_fluid_follow(struct co_world *w CO_GIVEN, struct co_member *m CO_GIVEN, __u64 now_ns)
{
	__u32 vm = CO_READ(m->vm), counted = vm == CO_NONE ? 0 : CO_READ(co_vm_of(w, vm)->account) + 1;

	if (!CO_READ(m->counted) || CO_READ(m->counted) == counted)
		return 0;
	CO_LOCK(w);
	co_fluid_advance(&w->fluid, now_ns);
	if (m->counted)
		co_fluid_put(w, m, counted);
	CO_UNLOCK(w);
	return 0;
}

/* The weight of `a` is another one. */
CO_ALONE int co_fluid_weigh(struct co_world *w CO_GIVEN, struct co_account *a CO_GIVEN, __u64 weight, __u64 now_ns)
{
	if (CO_READ(a->share.weight) == weight)
		return 0;
	CO_LOCK(w);
	co_fluid_advance(&w->fluid, now_ns);
	co_share_set(&w->fluid, &a->share, a->share.n, weight);
	CO_UNLOCK(w);
	return 0;
}

/*
 * What `a` is due since this was asked last, in whole nanoseconds: the settlement hands what is less to those who waited. So nothing
 * is carried from one period to the next that a recording would have to tell.
 */
CO_ALONE __u64 co_fluid_due(struct co_world *w CO_GIVEN, struct co_account *a CO_GIVEN, __u64 now_ns)
{
	__u64 due;

	CO_LOCK(w);
	co_fluid_advance(&w->fluid, now_ns);
	co_share_take(&w->fluid, &a->share);
	due = a->share.due >> CO_FLUID_BITS;
	a->share.due = w->fluid.rest = 0;
	CO_UNLOCK(w);
	return due;
}
