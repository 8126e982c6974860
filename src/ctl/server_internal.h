/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the server's files: server.c (socket, tables), connection.c (bytes in and out), rpc.c (messages), builtin.c
 * (rpc.* methods).
 */
#pragma once

#include "base/list.h"
#include "ctl/server.h"

struct ctl_table {
	const struct ctl_method *methods;
	void *context;
};

struct ctl_server {
	sd_event *event;
	int fd; /* -1: not listening */
	char *path;
	dev_t device; /* of the socket file, to remove only our own */
	ino_t inode;
	sd_event_source *source, *again_source;
	struct list connections;
	unsigned n_connections;
	struct ctl_table *tables;
	size_t n_tables;
	const struct ctl_event **events;
	size_t n_events;
};

/*
 * A client. It ends when its peer closes, breaks the rules or the server ends; the struct lives on while rpc code is at
 * work on it (`busy`).
 */
struct ctl_connection {
	struct list node; /* in server->connections; alone once closed */
	struct ctl_server *server;
	int fd; /* -1: closed */
	sd_event_source *source;
	struct ucred peer;
	char *in;
	size_t in_used, in_room;
	char *out;
	size_t out_sent, out_used, out_room;
	struct list calls; /* not answered yet */
	unsigned n_calls;
	bool busy;     /* in connection_work() */
	bool ending;   /* close once everything is sent */
	bool half;     /* the client sends no more; it is still there to be answered */
	json_t *topics; /* events subscribed to, as an object's keys; NULL: none */
	uint64_t events_lost;
};

/* Several calls in one message (JSON-RPC's "batch"), answered in one. */
struct ctl_batch {
	json_t *answers;
	unsigned waiting;
};

struct ctl_call {
	struct list node;
	struct ctl_connection *connection; /* NULL: the client has gone */
	json_t *id;			   /* NULL: a notification, wants no answer */
	struct ctl_batch *batch;
	struct ucred peer;
};

/* connection.c */
int connection_create(struct ctl_server *s, int fd);
void connection_close(struct ctl_connection *c);
/* Queues one line. `message` is taken. */
void connection_send(struct ctl_connection *c, json_t *message);
/* Handles what has been read, as far as the client's backlog allows. */
void connection_work(struct ctl_connection *c);
/* True: let it read first. */
bool connection_backlogged(const struct ctl_connection *c);

/* rpc.c: one message, one line. */
void rpc_message(struct ctl_connection *c, const char *text, size_t length);
void rpc_refuse(struct ctl_connection *c, enum ctl_error code, const char *message);
const char *rpc_type_name(enum ctl_type type);

/* builtin.c; its context is the server. */
extern const struct ctl_method rpc_methods[];
