/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cosched/slices.h"

#include "base/cpus.h"
#include "base/util.h"
#include "cosched/keep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define MASK_BYTES (CPUS_MAX / 8)
#define PATIENCE_USEC UINT64_C(5000000)
#define SYSTEMD "org.freedesktop.systemd1"
#define PRIVATE_ADDRESS "unix:path=/run/systemd/private"

const char *const slices_units[] = { "system.slice", "user.slice", "init.scope", NULL };
#define UNITS (ARRAY_SIZE(slices_units) - 1)

/* As systemd has it: bit i of byte j is CPU 8j + i; no bytes: all CPUs. */
struct mask {
	unsigned char byte[MASK_BYTES];
	size_t n;
};

struct slices {
	sd_bus *bus;
	char *keep;
	struct mask before[UNITS];
	bool off[UNITS]; /* is kept off */
};

/* --- masks --- */

static void mask_of_others(const unsigned *cpus, size_t n, struct mask *ret)
{
	long configured = sysconf(_SC_NPROCESSORS_CONF);

	*ret = (struct mask){ .n = MASK_BYTES };
	for (unsigned i = 0; i < CPUS_MAX && (long)i < configured; i++)
		ret->byte[i / 8] |= (unsigned char)(1u << i % 8);
	for (size_t i = 0; i < n; i++)
		ret->byte[cpus[i] / 8] &= (unsigned char)~(1u << cpus[i] % 8);
}

static bool mask_is_empty(const struct mask *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->byte[i])
			return false;
	return true;
}

/* --- systemd --- */

static int connect_to(const char *address, sd_bus **ret)
{
	sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	if (r >= 0)
		r = sd_bus_set_address(bus, address);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r < 0)
		sd_bus_unref(bus);
	else
		*ret = bus;
	return r;
}

static int get_mask(struct slices *s, const char *unit, struct mask *ret)
{
	const char *interface = strstr(unit, ".slice") ? SYSTEMD ".Slice" : SYSTEMD ".Scope";
	sd_bus_message *reply = NULL;
	cleanup_free char *path = NULL;
	const void *bytes;
	int r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);

	if (r >= 0)
		r = sd_bus_get_property(s->bus, SYSTEMD, path, interface, "AllowedCPUs", NULL, &reply, "ay");
	*ret = (struct mask){ .n = 0 };
	if (r >= 0)
		r = sd_bus_message_read_array(reply, 'y', &bytes, &ret->n);
	if (r >= 0 && ret->n <= MASK_BYTES)
		memcpy(ret->byte, bytes, ret->n);
	else if (r >= 0)
		r = -E2BIG;
	sd_bus_message_unref(reply);
	return r < 0 ? r : 0;
}

static int append_mask(sd_bus_message *m, const struct mask *mask)
{
	int r = sd_bus_message_open_container(m, 'a', "(sv)");

	if (r >= 0)
		r = sd_bus_message_open_container(m, 'r', "sv");
	if (r >= 0)
		r = sd_bus_message_append(m, "s", "AllowedCPUs");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "ay");
	if (r >= 0)
		r = sd_bus_message_append_array(m, 'y', mask->byte, mask->n);
	for (int i = 0; i < 3 && r >= 0; i++)
		r = sd_bus_message_close_container(m);
	return r;
}

static int set_mask(struct slices *s, const char *unit, const struct mask *mask)
{
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(s->bus, &m, SYSTEMD, "/org/freedesktop/systemd1", SYSTEMD ".Manager",
					       "SetUnitProperties");

	if (r >= 0)
		r = sd_bus_message_append(m, "sb", unit, 1);
	if (r >= 0)
		r = append_mask(m, mask);
	if (r >= 0)
		r = sd_bus_call(s->bus, m, 0, NULL, NULL);
	sd_bus_message_unref(m);
	return r < 0 ? r : 0;
}

/* --- what is to be given back --- */

/* "UNIT HEX": a line each. */
static int write_keep(const struct slices *s)
{
	FILE *f = keep_begin(s->keep);

	if (!f)
		return -errno;
	for (size_t u = 0; u < UNITS; u++) {
		if (!s->off[u])
			continue;
		fprintf(f, "%s ", slices_units[u]);
		for (size_t i = 0; i < s->before[u].n; i++)
			fprintf(f, "%02x", s->before[u].byte[i]);
		fputc('\n', f);
	}
	return keep_replace(f, s->keep);
}

/* 0, or why it was not given back; what it does not know is nothing. */
static int read_line(struct slices *s, const char *line)
{
	const char *hex = strchr(line, ' ');

	for (size_t u = 0; hex && u < UNITS; u++) {
		struct mask m = { .n = 0 };
		unsigned byte;

		if (strlen(slices_units[u]) != (size_t)(hex - line) || strncmp(line, slices_units[u], (size_t)(hex - line)) != 0)
			continue;
		for (hex++; m.n < MASK_BYTES && sscanf(hex, "%2x", &byte) == 1; hex += 2)
			m.byte[m.n++] = (unsigned char)byte;
		return set_mask(s, slices_units[u], &m);
	}
	return 0;
}

/* The file stays as long as something of it could not be given back. */
static int give_back_kept(struct slices *s)
{
	char line[2 * MASK_BYTES + 64];
	FILE *f = keep_read(s->keep, true);
	int r = 0, r_line;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		r_line = read_line(s, line);
		r = r < 0 ? r : r_line;
	}
	fclose(f);
	if (r >= 0)
		unlink(s->keep);
	return r;
}

/* --- life --- */

int slices_create(const char *address, const char *keep, struct slices **ret)
{
	struct slices *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->keep = strdup(keep);
	if (s->keep)
		r = address ? connect_to(address, &s->bus) : sd_bus_open_system(&s->bus);
	if (r < 0 && s->keep && !address)
		r = connect_to(PRIVATE_ADDRESS, &s->bus);
	if (r >= 0) {
		(void)sd_bus_set_method_call_timeout(s->bus, PATIENCE_USEC);
		r = give_back_kept(s);
	}
	if (r < 0) {
		sd_bus_flush_close_unref(s->bus);
		free(s->keep);
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int give_back(struct slices *s, size_t u)
{
	int r = s->off[u] ? set_mask(s, slices_units[u], &s->before[u]) : 0;

	s->off[u] = false;
	return r;
}

void slices_destroy(struct slices *s)
{
	bool all = true;

	if (!s)
		return;
	for (size_t u = 0; u < UNITS; u++)
		all = give_back(s, u) >= 0 && all;
	/* Otherwise the next run tries again. */
	if (all)
		unlink(s->keep);
	sd_bus_flush_close_unref(s->bus);
	free(s->keep);
	free(s);
}

int slices_keep_off(struct slices *s, const unsigned *cpus, size_t n)
{
	struct mask others;
	int r = 0, done = 0;

	mask_of_others(cpus, n, &others);
	if (mask_is_empty(&others))
		return -EBUSY;
	for (size_t u = 0; r >= 0 && u < UNITS; u++) {
		if (!s->off[u])
			r = get_mask(s, slices_units[u], &s->before[u]);
		if (r >= 0) {
			/* Written down first: who is killed right after has not forgotten it. */
			s->off[u] = true;
			r = write_keep(s);
		}
		if (r >= 0)
			r = set_mask(s, slices_units[u], &others);
		done += r >= 0;
	}
	return r < 0 ? r : done;
}

bool slices_spare(struct slices *s, const char *cgroup)
{
	for (size_t u = 0; u < UNITS; u++) {
		size_t n = strlen(slices_units[u]);

		if (!s->off[u] || cgroup[0] != '/' || strncmp(cgroup + 1, slices_units[u], n) != 0 ||
		    (cgroup[n + 1] != '/' && cgroup[n + 1] != '\0'))
			continue;
		/* What systemd does not take is not forgotten: it stays in the file. */
		if (give_back(s, u) >= 0)
			(void)write_keep(s);
		return true;
	}
	return false;
}
