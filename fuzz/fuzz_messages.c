/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzes whole vhost-user sessions: an input is a program for a front-end that sends messages with file
 * descriptors, sets up queues, offers requests, truncates its files and lets the device answer early or late, while
 * a second thread writes to the guest's memory between our checks and our uses.
 *
 * The first byte chooses the device: a model on this thread, whose answers the program can hold back, or a real
 * disk on a null pool, served by a worker.
 *
 * Whatever it does: no crash, no access out of bounds, and when the front-end is gone nothing is left of it; an open
 * descriptor, a running queue or a session that does not end aborts.
 */
#include "check.h"

#include "blk/disk.h"
#include "store/store.h"
#include "tests/unit/vhost_harness.h"

#include <pthread.h>
#include <sched.h>

#define QUEUES 4u
#define BUSY_BYTES (RING_AT(QUEUES))
#define SHARED_BYTES 0x10000u

/* --- the input --- */

struct program {
	const uint8_t *at;
	size_t left;
};

static uint8_t next_u8(struct program *p)
{
	if (p->left == 0)
		return 0;
	p->left--;
	return *p->at++;
}

static uint16_t next_u16(struct program *p)
{
	uint16_t low = next_u8(p);

	return (uint16_t)(low | next_u8(p) << 8);
}

static size_t next_bytes(struct program *p, void *to, size_t n)
{
	n = (size_t)min_u64(n, p->left);
	memcpy(to, p->at, n);
	p->at += n;
	p->left -= n;
	return n;
}

/* --- the second thread --- */

struct meddler {
	pthread_t thread;
	int memory_fd;
	bool stop;
};

/* By pwrite(): a file that was truncated grows again instead of killing us. */
static void *meddle(void *arg)
{
	static const uint64_t values[] = {
		0, 1, 2, 4, 0xffff, 0x10000, GUEST_GPA, GUEST_GPA + 0x1000, GUEST_GPA + GUEST_BYTES - 1, UINT64_MAX,
		UINT64_C(0x4000000000000002), UINT64_C(0x0001000400000010), UINT64_C(0x8080000000000200),
	};
	struct meddler *m = arg;
	uint64_t random = 88172645463325252u;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		uint64_t value;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		value = random >> 60 ? values[(random >> 32) % ARRAY_SIZE(values)] : random;
		if (pwrite(m->memory_fd, &value, 1u << (random >> 20) % 4, (off_t)(random % BUSY_BYTES)) < 0)
			break;
		sched_yield();
	}
	return NULL;
}

/* --- the disk --- */

static struct {
	struct worker *worker;
	struct blk_team team;
	struct blk_pool pool;
	struct store_disk *store;
	struct blk_disk *disk;
} real;

static int replies_readable(sd_event_source *source, int fd, uint32_t revents, void *arg)
{
	worker_replies_run();
	return 0;
}

/* Made once: a session leaves nothing in it. */
static void disk_make(sd_event *event)
{
	struct worker_config worker = { .cpu = -1, .poll = WORKER_POLL_ADAPTIVE, .poll_idle_ns = 20000 };
	struct store_pool_options pool = { .name = "pool", .type = "null", .depth = 16 };
	struct store_disk_options store = { .name = "disk", .size_bytes = 1 << 20, .fd = -1 };
	struct blk_disk_options disk = { .vm = "vm", .name = "disk", .queues = QUEUES, .workers = 1 };

	if (worker_create(&worker, &real.worker) < 0 || blk_team_init(&real.team, &real.worker, 1) < 0 ||
	    store_pool_create(&pool, &real.pool.store) < 0 || store_disk_open(real.pool.store, &store, &real.store) < 0 ||
	    blk_disk_create(&disk, &real.pool, real.store, &real.team, &real.disk) < 0 ||
	    sd_event_add_io(event, NULL, worker_replies_fd(), EPOLLIN, replies_readable, NULL) < 0)
		abort();
}

struct round_trip {
	struct worker_msg msg;
	bool done;
};

static void round_trip_run(struct worker_msg *m, struct worker *w)
{
}

static void round_trip_done(struct worker_msg *m)
{
	container_of(m, struct round_trip, msg)->done = true;
}

/* The worker has taken a turn since, and looked at its queues. */
static void worker_round_trip(sd_event *event)
{
	struct round_trip t = { .msg = { .run = round_trip_run, .done = round_trip_done } };

	worker_post(real.worker, &t.msg);
	while (!t.done)
		sd_event_run(event, UINT64_MAX);
}

/* --- the front-end --- */

struct front {
	struct client client;
	struct model model;
	bool on_disk;
	struct vhost_session *session;
	int shared, event, pair[2], pipe[2], null;
	uint16_t avail[QUEUES];
};

static void on_ended(void *arg, const char *reason)
{
	struct front *f = arg;

	f->session = NULL;
}

static void on_queue_refused(void *arg, unsigned queue, int error)
{
}

static const struct vhost_session_events events = { on_ended, on_queue_refused };

static int fd_pick(struct front *f, uint8_t which)
{
	const int fds[] = { f->client.memory_fd, f->event, f->shared, f->pair[0], f->pipe[0], f->null };

	return fds[which % ARRAY_SIZE(fds)];
}

static void do_message(struct front *f, struct program *p)
{
	uint8_t request = next_u8(p), control = next_u8(p);
	unsigned n_fds = control >> 4;
	int fd[15];
	struct {
		struct vhost_header header;
		uint8_t payload[320];
	} m = { .header = { request, VHOST_VERSION | (control & 1 ? VHOST_NEED_REPLY : 0), 0 } };
	size_t n;

	for (unsigned i = 0; i < n_fds; i++)
		fd[i] = fd_pick(f, next_u8(p));
	n = next_bytes(p, m.payload, min_u64(next_u16(p), sizeof(m.payload)));
	m.header.size = (uint32_t)n;
	if (control & 2)
		m.header.size = next_u16(p);
	if (control & 4)
		m.header.flags = next_u8(p);
	client_send_raw(f->client.fd, &m, sizeof(m.header) + n, fd, n_fds);
}

static void do_negotiate(struct front *f, struct program *p)
{
	static const uint8_t bits[] = { VIRTIO_F_RING_PACKED_BIT, VIRTIO_F_RING_EVENT_IDX_BIT, VIRTIO_F_RING_INDIRECT_DESC_BIT,
					VHOST_F_LOG_ALL_BIT, VHOST_F_PROTOCOL_FEATURES_BIT, VIRTIO_F_VERSION_1_BIT };
	uint64_t protocol = 0x91b22b, features = 0;
	uint8_t chosen = next_u8(p);

	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
		features |= (uint64_t)(chosen >> i & 1) << bits[i];
	client_send(&f->client, VHOST_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	client_send(&f->client, VHOST_SET_FEATURES, &features, 8, NULL, 0);
}

static void do_queue(struct front *f, struct program *p)
{
	uint8_t what = next_u8(p);
	uint32_t i = what % QUEUES;
	const struct vhost_vring_addresses a = {
		.index = i, .desc = GUEST_UVA + RING_AT(i), .avail = GUEST_UVA + RING_AT(i) + RING_AVAIL,
		.used = GUEST_UVA + RING_AT(i) + RING_USED, .flags = what >> 7,
	};
	const struct vhost_vring_number size = { i, RING_SIZE }, on = { i, 1 };
	const struct vhost_mem_table t = { .n = 1, .region[0] = { GUEST_GPA, GUEST_BYTES, GUEST_UVA, 0 } };
	uint64_t u = i;

	if (what & 4)
		client_send(&f->client, VHOST_SET_MEM_TABLE, &t, 8 + 32, &f->client.memory_fd, 1);
	client_send(&f->client, VHOST_SET_VRING_NUM, &size, 8, NULL, 0);
	client_send(&f->client, VHOST_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
	client_send(&f->client, VHOST_SET_VRING_CALL, &u, 8, &f->event, 1);
	client_send(&f->client, VHOST_SET_VRING_KICK, &u, 8, &f->event, 1);
	client_send(&f->client, VHOST_SET_VRING_ENABLE, &on, 8, NULL, 0);
}

static void guest_write(struct front *f, const void *bytes, size_t n, uint64_t at)
{
	CHECK(at + n > GUEST_BYTES || pwrite(f->client.memory_fd, bytes, n, (off_t)at) >= 0);
}

static void do_guest_write(struct front *f, struct program *p)
{
	uint16_t at = next_u16(p);
	uint8_t bytes[255];
	size_t n = next_bytes(p, bytes, next_u8(p));

	guest_write(f, bytes, n, at);
}

/* An ordinary request in a split ring. */
static void do_offer(struct front *f, struct program *p)
{
	uint8_t i = next_u8(p) % QUEUES;
	uint16_t at = f->avail[i] % RING_SIZE, next = (uint16_t)(f->avail[i] + 1);
	struct virtq_desc desc = { .addr = GUEST_GPA + DATA_AT(i), .len = next_u16(p), .flags = VIRTQ_DESC_F_WRITE };

	guest_write(f, &desc, sizeof(desc), RING_AT(i) + at * sizeof(desc));
	guest_write(f, &at, sizeof(at), RING_AT(i) + RING_AVAIL + 4 + at * sizeof(at));
	guest_write(f, &next, sizeof(next), RING_AT(i) + RING_AVAIL + 2);
	f->avail[i] = next;
}

static void do_poll(struct front *f, struct program *p)
{
	if (f->on_disk)
		worker_round_trip(f->client.event);
	else
		model_poll(&f->model);
}

static void do_answers(struct front *f, struct program *p)
{
	f->model.answers = (enum model_answers)(next_u8(p) % 3);
}

static void do_release(struct front *f, struct program *p)
{
	model_release(&f->model);
}

static void do_truncate(struct front *f, struct program *p)
{
	int fd = fd_pick(f, next_u8(p) & 1 ? 0 : 2);

	CHECK(ftruncate(fd, next_u16(p)) == 0);
}

static void do_notice(struct front *f, struct program *p)
{
	if (f->session)
		vhost_session_config_changed(f->session);
}

static void do_read(struct front *f, struct program *p)
{
	char bytes[4096];

	while (recv(f->client.fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static void (*const commands[])(struct front *f, struct program *p) = {
	do_message, do_negotiate, do_queue, do_guest_write, do_offer, do_poll,
	do_answers, do_release, do_truncate, do_notice, do_read,
};

static void front_run(struct front *f, struct program *p)
{
	while (p->left > 0 && f->session) {
		uint8_t c = next_u8(p);

		commands[(c & 0x7f) % ARRAY_SIZE(commands)](f, p);
		/* Otherwise the next command comes before we have looked at this one's effect. */
		if (!(c & 0x80))
			loop_settle(f->client.event);
	}
}

static void front_open(struct front *f, sd_event *event, bool on_disk)
{
	int pair[2];

	memset(f, 0, sizeof(*f));
	f->on_disk = on_disk;
	model_init(&f->model, event, QUEUES);
	f->shared = client_memory("shared", SHARED_BYTES);
	f->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && pipe2(f->pipe, O_CLOEXEC) == 0 &&
	      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->pair) == 0);
	client_init(&f->client, event, pair[0]);
	CHECK(vhost_session_create(event, on_disk ? &real.disk->device : &f->model.device, pair[1], &events, f, &f->session) == 0);
}

/* The front-end hangs up; held continuations come, each of which may lead to others. */
static void front_close(struct front *f)
{
	close(f->client.fd);
	f->client.fd = -1;
	for (unsigned i = 0; i < 100 && f->session && !f->on_disk; i++) {
		loop_settle(f->client.event);
		model_release(&f->model);
	}
	while (f->session && f->on_disk)
		sd_event_run(f->client.event, UINT64_MAX);
	CHECK(!f->session && f->model.began == f->model.ended && f->model.starts == f->model.stops);
	client_fini(&f->client);
	model_fini(&f->model);
	close(f->shared);
	close(f->event);
	close(f->null);
	close(f->pipe[0]);
	close(f->pipe[1]);
	close(f->pair[0]);
	close(f->pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static sd_event *event;
	static struct front f;
	static unsigned runs;
	struct program p = { data, size };
	struct meddler m = { 0 };
	unsigned fds = fds_open();

	if (!event) {
		CHECK(sd_event_new(&event) >= 0);
		disk_make(event);
	}
	front_open(&f, event, next_u8(&p) & 1);
	m.memory_fd = f.client.memory_fd;
	CHECK(pthread_create(&m.thread, NULL, meddle, &m) == 0);
	front_run(&f, &p);
	/* The file outlives the thread that writes to it. */
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	front_close(&f);
	/* The first run opens what the event loop keeps. */
	CHECK(runs++ == 0 || fds_open() == fds);
	return 0;
}
