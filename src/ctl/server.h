/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: JSON-RPC 2.0, one JSON document a line, over a unix stream socket. See doc/rpc.md for the
 * protocol as clients see it. Control thread, on its sd-event loop; nothing blocks.
 *
 * Limits: messages of 1 MiB, 64 clients, 64 unanswered calls a client. A client that does not read is not read from
 * either, loses events (and is told how many) and is cut off once 64 MiB wait for it.
 */
#pragma once

#include "ctl/method.h"

#include <systemd/sd-event.h>
#include <sys/types.h>

#define CTL_PROTOCOL 1 /* grows when something that clients rely on changes */
#define CTL_MESSAGE_MAX (1u << 20)
#define CTL_CLIENTS_MAX 64
#define CTL_CALLS_MAX 64

struct ctl_server;

/* `rpc.describe`, `rpc.subscribe` and `rpc.unsubscribe` are there from the start. */
int ctl_server_create(sd_event *event, struct ctl_server **ret);
/* Clients are cut off; calls not answered yet are still to be answered, into nothing. NULL is allowed. */
void ctl_server_destroy(struct ctl_server *s);

/* Tables end with a NULL name and live as long as the server. */
int ctl_server_methods_add(struct ctl_server *s, const struct ctl_method *methods, void *context);
int ctl_server_events_add(struct ctl_server *s, const struct ctl_event *events);

/*
 * Binds and listens. The path appears with its mode and group set, and already listening: that it exists means "ready".
 * A stale socket there is replaced; -EADDRINUSE: a live one. group NULL: as it is. -EPERM: no right to set the group;
 * -ESRCH: no such group.
 */
int ctl_server_listen(struct ctl_server *s, const char *path, mode_t mode, const char *group);

/* A notification to everybody who subscribed to it. `params` is taken. */
void ctl_server_publish(struct ctl_server *s, const char *event, json_t *params);

unsigned ctl_server_clients(const struct ctl_server *s);
