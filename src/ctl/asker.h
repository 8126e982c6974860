/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question to another daemon's control socket, again and again, from an sd-event loop: nothing waits for the answer. The
 * connection is kept; when the daemon goes or does not answer in time, the next question makes a new one.
 */
#pragma once

#include <jansson.h>
#include <systemd/sd-event.h>
#include <sys/types.h>

struct ctl_asker;

/* result: borrowed; NULL: it refuses, or nobody is there any more. `peer`: its process, as the kernel tells. */
typedef void (*ctl_answer)(void *arg, json_t *result, pid_t peer);

int ctl_asker_create(sd_event *event, const char *method, ctl_answer answer, void *arg, struct ctl_asker **ret);
/* NULL is allowed. */
void ctl_asker_destroy(struct ctl_asker *a);

/* Asks whoever listens at `path`. Calls answer with NULL at once if nobody does. */
void ctl_asker_ask(struct ctl_asker *a, const char *path);
