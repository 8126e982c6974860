/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One vhost-user message on a non-blocking stream socket, with the file descriptors that travel with it.
 */
#pragma once

#include "base/util.h"
#include "vhost/wire.h"

/* A message as it arrives, maybe in pieces: nothing waits for a peer that stops in the middle. */
struct vhost_message {
	struct vhost_header header;
	union vhost_payload payload;
	size_t got; /* bytes so far, header included */
	unsigned n_fds;
	int fd[VHOST_FDS_MAX]; /* owned; taken with take_fd() */
};

void vhost_message_init(struct vhost_message *m);
/* Closes what was not taken and makes room for the next. */
void vhost_message_reset(struct vhost_message *m);

/*
 * Reads on, never past the message's end. 1: complete. 0: more to come. -errno, and then the stream is of no more
 * use: -ENOTCONN: the peer closed it between messages; -ECONNRESET: in the middle of one; -EMSGSIZE: larger than
 * any message; -ETOOMANYREFS: too many descriptors (all of them are closed); what recvmsg(2) says.
 */
int vhost_message_receive(struct vhost_message *m, int socket);

/*
 * Sends header, `size` bytes of payload and, with fd >= 0, the descriptor (which stays the caller's). -EAGAIN: the
 * peer does not read; a message is sent whole or not at all, but for -EIO, after which the stream is of no more
 * use.
 */
int vhost_message_send(int socket, uint32_t request, uint32_t flags, const void *payload, uint32_t size, int fd);
