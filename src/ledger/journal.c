/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Turns plans and checkpoints into records. Called by the planning worker after its plan has been published, and by replay.
 *
 * What a pair spent is not written: it is balance before + amount given - balance after. Pairs in which nothing happened are
 * left out, so an idle account costs no record; a record says nothing that replay could not also compute, except wants,
 * use and time: these are the plan's only inputs besides what went before.
 */
#include "ledger/journal.h"

static struct ledger_record record_of(const struct ledger_set *set, const struct ledger_state *s, uint8_t op, uint8_t worker)
{
	return (struct ledger_record){
		.time_ns = s->time_ns,
		.tick = s->tick,
		.resource = set->resource,
		.vm = LEDGER_CLASS_VM,
		.class = LEDGER_CLASS_VM,
		.op = op,
		.worker = worker,
	};
}

static void put(struct ledger_sink *sink, struct ledger_record r, int64_t amount, int64_t balance, uint64_t detail)
{
	r.amount = amount;
	r.balance = balance;
	r.detail = detail;
	sink->record(sink, &r);
}

bool ledger_journal_checkpoint_due(const struct ledger_set *set, const struct ledger_state *before)
{
	return before->set_generation != set->generation || (before->generation + 1) % LEDGER_CHECKPOINT_PLANS == 0;
}

static void node_records(const struct ledger_set *set, const struct ledger_state *s, const struct ledger_node *n,
			 const struct ledger_bucket *b, uint32_t index, bool vm, uint64_t mode, struct ledger_sink *sink)
{
	struct ledger_record r = record_of(set, s, LEDGER_PROMISE, vm);

	if (n->born == 0 && b->born == 0)
		return;
	r.vm = n->vm;
	r.class = n->class;
	put(sink, r, (int64_t)n->promise.reservation, (int64_t)n->promise.limit, ledger_detail(index, n->promise.shares));
	r.op = LEDGER_BUCKET;
	put(sink, r, (int64_t)n->promise.burst, b->level, 0);
	r.op = LEDGER_REMAINDER;
	put(sink, r, (int64_t)b->reservation_rem, (int64_t)b->limit_rem, b->born);
	r.op = LEDGER_BIRTH;
	put(sink, r, (int64_t)n->born, n->parent, mode);
}

void ledger_journal_checkpoint(const struct ledger_set *set, const struct ledger_state *s, uint8_t planner,
			       struct ledger_sink *sink)
{
	put(sink, record_of(set, s, LEDGER_BOOK, planner), (int64_t)set->capacity, s->pool, s->generation);
	put(sink, record_of(set, s, LEDGER_SHAPE, planner), (int64_t)set->quantum, (int64_t)set->generation,
	    (uint64_t)set->workers << 48 | (uint64_t)set->vms << 24 | set->accounts);
	put(sink, record_of(set, s, LEDGER_CLOCK, planner), (int64_t)s->capacity_rem, (int64_t)s->set_generation, s->time_ns);
	for (uint32_t v = 0; v < set->vms; v++)
		node_records(set, s, &set->vm[v], &s->vm[v], v, true, 0, sink);
	for (uint32_t i = 0; i < set->accounts; i++)
		node_records(set, s, &set->account[i], &s->account[i], i, false, s->mode[i], sink);
	for (uint32_t w = 0; w < s->workers; w++)
		for (uint32_t i = 0; i < set->accounts; i++)
			if (*ledger_state_pair(s, w, i) != 0)
				put(sink, record_of(set, s, LEDGER_BALANCE, (uint8_t)w), i, *ledger_state_pair(s, w, i), 0);
}

static void account_records(const struct ledger_set *set, const struct ledger_state *before, const struct ledger_state *after,
			    const struct ledger_input *input, uint32_t slot, uint8_t planner, struct ledger_sink *sink)
{
	const struct ledger_node *n = &set->account[slot];
	struct ledger_record r = record_of(set, after, LEDGER_GRANT, 0);
	int64_t given_all = 0;
	bool any = before->mode[slot] != after->mode[slot];

	if (n->born) {
		r.vm = n->vm;
		r.class = n->class;
	}
	for (uint32_t w = 0; w < after->workers; w++) {
		const struct ledger_input *in = &input[(size_t)w * after->accounts_max + slot];
		uint64_t used = n->born ? in->used : 0, want = n->born ? in->want : 0;
		int64_t balance = *ledger_state_pair(after, w, slot);
		int64_t given = balance - (*ledger_state_pair(before, w, slot) - (int64_t)used);

		if (given == 0 && used == 0 && want == 0)
			continue;
		any = true;
		given_all += given;
		r.worker = (uint8_t)w;
		put(sink, r, given, balance, ledger_detail(slot, want));
	}
	if (!any)
		return;
	r.op = LEDGER_SETTLE;
	r.worker = planner;
	put(sink, r, given_all, ledger_state_sum(after, slot), ledger_detail(slot, after->mode[slot]));
}

void ledger_journal_plan(const struct ledger_set *set, const struct ledger_state *before, const struct ledger_state *after,
			 const struct ledger_input *input, uint8_t planner, struct ledger_sink *sink)
{
	int64_t elapsed = before->time_ns ? (int64_t)(after->time_ns - before->time_ns) : 0;

	put(sink, record_of(set, after, LEDGER_TICK, planner), elapsed, before->pool, after->generation);
	for (uint32_t i = 0; i < set->accounts; i++)
		account_records(set, before, after, input, i, planner, sink);
	put(sink, record_of(set, after, LEDGER_END, planner), (int64_t)after->given, after->pool, after->generation);
}
