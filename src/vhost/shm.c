/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mapping of memory files that a front-end hands us besides the guest's memory. Called by sessions on the control
 * thread.
 *
 * Only tmpfs and hugetlbfs are accepted: on any other file system a page fault could wait for a disk or for somebody's
 * server, and with it the worker that took it and every guest it serves.
 */
#include "vhost/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/sigbus.h"

/* -EBADF unless fd is on tmpfs or hugetlbfs; else where a mapping of it may begin: multiples of its page size. */
static int64_t memory_file_page(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -EBADF;
	if (fs.f_type == TMPFS_MAGIC)
		return sysconf(_SC_PAGESIZE);
	if (fs.f_type == HUGETLBFS_MAGIC)
		return fs.f_bsize;
	return -EBADF;
}

int vhost_shm_map(struct vhost_shm *shm, int fd, uint64_t offset, uint64_t bytes, bool *faulted)
{
	int64_t page = memory_file_page(fd);
	uint64_t end, head;
	struct stat st;
	size_t length;
	void *base;
	int r;

	if (page < 0)
		return (int)page;
	if (bytes == 0 || __builtin_add_overflow(offset, bytes, &end))
		return -EINVAL;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -EBADF;
	if (end > (uint64_t)st.st_size)
		return -ENOSPC;
	head = offset % (uint64_t)page;
	length = (size_t)((head + bytes + (uint64_t)page - 1) / (uint64_t)page * (uint64_t)page);
	base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - head));
	if (base == MAP_FAILED)
		return -errno;
	r = sigbus_guard_add(base, length, faulted);
	if (r < 0) {
		munmap(base, length);
		return r;
	}
	*shm = (struct vhost_shm){
		.base = base, .length = length, .data = (uint8_t *)base + head, .bytes = (size_t)bytes,
	};
	return 0;
}

void vhost_shm_unmap(struct vhost_shm *shm)
{
	if (!shm->base)
		return;
	sigbus_guard_remove(shm->base);
	munmap(shm->base, shm->length);
	shm->base = NULL;
}

int vhost_shm_create(const char *name, uint64_t bytes)
{
	cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return take_fd(&fd);
}
