/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events into runs, runs into SVG. Called once for a picture. Foreign numbers (slots, CPUs, times of a recorded file) are
 * bounded here; names are escaped.
 */
#include "sim/timeline.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#define WIDTH 1200.0
#define LEFT 96.0
#define RIGHT 24.0
#define TOP 112.0
#define LEGEND_COLUMN 132.0
#define RUNS_MAX 200000u

struct run {
	uint64_t from_ns, to_ns, waited_ns;
	uint32_t member;
	uint16_t cpu;
	uint8_t flags;
	bool open; /* its end was not seen yet */
};

struct drawing {
	const struct timeline *t;
	FILE *out;
	double row; /* height of a CPU's row */
	struct run *run;
	size_t n, room;
	size_t open[CO_CPUS_MAX]; /* position + 1 of the run that goes on; 0: none */
};

/* Members of groups, then everybody else: dark enough for white letters; light enough for dark ones. */
static const char *const strong[] = { "#c8102e", "#1769aa", "#e07a00", "#2e8b57",
				      "#7b3fa0", "#b8860b", "#008b8b", "#c2185b" };
static const char *const pale[] = { "#dfe5ec", "#ebe3d6", "#dde9dd", "#e8deea", "#d9e8ea", "#efe6c9", "#e6e6e6", "#f0dcdc" };

/* --- events into runs --- */

static int add_run(struct drawing *d, struct run r)
{
	if (d->n == d->room) {
		size_t room = d->room ? 2 * d->room : 256;
		struct run *grown = reallocarray(d->run, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		d->run = grown;
		d->room = room;
	}
	d->run[d->n++] = r;
	return 0;
}

static void end_run(struct drawing *d, uint16_t cpu, uint64_t time_ns)
{
	if (!d->open[cpu])
		return;
	d->run[d->open[cpu] - 1].to_ns = time_ns;
	d->run[d->open[cpu] - 1].open = false;
	d->open[cpu] = 0;
}

static int take_event(struct drawing *d, const struct co_event *e)
{
	int r = 0;

	if (e->cpu >= d->t->n_cpus || e->cpu >= CO_CPUS_MAX || (e->member >= d->t->n_members && e->kind != CO_EVENT_IDLE))
		return 0;
	if (e->kind == CO_EVENT_RUN) {
		end_run(d, e->cpu, e->time_ns);
		r = add_run(d, (struct run){ .from_ns = e->time_ns, .waited_ns = e->value, .member = e->member, .cpu = e->cpu,
					     .flags = e->flags, .open = true });
		d->open[e->cpu] = r < 0 ? 0 : d->n;
	} else if (e->kind == CO_EVENT_STOP || e->kind == CO_EVENT_SLEEP) {
		/* Its beginning was before the first event. */
		if (!d->open[e->cpu])
			r = add_run(d, (struct run){ .to_ns = e->time_ns, .member = e->member, .cpu = e->cpu,
						     .from_ns = e->value && e->value < e->time_ns ? e->time_ns - e->value
												: d->t->from_ns });
		end_run(d, e->cpu, e->time_ns);
	} else if (e->kind == CO_EVENT_IDLE) {
		end_run(d, e->cpu, e->time_ns);
	}
	return r;
}

/* What lies in the stretch, cut to it. */
static void cut_runs(struct drawing *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->n; i++) {
		struct run r = d->run[i];

		if (r.open)
			r.to_ns = d->t->to_ns;
		r.from_ns = max_u64(r.from_ns, d->t->from_ns);
		r.to_ns = min_u64(r.to_ns, d->t->to_ns);
		if (r.from_ns < r.to_ns && kept < RUNS_MAX)
			d->run[kept++] = r;
	}
	d->n = kept;
}

/* --- places, colours and words --- */

static double x_of(const struct timeline *t, uint64_t time_ns)
{
	double span = (double)(t->to_ns - t->from_ns);

	return LEFT + (WIDTH - LEFT - RIGHT) * (double)(time_ns - t->from_ns) / span;
}

static double y_of(const struct drawing *d, uint32_t cpu)
{
	return TOP + d->row * cpu;
}

static double bottom_of(const struct drawing *d)
{
	return y_of(d, d->t->n_cpus);
}

/* Counting separately keeps the first colours for the VMs of groups, whatever their numbers. */
static const char *colour_of(const struct timeline *t, uint32_t vm, bool *ret_strong)
{
	unsigned in_groups = 0, others = 0;

	for (size_t i = 0; i < t->n_vms; i++) {
		bool grouped = false;

		for (size_t m = 0; m < t->n_members && !grouped; m++)
			grouped = t->member[m].vm == i && t->member[m].group != CO_NONE;
		if (i == vm) {
			*ret_strong = grouped;
			return grouped ? strong[in_groups % ARRAY_SIZE(strong)] : pale[others % ARRAY_SIZE(pale)];
		}
		*(grouped ? &in_groups : &others) += 1;
	}
	*ret_strong = false;
	return pale[0];
}

static void text_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '&')
			fputs("&amp;", out);
		else if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '"')
			fputs("&quot;", out);
		else if ((unsigned char)*text >= ' ')
			fputc(*text, out);
	}
}

static void text_at(FILE *out, double x, double y, const char *class, const char *text)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	text_escaped(out, text);
	fputs("</text>\n", out);
}

/* --- parts of the picture --- */

static void draw_head(struct drawing *d, double height)
{
	fprintf(d->out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n"
		"<style>\n"
		"text { font-family: 'DejaVu Sans', Verdana, Helvetica, sans-serif; font-size: 12px; fill: #333; }\n"
		".title { font-size: 18px; font-weight: bold; fill: #111; }\n"
		".quiet { fill: #777; }\n"
		".right { text-anchor: end; }\n"
		".axis { text-anchor: middle; fill: #777; font-size: 11px; }\n"
		".on { text-anchor: middle; font-size: 11px; pointer-events: none; }\n"
		".white { fill: #fff; }\n"
		"</style>\n"
		"<defs><marker id=\"head\" viewBox=\"0 0 6 6\" refX=\"5.4\" refY=\"3\" markerWidth=\"6\" markerHeight=\"6\" "
		"orient=\"auto\"><path d=\"M0,0 L6,3 L0,6 z\" fill=\"#111\"/></marker>\n"
		"<pattern id=\"over\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
		"<path d=\"M0,0 V5\" stroke=\"#fff\" stroke-width=\"2.4\" stroke-opacity=\"0.38\"/></pattern></defs>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		WIDTH, height, WIDTH, height);
	text_at(d->out, LEFT, 32, "title", d->t->title);
	if (d->t->subtitle)
		text_at(d->out, LEFT, 52, "quiet", d->t->subtitle);
}

/* Swatches of the VMs: those of groups, then as many of the others as there is room for. */
static void draw_legend(struct drawing *d)
{
	const struct timeline *t = d->t;
	double x = LEFT;

	for (int pass = 0; pass < 2; pass++)
		for (uint32_t vm = 0; vm < t->n_vms; vm++) {
			bool grouped;
			const char *colour = colour_of(t, vm, &grouped);

			if (grouped != (pass == 0))
				continue;
			if (x + 2 * LEGEND_COLUMN > WIDTH - RIGHT) {
				text_at(d->out, x, 83, "quiet", "… and others");
				return;
			}
			fprintf(d->out, "<rect x=\"%.1f\" y=\"72\" width=\"14\" height=\"14\" rx=\"2\" fill=\"%s\"/>\n", x, colour);
			text_at(d->out, x + 20, 83, "", t->vm[vm]);
			x += 44 + 7.4 * (double)strlen(t->vm[vm]);
		}
}

/* What the marks mean. */
static void draw_key(struct drawing *d, double y)
{
	fprintf(d->out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"26\" height=\"12\" fill=\"%s\"/><rect x=\"%.1f\" y=\"%.1f\" width=\"26\" "
		"height=\"12\" fill=\"url(#over)\"/>\n",
		LEFT, y - 10, strong[0], LEFT, y - 10);
	text_at(d->out, LEFT + 34, y, "quiet", "in debt");
	fprintf(d->out,
		"<path d=\"M%.1f,%.1f l26,-10\" stroke=\"#111\" stroke-width=\"1.2\" fill=\"none\" marker-end=\"url(#head)\"/>\n",
		LEFT + 110, y);
	text_at(d->out, LEFT + 144, y, "quiet", "asks another CPU to run the group");
	fprintf(d->out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"26\" height=\"12\" fill=\"%s\" stroke=\"#111\" stroke-width=\"1.6\"/>\n",
		LEFT + 392, y - 10, strong[0]);
	text_at(d->out, LEFT + 426, y, "quiet", "runs because it was asked for");
}

/* 1, 2 or 5 times a power of ten, so that there are about twelve. */
static uint64_t tick_of(uint64_t span_ns)
{
	static const uint64_t steps[] = { 2, 5, 10 };
	uint64_t unit = 1, tick = 1;

	for (unsigned i = 0; span_ns / tick > 14; i = (i + 1) % 3) {
		tick = unit * steps[i];
		if (i == 2)
			unit *= 10;
	}
	return tick;
}

static void draw_axis(struct drawing *d, double bottom)
{
	const struct timeline *t = d->t;
	uint64_t tick = tick_of(t->to_ns - t->from_ns);

	for (uint64_t at = t->from_ns; at <= t->to_ns; at += tick) {
		double x = x_of(t, at);
		char label[40];

		fprintf(d->out, "<path d=\"M%.1f,%.1f V%.1f\" stroke=\"#e3e3e3\"/>\n", x, TOP - 4, bottom + 4);
		snprintf(label, sizeof(label), "%.*f", tick % 1000000 ? 3 : 0, (double)(at - t->from_ns) / 1e6);
		text_at(d->out, x, bottom + 20, "axis", label);
	}
	text_at(d->out, LEFT - 12, bottom + 20, "quiet right", "ms");
}

static void draw_rows(struct drawing *d)
{
	char label[32];

	for (uint32_t cpu = 0; cpu < d->t->n_cpus; cpu++) {
		fprintf(d->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#fafafa\"/>\n", LEFT,
			y_of(d, cpu) + 2, WIDTH - LEFT - RIGHT, d->row - 4);
		snprintf(label, sizeof(label), "CPU %u", cpu);
		text_at(d->out, LEFT - 12, y_of(d, cpu) + d->row / 2 + 4, "right", label);
	}
}

static void draw_run(struct drawing *d, const struct run *r)
{
	const struct timeline *t = d->t;
	const struct timeline_member *m = &t->member[r->member];
	double x = x_of(t, r->from_ns), width = x_of(t, r->to_ns) - x, y = y_of(d, r->cpu) + 3, height = d->row - 6;
	bool grouped, asked = r->flags & CO_RUN_REQUESTED;
	const char *colour = colour_of(t, m->vm, &grouped);

	fprintf(d->out, "<g><title>");
	text_escaped(d->out, m->label);
	fprintf(d->out, " on CPU %u: %.3f to %.3f ms, waited %.3f ms%s%s%s</title>", r->cpu,
		(double)(r->from_ns - t->from_ns) / 1e6, (double)(r->to_ns - t->from_ns) / 1e6, (double)r->waited_ns / 1e6,
		asked ? ", asked for" : "", r->flags & CO_RUN_OVER ? ", in debt" : "", r->flags & CO_RUN_STOLEN ? ", stolen" : "");
	fprintf(d->out,
		"<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\" stroke=\"%s\" stroke-width=\"%s\"/>",
		x, y, width < 0.3 ? 0.3 : width, height, colour, asked ? "#111" : "#fff", asked ? "1.6" : width < 3 ? "0" : "0.6");
	if (r->flags & CO_RUN_OVER && grouped)
		fprintf(d->out, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"url(#over)\"/>", x, y, width,
			height);
	fputs("</g>\n", d->out);
	if (width > 10 + 7 * (double)strlen(m->label) && d->row >= 18)
		text_at(d->out, x + width / 2, y + height / 2 + 4, grouped ? "on white" : "on", m->label);
}

static void draw_requests(struct drawing *d)
{
	const struct timeline *t = d->t;

	for (size_t i = 0; i < t->n_events; i++) {
		const struct co_event *e = &t->event[i];
		double x, y, to;

		if (e->kind != CO_EVENT_ASK || e->time_ns < t->from_ns || e->time_ns > t->to_ns || e->cpu >= t->n_cpus ||
		    e->value >= t->n_cpus || e->value == e->cpu)
			continue;
		x = x_of(t, e->time_ns);
		y = y_of(d, e->cpu) + d->row / 2;
		to = y_of(d, (uint32_t)e->value) + (e->value > e->cpu ? 4 : d->row - 4);
		fprintf(d->out, "<path d=\"M%.1f,%.1f L%.1f,%.1f\" stroke=\"#111\" stroke-width=\"1.2\" marker-end=\"url(#head)\"/>\n",
			x, y, x + 2, to);
	}
}

/* --- when a group ran together --- */

/* How many members of it run at that moment, on other CPUs than that of run `i`. */
static bool runs_beside(const struct drawing *d, size_t i, size_t j)
{
	const struct timeline_member *a = &d->t->member[d->run[i].member], *b = &d->t->member[d->run[j].member];

	return i != j && a->group == b->group && d->run[i].cpu != d->run[j].cpu;
}

static void draw_overlap(struct drawing *d, uint64_t from_ns, uint64_t to_ns, double y, const char *colour)
{
	double x = x_of(d->t, from_ns);

	fprintf(d->out, "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"8\" fill=\"%s\"/>\n", x, y,
		x_of(d->t, to_ns) - x, colour);
}

/* Runs are in the order of their beginnings, so overlaps with those before suffice. */
static uint64_t draw_together(struct drawing *d, uint32_t group, double y)
{
	uint64_t together = 0, covered_ns = 0;
	bool grouped;

	for (size_t i = 0; i < d->n; i++) {
		const struct run *r = &d->run[i];

		if (d->t->member[r->member].group != group)
			continue;
		for (size_t j = i; j-- > 0 && i - j < 4096;) {
			uint64_t from = max_u64(r->from_ns, covered_ns), to = min_u64(r->to_ns, d->run[j].to_ns);

			if (!runs_beside(d, i, j) || from >= to)
				continue;
			draw_overlap(d, from, to, y, colour_of(d->t, d->t->member[r->member].vm, &grouped));
			together += to - from;
			covered_ns = to;
		}
	}
	return together;
}

static int compare_runs(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	return x->from_ns != y->from_ns ? (x->from_ns > y->from_ns) - (x->from_ns < y->from_ns) : x->cpu - y->cpu;
}

static void draw_groups(struct drawing *d, double y)
{
	const struct timeline *t = d->t;
	char label[48];

	for (uint32_t g = 0; g < t->n_groups; g++, y += 34) {
		uint64_t together;

		text_at(d->out, LEFT - 12, y + 10, "right", t->group[g]);
		fprintf(d->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"8\" fill=\"#f3f3f3\"/>\n", LEFT, y + 1,
			WIDTH - LEFT - RIGHT);
		together = draw_together(d, g, y + 1);
		snprintf(label, sizeof(label), "together %.0f %% of the time",
			 100.0 * (double)together / (double)(t->to_ns - t->from_ns));
		text_at(d->out, WIDTH - RIGHT, y + 20, "quiet right", label);
	}
}

int timeline_write(const struct timeline *t, FILE *out)
{
	struct drawing d = { .t = t, .out = out, .row = t->n_cpus <= 8 ? 38 : t->n_cpus <= 24 ? 26 : 16 };
	double groups = 30 + 34.0 * (double)t->n_groups, bottom;
	int r = 0;

	if (t->to_ns <= t->from_ns || !t->n_cpus)
		return -EINVAL;
	for (size_t i = 0; i < t->n_events && r == 0; i++)
		r = take_event(&d, &t->event[i]);
	if (r == 0) {
		cut_runs(&d);
		qsort(d.run, d.n, sizeof(*d.run), compare_runs);
		bottom = bottom_of(&d);
		draw_head(&d, bottom + groups + 62);
		draw_legend(&d);
		draw_rows(&d);
		draw_axis(&d, bottom);
		for (size_t i = 0; i < d.n; i++)
			draw_run(&d, &d.run[i]);
		draw_requests(&d);
		draw_groups(&d, bottom + 36);
		draw_key(&d, bottom + groups + 40);
		fputs("</svg>\n", out);
	}
	free(d.run);
	return r;
}
