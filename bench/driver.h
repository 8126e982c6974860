/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that keeps one queue of a back-end busy, as a guest's vCPU would: closed loop (a number of requests in flight) or
 * open loop (a rate), polling or sleeping on the call eventfd.
 *
 * The clock is read once per reaped batch, so a request's latency runs from the batch that submitted it to the batch that saw
 * it done; at depth 1 that is each request's own.
 */
#pragma once

#include "base/hist.h"
#include "frontend/frontend.h"

#include <pthread.h>

enum driver_phase { DRIVER_WARM_UP, DRIVER_MEASURE, DRIVER_STOP };

struct driver_load {
	bool write, random;
	bool calls;	/* sleep until called instead of polling */
	bool spin;	/* poll without PAUSE: a CPU that is emulated gives its turn away with it */
	uint32_t bytes; /* of one request */
	unsigned depth; /* in flight at most */
	uint16_t ioprio;
	uint64_t span_bytes; /* of the disk that is used */
	uint64_t interval_ns; /* open loop: between two requests; 0: closed loop */
	uint64_t ops_max;     /* stop after so many; 0: when told */
};

struct driver_request {
	struct front_request front;
	struct front_buf buf;
	uint64_t began_ns;
	struct driver_request *next;
};

struct driver {
	struct {
		uint32_t seen; /* by the thread that looks at our completions */
	} cache_aligned hint;

	struct front_queue *queue cache_aligned;
	struct driver_load load;
	int cpu; /* -1: anywhere */
	const enum driver_phase *phase; /* atomic */
	/*
	 * Without completion affinity: another driver's thread looks at our completions and tells how many there are, as an
	 * interrupt on the wrong CPU does. Written by the one, read by the other.
	 */
	struct driver *looks_at;
	bool waits_for_hint;
	pthread_t thread;
	struct driver_request *request, *idle;
	unsigned in_flight;
	uint64_t random, cursor, next_due_ns;
	uint32_t reaped;
	bool measuring;
	/* Instead of a back-end: called after each publication, to measure the driver's own cost. */
	void (*echo)(struct front_queue *);

	/* Results. */
	struct hist latency;
	uint64_t ops, errors, began_ns, ended_ns, kicks, calls, kicks_before, calls_before;
	int error;
};

/* Guest memory and requests for one driver. -ENOMEM. */
int driver_init(struct driver *d, struct frontend *f, unsigned queue, const struct driver_load *load);
void driver_fini(struct driver *d);
int driver_start(struct driver *d);
/* Waits for its end; -errno if the back-end did not do its part. */
int driver_join(struct driver *d);

/* The device's side of a split ring at its cheapest: every available head comes back used. */
void driver_echo(struct front_queue *q);
