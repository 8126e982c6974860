# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's side of the guest's agent: shell commands in the guest, any number at a time."""
import json
import threading

from . import HANG_S, Broken


class Command:
    """A command that runs in the guest."""

    def __init__(self, script):
        self.script = script
        self.ended = threading.Event()
        self.status = None
        self.output = ""

    def finish(self, status, output):
        """Called by the agent's reader."""
        self.status, self.output = status, output
        self.ended.set()

    def wait(self, hang_s=HANG_S):
        """Waits for its end; returns (status, output)."""
        if not self.ended.wait(hang_s):
            raise Broken(f"the guest's command did not end in {hang_s} s: {self.script}")
        if self.status is None:
            raise Broken(f"the guest went away during: {self.script}")
        return self.status, self.output

    def result(self, hang_s=HANG_S):
        """Its output; raises if it failed."""
        status, output = self.wait(hang_s)
        if status:
            raise Broken(f"in the guest: {self.script}\nstatus {status}; it said:\n{output}")
        return output

    def json(self):
        """The last line of its output, parsed; whatever its status says."""
        status, output = self.wait()
        try:
            return json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Broken(f"in the guest: {self.script}\nstatus {status}; no JSON:\n{output}") from None


class Agent:
    """Lives as long as the guest: through its reboots, and from one QEMU to another when it migrates."""

    def __init__(self):
        self.socket = None
        self.lock = threading.Lock()
        self.booted = threading.Event()
        self.running = {}
        self.last_id = 0

    def attach(self, connection):
        """Takes over a connection to the guest's port."""
        self.socket = connection
        threading.Thread(target=self._read, args=(connection,), name="agent", daemon=True).start()

    def forget_boot(self):
        """Before a reboot: wait_booted waits for the next one."""
        self.booted.clear()

    def _hello(self):
        for command in list(self.running.values()):
            command.finish(None, "")
        self.running.clear()
        self.booted.set()

    def _read(self, connection):
        stream = connection.makefile("rb")
        try:
            while True:
                head = stream.readline().split()
                if len(head) != 3:
                    return
                number, status, length = map(int, head)
                output = stream.read(length).decode(errors="replace")
                if number == 0:
                    self._hello()
                elif number in self.running:
                    self.running.pop(number).finish(status, output)
        except (OSError, ValueError):
            return

    def start(self, script):
        """Starts a command and returns it."""
        command = Command(script)
        data = script.encode()
        with self.lock:
            self.last_id += 1
            self.running[self.last_id] = command
            self.socket.sendall(f"{self.last_id} {len(data)}\n".encode() + data)
        return command

    def fail_all(self):
        """The guest has ended: nothing that runs will answer."""
        self._hello()
        self.booted.clear()
