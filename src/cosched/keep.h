/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that say what a run which is killed could not give back, for the next one. They lie beside the control socket, in a folder
 * that may belong to another user (fairleadd's): what stands at their place is not followed if it is a link, not waited for if
 * it is no file, and neither written to nor believed if it is somebody else's.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* To add lines at its end, until keep_close(). NULL, and errno. 0 or -errno. */
FILE *keep_append(const char *path);
int keep_close(FILE *f);
/* A new one, which keep_replace() closes and puts in the place of the old: whole or not at all. NULL, and errno. 0 or -errno. */
FILE *keep_begin(const char *path);
int keep_replace(FILE *f, const char *path);
/* To read. `mine`: only if this user, or root, has written it. NULL: there is none. */
FILE *keep_read(const char *path, bool mine);

/*
 * The right to write and to believe such files: one process has it, until its end, however it ends. `path`: a file of its own,
 * for that. A descriptor; -EBUSY: another has it; -errno.
 */
int keep_claim(const char *path);
/* Gives it back, and takes the file away. fd < 0 is allowed. */
void keep_disclaim(int fd, const char *path);
