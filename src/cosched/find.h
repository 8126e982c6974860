/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways from a VM's name, process or cgroup to its threads, as one look. Shared by members.c and find.c only.
 */
#pragma once

#include "cosched/members.h"

/* Grows up to MEMBERS_PER_VM_MAX; what is beyond is left out. */
struct find_list {
	struct member *member;
	unsigned n, room;
};

void find_list_fini(struct find_list *l);
void find_list_add(struct find_list *l, const struct member *m);

struct find_process {
	pid_t pid;
	char name[PROCFS_NAME_MAX];
	struct procfs_vmm vmm;
};

struct find_root {
	int proc, cgroups;
	struct find_process *process; /* all of them, as of this look; NULL: nobody has asked yet */
	unsigned n;
};

/* The end of a look: the next one lists processes anew, once, however many VMs are searched for. */
void find_end(struct find_root *r);
/* The process of that name that has vCPUs, else the first of that name; 0: none. */
pid_t find_process(struct find_root *r, enum members_way way, const char *value);
/* Its vCPUs by the names of its threads; `or_all`: if it names none, all of them. */
void find_threads(const struct find_root *r, pid_t pid, bool or_all, struct find_list *ret);
/* True: its name is that of a QEMU, which has threads beside its vCPUs. */
bool find_is_qemu(const struct find_root *r, pid_t pid);
/* What is in a cgroup and below. 0 or -errno. */
int find_cgroup(const struct find_root *r, const char *path, struct find_list *ret);
/* Changes when the threads of a process do. */
uint64_t find_digest(const struct find_root *r, pid_t pid);
