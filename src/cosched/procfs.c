/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading /proc. Whatever goes while it is read is gone: that is no error worth a word.
 */
#include "cosched/procfs.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* QEMU's command lines are long; what matters stands near the beginning. */
#define COMMAND_MAX 16384

ssize_t procfs_file_read(int dir, const char *path, char *ret, size_t size)
{
	cleanup_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n > 0 && used < size - 1) {
		n = read(fd, ret + used, size - 1 - used);
		if (n < 0)
			return -errno;
		used += (size_t)n;
	}
	ret[used] = '\0';
	return (ssize_t)used;
}

/* --- lists of ids --- */

static int compare_ids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

static int read_ids(DIR *d, pid_t **ret, size_t *ret_n)
{
	size_t n = 0, room = 0;
	pid_t *ids = NULL;
	struct dirent *e;

	while ((e = readdir(d))) {
		char *end;
		long id = strtol(e->d_name, &end, 10);

		if (*end || id <= 0)
			continue;
		if (n == room) {
			pid_t *grown = reallocarray(ids, room ? 2 * room : 64, sizeof(*ids));

			if (!grown) {
				free(ids);
				return -ENOMEM;
			}
			room = room ? 2 * room : 64;
			ids = grown;
		}
		ids[n++] = (pid_t)id;
	}
	*ret = ids;
	*ret_n = n;
	return 0;
}

int procfs_each(int proc, pid_t pid, bool (*each)(void *arg, pid_t id), void *arg)
{
	cleanup_free pid_t *ids = NULL;
	char path[32] = ".";
	size_t n = 0;
	int fd, err;
	DIR *d;

	if (pid)
		snprintf(path, sizeof(path), "%d/task", (int)pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		err = -errno;
		close(fd);
		return err;
	}
	err = read_ids(d, &ids, &n);
	closedir(d);
	if (err < 0)
		return err;
	if (n)
		qsort(ids, n, sizeof(*ids), compare_ids);
	for (size_t i = 0; i < n; i++)
		if (each(arg, ids[i]))
			break;
	return 0;
}

/* --- threads --- */

/* "TID (NAME) STATE ...": the name may hold anything, so its end is the last bracket; the start time is field 22. */
static int parse_stat(char *line, struct procfs_thread *ret)
{
	char *open = strchr(line, '('), *close = strrchr(line, ')'), *p = close;
	unsigned long long start;

	if (!open || !close || close < open || close[1] != ' ')
		return -EBADMSG;
	/* Dead, and waiting for its parent to look. */
	if (close[2] == 'Z' || close[2] == 'X')
		return -ESRCH;
	for (unsigned field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%llu", &start) != 1)
		return -EBADMSG;
	*close = '\0';
	snprintf(ret->name, sizeof(ret->name), "%s", open + 1);
	ret->start = start;
	return 0;
}

int procfs_thread_read(int proc, pid_t pid, pid_t tid, struct procfs_thread *ret)
{
	char path[64], line[1024];
	ssize_t n;

	snprintf(path, sizeof(path), "%d/task/%d/stat", (int)pid, (int)tid);
	n = procfs_file_read(proc, path, line, sizeof(line));
	if (n == -ENOENT || n == 0)
		return -ESRCH;
	if (n < 0)
		return (int)n;
	ret->tid = tid;
	return parse_stat(line, ret);
}

/* --- processes --- */

/* One of the comma-separated parts of -name's argument: the first without a key, or `guest=`. */
static bool parse_guest(const char *argument, char ret[PROCFS_GUEST_MAX])
{
	for (const char *part = argument; part; part = strchr(part, ',') ? strchr(part, ',') + 1 : NULL) {
		size_t n = strcspn(part, ",");
		bool named = strncmp(part, "guest=", 6) == 0;

		if (!named && (part != argument || memchr(part, '=', n)))
			continue;
		part += named ? 6 : 0;
		n -= named ? 6 : 0;
		if (n == 0 || n >= PROCFS_GUEST_MAX)
			return false;
		memcpy(ret, part, n);
		ret[n] = '\0';
		return true;
	}
	return false;
}

/* The word behind -NAME or --NAME on a command line that has been read; NULL: none. */
static const char *option_value(const char *command, ssize_t n, const char *name)
{
	for (const char *word = command; word < command + n; word += strlen(word) + 1) {
		const char *bare = word + strspn(word, "-"), *value = word + strlen(word) + 1;

		if (bare > word && bare <= word + 2 && strcmp(bare, name) == 0)
			return value < command + n ? value : NULL;
	}
	return NULL;
}

void procfs_vmm_read(int proc, pid_t pid, struct procfs_vmm *ret)
{
	char path[32], command[COMMAND_MAX];
	const char *name, *uuid;
	ssize_t n;

	snprintf(path, sizeof(path), "%d/cmdline", (int)pid);
	n = procfs_file_read(proc, path, command, sizeof(command));
	name = option_value(command, n, "name");
	uuid = option_value(command, n, "uuid");
	if (!name || !parse_guest(name, ret->guest))
		ret->guest[0] = '\0';
	snprintf(ret->uuid, sizeof(ret->uuid), "%s", uuid && strlen(uuid) < sizeof(ret->uuid) ? uuid : "");
}

int procfs_cgroup_read(int proc, pid_t pid, char *ret, size_t size)
{
	char path[32], text[4096], *line;
	ssize_t n;

	snprintf(path, sizeof(path), "%d/cgroup", (int)pid);
	n = procfs_file_read(proc, path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line = strchr(line, '/');
	if (!line)
		return -ENOENT;
	line[strcspn(line, "\n")] = '\0';
	if (strlen(line) >= size)
		return -ENAMETOOLONG;
	strcpy(ret, line);
	return 0;
}
