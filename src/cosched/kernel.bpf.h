/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What sched.bpf.c uses of the kernel: the few types with the few members, and the functions that sched_ext offers. Where a
 * member lies is found out when the program is loaded (CO-RE), so no kernel is needed to build it, and one build serves
 * them all. Names and values are the kernel's (include/linux/sched/ext.h, kernel/sched/ext).
 */
#pragma once

#include <stdbool.h>

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32, __wsum;

#ifndef NULL
#define NULL ((void *)0)
#endif

/* Of the uapi header linux/bpf.h, which does not go together with the types above. */
enum { BPF_ANY = 0, BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_F_NO_PREALLOC = 1, BPF_F_TIMER_ABS = 1 };
enum { BPF_MAP_TYPE_ARRAY = 2, BPF_MAP_TYPE_RINGBUF = 27, BPF_MAP_TYPE_TASK_STORAGE = 29 };
enum { CLOCK_MONOTONIC = 1 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct bpf_timer {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_spin_lock {
	__u32 val;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Known by name only; a body, so that its kind is the kernel's. */
struct cpumask {
	unsigned long bits[1];
};

struct sched_ext_entity {
	__u32 flags;
	__u32 weight;
	__u64 slice;
	__u64 dsq_vtime;
};

struct task_struct {
	unsigned int flags;
	unsigned short migration_disabled;
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	struct sched_ext_entity scx;
	__s32 pid;
};

enum scx_exit_kind { SCX_EXIT_NONE };

struct scx_exit_info {
	enum scx_exit_kind kind;
	__s64 exit_code;
	const char *reason;
	char *msg;
};

#pragma clang attribute pop

#include "cosched/ops.h"

#define SCX_TASK_QUEUED 1u
#define SCX_ENQ_WAKEUP 1ull
#define SCX_KICK_IDLE 1ull
#define SCX_KICK_PREEMPT 2ull
#define SCX_DSQ_LOCAL 0x8000000000000002ull

struct bpf_iter_scx_dsq {
	__u64 opaque[6];
} __attribute__((aligned(8)));
struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

#define KERNEL_FUNCTION extern __attribute__((section(".ksyms")))
#define KERNEL_FUNCTION_IF_ANY extern __attribute__((weak, section(".ksyms")))

KERNEL_FUNCTION int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end);
KERNEL_FUNCTION int *bpf_iter_num_next(struct bpf_iter_num *it);
KERNEL_FUNCTION void bpf_iter_num_destroy(struct bpf_iter_num *it);
KERNEL_FUNCTION int bpf_iter_scx_dsq_new(struct bpf_iter_scx_dsq *it, __u64 dsq, __u64 flags);
KERNEL_FUNCTION struct task_struct *bpf_iter_scx_dsq_next(struct bpf_iter_scx_dsq *it);
KERNEL_FUNCTION void bpf_iter_scx_dsq_destroy(struct bpf_iter_scx_dsq *it);
KERNEL_FUNCTION void bpf_rcu_read_lock(void);
KERNEL_FUNCTION void bpf_rcu_read_unlock(void);
KERNEL_FUNCTION bool bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *mask);
KERNEL_FUNCTION struct task_struct *bpf_task_from_pid(__s32 pid);
KERNEL_FUNCTION void bpf_task_release(struct task_struct *p);
KERNEL_FUNCTION __s32 scx_bpf_create_dsq(__u64 dsq, __s32 node);
KERNEL_FUNCTION void scx_bpf_dsq_insert(struct task_struct *p, __u64 dsq, __u64 slice, __u64 enq_flags);
KERNEL_FUNCTION void scx_bpf_dsq_insert_vtime(struct task_struct *p, __u64 dsq, __u64 slice, __u64 vtime, __u64 enq_flags);
KERNEL_FUNCTION bool scx_bpf_dsq_move(struct bpf_iter_scx_dsq *it, struct task_struct *p, __u64 dsq, __u64 enq_flags);
KERNEL_FUNCTION void scx_bpf_dsq_move_set_slice(struct bpf_iter_scx_dsq *it, __u64 slice);
KERNEL_FUNCTION bool scx_bpf_dsq_move_to_local(__u64 dsq);
KERNEL_FUNCTION __s32 scx_bpf_dsq_nr_queued(__u64 dsq);
KERNEL_FUNCTION void scx_bpf_kick_cpu(__s32 cpu, __u64 flags);
KERNEL_FUNCTION __s32 scx_bpf_task_cpu(const struct task_struct *p);
KERNEL_FUNCTION bool scx_bpf_test_and_clear_cpu_idle(__s32 cpu);
KERNEL_FUNCTION __s32 scx_bpf_pick_idle_cpu(const struct cpumask *allowed, __u64 flags);
KERNEL_FUNCTION __s32 scx_bpf_select_cpu_dfl(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags, bool *ret_idle);
KERNEL_FUNCTION __u32 scx_bpf_nr_cpu_ids(void);
KERNEL_FUNCTION const struct cpumask *scx_bpf_get_online_cpumask(void);
KERNEL_FUNCTION void scx_bpf_put_cpumask(const struct cpumask *mask);
KERNEL_FUNCTION void scx_bpf_error_bstr(char *format, unsigned long long *data, __u32 data_size);
/* A variable of the kernel's: its address, if the loader may know it. */
extern const void __cpu_active_mask __attribute__((weak, section(".ksyms")));
/* Newer kernels only; before them the members of sched_ext_entity are written. */
KERNEL_FUNCTION_IF_ANY bool scx_bpf_task_set_slice(struct task_struct *p, __u64 slice);
KERNEL_FUNCTION_IF_ANY bool scx_bpf_task_set_dsq_vtime(struct task_struct *p, __u64 vtime);
