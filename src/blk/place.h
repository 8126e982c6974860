/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a queue is served: the quietest of the workers that may, of equally quiet ones the owner of the pool's scheduler,
 * then the one nearest to the vCPU that feeds the queue. Control thread.
 */
#pragma once

#include "blk/disk.h"

/* The member for a queue that starts now. */
unsigned blk_place(struct blk_disk *d, unsigned queue);

/*
 * The CPU on which virtual CPU `vcpu` of the VMM process last ran, by its threads' names ("CPU 3/KVM", which QEMU gives them
 * with `-name debug-threads=on`); -1: not to be found.
 */
int blk_vcpu_cpu(pid_t vmm, unsigned vcpu);
