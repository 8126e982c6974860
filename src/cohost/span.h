/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM or an account did over the last seconds: totals that only grow, kept once a second. Pure.
 */
#pragma once

#include <stdint.h>

#define COHOST_SPAN_SECONDS 60u

struct cohost_totals {
	uint64_t time_ns, ran_ns, waited_ns, entitled_ns, co_ran_ns;
};

struct cohost_span {
	struct cohost_totals kept[COHOST_SPAN_SECONDS + 1];
	unsigned n; /* ever kept */
};

static inline void cohost_span_keep(struct cohost_span *s, const struct cohost_totals *t)
{
	s->kept[s->n++ % (COHOST_SPAN_SECONDS + 1)] = *t;
}

/* What is kept from now on has nothing to do with what was. */
static inline void cohost_span_clear(struct cohost_span *s)
{
	s->n = 0;
}

/* What was added over the last `seconds`, or over as many as there are; all 0: not known yet. */
static inline struct cohost_totals cohost_span_over(const struct cohost_span *s, unsigned seconds)
{
	const struct cohost_totals *now, *then;

	if (s->n < 2)
		return (struct cohost_totals){ 0 };
	if (seconds > COHOST_SPAN_SECONDS)
		seconds = COHOST_SPAN_SECONDS;
	if (seconds > s->n - 1)
		seconds = s->n - 1;
	now = &s->kept[(s->n - 1) % (COHOST_SPAN_SECONDS + 1)];
	then = &s->kept[(s->n - 1 - seconds) % (COHOST_SPAN_SECONDS + 1)];
	return (struct cohost_totals){
		.time_ns = now->time_ns - then->time_ns,
		.ran_ns = now->ran_ns - then->ran_ns,
		.waited_ns = now->waited_ns - then->waited_ns,
		.entitled_ns = now->entitled_ns - then->entitled_ns,
		.co_ran_ns = now->co_ran_ns - then->co_ran_ns,
	};
}
