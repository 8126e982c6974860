/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the policy that runs: load, check, apply, and only then make it last. Control thread.
 *
 * What disk.* and slo.* change, they change in what runs: files that were applied from elsewhere, or that somebody is editing,
 * are not read again for it.
 */
#include "ctl/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct change {
	struct ctl_context *context;
	struct ctl_call *call;	/* NULL: SIGHUP */
	struct policy_overlay *overlay; /* becomes the one that runs; NULL: stays */
	struct policy_source *sources;	/* become those that run */
	size_t n_sources;
	json_t *changes;
	host_done done;
	void *arg;
};

/* A handler, or a reload, that comes after the change under way. */
struct waiting {
	struct list node;
	void (*handler)(struct ctl_call *call, json_t *params, void *context); /* NULL: a reload */
	struct ctl_call *call;
	json_t *params;
	host_done done;
	void *arg;
};

/* --- one after the other --- */

static int wait_for_turn(struct ctl_context *c, const struct waiting *w)
{
	struct waiting *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *w;
	json_incref(copy->params);
	list_append(&c->waiting, &copy->node);
	return 0;
}

static struct waiting take_waiting(struct ctl_context *c)
{
	struct waiting *first = list_first(&c->waiting, struct waiting, node), w = *first;

	list_remove(&first->node);
	free(first);
	return w;
}

bool change_must_wait(struct ctl_context *c, struct ctl_call *call, json_t *params,
		      void (*handler)(struct ctl_call *call, json_t *params, void *context))
{
	struct waiting w = { .handler = handler, .call = call, .params = params };

	if (!c->changing)
		return false;
	if (wait_for_turn(c, &w) < 0)
		ctl_fail(call, CTL_ERROR_BUSY, NULL, "another change is under way");
	return true;
}

static void change_over(struct ctl_context *c)
{
	c->changing = false;
	/* Those that fail at once leave the turn to the next. */
	while (!c->changing && !list_empty(&c->waiting)) {
		struct waiting w = take_waiting(c);

		if (w.handler)
			w.handler(w.call, w.params, c);
		else
			change_reload(c, w.done, w.arg);
		json_decref(w.params);
	}
}

void ctl_commands_stop(struct ctl_context *c)
{
	struct host_error ending = { .err = -ESHUTDOWN, .text = "fairleadd is ending" };

	while (c->waiting.next && !list_empty(&c->waiting)) {
		struct waiting w = take_waiting(c);

		if (w.handler)
			ctl_fail(w.call, CTL_ERROR_FAILED, NULL, "%s", ending.text);
		else
			w.done(w.arg, &ending);
		json_decref(w.params);
	}
}

/* --- loading --- */

static json_t *diagnostics_json(const struct policy_diagnostics *diag)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < diag->n; i++) {
		const struct policy_diagnostic *d = &diag->d[i];

		json_array_append_new(a, json_pack("{s:s, s:s?, s:i, s:i, s:s}", "severity",
						   d->severity == POLICY_ERROR ? "error" : "warning", "file", d->at.file,
						   "line", (int)d->at.line, "column", (int)d->at.column, "message",
						   d->message));
	}
	return a;
}

/* Puts the overlay's text in the place of its file, or adds it. */
static int add_overlay(const struct ctl_context *c, const struct policy_overlay *overlay, struct policy_source **s, size_t *n)
{
	struct policy_source *grown;
	char *text;

	if (!overlay || !c->overlay_path)
		return 0;
	text = policy_overlay_text(overlay);
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < *n; i++)
		if ((*s)[i].overlay) {
			free((*s)[i].text);
			(*s)[i].text = text;
			return 0;
		}
	grown = reallocarray(*s, *n + 1, sizeof(*grown));
	if (grown)
		*s = grown;
	if (!grown || !(grown[*n] = (struct policy_source){ .name = strdup(c->overlay_path) }).name) {
		free(text);
		return -ENOMEM;
	}
	grown[*n].text = text;
	grown[*n].overlay = true;
	*n += 1;
	return 0;
}

/* Has ch->sources, with what is on top of them, loaded. */
static int load(struct change *ch, struct policy **ret, struct policy_diagnostics *diag)
{
	struct ctl_context *c = ch->context;
	int err = 0;

	if (!ch->sources && ch->overlay && c->sources) {
		err = policy_sources_copy(c->sources, c->n_sources, &ch->sources);
		ch->n_sources = err == 0 ? c->n_sources : 0;
	} else if (!ch->sources) {
		err = c->config ? policy_sources_find(c->config, &ch->sources, &ch->n_sources) : -EOPNOTSUPP;
		/* What a daemon was started with may have been a pipe. It cannot wait for one now. */
		if (err == 0)
			ch->sources[0].plain = true;
	}
	policy_sources_read(ch->sources, ch->n_sources);
	if (err == 0)
		err = add_overlay(c, ch->overlay ? ch->overlay : c->overlay, &ch->sources, &ch->n_sources);
	return err < 0 ? err : policy_load_sources(ch->sources, ch->n_sources, ret, diag);
}

/* NULL: nothing but warnings. */
static const struct policy_diagnostic *first_error(const struct policy_diagnostics *diag)
{
	for (size_t i = 0; i < diag->n; i++)
		if (diag->d[i].severity == POLICY_ERROR)
			return &diag->d[i];
	return NULL;
}

static void fail_load(struct ctl_call *call, int err, const struct policy_diagnostics *diag)
{
	const struct policy_diagnostic *wrong = first_error(diag);
	const char *first = "";

	if (err == -EOPNOTSUPP) {
		ctl_fail(call, CTL_ERROR_FAILED, "start fairleadd with --config to have a policy that can change",
			 "this daemon serves one disk without a policy");
		return;
	}
	if (wrong)
		first = wrong->message;
	ctl_fail_data(call, CTL_ERROR_POLICY, json_pack("{s:o}", "diagnostics", diagnostics_json(diag)), NULL,
		      "the policy is refused: %s", *first ? first : strerror(-err));
}

/* Failing tells the call. */
static int load_for_call(struct change *ch, struct policy **ret)
{
	struct policy_diagnostics diag = { 0 };
	int err = load(ch, ret, &diag);

	if (err < 0)
		fail_load(ch->call, err, &diag);
	policy_diagnostics_fini(&diag);
	return err;
}

static void change_fini(struct change *ch)
{
	json_decref(ch->changes);
	policy_overlay_free(ch->overlay);
	policy_sources_free(ch->sources, ch->n_sources);
}

int change_load(struct ctl_context *c, struct ctl_call *call, struct policy_source *s, size_t n, struct policy **ret)
{
	struct change ch = { .context = c, .call = call, .sources = s, .n_sources = n };
	int err = load_for_call(&ch, ret);

	change_fini(&ch);
	return err;
}

/* --- telling what changes --- */

static const char *kind_name(enum policy_change_kind k)
{
	static const char *const name[] = { "added", "removed", "changed" };

	return name[k];
}

json_t *change_list_json(const struct policy *before, const struct policy *after)
{
	struct policy_changes changes = { 0 };
	json_t *a = json_array();

	if (policy_diff(before, after, &changes) < 0)
		return a;
	for (size_t i = 0; i < changes.n; i++) {
		const struct policy_change *c = &changes.c[i];
		json_t *fields = json_array();

		for (size_t f = 0; f < c->n_fields; f++)
			json_array_append_new(fields, json_pack("{s:s, s:s, s:s}", "field", c->fields[f].field, "before",
								c->fields[f].before, "after", c->fields[f].after));
		json_array_append_new(a, json_pack("{s:s, s:s, s:s, s:o}", "change", kind_name(c->kind), "object",
						   policy_object_name(c->object), "name", c->name, "fields", fields));
	}
	policy_changes_fini(&changes);
	return a;
}

/* --- applying --- */

/* conf.d/ may not be there yet. */
static int make_folder(const char *path)
{
	char *dir = strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
	int err = 0;

	if (!slash)
		err = -ENOMEM;
	else
		*slash = '\0';
	if (err == 0 && mkdir(dir, 0755) < 0 && errno != EEXIST)
		err = -errno;
	free(dir);
	return err;
}

static void keep_overlay(struct change *ch, struct host_error *error)
{
	struct ctl_context *c = ch->context;
	int err;

	if (!ch->overlay)
		return;
	err = make_folder(c->overlay_path);
	if (err == 0)
		err = policy_overlay_write(ch->overlay, c->overlay_path);
	policy_overlay_free(c->overlay);
	c->overlay = ch->overlay;
	ch->overlay = NULL;
	if (err < 0) {
		error->err = err;
		snprintf(error->text, sizeof(error->text), "it runs, but will not survive a restart: %.200s: %s", c->overlay_path,
			 strerror(-err));
	}
}

static void keep_sources(struct change *ch)
{
	struct ctl_context *c = ch->context;

	policy_sources_free(c->sources, c->n_sources);
	c->sources = ch->sources;
	c->n_sources = ch->n_sources;
	ch->sources = NULL;
	ch->n_sources = 0;
}

static void applied(void *arg, const struct host_error *error)
{
	struct change *ch = arg;
	struct ctl_context *c = ch->context;
	struct host_error e = *error;

	if (e.err == 0) {
		keep_sources(ch);
		keep_overlay(ch, &e);
	}
	if (ch->done)
		ch->done(ch->arg, &e);
	if (ch->call && e.err == 0)
		ctl_reply(ch->call, json_pack("{s:O}", "changes", ch->changes));
	else if (ch->call)
		ctl_fail(ch->call, e.err == -EBUSY ? CTL_ERROR_BUSY : CTL_ERROR_FAILED, NULL, "%s", e.text);
	change_fini(ch);
	free(ch);
	change_over(c);
}

/* Takes what `what` holds. */
static void start(struct change *what, struct policy *p)
{
	struct change *ch = malloc(sizeof(*ch));
	struct host_error none = { .err = -ENOMEM, .text = "out of memory" };

	if (!ch) {
		policy_free(p);
		change_fini(what);
		if (what->call)
			ctl_fail(what->call, CTL_ERROR_INTERNAL, NULL, "%s", none.text);
		else
			what->done(what->arg, &none);
		return;
	}
	*ch = *what;
	ch->context->changing = true;
	ch->changes = change_list_json(ch->context->host->policy, p);
	host_apply(ch->context->host, p, applied, ch);
}

void change_begin(struct ctl_context *c, struct ctl_call *call, struct policy_source *s, size_t n,
		  struct policy_overlay *overlay)
{
	struct change ch = { .context = c, .call = call, .overlay = overlay, .sources = s, .n_sources = n };
	struct policy *p;

	if (load_for_call(&ch, &p) < 0)
		change_fini(&ch);
	else
		start(&ch, p);
}

void change_reload(struct ctl_context *c, host_done done, void *arg)
{
	struct change ch = { .context = c, .done = done, .arg = arg };
	struct policy_diagnostics diag = { 0 };
	struct host_error e = { 0 };
	struct policy *p;

	if (c->changing) {
		e.err = wait_for_turn(c, &(struct waiting){ .done = done, .arg = arg });
		if (e.err == 0)
			return;
	} else {
		e.err = load(&ch, &p, &diag);
	}
	if (e.err == 0) {
		start(&ch, p);
	} else {
		const struct policy_diagnostic *wrong = first_error(&diag);
		char *text = wrong ? policy_diagnostic_text(wrong) : NULL;

		snprintf(e.text, sizeof(e.text), "%s", text ? text : strerror(-e.err));
		free(text);
		change_fini(&ch);
		done(arg, &e);
	}
	policy_diagnostics_fini(&diag);
}
