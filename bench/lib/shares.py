# SPDX-License-Identifier: GPL-2.0-or-later
"""Shares over 1, 2 and 4 workers, with an owner and with slices, while queues move: tests/unit/test-blk-shares.

Natively where there are CPUs for four workers and the driver; otherwise in a guest with eight, emulated by counting
instructions, whose CPUs take turns: there the device is slower, so that turns are short beside it.
"""
import re
import subprocess

from harness import Broken
from lib.ladder import CountedGuest
from lib.sides import pinned

CPUS = 8
WORKERS = 4  # at most; on the first CPUs
SLOWER = 4
TEST = re.compile(r"\[ RUN +\] (\w+)")
LINE = re.compile(r"(owner|sliced) +(\d) workers? *: gold : bronze = ([\d.]+) of (\d), total ([\d.]+) % of the device")


def results(output):
    """Case, promised ratio, ratio and total of each line; where a VM's limit is divided over slices, the test's name tells."""
    test = ""
    for line in output.splitlines():
        if found := TEST.search(line):
            test = found[1]
        elif found := LINE.search(line):
            how, workers, ratio, promised, total = found.groups()
            if test == "limits_over_slices":
                how = "limit" if promised == "3" else "reserved"
            yield f"{how}, {workers} worker{'s' if workers != '1' else ''}", int(promised), float(ratio), float(total)


def natively(bench, program):
    """On this machine, driver and control thread where no worker polls."""
    command = pinned([c for c in bench.cpus if c >= WORKERS], [program])
    return [subprocess.run(command, capture_output=True, text=True, check=False, timeout=600) for _ in range(bench.options.rounds)]


def counted(bench, program):
    """In the guest; one round says all, as the next one would be the same."""
    guest = CountedGuest(cpus=CPUS, memory_mib=768, qemu=bench.options.qemu, accel="tcg", tools=[program, bench.program("hog")],
                         cmdline="nokaslr norandmaps nowatchdog tsc=reliable mitigations=off cryptomgr.notests=1 "
                                 "transparent_hugepage=never skew_tick=1")
    guest.host_cpu = bench.server_cpu
    try:
        guest.boot()
        guest.run(f"/tools/hog {' '.join(map(str, range(CPUS)))} >/dev/null 2>&1 &")
        command = guest.start_command(f"/tools/test-blk-shares {SLOWER} 2>&1")
        status, output = command.wait(3600)
    finally:
        guest.remove()
    return [subprocess.CompletedProcess([program], status, output, "")]


def shares(bench):
    """Shares of 3 : 1 over 1, 2 and 4 workers, with an owner and with slices, while queues move from worker to worker."""
    program = str(bench.build / "tests/unit/test-blk-shares")
    native = len(bench.cpus) > WORKERS
    runs = (natively if native else counted)(bench, program)
    got = {}
    for run in runs:
        bench.raw("shares", native=native, status=run.returncode, output=run.stdout)
        found = list(results(run.stdout))
        if not found:
            raise Broken(f"{program}: status {run.returncode}\n{run.stdout[-800:]}{run.stderr[-800:]}")
        for case, promised, ratio, total in found:
            got.setdefault((case, promised), []).append((ratio, total))
    print(f"  run {'natively' if native else f'in a guest of {CPUS} CPUs that are emulated by counting instructions'}", flush=True)
    for (case, promised), seen in got.items():
        bench.row("shares", case, "gold : bronze", [ratio for ratio, _ in seen], "", f"{promised}, within 5 %",
                  lambda v, promised=promised: abs(v / promised - 1) <= 0.05)
        bench.row("shares", case, "total", [total for _, total in seen], "%")
