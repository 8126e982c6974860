# SPDX-License-Identifier: GPL-2.0-or-later
"""Child processes with a log, and waiting with a hang limit."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from . import HANG_S, Broken


def wait_until(condition, what, hang_s=HANG_S, interval_s=0.02):
    """Returns the first true value of `condition`, however long the machine takes; gives up when it must be hung."""
    deadline = time.monotonic() + hang_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Broken(f"waited {hang_s} s in vain: {what}")
        time.sleep(interval_s)


def tail(path, lines=40):
    """The end of a log."""
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({error})"


class Folder:
    """A short temporary path: a socket's may not exceed 107 bytes."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="fl-", dir="/tmp"))

    def remove(self):
        """Removes it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """A child in a session of its own, its output in a log file. It is killed when the test run dies without its goodbyes."""

    def __init__(self, command, log, env=None, pass_fds=()):
        self.command = [str(word) for word in command]
        self.log = pathlib.Path(log)
        with self.log.open("ab") as output:
            output.write(f"+ {' '.join(self.command)}\n".encode())
            output.flush()
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self.command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                          env=env, pass_fds=pass_fds, start_new_session=True)

    @property
    def pid(self):
        """Its process id."""
        return self.child.pid

    def alive(self):
        """True while it runs."""
        return self.child.poll() is None

    def signal(self, number):
        """Sends it a signal."""
        self.child.send_signal(number)

    def wait(self, hang_s=HANG_S):
        """Waits for its end; returns its status (negative: the signal)."""
        try:
            return self.child.wait(hang_s)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self.command[0]} did not end in {hang_s} s; its log ends:\n{tail(self.log)}") from None

    def stop(self):
        """Asks it to end and waits; returns its status."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        """Ends it at once with all that it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.wait()

    def must_be_alive(self):
        """Raises with the log if it has ended."""
        if not self.alive():
            raise Broken(f"{self.command[0]} ended with status {self.child.returncode}; its log ends:\n{tail(self.log)}")
        return True
