/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The policy as the rest of the program sees it: typed, complete (every default filled in, every name resolved to an
 * index) and checked. policy_load() is the only way to get one; a loaded policy is never changed afterwards.
 *
 * The daemon's control thread and the CLI call this; nothing here logs, touches devices or keeps global state.
 *
 * Conventions: units are in the names; a rate, limit, size or target of 0 means "not given"; indexes are -1 where there
 * is none; every object carries the place it was written at (`at`) for messages.
 */
#pragma once

#include "base/util.h"
#include "slo/classmap.h"

#define POLICY_NAME_MAX 32 /* with the final NUL: names are 1-31 characters of a-z 0-9 _ - */
#define POLICY_CLASSES_MAX 64
#define POLICY_QUEUES_MAX 64
#define POLICY_SHARES_DEFAULT 100
#define POLICY_RESERVABLE_PERCENT 90 /* of a pool's capacity; the rest covers what the cost model does not see */

/* Where something was written. line 0: in no file (a default). `file` belongs to the policy or its diagnostics. */
struct policy_at {
	const char *file;
	unsigned line, column;
};

struct policy_rate {
	uint64_t milli_iops, bandwidth_bytes; /* per second; thousandths of a request, so that 2.6 is a rate */
};

struct policy_latency {
	uint64_t p50_ns, p99_ns;
};

/* What a VM, a class or a NIC is promised. Keys that make no sense for one of them are refused when it is read. */
struct policy_promise {
	struct policy_rate reservation, limit, burst;
	uint64_t shares;
	struct policy_latency latency; /* classes */
};

/* --- ioprio -> class --- */

enum policy_selector_kind {
	POLICY_SELECT_CLASS, /* rt, be, idle: every level of it */
	POLICY_SELECT_LEVEL, /* rt/0 … be/7 */
	POLICY_SELECT_HINT,  /* hint/1 … hint/1023 */
};

struct policy_selector {
	enum policy_selector_kind kind;
	uint8_t ioclass; /* 1 rt, 2 be, 3 idle */
	uint8_t level;
	uint16_t hint;
	struct policy_at at;
};

struct policy_class {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	struct policy_selector *selectors;
	size_t n_selectors;
	struct policy_promise promise;
};

/* --- objects --- */

enum policy_pool_type { POLICY_POOL_NULL, POLICY_POOL_RAM, POLICY_POOL_MODEL, POLICY_POOL_FILE, POLICY_POOL_TYPES };

enum policy_schedule {
	POLICY_SCHEDULE_AUTO,	/* by speed: model pools and those under about 50k IOPS have an owner */
	POLICY_SCHEDULE_OWNER,	/* one worker schedules for all: exact */
	POLICY_SCHEDULE_SLICED, /* every worker its slice, settled by the planner: fast */
};

struct policy_pool {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	enum policy_pool_type type;
	char *directory; /* file: absolute; NULL for others */
	uint64_t depth;
	bool slo; /* default: on for file and model, off for ram and null, which complete at once */
	enum policy_schedule schedule;
	uint64_t split_bytes; /* a larger request counts as several */
	struct policy_rate capacity; /* as written; 0: unknown */
	bool huge_pages;	     /* ram */
	uint64_t channels;	     /* model, as are the following */
	uint64_t read_latency_ns, write_latency_ns, flush_latency_ns;
	uint64_t byte_time_ps;
};

enum policy_ioprio { POLICY_IOPRIO_LINUX, POLICY_IOPRIO_IGNORE };

struct policy_disk {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	char *pool_name;
	int pool; /* index into policy.pools */
	char *image; /* file: path beneath the pool's directory, default VM-NAME.raw; NULL for others */
	uint64_t size_bytes; /* 0: the image's own */
	uint64_t queues;     /* offered; default: as many as the driver wants, POLICY_QUEUES_MAX */
	uint64_t workers;    /* 0: auto */
	enum policy_ioprio ioprio;
	bool read_only;
	char *socket;
	bool connect; /* to the socket instead of listening */
	bool removed; /* a mark of the overlay's; never set in a loaded policy */
};

struct policy_nic {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	char *uplink_name;
	int uplink; /* index into policy.uplinks; -1: VM-to-VM only */
	uint8_t mac[6]; /* default: local, derived from the names */
	uint64_t queues; /* pairs; default 1 */
	char *socket;
	bool connect;
	struct policy_promise promise;
};

/* How a VM is co-scheduled, and how its threads are found: by at most one of the three, else by the VM's name. */
struct policy_cpu {
	uint64_t weight, cap_percent; /* default 256; of one CPU, 0: none */
	char *qmp;     /* a monitor socket of its own */
	char *process; /* name of the VMM's process, or its `-name guest=` */
	char *cgroup;  /* beneath /sys/fs/cgroup: every thread in it */
};

struct policy_vm {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	/* The classes of this VM, its own changes to them applied; never empty. */
	struct policy_class *classes;
	size_t n_classes;
	char *default_class_name;
	int default_class; /* index into classes; default: the last one */
	struct policy_promise promise; /* reservation defaults to the sum of its classes' */
	struct policy_cpu cpu;
	struct policy_disk *disks;
	size_t n_disks;
	struct policy_nic *nics;
	size_t n_nics;
};

enum policy_uplink_type { POLICY_UPLINK_NONE, POLICY_UPLINK_TAP, POLICY_UPLINK_PACKET, POLICY_UPLINK_XDP };

struct policy_uplink {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	enum policy_uplink_type type;
	char *device;
	uint64_t bandwidth_bytes;
};

enum policy_poll { POLICY_POLL_ADAPTIVE, POLICY_POLL_ALWAYS, POLICY_POLL_NEVER };

struct policy_cpus {
	unsigned *cpu; /* ascending, unique */
	size_t n;
};

struct policy_daemon {
	struct policy_at at;
	char *control; /* default /run/fairlead/control.sock */
	char *socket_group; /* NULL: the process's own */
	unsigned socket_mode; /* default 0660 */
	char *state; /* folder for what is learned; default /var/lib/fairlead */
	struct policy_cpus workers; /* n 0: not given; the daemon takes one CPU that it may run on */
	enum policy_poll poll;
	uint64_t poll_idle_ns; /* default 50us */
};

enum policy_cosched_mode { POLICY_COSCHED_OFF, POLICY_COSCHED_PARTIAL, POLICY_COSCHED_ALL };
enum policy_cosched_algorithm {
	POLICY_COSCHED_POOLED,
	POLICY_COSCHED_CO_CREDIT,
	POLICY_COSCHED_CREDIT,
	POLICY_COSCHED_CREDIT_BOOST,
};

struct policy_cosched {
	struct policy_at at;
	enum policy_cosched_mode mode; /* off without a cosched section */
	enum policy_cosched_algorithm algorithm;
	struct policy_cpus cpus;
	uint64_t slice_ns;
	uint64_t debt_limit_ns; /* pooled: a group that owes more is not asked for; it may owe less if it is due little */
};

struct policy_cogroup {
	char name[POLICY_NAME_MAX];
	struct policy_at at;
	char **vm_names;
	size_t n_vms;
	bool workers;
};

struct policy {
	struct policy_daemon daemon;
	struct policy_pool *pools;
	size_t n_pools;
	struct policy_class *classes; /* as written, before a VM's own changes; one, `default`, when none is written */
	size_t n_classes;
	struct policy_vm *vms;
	size_t n_vms;
	struct policy_uplink *uplinks;
	size_t n_uplinks;
	struct policy_cosched cosched;
	struct policy_cogroup *cogroups;
	size_t n_cogroups;
	/* Names of the files it came from; what `at.file` points to. */
	char **files;
	size_t n_files;
};

/* --- loading --- */

enum policy_severity { POLICY_ERROR, POLICY_WARNING };

struct policy_diagnostic {
	enum policy_severity severity;
	struct policy_at at;
	char *message; /* what is wrong and, where it can be said, what would be right */
};

struct policy_diagnostics {
	struct policy_diagnostic *d; /* sorted by file and line */
	size_t n, n_errors;
	char **files;
	size_t n_files;
};

void policy_diagnostics_fini(struct policy_diagnostics *d);
/* "FILE:LINE:COLUMN: error: MESSAGE" into a new string; NULL without memory. */
char *policy_diagnostic_text(const struct policy_diagnostic *d);

/* A file to read, or text that stands for one (name is then only for messages). */
struct policy_source {
	char *name;
	char *text; /* NULL: read the file `name` */
	/* What the daemon itself wrote: its values win over those of other sources, and what it says about objects that
	 * are no longer there is dropped with a warning. policy_load() knows it by its file name, POLICY_OVERLAY_NAME.
	 */
	bool overlay;
	/* Only a plain file is read: a daemon that reads it at any time cannot wait for whoever might write into a FIFO. */
	bool plain;
};

#define POLICY_OVERLAY_NAME "fairleadd.yaml"

/* The main file and conf.d/ *.yaml beside it, which have to be plain, by name. 0 or -errno; a missing conf.d is none. */
int policy_sources_find(const char *main_file, struct policy_source **ret, size_t *ret_n);
/* The file's text, whatever s->text is. */
int policy_source_read(const struct policy_source *s, char **ret, size_t *ret_length);
/* Why it cannot be read. */
const char *policy_source_why(int error);
void policy_sources_free(struct policy_source *s, size_t n);
/* Fills in the texts of files, to stay as they are now. One that cannot be read stays a file, for loading to say why. */
void policy_sources_read(struct policy_source *s, size_t n);
/* 0 or -ENOMEM. */
int policy_sources_copy(const struct policy_source *s, size_t n, struct policy_source **ret);

/*
 * Reads all sources as one policy: maps are merged by key, lists of disks and nics are joined, a value written twice is
 * an error. Finds every mistake in one go. 0: *ret is valid and `diag` holds at most warnings; -EINVAL: `diag` says
 * why; -ENOMEM. `diag` must be given zeroed, and is to be finished in every case.
 */
int policy_load_sources(const struct policy_source *s, size_t n, struct policy **ret, struct policy_diagnostics *diag);
/* The same for files. */
int policy_load(const char *const *paths, size_t n, struct policy **ret, struct policy_diagnostics *diag);

/* NULL is allowed. */
void policy_free(struct policy *p);
/* A deep copy; NULL without memory. */
struct policy *policy_copy(const struct policy *p);

/* --- looking things up --- */

int policy_pool_find(const struct policy *p, const char *name); /* these return an index or -1 */
int policy_vm_find(const struct policy *p, const char *name);
int policy_disk_find(const struct policy_vm *vm, const char *name);
int policy_class_find(const struct policy_vm *vm, const char *name);
/* The co-group that a VM is in. */
int policy_cogroup_of(const struct policy *p, const char *vm);

/* Every ioprio of one VM; classes are indexes into vm->classes. 0 or -ENOMEM. */
int policy_class_map_build(const struct policy_vm *vm, struct slo_classmap *ret);
/* Index into vm->classes; the default class without memory. */
unsigned policy_class_of(const struct policy_vm *vm, uint16_t ioprio);

/* What a pool can do per second as far as the policy tells: written, or a model pool's own times; 0: unknown. */
struct policy_rate policy_pool_capacity(const struct policy_pool *pool);

/* The words of the policy, also those that store_pool_create() takes. */
const char *policy_pool_type_name(enum policy_pool_type type);
const char *policy_poll_name(enum policy_poll poll);
const char *policy_cosched_mode_name(enum policy_cosched_mode mode);
const char *policy_cosched_algorithm_name(enum policy_cosched_algorithm algorithm);

/* --- differences --- */

enum policy_change_kind { POLICY_ADDED, POLICY_REMOVED, POLICY_CHANGED };

enum policy_object {
	POLICY_OBJECT_DAEMON,
	POLICY_OBJECT_POOL,
	POLICY_OBJECT_CLASS,
	POLICY_OBJECT_VM,
	POLICY_OBJECT_VM_CLASS, /* a VM's class after its own changes: what the scheduler keeps */
	POLICY_OBJECT_DISK,
	POLICY_OBJECT_NIC,
	POLICY_OBJECT_UPLINK,
	POLICY_OBJECT_COSCHED,
	POLICY_OBJECT_COGROUP,
};

struct policy_field_change {
	const char *field; /* as written in the file: "limit.iops" */
	char *before, *after; /* as a person would write them; "" for none */
};

struct policy_change {
	enum policy_change_kind kind;
	enum policy_object object;
	char *name; /* "nvme", "web", "web/root"; "" for the daemon and cosched */
	int before,
		after; /* index of the object in the old and new policy's list (pools, vms, a VM's disks …); -1: none */
	int before_vm, after_vm; /* for what belongs to a VM; -1 otherwise */
	struct policy_field_change *fields; /* of a changed object */
	size_t n_fields;
};

struct policy_changes {
	struct policy_change *c;
	size_t n;
};

/* What leads from `before` (NULL: nothing) to `after`. Removals come first, then pools, classes, VMs and their parts.
 */
int policy_diff(const struct policy *before, const struct policy *after, struct policy_changes *ret);
void policy_changes_fini(struct policy_changes *c);
/* True if the field of that name is among those changed. */
bool policy_change_has(const struct policy_change *c, const char *field);
const char *policy_object_name(enum policy_object object);
