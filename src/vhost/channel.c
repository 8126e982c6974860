/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way back: messages that the back-end sends to the front-end, over a socket that the front-end gave with
 * SET_BACKEND_REQ_FD. The only one we have to send says that config space changed (a resized disk). Control thread.
 *
 * With REPLY_ACK it asks for an acknowledgement, and while one is out no second is sent: however often a disk is
 * resized, one message is under way and at most one waits. A channel that breaks is closed; the session does not
 * need it.
 */
#include "vhost/session_internal.h"

#include <errno.h>
#include <sys/socket.h>

void vhost_channel_init(struct vhost_channel *c)
{
	*c = (struct vhost_channel){ .socket = -1 };
	vhost_message_init(&c->message);
}

void vhost_channel_close(struct vhost_channel *c)
{
	sd_event_source_disable_unref(c->source);
	vhost_message_reset(&c->message);
	cleanup_close_fd(&c->socket);
	vhost_channel_init(c);
}

static void config_changed_send(struct vhost_session *s)
{
	struct vhost_channel *c = &s->channel;
	bool ack = vhost_has(s, VHOST_PROTOCOL_REPLY_ACK);
	uint32_t flags = VHOST_VERSION | (ack ? VHOST_NEED_REPLY : 0);

	c->again = false;
	/* -EAGAIN: as many notices as a socket holds are there already, unread. The front-end will read them all. */
	switch (vhost_message_send(c->socket, VHOST_BACKEND_CONFIG_CHANGED, flags, NULL, 0, -1)) {
	case 0:
		c->unanswered = ack;
		break;
	case -EAGAIN:
		break;
	default:
		vhost_channel_close(c);
	}
}

void vhost_session_config_changed(struct vhost_session *s)
{
	if (s->channel.socket < 0 || s->ending || !vhost_has(s, VHOST_PROTOCOL_CONFIG))
		return;
	if (s->channel.unanswered)
		s->channel.again = true;
	else
		config_changed_send(s);
}

/*
 * An acknowledgement, good or bad: a front-end that could not follow a change is not helped by being told of it
 * again.
 */
static bool acknowledgement_valid(const struct vhost_channel *c)
{
	const struct vhost_message *m = &c->message;

	return c->unanswered && m->header.request == VHOST_BACKEND_CONFIG_CHANGED &&
	       m->header.size == sizeof(uint64_t) && m->header.flags & VHOST_REPLY && m->n_fds == 0;
}

static int channel_readable(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	struct vhost_session *s = arg;
	struct vhost_channel *c = &s->channel;
	int r = vhost_message_receive(&c->message, c->socket);

	if (r == 0)
		return 0;
	if (r < 0 || !acknowledgement_valid(c)) {
		vhost_channel_close(c);
		return 0;
	}
	vhost_message_reset(&c->message);
	c->unanswered = false;
	if (c->again)
		config_changed_send(s);
	return 0;
}

/* What else can be polled may be ready for ever with nothing to be received. */
static bool is_local_stream(int fd)
{
	int domain = 0, type = 0;
	socklen_t length = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

int vhost_set_backend_req_fd(struct vhost_session *s, struct vhost_message *m)
{
	struct vhost_channel *c = &s->channel;

	int r;

	vhost_channel_close(c);
	if (!is_local_stream(m->fd[0]))
		return vhost_session_refuse(s, -EBADF, "not a local stream socket");
	c->socket = take_fd(&m->fd[0]);
	r = sd_event_add_io(s->event, &c->source, c->socket, EPOLLIN, channel_readable, s);
	if (r < 0)
		vhost_channel_close(c);
	return r;
}
