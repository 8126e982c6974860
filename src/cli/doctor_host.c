/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host: kernel switches, limits, CPUs, filesystems, AppArmor.
 */
#include "cli/doctor.h"

#include "base/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

/* --- kernel --- */

void doctor_kernel(struct doctor *d)
{
	cleanup_free char *disabled = doctor_read("/proc/sys/kernel/io_uring_disabled");
	cleanup_free char *group = doctor_read("/proc/sys/kernel/io_uring_group");

	if (disabled && strcmp(disabled, "2") == 0)
		doctor_add(d, DOCTOR_ERROR, "kernel.io_uring_disabled", "sysctl kernel.io_uring_disabled=0",
			   "io_uring is switched off, and workers need it");
	if (disabled && strcmp(disabled, "1") == 0)
		doctor_add(d, DOCTOR_WARNING, "kernel.io_uring_disabled",
			   "make the daemon's user a member of that group, or sysctl kernel.io_uring_disabled=0",
			   "only group %s may use io_uring", group ? group : "?");
}

/* --- limits --- */

/* The soft limit of that name; UINT64_MAX: unlimited or unknown. */
static uint64_t limit_of(const char *limits, const char *name)
{
	const char *line = limits ? strstr(limits, name) : NULL;

	if (!line)
		return UINT64_MAX;
	line += strlen(name);
	line += strspn(line, " ");
	return *line >= '0' && *line <= '9' ? strtoull(line, NULL, 10) : UINT64_MAX;
}

/* Per queue: kick, call, error; per disk: sockets, image, memory regions. */
static uint64_t files_needed(const struct policy *p)
{
	uint64_t n = 64;

	for (size_t i = 0; p && i < p->n_vms; i++)
		for (size_t j = 0; j < p->vms[i].n_disks; j++)
			n += 16 + 3 * p->vms[i].disks[j].queues;
	return n;
}

void doctor_limits(struct doctor *d)
{
	cleanup_free char *limits = d->daemon_pid ? doctor_read("/proc/%d/limits", d->daemon_pid) : NULL;
	cleanup_free char *memory = doctor_read("/proc/meminfo");
	const char *free_pages = memory ? strstr(memory, "HugePages_Free:") : NULL;
	uint64_t files = limit_of(limits, "Max open files"), locked = limit_of(limits, "Max locked memory");

	if (files < files_needed(d->policy))
		doctor_add(d, DOCTOR_WARNING, "open files", "LimitNOFILE=65536 in fairleadd's unit",
			   "the daemon may open %llu files, and its policy may need %llu", (unsigned long long)files,
			   (unsigned long long)files_needed(d->policy));
	/* Each worker's rings count against it before Linux 5.12. */
	if (locked < (8u << 20))
		doctor_add(d, DOCTOR_NOTE, "locked memory", "LimitMEMLOCK=infinity in fairleadd's unit",
			   "the daemon may lock %llu KiB; old kernels count io_uring's rings against that",
			   (unsigned long long)locked >> 10);
	for (size_t i = 0; d->policy && i < d->policy->n_pools; i++)
		if (d->policy->pools[i].type == POLICY_POOL_RAM && d->policy->pools[i].huge_pages && free_pages &&
		    strtoul(free_pages + strlen("HugePages_Free:"), NULL, 10) == 0)
			doctor_add(d, DOCTOR_NOTE, d->policy->pools[i].name,
				   "sysctl vm.nr_hugepages=N, if its disks are large and busy",
				   "there are no free huge pages; its memory is in small ones");
}

/* --- CPUs --- */

bool doctor_in_list(const char *list, unsigned cpu)
{
	static unsigned cpus[CPUS_MAX];
	int n = list && *list ? cpus_parse(list, cpus, CPUS_MAX) : 0;

	for (int i = 0; i < n; i++)
		if (cpus[i] == cpu)
			return true;
	return false;
}

/* Clock ticks that `cpu` was busy since boot; 0: unknown. */
static uint64_t busy_ticks(unsigned cpu)
{
	cleanup_free char *stat = doctor_read("/proc/stat");
	unsigned long long user, nice, system, idle, wait, irq, softirq;
	char name[16];
	const char *line;

	snprintf(name, sizeof(name), "\ncpu%u ", cpu);
	line = stat ? strstr(stat, name) : NULL;
	if (!line || sscanf(line + strlen(name), "%llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
			    &wait, &irq, &softirq) != 7)
		return 0;
	return user + nice + system + irq + softirq;
}

/* Clock ticks that thread `tid` has used. */
static uint64_t thread_ticks(int tid)
{
	cleanup_free char *stat = doctor_read("/proc/%d/stat", tid);
	const char *after = stat ? strrchr(stat, ')') : NULL;
	unsigned long long user, system;

	if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
		return 0;
	return user + system;
}

#define LOOK_MS 500
/* Of a CPU, to others than its worker: what a stray daemon takes now and then does not count. */
#define BUSY_PERCENT 20

/* Samples all workers' CPUs over the same time, as each look takes half a second. */
static void look_for_others(struct doctor *d)
{
	json_t *workers = json_object_get(d->status, "workers"), *w;
	size_t n = json_array_size(workers), i;
	uint64_t *busy = calloc(n + 1, sizeof(*busy)), *own = calloc(n + 1, sizeof(*own));
	uint64_t all_ticks = (uint64_t)sysconf(_SC_CLK_TCK) * LOOK_MS / 1000;

	json_array_foreach (workers, i, w) {
		if (!busy || !own)
			break;
		busy[i] = busy_ticks((unsigned)cli_integer(w, "cpu"));
		own[i] = thread_ticks((int)cli_integer(w, "tid"));
	}
	if (n && busy && own)
		poll(NULL, 0, LOOK_MS);
	json_array_foreach (workers, i, w) {
		json_int_t cpu = cli_integer(w, "cpu");
		uint64_t used, mine;
		char name[32];

		if (!busy || !own || cpu < 0)
			continue;
		used = busy_ticks((unsigned)cpu) - busy[i];
		mine = thread_ticks((int)cli_integer(w, "tid")) - own[i];
		snprintf(name, sizeof(name), "worker %d", (int)cli_integer(w, "index"));
		if (used > mine && (used - mine) * 100 > all_ticks * BUSY_PERCENT)
			doctor_add(
				d, DOCTOR_WARNING, name,
				"keep others off that CPU (isolcpus=, or AllowedCPUs= of system.slice, user.slice and "
				"machine.slice), or give the worker another one",
				"its CPU %d was busy with other work for %d %% of half a second", (int)cpu,
				(int)((used - mine) * 100 / all_ticks));
	}
	free(busy);
	free(own);
}

static void look_at_cpu(struct doctor *d, const struct policy_cpus *workers, size_t index, const char *online,
			const char *isolated)
{
	unsigned cpu = workers->cpu[index];
	cleanup_free char *siblings = doctor_read("/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", cpu);
	char name[32];

	snprintf(name, sizeof(name), "CPU %u", cpu);
	if (online && *online && !doctor_in_list(online, cpu)) {
		doctor_add(d, DOCTOR_ERROR, name, "choose workers among the online CPUs",
			   "a worker is to run there, but only %s are online", online);
		return;
	}
	if (isolated && *isolated && !doctor_in_list(isolated, cpu))
		doctor_add(d, DOCTOR_NOTE, name, "choose workers among the isolated CPUs",
			   "CPUs %s are isolated, but the worker's is not among them", isolated);
	for (size_t i = 0; i < index; i++)
		if (doctor_in_list(siblings, workers->cpu[i]))
			doctor_add(d, DOCTOR_WARNING, name, "give each worker a core of its own",
				   "it and CPU %u are two threads of one core, and both have a worker",
				   workers->cpu[i]);
}

void doctor_workers(struct doctor *d)
{
	cleanup_free char *online = doctor_read("/sys/devices/system/cpu/online");
	cleanup_free char *isolated = doctor_read("/sys/devices/system/cpu/isolated");

	for (size_t i = 0; d->policy && i < d->policy->daemon.workers.n; i++)
		look_at_cpu(d, &d->policy->daemon.workers, i, online, isolated);
	look_for_others(d);
}

/* --- filesystems --- */

static void look_at_directory(struct doctor *d, const struct policy_pool *pool)
{
	cleanup_close int fd = open(pool->directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	if (fd >= 0)
		return;
	if (errno == ENOENT || errno == ENOTDIR)
		doctor_add(d, DOCTOR_ERROR, pool->name, "make it, or correct the policy",
			   "its directory %s is not there", pool->directory);
	else if (errno == EINVAL)
		doctor_add(d, DOCTOR_WARNING, pool->name, "use a filesystem with O_DIRECT (ext4, xfs; not tmpfs)",
			   "%s does not take O_DIRECT, so every request would be copied through the page cache",
			   pool->directory);
	/* Without the right to write there, or on filesystems without nameless files, it stays unknown. */
}

void doctor_pools(struct doctor *d)
{
	for (size_t i = 0; d->policy && i < d->policy->n_pools; i++)
		if (d->policy->pools[i].type == POLICY_POOL_FILE)
			look_at_directory(d, &d->policy->pools[i]);
}

/* --- AppArmor --- */

/* libvirt's helper writes a rule for every disk of a guest, but none for vhost-user sockets. */
void doctor_apparmor(struct doctor *d)
{
	static const char *const places[] = { "/etc/apparmor.d/local/abstractions/libvirt-qemu",
					      "/etc/apparmor.d/abstractions/libvirt-qemu.d/fairlead",
					      "/etc/apparmor.d/abstractions/libvirt-qemu" };
	cleanup_free char *enabled = doctor_read("/sys/module/apparmor/parameters/enabled");
	const char *control = d->policy ? d->policy->daemon.control : CLI_CONTROL_DEFAULT,
		   *slash = strrchr(control, '/');
	char folder[256], fix[512];

	snprintf(folder, sizeof(folder), "%.*s/", (int)(slash - control), control);
	if (!enabled || *enabled != 'Y' || access("/etc/apparmor.d/abstractions/libvirt-qemu", F_OK) < 0 ||
	    (access("/usr/sbin/libvirtd", F_OK) < 0 && access("/usr/sbin/virtqemud", F_OK) < 0))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		cleanup_free char *text = doctor_read("%s", places[i]);

		if (text && strstr(text, folder))
			return;
	}
	snprintf(fix, sizeof(fix), "add the line '  %s*.sock rw,' to %s and restart the guests", folder, places[0]);
	doctor_add(d, DOCTOR_WARNING, "AppArmor", fix,
		   "it confines libvirt's guests, and no rule lets them connect to sockets in %s", folder);
}
