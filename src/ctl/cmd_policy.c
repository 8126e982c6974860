/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * policy.*: applying and comparing.
 */
#include "ctl/commands.h"

#include <errno.h>
#include <string.h>

int ctl_sources_of(struct ctl_call *call, json_t *params, struct policy_source **ret, size_t *ret_n)
{
	json_t *list = json_object_get(params, "sources"), *one;
	struct policy_source *s;
	size_t i;

	*ret = NULL;
	*ret_n = 0;
	if (!list)
		return 0;
	s = calloc(json_array_size(list) + 1, sizeof(*s));
	json_array_foreach(list, i, one) {
		const char *name = json_string_value(json_object_get(one, "name"));
		const char *text = json_string_value(json_object_get(one, "text"));

		if (!s || !name || !text) {
			ctl_fail(call, CTL_ERROR_PARAMS, NULL, "`sources' is a list of {name, text}");
			policy_sources_free(s, i);
			return -EINVAL;
		}
		s[i].name = strdup(name);
		s[i].text = strdup(text);
		/* Without the text, a file of that name would be read. */
		if (s[i].name && s[i].text)
			continue;
		ctl_fail(call, CTL_ERROR_INTERNAL, NULL, "out of memory");
		policy_sources_free(s, i + 1);
		return -ENOMEM;
	}
	*ret = s;
	*ret_n = i;
	return 0;
}

static void apply(struct ctl_call *call, json_t *params, void *context)
{
	struct policy_source *s;
	size_t n;

	if (!change_must_wait(context, call, params, apply) && ctl_sources_of(call, params, &s, &n) == 0)
		change_begin(context, call, s, n, NULL);
}

static void diff(struct ctl_call *call, json_t *params, void *context)
{
	struct ctl_context *c = context;
	struct policy_source *s;
	struct policy *p;
	size_t n;

	if (ctl_sources_of(call, params, &s, &n) < 0 || change_load(c, call, s, n, &p) < 0)
		return;
	ctl_reply(call, json_pack("{s:o}", "changes", change_list_json(c->host->policy, p)));
	policy_free(p);
}

const struct ctl_param ctl_with_sources[] = {
	{ "sources", CTL_ARRAY, false, "the policy as [{name, text}]; without it, the daemon's own files are read again" },
	{ 0 },
};

const struct ctl_method cmd_policy[] = {
	{ "policy.apply", ctl_with_sources, apply, "make a policy run, all of it or nothing" },
	{ "policy.diff", ctl_with_sources, diff, "what applying it would change" },
	{ 0 },
};
