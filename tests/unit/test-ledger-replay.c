/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: replay of a recorded run finds no difference; of one in which a decision was forged, it does, whichever record
 * and field; damage and nonsense neither crash it nor go unseen. Dumps have a line per record. FAIRLEAD_SEED repeats a run.
 */
#include "ledger/book.h"
#include "ledger/journal.h"
#include "ledger/replay.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <jansson.h>
#include <cmocka.h>

#include "random.h"

#define WORKERS 2u
#define ACCOUNTS 5u
#define TICKS 300u
#define RING 16384u

/* One run's logs, as files read back: records may be changed in memory, and put right again. */
struct recording {
	struct ledger_log log[WORKERS];
	const struct ledger_log *logs[WORKERS];
	uint64_t records, plans;
};

static void run(struct ledger_book *b, struct ledger_spec *spec)
{
	for (uint64_t t = 0, now = NSEC_PER_SEC; t < TICKS; t++, now += LEDGER_TICK_NS) {
		if (t % 40 == 5) { /* a new set */
			spec->account[0].promise.shares++;
			assert_int_equal(ledger_book_apply(b, spec), 0);
		}
		for (unsigned w = 0; w < WORKERS; w++)
			for (uint32_t slot = 0; slot < ACCOUNTS; slot++) {
				uint64_t r = random_next();

				ledger_book_want(b, w, slot, r % 4 ? r / 4 % 2000000 : 0);
				if (ledger_book_may(b, w, slot))
					ledger_book_use(b, w, slot, r / 8 % 400000);
			}
		ledger_book_tick(b, (unsigned)(random_next() % WORKERS), now);
		for (unsigned w = 0; w < WORKERS; w++)
			ledger_book_tick(b, w, now);
	}
}

static void record(struct recording *rec)
{
	struct ledger_spec_vm vm[2] = { { 1, { 0, 700000000, 1000000, 2 } }, { 2, { 100000000, LEDGER_UNLIMITED, 0, 3 } } };
	struct ledger_spec_account account[ACCOUNTS];
	struct ledger_spec spec = {
		.capacity = 1000000007, .quantum = 10000, .vms = 2, .accounts = ACCOUNTS, .vm = vm, .account = account,
	};
	const struct ledger_book_config config = { 9, WORKERS, ACCOUNTS, RING };
	struct ledger_book *b;

	for (unsigned i = 0; i < ACCOUNTS; i++)
		account[i] = (struct ledger_spec_account){
			(uint16_t)(1 + i % 2), (uint16_t)i, { i * 10000001, i == 3 ? 50000003 : LEDGER_UNLIMITED, 5000, i + 1 }, 0
		};
	assert_int_equal(ledger_book_create(&config, &b), 0);
	assert_int_equal(ledger_book_apply(b, &spec), 0);
	run(b, &spec);
	*rec = (struct recording){ 0 };
	for (unsigned w = 0; w < WORKERS; w++) {
		FILE *f = tmpfile();

		assert_int_equal(ledger_log_save(ledger_book_log(b, w), fileno(f)), 0);
		assert_int_equal(ledger_log_open(&rec->log[w], dup(fileno(f))), 0);
		assert_false(rec->log[w].live);
		fclose(f);
		rec->logs[w] = &rec->log[w];
		rec->records += rec->log[w].header->head - 1;
	}
	assert_true(rec->records < RING); /* nothing overwritten */
	ledger_book_destroy(b);
}

static void forget(struct recording *rec)
{
	for (unsigned w = 0; w < WORKERS; w++)
		ledger_log_close(&rec->log[w]);
}

static bool found(const struct ledger_replay *r, uint64_t plans)
{
	return r->differences || r->damaged || r->broken || r->unsettled || r->plans != plans;
}

static void same_run_has_no_difference(void **state)
{
	struct recording rec;
	struct ledger_replay r;

	(void)state;
	random_begin("same");
	record(&rec);
	assert_int_equal(ledger_replay_run(rec.logs, WORKERS, &r), 0);
	assert_int_equal(r.records, rec.records);
	assert_int_equal(r.plans, TICKS);
	assert_int_equal(r.replayed, TICKS);
	assert_false(found(&r, TICKS));
	assert_int_equal(r.lost, 0);
	assert_int_equal(ledger_replay_run(rec.logs, 0, &r), -EINVAL);
	forget(&rec);
}

/* What no other record says: promises, and what a worker says of itself. All else follows from what went before. */
static bool is_premise(const struct ledger_record *r, unsigned field)
{
	switch (r->op) {
	case LEDGER_USE:
	case LEDGER_SHAPE:
	case LEDGER_PROMISE:
	case LEDGER_BIRTH:
		return true;
	case LEDGER_BOOK:
	case LEDGER_BUCKET:
		return field == 0;
	default:
		return false;
	}
}

/* Fields of many records forged with a right check; the first checkpoint is where all begins, so it is left out. */
static void forged_decisions_are_found(void **state)
{
	struct recording rec;
	uint64_t tried = 0;

	(void)state;
	random_begin("forged");
	record(&rec);
	for (unsigned w = 0; w < WORKERS; w++)
		for (uint64_t n = 200 + w; n < rec.log[w].header->head; n += n > rec.log[w].header->head * 4 / 5 ? 17 : 101) {
			struct ledger_record *r = &rec.log[w].ring[n & rec.log[w].mask];

			for (unsigned field = 0; field < 4; field++) {
				const struct ledger_record right = *r;
				struct ledger_replay out;
				int e;

				r->amount += field == 0;
				r->balance -= field == 1;
				r->detail += field == 2 ? UINT64_C(1) << LEDGER_DETAIL_BITS : 0;
				r->op += field == 3;
				r->check = ledger_record_check(r);
				if (field == 3 ? right.op != LEDGER_USE : !is_premise(&right, field)) {
					e = ledger_replay_run(rec.logs, WORKERS, &out);
					if (e != -EBADMSG && (e != 0 || !found(&out, TICKS)))
						fail_msg("%s %lu field %u: %d", ledger_op_name(right.op), (unsigned long)n, field, e);
					tried++;
				}
				*r = right;
			}
		}
	print_message("%lu forged records found\n", (unsigned long)tried);
	forget(&rec);
}

/* Bytes changed anywhere, checks not put right: counted as damage. */
static void damage_is_found(void **state)
{
	struct recording rec;

	(void)state;
	random_begin("damage");
	record(&rec);
	for (unsigned k = 0; k < 150; k++) {
		struct ledger_log *log = &rec.log[random_next() % WORKERS];
		uint64_t n = 1 + random_next() % (log->header->head - 1);
		uint8_t *byte = (uint8_t *)&log->ring[n & log->mask] + random_next() % 64, right = *byte;
		struct ledger_replay out;

		*byte ^= (uint8_t)(1u << random_next() % 8);
		assert_int_equal(ledger_replay_run(rec.logs, WORKERS, &out), 0);
		assert_int_equal(out.damaged, 1);
		assert_int_equal(out.differences, 0); /* what is left is true */
		*byte = right;
	}
	forget(&rec);
}

/* Nonsense with right checks: refused or replayed, but never followed out of bounds (sanitizers watch). */
static void nonsense_is_survived(void **state)
{
	static const uint64_t odd[] = { 0, 1, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 48, UINT64_C(0xffff) << 48, 4096 };
	struct recording rec;

	(void)state;
	random_begin("nonsense");
	record(&rec);
	for (unsigned k = 0; k < 500; k++) {
		struct ledger_log *log = &rec.log[random_next() % WORKERS];
		uint64_t head = log->header->head, n = 1 + random_next() % (k % 2 ? (head < 60 ? head - 1 : 60) : head - 1);
		struct ledger_record *r = &log->ring[n & log->mask], right = *r;
		uint64_t value = random_next() % 3 ? odd[random_next() % ARRAY_SIZE(odd)] : random_next() >> random_next() % 64;
		struct ledger_replay out;
		int e;

		switch (random_next() % 5) {
		case 0:
			r->amount = (int64_t)value;
			break;
		case 1:
			r->balance = (int64_t)value;
			break;
		case 2:
			r->detail = value;
			break;
		case 3:
			r->worker = (uint8_t)value;
			break;
		default:
			r->op = (uint8_t)(random_next() % (LEDGER_OPS + 1));
			break;
		}
		r->check = ledger_record_check(r);
		e = ledger_replay_run(rec.logs, WORKERS, &out);
		assert_true(e == 0 || e == -EBADMSG);
		*r = right;
	}
	forget(&rec);
}

/* The beginning of one worker's log overwritten, up to any record: what is left is true, and goes on from a checkpoint. */
static void cut_logs_are_no_difference(void **state)
{
	struct recording rec;

	(void)state;
	random_begin("cut");
	record(&rec);
	for (unsigned w = 0; w < WORKERS; w++)
		for (uint64_t n = 1; n < rec.log[w].header->head; n++) {
			struct ledger_replay out;

			memset(&rec.log[w].ring[n & rec.log[w].mask], 0, sizeof(struct ledger_record));
			if (n % 211 && (n > 120 || n % 3))
				continue;
			assert_int_equal(ledger_replay_run(rec.logs, WORKERS, &out), 0);
			assert_int_equal(out.differences + out.damaged + out.broken + out.unsettled, 0);
		}
	forget(&rec);
}

struct lines {
	uint64_t n, json;
	char first[512];
};

static void line_take(void *to, const char *text)
{
	struct lines *l = to;
	json_t *o = json_loads(text, 0, NULL);

	if (l->n++ == 0)
		snprintf(l->first, sizeof(l->first), "%s", text);
	l->json += json_is_object(o) && json_is_string(json_object_get(o, "op")) &&
		   json_is_integer(json_object_get(o, "balance")) && json_is_string(json_object_get(o, "account"));
	json_decref(o);
}

static const char *name_of(void *arg, const struct ledger_account *a)
{
	(void)arg;
	return a->vm == 1 ? "we\"b\n/gold" : NULL;
}

static void dump_has_a_line_per_record(void **state)
{
	const struct ledger_dump_options text = { .json = false }, json = { .json = true, .account_name = name_of };
	struct recording rec;
	struct lines l = { 0 };

	(void)state;
	random_begin("dump");
	record(&rec);
	assert_int_equal(ledger_dump(rec.logs, WORKERS, &text, line_take, &l), (int64_t)rec.records);
	assert_int_equal(l.n, rec.records);
	assert_non_null(strstr(l.first, " use "));
	l = (struct lines){ 0 };
	assert_int_equal(ledger_dump(rec.logs, WORKERS, &json, line_take, &l), (int64_t)rec.records);
	assert_int_equal(l.json, rec.records);
	forget(&rec);
}

/* What a planner with other rules decided is no defect of this one's; it can still be read. */
static void other_rules_are_not_replayed(void **state)
{
	struct ledger_dump_options options = { 0 };
	struct ledger_replay r = { .records = 7 };
	struct ledger_record record = { .op = LEDGER_USE };
	struct ledger_log log[2];
	const struct ledger_log *list[] = { &log[0], &log[1] };
	struct lines lines = { 0 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(ledger_log_create(&log[i], 3, (uint16_t)i, 64, 0), 0);
		ledger_log_append(&log[i], &record);
	}
	assert_int_equal(ledger_replay_run(list, 2, &r), 0);
	assert_int_equal(r.records, 2);
	for (uint32_t rules = 0; rules < LEDGER_PLAN_RULES + 2; rules++) {
		log[1].header->rules = rules;
		assert_int_equal(ledger_replay_run(list, 2, &r), rules == LEDGER_PLAN_RULES ? 0 : -EPROTONOSUPPORT);
		assert_int_equal(ledger_dump(list, 2, &options, line_take, &lines), 2);
	}
	for (unsigned i = 0; i < 2; i++)
		ledger_log_close(&log[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_run_has_no_difference), cmocka_unit_test(forged_decisions_are_found),
		cmocka_unit_test(damage_is_found),	      cmocka_unit_test(cut_logs_are_no_difference),
		cmocka_unit_test(nonsense_is_survived),
		cmocka_unit_test(dump_has_a_line_per_record),
		cmocka_unit_test(other_rules_are_not_replayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
