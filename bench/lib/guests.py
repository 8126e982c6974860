# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios with a real guest on one slow disk: what its threads get from Fairlead and from what else there is."""
import contextlib

from harness.guest import Guest
from lib.sides import Side, fairlead, pinned, qemu_programs

CLASSES = """classes:
  gold:   { ioprio: [rt], shares: 2600 }
  silver: { ioprio: [be/0], shares: 1000 }
  bronze: { ioprio: [be/7], shares: 300 }
  rest:   { ioprio: [idle], shares: 100 }"""
SHARES = {"gold": ("rt/4", 2600), "silver": ("be/0", 1000), "bronze": ("be/7", 300), "rest": ("idle", 100)}
SLOW = "type: model, channels: 1, read_latency: 12ms, write_latency: 12ms"


def load(guest, bench, jobs, scheduler="none"):
    """Runs the load tool in the guest; returns {job's name: (ops a second, worst p99 in ms)}."""
    guest.run(f"echo {scheduler} >/sys/block/vda/queue/scheduler")
    seconds = max(10, bench.options.seconds * 5)
    report = guest.run_json(f"/tools/load /dev/vda {seconds:g} {' '.join(jobs)}")
    got = {}
    for thread in report["threads"]:
        rate, p99 = got.get(thread["name"], (0, 0))
        got[thread["name"]] = (rate + thread["ops"] / seconds, max(p99, thread["p99_us"] / 1000))
    bench.raw("guests", scheduler=scheduler, jobs=jobs, report=report)
    return got


def class_jobs():
    """Four threads with one request each, in every class."""
    return [f"name={name},ioprio={ioprio},threads=4,warmup=3,size=67108864" for name, (ioprio, _) in SHARES.items()]


def in_guest(bench, sockets, jobs, scheduler="none", cpus=2, **disk):
    """Boots a guest with these disks, loads the first."""
    guest = Guest(disks=[{"socket": s, **disk} for s in sockets], cpus=cpus)
    try:
        guest.boot()
        return load(guest, bench, jobs, scheduler)
    finally:
        guest.remove()


def slow_under_qemu(bench, disk, limits=None):
    """qemu-storage-daemon in front of the very same slow disk, served unscheduled by our daemon."""
    programs = qemu_programs(bench)
    words = ["--object", "iothread,id=t", "--blockdev",
             f"driver=virtio-blk-vhost-user,node-name={'d' if limits else 'n'},path={disk},cache.direct=on"]
    if limits:
        words += ["--object", f"throttle-group,id=g,{limits}", "--blockdev", "driver=throttle,node-name=n,throttle-group=g,file=d"]
    words += ["--export", "type=vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path=@/0.sock,iothread=t"]
    return Side("qemu", lambda _folder: pinned([bench.client_cpu], [*programs.command("qemu-storage-daemon"), *words]), "@/0.sock",
                programs.environment())


def side_rows(bench, case, got):
    """Share of the total, p99 and total of one way."""
    total = sum(rate for rate, _ in got.values())
    shares = sum(share for _, share in SHARES.values())
    for name, (_, share) in SHARES.items():
        rate, p99 = got[name]
        bench.row("side", case, f"{name}: share of the total", [100 * rate / total], "%", f"{100 * share / shares:.3g} promised")
        if rate:  # or else nothing has finished that could have a percentile
            bench.row("side", case, f"{name}: p99", [p99], "ms")
    bench.row("side", case, "total", [total], "IOPS")


def side(bench):
    """Threads of four classes on one slow disk: Fairlead, guest schedulers over qemu-storage-daemon, its throttle groups."""
    ours = fairlead(bench, f"p: {{ {SLOW} }}", "{ name: d, pool: p, size: 256MiB, queues: 2, socket: @/0.sock }", classes=CLASSES)
    try:
        side_rows(bench, "fairlead", in_guest(bench, [ours.socket], class_jobs(), queues=2))
    finally:
        ours.remove()
    ways = [("qemu, guest none", "none", None), ("qemu, guest mq-deadline", "mq-deadline", None), ("qemu, guest bfq", "bfq", None),
            ("qemu, throttle group", "none", "x-iops-total=80")]
    for case, scheduler, limits in ways:
        with contextlib.ExitStack() as stack:
            raw = fairlead(bench, f"p: {{ {SLOW}, slo: off }}", "{ name: d, pool: p, size: 256MiB, socket: @/0.sock }")
            stack.callback(raw.remove)
            qemu = slow_under_qemu(bench, raw.socket, limits)
            stack.callback(qemu.remove)
            side_rows(bench, case, in_guest(bench, [qemu.socket], class_jobs(), scheduler))


def ring(bench):
    """A full ring hides priority: gold beside one bronze thread with 1,024 requests, by ring size and queues."""
    for size, queues, cpus in ((128, 1, 1), (1024, 1, 1), (1024, 2, 2)):
        ours = fairlead(bench, f"p: {{ {SLOW} }}", f"{{ name: d, pool: p, size: 256MiB, queues: {queues}, socket: @/0.sock }}",
                        classes=CLASSES)
        try:
            got = in_guest(bench, [ours.socket], ["name=gold,ioprio=rt/4,depth=4,warmup=3,size=67108864",
                                                  "name=bronze,ioprio=be/7,depth=1024,warmup=3,size=67108864"],
                           cpus=cpus, queues=queues, queue_size=size)
        finally:
            ours.remove()
        case = f"ring {size}, {queues} queue{'s' if queues > 1 else ''}, {cpus} CPU"
        total = sum(rate for rate, _ in got.values())
        bench.row("ring", case, "gold: share of the total", [100 * got["gold"][0] / total], "%", "89.7 promised")
        bench.row("ring", case, "gold: IOPS", [got["gold"][0]])
        bench.row("ring", case, "gold: p99", [got["gold"][1]], "ms")
        bench.row("ring", case, "bronze: IOPS", [got["bronze"][0]])
