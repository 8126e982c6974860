/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "Guest" memory of the front-end: one memfd, shown to the back-end as one or more regions with gaps between their
 * guest-physical addresses. Handed out from bottom to top and freed as a whole.
 */
#pragma once

#include "base/util.h"

#define FRONT_REGIONS_MAX 8

struct front_region {
	uint64_t gpa, size, uva, mmap_offset;
};

struct front_memory {
	int fd;
	uint8_t *base;
	size_t bytes, used;
	unsigned n;
	struct front_region region[FRONT_REGIONS_MAX];
};

/* `bytes` is rounded up to 2 MiB a region. Returns 0 or -errno. */
int front_memory_init(struct front_memory *m, size_t bytes, unsigned regions, bool huge);
void front_memory_fini(struct front_memory *m);

/* Zeroed memory within one region; NULL when there is no more. Alignment: a power of two up to 2 MiB. */
void *front_memory_alloc(struct front_memory *m, size_t bytes, size_t alignment);

static inline uint64_t front_memory_uva(const void *p)
{
	return (uintptr_t)p;
}

static inline uint64_t front_memory_gpa(const struct front_memory *m, const void *p)
{
	uint64_t offset = (const uint8_t *)p - m->base;
	const struct front_region *r = m->region;

	while (offset - r->mmap_offset >= r->size)
		r++;
	return r->gpa + (offset - r->mmap_offset);
}
