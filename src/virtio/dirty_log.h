/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty log of live migration (vhost-user LOG_SHMFD): one bit per 4 KiB page of guest-physical memory, set with an
 * atomic OR because several workers write it: the one exception to "no shared writes on the data path".
 */
#pragma once

#include "base/util.h"

#define DIRTY_LOG_PAGE 4096u

struct dirty_log {
	uint8_t *bits;	  /* mapping of the front-end's fd */
	uint64_t bytes;
	bool faulted;	  /* truncated under us */
};

/* Marks [gpa, gpa+len); what lies past the log's end is ignored. */
void dirty_log_mark(struct dirty_log *log, uint64_t gpa, uint64_t len);
