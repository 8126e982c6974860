# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are emulated by counting instructions: an instruction takes 1 ns of their time, whatever it does, so that what
happens in them happens in the same way each time, on a machine of any load.

All CPUs of such a guest take turns on one engine: a CPU gets 1/n of the time in which it is counted, and whoever sleeps makes
the others faster.
"""
import concurrent.futures
import functools
import os
import threading

from . import Broken, initramfs, packages
from .guest import Guest
from .process import Folder, Process, tail

CMDLINE = ("nokaslr norandmaps nowatchdog tsc=reliable mitigations=off cryptomgr.notests=1 transparent_hugepage=never "
           "skew_tick=1 damon_stat.enabled=0")
# Old, so that its kernel has less to patch while it boots: an emulator translates patched code anew.
CPU = "Nehalem"
# QEMU 7.2 starves CPUs of each other's turns.
QEMU_MIN = (10, 0)
QEMU_SUITE = "trixie"


@functools.lru_cache(maxsize=None)
def programs(suite=None):
    """A QEMU that is fair to its CPUs: this system's, or another suite's."""
    own = packages.programs(suite)
    return own if own.version() >= QEMU_MIN else packages.programs(QEMU_SUITE)


def options(seed=1):
    """QEMU's options that make it count."""
    return ["-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01T00:00:00,clock=vm", "-seed", str(seed)]


def default_host_cpu():
    """The CPU that such a guest stays on: one engine has no use for two."""
    return sorted(os.sched_getaffinity(0))[-1]


class Rehearsals:
    """Several at a time, on CPUs that take turns. Whoever leaves early ends them all."""

    def __init__(self, cpus=None):
        self.cpus = list(cpus or sorted(os.sched_getaffinity(0)))
        self.pool = concurrent.futures.ThreadPoolExecutor(len(self.cpus))
        self.lock, self.running, self.number, self.ended = threading.Lock(), set(), 0, False

    def _run(self, cpu, arguments, hang_s):
        made = Rehearsal(host_cpu=cpu, **arguments)
        with self.lock:
            if self.ended:
                made.remove()
                raise Broken("ended before it began")
            self.running.add(made.start())
        try:
            return made.finish(hang_s)
        finally:
            self.running.discard(made)

    def submit(self, hang_s=7200, **arguments):
        """Queues one; returns a future of what its script says."""
        self.number += 1
        return self.pool.submit(self._run, self.cpus[self.number % len(self.cpus)], arguments, hang_s)

    def close(self):
        """Ends what runs, forgets what does not yet."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        with self.lock:
            self.ended = True
            for made in list(self.running):
                made.kill()
        self.pool.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class CountedGuest(Guest):
    """One that answers commands. When those come depends on the host, so it repeats nothing exactly."""

    def command(self):
        words = super().command()
        words[words.index("-machine") + 1] += ",hpet=off"
        words[words.index("-accel") + 1] = "tcg"
        append = words.index("-append") + 1
        words[append] = words[append].replace("tsc=unstable ", "")
        return ["taskset", "-c", str(self.host_cpu), *words, *options()]


class Rehearsal:
    """One that carries out a script from its boot to its end, without anything that reaches it from outside.

    The script's output is the result. `files`: {path in the guest: text}; `tools`: programs for /tools; `cpus`: as QEMU's -smp takes them."""

    def __init__(self, script, suite="sid", cpus=4, memory_mib=512, tools=(), files=None, cmdline="", counted=True, drives=(),
                 host_cpu=None, kernel=None):
        # First all that may not be to be had, so that nothing is left of a guest that cannot be.
        self.kernel = kernel or packages.kernel(suite)
        self.programs = programs()
        base = initramfs.build(self.kernel, tools)
        self.cpus, self.memory_mib, self.cmdline, self.counted = cpus, memory_mib, cmdline, counted
        self.drives = list(drives)
        self.host_cpu = default_host_cpu() if host_cpu is None else host_cpu
        self.folder = Folder()
        self.console, self.output = self.folder.path / "console.log", self.folder.path / "output"
        self.initrd = self.folder.path / "initrd"
        self.process = None
        # The kernel unpacks archives one after another.
        script = ("#!/bin/sh\nmount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null\nstty -F /dev/ttyS1 raw 115200\n"
                  "(\n" + script + "\n) >/tmp/output 2>&1\necho \"status $?\" >>/tmp/output\ncat /tmp/output >/dev/ttyS1\n"
                  "sleep 1\npoweroff -f\n")
        self.initrd.write_bytes(base.read_bytes() + initramfs.archive({"autorun": script, **(files or {})}))

    def command(self):
        """QEMU's command line."""
        words = [*self.programs.command("qemu-system-x86_64"), *self.programs.firmware(), "-nodefaults", "-no-user-config",
                 "-display", "none", "-no-reboot", "-machine", "q35,hpet=off", "-accel",
                 "tcg" if self.counted else "tcg,thread=multi", "-cpu", CPU, "-m", f"{self.memory_mib}M",
                 "-smp", str(self.cpus), "-kernel", self.kernel.image, "-initrd", self.initrd,
                 "-append", f"console=ttyS0 quiet panic=-1 no_timer_check {CMDLINE} {self.cmdline}",
                 "-serial", f"file:{self.console}", "-serial", f"file:{self.output}"]
        for index, path in enumerate(self.drives):
            words += ["-drive", f"if=none,id=d{index},file={path},format=raw,readonly=on",
                      "-device", f"virtio-blk-pci,drive=d{index}"]
        return ["taskset", "-c", str(self.host_cpu), *words, *options()] if self.counted else words

    def start(self):
        """Begins."""
        self.process = Process(self.command(), self.folder.path / "qemu.log", self.programs.environment())
        return self

    def finish(self, hang_s=1800):
        """Waits for its end; returns what the script said. Raises if the script failed."""
        try:
            status = self.process.wait(hang_s)
            text = self.output.read_text(errors="replace").replace("\r", "") if self.output.exists() else ""
            lines = text.rstrip().rsplit("\n", 1)
            if status or lines[-1] != "status 0":
                raise Broken(f"the guest's script failed (QEMU: {status}); it said:\n{text[-6000:]}\n{self.report()}")
            return lines[0] + "\n" if len(lines) > 1 else ""
        finally:
            self.remove()

    def run(self, hang_s=1800):
        """From boot to end."""
        return self.start().finish(hang_s)

    def report(self):
        """What helps to understand a failure."""
        return f"--- guest console\n{tail(self.console)}\n--- QEMU\n{tail(self.folder.path / 'qemu.log', 15)}"

    def kill(self):
        """Ends it at once."""
        if self.process and self.process.alive():
            self.process.kill()

    def remove(self):
        """Ends it and removes all its files."""
        self.kill()
        self.folder.remove()
