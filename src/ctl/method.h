/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a method of the control socket is: a line in a table. The server checks parameters against it before the handler
 * runs, `rpc.describe` lists it, the CLI's help comes from there. Control thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/socket.h>

/* JSON-RPC's own codes, then ours. */
enum ctl_error {
	CTL_ERROR_PARSE = -32700,
	CTL_ERROR_REQUEST = -32600,
	CTL_ERROR_METHOD = -32601,
	CTL_ERROR_PARAMS = -32602,
	CTL_ERROR_INTERNAL = -32603,
	CTL_ERROR_FAILED = -32000,    /* tried, did not work */
	CTL_ERROR_NOT_FOUND = -32001, /* no such VM, disk, pool … */
	CTL_ERROR_POLICY = -32002,    /* the policy that would result is refused; data.diagnostics says why */
	CTL_ERROR_BUSY = -32003,      /* another change is under way, or too many clients or calls: try again */
	CTL_ERROR_EXISTS = -32004,
};

enum ctl_type { CTL_STRING, CTL_INTEGER, CTL_BOOLEAN, CTL_OBJECT, CTL_ARRAY, CTL_ANY };

struct ctl_param {
	const char *name; /* NULL ends a table */
	enum ctl_type type;
	bool required;
	const char *doc;
};

struct ctl_call;

struct ctl_method {
	const char *name; /* "disk.add"; NULL ends a table */
	const struct ctl_param *params; /* NULL: none */
	/* `params` is an object, maybe empty, checked against the table; borrowed until the handler returns. The call
	 * is answered exactly once, now or later. */
	void (*handler)(struct ctl_call *call, json_t *params, void *context);
	const char *doc;
};

/* A notification that clients may subscribe to. */
struct ctl_event {
	const char *name; /* "disk.connected"; NULL ends a table */
	const char *doc;
};

/*
 * Answer and forget the call; it may come when the client has gone. `result` is taken (NULL: an empty object).
 */
void ctl_reply(struct ctl_call *call, json_t *result);
/* hint: what the caller can do about it; NULL: none. */
void ctl_fail(struct ctl_call *call, enum ctl_error code, const char *hint, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The same with more data (taken), to which the hint is added. */
void ctl_fail_data(struct ctl_call *call, enum ctl_error code, json_t *data, const char *hint, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* Who asks, as the kernel says (SO_PEERCRED, recorded when it connected). */
const struct ucred *ctl_call_peer(const struct ctl_call *call);
