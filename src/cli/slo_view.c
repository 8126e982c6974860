/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/slo_view.h"

#include <stdarg.h>
#include <string.h>

const char *slo_target(const json_t *node, char text[80])
{
	const char *class = cli_text(node, "class");

	snprintf(text, 80, "%s%s%s", cli_text(node, "vm"), *class ? "/" : "", class);
	return text;
}

static __attribute__((format(printf, 3, 4))) void append(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	if (used && used + 2 < size) {
		memcpy(text + used, ", ", 3);
		used += 2;
	}
	va_start(args, format);
	vsnprintf(text + used, size - used, format, args);
	va_end(args);
}

/* As promised: 2.6, 83.333, 20k. */
static const char *rate_text(double iops, char text[32])
{
	if (iops >= 1000)
		return cli_count(iops, text);
	snprintf(text, 32, "%.6g", iops);
	return text;
}

static void append_rate(const json_t *rate, const char *what, char *text, size_t size)
{
	char n[32];

	if (cli_number(rate, "iops") > 0)
		append(text, size, "%s%s iops", what, rate_text(cli_number(rate, "iops"), n));
	if (cli_integer(rate, "bandwidth") > 0)
		append(text, size, "%s%s/s", what, cli_size((uint64_t)cli_integer(rate, "bandwidth"), n));
}

void slo_promise_text(const json_t *promise, char *text, size_t size)
{
	const json_t *latency = json_object_get(promise, "latency");
	char n[32];

	text[0] = '\0';
	append_rate(json_object_get(promise, "reservation"), "", text, size);
	append_rate(json_object_get(promise, "limit"), "at most ", text, size);
	if (cli_integer(latency, "p50_ns") > 0)
		append(text, size, "p50 %s", cli_time((uint64_t)cli_integer(latency, "p50_ns"), n));
	if (cli_integer(latency, "p99_ns") > 0)
		append(text, size, "p99 %s", cli_time((uint64_t)cli_integer(latency, "p99_ns"), n));
	append(text, size, "shares %d", (int)cli_integer(promise, "shares"));
}

bool slo_verdict_text(const json_t *node, const char *span, char *text, size_t size)
{
	static const char *const kinds[] = { "reservation", "latency" };
	const json_t *verdicts = json_object_get(node, "verdicts");
	const char *busy_with = cli_text(node, "device_busy_with");
	bool any = false, kept = true;

	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const json_t *v = json_object_get(json_object_get(verdicts, kinds[i]), span);

		any |= v != NULL;
		if (!v || json_is_true(json_object_get(v, "kept")))
			continue;
		kept = false;
		append(text, size, "%s VIOLATED: %s%s%s", kinds[i], cli_text(v, "reason"), *busy_with ? " by " : "",
		       busy_with);
	}
	if (any && kept)
		append(text, size, "kept");
	if (json_is_true(json_object_get(node, "throttled")))
		append(text, size, "at its limit");
	if (json_is_true(json_object_get(node, "lending")))
		append(text, size, "lending");
	if (!text[0])
		snprintf(text, size, "-");
	return kept;
}
