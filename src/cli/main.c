/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finds the command, reads its options, runs it.
 */
#include "cli/cli.h"

#include "policy/suggest.h"

#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <string.h>

const struct cli_option cli_options[] = {
	{ "json", NULL, "print one JSON document instead of text for people" },
	{ "control", "PATH", "the daemon's control socket (" CLI_CONTROL_DEFAULT "; of cosched commands, cosched.sock beside it)" },
	{ "help", NULL, "tell how it is used" },
	{ NULL },
};
enum { OPTION_JSON, OPTION_CONTROL, OPTION_HELP, OPTION_OWN };

void cli_error(const char *format, ...)
{
	va_list args;

	fputs("fairlead: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static int print_usage(const struct cli *c)
{
	fprintf(stderr, "usage: fairlead %s%s%s\n", c->command->name, *c->command->args ? " " : "", c->command->args);
	return EX_USAGE;
}

int cli_usage(const struct cli *c, const char *format, ...)
{
	va_list args;

	fputs("fairlead: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return print_usage(c);
}

const char *cli_value(const struct cli *c, const char *option)
{
	for (size_t i = 0; c->command->options && c->command->options[i].name; i++)
		if (strcmp(c->command->options[i].name, option) == 0)
			return c->value[i];
	return NULL;
}

/* --- options --- */

static size_t add_options(struct option *list, size_t n, const struct cli_option *options, int first)
{
	for (size_t i = 0; options && options[i].name; i++)
		list[n++] = (struct option){ options[i].name, options[i].arg ? required_argument : no_argument, NULL,
					     first + (int)i };
	return n;
}

/* From argv[*index] on: the options of all commands and, with a command, its own. 0 or EX_USAGE; *help: it was asked
 * for. */
static int read_options(struct cli *c, int argc, char **argv, bool *help)
{
	struct option list[CLI_OPTIONS_MAX + OPTION_OWN + 1] = { 0 };
	size_t n = add_options(list, 0, cli_options, 256);
	int option;

	add_options(list, n, c->command ? c->command->options : NULL, 256 + OPTION_OWN);
	/* Without a command, the first word that is no option is the command; a new scan begins behind it. */
	optind = 0;
	while ((option = getopt_long(argc, argv, c->command ? "h" : "+h", list, NULL)) != -1) {
		if (option == 256 + OPTION_JSON)
			c->json = true;
		else if (option == 256 + OPTION_CONTROL)
			c->control_given = (c->control = optarg) != NULL;
		else if (option == 256 + OPTION_HELP || option == 'h')
			*help = true;
		else if (option == '?')
			return EX_USAGE;
		else
			c->value[option - 256 - OPTION_OWN] = optarg ? optarg : "";
	}
	return 0;
}

/* --- commands --- */

/* How many of the words are the command's name; 0: they are not. */
static int match(const struct cli_command *command, int argc, char **argv)
{
	const char *space = strchr(command->name, ' ');
	size_t n = space ? (size_t)(space - command->name) : strlen(command->name);

	if (argc < 1 || strlen(argv[0]) != n || memcmp(argv[0], command->name, n) != 0)
		return 0;
	if (!space)
		return 1;
	return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

static const struct cli_command *find_command(int argc, char **argv, int *ret_words)
{
	const struct cli_command *found = NULL;

	*ret_words = 0;
	for (const struct cli_command *command = cli_commands; command->name; command++) {
		int words = match(command, argc, argv);

		if (words > *ret_words) {
			*ret_words = words;
			found = command;
		}
	}
	return found;
}

static bool asks_for_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* A noun alone, or with a verb that it does not have, or no command at all. */
static int report_unknown(int argc, char **argv)
{
	bool noun = cli_is_noun(argv[0]);
	struct suggest near;
	char word[128];

	if (noun && argc == 1) {
		cli_error("'%s' wants a second word:", argv[0]);
		cli_list_noun(argv[0], stderr);
		return EX_USAGE;
	}
	if (noun && asks_for_help(argv[1])) {
		cli_list_noun(argv[0], stdout);
		return CLI_OK;
	}
	snprintf(word, sizeof(word), "%s%s%s", argv[0], noun ? " " : "", noun ? argv[1] : "");
	suggest_init(&near, word);
	for (const struct cli_command *command = cli_commands; command->name; command++)
		suggest_offer(&near, command->name);
	if (suggest_best(&near))
		cli_error("no command '%s'; did you mean '%s'?", word, suggest_best(&near));
	else
		cli_error("no command '%s'; see 'fairlead help'", word);
	return EX_USAGE;
}

static int run_command(struct cli *c, int argc, char **argv)
{
	bool help = false;
	int words = 0;

	c->command = find_command(argc, argv, &words);
	if (!c->command)
		return report_unknown(argc, argv);
	/* getopt begins behind its first word. */
	argv += words - 1;
	argc -= words - 1;
	argv[0] = (char *)"fairlead";
	if (read_options(c, argc, argv, &help) != 0)
		return print_usage(c);
	c->argc = argc - optind;
	c->argv = argv + optind;
	if (help) {
		c->argc = 0;
		return cli_help(c);
	}
	if ((unsigned)c->argc < c->command->least)
		return cli_usage(c, "'%s' wants more arguments", c->command->name);
	if ((unsigned)c->argc > c->command->most)
		return cli_usage(c, "'%s' wants fewer arguments", c->command->name);
	return c->command->run(c);
}

int main(int argc, char **argv)
{
	const char *control = getenv("FAIRLEAD_CONTROL");
	struct cli c = { .control = control && *control ? control : CLI_CONTROL_DEFAULT };
	bool help = false;
	int status;

	setlocale(LC_CTYPE, "");
	if (argc > 0)
		argv[0] = (char *)"fairlead"; /* what getopt says begins with it */
	if (read_options(&c, argc, argv, &help) != 0)
		return EX_USAGE;
	if (help || optind == argc)
		status = cli_help(&c) == CLI_OK && help ? CLI_OK : EX_USAGE;
	else
		status = run_command(&c, argc - optind, argv + optind);
	/* What was not printed was not told. */
	if (fflush(stdout) != 0 || ferror(stdout))
		return status == CLI_OK ? CLI_FAILED : status;
	return status;
}
