/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Single vhost-user messages over a socket, blocking, with a time limit that only a hung back-end reaches. For those
 * who send what no decent front-end would, too.
 */
#pragma once

#include "base/util.h"
#include "frontend/wire.h"

#define FRONT_FDS_MAX 16
#define FRONT_HANG_MS 60000

/* Connects; the path may appear late: retries until it does or the hang limit passes. Returns the fd or -errno. */
int front_socket_connect(const char *path);

/* Any bytes with any fds. Returns 0 or -errno. */
int front_bytes_send(int fd, const void *bytes, size_t n, const int *fds, unsigned n_fds);
/* A message with a proper header. */
int front_message_send(int fd, uint32_t request, uint32_t flags, const void *body, uint32_t size, const int *fds,
		       unsigned n_fds);
/*
 * The next message. ret_fd: the first fd that came with it or -1; the others are closed. -ECONNRESET: the peer closed,
 * -ETIMEDOUT: it hangs, -EBADMSG: more than a message can hold.
 */
int front_message_receive(int fd, struct front_wire_message *m, int *ret_fd);
/* Sends, and awaits the answer to this very request. ret_fd may be NULL. */
int front_message_ask(int fd, uint32_t request, const void *body, uint32_t size, const int *fds, unsigned n_fds,
		      struct front_wire_message *ret_reply, int *ret_fd);
