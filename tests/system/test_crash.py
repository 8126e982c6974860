# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon is killed under load and started again: the guests go on as if nothing had happened.

Random kills hit the wide windows; the narrow ones are stepped through by the unit tests with fault points.
"""
import random

import pytest
from helpers import Churn, disk, file_policy, ring_errors, writes_done
from harness.process import wait_until

KILLS = 20


@pytest.mark.parametrize("packed, qemu", [(False, None), (True, "trixie")], ids=["split-own", "packed-trixie"])
def test_kill_under_write_load(lab, packed, qemu):
    """Killed at random moments; every acknowledged write is there, none in the wrong place, no request lost or doubled."""
    seed = 20170905
    dice = random.Random(seed)
    print(f"seed {seed}")
    policy = file_policy(("disk", 32, {"queues": 2}), ("other", 32))
    daemon = lab.daemon(policy)
    guest = lab.guest([disk(daemon, queues=2, packed=packed), disk(daemon, name="other", packed=packed)], cpus=2, qemu=qemu)
    loads = [Churn(guest, "vda", seed=5, depth=64), Churn(guest, "vdb", seed=6, depth=16)]
    for _ in range(KILLS):
        goal = writes_done(guest) + dice.randrange(1, 400)
        wait_until(lambda: writes_done(guest) >= goal, "the guest writes", interval_s=0)
        daemon.kill()
        daemon.start()
        for load in loads:
            load.must_run()
    results = [load.finish() for load in loads]
    print(results)
    assert all(result["writes"] > 0 for result in results)
    assert ring_errors(guest) == []


def test_restart_in_an_orderly_way_under_load(lab):
    """SIGTERM under load ends cleanly, and the next daemon takes over."""
    daemon = lab.daemon(file_policy(("disk", 32)))
    guest = lab.guest([disk(daemon)])
    load = Churn(guest, depth=64)
    for _ in range(3):
        goal = writes_done(guest) + 200
        wait_until(lambda: writes_done(guest) >= goal, "the guest writes")
        daemon.stop()
        daemon.start()
    assert load.finish()["writes"] > 0
    assert ring_errors(guest) == []


def test_guest_reboots_after_a_crash(lab):
    """A guest whose daemon was exchanged in mid-flight boots from the same disk again."""
    daemon = lab.daemon(file_policy(("disk", 64)))
    guest = lab.guest([disk(daemon)])
    guest.run("/tools/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt && sha256sum /tools/load >/mnt/sum")
    copy = guest.start_command("for i in $(seq 20); do cp /tools/load /mnt/$i; sync; done")
    daemon.kill()
    daemon.start()
    copy.result()
    guest.reboot()
    guest.run("mount -t ext4 /dev/vda /mnt")
    sums = {line.split()[0] for line in guest.run("cat /mnt/sum; cd /mnt; for i in $(seq 20); do sha256sum $i; done").splitlines()}
    assert len(sums) == 1
    assert ring_errors(guest) == []
