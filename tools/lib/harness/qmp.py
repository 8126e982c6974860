# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's machine protocol, and the sockets on which QEMU calls us: the harness listens, so there is nothing to retry."""
import json
import select
import socket
import threading
import time

from . import HANG_S, Broken


class Listener:
    """A unix socket that waits for one peer."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen(4)

    def accept(self, process, hang_s=HANG_S):
        """The connection of a process that has been started; raises with its log if it ends first."""
        deadline = time.monotonic() + hang_s
        while not select.select([self.socket], [], [], 0.1)[0]:
            process.must_be_alive()
            if time.monotonic() > deadline:
                raise Broken(f"{process.command[0]} did not connect to {self.path}")
        return self.socket.accept()[0]

    def close(self):
        """Stops listening."""
        self.socket.close()


class Qmp:
    """One client's session; any thread may use it, one command at a time."""

    def __init__(self, connection):
        self.socket = connection
        self.lock = threading.Lock()
        self.changed = threading.Condition()
        self.events = []
        self.answers = []
        self.closed = False
        self.reader = threading.Thread(target=self._read, name="qmp", daemon=True)
        self.reader.start()
        self.execute("qmp_capabilities")

    def _read(self):
        try:
            for line in self.socket.makefile("r"):
                message = json.loads(line)
                with self.changed:
                    if "event" in message:
                        self.events.append(message)
                    elif "QMP" not in message:
                        self.answers.append(message)
                    self.changed.notify_all()
        except (OSError, ValueError):
            pass
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def execute(self, command, **arguments):
        """Runs a command and returns what it returns; underscores in argument names become hyphens."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        with self.lock:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            with self.changed:
                if not self.changed.wait_for(lambda: self.answers or self.closed, HANG_S) or not self.answers:
                    raise Broken(f"QEMU does not answer {command}")
                answer = self.answers.pop(0)
        if "error" in answer:
            raise Broken(f"QEMU refuses {command} {arguments}: {answer['error']['desc']}")
        return answer["return"]

    def take_event(self, name, match=lambda data: True, within_s=0):
        """Takes an event that has come already or comes in that time; None."""
        def find():
            for event in self.events:
                if event["event"] == name and match(event.get("data", {})):
                    self.events.remove(event)
                    return event
            return self.closed

        with self.changed:
            event = self.changed.wait_for(find, within_s)
        return event if isinstance(event, dict) else None

    def wait_event(self, name, match=lambda data: True):
        """Waits for an event and takes it."""
        event = self.take_event(name, match, HANG_S)
        if not event:
            raise Broken(f"QEMU's event {name} did not come")
        return event
