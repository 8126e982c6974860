/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory of the front-end: see memory.h. Any one thread.
 */
#include "frontend/memory.h"

#include <errno.h>
#include <sys/mman.h>

#define CHUNK ((size_t)2 << 20)
#define GPA_FIRST (2ull << 20)
#define GPA_STEP (4ull << 30)

int front_memory_init(struct front_memory *m, size_t bytes, unsigned regions, bool huge)
{
	size_t each;
	int r;

	if (!regions || regions > FRONT_REGIONS_MAX || !bytes)
		return -EINVAL;
	each = (bytes / regions + CHUNK - 1) & ~(CHUNK - 1);
	*m = (struct front_memory){ .bytes = each * regions, .n = regions };
	m->fd = memfd_create("front-end memory", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, m->bytes) < 0)
		goto fail;
	m->base = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->base == MAP_FAILED)
		goto fail;
	for (unsigned i = 0; i < regions; i++)
		m->region[i] = (struct front_region){
			.gpa = GPA_FIRST + i * GPA_STEP, .size = each,
			.uva = (uintptr_t)m->base + i * each, .mmap_offset = i * each,
		};
	return 0;
fail:
	r = -errno;
	close(m->fd);
	m->fd = -1;
	m->base = NULL;
	return r;
}

void front_memory_fini(struct front_memory *m)
{
	if (!m->base)
		return;
	munmap(m->base, m->bytes);
	close(m->fd);
	*m = (struct front_memory){ .fd = -1 };
}

void *front_memory_alloc(struct front_memory *m, size_t bytes, size_t alignment)
{
	size_t each = m->n ? m->bytes / m->n : 0;
	size_t at = (m->used + alignment - 1) & ~(alignment - 1);

	if (!bytes || bytes > each)
		return NULL;
	if (at / each != (at + bytes - 1) / each)
		at = (at / each + 1) * each;
	if (at > m->bytes || bytes > m->bytes - at)
		return NULL;
	m->used = at + bytes;
	return m->base + at;
}
