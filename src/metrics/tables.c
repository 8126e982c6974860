/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables. Their order is that of the output.
 */
#include "blk/queue.h"
#include "metrics/metrics.h"
#include "store/store.h"
#include "worker/worker.h"

#define QUEUE(field, kind, help_text) { #field, kind, offsetof(struct blk_queue_counters, field), help_text }
#define QUEUE_AT(metric_name, field, help_text) \
	{ metric_name, METRIC_COUNTER, offsetof(struct blk_queue_counters, field), help_text }

static const struct metric queue[] = {
	QUEUE_AT("read_ops", ops[BLK_COUNT_READ], "reads completed"),
	QUEUE_AT("write_ops", ops[BLK_COUNT_WRITE], "writes completed"),
	QUEUE_AT("flush_ops", ops[BLK_COUNT_FLUSH], "flushes completed"),
	QUEUE_AT("discard_ops", ops[BLK_COUNT_DISCARD], "discards completed"),
	QUEUE_AT("write_zeroes_ops", ops[BLK_COUNT_ZEROES], "write-zeroes requests completed"),
	QUEUE_AT("get_id_ops", ops[BLK_COUNT_ID], "requests for the serial number"),
	QUEUE_AT("other_ops", ops[BLK_COUNT_OTHER], "requests of a type that the device does not know"),
	QUEUE_AT("read_bytes", bytes[BLK_COUNT_READ], "bytes asked for by reads"),
	QUEUE_AT("write_bytes", bytes[BLK_COUNT_WRITE], "bytes carried by writes"),
	QUEUE(errors, METRIC_COUNTER, "requests answered with an error"),
	QUEUE(kicks, METRIC_COUNTER, "kicks received from the driver"),
	QUEUE(calls_sent, METRIC_COUNTER, "interrupts sent to the driver"),
	QUEUE(calls_suppressed, METRIC_COUNTER, "publications for which the driver wanted none"),
	QUEUE(polls, METRIC_COUNTER, "times the ring was looked at"),
	QUEUE(polls_empty, METRIC_COUNTER, "of these, nothing was there"),
	QUEUE(moves, METRIC_COUNTER, "times the queue changed its worker"),
	QUEUE(broken, METRIC_COUNTER, "times the driver broke the ring's rules, which stops the queue until it is reset"),
	QUEUE(read_ns, METRIC_HISTOGRAM, "from taking a read to its completion"),
	QUEUE(write_ns, METRIC_HISTOGRAM, "from taking a write to its completion"),
	QUEUE(flush_ns, METRIC_HISTOGRAM, "from taking a flush to its completion"),
	QUEUE(batch, METRIC_HISTOGRAM, "requests found per look that found any"),
};

#define WORKER(field, help_text) { #field, METRIC_COUNTER, offsetof(struct worker_counters, field), help_text }

static const struct metric worker[] = {
	WORKER(loops, "turns of the poll loop"),
	WORKER(loops_empty, "of these, nothing was found"),
	WORKER(sleeps, "times the worker slept"),
	WORKER(wakes_sent, "times it was woken by another thread"),
	WORKER(busy_ns, "time in turns that found work"),
	WORKER(enters, "io_uring_enter calls"),
	WORKER(messages, "messages from the control thread"),
};

#define STORE(metric_name, field, help_text) \
	{ metric_name, METRIC_COUNTER, offsetof(struct store_counters, field), help_text }

static const struct metric store[] = {
	STORE("read_ops", ops[STORE_READ], "reads handed to the store"),
	STORE("write_ops", ops[STORE_WRITE], "writes handed to the store"),
	STORE("flush_ops", ops[STORE_FLUSH], "flushes handed to the store"),
	STORE("discard_ops", ops[STORE_DISCARD], "discards handed to the store"),
	STORE("write_zeroes_ops", ops[STORE_WRITE_ZEROES], "write-zeroes requests handed to the store"),
	STORE("read_bytes", bytes[STORE_READ], "bytes read"),
	STORE("write_bytes", bytes[STORE_WRITE], "bytes written"),
	STORE("discard_bytes", bytes[STORE_DISCARD], "bytes discarded"),
	STORE("write_zeroes_bytes", bytes[STORE_WRITE_ZEROES], "bytes zeroed"),
	STORE("errors", errors, "requests that failed"),
	STORE("busy_ns", busy_ns, "model: device time given out"),
	STORE("bounced", bounced, "file: requests copied because their memory was not aligned"),
	STORE("short_transfers", short_transfers, "file: transfers that had to be continued"),
};

const struct metric_table metrics_queue = { "queue", queue, ARRAY_SIZE(queue) };
const struct metric_table metrics_worker = { "worker", worker, ARRAY_SIZE(worker) };
const struct metric_table metrics_store = { "store", store, ARRAY_SIZE(store) };
