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
import subprocess

from harness import Broken
from harness.counted import CMDLINE, CountedGuest
from harness.process import Folder, Process, wait_until
from lib import report

LATENCY_US = 80
DEPTH = 32
# Small, so that copying does not matter: the strawmen copy nothing, and counted instructions overrate string moves.
BYTES = 512
# Read over and over, so that no page of the disk is new.
SPAN = 1 << 20
RUNGS = {
    "B0": "one synchronous thread", "B1": "one asynchronous thread, eventfds, a lock", "B2": "one polling thread",
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

    def remove(self):
        """Nothing stays."""
        self.folder.remove()


class Counted:
    """Runs programs in such a guest."""

    def __init__(self, bench, cpus):
        self.dilation = cpus
        self.cpus = list(range(1, cpus - 1))
        self.path = pathlib.Path("/tmp")
        tools = [bench.program(name) for name in ("fairleadd", "fairlead-drive", "fairlead-strawman", "hog")]
        self.guest = CountedGuest(cpus=cpus, memory_mib=1024, qemu=bench.options.qemu, accel="tcg", tools=tools,
                                  cmdline=CMDLINE)
        self.guest.host_cpu = bench.server_cpu
        try:
            self.guest.boot()
            self.guest.run(f"/tools/hog {' '.join(map(str, range(cpus)))} >/dev/null 2>&1 &")
        except Broken:
            self.guest.remove()
            raise

    def program(self, name):
        """Where it is in the guest."""
        return f"/tools/{name}"

    def start(self, command, policy):
        """Starts a back-end and waits for its socket."""
        self.guest.run(f"cat >/tmp/policy.yaml <<'END'\n{policy}END\nrm -f /tmp/s; {shlex.join(map(str, command))} "
                       ">/tmp/log 2>&1 & echo $! >/tmp/pid")
        self.guest.run("n=0; while ! [ -S /tmp/s ]; do sleep 0.2; n=$((n + 1)); [ $n -lt 600 ] || { cat /tmp/log; exit 1; }; done")

    def json(self, command):
        """Runs a program that prints JSON."""
        return self.guest.run_json(shlex.join(map(str, command)) + " 2>&1")

    def stop(self):
        """Ends the back-end."""
        self.guest.run("kill -9 $(cat /tmp/pid); sleep 0.1; rm -f /tmp/s")

    def remove(self):
        """Ends the guest."""
        self.guest.remove()


def back_end(machine, rung, n):
    """(command, policy) of a rung."""
    socket, latency = machine.path / "s", LATENCY_US * machine.dilation
    if rung in ("B0", "B1"):
        kind = "sync" if rung == "B0" else "async"
        pin = ["taskset", "-c", str(machine.cpus[0])] if machine.dilation == 1 else ["taskset", hex(1 << machine.cpus[0])]
        return [*pin, machine.program("fairlead-strawman"), kind, latency, socket], ""
    count = 1 if rung == "B2" else n
    policy = (f"daemon: {{ control: {machine.path}/control.sock, workers: {machine.cpus[:count]}, poll: always }}\n"
              f"pools: {{ p: {{ type: model, slo: off, channels: 4096, read_latency: {latency}us, write_latency: {latency}us }} }}\n"
              f"vms: {{ v: {{ disks: [ {{ name: d, pool: p, size: 64MiB, queues: {n}, workers: {count}, socket: {socket} }} ] }} }}\n")
    return [machine.program("fairleadd"), "--config", machine.path / "policy.yaml"], policy


def measure(bench, machine, rung, n):
    """IOPS of one rung at N, in the CPUs' own time."""
    command, policy = back_end(machine, rung, n)
    servers = n if rung in ("B3", "B4") else 1
    drivers = ",".join(map(str, machine.cpus[servers:servers + n]))
    options = {"B0": ["--calls"], "B1": ["--calls"], "B3": ["--crossed"]}.get(rung, [])
    machine.start(command, policy)
    try:
        result = machine.json([machine.program("fairlead-drive"), "--socket", machine.path / "s", "--queues", n, "--depth", DEPTH,
                               "--bytes", BYTES, "--span", SPAN, "--cpus", drivers, "--warmup", 0.05 * machine.dilation,
                               "--seconds", f"{bench.options.seconds / 10 * machine.dilation:g}" if machine.dilation > 1
                               else bench.options.seconds, *options])
    finally:
        machine.stop()
    result["iops"] *= machine.dilation
    bench.raw("ladder", rung=rung, n=n, dilation=machine.dilation, result=result)
    if not result["ops"]:
        raise Broken(f"{rung} at N = {n}: not one request in the measured time; the machine is too busy")
    return result["iops"]


def chart(bench, got, steps, machine):
    """All rungs over N."""
    blocks = "".join(f"${rung} << EOD\n" + "\n".join(f"{n} {got[rung][n]}" for n in steps) + "\nEOD\n" for rung in RUNGS)
    lines = ", ".join(f"${rung} using 1:2 with linespoints title '{rung}: {text}'" for rung, text in RUNGS.items())
    note = "on CPUs of this machine" if machine.dilation == 1 else \
        "in a guest that counts instructions: contention for cache lines is invisible"
    report.plot(f"{blocks}set title 'IOPS over N queues, {BYTES} byte reads, depth {DEPTH}, device of {LATENCY_US} us\\n({note})'\n"
                "set logscale y\nset grid\nset key outside bottom center\nset xlabel 'N'\n"
                f"plot {lines}\n", bench.out / "ladder.svg")


def ladder(bench):
    """B0 (one synchronous thread) to B4 (N polling threads with completion affinity), N = 1 to 16, on a model device."""
    steps = [int(n) for n in bench.options.ladder_steps.split(",")]
    fits = [n for n in steps if 2 * n <= len(bench.cpus)]
    if bench.options.native or fits == steps:
        steps, machine = fits, Native(bench)
    else:
        machine = Counted(bench, 2 * max(steps) + 2)
    if not steps:
        raise Broken("two CPUs are needed for the smallest step")
    place = "natively" if machine.dilation == 1 else f"in a guest, dilation {machine.dilation}"
    got = {rung: {} for rung in RUNGS}
    try:
        for n in steps:
            for rung in RUNGS:
                got[rung][n] = measure(bench, machine, rung, n)
                bench.row("ladder", f"N = {n}, {place}", f"{rung} {RUNGS[rung]}"[:34], [got[rung][n]], "IOPS")
    finally:
        machine.remove()
    last = max(n for n in steps if n <= 10)
    for rung in ("B3", "B4"):
        bench.row("ladder", f"N = {last}/N = 1", rung, [got[rung][last] / got[rung][steps[0]]], "", f">= {0.9 * last:.3g}",
                  lambda v: v >= 0.9 * last)
    bench.row("ladder", f"N = {steps[-1]}", "B4/B0 (2018 paper: up to 39.6)", [got["B4"][steps[-1]] / got["B0"][steps[-1]]])
    bench.row("ladder", f"N = {steps[-1]}", "B4/B1", [got["B4"][steps[-1]] / got["B1"][steps[-1]]])
    chart(bench, got, steps, machine)
