/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables and quantities for people.
 */
#include "cli/cli.h"


#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

/* --- tables --- */

static void add_cell(struct cli_table *t, char *text)
{
	char **grown = reallocarray(t->cell, t->n + 1, sizeof(*grown));

	if (!grown) {
		free(text);
		return;
	}
	t->cell = grown;
	grown[t->n++] = text;
}

void cli_table_begin(struct cli_table *t, const char *const headings[], size_t columns, unsigned right)
{
	*t = (struct cli_table){ .columns = columns, .right = right };
	for (size_t i = 0; i < columns; i++)
		add_cell(t, strdup(headings[i]));
}

void cli_cell(struct cli_table *t, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	add_cell(t, text);
}

/* Letters, not bytes. */
static int width_of(const char *text)
{
	int n = 0;

	for (; text && *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void print_row(const struct cli_table *t, size_t row, const int *width, FILE *out)
{
	for (size_t i = 0; i < t->columns; i++) {
		const char *text = t->cell[row * t->columns + i] ? t->cell[row * t->columns + i] : "";
		int pad = width[i] - width_of(text);
		bool right = t->right >> i & 1;

		fprintf(out, "%s%*s%s", i ? "  " : "", right ? pad : 0, "", text);
		if (!right && i + 1 < t->columns)
			fprintf(out, "%*s", pad, "");
	}
	fputc('\n', out);
}

void cli_table_end(struct cli_table *t, FILE *out)
{
	int width[16] = { 0 };

	for (size_t i = 0; i < t->n; i++) {
		int w = width_of(t->cell[i]);

		if (w > width[i % t->columns])
			width[i % t->columns] = w;
	}
	for (size_t row = 0; (row + 1) * t->columns <= t->n; row++)
		print_row(t, row, width, out);
	for (size_t i = 0; i < t->n; i++)
		free(t->cell[i]);
	free(t->cell);
	*t = (struct cli_table){ 0 };
}

/* --- quantities --- */

/* Three digits and a unit: exact values are for --json. */
static const char *scale(double n, double step, const char *const *unit, char text[32])
{
	while (n >= step && unit[1]) {
		n /= step;
		unit++;
	}
	snprintf(text, 32, "%.*f%s",
		 n < 10 && n != (double)(uint64_t)n    ? 2
		 : n < 100 && n != (double)(uint64_t)n ? 1
						       : 0,
		 n, *unit);
	return text;
}

const char *cli_size(uint64_t bytes, char text[32])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", NULL };

	return scale((double)bytes, 1024, unit, text);
}

const char *cli_count(double n, char text[32])
{
	static const char *const unit[] = { "", "k", "M", "G", NULL };

	return scale(n, 1000, unit, text);
}

const char *cli_time(uint64_t ns, char text[32])
{
	static const char *const unit[] = { "ns", "us", "ms", "s", NULL };

	return scale((double)ns, 1000, unit, text);
}

/* --- JSON --- */

const char *cli_text(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text ? text : "";
}

double cli_number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

json_int_t cli_integer(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_scalar(FILE *out, const json_t *v)
{
	if (json_is_string(v))
		fprintf(out, "%s\n", json_string_value(v));
	else if (json_is_integer(v))
		fprintf(out, "%" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
	else if (json_is_real(v))
		fprintf(out, "%.6g\n", json_real_value(v));
	else
		fprintf(out, "%s\n", json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "-");
}

/* What tells one member of a list from the next: its title, "vm=web disk=root". */
static const char *const title_keys[] = { "object", "name", "pool", "vm", "class", "disk", "queue", "worker" };

static bool is_title(const char *key, const json_t *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(title_keys); i++)
		if (strcmp(key, title_keys[i]) == 0)
			return json_is_string(v) || json_is_integer(v);
	return false;
}

static void print_title(FILE *out, const json_t *o)
{
	const char *space = "";

	for (size_t i = 0; i < ARRAY_SIZE(title_keys); i++) {
		const json_t *v = json_object_get(o, title_keys[i]);

		if (!v || !is_title(title_keys[i], v))
			continue;
		fprintf(out, "%s%s=", space, title_keys[i]);
		if (json_is_string(v))
			fputs(json_string_value(v), out);
		else
			fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		space = " ";
	}
	fputc('\n', out);
}

static bool is_flat(const json_t *list)
{
	json_t *v;
	size_t i;

	json_array_foreach (list, i, v)
		if (json_is_object(v) || json_is_array(v))
			return false;
	return true;
}

/* `titled`: its title has been printed. */
static void print_members(FILE *out, const json_t *value, int indent, bool titled)
{
	json_t *v, *o = (json_t *)(uintptr_t)value;
	const char *key;

	json_object_foreach (o, key, v) {
		if (titled && is_title(key, v))
			continue;
		fprintf(out, "%*s%s", indent, "", key);
		if (json_is_array(v) && is_flat(v)) {
			char *line = json_dumps(v, JSON_ENCODE_ANY);

			fprintf(out, "  %s\n", line ? line : "");
			free(line);
		} else if (json_is_object(v) || json_is_array(v)) {
			fputc('\n', out);
			cli_print_tree(out, v, indent + 2);
		} else {
			fprintf(out, "%*s", width_of(key) + indent < 28 ? 28 - width_of(key) - indent : 1, "");
			print_scalar(out, v);
		}
	}
}

static void print_list(FILE *out, const json_t *list, int indent)
{
	json_t *v;
	size_t i;

	json_array_foreach (list, i, v) {
		fprintf(out, "%*s- ", indent, "");
		if (json_is_object(v)) {
			print_title(out, v);
			print_members(out, v, indent + 4, true);
		} else if (json_is_array(v)) {
			print_list(out, v, indent + 4);
		} else {
			print_scalar(out, v);
		}
	}
}

void cli_print_tree(FILE *out, const json_t *value, int indent)
{
	if (json_is_array(value))
		print_list(out, value, indent);
	else
		print_members(out, value, indent, false);
}

int cli_print_json(json_t *document)
{
	int r = json_dumpf(document, stdout, JSON_INDENT(2));

	putchar('\n');
	json_decref(document);
	return r < 0 ? CLI_FAILED : CLI_OK;
}
