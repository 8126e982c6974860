/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of a session share: session.c (life, reading, answers), negotiate.c (features, config, status),
 * vring.c (queues), memory.c (memory table, dirty log, inflight region), channel.c (messages to the front-end).
 */
#pragma once

#include "vhost/message.h"
#include "vhost/session.h"
#include "vhost/shm.h"

#include <systemd/sd-event.h>

#define VHOST_QUEUES_MAX 64u

/* What a message handler returns when it answers later, or has answered, with vhost_session_answer(). */
#define VHOST_WAITS 1

enum vhost_vring_state {
	VRING_STOPPED, /* the session's; everything may be set */
	VRING_BUSY,    /* the device was asked to start or stop it; the session waits */
	VRING_RUNNING, /* the device's */
};

struct vhost_vring {
	struct vhost_session *session;
	unsigned index;
	enum vhost_vring_state state;
	uint16_t size;	   /* 0: not told yet */
	bool addressed;	   /* SET_VRING_ADDR came */
	bool kicked;	   /* SET_VRING_KICK came since the last GET_VRING_BASE: "started" in the protocol's words */
	bool enabled;	   /* SET_VRING_ENABLE */
	bool based;	   /* base is known */
	bool refused;	   /* the device could not serve it; not tried again before something changes ... */
	bool again;	   /* ... or, where it said "not yet", a moment later */
	bool told_again;
	bool keeps_inflight; /* being stopped: requests may stay in the inflight region */
	uint32_t base;
	uint64_t used_log_gpa; /* as the device was given it */
	struct vhost_vring_addresses addresses;
	/*
	 * Kept here, the device gets duplicates: a queue can then be stopped and started again (enable, changed
	 * addresses) without the front-end sending them anew.
	 */
	int kick_fd, call_fd, err_fd;
};

struct vhost_log {
	struct vhost_shm shm;
	struct dirty_log log;
};

struct vhost_inflight {
	struct vhost_shm shm;
	uint16_t queues;
	size_t stride; /* bytes of one queue's part */
	bool faulted;
};

/* Messages to the front-end, on a socket that it gave. */
struct vhost_channel {
	int socket; /* -1: none */
	sd_event_source *source;
	struct vhost_message message;
	bool unanswered; /* a message waits for its acknowledgement ... */
	bool again;	 /* ... and another is due after it */
};

/*
 * A session waits for at most one group of continuations at a time: while it does, it reads no messages. `open`
 * counts the continuations that have not come, and one for whoever still adds to the group.
 */
struct vhost_wait {
	unsigned open;
	int result; /* first error */
	void (*then)(struct vhost_session *s, int result);
};

struct vhost_session {
	sd_event *event;
	struct vhost_device *device;
	const struct vhost_session_events *events;
	void *arg;

	int socket;
	sd_event_source *source, *last_source, *watch_source, *again_source;
	pid_t peer_pid;

	struct vhost_message message;
	bool answering; /* a message is being handled (or queues are tried again); no other is read */
	bool replied;	/* ... and its own reply has been sent */
	bool tolerated; /* ... and a failure does not end the session */
	char why[120];	/* ... and this is wrong with it */
	struct vhost_wait wait;
	bool ending;
	char reason[200];

	uint64_t features, protocol_features;
	bool features_known;
	uint8_t status;

	struct memmap *map, *map_next;
	struct vhost_log *log, *log_old;
	bool logging; /* the device was given `log` */
	struct vhost_inflight *inflight;
	struct vhost_channel channel;

	unsigned n_vrings;
	struct vhost_vring vring[];
};

typedef int vhost_handler(struct vhost_session *s, struct vhost_message *m);

static inline bool vhost_has(const struct vhost_session *s, enum vhost_protocol_feature f)
{
	return s->protocol_features >> f & 1;
}

static inline bool vhost_driver_has(const struct vhost_session *s, unsigned bit)
{
	return s->features >> bit & 1;
}

/* session.c */
void vhost_session_answer(struct vhost_session *s, int result);
int vhost_session_reply(struct vhost_session *s, const void *payload, uint32_t size, int fd);
/* Has vhost_vrings_start_again() called in a moment. */
void vhost_session_try_later(struct vhost_session *s);
/* Notes what is wrong with a message; returns `error`. */
int vhost_session_refuse(struct vhost_session *s, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void vhost_wait_begin(struct vhost_session *s, void (*then)(struct vhost_session *s, int result));
struct vhost_done vhost_wait_add(struct vhost_session *s);
/* For continuations that came by another function than that of vhost_wait_add(), which count themselves in and out. */
void vhost_wait_enter(struct vhost_session *s);
void vhost_wait_leave(struct vhost_session *s, int result);
/* Nothing more is added; maybe `then` runs now. */
void vhost_wait_end(struct vhost_session *s);

/* negotiate.c */
vhost_handler vhost_get_features, vhost_set_features, vhost_get_protocol_features, vhost_set_protocol_features,
	vhost_get_queue_num, vhost_set_owner, vhost_get_config, vhost_set_config, vhost_get_status, vhost_set_status,
	vhost_reset_device;

/* vring.c */
vhost_handler vhost_set_vring_num, vhost_set_vring_addr, vhost_set_vring_base, vhost_get_vring_base,
	vhost_set_vring_kick, vhost_set_vring_call, vhost_set_vring_err, vhost_set_vring_enable;
void vhost_vrings_init(struct vhost_session *s, unsigned n);
/* In a waiting group: starts every queue whose set-up has become complete; stops all that run. */
void vhost_vrings_start(struct vhost_session *s);
void vhost_vrings_start_again(struct vhost_session *s);
void vhost_vrings_stop(struct vhost_session *s, bool keep_inflight);
unsigned vhost_vrings_running(const struct vhost_session *s);
/* All queues are stopped: forgets what the front-end said of them. */
void vhost_vrings_reset(struct vhost_session *s);
/* Stopped queues stay so until they are kicked and enabled anew; everything else about them is kept. */
void vhost_vrings_halt(struct vhost_session *s);
/* Memory, features or inflight region changed: queues that were refused are tried again. */
void vhost_vrings_retry(struct vhost_session *s);
/* Ends a handler: starts what can be started, then answers. */
int vhost_vrings_start_and_answer(struct vhost_session *s);

/* memory.c */
vhost_handler vhost_set_mem_table, vhost_add_mem_reg, vhost_rem_mem_reg, vhost_get_max_mem_slots, vhost_set_log_base,
	vhost_set_log_fd, vhost_get_inflight_fd, vhost_set_inflight_fd;
/* In a waiting group: brings the device's logging in line with features and log. */
void vhost_log_apply(struct vhost_session *s);
void vhost_log_free(struct vhost_log *log);
void vhost_inflight_free(struct vhost_inflight *inflight);
/* Queue's part of the inflight region. False: there is none. */
bool vhost_inflight_slice(const struct vhost_session *s, unsigned queue, void **ret, size_t *ret_bytes);
/* A queue has ended and its front-end knows where: its part is fresh again. */
void vhost_inflight_forget(const struct vhost_session *s, unsigned queue);
/* What the front-end truncated, or NULL. */
const char *vhost_memory_fault(const struct vhost_session *s);

/* channel.c */
vhost_handler vhost_set_backend_req_fd;
void vhost_channel_init(struct vhost_channel *c);
void vhost_channel_close(struct vhost_channel *c);
