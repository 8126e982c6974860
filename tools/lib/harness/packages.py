# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs and kernels out of Debian packages: this system's own, and other suites' unpacked beside it."""
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess

from . import ROOT, Unavailable

LIBRARIES = "usr/lib/x86_64-linux-gnu"


@functools.lru_cache(maxsize=None)
def fetch(suite, *packages, closure=None):
    """The folder in which packages of another suite are unpacked; downloads them once."""
    option = [] if closure is None else ["--closure" if closure == ".*" else f"--closure={closure}"]
    done = subprocess.run([ROOT / "tools" / "fetch-deb", *option, suite, *packages], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"this machine cannot download {' '.join(packages)} of Debian {suite}: {done.stderr.strip()[-400:]}")
    return pathlib.Path(done.stdout.strip())


@functools.lru_cache(maxsize=None)
def own_suite():
    """This system's own suite."""
    text = pathlib.Path("/etc/os-release").read_text()
    match = re.search(r"^VERSION_CODENAME=\"?(\w+)", text, re.MULTILINE)
    return match[1] if match else "sid"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A stock Debian kernel: its image and the folder of its modules."""
    version: str
    image: pathlib.Path
    modules: pathlib.Path


@functools.lru_cache(maxsize=None)
def kernel(suite):
    """Debian's cloud kernel of a suite, as unpacked from its packages."""
    root = fetch(suite, "linux-image-cloud-amd64", closure="linux-.*")
    folders = [p for base in ("lib/modules", "usr/lib/modules") for p in (root / base).glob("*") if (p / "kernel").is_dir()]
    if not folders:
        raise Unavailable(f"Debian {suite}'s kernel package has no modules where they are expected ({root})")
    modules = sorted(folders)[-1]
    images = [root / "boot" / f"vmlinuz-{modules.name}", modules / "vmlinuz"]
    image = next((i for i in images if i.exists()), None)
    if image is None:
        raise Unavailable(f"Debian {suite}'s kernel package has no image where it is expected ({root})")
    return Kernel(modules.name, image, modules)


@functools.lru_cache(maxsize=None)
def bare_kernel(suite):
    """Debian's kernel for all machines, without its many modules."""
    root = fetch(suite, "linux-image-amd64", closure="linux-(image|binary).*")
    images = [*root.glob("usr/lib/modules/*/vmlinuz"), *root.glob("boot/vmlinuz-*")]
    if not images:
        raise Unavailable(f"Debian {suite}'s kernel package has no image where it is expected ({root})")
    version = images[0].parent.name if images[0].name == "vmlinuz" else images[0].name.partition("-")[2]
    return Kernel(version, images[0], root / "no-modules")


class Programs:
    """Where QEMU's programs come from. `command(name)` is the beginning of a command line, `env` what it needs."""

    def __init__(self, suite=None):
        self.suite = suite
        self.root = None
        self.env = {}
        if suite is not None and suite != own_suite():
            self.root = fetch(suite, "qemu-system-x86", "qemu-utils", "qemu-block-extra", "libblkio1", closure=".*")
            self.env = {"QEMU_MODULE_DIR": str(self.root / LIBRARIES / "qemu")}

    def command(self, name):
        """The command line that starts a program, without its arguments."""
        if self.root is None:
            path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
            if path is None:
                raise Unavailable(f"{name} is not installed; run tools/setup build demo test")
            return [path]
        # The unpacked tree's own loader and C library, so that nothing of this system's suite is mixed in. --argv0 lets
        # QEMU find its data beside itself.
        libraries = [self.root / LIBRARIES, self.root / LIBRARIES / "ceph", self.root / "lib/x86_64-linux-gnu"]
        program = next(p for p in (self.root / "usr/bin" / name, self.root / "usr/sbin" / name) if p.exists())
        return [str(self.root / LIBRARIES / "ld-linux-x86-64.so.2"), "--library-path", ":".join(map(str, libraries)),
                str(program)]

    def firmware(self):
        """QEMU options that say where its firmware is."""
        if self.root is None:
            return []
        return ["-L", str(self.root / "usr/share/qemu"), "-L", str(self.root / "usr/share/seabios"),
                "-L", str(self.root / "usr/lib/ipxe/qemu")]

    def environment(self):
        """The environment that the programs want."""
        return {**os.environ, **self.env}

    @functools.lru_cache(maxsize=None)
    def version(self):
        """QEMU's version, as a tuple."""
        text = subprocess.run([*self.command("qemu-system-x86_64"), "--version"], env=self.environment(), capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL).stdout
        match = re.search(r"version (\d+)\.(\d+)", text)
        if not match:
            raise Unavailable(f"QEMU of Debian {self.suite or own_suite()} does not start")
        return int(match[1]), int(match[2])


@functools.lru_cache(maxsize=None)
def programs(suite=None):
    """QEMU's programs of this system (None) or of another suite."""
    return Programs(suite)
