# SPDX-License-Identifier: GPL-2.0-or-later
"""Co-scheduling in a real kernel: fairlead-cosched in guests that count instructions (harness/counted.py), so that
the machine's load changes nothing: runs of one seed with the same programs repeat exactly, to the nanosecond.
One seed is one guest, in which each algorithm has its turn with the same load from the start; what counts are the ratios to plain
credit of the same seed. The seed decides the VMs' homes and the costs' jitter.

A guest's CPUs share one engine and are not equally fast; that is why there are several seeds, and why work is compared as
well as CPU time.
"""
import csv
import math
import re
import statistics
import subprocess

from harness import coload, counted
from harness.daemon import program
from lib import report

Load = coload.Load
WARMUP = 1.5
SLICE_NS = 30e6
# The paper's: 53.5 % more requests a second, 7.75 % less for the others.
PAPER_GAIN, PAPER_LOSS = 34.87, 7.75
# Chosen by simulating plain credit alone (scenario cosched-map): there a group gets much less than it is entitled to.
CASES = {
    "9 members": (Load(), coload.ALGORITHMS),
    "13 members": (Load(adders=11, driver_us=116.667, stage_us=1166.667), ("credit", "co-credit", "pooled")),
    "small requests": (Load(driver_us=20, stage_us=40), ("credit", "co-credit", "pooled")),
    "chain of 3 VMs": (Load(chain=3, driver_us=100, stage_us=300), ("credit", "pooled")),
    "contended lock": (Load(groups=0, spin=1, lock_us=100, outside_us=200), ("credit", "pooled")),
    "idle member": (Load(idle=1), ("credit", "pooled")),
    "two groups": (Load(groups=2, adders=5), ("credit", "pooled")),
    "one never sleeps": (Load(hungry=1, adders=6), ("credit", "pooled")),
}
# Of Student's distribution, two-sided, by degrees of freedom.
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 11: 2.20, 15: 2.13}
KICKS = ("kicks_idle_per_s", "kicks_preempt_per_s", "kicks_asked_per_s")
COLUMNS = ("case", "seed", "algorithm", "ms_per_request", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "group_cpus", "driver_cpus",
           "web_cpus", "adders_work", "lock_turns", "lock_spun", "group_entitled_cpus", "worst_share_error", "group_debt_ms",
           "co_run_cpus", "requests_per_s", "honoured_per_s", *KICKS)
SHARE_COLUMNS = ("case", "seed", "algorithm", "account", "cpus", "entitled_cpus", "error_percent", "debt_ms")


def interval(values):
    """(mean, half of the 95 % interval)."""
    if len(values) < 2:
        return values[0], math.nan
    t = T95.get(len(values) - 1) or T95[max(k for k in T95 if k < len(values) - 1)]
    return statistics.mean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def rehearsal(name, seed, seconds, suite, counts=True):
    """All algorithms of one case under one seed: what counted.Rehearsal wants."""
    load, algorithms = CASES[name]
    script = coload.LIBRARY + "".join(coload.measurement(load, a, seed, WARMUP, seconds, counts) for a in algorithms)
    return {"script": script, "suite": suite, "tools": coload.tools(), "files": coload.policies(load, algorithms, seed),
            "counted": counts}


def share_error(account):
    """How far an account is from what is due to it. A turn that has just been given is no error: what is beyond one slice is."""
    return max(0, abs(account["ran_ns"] - account["entitled_ns"]) - SLICE_NS) / account["entitled_ns"] if account["entitled_ns"] else 0


def scheduler_record(said, algorithm, seconds):
    """What the scheduler itself says of a measured stretch."""
    before, after = said[f"{algorithm}-before"], said[f"{algorithm}-after"]
    got, count = coload.accounts(before, after), coload.counters(before, after)
    group = got.get("g0") or got.get("s0")
    debts = [g["debt_ns"] for g in after["groups"]]
    kicks = {k: count[k.removesuffix("_per_s")] / seconds for k in KICKS}
    return {"group_entitled_cpus": group["entitled_ns"] / seconds / 1e9, "worst_share_error": max(map(share_error, got.values())),
            "group_debt_ms": max(debts) / 1e6, "co_run_cpus": group["co_ran_ns"] / seconds / 1e9,
            "requests_per_s": count["requests_sent"] / seconds, "honoured_per_s": count["requests_honoured"] / seconds, **kicks}


def share_records(said, name, seed, algorithm):
    """Every account against what it is entitled to: lines of the shares' CSV. Under EEVDF only what each got is known."""
    line = {"case": name, "seed": seed, "algorithm": algorithm}
    if algorithm == "eevdf":
        got = coload.shares(said[algorithm])
        groups = {vm: group for group, vms in CASES[name][0].members().items() for vm in vms}
        cpus = {}
        for vm, value in got.items():
            cpus[groups.get(vm, vm)] = cpus.get(groups.get(vm, vm), 0) + value
        return [{**line, "account": a, "cpus": v} for a, v in cpus.items()]
    seconds, after = said[algorithm]["seconds"], said[f"{algorithm}-after"]
    debts = {o["name"]: o["debt_ns"] / 1e6 for o in [*after["groups"], *(vm for vm in after["vms"] if not vm["group"])]}
    return [{**line, "account": account, "cpus": a["ran_ns"] / seconds / 1e9, "entitled_cpus": a["entitled_ns"] / seconds / 1e9,
             "error_percent": 100 * share_error(a), "debt_ms": debts[account]}
            for account, a in coload.accounts(said[f"{algorithm}-before"], after).items()]


def record(said, name, seed, algorithm):
    """One line of the CSV."""
    m = said[algorithm]
    shares = coload.shares(m)
    r = {"case": name, "seed": seed, "algorithm": algorithm, "adders_work": coload.work(m, "adder"),
         "group_cpus": sum(v for k, v in shares.items() if k.startswith(("g0-", "spin"))),
         "driver_cpus": shares.get("g0-driver", 0), "web_cpus": shares.get("g0-web0", 0), "lock_turns": coload.work(m, "spin"),
         "lock_spun": sum(v["spun"] for vm in m["vms"] for v in vm["vcpus"])}
    r.update({k: m["groups"][0][k] for k in COLUMNS if m["groups"] and k in m["groups"][0]})
    if algorithm != "eevdf":
        # Between its own two looks, which are a little farther apart than the measurement.
        r.update(scheduler_record(said, algorithm, m["seconds"]))
    return r


def change(records, algorithm, key, turned=False):
    """Each seed's ratio to credit, as less of it in percent; turned: as if the key were a rate."""
    base = {r["seed"]: r[key] for r in records if r["algorithm"] == "credit"}
    ratios = [r[key] / base[r["seed"]] for r in records if r["algorithm"] == algorithm]
    return [100 * (1 - (1 / v if turned else v)) for v in ratios]


def rows(bench, name, records):
    """A case's results."""
    _, algorithms = CASES[name]
    measure, turned = ("lock_turns", True) if name == "contended lock" else ("ms_per_request", False)
    for a in algorithms:
        own = [r for r in records if r["algorithm"] == a]
        for key, unit in (("ms_per_request", "ms"), ("mean_ms", "ms"), ("p99_ms", "ms")):
            if key in own[0]:
                bench.row("cosched", name, f"{a}, {key}", [r[key] for r in own], unit)
        bench.row("cosched", name, f"{a}, CPUs of the group", [r["group_cpus"] for r in own])
        if a != "eevdf":
            bench.row("cosched", name, f"{a}, kicks", [sum(r[k] for k in KICKS) for r in own], "1/s")
        if a == "pooled":
            bench.row("cosched", name, f"{a}, worst share error", [100 * r["worst_share_error"] for r in own], "%", "<= 1",
                      lambda v: v <= 1)
        if a == "credit":
            continue
        claim = name == "13 members" and a == "pooled"
        bench.row("cosched", name, f"{a}, less time a request", change(records, a, measure, turned), "%",
                  f">= {PAPER_GAIN}" if claim else "", (lambda v: v >= PAPER_GAIN) if claim else None)
        bench.row("cosched", name, f"{a}, more time of others' work", [-v for v in change(records, a, "adders_work", True)], "%",
                  f"<= {PAPER_LOSS}" if claim else "", (lambda v: v <= PAPER_LOSS) if claim else None)
        print("    %s: %.1f +- %.1f %% less time a request, others %+.1f +- %.1f %% (95 %%)" % (
            a, *interval(change(records, a, measure, turned)),
            *interval([-v for v in change(records, a, "adders_work", True)])), flush=True)


def chart(records, path):
    """Gain against others' loss: each algorithm's mean over the seeds, with intervals."""
    blocks, plots = "", []
    for number, a in enumerate(coload.ALGORITHMS):
        lines = []
        for name in CASES:
            own = [r for r in records if r["case"] == name]
            if a == "credit" or name == "contended lock" or a not in {r["algorithm"] for r in own}:
                continue
            gain, loss = interval(change(own, a, "ms_per_request")), interval([-v for v in change(own, a, "adders_work", True)])
            lines.append(f"{loss[0]} {gain[0]} {loss[1]} {gain[1]} \"{name}\"")
        if lines:
            blocks += f"$a{number} << EOD\n" + "\n".join(lines) + "\nEOD\n"
            plots += [f"$a{number} using 1:2:3:4 with xyerrorbars pt {number + 4} lc {number + 1} title '{a}'",
                      f"$a{number} using 1:2:5 with labels offset 1,0.7 left font ',8' notitle"]
    report.plot(f"{blocks}set title 'Against plain credit, in the kernel (95 % intervals)'\nset grid\nset key outside bottom center\n"
                "set xlabel \"more time for the others' work, %\"\nset ylabel 'less time for each request, %'\n"
                f"set arrow from graph 0, first {PAPER_GAIN} to graph 1, first {PAPER_GAIN} nohead dt 2\n"
                f"set arrow from {PAPER_LOSS}, graph 0 to {PAPER_LOSS}, graph 1 nohead dt 2\nplot {', '.join(plots)}\n", path)


def run_case(bench, name, rehearsals):
    """All seeds of a case, as many at a time as there are CPUs."""
    seconds = 3 * bench.options.seconds
    jobs = {seed: rehearsals.submit(**rehearsal(name, seed, seconds, bench.options.kernel,
                                                  not bench.options.mttcg))
            for seed in range(1, bench.options.rounds + 1)}
    records, shares = [], []
    for seed, job in jobs.items():
        said = coload.parse(job.result())
        for a in CASES[name][1]:
            records.append(record(said, name, seed, a))
            shares += share_records(said, name, seed, a)
            bench.raw("cosched", **records[-1], accounts=[s for s in shares if s["seed"] == seed and s["algorithm"] == a])
    return records, shares


def table(path, columns, records):
    """A CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(records)


def cosched(bench):
    """Co-scheduling in the kernel, instructions counted: a group's requests, its share and the others' work, by algorithm."""
    records, shares = [], []
    wanted = bench.options.cases.split(";") if bench.options.cases else list(CASES)
    with counted.Rehearsals(bench.cpus) as rehearsals:
        for name in wanted:
            found, got = run_case(bench, name, rehearsals)
            rows(bench, name, found)
            records += found
            shares += got
            table(bench.out / "cosched.csv", COLUMNS, records)
            table(bench.out / "cosched-shares.csv", SHARE_COLUMNS, shares)
            chart(records, bench.out / "cosched.svg")


COST_MEMBERS = (4, 64, 256)
# What the kernel tells of each BPF program that the loader holds open.
PROGRAMS = r"""
programs() { cat /proc/$cosched/fdinfo/* 2>/dev/null | awk '/^prog_id/ { id = $2 } /^run_time_ns/ { t = $2 } /^run_cnt/ { print id, t, $2 }' | sort -u; }
joined() {
	n=0
	while [ $(grep -c ": joined: vCPU" /tmp/cosched.log) -lt $1 ]; do
		sleep 1
		n=$((n + 1))
		[ $n -lt 600 ] || fail "not all join"
	done
}
echo 1 >/proc/sys/kernel/bpf_stats_enabled
"""


def cost_load(members):
    """Half as many VMs, each a group of two vCPUs: as many as may be co-scheduled."""
    return Load(groups=0, adders=0, spin=members // 2)


def cost_script():
    """One load after another, each with more members; slices of 1 ms, so that there is something to decide. The scheduler is there
    first: among hundreds that compute, its loader would have to wait for its turns."""
    script = coload.LIBRARY + PROGRAMS
    for n in COST_MEMBERS:
        script += (f": >/tmp/cosched.log\ncosched_start /etc/{n}.yaml\nload_start {cost_load(n).options(1)} --together\njoined {n}\n"
                   f"sleep 2\nsay before-{n} programs\nsay before-status-{n} status\nsleep 2\nsay after-{n} programs\n"
                   f"say after-status-{n} status\ncosched_stop\nload_stop\n")
    return script


def callbacks():
    """The names of the scheduler's BPF programs in the order in which they are loaded, that of their numbers."""
    text = subprocess.run(["readelf", "-SW", program("sched.bpf.o")], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\] struct_ops(?:\.s)?/(\w+) ", text)


def programs(text):
    """{callback: (time, calls)}"""
    spent = {}
    for line in text.splitlines():
        number, time_ns, calls = map(int, line.split())
        spent[number] = time_ns, calls
    names = callbacks()
    # libbpf's own trial programs are gone by now.
    assert len(spent) == len(names), (spent, names)
    return {name: spent[number] for name, number in zip(names, sorted(spent))}


def cost_rows(bench, n, said):
    """A CPU has a quarter of the time in which instructions are counted, so a quarter of a time is its own."""
    before, after = programs(said[f"before-{n}"]), programs(said[f"after-{n}"])
    status = said[f"before-status-{n}"], said[f"after-status-{n}"]
    spent = {name: tuple(b - a for a, b in zip(before[name], after[name])) for name in after}
    settled = [status[1]["scheduler"][k] - status[0]["scheduler"][k] for k in ("settle_ns", "settlements")]
    bench.raw("cosched-cost", members=n, spent=spent, settled=settled, counters=coload.counters(*status))
    steps = spent["dispatch"][1]
    case = f"{n} members"
    bench.row("cosched-cost", case, "a schedule step", [spent["dispatch"][0] / steps / coload.CPUS], "insns")
    bench.row("cosched-cost", case, "all callbacks, a step", [sum(t for t, _ in spent.values()) / steps / coload.CPUS], "insns")
    bench.row("cosched-cost", case, "a settlement (30 ms)", [settled[0] / settled[1] / coload.CPUS], "insns")
    bench.row("cosched-cost", case, "a settlement, a member", [settled[0] / settled[1] / coload.CPUS / n], "insns")


def cosched_cost(bench):
    """What a decision of the co-scheduler costs in the kernel, with 4, 64 and 256 members, in instructions."""
    files = {f"/etc/{n}.yaml": coload.policy(cost_load(n), "pooled", slice="1ms") for n in COST_MEMBERS}
    said = coload.parse(counted.Rehearsal(cost_script(), suite=bench.options.kernel, tools=coload.tools(), files=files,
                                          host_cpu=bench.server_cpu).run(hang_s=7200))
    for n in COST_MEMBERS:
        cost_rows(bench, n, said)
