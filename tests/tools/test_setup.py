# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/setup and tools/fetch-deb say what is wrong."""
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT, check=False, timeout=600)


def test_unknown_purpose_is_an_error():
    done = run("tools/setup", "nonsense")
    assert done.returncode == 64
    assert "no purpose 'nonsense'" in done.stderr


def test_nothing_to_install_is_silent():
    """The test run itself began with this command, so nothing is missing."""
    done = run("tools/setup", "build", "cosched", "demo", "test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_line_of_the_list_is_well_formed():
    lines = (ROOT / "packaging" / "packages").read_text().splitlines()
    entries = [line.split() for line in lines if line and not line.startswith("#")]
    assert all(len(entry) == 2 and entry[0] in ("build", "cosched", "demo", "test") for entry in entries)
    packages = [package for _, package in entries]
    assert len(packages) == len(set(packages))


def test_fetch_deb_needs_a_suite_and_a_package():
    assert run("tools/fetch-deb", "trixie").returncode == 64
