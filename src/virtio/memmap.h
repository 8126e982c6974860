/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's memory as this process sees it: an immutable, reference-counted table of mapped regions. A change of the
 * guest's memory makes a new table; workers switch to it by mailbox.
 *
 * Guest-physical addresses (gpa) stand in descriptors; front-end virtual addresses (uva) in the vhost-user ring set-up.
 */
#pragma once

#include "base/util.h"

#include <sys/uio.h>

#define MEMMAP_REGIONS_MAX 509

struct memmap_region {
	uint64_t gpa, size, uva;
	uint8_t *hva;	   /* where byte gpa stands in this process */
	struct memmap_fd *backing; /* shared between tables: the mapping and its fault state */
};

struct memmap {
	unsigned refs;	   /* control thread only */
	uint64_t generation;
	unsigned n;
	/* A copy of the last region, which is the only one of a small guest and nearly all of a large one: looked at first. */
	struct memmap_region last;
	struct memmap_region region[]; /* ascending by gpa, not overlapping */
};

/* One mapped file. Unmapped with its last user. */
struct memmap_fd {
	unsigned refs; /* control thread only */
	void *base;
	size_t length;
	bool faulted; /* set by the SIGBUS handler: the file was truncated under us; zero pages stand there now */
};

struct memmap_region_spec {
	uint64_t gpa, size, uva, mmap_offset;
	int fd; /* borrowed */
};

/*
 * Control thread. All return 0 or -errno and leave `*ret` untouched on failure. -EINVAL: empty, unaligned (gpa, offset), wrapping or
 * overlapping regions; -E2BIG: too many; -EBADF: not a memory file (only tmpfs and hugetlbfs are mapped: others could
 * change size or block); -ENOSPC: the file is shorter than the region.
 */
int memmap_create(const struct memmap_region_spec *spec, unsigned n, struct memmap **ret);
/* New tables with one region more or less; `old` may be NULL for add. */
int memmap_add(const struct memmap *old, const struct memmap_region_spec *spec, struct memmap **ret);
int memmap_remove(const struct memmap *old, uint64_t gpa, uint64_t size, uint64_t uva, struct memmap **ret);
struct memmap *memmap_get(struct memmap *m);
/* Unmaps what no other table uses. NULL is allowed. */
void memmap_put(struct memmap *m);
/* True if any file behind it was truncated. Any thread. */
bool memmap_faulted(const struct memmap *m);

/* Host address of [gpa, gpa+len), which must lie in one region; NULL otherwise. */
static inline void *memmap_gpa(const struct memmap *m, uint64_t gpa, uint64_t len)
{
	uint64_t in_last = gpa - m->last.gpa;
	unsigned lo = 0, hi = m->n;

	if (likely(in_last < m->last.size))
		return len <= m->last.size - in_last ? m->last.hva + in_last : NULL;
	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct memmap_region *r = &m->region[mid];

		if (gpa < r->gpa)
			hi = mid;
		else if (gpa - r->gpa >= r->size)
			lo = mid + 1;
		else
			return len <= r->size - (gpa - r->gpa) ? r->hva + (gpa - r->gpa) : NULL;
	}
	return NULL;
}

/* Same for a front-end virtual address. */
void *memmap_uva(const struct memmap *m, uint64_t uva, uint64_t len);
/* Its guest-physical address; 0 when there is none. */
uint64_t memmap_uva_gpa(const struct memmap *m, uint64_t uva);

/*
 * [gpa, gpa+len) as host ranges, across adjacent regions: writes at most `max` entries, returns how many; -EFAULT if
 * any byte is not mapped, -E2BIG if `max` does not do.
 */
int memmap_iov(const struct memmap *m, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max);
