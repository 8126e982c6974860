/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replay: did the planner decide what it says, and would it again? Control thread and tools.
 *
 * Plans lie scattered over the workers' logs, each whole in one of them. They are collected, put in order of their
 * generation, and run again: a checkpoint sets the planner's memory, each plan's GRANT records give its inputs, and every
 * record that the plan then makes must be the recorded one. Where a plan is missing (overwritten, damaged), what follows
 * waits for the next checkpoint. A checkpoint that is reached with memory of one's own is compared as well.
 *
 * The files are foreign: every number that is used as an index or divisor is checked.
 */
#include "ledger/replay.h"

#include "ledger/cpu.h"

#include "ledger/checkpoint.h"
#include "ledger/journal.h"

#include <errno.h>
#include <string.h>

/* The records of one plan, all in one log, as indices; its checkpoint, if any, lies before it. */
struct plan_records {
	uint64_t generation;
	size_t checkpoint, tick;
	unsigned checkpoint_records, records;
};

struct replay {
	struct ledger_replay *out;
	struct ledger_record *record; /* of all logs, one log after the other */
	size_t records, room;
	struct plan_records *plan;
	size_t plans, plan_room;
	uint32_t workers, accounts; /* the largest that any checkpoint speaks of: sizes of what follows */
	/* The planner's world; `set` NULL until a checkpoint. */
	struct ledger_set *set;
	struct ledger_state *before, *after;
	struct ledger_scratch *scratch;
	struct ledger_input *input;
	bool known; /* `after` is what came before the next plan */
};

/* --- reading --- */

static int grow(void *array, size_t *room, size_t n, size_t size)
{
	size_t want = *room ? *room * 2 : 1024;
	void **p = array, *bigger;

	if (n < *room)
		return 0;
	bigger = reallocarray(*p, want, size);
	if (!bigger)
		return -ENOMEM;
	*p = bigger;
	*room = want;
	return 0;
}

static int records_read(struct replay *rp, const struct ledger_log *log)
{
	struct ledger_reader rd;
	struct ledger_record r;

	ledger_reader_init(&rd, log);
	/* A live log could go on for ever. */
	for (uint64_t i = 0; i <= log->mask && ledger_reader_next(&rd, &r); i++) {
		int e = grow(&rp->record, &rp->room, rp->records, sizeof(r));

		if (e < 0)
			return e;
		rp->record[rp->records++] = r;
	}
	rp->out->lost += rd.lost;
	rp->out->damaged += rd.damaged;
	return 0;
}

static int plan_add(struct replay *rp, size_t checkpoint, size_t tick, size_t end)
{
	int e;

	if (checkpoint < tick && rp->record[checkpoint].detail + 1 != rp->record[tick].detail) {
		rp->out->broken++;
		return 0;
	}
	e = grow(&rp->plan, &rp->plan_room, rp->plans, sizeof(*rp->plan));
	if (e < 0)
		return e;
	rp->plan[rp->plans++] = (struct plan_records){
		.generation = rp->record[tick].detail,
		.checkpoint = checkpoint,
		.checkpoint_records = (unsigned)(tick - checkpoint),
		.tick = tick,
		.records = (unsigned)(end - tick + 1),
	};
	return 0;
}

/* Where in a plan a log's records have come to. */
struct plan_scan {
	size_t checkpoint, tick; /* where they began; SIZE_MAX: not begun */
	bool whole;		 /* what comes next begins here: no gap since something ended */
};

static bool scan_expects(const struct plan_scan *s, unsigned op)
{
	if (s->tick != SIZE_MAX)
		return op == LEDGER_GRANT || op == LEDGER_SETTLE;
	if (s->checkpoint != SIZE_MAX)
		return op == LEDGER_TICK || (op > LEDGER_BOOK && op < LEDGER_OPS);
	return !s->whole || op == LEDGER_USE || op == LEDGER_TICK || op == LEDGER_BOOK;
}

/* Finds the plans of one log that are whole: from TICK, or the BOOK before it, to END, without a gap. */
static int plans_find(struct replay *rp, size_t from)
{
	const struct plan_scan start = { SIZE_MAX, SIZE_MAX, false };
	struct plan_scan s = start;

	for (size_t i = from; i < rp->records; i++) {
		const struct ledger_record *r = &rp->record[i];

		if (i > from && r->sequence != rp->record[i - 1].sequence + 1)
			s = start;
		if (s.tick != SIZE_MAX && r->op == LEDGER_END && r->detail == rp->record[s.tick].detail) {
			int e = plan_add(rp, s.checkpoint, s.tick, i);

			if (e < 0)
				return e;
			s = (struct plan_scan){ SIZE_MAX, SIZE_MAX, true };
			continue;
		}
		if (!scan_expects(&s, r->op)) {
			rp->out->broken++;
			s = start;
		}
		if (r->op == LEDGER_BOOK)
			s.checkpoint = i;
		/* After a gap, a TICK without a checkpoint may have lost it: with an old set it would come out otherwise. */
		if (r->op == LEDGER_TICK && (s.checkpoint != SIZE_MAX || s.whole)) {
			s.checkpoint = s.checkpoint == SIZE_MAX ? i : s.checkpoint;
			s.tick = i;
		}
		s.whole |= r->op == LEDGER_USE || r->op == LEDGER_END;
	}
	return 0;
}

static int log_read(struct replay *rp, const struct ledger_log *log)
{
	size_t from = rp->records;
	int e = records_read(rp, log);

	return e < 0 ? e : plans_find(rp, from);
}

static int plan_order(const void *a, const void *b)
{
	uint64_t x = ((const struct plan_records *)a)->generation, y = ((const struct plan_records *)b)->generation;

	return x < y ? -1 : x > y;
}

/* --- comparing --- */

struct compare {
	struct ledger_sink sink;
	struct replay *rp;
	const struct ledger_record *recorded;
	unsigned left;
};

/* All but what belongs to the log: sequence and check. */
static bool same(const struct ledger_record *a, const struct ledger_record *b)
{
	return a->time_ns == b->time_ns && a->tick == b->tick && a->amount == b->amount && a->balance == b->balance &&
	       a->detail == b->detail && a->resource == b->resource && a->vm == b->vm && a->class == b->class &&
	       a->op == b->op && a->worker == b->worker;
}

static void difference(struct replay *rp, const struct ledger_record *recorded, const struct ledger_record *replayed)
{
	static const struct ledger_record none;

	if (rp->out->differences++ == 0) {
		rp->out->recorded = recorded ? *recorded : none;
		rp->out->replayed_record = replayed ? *replayed : none;
	}
}

static void compare_record(struct ledger_sink *s, struct ledger_record *r)
{
	struct compare *c = container_of(s, struct compare, sink);

	if (c->left == 0) {
		difference(c->rp, NULL, r);
		return;
	}
	if (!same(c->recorded, r))
		difference(c->rp, c->recorded, r);
	c->recorded++;
	c->left--;
}

static struct compare compare_begin(struct replay *rp, const struct ledger_record *recorded, unsigned n)
{
	return (struct compare){ { compare_record }, rp, recorded, n };
}

static void compare_end(struct compare *c)
{
	for (; c->left; c->left--)
		difference(c->rp, c->recorded++, NULL);
}

/* --- checkpoints --- */

/* Compares a checkpoint with what replay has come to. Promises may differ only in a newer set. */
static void checkpoint_compare(struct replay *rp, const struct plan_records *p, const struct ledger_set *set)
{
	const struct ledger_record *recorded = &rp->record[p->checkpoint];
	struct compare c = compare_begin(rp, recorded, p->checkpoint_records);

	rp->out->checkpoints++;
	if (set->generation < rp->set->generation || set->workers != rp->set->workers || set->vms < rp->set->vms ||
	    set->accounts < rp->set->accounts) {
		difference(rp, recorded, NULL);
		return;
	}
	ledger_journal_checkpoint(set->generation == rp->set->generation ? rp->set : set, rp->after, recorded->worker, &c.sink);
	compare_end(&c);
}

/* Takes over a checkpoint, after comparing it with what replay knows by itself. */
static int checkpoint_take(struct replay *rp, const struct plan_records *p)
{
	const struct ledger_record *recorded = &rp->record[p->checkpoint];
	struct ledger_state *s;
	struct ledger_set *set;
	int e = ledger_state_create(rp->accounts, rp->workers, &s);

	if (e < 0)
		return e;
	e = ledger_checkpoint_load(recorded, p->checkpoint_records, &set, s);
	if (e < 0) {
		ledger_state_destroy(s);
		return e;
	}
	if (rp->known && rp->after->generation == s->generation)
		checkpoint_compare(rp, p, set);
	ledger_set_destroy(rp->set);
	ledger_state_destroy(rp->after);
	rp->set = set;
	rp->after = s;
	rp->known = true;
	return 0;
}

/* --- plans --- */

/* What the plan's GRANT records say was spent and wanted. False: they cannot be from a planner in this state. */
static bool inputs_load(struct replay *rp, const struct plan_records *p)
{
	int64_t sum = 0;

	for (unsigned i = 1; i + 1 < p->records; i++) {
		const struct ledger_record *r = &rp->record[p->tick + i];
		uint32_t slot = ledger_detail_slot(r->detail);
		struct ledger_input *in;
		int64_t used;

		if (r->op != LEDGER_GRANT)
			continue;
		if (slot >= rp->set->accounts || r->worker >= rp->set->workers || !ledger_is_credit(r->amount) || !ledger_is_credit(r->balance))
			return false;
		used = *ledger_state_pair(rp->before, r->worker, slot) + r->amount - r->balance;
		if (used < 0 || !ledger_is_credit(used) || !ledger_is_credit(sum += used))
			return false;
		in = &rp->input[(size_t)r->worker * rp->accounts + slot];
		in->used = (uint64_t)used;
		in->want = min_u64(ledger_detail_value(r->detail), LEDGER_WANT_MAX);
	}
	return true;
}

static void inputs_clear(struct replay *rp)
{
	for (uint32_t w = 0; w < rp->set->workers; w++)
		memset(&rp->input[(size_t)w * rp->accounts], 0, rp->set->accounts * sizeof(*rp->input));
}

static void plan_replay(struct replay *rp, const struct plan_records *p)
{
	const struct ledger_record *tick = &rp->record[p->tick];
	struct compare c = compare_begin(rp, tick, p->records);

	ledger_state_copy(rp->set, rp->before, rp->after);
	if (!inputs_load(rp, p)) {
		difference(rp, tick, NULL);
		rp->known = false;
	} else {
		ledger_plan(rp->set, rp->after, rp->input, tick->time_ns, rp->scratch);
		ledger_journal_plan(rp->set, rp->before, rp->after, rp->input, tick->worker, &c.sink);
		compare_end(&c);
		rp->known = ledger_is_credit(rp->after->pool);
		rp->out->replayed++;
		rp->out->unsettled += ledger_state_total(rp->set, rp->after) != LEDGER_SUPPLY;
	}
	inputs_clear(rp);
}

static int plans_replay(struct replay *rp)
{
	for (size_t i = 0; i < rp->plans; i++) {
		const struct plan_records *p = &rp->plan[i];
		int e;

		if (p->checkpoint_records) {
			e = checkpoint_take(rp, p);
			if (e < 0)
				return e;
		}
		if (rp->known && rp->after->generation + 1 != p->generation)
			rp->known = false;
		if (rp->known)
			plan_replay(rp, p);
	}
	return 0;
}

/* After reading: makes room for the largest checkpoint. */
static int replay_init(struct replay *rp)
{
	uint32_t workers, vms, accounts;
	int e;

	rp->workers = rp->accounts = 1;
	for (size_t i = 0; i < rp->records; i++)
		if (rp->record[i].op == LEDGER_SHAPE && ledger_checkpoint_shape(&rp->record[i], &workers, &vms, &accounts)) {
			rp->workers = workers > rp->workers ? workers : rp->workers;
			/* VMs' states have as many entries. */
			rp->accounts = accounts > rp->accounts ? accounts : rp->accounts;
			rp->accounts = vms > rp->accounts ? vms : rp->accounts;
		}
	e = ledger_state_create(rp->accounts, rp->workers, &rp->before);
	if (e == 0)
		e = ledger_scratch_create(rp->accounts, &rp->scratch);
	rp->input = calloc((size_t)rp->accounts * rp->workers, sizeof(*rp->input));
	return e < 0 ? e : rp->input ? 0 : -ENOMEM;
}

static void replay_fini(struct replay *rp)
{
	ledger_set_destroy(rp->set);
	ledger_state_destroy(rp->before);
	ledger_state_destroy(rp->after);
	ledger_scratch_destroy(rp->scratch);
	free(rp->input);
	free(rp->record);
	free(rp->plan);
}

int ledger_replay_run(const struct ledger_log *const logs[], unsigned n, struct ledger_replay *ret)
{
	struct ledger_replay out = { 0 };
	struct replay rp = { .out = &out };
	int e = n ? 0 : -EINVAL;

	if (n == 1 && logs[0]->header->resource == LEDGER_RESOURCE_CPU)
		return ledger_cpu_replay(logs[0], ret);
	for (unsigned i = 0; i < n && e == 0; i++)
		e = logs[i]->header->rules == LEDGER_PLAN_RULES ? 0 : -EPROTONOSUPPORT;
	for (unsigned i = 0; i < n && e == 0; i++) {
		e = logs[i]->header->resource == logs[0]->header->resource ? log_read(&rp, logs[i]) : -EINVAL;
		out.records = rp.records;
	}
	if (e == 0)
		e = replay_init(&rp);
	if (e == 0) {
		if (rp.plans)
			qsort(rp.plan, rp.plans, sizeof(*rp.plan), plan_order);
		out.plans = rp.plans;
		e = plans_replay(&rp);
	}
	replay_fini(&rp);
	if (e == 0)
		*ret = out;
	return e;
}
