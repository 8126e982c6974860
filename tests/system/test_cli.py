# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's and the CLI's life: policies, changes at run time, signals, what goes wrong."""
import json
import os
import signal
import socket
import stat
import subprocess

import pytest
from helpers import MIB, Churn, check, disk, file_policy, fill, ram_policy, ring_errors
from harness.daemon import program
from harness.guest import client
from harness.packages import programs
from harness.process import Folder, Process, wait_until


@pytest.fixture(name="folder")
def fixture_folder():
    made = Folder()
    yield made.path
    made.remove()


def run(name, *words):
    return subprocess.run([str(program(name)), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=600)


BAD = """pools:
  files: { type: file, directory: /srv/vm }
  slow: { type: model, chanels: 1 }
vms:
  web:
    disks:
      - { name: root, pool: nowhere, image: web.raw, size: 20Gib }
"""


def test_check_finds_all_mistakes_with_their_places(folder):
    path = folder / "bad.yaml"
    path.write_text(BAD)
    done = run("fairlead", "check", path)
    assert done.returncode != 0
    for line, word in ((3, "chanels"), (7, "nowhere"), (7, "20Gib")):
        assert any(text.startswith(f"{path}:{line}:") and word in text for text in (done.stdout + done.stderr).splitlines()), word


def test_bad_policy_and_bad_usage_have_their_exit_statuses(folder):
    path = folder / "bad.yaml"
    path.write_text(BAD)
    assert run("fairleadd", "--config", path).returncode == 78
    assert run("fairleadd", "--no-such-option").returncode == 64
    assert run("fairlead", "no-such-command").returncode != 0
    assert run("fairlead", "--control", folder / "none.sock", "status").returncode != 0


def test_status_and_lists_for_people_and_programs(lab):
    daemon = lab.daemon(ram_policy(("disk", 16), ("other", 32)))
    for words in (["status"], ["vm", "list"]):
        text = daemon.cli(*words)
        assert "disk" in text and "other" in text
        assert isinstance(daemon.cli_json(*words), (dict, list))
    sizes = {d["name"]: d["size_bytes"] for d in daemon.rpc("daemon.status")["vms"][0]["disks"]}
    assert sizes == {"disk": 16 * MIB, "other": 32 * MIB}
    assert daemon.cli_json("stats")["workers"]
    assert "nothing changes" in daemon.cli("diff")


def test_control_socket_has_the_mode_that_the_policy_says(lab):
    policy = ram_policy(("disk", 16))
    policy["daemon"] = {"socket_mode": "0600"}
    daemon = lab.daemon(policy)
    assert stat.S_IMODE(os.stat(daemon.control).st_mode) == 0o600


def test_disks_come_and_go_at_run_time_and_survive_kill(lab):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    guest = lab.guest([disk(daemon)])
    load = Churn(guest, count=2048)
    daemon.cli("disk", "add", "vm/new", "--pool", "ram", "--size", "16MiB")
    path = daemon.folder.path / "vm-new.sock"
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    daemon.cli("disk", "resize", "vm/new", "32MiB")
    guest.plug({"socket": path}, index=8)
    wait_until(lambda: guest.start_command("test -b /dev/vdb").wait()[0] == 0, "the disk appears")
    assert guest.disk_bytes("vdb") == 32 * MIB
    fill(guest, "vdb")
    check(guest, "vdb")
    guest.unplug("disk8", index=8)
    load.finish()
    daemon.kill()
    daemon.start()
    assert {d["name"]: d["size_bytes"] for d in daemon.rpc("vm.list")["vms"][0]["disks"]} == {"disk": 16 * MIB, "new": 32 * MIB}
    daemon.cli("disk", "remove", "vm/new")
    daemon.kill()
    daemon.start()
    assert [d["name"] for d in daemon.rpc("vm.list")["vms"][0]["disks"]] == ["disk"]
    assert not path.exists()


def test_refusals_say_why_and_change_nothing(lab):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    before = daemon.rpc("vm.list")
    for words in (["disk", "add", "vm/disk", "--pool", "ram", "--size", "16MiB"],
                  ["disk", "add", "vm/new", "--pool", "nowhere", "--size", "16MiB"],
                  ["disk", "remove", "vm/none"], ["disk", "resize", "vm/none", "16MiB"],
                  ["disk", "resize", "vm/disk", "a lot"]):
        done = daemon.cli(*words, check=False)
        assert done.returncode != 0 and done.stderr.strip(), words
    assert daemon.rpc("vm.list") == before


def test_apply_is_all_or_nothing_and_keeps_running_disks(lab):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    guest = lab.guest([disk(daemon)])
    load = Churn(guest, count=2048)
    good = daemon.policy
    daemon.write_policy({**ram_policy(("disk", 16), ("more", 16)), "classes": {"gold": {"shares": "many"}}})
    done = daemon.cli("apply", check=False)
    assert done.returncode != 0 and "'many'" in done.stdout + done.stderr
    assert [d["name"] for d in daemon.rpc("vm.list")["vms"][0]["disks"]] == ["disk"]
    daemon.write_policy(ram_policy(("disk", 16), ("more", 16)))
    assert "more" in daemon.cli("diff", daemon.config)
    daemon.cli("apply")
    assert [d["name"] for d in daemon.rpc("vm.list")["vms"][0]["disks"]] == ["disk", "more"]
    daemon.write_policy(good)
    daemon.reload()
    wait_until(lambda: len(daemon.rpc("vm.list")["vms"][0]["disks"]) == 1, "SIGHUP takes the disk away")
    load.must_run()
    assert load.finish()["writes"] > 0
    assert ring_errors(guest) == []


def test_stale_sockets_are_replaced_and_live_ones_are_not(lab):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    second = Process([program("fairleadd"), "--config", daemon.config], daemon.folder.path / "second.log")
    assert second.wait() != 0
    assert daemon.rpc("daemon.status")["version"]
    daemon.kill()
    assert daemon.control.exists()
    daemon.start()
    fill(lab.guest([disk(daemon)]))


def test_one_disk_without_a_policy(folder):
    """The convention for vhost-user back-end programs: --socket-path, --blk-file, --read-only, --print-capabilities."""
    trixie = programs("trixie")
    image, path = folder / "disk.raw", folder / "disk.sock"
    image.write_bytes(b"\x5a" * (4 * MIB))
    assert json.loads(run("fairleadd", "--print-capabilities").stdout)["type"] == "block"
    for options, writes in (([], True), (["--read-only"], False)):
        daemon = Process([program("fairleadd"), "--socket-path", path, "--blk-file", image, *options], folder / "log")
        try:
            wait_until(lambda: daemon.must_be_alive() and path.exists(), "the socket appears")
            there = f"driver=virtio-blk-vhost-user,path={path},cache.direct=on"
            more = ["-c", "write -P 0xa5 0 4k"] if writes else []
            client(trixie, "qemu-io", *([] if writes else ["-r"]), "--image-opts",
                   there + ("" if writes else ",read-only=on"), "-c", "read -P 0x5a 1M 64k", *more)
            assert daemon.stop() == 0
        finally:
            if daemon.alive():
                daemon.kill()
    assert image.read_bytes()[:4096] == b"\xa5" * 4096


def test_two_daemons_do_not_write_one_image(lab):
    """The image is locked from the first ring's start, in QEMU's way: a second writer is refused until the first is gone."""
    first = lab.daemon(file_policy(("disk", 16)))
    guest = lab.guest([disk(first)])
    fill(guest)
    image = first.pool / "vm-disk.raw"
    own = programs()
    done = subprocess.run([*own.command("qemu-io"), "-f", "raw", "-c", "write 0 4k", str(image)], env=own.environment(),
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=600)
    assert done.returncode != 0 and "lock" in (done.stdout + done.stderr).lower()
    guest.quit()
    wait_until(lambda: first.rpc("vm.list")["vms"][0]["disks"][0]["state"] == "waiting", "the guest is gone")
    client(own, "qemu-io", "-f", "raw", "-c", "write 0 4k", image)


def test_images_outside_the_pool_are_refused(lab):
    for image in ("../escape.raw", "/etc/hostname", "link.raw"):
        policy = file_policy(("disk", 16, {"image": image}))
        daemon = lab.daemon(policy, start=False)
        (daemon.pool / "link.raw").symlink_to("/etc/hostname")
        process = Process([program("fairleadd"), "--config", daemon.config], daemon.log)
        assert process.wait() == 78, image


def test_doctor_finds_memory_that_is_not_shared(lab):
    """A guest whose memory the daemon cannot map gets no disk; doctor names the mistake and the option that mends it."""
    daemon = lab.daemon(ram_policy(("disk", 16)))
    done = daemon.cli("doctor", check=False)
    assert "shared" not in done.stdout
    guest = lab.guest([disk(daemon)], boot=False, shared=False)
    guest.start()
    wait_until(lambda: "share" in daemon.cli("doctor", check=False).stdout, "doctor notices")


def test_hostile_control_clients_do_not_disturb(lab):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    held = []
    for data in (b"{", b"\x00" * 4096, b"[]\n", b'{"jsonrpc":"2.0","id":1,"method":"no.such"}\n', b"x" * (2 << 20)):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(daemon.control))
        try:
            connection.sendall(data)
        except OSError:
            pass  # cut off, which is right for too long a line
        held.append(connection)
    assert daemon.rpc("daemon.status")["version"]
    for connection in held:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_well_on_signals(lab, number):
    daemon = lab.daemon(ram_policy(("disk", 16)))
    daemon.process.signal(number)
    assert daemon.process.wait() == 0
    assert not (daemon.folder.path / "vm-disk.sock").exists()


def test_completion_and_help_come_from_the_command_table():
    words = run("fairlead", "help").stdout
    for shell in ("bash", "zsh"):
        text = run("fairlead", "completion", shell).stdout
        assert "resize" in text and "doctor" in text
    assert "doctor" in words and "disk resize" in words
