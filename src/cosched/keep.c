/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cosched/keep.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Others may come and go at the same place meanwhile. */
#define CLAIM_TRIES 100u

static bool is_mine(const struct stat *st)
{
	return st->st_uid == geteuid() || st->st_uid == 0;
}

static FILE *stream(int fd, const char *mode)
{
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (!f && fd >= 0)
		close(fd);
	return f;
}

/* A regular file; or -1, and errno: ENOENT if nothing stands there. */
static int open_file(const char *path, int flags, struct stat *ret)
{
	int fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && fstat(fd, ret) == 0 && S_ISREG(ret->st_mode))
		return fd;
	if (fd >= 0) {
		close(fd);
		errno = EINVAL;
	}
	return -1;
}

/* Of ours, whatever stands there. */
static FILE *create(const char *path)
{
	(void)unlink(path);
	return stream(open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644), "w");
}

FILE *keep_append(const char *path)
{
	struct stat st;
	int fd = open_file(path, O_WRONLY | O_APPEND, &st);

	/* One that has a second name may be any file of ours. */
	if (fd >= 0 && is_mine(&st) && st.st_nlink == 1)
		return stream(fd, "a");
	if (fd >= 0)
		close(fd);
	return create(path);
}

static bool fresh_name(const char *path, char name[PATH_MAX])
{
	return snprintf(name, PATH_MAX, "%s.new", path) < PATH_MAX;
}

FILE *keep_begin(const char *path)
{
	char fresh[PATH_MAX];

	if (fresh_name(path, fresh))
		return create(fresh);
	errno = ENAMETOOLONG;
	return NULL;
}

int keep_close(FILE *f)
{
	bool written = !ferror(f);

	if (fclose(f) != 0)
		return -errno;
	return written ? 0 : -EIO;
}

int keep_replace(FILE *f, const char *path)
{
	char fresh[PATH_MAX];
	int err = keep_close(f);

	if (err < 0)
		return err;
	return fresh_name(path, fresh) && rename(fresh, path) == 0 ? 0 : -errno;
}

/* Not one that was taken away after it had been opened: who has a lock on that has nothing. */
static bool stands_there(int fd, const char *path)
{
	struct stat st, there;

	return fstat(fd, &st) == 0 && lstat(path, &there) == 0 && st.st_dev == there.st_dev && st.st_ino == there.st_ino;
}

/* Readable by this user alone: whoever can open it could have the lock. */
static int open_claim(const char *path)
{
	struct stat st;
	int fd = open_file(path, O_RDWR, &st);

	if (fd >= 0 && is_mine(&st) && (st.st_mode & 077) == 0)
		return fd;
	if (fd >= 0 || errno != ENOENT)
		(void)unlink(path);
	if (fd >= 0)
		close(fd);
	return open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

int keep_claim(const char *path)
{
	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		int fd = open_claim(path), err;

		if (fd < 0 && errno == EEXIST)
			continue;
		if (fd < 0)
			return -errno;
		err = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
		if (err == 0 && stands_there(fd, path))
			return fd;
		close(fd);
		if (err < 0)
			return err == -EWOULDBLOCK ? -EBUSY : err;
	}
	return -EBUSY;
}

void keep_disclaim(int fd, const char *path)
{
	if (fd < 0)
		return;
	(void)unlink(path);
	close(fd);
}

FILE *keep_read(const char *path, bool mine)
{
	struct stat st;
	int fd = open_file(path, O_RDONLY, &st);

	if (fd < 0 || !mine || is_mine(&st))
		return stream(fd, "r");
	close(fd);
	return NULL;
}
