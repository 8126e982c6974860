/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Description: files and block devices as disks: what is opened and what refused, QEMU's lock against ourselves and
 * against qemu-img where there is one, ragged and short files, memory that is not aligned, files let go of when a disk
 * is closed.
 */
#include "store_driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MIB (UINT64_C(1) << 20)

static char dir[] = "/var/tmp/fairlead-test-XXXXXX";
static struct worker *w;
static struct store_pool *pool;

static const char *in_dir(const char *name)
{
	static char path[8][160];
	static unsigned next;
	char *p = path[next++ % ARRAY_SIZE(path)];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static int open_disk(const char *image, uint64_t size, bool read_only, struct store_disk **ret)
{
	return store_disk_open(pool, &(struct store_disk_options){ .name = "d", .image = image, .size_bytes = size,
								   .read_only = read_only, .fd = -1 }, ret);
}

static void make_file(const char *name, const void *data, size_t bytes)
{
	int fd = open(in_dir(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
}

static void *pages(size_t bytes)
{
	size_t whole = (bytes + 4095) / 4096 * 4096;
	void *p = aligned_alloc(4096, whole);

	assert_non_null(p);
	memset(p, 0x5a, whole);
	return p;
}

/* --- opening --- */

static void images_are_made_sparse(void **state)
{
	struct store_disk *d;
	struct stat st;

	(void)state;
	assert_int_equal(open_disk("new.raw", 0, false, &d), -ENOENT);
	assert_int_equal(open_disk("new.raw", 64 * MIB, true, &d), -ENOENT);
	assert_int_equal(open_disk("new.raw", 64 * MIB, false, &d), 0);
	assert_int_equal(d->size_bytes, 64 * MIB);
	assert_int_equal(stat(in_dir("new.raw"), &st), 0);
	assert_int_equal(st.st_size, 64 * MIB);
	assert_true(st.st_blocks * 512 < (blkcnt_t)MIB);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(store_disk_resize(d, 96 * MIB), 0);
	assert_int_equal(d->size_bytes, 96 * MIB);
	store_disk_close(d);
	/* An image that exists keeps its size. */
	assert_int_equal(open_disk("new.raw", 64 * MIB, false, &d), 0);
	assert_int_equal(d->size_bytes, 96 * MIB);
	store_disk_close(d);
	/* Its maker was interrupted. */
	make_file("empty.raw", "", 0);
	assert_int_equal(open_disk("empty.raw", 0, false, &d), -EINVAL);
	assert_int_equal(open_disk("empty.raw", MIB, false, &d), 0);
	assert_int_equal(d->size_bytes, MIB);
	store_disk_close(d);
}

/* Taken back is only what opening has made, and nobody has written to, or uses. */
static void images_are_unmade(void **state)
{
	struct store_disk *d;
	struct stat st;
	uint8_t *data = pages(4096);
	int fd;

	(void)state;
	assert_int_equal(open_disk("unmade.raw", MIB, false, &d), 0);
	store_disk_unmake(d);
	store_disk_close(d);
	assert_int_equal(access(in_dir("unmade.raw"), F_OK), -1);
	/* It was there. */
	assert_int_equal(open_disk("kept.raw", MIB, false, &d), 0);
	store_disk_close(d);
	assert_int_equal(open_disk("kept.raw", MIB, false, &d), 0);
	store_disk_unmake(d);
	store_disk_close(d);
	assert_int_equal(access(in_dir("kept.raw"), F_OK), 0);
	/* It has data. */
	assert_int_equal(open_disk("written.raw", MIB, false, &d), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, data, 4096, 0, NULL), 0);
	store_disk_unmake(d);
	store_disk_close(d);
	assert_int_equal(access(in_dir("written.raw"), F_OK), 0);
	/* It is another one by now. */
	assert_int_equal(open_disk("replaced.raw", MIB, false, &d), 0);
	assert_int_equal(unlink(in_dir("replaced.raw")), 0);
	make_file("replaced.raw", data, 4096);
	store_disk_unmake(d);
	store_disk_close(d);
	assert_int_equal(stat(in_dir("replaced.raw"), &st), 0);
	assert_int_equal(st.st_size, 4096);
	/* Somebody else has it. */
	assert_int_equal(open_disk("used.raw", MIB, false, &d), 0);
	fd = open(in_dir("used.raw"), O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &(struct flock){ .l_type = F_RDLCK, .l_start = 201, .l_len = 1 }), 0);
	store_disk_unmake(d);
	store_disk_close(d);
	assert_int_equal(access(in_dir("used.raw"), F_OK), 0);
	close(fd);
	free(data);
}

static void images_stay_beneath_their_folder(void **state)
{
	static const struct {
		const char *path;
		int result;
	} bad[] = {
		{ "../outside.raw", -EXDEV },	 { "sub/../../outside.raw", -EXDEV }, { "/etc/passwd", -EXDEV },
		{ "absolute-link", -EXDEV },	 { "relative-link", -EXDEV },	      { "dir-link/passwd", -EXDEV },
		{ "magic", -EXDEV },		 { "sub", -EISDIR },		      { "pipe", -EINVAL },
		{ "missing/x.raw", -ENOENT },	 { "loop", -ELOOP },		      { "", -ENOENT },
	};
	struct store_disk *d = NULL;

	(void)state;
	assert_int_equal(mkdir(in_dir("sub"), 0700), 0);
	make_file("sub/good.raw", dir, sizeof(dir));
	assert_int_equal(symlink("/etc/passwd", in_dir("absolute-link")), 0);
	assert_int_equal(symlink("../../../etc/passwd", in_dir("relative-link")), 0);
	assert_int_equal(symlink("/etc", in_dir("dir-link")), 0);
	assert_int_equal(symlink("/proc/self/fd/0", in_dir("magic")), 0);
	assert_int_equal(symlink("loop", in_dir("loop")), 0);
	assert_int_equal(symlink("sub/good.raw", in_dir("good-link")), 0);
	assert_int_equal(mkfifo(in_dir("pipe"), 0600), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(open_disk(bad[i].path, 0, false, &d), bad[i].result);
		assert_null(d);
	}
	/* Neither are new images made outside. */
	assert_int_equal(open_disk("../outside.raw", MIB, false, &d), -EXDEV);
	assert_int_equal(access(in_dir("../outside.raw"), F_OK), -1);
	assert_int_equal(open_disk("good-link", 0, false, &d), 0);
	store_disk_close(d);
	assert_int_equal(open_disk("sub/../sub/good.raw", 0, false, &d), 0);
	store_disk_close(d);
}

static void given_fds_are_checked(void **state)
{
	struct store_disk_options options = { .name = "d" };
	struct store_disk *d = NULL;
	char *buf = pages(4096);

	(void)state;
	make_file("given.raw", buf, 4096);
	options.fd = open(in_dir("given.raw"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(store_disk_open(pool, &options, &d), -EACCES);
	options.read_only = true;
	assert_int_equal(store_disk_open(pool, &options, &d), 0);
	memset(buf, 0, 4096);
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, 4096, 0, NULL), 0);
	assert_int_equal(buf[4095], 0x5a);
	assert_int_equal(store_disk_resize(d, 8192), -EROFS);
	store_disk_close(d);
	assert_true(fcntl(options.fd, F_GETFD) >= 0); /* still the caller's */
	close(options.fd);
	options.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(store_disk_open(pool, &options, &d), -EINVAL);
	close(options.fd);
	free(buf);
}

/* --- locks --- */

static void locks_among_ourselves(void **state)
{
	struct store_disk *rw, *rw2, *ro, *ro2;

	(void)state;
	assert_int_equal(open_disk("lock.raw", MIB, false, &rw), 0);
	assert_int_equal(open_disk("lock.raw", 0, false, &rw2), 0);
	assert_int_equal(open_disk("lock.raw", 0, true, &ro), 0);
	assert_int_equal(open_disk("lock.raw", 0, true, &ro2), 0);
	assert_int_equal(store_disk_lock(rw), 0);
	assert_int_equal(store_disk_lock(rw2), -EAGAIN);
	assert_int_equal(store_disk_lock(ro), -EAGAIN);
	store_disk_unlock(rw);
	assert_int_equal(store_disk_lock(ro), 0);
	assert_int_equal(store_disk_lock(ro2), 0);
	assert_int_equal(store_disk_lock(rw2), -EAGAIN);
	store_disk_unlock(ro);
	assert_int_equal(store_disk_lock(rw2), -EAGAIN);
	store_disk_close(ro2); /* closing unlocks */
	assert_int_equal(store_disk_lock(rw2), 0);
	store_disk_close(rw2);
	assert_int_equal(store_disk_lock(rw), 0);
	store_disk_close(rw);
	store_disk_close(ro);
}

/* Runs a command; its output ends up in `out`. Returns its exit status. */
static int run_command(const char *command, char *out, size_t size)
{
	FILE *f = popen(command, "re");
	size_t n;
	int status;

	assert_non_null(f);
	n = fread(out, 1, size - 1, f);
	out[n] = 0;
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void locks_against_qemu(void **state)
{
	char command[768], out[4096];
	struct store_disk *d;

	(void)state;
	if (run_command("command -v qemu-img qemu-io", out, sizeof(out)) != 0) {
		print_message("no qemu-img and qemu-io here\n");
		skip();
	}
	assert_int_equal(open_disk("qemu.raw", MIB, false, &d), 0);
	/* Not `info`: it reads nothing of a raw image and so asks for no lock. */
	snprintf(command, sizeof(command), "qemu-img convert -f raw -O raw %s %s 2>&1", in_dir("qemu.raw"),
		 in_dir("copy.raw"));
	assert_int_equal(run_command(command, out, sizeof(out)), 0);
	assert_int_equal(store_disk_lock(d), 0);
	assert_int_not_equal(run_command(command, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "Failed to get shared \"write\" lock"));
	snprintf(command, sizeof(command), "qemu-io -f raw -c 'write 0 4k' %s 2>&1", in_dir("qemu.raw"));
	assert_int_not_equal(run_command(command, out, sizeof(out)), 0);
	assert_non_null(strstr(out, "Failed to get \"write\" lock"));
	store_disk_unlock(d);
	assert_int_equal(run_command(command, out, sizeof(out)), 0);
	store_disk_close(d);
}

/* The other way round: qemu-io has the image open, for writing, until its standard input ends. */
static void qemu_locks_against_us(void **state)
{
	char command[512], out[64], line[256];
	struct store_disk *d;
	FILE *f;
	int reply;

	(void)state;
	if (run_command("command -v qemu-io", out, sizeof(out)) != 0) {
		print_message("no qemu-io here\n");
		skip();
	}
	assert_int_equal(open_disk("qemu2.raw", MIB, false, &d), 0);
	assert_int_equal(mkfifo(in_dir("says"), 0600), 0);
	snprintf(command, sizeof(command), "qemu-io -f raw %s > %s", in_dir("qemu2.raw"), in_dir("says"));
	f = popen(command, "we");
	assert_non_null(f);
	fputs("read 0 512\n", f);
	fflush(f);
	reply = open(in_dir("says"), O_RDONLY | O_CLOEXEC);
	assert_true(reply >= 0 && read(reply, line, sizeof(line)) > 0); /* it has read: it is open */
	assert_int_equal(store_disk_lock(d), -EAGAIN);
	fputs("quit\n", f);
	pclose(f);
	close(reply);
	assert_int_equal(store_disk_lock(d), 0);
	store_disk_close(d);
}

/* --- data --- */

static void a_ragged_end_is_rounded_up(void **state)
{
	uint8_t *buf = pages(8192), *data = pages(2500);
	struct store_disk *d;
	struct stat st;

	(void)state;
	make_file("ragged.raw", data, 2500);
	assert_int_equal(open_disk("ragged.raw", 0, false, &d), 0);
	assert_int_equal(d->size_bytes % d->limits.block_size, 0);
	if (d->limits.block_size == 512) {
		assert_int_equal(d->size_bytes, 2560);
		memset(buf, 1, 2560);
		assert_int_equal(one_io(w, d, STORE_READ, 0, buf, 2560, 0, NULL), 0);
		assert_memory_equal(buf, data, 2500);
		for (unsigned i = 2500; i < 2560; i++)
			assert_int_equal(buf[i], 0);
		assert_int_equal(one_io(w, d, STORE_WRITE, 2048, buf, 512, 0, NULL), 0);
		assert_int_equal(stat(in_dir("ragged.raw"), &st), 0);
		assert_int_equal(st.st_size, 2560);
	}
	store_disk_close(d);
	free(buf);
	free(data);
}

/* Somebody else cut the file: what is missing reads as zeroes. */
static void a_file_cut_short_reads_as_zeroes(void **state)
{
	uint8_t *buf = pages(MIB);
	struct store_disk *d;

	(void)state;
	assert_int_equal(open_disk("short.raw", MIB, false, &d), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, buf, MIB, 0, NULL), 0);
	assert_int_equal(truncate(in_dir("short.raw"), MIB / 2), 0);
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, MIB, 0, NULL), 0);
	assert_int_equal(buf[MIB / 2 - 1], 0x5a);
	for (size_t i = MIB / 2; i < MIB; i++)
		assert_int_equal(buf[i], 0);
	store_disk_close(d);
	free(buf);
}

/* More requests than there are bounce buffers, each larger than one, so that they wait and go piece by piece. */
static void unaligned_memory_is_bounced(void **state)
{
	uint8_t *area = pages(2 * MIB), *buf = area + 3;
	struct store_counters c;
	struct store_disk *d;

	(void)state;
	assert_int_equal(open_disk("unaligned.raw", 4 * MIB, false, &d), 0);
	for (size_t i = 0; i < MIB; i++)
		buf[i] = (uint8_t)(i * 7 + i / 512);
	assert_int_equal(one_io(w, d, STORE_WRITE, MIB, buf, MIB, STORE_FUA, &c), 0);
	assert_int_equal(c.bounced, d->limits.buffered ? 0 : 1);
	memset(area, 0, 2 * MIB);
	assert_int_equal(one_io(w, d, STORE_READ, MIB, buf, MIB, 0, NULL), 0);
	for (size_t i = 0; i < MIB; i++)
		assert_int_equal(buf[i], (uint8_t)(i * 7 + i / 512));
	store_disk_close(d);
	free(area);
}

struct crowd {
	struct store_disk *d;
	struct store_channel *channel;
	struct store_counters counters;
	struct worker_source source;
	struct {
		struct store_io io;
		struct iovec iov;
	} one[64];
	unsigned finished, errors;
	bool done;
};

static struct crowd *crowd_now;

static void crowd_io_done(struct store_io *io, int result)
{
	crowd_now->errors += result != 0;
	crowd_now->finished++;
	worker_source_wake(&crowd_now->source);
}

static unsigned crowd_poll(struct worker_source *s, uint64_t now_ns)
{
	struct crowd *c = container_of(s, struct crowd, source);

	if (c->finished < ARRAY_SIZE(c->one))
		return 0;
	worker_source_remove(s);
	store_channel_close(c->channel);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return 1;
}

static const struct worker_source_ops crowd_ops = { .poll = crowd_poll, .arm = driver_arm };

static void crowd_begin(struct worker *worker, void *arg)
{
	struct crowd *c = arg;
	int r = store_channel_open(c->d->pool, worker, &c->counters, &c->channel);

	assert(r == 0);
	(void)r;
	c->source.ops = &crowd_ops;
	worker_source_add(worker, &c->source);
	for (unsigned i = 0; i < ARRAY_SIZE(c->one); i++)
		store_submit(c->channel, &c->one[i].io);
}

static void bounce_buffers_run_out(void **state)
{
	const size_t bytes = 384 << 10;
	uint8_t *area = pages(64 * bytes + 1), *check = pages(64 * bytes);
	struct crowd c = { 0 };

	(void)state;
	assert_int_equal(open_disk("crowd.raw", 64 * bytes, false, &c.d), 0);
	crowd_now = &c;
	for (size_t i = 0; i < 64 * bytes; i++)
		area[1 + i] = (uint8_t)(i * 13 + i / 4096);
	for (unsigned i = 0; i < ARRAY_SIZE(c.one); i++) {
		c.one[i].iov = (struct iovec){ .iov_base = area + 1 + i * bytes, .iov_len = bytes };
		c.one[i].io = (struct store_io){ .op = STORE_WRITE, .iov = &c.one[i].iov, .iovcnt = 1, .disk = c.d,
						 .offset_bytes = i * bytes, .length_bytes = bytes,
						 .done = crowd_io_done };
	}
	on_worker(w, crowd_begin, &c);
	wait_until(&c.done);
	assert_int_equal(c.errors, 0);
	assert_int_equal(one_io(w, c.d, STORE_READ, 0, check, 64 * bytes, 0, NULL), 0);
	assert_memory_equal(check, area + 1, 64 * bytes);
	store_disk_close(c.d);
	free(area);
	free(check);
}

static void write_errors_are_reported(void **state)
{
	struct store_disk_options options = { .name = "d" };
	struct store_disk *d;
	struct store_counters c;
	char *buf = pages(4096);
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_true(fd >= 0 && ftruncate(fd, 8192) == 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	options.fd = fd;
	assert_int_equal(store_disk_open(pool, &options, &d), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, buf, 4096, 0, &c), -EPERM);
	assert_int_equal(c.errors, 1);
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, 4096, 0, &c), 0);
	store_disk_close(d);
	close(fd);
	free(buf);
}

static void holes_are_punched(void **state)
{
	struct store_disk *d;
	struct stat before, after;
	char *buf = pages(4 * MIB);

	(void)state;
	assert_int_equal(open_disk("holes.raw", 4 * MIB, false, &d), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, buf, 4 * MIB, 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_FLUSH, 0, NULL, 0, 0, NULL), 0);
	assert_int_equal(stat(in_dir("holes.raw"), &before), 0);
	assert_int_equal(one_io(w, d, STORE_DISCARD, 0, NULL, 2 * MIB, 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE_ZEROES, 2 * MIB, NULL, MIB, STORE_UNMAP, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE_ZEROES, 3 * MIB, NULL, MIB / 2, STORE_FUA, NULL), 0);
	assert_int_equal(stat(in_dir("holes.raw"), &after), 0);
	assert_true((before.st_blocks - after.st_blocks) * 512 >= (blkcnt_t)(2 * MIB));
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, 4 * MIB, 0, NULL), 0);
	for (size_t i = 0; i < 4 * MIB; i++)
		assert_int_equal(buf[i], i < 3 * MIB + MIB / 2 ? 0 : 0x5a);
	store_disk_close(d);
	free(buf);
}

/* --- lifetimes --- */

static unsigned open_fds(const char *name)
{
	char path[64], target[256];
	struct dirent *e;
	unsigned n = 0;
	DIR *fds = opendir("/proc/self/fd");

	while ((e = readdir(fds))) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", e->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len > 0) {
			target[len] = 0;
			n += strstr(target, name) != NULL;
		}
	}
	closedir(fds);
	return n;
}

static void hold_channel(struct worker *worker, void *arg)
{
	static struct store_counters counters;
	struct store_channel **c = arg;
	int r = store_channel_open(pool, worker, &counters, c);

	assert(r == 0);
	(void)r;
}

static void drop_channel(struct worker *worker, void *arg)
{
	store_channel_close(*(struct store_channel **)arg);
}

static void barrier(struct worker *worker, void *arg)
{
}

struct lasting {
	struct one_io o;
	struct store_channel *channel;
};

static void lasting_done(struct store_io *io, int result)
{
	struct one_io *o = container_of(io, struct one_io, io);

	o->result = result;
	__atomic_store_n(&o->done, true, __ATOMIC_RELEASE);
}

static void lasting_submit(struct worker *worker, void *arg)
{
	struct lasting *l = arg;

	store_submit(l->channel, &l->o.io);
}

/* A worker that served a disk must not keep its file: seen by its lock-free space, a deleted file's blocks. */
static void closed_disks_are_let_go(void **state)
{
	struct store_channel *c = NULL;
	char *buf = pages(4096);

	(void)state;
	on_worker(w, hold_channel, &c);
	for (unsigned i = 0; i < 3000; i++) {
		struct iovec iov = { buf, 4096 };
		struct lasting l = { .channel = c };
		struct store_disk *d;

		assert_int_equal(open_disk("cycle.raw", MIB, false, &d), 0);
		assert_int_equal(store_disk_lock(d), 0);
		l.o.io = (struct store_io){ .op = STORE_READ, .iov = &iov, .iovcnt = 1, .length_bytes = 4096, .disk = d,
					    .done = lasting_done };
		on_worker(w, lasting_submit, &l);
		wait_until(&l.o.done);
		assert_int_equal(l.o.result, 0);
		/* Never more than the table holds, and the lock is free at once. */
		store_disk_close(d);
	}
	on_worker(w, barrier, NULL);
	on_worker(w, drop_channel, &c);
	assert_int_equal(open_fds("cycle.raw"), 0);
	free(buf);
}

/* --- block devices --- */

static int loop_device(const char *file, char *path, size_t size)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n, fd, back;

	if (control < 0)
		return -1;
	n = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (n < 0)
		return -1;
	snprintf(path, size, "/dev/loop%d", n);
	fd = open(path, O_RDWR | O_CLOEXEC);
	back = open(file, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_SET_FD, back) < 0) {
		close(fd);
		fd = -1;
	}
	close(back);
	return fd;
}

static void block_devices_are_served(void **state)
{
	struct store_pool_options pool_options = { .name = "p", .type = "file", .directory = "/dev" };
	struct store_disk_options options = { .name = "d", .fd = -1 };
	struct store_disk *d, *image;
	struct store_pool *dev = NULL;
	char path[64], *buf = pages(2 * MIB);
	int fd;

	(void)state;
	assert_int_equal(open_disk("loop.raw", 4 * MIB, false, &image), 0);
	store_disk_close(image);
	fd = loop_device(in_dir("loop.raw"), path, sizeof(path));
	if (fd < 0) {
		print_message("no loop devices here\n");
		skip();
	}
	options.image = path + strlen("/dev/");
	assert_int_equal(store_pool_create(&pool_options, &dev), 0);
	assert_int_equal(store_disk_open(dev, &options, &d), 0);
	assert_int_equal(d->size_bytes, 4 * MIB);
	assert_int_equal(store_disk_lock(d), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE, 0, buf, 2 * MIB, STORE_FUA, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE_ZEROES, 0, NULL, MIB, STORE_UNMAP, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_WRITE_ZEROES, MIB, NULL, MIB / 2, 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_DISCARD, 3 * MIB, NULL, MIB, 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_FLUSH, 0, NULL, 0, 0, NULL), 0);
	assert_int_equal(one_io(w, d, STORE_READ, 0, buf, 2 * MIB, 0, NULL), 0);
	for (size_t i = 0; i < 2 * MIB; i++)
		assert_int_equal(buf[i], i < MIB + MIB / 2 ? 0 : 0x5a);
	assert_int_equal(store_disk_resize(d, 8 * MIB), -ENOSPC);
	store_disk_close(d);
	store_pool_destroy(dev);
	ioctl(fd, LOOP_CLR_FD, 0);
	close(fd);
	free(buf);
}

static int set_up(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	w = new_worker(0, WORKER_POLL_ADAPTIVE);
	return store_pool_create(&(struct store_pool_options){ .name = "p", .type = "file", .directory = dir }, &pool);
}

static int tear_down(void **state)
{
	char command[128];

	store_pool_destroy(pool);
	worker_destroy(w);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_are_made_sparse),
		cmocka_unit_test(images_are_unmade),
		cmocka_unit_test(images_stay_beneath_their_folder),
		cmocka_unit_test(given_fds_are_checked),
		cmocka_unit_test(locks_among_ourselves),
		cmocka_unit_test(locks_against_qemu),
		cmocka_unit_test(qemu_locks_against_us),
		cmocka_unit_test(a_ragged_end_is_rounded_up),
		cmocka_unit_test(a_file_cut_short_reads_as_zeroes),
		cmocka_unit_test(unaligned_memory_is_bounced),
		cmocka_unit_test(bounce_buffers_run_out),
		cmocka_unit_test(write_errors_are_reported),
		cmocka_unit_test(holes_are_punched),
		cmocka_unit_test(closed_disks_are_let_go),
		cmocka_unit_test(block_devices_are_served),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
