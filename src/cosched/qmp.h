/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question to a QEMU's monitor socket: which threads are your vCPUs? Connects, asks, and leaves, as a monitor serves one
 * client at a time and others may want it. Never blocks: the caller waits on the descriptor and sets the time limit.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define QMP_VCPUS_MAX 512

struct qmp_vcpu {
	pid_t tid;
	unsigned index;
};

struct qmp;

/* Connects and begins to ask. -ENOENT, -ECONNREFUSED: no QEMU there; -EAGAIN: its monitor is busy; -EACCES. */
int qmp_ask(const char *path, struct qmp **ret);
/* NULL is allowed. */
void qmp_destroy(struct qmp *q);

/* Readable (nothing else is waited for): call qmp_work(). */
int qmp_fd(const struct qmp *q);
/* 0: answered; -EAGAIN: wait for more; -EPROTO: that is no QMP; -ECONNRESET, … */
int qmp_work(struct qmp *q);

/* When answered. */
size_t qmp_vcpus(const struct qmp *q, const struct qmp_vcpu **ret);
/* The process at the other end, as the kernel tells. */
pid_t qmp_peer(const struct qmp *q);
