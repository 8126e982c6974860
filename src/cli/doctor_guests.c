/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests on this host that use vhost-user, as their processes show it: is their memory shared, and may they connect?
 */
#include "cli/doctor.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

struct guest {
	int pid;
	char *cmdline; /* arguments, separated by newlines */
	uid_t uid;
	gid_t groups[64];
	size_t n_groups;
};

/* Guest memory is larger than anything else that a VMM shares; rings and code are smaller. */
#define GUEST_MEMORY_BYTES (32u << 20)

/* --- processes --- */

static bool is_vmm(const char *cmdline)
{
	static const char *const names[] = { "qemu-system-", "qemu-kvm", "cloud-hypervisor", "kvm\n" };
	const char *end = strchrnul(cmdline, '\n'), *base = cmdline;

	for (const char *p = cmdline; p < end; p++)
		if (*p == '/')
			base = p + 1;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strncmp(base, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* doctor_read() stops at no NUL, but gives no length either: arguments are read here. */
static char *read_cmdline(int pid)
{
	char path[64], *text = malloc(65536);
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	f = text ? fopen(path, "re") : NULL;
	if (!f) {
		free(text);
		return NULL;
	}
	n = fread(text, 1, 65535, f);
	fclose(f);
	for (size_t i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = '\n';
	text[n] = '\0';
	return text;
}

static void read_ids(struct guest *g)
{
	cleanup_free char *status = doctor_read("/proc/%d/status", g->pid);
	const char *line = status ? strstr(status, "\nUid:") : NULL;
	unsigned id;

	g->uid = 0;
	if (line && sscanf(line, "\nUid: %*u %u", &id) == 1)
		g->uid = id;
	line = status ? strstr(status, "\nGid:") : NULL;
	if (line && sscanf(line, "\nGid: %*u %u", &id) == 1)
		g->groups[g->n_groups++] = id;
	line = status ? strstr(status, "\nGroups:") : NULL;
	for (line = line ? line + 8 : ""; *line && *line != '\n' && g->n_groups < ARRAY_SIZE(g->groups);) {
		char *end;

		id = (unsigned)strtoul(line, &end, 10);
		if (end == line)
			break;
		g->groups[g->n_groups++] = id;
		line = end + strspn(end, " \t");
	}
}

/* --- memory --- */

/* A shared, writable mapping as large as a guest's memory. -1: it cannot be looked at. */
static int shares_memory(int pid)
{
	cleanup_free char *maps = doctor_read("/proc/%d/maps", pid);
	char *line, *rest;

	if (!maps || !*maps)
		return -1;
	for (line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		uint64_t from, to;
		char mode[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, mode) == 3 && mode[1] == 'w' &&
		    mode[3] == 's' && to - from >= GUEST_MEMORY_BYTES)
			return 1;
	}
	return 0;
}

/* What the command line asks for. */
static bool asks_for_sharing(const char *cmdline)
{
	return strstr(cmdline, "share=on") || strstr(cmdline, "share=yes") || strstr(cmdline, "shared=on") ||
	       strstr(cmdline, "\"share\":true") || strstr(cmdline, "\"share\": true");
}

static void look_at_memory(struct doctor *d, const struct guest *g, const char *name)
{
	int shared = shares_memory(g->pid);
	bool hypervisor = strstr(g->cmdline, "cloud-hypervisor") == g->cmdline;

	if (shared == 1 || (shared < 0 && asks_for_sharing(g->cmdline)))
		return;
	doctor_add(d, DOCTOR_ERROR, name,
		   hypervisor ? "--memory size=…,shared=on"
			      : "-object memory-backend-memfd,id=mem,size=…,share=on -machine memory-backend=mem; in "
				"libvirt: "
				"<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
		   "the guest's memory is not shared, so its rings cannot be reached");
}

/* --- sockets --- */

static bool in_groups(const struct guest *g, gid_t gid)
{
	for (size_t i = 0; i < g->n_groups; i++)
		if (g->groups[i] == gid)
			return true;
	return false;
}

/* As the kernel decides: owner, else group, else others. */
static bool may(const struct guest *g, const struct stat *st, unsigned need)
{
	unsigned shift = g->uid == st->st_uid ? 6 : in_groups(g, st->st_gid) ? 3 : 0;

	return g->uid == 0 || (st->st_mode >> shift & need) == need;
}

static void look_at_socket(struct doctor *d, const struct guest *g, const char *name, const char *socket)
{
	const char *slash = strrchr(socket, '/');
	char folder[256];
	struct stat st;

	if (!slash || !strstr(g->cmdline, socket))
		return;
	snprintf(folder, sizeof(folder), "%.*s", slash == socket ? 1 : (int)(slash - socket), socket);
	if (stat(folder, &st) == 0 && !may(g, &st, 01))
		doctor_add(d, DOCTOR_ERROR, name, "give the folder a group that the guest's user is in, and mode 0750",
			   "its user %u may not enter %s", g->uid, folder);
	else if (stat(socket, &st) == 0 && !may(g, &st, 06))
		doctor_add(d, DOCTOR_ERROR, name,
			   "set socket_group to a group that the guest's user is in, and socket_mode to \"0660\"",
			   "its user %u may not connect to %s (mode %03o, group %u)", g->uid, socket, st.st_mode & 0777,
			   st.st_gid);
}

static void look_at_sockets(struct doctor *d, const struct guest *g, const char *name)
{
	json_t *vm, *disk;
	size_t i, j;

	json_array_foreach (json_object_get(d->status, "vms"), i, vm)
		json_array_foreach (json_object_get(vm, "disks"), j, disk)
			look_at_socket(d, g, name, cli_text(disk, "socket"));
	for (i = 0; !d->status && d->policy && i < d->policy->n_vms; i++)
		for (j = 0; j < d->policy->vms[i].n_disks; j++)
			look_at_socket(d, g, name, d->policy->vms[i].disks[j].socket);
}

/* --- all of them --- */

static bool uses_vhost_user(const struct guest *g)
{
	return strstr(g->cmdline, "vhost-user") || strstr(g->cmdline, "vhost_user");
}

static void look_at_process(struct doctor *d, int pid)
{
	struct guest g = { .pid = pid, .cmdline = read_cmdline(pid) };
	char name[64];

	if (g.cmdline && is_vmm(g.cmdline) && uses_vhost_user(&g)) {
		snprintf(name, sizeof(name), "guest process %d", pid);
		read_ids(&g);
		look_at_memory(d, &g, name);
		look_at_sockets(d, &g, name);
	}
	free(g.cmdline);
}

void doctor_guests(struct doctor *d)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;

	while (proc && (e = readdir(proc)))
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_process(d, atoi(e->d_name));
	if (proc)
		closedir(proc);
}
