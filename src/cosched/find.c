/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cosched/find.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* libvirt's deepest: x.scope/libvirt/vcpu0. */
#define CGROUP_DEPTH_MAX 6u
/* Processes that a list has room for at first: a power of two. */
#define LIST_ROOM 256u

int members_vcpu_named(const char *name)
{
	static const char *const forms[] = { "CPU %u/", "vcpu%u", "fc_vcpu %u" };
	unsigned n;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		if (sscanf(name, forms[i], &n) == 1 && n <= INT32_MAX)
			return (int)n;
	return -1;
}

void find_list_fini(struct find_list *l)
{
	free(l->member);
	*l = (struct find_list){ 0 };
}

void find_list_add(struct find_list *l, const struct member *m)
{
	if (l->n == l->room) {
		unsigned room = l->room ? 2 * l->room : 16;
		struct member *grown = room <= MEMBERS_PER_VM_MAX ? reallocarray(l->member, room, sizeof(*grown)) : NULL;

		if (!grown)
			return;
		l->member = grown;
		l->room = room;
	}
	l->member[l->n++] = *m;
}

/* Keeps those that are named as vCPUs, if any is. */
static void keep_vcpus(struct find_list *l, bool or_all)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->n; i++)
		n += l->member[i].vcpu >= 0;
	if (n == 0 && or_all)
		return;
	n = 0;
	for (unsigned i = 0; i < l->n; i++)
		if (l->member[i].vcpu >= 0)
			l->member[n++] = l->member[i];
	l->n = n;
}

/* --- threads of a process --- */

struct threads_look {
	const struct find_root *root;
	pid_t pid;
	struct find_list *list;
};

static bool add_thread(void *arg, pid_t tid)
{
	struct threads_look *look = arg;
	struct procfs_thread t;

	if (procfs_thread_read(look->root->proc, look->pid, tid, &t) == 0)
		find_list_add(look->list, &(struct member){ look->pid, tid, t.start, members_vcpu_named(t.name) });
	return false;
}

void find_threads(const struct find_root *r, pid_t pid, bool or_all, struct find_list *ret)
{
	struct threads_look look = { r, pid, ret };

	(void)procfs_each(r->proc, pid, add_thread, &look);
	keep_vcpus(ret, or_all);
}

bool find_is_qemu(const struct find_root *r, pid_t pid)
{
	struct procfs_vmm vmm;
	struct procfs_thread t;

	if (procfs_thread_read(r->proc, pid, pid, &t) == 0 && (strncmp(t.name, "qemu", 4) == 0 || strcmp(t.name, "kvm") == 0))
		return true;
	procfs_vmm_read(r->proc, pid, &vmm);
	return vmm.guest[0] != '\0';
}

static bool digest_thread(void *arg, pid_t tid)
{
	uint64_t *digest = arg;

	*digest = (*digest ^ (uint64_t)tid) * UINT64_C(0x100000001b3);
	return false;
}

uint64_t find_digest(const struct find_root *r, pid_t pid)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	(void)procfs_each(r->proc, pid, digest_thread, &digest);
	return digest;
}

/* --- a process by its name --- */

void find_end(struct find_root *r)
{
	free(r->process);
	r->process = NULL;
	r->n = 0;
}

static bool list_process(void *arg, pid_t pid)
{
	struct find_root *r = arg;
	struct find_process *p;
	struct procfs_thread t;

	/* Room doubles: it is full when their number is a power of two. */
	if (r->n >= LIST_ROOM && (r->n & (r->n - 1)) == 0) {
		p = reallocarray(r->process, 2 * r->n, sizeof(*p));
		if (!p)
			return true;
		r->process = p;
	}
	if (procfs_thread_read(r->proc, pid, pid, &t) < 0)
		return false;
	p = &r->process[r->n++];
	p->pid = pid;
	memcpy(p->name, t.name, sizeof(p->name));
	procfs_vmm_read(r->proc, pid, &p->vmm);
	return false;
}

static bool is_named(const struct find_process *p, enum members_way way, const char *value)
{
	if (strcmp(p->vmm.guest, value) == 0)
		return true;
	return way == MEMBERS_BY_PROCESS && (strcmp(p->name, value) == 0 || strcasecmp(p->vmm.uuid, value) == 0);
}

static bool has_vcpus(const struct find_root *r, pid_t pid)
{
	struct find_list vcpus = { 0 };
	bool has;

	find_threads(r, pid, false, &vcpus);
	has = vcpus.n > 0;
	find_list_fini(&vcpus);
	return has;
}

/* Shells, time limits and the like carry a VMM's command line in their own, but have no vCPUs: those come second. */
pid_t find_process(struct find_root *r, enum members_way way, const char *value)
{
	pid_t first = 0;

	if (!r->process) {
		r->process = malloc(LIST_ROOM * sizeof(*r->process));
		if (!r->process)
			return 0;
		(void)procfs_each(r->proc, 0, list_process, r);
	}
	for (unsigned i = 0; i < r->n; i++) {
		if (!is_named(&r->process[i], way, value))
			continue;
		if (has_vcpus(r, r->process[i].pid))
			return r->process[i].pid;
		first = first ? first : r->process[i].pid;
	}
	return first;
}

/* --- a cgroup --- */

static pid_t process_of(const struct find_root *r, pid_t tid)
{
	char path[32], text[2048], *line;
	int pid = 0;

	snprintf(path, sizeof(path), "%d/status", (int)tid);
	if (procfs_file_read(r->proc, path, text, sizeof(text)) > 0 && (line = strstr(text, "\nTgid:")))
		(void)sscanf(line + 6, "%d", &pid);
	return (pid_t)pid;
}

static void add_ids(const struct find_root *r, char *text, struct find_list *ret)
{
	char *rest, *word;

	for (word = strtok_r(text, "\n", &rest); word; word = strtok_r(NULL, "\n", &rest)) {
		pid_t tid = (pid_t)atoi(word), pid = process_of(r, tid);
		struct procfs_thread t;

		if (pid > 0 && procfs_thread_read(r->proc, pid, tid, &t) == 0)
			find_list_add(ret, &(struct member){ pid, tid, t.start, members_vcpu_named(t.name) });
	}
}

/* Takes `fd`. */
static int add_cgroup(const struct find_root *r, int fd, unsigned depth, struct find_list *ret)
{
	char text[16384];
	DIR *d = fdopendir(fd);
	struct dirent *e;
	ssize_t n;

	if (!d) {
		close(fd);
		return -errno;
	}
	n = procfs_file_read(fd, "cgroup.threads", text, sizeof(text));
	if (n > 0)
		add_ids(r, text, ret);
	while (depth < CGROUP_DEPTH_MAX && (e = readdir(d))) {
		int below = e->d_name[0] == '.' ? -1 : openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (below >= 0)
			(void)add_cgroup(r, below, depth + 1, ret);
	}
	closedir(d);
	return n < 0 ? (int)n : 0;
}

int find_cgroup(const struct find_root *r, const char *path, struct find_list *ret)
{
	int fd, err;

	/* As people copy it from elsewhere. */
	if (strncmp(path, "/sys/fs/cgroup/", 15) == 0)
		path += 14;
	path += strspn(path, "/");
	fd = openat(r->cgroups, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = add_cgroup(r, fd, 0, ret);
	keep_vcpus(ret, true);
	return err;
}
