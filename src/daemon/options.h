/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairleadd's command line.
 */
#pragma once

#include "policy/policy.h"

struct options {
	const char *config;	 /* --config FILE */
	const char *socket_path; /* --socket-path PATH, with --blk-file */
	const char *blk_file;
	int fd;			 /* --fd N: instead of a socket path; -1 */
	bool read_only;
	bool debug;
};

/* Exits for --help, --version, --print-capabilities and, with status 64, for what it does not understand. */
void options_parse(int argc, char **argv, struct options *ret);

/* The policy that serves one image, as the vhost-user back-end program conventions have it: a text, to be freed. */
char *options_one_disk_policy(const struct options *o);
