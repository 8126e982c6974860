/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handful of macros that every layer uses.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define likely(x) __builtin_expect(!!(x), 1)
/* On validation and errors only: elsewhere the compiler and the branch predictor know better. */
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define CACHE_LINE 64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))

/* Loads and stores that another thread or the guest may race with: once, untorn, not reordered by the compiler. */
#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)

/* gcc says it with a macro, clang with a feature. */
#ifdef __SANITIZE_THREAD__
#define UNDER_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#define UNDER_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER
#endif
#endif
#ifdef UNDER_THREAD_SANITIZER
#define UNDER_SANITIZER
#endif

/* What every request would pay for: checks of our own promises run in the builds that are made to find mistakes. */
#ifdef UNDER_SANITIZER
#define debug_only(statement) statement
#else
#define debug_only(statement) ((void)0)
#endif

/* For loops that wait for another core. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Orders earlier stores before later loads. The one at each use names its partner. ThreadSanitizer knows no bare fences. */
static inline void full_fence(void)
{
#ifdef UNDER_THREAD_SANITIZER
	unsigned sink = 0;

	__atomic_fetch_add(&sink, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* A counter has one writer; readers only need an untorn value. */
#define counter_add(p, n) store_relaxed(p, *(p) + (n))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline void cleanup_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free_ptr(void *p)
{
	free(*(void **)p);
}

/* Local resources on control paths. */
#define cleanup_close __attribute__((cleanup(cleanup_close_fd)))
#define cleanup_free __attribute__((cleanup(cleanup_free_ptr)))

/* Gives a local resource to the caller. */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
