# SPDX-License-Identifier: GPL-2.0-or-later
"""fairleadd under a policy of its own, and the CLI against it."""
import copy
import json
import os
import pathlib
import signal
import socket
import subprocess

from . import HANG_S, ROOT, Broken, Unavailable
from .process import Folder, Process, tail, wait_until


def build_folder():
    """Where the programs are that are tested."""
    return pathlib.Path(os.environ.get("FAIRLEAD_BUILD") or ROOT / "build")


def program(name):
    """The path of one of the project's programs."""
    for place in ("src/cli", "src/daemon", "src/cosched", "guest", "bench", "."):
        path = build_folder() / place / name
        if path.is_file():
            return path
    raise Unavailable(f"{name} is not built in {build_folder()}; run make")


def usable_cpus():
    """The CPUs that this process may use."""
    return sorted(os.sched_getaffinity(0))


class Daemon:
    """One fairleadd. `policy` lacks what every test needs alike: the sockets' folder, and the pools' directories."""

    def __init__(self, policy, name="fairleadd", options=(), workers=None):
        self.folder = Folder()
        self.name = name
        self.options = list(options)
        self.control = self.folder.path / "control.sock"
        self.config = self.folder.path / "fairlead.yaml"
        self.log = self.folder.path / f"{name}.log"
        self.pool = self.folder.path / "pool"
        self.pool.mkdir()
        self.workers = usable_cpus()[:1] if workers is None else workers
        self.process = None
        self.write_policy(policy)

    def complete(self, policy):
        """The policy with sockets and folders filled in."""
        policy = copy.deepcopy(policy)
        daemon = {"control": str(self.control), "socket_group": "", "workers": self.workers}
        policy["daemon"] = {k: v for k, v in {**daemon, **policy.get("daemon", {})}.items() if v != ""}
        for pool in policy.get("pools", {}).values():
            if pool["type"] == "file":
                pool.setdefault("directory", str(self.pool))
        for vm, settings in policy.get("vms", {}).items():
            for disk in settings.get("disks", []):
                disk.setdefault("socket", str(self.folder.path / f"{vm}-{disk['name']}.sock"))
        return policy

    def write_policy(self, policy):
        """Writes the policy file (JSON, which YAML contains); the daemon reads it at the next start or apply."""
        self.policy = self.complete(policy)
        self.config.write_text(json.dumps(self.policy, indent=2) + "\n")

    def socket(self, vm, disk):
        """The socket of a disk."""
        for entry in self.policy["vms"][vm]["disks"]:
            if entry["name"] == disk:
                return entry["socket"]
        raise KeyError(disk)

    # --- life ---

    def answers(self):
        """True once it accepts control connections: the control socket is bound last, so by then all disks listen."""
        self.process.must_be_alive()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.control))
                return True
            except OSError:
                return False

    def start(self):
        """Starts it and waits until it is ready."""
        self.process = Process([program("fairleadd"), "--config", self.config, *self.options], self.log)
        wait_until(self.answers, f"{self.name} is ready")
        return self

    def kill(self):
        """kill -9."""
        self.process.kill()

    def stop(self):
        """SIGTERM; it must end with status 0."""
        status = self.process.stop()
        if status != 0:
            raise Broken(f"{self.name} ended with status {status}; its log ends:\n{tail(self.log)}")

    def reload(self):
        """SIGHUP: apply the policy file."""
        self.process.signal(signal.SIGHUP)

    def remove(self):
        """Ends it, whatever its state, and removes all its files."""
        if self.process and self.process.alive():
            self.process.kill()
        self.folder.remove()

    # --- asking it ---

    def cli(self, *words, check=True):
        """Runs the CLI; returns its output, or the finished process when check is False."""
        command = [program("fairlead"), "--control", self.control, *words]
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=HANG_S, check=False)
        if check and done.returncode:
            raise Broken(f"fairlead {' '.join(map(str, words))}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if check else done

    def cli_json(self, *words):
        """Runs the CLI with --json."""
        return json.loads(self.cli("--json", *words))

    def rpc(self, method, **params):
        """Calls a method of the control socket, one JSON-RPC document a line, without the CLI."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(HANG_S)
            connection.connect(str(self.control))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("r").readline())
        if "error" in answer:
            raise Broken(f"{method}: {answer['error']}")
        return answer["result"]

    def disk_counters(self, vm, disk):
        """One disk's counters: its total and its queues."""
        for entry in self.rpc("daemon.stats")["disks"]:
            if (entry["vm"], entry["disk"]) == (vm, disk):
                return entry
        raise KeyError(f"{vm}/{disk}")

    def report(self):
        """What helps to understand a failure."""
        return f"--- {self.name}\n{tail(self.log, 60)}"
