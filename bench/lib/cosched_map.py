# SPDX-License-Identifier: GPL-2.0-or-later
"""Where co-scheduling gains, simulated: maps over the shape of the load, and what the others pay for it.

A map's cells are first run under plain credit alone, with seeds of their own. From that it is decided, and frozen, in which of
them the paper's claim ought to hold for `pooled`: what the group would save if it got what its weight entitles it to, and what
the others would lose then, both follow from its share under credit. Only then is everything run under every algorithm.
"""
import concurrent.futures
import csv
import json
import subprocess

from harness import Broken
from lib import cosched_draw

CPUS = 4
PAPER_GAIN, PAPER_LOSS = 34.87, 7.75  # less time for each request, more time for the others' work, in percent
ALGORITHMS = ["credit", "co-credit", "pooled", "pooled-mute"]
SELECT_SEED, SEED, SEEDS, SECONDS = 1001, 1, 8, 30
COLUMNS = ["map", "x", "y", "chosen", "algorithm", "ms_per_request", "gain", "gain_low", "gain_high", "mean_gain", "p99_gain",
           "others_loss", "ran", "entitled", "worst_share_error", "together", "kicks_per_s"]


def load(adders=7, chain=1, ratio=0.4, cost_us=1400, clients=100):
    """A group of a driver and `chain` VMs, one after another, beside adders. ratio: the driver's part for each part of a VM."""
    each = cost_us / (chain + ratio)
    driver, web = max(1, round(each * ratio / 2 * 1000)), round(each * 1000)
    stages = [f"web-{i}" for i in range(1, chain + 1)]
    path = [("driver", driver), *((s, web) for s in stages), ("driver", driver)]
    vms = "".join(f"  {s}: {{ runs: serve }}\n" for s in stages)
    return (f"cpus: {CPUS}\nvms:\n  driver: {{ runs: serve, batch: 100 }}\n{vms}  adder: {{ runs: hog, copies: {adders} }}\n"
            f"groups:\n  shop: {{ vms: [driver, {', '.join(stages)}] }}\nchains:\n  requests:\n    clients: {clients}\n    path:\n"
            + "".join(f"    - {{ vm: {vm}, cost: {cost}ns }}\n" for vm, cost in path))


def maps():
    """Every map: name, what its axes are, their values, and the load of a cell."""
    return [
        ("adders", "adders", "driver's CPU time for each 1 of the web server", [5, 6, 7, 8, 9, 10, 11, 12, 14, 17, 21],
         [0.05, 0.1, 0.2, 0.3, 0.5, 1.0], lambda x, y: {"adders": x, "ratio": y}),
        ("requests", "requests on their way", "CPU time of a request, ms", [1, 3, 10, 30, 100, 300], [0.1, 0.3, 1, 3, 10, 30],
         lambda x, y: {"adders": 11, "ratio": 0.2, "clients": x, "cost_us": y * 1000}),
        ("members", "adders", "members of the group", [5, 7, 9, 11, 14, 17], [2, 3, 4],
         lambda x, y: {"adders": x, "chain": y - 1, "ratio": 0.2}),
    ]


def simulate(bench, text, algorithms, seed, duration=SECONDS):
    """One file, all seeds; the report's algorithms by name."""
    command = [str(bench.build / "src/cli/fairlead"), "--json", "sim", "cosched", "-", "--algorithms", ",".join(algorithms),
               "--seeds", str(SEEDS), "--first-seed", str(seed), "--duration", f"{duration}s"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise Broken(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-800:]}")
    return {a["name"]: a for a in json.loads(done.stdout)["algorithms"]}


def is_chosen(credit, members, adders):
    """Whether the paper's claim ought to hold, from plain credit alone."""
    ran, entitled = credit["account"]["shop"]["ran"]["mean"], CPUS * members / (members + adders)
    gain, loss = 1 - ran / entitled, (CPUS - ran) / (CPUS - entitled) - 1
    return 100 * gain >= PAPER_GAIN and 100 * loss <= PAPER_LOSS


def change(value, default=0.0):
    """The ratio to credit as less time, in percent, with its interval."""
    if "ratio" not in value:
        return default, default, default
    return tuple(100 * (1 - value[key]) for key in ("ratio", "ratio_high", "ratio_low"))


def record(name, x, y, chosen, a):
    """One line of the CSV."""
    chain, shop, machine = a["chain"]["requests"], a["account"]["shop"], a["machine"]
    gain, low, high = change(chain["ms_per_request"])
    work = machine["others_worked"].get("ratio", 1)
    return dict(zip(COLUMNS, [name, x, y, int(chosen), a["name"], *(round(v, 4) for v in (
        chain["ms_per_request"]["mean"], gain, low, high, change(chain["mean_ms"])[0], change(chain["p99_ms"])[0],
        100 * (1 / work - 1), shop["ran"]["mean"], shop["entitled"]["mean"], 100 * machine["worst_share_error"]["most"],
        shop["co_ran"]["mean"], machine["kicks_per_s"]["mean"]))]))


def run_map(bench, name, xs, ys, cell):
    """All records of a map: the choice first, on credit alone."""
    places = [(x, y) for x in xs for y in ys]

    def choose(place):
        shape = cell(*place)
        credit = simulate(bench, load(**shape), ["credit"], SELECT_SEED)["credit"]
        return is_chosen(credit, shape.get("chain", 1) + 1, shape.get("adders", 7))

    with concurrent.futures.ThreadPoolExecutor(len(bench.cpus)) as pool:
        chosen = list(pool.map(choose, places))
        results = list(pool.map(lambda place: simulate(bench, load(**cell(*place)), ALGORITHMS, SEED), places))
    return [record(name, *place, is_in, result[a]) for place, is_in, result in zip(places, chosen, results) for a in ALGORITHMS]


def claim(bench, records):
    """The paper's claim in the cells that were chosen."""
    for algorithm in ("co-credit", "pooled", "pooled-mute"):
        cells = [r for r in records if r["chosen"] and r["algorithm"] == algorithm]
        if not cells:
            continue
        bench.row("cosched-map", algorithm, "less time for each request", [r["gain"] for r in cells], "%", ">= 34.87",
                  lambda v: v >= PAPER_GAIN)
        bench.row("cosched-map", algorithm, "more time for others' work", [r["others_loss"] for r in cells], "%", "<= 7.75",
                  lambda v: v <= PAPER_LOSS)
        bench.row("cosched-map", algorithm, "worst error of a share", [r["worst_share_error"] for r in cells], "%", "<= 1",
                  lambda v: v <= 1)


def cosched_map(bench):
    """Co-scheduling simulated: what a group gains and what others pay, over the shape of the load."""
    records = []
    for name, x_name, y_name, xs, ys, cell in maps():
        found = run_map(bench, name, xs, ys, cell)
        cosched_draw.heat(found, x_name, y_name, xs, ys, bench.out / f"cosched-{name}.svg")
        records += found
        print(f"  {name}: {len(xs) * len(ys)} cells, {sum(r['chosen'] for r in found) // len(ALGORITHMS)} chosen", flush=True)
    with (bench.out / "cosched-map.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(records)
    cosched_draw.frontier(records, PAPER_GAIN, PAPER_LOSS, bench.out / "cosched-frontier.svg")
    claim(bench, records)
