/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whole files as strings. For control paths: it blocks.
 */
#pragma once

#include <stddef.h>

/* Files that people write; none of them comes near it. */
#define FILE_BYTES_MAX (8u << 20)

/* To the end, as a new string with a NUL behind it; there may be others in it. 0 or -errno, -EFBIG past `most` bytes. */
int file_read(const char *path, size_t most, char **ret, size_t *ret_length);
/* The same of a plain file only, which cannot keep anybody waiting. -ENXIO: it is something else. */
int file_read_plain(const char *path, size_t most, char **ret, size_t *ret_length);
int file_read_fd(int fd, size_t most, char **ret, size_t *ret_length);
