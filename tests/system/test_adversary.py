# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does all it can to get more than its own: every thread at RT/0, nice -20 and with a hint, 256 requests outstanding,
mixed sizes, storms of flushes, discards and zeroes. It stays within its VM's envelope, and its neighbour's target is kept.

The device has eight channels and is fifty times slower than a fast one; see test_latency.py for what is asserted when.
"""
import time

import pytest
from helpers import boot, disk, job, ring_errors

CHANNELS = 8
DEVICE = {"type": "model", "channels": CHANNELS, "read_latency": "3870950ns", "write_latency": "3870950ns", "flush_latency": "1ms",
          "byte_time": "275.65ns", "depth": 256}
TARGET_MS = 100
CALM_MS = 10
SECONDS, WARMUP = 14, 6
CLAIM = {"hint": 77, "nice": -20, "size": 48 << 20, "warmup": 0}
NASTY = [job("reads", "rt/0", 64, most=256 << 10, **CLAIM), job("small", "rt/0", 64, bytes=512, **CLAIM),
         job("writes", "rt/0", 64, op="write", most=128 << 10, **CLAIM), job("large", "rt/0", 8, op="write", bytes=1 << 20, **CLAIM),
         job("storm", "rt/0", 8, op="flush", threads=4, **CLAIM), job("zeroes", "rt/0", 8, op="zeroes", bytes=1 << 20, **CLAIM),
         job("discards", "rt/0", 1, op="discard", bytes=1 << 20, most=8 << 20, threads=4, **CLAIM)]


@pytest.mark.alone
def test_adversary_gains_nothing(lab, capsys):
    classes = {"gold": {"ioprio": ["rt", "hint/77"], "shares": 10000, "latency": {"p99": f"{TARGET_MS}ms"}},
               "rest": {"ioprio": ["be", "idle"]}}
    daemon = lab.daemon({"pools": {"p": DEVICE}, "classes": classes,
                         "vms": {vm: {"default_class": "rest", "disks": [{"name": "disk", "pool": "p", "size": "64MiB"}]}
                                 for vm in ("neighbour", "adversary")}})
    guests = {vm: boot(lab, [disk(daemon, vm=vm, queues=2, queue_size=512)], cpus=2, suite="sid") for vm in ("neighbour", "adversary")}
    nasty = guests["adversary"].start_command(f"load /dev/vda {SECONDS + WARMUP + 4} {' '.join(NASTY)}")
    good = guests["neighbour"].start_command(
        f"load /dev/vda {SECONDS} " + job("reads", "rt/4", 256, rate=160, size=48 << 20, warmup=WARMUP) + " " +
        job("steady", "be/4", 64, op="write", bytes=65536, size=48 << 20, warmup=WARMUP))
    time.sleep(WARMUP + SECONDS - 1)
    nodes = {(n["vm"], n["class"]): n for n in daemon.cli_json("slo")["pools"][0]["nodes"]}
    reads = next(t for t in good.json()["threads"] if t["name"] == "reads")
    threads = nasty.json()["threads"]
    spent = {vm: nodes[(vm, None)]["attained"]["10s"]["device_time"] for vm in guests}
    # What the neighbour did not ask for is anybody's.
    lent = 1 - nodes[("neighbour", None)]["attained"]["10s"]["queueing"]
    part = spent["adversary"] / sum(spent.values())
    calm = reads["late_us"] <= CALM_MS * 1000
    with capsys.disabled():
        names = dict.fromkeys(t["name"] for t in threads)
        ops = ", ".join(f"{name} {sum(t['ops'] for t in threads if t['name'] == name)}" for name in names)
        print(f"\n    adversary: {part:.1%} of the device time given out, its envelope 50 % ({ops}); the neighbour left "
              f"{lent:.1%} of the time unasked for; device busy {sum(spent.values()) / CHANNELS:.1%}\n"
              f"    neighbour: p50 {reads['p50_us'] / 1000:.1f} ms, p99 {reads['p99_us'] / 1000:.1f} ms of {TARGET_MS}, "
              f"{reads['ops']} reads; itself late by up to {reads['late_us'] / 1000:.1f} ms; {nodes[('neighbour', 'gold')]['verdicts']['latency']['10s']}")
    for thread in (reads, *threads):
        assert thread["errors"] == 0 and not thread["error"], thread
    assert part <= 0.5 * 1.05 + lent, (part, lent)
    assert reads["ops"] > 0
    if calm:
        assert reads["p99_us"] <= TARGET_MS * 1000, reads
    for guest in guests.values():
        assert ring_errors(guest) == []
