/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Survives the truncation of shared memory files that somebody else owns. Touching a page past such a file's end raises
 * SIGBUS; the handler puts anonymous zero pages over the whole registered range and sets its flag, so that the code
 * which touched it goes on (it checks everything it reads anyway) and its owner later finds the flag and ends that
 * session alone. A fault outside all registered ranges goes to whatever handler stood before: by default the process
 * dies as it should.
 *
 * Registration: control thread. The handler: any thread.
 */
#pragma once

#include "base/util.h"

/* Ranges that faulted since the process began. A cheap hint to look at one's own flag. */
extern unsigned sigbus_faults;

/*
 * Guards the page-aligned [base, base+length) until sigbus_guard_remove(); `faulted` must live as long. Installs the
 * handler where it is missing. Returns 0, -EINVAL or -ENOMEM.
 */
int sigbus_guard_add(void *base, size_t length, bool *faulted);
/* Call before the range is unmapped. Removing what was never added is harmless. */
void sigbus_guard_remove(void *base);
