/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target over files and folders of inputs, in the order of their names: what libFuzzer's main does with a corpus,
 * for builds without it. Exit status 0: none of them crashed.
 */
#include "check.h"

#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int file_run(const char *path)
{
	FILE *f = fopen(path, "rbe");
	struct stat st;
	uint8_t *data;
	size_t n;

	if (!f || fstat(fileno(f), &st) < 0) {
		perror(path);
		return 1;
	}
	data = malloc((size_t)st.st_size + 1);
	n = fread(data, 1, (size_t)st.st_size, f);
	fclose(f);
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return 0;
}

static int folder_run(const char *path)
{
	struct dirent **entry;
	int n = scandir(path, &entry, NULL, alphasort), failed = n <= 2;

	for (int i = 0; i < n; i++) {
		char file[PATH_MAX];

		snprintf(file, sizeof(file), "%s/%s", path, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			failed |= file_run(file);
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = argc < 2;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			failed |= folder_run(argv[i]);
		else
			failed |= file_run(argv[i]);
	}
	return failed;
}
