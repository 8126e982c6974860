/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The test guest's first process: runs shell commands that arrive on a virtio-serial port, any number at a time.
 *
 *   host -> guest   ID LENGTH\n and LENGTH bytes of shell script
 *   guest -> host   ID STATUS LENGTH\n and LENGTH bytes of its output, once it has ended; first of all "0 0 0\n": booted
 *
 * One thread. SIGCHLD is blocked and read from a signalfd, so that commands end while the port is waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT_MAX (1 << 20)
#define OUTPUT_MAX (8 << 20)
#define JOBS_MAX 256

struct job {
	pid_t pid;
	unsigned long id;
	int output;
};

static struct job job[JOBS_MAX];
static int port;

static void die(const char *what)
{
	perror(what);
	sync();
	for (;;)
		pause();
}

static void write_all(const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(port, data, len);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			die("write to the port");
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
}

/* The host may be away for a moment (migration): reading nothing is no end. */
static void read_all(char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = read(port, data, len);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			die("read from the port");
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		} else {
			usleep(20000);
		}
	}
}

static void reply(unsigned long id, int status, int output)
{
	char head[64], *data = NULL;
	struct stat st;
	size_t len = 0;

	if (output >= 0 && fstat(output, &st) == 0)
		len = st.st_size > OUTPUT_MAX ? OUTPUT_MAX : (size_t)st.st_size;
	data = malloc(len + 1);
	if (!data || (len > 0 && pread(output, data, len, 0) != (ssize_t)len))
		len = 0;
	write_all(head, (size_t)snprintf(head, sizeof(head), "%lu %d %zu\n", id, status, len));
	write_all(data, len);
	free(data);
}

static struct job *job_find(pid_t pid)
{
	for (unsigned i = 0; i < JOBS_MAX; i++)
		if (job[i].pid == pid)
			return &job[i];
	return NULL;
}

static void job_start(unsigned long id, const char *script)
{
	struct job *j = job_find(0);
	FILE *output = tmpfile();

	if (!j || !output) {
		reply(id, 126, -1);
		return;
	}
	j->id = id;
	j->output = dup(fileno(output));
	fclose(output);
	j->pid = fork();
	if (j->pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(j->output, 1);
		dup2(j->output, 2);
		close(port);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
}

static void request_read(void)
{
	static char script[SCRIPT_MAX + 1];
	char head[64];
	unsigned long id;
	size_t n = 0, len;

	do
		read_all(&head[n], 1);
	while (head[n++] != '\n' && n < sizeof(head) - 1);
	head[n] = '\0';
	if (sscanf(head, "%lu %zu", &id, &len) != 2 || len > SCRIPT_MAX)
		die("a request makes no sense");
	read_all(script, len);
	script[len] = '\0';
	job_start(id, script);
}

/* Also reaps orphans: this is process 1. */
static void jobs_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct job *j = job_find(pid);

		if (!j)
			continue;
		reply(j->id, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), j->output);
		close(j->output);
		j->pid = 0;
	}
}

int main(int argc, char **argv)
{
	struct signalfd_siginfo ignored;
	struct pollfd fd[2];
	sigset_t mask;

	if (argc != 2)
		die("usage: agent PORT");
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	while ((port = open(argv[1], O_RDWR | O_CLOEXEC)) < 0)
		usleep(20000);
	fd[0] = (struct pollfd){.fd = port, .events = POLLIN};
	fd[1] = (struct pollfd){.fd = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC), .events = POLLIN};
	reply(0, 0, -1);
	for (;;) {
		if (poll(fd, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (fd[1].revents & POLLIN) {
			while (read(fd[1].fd, &ignored, sizeof(ignored)) > 0)
				;
			jobs_reap();
		}
		if (fd[0].revents & POLLIN)
			request_read();
		else if (fd[0].revents)
			usleep(20000); /* the host is away */
	}
}
