/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other end of the control socket, blocking: for the CLI and tests.
 */
#pragma once

#include <jansson.h>

struct ctl_client;

/* timeout_ms: for this and for every later wait; negative: none. -ENOENT, -ECONNREFUSED: no daemon; -EACCES: no right.
 */
int ctl_client_connect(const char *path, int timeout_ms, struct ctl_client **ret);
void ctl_client_close(struct ctl_client *c);

/*
 * Calls and waits for the answer. `params` is taken. 0 and *ret_result; -EREMOTEIO and *ret_error ({code, message,
 * data}), when the daemon refuses; -ETIMEDOUT, -ECONNRESET, -EPROTO. Events that come meanwhile are kept.
 */
int ctl_client_call(struct ctl_client *c, const char *method, json_t *params, json_t **ret_result, json_t **ret_error);

/* The next event, {method, params}. -ETIMEDOUT after the time limit. */
int ctl_client_event(struct ctl_client *c, json_t **ret_event);

/* To wait for events beside other things. */
int ctl_client_fd(const struct ctl_client *c);
