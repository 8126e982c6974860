# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios without guests: one disk, one or two workers, driven by fairlead-drive and fairlead-hook."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

from harness import Broken, Unavailable
from harness.process import wait_until
from lib.sides import fairlead, median_interval, pinned, ratios, rounds, spdk, storage_daemon

CLASSES = ("classes: { gold: { ioprio: [rt, be/0], shares: 2600 }, silver: { ioprio: [be/4], shares: 500 }, "
           "bronze: { ioprio: [be/7, idle], shares: 100 } }")
# What policies have, and nothing of it near: a reservation, a latency target, limits, and an envelope around them.
ALL_KINDS = ("classes: { gold: { ioprio: [rt, be/0], shares: 2600, reservation: { iops: 20000 }, latency: { p99: 10ms } }, "
             "silver: { ioprio: [be/4], shares: 500, limit: { iops: 100M, bandwidth: 100GB/s } }, "
             "bronze: { ioprio: [be/7, idle], shares: 100 } }")
ENVELOPE = ["default_class: gold", "shares: 300", "reservation: { iops: 30000 }", "limit: { iops: 200M }"]
SLICED = "schedule: sliced, capacity: { iops: 100M },"


def iops(results):
    """The IOPS of each round."""
    return [r["iops"] for r in results]


def null(bench):
    """A disk that completes at once: IOPS at depth 32 and 128, latency at depth 1; against qemu-storage-daemon and SPDK."""
    with contextlib.ExitStack() as stack:
        sides = [fairlead(bench, 'p: { type: "null", slo: off }', "{ name: d, pool: p, size: 1GiB, socket: @/0.sock }")]
        stack.callback(sides[0].remove)
        sides.append(storage_daemon(bench, "driver=null-co,node-name=n,size=1073741824,read-zeroes=off"))
        stack.callback(sides[1].remove)
        if bench.options.spdk:
            sides.append(spdk(bench))
            stack.callback(sides[2].remove)
        for depth in (1, 32, 128):
            got = rounds(bench, sides, lambda side, d=depth: bench.drive("null", side.name, side.socket, "--depth", d,
                                                                         "--ring", 512))
            null_rows(bench, depth, got)


def trips(results):
    """The usual round trip of each round: what other processes take from the CPUs shows in the IOPS, but hardly here."""
    return [r["latency_ns"]["p50"] for r in results]


def null_rows(bench, depth, got):
    """Results at one depth."""
    case = f"depth {depth}"
    for name, results in got.items():
        bench.row("null", case, f"{name}, IOPS", iops(results))
        bench.row("null", case, f"{name}, latency p50", trips(results), "ns")
    ours, qemu = got["fairlead"], got["qemu"]
    bench.row("null", case, "latency p50, fairlead/qemu", ratios(trips(ours), trips(qemu)), "",
              *(("<= 0.1", lambda v: v <= 0.1) if depth == 1 else ()))
    if depth > 1:
        bench.row("null", case, "IOPS, fairlead/qemu", ratios(iops(ours), iops(qemu)), "", ">= 10", lambda v: v >= 10)
    if "spdk" in got:
        bench.row("null", case, "latency p50, fairlead/spdk", ratios(trips(ours), trips(got["spdk"])))
        bench.row("null", case, "IOPS, fairlead/spdk", ratios(iops(ours), iops(got["spdk"])), "", ">= 1.3", lambda v: v >= 1.3)


def memory(bench):
    """A disk in memory, 4 KiB: IOPS, the ratio to a plain 4 KiB memcpy loop on the worker's CPU, and to SPDK's malloc bdev."""
    with contextlib.ExitStack() as stack:
        sides = [fairlead(bench, "p: { type: ram, slo: off }", "{ name: d, pool: p, size: 256MiB, socket: @/0.sock }")]
        stack.callback(sides[0].remove)
        if bench.options.spdk:
            sides.append(spdk(bench, "bdev_malloc_create", 256))
            stack.callback(sides[1].remove)
        for side in sides:
            bench.drive("memory", "fill", side.socket, "--op", "write", "--depth", 32, "--bytes", 65536)
            side.freeze()
        copies = []

        def measure(side):
            if side is sides[0]:
                side.freeze()
                copies.append(bench.output([bench.program("fairlead-drive"), "--memcpy", "--cpus", bench.server_cpu, "--depth", 32,
                                            "--seconds", bench.options.seconds], "memory", "memcpy"))
                side.thaw()
            return bench.drive("memory", side.name, side.socket, "--depth", 32)

        got = rounds(bench, sides, measure)
    case, reads = "4 KiB, depth 32", got["fairlead"]
    bench.row("memory", case, "memcpy loop, copies/s", iops(copies))
    for name, results in got.items():
        bench.row("memory", case, f"{name}, IOPS", iops(results))
    bench.row("memory", case, "fairlead/memcpy", ratios(iops(reads), iops(copies)), "", ">= 0.4", lambda v: v >= 0.4)
    if "spdk" in got:
        bench.row("memory", case, "fairlead/spdk", ratios(iops(reads), iops(got["spdk"])))


def make_file(path, megabytes):
    """A file without holes."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def fio(bench, path, operation, depth):
    """fio's io_uring engine on the same file, on the CPU of our worker."""
    result = bench.output(
        pinned([bench.server_cpu], ["fio", "--name=x", f"--filename={path}", "--ioengine=io_uring", "--direct=1", "--thread",
                                    f"--rw={operation}", "--bs=4k", f"--iodepth={depth}", "--time_based", "--ramp_time=0.2",
                                    f"--runtime={bench.options.seconds}", "--randrepeat=0", "--norandommap",
                                    "--output-format=json"]), "file", "fio")
    return result["jobs"][0]["read" if "read" in operation else "write"]["iops"]


def file(bench):
    """A file with O_DIRECT: IOPS at depth 1 and 32, reads and writes, against fio's io_uring engine on the same file."""
    folder = pathlib.Path(bench.options.file_dir or bench.out) / "file-scenario"
    folder.mkdir(parents=True, exist_ok=True)
    side = None
    try:
        make_file(folder / "disk.raw", bench.options.file_mib)
        side = fairlead(bench, f"p: {{ type: file, directory: {folder.resolve()}, slo: off }}",
                        "{ name: d, pool: p, image: disk.raw, socket: @/0.sock }")
        side.freeze()
        for operation in ("randread", "randwrite"):
            for depth in (1, 32):
                ours, theirs = [], []
                for _ in range(bench.options.rounds):
                    theirs.append(fio(bench, folder / "disk.raw", operation, depth))
                    side.thaw()
                    ours.append(bench.drive("file", "fairlead", side.socket, "--op", operation, "--depth", depth)["iops"])
                    side.freeze()
                case = f"{operation}, depth {depth}"
                bench.row("file", case, "fio io_uring, IOPS", theirs)
                bench.row("file", case, "fairlead, IOPS", ours)
                bench.row("file", case, "fairlead/fio", ratios(ours, theirs), "", ">= 0.95", lambda v: v >= 0.95)
    finally:
        if side:
            side.remove()
        shutil.rmtree(folder, ignore_errors=True)


def hook(bench, scenario, *options):
    """fairlead-hook."""
    return bench.output([bench.program("fairlead-hook"), *options], scenario, "hook")


def workers(bench):
    """Several workers on a null disk, each with its driver on its own thread; the driver's own cost; ratio to one worker."""
    seconds = ["--seconds", str(bench.options.seconds)]
    counts = [n for n in (1, 2, 4, 8, 12, 16) if n <= len(bench.cpus)]
    got = {n: [] for n in counts}
    alone = []
    for _ in range(bench.options.rounds):
        alone.append(hook(bench, "workers", "--alone", "--cpus", str(bench.cpus[0]), *seconds)["worker_ns_per_op"])
        for n in counts:
            got[n].append(hook(bench, "workers", "--cpus", ",".join(map(str, bench.cpus[:n])), *seconds))
    bench.row("workers", "hook alone", "cost of the hook", alone, "ns")
    for n in counts:
        bench.row("workers", f"{n} workers", "IOPS", iops(got[n]))
        bench.row("workers", f"{n} workers", "a worker's time per request", [r["worker_ns_per_op"] for r in got[n]], "ns")
        if n > 1:
            bench.row("workers", f"{n} workers", f"{n} workers/1 worker", ratios(iops(got[n]), iops(got[1])), "",
                      f">= {0.95 * n:.3g}", lambda v, n=n: v >= 0.95 * n)


def cpu_seconds(pid):
    """What a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss_kib(pid):
    """Proportional set size of a process."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Broken("no Pss in smaps_rollup")


def idle(bench):
    """256 attached idle disks: CPU, memory a disk, and what a first request after idleness adds to a bare wake-up."""
    n = 256
    disks = "\n      - ".join(f"{{ name: d{i}, pool: p, size: 64MiB, queues: 1, socket: @/{i}.sock }}" for i in range(n))
    side = fairlead(bench, 'p: { type: "null" }', disks)
    client = None
    try:
        sockets = [side.folder.path / f"{i}.sock" for i in range(n)]
        wait_until(lambda: all(s.is_socket() for s in sockets), "all sockets", 60)
        before = pss_kib(side.process.pid)
        client = subprocess.Popen(pinned([bench.client_cpu], [bench.program("fairlead-idle"), str(bench.server_cpu), *map(str, sockets)]),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if client.stdout.readline().strip() != "attached":
            raise Broken("fairlead-idle did not attach")
        time.sleep(1)
        shares, firsts, added = [], [], []
        for _ in range(bench.options.rounds):
            used, began = cpu_seconds(side.process.pid), time.monotonic()
            time.sleep(max(2, bench.options.seconds))
            shares.append(100 * (cpu_seconds(side.process.pid) - used) / (time.monotonic() - began))
            client.stdin.write("measure\n")
            client.stdin.flush()
            result = json.loads(client.stdout.readline())
            bench.raw("idle", side="fairlead", cpu_percent=shares[-1], result=result)
            firsts.append(result["first_ns"]["p50"] / 1000)
            added.append((result["first_ns"]["p50"] - result["ping_ns"]["p50"]) / 1000)
        each = (pss_kib(side.process.pid) - before) / n
        bench.raw("idle", side="fairlead", pss_kib_before=before, pss_kib_each=each)
    finally:
        if client:
            client.stdin.close()
            client.wait()
        side.remove()
    bench.row("idle", f"{n} idle disks", "CPU of one core", shares, "%", "< 1", lambda v: v < 1)
    bench.row("idle", f"{n} idle disks", "memory a disk (PSS)", [each], "KiB", "< 1024", lambda v: v < 1024)
    bench.row("idle", f"{n} idle disks", "first request after idle, p50", firsts, "us")
    bench.row("idle", f"{n} idle disks", "added to a bare eventfd ping", added, "us", "< 50", lambda v: v < 50)


def instructions_of(bench, cpus, *options):
    """Instructions per request under callgrind, the hook's own included: of all threads but the first, the control thread, whose
    timers follow the clock and so count for more the slower the machine is."""
    if not shutil.which("valgrind"):
        raise Unavailable("valgrind is not installed; run tools/setup test")
    ops, file = 100000, bench.out / "raw" / f"callgrind-{len(list(bench.out.glob('raw/callgrind-*')))}.out"
    command = ["valgrind", "--tool=callgrind", "--fair-sched=yes", "--instr-atstart=no", "--separate-threads=yes",
               f"--callgrind-out-file={file}", bench.program("fairlead-hook"), "--cpus", ",".join(map(str, cpus)),
               "--ops", str(ops), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, stdin=subprocess.DEVNULL)
    threads = [path.read_text() for path in sorted(file.parent.glob(f"{file.name}-*"))]
    if done.returncode or len(threads) < 2:
        raise Broken(f"{' '.join(command)}\n{done.stderr[-800:]}")
    count = sum(int(text.rsplit("totals:", 1)[1]) for text in threads[1:]) / ops / len(cpus)
    bench.raw("instructions", command=command, per_request=count)
    return count


SCHEDULED = {
    "slo: on": ["--pool", "slo: on"],
    "all kinds of promises": ["--pool", "slo: on, depth: 256", "--classes", ALL_KINDS, "--vm", ", ".join(ENVELOPE)],
    "the same, sliced": ["--pool", f"slo: on, depth: 256, {SLICED}", "--classes", ALL_KINDS, "--vm", ", ".join(ENVELOPE)],
}


def instructions(bench):
    """Instructions per request on a null disk with 1 and 2 workers: constant, if no worker does another's work."""
    two = [bench.cpus[0], bench.cpus[1 % len(bench.cpus)]]
    hook_alone = instructions_of(bench, two[:1], "--alone")
    one = instructions_of(bench, two[:1]) - hook_alone
    bench.row("instructions", "1 worker", "per request", [one], "", "< 400", lambda v: v < 400)
    if two[0] != two[1]:
        both = instructions_of(bench, two) - hook_alone
        bench.row("instructions", "2 workers", "per request", [both])
        bench.row("instructions", "2 workers", "2 workers/1 worker", [both / one], "", "= 1", lambda v: abs(v - 1) < 0.01)
    for case, options in SCHEDULED.items():
        count = instructions_of(bench, two[:1], *options) - hook_alone
        bench.row("instructions", f"1 worker, {case}", "per request", [count])


# By case: keys of the pool, classes, envelope, the priority of the requests.
UNCONTENDED = {
    "shares": ("", CLASSES, [], "rt/0"),
    "gold of all kinds": ("", ALL_KINDS, ENVELOPE, "rt/0"),
    "silver of all kinds": ("", ALL_KINDS, ENVELOPE, "be/4"),
    "gold, sliced": (SLICED, ALL_KINDS, ENVELOPE, "rt/0"),
}


# Seconds of a turn, and before it: short enough for both of a pair to find the machine the same.
TURN, SETTLE = 0.03, 0.005


def slo(bench):
    """Promises of all kinds, no contention: IOPS with the scheduler against IOPS with `slo: off`, in pairs of short turns."""
    for kind in ("null", "ram"):
        for case, (keys, classes, envelope, ioprio) in UNCONTENDED.items():
            managed, plain = [], []
            # New daemons for every round, as where a process has its memory makes a difference, too.
            for _ in range(bench.options.rounds):
                turns = slo_turns(bench, kind, case, f"depth: 256, {keys}", classes, envelope, ioprio)
                managed += turns["iops"]
                plain += turns["against"]
            bench.row("slo", f"{kind}, {case}", "slo: on, IOPS", managed)
            bench.row("slo", f"{kind}, {case}", "slo: off, IOPS", plain)
            pairs = ratios(managed, plain)
            bench.row("slo", f"{kind}, {case}", "slo: on/slo: off, 95 % sure", pairs, "", ">= 0.95", lambda v: v >= 0.95,
                      median_interval(pairs))


def slo_turns(bench, kind, case, keys, classes, envelope, ioprio):
    """IOPS of both in each of their turns. Neither is stopped: the one that is not loaded sleeps by itself."""
    disk = "{ name: d, pool: p, size: 256MiB, queues: 3, socket: @/0.sock }"
    with contextlib.ExitStack() as stack:
        sides = []
        for pool in (f"slo: on, {keys}", "slo: off"):
            sides.append(fairlead(bench, f'p: {{ type: "{kind}", {pool} }}', disk, classes=classes, envelope=envelope))
            stack.callback(sides[-1].remove)
        return bench.output([bench.program("fairlead-drive"), "--socket", sides[0].socket, "--against", sides[1].socket, "--cpus",
                             bench.client_cpu, "--depth", 32, "--ioprio", ioprio, "--turns", round(bench.options.seconds / TURN),
                             "--seconds", TURN, "--warmup", SETTLE], "slo", case)
