/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cosched/find.h"
#include "cosched/qmp.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

/* A monitor that does not answer for so long is asked anew at the next look. */
#define QMP_PATIENCE_NS UINT64_C(3000000000)

struct vm {
	enum members_way way;
	char *value; /* NULL: not wanted */
	pid_t pid;
	uint64_t start; /* of pid */
	int pidfd;	/* -1 */
	struct find_list now;
	struct qmp *qmp; /* a question under way */
	uint64_t asked_ns;
	uint64_t digest; /* of the process's threads when QMP was asked; 0: ask */
	char why[192];
};

struct members {
	struct find_root root;
	int epoll;
	const struct members_ops *ops;
	void *arg;
	uint64_t next_ns; /* 0: at once */
	struct vm vm[MEMBERS_VMS_MAX];
};

int members_create(const char *proc, const char *cgroups, const struct members_ops *ops, void *arg, struct members **ret)
{
	struct members *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	for (unsigned i = 0; i < MEMBERS_VMS_MAX; i++)
		m->vm[i].pidfd = -1;
	m->ops = ops;
	m->arg = arg;
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	m->root.proc = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A host without cgroups can have VMs that are found otherwise. */
	m->root.cgroups = open(cgroups, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->epoll < 0 || m->root.proc < 0) {
		int err = -errno;

		members_destroy(m);
		return err;
	}
	*ret = m;
	return 0;
}

static void stop_asking(struct vm *v)
{
	qmp_destroy(v->qmp);
	v->qmp = NULL;
}

/* Without an answer: the next look asks anew, also if the process has not changed. */
static void give_up_asking(struct vm *v)
{
	stop_asking(v);
	v->digest = 0;
}

static void forget_process(struct vm *v)
{
	cleanup_close_fd(&v->pidfd);
	v->pidfd = -1;
	v->pid = 0;
	v->digest = 0;
}

static void fini_vm(struct vm *v)
{
	stop_asking(v);
	forget_process(v);
	find_list_fini(&v->now);
	free(v->value);
	v->value = NULL;
	v->why[0] = '\0';
}

void members_destroy(struct members *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < MEMBERS_VMS_MAX; i++)
		fini_vm(&m->vm[i]);
	cleanup_close_fd(&m->epoll);
	find_end(&m->root);
	cleanup_close_fd(&m->root.proc);
	cleanup_close_fd(&m->root.cgroups);
	free(m);
}

int members_fd(const struct members *m)
{
	return m->epoll;
}

void members_look_again(struct members *m)
{
	m->next_ns = 0;
}

/* --- who came, who left --- */

/* A thread that has only now been given its name comes anew, as what it is. */
static bool holds(const struct find_list *l, const struct member *m)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->member[i].tid == m->tid && l->member[i].start == m->start && l->member[i].vcpu == m->vcpu)
			return true;
	return false;
}

/* Takes `now`. Those that leave go first, so that a number used again is free when it comes back. */
static void become(struct members *m, unsigned vm, struct find_list *now)
{
	struct vm *v = &m->vm[vm];
	struct find_list before = v->now;

	v->now = *now;
	*now = (struct find_list){ 0 };
	for (unsigned i = 0; i < before.n; i++)
		if (!holds(&v->now, &before.member[i]))
			m->ops->left(m->arg, vm, &before.member[i]);
	for (unsigned i = 0; i < v->now.n; i++)
		if (!holds(&before, &v->now.member[i]))
			m->ops->came(m->arg, vm, &v->now.member[i]);
	find_list_fini(&before);
}

static void become_empty(struct members *m, unsigned vm)
{
	struct find_list none = { 0 };

	become(m, vm, &none);
}

int members_want(struct members *m, unsigned vm, enum members_way way, const char *value)
{
	struct vm *v = &m->vm[vm < MEMBERS_VMS_MAX ? vm : 0];
	char *copy;

	if (vm >= MEMBERS_VMS_MAX)
		return -EINVAL;
	if (value && v->value && v->way == way && strcmp(v->value, value) == 0)
		return 0;
	copy = value ? strdup(value) : NULL;
	if (value && !copy)
		return -ENOMEM;
	become_empty(m, vm);
	fini_vm(v);
	v->way = way;
	v->value = copy;
	m->next_ns = 0;
	return 0;
}

void members_see(const struct members *m, unsigned vm, struct members_seen *ret)
{
	const struct vm *v = &m->vm[vm % MEMBERS_VMS_MAX];

	*ret = (struct members_seen){ v->pid, v->now.member, v->now.n, v->why };
}

bool members_is_alive(const struct members *m, const struct member *member)
{
	struct procfs_thread t;

	return procfs_thread_read(m->root.proc, member->pid, member->tid, &t) == 0 && t.start == member->start;
}

int members_cgroup(const struct members *m, const struct member *member, char *ret, size_t size)
{
	return procfs_cgroup_read(m->root.proc, member->pid, ret, size);
}

int members_identify(const struct members *m, struct member *member)
{
	struct procfs_thread t;
	int err = procfs_thread_read(m->root.proc, member->pid, member->tid, &t);

	if (err == 0)
		member->start = t.start;
	return err;
}

/* --- the process --- */

/* Which of a VM's two descriptors an event is about. */
#define ABOUT_PROCESS (1u << 31)

static void watch(struct members *m, int fd, unsigned about)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = about };

	/* Without it the next look finds out. */
	(void)epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &e);
}

static bool process_is_there(const struct members *m, const struct vm *v)
{
	struct procfs_thread t;

	return v->pid && procfs_thread_read(m->root.proc, v->pid, v->pid, &t) == 0 && t.start == v->start;
}

/* The pidfd may be of a successor of the same number, if it is fast: the look right after compares start times. */
static void know_process(struct members *m, unsigned vm, pid_t pid)
{
	struct vm *v = &m->vm[vm];
	struct procfs_thread t;

	if (procfs_thread_read(m->root.proc, pid, pid, &t) < 0)
		return;
	if (v->pid == pid && v->start == t.start)
		return;
	forget_process(v);
	v->pid = pid;
	v->start = t.start;
	v->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (v->pidfd >= 0)
		watch(m, v->pidfd, vm | ABOUT_PROCESS);
}

static void lose_process(struct members *m, unsigned vm)
{
	stop_asking(&m->vm[vm]);
	forget_process(&m->vm[vm]);
	become_empty(m, vm);
}

/* --- ways --- */

static void tell_why(struct vm *v, const char *problem, const char *remedy)
{
	snprintf(v->why, sizeof(v->why), "%s; %s", problem, remedy);
}

static void look_by_name(struct members *m, unsigned vm)
{
	struct vm *v = &m->vm[vm];
	struct find_list now = { 0 };
	char problem[96];
	pid_t pid;

	/* One without vCPUs may be the wrapper of the right one. */
	if (!v->pid || v->now.n == 0) {
		pid = find_process(&m->root, v->way, v->value);
		if (pid)
			know_process(m, vm, pid);
		else
			forget_process(v);
	}
	if (!v->pid) {
		snprintf(problem, sizeof(problem), "no process of the name '%.40s'", v->value);
		tell_why(v, problem, "start it, or tell how it is found with cpu: { qmp, process or cgroup }");
		return;
	}
	find_threads(&m->root, v->pid, v->way == MEMBERS_BY_PROCESS && !find_is_qemu(&m->root, v->pid), &now);
	if (now.n == 0) {
		snprintf(problem, sizeof(problem), "process %d names no thread 'CPU n/...'", (int)v->pid);
		tell_why(v, problem, "start QEMU with -name ...,debug-threads=on, or give cpu: { qmp: SOCKET }");
	}
	become(m, vm, &now);
}

static void ask(struct members *m, unsigned vm, uint64_t now_ns)
{
	struct vm *v = &m->vm[vm];
	char problem[128];
	int err = qmp_ask(v->value, &v->qmp);

	if (err < 0) {
		snprintf(problem, sizeof(problem), "%.80s: %s", v->value, err == -EAGAIN ? "busy" : strerror(-err));
		tell_why(v, problem, "start QEMU with -qmp unix:SOCKET,server=on,wait=off");
		give_up_asking(v);
		return;
	}
	v->asked_ns = now_ns;
	watch(m, qmp_fd(v->qmp), vm);
}

static void look_by_qmp(struct members *m, unsigned vm, uint64_t now_ns)
{
	struct vm *v = &m->vm[vm];
	uint64_t digest = v->pid ? find_digest(&m->root, v->pid) : 0;

	if (v->qmp && now_ns - v->asked_ns > QMP_PATIENCE_NS) {
		give_up_asking(v);
		tell_why(v, "the monitor does not answer", "it serves one client at a time: give it a socket of its own");
	}
	if (!v->qmp && (!v->pid || digest != v->digest)) {
		v->digest = digest;
		ask(m, vm, now_ns);
	}
}

/* What the answer says is taken for threads of the process that gave it, and no others. */
static void hear(struct members *m, unsigned vm)
{
	struct vm *v = &m->vm[vm];
	const struct qmp_vcpu *vcpu;
	struct find_list now = { 0 };
	int err = qmp_work(v->qmp);
	char problem[96];
	bool fresh;

	if (err == -EAGAIN)
		return;
	if (err < 0) {
		snprintf(problem, sizeof(problem), "the monitor does not speak QMP (%s)", strerror(-err));
		tell_why(v, problem, "cpu: { qmp } is the socket of -qmp, not of -monitor or -serial");
		give_up_asking(v);
		return;
	}
	fresh = v->pid != qmp_peer(v->qmp);
	know_process(m, vm, qmp_peer(v->qmp));
	for (size_t i = 0, n = qmp_vcpus(v->qmp, &vcpu); i < n; i++) {
		struct procfs_thread t;

		if (procfs_thread_read(m->root.proc, v->pid, vcpu[i].tid, &t) == 0)
			find_list_add(&now, &(struct member){ v->pid, vcpu[i].tid, t.start, (int)vcpu[i].index });
	}
	if (now.n == 0)
		tell_why(v, "the monitor's vCPUs are no threads of its process", "a container has numbers of its own: use cpu: { cgroup }");
	stop_asking(v);
	if (fresh)
		v->digest = find_digest(&m->root, v->pid);
	become(m, vm, &now);
}

static void look_by_cgroup(struct members *m, unsigned vm)
{
	struct vm *v = &m->vm[vm];
	struct find_list now = { 0 };
	char problem[128];
	int err = find_cgroup(&m->root, v->value, &now);

	if (now.n) {
		know_process(m, vm, now.member[0].pid);
	} else {
		forget_process(v);
		snprintf(problem, sizeof(problem), "cgroup %.80s: %s", v->value, err < 0 ? strerror(-err) : "empty");
		tell_why(v, problem, "the path is beneath /sys/fs/cgroup");
	}
	become(m, vm, &now);
}

static void look(struct members *m, unsigned vm, uint64_t now_ns)
{
	struct vm *v = &m->vm[vm];

	if (v->pid && !process_is_there(m, v))
		lose_process(m, vm);
	if (v->way == MEMBERS_BY_QMP)
		look_by_qmp(m, vm, now_ns);
	else if (v->way == MEMBERS_BY_CGROUP)
		look_by_cgroup(m, vm);
	else
		look_by_name(m, vm);
	if (v->now.n)
		v->why[0] = '\0';
}

/* --- the loop's turns --- */

static void take_events(struct members *m, uint64_t now_ns)
{
	struct epoll_event e[16];
	int n = epoll_wait(m->epoll, e, ARRAY_SIZE(e), 0);

	for (int i = 0; i < n; i++) {
		unsigned vm = e[i].data.u32 & ~ABOUT_PROCESS;
		struct vm *v = &m->vm[vm];

		if (!(e[i].data.u32 & ABOUT_PROCESS) && v->qmp) {
			hear(m, vm);
		} else if (e[i].data.u32 & ABOUT_PROCESS && v->pid) {
			/* Something may have taken its place already. */
			lose_process(m, vm);
			look(m, vm, now_ns);
		}
	}
}

uint64_t members_work(struct members *m, uint64_t now_ns)
{
	take_events(m, now_ns);
	if (m->next_ns > now_ns)
		return m->next_ns;
	m->next_ns = now_ns + MEMBERS_INTERVAL_NS;
	for (unsigned vm = 0; vm < MEMBERS_VMS_MAX; vm++)
		if (m->vm[vm].value)
			look(m, vm, now_ns);
	find_end(&m->root);
	return m->next_ns;
}
