/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a piece costs: the time of one of the device's channels, in ns. Shares divide this cost, not requests or bytes.
 *
 * Learned per operation, size class and sequentiality from pieces that the device served without a queue of its own (few in
 * flight), as slowly moving means of bytes and time; one sample moves a mean by at most a factor. Between two learned sizes
 * the cost is on the line through their means (exact for a device with a latency and a time per byte); elsewhere the shape
 * of the defaults is scaled to the nearest learned cell. So a few cells suffice, and a guest cannot make its own kind of
 * request cheap by anything but being cheap. On the owner's thread.
 */
#include "slo/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define TRUSTED 8	 /* samples before a cell is used */
#define SLOW 256	 /* a sample's weight is 1/n until it is this small */
#define OUTLIER 4.0	 /* a sample counts at most this many times the mean, or this fraction of it */

/* An SSD's shape: what an operation costs before anything is known. */
static const struct slo_cost_line shape[SLO_OPS] = {
	[SLO_READ] = { 50e3, 5.0 },	  [SLO_WRITE] = { 50e3, 5.0 },
	[SLO_FLUSH] = { 100e3, 0 },	  [SLO_DISCARD] = { 100e3, 0.001 },
	[SLO_WRITE_ZEROES] = { 100e3, 0.01 },
};

static double line_at(const struct slo_cost_line *l, double bytes)
{
	return l->base + l->per_byte * bytes;
}

static bool trusted(const struct slo_cost_cell *c)
{
	return c->samples >= TRUSTED;
}

/* The nearest learned cell below (down) or above `at`, itself included; NULL: none. */
static const struct slo_cost_cell *nearest(const struct slo_cost_cell *row, int at, int step)
{
	for (; at >= 0 && at < SLO_COST_SIZES; at += step)
		if (trusted(&row[at]))
			return &row[at];
	return NULL;
}

static const struct slo_cost_cell *row_used(const struct slo_cost *c, unsigned op, unsigned seq)
{
	const struct slo_cost_cell *row = c->model.cell[op][seq];

	/* Nothing known of this kind: the other sequentiality is nearer to the truth than the default. */
	if (!nearest(row, 0, 1))
		row = c->model.cell[op][!seq];
	return row;
}

static struct slo_cost_line line_make(const struct slo_cost_cell *row, unsigned op, int class)
{
	const struct slo_cost_cell *a = nearest(row, class, -1), *b = nearest(row, class + 1, 1);
	struct slo_cost_line l = shape[op];
	double scale;

	if (!a && !b)
		return l;
	/* With three neighbours the line below might fit better; with one side only, extend the last two learned. */
	if (a && !b)
		b = a, a = nearest(row, (int)slo_cost_size_class((uint64_t)b->bytes) - 1, -1);
	else if (b && !a)
		a = b, b = nearest(row, (int)slo_cost_size_class((uint64_t)a->bytes) + 1, 1);
	if (a && b && b->bytes > a->bytes) {
		l.per_byte = fmax(0, (b->ns - a->ns) / (b->bytes - a->bytes));
		l.base = fmax(0, a->ns - l.per_byte * a->bytes);
		return l;
	}
	if (!a)
		a = b;
	scale = a->ns / line_at(&l, a->bytes);
	return (struct slo_cost_line){ l.base * scale, l.per_byte * scale };
}

static void lines_make(struct slo_cost *c, unsigned op)
{
	for (unsigned seq = 0; seq < 2; seq++)
		for (int class = 0; class < SLO_COST_SIZES; class++)
			c->line[op][seq][class] = line_make(row_used(c, op, seq), op, class);
}

void slo_cost_init(struct slo_cost *c, const struct slo_cost_model *saved, bool frozen)
{
	memset(c, 0, sizeof(*c));
	if (saved)
		c->model = *saved;
	c->frozen = frozen;
	for (unsigned op = 0; op < SLO_OPS; op++)
		lines_make(c, op);
}

void slo_cost_know(struct slo_cost_model *m, enum slo_op op, uint64_t bytes, uint64_t ns)
{
	for (unsigned seq = 0; seq < 2; seq++)
		m->cell[op][seq][slo_cost_size_class(bytes)] =
			(struct slo_cost_cell){ (double)bytes, fmax((double)ns, SLO_COST_NS_MIN), SLOW };
}

void slo_cost_learn(struct slo_cost *c, enum slo_op op, bool sequential, uint64_t bytes, uint64_t ns)
{
	struct slo_cost_cell *cell = &c->model.cell[op][sequential][slo_cost_size_class(bytes)];
	double sample, weight;

	/* A settled cell needs only some of its samples. */
	if (c->frozen || (cell->samples >= SLOW && c->skipped++ % 8))
		return;
	sample = fmin(fmax((double)ns, SLO_COST_NS_MIN), SLO_COST_NS_MAX);
	if (trusted(cell))
		sample = fmin(fmax(sample, cell->ns / OUTLIER), cell->ns * OUTLIER);
	cell->samples++;
	weight = 1.0 / (double)min_u64(cell->samples, SLOW);
	cell->ns += (sample - cell->ns) * weight;
	cell->bytes += ((double)bytes - cell->bytes) * weight;
	if (cell->samples == TRUSTED || (cell->samples > TRUSTED && cell->samples % 64 == 0))
		lines_make(c, op);
}

static const char *const op_name[SLO_OPS] = { "read", "write", "flush", "discard", "zeroes" };

int slo_cost_format(const struct slo_cost_model *m, char *buf, size_t size)
{
	size_t len = 0;

	for (unsigned op = 0; op < SLO_OPS; op++)
		for (unsigned seq = 0; seq < 2; seq++)
			for (unsigned class = 0; class < SLO_COST_SIZES; class++) {
				const struct slo_cost_cell *c = &m->cell[op][seq][class];
				int n;

				if (!c->samples)
					continue;
				n = snprintf(buf + len, size - len, "%s %s %u bytes %.0f ns %.0f samples %llu\n", op_name[op],
					     seq ? "sequential" : "random", class, c->bytes, c->ns,
					     (unsigned long long)c->samples);
				if (n < 0 || (size_t)n >= size - len)
					return -ENOSPC;
				len += (size_t)n;
			}
	if (len >= size)
		return -ENOSPC;
	buf[len] = 0;
	return (int)len;
}

static int parse_line(const char *line, struct slo_cost_model *m)
{
	char op[16], seq[16];
	unsigned class, i;
	unsigned long long samples;
	double bytes, ns;

	if (sscanf(line, "%15s %15s %u bytes %lf ns %lf samples %llu", op, seq, &class, &bytes, &ns, &samples) != 6)
		return -EINVAL;
	for (i = 0; i < SLO_OPS && strcmp(op, op_name[i]); i++)
		;
	if (i == SLO_OPS || class >= SLO_COST_SIZES || !(bytes >= 0 && bytes < 1e13) || !(ns >= SLO_COST_NS_MIN && ns <= SLO_COST_NS_MAX))
		return -EINVAL;
	if (strcmp(seq, "sequential") && strcmp(seq, "random"))
		return -EINVAL;
	m->cell[i][seq[0] == 's'][class] = (struct slo_cost_cell){ bytes, ns, samples };
	return 0;
}

int slo_cost_parse(const char *text, struct slo_cost_model *ret)
{
	struct slo_cost_model m = { 0 };

	while (*text) {
		const char *end = strchrnul(text, '\n');
		char line[160];

		if ((size_t)(end - text) >= sizeof(line))
			return -EINVAL;
		memcpy(line, text, (size_t)(end - text));
		line[end - text] = 0;
		if (line[0] && parse_line(line, &m) < 0)
			return -EINVAL;
		text = *end ? end + 1 : end;
	}
	*ret = m;
	return 0;
}
