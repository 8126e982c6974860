/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What path.c and queue.c share. All on the queue's worker.
 */
#pragma once

#include "blk/queue.h"

/* path.c */
extern const struct worker_source_ops blk_queue_source;
/* To the gate or to the store; end_batch follows. */
void blk_queue_send_on(struct blk_queue *q, struct blk_request *r);
void blk_queue_end_batch(struct blk_queue *q);
/* Shows the driver what is pushed, and calls it if it wants that. */
void blk_queue_publish(struct blk_queue *q);
/* The front-end's error eventfd, once; the control thread sees the virtqueue's `broken` and says it to people. */
void blk_queue_tell_broken(struct blk_queue *q);
void blk_queue_store_done(struct store_io *io, int result);

/* queue.c: QUIESCING -> QUIET if nothing is dispatched or held any more. */
void blk_queue_check_quiet(struct blk_queue *q);
