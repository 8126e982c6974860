/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who holds credits, and what was promised to whom.
 *
 * A credit is one unit of a resource's cost: for disks the slo layer's device-cost unit (nanoseconds of the device, or of
 * one of its channels), for wires bytes, for CPUs nanoseconds. The ledger only adds and subtracts them.
 *
 * An account is (resource, vm, class). A *book* (book.h) keeps all accounts of one resource; inside it an account is named
 * by its *slot*, a small index that stays the same for the account's life.
 */
#pragma once

#include "base/util.h"

#define LEDGER_TICK_NS UINT64_C(1000000)
#define LEDGER_UNLIMITED UINT64_MAX
/* Bounds that keep every sum within 62 bits: rates and wants per pair, and how many pairs there may be. */
#define LEDGER_RATE_MAX (UINT64_C(1) << 44)
#define LEDGER_WANT_MAX (UINT64_C(1) << 44)
#define LEDGER_WORKERS_MAX 64u
#define LEDGER_ACCOUNTS_MAX 4096u
#define LEDGER_SHARES_MAX (1u << 20)
/* The `class` of a record or account that means the whole VM. */
#define LEDGER_CLASS_VM UINT16_MAX
#define LEDGER_NO_SLOT UINT32_MAX

struct ledger_account {
	uint16_t resource, vm, class;
};

/* Rates in credits per second, burst in credits. */
struct ledger_promise {
	uint64_t reservation; /* 0: none */
	uint64_t limit;	      /* LEDGER_UNLIMITED: none */
	uint64_t burst;	      /* unused limit that may add up; at least a few ticks' worth is always allowed */
	uint32_t shares;      /* 1 or more */
};

/*
 * All that is promised in one book, as the control thread wants it: what is in the book and not in here is closed, what it
 * held or owed goes to the pool.
 * Classes of a VM divide what the VM gets; a VM's reservation should be the sum of its classes' or more.
 */
struct ledger_spec {
	uint64_t capacity; /* credits per second that the resource can serve */
	uint64_t quantum;  /* the largest cost of one request */
	unsigned vms, accounts;
	struct ledger_spec_vm {
		uint16_t vm;
		struct ledger_promise promise;
	} *vm;
	struct ledger_spec_account {
		uint16_t vm, class;
		struct ledger_promise promise;
		uint32_t slot; /* set by ledger_book_apply() */
	} *account;
};

/* One node of the tree resource -> VM -> class, as the planner sees it. */
struct ledger_node {
	struct ledger_promise promise;
	uint64_t entitled; /* credits/s it would get if everybody wanted everything: above is borrowed, below is lent */
	uint64_t born;	   /* generation of the set that opened it, as a slot may be used again; 0: not in use */
	uint64_t closed;   /* not in use: generation of the set that closed what was there; 0: nothing ever was */
	uint32_t parent;   /* accounts: index of the VM's node */
	uint32_t first, count; /* VMs: its accounts are order[first .. first + count) of the set */
	uint16_t vm, class;
};

/* Immutable once published. */
struct ledger_set {
	uint64_t generation, capacity, quantum;
	uint32_t vms, accounts; /* highest index ever used + 1: never less than in the set before */
	uint32_t workers;
	uint16_t resource;
	struct ledger_node *vm, *account;
	uint32_t *order; /* slots, those of one VM together */
};

/*
 * The set that follows `old` (NULL: none yet) under `spec`, whose accounts' slots are set. Accounts that stay keep theirs.
 * `planned`: generation of the set of the last plan. A slot closed later is used again only if there is no other: what the
 * old account spent since that plan would be charged to the new one.
 * 0, -EINVAL (a promise or a duplicate), -ERANGE (a rate), -ENOENT (a class without its VM), -ENOSPC (more than
 * `accounts_max`), -ENOMEM.
 */
int ledger_set_create(const struct ledger_set *old, struct ledger_spec *spec, uint16_t resource, uint32_t workers,
		      uint32_t accounts_max, uint64_t planned, struct ledger_set **ret);
void ledger_set_destroy(struct ledger_set *set);
/* For those who fill the nodes themselves (replay): an empty set, and what follows from the nodes. 0 or -ENOMEM. */
int ledger_set_alloc(uint32_t vms, uint32_t accounts, struct ledger_set **ret);
int ledger_set_finish(struct ledger_set *set);
