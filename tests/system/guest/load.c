/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Load in a guest: threads that keep a number of requests in flight, each with its own I/O priority, and what each got.
 *
 *   load DEVICE SECONDS JOB...
 *   JOB: name=gold,op=read|write|flush|zeroes|discard,order=random|sequential,bytes=4096,most=0,depth=4,threads=2,
 *        ioprio=rt/4|be/0|idle|none,hint=0,nice=0,first=0,size=16777216,poll=0|1,warmup=0,rate=0
 *
 * Prints JSON: per thread ops, bytes, errors and latency percentiles, all counted inside the common window only: from
 * `warmup` seconds after all threads have begun until SECONDS later, or until it is told to end (SIGTERM). O_DIRECT through io_uring; poll=1 makes an IOPOLL ring.
 * Sizes are between `bytes` and `most`. Discards go one at a time, whatever the depth. A hint is left out where the kernel has none.
 * With a rate, a thread sends that many requests a second (depth of them in flight at most), and a request's latency counts
 * from when it was due: a device that is late cannot slow down its own examination. `late_us` is how late the thread itself
 * was, at worst: what the machine under the guest took from it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 256u
#define DEPTH_MAX 1024u
#define STEPS 16u /* linear steps per power of two: percentiles are at most 1/16 too high */
#define BUCKETS (60u * STEPS)
#define BATCH 32u

enum op { OP_READ, OP_WRITE, OP_FLUSH, OP_ZEROES, OP_DISCARD, OPS };

static const char *const op_name[OPS] = { "read", "write", "flush", "zeroes", "discard" };

struct job {
	char name[32];
	enum op op;
	bool sequential, poll;
	unsigned bytes, most, depth, threads, ioprio, hint;
	int nice;
	uint64_t first, size;
	double warmup, rate;
};

struct thread {
	struct job job;
	pthread_t id;
	uint64_t ops, bytes, errors, max_ns, sum_ns, random, cursor, late_ns;
	uint32_t bucket[BUCKETS];
	int error;
};

static struct thread thread[THREADS_MAX];
static unsigned n_threads;
static const char *device;
static double seconds;
static pthread_barrier_t begin;
static volatile sig_atomic_t told_to_end;

static void end(int number)
{
	told_to_end = number;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;

	if (ns < STEPS)
		return (unsigned)ns;
	shift = 63u - (unsigned)__builtin_clzll(ns) - 4;
	return (shift * STEPS) + (unsigned)(ns >> shift);
}

static uint64_t bucket_top(unsigned b)
{
	if (b < STEPS)
		return b;
	return (((uint64_t)(b % STEPS) + STEPS + 1) << (b / STEPS - 1)) - 1;
}

static double percentile_us(const struct thread *t, double share)
{
	uint64_t want = (uint64_t)((double)t->ops * share), seen = 0;

	for (unsigned b = 0; b < BUCKETS; b++) {
		seen += t->bucket[b];
		if (seen > want)
			return (double)(bucket_top(b) < t->max_ns ? bucket_top(b) : t->max_ns) / 1000;
	}
	return 0;
}

static uint64_t next_random(struct thread *t)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return t->random;
}

static uint64_t next_offset(struct thread *t)
{
	uint64_t slots = (t->job.size - t->job.most) / t->job.bytes + 1, slot;

	slot = t->job.sequential ? t->cursor++ % slots : next_random(t) % slots;
	return t->job.first + slot * t->job.bytes;
}

/* A multiple of the smallest. */
static unsigned next_bytes(struct thread *t)
{
	return t->job.bytes * (1 + (unsigned)(next_random(t) % (t->job.most / t->job.bytes)));
}

struct request {
	uint64_t began_ns;
	unsigned bytes; /* that the kernel returns when it is done */
	void *data;
	struct request *next_idle;
};

static void request_put(struct thread *t, struct io_uring *ring, int fd, struct request *r, uint64_t began_ns)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	unsigned bytes = next_bytes(t);

	r->began_ns = began_ns;
	r->bytes = t->job.op <= OP_WRITE ? bytes : 0;
	if (t->job.op == OP_READ)
		io_uring_prep_read(sqe, fd, r->data, bytes, next_offset(t));
	else if (t->job.op == OP_WRITE)
		io_uring_prep_write(sqe, fd, r->data, bytes, next_offset(t));
	else if (t->job.op == OP_FLUSH)
		io_uring_prep_fsync(sqe, fd, 0);
	else
		io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)next_offset(t), (off_t)bytes);
	io_uring_sqe_set_data(sqe, r);
}

static void request_count(struct thread *t, const struct request *r, int result, uint64_t window_ns)
{
	uint64_t now = now_ns(), took = now - r->began_ns;

	if (result != (int)r->bytes)
		t->errors++;
	if (now < window_ns || result != (int)r->bytes)
		return;
	t->ops++;
	t->bytes += r->bytes;
	t->bucket[bucket_of(took)]++;
	t->sum_ns += took;
	t->max_ns = took > t->max_ns ? took : t->max_ns;
}

/*
 * Keeps `depth` requests in flight until the window closes or one fails; what is then in flight is waited for and not
 * counted.
 */
static int thread_loop(struct thread *t, struct io_uring *ring, int fd, struct request *r)
{
	uint64_t open_ns, close_ns;
	unsigned in_flight = t->job.depth;
	struct io_uring_cqe *cqe[BATCH];

	pthread_barrier_wait(&begin);
	open_ns = now_ns() + (uint64_t)(t->job.warmup * 1e9);
	close_ns = open_ns + (uint64_t)(seconds * 1e9);
	for (unsigned i = 0; i < t->job.depth; i++)
		request_put(t, ring, fd, &r[i], now_ns());
	while (in_flight > 0) {
		int ret = io_uring_submit_and_wait(ring, 1);
		unsigned n;
		bool closed = t->errors || told_to_end || now_ns() >= close_ns;

		if (ret < 0 && ret != -EINTR)
			return ret;
		n = io_uring_peek_batch_cqe(ring, cqe, BATCH);
		for (unsigned i = 0; i < n; i++) {
			struct request *done = io_uring_cqe_get_data(cqe[i]);

			if (!closed)
				request_count(t, done, cqe[i]->res, open_ns);
			if (closed)
				in_flight--;
			else
				request_put(t, ring, fd, done, now_ns());
		}
		io_uring_cq_advance(ring, n);
	}
	return 0;
}

/* All that is due by now; how late that is counts from `open_ns` on. Returns how many. */
static unsigned put_due(struct thread *t, struct io_uring *ring, int fd, struct request **idle, uint64_t *due_ns, uint64_t open_ns)
{
	uint64_t now = now_ns();
	unsigned n = 0;

	for (; *idle && *due_ns <= now && n < BATCH; n++) {
		struct request *r = *idle;

		*idle = r->next_idle;
		if (*due_ns >= open_ns && now - *due_ns > t->late_ns)
			t->late_ns = now - *due_ns;
		request_put(t, ring, fd, r, *due_ns);
		*due_ns += (uint64_t)(1e9 / t->job.rate);
	}
	return n;
}

/* The same at a rate. */
static int thread_loop_open(struct thread *t, struct io_uring *ring, int fd, struct request *r)
{
	struct io_uring_cqe *cqe[BATCH];
	struct request *idle = NULL;
	uint64_t due_ns, open_ns, close_ns;
	unsigned idle_n = 0;
	bool closed = false;

	pthread_barrier_wait(&begin);
	due_ns = now_ns();
	open_ns = due_ns + (uint64_t)(t->job.warmup * 1e9);
	close_ns = open_ns + (uint64_t)(seconds * 1e9);
	for (; idle_n < t->job.depth; idle_n++) {
		r[idle_n].next_idle = idle;
		idle = &r[idle_n];
	}
	while (!closed || idle_n < t->job.depth) {
		struct __kernel_timespec wait = {0};
		uint64_t now;
		unsigned n;
		int ret;

		if (!closed)
			idle_n -= put_due(t, ring, fd, &idle, &due_ns, open_ns);
		now = now_ns();
		wait.tv_nsec = closed || !idle ? 10000000 : due_ns > now ? (long long)(due_ns - now) % 1000000000 : 0;
		ret = io_uring_submit_and_wait_timeout(ring, cqe, 1, &wait, NULL);
		if (ret < 0 && ret != -ETIME && ret != -EINTR)
			return ret;
		n = io_uring_peek_batch_cqe(ring, cqe, BATCH);
		closed = closed || t->errors || told_to_end || now_ns() >= close_ns;
		for (unsigned i = 0; i < n; i++) {
			struct request *done = io_uring_cqe_get_data(cqe[i]);

			if (!closed)
				request_count(t, done, cqe[i]->res, open_ns);
			done->next_idle = idle;
			idle = done;
			idle_n++;
		}
		io_uring_cq_advance(ring, n);
	}
	return 0;
}

static int thread_loop_discard(struct thread *t, int fd)
{
	uint64_t open_ns, close_ns;

	pthread_barrier_wait(&begin);
	open_ns = now_ns() + (uint64_t)(t->job.warmup * 1e9);
	close_ns = open_ns + (uint64_t)(seconds * 1e9);
	while (!told_to_end && now_ns() < close_ns) {
		uint64_t range[2] = { next_offset(t), next_bytes(t) };
		struct request r = { .began_ns = now_ns() };

		if (ioctl(fd, BLKDISCARD, range) < 0)
			return -errno;
		request_count(t, &r, 0, open_ns);
	}
	return 0;
}

static int thread_run(struct thread *t, struct io_uring *ring, int fd, struct request *r)
{
	if (t->job.op == OP_DISCARD)
		return thread_loop_discard(t, fd);
	return t->job.rate > 0 ? thread_loop_open(t, ring, fd, r) : thread_loop(t, ring, fd, r);
}

/* As important as the guest's kernel lets it be. */
static int thread_rank(const struct job *j)
{
	if (j->nice && setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), j->nice))
		return -errno;
	if (!j->ioprio || (j->hint && !syscall(SYS_ioprio_set, 1, 0, j->ioprio | j->hint << 3)))
		return 0;
	return syscall(SYS_ioprio_set, 1, 0, j->ioprio) ? -errno : 0;
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct request *r = calloc(t->job.depth, sizeof(*r));
	struct io_uring ring;
	int fd = open(device, O_RDWR | O_DIRECT);

	if (fd < 0)
		fd = open(device, O_RDONLY | O_DIRECT);
	if (fd < 0)
		t->error = -errno;
	else
		t->error = io_uring_queue_init(t->job.depth, &ring, t->job.poll ? IORING_SETUP_IOPOLL : 0);
	if (!t->error)
		t->error = thread_rank(&t->job);
	for (unsigned i = 0; r && i < t->job.depth; i++) {
		if (t->job.op > OP_WRITE)
			break;
		r[i].data = aligned_alloc(4096, (t->job.most + 4095u) & ~4095u);
		if (r[i].data)
			memset(r[i].data, (int)i + 1, t->job.most);
	}
	if (t->error)
		pthread_barrier_wait(&begin);
	else
		t->error = thread_run(t, &ring, fd, r);
	return NULL;
}

static unsigned ioprio_parse(const char *text)
{
	unsigned level = 4;

	if (sscanf(text, "rt/%u", &level) == 1 || strcmp(text, "rt") == 0)
		return 1u << 13 | level;
	if (sscanf(text, "be/%u", &level) == 1 || strcmp(text, "be") == 0)
		return 2u << 13 | level;
	return strcmp(text, "idle") == 0 ? 3u << 13 : 0;
}

static bool op_parse(const char *text, enum op *ret)
{
	for (enum op op = 0; op < OPS; op++)
		if (strcmp(text, op_name[op]) == 0) {
			*ret = op;
			return true;
		}
	return false;
}

static bool job_set(struct job *j, const char *key, const char *value)
{
	uint64_t number = strtoull(value, NULL, 0);

	if (strcmp(key, "name") == 0)
		snprintf(j->name, sizeof(j->name), "%s", value);
	else if (strcmp(key, "op") == 0)
		return op_parse(value, &j->op);
	else if (strcmp(key, "order") == 0)
		j->sequential = strcmp(value, "sequential") == 0;
	else if (strcmp(key, "poll") == 0)
		j->poll = number != 0;
	else if (strcmp(key, "bytes") == 0)
		j->bytes = (unsigned)number;
	else if (strcmp(key, "most") == 0)
		j->most = (unsigned)number;
	else if (strcmp(key, "hint") == 0)
		j->hint = (unsigned)number;
	else if (strcmp(key, "nice") == 0)
		j->nice = atoi(value);
	else if (strcmp(key, "depth") == 0)
		j->depth = number > DEPTH_MAX ? DEPTH_MAX : (unsigned)number;
	else if (strcmp(key, "threads") == 0)
		j->threads = (unsigned)number;
	else if (strcmp(key, "ioprio") == 0)
		j->ioprio = ioprio_parse(value);
	else if (strcmp(key, "first") == 0)
		j->first = number;
	else if (strcmp(key, "size") == 0)
		j->size = number;
	else if (strcmp(key, "rate") == 0)
		j->rate = strtod(value, NULL);
	else if (strcmp(key, "warmup") == 0)
		j->warmup = strtod(value, NULL);
	else
		return false;
	return true;
}

static bool job_add(char *text)
{
	struct job j = {.name = "job", .bytes = 4096, .depth = 1, .threads = 1, .size = 16 << 20};
	char *save, *word;

	for (word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *value = strchr(word, '=');

		if (!value)
			return false;
		*value++ = '\0';
		if (!job_set(&j, word, value))
			return false;
	}
	j.most = j.most > j.bytes ? j.most : j.bytes;
	if (j.bytes == 0 || j.depth == 0 || j.size < j.most)
		return false;
	for (unsigned i = 0; i < j.threads && n_threads < THREADS_MAX; i++) {
		thread[n_threads].job = j;
		thread[n_threads].random = (n_threads + 1) * UINT64_C(0x9e3779b97f4a7c15);
		n_threads++;
	}
	return true;
}

static int report(void)
{
	int failed = 0;

	printf("{\"seconds\": %g, \"threads\": [", seconds);
	for (unsigned i = 0; i < n_threads; i++) {
		const struct thread *t = &thread[i];

		failed |= t->error || t->errors;
		printf("%s{\"name\": \"%s\", \"ops\": %llu, \"bytes\": %llu, \"errors\": %llu, \"error\": \"%s\", "
		       "\"mean_us\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"late_us\": %.1f}",
		       i ? ", " : "", t->job.name, (unsigned long long)t->ops,
		       (unsigned long long)t->bytes, (unsigned long long)t->errors,
		       t->error ? strerror(-t->error) : "", t->ops ? (double)t->sum_ns / (double)t->ops / 1000 : 0,
		       percentile_us(t, 0.5), percentile_us(t, 0.99), (double)t->max_ns / 1000,
		       (double)t->late_ns / 1000);
	}
	printf("]}\n");
	return failed;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: load DEVICE SECONDS JOB...\n");
		return 64;
	}
	device = argv[1];
	seconds = strtod(argv[2], NULL);
	for (int i = 3; i < argc; i++)
		if (!job_add(argv[i])) {
			fprintf(stderr, "load: cannot read job %d near '%s'\n", i - 2, argv[i]);
			return 64;
		}
	signal(SIGTERM, end);
	pthread_barrier_init(&begin, NULL, n_threads);
	for (unsigned i = 0; i < n_threads; i++)
		if (pthread_create(&thread[i].id, NULL, thread_main, &thread[i])) {
			perror("pthread_create");
			return 1;
		}
	for (unsigned i = 0; i < n_threads; i++)
		pthread_join(thread[i].id, NULL);
	return report();
}
