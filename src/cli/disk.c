/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * disk add, remove, resize, drain.
 */
#include "cli/cli.h"

#include "policy/units.h"

#include <string.h>

/* "VM/DISK", or both as words of their own. Takes them from the arguments. NULL: told. */
static json_t *take_disk(struct cli *c)
{
	char *slash = strchr(c->argv[0], '/');
	int used = slash ? 1 : 2;
	json_t *params;

	if (c->argc < used || (slash && strchr(slash + 1, '/'))) {
		cli_usage(c, "a disk is written VM/DISK");
		return NULL;
	}
	params = slash ? json_pack("{s:s%, s:s}", "vm", c->argv[0], (size_t)(slash - c->argv[0]), "name", slash + 1) :
			 json_pack("{s:s, s:s}", "vm", c->argv[0], "name", c->argv[1]);
	c->argv += used;
	c->argc -= used;
	return params;
}

static int finish(struct cli *c, const char *method, json_t *params, const char *done)
{
	char *name = NULL;
	json_t *result;
	int status;

	if (asprintf(&name, "%s/%s", cli_text(params, "vm"), cli_text(params, "name")) < 0)
		name = NULL;
	status = cli_call(c, method, params, &result);
	if (status == CLI_OK && c->json)
		status = cli_print_json(result);
	else if (status == CLI_OK) {
		printf("%s %s\n", name ? name : "", done);
		json_decref(result);
	}
	free(name);
	return status;
}

/* Words and switches go as they are; the daemon checks them with the policy's own rules. */
static const struct {
	const char *option, *key;
	enum { WORD, NUMBER, SWITCH } kind;
} keys[] = {
	{ "pool", "pool", WORD },	{ "image", "image", WORD },   { "size", "size", WORD },
	{ "queues", "queues", NUMBER }, { "workers", "workers", WORD }, { "ioprio", "ioprio", WORD },
	{ "socket", "socket", WORD },	{ "read-only", "read_only", SWITCH }, { "connect", "connect", SWITCH },
};

int cli_disk_add(struct cli *c)
{
	json_t *params = take_disk(c);

	if (!params)
		return EX_USAGE;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = cli_value(c, keys[i].option);
		uint64_t number;

		if (!value)
			continue;
		if (keys[i].kind == NUMBER && units_parse(UNITS_COUNT, value, &number) < 0) {
			json_decref(params);
			return cli_usage(c, "--%s: '%s' is not a number", keys[i].option, value);
		}
		json_object_set_new(params, keys[i].key,
				    keys[i].kind == WORD	? json_string(value) :
				    keys[i].kind == NUMBER ? json_integer((json_int_t)number) :
							     json_true());
	}
	if (!cli_value(c, "pool")) {
		json_decref(params);
		return cli_usage(c, "--pool is needed");
	}
	return finish(c, "disk.add", params, "added");
}

int cli_disk_remove(struct cli *c)
{
	json_t *params = take_disk(c);

	return params ? finish(c, "disk.remove", params, "removed") : EX_USAGE;
}

int cli_disk_resize(struct cli *c)
{
	json_t *params = take_disk(c);
	uint64_t size;

	if (!params)
		return EX_USAGE;
	if (c->argc != 1 || units_parse(UNITS_SIZE, c->argv[0], &size) < 0 || size > INT64_MAX) {
		json_decref(params);
		return cli_usage(c, "'%s' is not %s", c->argc == 1 ? c->argv[0] : "", units_example(UNITS_SIZE));
	}
	json_object_set_new(params, "size_bytes", json_integer((json_int_t)size));
	return finish(c, "disk.resize", params, "resized");
}

int cli_disk_drain(struct cli *c)
{
	json_t *params = take_disk(c);
	const char *seconds = cli_value(c, "seconds");
	uint64_t n = 0;

	if (!params)
		return EX_USAGE;
	if (seconds && (units_parse(UNITS_COUNT, seconds, &n) < 0 || n > INT32_MAX)) {
		json_decref(params);
		return cli_usage(c, "--seconds: '%s' is not a number", seconds);
	}
	if (seconds)
		json_object_set_new(params, "seconds", json_integer((json_int_t)n));
	return finish(c, "disk.drain", params, "holds nothing back");
}
