# SPDX-License-Identifier: GPL-2.0-or-later
"""Results as text, CSV and charts, with the facts of the machine."""
import csv
import os
import pathlib
import platform
import shutil
import subprocess

from lib.sides import show

COLUMNS = ("scenario", "case", "metric", "median", "low", "high", "unit", "target", "met")


def machine():
    """What a figure depends on."""
    models = [line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    memory = pathlib.Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return [f"CPU: {os.cpu_count()} x {models[0] if models else platform.machine()}",
            f"memory: {int(memory) >> 20} GiB", f"kernel: {platform.release()}",
            f"load average at the end: {' '.join(f'{v:.2f}' for v in os.getloadavg())}"]


def text(rows, notes):
    """A table for people."""
    lines = [*machine(), *notes, ""]
    lines.append(f"{'scenario':12} {'case':28} {'metric':34} {'median':>9} {'':5} {'spread':>21}  target")
    for row in rows:
        spread = f"{show(row['low'])} .. {show(row['high'])}"
        lines.append(f"{row['scenario']:12} {row['case']:28} {row['metric']:34} {show(row['median']):>9} {row['unit']:5} "
                     f"{spread:>21}  {row['target']} {row['met']}".rstrip())
    return "\n".join(lines) + "\n"


def plot(script, path):
    """Runs gnuplot, if there is one."""
    if not shutil.which("gnuplot"):
        return
    subprocess.run(["gnuplot"], input=f'set terminal svg size 900,500 dynamic background "white"\nset output "{path}"\n{script}',
                   text=True, check=False)


def bars(rows, out):
    """One chart of all comparisons that have a target, as ratios."""
    ratios = [r for r in rows if r["target"] and not r["unit"]]
    if not ratios:
        return
    data = "\n".join(f"\"{r['scenario']}, {r['case']}: {r['metric']}\" {r['median']} {r['low']} {r['high']}" for r in ratios)
    plot(f"$d << EOD\n{data}\nEOD\nset title 'Ratios (median, lowest and highest round)'\nset logscale y\nset grid y\n"
         "set style fill solid 0.5\nset boxwidth 0.6\nset xtics rotate by -35 font ',9'\nset bmargin 11\nset rmargin 12\nset key off\n"
         "plot $d using 0:2:xtic(1) with boxes, $d using 0:2:3:4 with yerrorbars lc black\n", out / "ratios.svg")


def write(bench, notes):
    """All of it, into the results folder."""
    (bench.out / "report.txt").write_text(text(bench.rows, notes))
    with (bench.out / "report.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(bench.rows)
    bars(bench.rows, bench.out)
