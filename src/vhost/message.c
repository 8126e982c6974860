/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receiving and sending of vhost-user messages: framing and ownership of descriptors, nothing of what they mean.
 * Called by sessions on the control thread.
 *
 * A read asks for the rest of the header, then for the rest of the payload, never for more: the next message's
 * bytes (and with them its descriptors, which the kernel ties to the first byte) stay in the socket. Descriptors
 * are collected from every piece, so that none can be lost, and counted: a peer that sends more than any message
 * carries is cut off.
 */
#include "vhost/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void vhost_message_init(struct vhost_message *m)
{
	memset(m, 0, sizeof(*m));
}

void vhost_message_reset(struct vhost_message *m)
{
	for (unsigned i = 0; i < m->n_fds; i++)
		cleanup_close_fd(&m->fd[i]);
	vhost_message_init(m);
}

/* Takes what fits; closes the others and says so. */
static int fds_collect(struct vhost_message *m, struct msghdr *msg)
{
	int r = msg->msg_flags & MSG_CTRUNC ? -ETOOMANYREFS : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (m->n_fds < VHOST_FDS_MAX) {
				m->fd[m->n_fds++] = fd;
			} else {
				close(fd);
				r = -ETOOMANYREFS;
			}
		}
	}
	return r;
}

/* One recvmsg() of at most `want` bytes. Bytes read, 0 when there is nothing now, or -errno. */
static ssize_t piece_receive(struct vhost_message *m, int socket, void *to, size_t want)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int) * VHOST_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = to, .iov_len = want };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	int r;

	do {
		n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	r = fds_collect(m, &msg);
	if (r < 0)
		return r;
	if (n == 0)
		return m->got == 0 ? -ENOTCONN : -ECONNRESET;
	return n;
}

int vhost_message_receive(struct vhost_message *m, int socket)
{
	const size_t head = sizeof(m->header);

	for (;;) {
		bool in_head = m->got < head;
		size_t have = in_head ? m->got : m->got - head;
		size_t want = (in_head ? head : m->header.size) - have;
		uint8_t *to = (in_head ? (uint8_t *)&m->header : (uint8_t *)&m->payload) + have;
		ssize_t n;

		if (!in_head && want == 0)
			return 1;
		n = piece_receive(m, socket, to, want);
		if (n <= 0)
			return (int)n;
		m->got += (size_t)n;
		if (m->got == head && m->header.size > sizeof(m->payload))
			return -EMSGSIZE;
	}
}

int vhost_message_send(int socket, uint32_t request, uint32_t flags, const void *payload, uint32_t size, int fd)
{
	struct vhost_header header = { .request = request, .flags = flags, .size = size };
	struct iovec iov[2] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)payload, .iov_len = size },
	};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = size > 0 ? 2 : 1 };
	ssize_t n;

	if (fd >= 0) {
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
						  .cmsg_len = CMSG_LEN(sizeof(int)) };
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(int));
	}
	do {
		n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return (size_t)n == sizeof(header) + size ? 0 : -EIO;
}
