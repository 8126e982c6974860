/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fairlead-hook: what workers can carry when nobody shares their CPUs. Runs the daemon's own host in this process, with one
 * queue of a null disk per worker, and lets a source on the same worker play the driver: whatever comes back used is made
 * available again. That hook's own cost is measured with --alone, where it returns the requests itself.
 *
 * Main thread: the host's event loop. A second thread attaches the front-end, hooks the workers and measures.
 */
#include "bench/driver.h"

#include "base/clock.h"
#include "base/cpus.h"
#include "host/host.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

/* Only what happens while requests go round is counted; without valgrind these are a few no-ops. */
#ifdef HAVE_CALLGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

#define HOOKS_MAX 64u

struct hook {
	struct worker_source source;
	struct worker_msg add, remove;
	struct worker *worker;
	struct front_queue *queue;
	bool alone;
	uint64_t ops_max;
	uint16_t used_idx;
	struct {
		uint64_t ops; /* one writer: the worker */
	} cache_aligned count;
	struct front_request *request;
	struct front_buf *buf;
	sem_t *done, *go;
};

struct bench {
	struct hook *hook; /* one a worker */
	unsigned workers, cpu[HOOKS_MAX], depth;
	double seconds;
	uint64_t ops;
	bool alone;
	const char *type, *pool, *classes, *vm; /* of the policy: the pool's type, more keys of pool and VM, its classes */

	char socket[108];
	sd_event *event;
	struct host *host;
	struct frontend *front;
	sem_t done, go;
	int ready_fd, over_fd;
	int result;
};

/* --- on the workers --- */

/* The cheapest driver there is: descriptors stay as they are, heads go round. */
static unsigned hook_poll(struct worker_source *s, uint64_t now_ns)
{
	struct hook *h = container_of(s, struct hook, source);
	struct front_ring *r = &h->queue->ring;
	const struct vring_used *used = r->device;
	struct vring_avail *avail = r->driver;
	uint16_t mask = r->config.size - 1, idx = avail->idx, seen = load_acquire(&used->idx), n = seen - h->used_idx;

	(void)now_ns;
	for (; h->used_idx != seen; h->used_idx++, idx++)
		avail->ring[idx & mask] = (uint16_t)used->ring[h->used_idx & mask].id;
	store_release(&avail->idx, idx);
	if (h->alone)
		driver_echo(h->queue);
	counter_add(&h->count.ops, n);
	/* The whole worker stops here, so that it adds no idle turns to what is counted. */
	if (h->ops_max && h->count.ops >= h->ops_max) {
		h->ops_max = 0;
		sem_post(h->done);
		sem_wait(h->go);
	}
	return n;
}

static bool hook_arm(struct worker_source *s)
{
	(void)s;
	return true;
}

static const struct worker_source_ops hook_ops = { .poll = hook_poll, .arm = hook_arm };

static void hook_add(struct worker_msg *m, struct worker *w)
{
	struct hook *h = container_of(m, struct hook, add);

	h->source.ops = &hook_ops;
	front_kick(h->queue);
	worker_source_add(w, &h->source);
}

static void hook_remove(struct worker_msg *m, struct worker *w)
{
	(void)w;
	worker_source_remove(&container_of(m, struct hook, remove)->source);
	sem_post(container_of(m, struct hook, remove)->done);
}

/* --- the second thread --- */

static int fill(struct bench *b, struct hook *h)
{
	struct front_buf *buf = calloc(b->depth, sizeof(*buf));
	uint8_t *data = frontend_alloc(b->front, b->depth * 4096ul);
	int r = 0;

	h->buf = buf;
	h->request = calloc(b->depth, sizeof(*h->request));
	if (!h->request || !data || !buf)
		return -ENOMEM;
	for (unsigned i = 0; i < b->depth && !r; i++) {
		buf[i] = front_buf_of(b->front, data + i * 4096ul, 4096);
		h->request[i] = (struct front_request){ .type = VIRTIO_BLK_T_IN, .sector = i * 8, .data = &buf[i], .n_data = 1 };
		r = front_submit(h->queue, &h->request[i]);
	}
	return r;
}

/* A first request through each queue: when it is back, the queue is served, and its worker is known. */
static int find_workers(struct bench *b)
{
	struct host_disk *disk = host_disk_find(b->host, "bench", "disk");

	for (unsigned i = 0; i < b->workers; i++) {
		struct front_request flush = { .type = VIRTIO_BLK_T_FLUSH };
		int r = front_run(b->hook[i].queue, &flush);

		if (r)
			return r;
		b->hook[i].worker = disk->blk->slot[i]->worker;
		b->hook[i].used_idx = ((struct vring_used *)b->hook[i].queue->ring.device)->idx;
	}
	return 0;
}

static uint64_t total(const struct bench *b)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < b->workers; i++)
		n += load_relaxed(&b->hook[i].count.ops);
	return n;
}

static void wait_s(double s)
{
	struct timespec ts = { .tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9) };

	nanosleep(&ts, NULL);
}

static void measure(struct bench *b)
{
	uint64_t began, ops, ended;

	if (b->ops) {
		began = clock_now_ns();
		for (unsigned i = 0; i < b->workers; i++)
			sem_wait(&b->done);
		CALLGRIND_STOP_INSTRUMENTATION;
		ended = clock_now_ns();
		ops = total(b);
		for (unsigned i = 0; i < b->workers; i++)
			sem_post(&b->go);
	} else {
		wait_s(0.1);
		began = clock_now_ns();
		ops = total(b);
		wait_s(b->seconds);
		ended = clock_now_ns();
		ops = total(b) - ops;
	}
	printf("{\"workers\": %u, \"ops\": %lu, \"iops\": %.0f, \"worker_ns_per_op\": %.2f}\n", b->workers, (unsigned long)ops,
	       (double)ops * 1e9 / (double)(ended - began), ops ? (double)(ended - began) * b->workers / (double)ops : 0);
	fflush(stdout);
}

static void run_hooks(struct bench *b)
{
	CALLGRIND_START_INSTRUMENTATION;
	for (unsigned i = 0; i < b->workers; i++) {
		struct hook *h = &b->hook[i];

		h->add.run = hook_add;
		h->remove.run = hook_remove;
		h->done = &b->done;
		h->go = &b->go;
		h->ops_max = b->ops;
		h->alone = b->alone;
		worker_post(h->worker, &h->add);
	}
	measure(b);
	for (unsigned i = 0; i < b->workers; i++)
		worker_post(b->hook[i].worker, &b->hook[i].remove);
	for (unsigned i = 0; i < b->workers; i++)
		sem_wait(&b->done);
}

static int with_front(struct bench *b, int (*prepare)(struct bench *b))
{
	struct frontend_config c = { .path = b->socket, .queues = b->workers, .queue_size = 256, .inflight = true,
				     .data_segs_max = 1, .data_bytes = b->workers * (b->depth + 1) * 4096ul };
	int r = frontend_create(&c, &b->front);

	if (!r)
		r = prepare(b);
	for (unsigned i = 0; i < b->workers && !r; i++)
		r = fill(b, &b->hook[i]);
	if (!r)
		run_hooks(b);
	frontend_destroy(b->front);
	for (unsigned i = 0; i < b->workers; i++) {
		free(b->hook[i].request);
		free(b->hook[i].buf);
	}
	return r;
}

static int attach(struct bench *b)
{
	int r = frontend_attach(b->front);

	for (unsigned i = 0; i < b->workers; i++)
		b->hook[i].queue = &b->front->queue[i];
	return r ? r : find_workers(b);
}

static void *client_main(void *arg)
{
	struct bench *b = arg;
	eventfd_t ready;

	if (eventfd_read(b->ready_fd, &ready) == 0)
		b->result = with_front(b, attach);
	eventfd_write(b->over_fd, 1);
	return NULL;
}

/* --- the host --- */

static void host_gone(void *arg, const struct host_error *error)
{
	(void)error;
	sd_event_exit(((struct bench *)arg)->event, 0);
}

static int on_over(sd_event_source *s, int fd, uint32_t events, void *arg)
{
	struct bench *b = arg;

	(void)fd;
	(void)events;
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	host_destroy(b->host, host_gone, b);
	return 0;
}

static void applied(void *arg, const struct host_error *error)
{
	struct bench *b = arg;

	if (error->err) {
		fprintf(stderr, "fairlead-hook: %s\n", error->text);
		b->result = error->err;
		sd_event_exit(b->event, 1);
		return;
	}
	eventfd_write(b->ready_fd, 1);
}

static int make_policy(struct bench *b, struct policy **ret)
{
	struct policy_diagnostics diag = { 0 };
	struct policy_source source = { .name = strdup("bench") };
	char cpus[512] = "";
	int r;

	for (unsigned i = 0; i < b->workers; i++)
		sprintf(cpus + strlen(cpus), "%s%u", i ? ", " : "", b->cpu[i]);
	r = asprintf(&source.text,
		     "daemon: { workers: [%s], poll: always }\n"
		     "pools: { pool: { type: \"%s\", %s } }\n"
		     "%s\n"
		     "vms: { bench: { %s%s disks: [ { name: disk, pool: pool, size: 64MiB, queues: %u, workers: %u, socket: %s } ] } }\n",
		     cpus, b->type, b->pool, b->classes, b->vm, *b->vm ? "," : "", b->workers, b->workers, b->socket);
	if (r < 0)
		return -ENOMEM;
	r = policy_load_sources(&source, 1, ret, &diag);
	if (r < 0 && diag.n)
		fprintf(stderr, "fairlead-hook: %s\n", policy_diagnostic_text(&diag.d[0]));
	policy_diagnostics_fini(&diag);
	free(source.name);
	free(source.text);
	return r;
}

static int with_host(struct bench *b)
{
	struct host_events events = { 0 };
	struct host_error error = { 0 };
	struct policy *policy;
	pthread_t client;
	int r = make_policy(b, &policy);

	if (r >= 0)
		r = sd_event_new(&b->event);
	if (r < 0)
		return r;
	b->ready_fd = eventfd(0, EFD_CLOEXEC);
	b->over_fd = eventfd(0, EFD_CLOEXEC);
	sd_event_add_io(b->event, NULL, b->over_fd, EPOLLIN, on_over, b);
	r = host_create(b->event, policy, &events, &b->host, &error);
	if (r < 0) {
		fprintf(stderr, "fairlead-hook: %s\n", error.text);
		return r;
	}
	pthread_create(&client, NULL, client_main, b);
	host_apply(b->host, policy, applied, b);
	r = sd_event_loop(b->event);
	if (r == 0)
		pthread_join(client, NULL);
	return r ? r : b->result;
}

/* --- without a host --- */

static int make_alone(struct bench *b)
{
	for (unsigned i = 0; i < b->workers; i++) {
		struct worker_config c = { .index = i, .cpu = (int)b->cpu[i], .poll = WORKER_POLL_ALWAYS };
		int r = frontend_queue_make(b->front, i);

		b->hook[i].queue = &b->front->queue[i];
		if (!r)
			r = worker_create(&c, &b->hook[i].worker);
		if (r)
			return r;
	}
	return 0;
}

static int alone(struct bench *b)
{
	int r = with_front(b, make_alone);

	for (unsigned i = 0; i < b->workers; i++)
		worker_destroy(b->hook[i].worker);
	return r;
}

/* --- options --- */

static const struct argp_option table[] = {
	{ "cpus", 'c', "LIST", 0, "A worker on each of these CPUs (default 0)", 0 },
	{ "depth", 'd', "N", 0, "Requests in flight, each queue (default 32, at most 85)", 0 },
	{ "seconds", 's', "S", 0, "Measured time (default 1)", 0 },
	{ "ops", 'o', "N", 0, "Instead: stop after so many requests, each queue", 0 },
	{ "alone", 'a', NULL, 0, "Only the hook", 0 },
	{ "type", 't', "TYPE", 0, "Of the pool: null (default) or ram", 0 },
	{ "pool", 'p', "KEYS", 0, "Its other keys, as in a policy (default `slo: off')", 0 },
	{ "classes", 'C', "TEXT", 0, "The policy's classes", 0 },
	{ "vm", 'v', "KEYS", 0, "More of the VM than its disk", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench *b = state->input;
	int n;

	switch (key) {
	case 'c':
		n = cpus_parse(arg, b->cpu, HOOKS_MAX);
		if (n <= 0)
			argp_error(state, "--cpus: `%s'", arg);
		b->workers = (unsigned)n;
		return 0;
	case 'd':
		b->depth = (unsigned)strtoul(arg, NULL, 10);
		if (b->depth < 1 || b->depth > 85)
			argp_error(state, "--depth: 1 to 85");
		return 0;
	case 's':
		b->seconds = strtod(arg, NULL);
		return 0;
	case 'o':
		b->ops = strtoull(arg, NULL, 10);
		return 0;
	case 'a':
		b->alone = true;
		return 0;
	case 't':
		b->type = arg;
		return 0;
	case 'p':
		b->pool = arg;
		return 0;
	case 'C':
		b->classes = arg;
		return 0;
	case 'v':
		b->vm = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = { .options = table, .parser = parse, .doc = "Workers with their drivers on board." };
	static struct hook hooks[HOOKS_MAX];
	static struct bench b = { .hook = hooks, .workers = 1, .depth = 32, .seconds = 1, .type = "null",
				.pool = "slo: off", .classes = "", .vm = "" };
	int r;

	argp_parse(&argp, argc, argv, 0, NULL, &b);
	sem_init(&b.done, 0, 0);
	sem_init(&b.go, 0, 0);
	snprintf(b.socket, sizeof(b.socket), "/tmp/fairlead-hook-%d.sock", (int)getpid());
	r = b.alone ? alone(&b) : with_host(&b);
	if (r)
		fprintf(stderr, "fairlead-hook: %s\n", strerror(-r));
	return r != 0;
}
