# SPDX-License-Identifier: GPL-2.0-or-later
"""The ladder: from one thread that serves synchronously to one polling thread per queue, N = 1 to 16.

Natively where there are CPUs for N workers and N drivers; otherwise in a guest with a CPU for each of them, emulated by
counting instructions: all its CPUs take turns on one engine, so its time runs slower than theirs by the number of CPUs (the
dilation), the device's latency is stretched by as much, and results are given in the CPUs' own time. Every instruction takes
1 ns there, whatever it does: contention for cache lines is invisible.
"""
import json
import pathlib
import shlex
import statistics
import subprocess

from harness import Broken
from harness.counted import CMDLINE, CountedGuest
from harness.process import Folder, Process, wait_until
from lib import report
from lib.sides import ratios, show

LATENCY_US = 80
DEPTH = 32
# (latency, depth) with which a worker always has more to do than it can.
BUSY = (20, 80)
# Small, so that copying does not matter: the strawmen copy nothing, and counted instructions overrate string moves.
BYTES = 512
# Read over and over, so that no page of the disk is new.
SPAN = 1 << 20
RUNGS = {
    "B0": "one thread, a request at a time", "B1": "one asynchronous thread, eventfds, a lock", "B2": "one polling thread",
    "B3": "N polling threads", "B4": "N polling threads, completion affinity",
}


class Native:
    """Runs programs here."""
    dilation = 1

    def __init__(self, bench):
        self.bench, self.cpus = bench, bench.cpus
        self.folder = Folder()
        self.path = self.folder.path
        self.process = None

    def start(self, command, policy):
        """Starts a back-end and waits for its socket."""
        (self.path / "policy.yaml").write_text(policy)
        self.process = Process(command, self.path / "log")
        wait_until(lambda: (self.path / "s").is_socket() or not self.process.must_be_alive(), "the back-end listens", 60)

    def json(self, command):
        """Runs a program that prints JSON."""
        done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False, timeout=600,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Broken(f"{command}: {done.stderr}")
        return json.loads(done.stdout)

    def stop(self):
        """Ends the back-end."""
        self.process.kill()
        (self.path / "s").unlink(missing_ok=True)

    def program(self, name):
        """Where it is."""
        return self.bench.program(name)

    def place(self, servers, n):
        """(CPUs of so many serving threads, CPUs of n drivers)."""
        return self.cpus[:servers], self.cpus[servers:servers + n]

    def remove(self):
        """Nothing stays."""
        self.folder.remove()


class ManyCpus(CountedGuest):
    """Boots with one CPU: the kernel's delay loops pause, which ends a CPU's turn on the engine, and the more CPUs there are
    the more a turn costs (minutes, with 20). The others are plugged in afterwards."""

    def command(self):
        words = super().command()
        words[words.index("-smp") + 1] = f"1,maxcpus={self.cpus}"
        return words

    def boot(self):
        super().boot()
        for slot in reversed(self.qmp.execute("query-hotpluggable-cpus")):
            if "qom-path" not in slot:
                self.qmp.execute("device_add", driver=slot["type"], **slot["props"])
        self.run(f"n=1; while [ $n -lt {self.cpus} ]; do f=/sys/devices/system/cpu/cpu$n/online; "
                 "while ! [ -e $f ]; do sleep 0.01; done; echo 1 >$f || exit 1; n=$((n + 1)); done")


class Counted:
    """Runs programs in such a guest."""

    def __init__(self, bench, cpus):
        self.dilation = cpus
        self.cpus = list(range(cpus))
        self.path = pathlib.Path("/tmp")
        tools = [bench.program(name) for name in ("fairleadd", "fairlead-drive", "fairlead-strawman", "hog")]
        self.guest = ManyCpus(cpus=cpus, memory_mib=1024, qemu=bench.options.qemu, accel="tcg", tools=tools,
                              cmdline=f"{CMDLINE} cpu_init_udelay=10 lpj=4000000")
        self.guest.host_cpu = bench.server_cpu
        try:
            self.guest.boot()
        except Broken:
            self.guest.remove()
            raise

    def program(self, name):
        """Where it is in the guest."""
        return f"/tools/{name}"

    def place(self, servers, n):
        """(CPUs of so many serving threads, CPUs of n drivers): both spread alike over the order of turns, CPU 0 with its
        interrupts last."""
        middle, half = (len(self.cpus) - 1) // 2, len(self.cpus) // 2
        workers = [middle + (i + 1) // 2 * 2 * (1 if i % 2 else -1) for i in range(half)]
        drivers = [middle + 1 + (i + 1) // 2 * 2 * (-1 if i % 2 else 1) for i in range(half)]
        return workers[:servers], drivers[:n]

    def start(self, command, policy):
        """Starts a back-end and waits for its socket."""
        self.guest.run(f"cat >/tmp/policy.yaml <<'END'\n{policy}END\nrm -f /tmp/s; {shlex.join(map(str, command))} "
                       ">/tmp/log 2>&1 & echo $! >/tmp/pid")
        self.guest.run("n=0; while ! [ -S /tmp/s ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 600 ] || { cat /tmp/log; exit 1; }; done")

    def json(self, command):
        """Runs a program that prints JSON, on a machine without an idle CPU."""
        cpus = " ".join(map(str, self.cpus))
        return self.guest.run_json(f"/tools/hog {cpus} >/dev/null 2>&1 & hog=$!; {shlex.join(map(str, command))} 2>&1; kill -9 $hog")

    def stop(self):
        """Ends the back-end."""
        self.guest.run("kill -9 $(cat /tmp/pid); sleep 0.1; rm -f /tmp/s")

    def remove(self):
        """Ends the guest."""
        self.guest.remove()


def back_end(machine, rung, n, cpus, latency_us):
    """(command, policy) of a rung, served on these CPUs."""
    socket, latency = machine.path / "s", latency_us * machine.dilation
    if rung in ("B0", "B1"):
        kind = "sync" if rung == "B0" else "async"
        pin = ["taskset", "-c", str(cpus[0])] if machine.dilation == 1 else ["taskset", hex(1 << cpus[0])]
        return [*pin, machine.program("fairlead-strawman"), kind, latency, socket], ""
    policy = (f"daemon: {{ control: {machine.path}/control.sock, workers: {cpus}, poll: always }}\n"
              f"pools: {{ p: {{ type: model, slo: off, channels: 4096, read_latency: {latency}us, write_latency: {latency}us }} }}\n"
              f"vms: {{ v: {{ disks: [ {{ name: d, pool: p, size: 64MiB, queues: {n}, workers: {len(cpus)}, socket: {socket} }} ] }} }}\n")
    return [machine.program("fairleadd"), "--config", machine.path / "policy.yaml"], policy


def measure(bench, machine, rung, n, latency_us=LATENCY_US, depth=DEPTH):
    """IOPS of one rung at N, in the CPUs' own time."""
    servers, drivers = machine.place(n if rung in ("B3", "B4") else 1, n)
    command, policy = back_end(machine, rung, n, servers, latency_us)
    options = {"B0": ["--calls"], "B1": ["--calls"], "B3": ["--crossed"]}.get(rung, [])
    warmup, seconds = 0.05, bench.options.seconds
    if machine.dilation > 1:
        options = [*options, "--spin"]
        warmup, seconds = 0.01 * machine.dilation, seconds / 50 * machine.dilation
    machine.start(command, policy)
    try:
        result = machine.json([machine.program("fairlead-drive"), "--socket", machine.path / "s", "--queues", n, "--depth", depth,
                               "--bytes", BYTES, "--span", SPAN, "--cpus", ",".join(map(str, drivers)), "--warmup", f"{warmup:g}",
                               "--seconds", f"{seconds:g}", *options])
    finally:
        machine.stop()
    result["iops"] *= machine.dilation
    bench.raw("ladder", rung=rung, n=n, dilation=machine.dilation, latency_us=latency_us, depth=depth, result=result)
    if not result["ops"]:
        raise Broken(f"{rung} at N = {n}: not one request in the measured time; the machine is too busy")
    return result["iops"]


def speed(bench, machine, n):
    """What a CPU does on average when 2N of them are busy, in requests of a driver that answers itself."""
    workers, drivers = machine.place(n, n)
    result = machine.json([machine.program("fairlead-drive"), "--hook", "--queues", 2 * n, "--depth", DEPTH, "--bytes", BYTES,
                           "--cpus", ",".join(map(str, workers + drivers)), "--warmup", 0.1, "--seconds", 0.2, "--spin"])
    bench.raw("ladder", rung="speed", n=n, dilation=machine.dilation, cpus=workers + drivers, result=result)
    return result["iops"] / (2 * n)


def chart(bench, got, steps, machine):
    """All rungs over N."""
    points = {rung: "\n".join(f"{n} {statistics.median(got[rung][n])}" for n in steps) for rung in RUNGS}
    blocks = "".join(f"${rung} << EOD\n{points[rung]}\nEOD\n" for rung in RUNGS)
    lines = ", ".join(f"${rung} using 1:2 with linespoints title '{rung}: {text}'" for rung, text in RUNGS.items())
    note = "on CPUs of this machine" if machine.dilation == 1 else \
        f"in a guest of {machine.dilation} CPUs that counts instructions: contention for cache lines is invisible"
    report.plot(f"{blocks}set title 'IOPS over N queues, {BYTES} byte reads, depth {DEPTH}, device of {LATENCY_US} us\\n({note})'\n"
                "set logscale y\nset grid\nset key outside bottom center\nset xlabel 'N'\n"
                f"plot {lines}\n", bench.out / "ladder.svg")


def choose(bench):
    """(steps that fit, machine): this one's own CPUs if they suffice or must do, else those of a guest."""
    steps = [int(n) for n in bench.options.ladder_steps.split(",")]
    native = bench.options.native or 2 * max(steps) <= len(bench.cpus)
    cpus = len(bench.cpus) if native else bench.options.ladder_cpus or 2 * max(steps) + 2
    steps = [n for n in steps if 2 * n <= cpus]
    if not steps:
        raise Broken("two CPUs are needed for the smallest step")
    return steps, Native(bench) if native else Counted(bench, cpus)


def ratio_rows(bench, got, steps):
    """What the rungs are to each other."""
    first, tops = steps[0], sorted({max((n for n in steps if n <= 10), default=steps[-1]), steps[-1]})
    for n in tops:
        least = 0.9 * n
        for rung in ("B3", "B4", "B4, workers never idle"):
            bench.row("ladder", f"N = {n}/N = {first}", rung, ratios(got[rung][n], got[rung][first]), target=f">= {least:.3g}",
                      good=lambda v, least=least: v >= least)
        bench.row("ladder", f"N = {n}/N = {first}", "speed of a CPU", ratios(got["speed"][n], got["speed"][first]))
    for n in tops:
        bench.row("ladder", f"N = {n}", "B4/B0 (2018 paper: up to 39.6)", ratios(got["B4"][n], got["B0"][n]))
        bench.row("ladder", f"N = {n}", "B4/B1", ratios(got["B4"][n], got["B1"][n]))
        bench.row("ladder", f"N = {n}", "B4/B2", ratios(got["B4"][n], got["B2"][n]))


def step(bench, machine, n):
    """One round at N: {what: result}."""
    got = {rung: measure(bench, machine, rung, n) for rung in RUNGS}
    # The rungs are limited by their depth and the device's latency; here by what a worker can do.
    got["B4, workers never idle"] = measure(bench, machine, "B4", n, *BUSY)
    got["speed"] = speed(bench, machine, n)
    return got


def ladder(bench):
    """B0 (one synchronous thread) to B4 (N polling threads with completion affinity), N = 1 to 16, on a model device."""
    steps, machine = choose(bench)
    native = machine.dilation == 1
    place = "natively" if native else f"guest, {machine.dilation} CPUs"
    names = {**{rung: f"{rung} {text}"[:34] for rung, text in RUNGS.items()}, "B4, workers never idle": "B4, workers never idle"}
    got = {name: {n: [] for n in steps} for name in (*names, "speed")}
    try:
        # In the guest one round says all: nothing else takes its time.
        for _ in range(bench.options.rounds if native else 1):
            for n in steps:
                results = step(bench, machine, n)
                print(f"  N = {n}: {', '.join(f'{name} {show(value)}' for name, value in results.items())}", flush=True)
                for name, value in results.items():
                    got[name][n].append(value)
    finally:
        machine.remove()
    for n in steps:
        for name, text in names.items():
            bench.row("ladder", f"N = {n}, {place}", text, got[name][n], "IOPS")
    ratio_rows(bench, got, steps)
    chart(bench, got, steps, machine)
