/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was learned and outlives the daemon: per pool, what its requests cost (STATE/POOL.cost). Written every few minutes and
 * at the end, each time as a new file in the old one's place. Without the folder nothing is kept, and nothing is lost but a
 * few seconds of learning at the next start.
 */
#include "host/host_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SAVE_EVERY_NS (300 * NSEC_PER_SEC)
/* A line of some 60 bytes for each of a model's cells at most. */
#define TEXT_BYTES (SLO_OPS * 2 * SLO_COST_SIZES * 96 + 256)

static int path_of(const struct policy *policy, const char *pool, const char *suffix, char ret[PATH_MAX])
{
	int n = snprintf(ret, PATH_MAX, "%s/%s.cost%s", policy->daemon.state ? policy->daemon.state : "", pool, suffix);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int host_state_load(const struct policy *policy, const char *pool, struct slo_cost_model *ret)
{
	cleanup_free char *text = calloc(1, TEXT_BYTES);
	char path[PATH_MAX];
	cleanup_close int fd = -1;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	if (path_of(policy, pool, "", path) < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	n = read(fd, text, TEXT_BYTES - 1);
	if (n < 0)
		return -errno;
	return slo_cost_parse(text, ret);
}

/* --- saving --- */

struct saving {
	char path[PATH_MAX], fresh[PATH_MAX];
	struct slo_cost_model cost;
	struct blk_gate_done done;
};

static void look(struct blk_core *core, struct slo_sched *s, void *arg)
{
	struct saving *save = arg;

	(void)core;
	save->cost = *slo_sched_cost(s);
}

static int write_file(const char *path, const char *text, size_t n)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);

	if (fd < 0)
		return -errno;
	if (write(fd, text, n) != (ssize_t)n)
		return -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

static void looked(void *arg, int result)
{
	struct saving *save = arg;
	cleanup_free char *text = malloc(TEXT_BYTES);
	int n = text && result == 0 ? slo_cost_format(&save->cost, text, TEXT_BYTES) : -ENOMEM;

	if (n > 0 && write_file(save->fresh, text, (size_t)n) == 0)
		(void)!rename(save->fresh, save->path);
	if (save->done.fn)
		save->done.fn(save->done.arg, 0);
	free(save);
}

void host_state_save(struct host *h, void (*began)(void *arg), struct blk_gate_done each)
{
	struct host_pool *pool;

	if (!h->policy || !h->policy->daemon.state || access(h->policy->daemon.state, W_OK) < 0)
		return;
	list_for_each(pool, &h->pools, node) {
		struct saving *save;

		if (!pool->blk->gate)
			continue;
		save = calloc(1, sizeof(*save));
		if (!save || path_of(h->policy, pool->name, "", save->path) < 0 ||
		    path_of(h->policy, pool->name, ".new", save->fresh) < 0) {
			free(save);
			continue;
		}
		save->done = each;
		if (began)
			began(each.arg);
		blk_gate_visit(pool->blk->gate, look, save, (struct blk_gate_done){ looked, save });
	}
}

static int on_save(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)usec;
	host_state_save(arg, NULL, (struct blk_gate_done){ 0 });
	sd_event_source_set_time_relative(s, SAVE_EVERY_NS / NSEC_PER_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int host_state_begin(struct host *h)
{
	return sd_event_add_time_relative(h->event, &h->save, CLOCK_MONOTONIC, SAVE_EVERY_NS / NSEC_PER_USEC, 0, on_save, h);
}
