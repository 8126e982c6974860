/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of a front-end's memory file (dirty log, inflight region) as mapped here. The front-end may truncate the file
 * under us: zero pages then stand in its place and *faulted is set.
 */
#pragma once

#include "base/util.h"

struct vhost_shm {
	void *base; /* of the mapping; NULL: none */
	size_t length;
	uint8_t *data; /* where the asked-for part begins */
	size_t bytes;
};

/*
 * Maps [offset, offset+bytes) of fd (borrowed), shared. -EBADF: not a memory file; -EINVAL: empty or wrapping;
 * -ENOSPC: the file is shorter. *faulted must live as long as the mapping.
 */
int vhost_shm_map(struct vhost_shm *shm, int fd, uint64_t offset, uint64_t bytes, bool *faulted);
void vhost_shm_unmap(struct vhost_shm *shm);

/*
 * A new memory file of `bytes` zeros whose size can no longer change, mapped by nobody yet. Returns the fd or
 * -errno.
 */
int vhost_shm_create(const char *name, uint64_t bytes);
