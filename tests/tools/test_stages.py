# SPDX-License-Identifier: GPL-2.0-or-later
"""How tools/test runs commands: what is slow is waited for, what hangs is ended."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools" / "lib"))
import stages  # noqa: E402


def test_patience_runs_out_only_in_silence():
    patience = stages.Patience(10)
    over = [patience.is_over(size, now) for size, now in ((0, 100), (0, 109), (1, 109.5), (2, 119), (2, 128.9), (2, 129))]
    assert over == [False] * 5 + [True]


def test_a_command_is_run_to_its_end(tmp_path):
    with (tmp_path / "log").open("w") as file:
        log = stages.Log(file)
        assert [log.run(["sh", "-c", f"echo did {status}; exit {status}"]) for status in (0, 3)] == [0, 3]
    assert (tmp_path / "log").read_text().count("\ndid ") == 2


def test_a_silent_command_is_ended_with_all_that_it_started(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert stages.Log(file).run(["sh", "-c", "sleep 100000 & sleep 100000"], hang_s=0) == 124
    assert "gave up after 0 s of silence" in (tmp_path / "log").read_text()


def test_what_is_tried_again_is_counted_once():
    first = stages.Result(passed=5, failed=2, skipped=1, notes=["failed: a", "failed: b", "skipped: c: this machine lacks it"])
    passed = stages.tried_again(first, ["a", "b"], stages.Result(passed=1, failed=1, notes=["failed: b"]), ["b"])
    assert (passed.passed, passed.failed, passed.skipped, passed.is_good()) == (6, 1, 1, False)
    assert passed.notes == ["skipped: c: this machine lacks it", "failed: b", "passed at the second attempt: a"]
    again = stages.Result(passed=1)
    again.skip("b", "no reason given")
    skipped = stages.tried_again(first, ["a", "b"], again, [])
    assert (skipped.passed, skipped.failed, skipped.skipped, skipped.is_good()) == (6, 0, 2, False)
    assert not any("second attempt" in note for note in skipped.notes)
