# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that come and go, and guests that do."""
from helpers import Churn, check, disk, file_policy, fill, ram_policy, ring_errors, writes_done
from harness.process import wait_until


def wait_for_disk(guest, name, present=True):
    wait_until(lambda: (guest.start_command(f"test -b /dev/{name}").wait()[0] == 0) == present,
               f"{name} {'appears' if present else 'goes'}")


def test_hot_plug_and_unplug_under_load(lab):
    """A disk comes and goes three times while its neighbour is under load; what was written to it stays."""
    daemon = lab.daemon(file_policy(("root", 32), ("extra", 32)))
    guest = lab.guest([disk(daemon, name="root")])
    load = Churn(guest, "vda")
    for turn in range(3):
        device = guest.plug(disk(daemon, name="extra"), index=8)
        wait_for_disk(guest, "vdb")
        if turn:
            check(guest, "vdb", seed=turn - 1, count=2048)
        fill(guest, "vdb", seed=turn, count=2048)
        guest.unplug(device, index=8)
        wait_for_disk(guest, "vdb", present=False)
    assert load.finish()["writes"] > 0
    assert ring_errors(guest) == []


def test_unplug_in_the_middle_of_requests(lab):
    """The disk is taken away while requests are in flight: the guest gets errors or answers, the daemon goes on."""
    daemon = lab.daemon(ram_policy(("root", 16), ("extra", 32)))
    guest = lab.guest([disk(daemon, name="root")], cpus=2)
    for _ in range(2):
        device = guest.plug(disk(daemon, name="extra"), index=8)
        wait_for_disk(guest, "vdb")
        load = guest.start_command("load /dev/vdb 600 op=write,depth=32")
        wait_until(lambda: writes_done(guest, "vdb") > 0, "writes are under way")
        guest.unplug(device, index=8)
        load.wait()
        wait_for_disk(guest, "vdb", present=False)
    fill(guest)
    check(guest)


def test_killed_guest_leaves_neighbours_served(lab):
    """One guest is killed in mid-request, again and again; the other's data and the killed one's disk stay good."""
    policy = file_policy(("disk", 32), vm="one")
    policy["vms"].update(file_policy(("disk", 32), vm="two")["vms"])
    daemon = lab.daemon(policy)
    neighbour = lab.guest([disk(daemon, vm="one")])
    load = Churn(neighbour)
    for _ in range(3):
        victim = lab.guest([disk(daemon, vm="two")])
        Churn(victim, depth=64)
        wait_until(lambda: writes_done(victim) > 100, "the victim writes")
        victim.kill()
        load.must_run()
    again = lab.guest([disk(daemon, vm="two")])
    fill(again, seed=9)
    check(again, seed=9)
    assert load.finish()["writes"] > 0
    assert ring_errors(neighbour) == []


def test_guest_reset_in_the_middle_of_requests(lab):
    """The virtual reset button, with requests in flight."""
    daemon = lab.daemon(file_policy(("disk", 32, {"queues": 2})))
    guest = lab.guest([disk(daemon, queues=2)], cpus=2)
    for turn in range(3):
        fill(guest, seed=turn, first=4096, count=1024)
        Churn(guest, depth=64)
        wait_until(lambda: writes_done(guest) > 1100, "the guest writes")
        guest.agent.forget_boot()
        guest.qmp.execute("system_reset")
        guest.wait_booted()
        check(guest, seed=turn, first=4096, count=1024)
    assert ring_errors(guest) == []
