/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker registers a disk's file when it first serves it. Closing the disk happens on the control thread, which
 * cannot touch another thread's io_uring: it posts a message to each worker that has the file, and the file stays open
 * until that runs.
 *
 * Lifetime: `struct slots` is referenced by its channel and by each such message, because a channel may be closed with
 * the message under way. Posting happens under the set's lock and with the channel in the list: then its worker is
 * alive.
 */
#include "store/slots.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

struct slots {
	unsigned refs; /* atomic */
	bool closed;   /* worker */
	struct worker *worker;
	struct list node; /* in the set, under its lock */
	struct {
		uint64_t id; /* 0: none. Written by the worker, read by control */
		int slot;
	} of[SLOTS_MAX];
};

struct forget {
	struct worker_msg msg;
	struct slots *slots;
	struct slots_key key;
};

void slots_set_init(struct slots_set *set)
{
	pthread_mutex_init(&set->lock, NULL);
	list_init(&set->list);
}

void slots_set_fini(struct slots_set *set)
{
	assert(list_empty(&set->list));
	pthread_mutex_destroy(&set->lock);
}

void slots_key_new(struct slots_set *set, struct slots_key *key)
{
	key->id = ++set->ids;
	key->index = SLOTS_MAX;
	for (unsigned i = 0; i < ARRAY_SIZE(set->index_used); i++) {
		unsigned bit;

		if (set->index_used[i] == UINT64_MAX)
			continue;
		bit = (unsigned)__builtin_ctzll(~set->index_used[i]);
		set->index_used[i] |= UINT64_C(1) << bit;
		key->index = i * 64 + bit;
		return;
	}
}

static void slots_put(struct slots *s)
{
	if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(s);
}

static void entry_clear(struct slots *s, unsigned index)
{
	if (s->of[index].id && s->of[index].slot >= 0)
		worker_file_unregister(s->worker, s->of[index].slot);
	store_relaxed(&s->of[index].id, 0);
}

static void forget_run(struct worker_msg *m, struct worker *w)
{
	struct forget *f = container_of(m, struct forget, msg);

	if (!f->slots->closed && f->slots->of[f->key.index].id == f->key.id)
		entry_clear(f->slots, f->key.index);
	slots_put(f->slots);
	free(f);
}

static void forget_post(struct slots *s, const struct slots_key *key)
{
	struct forget *f = calloc(1, sizeof(*f));

	if (!f)
		return; /* the file stays open until its index is used again, or the channel closed */
	f->msg.run = forget_run;
	f->slots = s;
	f->key = *key;
	__atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
	worker_post(s->worker, &f->msg);
}

void slots_key_drop(struct slots_set *set, const struct slots_key *key)
{
	struct slots *s;

	if (key->index == SLOTS_MAX)
		return;
	pthread_mutex_lock(&set->lock);
	list_for_each(s, &set->list, node)
		if (load_relaxed(&s->of[key->index].id) == key->id)
			forget_post(s, key);
	pthread_mutex_unlock(&set->lock);
	set->index_used[key->index / 64] &= ~(UINT64_C(1) << key->index % 64);
}

int slots_open(struct slots_set *set, struct worker *w, struct slots **ret)
{
	struct slots *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->refs = 1;
	s->worker = w;
	pthread_mutex_lock(&set->lock);
	list_append(&set->list, &s->node);
	pthread_mutex_unlock(&set->lock);
	*ret = s;
	return 0;
}

void slots_close(struct slots_set *set, struct slots *s)
{
	pthread_mutex_lock(&set->lock);
	list_remove(&s->node);
	pthread_mutex_unlock(&set->lock);
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		entry_clear(s, i);
	s->closed = true;
	slots_put(s);
}

int slots_get(struct slots *s, const struct slots_key *key, int fd)
{
	if (key->index == SLOTS_MAX)
		return -ENFILE;
	if (unlikely(s->of[key->index].id != key->id)) {
		entry_clear(s, key->index);
		s->of[key->index].slot = worker_file_register(s->worker, fd);
		store_relaxed(&s->of[key->index].id, key->id);
	}
	return s->of[key->index].slot;
}
