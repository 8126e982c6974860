# SPDX-License-Identifier: GPL-2.0-or-later
"""Foreign clients: libblkio through Debian trixie's qemu-img and qemu-io."""
import random

import pytest
from helpers import BLOCK, MIB, disk, file_policy, fill, ram_policy
from harness import Broken
from harness.guest import client
from harness.packages import programs


@pytest.fixture(name="trixie")
def fixture_trixie():
    return programs("trixie")


def node(path):
    """qemu's name for a disk behind a vhost-user socket."""
    return f"driver=virtio-blk-vhost-user,path={path},cache.direct=on"


def test_info_and_size(lab, trixie):
    daemon = lab.daemon(ram_policy(("disk", 24)))
    assert f"({24 * MIB} bytes)" in client(trixie, "qemu-img", "info", "--image-opts", node(daemon.socket("vm", "disk")))


def test_convert_there_and_back(lab, trixie):
    """An image of random data is copied to the disk and back, then compared, several requests at a time."""
    daemon = lab.daemon(ram_policy(("disk", 64)))
    source, back = daemon.folder.path / "source.raw", daemon.folder.path / "back.raw"
    source.write_bytes(random.Random(1).randbytes(40 * MIB) + bytes(24 * MIB))
    there = node(daemon.socket("vm", "disk"))
    client(trixie, "qemu-img", "convert", "-n", "-m", "16", "-W", "-f", "raw", source, "--target-image-opts", there)
    client(trixie, "qemu-img", "compare", "--image-opts", f"driver=raw,file.filename={source}", there)
    client(trixie, "qemu-img", "convert", "-m", "16", "--image-opts", there, "-O", "raw", back)
    assert back.read_bytes() == source.read_bytes()


def test_file_pool_holds_what_the_client_wrote(lab, trixie):
    daemon = lab.daemon(file_policy(("disk", 16)))
    there = node(daemon.socket("vm", "disk"))
    client(trixie, "qemu-io", "--image-opts", there, "-c", "write -P 0xab 64k 128k", "-c", "flush", "-c", "read -P 0xab 64k 128k",
           "-c", "read -P 0 0 64k")
    image = (daemon.pool / "vm-disk.raw").read_bytes()
    assert image[64 << 10:192 << 10] == b"\xab" * (128 << 10)
    assert image.count(b"\xab") == 128 << 10


def test_zeroes_and_discard(lab, trixie):
    daemon = lab.daemon(file_policy(("disk", 16)))
    there = node(daemon.socket("vm", "disk"))
    client(trixie, "qemu-io", "--image-opts", there, "-c", "write -P 0xcd 0 8M", "-c", "write -z 1M 1M", "-c", "write -z -u 3M 1M",
           "-c", "discard 5M 1M", "-c", "read -P 0 1M 1M", "-c", "read -P 0 3M 1M", "-c", "read -P 0xcd 2M 1M", "-c", "flush")
    image = daemon.pool / "vm-disk.raw"
    assert image.read_bytes()[2 * MIB:3 * MIB] == b"\xcd" * MIB
    assert image.stat().st_blocks * 512 <= 7 * MIB


def test_read_only_disk(lab, trixie):
    daemon = lab.daemon(ram_policy(("disk", 16, {"read_only": True})))
    there = node(daemon.socket("vm", "disk"))
    with pytest.raises(Broken):
        client(trixie, "qemu-io", "--image-opts", there, "-c", "write 0 4k")
    client(trixie, "qemu-io", "-r", "--image-opts", there + ",read-only=on", "-c", "read -P 0 0 4k")


def test_client_after_client(lab, trixie):
    """One client after the other on one socket, then a guest on the same disk."""
    daemon = lab.daemon(ram_policy(("disk", 16)))
    there = node(daemon.socket("vm", "disk"))
    for turn in range(5):
        client(trixie, "qemu-io", "--image-opts", there, "-c", f"write -P {turn + 1} {turn * BLOCK} 4k")
    guest = lab.guest([disk(daemon)])
    for turn in range(5):
        octal = guest.run(f"dd if=/dev/vda bs=4096 skip={turn} count=1 2>/dev/null | od -An -tu1 -N1").strip()
        assert octal == str(turn + 1)
    fill(guest)


def test_storage_daemon_bench(lab, trixie):
    """qemu-img's own benchmark at depth 64 ends well for reads and writes."""
    daemon = lab.daemon(ram_policy(("disk", 32)))
    there = node(daemon.socket("vm", "disk"))
    for mode in ([], ["-w", "--pattern=7"]):
        text = client(trixie, "qemu-img", "bench", "-c", "20000", "-d", "64", "-s", "4096", *mode, "--image-opts", there)
        print(text.strip().splitlines()[-1])
        assert "Run completed" in text
