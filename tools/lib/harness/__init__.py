# SPDX-License-Identifier: GPL-2.0-or-later
"""Real guests, daemons and clients, for tests/system and tools/demo."""
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = pathlib.Path(os.environ.get("FAIRLEAD_CACHE") or pathlib.Path.home() / ".cache" / "fairlead")
# How long anything may take before it is called hung: a limit for loaded machines, not an expectation.
HANG_S = 600


class Broken(Exception):
    """Something that was started does not do what it must; the text says what, for people."""


class Unavailable(Exception):
    """Something that comes from outside is not to be had."""
