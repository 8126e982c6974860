/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How an image in memory is mapped, grows and shrinks while workers read it without locks.
 *
 * An image is one memory file. It is mapped through a *window* that is larger than the image, so that growing is
 * ftruncate alone; past the window's end a larger one is mapped and published, and the old one stays until the image is
 * freed: both show the same pages, so whoever still copies through the old one does no harm. The file never shrinks,
 * because a worker in the midst of a copy would fault: shrinking punches a hole instead, and so does growing again,
 * since such a copy may have come after the first punch.
 */
#include "store/memory.h"
#include "store/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>

#define HUGE_BYTES (UINT64_C(2) << 20)
/* Address space is free; 64 GiB of it for each of 256 disks is an eighth of what a process has. */
#define WINDOW_MIN (UINT64_C(64) << 30)
/* Up to here zeroing in place takes no longer than a system call. */
#define ZERO_INLINE_BYTES (64u << 10)

struct memory_window {
	struct memory_window *older;
	uint8_t *base;
	uint64_t bytes;
};

static uint64_t round_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) / to * to;
}

/* Free huge pages that nobody has reserved, in bytes. */
static uint64_t huge_bytes_free(void)
{
	char line[128];
	unsigned long long n, free_pages = 0, reserved = 0, kib = 0;
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "HugePages_Free: %llu", &n) == 1)
			free_pages = n;
		else if (sscanf(line, "HugePages_Rsvd: %llu", &n) == 1)
			reserved = n;
		else if (sscanf(line, "Hugepagesize: %llu", &n) == 1)
			kib = n;
	}
	fclose(f);
	if (kib * 1024 != HUGE_BYTES || reserved > free_pages)
		return 0;
	return (free_pages - reserved) * HUGE_BYTES;
}

static uint64_t window_bytes(const struct memory_image *i, uint64_t size_bytes)
{
	/* Huge pages are reserved by the mapping, all of them: then a fault can never fail. So no spare room. */
	if (i->huge)
		return round_up(size_bytes, HUGE_BYTES);
	return max_u64(WINDOW_MIN, round_up(size_bytes * 2, HUGE_BYTES));
}

static int window_map(struct memory_image *i, uint64_t size_bytes)
{
	struct memory_window *w;
	void *base;

	if (i->windows && size_bytes <= i->windows->bytes)
		return 0;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->bytes = window_bytes(i, size_bytes);
	base = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (i->huge ? 0 : MAP_NORESERVE), i->fd, 0);
	if (base == MAP_FAILED) {
		int r = -errno;

		free(w);
		return r;
	}
	/* Advice only: a core dump needs no disks, and large pages where the host gives them to shared memory. */
	(void)madvise(base, w->bytes, MADV_DONTDUMP);
	(void)madvise(base, w->bytes, MADV_HUGEPAGE);
	w->base = base;
	w->older = i->windows;
	i->windows = w;
	/* Pairs with image_at(). */
	store_release(&i->base, w->base);
	return 0;
}

static void image_free(struct memory_image *i)
{
	while (i->windows) {
		struct memory_window *w = i->windows;

		i->windows = w->older;
		munmap(w->base, w->bytes);
		free(w);
	}
	if (i->fd >= 0)
		close(i->fd);
	free(i->name);
	free(i);
}

static int punch(struct memory_image *i, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 0;
	if (fallocate(i->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) < 0)
		return -errno;
	return 0;
}

static int image_resize(struct memory_image *i, uint64_t size_bytes)
{
	uint64_t file_bytes = i->huge ? round_up(size_bytes, HUGE_BYTES) : size_bytes;
	off_t had = lseek(i->fd, 0, SEEK_END);
	int r;

	if (size_bytes > INT64_MAX / 4)
		return -EFBIG;
	r = punch(i, min_u64(size_bytes, i->size_bytes), (uint64_t)had);
	if (r < 0)
		return r;
	if (file_bytes > (uint64_t)had && ftruncate(i->fd, (off_t)file_bytes) < 0)
		return -errno;
	r = window_map(i, size_bytes);
	if (r < 0)
		return r;
	i->size_bytes = size_bytes;
	return 0;
}

static int image_new(struct memory_image **ret, const char *name, uint64_t size_bytes, bool huge)
{
	struct memory_image *i = calloc(1, sizeof(*i));
	int r;

	if (!i)
		return -ENOMEM;
	i->huge = huge;
	i->name = strdup(name);
	i->fd = memfd_create("fairlead-disk", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (!i->name)
		r = -ENOMEM;
	else if (i->fd < 0)
		r = -errno;
	else
		r = image_resize(i, size_bytes);
	if (r < 0) {
		image_free(i);
		return r;
	}
	*ret = i;
	return 0;
}

static int image_create(struct memory_pool *p, const char *name, uint64_t size_bytes, struct memory_image **ret)
{
	int r = -ENOMEM;

	if (size_bytes == 0)
		return -EINVAL;
	/* Others may take the huge pages between looking and mapping: then ordinary ones do. */
	if (p->huge_pages && huge_bytes_free() >= size_bytes)
		r = image_new(ret, name, size_bytes, true);
	if (r < 0)
		r = image_new(ret, name, size_bytes, false);
	if (r == 0)
		list_append(&p->images, &(*ret)->node);
	return r;
}

static struct memory_image *image_find(const struct memory_pool *p, const char *name)
{
	struct memory_image *i;

	list_for_each(i, &p->images, node)
		if (!strcmp(i->name, name))
			return i;
	return NULL;
}

/* --- pools and disks --- */

int memory_pool_open(struct store_pool *p, const struct store_pool_options *options)
{
	struct memory_pool *m = container_of(p, struct memory_pool, base);

	list_init(&m->images);
	m->huge_pages = options->huge_pages;
	return 0;
}

void memory_pool_close(struct store_pool *p)
{
	struct memory_pool *m = container_of(p, struct memory_pool, base);
	struct memory_image *i, *tmp;

	list_for_each_safe(i, tmp, &m->images, node) {
		assert(!i->in_use);
		list_remove(&i->node);
		image_free(i);
	}
}

int memory_disk_open(struct store_disk *d, const struct store_disk_options *options)
{
	struct memory_pool *m = container_of(d->pool, struct memory_pool, base);
	struct memory_image *i = image_find(m, options->name);
	int r = 0;

	if (!i)
		r = image_create(m, options->name, options->size_bytes, &i);
	else if (i->in_use)
		return -EBUSY;
	else if (options->size_bytes && options->size_bytes != i->size_bytes)
		r = image_resize(i, options->size_bytes);
	if (r < 0)
		return r;
	i->in_use = true;
	d->size_bytes = i->size_bytes;
	container_of(d, struct memory_disk, base)->image = i;
	return 0;
}

void memory_disk_close(struct store_disk *d)
{
	container_of(d, struct memory_disk, base)->image->in_use = false;
}

/* Workers see the new size after there is memory for it, and before memory is taken away. */
int memory_disk_resize(struct store_disk *d, uint64_t size_bytes)
{
	uint64_t had = d->size_bytes;
	int r;

	if (size_bytes < had)
		store_relaxed(&d->size_bytes, size_bytes);
	r = image_resize(container_of(d, struct memory_disk, base)->image, size_bytes);
	/*
	 * Pairs with nothing but the acquire in image_at(): the window that a larger size needs was published before
	 * it.
	 */
	store_release(&d->size_bytes, r < 0 ? had : size_bytes);
	return r;
}

/* --- worker --- */

static uint8_t *image_at(const struct store_io *io)
{
	const struct memory_image *i = container_of(io->disk, struct memory_disk, base)->image;

	/* Pairs with window_map(): the mapping exists before its address is seen. */
	return load_acquire(&i->base) + io->offset_bytes;
}

static void image_read(const struct store_io *io)
{
	const uint8_t *from = image_at(io);

	for (unsigned n = 0; n < io->iovcnt; n++) {
		memcpy(io->iov[n].iov_base, from, io->iov[n].iov_len);
		from += io->iov[n].iov_len;
	}
}

static void image_write(const struct store_io *io)
{
	uint8_t *to = image_at(io);

	for (unsigned n = 0; n < io->iovcnt; n++) {
		memcpy(to, io->iov[n].iov_base, io->iov[n].iov_len);
		to += io->iov[n].iov_len;
	}
}

static void punched(struct worker_cqe *cqe, int result, uint32_t flags)
{
	store_complete(container_of(cqe, struct store_io, cqe), result);
}

/*
 * A hole reads as zeroes, so discarding and zeroing are the same. Giving memory back is a slow system call, which goes
 * through the io_uring so that the worker does not wait for it.
 */
static int image_zero(struct store_io *io)
{
	struct io_uring_sqe *sqe;

	if (io->length_bytes == 0)
		return 0;
	if (io->length_bytes <= ZERO_INLINE_BYTES && io->op == STORE_WRITE_ZEROES) {
		memset(image_at(io), 0, io->length_bytes);
		return 0;
	}
	io->cqe.complete = punched;
	sqe = worker_sqe(io->channel->worker);
	io_uring_prep_fallocate(sqe, container_of(io->disk, struct memory_disk, base)->image->fd,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset_bytes,
				(off_t)io->length_bytes);
	io_uring_sqe_set_data(sqe, &io->cqe);
	return STORE_LATER;
}

int memory_execute(struct store_io *io)
{
	switch (io->op) {
	case STORE_READ:
		image_read(io);
		break;
	case STORE_WRITE:
		image_write(io);
		break;
	case STORE_DISCARD:
	case STORE_WRITE_ZEROES:
		return image_zero(io);
	case STORE_FLUSH:
	case STORE_OPS:
		break;
	}
	return 0;
}
