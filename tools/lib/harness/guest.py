# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest: QEMU with a stock Debian kernel, vhost-user disks, and the agent in it."""
import functools
import os
import pathlib
import subprocess

from . import CACHE, Broken, initramfs, packages
from .agent import Agent
from .process import Folder, Process, tail, wait_until
from .qmp import Listener, Qmp

KVM_PROBE_S = 10


@functools.lru_cache(maxsize=None)
def accelerator():
    """"kvm" where a guest really boots with it, else "tcg". Some machines have a /dev/kvm on which guests hang, so one is
    booted, with a time limit; the answer is kept until the machine boots anew."""
    chosen = os.environ.get("FAIRLEAD_ACCEL")
    if chosen:
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = CACHE / f"accelerator-{boot_id}"
    if not answer.exists():
        answer.write_text("kvm" if probe_kvm() else "tcg")
    return answer.read_text()


def probe_kvm():
    """Boots a guest with KVM and powers it off from inside."""
    guest = Guest(accel="kvm", memory_mib=256)
    try:
        guest.start()
        return guest.agent.booted.wait(KVM_PROBE_S)
    except Broken:
        return False
    finally:
        guest.remove()


class Guest:
    """One virtual machine. `disks` are dicts {socket, queues, queue_size, packed, serial...}; they become /dev/vda, vdb..."""

    def __init__(self, disks=(), cpus=1, memory_mib=256, suite=None, qemu=None, cmdline="", accel=None, tools=(),
                 incoming=False, shared=True, memory_file=None):
        self.disks = [dict(disk) if isinstance(disk, dict) else {"socket": disk} for disk in disks]
        self.cpus, self.memory_mib = cpus, memory_mib
        self.programs = packages.programs(qemu)
        self.kernel = packages.kernel(suite or packages.own_suite())
        self.initramfs = initramfs.build(self.kernel, tools)
        # After all that may not be to be had, so that nothing is left of a guest that cannot be.
        self.folder = Folder()
        self.accel = accel
        self.cmdline = cmdline
        self.incoming = incoming
        self.memory = (f"memory-backend-file,mem-path={memory_file}" if memory_file else "memory-backend-memfd") + \
            f",id=mem,size={memory_mib}M,share={'on' if shared else 'off'}"
        self.console = self.folder.path / "console.log"
        self.log = self.folder.path / "qemu.log"
        self.agent = Agent()
        self.process = self.qmp = self.agent_connection = None

    # --- command line ---

    def reconnect(self):
        """The chardev option with which QEMU tries again when the daemon goes away."""
        return "reconnect-ms=100" if self.programs.version() >= (9, 2) else "reconnect=1"

    def disk_options(self, index, disk):
        """(chardev, device) options of a disk."""
        device = {"driver": "vhost-user-blk-pci", "id": f"disk{index}", "chardev": f"c{index}",
                  "num-queues": disk.get("queues", 1), "queue-size": disk.get("queue_size", 128)}
        if disk.get("packed"):
            device["packed"] = "on"
        device.update(disk.get("options", {}))
        return f"socket,id=c{index},path={disk['socket']},{self.reconnect()}", device

    def command(self):
        """QEMU's command line."""
        accel = self.accel or accelerator()
        words = [*self.programs.command("qemu-system-x86_64"), *self.programs.firmware(), "-nodefaults", "-no-user-config",
                 "-display", "none", "-name", "fairlead-test,debug-threads=on",
                 "-machine", "q35,memory-backend=mem", "-accel", accel, "-cpu", "host" if accel == "kvm" else "max",
                 "-m", f"{self.memory_mib}M", "-object", self.memory,
                 "-smp", str(self.cpus), "-kernel", self.kernel.image, "-initrd", self.initramfs,
                 "-append", f"console=ttyS0 quiet panic=-1 tsc=unstable no_timer_check {self.cmdline}",
                 "-serial", f"file:{self.console}",
                 "-chardev", f"socket,id=qmp,path={self.folder.path}/qmp", "-mon", "chardev=qmp,mode=control",
                 "-chardev", f"socket,id=agent,path={self.folder.path}/agent",
                 "-device", "virtio-serial-pci,max_ports=2", "-device", "virtserialport,chardev=agent,name=agent,nr=1"]
        words += [word for port in range(4)
                  for word in ("-device", f"pcie-root-port,id=port{port},chassis={port + 1},slot={port + 1}")]
        for index, disk in enumerate(self.disks):
            chardev, device = self.disk_options(index, disk)
            words += ["-chardev", chardev, "-device", ",".join([device.pop("driver")] + [f"{k}={v}" for k, v in device.items()])]
        if self.incoming:
            words += ["-incoming", "defer"]
        return words

    # --- life ---

    def start(self):
        """Starts QEMU; returns when it runs (the guest may still boot)."""
        listeners = [Listener(self.folder.path / name) for name in ("qmp", "agent")]
        self.process = Process(self.command(), self.log, self.programs.environment())
        connections = [listener.accept(self.process) for listener in listeners]
        for listener in listeners:
            listener.close()
        if self.incoming:
            self.agent_connection = connections[1]  # the agent comes with the guest
        else:
            self.agent.attach(connections[1])
        self.qmp = Qmp(connections[0])
        return self

    def boot(self):
        """Starts QEMU and waits until the agent answers."""
        return self.start().wait_booted()

    def wait_booted(self):
        """Waits until the agent of this boot has answered."""
        wait_until(lambda: self.agent.booted.wait(0.2) or not self.process.must_be_alive(), f"the guest's boot\n{self.console}")
        return self

    def reboot(self):
        """Restarts the guest from inside, without a clean-up, and waits for it."""
        self.agent.forget_boot()
        self.start_command("reboot -f")
        return self.wait_booted()

    def kill(self):
        """Ends QEMU at once, in the middle of whatever it does."""
        if self.process:
            self.process.kill()
            self.agent.fail_all()

    def quit(self):
        """Ends QEMU in an orderly way."""
        if self.process and self.process.alive():
            try:
                self.qmp.execute("quit")
            except Broken:
                pass
            self.process.wait()
            self.agent.fail_all()

    def remove(self):
        """Ends it and removes all its files."""
        self.kill()
        self.folder.remove()

    # --- in the guest ---

    def start_command(self, script):
        """Starts a shell command in the guest."""
        self.process.must_be_alive()
        return self.agent.start(script)

    def run(self, script):
        """Runs a shell command in the guest; returns its output, raises if it fails."""
        return self.start_command(script).result()

    def run_json(self, script):
        """Runs a command that prints JSON in its last line."""
        return self.start_command(script).json()

    def kernel_log(self):
        """dmesg."""
        return self.run("dmesg")

    def disk_bytes(self, name="vda"):
        """The size of a disk as the guest sees it."""
        return int(self.run(f"cat /sys/block/{name}/size")) * 512

    # --- devices ---

    def plug(self, disk, index, port=0):
        """Adds a disk to the running guest; returns the device's id."""
        chardev, device = self.disk_options(index, disk)
        options = dict(word.split("=", 1) for word in chardev.split(",")[1:])
        backend = {"addr": {"type": "unix", "data": {"path": options["path"]}}, "server": False}
        backend.update({key: int(options[key]) for key in ("reconnect", "reconnect-ms") if key in options})
        self.qmp.execute("chardev-add", id=f"c{index}", backend={"type": "socket", "data": backend})
        device = {key.replace("-", "_"): value for key, value in device.items()}
        self.qmp.execute("device_add", bus=f"port{port}", **device)
        return f"disk{index}"

    def unplug(self, device, index):
        """Takes a disk away from the running guest and waits until it has let go."""
        # A guest acts on the request only once its hot-plug driver has settled, so it is repeated until the device is gone.
        def gone():
            try:
                self.qmp.execute("device_del", id=device)
            except Broken:
                pass  # it has gone meanwhile, or is about to
            return self.qmp.take_event("DEVICE_DELETED", lambda data: data.get("device") == device, within_s=1)

        wait_until(gone, f"the guest lets go of {device}")
        self.qmp.execute("chardev-remove", id=f"c{index}")

    def report(self):
        """What helps to understand a failure."""
        return f"--- guest console\n{tail(self.console)}\n--- QEMU\n{tail(self.log, 15)}"


def migrate(source, target):
    """Moves a running guest from one QEMU to another (both started, target with incoming=True)."""
    path = f"unix:{target.folder.path}/migrate"
    target.agent = source.agent
    target.qmp.execute("migrate-incoming", uri=path)
    source.qmp.execute("migrate-set-parameters", max_bandwidth=1 << 30, downtime_limit=2000)
    source.qmp.execute("migrate", uri=path)

    def ended():
        info = source.qmp.execute("query-migrate")
        if info.get("status") in ("failed", "cancelled"):
            raise Broken(f"migration {info['status']}: {info.get('error-desc', '')}\n{target.report()}")
        return info.get("status") == "completed" and info

    info = wait_until(ended, "the migration ends")
    wait_until(lambda: target.qmp.execute("query-status")["status"] == "running", "the guest runs on the other side")
    source.agent.attach(target.agent_connection)
    source.agent = Agent()
    return info


def qemu_img(programs, *arguments, hang_s=600):
    """Runs qemu-img; returns its output."""
    return client(programs, "qemu-img", *arguments, hang_s=hang_s)


def client(programs, name, *arguments, hang_s=600):
    """Runs one of QEMU's tools to its end; returns its output, raises if it fails."""
    done = subprocess.run([*programs.command(name), *map(str, arguments)], env=programs.environment(), stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=hang_s, check=False)
    if done.returncode:
        raise Broken(f"{name} {' '.join(map(str, arguments))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
