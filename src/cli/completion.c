/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shell completion, written from the table of commands: words, options, and file names where a command takes files.
 */
#include "cli/cli.h"

#include <string.h>

/* Words that may come first; each once. */
static void print_first_words(void)
{
	const char *last = "";
	size_t last_n = 0;

	for (const struct cli_command *command = cli_commands; command->name; command++) {
		size_t n = strcspn(command->name, " ");

		if (n != last_n || memcmp(last, command->name, n) != 0)
			printf("%.*s ", (int)n, command->name);
		last = command->name;
		last_n = n;
	}
}

static void print_options(const struct cli_option *options)
{
	for (const struct cli_option *o = options; o && o->name; o++)
		printf("--%s ", o->name);
}

static bool takes_files(const struct cli_command *command)
{
	return strstr(command->args, "FILE");
}

/* "disk) words='add remove resize' ;;": the second words of a first one. */
static void print_second_words(void)
{
	for (const struct cli_command *command = cli_commands; command->name; command++) {
		size_t n = strcspn(command->name, " ");
		bool first = command == cli_commands || strncmp(command[-1].name, command->name, n + 1) != 0;

		if (command->name[n] == '\0')
			continue;
		if (first)
			printf("\t%.*s) words='", (int)n, command->name);
		printf("%s ", command->name + n + 1);
		if (strncmp(command[1].name ? command[1].name : "", command->name, n + 1) != 0)
			fputs("' ;;\n", stdout);
	}
}

static void print_cases(void)
{
	for (const struct cli_command *command = cli_commands; command->name; command++) {
		if (!command->options && !takes_files(command))
			continue;
		printf("\t'%s' | '%s '*) ", command->name, command->name);
		if (command->options) {
			fputs("words=\"$words ", stdout);
			print_options(command->options);
			fputs("\"; ", stdout);
		}
		if (takes_files(command))
			fputs("files=yes; ", stdout);
		fputs(";;\n", stdout);
	}
}

/* zsh runs the same function through bashcompinit. */
static void print_script(void)
{
	fputs("_fairlead() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} words= files= first= second= i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tcase ${COMP_WORDS[i]} in\n"
	      "\t\t--control) ((i++)) ;;\n"
	      "\t\t-*) ;;\n"
	      "\t\t*) if [ -z \"$first\" ]; then first=${COMP_WORDS[i]}; elif [ -z \"$second\" ]; then "
	      "second=${COMP_WORDS[i]}; fi ;;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tcase $first in\n"
	      "\t'') words='",
	      stdout);
	print_first_words();
	fputs("' ;;\n", stdout);
	print_second_words();
	fputs("\tesac\n"
	      "\t[ -n \"$second\" ] && words=\n"
	      "\tcase \"$first${second:+ $second}\" in\n",
	      stdout);
	print_cases();
	fputs("\tesac\n"
	      "\tcase $cur in -*) words=\"$words ",
	      stdout);
	print_options(cli_options);
	fputs("\" ;; esac\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	      "\t[ -n \"$files\" ] && COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
	      "\treturn 0\n"
	      "}\n"
	      "complete -F _fairlead fairlead\n",
	      stdout);
}

int cli_completion(struct cli *c)
{
	bool bash = strcmp(c->argv[0], "bash") == 0, zsh = strcmp(c->argv[0], "zsh") == 0;

	if (!bash && !zsh)
		return cli_usage(c, "no completion for '%s'", c->argv[0]);
	if (zsh)
		fputs("#compdef fairlead\nautoload -U +X bashcompinit && bashcompinit\n", stdout);
	print_script();
	return CLI_OK;
}
