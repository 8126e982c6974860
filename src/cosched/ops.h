/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The callbacks and settings of a sched_ext scheduler that are used here. Filled in by sched.bpf.c, settings by the loader
 * before loading; libbpf finds each by its name in the kernel's structure of this name, so the order does not matter and
 * only those that are set must be there.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#include <stdbool.h>
#endif

#define SCX_OPS_KEEP_BUILTIN_IDLE 1ull
#define SCX_OPS_ENQ_LAST 2ull
#define SCX_OPS_SWITCH_PARTIAL 8ull

struct task_struct;
struct scx_exit_info;

struct sched_ext_ops {
	__s32 (*select_cpu)(struct task_struct *p, __s32 prev_cpu, __u64 wake_flags);
	void (*enqueue)(struct task_struct *p, __u64 enq_flags);
	void (*dispatch)(__s32 cpu, struct task_struct *prev);
	void (*tick)(struct task_struct *p);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	void (*quiescent)(struct task_struct *p, __u64 deq_flags);
	void (*update_idle)(__s32 cpu, bool idle);
	void (*enable)(struct task_struct *p);
	void (*disable)(struct task_struct *p);
	void (*cpu_online)(__s32 cpu);
	void (*cpu_offline)(__s32 cpu);
	__s32 (*init)(void);
	void (*exit)(struct scx_exit_info *info);
	__u64 flags;
	__u32 timeout_ms;
	char name[128];
};
