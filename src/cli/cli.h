/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `fairlead`: one table of commands (commands.c), one handler each. A handler prints a table for people or, with
 * --json, one JSON document, and returns the program's exit status.
 */
#pragma once

#include "base/util.h"

#include <jansson.h>
#include <stdio.h>
#include <sysexits.h>

#define CLI_CONFIG_DEFAULT "/etc/fairlead/fairlead.yaml"
#define CLI_CONTROL_DEFAULT "/run/fairlead/control.sock"

/* Beside those of sysexits.h: USAGE 64, UNAVAILABLE 69 (no daemon), CONFIG 78 (a bad policy). */
enum { CLI_OK = 0, CLI_FAILED = 1 };

struct cli_option {
	const char *name; /* "pool"; NULL ends a table */
	const char *arg;  /* "POOL"; NULL: a flag */
	const char *doc;
};

#define CLI_ARGS_MAX 64
#define CLI_OPTIONS_MAX 24

struct cli;

struct cli_command {
	const char *name; /* one or two words: "status", "disk add"; NULL ends the table */
	const char *args; /* "VM/DISK SIZE" */
	const char *doc;
	int (*run)(struct cli *);
	unsigned least, most; /* arguments */
	const struct cli_option *options;
	const char *section; /* of the list of commands, where one begins here */
};

struct cli {
	bool json;
	const char *control;
	bool cosched;	    /* it is fairlead-cosched's */
	bool control_given; /* on the command line, and not by default */
	const struct cli_command *command;
	int argc;
	char **argv; /* the command's arguments, without options */
	const char *value[CLI_OPTIONS_MAX]; /* by position in command->options; a flag is "" */
};

/* The options every command has. */
extern const struct cli_option cli_options[];
extern const struct cli_command cli_commands[];

/* The value of one of the command's options; NULL: not given. */
const char *cli_value(const struct cli *c, const char *option);

/* To stderr, with "fairlead: " before it. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, then how the command is used; returns EX_USAGE. */
int cli_usage(const struct cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether commands begin with this word ("disk"); the list of them. */
bool cli_is_noun(const char *word);
void cli_list_noun(const char *noun, FILE *out);

/* --- talking to the daemon (call.c) --- */

/*
 * One call. CLI_OK: *ret, new. Otherwise it has been told and this is the exit status. `params` is taken.
 */
int cli_call(struct cli *c, const char *method, json_t *params, json_t **ret);
/* Prints a document as it is: for --json. Takes it. */
int cli_print_json(json_t *document);
/* Connects; told and EX_UNAVAILABLE if not. */
struct ctl_client;
int cli_connect(struct cli *c, struct ctl_client **ret);
/* Tells what the daemon answered instead of a result. Takes it; returns the exit status. */
int cli_report_error(struct cli *c, json_t *error);

/* From here on it is fairlead-cosched that is called: its socket is the one given, or stands beside fairleadd's. */
void cli_use_cosched(struct cli *c);
/* The socket of fairlead-cosched, of fairleadd, is there. */
bool cli_has_cosched(const struct cli *c);
bool cli_has_daemon(const struct cli *c);

/* --- a table that is drawn again and again (live.c) --- */

struct cli_live {
	const char *method;
	void (*print)(const json_t *result, FILE *out);
	const char *bold; /* lines with this word stand out; NULL: none */
};

/* Options `interval` and `count`; returns the exit status. */
int cli_live(struct cli *c, const struct cli_live *live);

/* --- printing (print.c) --- */

/* A table whose columns fit what is in them: collects cells, prints at the end. */
struct cli_table {
	char **cell;
	size_t n, columns;
	unsigned right; /* bit mask of columns set to the right */
};

void cli_table_begin(struct cli_table *t, const char *const headings[], size_t columns, unsigned right);
void cli_cell(struct cli_table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_table_end(struct cli_table *t, FILE *out);

/* Quantities in a few characters: "20GiB", "1.5M", "12ms"; -> text */
const char *cli_size(uint64_t bytes, char text[32]);
const char *cli_count(double n, char text[32]);
const char *cli_time(uint64_t ns, char text[32]);

/* "error" or "errors" */
static inline const char *cli_plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* Whatever is in a JSON tree, indented, for documents whose shape is not known here. */
void cli_print_tree(FILE *out, const json_t *value, int indent);

/* Members of an object with a default, to keep the handlers short. */
const char *cli_text(const json_t *o, const char *key);
double cli_number(const json_t *o, const char *key);
json_int_t cli_integer(const json_t *o, const char *key);

/* --- handlers, by file --- */
int cli_check(struct cli *c), cli_diff(struct cli *c), cli_apply(struct cli *c);
int cli_status(struct cli *c), cli_stats(struct cli *c), cli_vm_list(struct cli *c), cli_events(struct cli *c);
int cli_rpc_describe(struct cli *c), cli_rpc_call(struct cli *c);
int cli_disk_add(struct cli *c), cli_disk_remove(struct cli *c), cli_disk_resize(struct cli *c), cli_disk_drain(struct cli *c);
int cli_slo(struct cli *c), cli_slo_set(struct cli *c), cli_slo_unset(struct cli *c), cli_top(struct cli *c);
int cli_pool_show(struct cli *c), cli_pool_calibrate(struct cli *c);
int cli_ledger_show(struct cli *c), cli_ledger_dump(struct cli *c), cli_ledger_replay(struct cli *c);
int cli_cosched_status(struct cli *c), cli_cosched_top(struct cli *c), cli_cosched_trace(struct cli *c);
int cli_sim_cosched(struct cli *c), cli_sim_replay(struct cli *c);
/* --from and --span, where they are given. */
int cli_sim_stretch(const struct cli *c, uint64_t end_ns, uint64_t *from_ns, uint64_t *span_ns);
int cli_doctor(struct cli *c), cli_completion(struct cli *c), cli_help(struct cli *c);
