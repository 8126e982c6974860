# SPDX-License-Identifier: GPL-2.0-or-later
"""A latency target beside a flood, in real time: two VMs on one device of eight channels, driven without guests.

The class with the target sends 4 KiB reads on a schedule of its own (open loop: latency counts from when a read was due, so a
device that is late cannot slow down its own examination), the other VM keeps 256 writes of 128 KiB outstanding.
"""
import contextlib
import json
import os
import subprocess
import time

from harness import Broken
from lib.sides import fairlead, pinned, rounds

CHANNELS = 8
# 4 KiB: 100 us, 128 KiB: 800 us.
DEVICE = f"type: model, channels: {CHANNELS}, read_latency: 77419ns, write_latency: 77419ns, byte_time: 5.513ns, depth: 256"
READ_US, WRITE_US, TARGET_US = 100, 800, 1000
# A fifth of the device's time.
RATE = 0.2 * CHANNELS / (READ_US / 1e6)
DISKS = ("{ name: d, pool: p, size: 64MiB, queues: 1, ioprio: linux, socket: @/0.sock }\n"
         "  flood:\n    disks:\n      - { name: d, pool: p, size: 64MiB, queues: 1, socket: @/1.sock }")
# The target, and one that no scheduler can keep: a read alone takes longer.
SIDES = {"unmanaged": ("off", TARGET_US), "target 1 ms": ("on", TARGET_US), "target 90 us": ("on", 90)}


def stolen(cpu, seconds=0.5):
    """The part of a polling thread's time that others take on that CPU: no p99 is better than what this leaves of it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        began = last = time.monotonic()
        lost = 0.0
        while last - began < seconds:
            now = time.monotonic()
            lost += now - last if now - last > 50e-6 else 0
            last = now
    finally:
        os.sched_setaffinity(0, allowed)
    return lost / seconds


def classes(target_us):
    """Reads at rt are promised; whatever else comes is not."""
    return f"classes:\n  gold: {{ ioprio: [rt], latency: {{ p99: {target_us}us }} }}\n  rest: {{ ioprio: [be, idle] }}"


def cli(bench, side, *words):
    """The CLI's JSON from a side's daemon."""
    done = subprocess.run([str(bench.build / "src/cli/fairlead"), "--control", str(side.folder.path / "control.sock"), "--json",
                           *words], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def device_ns(bench, side):
    """Device time given out so far."""
    return sum(channel["busy_ns"] for pool in cli(bench, side, "stats")["pools"] for channel in pool["channels"])


def measure(bench, side):
    """Both drivers at once; the reads' latency, and how busy the device was meanwhile."""
    seconds = max(4, bench.options.seconds)
    drive = bench.program("fairlead-drive")
    flood = subprocess.Popen(pinned([bench.client_cpu], [
        drive, "--socket", str(side.folder.path / "1.sock"), "--op", "randwrite", "--bytes", "131072", "--depth", "256", "--ring",
        "256", "--indirect", "--calls", "--warmup", "0", "--seconds", f"{seconds + 3:g}"]),
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        time.sleep(0.5)
        began, before = time.monotonic(), device_ns(bench, side)
        reads = bench.drive("latency", side.name, side.socket, "--ioprio", "rt/4", "--rate", f"{RATE:g}", "--depth", "1024", "--ring",
                            "1024", "--indirect", "--warmup", "1", "--seconds", f"{seconds:g}")
        reads["busy"] = (device_ns(bench, side) - before) / ((time.monotonic() - began) * 1e9 * CHANNELS)
        if side.name != "unmanaged":
            reads["slo"] = next(n for n in cli(bench, side, "slo")["pools"][0]["nodes"] if n["class"] == "gold" and n["vm"] == "bench")
        reads["flood"] = json.loads(flood.communicate(timeout=120)[0])["iops"]
    finally:
        if flood.poll() is None:
            flood.kill()
            flood.wait()
    bench.raw("latency", side=side.name, **reads)
    return reads


def rows(bench, got):
    """What each side gave, and what was promised of it."""
    p99 = {name: [r["latency_ns"]["p99"] / 1000 for r in results] for name, results in got.items()}
    busy = {name: [r["busy"] for r in results] for name, results in got.items()}
    bench.row("latency", "unmanaged", "reads, p99", p99["unmanaged"], "us", f">= {5 * TARGET_US}", lambda v: v >= 5 * TARGET_US)
    bench.row("latency", "target 1 ms", "reads, p99", p99["target 1 ms"], "us", f"<= {TARGET_US}", lambda v: v <= TARGET_US)
    bench.row("latency", "target 90 us", "reads, p99", p99["target 90 us"], "us")
    for name, results in got.items():
        bench.row("latency", name, "reads", [r["iops"] for r in results], "IOPS", f"{RATE:g} offered")
        bench.row("latency", name, "writes beside", [r["flood"] for r in results], "IOPS")
        bench.row("latency", name, "device busy", [100 * b for b in busy[name]], "%")
    for name in ("target 1 ms", "target 90 us"):
        bench.row("latency", name, "device busy/unmanaged", [a / b for a, b in zip(busy[name], busy["unmanaged"])], "", ">= 0.95",
                  lambda v: v >= 0.95)
    for name, wanted in (("target 1 ms", "kept"), ("target 90 us", "target unreachable")):
        said = [r["slo"]["verdicts"]["latency"]["1s"]["reason"] for r in got[name]]
        print(f"  latency      {name:28} `fairlead slo' says: {', '.join(said)}", flush=True)
        bench.row("latency", name, f"said `{wanted}'", [sum(s == wanted for s in said) / len(said)])


def latency(bench):
    """A p99 target of 1 ms at 20 % load beside another VM's flood of 128 KiB writes at depth 256, and one that is impossible."""
    if bench.server_cpu == bench.client_cpu:
        raise Broken("a CPU for the worker and one for the drivers are needed")
    with contextlib.ExitStack() as stack:
        sides = []
        for name, (slo, target) in SIDES.items():
            sides.append(fairlead(bench, f"p: {{ {DEVICE}, slo: {slo} }}", DISKS, poll="always", classes=classes(target), name=name))
            stack.callback(sides[-1].remove)
        lost = []

        def one(side):
            side.freeze()
            lost.append(100 * max(stolen(bench.server_cpu), stolen(bench.client_cpu)))
            side.thaw()
            return measure(bench, side)

        got = rounds(bench, sides, one)
        bench.row("latency", "machine", "time taken by others", lost, "%", "< 0.5, or no p99 of 1 ms")
        rows(bench, got)
