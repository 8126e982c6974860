# SPDX-License-Identifier: GPL-2.0-or-later
"""A stock guest's disk: file systems, data after a reboot, discard, resize, several disks and queues."""
import os

import pytest
from helpers import BLOCK, MIB, check, disk, file_policy, fill, ram_policy, ring_errors
from harness.process import wait_until

# Each kernel and each QEMU, each ring layout, one and several queues: every value in two combinations at least.
COMBINATIONS = [
    pytest.param({"suite": "bookworm", "qemu": None}, {"queues": 1, "packed": False}, id="6.1-own-split-1"),
    pytest.param({"suite": "sid", "qemu": None, "cpus": 2}, {"queues": 2, "packed": True}, id="sid-own-packed-2"),
    pytest.param({"suite": "bookworm", "qemu": "trixie", "cpus": 2}, {"queues": 2, "packed": True}, id="6.1-trixie-packed-2"),
    pytest.param({"suite": "sid", "qemu": "trixie", "cpus": 4}, {"queues": 4, "packed": False, "queue_size": 256},
                 id="sid-trixie-split-4"),
]


@pytest.mark.parametrize("machine, rings", COMBINATIONS)
def test_file_system_survives_reboot(lab, machine, rings):
    daemon = lab.daemon(file_policy(("disk", 192, {"queues": rings["queues"]})))
    guest = lab.guest([disk(daemon, **rings)], **machine)
    guest.run("/tools/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt")
    guest.run("for i in $(seq 24); do dd if=/dev/urandom of=/mnt/$i bs=64k count=16 2>/dev/null & done; wait; sync")
    sums = guest.run("cd /mnt && sha256sum * 2>/dev/null | sort -k2")
    assert len(sums.splitlines()) == 24
    guest.run("echo 3 >/proc/sys/vm/drop_caches")
    guest.reboot()
    guest.run("mount -t ext4 /dev/vda /mnt")
    assert guest.run("cd /mnt && sha256sum * 2>/dev/null | sort -k2") == sums
    guest.run("umount /mnt && e2fsck -fn /dev/vda")
    assert ring_errors(guest) == []


def test_data_is_what_the_host_finds_in_the_image(lab):
    daemon = lab.daemon(file_policy(("disk", 32)))
    guest = lab.guest([disk(daemon)])
    guest.run("for i in 0 7 8191; do printf 'here is block %d' $i | dd of=/dev/vda bs=4096 seek=$i conv=sync 2>/dev/null; done; sync")
    image = (daemon.pool / "vm-disk.raw").read_bytes()
    assert len(image) == 32 * MIB
    for block in (0, 7, 8191):
        text = b"here is block %d" % block
        assert image[block * BLOCK:][:len(text)] == text
    assert image.count(b"here is block") == 3


def test_ram_disk_and_two_disks_do_not_mix(lab):
    daemon = lab.daemon(ram_policy(("disk", 32), ("other", 48)))
    guest = lab.guest([disk(daemon), disk(daemon, name="other")])
    assert (guest.disk_bytes("vda"), guest.disk_bytes("vdb")) == (32 * MIB, 48 * MIB)
    fill(guest, "vda", seed=11)
    fill(guest, "vdb", seed=22)
    check(guest, "vda", seed=11)
    check(guest, "vdb", seed=22)
    guest.reboot()
    check(guest, "vda", seed=11)
    check(guest, "vdb", seed=22)


def test_all_queue_counts(lab):
    """Eight disks with one to eight queues each, in a guest with eight CPUs, every queue used by its own CPU's thread."""
    counts = range(1, 9)
    daemon = lab.daemon(ram_policy(*((f"q{n}", 16, {"queues": n}) for n in counts)))
    guest = lab.guest([disk(daemon, name=f"q{n}", queues=n, packed=n % 2 == 0) for n in counts], cpus=8, memory_mib=384)
    for index, count in enumerate(counts):
        name = "vd" + "abcdefgh"[index]
        assert int(guest.run(f"ls -d /sys/block/{name}/mq/* | wc -l")) == count
        guest.run(" & ".join(f"taskset -c {cpu} blocks fill /dev/{name} 5 {cpu * 256} 256" for cpu in range(8)) + " & wait")
        for cpu in range(8):
            check(guest, name, seed=5, first=cpu * 256, count=256)
    assert ring_errors(guest) == []


def test_discard_reaches_the_store(lab):
    daemon = lab.daemon(file_policy(("disk", 64)))
    image = daemon.pool / "vm-disk.raw"
    guest = lab.guest([disk(daemon)])
    fill(guest, count=8192)
    before = os.stat(image).st_blocks * 512
    assert before >= 32 * MIB
    guest.run(f"/tools/blkdiscard -o 0 -l {16 * MIB} /dev/vda")
    wait_until(lambda: os.stat(image).st_blocks * 512 <= before - 15 * MIB, "the image gives up what was discarded")
    check(guest, first=4096, count=4096)
    guest.run(f"/tools/blkdiscard -z -o {16 * MIB} -l {MIB} /dev/vda")
    assert guest.run(f"dd if=/dev/vda bs={MIB} skip=16 count=1 2>/dev/null | tr -d '\\0' | wc -c").strip() == "0"


def test_file_system_trim(lab):
    daemon = lab.daemon(file_policy(("disk", 96)))
    image = daemon.pool / "vm-disk.raw"
    guest = lab.guest([disk(daemon)])
    guest.run("/tools/mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt")
    guest.run("dd if=/dev/urandom of=/mnt/big bs=1M count=48 2>/dev/null; sync; rm /mnt/big; sync")
    before = os.stat(image).st_blocks * 512
    guest.run("fstrim /mnt")
    wait_until(lambda: os.stat(image).st_blocks * 512 <= before - 40 * MIB, "the image gives up what was trimmed")


def test_resize_is_seen_by_the_guest(lab):
    daemon = lab.daemon(file_policy(("disk", 32)))
    guest = lab.guest([disk(daemon)])
    fill(guest, count=4096)
    daemon.rpc("disk.resize", vm="vm", name="disk", size_bytes=64 * MIB)
    wait_until(lambda: guest.disk_bytes() == 64 * MIB, "the guest sees the new size")
    fill(guest, seed=3, first=8192, count=8192)
    check(guest, seed=3, first=8192, count=8192)
    check(guest, count=4096)
    assert os.stat(daemon.pool / "vm-disk.raw").st_size == 64 * MIB


def test_read_only_disk_refuses_writes(lab):
    daemon = lab.daemon(file_policy(("disk", 16, {"read_only": True})), start=False)
    (daemon.pool / "vm-disk.raw").write_bytes(b"original" * (2 * MIB))
    daemon.start()
    guest = lab.guest([disk(daemon)])
    assert guest.run("cat /sys/block/vda/ro").strip() == "1"
    status, _ = guest.start_command("dd if=/dev/zero of=/dev/vda bs=4096 count=1 oflag=direct").wait()
    assert status != 0
    assert guest.run("dd if=/dev/vda bs=8 count=1 2>/dev/null") == "original"
    assert (daemon.pool / "vm-disk.raw").read_bytes()[:8] == b"original"


def test_several_jobs_verify_each_other(lab):
    """Four loads at once on one disk with several queues, each reading back what it wrote while the others write."""
    daemon = lab.daemon(file_policy(("disk", 64, {"queues": 4})))
    guest = lab.guest([disk(daemon, queues=4)], cpus=4)
    stop = "/run/stop"
    jobs = [guest.start_command(f"taskset -c {i} blocks churn /dev/vda {i + 1} {i * 4096} 4096 16 {stop}") for i in range(4)]
    guest.run("sleep 5; touch /run/stop")
    results = [job.json() for job in jobs]
    for result in results:
        assert result["errors"] == 0 and result["mismatches"] == 0 and result["writes"] > 100, result
    assert ring_errors(guest) == []
