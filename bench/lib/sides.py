# SPDX-License-Identifier: GPL-2.0-or-later
"""The sides of a comparison (back-ends that run, and stand still while another is measured) and the programs that load them."""
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import time

from harness import Broken, Unavailable, packages
from harness.process import Folder, Process, wait_until


class Bench:
    """One run of bench/run: what was asked for, where things are, what was found."""

    def __init__(self, options, build, out):
        self.options, self.build, self.out = options, pathlib.Path(build), pathlib.Path(out)
        self.rows = []
        allowed = sorted(os.sched_getaffinity(0))
        self.cpus = [int(c) for c in options.cpus.split(",")] if options.cpus else allowed
        self.server_cpu, self.client_cpu = self.cpus[0], self.cpus[1 % len(self.cpus)]
        (self.out / "raw").mkdir(parents=True, exist_ok=True)

    def program(self, name):
        """A program of ours."""
        return str(self.build / ("src/daemon" if name == "fairleadd" else "bench") / name)

    def raw(self, scenario, **record):
        """Keeps a measurement as it came."""
        with (self.out / "raw" / f"{scenario}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def row(self, scenario, case, metric, values, unit="", target="", good=None, spread=None):
        """Adds a result: median of `values` and their spread, lowest and highest unless given. good: a test of the median."""
        median, (low, high) = statistics.median(values), spread or (min(values), max(values))
        verdict = "" if good is None else ("yes" if good(median) else "NO")
        self.rows.append({"scenario": scenario, "case": case, "metric": metric, "median": median, "low": low, "high": high,
                          "unit": unit, "target": target, "met": verdict})
        print(f"  {scenario:12} {case:28} {metric:34} {show(median):>9} {unit:5} [{show(low)} .. {show(high)}]"
              f"{'  target ' + target if target else ''} {verdict}", flush=True)

    def output(self, command, scenario, side, env=None, hang_s=600):
        """Runs a program that prints one JSON document; keeps and returns it."""
        done = subprocess.run([str(w) for w in command], capture_output=True, text=True, env=env, timeout=hang_s, check=False,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Broken(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-400:]}{done.stderr[-800:]}")
        result = json.loads(done.stdout)
        self.raw(scenario, side=side, command=[str(w) for w in command], result=result)
        return result

    def drive(self, scenario, side, socket, *options):
        """fairlead-drive against a socket."""
        return self.output([self.program("fairlead-drive"), "--socket", socket, "--cpus", self.client_cpu, "--seconds",
                            self.options.seconds, *options], scenario, side)


def show(value):
    """A number for people."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1000 if suffix == 'k' else limit):.3g}{suffix}"
    return f"{value:.4g}"


class Side:
    """A back-end: a process that listens at `socket`. Frozen unless thawed. settle_s: before it is frozen, to end a session in
    peace (SPDK gives up one whose end takes longer than some seconds of anybody's time)."""

    def __init__(self, name, command, socket, env=None, settle_s=0):
        self.folder = Folder()
        self.settle_s = settle_s
        self.name = name
        self.socket = pathlib.Path(str(socket).replace("@", str(self.folder.path)))
        self.log = self.folder.path / "log"
        words = [str(w).replace("@", str(self.folder.path)) for w in command(self.folder.path) if w is not None]
        self.process = Process(words, self.log, env)
        try:
            wait_until(lambda: self.socket.is_socket() or not self.process.must_be_alive(), f"{name} listens", 60)
        except Broken:
            self.remove()
            raise

    def freeze(self):
        """Stops it: it costs nothing while another is measured."""
        time.sleep(self.settle_s)
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        """Lets it go on."""
        self.process.signal(signal.SIGCONT)

    def remove(self):
        """Ends it."""
        self.thaw()
        self.process.kill()
        self.folder.remove()


def pinned(cpus, command):
    """A command on these CPUs only."""
    return ["taskset", "-c", ",".join(map(str, cpus)), *command]


def fairlead(bench, pools, disks, poll="adaptive", classes="", workers=None, name="fairlead", envelope=()):
    """Our daemon. `disks`: the policy's lines of VM `bench`, `@` stands for the side's folder; the first is
    `socket`. `envelope`: other keys of the VM."""
    workers = workers or [bench.server_cpu]
    promises = "".join(f"    {key}\n" for key in envelope)

    def command(folder):
        text = (f"daemon: {{ control: {folder}/control.sock, workers: {workers}, poll: {poll} }}\n"
                f"pools:\n  {pools}\n{classes}\nvms:\n  bench:\n{promises}    disks:\n      - {disks}\n").replace("@", str(folder))
        (folder / "policy.yaml").write_text(text)
        return [bench.program("fairleadd"), "--config", folder / "policy.yaml"]

    return Side(name, command, "@/0.sock")


def qemu_programs(bench):
    """QEMU's programs: of the suite that was asked for, else of this system."""
    try:
        return packages.programs(bench.options.qemu)
    except Unavailable as error:
        print(f"  note: {error}; using this system's QEMU", flush=True)
        return packages.programs(None)


def storage_daemon(bench, blockdev, name="qemu", queues=1, cpu=None, extra=()):
    """qemu-storage-daemon with one iothread, serving `blockdev` (its node-name is `n`)."""
    programs = qemu_programs(bench)
    export = f"type=vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path=@/0.sock,num-queues={queues},iothread=t"

    def command(_folder):
        return pinned([bench.server_cpu if cpu is None else cpu],
                      [*programs.command("qemu-storage-daemon"), "--object", "iothread,id=t", *extra, "--blockdev", blockdev,
                       "--export", export])

    return Side(name, command, "@/0.sock", programs.environment())


def spdk(bench, method="bdev_null_create", mib=1024, name="spdk"):
    """SPDK's vhost target with one bdev on one reactor, without huge pages, if its build folder was given."""
    root = pathlib.Path(bench.options.spdk).resolve()

    def command(folder):
        disk = {"name": "n", "num_blocks": mib << 11, "block_size": 512}
        (folder / "config.json").write_text(json.dumps({"subsystems": [
            {"subsystem": "bdev", "config": [{"method": method, "params": disk}]},
            {"subsystem": "vhost_blk", "config": [
                {"method": "vhost_create_blk_controller", "params": {"ctrlr": "0.sock", "dev_name": "n"}}]}]}))
        return [root / "build/bin/vhost", "-S", folder, "-r", folder / "rpc.sock", "-m", hex(1 << bench.server_cpu), "-s", "768",
                "--no-huge", "--no-pci", "--disable-cpumask-locks", "-c", folder / "config.json"]

    return Side(name, command, "@/0.sock", settle_s=0.5)


def rounds(bench, sides, measure):
    """Measures every side once a round, the others frozen; returns {side's name: [result a round]}."""
    results = {side.name: [] for side in sides}
    for side in sides:
        side.freeze()
    for number in range(bench.options.rounds):
        # The order turns, so that a drift of the machine favours nobody.
        for side in sides[number % len(sides):] + sides[:number % len(sides)]:
            side.thaw()
            try:
                results[side.name].append(measure(side))
            finally:
                side.freeze()
    return results


def ratios(above, below):
    """Round by round, but for those in which a busy machine let the other side do nothing at all."""
    got = [a / b for a, b in zip(above, below) if b]
    if not got:
        raise Broken("not one request in the measured time; the machine is too busy")
    return got


def median_interval(values):
    """Where the median of what `values` were drawn from lies with 95 % confidence, however it is distributed: as many of n draws
    are below it as tosses of a coin show heads."""
    ordered, n = sorted(values), len(values)
    cut, tail = 0, 1 / 2 ** n
    while tail <= 0.025 and cut < n // 2:
        cut += 1
        tail += math.comb(n, cut) / 2 ** n
    return ordered[max(cut - 1, 0)], ordered[n - max(cut, 1)]
