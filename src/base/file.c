/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading files whole. Their size is not asked for: what the kernel makes up (/proc, /sys) and pipes have none.
 */
#include "base/file.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

int file_read_fd(int fd, size_t most, char **ret, size_t *ret_length)
{
	size_t length = 0, room = 4096;
	cleanup_free char *text = malloc(room + 1);

	for (;;) {
		ssize_t n;
		char *grown;

		if (!text)
			return -ENOMEM;
		n = read(fd, text + length, room - length);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		length += (size_t)n;
		if (length > most)
			return -EFBIG;
		if (length < room)
			continue;
		room *= 2;
		grown = realloc(text, room + 1);
		if (!grown)
			return -ENOMEM;
		text = grown;
	}
	text[length] = '\0';
	*ret = text;
	*ret_length = length;
	text = NULL;
	return 0;
}

int file_read(const char *path, size_t most, char **ret, size_t *ret_length)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : file_read_fd(fd, most, ret, ret_length);
}

int file_read_plain(const char *path, size_t most, char **ret, size_t *ret_length)
{
	/* Opening a FIFO, too, would wait. */
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? file_read_fd(fd, most, ret, ret_length) : -ENXIO;
}
