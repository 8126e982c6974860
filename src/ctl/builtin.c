/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The methods every server has: what else there is, and events.
 */
#include "ctl/server_internal.h"

#include <string.h>

static json_t *describe_params(const struct ctl_param *params)
{
	json_t *list = json_array();

	for (const struct ctl_param *p = params; p && p->name; p++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s?}", "name", p->name, "type",
						      rpc_type_name(p->type), "required", p->required, "doc", p->doc));
	return list;
}

static void describe(struct ctl_call *call, json_t *params, void *context)
{
	const struct ctl_server *s = context;
	json_t *methods = json_array(), *events = json_array();

	(void)params;
	for (size_t i = 0; i < s->n_tables; i++)
		for (const struct ctl_method *m = s->tables[i].methods; m->name; m++)
			json_array_append_new(methods, json_pack("{s:s, s:s?, s:o}", "name", m->name, "doc", m->doc,
								 "params", describe_params(m->params)));
	for (size_t i = 0; i < s->n_events; i++)
		for (const struct ctl_event *e = s->events[i]; e->name; e++)
			json_array_append_new(events, json_pack("{s:s, s:s}", "name", e->name, "doc", e->doc));
	ctl_reply(call, json_pack("{s:s, s:i, s:o, s:o}", "version", FAIRLEAD_VERSION, "protocol", CTL_PROTOCOL,
				  "methods", methods, "events", events));
}

static bool event_known(const struct ctl_server *s, const char *name)
{
	for (size_t i = 0; i < s->n_events; i++)
		for (const struct ctl_event *e = s->events[i]; e->name; e++)
			if (strcmp(e->name, name) == 0)
				return true;
	return false;
}

static void add_all(const struct ctl_server *s, json_t *topics)
{
	for (size_t i = 0; i < s->n_events; i++)
		for (const struct ctl_event *e = s->events[i]; e->name; e++)
			json_object_set_new(topics, e->name, json_true());
}

/* Without `events`, all of them. A name that is not known changes nothing. */
static void subscribe(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_connection *c = call->connection;
	json_t *names = json_object_get(params, "events"), *name;
	size_t i;

	json_array_foreach (names, i, name) {
		if (json_is_string(name) && event_known(context, json_string_value(name)))
			continue;
		ctl_fail(call, CTL_ERROR_PARAMS, "rpc.describe lists the events", "no event '%.64s'",
			 json_is_string(name) ? json_string_value(name) : "?");
		return;
	}
	/* Handlers of these methods answer at once, so the client is still there. */
	if (!c->topics)
		c->topics = json_object();
	if (!names)
		add_all(context, c->topics);
	json_array_foreach (names, i, name)
		json_object_set_new(c->topics, json_string_value(name), json_true());
	ctl_reply(call, json_pack("{s:O}", "events", c->topics));
}

static void unsubscribe(struct ctl_call *call, json_t *params, void *context)
{
	json_t *names = json_object_get(params, "events"), *name;
	size_t i;

	(void)context;
	if (!names && call->connection->topics)
		json_object_clear(call->connection->topics);
	json_array_foreach (names, i, name)
		if (json_is_string(name))
			json_object_del(call->connection->topics, json_string_value(name));
	ctl_reply(call, NULL);
}

static const struct ctl_param event_params[] = {
	{ "events", CTL_ARRAY, false, "names of events; all without it" },
	{ NULL },
};

const struct ctl_method rpc_methods[] = {
	{ "rpc.describe", NULL, describe, "version, protocol, methods with their parameters, events" },
	{ "rpc.subscribe", event_params, subscribe, "send these events as notifications from now on" },
	{ "rpc.unsubscribe", event_params, unsubscribe, "send these events no more" },
	{ NULL },
};
