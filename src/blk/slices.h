/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control thread's side of a sliced gate. gate.c only.
 */
#pragma once

#include "blk/core.h"
#include "ledger/book.h"

struct blk_slices;

int blk_slices_create(struct blk_gate *g, uint64_t capacity_iops, struct blk_slices **ret);
void blk_slices_set_capacity(struct blk_slices *s, uint64_t capacity_iops);
void blk_slices_destroy(struct blk_slices *s);
struct ledger_book *blk_slices_book(const struct blk_slices *s);

/* A VM's promises become the ledger's, and its classes learn their accounts' slots. Before the cores hear of it. */
int blk_slices_set_vm(struct blk_slices *s, struct blk_gate_vm *vm);
/* After the cores have heard of it. */
void blk_slices_vm_set(struct blk_slices *s, const char *name);
/* After the cores have forgotten it. */
void blk_slices_remove_vm(struct blk_slices *s, const char *name);
unsigned blk_slices_vms(const struct blk_slices *s);
bool blk_slices_account_name(const struct blk_slices *s, unsigned vm, unsigned class, const char **ret_vm,
			     const char **ret_class);

/* --- balancing: what each slice has seen is gathered on its worker, the sums are dealt out in a second round --- */

struct blk_balance;
int blk_balance_create(struct blk_gate *g, struct blk_balance **ret);
void blk_balance_destroy(struct blk_balance *b);
/* On the core's worker. */
void blk_balance_gather(struct blk_balance *b, struct blk_core *core);
void blk_balance_deal(const struct blk_balance *b, struct blk_core *core);
