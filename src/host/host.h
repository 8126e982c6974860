/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host as it runs: workers, pools, disks, brought in line with a policy. Control thread.
 *
 * host_apply() compares the policy that runs with a new one, prepares everything that the new one adds, and only when all of
 * that has succeeded changes what runs: all or nothing. Disks that both policies have keep running and stay attached.
 */
#pragma once

#include "base/log.h"
#include "blk/disk.h"
#include "blk/gate.h"
#include "policy/policy.h"
#include "vhost/server.h"

struct host_pool {
	struct list node;
	char name[POLICY_NAME_MAX];
	bool fresh;
	struct blk_pool *blk; /* blk->gate: NULL with slo off */
	unsigned owner;	      /* the team's member that schedules it */
	unsigned disks;
	bool held;   /* by a calibration */
	bool ending; /* atomic, read by the calibration's worker */
	void (*gone)(void *arg);
	void *gone_arg;
};

struct host;

struct host_disk {
	struct list node;
	struct host *host;
	char vm[POLICY_NAME_MAX], name[POLICY_NAME_MAX];
	struct host_pool *pool;
	struct store_disk *store;
	struct blk_disk *blk;
	struct vhost_server *server;
	char *socket;
	pid_t peer; /* 0: no front-end */
	bool fresh;    /* made by the change under way: goes again if that fails */
	uint64_t grown_from_bytes; /* by the change under way; 0: not grown */
	bool removing;
	struct log_limit broken; /* a guest may break its queues, reset and break them for ever */
	void (*gone)(void *arg);
	void *gone_arg;
};

/* What happens to disks, for logs and for the control socket's subscribers. */
struct host_events {
	void (*disk)(void *arg, const struct host_disk *d, const char *event, const char *detail);
	void *arg;
};

struct host {
	sd_event *event;
	struct policy *policy; /* that runs */
	struct blk_team team;
	/* By index in the team: the co-group whose own worker it is; "" for shared ones, which come first. */
	char group[BLK_TEAM_MAX][POLICY_NAME_MAX];
	struct list pools, disks;
	struct host_events events;
	sd_event_source *replies, *balance;
	unsigned pools_made; /* owners are dealt round */
	int fd;		     /* for the next disk that is served; -1: none */
	sd_event_source *save; /* what was learned, from time to time */
	struct list changes; /* the first is under way, others wait */
};

/* A message for people with the reason, and what to do. */
struct host_error {
	int err;
	char text[512];
};

typedef void (*host_done)(void *arg, const struct host_error *error);

/* Starts the workers of the policy, also co-groups' own, and nothing else. */
int host_create(sd_event *event, const struct policy *policy, const struct host_events *events, struct host **ret,
		struct host_error *error);
/* Ends everything, then frees and calls done (from the event loop). */
void host_destroy(struct host *h, host_done done, void *arg);

/*
 * Takes `policy`. done (maybe before this returns) gets an error with err 0 when all of it runs; otherwise nothing has
 * changed. Changes take their turn.
 */
void host_apply(struct host *h, struct policy *policy, host_done done, void *arg);

/* `--fd`: the next apply serves its only disk on this descriptor instead of a socket path. */
void host_use_fd(struct host *h, int fd);

struct host_disk *host_disk_find(struct host *h, const char *vm, const char *name);
struct host_pool *host_pool_find(struct host *h, const char *name);

/* Keeps a pool until host_pool_release(), which is wanted soon once `ending` is set. -EBUSY: somebody has it. */
int host_pool_hold(struct host_pool *pool);
void host_pool_release(struct host_pool *pool);
