/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Command line, and the policy that stands behind `--blk-file`.
 */
#include "daemon/options.h"

#include <argp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

const char *argp_program_version = "fairleadd " FAIRLEAD_VERSION;
const char *argp_program_bug_address;

enum { KEY_SOCKET = 256, KEY_FD, KEY_FILE, KEY_RO, KEY_CAPABILITIES, KEY_DEBUG };

static const struct argp_option table[] = {
	{ "config", 'c', "FILE", 0, "Serve what this policy says (default /etc/fairlead/fairlead.yaml)", 1 },
	{ "socket-path", KEY_SOCKET, "PATH", 0, "Serve it on this socket", 2 },
	{ "fd", KEY_FD, "N", 0, "Serve it on this socket, which was inherited", 2 },
	{ "blk-file", KEY_FILE, "FILE", 0, "Without a policy: serve one disk with this image, a regular file or a block device", 2 },
	{ "read-only", KEY_RO, NULL, 0, "The guest may not write", 2 },
	{ "print-capabilities", KEY_CAPABILITIES, NULL, 0, "Print what a management program wants to know, as JSON", 3 },
	{ "debug", KEY_DEBUG, NULL, 0, "Log more", 3 },
	{ 0 },
};

static void print_capabilities(void)
{
	puts("{\n  \"type\": \"block\",\n  \"features\": [ \"read-only\", \"blk-file\" ]\n}");
	exit(EX_OK);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	char *end;

	switch (key) {
	case 'c':
		o->config = arg;
		return 0;
	case KEY_SOCKET:
		o->socket_path = arg;
		return 0;
	case KEY_FILE:
		o->blk_file = arg;
		return 0;
	case KEY_RO:
		o->read_only = true;
		return 0;
	case KEY_DEBUG:
		o->debug = true;
		return 0;
	case KEY_CAPABILITIES:
		print_capabilities();
		return 0;
	case KEY_FD:
		o->fd = (int)strtoul(arg, &end, 10);
		if (*arg == '\0' || *end)
			argp_error(state, "--fd: `%s' is not a number", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->blk_file && (o->socket_path || o->fd >= 0 || o->read_only))
			argp_error(state, "--socket-path, --fd and --read-only go with --blk-file");
		if (o->blk_file && !o->socket_path == (o->fd < 0))
			argp_error(state, "--blk-file needs either --socket-path or --fd");
		if (o->blk_file && o->config)
			argp_error(state, "either --config or --blk-file");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

void options_parse(int argc, char **argv, struct options *ret)
{
	static const struct argp argp = {
		.options = table,
		.parser = parse,
		.doc = "Serves virtual machines' disks over vhost-user from dedicated polling I/O threads.",
	};

	*ret = (struct options){ .fd = -1 };
	argp_err_exit_status = EX_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, ret);
	if (!ret->config && !ret->blk_file)
		ret->config = "/etc/fairlead/fairlead.yaml";
}

/* Into a YAML double-quoted string: only these two need an escape in a path. */
static void put_quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

char *options_one_disk_policy(const struct options *o)
{
	char path[PATH_MAX], *slash, *text = NULL;
	size_t size;
	FILE *f;

	if (!realpath(o->blk_file, path))
		return NULL;
	slash = strrchr(path, '/');
	f = open_memstream(&text, &size);
	if (!f)
		return NULL;
	*slash = '\0';
	fputs("pools: { image: { type: file, slo: off, directory: ", f);
	put_quoted(f, *path ? path : "/");
	fputs(" } }\nvms: { vm: { disks: [ { name: disk, pool: image, queues: 8, image: ", f);
	put_quoted(f, slash + 1);
	fprintf(f, ", read_only: %s, socket: ", o->read_only ? "true" : "false");
	put_quoted(f, o->socket_path ? o->socket_path : "/run/fairlead/inherited.sock");
	fputs(" } ] } }\n", f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
