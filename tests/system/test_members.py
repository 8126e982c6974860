# SPDX-License-Identifier: GPL-2.0-or-later
"""fairlead-cosched finds the vCPUs of real QEMUs and the workers of a real fairleadd, and follows them. Nothing is loaded: that
works on any kernel, and what is done with what was found is tested in guests."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest
from helpers import ram_policy
from harness import HANG_S, Broken, Unavailable
from harness.daemon import program
from harness.packages import programs
from harness.process import Folder, Process, wait_until
from harness.qmp import Qmp

NOBODY = 65534


class Cosched:
    """A rehearsing fairlead-cosched beside a fairleadd (that may not run)."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.control = daemon.folder.path / "cosched.sock"
        self.log = daemon.folder.path / "cosched.log"
        self.process = Process([program("fairlead-cosched"), "--config", daemon.config, "--rehearse"], self.log)
        wait_until(lambda: self.process.must_be_alive() and self.control.exists(), "fairlead-cosched is ready")

    def cli(self, *words):
        """The finished CLI, with fairleadd's socket as the environment's."""
        return subprocess.run([str(program("fairlead")), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False, timeout=HANG_S, env={**os.environ, "FAIRLEAD_CONTROL": str(self.daemon.control)})

    def status(self):
        """cosched status."""
        done = self.cli("--json", "cosched", "status")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def members(self, vm):
        """[(vcpu, tid)] of a VM."""
        found = next(v for v in self.status()["vms"] if v["name"] == vm)
        return sorted((m["vcpu"], m["tid"]) for m in found["members"])

    def wait_members(self, vm, vcpus):
        """Until the VM has these vCPUs."""
        def found():
            members = self.members(vm)
            return (members,) if [v for v, _ in members] == vcpus else None

        return wait_until(found, f"{vm} has vCPUs {vcpus}")[0]


def name(word):
    """A VM's name that no other test's VM has."""
    return f"{word}-{os.getpid()}"


@contextlib.contextmanager
def qemu(folder, guest, *options, named=True):
    """A QEMU that stands still."""
    own = programs()
    words = [*own.command("qemu-system-x86_64"), *own.firmware(), "-name", guest + (",debug-threads=on" if named else ""), "-S",
             "-machine", "q35", "-accel", "tcg", "-m", "32M", "-nodefaults", "-no-user-config", "-display", "none", *options]
    process = Process(words, folder.path / "qemu.log", own.environment())
    try:
        yield process
    finally:
        if process.alive():
            process.kill()


def monitor(path):
    """-qmp's value."""
    return f"unix:{path},server=on,wait=off"


def connect(path, process):
    """A session of a monitor."""
    def attempt():
        process.must_be_alive()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            return None

    return Qmp(wait_until(attempt, "a monitor"))


class Libvirt:
    """libvirt's daemon of a user who is not root: it has all its files in a folder of the test's, and needs no systemd."""

    def __init__(self, folder):
        daemons = [shutil.which(d, path="/usr/sbin:/usr/bin") for d in ("libvirtd", "virtqemud")]
        daemon = next((d for d in daemons if d), None)
        if daemon is None or shutil.which("virsh") is None:
            raise Unavailable("libvirt is not installed; run tools/setup build demo test")
        self.folder, self.log = folder.path, folder.path / "libvirt.log"
        for name in ("home", "run", "config/libvirt", "cache"):
            (self.folder / name).mkdir(parents=True)
        # Otherwise it starts one more daemon, for the guests' output.
        (self.folder / "config" / "libvirt" / "qemu.conf").write_text('stdio_handler = "file"\n')
        self.user = []
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            self.user = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder / "home"),
                            "XDG_RUNTIME_DIR": str(self.folder / "run"), "XDG_CONFIG_HOME": str(self.folder / "config"),
                            "XDG_CACHE_HOME": str(self.folder / "cache")}
        self.process = Process([*self.user, daemon], self.log, self.environment)
        try:
            wait_until(lambda: self.process.must_be_alive() and next((self.folder / "run" / "libvirt").glob("*-sock"), None),
                       "libvirt is ready")
        except Broken:
            self.process.kill()
            raise

    def virsh(self, *words):
        """Runs it; returns what it says."""
        done = subprocess.run([*map(str, self.user), "virsh", "--quiet", "--connect", "qemu:///session", *map(str, words)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=HANG_S,
                              env=self.environment)
        assert done.returncode == 0, f"{words}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout.strip()

    def start_domain(self, domain, vcpus):
        """A domain that is emulated and has no disk."""
        path = self.folder / f"{domain}.xml"
        path.write_text(f"<domain type='qemu'><name>{domain}</name><memory unit='MiB'>32</memory><vcpu>{vcpus}</vcpu>"
                        "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
        path.chmod(0o644)
        self.virsh("create", path, "--paused")

    def close(self, domains):
        """Ends the domains, then the daemon."""
        for domain in domains:
            self.virsh("destroy", domain)
        assert self.process.stop() == 0, self.log.read_text()


@pytest.fixture(name="folder")
def fixture_folder():
    made = Folder()
    yield made
    made.remove()


@pytest.fixture(name="cosched")
def fixture_cosched():
    running = []

    def start(daemon):
        running.append(Cosched(daemon))
        return running[-1]

    yield start
    for made in running:
        assert made.process.stop() == 0, made.log.read_text()


def policy(vms, **groups):
    """What fairlead-cosched wants to know, and one disk, since fairleadd wants something to do."""
    cpu = sorted(os.sched_getaffinity(0))[:1]
    return {**ram_policy(("disk", 16)), "cosched": {"mode": "partial", "cpus": cpu},
            "vms": {**ram_policy(("disk", 16))["vms"], **vms}, "cogroups": groups}


def test_a_qemu_is_found_by_its_name_and_its_end_is_seen(lab, folder, cosched):
    web = name("web")
    made = cosched(lab.daemon(policy({web: {}}), start=False))
    vm = next(v for v in made.status()["vms"] if v["name"] == web)
    assert not vm["members"] and "no process of the name" in vm["why"]
    with qemu(folder, f"guest={web}", "-smp", "3") as process:
        found = made.wait_members(web, [0, 1, 2])
        tasks = {int(task) for task in os.listdir(f"/proc/{process.pid}/task")} if process.alive() else set()
        assert {tid for _, tid in found} <= tasks
        assert process.pid not in {tid for _, tid in found}
    made.wait_members(web, [])
    log = made.log.read_text()
    assert f"{web}: joined: vCPU 2" in log and f"{web}: left" in log


def test_a_monitor_tells_of_vcpus_without_names_and_of_plugged_ones(lab, folder, cosched):
    db, ours, theirs = name("db"), folder.path / "a.qmp", folder.path / "b.qmp"
    made = cosched(lab.daemon(policy({db: {"cpu": {"qmp": str(ours)}}}), start=False))
    with qemu(folder, "other", "-cpu", "qemu64", "-smp", "1,maxcpus=2", "-qmp", monitor(ours), "-qmp", monitor(theirs),
              named=False) as process:
        before = made.wait_members(db, [0])
        session = connect(theirs, process)
        told = {cpu["thread-id"] for cpu in session.execute("query-cpus-fast")}
        assert {tid for _, tid in before} == told
        free = next(slot for slot in session.execute("query-hotpluggable-cpus") if "qom-path" not in slot)
        session.execute("device_add", driver=free["type"], id="c1", **{k.replace("-", "_"): v for k, v in free["props"].items()})
        after = made.wait_members(db, [0, 1])
        assert {tid for _, tid in after} == {cpu["thread-id"] for cpu in session.execute("query-cpus-fast")}
        assert before[0] in after
        # It has not kept the monitor: another one is served.
        connect(ours, process)
    made.wait_members(db, [])


def test_libvirts_domains_are_found_by_name_and_by_uuid(lab, folder, cosched):
    shop, other = name("shop"), name("other")
    libvirt = Libvirt(folder)
    left = [shop, other]
    try:
        libvirt.start_domain(shop, 2)
        libvirt.start_domain(other, 1)
        uuid = libvirt.virsh("domuuid", other)
        made = cosched(lab.daemon(policy({shop: {}, "db": {"cpu": {"process": uuid.upper()}}}), start=False))
        for vm, domain, vcpus in ((shop, shop, [0, 1]), ("db", other, [0])):
            found = made.wait_members(vm, vcpus)
            status = libvirt.folder / "run" / "libvirt" / "qemu" / "run" / f"{domain}.xml"
            told = re.findall(r"<vcpu id='(\d+)' pid='(\d+)'/>", status.read_text())
            assert found == [(int(vcpu), int(tid)) for vcpu, tid in told]
        left.remove(shop)
        libvirt.virsh("destroy", shop)
        made.wait_members(shop, [])
    finally:
        libvirt.close(left)


def test_a_groups_own_worker_is_told_by_fairleadd(lab, cosched):
    daemon = lab.daemon(policy({}, shop={"vms": ["vm"], "workers": True}), start=False)
    made = cosched(daemon)
    assert made.members("shop/worker") == []
    daemon.start()
    first = made.wait_members("shop/worker", [-1])
    worker = next(w for w in daemon.rpc("daemon.workers")["workers"] if w["group"] == "shop")
    assert worker["tid"] == first[0][1] and worker["poll"] == "never"
    daemon.kill()
    made.wait_members("shop/worker", [])
    daemon.start()
    assert made.wait_members("shop/worker", [-1]) != first


def test_changes_and_bad_policies(lab, cosched):
    daemon = lab.daemon(policy({"a": {}}))
    made = cosched(daemon)
    daemon.write_policy({**policy({"a": {"cpu": {"weight": 512}}, "b": {}}), "cogroups": {"g": {"vms": ["a"]}}})
    done = made.cli("--json", "apply")
    assert done.returncode == 0, done.stderr
    status = made.status()
    assert {v["name"]: v["weight"] for v in status["vms"]} == {"vm": 256, "a": 512, "b": 256}
    assert [g["vms"] for g in status["groups"]] == [["a"]]
    daemon.write_policy({**policy({"a": {}}), "cogroups": {"g": {"vms": ["nobody"]}}})
    made.process.signal(signal.SIGHUP)
    wait_until(lambda: "policy not applied" in made.log.read_text(), "the bad policy is refused")
    assert {v["name"] for v in made.status()["vms"]} == {"vm", "a", "b"}
    assert made.cli("cosched", "status", "nobody").returncode == 1
    refused = made.cli("cosched", "trace", "--out", str(daemon.folder.path / "x.svg"))
    assert refused.returncode == 1 and "no scheduler is loaded" in refused.stderr


def test_exit_statuses(folder):
    good, bad = folder.path / "good.yaml", folder.path / "bad.yaml"
    good.write_text(f"daemon: {{ control: {folder.path}/control.sock }}\ncosched: {{ mode: off }}\n")
    bad.write_text("vms: { a: { cpu: { weight: 0 } } }\n")

    def status(*words):
        return subprocess.run([str(program("fairlead-cosched")), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True,
                              check=False, timeout=HANG_S).returncode

    assert status("--config", bad) == 78
    assert status("--config", folder.path / "none.yaml") == 78
    assert status("--no-such-option") == 64
    process = Process([program("fairlead-cosched"), "--config", good], folder.path / "log")
    wait_until(lambda: process.must_be_alive() and (folder.path / "cosched.sock").exists(), "it is ready")
    assert process.stop() == 0
    assert not (folder.path / "cosched.sock").exists()
