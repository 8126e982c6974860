/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables themselves. doc and man pages describe the same keys; fairlead.yaml(5) has to change with them.
 */
#include "policy/schema.h"

#include "base/clock.h"
#include "slo/sched.h"

#include <string.h>

#define QUANTITY(type, key_, member, units_, ...) \
	{ .key = key_, .kind = SCHEMA_QUANTITY, .offset = offsetof(type, member), .units = units_, ##__VA_ARGS__ }
#define FIELD(type, key_, member, kind_, ...)                                               \
	{                                                                                   \
		.key = key_, .kind = kind_, .offset = offsetof(type, member), ##__VA_ARGS__ \
	}
#define OBJECTS(type, key_, member, object_, ...)                                                                   \
	{ .key = key_, .kind = SCHEMA_OBJECTS, .offset = offsetof(type, member),                                      \
	  .count_offset = offsetof(type, n_##member), .object = object_, ##__VA_ARGS__ }
#define OBJECT(noun_, type, fields_)                                                                                 \
	{                                                                                                            \
		.noun = noun_, .size = sizeof(type), .placed = true, .at_offset = offsetof(type, at), .named = true, \
		.fields = fields_                                                                                    \
	}
/* Walks rely on the name being first. */
#define NAMED(type) _Static_assert(offsetof(type, name) == 0, "name first")

NAMED(struct policy_pool);
NAMED(struct policy_class);
NAMED(struct policy_disk);
NAMED(struct policy_nic);
NAMED(struct policy_vm);
NAMED(struct policy_uplink);
NAMED(struct policy_cogroup);

#define HOUR_NS (3600 * NSEC_PER_SEC)
/* Thousandths of a request, or bytes, a second: slo_promise_valid() takes a little more. */
#define RATE_MOST UINT64_C(1000000000000000)
/*
 * Many times what a host can have; what compares each with each, or looks one up among all, takes no longer than a fraction of a
 * second, in which a daemon does nothing else. CPUs are shared among 256 VMs (CO_VMS_MAX).
 */
#define POOLS_MOST 1024
#define CLASSES_MOST 4096
#define VMS_MOST 8192
#define COGROUPS_MOST 256
/* What the schedulers of disks take. */
#define SHARES_MOST SLO_SHARES_MAX

/* --- promises --- */

static const struct schema_field rate_fields[] = {
	QUANTITY(struct policy_rate, "iops", milli_iops, UNITS_RATE, .zero_word = "none", .most = RATE_MOST),
	QUANTITY(struct policy_rate, "bandwidth", bandwidth_bytes, UNITS_BANDWIDTH, .zero_word = "none", .most = RATE_MOST),
	{ NULL },
};
static const struct schema_object rate = { .noun = "rate", .fields = rate_fields };

/* A limit of nothing would hold requests for ever; who writes 0 may also mean "no limit", so it has to be said. */
static const struct schema_field limit_fields[] = {
	QUANTITY(struct policy_rate, "iops", milli_iops, UNITS_RATE, .zero_word = "none", .most = RATE_MOST, .least = 1),
	QUANTITY(struct policy_rate, "bandwidth", bandwidth_bytes, UNITS_BANDWIDTH, .zero_word = "none", .most = RATE_MOST, .least = 1),
	{ NULL },
};
static const struct schema_object limit = { .noun = "limit", .fields = limit_fields };

static const struct schema_field wire_rate_fields[] = {
	QUANTITY(struct policy_rate, "bandwidth", bandwidth_bytes, UNITS_BANDWIDTH, .zero_word = "none", .most = RATE_MOST),
	{ NULL },
};
static const struct schema_object wire_rate = { .noun = "rate", .fields = wire_rate_fields };

static const struct schema_field wire_limit_fields[] = {
	QUANTITY(struct policy_rate, "bandwidth", bandwidth_bytes, UNITS_BANDWIDTH, .zero_word = "none", .most = RATE_MOST, .least = 1),
	{ NULL },
};
static const struct schema_object wire_limit = { .noun = "limit", .fields = wire_limit_fields };

static const struct schema_field latency_fields[] = {
	QUANTITY(struct policy_latency, "p50", p50_ns, UNITS_DURATION, .zero_word = "none", .least = 1, .most = HOUR_NS),
	QUANTITY(struct policy_latency, "p99", p99_ns, UNITS_DURATION, .zero_word = "none", .least = 1, .most = HOUR_NS),
	{ NULL },
};
static const struct schema_object latency = { .noun = "latency", .fields = latency_fields };

static const struct schema_field cpu_fields[] = {
	QUANTITY(struct policy_cpu, "weight", weight, UNITS_COUNT, .least = 1, .most = 65535, .initial = 256),
	QUANTITY(struct policy_cpu, "cap", cap_percent, UNITS_COUNT, .most = 102400),
	FIELD(struct policy_cpu, "qmp", qmp, SCHEMA_STRING),
	FIELD(struct policy_cpu, "process", process, SCHEMA_STRING),
	FIELD(struct policy_cpu, "cgroup", cgroup, SCHEMA_STRING),
	{ NULL },
};
static const struct schema_object cpu = { .noun = "cpu", .fields = cpu_fields };

#define PROMISE(type, key_, member, object_) FIELD(type, key_, promise.member, SCHEMA_MAP, .object = object_)
#define SHARES(type)                                                                                                \
	QUANTITY(type, "shares", promise.shares, UNITS_COUNT, .least = 1, .most = SHARES_MOST,                         \
		 .initial = POLICY_SHARES_DEFAULT)
#define DISK_PROMISE(type)                                                                                          \
	PROMISE(type, "reservation", reservation, &rate), PROMISE(type, "limit", limit, &limit),                       \
		PROMISE(type, "burst", burst, &rate), SHARES(type)

/* --- objects --- */

static const char *const poll_words[] = { "adaptive", "always", "never", NULL };

static const struct schema_field daemon_fields[] = {
	FIELD(struct policy_daemon, "control", control, SCHEMA_STRING),
	FIELD(struct policy_daemon, "socket_group", socket_group, SCHEMA_STRING),
	FIELD(struct policy_daemon, "socket_mode", socket_mode, SCHEMA_MODE, .initial = 0660),
	FIELD(struct policy_daemon, "state", state, SCHEMA_STRING),
	FIELD(struct policy_daemon, "workers", workers, SCHEMA_CPUS),
	FIELD(struct policy_daemon, "poll", poll, SCHEMA_WORD, .words = poll_words),
	QUANTITY(struct policy_daemon, "poll_idle", poll_idle_ns, UNITS_DURATION, .most = 10 * NSEC_PER_SEC,
		 .initial = 50 * NSEC_PER_USEC),
	{ NULL },
};
static const struct schema_object daemon_object = {
	.noun = "daemon", .placed = true, .at_offset = offsetof(struct policy_daemon, at), .fields = daemon_fields
};

static const char *const pool_type_words[] = { "null", "ram", "model", "file", NULL };
static const char *const schedule_words[] = { "auto", "owner", "sliced", NULL };

/* Also the bound of what a ring can hold times its queues; more in flight only costs memory. */
#define DEPTH_MOST 65536

static const struct schema_field pool_fields[] = {
	FIELD(struct policy_pool, "type", type, SCHEMA_WORD, .words = pool_type_words,
	      .initial = POLICY_POOL_TYPES),
	FIELD(struct policy_pool, "directory", directory, SCHEMA_STRING),
	QUANTITY(struct policy_pool, "depth", depth, UNITS_COUNT, .least = 1, .most = DEPTH_MOST, .initial = 128),
	FIELD(struct policy_pool, "slo", slo, SCHEMA_BOOL),
	FIELD(struct policy_pool, "schedule", schedule, SCHEMA_WORD, .words = schedule_words),
	QUANTITY(struct policy_pool, "split", split_bytes, UNITS_SIZE, .least = 512, .initial = 128 * 1024),
	FIELD(struct policy_pool, "capacity", capacity, SCHEMA_MAP, .object = &rate),
	FIELD(struct policy_pool, "huge_pages", huge_pages, SCHEMA_BOOL, .initial = true),
	QUANTITY(struct policy_pool, "channels", channels, UNITS_COUNT, .least = 1, .most = 4096, .initial = 1),
	QUANTITY(struct policy_pool, "read_latency", read_latency_ns, UNITS_DURATION, .most = HOUR_NS),
	QUANTITY(struct policy_pool, "write_latency", write_latency_ns, UNITS_DURATION, .most = HOUR_NS),
	QUANTITY(struct policy_pool, "flush_latency", flush_latency_ns, UNITS_DURATION, .most = HOUR_NS),
	QUANTITY(struct policy_pool, "byte_time", byte_time_ps, UNITS_BYTE_TIME, .most = 1000 * NSEC_PER_MSEC),
	{ NULL },
};
static const struct schema_object pool_object = OBJECT("pool", struct policy_pool, pool_fields);

static const struct schema_field class_fields[] = {
	{ .key = "ioprio", .kind = SCHEMA_SELECTORS, .offset = offsetof(struct policy_class, selectors),
	  .count_offset = offsetof(struct policy_class, n_selectors) },
	DISK_PROMISE(struct policy_class),
	PROMISE(struct policy_class, "latency", latency, &latency),
	{ NULL },
};
static const struct schema_object class_object = OBJECT("class", struct policy_class, class_fields);

static const char *const ioprio_words[] = { "linux", "ignore", NULL };

static const struct schema_field disk_fields[] = {
	FIELD(struct policy_disk, "pool", pool_name, SCHEMA_NAME),
	FIELD(struct policy_disk, "image", image, SCHEMA_STRING),
	QUANTITY(struct policy_disk, "size", size_bytes, UNITS_SIZE, .least = 512, .most = UINT64_C(1) << 56),
	QUANTITY(struct policy_disk, "queues", queues, UNITS_COUNT, .least = 1, .most = POLICY_QUEUES_MAX,
		 .initial = POLICY_QUEUES_MAX),
	QUANTITY(struct policy_disk, "workers", workers, UNITS_COUNT, .least = 1, .most = 1024, .zero_word = "auto"),
	FIELD(struct policy_disk, "ioprio", ioprio, SCHEMA_WORD, .words = ioprio_words),
	FIELD(struct policy_disk, "read_only", read_only, SCHEMA_BOOL),
	FIELD(struct policy_disk, "socket", socket, SCHEMA_STRING),
	FIELD(struct policy_disk, "connect", connect, SCHEMA_BOOL),
	FIELD(struct policy_disk, "removed", removed, SCHEMA_BOOL, .internal = true),
	{ NULL },
};
static const struct schema_object disk_object = OBJECT("disk", struct policy_disk, disk_fields);

static const struct schema_field nic_fields[] = {
	FIELD(struct policy_nic, "uplink", uplink_name, SCHEMA_NAME),
	FIELD(struct policy_nic, "mac", mac, SCHEMA_MAC),
	QUANTITY(struct policy_nic, "queues", queues, UNITS_COUNT, .least = 1, .most = POLICY_QUEUES_MAX / 2,
		 .initial = 1),
	FIELD(struct policy_nic, "socket", socket, SCHEMA_STRING),
	FIELD(struct policy_nic, "connect", connect, SCHEMA_BOOL),
	PROMISE(struct policy_nic, "reservation", reservation, &wire_rate),
	PROMISE(struct policy_nic, "limit", limit, &wire_limit),
	PROMISE(struct policy_nic, "burst", burst, &wire_rate),
	SHARES(struct policy_nic),
	{ NULL },
};
static const struct schema_object nic_object = OBJECT("nic", struct policy_nic, nic_fields);

static const struct schema_field vm_fields[] = {
	OBJECTS(struct policy_vm, "classes", classes, &class_object, .listed = true, .bare_name = true, .most = CLASSES_MOST),
	FIELD(struct policy_vm, "default_class", default_class_name, SCHEMA_NAME),
	DISK_PROMISE(struct policy_vm),
	FIELD(struct policy_vm, "cpu", cpu, SCHEMA_MAP, .object = &cpu),
	OBJECTS(struct policy_vm, "disks", disks, &disk_object, .listed = true),
	OBJECTS(struct policy_vm, "nics", nics, &nic_object, .listed = true),
	{ NULL },
};
static const struct schema_object vm_object = OBJECT("VM", struct policy_vm, vm_fields);

static const char *const uplink_type_words[] = { "none", "tap", "packet", "xdp", NULL };

static const struct schema_field uplink_fields[] = {
	FIELD(struct policy_uplink, "type", type, SCHEMA_WORD, .words = uplink_type_words),
	FIELD(struct policy_uplink, "device", device, SCHEMA_STRING),
	QUANTITY(struct policy_uplink, "bandwidth", bandwidth_bytes, UNITS_BANDWIDTH),
	{ NULL },
};
static const struct schema_object uplink_object = OBJECT("uplink", struct policy_uplink, uplink_fields);

static const char *const mode_words[] = { "off", "partial", "all", NULL };
static const char *const algorithm_words[] = { "pooled", "co-credit", "credit", "credit+boost", NULL };

static const struct schema_field cosched_fields[] = {
	FIELD(struct policy_cosched, "mode", mode, SCHEMA_WORD, .words = mode_words),
	FIELD(struct policy_cosched, "cpus", cpus, SCHEMA_CPUS),
	FIELD(struct policy_cosched, "algorithm", algorithm, SCHEMA_WORD, .words = algorithm_words),
	QUANTITY(struct policy_cosched, "slice", slice_ns, UNITS_DURATION, .least = 100 * NSEC_PER_USEC,
		 .most = NSEC_PER_SEC, .initial = 30 * NSEC_PER_MSEC),
	QUANTITY(struct policy_cosched, "debt_limit", debt_limit_ns, UNITS_DURATION, .most = 10 * NSEC_PER_SEC,
		 .initial = NSEC_PER_SEC),
	{ NULL },
};
static const struct schema_object cosched_object = {
	.noun = "cosched", .placed = true, .at_offset = offsetof(struct policy_cosched, at), .fields = cosched_fields
};

static const struct schema_field cogroup_fields[] = {
	{ .key = "vms", .kind = SCHEMA_NAMES, .most = COGROUPS_MOST, .offset = offsetof(struct policy_cogroup, vm_names),
	  .count_offset = offsetof(struct policy_cogroup, n_vms) },
	FIELD(struct policy_cogroup, "workers", workers, SCHEMA_BOOL),
	{ NULL },
};
static const struct schema_object cogroup_object = OBJECT("co-group", struct policy_cogroup, cogroup_fields);

static const struct schema_field policy_fields[] = {
	FIELD(struct policy, "daemon", daemon, SCHEMA_MAP, .object = &daemon_object),
	OBJECTS(struct policy, "pools", pools, &pool_object, .most = POOLS_MOST),
	OBJECTS(struct policy, "classes", classes, &class_object, .most = CLASSES_MOST),
	OBJECTS(struct policy, "vms", vms, &vm_object, .most = VMS_MOST),
	OBJECTS(struct policy, "uplinks", uplinks, &uplink_object, .most = POOLS_MOST),
	FIELD(struct policy, "cosched", cosched, SCHEMA_MAP, .object = &cosched_object),
	OBJECTS(struct policy, "cogroups", cogroups, &cogroup_object, .most = COGROUPS_MOST),
	{ NULL },
};
const struct schema_object schema_policy = {
	.noun = "policy", .size = sizeof(struct policy), .fields = policy_fields
};

const char *policy_pool_type_name(enum policy_pool_type type)
{
	return pool_type_words[type];
}

const char *policy_poll_name(enum policy_poll poll)
{
	return poll_words[poll];
}

const char *policy_cosched_mode_name(enum policy_cosched_mode mode)
{
	return mode_words[mode];
}

const char *policy_cosched_algorithm_name(enum policy_cosched_algorithm algorithm)
{
	return algorithm_words[algorithm];
}
