# SPDX-License-Identifier: GPL-2.0-or-later
"""Which class the host sees when a guest's thread does not send its requests itself: buffered writes, fsync, cgroups.

One class per ioprio, so that the counts say what arrived. The tables in doc/slo.md are this test's output.
"""
import pytest

from helpers import disk

LEVELS = {"rt": ["rt"], **{f"be{n}": [f"be/{n}"] for n in range(8)}, "idle": ["idle"], "none": []}
WRITE = "dd if=/dev/zero of=/mnt/file bs=64k count=32 conv=notrunc"


def policy():
    """A RAM disk behind the scheduler; `none` is what no class asked for."""
    classes = {name: {"ioprio": ioprio} if ioprio else {} for name, ioprio in LEVELS.items()}
    return {"pools": {"ram": {"type": "ram", "slo": "on"}}, "classes": classes,
            "vms": {"vm": {"default_class": "none", "disks": [{"name": "disk", "pool": "ram", "size": "128MiB"}]}}}


class Counter:
    """Pieces per class since the last look."""

    def __init__(self, daemon):
        self.daemon, self.last = daemon, {}
        self.take()

    def take(self):
        """{class: pieces} of those that got any."""
        nodes = [node for pool in self.daemon.cli_json("slo")["pools"] for node in pool["nodes"] if node["class"]]
        counts = {node["class"]: node["device_time"]["count"] for node in nodes}
        new = {name: n - self.last.get(name, 0) for name, n in counts.items() if n > self.last.get(name, 0)}
        self.last = counts
        return new


def settle(guest, counter):
    """Everything written before is on the disk and counted."""
    guest.run("sync; sync; echo 3 > /proc/sys/vm/drop_caches")
    counter.take()


def cgroup(guest):
    """A cgroup whose writeback should be idle; the value that the kernel shows for it, or "" where it has no such thing."""
    guest.run("mount -t cgroup2 cgroup /sys/fs/cgroup && cd /sys/fs/cgroup && echo +io +memory > cgroup.subtree_control"
              " && mkdir batch")
    shown = guest.run("cd /sys/fs/cgroup/batch && [ -e io.prio.class ] && echo idle > io.prio.class && cat io.prio.class ||:")
    print(f"kernel {guest.kernel.version}: io.prio.class {shown.strip() or 'does not exist'}")
    return shown.strip()


SCRIPTS = {
    "O_DIRECT writes at be/0": f"ionice -c 2 -n 0 {WRITE} oflag=direct",
    "reads at be/0": "ionice -c 2 -n 0 cat /mnt/file > /dev/null",
    "reads at nice 19": "sh -c 'renice -n 19 -p $$; exec cat /mnt/file > /dev/null'",
    "buffered writes at be/0, sync by another": f"ionice -c 2 -n 0 {WRITE}; sync",
    "buffered writes at be/0, then its own fsync": f"ionice -c 2 -n 0 {WRITE},fsync",
    "16 times a 4 KiB append and fsync at be/0":
        "ionice -c 2 -n 0 sh -c 'for i in $(seq 16); do dd if=/dev/zero of=/mnt/log bs=4k count=1 seek=$i conv=fsync,notrunc; done'",
    "O_DIRECT writes in a cgroup of class idle":
        f"(echo 0 > /sys/fs/cgroup/batch/cgroup.procs; exec {WRITE} oflag=direct)",
    "buffered writes in a cgroup of class idle, sync by another":
        f"(echo 0 > /sys/fs/cgroup/batch/cgroup.procs; exec {WRITE}); sync",
}


def most(counts):
    """The class of which most arrived."""
    return max(counts, key=counts.get)


@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_which_class_arrives(lab, suite):
    """A thread's own requests carry its class; what kernel threads write for it does not, but for a cgroup's writeback."""
    daemon = lab.daemon(policy())
    guest = lab.guest([disk(daemon)], suite=suite)
    counter = Counter(daemon)
    guest.run("/tools/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vda && mount /dev/vda /mnt")
    guest.run(f"{WRITE} && sync")
    by_cgroup = cgroup(guest)
    seen = {}
    for name, script in SCRIPTS.items():
        settle(guest, counter)
        guest.run(script)
        seen[name] = counter.take()
        print(f"  {name}: {seen[name]}")
    assert most(seen["O_DIRECT writes at be/0"]) == "be0"
    assert most(seen["reads at be/0"]) == "be0"
    assert most(seen["reads at nice 19"]) == "be7"
    assert most(seen["buffered writes at be/0, then its own fsync"]) == "be0"
    assert most(seen["buffered writes at be/0, sync by another"]) == "be4"
    assert most(seen["buffered writes in a cgroup of class idle, sync by another"]) == ("idle" if by_cgroup else "be4")
