/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger show: accounts as the daemon has them. ledger dump, replay: logs in files.
 */
#include "cli/cli.h"

#include "ledger/log.h"
#include "ledger/record.h"
#include "ledger/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

/* --- show --- */

static void print_accounts(const json_t *book)
{
	static const char *const headings[] = { "TARGET",  "ENTITLED/S", "BALANCE", "DEBT",	"DEMAND",
						"GRANTED", "USED",	 "LENT",    "BORROWED", "MODE" };
	static const char *const counts[] = { "entitled", "balance", "debt", "demand",
					      "granted",  "used",    "lent", "borrowed" };
	struct cli_table t;
	json_t *a;
	size_t i;

	cli_table_begin(&t, headings, ARRAY_SIZE(headings), 0xffu << 1);
	json_array_foreach (json_object_get(book, "accounts"), i, a) {
		const char *class = cli_text(a, "class");

		cli_cell(&t, "%s%s%s", cli_text(a, "vm"), *class ? "/" : "", class);
		for (size_t j = 0; j < ARRAY_SIZE(counts); j++)
			cli_cell(&t, "%" JSON_INTEGER_FORMAT, cli_integer(a, counts[j]));
		cli_cell(&t, "%s", cli_text(a, "mode"));
	}
	cli_table_end(&t, stdout);
}

static void print_book(const json_t *book)
{
	printf("pool %s: tick %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
	       " credits in the pool, %" JSON_INTEGER_FORMAT " with accounts, %" JSON_INTEGER_FORMAT
	       " plans, %" JSON_INTEGER_FORMAT " of them unsettled\n",
	       cli_text(book, "pool"), cli_integer(book, "tick"), cli_integer(book, "pool_credits"),
	       cli_integer(book, "outstanding"), cli_integer(book, "plans"), cli_integer(book, "unsettled"));
	print_accounts(book);
}

/* CPU time is fairlead-cosched's, everything else fairleadd's; either may be alone. */
#define CPU_BOOK "cpu"

static json_t *show_params(const char *pool)
{
	return pool ? json_pack("{s:s}", "pool", pool) : NULL;
}

/* Adds the books of one of the two to `books`. */
static int add_books(const struct cli *c, bool cosched, const char *pool, json_t *books)
{
	struct cli to = *c;
	json_t *result;
	int status;

	if (cosched)
		cli_use_cosched(&to);
	status = cli_call(&to, "ledger.show", show_params(pool), &result);
	if (status != CLI_OK)
		return status;
	json_array_extend(books, json_object_get(result, "books"));
	json_decref(result);
	return CLI_OK;
}

/* All books, or one. `pool` "cpu" is fairlead-cosched's, if it is there: a pool of that name is shown with the others only. */
static int find_books(const struct cli *c, const char *pool, json_t *books)
{
	bool cpu = cli_has_cosched(c) && !c->control_given;
	int status = CLI_OK;

	if (pool && cpu && strcmp(pool, CPU_BOOK) == 0)
		return add_books(c, true, pool, books);
	if (!cpu || cli_has_daemon(c))
		status = add_books(c, false, pool, books);
	if (status == CLI_OK && cpu && !pool)
		status = add_books(c, true, NULL, books);
	return status;
}

int cli_ledger_show(struct cli *c)
{
	json_t *books = json_array(), *book;
	int status = find_books(c, c->argc ? c->argv[0] : NULL, books);
	size_t i;

	if (status == CLI_OK && c->json)
		return cli_print_json(json_pack("{s:o}", "books", books));
	json_array_foreach (books, i, book) {
		if (i)
			putchar('\n');
		print_book(book);
	}
	if (status == CLI_OK && json_array_size(books) == 0)
		puts("no pool is sliced; one that a single worker schedules needs no ledger");
	json_decref(books);
	return status;
}

/* --- logs in files --- */

struct logs {
	struct ledger_log *log;
	const struct ledger_log **list;
	unsigned n;
};

static void close_logs(struct logs *l)
{
	for (unsigned i = 0; i < l->n; i++)
		ledger_log_close(&l->log[i]);
	free(l->log);
	free(l->list);
}

static int open_log(struct logs *l, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : ledger_log_open(&l->log[l->n], fd);

	if (r < 0) {
		cli_error("%s: %s", path, r == -EBADMSG ? "not a ledger's log" : strerror(-r));
		return EX_NOINPUT;
	}
	l->list[l->n] = &l->log[l->n];
	l->n++;
	return CLI_OK;
}

/* The paths of a running daemon's logs, which are files of its process. */
static int ask_for_paths(struct cli *c, const char *pool, json_t **ret)
{
	json_t *books = json_array();
	int status = find_books(c, pool, books);

	*ret = json_incref(json_object_get(json_array_get(books, 0), "logs"));
	json_decref(books);
	if (status != CLI_OK || *ret)
		return status;
	cli_error("pool %s is not sliced and has no ledger", pool);
	return CLI_FAILED;
}

static int open_logs(struct cli *c, struct logs *ret)
{
	const char *pool = cli_value(c, "pool");
	json_t *paths = NULL, *path;
	int status = CLI_OK;
	size_t i, n;

	if (!pool == (c->argc == 0))
		return cli_usage(c, "either files or --pool");
	if (pool)
		status = ask_for_paths(c, pool, &paths);
	if (status != CLI_OK)
		return status;
	n = pool ? json_array_size(paths) : (size_t)c->argc;
	*ret = (struct logs){ calloc(n + 1, sizeof(*ret->log)), calloc(n + 1, sizeof(*ret->list)), 0 };
	if (!ret->log || !ret->list)
		status = EX_OSERR;
	for (i = 0; i < (size_t)c->argc && status == CLI_OK; i++)
		status = open_log(ret, c->argv[i]);
	json_array_foreach (paths, i, path)
		if (status == CLI_OK)
			status = open_log(ret, json_string_value(path));
	json_decref(paths);
	if (status != CLI_OK)
		close_logs(ret);
	return status;
}

static void print_line(void *to, const char *text)
{
	fprintf(to, "%s\n", text);
}

/* With --json a record a line, as logs are long. */
int cli_ledger_dump(struct cli *c)
{
	struct ledger_dump_options options = { .json = c->json };
	struct logs l;
	int status = open_logs(c, &l);

	if (status != CLI_OK)
		return status;
	if (ledger_dump(l.list, l.n, &options, print_line, stdout) < 0)
		status = EX_OSERR;
	close_logs(&l);
	return status;
}

static json_t *replay_json(const struct ledger_replay *r)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "records", (json_int_t)r->records, "lost",
			 (json_int_t)r->lost, "damaged", (json_int_t)r->damaged, "broken", (json_int_t)r->broken,
			 "plans", (json_int_t)r->plans, "replayed", (json_int_t)r->replayed, "checkpoints",
			 (json_int_t)r->checkpoints, "differences", (json_int_t)r->differences, "unsettled",
			 (json_int_t)r->unsettled);
}

static void print_difference(const char *what, const struct ledger_record *r)
{
	printf("  %s: %s of vm %u class %u at %" PRIu64 " ns: amount %" PRId64 ", balance %" PRId64 "\n", what,
	       ledger_op_name(r->op), r->vm, r->class, r->time_ns, r->amount, r->balance);
}

/* Logs of one book. A difference means that what was planned does not follow from what the planner knew. */
int cli_ledger_replay(struct cli *c)
{
	struct ledger_replay r;
	struct logs l;
	int status = open_logs(c, &l), result;

	if (status != CLI_OK)
		return status;
	result = ledger_replay_run(l.list, l.n, &r);
	close_logs(&l);
	if (result < 0) {
		cli_error("%s", result == -EINVAL  ? "these are not the logs of one book" :
			  result == -EBADMSG ? "a checkpoint cannot be what a planner wrote" :
			  result == -EPROTONOSUPPORT ?
					       "these were recorded by a planner with other rules; only the version of fairlead "
					       "that wrote them can replay them (dump shows them)" :
					       strerror(-result));
		return CLI_FAILED;
	}
	if (c->json) {
		cli_print_json(replay_json(&r));
	} else {
		json_t *o = replay_json(&r);

		cli_print_tree(stdout, o, 0);
		json_decref(o);
		if (r.differences) {
			print_difference("recorded", &r.recorded);
			print_difference("replayed", &r.replayed_record);
		}
	}
	return r.differences || r.unsettled || r.damaged || r.broken ? CLI_FAILED : CLI_OK;
}
