# SPDX-License-Identifier: GPL-2.0-or-later
"""While there is work, nobody kicks and nobody interrupts."""
import pytest
from helpers import disk, ram_policy
from harness.process import wait_until


def per_request(before, after):
    """(requests, kicks per request, calls per request) between two snapshots of one queue's or disk's counters."""
    grown = {key: after[key] - before[key] for key in ("read_ops", "write_ops", "kicks", "calls_sent")}
    requests = grown["read_ops"] + grown["write_ops"]
    assert requests > 0
    return requests, grown["kicks"] / requests, grown["calls_sent"] / requests


@pytest.mark.alone
def test_polled_queue_has_no_calls(lab):
    """virtio_blk.poll_queues: polled reads take no interrupt at all; the daemon, polling too, wants hardly any kick."""
    policy = ram_policy(("disk", 32, {"queues": 4}))
    policy["daemon"] = {"poll": "always"}
    daemon = lab.daemon(policy)
    guest = lab.guest([disk(daemon, queues=4)], cpus=2, cmdline="virtio_blk.poll_queues=2", suite="bookworm")
    before = daemon.disk_counters("vm", "disk")
    result = guest.run_json("load /dev/vda 3 poll=1,depth=16,threads=2")
    after = daemon.disk_counters("vm", "disk")
    assert all(t["ops"] > 0 and not t["errors"] and not t["error"] for t in result["threads"]), result
    polled = 0
    for old, new in zip(before["queues"], after["queues"]):
        if new["read_ops"] - old["read_ops"] < 100:
            continue
        requests, kicks, calls = per_request(old, new)
        print(f"queue {new['queue']}: {requests} requests, {kicks:.4f} kicks and {calls:.4f} calls per request")
        assert calls < 0.01
        assert kicks < 0.01
        polled += requests
    assert polled > 0


@pytest.mark.alone
def test_calls_fall_with_load(lab):
    """An ordinary guest: the more is in flight, the fewer kicks and calls each request costs."""
    policy = ram_policy(("disk", 32))
    policy["daemon"] = {"poll": "always"}
    daemon = lab.daemon(policy)
    guest = lab.guest([disk(daemon)], cpus=2)
    figures = []
    for depth in (1, 64):
        before = daemon.disk_counters("vm", "disk")["total"]
        guest.run(f"load /dev/vda 3 depth={depth}")
        figures.append(per_request(before, daemon.disk_counters("vm", "disk")["total"]))
        print(f"depth {depth}: {figures[-1][0]} requests, {figures[-1][1]:.4f} kicks and {figures[-1][2]:.4f} calls per request")
    assert figures[1][1] < 0.5
    assert figures[1][2] < figures[0][2]


def test_idle_workers_sleep(lab):
    """With nothing to do an adaptive worker's loop stands still, and the first request wakes it."""
    daemon = lab.daemon(ram_policy(("disk", 32)))
    guest = lab.guest([disk(daemon)])

    def loops():
        return daemon.rpc("daemon.stats")["workers"][0]["loops"]

    def stands_still():
        before = loops()
        guest.run("sleep 1")
        return loops() - before < 1000

    wait_until(stands_still, "the worker sleeps")
    guest.run("dd if=/dev/vda of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null")
    assert daemon.rpc("daemon.stats")["workers"][0]["sleeps"] > 0
