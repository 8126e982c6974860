/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps a guest's memory files and makes the tables that translate guest addresses. Tables are made, changed and dropped
 * on the control thread; workers only look things up.
 *
 * A mapping is shared by all tables that contain its region, so adding a region maps one file and copies the rest.
 * Ranges of uva may overlap (the same memory shown twice): each is checked against its own region, and the first one
 * wins.
 */
#include "virtio/memmap.h"

#include "base/sigbus.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define PAGE 4096u

static uint64_t next_generation = 1;

static void backing_put(struct memmap_fd *b)
{
	if (--b->refs)
		return;
	sigbus_guard_remove(b->base);
	munmap(b->base, b->length);
	free(b);
}

static int spec_check(const struct memmap_region_spec *s)
{
	uint64_t end;

	/* Sizes need not be whole pages: libblkio shares its rings and request headers to the byte. */
	if (!s->size || ((s->gpa | s->mmap_offset) & (PAGE - 1)))
		return -EINVAL;
	if (__builtin_add_overflow(s->gpa, s->size - 1, &end) || __builtin_add_overflow(s->uva, s->size - 1, &end) ||
	    __builtin_add_overflow(s->mmap_offset, s->size, &end) || end > INT64_MAX)
		return -EINVAL;
	return 0;
}

/* Only files whose reads cannot block or fail but by truncation; returns their page size in `ret_page`. */
static int memory_file_check(int fd, uint64_t bytes, uint64_t *ret_page)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return -EBADF;
	if ((unsigned long)fs.f_type == TMPFS_MAGIC)
		*ret_page = PAGE;
	else if ((unsigned long)fs.f_type == HUGETLBFS_MAGIC)
		*ret_page = fs.f_bsize;
	else
		return -EBADF;
	if (!S_ISREG(st.st_mode))
		return -EBADF;
	return (uint64_t)st.st_size < bytes ? -ENOSPC : 0;
}

static int region_map(const struct memmap_region_spec *s, struct memmap_region *ret)
{
	uint64_t page = 0, skipped;
	struct memmap_fd *b;
	int r = spec_check(s);

	if (!r)
		r = memory_file_check(s->fd, s->mmap_offset + s->size, &page);
	if (r)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	/* mmap wants whole pages of the file's own size: a region may begin and end within a huge page. */
	skipped = s->mmap_offset & (page - 1);
	b->refs = 1;
	b->length = (skipped + s->size + page - 1) & ~(page - 1);
	b->base = mmap(NULL, b->length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd,
		       s->mmap_offset - skipped);
	if (b->base == MAP_FAILED) {
		r = -errno;
		free(b);
		return r;
	}
	r = sigbus_guard_add(b->base, b->length, &b->faulted);
	if (r) {
		munmap(b->base, b->length);
		free(b);
		return r;
	}
	madvise(b->base, b->length, MADV_DONTDUMP); /* a core file is no place for a guest's secrets; best effort */
	*ret = (struct memmap_region){
		.gpa = s->gpa, .size = s->size, .uva = s->uva, .hva = (uint8_t *)b->base + skipped, .backing = b,
	};
	return 0;
}

static struct memmap *table_new(unsigned capacity)
{
	struct memmap *m = calloc(1, sizeof(*m) + capacity * sizeof(m->region[0]));

	if (m) {
		m->refs = 1;
		m->generation = next_generation++;
	}
	return m;
}

/* Keeps the table in order; takes over the region's reference. -EINVAL: it overlaps a neighbour. */
static int table_insert(struct memmap *m, const struct memmap_region *r)
{
	unsigned at = m->n;

	while (at && m->region[at - 1].gpa > r->gpa)
		at--;
	if (at && r->gpa - m->region[at - 1].gpa < m->region[at - 1].size)
		return -EINVAL;
	if (at < m->n && m->region[at].gpa - r->gpa < r->size)
		return -EINVAL;
	memmove(&m->region[at + 1], &m->region[at], (m->n - at) * sizeof(m->region[0]));
	m->region[at] = *r;
	m->n++;
	m->last = m->region[m->n - 1];
	return 0;
}

static int table_map(struct memmap *m, const struct memmap_region_spec *s)
{
	struct memmap_region region;
	int r = region_map(s, &region);

	if (r)
		return r;
	r = table_insert(m, &region);
	if (r)
		backing_put(region.backing);
	return r;
}

static void table_append_shared(struct memmap *m, const struct memmap_region *r)
{
	r->backing->refs++;
	m->region[m->n++] = *r;
	m->last = *r;
}

int memmap_create(const struct memmap_region_spec *spec, unsigned n, struct memmap **ret)
{
	struct memmap *m;
	int r = 0;

	if (n > MEMMAP_REGIONS_MAX)
		return -E2BIG;
	m = table_new(n);
	if (!m)
		return -ENOMEM;
	for (unsigned i = 0; i < n && !r; i++)
		r = table_map(m, &spec[i]);
	if (r) {
		memmap_put(m);
		return r;
	}
	*ret = m;
	return 0;
}

int memmap_add(const struct memmap *old, const struct memmap_region_spec *spec, struct memmap **ret)
{
	unsigned n = old ? old->n : 0;
	struct memmap *m;
	int r;

	if (n == MEMMAP_REGIONS_MAX)
		return -E2BIG;
	m = table_new(n + 1);
	if (!m)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++)
		table_append_shared(m, &old->region[i]);
	r = table_map(m, spec);
	if (r) {
		memmap_put(m);
		return r;
	}
	*ret = m;
	return 0;
}

int memmap_remove(const struct memmap *old, uint64_t gpa, uint64_t size, uint64_t uva, struct memmap **ret)
{
	struct memmap *m = table_new(old ? old->n : 0);
	bool found = false;

	if (!m)
		return -ENOMEM;
	for (unsigned i = 0; old && i < old->n; i++) {
		const struct memmap_region *r = &old->region[i];

		if (r->gpa == gpa && r->size == size && r->uva == uva)
			found = true;
		else
			table_append_shared(m, r);
	}
	if (!found) {
		memmap_put(m);
		return -ENOENT;
	}
	*ret = m;
	return 0;
}

struct memmap *memmap_get(struct memmap *m)
{
	m->refs++;
	return m;
}

void memmap_put(struct memmap *m)
{
	if (!m || --m->refs)
		return;
	for (unsigned i = 0; i < m->n; i++)
		backing_put(m->region[i].backing);
	free(m);
}

bool memmap_faulted(const struct memmap *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (load_relaxed(&m->region[i].backing->faulted))
			return true;
	return false;
}

static const struct memmap_region *region_of_uva(const struct memmap *m, uint64_t uva)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct memmap_region *r = &m->region[i];

		if (uva >= r->uva && uva - r->uva < r->size)
			return r;
	}
	return NULL;
}

void *memmap_uva(const struct memmap *m, uint64_t uva, uint64_t len)
{
	const struct memmap_region *r = region_of_uva(m, uva);

	return r && len <= r->size - (uva - r->uva) ? r->hva + (uva - r->uva) : NULL;
}

uint64_t memmap_uva_gpa(const struct memmap *m, uint64_t uva)
{
	const struct memmap_region *r = region_of_uva(m, uva);

	return r ? r->gpa + (uva - r->uva) : 0;
}

static const struct memmap_region *region_find(const struct memmap *m, uint64_t gpa)
{
	unsigned lo = 0, hi = m->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (gpa < m->region[mid].gpa)
			hi = mid;
		else if (gpa - m->region[mid].gpa >= m->region[mid].size)
			lo = mid + 1;
		else
			return &m->region[mid];
	}
	return NULL;
}

int memmap_iov(const struct memmap *m, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max)
{
	const struct memmap_region *r = region_find(m, gpa);
	unsigned n = 0;

	while (len) {
		uint64_t part;

		if (!r || r == &m->region[m->n] || gpa - r->gpa >= r->size)
			return -EFAULT;
		if (n == max)
			return -E2BIG;
		part = min_u64(len, r->size - (gpa - r->gpa));
		iov[n++] = (struct iovec){ .iov_base = r->hva + (gpa - r->gpa), .iov_len = part };
		/*
		 * gpa may wrap to 0 behind the last byte of all; the next region then starts elsewhere and the test
		 * fails.
		 */
		gpa += part;
		len -= part;
		r++;
	}
	return n;
}
