/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was changed at run time, kept in a file of its own beside the administrator's: conf.d/fairleadd.yaml. It uses
 * the policy's own words (JSON, which is YAML too), its values win over those of other files, and a disk may be marked
 * `removed: true` there. What it says is checked like everything else: change it, load the sources with its text, and
 * only when that succeeds write it.
 *
 * Control thread. Values are JSON as the clients sent them, so the same keys and units as in the policy.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct policy_overlay;

/* Where it is kept, beside the policy's main file; new, NULL without memory. */
char *policy_overlay_path(const char *main_file);
/* A file that does not exist is an empty overlay. -EINVAL: not what policy_overlay_write() writes. */
int policy_overlay_load(const char *path, struct policy_overlay **ret);
struct policy_overlay *policy_overlay_copy(const struct policy_overlay *o);
void policy_overlay_free(struct policy_overlay *o);

/* `disk`: its keys, `name` included; borrowed. Takes a mark of removal back. */
int policy_overlay_disk_add(struct policy_overlay *o, const char *vm, json_t *disk);
/* `elsewhere`: another file has the disk too (its `at` is not in this one), so it must be marked as removed. */
int policy_overlay_disk_remove(struct policy_overlay *o, const char *vm, const char *name, bool elsewhere);
int policy_overlay_disk_resize(struct policy_overlay *o, const char *vm, const char *name, uint64_t size_bytes);

/*
 * Promises of a target: "VM", "VM/CLASS" (that class in that VM) or "/CLASS" (in every VM). set: the keys given replace
 * those of the same name, others stay; unset: back to what the other files say, -ENOENT if nothing was set. -EINVAL: no
 * such form; -ENOKEY: a key that no promise has.
 */
int policy_overlay_promise_set(struct policy_overlay *o, const char *target, json_t *promise);
int policy_overlay_promise_unset(struct policy_overlay *o, const char *target);

/* The file's text, new; NULL without memory. */
char *policy_overlay_text(const struct policy_overlay *o);
/* Atomically: whoever reads the path, also after a crash or kill -9, finds the old file or the new one, whole. */
int policy_overlay_write(const struct policy_overlay *o, const char *path);
