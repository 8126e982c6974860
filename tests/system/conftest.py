# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: what a test starts, it starts here, and whatever becomes of the test it is ended and removed."""
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lib"))
from harness import Unavailable, daemon, guest  # noqa: E402


class Lab:
    """Daemons and guests of one test. Leaving it in good order is part of the test: each daemon ends cleanly on SIGTERM."""

    def __init__(self):
        self.daemons, self.guests = [], []

    def daemon(self, policy, start=True, **settings):
        """A started daemon."""
        made = daemon.Daemon(policy, name=f"fairleadd{len(self.daemons) or ''}", **settings)
        self.daemons.append(made)
        return made.start() if start else made

    def guest(self, disks=(), boot=True, **settings):
        """A booted guest."""
        made = guest.Guest(disks, **settings)
        self.guests.append(made)
        return made.boot() if boot else made

    def report(self):
        """Logs of everything."""
        return "\n".join(part.report() for part in (*self.daemons, *self.guests))

    def close(self):
        """Ends guests, then daemons."""
        try:
            for made in self.guests:
                made.kill()
            for made in self.daemons:
                if made.process and made.process.alive():
                    made.stop()
        finally:
            if os.environ.get("FAIRLEAD_KEEP") is None:
                for made in (*self.guests, *self.daemons):
                    made.remove()


@pytest.fixture
def lab(request):
    """A lab of one test's own."""
    made = Lab()
    request.node.lab = made
    yield made
    made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the logs with a failure; what cannot be downloaded is a skip with its reason."""
    outcome = yield
    report = outcome.get_result()
    if call.excinfo is not None and call.excinfo.errisinstance(Unavailable) and str(call.excinfo.value).startswith("this machine"):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"Skipped: {call.excinfo.value}")
    elif report.failed and hasattr(item, "lab"):
        report.sections.append(("logs", item.lab.report()))


def pytest_configure(config):
    """The only mark of these tests."""
    config.addinivalue_line("markers", "alone: measures real time, and so wants the machine for itself")


def pytest_collection_modifyitems(items):
    """The order of value: what is most basic fails first."""
    order = ["test_disk", "test_clients", "test_cli", "test_plug", "test_hostile", "test_crash", "test_migration", "test_exitless"]
    items.sort(key=lambda item: order.index(item.path.stem) if item.path.stem in order else len(order))
