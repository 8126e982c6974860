/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tick protocol: several workers spend from the same accounts, and nobody waits for anybody.
 *
 * Each worker keeps two numbers per account on cache lines of its own: `used`, the sum of all that it ever spent, and `want`,
 * what waits now. It stores to them per request; other workers read them once per tick. A plan answers with a balance as of
 * the `used` that the planner saw, so that
 *
 *	what the worker may spend now = balance + seen - used = allowance - used
 *
 * like a window in TCP: an allowance is absolute. A worker that misses ten plans takes the eleventh and is right; one that
 * spends while its credit is being taken back finds itself in debt by that much in the next plan; a plan that comes twice
 * changes nothing. No message can get lost, because there are none.
 *
 *	tick t begins; the first worker to notice that has used or wants something claims it: CAS claimed t-1 -> t
 *	claimer: copies the last plan, reads all workers' used and want, plans (ledger_plan), writes its sheet, hangs it up: CAS
 *	all: at their next turn see that another sheet is up and take their column from it
 *
 * The claim keeps the others from doing the same work; the second CAS is what makes it safe: a claimer that is interrupted
 * before it has hung up its plan finds that tick t+1's claimer has hung up another one, which covers both ticks, and throws
 * its own away. A worker that sleeps has used nothing and wants nothing: its credit is taken back by the others' plans. When
 * all sleep, nobody plans; the first to wake does, and pays debts for the time between (ledger_plan).
 *
 * `used` and `want` are read without a lock around the pair. A request that is dispatched between the two loads can be seen
 * in both or in neither: demand is off by one request for one tick, and what is booked is only `used`, which is one word.
 *
 * Sets of accounts are immutable. The planner announces the one that it works with (`reading`), and the control thread
 * frees a set that was replaced once nobody announces it.
 */
#include "ledger/book.h"

#include "ledger/board.h"
#include "ledger/journal.h"

#include <errno.h>
#include <string.h>

struct book_worker {
	/* Written by the worker per request, read by planners. */
	struct ledger_input *cell;
	/* The worker's own. */
	int64_t *allowance;
	uint64_t *mode;
	uint64_t *logged;  /* `used` as of its last record */
	uint64_t *touched; /* bitmap: used since its last record, or wants */
	uint32_t touched_words, wanting;
	uint64_t tick, taken; /* the last one seen; the plan taken last */
	struct ledger_log log;
	unsigned sheet; /* of its two, the one to write next */
	/* A planner's working memory. */
	struct ledger_state *before, *after;
	struct ledger_input *input;
	uint64_t *seen;
	struct ledger_scratch *scratch;
	/* One writer: the worker. */
	uint64_t plans, plans_late, unsettled;
	/* What this worker's planner reads now; NULL: nothing. Read by the control thread. */
	const struct ledger_set *reading cache_aligned;
};

struct ledger_book {
	struct ledger_board board;
	uint64_t claimed cache_aligned; /* the last tick that somebody claimed */
	const struct ledger_set *set cache_aligned;
	uint16_t resource;
	uint32_t workers, accounts_max;
	struct book_worker *worker;
	/* Control thread. */
	struct retired {
		struct ledger_set *set;
		struct retired *next;
	} *retired;
};

static void *zeroed_lines(size_t bytes)
{
	size_t whole = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	void *p = aligned_alloc(CACHE_LINE, whole);

	if (p)
		memset(p, 0, whole);
	return p;
}

static int worker_init(const struct ledger_book *b, struct book_worker *w, uint16_t index, uint64_t records,
		       uint64_t boot_ns)
{
	uint32_t n = b->accounts_max;
	int r = ledger_log_create(&w->log, b->resource, index, records, boot_ns);

	if (r == 0)
		r = ledger_state_create(n, b->workers, &w->before);
	if (r == 0)
		r = ledger_state_create(n, b->workers, &w->after);
	if (r == 0)
		r = ledger_scratch_create(n, &w->scratch);
	if (r < 0)
		return r;
	w->touched_words = (n + 63) / 64;
	w->cell = zeroed_lines(n * sizeof(*w->cell));
	w->allowance = zeroed_lines(n * sizeof(*w->allowance));
	w->mode = zeroed_lines(n * sizeof(*w->mode));
	w->logged = zeroed_lines(n * sizeof(*w->logged));
	w->touched = zeroed_lines(w->touched_words * sizeof(*w->touched));
	w->input = calloc((size_t)n * b->workers, sizeof(*w->input));
	w->seen = calloc((size_t)n * b->workers, sizeof(*w->seen));
	if (!w->cell || !w->allowance || !w->mode || !w->logged || !w->touched || !w->input || !w->seen)
		return -ENOMEM;
	/* An account that no plan has seen yet starts at the door. */
	for (uint32_t i = 0; i < n; i++)
		w->mode[i] = LEDGER_DOOR;
	w->sheet = index == 0; /* worker 0's sheet 0 is up */
	return 0;
}

static void worker_fini(struct book_worker *w)
{
	ledger_log_close(&w->log);
	ledger_state_destroy(w->before);
	ledger_state_destroy(w->after);
	ledger_scratch_destroy(w->scratch);
	free(w->cell);
	free(w->allowance);
	free(w->mode);
	free(w->logged);
	free(w->touched);
	free(w->input);
	free(w->seen);
}

int ledger_book_create(const struct ledger_book_config *config, struct ledger_book **ret)
{
	struct ledger_book *b;
	int r;

	if (config->workers == 0 || config->workers > LEDGER_WORKERS_MAX || config->accounts_max == 0 ||
	    config->accounts_max > LEDGER_ACCOUNTS_MAX)
		return -EINVAL;
	b = zeroed_lines(sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->resource = config->resource;
	b->workers = config->workers;
	b->accounts_max = config->accounts_max;
	r = ledger_board_init(&b->board, b->accounts_max, b->workers);
	b->worker = zeroed_lines(b->workers * sizeof(*b->worker));
	if (!b->worker)
		r = -ENOMEM;
	for (uint32_t w = 0; w < b->workers && r == 0; w++)
		r = worker_init(b, &b->worker[w], (uint16_t)w, config->log_records ? config->log_records : 65536, config->boot_ns);
	if (r < 0) {
		ledger_book_destroy(b);
		return r;
	}
	*ret = b;
	return 0;
}

/* Frees the replaced sets that no planner reads any more. */
static void sets_reap(struct ledger_book *b)
{
	for (struct retired **at = &b->retired; *at;) {
		struct retired *r = *at;
		bool read = false;

		/* Pairs with book_set(): either it sees the new set, or this sees what it announced. */
		for (uint32_t w = 0; w < b->workers; w++)
			read |= __atomic_load_n(&b->worker[w].reading, __ATOMIC_SEQ_CST) == r->set;
		if (read) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		ledger_set_destroy(r->set);
		free(r);
	}
}

void ledger_book_destroy(struct ledger_book *b)
{
	if (!b)
		return;
	sets_reap(b);
	ledger_set_destroy((struct ledger_set *)b->set);
	for (uint32_t w = 0; b->worker && w < b->workers; w++)
		worker_fini(&b->worker[w]);
	free(b->worker);
	ledger_board_fini(&b->board);
	free(b);
}

int ledger_book_apply(struct ledger_book *b, struct ledger_spec *spec)
{
	cleanup_free struct retired *old = calloc(1, sizeof(*old));
	const struct ledger_sheet *up = ledger_board_sheet(&b->board, ledger_board_up(&b->board));
	struct ledger_set *set;
	int r;

	if (!old)
		return -ENOMEM;
	/* The sheet may be replaced by a later one meanwhile: that one's set is as new or newer. */
	r = ledger_set_create(b->set, spec, b->resource, b->workers, b->accounts_max,
			      load_acquire(&up->state->set_generation), &set);
	if (r < 0)
		return r;
	old->set = (struct ledger_set *)b->set;
	__atomic_store_n(&b->set, set, __ATOMIC_SEQ_CST);
	if (old->set) {
		old->next = b->retired;
		b->retired = old;
		old = NULL;
	}
	sets_reap(b);
	return 0;
}

/* Announces and returns the set. Pairs with sets_reap(). */
static const struct ledger_set *book_set(struct ledger_book *b, struct book_worker *me)
{
	for (;;) {
		const struct ledger_set *set = __atomic_load_n(&b->set, __ATOMIC_SEQ_CST);

		__atomic_store_n(&me->reading, set, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&b->set, __ATOMIC_SEQ_CST) == set)
			return set;
	}
}

void ledger_book_use(struct ledger_book *b, unsigned w, uint32_t slot, uint64_t amount)
{
	struct book_worker *me = &b->worker[w];

	counter_add(&me->cell[slot].used, amount);
	me->touched[slot / 64] |= UINT64_C(1) << slot % 64;
}

void ledger_book_want(struct ledger_book *b, unsigned w, uint32_t slot, uint64_t amount)
{
	struct book_worker *me = &b->worker[w];

	me->wanting += (amount != 0) - (me->cell[slot].want != 0);
	store_relaxed(&me->cell[slot].want, amount);
	me->touched[slot / 64] |= UINT64_C(1) << slot % 64;
}

int64_t ledger_book_credit(const struct ledger_book *b, unsigned w, uint32_t slot)
{
	const struct book_worker *me = &b->worker[w];

	return (int64_t)((uint64_t)me->allowance[slot] - me->cell[slot].used);
}

bool ledger_book_may(const struct ledger_book *b, unsigned w, uint32_t slot)
{
	static const int64_t least[] = { [LEDGER_HOLD] = 1, [LEDGER_DOOR] = 0, [LEDGER_OPEN] = INT64_MIN };

	return ledger_book_credit(b, w, slot) >= least[b->worker[w].mode[slot]];
}

bool ledger_book_open(const struct ledger_book *b, unsigned w, uint32_t slot)
{
	return b->worker[w].mode[slot] == LEDGER_OPEN;
}

/* Takes the worker's column from the plan that is up. True if it is another one than last time. */
static bool plan_take(struct ledger_book *b, uint32_t w)
{
	struct book_worker *me = &b->worker[w];
	uint64_t up = ledger_board_up(&b->board);

	/* Comes round only if a whole plan was made while one column was copied. */
	while (up != me->taken) {
		const struct ledger_sheet *s = ledger_board_sheet(&b->board, up);
		size_t at = (size_t)w * b->accounts_max, n = load_acquire(&s->accounts);

		for (size_t i = 0; i < n; i++) {
			me->allowance[i] = load_acquire(&s->state->balance[at + i]) + (int64_t)load_acquire(&s->seen[at + i]);
			me->mode[i] = load_acquire(&s->state->mode[i]);
		}
		if (ledger_board_up(&b->board) == up) {
			me->taken = up;
			return true;
		}
		up = ledger_board_up(&b->board);
	}
	return false;
}

/* One USE record for each account that was touched; what still wants stays touched. True if there was any. */
static bool use_log(struct ledger_book *b, uint32_t w, uint64_t now_ns)
{
	struct book_worker *me = &b->worker[w];
	const struct ledger_set *set = book_set(b, me);
	bool any = false;

	for (uint32_t k = 0; k < me->touched_words; k++) {
		for (uint64_t bits = me->touched[k]; bits; bits &= bits - 1) {
			uint32_t slot = k * 64 + (uint32_t)__builtin_ctzll(bits);
			const struct ledger_input *c = &me->cell[slot];
			bool known = set && slot < set->accounts && set->account[slot].born;
			struct ledger_record r = {
				.time_ns = now_ns,
				.tick = now_ns / LEDGER_TICK_NS,
				.amount = (int64_t)(c->used - me->logged[slot]),
				.balance = ledger_book_credit(b, w, slot),
				.detail = ledger_detail(slot, min_u64(c->want, LEDGER_WANT_MAX)),
				.resource = b->resource,
				.vm = known ? set->account[slot].vm : LEDGER_CLASS_VM,
				.class = known ? set->account[slot].class : LEDGER_CLASS_VM,
				.op = LEDGER_USE,
				.worker = (uint8_t)w,
			};

			any = true;
			if (c->want == 0)
				me->touched[k] &= ~(UINT64_C(1) << slot % 64);
			me->logged[slot] = c->used;
			ledger_log_append(&me->log, &r);
		}
	}
	__atomic_store_n(&me->reading, NULL, __ATOMIC_SEQ_CST);
	return any;
}

/* What all workers spent since the plan in `me->before`, and want; brings `me->seen` up to it. */
static void inputs_read(struct ledger_book *b, struct book_worker *me, const struct ledger_set *set)
{
	for (uint32_t v = 0; v < b->workers; v++) {
		size_t at = (size_t)v * b->accounts_max;

		for (uint32_t i = 0; i < set->accounts; i++) {
			uint64_t used = load_relaxed(&b->worker[v].cell[i].used);

			me->input[at + i].used = used - me->seen[at + i];
			me->input[at + i].want = min_u64(load_relaxed(&b->worker[v].cell[i].want), LEDGER_WANT_MAX);
			me->seen[at + i] = used;
		}
	}
}

struct log_sink {
	struct ledger_sink sink;
	struct ledger_log *log;
};

static void log_sink_record(struct ledger_sink *s, struct ledger_record *r)
{
	ledger_log_append(container_of(s, struct log_sink, sink)->log, r);
}

static void plan_log(struct book_worker *me, const struct ledger_set *set, uint8_t w)
{
	struct log_sink to = { { log_sink_record }, &me->log };

	if (ledger_journal_checkpoint_due(set, me->before))
		ledger_journal_checkpoint(set, me->before, w, &to.sink);
	ledger_journal_plan(set, me->before, me->after, me->input, w, &to.sink);
}

/* The claimer's work. False: nothing to plan, or another plan was faster. */
static bool plan_make(struct ledger_book *b, uint32_t w, uint64_t now_ns)
{
	struct book_worker *me = &b->worker[w];
	/* Board before set: a plan that was made under a newer set than ours is then never the one that we replace. */
	uint64_t up = ledger_board_up(&b->board);
	const struct ledger_set *set = book_set(b, me);

	if (!set)
		return false;
	if (!ledger_board_load(&b->board, up, set, me->before, me->seen)) {
		counter_add(&me->plans_late, 1);
		return false;
	}
	if (now_ns <= me->before->time_ns)
		return false;
	inputs_read(b, me, set);
	ledger_state_copy(set, me->after, me->before);
	ledger_plan(set, me->after, me->input, now_ns, me->scratch);
	if (!ledger_board_publish(&b->board, up, w, me->sheet, set, me->after, me->seen)) {
		counter_add(&me->plans_late, 1);
		return false;
	}
	me->sheet ^= 1;
	counter_add(&me->plans, 1);
	if (ledger_state_total(set, me->after) != LEDGER_SUPPLY)
		counter_add(&me->unsettled, 1);
	plan_log(me, set, (uint8_t)w);
	return true;
}

static bool tick_claim(struct ledger_book *b, uint64_t tick)
{
	uint64_t claimed = load_relaxed(&b->claimed);

	/* Order comes from the board; this only says who tries. */
	return claimed < tick &&
	       __atomic_compare_exchange_n(&b->claimed, &claimed, tick, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool ledger_book_tick(struct ledger_book *b, unsigned w, uint64_t now_ns)
{
	struct book_worker *me = &b->worker[w];
	uint64_t tick = now_ns / LEDGER_TICK_NS;
	bool taken = plan_take(b, w);

	if (tick == me->tick)
		return taken;
	me->tick = tick;
	if (!use_log(b, w, now_ns) || !tick_claim(b, tick))
		return taken;
	if (plan_make(b, w, now_ns))
		taken |= plan_take(b, w);
	__atomic_store_n(&me->reading, NULL, __ATOMIC_SEQ_CST);
	return taken;
}

/* Not by the clock: a tick that has begun and was not looked at yet is due, however often this is asked. */
uint64_t ledger_book_deadline_ns(const struct ledger_book *b, unsigned w)
{
	const struct book_worker *me = &b->worker[w];

	return me->wanting ? (me->tick + 1) * LEDGER_TICK_NS : UINT64_MAX;
}

static void totals_sum(const struct ledger_book *b, const struct ledger_state *s, struct ledger_book_totals *t)
{
	*t = (struct ledger_book_totals){ .tick = s->tick, .generation = s->generation, .pool = s->pool };
	for (uint32_t i = 0; b->set && i < b->set->accounts; i++)
		t->outstanding += ledger_state_sum(s, i);
	for (uint32_t w = 0; w < b->workers; w++) {
		t->plans += load_relaxed(&b->worker[w].plans);
		t->plans_late += load_relaxed(&b->worker[w].plans_late);
		t->unsettled += load_relaxed(&b->worker[w].unsettled);
		t->log_records += load_acquire(&b->worker[w].log.header->head) - 1;
	}
}

static struct ledger_show show_of(const struct ledger_set *set, const struct ledger_state *s, uint32_t slot)
{
	const struct ledger_node *n = &set->account[slot];
	/* Until its first plan, a slot's figures are those of the account that had it before. */
	bool planned = s->account[slot].born == n->born;
	const struct ledger_standing none = { 0 }, *st = planned ? &s->standing[slot] : &none;
	int64_t balance = planned ? ledger_state_sum(s, slot) : 0;

	return (struct ledger_show){
		.id = { set->resource, n->vm, n->class },
		.promise = n->promise,
		.entitled = n->entitled,
		.balance = balance,
		.debt = balance < 0 ? (uint64_t)-balance : 0,
		.demand = st->demand,
		.granted = st->granted,
		.used = st->used,
		.lent = st->lent,
		.borrowed = st->borrowed,
		.mode = planned ? (enum ledger_mode)s->mode[slot] : LEDGER_DOOR,
	};
}

int ledger_book_show(const struct ledger_book *b, struct ledger_show *show, unsigned max, struct ledger_book_totals *ret_totals)
{
	cleanup_free uint64_t *seen = calloc((size_t)b->accounts_max * b->workers, sizeof(*seen));
	struct ledger_state *s;
	unsigned n = 0;

	if (!seen)
		return -ENOMEM;
	if (ledger_state_create(b->accounts_max, b->workers, &s) < 0)
		return -ENOMEM;
	while (b->set && !ledger_board_load(&b->board, ledger_board_up(&b->board), b->set, s, seen))
		;
	for (uint32_t i = 0; b->set && i < b->set->accounts; i++) {
		if (b->set->account[i].born == 0)
			continue;
		if (n < max)
			show[n] = show_of(b->set, s, i);
		n++;
	}
	if (ret_totals)
		totals_sum(b, s, ret_totals);
	ledger_state_destroy(s);
	return (int)n;
}

const struct ledger_log *ledger_book_log(const struct ledger_book *b, unsigned w)
{
	return &b->worker[w].log;
}
