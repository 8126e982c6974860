/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One disk of the host: its image, its device model, its socket.
 */
#include "host/host_internal.h"

#include "base/clock.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>

/* Lines a minute about queues that the guest has broken. */
#define BROKEN_BURST 5u

static void tell(struct host_disk *d, const char *event, const char *detail)
{
	if (d->host->events.disk)
		d->host->events.disk(d->host->events.arg, d, event, detail);
}

static void on_connected(void *arg, pid_t peer)
{
	struct host_disk *d = arg;

	d->peer = peer;
	tell(d, "connected", "");
}

static void on_disconnected(void *arg, const char *reason)
{
	struct host_disk *d = arg;

	d->peer = 0;
	tell(d, "disconnected", reason);
}

static void on_refused(void *arg, int error)
{
	tell(arg, "refused", error ? strerror(-error) : "it has a front-end already");
}

static void on_connect_failed(void *arg, int error)
{
	tell(arg, "connecting", strerror(-error));
}

static void on_queue_refused(void *arg, unsigned queue, int error)
{
	char text[160];

	snprintf(text, sizeof(text), "queue %u: %s", queue,
		 error == -EAGAIN ? "another process holds the image's lock; it is tried again when the front-end reconnects" :
				    strerror(-error));
	tell(arg, "queue-refused", text);
}

static const struct vhost_server_events server_events = {
	.connected = on_connected,
	.disconnected = on_disconnected,
	.refused = on_refused,
	.connect_failed = on_connect_failed,
	.queue_refused = on_queue_refused,
};

int host_disk_make(struct host *h, const struct policy *policy, const struct policy_vm *vm, const struct policy_disk *spec,
		   struct host_pool *pool, struct host_disk **ret, struct host_error *e)
{
	char image_name[2 * POLICY_NAME_MAX];
	struct store_disk_options image = {
		/* Pools in memory know images by it: another VM's disk of this name is another disk. */
		.name = image_name,
		.image = spec->image,
		.size_bytes = spec->size_bytes,
		.read_only = spec->read_only,
		.fd = -1,
	};
	struct blk_disk_options options = {
		.vm = vm->name,
		.name = spec->name,
		.queues = (unsigned)spec->queues,
		.workers = (unsigned)min_u64(spec->workers, h->team.shared),
		.own = host_worker_of(h, policy, vm->name),
		.ioprio_ignore = spec->ioprio == POLICY_IOPRIO_IGNORE,
	};
	struct host_disk *d = calloc(1, sizeof(*d));
	int err = -ENOMEM;

	if (!d)
		goto fail;
	snprintf(image_name, sizeof(image_name), "%s/%s", vm->name, spec->name);
	d->host = h;
	d->pool = pool;
	d->broken = (struct log_limit){ .interval_ns = 60 * NSEC_PER_SEC, .burst = BROKEN_BURST };
	memcpy(d->vm, vm->name, sizeof(d->vm));
	memcpy(d->name, spec->name, sizeof(d->name));
	d->socket = strdup(spec->socket);
	if (!d->socket)
		goto fail;
	err = store_disk_open(pool->blk->store, &image, &d->store);
	if (err < 0)
		goto fail;
	err = blk_disk_create(&options, pool->blk, d->store, &h->team, &d->blk);
	if (err < 0)
		goto fail;
	pool->disks++;
	list_append(&h->disks, &d->node);
	*ret = d;
	return 0;
fail:
	host_error_set(e, err, "disk %s/%s: %s%s%s", vm->name, spec->name, spec->image ? spec->image : "",
		       spec->image ? ": " : "", strerror(-err));
	if (d) {
		store_disk_unmake(d->store);
		store_disk_close(d->store);
		free(d->socket);
		free(d);
	}
	return err;
}

void host_disk_look(struct host_disk *d, uint64_t now_ns)
{
	for (unsigned q = 0; d->blk->running && q < d->blk->queues_max; q++) {
		const char *why = d->blk->slot[q] ? blk_slot_fault(d->blk->slot[q]) : NULL;
		char text[200], more[48] = "";
		unsigned held_back;

		if (!why || !log_limit_pass(&d->broken, now_ns, &held_back))
			continue;
		if (held_back)
			snprintf(more, sizeof(more), " (and %u more since the last line)", held_back);
		snprintf(text, sizeof(text), "queue %u: %s; it is served again when the guest resets the device%s", q, why, more);
		tell(d, "queue-broken", text);
	}
}

static gid_t group_of(const char *name)
{
	struct group *g = name ? getgrnam(name) : NULL;

	return g ? g->gr_gid : (gid_t)-1;
}

int host_disk_serve(struct host_disk *d, const struct policy *policy, const struct policy_disk *spec, struct host_error *e)
{
	struct host *h = d->host;
	struct vhost_server_options o = {
		.mode = h->fd >= 0 ? VHOST_FD : spec->connect ? VHOST_CONNECT : VHOST_LISTEN,
		.path = d->socket,
		.socket_mode = policy->daemon.socket_mode,
		.socket_group = group_of(policy->daemon.socket_group),
		.fd = take_fd(&h->fd),
	};
	int err = vhost_server_create(h->event, &d->blk->device, &o, &server_events, d, &d->server);

	if (err < 0)
		host_error_set(e, err, "disk %s/%s: socket %s: %s", d->vm, d->name, d->socket,
			       err == -EADDRINUSE ? "another process answers on it" : strerror(-err));
	return err;
}

/* --- the end --- */

static void free_disk(struct host_disk *d)
{
	blk_disk_destroy(d->blk);
	/* Only a change that has failed ends a disk of its own. */
	if (d->fresh)
		store_disk_unmake(d->store);
	store_disk_close(d->store);
	d->pool->disks--;
	list_remove(&d->node);
	free(d->socket);
	free(d);
}

static void server_gone(void *arg, int result, uint32_t value)
{
	struct host_disk *d = arg;
	void (*gone)(void *) = d->gone;
	void *gone_arg = d->gone_arg;

	(void)result;
	(void)value;
	free_disk(d);
	gone(gone_arg);
}

void host_disk_end(struct host_disk *d, void (*gone)(void *arg), void *arg)
{
	d->gone = gone;
	d->gone_arg = arg;
	d->removing = true;
	if (d->server)
		vhost_server_destroy(d->server, (struct vhost_done){ server_gone, d });
	else
		server_gone(d, 0, 0);
}
