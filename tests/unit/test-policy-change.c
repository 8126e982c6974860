/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: differences between two policies by object and field, in an order that can be applied; and the overlay
 * of run-time changes: what is put in comes out of a load, survives being written and read, and can be taken back.
 */
#include "policy/overlay.h"
#include "policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static struct policy *load(const char *text, const char *overlay)
{
	struct policy_source s[] = {
		{ .name = (char *)"p.yaml", .text = (char *)(uintptr_t)text },
		{ .name = (char *)POLICY_OVERLAY_NAME, .text = (char *)(uintptr_t)overlay, .overlay = true },
	};
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;

	if (policy_load_sources(s, overlay ? 2 : 1, &p, &diag) < 0)
		print_message("%s\n", diag.d[0].message);
	policy_diagnostics_fini(&diag);
	assert_non_null(p);
	return p;
}

/* "+pool a", "-disk v/d", "vm v shares 1>2", a line each. */
static char *describe(const struct policy_changes *c)
{
	static const char sign[] = { '+', '-', '~' };
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; i < c->n; i++) {
		fprintf(out, "%c%s %s", sign[c->c[i].kind], policy_object_name(c->c[i].object), c->c[i].name);
		for (size_t j = 0; c->c[i].kind == POLICY_CHANGED && j < c->c[i].n_fields; j++)
			fprintf(out, " %s=%s>%s", c->c[i].fields[j].field, c->c[i].fields[j].before,
				c->c[i].fields[j].after);
		fputc('\n', out);
	}
	fclose(out);
	return text;
}

static const char old_text[] =
	"pools: { a: { type: ram }, b: { type: ram } }\n"
	"classes: { g: { ioprio: [rt], reservation: { iops: 5 } }, h: {} }\n"
	"vms:\n"
	"  v:\n    disks: [{ name: d, pool: a, size: 1MiB }, { name: e, pool: b, size: 1MiB }]\n"
	"  w:\n    disks: [{ name: d, pool: a, size: 1MiB }]\n";
static const char new_text[] =
	"daemon: { poll: never }\n"
	"pools: { a: { type: ram, slo: on }, c: { type: ram } }\n"
	"classes: { h: {}, g: { ioprio: [rt, be/0], reservation: { iops: 6 } } }\n"
	"vms:\n"
	"  v:\n    classes: [g]\n    disks: [{ name: f, pool: c, size: 1MiB }, { name: d, pool: a, size: 2MiB }]\n";

static void changes_are_in_an_order_that_can_be_applied(void **state)
{
	struct policy *before = load(old_text, NULL), *after = load(new_text, NULL);
	struct policy_changes c;
	char *text;

	(void)state;
	assert_int_equal(policy_diff(before, after, &c), 0);
	text = describe(&c);
	assert_string_equal(text, "-vm class v/h\n"
				  "-disk v/e\n"
				  "-vm class w/g\n"
				  "-vm class w/h\n"
				  "-disk w/d\n"
				  "-vm w\n"
				  "-pool b\n"
				  "~daemon  poll=adaptive>never\n"
				  "~pool a slo=false>true\n"
				  "+pool c\n"
				  "~class g ioprio=rt>rt, be/0 reservation.iops=5>6\n"
				  "~vm v default_class=h>g reservation.iops=5>6\n"
				  "~vm class v/g ioprio=rt>rt, be/0 reservation.iops=5>6\n"
				  "+disk v/f\n"
				  "~disk v/d size=1MiB>2MiB\n");
	free(text);
	for (size_t i = 0; i < c.n; i++) {
		if (strcmp(c.c[i].name, "v/d") != 0)
			continue;
		assert_int_equal(c.c[i].before, 0);
		assert_int_equal(c.c[i].after, 1);
		assert_int_equal(c.c[i].before_vm, 0);
		assert_true(policy_change_has(&c.c[i], "size"));
		assert_false(policy_change_has(&c.c[i], "pool"));
	}
	policy_changes_fini(&c);
	policy_free(before);
	policy_free(after);
}

static void nothing_changed_is_nothing(void **state)
{
	struct policy *p = load(old_text, NULL), *q = policy_copy(p);
	struct policy_changes c;

	(void)state;
	assert_int_equal(policy_diff(p, q, &c), 0);
	assert_int_equal(c.n, 0);
	policy_changes_fini(&c);
	assert_int_equal(policy_diff(NULL, q, &c), 0);
	for (size_t i = 0; i < c.n; i++)
		assert_int_equal(c.c[i].kind, POLICY_ADDED);
	policy_changes_fini(&c);
	policy_free(p);
	policy_free(q);
}

/* --- overlay --- */

static char folder[] = "/tmp/fairlead-test-XXXXXX";
static char path[sizeof(folder) + sizeof(POLICY_OVERLAY_NAME)];

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/%s", folder, POLICY_OVERLAY_NAME);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

/* Through the file, as after a restart. */
static struct policy_overlay *write_and_read(struct policy_overlay *o)
{
	struct policy_overlay *again;

	assert_int_equal(policy_overlay_write(o, path), 0);
	policy_overlay_free(o);
	assert_int_equal(policy_overlay_load(path, &again), 0);
	return again;
}

static struct policy *apply(const struct policy_overlay *o)
{
	char *text = policy_overlay_text(o);
	struct policy *p = load(old_text, text);

	free(text);
	return p;
}

static void disks_come_and_go(void **state)
{
	struct policy_overlay *o;
	struct policy *p;
	json_t *disk = json_pack("{s:s, s:s, s:s, s:i}", "name", "x", "pool", "a", "size", "4MiB", "queues", 2);

	(void)state;
	assert_int_equal(policy_overlay_load(path, &o), 0);
	assert_int_equal(policy_overlay_disk_add(o, "v", disk), 0);
	assert_int_equal(policy_overlay_disk_add(o, "new", disk), 0);
	assert_int_equal(policy_overlay_disk_remove(o, "v", "e", true), 0);
	assert_int_equal(policy_overlay_disk_resize(o, "v", "d", 3 << 20), 0);
	o = write_and_read(o);
	p = apply(o);
	assert_int_equal(p->n_vms, 3);
	assert_int_equal(p->vms[0].n_disks, 2);
	assert_int_equal(p->vms[0].disks[0].size_bytes, 3 << 20);
	assert_string_equal(p->vms[0].disks[1].name, "x");
	assert_int_equal(p->vms[0].disks[1].queues, 2);
	assert_string_equal(p->vms[2].name, "new");
	policy_free(p);
	assert_int_equal(policy_overlay_disk_remove(o, "v", "x", false), 0);
	assert_int_equal(policy_overlay_disk_remove(o, "new", "x", false), 0);
	o = write_and_read(o);
	p = apply(o);
	assert_int_equal(p->n_vms, 2);
	assert_int_equal(p->vms[0].n_disks, 1);
	policy_free(p);
	policy_overlay_free(o);
	json_decref(disk);
}

static void promises_are_set_and_unset(void **state)
{
	struct policy_overlay *o;
	struct policy *p;
	json_t *one = json_pack("{s:{s:f}, s:i}", "limit", "iops", 9.2, "shares", 7);
	json_t *two = json_pack("{s:{s:s}}", "limit", "bandwidth", "1MiB/s");
	json_t *wrong = json_pack("{s:i}", "size", 7);

	(void)state;
	unlink(path);
	assert_int_equal(policy_overlay_load(path, &o), 0);
	assert_int_equal(policy_overlay_promise_set(o, "v", one), 0);
	assert_int_equal(policy_overlay_promise_set(o, "v", two), 0);
	assert_int_equal(policy_overlay_promise_set(o, "v/h", one), 0);
	assert_int_equal(policy_overlay_promise_set(o, "/g", one), 0);
	assert_int_equal(policy_overlay_promise_set(o, "v", wrong), -ENOKEY);
	assert_int_equal(policy_overlay_promise_set(o, "v/", one), -EINVAL);
	assert_int_equal(policy_overlay_promise_set(o, "", one), -EINVAL);
	o = write_and_read(o);
	p = apply(o);
	assert_int_equal(p->vms[0].promise.limit.milli_iops, 9200);
	assert_int_equal(p->vms[0].promise.limit.bandwidth_bytes, 1 << 20);
	assert_int_equal(p->vms[0].n_classes, 2);
	assert_int_equal(p->vms[0].classes[1].promise.limit.bandwidth_bytes, 0);
	assert_int_equal(p->vms[0].classes[1].promise.shares, 7);
	assert_int_equal(p->vms[1].classes[1].promise.shares, 100);
	assert_int_equal(p->vms[1].classes[0].promise.shares, 7);
	policy_free(p);
	assert_int_equal(policy_overlay_promise_unset(o, "v"), 0);
	assert_int_equal(policy_overlay_promise_unset(o, "v/h"), 0);
	assert_int_equal(policy_overlay_promise_unset(o, "/g"), 0);
	assert_int_equal(policy_overlay_promise_unset(o, "v"), -ENOENT);
	assert_int_equal(policy_overlay_promise_unset(o, "w/g"), -ENOENT);
	o = write_and_read(o);
	p = apply(o);
	assert_int_equal(p->vms[0].promise.limit.milli_iops, 0);
	assert_int_equal(p->vms[0].classes[1].promise.shares, 100);
	policy_free(p);
	policy_overlay_free(o);
	json_decref(one);
	json_decref(two);
	json_decref(wrong);
}

static void what_is_no_overlay_is_refused(void **state)
{
	static const char *const texts[] = { "[]", "{", "vms:\n  v:\n" };
	struct policy_overlay *o;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		FILE *f = fopen(path, "w");

		fputs(texts[i], f);
		fclose(f);
		assert_int_equal(policy_overlay_load(path, &o), -EINVAL);
	}
}

/* It is known by its name, whichever way the main file is named. */
static void an_overlay_has_one_name(void **state)
{
	char here[256], *overlay;
	struct policy_source *s;
	FILE *f;
	size_t n;

	(void)state;
	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(mkdir("conf.d", 0700), 0);
	f = fopen("conf.d/" POLICY_OVERLAY_NAME, "w");
	assert_int_equal(fclose(f), 0);
	for (unsigned i = 0; i < 3; i++) {
		char absolute[80];
		const char *mains[] = { "main.yaml", "./main.yaml", absolute };

		snprintf(absolute, sizeof(absolute), "%s/main.yaml", folder);
		assert_int_equal(policy_sources_find(mains[i], &s, &n), 0);
		assert_int_equal(n, 2);
		overlay = policy_overlay_path(mains[i]);
		assert_string_equal(s[1].name, overlay);
		free(overlay);
		policy_sources_free(s, n);
	}
	unlink("conf.d/" POLICY_OVERLAY_NAME);
	rmdir("conf.d");
	assert_int_equal(chdir(here), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_are_in_an_order_that_can_be_applied),
		cmocka_unit_test(nothing_changed_is_nothing),
		cmocka_unit_test(disks_come_and_go),
		cmocka_unit_test(promises_are_set_and_unset),
		cmocka_unit_test(what_is_no_overlay_is_refused),
		cmocka_unit_test(an_overlay_has_one_name),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
