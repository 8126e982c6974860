/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding VMs' threads: what /proc says in trees made for the purpose, and real processes with named threads that come, change
 * and go.
 */
#include "base/clock.h"
#include "base/util.h"
#include "cosched/members.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#define HANG_NS (120 * NSEC_PER_SEC)

/* --- a tree that looks like /proc --- */

static char tree[64];

static void put(const char *path, const char *text, size_t n)
{
	char full[256], *slash;
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", tree, path);
	for (slash = full + strlen(tree) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(full, 0755);
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
}

static void put_thread(int pid, int tid, const char *name, unsigned long long start)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "%d/task/%d/stat", pid, tid);
	snprintf(text, sizeof(text), "%d (%s) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %llu 0 0\n", tid, name, start);
	put(path, text, strlen(text));
	snprintf(path, sizeof(path), "%d/status", tid);
	snprintf(text, sizeof(text), "Name:\t%s\nState:\tS\nTgid:\t%d\n", name, pid);
	put(path, text, strlen(text));
}

static void put_command(int pid, const char *words, size_t n)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/cmdline", pid);
	put(path, words, n);
}

static int begin_tree(void **state)
{
	(void)state;
	strcpy(tree, "/tmp/fairlead-members-XXXXXX");
	return mkdtemp(tree) ? 0 : -1;
}

static int end_tree(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", tree);
	return system(command);
}

/* --- who came and left --- */

static struct {
	unsigned came, left, n;
	struct member member[64];
} seen;

static void on_came(void *arg, unsigned vm, const struct member *m)
{
	(void)arg;
	(void)vm;
	seen.came++;
	seen.member[seen.n++] = *m;
}

static void on_left(void *arg, unsigned vm, const struct member *m)
{
	(void)arg;
	(void)vm;
	seen.left++;
	for (unsigned i = 0; i < seen.n; i++)
		if (seen.member[i].tid == m->tid)
			seen.member[i] = seen.member[--seen.n];
}

static const struct members_ops ops = { on_came, on_left };

static struct members *begin(const char *proc, const char *cgroups)
{
	struct members *m;

	memset(&seen, 0, sizeof(seen));
	assert_int_equal(members_create(proc, cgroups, &ops, NULL, &m), 0);
	return m;
}

static const char *why(struct members *m)
{
	struct members_seen s;

	members_see(m, 0, &s);
	return s.why;
}

#define WORDS(...) __VA_ARGS__, sizeof(__VA_ARGS__)

static void names_of_guests(void **state)
{
	static const struct {
		const char *words;
		size_t n;
		const char *guest, *uuid;
	} cases[] = {
		{ WORDS("qemu\0-name\0web"), "web", "" },
		{ WORDS("qemu\0-name\0guest=web,debug-threads=on\0-S"), "web", "" },
		{ WORDS("qemu\0-name\0debug-threads=on,guest=web"), "web", "" },
		{ WORDS("qemu\0-name\0debug-threads=on"), "", "" },
		{ WORDS("qemu\0-name\0guest="), "", "" },
		{ WORDS("qemu\0-name"), "", "" },
		{ WORDS("sh\0-c\0qemu -name web"), "", "" },
		{ WORDS("qemu\0-uuid\0004790ebf5-216f-4ae3-87bf-3760f8b83223\0--name\0web"), "web", "4790ebf5-216f-4ae3-87bf-3760f8b83223" },
		{ WORDS("qemu\0-uuid\0004790ebf5-216f-4ae3-87bf-3760f8b832233"), "", "" },
		{ WORDS("qemu\0---uuid\0x\0uuid\0y"), "", "" },
		{ WORDS(""), "", "" },
	};
	struct procfs_vmm vmm;
	int proc = open(tree, O_RDONLY | O_DIRECTORY);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_command(7, cases[i].words, cases[i].n);
		procfs_vmm_read(proc, 7, &vmm);
		assert_string_equal(vmm.guest, cases[i].guest);
		assert_string_equal(vmm.uuid, cases[i].uuid);
	}
	procfs_vmm_read(proc, 8, &vmm);
	assert_string_equal(vmm.guest, "");
	close(proc);
}

static void names_of_threads(void **state)
{
	struct procfs_thread t;
	int proc = open(tree, O_RDONLY | O_DIRECTORY);

	(void)state;
	put_thread(7, 9, "a) R (b", 1234567890123);
	assert_int_equal(procfs_thread_read(proc, 7, 9, &t), 0);
	assert_string_equal(t.name, "a) R (b");
	assert_int_equal(t.start, 1234567890123);
	assert_int_equal(procfs_thread_read(proc, 7, 8, &t), -ESRCH);
	assert_int_equal(members_vcpu_named("CPU 12/KVM"), 12);
	assert_int_equal(members_vcpu_named("CPU 0/TCG"), 0);
	assert_int_equal(members_vcpu_named("vcpu3"), 3);
	assert_int_equal(members_vcpu_named("fc_vcpu 1"), 1);
	assert_int_equal(members_vcpu_named("qemu-system-x86"), -1);
	close(proc);
}

/* A wrapper comes first and has no vCPUs; other threads of the VMM are left alone. */
static void a_guest_is_found_by_its_name(void **state)
{
	struct members *m = begin(tree, tree);

	(void)state;
	put_command(5, WORDS("timeout\0qemu\0-name\0guest=web"));
	put_thread(5, 5, "timeout", 1);
	put_command(6, WORDS("qemu\0-name\0guest=web"));
	put_thread(6, 6, "qemu-system-x86", 2);
	put_thread(6, 60, "CPU 0/KVM", 3);
	put_thread(6, 61, "CPU 1/KVM", 3);
	put_thread(6, 62, "worker", 3);
	assert_int_equal(members_want(m, 0, MEMBERS_BY_GUEST, "web"), 0);
	assert_int_equal(members_work(m, 10), 10 + MEMBERS_INTERVAL_NS);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.member[1].tid, 61);
	assert_int_equal(seen.member[1].vcpu, 1);
	assert_string_equal(why(m), "");
	/* The same number, another thread. */
	put_thread(6, 61, "CPU 1/KVM", 9);
	members_work(m, 20);
	assert_int_equal(seen.came, 2);
	members_look_again(m);
	members_work(m, 20);
	assert_int_equal(seen.came, 3);
	assert_int_equal(seen.left, 1);
	/* Not wanted any more. */
	assert_int_equal(members_want(m, 0, MEMBERS_BY_GUEST, NULL), 0);
	assert_int_equal(seen.left, 3);
	members_destroy(m);
}

static void the_reason_is_told(void **state)
{
	struct members *m = begin(tree, tree);

	(void)state;
	assert_int_equal(members_want(m, 0, MEMBERS_BY_GUEST, "web"), 0);
	members_work(m, 1);
	assert_non_null(strstr(why(m), "no process of the name 'web'"));
	put_command(6, WORDS("qemu\0-name\0web"));
	put_thread(6, 6, "qemu-system-x86", 2);
	members_look_again(m);
	members_work(m, 1);
	assert_non_null(strstr(why(m), "debug-threads=on"));
	assert_int_equal(members_want(m, 0, MEMBERS_BY_QMP, "/nowhere/at.all"), 0);
	members_work(m, 1);
	assert_non_null(strstr(why(m), "No such file"));
	assert_int_equal(members_want(m, 0, MEMBERS_BY_CGROUP, "/nowhere"), 0);
	members_work(m, 1);
	assert_non_null(strstr(why(m), "cgroup /nowhere"));
	assert_int_equal(seen.came, 0);
	members_destroy(m);
}

static void a_cgroup_is_walked(void **state)
{
	struct members *m = begin(tree, tree);

	(void)state;
	put_thread(6, 6, "vmm", 2);
	put_thread(6, 60, "worker", 3);
	put("cg/a/cgroup.threads", "6\n60\n", 5);
	assert_int_equal(members_want(m, 0, MEMBERS_BY_CGROUP, "/sys/fs/cgroup/cg/a"), 0);
	members_work(m, 1);
	assert_int_equal(seen.n, 2);
	/* One is named as a vCPU: the others are not. */
	put_thread(6, 61, "CPU 0/KVM", 3);
	put("cg/a/vcpu0/cgroup.threads", "61\n", 3);
	members_look_again(m);
	members_work(m, 1);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.member[0].tid, 61);
	members_destroy(m);
}

/* --- real processes --- */

static void *sleep_named(void *name)
{
	pthread_setname_np(pthread_self(), name);
	for (;;)
		pause();
	return NULL;
}

/* Says a byte when its threads are there; another one for each byte it is told to start one more thread by. */
static pid_t start_vmm(const char *name, int *ret_talk)
{
	int pair[2];
	pthread_t t;
	pid_t pid;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid = fork();
	if (pid) {
		close(pair[1]);
		*ret_talk = pair[0];
		assert_int_equal(read(pair[0], &byte, 1), 1);
		return pid;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, name);
	pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"CPU 0/KVM");
	pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"helper");
	while (write(pair[1], "", 1) == 1 && read(pair[1], &byte, 1) == 1)
		pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"CPU 1/KVM");
	_exit(0);
}

/* Until so many are members; names are given after threads begin, so one look may be too early. */
static void work_until(struct members *m, unsigned n)
{
	uint64_t began = clock_now_ns();

	while (seen.n != n) {
		struct pollfd p = { .fd = members_fd(m), .events = POLLIN };

		assert_true(clock_now_ns() - began < HANG_NS);
		members_look_again(m);
		members_work(m, clock_now_ns());
		if (seen.n != n)
			poll(&p, 1, 10);
	}
}

static void a_real_process_is_followed(void **state)
{
	struct members *m = begin("/proc", "/sys/fs/cgroup");
	struct pollfd p = { .fd = members_fd(m), .events = POLLIN };
	char name[16];
	int talk, status;
	pid_t pid;

	(void)state;
	snprintf(name, sizeof(name), "vmm-%d", (int)getpid());
	pid = start_vmm(name, &talk);
	assert_int_equal(members_want(m, 0, MEMBERS_BY_PROCESS, name), 0);
	work_until(m, 1);
	/* While no thread has its name yet, all three are taken; then only the vCPU. */
	assert_int_equal(seen.member[0].pid, pid);
	assert_int_equal(seen.member[0].vcpu, 0);
	assert_int_equal(write(talk, "", 1), 1);
	work_until(m, 2);
	/* Its end is told, also while nobody has waited for it. */
	kill(pid, SIGKILL);
	assert_int_equal(poll(&p, 1, 120000), 1);
	members_work(m, clock_now_ns());
	assert_int_equal(seen.n, 0);
	assert_int_equal(poll(&p, 1, 0), 0);
	waitpid(pid, &status, 0);
	close(talk);
	members_destroy(m);
}

/* --- a monitor --- */

static int listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void answer(int client, const char *text)
{
	assert_int_equal(write(client, text, strlen(text)), strlen(text));
}

static void expect(int client, const char *command)
{
	char text[256] = "";
	ssize_t n = read(client, text, sizeof(text) - 1);

	assert_true(n > 0);
	assert_non_null(strstr(text, command));
}

/* It comes in pieces, with events between; threads of others are not taken. */
static void a_monitor_is_asked(void **state)
{
	struct members *m = begin("/proc", "/sys/fs/cgroup");
	char path[96], text[256];
	int listener, client;
	pthread_t t;

	(void)state;
	snprintf(path, sizeof(path), "%s/qmp", tree);
	listener = listen_at(path);
	assert_int_equal(members_want(m, 0, MEMBERS_BY_QMP, path), 0);
	members_work(m, 1);
	client = accept(listener, NULL, NULL);
	answer(client, "{\"QMP\": {\"version\": {}, \"capabil");
	members_work(m, 2);
	answer(client, "ities\": []}}\r\n");
	members_work(m, 3);
	expect(client, "qmp_capabilities");
	answer(client, "{\"event\": \"RESUME\"}\r\n{\"return\": {}}\r\n");
	members_work(m, 4);
	expect(client, "query-cpus-fast");
	snprintf(text, sizeof(text),
		 "{\"return\": [{\"cpu-index\": 3, \"thread-id\": %d}, {\"cpu-index\": 4, \"thread-id\": 1}]}\r\n", (int)getpid());
	answer(client, text);
	members_work(m, 5);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.member[0].vcpu, 3);
	/* It has left, so that others can ask. */
	assert_int_equal(read(client, text, 1), 0);
	close(client);
	/* A new thread: it is asked again, and again when it hangs up, and its member stays meanwhile. */
	pthread_create(&t, NULL, sleep_named, (void *)(uintptr_t)"plugged");
	for (int i = 0; i < 2; i++) {
		members_look_again(m);
		members_work(m, 6);
		client = accept(listener, NULL, NULL);
		close(client);
		members_work(m, 7);
		assert_int_equal(seen.n, 1);
	}
	pthread_cancel(t);
	pthread_join(t, NULL);
	close(listener);
	members_destroy(m);
}

static void a_bad_monitor_does_no_harm(void **state)
{
	static const char *const words[] = { "HTTP/1.1 200 OK\r\n", "{\"QMP\": {}}\n{\"error\": {}}\n",
					     "{\"QMP\": {}}\n{\"return\": {}}\n{\"return\": 5}\n",
					     "{\"QMP\": {}}\n{\"return\": {}}\n{\"return\": [{\"thread-id\": -4}]}\n" };
	char path[96];
	int listener;

	(void)state;
	snprintf(path, sizeof(path), "%s/bad", tree);
	listener = listen_at(path);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		struct members *m = begin("/proc", "/sys/fs/cgroup");
		int client;

		assert_int_equal(members_want(m, 0, MEMBERS_BY_QMP, path), 0);
		members_work(m, 1);
		client = accept(listener, NULL, NULL);
		answer(client, words[i]);
		members_work(m, 2);
		assert_non_null(strstr(why(m), "does not speak QMP"));
		/* One that says nothing is left after a while, and asked again. */
		members_look_again(m);
		members_work(m, 3);
		members_look_again(m);
		members_work(m, UINT64_C(4000000000));
		assert_non_null(strstr(why(m), "does not answer"));
		close(client);
		while ((client = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0 && errno == EINTR)
			;
		close(client);
		members_destroy(m);
		/* Those it had asked and left. */
		fcntl(listener, F_SETFL, O_NONBLOCK);
		while ((client = accept(listener, NULL, NULL)) >= 0)
			close(client);
		fcntl(listener, F_SETFL, 0);
	}
	close(listener);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin_tree, end_tree)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_of_guests),
		TEST(names_of_threads),
		TEST(a_guest_is_found_by_its_name),
		TEST(the_reason_is_told),
		TEST(a_cgroup_is_walked),
		TEST(a_real_process_is_followed),
		TEST(a_monitor_is_asked),
		TEST(a_bad_monitor_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
