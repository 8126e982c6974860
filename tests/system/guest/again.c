/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * again SOCKET TIMES FILE...: sends each file (a JSON-RPC request in one line) in turn, TIMES in all, over one connection, waits
 * for each answer, and says how many were results. Exits 1 if any was not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX (1 << 20)
#define FILES_MAX 8

static char *request[FILES_MAX];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static char *slurp(const char *path)
{
	static char text[LINE_MAX];
	FILE *f = fopen(path, "r");

	if (!f || !fgets(text, sizeof(text) - 1, f))
		die(path);
	fclose(f);
	text[strcspn(text, "\n")] = '\0';
	strcat(text, "\n");
	return strdup(text);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static char answer[LINE_MAX];
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), times = argc > 3 ? atoi(argv[2]) : 0, good = 0;
	FILE *in;

	if (argc < 4 || argc > 3 + FILES_MAX || strlen(argv[1]) >= sizeof(address.sun_path))
		return 64;
	strcpy(address.sun_path, argv[1]);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die(argv[1]);
	in = fdopen(fd, "r");
	for (int i = 0; i < argc - 3; i++)
		request[i] = slurp(argv[3 + i]);
	for (int i = 0; i < times; i++) {
		const char *r = request[i % (argc - 3)];

		if (write(fd, r, strlen(r)) != (ssize_t)strlen(r) || !fgets(answer, sizeof(answer), in))
			die("the connection");
		if (strstr(answer, "\"result\""))
			good++;
		else if (good == i)
			fputs(answer, stderr);
	}
	printf("%d of %d\n", good, times);
	return good != times;
}
