# SPDX-License-Identifier: GPL-2.0-or-later
"""Front-ends that pull the ground away, beside neighbours that must not notice. The protocol's own abuses are unit tests."""
import os
import pathlib
import signal
import socket
import tempfile

import pytest
from helpers import Churn, check, disk, fill, ram_policy, ring_errors
from harness.process import wait_until


@pytest.fixture(name="memory_file")
def fixture_memory_file():
    """A guest's memory in a file on tmpfs, so that it can be truncated under everybody's feet."""
    handle, path = tempfile.mkstemp(prefix="fairlead-test-", dir="/dev/shm")
    os.close(handle)
    yield pathlib.Path(path)
    os.unlink(path)


def two_vms():
    policy = ram_policy(("disk", 16), vm="one")
    policy["vms"].update(ram_policy(("disk", 16), vm="two")["vms"])
    return policy


def test_truncated_memory_breaks_its_own_session_only(lab, memory_file):
    """The daemon polls rings that are no longer there: the fault is caught, the session ends, the neighbour is served."""
    policy = two_vms()
    policy["daemon"] = {"poll": "always"}
    daemon = lab.daemon(policy)
    neighbour = lab.guest([disk(daemon, vm="one")])
    load = Churn(neighbour, count=2048)
    victim = lab.guest([disk(daemon, vm="two")], memory_file=memory_file)
    Churn(victim, count=2048, depth=64)
    victim.process.signal(signal.SIGSTOP)
    os.truncate(memory_file, 0)

    def noticed():
        state = {vm["name"]: vm["disks"][0] for vm in daemon.rpc("vm.list")["vms"]}["two"]
        return state["fault"] or state["state"] == "waiting"

    wait_until(noticed, "the daemon notices that the memory is gone")
    load.must_run()
    victim.kill()
    again = lab.guest([disk(daemon, vm="two")])
    fill(again)
    check(again)
    assert load.finish()["writes"] > 0
    assert ring_errors(neighbour) == []


def test_noise_on_the_socket_does_not_disturb_the_guest_after_it(lab):
    """Clients that send rubbish, half a message or nothing, one after the other; then a guest."""
    daemon = lab.daemon(ram_policy(("disk", 16)))
    path = daemon.socket("vm", "disk")
    for data in (b"", b"\xff" * 12, b"\x01\x00\x00\x00\x01\x00", b"\x05\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\x7f",
                 bytes(range(256)) * 64):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            try:
                connection.sendall(data)
            except OSError:
                pass  # cut off already
    guest = lab.guest([disk(daemon)])
    fill(guest)
    check(guest)


def test_many_front_ends_leave_nothing_behind(lab):
    """Hundreds of connections that come and go cost no descriptor."""
    daemon = lab.daemon(ram_policy(("disk", 16)))
    path = daemon.socket("vm", "disk")

    def descriptors():
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

    def visit():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendall(b"\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00")
            connection.recv(20)

    visit()
    wait_until(lambda: daemon.rpc("vm.list")["vms"][0]["disks"][0]["state"] == "waiting", "the first has gone")
    before = descriptors()
    for _ in range(500):
        visit()
    wait_until(lambda: descriptors() <= before, "their descriptors are closed")
