# SPDX-License-Identifier: GPL-2.0-or-later
"""What several system tests do alike."""
from harness import Broken
from harness.process import wait_until

MIB = 1 << 20
BLOCK = 4096


def file_policy(*disks, vm="vm", **settings):
    """A policy with one VM whose disks lie in a file pool; a disk is (name, MiB) or (name, MiB, {more})."""
    entries = [{"name": name, "pool": "files", "image": f"{vm}-{name}.raw", "size": f"{mib}MiB", **(more[0] if more else {})}
               for name, mib, *more in disks]
    return {"pools": {"files": {"type": "file"}}, "vms": {vm: {"disks": entries, **settings}}}


def ram_policy(*disks, vm="vm"):
    """The same in a RAM pool."""
    entries = [{"name": name, "pool": "ram", "size": f"{mib}MiB", **(more[0] if more else {})} for name, mib, *more in disks]
    return {"pools": {"ram": {"type": "ram"}}, "vms": {vm: {"disks": entries}}}


def disk(daemon, vm="vm", name="disk", **settings):
    """A guest's disk out of a daemon's."""
    return {"socket": daemon.socket(vm, name), **settings}


def fill(guest, device="vda", seed=1, first=0, count=1024):
    """Writes proving blocks and syncs."""
    check_clean(guest.run_json(f"blocks fill /dev/{device} {seed} {first} {count}"))


def check(guest, device="vda", seed=1, first=0, count=1024):
    """Reads them back."""
    check_clean(guest.run_json(f"blocks check /dev/{device} {seed} {first} {count}"))


def check_clean(result):
    """A blocks run that found nothing wrong."""
    assert "error" not in result, result
    assert result["errors"] == 0 and result["mismatches"] == 0, result


def writes_done(guest, name="vda"):
    """Writes that a disk has completed since the guest's boot, as its kernel counts them."""
    return int(guest.run(f"cat /sys/block/{name}/stat").split()[4])


class Churn:
    """Random verified writes in the guest until told to stop."""

    def __init__(self, guest, device="vda", seed=7, first=0, count=4096, depth=32):
        self.guest = guest
        self.stop_file = f"/run/stop-{device}"
        guest.run(f"rm -f {self.stop_file}")
        before = writes_done(guest, device)
        self.command = guest.start_command(f"blocks churn /dev/{device} {seed} {first} {count} {depth} {self.stop_file}")
        wait_until(lambda: writes_done(guest, device) > before or self.command.ended.is_set(), "the load begins")
        self.must_run()

    def must_run(self):
        """Raises if it ended by itself."""
        if self.command.ended.is_set():
            raise Broken(f"the load ended by itself: {self.command.wait()}")

    def finish(self):
        """Stops it, lets it read everything back; returns its counts."""
        self.guest.run(f"touch {self.stop_file}")
        result = self.command.json()
        check_clean(result)
        return result


def ring_errors(guest):
    """Complaints of the guest's kernel about a device that completes wrongly, or about failed requests."""
    signs = ("is not a head", "out of range", "I/O error", "blk_update_request", "BUG:", "Oops", "hung_task", "blocked for more")
    return [line for line in guest.kernel_log().splitlines() if any(sign in line for sign in signs)]


def job(name, ioprio, depth=8, **more):
    """A job of the guest's load tool."""
    settings = {"name": name, "op": "read", "order": "random", "bytes": 4096, "depth": depth, "threads": 1, "ioprio": ioprio,
                "first": 0, "size": 16 << 20, "warmup": 2, **more}
    return ",".join(f"{key}={value}" for key, value in settings.items())


def boot(lab, disks, **settings):
    """A guest whose own scheduler stays out of the way: with one queue Linux chooses mq-deadline, which starves by ioprio."""
    guest = lab.guest(disks, **settings)
    guest.run("for d in /sys/block/vd*; do echo none >$d/queue/scheduler; done")
    return guest


def rates(result):
    """Requests per second by name, out of the load tool's JSON."""
    rate = {}
    for thread in result["threads"]:
        assert thread["errors"] == 0 and not thread["error"], thread
        rate[thread["name"]] = rate.get(thread["name"], 0) + thread["ops"] / result["seconds"]
    return rate
