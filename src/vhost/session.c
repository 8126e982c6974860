/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A session's life: reading messages, checking their form, answering them, and its orderly end. Control thread only.
 *
 * Messages are handled strictly one after the other. A handler returns 0 (done), a negative errno (refused) or
 * VHOST_WAITS: it has asked the device for something that ends in continuations, and until they have come no
 * further message is read. The front-end's next message waits in the socket meanwhile; the event loop never does.
 *
 *   readable -> whole message -> form (size, descriptors, negotiated?) -> handler -> [continuations] -> answer -> ...
 *
 * What a wrong message leads to: one whose form is wrong, or a request that has no way to say no, ends the session
 * with a reason, because both sides no longer agree on what was said. A message that asks for an acknowledgement
 * gets a negative one, and nothing has changed.
 *
 * The end: no more reading -> continuations of the last message -> all queues stopped -> dirty log off -> (next
 * turn of the loop) memory, regions and descriptors go, `ended`. Only then may the next front-end come: a queue has
 * one owner.
 */
#include "vhost/session_internal.h"

#include "base/sigbus.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Messages per turn of the event loop, so that one front-end cannot keep it from the others. */
#define MESSAGES_PER_TURN 16
/* How soon a truncated file is noticed. The accuracy lets all sessions' timers share one wake-up. */
#define WATCH_USEC UINT64_C(1000000)
/* How soon a queue that could not be served yet is tried again. */
#define AGAIN_USEC UINT64_C(50000)

enum {
	REPLIES = 1, /* has a reply of its own, which is its acknowledgement too */
	TOLERATED = 2, /* comes from the guest: refused without being asked for an acknowledgement, it is ignored */
};

#define ALWAYS (-1)

struct message_rule {
	const char *name;
	uint16_t size_min, size_max;
	uint8_t fds_min, fds_max;
	int8_t needs; /* protocol feature, or ALWAYS */
	uint8_t flags;
	vhost_handler *handler;
};

#define U64 8, 8
#define NUMBER 8, 8
#define NONE 0, 0
#define FDS(min, max) min, max

static const struct message_rule rules[VHOST_REQUESTS] = {
	[VHOST_GET_FEATURES] = { "GET_FEATURES", NONE, FDS(0, 0), ALWAYS, REPLIES, vhost_get_features },
	[VHOST_SET_FEATURES] = { "SET_FEATURES", U64, FDS(0, 0), ALWAYS, 0, vhost_set_features },
	[VHOST_SET_OWNER] = { "SET_OWNER", NONE, FDS(0, 0), ALWAYS, 0, vhost_set_owner },
	[VHOST_RESET_OWNER] = { "RESET_OWNER", NONE, FDS(0, 0), ALWAYS, 0, vhost_reset_device },
	[VHOST_SET_MEM_TABLE] = { "SET_MEM_TABLE", 8 + 32, 8 + 8 * 32, FDS(1, 8), ALWAYS, 0, vhost_set_mem_table },
	[VHOST_SET_LOG_BASE] = { "SET_LOG_BASE", 16, 16, FDS(1, 1), VHOST_PROTOCOL_LOG_SHMFD, REPLIES,
				 vhost_set_log_base },
	[VHOST_SET_LOG_FD] = { "SET_LOG_FD", NONE, FDS(1, 1), ALWAYS, 0, vhost_set_log_fd },
	[VHOST_SET_VRING_NUM] = { "SET_VRING_NUM", NUMBER, FDS(0, 0), ALWAYS, 0, vhost_set_vring_num },
	[VHOST_SET_VRING_ADDR] = { "SET_VRING_ADDR", 40, 40, FDS(0, 0), ALWAYS, 0, vhost_set_vring_addr },
	[VHOST_SET_VRING_BASE] = { "SET_VRING_BASE", NUMBER, FDS(0, 0), ALWAYS, 0, vhost_set_vring_base },
	[VHOST_GET_VRING_BASE] = { "GET_VRING_BASE", NUMBER, FDS(0, 0), ALWAYS, REPLIES, vhost_get_vring_base },
	[VHOST_SET_VRING_KICK] = { "SET_VRING_KICK", U64, FDS(0, 1), ALWAYS, 0, vhost_set_vring_kick },
	[VHOST_SET_VRING_CALL] = { "SET_VRING_CALL", U64, FDS(0, 1), ALWAYS, 0, vhost_set_vring_call },
	[VHOST_SET_VRING_ERR] = { "SET_VRING_ERR", U64, FDS(0, 1), ALWAYS, 0, vhost_set_vring_err },
	[VHOST_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", NONE, FDS(0, 0), ALWAYS, REPLIES,
					  vhost_get_protocol_features },
	[VHOST_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", U64, FDS(0, 0), ALWAYS, 0,
					  vhost_set_protocol_features },
	[VHOST_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", NONE, FDS(0, 0), ALWAYS, REPLIES, vhost_get_queue_num },
	[VHOST_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", NUMBER, FDS(0, 0), ALWAYS, 0, vhost_set_vring_enable },
	[VHOST_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", NONE, FDS(1, 1), VHOST_PROTOCOL_BACKEND_REQ, 0,
				       vhost_set_backend_req_fd },
	[VHOST_GET_CONFIG] = { "GET_CONFIG", 12, 12 + 256, FDS(0, 0), VHOST_PROTOCOL_CONFIG, REPLIES,
			       vhost_get_config },
	[VHOST_SET_CONFIG] = { "SET_CONFIG", 12, 12 + 256, FDS(0, 0), VHOST_PROTOCOL_CONFIG, TOLERATED,
			       vhost_set_config },
	[VHOST_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", 20, 24, FDS(0, 0), VHOST_PROTOCOL_INFLIGHT_SHMFD, REPLIES,
				    vhost_get_inflight_fd },
	[VHOST_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", 20, 24, FDS(1, 1), VHOST_PROTOCOL_INFLIGHT_SHMFD, 0,
				    vhost_set_inflight_fd },
	[VHOST_RESET_DEVICE] = { "RESET_DEVICE", NONE, FDS(0, 0), VHOST_PROTOCOL_RESET_DEVICE, 0, vhost_reset_device },
	[VHOST_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", NONE, FDS(0, 0), VHOST_PROTOCOL_MEM_SLOTS, REPLIES,
				      vhost_get_max_mem_slots },
	[VHOST_ADD_MEM_REG] = { "ADD_MEM_REG", 40, 40, FDS(1, 1), VHOST_PROTOCOL_MEM_SLOTS, 0, vhost_add_mem_reg },
	/* Older front-ends send a descriptor along, which means nothing. */
	[VHOST_REM_MEM_REG] = { "REM_MEM_REG", 40, 40, FDS(0, 1), VHOST_PROTOCOL_MEM_SLOTS, 0, vhost_rem_mem_reg },
	[VHOST_SET_STATUS] = { "SET_STATUS", U64, FDS(0, 0), VHOST_PROTOCOL_STATUS, 0, vhost_set_status },
	[VHOST_GET_STATUS] = { "GET_STATUS", NONE, FDS(0, 0), VHOST_PROTOCOL_STATUS, REPLIES, vhost_get_status },
	[VHOST_GET_VRING_BASE_SKIP_DRAIN] = { "GET_VRING_BASE_SKIP_DRAIN", NUMBER, FDS(0, 0), VHOST_PROTOCOL_SKIP_DRAIN,
					      REPLIES, vhost_get_vring_base },
};

static const struct message_rule *rule_of(const struct vhost_message *m)
{
	uint32_t request = m->header.request;

	return request < VHOST_REQUESTS && rules[request].handler ? &rules[request] : NULL;
}

/* --- the end --- */

static void sources_remove(struct vhost_session *s)
{
	sd_event_source_disable_unref(s->source);
	sd_event_source_disable_unref(s->watch_source);
	sd_event_source_disable_unref(s->again_source);
	sd_event_source_disable_unref(s->last_source);
}

static int session_last(sd_event_source *source, void *arg)
{
	struct vhost_session *s = arg;
	const struct vhost_session_events *events = s->events;
	void *events_arg = s->arg;
	char reason[sizeof(s->reason)];

	memcpy(reason, s->reason, sizeof(reason));
	s->device->ops->session_ended(s->device);
	vhost_vrings_reset(s);
	vhost_channel_close(&s->channel);
	vhost_message_reset(&s->message);
	vhost_log_free(s->log);
	vhost_log_free(s->log_old);
	vhost_inflight_free(s->inflight);
	memmap_put(s->map);
	sources_remove(s);
	cleanup_close_fd(&s->socket);
	sd_event_unref(s->event);
	free(s);
	events->ended(events_arg, reason);
	return 0;
}

static void teardown_logged_off(struct vhost_session *s, int result)
{
	/* From the event loop, because whoever called us may still hold the session. */
	sd_event_source_set_enabled(s->last_source, SD_EVENT_ONESHOT);
}

static void teardown_stopped(struct vhost_session *s, int result)
{
	s->features &= ~(UINT64_C(1) << VHOST_F_LOG_ALL_BIT);
	vhost_wait_begin(s, teardown_logged_off);
	vhost_log_apply(s);
	vhost_wait_end(s);
}

static void teardown(struct vhost_session *s)
{
	vhost_wait_begin(s, teardown_stopped);
	/* A front-end that follows the inflight region comes back with it; what is held may stay in there. */
	vhost_vrings_stop(s, s->inflight != NULL);
	vhost_wait_end(s);
}

void vhost_session_end(struct vhost_session *s, const char *reason)
{
	if (s->ending)
		return;
	s->ending = true;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
	sd_event_source_set_enabled(s->watch_source, SD_EVENT_OFF);
	sd_event_source_set_enabled(s->again_source, SD_EVENT_OFF);
	/* A message that is being handled goes first: vhost_session_answer() comes back here. */
	if (!s->answering)
		teardown(s);
}

static void end_errno(struct vhost_session *s, const char *what, int error)
{
	char reason[sizeof(s->reason)];

	snprintf(reason, sizeof(reason), "%s: %s", what, strerror(-error));
	vhost_session_end(s, reason);
}

/* --- waiting --- */

void vhost_wait_begin(struct vhost_session *s, void (*then)(struct vhost_session *s, int result))
{
	s->wait = (struct vhost_wait){ .open = 1, .then = then };
}

void vhost_wait_enter(struct vhost_session *s)
{
	s->wait.open++;
}

void vhost_wait_leave(struct vhost_session *s, int result)
{
	if (result < 0 && s->wait.result == 0)
		s->wait.result = result;
	if (--s->wait.open == 0)
		s->wait.then(s, s->wait.result);
}

static void wait_done(void *arg, int result, uint32_t value)
{
	vhost_wait_leave(arg, result);
}

struct vhost_done vhost_wait_add(struct vhost_session *s)
{
	vhost_wait_enter(s);
	return (struct vhost_done){ .fn = wait_done, .arg = s };
}

void vhost_wait_end(struct vhost_session *s)
{
	vhost_wait_leave(s, 0);
}

/* --- answers --- */

int vhost_session_refuse(struct vhost_session *s, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(s->why, sizeof(s->why), format, args);
	va_end(args);
	return error;
}

int vhost_session_reply(struct vhost_session *s, const void *payload, uint32_t size, int fd)
{
	int r;

	s->replied = true;
	if (s->ending)
		return 0;
	r = vhost_message_send(s->socket, s->message.header.request, VHOST_VERSION | VHOST_REPLY, payload, size, fd);
	if (r < 0)
		end_errno(s, "cannot send a reply", r);
	return 0;
}

static void end_refused(struct vhost_session *s, const struct message_rule *rule, int error)
{
	char reason[sizeof(s->reason)];

	snprintf(reason, sizeof(reason), "%s refused: %s", rule->name, s->why[0] ? s->why : strerror(-error));
	vhost_session_end(s, reason);
}

static void go_on(struct vhost_session *s)
{
	s->answering = false;
	if (s->ending)
		teardown(s);
	else
		sd_event_source_set_enabled(s->source, SD_EVENT_ON);
}

void vhost_session_answer(struct vhost_session *s, int result)
{
	const struct message_rule *rule = rule_of(&s->message);
	bool asked = s->message.header.flags & VHOST_NEED_REPLY && vhost_has(s, VHOST_PROTOCOL_REPLY_ACK);
	bool tolerated = result == 0 || asked || s->tolerated || rule->flags & TOLERATED;
	uint64_t ack = result < 0;

	if (!s->replied && (rule->flags & REPLIES || !tolerated))
		end_refused(s, rule, result);
	else if (!s->replied && asked)
		vhost_session_reply(s, &ack, sizeof(ack), -1);
	vhost_message_reset(&s->message);
	go_on(s);
}

/* --- messages --- */

/* NULL if the message's form is right, else what is wrong. */
static const char *form_error(const struct vhost_session *s, const struct vhost_message *m,
			      const struct message_rule *rule)
{
	if ((m->header.flags & VHOST_VERSION_MASK) != VHOST_VERSION)
		return "unknown protocol version";
	if (m->header.flags & VHOST_REPLY)
		return "a reply where a request belongs";
	if (!rule)
		return "unknown request";
	if (m->header.size < rule->size_min || m->header.size > rule->size_max)
		return "wrong size";
	if (m->n_fds < rule->fds_min)
		return "without its file descriptor";
	if (m->n_fds > rule->fds_max)
		return "with too many file descriptors";
	if (rule->needs != ALWAYS && !vhost_has(s, (enum vhost_protocol_feature)rule->needs))
		return "its protocol feature was not negotiated";
	return NULL;
}

static void message_handle(struct vhost_session *s)
{
	struct vhost_message *m = &s->message;
	const struct message_rule *rule = rule_of(m);
	const char *wrong = form_error(s, m, rule);
	int r;

	if (wrong) {
		char reason[sizeof(s->reason)];

		snprintf(reason, sizeof(reason), "message %u%s%s (%u bytes, %u file descriptors): %s",
			 m->header.request, rule ? " " : "", rule ? rule->name : "", m->header.size, m->n_fds, wrong);
		vhost_message_reset(m);
		vhost_session_end(s, reason);
		return;
	}
	s->answering = true;
	s->replied = s->tolerated = false;
	s->why[0] = '\0';
	r = rule->handler(s, m);
	if (r != VHOST_WAITS)
		vhost_session_answer(s, r);
}

static void receive_failed(struct vhost_session *s, int error)
{
	vhost_message_reset(&s->message);
	switch (error) {
	case -ENOTCONN:
		vhost_session_end(s, "the front-end disconnected");
		break;
	case -ECONNRESET:
		vhost_session_end(s, "the front-end disconnected in the middle of a message");
		break;
	case -EMSGSIZE:
		vhost_session_end(s, "a message larger than any that exists");
		break;
	case -ETOOMANYREFS:
		vhost_session_end(s, "a message with too many file descriptors");
		break;
	default:
		end_errno(s, "cannot receive", error);
	}
}

static int session_readable(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct vhost_session *s = arg;

	for (unsigned i = 0; i < MESSAGES_PER_TURN && !s->answering && !s->ending; i++) {
		int r = vhost_message_receive(&s->message, s->socket);

		if (r == 0)
			return 0;
		if (r < 0)
			receive_failed(s, r);
		else
			message_handle(s);
	}
	if (s->answering)
		sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
	return 0;
}

/* --- queues that could not be served yet --- */

void vhost_session_try_later(struct vhost_session *s)
{
	if (s->ending)
		return;
	sd_event_source_set_time_relative(s->again_source, AGAIN_USEC);
	sd_event_source_set_enabled(s->again_source, SD_EVENT_ONESHOT);
}

static void tried_again(struct vhost_session *s, int result)
{
	go_on(s);
}

static int session_try_again(sd_event_source *source, uint64_t usec, void *arg)
{
	struct vhost_session *s = arg;

	if (s->answering) {
		vhost_session_try_later(s);
		return 0;
	}
	s->answering = true;
	sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
	vhost_wait_begin(s, tried_again);
	vhost_vrings_start_again(s);
	vhost_wait_end(s);
	return 0;
}

/* --- truncated files --- */

static int session_watch(sd_event_source *source, uint64_t usec, void *arg)
{
	struct vhost_session *s = arg;
	const char *fault = load_relaxed(&sigbus_faults) ? vhost_memory_fault(s) : NULL;

	if (fault)
		vhost_session_end(s, fault);
	else
		sd_event_source_set_time_relative(source, WATCH_USEC);
	return 0;
}

/* --- beginning, and questions --- */

static pid_t peer_pid(int socket)
{
	struct ucred cred;
	socklen_t length = sizeof(cred);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0 ? cred.pid : 0;
}

static int sources_add(struct vhost_session *s)
{
	int r;

	r = sd_event_add_io(s->event, &s->source, s->socket, EPOLLIN, session_readable, s);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(s->event, &s->watch_source, CLOCK_MONOTONIC, WATCH_USEC, WATCH_USEC,
				       session_watch, s);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(s->watch_source, SD_EVENT_ON);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(s->event, &s->again_source, CLOCK_MONOTONIC, AGAIN_USEC, 0,
				       session_try_again, s);
	if (r < 0)
		return r;
	r = sd_event_source_set_enabled(s->again_source, SD_EVENT_OFF);
	if (r < 0)
		return r;
	r = sd_event_add_defer(s->event, &s->last_source, session_last, s);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(s->last_source, SD_EVENT_OFF);
}

int vhost_session_create(sd_event *event, struct vhost_device *device, int socket,
			 const struct vhost_session_events *events, void *arg, struct vhost_session **ret)
{
	unsigned n = (unsigned)min_u64(device->ops->queues_max(device), VHOST_QUEUES_MAX);
	struct vhost_session *s = calloc(1, sizeof(*s) + n * sizeof(s->vring[0]));
	int r;

	if (!s) {
		close(socket);
		return -ENOMEM;
	}
	s->event = sd_event_ref(event);
	s->device = device;
	s->events = events;
	s->arg = arg;
	s->socket = socket;
	s->peer_pid = peer_pid(socket);
	vhost_message_init(&s->message);
	vhost_channel_init(&s->channel);
	vhost_vrings_init(s, n);
	r = sources_add(s);
	if (r < 0) {
		sources_remove(s);
		sd_event_unref(s->event);
		free(s);
		close(socket);
		return r;
	}
	device->ops->session_began(device, s);
	*ret = s;
	return 0;
}

bool vhost_session_ending(const struct vhost_session *s)
{
	return s->ending;
}

bool vhost_session_hung_up(const struct vhost_session *s)
{
	struct pollfd p = { .fd = s->socket, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void vhost_session_status_get(const struct vhost_session *s, struct vhost_session_status *ret)
{
	*ret = (struct vhost_session_status){
		.peer_pid = s->peer_pid,
		.features = s->features,
		.protocol_features = s->protocol_features,
		.queues_running = vhost_vrings_running(s),
		.memory_regions = s->map ? s->map->n : 0,
		.logging = s->logging,
		.inflight = s->inflight != NULL,
		.status = s->status,
	};
}
