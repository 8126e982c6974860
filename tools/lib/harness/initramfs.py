# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root: busybox, the stock kernel's modules, the agent and the load tools, in one uncompressed archive.

Built once per kernel and per state of the tools' sources, kept in the cache.
"""
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from . import CACHE, ROOT, Unavailable

SOURCES = ROOT / "tests" / "system" / "guest"
TOOLS = ("agent", "blocks", "load", "again")
# Loaded in this order at boot, each with what it needs before it. Those a kernel lacks (or has built in) are left out.
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "ext4", "bfq", "mq-deadline", "kyber-iosched")
# busybox prefers its own applets, so these are called by their whole path.
DYNAMIC = ("mke2fs", "e2fsck", "blkdiscard")

INIT = r"""#!/bin/busybox sh
# Mounts, loads the modules with the options that the command line has for them, and becomes the agent.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox mount -t tmpfs run /run
/bin/busybox --install -s /bin
export PATH=/tools:/bin HOME=/
while read -r name file; do
	options=
	for word in $(cat /proc/cmdline); do
		case $word in "$name".*=*) options="$options ${word#*.}" ;; esac
	done
	insmod "/modules/$file" $options || echo "init: cannot load $name"
done </modules/order
ulimit -l unlimited
if [ -e /autorun ]; then
	exec sh /autorun
fi
exec /tools/agent /dev/vport0p1
"""


def module_files(kernel):
    """All modules of a kernel, by their name with underscores."""
    found = {}
    for path in kernel.modules.rglob("*.ko*"):
        found[path.name.split(".ko")[0].replace("-", "_")] = path
    return found


def module_bytes(path):
    """A module, decompressed."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    return data


def module_order(names, files):
    """(name, bytes) of the named modules and of all that they depend on, in an order in which they can be loaded."""
    order = {}

    def visit(name):
        name = name.replace("-", "_")
        if name in order or name not in files:
            return
        data = module_bytes(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for needed in depends[1].decode().split(",") if depends and depends[1] else []:
            visit(needed)
        order[name] = data

    for name in names:
        visit(name)
    return list(order.items())


def compile_tool(name, folder):
    """Builds one guest tool, static, in `folder`."""
    done = subprocess.run(["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", folder / name,
                           SOURCES / f"{name}.c", "-luring", "-pthread"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"cannot build the guest tool {name}:\n{done.stderr}")


def copy_dynamic(name, root):
    """Copies a program of this system and its libraries into the guest's root."""
    path = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise Unavailable(f"{name} is not installed; run tools/setup build demo test")
    copy_program(path, root)


def copy_program(path, root):
    """Copies a program, and its libraries unless it is static, into the guest's root."""
    listing = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    shutil.copy(path, root / "tools" / pathlib.Path(path).name)
    for library in re.findall(r"(/\S+) \(0x", listing):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def fill(root, kernel, extra):
    """Lays out the guest's root folder."""
    for folder in ("bin", "tools", "modules", "etc"):
        (root / folder).mkdir()
    busybox = shutil.which("busybox", path="/usr/bin:/bin")
    if busybox is None:
        raise Unavailable("busybox-static is not installed; run tools/setup build demo test")
    shutil.copy(busybox, root / "bin" / "busybox")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    (root / "etc" / "mtab").symlink_to("/proc/mounts")
    order = module_order(MODULES, module_files(kernel))
    for name, data in order:
        (root / "modules" / f"{name}.ko").write_bytes(data)
    (root / "modules" / "order").write_text("".join(f"{name} {name}.ko\n" for name, _ in order))
    for name in TOOLS:
        compile_tool(name, root / "tools")
    for name in DYNAMIC:
        copy_dynamic(name, root)
    for path in extra:
        copy_program(path, root)


def fingerprint(kernel, extra):
    """Changes when the archive has to be built anew."""
    digest = hashlib.sha256()
    for path in [*sorted(SOURCES.iterdir()), pathlib.Path(__file__), *extra]:
        digest.update(path.read_bytes())
    digest.update(f"{kernel.image} {kernel.image.stat().st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def pack(root):
    """A folder as an archive: without inode numbers and times of this run, folders' too, so that equal files make equal archives.
    (Whoever unpacks one takes as many instructions as its digits want.)"""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (0, 0), follow_symlinks=False)
    return subprocess.run("find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0 --reproducible",
                          shell=True, cwd=root, check=True, capture_output=True).stdout


def archive(files):
    """A small archive of {path: text or bytes}, to stand behind another one."""
    with tempfile.TemporaryDirectory() as work:
        for path, text in files.items():
            target = pathlib.Path(work) / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return pack(pathlib.Path(work))


def build(kernel, extra=()):
    """The initramfs for a kernel; `extra` are static programs that go to /tools."""
    extra = [pathlib.Path(p) for p in extra]
    folder = CACHE / "initramfs"
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"{kernel.version}-"
    result = folder / f"{prefix}{fingerprint(kernel, extra)}.cpio"
    if result.exists():
        return result
    with tempfile.TemporaryDirectory(dir=folder) as work:
        root = pathlib.Path(work) / "root"
        root.mkdir()
        fill(root, kernel, extra)
        packed = pathlib.Path(work) / "cpio"
        packed.write_bytes(pack(root))
        for old in sorted(folder.glob(f"{prefix}*.cpio"), key=lambda p: p.stat().st_mtime)[:-3]:
            old.unlink(missing_ok=True)
        packed.rename(result)
    return result
