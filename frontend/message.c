/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-user messages, front-end side: see message.h.
 */
#include "frontend/message.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

int front_socket_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	for (int waited_ms = 0;; waited_ms += 5) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), e;

		if (fd < 0)
			return -errno;
		if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
			return fd;
		e = errno;
		close(fd);
		if ((e != ENOENT && e != ECONNREFUSED) || waited_ms >= FRONT_HANG_MS)
			return -e;
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
}

int front_bytes_send(int fd, const void *bytes, size_t n, const int *fds, unsigned n_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * FRONT_FDS_MAX)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)bytes, .iov_len = n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > FRONT_FDS_MAX)
		return -EINVAL;
	if (n_fds) {
		struct cmsghdr *c;

		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	while (iov.iov_len) {
		ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		iov.iov_base = (char *)iov.iov_base + sent;
		iov.iov_len -= sent;
		m.msg_control = NULL;
		m.msg_controllen = 0;
	}
	return 0;
}

int front_message_send(int fd, uint32_t request, uint32_t flags, const void *body, uint32_t size, const int *fds,
		       unsigned n_fds)
{
	struct front_wire_message m = {
		.header = { .request = request, .flags = FRONT_FLAGS_VERSION | flags, .size = size },
	};

	if (size > sizeof(m.body))
		return -EINVAL;
	if (size)
		memcpy(&m.body, body, size);
	return front_bytes_send(fd, &m, sizeof(m.header) + size, fds, n_fds);
}

/* Keeps the first fd in `*fd`, if it has none yet, and closes the others. */
static void fds_collect(struct msghdr *m, int *fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		unsigned n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (unsigned i = 0; i < n; i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (*fd < 0)
				*fd = got;
			else
				close(got);
		}
	}
}

static int receive_exactly(int socket, void *to, size_t n, int *fd)
{
	while (n) {
		union {
			char buf[CMSG_SPACE(sizeof(int) * FRONT_FDS_MAX)];
			struct cmsghdr align;
		} control;
		struct iovec iov = { .iov_base = to, .iov_len = n };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
				    .msg_controllen = sizeof(control.buf) };
		struct pollfd p = { .fd = socket, .events = POLLIN };
		ssize_t got;

		if (poll(&p, 1, FRONT_HANG_MS) == 0)
			return -ETIMEDOUT;
		got = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return got ? -errno : -ECONNRESET;
		fds_collect(&m, fd);
		to = (char *)to + got;
		n -= got;
	}
	return 0;
}

int front_message_receive(int fd, struct front_wire_message *m, int *ret_fd)
{
	int got_fd = -1, r = receive_exactly(fd, &m->header, sizeof(m->header), &got_fd);

	if (!r && m->header.size > sizeof(m->body))
		r = -EBADMSG;
	if (!r)
		r = receive_exactly(fd, &m->body, m->header.size, &got_fd);
	if ((r || !ret_fd) && got_fd >= 0)
		close(got_fd);
	if (!r && ret_fd)
		*ret_fd = got_fd;
	return r;
}

int front_message_ask(int fd, uint32_t request, const void *body, uint32_t size, const int *fds, unsigned n_fds,
		      struct front_wire_message *ret_reply, int *ret_fd)
{
	int r = front_message_send(fd, request, 0, body, size, fds, n_fds);

	if (!r)
		r = front_message_receive(fd, ret_reply, ret_fd);
	if (!r && (ret_reply->header.request != request || !(ret_reply->header.flags & FRONT_FLAGS_REPLY)))
		r = -EPROTO;
	return r;
}
