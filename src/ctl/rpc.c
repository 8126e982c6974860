/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON-RPC 2.0: a line is a request, a notification or a batch of them; each becomes a call that its handler answers
 * now or later. Parameters are checked here, against the method's table, so that handlers see only what they declared.
 */
#include "base/utf8.h"
#include "ctl/server_internal.h"
#include "policy/suggest.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BATCH_MAX CTL_CALLS_MAX

static bool is_string(const json_t *v)
{
	return json_is_string(v);
}

static bool is_integer(const json_t *v)
{
	return json_is_integer(v);
}

static bool is_boolean(const json_t *v)
{
	return json_is_boolean(v);
}

static bool is_object(const json_t *v)
{
	return json_is_object(v);
}

static bool is_array(const json_t *v)
{
	return json_is_array(v);
}

static bool is_any(const json_t *v)
{
	return v;
}

static const struct {
	const char *name;
	bool (*is)(const json_t *);
} types[] = {
	[CTL_STRING] = { "string", is_string }, [CTL_INTEGER] = { "integer", is_integer },
	[CTL_BOOLEAN] = { "boolean", is_boolean }, [CTL_OBJECT] = { "object", is_object },
	[CTL_ARRAY] = { "array", is_array }, [CTL_ANY] = { "any", is_any },
};

const char *rpc_type_name(enum ctl_type type)
{
	return types[type].name;
}

/* --- answers --- */

static json_t *error_message(json_t *id, enum ctl_error code, const char *message, json_t *data)
{
	json_t *error = json_pack("{s:i, s:s}", "code", (int)code, "message", message);

	if (error && data)
		json_object_set_new(error, "data", data);
	else
		json_decref(data);
	return json_pack("{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", id, "error", error);
}

void rpc_refuse(struct ctl_connection *c, enum ctl_error code, const char *message)
{
	connection_send(c, error_message(NULL, code, message, NULL));
}

static void deliver(struct ctl_connection *c, struct ctl_batch *batch, json_t *message)
{
	if (!batch) {
		if (message && c)
			connection_send(c, message);
		else
			json_decref(message);
		return;
	}
	if (message)
		json_array_append_new(batch->answers, message);
	if (--batch->waiting > 0)
		return;
	/* A batch of notifications has no answer at all. */
	if (c && json_array_size(batch->answers))
		connection_send(c, batch->answers);
	else
		json_decref(batch->answers);
	free(batch);
}

/* `message` is taken; NULL: none is wanted. */
static void finish(struct ctl_call *call, json_t *message)
{
	struct ctl_connection *c = call->connection;
	struct ctl_batch *batch = call->batch;
	bool was_busy = c && c->busy;

	if (c) {
		list_remove(&call->node);
		c->n_calls--;
		/* Sending may find the client gone; it is freed below, not under our feet. */
		c->busy = true;
	}
	json_decref(call->id);
	free(call);
	deliver(c, batch, message);
	if (!c || was_busy)
		return;
	c->busy = false;
	/* There may be lines that waited for this call to end. */
	connection_work(c);
}

void ctl_reply(struct ctl_call *call, json_t *result)
{
	if (!call->id) {
		json_decref(result);
		finish(call, NULL);
		return;
	}
	finish(call, json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", call->id, "result",
			       result ? result : json_object()));
}

static void fail(struct ctl_call *call, enum ctl_error code, json_t *data, const char *hint, const char *format,
		 va_list args)
{
	char text[1024];

	vsnprintf(text, sizeof(text), format, args);
	/* A name that was cut in a character's midst would be no JSON, and the call would stay without an answer. */
	utf8_clean(text);
	if (hint && !data)
		data = json_object();
	if (hint)
		json_object_set_new(data, "hint", json_string(hint));
	if (!call->id) {
		json_decref(data);
		finish(call, NULL);
		return;
	}
	finish(call, error_message(call->id, code, text, data));
}

void ctl_fail(struct ctl_call *call, enum ctl_error code, const char *hint, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail(call, code, NULL, hint, format, args);
	va_end(args);
}

void ctl_fail_data(struct ctl_call *call, enum ctl_error code, json_t *data, const char *hint, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fail(call, code, data, hint, format, args);
	va_end(args);
}

const struct ucred *ctl_call_peer(const struct ctl_call *call)
{
	return &call->peer;
}

/* --- requests --- */

static const struct ctl_method *find_method(const struct ctl_server *s, const char *name, void **ret_context)
{
	for (size_t i = 0; i < s->n_tables; i++) {
		for (const struct ctl_method *m = s->tables[i].methods; m->name; m++) {
			if (strcmp(m->name, name) != 0)
				continue;
			*ret_context = s->tables[i].context;
			return m;
		}
	}
	return NULL;
}

static void fail_unknown_method(struct ctl_call *call, const struct ctl_server *s, const char *name)
{
	char hint[128];
	struct suggest near;

	suggest_init(&near, name);
	for (size_t i = 0; i < s->n_tables; i++)
		for (const struct ctl_method *m = s->tables[i].methods; m->name; m++)
			suggest_offer(&near, m->name);
	if (suggest_best(&near))
		snprintf(hint, sizeof(hint), "did you mean %s?", suggest_best(&near));
	else
		snprintf(hint, sizeof(hint), "rpc.describe lists the methods");
	ctl_fail(call, CTL_ERROR_METHOD, hint, "no method '%.64s'", name);
}

static const struct ctl_param *find_param(const struct ctl_method *m, const char *name)
{
	for (const struct ctl_param *p = m->params; p && p->name; p++)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static void fail_unknown_param(struct ctl_call *call, const struct ctl_method *m, const char *name)
{
	char hint[128] = "";
	struct suggest near;

	suggest_init(&near, name);
	for (const struct ctl_param *p = m->params; p && p->name; p++)
		suggest_offer(&near, p->name);
	if (suggest_best(&near))
		snprintf(hint, sizeof(hint), "did you mean %s?", suggest_best(&near));
	ctl_fail(call, CTL_ERROR_PARAMS, hint[0] ? hint : NULL, "%s has no parameter '%.64s'", m->name, name);
}

/* False: the call has been answered. */
static bool check_params(struct ctl_call *call, const struct ctl_method *m, json_t *params)
{
	const char *name;
	json_t *value;

	if (!json_is_object(params)) {
		ctl_fail(call, CTL_ERROR_PARAMS, "rpc.describe lists them",
			 "parameters are given by name, as an object");
		return false;
	}
	json_object_foreach (params, name, value) {
		const struct ctl_param *p = find_param(m, name);

		if (!p) {
			fail_unknown_param(call, m, name);
			return false;
		}
		if (!types[p->type].is(value)) {
			ctl_fail(call, CTL_ERROR_PARAMS, NULL, "%s: '%s' must be of type %s", m->name, p->name,
				 types[p->type].name);
			return false;
		}
	}
	for (const struct ctl_param *p = m->params; p && p->name; p++) {
		if (!p->required || json_object_get(params, p->name))
			continue;
		ctl_fail(call, CTL_ERROR_PARAMS, NULL, "%s: '%s' is missing", m->name, p->name);
		return false;
	}
	return true;
}

static struct ctl_call *call_create(struct ctl_connection *c, struct ctl_batch *batch, json_t *id)
{
	struct ctl_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->connection = c;
	call->batch = batch;
	call->id = json_incref(id);
	call->peer = c->peer;
	list_append(&c->calls, &call->node);
	c->n_calls++;
	return call;
}

static bool id_valid(const json_t *id)
{
	return !id || json_is_string(id) || json_is_number(id) || json_is_null(id);
}

static void request(struct ctl_connection *c, struct ctl_batch *batch, json_t *message)
{
	json_t *id = json_object_get(message, "id"), *params = json_object_get(message, "params"), *empty = NULL;
	const char *version = json_string_value(json_object_get(message, "jsonrpc"));
	const char *name = json_string_value(json_object_get(message, "method"));
	struct ctl_server *s = c->server;
	const struct ctl_method *m;
	struct ctl_call *call;
	void *context;

	if (!json_is_object(message) || !version || strcmp(version, "2.0") != 0 || !name || !id_valid(id)) {
		deliver(c, batch,
			error_message(id_valid(id) ? id : NULL, CTL_ERROR_REQUEST, "not a JSON-RPC 2.0 request", NULL));
		return;
	}
	call = call_create(c, batch, id);
	if (!call) {
		deliver(c, batch, error_message(id, CTL_ERROR_INTERNAL, "out of memory", NULL));
		return;
	}
	m = find_method(s, name, &context);
	if (!m) {
		fail_unknown_method(call, s, name);
		return;
	}
	if (!params)
		params = empty = json_object();
	if (check_params(call, m, params))
		m->handler(call, params, context);
	json_decref(empty);
}

static void batch_request(struct ctl_connection *c, json_t *messages)
{
	size_t n = json_array_size(messages), i;
	struct ctl_batch *batch;
	json_t *message;

	if (n == 0 || n > BATCH_MAX) {
		rpc_refuse(c, CTL_ERROR_REQUEST, n ? "too many calls in one batch" : "an empty batch");
		return;
	}
	batch = calloc(1, sizeof(*batch));
	if (batch)
		batch->answers = json_array();
	if (!batch || !batch->answers) {
		free(batch);
		rpc_refuse(c, CTL_ERROR_INTERNAL, "out of memory");
		return;
	}
	/* One more than there are, so that it does not end under our feet. */
	batch->waiting = (unsigned)n + 1;
	json_array_foreach (messages, i, message) {
		/* An event sent meanwhile may have found the client gone. */
		if (c->fd >= 0)
			request(c, batch, message);
		else
			deliver(NULL, batch, NULL);
	}
	deliver(c->fd >= 0 ? c : NULL, batch, NULL);
}

void rpc_message(struct ctl_connection *c, const char *text, size_t length)
{
	json_t *message = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);

	if (!message)
		rpc_refuse(c, CTL_ERROR_PARSE, "not one JSON document on one line");
	else if (json_is_array(message))
		batch_request(c, message);
	else
		request(c, NULL, message);
	json_decref(message);
}
