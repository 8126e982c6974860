/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a block of test data looks like: it names its seed, its own place and its generation in its first words, and every
 * other word follows from these, so that a block in the wrong place, torn, stale or damaged is told apart.
 */
#pragma once

#include <stdint.h>
#include <string.h>

#define BLOCK_BYTES 4096u
#define BLOCK_WORDS (BLOCK_BYTES / sizeof(uint64_t))

static inline uint64_t mix64(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* Generation 0 is a block never written: all zeroes. */
static inline void pattern_fill(uint64_t *word, uint64_t seed, uint64_t block, uint64_t generation)
{
	uint64_t base = mix64(mix64(seed ^ mix64(block)) + generation);

	if (generation == 0) {
		memset(word, 0, BLOCK_BYTES);
		return;
	}
	word[0] = seed;
	word[1] = block;
	word[2] = generation;
	for (unsigned i = 3; i < BLOCK_WORDS; i++)
		word[i] = base + i * UINT64_C(0x9e3779b97f4a7c15);
}

/* The first word that differs; BLOCK_WORDS: none. */
static inline unsigned pattern_check(const uint64_t *word, uint64_t seed, uint64_t block, uint64_t generation)
{
	uint64_t want[BLOCK_WORDS];
	unsigned i = 0;

	pattern_fill(want, seed, block, generation);
	while (i < BLOCK_WORDS && word[i] == want[i])
		i++;
	return i;
}
