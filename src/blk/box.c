/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The box is a stack; the consumer takes all of it at once and turns it round. A bell that rings already is not rung again:
 * the consumer clears `ringing` before it empties the box, so a note put in after that finds the bell silent.
 */
#include "blk/box.h"

static void bell_rings(struct worker_msg *m, struct worker *w)
{
	struct blk_box *b = container_of(m, struct blk_box, bell);
	struct blk_note *n, *first = NULL;

	(void)w;
	/* Sequentially consistent with the exchange in blk_outbox_send: either it finds the bell silent, or we find its notes. */
	__atomic_store_n(&b->ringing, false, __ATOMIC_SEQ_CST);
	n = __atomic_exchange_n(&b->head, NULL, __ATOMIC_SEQ_CST);
	while (n) {
		struct blk_note *next = n->next;

		n->next = first;
		first = n;
		n = next;
	}
	if (first)
		b->deliver(b, first);
}

void blk_box_init(struct blk_box *b, struct worker *w, void (*deliver)(struct blk_box *, struct blk_note *first))
{
	*b = (struct blk_box){ .worker = w, .deliver = deliver };
	b->bell.run = bell_rings;
}

void blk_outbox_send(struct blk_outbox *o, struct blk_box *to)
{
	struct blk_note *head;

	if (!o->newest)
		return;
	head = load_relaxed(&to->head);
	do
		o->oldest->next = head;
	while (!__atomic_compare_exchange_n(&to->head, &head, o->newest, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	*o = (struct blk_outbox){ 0 };
	if (!__atomic_exchange_n(&to->ringing, true, __ATOMIC_SEQ_CST))
		worker_post(to->worker, &to->bell);
}
