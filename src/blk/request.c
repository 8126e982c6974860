/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing, checking and translating requests. On the worker that owns the queue.
 *
 * The guest may frame a request as it likes (VIRTIO 1.2, 2.7.4): the header is the first 16 readable bytes, the status the
 * last writable byte, wherever the segments are cut. Drivers that exist put header and status into segments of their own,
 * which is the short way below. Guest memory changes under us: the header is copied once and never read again.
 */
#include "blk/request.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES ((uint32_t)sizeof(struct virtio_blk_outhdr))

/* Copies `len` bytes at `offset` of the segments [first, first+n) between guest and host. */
static int copy_segments(const struct memmap *map, const struct virtq_seg *seg, unsigned n, uint64_t offset, uint8_t *buf,
			 uint32_t len, bool to_guest)
{
	for (unsigned i = 0; i < n && len > 0; i++) {
		uint32_t part;
		uint8_t *p;

		if (offset >= seg[i].len) {
			offset -= seg[i].len;
			continue;
		}
		part = (uint32_t)min_u64(len, seg[i].len - offset);
		p = memmap_gpa(map, seg[i].gpa + offset, part);
		if (unlikely(!p))
			return -EFAULT;
		if (to_guest)
			memcpy(p, buf, part);
		else
			memcpy(buf, p, part);
		buf += part;
		len -= part;
		offset = 0;
	}
	return len ? -EFAULT : 0;
}

static inline int read_header(struct blk_request *r, const struct memmap *map)
{
	const struct virtq_chain *c = r->chain;
	uint64_t words[2];
	int err = 0;

	if (likely(c->seg[0].len >= HEADER_BYTES)) {
		const void *p = memmap_gpa(map, c->seg[0].gpa, HEADER_BYTES);

		if (unlikely(!p))
			return -EFAULT;
		blk_header_load(p, words);
	} else {
		err = copy_segments(map, c->seg, c->n_out, 0, (uint8_t *)words, HEADER_BYTES, false);
	}
	r->type = (uint32_t)words[0];
	r->ioprio = (uint16_t)(words[0] >> 32);
	r->sector = words[1];
	return err;
}

/* The last writable byte. */
static int find_status(struct blk_request *r)
{
	const struct virtq_chain *c = r->chain;
	const struct virtq_seg *first = c->seg + c->n_out, *last = c->seg + c->n_seg - 1;

	while (last >= first && unlikely(last->len == 0))
		last--;
	if (unlikely(last < first))
		return -EPROTO;
	r->status_gpa = last->gpa + last->len - 1;
	return 0;
}

static bool range_fits(const struct blk_geometry *g, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = load_relaxed(&g->capacity_sectors);

	return sector <= capacity && sectors <= capacity - sector;
}

static int check_transfer(struct blk_request *r, const struct blk_geometry *g)
{
	if (r->data_bytes == 0 || r->data_bytes % STORE_SECTOR)
		return -EIO;
	return range_fits(g, r->sector, r->data_bytes / STORE_SECTOR) ? 0 : -EIO;
}

static int check_ranges(struct blk_request *r)
{
	uint32_t one = sizeof(struct virtio_blk_discard_write_zeroes);

	if (r->data_bytes == 0 || r->data_bytes % one || r->data_bytes / one > BLK_RANGES_MAX)
		return -EIO;
	r->ranges = (uint16_t)(r->data_bytes / one);
	return 0;
}

static uint8_t get_id(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g)
{
	const struct virtq_chain *c = r->chain;
	uint32_t len = (uint32_t)min_u64(BLK_SERIAL_BYTES, c->in_bytes - 1);
	char serial[BLK_SERIAL_BYTES];

	memcpy(serial, g->serial, sizeof(serial));
	if (copy_segments(map, c->seg + c->n_out, c->n_seg - c->n_out, 0, (uint8_t *)serial, len, true) < 0)
		return VIRTIO_BLK_S_IOERR;
	r->written = len + 1;
	return VIRTIO_BLK_S_OK;
}

/* Everything but transfers. True: to be dispatched; else answered. */
static bool check_other(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g)
{
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;

	switch (r->type) {
	case VIRTIO_BLK_T_FLUSH:
		r->what = BLK_COUNT_FLUSH;
		return true;
	case VIRTIO_BLK_T_GET_ID:
		r->what = BLK_COUNT_ID;
		r->status = get_id(r, map, g);
		return false;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		r->what = discard ? BLK_COUNT_DISCARD : BLK_COUNT_ZEROES;
		if (discard ? g->discard : g->write_zeroes)
			return !g->read_only && check_ranges(r) == 0;
		break;
	}
	r->status = VIRTIO_BLK_S_UNSUPP;
	return false;
}

static inline bool check_type(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g)
{
	if (unlikely(r->type > VIRTIO_BLK_T_OUT))
		return check_other(r, map, g);
	if (r->type == VIRTIO_BLK_T_IN)
		r->data_bytes = r->chain->in_bytes - 1;
	else if (unlikely(g->read_only))
		return false;
	r->what = (uint8_t)r->type; /* BLK_COUNT_READ, BLK_COUNT_WRITE */
	return check_transfer(r, g) == 0;
}

int blk_request_parse(struct blk_request *r, const struct memmap *map, const struct blk_geometry *g)
{
	const struct virtq_chain *c = r->chain;

	r->passed = NULL;
	r->given_bytes = 0;
	r->result = 0;
	r->range = r->ranges = 0;
	r->ioprio = 0;
	r->what = BLK_COUNT_OTHER;
	r->status = VIRTIO_BLK_S_IOERR;
	r->written = 1;
	if (unlikely(c->in_bytes == 0 || find_status(r) < 0))
		return -EPROTO;
	if (unlikely(c->out_bytes < HEADER_BYTES || read_header(r, map) < 0))
		return 0;
	r->data_bytes = c->out_bytes - HEADER_BYTES;
	return check_type(r, map, g);
}

/* `bytes` of the segments from `skip` on, as host ranges. */
static int map_scattered(struct store_io *io, const struct memmap *map, const struct virtq_seg *seg, unsigned n,
		       uint64_t skip, uint32_t bytes)
{
	struct iovec *iov = io->iov;
	unsigned used = 0;

	for (unsigned i = 0; i < n && bytes > 0; i++) {
		uint32_t part;
		void *p;

		if (skip >= seg[i].len) {
			skip -= seg[i].len;
			continue;
		}
		part = (uint32_t)min_u64(bytes, seg[i].len - skip);
		p = memmap_gpa(map, seg[i].gpa + skip, part);
		if (likely(p)) {
			if (unlikely(used == BLK_IOV_MAX))
				return -EIO;
			iov[used++] = (struct iovec){ .iov_base = p, .iov_len = part };
		} else {
			int more = memmap_iov(map, seg[i].gpa + skip, part, iov + used, BLK_IOV_MAX - used);

			if (more < 0)
				return -EIO;
			used += (unsigned)more;
		}
		bytes -= part;
		skip = 0;
	}
	io->iovcnt = (uint16_t)used;
	return bytes ? -EIO : 0;
}

/* What begins and ends in its first segment is the rule: small requests, and large ones in huge pages. */
static inline int map_payload(struct store_io *io, const struct memmap *map, const struct virtq_seg *seg, unsigned n,
			      uint64_t skip, uint32_t bytes)
{
	if (likely(n && seg->len >= skip + bytes)) {
		void *p = memmap_gpa(map, seg->gpa + skip, bytes);

		if (likely(p)) {
			io->iov[0] = (struct iovec){ .iov_base = p, .iov_len = bytes };
			io->iovcnt = 1;
			return 0;
		}
	}
	return map_scattered(io, map, seg, n, skip, bytes);
}

static inline int translate_transfer(struct blk_request *r, struct store_io *io, const struct memmap *map,
				     bool write_through, uint32_t start, uint32_t bytes)
{
	const struct virtq_chain *c = r->chain;
	bool write = r->type == VIRTIO_BLK_T_OUT;

	/* A disk that shrank while the request was held is the store's to notice. */
	io->op = write ? STORE_WRITE : STORE_READ;
	io->flags = write && write_through ? STORE_FUA : 0;
	io->offset_bytes = r->sector * STORE_SECTOR + start;
	io->length_bytes = bytes;
	if (write && likely(c->seg[0].len == HEADER_BYTES))
		return map_payload(io, map, c->seg + 1, c->n_out - 1u, start, bytes);
	if (write)
		return map_payload(io, map, c->seg, c->n_out, (uint64_t)HEADER_BYTES + start, bytes);
	return map_payload(io, map, c->seg + c->n_out, c->n_seg - c->n_out, start, bytes);
}

static int read_range(const struct blk_request *r, const struct memmap *map, unsigned range,
		      struct virtio_blk_discard_write_zeroes *ret)
{
	return copy_segments(map, r->chain->seg, r->chain->n_out, HEADER_BYTES + range * sizeof(*ret), (uint8_t *)ret,
			     sizeof(*ret), false);
}

static int translate_range(struct blk_request *r, struct store_io *io, const struct memmap *map,
			   const struct blk_geometry *g)
{
	struct virtio_blk_discard_write_zeroes range;
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;

	if (read_range(r, map, r->range, &range) < 0)
		return -EIO;
	/* Only write-zeroes has a flag, and only this one (VIRTIO 1.2, 5.2.6.2). */
	if (range.flags & ~(discard ? 0u : (uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return -EOPNOTSUPP;
	if (range.num_sectors == 0 || range.num_sectors > BLK_RANGE_SECTORS_MAX || !range_fits(g, range.sector, range.num_sectors))
		return -EIO;
	io->op = discard ? STORE_DISCARD : STORE_WRITE_ZEROES;
	io->flags = !discard && range.flags ? STORE_UNMAP : 0;
	io->offset_bytes = range.sector * STORE_SECTOR;
	io->length_bytes = (uint64_t)range.num_sectors * STORE_SECTOR;
	io->iovcnt = 0;
	return 0;
}

uint64_t blk_request_range_bytes(const struct blk_request *r, const struct memmap *map)
{
	struct virtio_blk_discard_write_zeroes range;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < r->ranges; i++)
		if (read_range(r, map, i, &range) == 0 && range.num_sectors <= BLK_RANGE_SECTORS_MAX)
			bytes += (uint64_t)range.num_sectors * STORE_SECTOR;
	return bytes;
}

static int translate_other(struct blk_request *r, struct store_io *io, const struct memmap *map, const struct blk_geometry *g)
{
	if (r->type != VIRTIO_BLK_T_FLUSH)
		return translate_range(r, io, map, g);
	io->op = STORE_FLUSH;
	io->flags = 0;
	io->offset_bytes = io->length_bytes = 0;
	io->iovcnt = 0;
	return 0;
}

int blk_request_translate(struct blk_request *r, struct store_io *io, const struct memmap *map, const struct blk_geometry *g,
			  bool write_through, uint32_t start, uint32_t bytes)
{
	if (likely(r->type <= VIRTIO_BLK_T_OUT))
		return translate_transfer(r, io, map, write_through, start, bytes);
	return translate_other(r, io, map, g);
}
