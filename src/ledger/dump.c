/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logs as lines of text or JSON. Control thread and tools.
 */
#include "ledger/journal.h"
#include "ledger/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* One log and the record of it that comes next. */
struct dump_source {
	struct ledger_reader reader;
	struct ledger_record next;
	uint64_t boot_ns;
	bool more;
};

static bool has_slot(const struct ledger_record *r)
{
	return r->op == LEDGER_USE || r->op == LEDGER_GRANT || r->op == LEDGER_SETTLE || r->op == LEDGER_PROMISE;
}

/* "vm/class", "vm" for a VM's own, "-" for none. */
static void name_print(char *to, size_t size, const struct ledger_record *r, const struct ledger_dump_options *o)
{
	const struct ledger_account id = { r->resource, r->vm, r->class };
	const char *name = o->account_name && r->vm != LEDGER_CLASS_VM ? o->account_name(o->arg, &id) : NULL;

	if (name)
		snprintf(to, size, "%s", name);
	else if (r->vm == LEDGER_CLASS_VM)
		snprintf(to, size, "-");
	else if (r->class == LEDGER_CLASS_VM)
		snprintf(to, size, "%u", r->vm);
	else
		snprintf(to, size, "%u/%u", r->vm, r->class);
}

/* A name inside JSON quotes; what is not plain ASCII becomes '?'. */
static void json_clean(char *s)
{
	for (; *s; s++)
		if (*s == '"' || *s == '\\' || *s < ' ' || *s > '~')
			*s = '?';
}

static void record_print(char *to, size_t size, const struct ledger_record *r, uint64_t log_boot_ns,
			 const struct ledger_dump_options *o)
{
	uint64_t date_ns = r->time_ns + log_boot_ns;
	uint64_t value = has_slot(r) ? ledger_detail_value(r->detail) : r->detail;
	int slot = has_slot(r) ? (int)ledger_detail_slot(r->detail) : -1;
	char name[64];

	name_print(name, sizeof(name), r, o);
	if (!o->json) {
		snprintf(to, size,
			 "%" PRIu64 ".%09" PRIu64 " %" PRIu64 " w%u #%" PRIu64 " %-9s %-16s %" PRId64 " %" PRId64 " %" PRIu64,
			 date_ns / 1000000000, date_ns % 1000000000, r->tick, r->worker, r->sequence, ledger_op_name(r->op), name,
			 r->amount, r->balance, value);
		return;
	}
	json_clean(name);
	snprintf(to, size,
		 "{\"date_ns\":%" PRIu64 ",\"tick\":%" PRIu64 ",\"worker\":%u,\"sequence\":%" PRIu64
		 ",\"op\":\"%s\",\"resource\":%u,\"vm\":%d,\"class\":%d,\"account\":\"%s\",\"slot\":%d,\"amount\":%" PRId64
		 ",\"balance\":%" PRId64 ",\"detail\":%" PRIu64 "}",
		 date_ns, r->tick, r->worker, r->sequence, ledger_op_name(r->op), r->resource,
		 r->vm == LEDGER_CLASS_VM ? -1 : r->vm, r->class == LEDGER_CLASS_VM ? -1 : r->class, name, slot, r->amount,
		 r->balance, value);
}

/* The source with the earliest record; NULL when all are read. */
static struct dump_source *source_first(struct dump_source *source, unsigned n)
{
	struct dump_source *first = NULL;

	for (unsigned i = 0; i < n; i++)
		if (source[i].more && (!first || source[i].next.time_ns < first->next.time_ns))
			first = &source[i];
	return first;
}

int64_t ledger_dump(const struct ledger_log *const logs[], unsigned n, const struct ledger_dump_options *options,
		    void (*line)(void *, const char *), void *to)
{
	cleanup_free struct dump_source *source = calloc(n + 1, sizeof(*source));
	struct dump_source *s;
	uint64_t bound = 0; /* a live log could go on for ever */
	int64_t count = 0;

	if (!source)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		ledger_reader_init(&source[i].reader, logs[i]);
		source[i].boot_ns = logs[i]->header->boot_ns;
		source[i].more = ledger_reader_next(&source[i].reader, &source[i].next);
		bound += logs[i]->mask + 1;
	}
	while ((s = source_first(source, n)) && (uint64_t)count < bound) {
		char text[512];

		record_print(text, sizeof(text), &s->next, s->boot_ns, options);
		line(to, text);
		count++;
		s->more = ledger_reader_next(&s->reader, &s->next);
	}
	return count;
}
