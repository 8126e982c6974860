/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opens images and keeps others out of them.
 *
 * The lock is QEMU's (its block/file-posix.c defines the bytes): a user of a permission holds a shared lock on byte 100
 * + the permission's number, one who cannot bear others using it holds a shared lock on byte 200 + number. After taking
 * its own, everyone tests that nobody holds the opposite byte of what it uses or cannot bear. Locks belong to the open
 * file description: they end with the last reference to it, which is the kernel's when a process dies with requests in
 * flight. So who gets the lock knows that nothing of its former holder is still under way.
 */
#include "store/image.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define BLOCK_SIZE_MAX 4096u

/* --- opening --- */

static int open_beneath(int dir_fd, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
				.mode = flags & O_CREAT ? 0600 : 0,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

	/* EAGAIN: something was renamed during a walk through "..". */
	for (unsigned tries = 0;; tries++) {
		int fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if ((errno != EAGAIN && errno != EINTR) || tries == 100)
			return -errno;
	}
}

/* An empty file gets its size as well: its maker was interrupted between the two. */
static int make_size(struct image *i, uint64_t size_bytes)
{
	struct stat st;

	if (fstat(i->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size)
		return 0;
	if (i->made == IMAGE_FOUND)
		i->made = IMAGE_SIZED;
	return ftruncate(i->fd, (off_t)size_bytes) < 0 ? -errno : 0;
}

static int open_or_create(struct image *i, int dir_fd, const char *path, uint64_t size_bytes)
{
	if (i->read_only || !size_bytes) {
		i->fd = open_beneath(dir_fd, path, i->read_only ? O_RDONLY : O_RDWR);
		return i->fd < 0 ? i->fd : 0;
	}
	i->fd = open_beneath(dir_fd, path, O_RDWR | O_CREAT | O_EXCL);
	if (i->fd >= 0)
		i->made = IMAGE_CREATED;
	else if (i->fd == -EEXIST)
		i->fd = open_beneath(dir_fd, path, O_RDWR | O_CREAT);
	return i->fd < 0 ? i->fd : make_size(i, size_bytes);
}

/* Is it still what `path` names? Then ret_folder is where, and the name in there is returned. */
static const char *name_of(const struct image *i, int dir_fd, const char *path, int *ret_folder)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	cleanup_free char *folder = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
	struct stat ours, there;

	*ret_folder = folder ? open_beneath(dir_fd, folder, O_RDONLY | O_DIRECTORY) : -ENOMEM;
	if (*ret_folder < 0 || fstat(i->fd, &ours) < 0 || fstatat(*ret_folder, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return NULL;
	return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino ? name : NULL;
}

void image_unmake(const struct image *i, int dir_fd, const char *path)
{
	cleanup_close int folder = -1;
	const char *name;

	if (i->made == IMAGE_FOUND || lseek(i->fd, 0, SEEK_DATA) >= 0 || errno != ENXIO || image_lock(i) < 0)
		return;
	if (i->made == IMAGE_SIZED) {
		(void)!ftruncate(i->fd, 0);
		return;
	}
	name = name_of(i, dir_fd, path, &folder);
	if (name)
		(void)unlinkat(folder, name, 0);
}

/* --- what it asks for --- */

/* True if a read of `align` bytes into memory that is aligned no better works. */
static bool read_works(int fd, size_t align)
{
	char *buf = aligned_alloc(BLOCK_SIZE_MAX, 2 * BLOCK_SIZE_MAX);
	bool works = buf && pread(fd, buf + align % BLOCK_SIZE_MAX, align, 0) >= 0;

	free(buf);
	return works;
}

/* 0 with the alignments set; -EOPNOTSUPP: no O_DIRECT after all. */
static int probe_alignment(struct image *i)
{
#ifdef STATX_DIOALIGN
	struct statx sx;

	/* Linux 6.1 tells. */
	if (statx(i->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && sx.stx_mask & STATX_DIOALIGN) {
		if (sx.stx_dio_offset_align == 0 || sx.stx_dio_offset_align > BLOCK_SIZE_MAX)
			return -EOPNOTSUPP;
		i->memory_align = sx.stx_dio_mem_align;
		i->block_size = sx.stx_dio_offset_align;
		return 0;
	}
#endif
	/* Otherwise by trying, as far as a read tells. */
	for (uint32_t align = STORE_SECTOR; align <= BLOCK_SIZE_MAX; align *= 2) {
		if (read_works(i->fd, align)) {
			i->memory_align = i->block_size = align;
			return 0;
		}
	}
	return -EOPNOTSUPP;
}

static int set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	/* Nonblocking was for opening: io_uring would hand EAGAIN to us instead of waiting elsewhere. */
	flags &= ~(O_NONBLOCK | O_DIRECT);
	return fcntl(fd, F_SETFL, flags | (on ? O_DIRECT : 0)) < 0 ? -errno : 0;
}

static int probe_direct(struct image *i)
{
	int r = set_direct(i->fd, true);

	if (r == 0)
		r = probe_alignment(i);
	if (r == 0)
		return 0;
	i->buffered = true;
	i->memory_align = i->block_size = 1;
	return set_direct(i->fd, false);
}

static int probe_block_device(struct image *i)
{
	unsigned physical = 0;
	int logical = 0;

	if (ioctl(i->fd, BLKGETSIZE64, &i->size_bytes) < 0 || ioctl(i->fd, BLKSSZGET, &logical) < 0 ||
	    ioctl(i->fd, BLKPBSZGET, &physical) < 0)
		return -errno;
	if (logical > (int)i->block_size)
		i->block_size = (uint32_t)logical;
	i->physical_block_size = physical;
	return 0;
}

static int probe(struct image *i)
{
	struct stat st;
	int r;

	if (fstat(i->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EINVAL;
	i->block_device = S_ISBLK(st.st_mode);
	r = probe_direct(i);
	if (r < 0)
		return r;
	i->size_bytes = (uint64_t)st.st_size;
	i->physical_block_size = BLOCK_SIZE_MAX;
	if (i->block_device) {
		r = probe_block_device(i);
		if (r < 0)
			return r;
	}
	if (i->block_size < STORE_SECTOR)
		i->block_size = STORE_SECTOR;
	if (i->physical_block_size < i->block_size)
		i->physical_block_size = i->block_size;
	/* A file's last sector may be short: it reads as padded with zeroes, and a write to it makes it whole. */
	i->size_bytes = (i->size_bytes + STORE_SECTOR - 1) / STORE_SECTOR * STORE_SECTOR;
	i->size_bytes -= i->size_bytes % i->block_size;
	return i->size_bytes ? 0 : -EINVAL;
}

int image_open(struct image *i, int dir_fd, const char *path, uint64_t size_bytes, bool read_only)
{
	int r;

	*i = (struct image){ .fd = -1, .read_only = read_only };
	r = open_or_create(i, dir_fd, path, size_bytes);
	if (r == 0)
		r = probe(i);
	if (r < 0 && i->fd >= 0) {
		image_unmake(i, dir_fd, path);
		image_close(i);
	}
	return r;
}

int image_adopt(struct image *i, int fd, bool read_only)
{
	int flags = fcntl(fd, F_GETFL), own, r;

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_WRONLY || (!read_only && (flags & O_ACCMODE) != O_RDWR))
		return -EACCES;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (own < 0)
		return -errno;
	*i = (struct image){ .fd = own, .read_only = read_only };
	r = probe(i);
	if (r < 0)
		image_close(i);
	return r;
}

void image_close(struct image *i)
{
	if (i->fd >= 0)
		close(i->fd);
	i->fd = -1;
}

int image_resize(struct image *i, uint64_t size_bytes)
{
	uint64_t device_bytes;

	if (size_bytes == 0 || size_bytes % i->block_size)
		return -EINVAL;
	if (i->block_device) {
		/* Whoever manages the device has changed it already; here it is only seen. */
		if (ioctl(i->fd, BLKGETSIZE64, &device_bytes) < 0)
			return -errno;
		if (size_bytes > device_bytes)
			return -ENOSPC;
	} else if (ftruncate(i->fd, (off_t)size_bytes) < 0) {
		return -errno;
	}
	i->size_bytes = size_bytes;
	return 0;
}

/* --- locking --- */

#define LOCK_USED_BASE 100
#define LOCK_UNSHARED_BASE 200

enum permission { PERM_CONSISTENT_READ, PERM_WRITE, PERM_WRITE_UNCHANGED, PERM_RESIZE, PERM_GRAPH, PERMS };

struct lock_plan {
	unsigned used, unshared; /* bit sets of permissions */
};

static struct lock_plan lock_plan(const struct image *i)
{
	struct lock_plan plan = { .used = 1u << PERM_CONSISTENT_READ,
				  .unshared = 1u << PERM_WRITE | 1u << PERM_RESIZE };

	if (!i->read_only)
		plan.used |= 1u << PERM_WRITE | 1u << PERM_RESIZE;
	return plan;
}

static int lock_byte(int fd, int byte, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/* Would a write lock be granted, that is: does nobody else hold any? */
static int test_byte(int fd, int byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &l) < 0)
		return -errno;
	return l.l_type == F_UNLCK ? 0 : -EAGAIN;
}

static int lock_and_test(int fd, struct lock_plan plan)
{
	int r = 0;

	for (int p = 0; p < PERMS && r == 0; p++)
		if (plan.used & 1u << p)
			r = lock_byte(fd, LOCK_USED_BASE + p, F_RDLCK);
	for (int p = 0; p < PERMS && r == 0; p++)
		if (plan.unshared & 1u << p)
			r = lock_byte(fd, LOCK_UNSHARED_BASE + p, F_RDLCK);
	for (int p = 0; p < PERMS && r == 0; p++)
		if (plan.used & 1u << p)
			r = test_byte(fd, LOCK_UNSHARED_BASE + p);
	for (int p = 0; p < PERMS && r == 0; p++)
		if (plan.unshared & 1u << p)
			r = test_byte(fd, LOCK_USED_BASE + p);
	return r;
}

int image_lock(const struct image *i)
{
	int r = lock_and_test(i->fd, lock_plan(i));

	if (r < 0)
		image_unlock(i);
	return r;
}

void image_unlock(const struct image *i)
{
	for (int p = 0; p < PERMS; p++) {
		(void)lock_byte(i->fd, LOCK_USED_BASE + p, F_UNLCK);
		(void)lock_byte(i->fd, LOCK_UNSHARED_BASE + p, F_UNLCK);
	}
}
