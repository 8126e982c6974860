/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: a policy that uses every key is read as written, with its defaults; every kind of mistake is found, at
 * its line and column, all in one go.
 */
#include "policy/overlay.h"
#include "policy/policy.h"
#include "policy/units.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

static struct policy *load(const char *text, const char *overlay, struct policy_diagnostics *diag)
{
	struct policy_source s[] = {
		{ .name = (char *)"p.yaml", .text = (char *)(uintptr_t)text },
		{ .name = (char *)"o.yaml", .text = (char *)(uintptr_t)overlay, .overlay = true },
	};
	struct policy *p = NULL;
	int r = policy_load_sources(s, overlay ? 2 : 1, &p, diag);

	assert_true(r == 0 ? p != NULL : r == -EINVAL && !p && diag->n_errors > 0);
	return p;
}

static struct policy *load_good(const char *text, const char *overlay)
{
	struct policy_diagnostics diag = { 0 };
	struct policy *p = load(text, overlay, &diag);

	for (size_t i = 0; i < diag.n; i++)
		print_message("%u:%u: %s\n", diag.d[i].at.line, diag.d[i].at.column, diag.d[i].message);
	assert_non_null(p);
	policy_diagnostics_fini(&diag);
	return p;
}

/* All messages, a line each. */
static char *messages(const char *text, const char *overlay)
{
	struct policy_diagnostics diag = { 0 };
	char *all;
	size_t size;
	FILE *out = open_memstream(&all, &size);

	policy_free(load(text, overlay, &diag));
	for (size_t i = 0; i < diag.n; i++) {
		char *line = policy_diagnostic_text(&diag.d[i]);

		fprintf(out, "%s\n", line);
		free(line);
	}
	fclose(out);
	policy_diagnostics_fini(&diag);
	return all;
}

static const char whole[] =
	"daemon: { control: /run/f/c.sock, socket_group: kvm, socket_mode: \"0600\", workers: [2, 4-6], poll: always, "
	"poll_idle: 1.5ms }\n"
	"pools:\n"
	"  nvme: { type: file, directory: /srv/vm, depth: 64, capacity: { iops: 400k, bandwidth: 2GiB/s } }\n"
	"  slow: { type: model, channels: 2, read_latency: 12ms, write_latency: 10ms, byte_time: 6.1ns, schedule: "
	"owner }\n"
	"  nul: { type: \"null\", slo: on, split: 64KiB }\n"
	"classes:\n"
	"  gold: { ioprio: [rt, be/0, hint/17], shares: 2600, reservation: { iops: 50 }, burst: { iops: 100 }, "
	"latency: { p50: 15ms, p99: 20ms } }\n"
	"  silver: { ioprio: [rt/3, be] }\n"
	"  bronze: { ioprio: [be/7, idle] }\n"
	"vms:\n"
	"  web:\n"
	"    classes: [gold, { name: bronze, shares: 7, ioprio: [be/6] }]\n"
	"    default_class: bronze\n"
	"    limit: { iops: 20k, bandwidth: 200MiB/s }\n"
	"    cpu: { weight: 512, cap: 50 }\n"
	"    disks:\n"
	"    - { name: root, pool: nvme, size: 20GiB, queues: 4, workers: 2, ioprio: ignore, read_only: true }\n"
	"    - { name: tmp, pool: nul, size: 1GB, connect: true, socket: /x.sock }\n"
	"    nics:\n"
	"    - { name: eth0, uplink: lan, mac: \"52:54:00:00:00:0a\", queues: 2, reservation: { bandwidth: 100Mbit/s } "
	"}\n"
	"    - { name: eth1 }\n"
	"  db:\n"
	"uplinks:\n"
	"  lan: { type: tap, device: fl0, bandwidth: 1Gbit/s }\n"
	"cosched: { mode: partial, cpus: [8-10], algorithm: co-credit, slice: 10ms }\n"
	"cogroups:\n"
	"  shop: { vms: [web, db], workers: true }\n";

static void check_whole(const struct policy *p)
{
	const struct policy_vm *web = &p->vms[0];

	assert_string_equal(p->daemon.control, "/run/f/c.sock");
	assert_int_equal(p->daemon.socket_mode, 0600);
	assert_int_equal(p->daemon.workers.n, 4);
	assert_int_equal(p->daemon.workers.cpu[3], 6);
	assert_int_equal(p->daemon.poll_idle_ns, 1500000);
	assert_int_equal(p->n_pools, 3);
	assert_int_equal(p->pools[0].capacity.milli_iops, 400000000);
	assert_true(p->pools[0].slo);
	assert_int_equal(p->pools[1].byte_time_ps, 6100);
	assert_int_equal(p->pools[1].depth, 2);
	assert_int_equal(p->pools[1].split_bytes, 131072);
	assert_int_equal(p->pools[1].schedule, POLICY_SCHEDULE_OWNER);
	assert_int_equal(p->pools[2].split_bytes, 65536);
	assert_int_equal(web->n_classes, 2);
	assert_int_equal(web->classes[1].promise.shares, 7);
	assert_int_equal(web->classes[1].n_selectors, 1);
	assert_int_equal(web->classes[0].promise.latency.p50_ns, 15000000);
	assert_int_equal(web->promise.reservation.milli_iops, 50000);
	assert_int_equal(web->promise.limit.bandwidth_bytes, 200 << 20);
	assert_int_equal(web->cpu.weight, 512);
	assert_string_equal(web->disks[0].image, "web-root.raw");
	assert_string_equal(web->disks[0].socket, "/run/f/web-root.sock");
	assert_int_equal(web->disks[0].at.line, 17);
	assert_int_equal(web->disks[0].at.column, 15);
	assert_string_equal(web->disks[0].at.file, "p.yaml");
	assert_int_equal(web->disks[1].pool, 2);
	assert_int_equal(web->disks[1].workers, 0);
	assert_int_equal(web->nics[0].promise.reservation.bandwidth_bytes, 12500000);
	assert_int_equal(web->nics[0].mac[5], 10);
	assert_int_equal(web->nics[1].mac[0], 2);
	assert_int_equal(web->nics[1].uplink, -1);
	assert_int_equal(p->vms[1].n_classes, 3);
	assert_string_equal(p->vms[1].default_class_name, "bronze");
	assert_int_equal(p->cosched.algorithm, POLICY_COSCHED_CO_CREDIT);
	assert_string_equal(p->cogroups[0].vm_names[1], "db");
}

static void everything_is_read(void **state)
{
	struct policy *p = load_good(whole, NULL), *copy = policy_copy(p);

	(void)state;
	check_whole(p);
	assert_ptr_not_equal(copy->vms[0].disks[0].at.file, p->vms[0].disks[0].at.file);
	policy_free(p);
	check_whole(copy);
	policy_free(copy);
}

static void an_empty_policy_has_one_class(void **state)
{
	struct policy *p = load_good("# nothing\n", NULL);

	(void)state;
	assert_int_equal(p->n_classes, 1);
	assert_string_equal(p->classes[0].name, "default");
	assert_int_equal(p->classes[0].promise.shares, 100);
	assert_string_equal(p->daemon.control, "/run/fairlead/control.sock");
	assert_int_equal(p->daemon.poll_idle_ns, 50000);
	policy_free(p);
}

#define IOPRIO(class, hint, level) ((uint16_t)((class) << 13 | (hint) << 3 | (level)))

static void most_specific_selector_wins(void **state)
{
	struct policy *p = load_good(whole, NULL);
	const struct policy_vm *db = &p->vms[1], *web = &p->vms[0];
	enum { GOLD, SILVER, BRONZE };

	(void)state;
	assert_int_equal(policy_class_of(db, IOPRIO(1, 0, 2)), GOLD);
	assert_int_equal(policy_class_of(db, IOPRIO(1, 0, 3)), SILVER);
	assert_int_equal(policy_class_of(db, IOPRIO(2, 0, 0)), GOLD);
	assert_int_equal(policy_class_of(db, IOPRIO(2, 0, 4)), SILVER);
	assert_int_equal(policy_class_of(db, IOPRIO(2, 0, 7)), BRONZE);
	assert_int_equal(policy_class_of(db, IOPRIO(3, 0, 5)), BRONZE);
	assert_int_equal(policy_class_of(db, IOPRIO(2, 17, 7)), GOLD);
	assert_int_equal(policy_class_of(db, IOPRIO(2, 18, 7)), BRONZE);
	/* Class NONE, firmware's 99 and undefined classes. */
	assert_int_equal(policy_class_of(db, IOPRIO(0, 17, 0)), BRONZE);
	assert_int_equal(policy_class_of(db, 99), BRONZE);
	assert_int_equal(policy_class_of(db, 0xffff), BRONZE);
	/* The VM's own selectors replace the class's. */
	assert_int_equal(policy_class_of(web, IOPRIO(2, 0, 6)), 1);
	assert_int_equal(policy_class_of(web, IOPRIO(1, 0, 6)), 0);
	policy_free(p);
}

#define POOLS "pools: { r: { type: ram }, s: { type: model, read_latency: 12ms, write_latency: 12ms } }\n"

/* What is said of any NIC. */
#define NICS "p.yaml:2:23: warning: VM 'v' has NICs: they are checked, but fairleadd serves disks only\n"

static const struct {
	const char *text, *message;
} bad[] = {
	{ "poools: {}\n", "p.yaml:1:1: error: unknown key 'poools' in policy; did you mean 'pools'?" },
	{ "daemon:\n  poll: sometimes\n", "p.yaml:2:9: error: poll: 'sometimes' is not adaptive, always or never" },
	{ "daemon:\n  poll_idle: 50\n", "p.yaml:2:14: error: '50' is not a time like 50us or 12ms" },
	{ "daemon: { poll_idle: 0.5ns }\n", "p.yaml:1:22: error: '0.5ns' is finer than poll_idle is kept" },
	{ "daemon: { socket_mode: 999 }\n",
	  "p.yaml:1:24: error: socket_mode: '999' is not an octal mode like \"0660\"" },
	{ "daemon: { workers: [1, 1] }\n", "p.yaml:1:24: error: workers: CPU 1 is listed twice" },
	{ "daemon: { workers: [a] }\n", "p.yaml:1:21: error: workers: 'a' is not a CPU number or a range like 4-15" },
	{ "daemon: { control: c.sock }\n", "p.yaml:1:20: error: socket: 'c.sock' is not an absolute path" },
	{ "daemon: { poll: never, poll: never }\n", "p.yaml:1:24: error: 'poll' is written twice; first at p.yaml:1" },
	{ "pools:\n  p: {}\n", "p.yaml:2:3: error: pool 'p' needs a type: null, ram, model or file" },
	{ "pools:\n  p: { type: fil }\n", "p.yaml:2:14: error: type: 'fil' is not null, ram, model or file" },
	{ "pools:\n  p: { type: file }\n", "p.yaml:2:3: error: pool 'p' needs a directory" },
	{ "pools:\n  p: { type: file, directory: d }\n", "p.yaml:2:31: error: directory: 'd' is not absolute" },
	{ "pools:\n  p: { type: ram, channels: 2 }\n", "p.yaml:2:29: error: a pool of type ram has no channels" },
	{ "pools:\n  P: { type: ram }\n",
	  "p.yaml:2:3: error: 'P' is no name for a pool: 1 to 31 characters of a-z, 0-9, '_' and '-'" },
	{ "pools:\n  p: { type: ram }\n  p: { type: ram }\n",
	  "p.yaml:3:3: error: pool 'p' is written twice; first at p.yaml:2" },
	{ "pools: [a]\n", "p.yaml:1:1: error: pools must be a map: NAME: { … }" },
	{ "pools:\n  p: { type: file, directory: /d, capacity: { bandwidth: 10MB } }\n",
	  "p.yaml:2:58: error: '10MB' is not a bandwidth like 200MiB/s or 100Mbit/s, or 'none'" },
	{ "classes:\n  a: { ioprio: [be/8] }\n",
	  "p.yaml:2:17: error: ioprio: 'be/8' is not one of rt, rt/0-7, be, be/0-7, idle, hint/1-1023" },
	{ "classes:\n  a: { ioprio: [idle/1] }\n",
	  "p.yaml:2:17: error: ioprio: 'idle/1' is not one of rt, rt/0-7, be, be/0-7, idle, hint/1-1023" },
	{ "classes:\n  a: { ioprio: [hint/3] }\n",
	  "p.yaml:2:17: warning: hints 1 to 7 mean command duration limits to Linux; 16 and above are free to use" },
	{ "classes:\n  a: { ioprio: [be/7] }\n  b: { ioprio: [rt, be/7] }\n",
	  "p.yaml:3:21: error: this ioprio selects class 'a' already, at p.yaml:2" },
	{ "classes:\n  a: { shares: 0 }\n", "p.yaml:2:16: error: shares: '0' is too small; at least 1" },
	{ "classes:\n  a: { reservation: { iops: 9 }, limit: { iops: 4 } }\n",
	  "p.yaml:2:8: error: iops: reservation 9 is above the limit 4, by 5" },
	{ "classes:\n  a: { reservation: { iops: 9 } }\nvms:\n  v: { limit: { iops: 4 } }\n",
	  "p.yaml:4:3: error: all classes of VM 'v' together: iops: reservation 9 is above the limit 4, by 5" },
	{ "classes:\n  a: { shares: 100001 }\n", "p.yaml:2:16: error: shares: '100001' is too large; at most 100k" },
	{ "classes:\n  a: { limit: { iops: 2000G } }\n", "p.yaml:2:23: error: iops: '2000G' is too large; at most 1000G" },
	{ "classes:\n  a: { limit: { iops: 0 } }\n", "p.yaml:2:23: error: iops: '0' is too small; at least 0.001, or 'none'" },
	{ "classes:\n  a: { limit: { bandwidth: 0 } }\n",
	  "p.yaml:2:28: error: bandwidth: '0' is too small; at least 1B/s, or 'none'" },
	{ "classes:\n  a: { latency: { p99: 0ms } }\n", "p.yaml:2:24: error: p99: '0ms' is too small; at least 1ns, or 'none'" },
	{ "classes:\n  a: { latency: { p50: 9ms, p99: 1ms } }\n",
	  "p.yaml:2:3: error: latency: the p50 target is above the p99 target" },
	{ "classes:\n  a: {}\nvms:\n  v: { classes: [a, b] }\n",
	  "p.yaml:4:21: error: unknown class 'b'; did you mean 'a'?" },
	{ "classes:\n  gold: {}\nvms:\n  v: { default_class: gol }\n",
	  "p.yaml:4:23: error: unknown class 'gol'; did you mean 'gold'?" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: rr, size: 1MiB }\n",
	  "p.yaml:5:24: error: unknown pool 'rr'; did you mean 'r'?" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, size: 1MiB }\n",
	  "p.yaml:5:15: error: disk 'v/d' needs a pool" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: r }\n",
	  "p.yaml:5:15: error: disk 'v/d' needs a size, as every disk of a ram pool" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: r, size: 1000 }\n",
	  "p.yaml:5:33: error: size: a disk is a multiple of 512 bytes" },
	{ "pools:\n  r: { type: ram, split: 1000 }\n", "p.yaml:2:26: error: split: parts are multiples of 512 bytes" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: r, size: 1MiB, queues: 65 }\n",
	  "p.yaml:5:47: error: queues: '65' is too large; at most 64" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: r, size: 1MiB, queues: 2, workers: 4 }\n",
	  "p.yaml:5:59: warning: 4 workers for 2 queues: 2 would have none" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: d, pool: r, size: 1MiB, image: x }\n",
	  "p.yaml:5:46: error: a disk of a ram pool has no image" },
	{ POOLS
	  "vms:\n  v:\n    disks:\n    - { name: d, pool: r, size: 1MiB }\n    - { name: d, pool: r, size: 1MiB }\n",
	  "p.yaml:6:15: error: disk 'd' is written twice; first at p.yaml:5" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { pool: r, size: 1MiB }\n", "p.yaml:5:9: error: a disk needs a name" },
	{ POOLS "vms:\n  v:\n    disks: { name: d }\n", "p.yaml:4:5: error: disks must be a list" },
	{ POOLS "vms:\n  v:\n    disks: [x]\n", "p.yaml:4:13: error: a disk is written as a map: { name: …, … }" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: a, pool: r, size: 1MiB, socket: /s }\n"
		"    - { name: b, pool: r, size: 1MiB, socket: /s }\n",
	  "p.yaml:6:47: error: socket '/s' is used by v/a already" },
	{ POOLS "vms:\n  v:\n    disks:\n    - { name: a, pool: r, size: 1MiB, socket: /run/fairlead/control.sock }\n",
	  "p.yaml:5:47: error: socket '/run/fairlead/control.sock' is used by the daemon's control already" },
	{ "pools: { f: { type: file, directory: /d } }\nvms:\n  v:\n    disks:\n    - { name: a, pool: f, image: "
	  "a/../../b }\n",
	  "p.yaml:5:34: error: image: 'a/../../b' leaves the pool's directory; it is a path beneath it" },
	{ "pools: { f: { type: file, directory: /d } }\nvms:\n  v:\n    disks:\n    - { name: a, pool: f, image: "
	  "/etc/passwd }\n",
	  "p.yaml:5:34: error: image: '/etc/passwd' leaves the pool's directory; it is a path beneath it" },
	{ "pools: { f: { type: file, directory: /d } }\nvms:\n  v:\n    disks:\n    - { name: a, pool: f, image: x }\n"
	  "    - { name: b, pool: f, image: x }\n",
	  "p.yaml:6:34: warning: image 'x' is used by v/a already" },
	{ POOLS "vms:\n  v:\n    reservation: { iops: 100 }\n    disks: [{ name: d, pool: s, size: 1MiB }]\n",
	  "p.yaml:4:5: error: pool 's' cannot keep this: 100.0 iops reserved, 75.0 can be promised (90 % of 83.3): "
	  "25.0 too many" },
	{ POOLS
	  "classes:\n  g: { reservation: { iops: 40 } }\nvms:\n  v: { disks: [{ name: d, pool: s, size: 1MiB }] }\n"
	  "  w: { disks: [{ name: d, pool: s, size: 1MiB }] }\n",
	  "p.yaml:3:8: error: pool 's' cannot keep this: 80.0 iops reserved, 75.0 can be promised (90 % of 83.3): 5.0 "
	  "too many" },
	{ "pools: { f: { type: file, directory: /d, capacity: { iops: 100, bandwidth: 100MB/s } } }\n"
	  "vms:\n  v:\n    reservation: { iops: 50, bandwidth: 95MB/s }\n    disks: [{ name: d, pool: f }]\n",
	  "p.yaml:4:5: error: pool 'f' cannot keep this: 95.0 MB/s reserved, 90.0 can be promised (90 % of 100.0): 5.0 "
	  "MB/s too much" },
	{ "pools: { f: { type: file, directory: /d, capacity: { iops: 100, bandwidth: 100MB/s } } }\n"
	  "vms:\n  v:\n    reservation: { iops: 50 }\n    disks: [{ name: d, pool: f }]\n"
	  "  w:\n    reservation: { bandwidth: 50MB/s }\n    disks: [{ name: d, pool: f }]\n",
	  "p.yaml:7:5: error: pool 'f' cannot keep this: 100.0 % of its capacity reserved, 90 % can be promised: 10.0 % "
	  "too much" },
	{ "pools: { f: { type: file, directory: /d, capacity: { iops: 100, bandwidth: 100MB/s } } }\n"
	  "vms:\n  v:\n    reservation: { iops: 95, bandwidth: 10MB/s }\n    disks: [{ name: d, pool: f }]\n",
	  "p.yaml:4:5: error: pool 'f' cannot keep this: 95.0 iops reserved, 90.0 can be promised (90 % of 100.0): 5.0 too many" },
	{ "classes:\n  g: { reservation: { iops: 50 } }\nvms:\n  v: { reservation: { iops: 20 } }\n",
	  "p.yaml:4:8: error: VM 'v' reserves 20 iops, but its classes reserve 50: 30 too much" },
	{ POOLS "vms:\n  v:\n    limit: { iops: 9 }\n    disks: [{ name: d, pool: r, size: 1MiB }]\n",
	  "p.yaml:5:21: warning: 'v/d' is in pool 'r', which has slo off: no promise is kept there" },
	{ POOLS "classes:\n  g: { latency: { p99: 1ms } }\nvms:\n  v: { disks: [{ name: d, pool: s, size: 1MiB }] }\n",
	  "p.yaml:3:8: warning: p99 1ms is out of reach in pool 's': one request takes 12ms, 11ms more" },
	{ POOLS "classes:\n  g: { latency: { p50: 1ms } }\nvms:\n  v: { disks: [{ name: d, pool: s, size: 1MiB }] }\n",
	  "p.yaml:3:8: warning: p50 1ms is out of reach in pool 's': one request takes 12ms, 11ms more" },
	{ "classes:\n  g: { burst: { iops: 9 } }\nvms:\n  v: {}\n",
	  "p.yaml:2:8: warning: a burst of iops without a limit of iops means nothing" },
	{ "vms:\n  v:\n    limit: { iops: 9 }\n    burst: { iops: 9, bandwidth: 1MB/s }\n",
	  "p.yaml:4:5: warning: a burst of bandwidth without a limit of bandwidth means nothing" },
	{ "classes:\n  g: { burst: { iops: 9 } }\n  h: {}\nvms:\n  v:\n    classes:\n      - { name: g, limit: { iops: 5 } }\n"
	  "      - { name: h, burst: { iops: 9 } }\n",
	  "p.yaml:8:20: warning: a burst of iops without a limit of iops means nothing" },
	{ "vms:\n  v: { nics: [{ name: n, uplink: x }] }\n", NICS "p.yaml:2:34: error: unknown uplink 'x'" },
	{ "vms:\n  v: { nics: [{ name: n, mac: \"01:00:00:00:00:01\" }] }\n",
	  NICS "p.yaml:2:31: error: mac: '01:00:00:00:00:01' is a multicast address; its first byte must be even" },
	{ "vms:\n  v: { nics: [{ name: n, latency: { p99: 1ms } }] }\n",
	  NICS "p.yaml:2:26: error: unknown key 'latency' in nic" },
	{ "uplinks:\n  u: { type: tap }\n", "p.yaml:2:3: error: uplink 'u' needs a device" },
	{ "cogroups:\n  g: { vms: [a] }\n", "p.yaml:2:8: error: unknown VM 'a'" },
	{ "vms:\n  v:\n    limit: 5\n", "p.yaml:3:12: error: limit must be a map: { KEY: VALUE, … }" },
	{ "vms:\n  v:\n    shares:\n", "p.yaml:3:5: error: shares has no value" },
	{ "vms:\n  v:\n    limit: { iops: 99999999999999999999 }\n",
	  "p.yaml:3:20: error: iops: '99999999999999999999' is too large; at most 1000G" },
	{ "daemon: {}\n---\ndaemon: {}\n", "p.yaml:3:1: error: a file holds one document" },
	{ "daemon: {}\n# \xc3\xa9 \xff\n", "p.yaml:2:5: error: not UTF-8 text" },
	{ "daemon: {}\n\x01\n", "p.yaml:2:1: error: not UTF-8 text" },
	{ "%YAML 1.2\n---\ndaemon: {}\n", "p.yaml:1:1: error: a line may not begin with '%'" },
	{ "- 1\n", "p.yaml:1:1: error: policy must be a map: { KEY: VALUE, … }" },
	{ "daemon: { control: \"a\\0b\" }\n", "p.yaml:1:20: error: a NUL character is not allowed" },
};

static void mistakes_are_found_where_they_are(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *found = messages(bad[i].text, NULL);

		/* This one and no other. */
		assert_true(found[0] != '\0');
		found[strlen(found) - 1] = '\0';
		assert_string_equal(found, bad[i].message);
		free(found);
	}
}

/* The words are libfyaml's. */
static void broken_yaml_is_told_by_its_place(void **state)
{
	char *found = messages("pools: {}\nvms: [\n", NULL);

	(void)state;
	assert_memory_equal(found, "p.yaml:3:1: error: ", 19);
	free(found);
}

static void all_are_found_in_one_go(void **state)
{
	char *found = messages("pools:\n  a: { type: ran }\n  b: { typ: ram }\nvms:\n  v:\n    shares: x\n", NULL);

	(void)state;
	assert_string_equal(found, "p.yaml:2:14: error: type: 'ran' is not null, ram, model or file\n"
				   "p.yaml:3:3: error: pool 'b' needs a type: null, ram, model or file\n"
				   "p.yaml:3:8: error: unknown key 'typ' in pool; did you mean 'type'?\n"
				   "p.yaml:6:13: error: 'x' is not a count like 400 or 20k\n");
	free(found);
}

/* What a file says is told on terminals and in logs, a line each. */
static void messages_are_plain_text(void **state)
{
	char *found = messages("pools: { \"a\\e[2J\\nb\\x7f\\u009bc\\tä\": {} }\n", NULL);

	(void)state;
	assert_non_null(strstr(found, "'a?[2J?b???c?ä' is no name for a pool"));
	free(found);
}

static void an_overlay_wins_and_may_be_stale(void **state)
{
	static const char base[] = POOLS
		"classes:\n  g: { shares: 5, limit: { iops: 10, bandwidth: 1MB/s } }\n  b: {}\nvms:\n"
		"  v:\n    disks:\n    - { name: a, pool: s, size: 1MiB }\n    - { name: b, pool: s, size: 1MiB }\n";
	static const char overlay[] =
		"classes: { g: { shares: 6 }, old: { shares: 1 } }\n"
		"vms:\n  v:\n    shares: 9\n    classes: [{ name: g, limit: { iops: none } }]\n    disks:\n"
		"    - { name: a, size: 2MiB }\n    - { name: b, removed: true }\n"
		"    - { name: c, pool: r, size: 4MiB }\n    - { name: gone, size: 4MiB }\n"
		"  dead: { shares: 3 }\n";
	struct policy *p = load_good(base, overlay);
	char *found;

	(void)state;
	assert_int_equal(p->n_vms, 1);
	assert_int_equal(p->n_classes, 2);
	assert_int_equal(p->vms[0].promise.shares, 9);
	assert_int_equal(p->vms[0].n_classes, 2);
	assert_int_equal(p->vms[0].classes[0].promise.shares, 6);
	assert_int_equal(p->vms[0].classes[0].promise.limit.milli_iops, 0);
	assert_int_equal(p->vms[0].classes[0].promise.limit.bandwidth_bytes, 1000000);
	assert_int_equal(p->vms[0].n_disks, 2);
	assert_int_equal(p->vms[0].disks[0].size_bytes, 2 << 20);
	assert_string_equal(p->vms[0].disks[0].at.file, "p.yaml");
	assert_string_equal(p->vms[0].disks[1].name, "c");
	assert_string_equal(p->vms[0].disks[1].at.file, "o.yaml");
	policy_free(p);
	found = messages(base, overlay);
	assert_non_null(strstr(found, "o.yaml:1:30: warning: class 'old' is gone"));
	assert_non_null(strstr(found, "warning: disk 'v/gone' is gone"));
	assert_non_null(strstr(found, "warning: VM 'dead' is gone"));
	free(found);
}

static void files_are_joined(void **state)
{
	struct policy_source s[] = {
		{ .name = (char *)"a",
		  .text = (char *)POOLS "vms: { v: { disks: [{ name: a, pool: r, size: 1MiB }] } }\n" },
		{ .name = (char *)"b",
		  .text = (char *)"vms: { v: { shares: 3, disks: [{ name: b, pool: r, size: 1MiB }] }, w: }\n" },
		{ .name = (char *)"c",
		  .text = (char *)"vms: { v: { shares: 4, disks: [{ name: b, pool: r, size: 1MiB }] } }\n" },
	};
	struct policy_diagnostics diag = { 0 };
	struct policy *p = NULL;

	(void)state;
	assert_int_equal(policy_load_sources(s, 2, &p, &diag), 0);
	assert_int_equal(p->n_vms, 2);
	assert_int_equal(p->vms[0].n_disks, 2);
	assert_string_equal(p->vms[0].disks[1].at.file, "b");
	policy_free(p);
	policy_diagnostics_fini(&diag);
	assert_int_equal(policy_load_sources(s, 3, &p, &diag), -EINVAL);
	assert_int_equal(diag.n_errors, 2);
	assert_string_equal(diag.d[0].message, "'shares' is written twice; first at b:1");
	assert_string_equal(diag.d[1].message, "disk 'b' is written twice; first at b:1");
	policy_diagnostics_fini(&diag);
}

static void quantities_go_both_ways(void **state)
{
	static const struct {
		enum units units;
		const char *text;
		uint64_t value;
		const char *written; /* NULL: as read */
	} good[] = {
		{ UNITS_COUNT, "400", 400, NULL },
		{ UNITS_COUNT, "20k", 20000, NULL },
		{ UNITS_COUNT, "1.5M", 1500000, "1500k" },
		{ UNITS_RATE, "400", 400000, NULL },
		{ UNITS_RATE, "2.6", 2600, NULL },
		{ UNITS_RATE, "0.001", 1, NULL },
		{ UNITS_RATE, "2.5k", 2500000, "2500" },
		{ UNITS_SIZE, "20GiB", UINT64_C(20) << 30, NULL },
		{ UNITS_SIZE, "20GB", UINT64_C(20000000000), NULL },
		{ UNITS_SIZE, "0.5KiB", 512, "512" },
		{ UNITS_SIZE, "4096", 4096, "4KiB" },
		{ UNITS_SIZE, "17 MiB", 17 << 20, "17MiB" },
		{ UNITS_BANDWIDTH, "200MiB/s", 200 << 20, NULL },
		{ UNITS_BANDWIDTH, "100Mbit/s", 12500000, NULL },
		{ UNITS_BANDWIDTH, "1Gbit/s", 125000000, NULL },
		{ UNITS_BANDWIDTH, "100MB/s", 100000000, NULL },
		{ UNITS_BANDWIDTH, "17B/s", 17, NULL },
		{ UNITS_DURATION, "50us", 50000, NULL },
		{ UNITS_DURATION, "0", 0, NULL },
		{ UNITS_DURATION, "1.5s", 1500000000, "1500ms" },
		{ UNITS_BYTE_TIME, "6.1ns", 6100, NULL },
		{ UNITS_BYTE_TIME, "0.001ns", 1, NULL },
		{ UNITS_BYTE_TIME, "5us", 5000000, NULL },
	};
	static const struct {
		enum units units;
		const char *text;
		int result;
	} wrong[] = {
		{ UNITS_COUNT, "", -EINVAL },
		{ UNITS_COUNT, "-1", -EINVAL },
		{ UNITS_COUNT, "1.", -EINVAL },
		{ UNITS_COUNT, ".5k", -EINVAL },
		{ UNITS_COUNT, "1.2", -EDOM },
		{ UNITS_RATE, "2.0005", -EDOM },
		{ UNITS_COUNT, "18446744073709551616", -ERANGE },
		{ UNITS_COUNT, "18446744073709551615k", -ERANGE },
		{ UNITS_SIZE, "20Gib", -EINVAL },
		{ UNITS_SIZE, "1e9", -EINVAL },
		{ UNITS_BANDWIDTH, "1bit/s", -EDOM },
		{ UNITS_BANDWIDTH, "5MiB", -EINVAL },
		{ UNITS_DURATION, "5", -EINVAL },
		{ UNITS_DURATION, "5 minutes", -EINVAL },
		{ UNITS_BYTE_TIME, "0.0001ns", -EDOM },
		{ UNITS_BYTE_TIME, "1.0000000000001ns", -EINVAL },
	};
	char text[UNITS_TEXT_MAX];
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(units_parse(good[i].units, good[i].text, &value), 0);
		assert_int_equal(value, good[i].value);
		assert_string_equal(units_format(good[i].units, value, text),
				    good[i].written ? good[i].written : good[i].text);
		assert_int_equal(units_parse(good[i].units, text, &value), 0);
		assert_int_equal(value, good[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(units_parse(wrong[i].units, wrong[i].text, &value), wrong[i].result);
}

/* Few bytes that ask for all memory: one list that many VMs share, and all classes for each of many VMs. */
static void aliases_do_not_multiply(void **state)
{
	static const char *const head[] = {
		"pools: {r: {type: ram}}\nvms:\n  first: &v {disks: [",
		"pools: {r: {type: ram}}\nclasses: {c: {ioprio: &s [",
	};
	static const char *const item[] = { "{name: d%u, pool: r, size: 1MiB},", "hint/%u," };
	static const char *const middle[] = { "]}\n", "]}}\nvms:\n" };
	static const char *const more[] = { "  v%u: *v\n", "  v%u: {}\n" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(head); i++) {
		struct policy_diagnostics diag = { 0 };
		char *text;
		size_t size;
		FILE *f = open_memstream(&text, &size);

		fputs(head[i], f);
		for (unsigned k = 0; k < 1000; k++)
			fprintf(f, item[i], k + 16);
		fputs(middle[i], f);
		for (unsigned k = 0; k < 5000; k++)
			fprintf(f, more[i], k);
		assert_int_equal(fclose(f), 0);
		assert_null(load(text, NULL, &diag));
		assert_int_equal(diag.n, 1);
		assert_non_null(strstr(diag.d[0].message, "more than 65536 objects"));
		policy_diagnostics_fini(&diag);
		free(text);
	}
}

/* What there may be many of is small, and what is compared with each other is not many. */
static void lists_and_values_are_bounded(void **state)
{
	static const struct {
		const char *head, *item, *tail;
		unsigned most;
		const char *message;
	} list[] = {
		{ "pools: {", "p%u: {type: ram},", "}", 1024, "pools: more than 1024 of them" },
		{ "classes: {", "c%u: {},", "}", 4096, "classes: more than 4096 of them" },
		{ "pools: {r: {type: ram}}\nvms: {", "v%u: {},", "}", 8192, "vms: more than 8192 of them" },
		{ "vms: {a: {}}\ncosched: {mode: all}\ncogroups: {", "g%u: {vms: [a]},", "}", 256, "cogroups: more than 256 of them" },
		{ "cogroups: {g: {vms: [", "v%u,", "]}}", 256, "vms: more than 256 of them" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++) {
		char *text, *said;
		size_t size;
		FILE *f;

		for (unsigned over = 0; over < 2; over++) {
			f = open_memstream(&text, &size);
			fputs(list[i].head, f);
			for (unsigned k = 0; k < list[i].most + over; k++)
				fprintf(f, list[i].item, k);
			fputs(list[i].tail, f);
			assert_int_equal(fclose(f), 0);
			said = messages(text, NULL);
			assert_true(!strstr(said, list[i].message) == !over);
			free(said);
			free(text);
		}
	}
}

/* One long value, and a thousand that refer to it. */
static void a_value_is_short(void **state)
{
	for (unsigned over = 0; over < 2; over++) {
		unsigned length = 4095 + over;
		char *text, *said;
		size_t size;
		FILE *f = open_memstream(&text, &size);

		(void)state;
		fputs("pools: {r: {type: ram}}\nvms: {v: {disks: [{name: d, pool: r, size: &a ", f);
		for (unsigned i = 0; i < length; i++)
			fputc('A', f);
		for (unsigned i = 0; i < 1000; i++)
			fprintf(f, "}, {name: d%u, pool: r, size: *a", i);
		fputs("}]}}", f);
		assert_int_equal(fclose(f), 0);
		said = messages(text, NULL);
		assert_true(!strstr(said, "a value of more than 4095 bytes") == !over);
		assert_true(strlen(said) < 1001 * 8192);
		free(said);
		free(text);
	}
}

/* Nothing that would have to be waited for, in the folder that a daemon reads at any time. */
static void only_plain_files_are_read(void **state)
{
	char folder[] = "/tmp/policy-load-XXXXXX", path[64], main_file[64], command[64];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct policy_diagnostics diag = { 0 };
	struct policy_overlay *o = NULL;
	struct policy_source *s;
	struct policy *p = NULL;
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t n;

	(void)state;
	alarm(120); /* instead of waiting for ever */
	assert_non_null(mkdtemp(folder));
	snprintf(main_file, sizeof(main_file), "%s/main.yaml", folder);
	fclose(fopen(main_file, "w"));
	snprintf(path, sizeof(path), "%s/conf.d", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/conf.d/a-fifo.yaml", folder);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/conf.d/b-socket.yaml", folder);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	snprintf(path, sizeof(path), "%s/conf.d/c-folder.yaml", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/conf.d/d-device.yaml", folder);
	assert_int_equal(symlink("/dev/zero", path), 0);
	snprintf(path, sizeof(path), "%s/conf.d/%s", folder, POLICY_OVERLAY_NAME);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(policy_sources_find(main_file, &s, &n), 0);
	assert_int_equal(n, 6);
	policy_sources_read(s, n);
	assert_int_equal(policy_load_sources(s, n, &p, &diag), -EINVAL);
	assert_int_equal(diag.n, 5);
	for (size_t i = 0; i < diag.n; i++)
		assert_string_equal(diag.d[i].message, "cannot be read: not a plain file");
	assert_int_equal(policy_overlay_load(path, &o), -ENXIO);
	policy_diagnostics_fini(&diag);
	policy_sources_free(s, n);
	close(sock);
	alarm(0);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(an_empty_policy_has_one_class),
		cmocka_unit_test(most_specific_selector_wins),
		cmocka_unit_test(mistakes_are_found_where_they_are),
		cmocka_unit_test(broken_yaml_is_told_by_its_place),
		cmocka_unit_test(all_are_found_in_one_go),
		cmocka_unit_test(messages_are_plain_text),
		cmocka_unit_test(an_overlay_wins_and_may_be_stale),
		cmocka_unit_test(files_are_joined),
		cmocka_unit_test(quantities_go_both_ways),
		cmocka_unit_test(aliases_do_not_multiply),
		cmocka_unit_test(lists_and_values_are_bounded),
		cmocka_unit_test(a_value_is_short),
		cmocka_unit_test(only_plain_files_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
