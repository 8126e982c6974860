/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intrusive doubly linked list with a head. An entry is in at most one list per node member; an unlinked node points to
 * itself, so removing it twice is harmless.
 */
#pragma once

#include "base/util.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_before(struct list *at, struct list *node)
{
	node->prev = at->prev;
	node->next = at;
	at->prev->next = node;
	at->prev = node;
}

static inline void list_append(struct list *head, struct list *node)
{
	list_insert_before(head, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)

#define list_for_each(pos, head, member)                                            \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The body may remove and free `pos`. */
#define list_for_each_safe(pos, tmp, head, member)                                                                  \
	for (pos = list_entry((head)->next, __typeof__(*pos), member),                                               \
	    tmp = list_entry(pos->member.next, __typeof__(*pos), member);                                            \
	     &pos->member != (head); pos = tmp, tmp = list_entry(tmp->member.next, __typeof__(*pos), member))
