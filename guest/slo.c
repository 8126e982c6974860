/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-slo: puts a command or a thread of a Linux guest into a service class by setting its I/O priority, which the stock
 * virtio_blk driver sends to the host with every request.
 *
 * Runs inside the guest, linked statically, without any library of ours: it must work in whatever guest it is copied to.
 * A class is a name from a small file (/etc/fairlead-slo.conf, lines "NAME IOPRIO") or an ioprio in the policy's own words:
 * rt, rt/0 … be/7, idle, and hint/N (with the best-effort class, level 4, around it).
 */
#include <dirent.h>
#include <errno.h>
#include <linux/ioprio.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define CONFIG "/etc/fairlead-slo.conf"
#define HINT_SHIFT 3
#define HINT_MAX 1023
#define PID_LARGEST (1L << 22) /* Linux's own bound */

enum { EXIT_REFUSED = 1, EXIT_USAGE = 64, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

static const char usage_text[] =
	"Usage: fairlead-slo run --class CLASS -- COMMAND [ARGUMENT...]\n"
	"       fairlead-slo set --class CLASS --pid PID | --tid TID\n"
	"       fairlead-slo get [--pid PID | --tid TID]\n"
	"\n"
	"CLASS is a name from " CONFIG " (lines: NAME IOPRIO) or an ioprio:\n"
	"rt, rt/0..rt/7, be, be/0..be/7, idle, hint/16..hint/1023.\n"
	"\n"
	"  --config FILE   another file of names\n"
	"  --pid PID       all threads of a process      --tid TID   one thread\n"
	"  --help          this text                     --version   the version\n";

static void fail(int status, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(int status, const char *format, ...)
{
	va_list ap;

	fputs("fairlead-slo: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

/* --- classes --- */

static bool number(const char *text, long least, long most, long *ret)
{
	char *end;
	long v = strtol(text, &end, 10);

	if (end == text || *end || v < least || v > most)
		return false;
	*ret = v;
	return true;
}

/* "rt/3" and the like; false if it is none. */
static bool parse_ioprio(const char *text, int *ret)
{
	static const struct {
		const char *name;
		int class, level;
	} table[] = { { "rt", IOPRIO_CLASS_RT, 4 }, { "be", IOPRIO_CLASS_BE, 4 }, { "idle", IOPRIO_CLASS_IDLE, 0 } };
	long v;

	if (strncmp(text, "hint/", 5) == 0 && number(text + 5, 1, HINT_MAX, &v)) {
		*ret = IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | (int)v << HINT_SHIFT | 4;
		return true;
	}
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].name);

		if (strncmp(text, table[i].name, n) != 0)
			continue;
		v = table[i].level;
		if (text[n] == '/' ? table[i].class == IOPRIO_CLASS_IDLE || !number(text + n + 1, 0, 7, &v) : text[n] != '\0')
			continue;
		*ret = table[i].class << IOPRIO_CLASS_SHIFT | (int)v;
		return true;
	}
	return false;
}

/* Looks a name up in the file. */
static bool find_name(const char *config, const char *name, int *ret)
{
	FILE *f = fopen(config, "re");
	char line[256];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		char key[128], value[64];

		if (sscanf(line, " %127[^# \t\n] %63s", key, value) != 2 || strcmp(key, name) != 0)
			continue;
		if (!parse_ioprio(value, ret))
			fail(EXIT_USAGE, "%s: class %s: `%s' is no ioprio (rt, be/0..be/7, idle, hint/N)", config, key, value);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static int ioprio_of_class(const char *config, const char *class)
{
	int ioprio;

	/* Names first: a file may call a class "idle" and mean something else by it. */
	if (find_name(config, class, &ioprio) || parse_ioprio(class, &ioprio))
		return ioprio;
	if (access(config, R_OK) < 0)
		fail(EXIT_USAGE, "`%s' is no ioprio, and %s cannot be read for names: %s", class, config, strerror(errno));
	fail(EXIT_USAGE, "`%s' is neither a class in %s nor an ioprio (rt, be/0..be/7, idle, hint/N)", class, config);
}

static void print_ioprio(long id, int ioprio)
{
	static const char *const name[] = { "none", "rt", "be", "idle" };
	int class = ioprio >> IOPRIO_CLASS_SHIFT & 7, level = ioprio & 7, hint = ioprio >> HINT_SHIFT & HINT_MAX;

	printf("%ld: ", id);
	if (class == 0)
		printf("none (follows the CPU priority: nice)");
	else if (class == IOPRIO_CLASS_IDLE)
		printf("idle");
	else
		printf("%s/%d", class < 4 ? name[class] : "?", level);
	if (hint)
		printf(" hint/%d", hint);
	printf(" (0x%04x)\n", ioprio & 0xffff);
}

/* --- the kernel --- */

static const char *why_refused(int ioprio, int error)
{
	if (error == EPERM && ioprio >> IOPRIO_CLASS_SHIFT == IOPRIO_CLASS_RT)
		return "the rt class needs CAP_SYS_NICE (or, before Linux 5.14, CAP_SYS_ADMIN) in the guest; "
		       "map a best-effort level (be/0..be/7) to the class instead";
	if (error == EPERM)
		return "that thread belongs to another user";
	if (error == EINVAL && (ioprio >> HINT_SHIFT & HINT_MAX))
		return "this kernel does not know I/O hints (Linux 6.5 and later do); use a class and level instead";
	if (error == ESRCH)
		return "there is no such thread";
	return strerror(error);
}

static int set_one(pid_t tid, int ioprio)
{
	return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, ioprio) < 0 ? errno : 0;
}

/* Calls `each` for every thread of a process. */
static void for_threads(pid_t pid, void (*each)(pid_t tid, int ioprio), int ioprio)
{
	char path[64];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	if (!d)
		fail(EXIT_REFUSED, "process %d: %s", (int)pid, errno == ENOENT ? "there is no such process" : strerror(errno));
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			each((pid_t)atoi(e->d_name), ioprio);
	closedir(d);
}

static void set_thread(pid_t tid, int ioprio)
{
	int error = set_one(tid, ioprio);

	if (error && error != ESRCH)
		fail(EXIT_REFUSED, "thread %d: %s", (int)tid, why_refused(ioprio, error));
}

static void get_thread(pid_t tid, int unused)
{
	long r = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid);

	(void)unused;
	if (r < 0)
		fail(EXIT_REFUSED, "thread %d: %s", (int)tid, why_refused(0, errno));
	print_ioprio(tid, (int)r);
}

/* --- commands --- */

struct arguments {
	const char *config, *class;
	long pid, tid; /* -1: not given */
	char **command;
};

static void parse_option(const char *key, const char *value, struct arguments *a)
{
	if (strncmp(key, "--", 2) == 0 && !value)
		fail(EXIT_USAGE, "%s wants a value; see --help", key);
	if (strcmp(key, "--class") == 0) {
		a->class = value;
	} else if (strcmp(key, "--config") == 0) {
		a->config = value;
	} else if (strcmp(key, "--pid") == 0) {
		if (!number(value, 1, PID_LARGEST, &a->pid))
			fail(EXIT_USAGE, "--pid: `%s' is no process", value);
	} else if (strcmp(key, "--tid") == 0) {
		if (!number(value, 1, PID_LARGEST, &a->tid))
			fail(EXIT_USAGE, "--tid: `%s' is no thread", value);
	} else {
		fail(EXIT_USAGE, "`%s' is not understood; see --help", key);
	}
}

static void parse_arguments(int argc, char **argv, struct arguments *a)
{
	*a = (struct arguments){ .config = CONFIG, .pid = -1, .tid = -1 };
	for (int i = 2; i < argc; i += 2) {
		if (strcmp(argv[i], "--") == 0) {
			a->command = argv + i + 1;
			return;
		}
		parse_option(argv[i], i + 1 < argc ? argv[i + 1] : NULL, a);
	}
}

static void run(const struct arguments *a)
{
	int ioprio, error;

	if (!a->class || !a->command || !a->command[0])
		fail(EXIT_USAGE, "run wants --class CLASS -- COMMAND; see --help");
	ioprio = ioprio_of_class(a->config, a->class);
	error = set_one(0, ioprio);
	if (error)
		fail(EXIT_REFUSED, "class %s: %s", a->class, why_refused(ioprio, error));
	execvp(a->command[0], a->command);
	fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN, "%s: %s", a->command[0], strerror(errno));
}

static void set(const struct arguments *a)
{
	int ioprio, error;

	if (!a->class || (a->pid < 0) == (a->tid < 0))
		fail(EXIT_USAGE, "set wants --class CLASS and either --pid or --tid; see --help");
	ioprio = ioprio_of_class(a->config, a->class);
	if (a->pid >= 0) {
		/* Twice: threads that were born during the first look by ones not yet reached. */
		for_threads((pid_t)a->pid, set_thread, ioprio);
		for_threads((pid_t)a->pid, set_thread, ioprio);
		return;
	}
	error = set_one((pid_t)a->tid, ioprio);
	if (error)
		fail(EXIT_REFUSED, "thread %ld: %s", a->tid, why_refused(ioprio, error));
}

static void get(const struct arguments *a)
{
	if (a->pid >= 0)
		for_threads((pid_t)a->pid, get_thread, 0);
	else
		get_thread(a->tid >= 0 ? (pid_t)a->tid : getpid(), 0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct arguments *);
	} commands[] = { { "run", run }, { "set", set }, { "get", get } };
	struct arguments a;

	if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
		puts("fairlead-slo " FAIRLEAD_VERSION);
		return 0;
	}
	for (size_t i = 0; argc >= 2 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0) {
			parse_arguments(argc, argv, &a);
			commands[i].run(&a);
			return 0;
		}
	fputs(usage_text, stderr);
	return EXIT_USAGE;
}
