/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of commands. `help`, the shell completions and fairlead(1)'s list follow from it.
 */
#include "cli/cli.h"

#include <string.h>

static const struct cli_option disk_add_options[] = {
	{ "pool", "POOL", "where it lives; needed" },
	{ "image", "PATH", "file pools: beneath the pool's directory (VM-NAME.raw)" },
	{ "size", "SIZE", "like 20GiB; needed unless the image exists" },
	{ "queues", "N", "as in the policy (64: as many as the driver wants)" },
	{ "workers", "N", "as in the policy (auto)" },
	{ "ioprio", "WORD", "linux or ignore (linux)" },
	{ "socket", "PATH", "as in the policy" },
	{ "read-only", NULL, "the guest may not write" },
	{ "connect", NULL, "connect to the socket instead of listening" },
	{ NULL },
};

static const struct cli_option stats_options[] = {
	{ "names", NULL, "what each counter means" },
	{ NULL },
};

static const struct cli_option calibrate_options[] = {
	{ "seconds", "N", "for each of eleven steps (0.5)" },
	{ NULL },
};

static const struct cli_option log_options[] = {
	{ "pool", "POOL", "the running daemon's logs of this pool instead of files" },
	{ NULL },
};

static const struct cli_option trace_options[] = {
	{ "seconds", "N", "how long to record (1)" },
	{ "out", "FILE", "a picture if it ends in .svg, else a trace for `sim cosched'; needed" },
	{ NULL },
};

static const struct cli_option drain_options[] = {
	{ "seconds", "N", "for how long nothing more is held (10)" },
	{ NULL },
};

static const struct cli_option top_options[] = {
	{ "interval", "SECONDS", "between two looks (1)" },
	{ "count", "N", "end after so many (never)" },
	{ NULL },
};

static const struct cli_option sim_options[] = {
	{ "algorithms", "LIST", "of credit, credit+boost, co-credit, pooled, pooled-mute, fair (the file's)" },
	{ "seeds", "N", "runs of each algorithm (the file's)" },
	{ "first-seed", "N", "the first of them (the file's)" },
	{ "duration", "TIME", "virtual time of a run (the file's)" },
	{ "csv", "FILE", "every figure of every run" },
	{ "svg", "FILE", "draw a stretch of the first seed's run, or of what is replayed; with several algorithms, FILE-ALGORITHM" },
	{ "from", "TIME", "where that begins (behind the warm-up; a trace's beginning)" },
	{ "span", "TIME", "how long it is (ten slices)" },
	{ "replay", "FILE", "a recorded trace instead: decide anew, and compare" },
	{ "trace", "FILE", "the first seed's run as a trace, like those of fairlead-cosched" },
	{ NULL },
};

const struct cli_command cli_commands[] = {
	{ "check", "[FILE…]", "find every mistake in a policy, without a daemon", cli_check, 0, CLI_ARGS_MAX, NULL, "Policies" },
	{ "apply", "[FILE…]", "make a policy run, all of it or nothing; without FILE, the daemon's own", cli_apply, 0,
	  CLI_ARGS_MAX, NULL },
	{ "diff", "[[OLD] FILE]", "what a policy would change in the running one, or in OLD", cli_diff, 0, 2, NULL },
	{ "status", "", "the daemon, its workers, pools and disks", cli_status, 0, 0, NULL, "What runs" },
	{ "stats", "", "counters of workers, disks, queues and pools", cli_stats, 0, 0, stats_options },
	{ "events", "[EVENT…]", "print events as they come", cli_events, 0, CLI_ARGS_MAX, NULL },
	{ "vm list", "", "VMs with their disks and front-ends", cli_vm_list, 0, 0, NULL },
	{ "doctor", "[FILE]", "find the classic mistakes, and say how to mend them", cli_doctor, 0, 1, NULL },
	{ "disk add", "VM/DISK --pool POOL", "attach a disk, for good", cli_disk_add, 1, 2, disk_add_options, "Disks" },
	{ "disk remove", "VM/DISK", "detach a disk, for good; its image stays", cli_disk_remove, 1, 2, NULL },
	{ "disk resize", "VM/DISK SIZE", "change a disk's size; a running guest sees it", cli_disk_resize, 2, 3, NULL },
	{ "disk drain", "VM/DISK", "let go of what promises hold back of a disk, before the guest unplugs it", cli_disk_drain, 1, 2,
	  drain_options },
	{ "slo", "[VM[/CLASS]]", "every promise, what was attained, and why not more", cli_slo, 0, 1, NULL, "Promises" },
	{ "slo set", "TARGET KEY=VALUE…", "change promises for good: web/gold reservation.iops=50, web limit.iops=20k, /gold shares=200",
	  cli_slo_set, 2, CLI_ARGS_MAX, NULL },
	{ "slo unset", "TARGET", "back to what the policy's files promise", cli_slo_unset, 1, 1, NULL },
	{ "top", "", "the same as slo, live", cli_top, 0, 0, top_options },
	{ "pool show", "[POOL]", "a pool's scheduler and what its requests cost", cli_pool_show, 0, 1, NULL },
	{ "pool calibrate", "POOL", "measure what a pool's requests cost", cli_pool_calibrate, 1, 1,
	  calibrate_options },
	{ "ledger show", "[POOL|cpu]", "accounts: credits granted, used, lent and borrowed", cli_ledger_show, 0, 1, NULL },
	{ "ledger dump", "--pool POOL | FILE…", "print the records of logs", cli_ledger_dump, 0, CLI_ARGS_MAX,
	  log_options },
	{ "ledger replay", "--pool POOL | FILE…", "plan anew from logs and compare with what was planned",
	  cli_ledger_replay, 0, CLI_ARGS_MAX, log_options },
	{ "cosched status", "[NAME]", "co-scheduled VMs and groups: shares, ready time, credit, requests", cli_cosched_status, 0, 1,
	  NULL, "Co-scheduling" },
	{ "cosched top", "", "the same, live", cli_cosched_top, 0, 0, top_options },
	{ "cosched trace", "--out FILE", "record what the scheduler does, as a picture or to be replayed", cli_cosched_trace, 0, 0,
	  trace_options },
	{ "sim cosched", "FILE", "simulate co-scheduling: what it would gain, and for whom", cli_sim_cosched, 0, 1,
	  sim_options },
	{ "rpc describe", "", "the control socket's methods and events", cli_rpc_describe, 0, 0, NULL, "Other" },
	{ "rpc call", "METHOD [PARAMS]", "call one, with parameters as a JSON object", cli_rpc_call, 1, 2, NULL },
	{ "completion", "bash|zsh", "print a shell's completion", cli_completion, 1, 1, NULL },
	{ "help", "[COMMAND]", "tell what there is, or how one is used", cli_help, 0, 2, NULL },
	{ NULL },
};

/* --- help --- */

static bool has_noun(const struct cli_command *command, const char *noun)
{
	size_t n = strlen(noun);

	return strncmp(command->name, noun, n) == 0 && command->name[n] == ' ';
}

bool cli_is_noun(const char *word)
{
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (has_noun(command, word))
			return true;
	return false;
}

void cli_list_noun(const char *noun, FILE *out)
{
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (has_noun(command, noun))
			fprintf(out, "  fairlead %-16s %s\n", command->name, command->doc);
}

static void print_options(const struct cli_option *options)
{
	for (const struct cli_option *o = options; o && o->name; o++) {
		char name[64];

		snprintf(name, sizeof(name), "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		printf("  %-22s %s\n", name, o->doc);
	}
}

static int print_command(const struct cli_command *command)
{
	printf("usage: fairlead %s%s%s\n%s\n", command->name, *command->args ? " " : "", command->args, command->doc);
	if (command->options) {
		fputs("\noptions:\n", stdout);
		print_options(command->options);
	}
	if (cli_is_noun(command->name)) {
		fputs("\nand:\n", stdout);
		cli_list_noun(command->name, stdout);
	}
	fputs("\noptions of every command:\n", stdout);
	print_options(cli_options);
	return CLI_OK;
}

static int print_commands(void)
{
	fputs("usage: fairlead [--json] [--control PATH] COMMAND …\n", stdout);
	for (const struct cli_command *command = cli_commands; command->name; command++) {
		if (command->section)
			printf("\n%s:\n", command->section);
		printf("  %-16s %s\n", command->name, command->doc);
	}
	fputs("\noptions of every command:\n", stdout);
	print_options(cli_options);
	return CLI_OK;
}

/* All commands as data: for programs that build on this one, and for the manual's check. */
static json_t *describe_commands(void)
{
	json_t *list = json_array();

	for (const struct cli_command *command = cli_commands; command->name; command++) {
		json_t *options = json_array();

		for (const struct cli_option *o = command->options; o && o->name; o++)
			json_array_append_new(
				options, json_pack("{s:s, s:s?, s:s}", "name", o->name, "arg", o->arg, "doc", o->doc));
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "name", command->name, "args",
						      command->args, "doc", command->doc, "options", options));
	}
	return json_pack("{s:s, s:o}", "version", FAIRLEAD_VERSION, "commands", list);
}

int cli_help(struct cli *c)
{
	char name[64] = "";

	if (c->json)
		return cli_print_json(describe_commands());
	if (c->command && c->command->run != cli_help)
		return print_command(c->command);
	if (c->argc > 0)
		snprintf(name, sizeof(name), "%s%s%s", c->argv[0], c->argc > 1 ? " " : "",
			 c->argc > 1 ? c->argv[1] : "");
	if (!name[0])
		return print_commands();
	for (const struct cli_command *command = cli_commands; command->name; command++)
		if (strcmp(command->name, name) == 0)
			return print_command(command);
	if (cli_is_noun(name)) {
		cli_list_noun(name, stdout);
		return CLI_OK;
	}
	return cli_usage(c, "no command '%s'", name);
}
