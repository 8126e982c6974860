/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of accounts: from what the control thread wants promised to the tree that planners read. Control thread only; a set
 * does not change once a book has published it.
 */
#include "ledger/account.h"

#include "ledger/fill.h"

#include <errno.h>
#include <string.h>

int ledger_set_alloc(uint32_t vms, uint32_t accounts, struct ledger_set **ret)
{
	struct ledger_set *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	/* One more than asked: an empty set is no special case. */
	s->vm = calloc(vms + 1, sizeof(*s->vm));
	s->account = calloc(accounts + 1, sizeof(*s->account));
	s->order = calloc(accounts + 1, sizeof(*s->order));
	if (!s->vm || !s->account || !s->order) {
		ledger_set_destroy(s);
		return -ENOMEM;
	}
	s->vms = vms;
	s->accounts = accounts;
	*ret = s;
	return 0;
}

void ledger_set_destroy(struct ledger_set *s)
{
	if (!s)
		return;
	free(s->vm);
	free(s->account);
	free(s->order);
	free(s);
}

static int promise_check(const struct ledger_promise *p)
{
	if (p->shares == 0 || p->shares > LEDGER_SHARES_MAX)
		return -EINVAL;
	if (p->reservation > LEDGER_RATE_MAX || p->burst > LEDGER_RATE_MAX ||
	    (p->limit != LEDGER_UNLIMITED && p->limit > LEDGER_RATE_MAX))
		return -ERANGE;
	return 0;
}

static int spec_check(const struct ledger_spec *spec)
{
	int r = spec->capacity > LEDGER_RATE_MAX || spec->quantum > LEDGER_RATE_MAX ? -ERANGE : 0;

	for (unsigned i = 0; i < spec->vms && r == 0; i++) {
		r = promise_check(&spec->vm[i].promise);
		for (unsigned j = 0; j < i; j++)
			if (spec->vm[j].vm == spec->vm[i].vm)
				r = -EINVAL;
	}
	for (unsigned i = 0; i < spec->accounts && r == 0; i++) {
		r = spec->account[i].class == LEDGER_CLASS_VM ? -EINVAL : promise_check(&spec->account[i].promise);
		for (unsigned j = 0; j < i; j++)
			if (spec->account[j].vm == spec->account[i].vm && spec->account[j].class == spec->account[i].class)
				r = -EINVAL;
	}
	return r;
}

/* Index of the node, n if there is none. */
static uint32_t node_find(const struct ledger_node *node, uint32_t n, uint16_t vm, uint16_t class)
{
	for (uint32_t i = 0; i < n; i++)
		if (node[i].born && node[i].vm == vm && node[i].class == class)
			return i;
	return n;
}

/* A node not in use, if possible one whose last account has been settled by a plan; n if there is none. */
static uint32_t node_free(const struct ledger_node *node, uint32_t n, uint64_t planned)
{
	uint32_t any = n;

	for (uint32_t i = 0; i < n; i++) {
		if (node[i].born)
			continue;
		if (node[i].closed <= planned)
			return i;
		any = any == n ? i : any;
	}
	return any;
}

/* The node of an entry of the spec: the one it had, else a free one. Its index, or n if there is none. */
static uint32_t node_take(struct ledger_node *node, uint32_t n, uint16_t vm, uint16_t class, uint64_t planned)
{
	uint32_t i = node_find(node, n, vm, class);

	return i < n ? i : node_free(node, n, planned);
}

static void node_set(struct ledger_node *node, uint16_t vm, uint16_t class, const struct ledger_promise *promise,
		     uint64_t generation)
{
	if (node->born == 0)
		node->born = generation;
	node->closed = 0;
	node->vm = vm;
	node->class = class;
	node->promise = *promise;
}

static bool spec_has(const struct ledger_spec *spec, const struct ledger_node *n)
{
	for (unsigned i = 0; i < spec->accounts; i++)
		if (spec->account[i].vm == n->vm && spec->account[i].class == n->class)
			return true;
	for (unsigned i = 0; i < spec->vms; i++)
		if (spec->vm[i].vm == n->vm && n->class == LEDGER_CLASS_VM)
			return true;
	return false;
}

/* Takes over the nodes that the spec still has, and closes the others. */
static void nodes_inherit(struct ledger_node *node, const struct ledger_node *old, uint32_t n, const struct ledger_spec *spec,
			  uint64_t generation)
{
	for (uint32_t i = 0; i < n; i++)
		if (old[i].born == 0 || spec_has(spec, &old[i]))
			node[i] = old[i];
		else
			node[i].closed = generation;
}

/* The tail that was never used costs planners nothing. What once was used stays: workers' sums in it go on. */
static void set_trim(struct ledger_set *s, const struct ledger_set *old)
{
	while (s->accounts > (old ? old->accounts : 0) && s->account[s->accounts - 1].born == 0)
		s->accounts--;
	while (s->vms > (old ? old->vms : 0) && s->vm[s->vms - 1].born == 0)
		s->vms--;
}

/* Lists the accounts of each VM together. */
static void set_order(struct ledger_set *s)
{
	uint32_t at = 0;

	for (uint32_t v = 0; v < s->vms; v++) {
		s->vm[v].first = at;
		for (uint32_t i = 0; i < s->accounts; i++)
			if (s->account[i].born && s->account[i].parent == v)
				s->order[at++] = i;
		s->vm[v].count = at - s->vm[v].first;
	}
}

static struct ledger_fill_item item_of(const struct ledger_node *n, uint64_t cap)
{
	cap = n->born ? min_u64(cap, n->promise.limit) : 0;
	return (struct ledger_fill_item){
		.floor = min_u64(n->promise.reservation, cap),
		.cap = cap,
		.weight = n->promise.shares,
	};
}

/* What everybody would get if everybody wanted everything: the planner's own rule, with rates for amounts. */
static int set_entitle(struct ledger_set *s)
{
	cleanup_free struct ledger_fill_item *item = calloc(s->vms + s->accounts + 1, sizeof(*item));
	struct ledger_fill_item *account;

	if (!item)
		return -ENOMEM;
	account = item + s->vms;
	for (uint32_t v = 0; v < s->vms; v++) {
		uint64_t cap = 0;

		for (uint32_t i = s->vm[v].first; i < s->vm[v].first + s->vm[v].count; i++)
			cap += item_of(&s->account[s->order[i]], LEDGER_RATE_MAX).cap;
		item[v] = item_of(&s->vm[v], cap);
	}
	ledger_fill(s->capacity, item, s->vms, 0);
	for (uint32_t v = 0; v < s->vms; v++) {
		struct ledger_node *vm = &s->vm[v];

		vm->entitled = item[v].got;
		for (uint32_t i = 0; i < vm->count; i++)
			account[i] = item_of(&s->account[s->order[vm->first + i]], LEDGER_RATE_MAX);
		ledger_fill(vm->entitled, account, vm->count, 0);
		for (uint32_t i = 0; i < vm->count; i++)
			s->account[s->order[vm->first + i]].entitled = account[i].got;
	}
	return 0;
}

int ledger_set_finish(struct ledger_set *s)
{
	set_order(s);
	return set_entitle(s);
}

/* Puts the spec's entries into the inherited nodes. */
static int set_fill(struct ledger_set *s, const struct ledger_spec *spec, uint64_t planned)
{
	for (unsigned i = 0; i < spec->vms; i++) {
		const struct ledger_spec_vm *v = &spec->vm[i];
		uint32_t vm = node_take(s->vm, s->vms, v->vm, LEDGER_CLASS_VM, planned);

		if (vm == s->vms)
			return -ENOSPC;
		node_set(&s->vm[vm], v->vm, LEDGER_CLASS_VM, &v->promise, s->generation);
	}
	for (unsigned i = 0; i < spec->accounts; i++) {
		const struct ledger_spec_account *a = &spec->account[i];
		uint32_t vm = node_find(s->vm, s->vms, a->vm, LEDGER_CLASS_VM), slot;

		if (vm == s->vms)
			return -ENOENT;
		slot = node_take(s->account, s->accounts, a->vm, a->class, planned);
		if (slot == s->accounts)
			return -ENOSPC;
		node_set(&s->account[slot], a->vm, a->class, &a->promise, s->generation);
		s->account[slot].parent = vm;
	}
	return 0;
}

int ledger_set_create(const struct ledger_set *old, struct ledger_spec *spec, uint16_t resource, uint32_t workers,
		      uint32_t accounts_max, uint64_t planned, struct ledger_set **ret)
{
	struct ledger_set *s;
	int r = spec_check(spec);

	if (r == 0)
		r = ledger_set_alloc(accounts_max, accounts_max, &s);
	if (r < 0)
		return r;
	s->generation = old ? old->generation + 1 : 1;
	s->capacity = spec->capacity;
	s->quantum = spec->quantum;
	s->resource = resource;
	s->workers = workers;
	if (old) {
		nodes_inherit(s->vm, old->vm, old->vms, spec, s->generation);
		nodes_inherit(s->account, old->account, old->accounts, spec, s->generation);
	}
	r = set_fill(s, spec, planned);
	set_trim(s, old);
	if (r == 0)
		r = ledger_set_finish(s);
	if (r < 0) {
		ledger_set_destroy(s);
		return r;
	}
	for (unsigned i = 0; i < spec->accounts; i++)
		spec->account[i].slot = node_find(s->account, s->accounts, spec->account[i].vm, spec->account[i].class);
	*ret = s;
	return 0;
}
