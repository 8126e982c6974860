# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages of tools/test: what each runs and how its results are counted."""
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = pathlib.Path(os.environ.get("FAIRLEAD_CACHE") or pathlib.Path.home() / ".cache" / "fairlead")
PYTHON = "/usr/bin/python3"
JOBS = str(min(4, len(os.sched_getaffinity(0))))
# What writes nothing for so long hangs. Not a limit on how long a stage takes: a loaded machine may take many times as long
# as a quiet one. Longer than any test's own limit, so that the test says what hung.
HANG_S = 3000
# For many tests in a row, beside others: each of their waits has a limit of its own.
MANY_HANG_S = 2 * HANG_S
LOOK_S = 5
MAX_LINES = 700
# So many failed tests are tried once more; more than that is no accident.
RETRIES_MAX = 3


class Failure(Exception):
    """Ends a stage; the text says what went wrong."""


@dataclasses.dataclass
class Result:
    """Counts of one stage. `unaccepted` are skips whose reason does not lie with the machine."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unaccepted: int = 0
    notes: list = dataclasses.field(default_factory=list)

    def is_good(self):
        """True if nothing failed and nothing was skipped that could have run."""
        return self.failed == 0 and self.unaccepted == 0

    def skip(self, name, reason):
        """Counts a skipped test."""
        self.skipped += 1
        if not reason.startswith("this machine"):
            self.unaccepted += 1
        self.notes.append(f"skipped: {name}: {reason}")


def add_up(results):
    """The sum of all stages' counts."""
    return Result(*(sum(getattr(r, f) for r in results) for f in ("passed", "failed", "skipped", "unaccepted")))


# The process groups that run.
running = set()


def end_all():
    """Ends whatever a test run that is interrupted leaves behind."""
    for group in list(running):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Patience:
    """Runs out when what is looked at has not changed for so long."""

    def __init__(self, hang_s):
        self.hang_s = hang_s
        self.seen = self.since = None

    def is_over(self, seen, now):
        """Takes one look."""
        if seen != self.seen:
            self.seen, self.since = seen, now
        return now - self.since >= self.hang_s


class Log:
    """Runs commands with their output in the stage's log."""

    def __init__(self, file):
        self.file = file
        self.lock = threading.Lock()

    def write(self, text):
        """Adds text, for stages that run several commands at once."""
        with self.lock:
            self.file.write(text)
            self.file.flush()

    def run(self, command, env=None, hang_s=HANG_S):
        """Runs a command to its end, with all that it started; returns its exit status. One that falls silent is ended."""
        self.write(f"+ {' '.join(map(str, command))}\n")
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT,
                                 cwd=ROOT, env={**os.environ, **(env or {})}, start_new_session=True)
        running.add(child.pid)
        patience = Patience(hang_s)
        try:
            while not patience.is_over(os.fstat(self.file.fileno()).st_size, time.monotonic()):
                try:
                    return child.wait(timeout=LOOK_S)
                except subprocess.TimeoutExpired:
                    pass
            self.write(f"\ngave up after {hang_s} s of silence\n")
            return 124
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
            running.discard(child.pid)

    def must(self, command, env=None, hang_s=HANG_S):
        """Runs a command that has to succeed."""
        status = self.run(command, env, hang_s)
        if status:
            raise Failure(f"{' '.join(map(str, command[:3]))} ... ended with status {status}")


# --- building ---

def set_up(log, folder, cc, *options):
    """Configures a build folder, once; configures it anew when the options have changed."""
    path = ROOT / folder
    wanted = json.dumps([cc, *options])
    stamp = path / ".tools-test"
    if (path / "build.ninja").exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    command = ["meson", "setup", folder, *options]
    if (path / "meson-private" / "coredata.dat").exists():
        command.append("--wipe")
    log.must(command, {"CC": cc})
    stamp.write_text(wanted)


def build(log, folder, cc, *options, targets=("all",)):
    """Builds with warnings as errors."""
    set_up(log, folder, cc, "-Dwerror=true", *options)
    log.must(["ninja", "-j", JOBS, "-C", folder, *targets])
    return Result(passed=1)


def stage_gcc(log):
    """The build that the system tests and the demo use."""
    return build(log, "build", "gcc")


def stage_clang(log):
    """The same with the other compiler."""
    return build(log, "build-clang", "clang")


# --- unit tests: meson runs them, cmocka counts inside them ---

CMOCKA = re.compile(r"^\[\s*(PASSED|FAILED|SKIPPED)\s*\]\s+(\d+) test\(s\)", re.MULTILINE)


def count_unit(record, result):
    """Adds one meson test (one line of testlog.json) to the counts."""
    output = record.get("stdout", "") + "\n" + record.get("stderr", "")
    counts = {"PASSED": 0, "FAILED": 0, "SKIPPED": 0}
    for state, number in CMOCKA.findall(output):
        counts[state] += int(number)
    name = record["name"]
    if record["result"] == "SKIP":
        lines = output.strip().splitlines()
        result.skip(name, lines[-1] if lines else "no reason given")
        return
    if record["result"] not in ("OK", "EXPECTEDFAIL"):
        result.failed += max(1, counts["FAILED"])
        result.passed += counts["PASSED"]
        result.notes.append(f"failed: {name} ({record['result']})")
        return
    result.passed += max(1, counts["PASSED"])
    for _ in range(counts["SKIPPED"]):
        result.skip(name, "a case was skipped; see the log")


def meson_once(log, folder, env, wrapper, names=()):
    """Runs tests of a build folder, all of them unless named; returns meson's records by name."""
    testlog = ROOT / folder / "meson-logs" / "testlog.json"
    testlog.unlink(missing_ok=True)
    log.run([*wrapper, "meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "--num-processes", JOBS, *names], env, MANY_HANG_S)
    if not testlog.exists():
        raise Failure("meson test left no log")
    records = [json.loads(line) for line in testlog.read_text().splitlines()]
    return {record["name"]: record for record in records}


def meson_tests(log, folder, env=None, wrapper=(), names=()):
    """Runs tests of a build folder, all of them unless named, and counts them. A few that failed are tried once more, and that
    is told."""
    records = meson_once(log, folder, env, wrapper, names)
    failed = [name for name, record in records.items() if record["result"] not in ("OK", "EXPECTEDFAIL", "SKIP")]
    notes = []
    if 0 < len(failed) <= RETRIES_MAX:
        again = meson_once(log, folder, env, wrapper, [name.split(":")[-1].split(" / ")[-1] for name in failed])
        records.update(again)
        notes = [f"passed at the second attempt: {name}" for name, record in again.items() if record["result"] == "OK"]
    result = Result(notes=notes)
    for record in records.values():
        count_unit(record, result)
    if not result.passed:
        raise Failure("meson test ran nothing")
    return result


def stage_unit(log):
    """Unit and protocol tests and the fuzz targets' corpora, as built for use."""
    return meson_tests(log, "build")


def stage_asan(log):
    """The same under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer."""
    # The tests and what they need, no more: static programs cannot be sanitized.
    build(log, "build-asan", "clang", "-Db_sanitize=address,undefined", "-Db_lundef=false", targets=["meson-test-prereq"])
    return meson_tests(log, "build-asan", {
        "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})


def introspect(folder, what):
    """What meson knows of a build folder's tests or targets."""
    done = subprocess.run(["meson", "introspect", f"--{what}", folder], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return json.loads(done.stdout)


# What a program calls that is ever in two places at once: everything else runs in one order, whoever watches.
CONCURRENT = {"pthread_create", "thrd_create", "clone", "signal", "sigaction"}


def is_concurrent(program):
    """Does a program, or what it links, begin threads or handle signals? A script may start anything."""
    done = subprocess.run(["nm", "-D", "--undefined-only", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    called = {word.partition("@")[0] for word in done.stdout.split()}
    return not called or not called.isdisjoint(CONCURRENT)


def stage_tsan(log):
    """Those under ThreadSanitizer in which it could find something. It needs a fixed address-space layout on kernels with more
    random bits than it knows."""
    folder = "build-tsan"
    options = ("-Db_sanitize=thread", "-Db_lundef=false")
    set_up(log, folder, "clang", "-Dwerror=true", *options)
    tests = introspect(folder, "tests")
    # As built for use: a sanitizer's own library begins a thread.
    chosen = [t for t in tests if is_concurrent(t["cmd"][0].replace(str(ROOT / folder), str(ROOT / "build"), 1))]
    files = {t["id"]: [os.path.relpath(f, ROOT / folder) for f in t["filename"]] for t in introspect(folder, "targets")}
    build(log, folder, "clang", *options, targets=sorted({f for t in chosen for d in t["depends"] for f in files[d]}))
    result = meson_tests(log, folder, {"TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tools/tsan.suppress"},
                         ["setarch", "-R"], [t["name"] for t in chosen])
    result.notes.append(f"{len(tests) - len(chosen)} of {len(tests)} programs have neither threads nor signal handlers, and so no races")
    return result


# --- analysis ---

def sources(*folders):
    """All C files beneath the folders."""
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.c"))


def check(result, what, log, command, hang_s=HANG_S):
    """Counts one command as one check."""
    if log.run(command, hang_s=hang_s):
        result.failed += 1
        result.notes.append(f"failed: {what}")
    else:
        result.passed += 1


def stage_layers(log):
    """Dependencies between folders point down, and the checker sees one that does not."""
    result = Result()
    check(result, "tools/check-layers", log, ["tools/check-layers"])
    return result


CHECKED = ("src", "frontend", "guest", "bench", "sim")


def tidy_key(command):
    """Names all that clang-tidy's verdict on a file depends on: its text after the preprocessor, and the checks."""
    words = shlex.split(command["command"])
    skipped = {"-o", "-MF", "-MQ"}
    kept = [w for i, w in enumerate(words) if w not in ("-c", "-MD", *skipped) and (i == 0 or words[i - 1] not in skipped)]
    text = subprocess.run([*kept, "-E", "-C"], cwd=command["directory"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    version = subprocess.run(["clang-tidy", "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    config = (ROOT / ".clang-tidy").read_bytes()
    return hashlib.sha256(text.stdout + version.stdout + config).hexdigest()


def tidy_one(log, path, command):
    """Runs clang-tidy on one file, unless this very text has been found clean before; True if it is clean."""
    found_clean = CACHE / "clang-tidy" / tidy_key(command)
    if found_clean.exists():
        return True
    done = subprocess.run(["clang-tidy", "-p", "build-clang", "--quiet", str(path.relative_to(ROOT))], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, cwd=ROOT, timeout=HANG_S, check=False)
    if done.returncode:
        log.write(done.stdout + done.stderr)
        return False
    found_clean.parent.mkdir(parents=True, exist_ok=True)
    found_clean.touch()
    return True


def stage_tidy(log):
    """clang-tidy on every file that the clang build compiles, outside tests."""
    set_up(log, "build-clang", "clang", "-Dwerror=true")
    commands = json.loads((ROOT / "build-clang" / "compile_commands.json").read_text())
    compiled = {(pathlib.Path(c["directory"]) / c["file"]).resolve(): c for c in commands}
    files = [p for p in sources(*CHECKED) if p in compiled]
    result = Result()
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
        for path, clean in zip(files, pool.map(lambda p: tidy_one(log, p, compiled[p]), files)):
            if clean:
                result.passed += 1
            else:
                result.failed += 1
                result.notes.append(f"failed: clang-tidy {path.relative_to(ROOT)}")
    return result


def stage_cppcheck(log):
    """cppcheck on the same files."""
    result = Result()
    cache = ROOT / "build" / "cppcheck"
    cache.mkdir(parents=True, exist_ok=True)
    folders = [f for f in CHECKED if any((ROOT / f).rglob("*.c"))]
    # cppcheck does not know BPF's macros; the verifier of the kernel checks more of that program than cppcheck could.
    bpf = [word for path in sorted((ROOT / "src").rglob("*.bpf.c")) for word in ("-i", str(path.relative_to(ROOT)))]
    check(result, "cppcheck", log, [
        "cppcheck", "--quiet", "-j", JOBS, f"--cppcheck-build-dir={cache}", "--error-exitcode=1", "--inline-suppr", "--std=c11",
        "--enable=warning,performance,portability", "--suppressions-list=tools/cppcheck.suppress", "--include=tools/cppcheck-macros.h", "-Isrc", "-I.",
        "-D_GNU_SOURCE", *bpf, *folders])
    return result


# --- documents ---

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def check_links(path):
    """The relative links of a Markdown file that lead nowhere."""
    targets = LINK.findall(path.read_text())
    return [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (path.parent / t).exists()]


def stage_docs(log):
    """Man pages build, links lead somewhere, no file is too long to be one concept."""
    result = Result()
    for page in sorted((ROOT / "man").glob("*.scd")):
        with page.open() as file:
            done = subprocess.run(["scdoc"], stdin=file, capture_output=True, check=False)
        log.write(f"scdoc {page.name}: {done.returncode} {done.stderr.decode()}\n")
        result.passed += done.returncode == 0
        result.failed += done.returncode != 0
    for path in [*ROOT.glob("*.md"), *(ROOT / "doc").rglob("*.md")]:
        broken = check_links(path)
        result.passed += not broken
        result.failed += bool(broken)
        result.notes += [f"failed: {path.relative_to(ROOT)} links to {t}, which does not exist" for t in broken]
    too_long = [p for f in ("src", "frontend", "bench", "guest", "fuzz", "tools", "tests")
                for p in (ROOT / f).rglob("*") if p.suffix in (".c", ".h", ".py") and len(p.read_bytes().splitlines()) > MAX_LINES]
    result.passed += not too_long
    result.failed += len(too_long)
    result.notes += [f"failed: {p.relative_to(ROOT)} has more than {MAX_LINES} lines" for p in too_long]
    return result


# --- tests with real guests and clients ---

def count_case(case, result):
    """Adds one test case of a JUnit report."""
    name = f"{case.get('classname')}.{case.get('name')}"
    skipped = case.find("skipped")
    if case.find("failure") is not None or case.find("error") is not None:
        result.failed += 1
        result.notes.append(f"failed: {name}")
    elif skipped is not None:
        result.skip(name, skipped.get("message", "no reason given"))
    else:
        result.passed += 1


def pytest(log, folder, marked=None):
    """Runs a folder of pytest tests, all or those that are marked so, and counts them."""
    result, failed = pytest_once(log, folder, [folder, *(["-m", marked] if marked else [])])
    if 0 < len(failed) <= RETRIES_MAX:
        # A guest that fails once and not twice points at the machine more often than at us; either way it is told.
        again, still_failed = pytest_once(log, folder, failed)
        result = tried_again(result, failed, again, still_failed)
    return result


def tried_again(result, failed, again, still_failed):
    """The counts after those that failed have been tried once more; one that is skipped now has not passed."""
    notes = [note for note in result.notes if not note.startswith("failed:")] + again.notes
    if not again.skipped:
        notes += [f"passed at the second attempt: {name}" for name in failed if name not in still_failed]
    kept = dataclasses.replace(result, failed=result.failed - len(failed), notes=[])
    return dataclasses.replace(add_up([kept, again]), notes=notes)


def pytest_once(log, folder, names):
    """Runs tests by folder or node id, chosen by options; returns the counts and the node ids of those that failed."""
    report = pathlib.Path(log.file.name).with_suffix(".xml")
    report.unlink(missing_ok=True)
    status = log.run([PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-v", f"--junitxml={report}", *names],
                     {"FAIRLEAD_BUILD": str(ROOT / "build"), "PYTHONDONTWRITEBYTECODE": "1"}, MANY_HANG_S)
    if not report.exists():
        raise Failure(f"pytest left no report (status {status})")
    result, failed = Result(), []
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        before = result.failed
        count_case(case, result)
        if result.failed > before:
            failed.append(f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}")
    if status not in (0, 1) or (status == 1 and not result.failed):
        raise Failure(f"pytest ended with status {status}")
    return result, failed


def stage_tools(log):
    """The tools that the other stages rely on."""
    return pytest(log, "tests/tools")


def stage_system(log):
    """The daemon with real guests, front-ends and clients."""
    return pytest(log, "tests/system", "not alone")


def stage_alone(log):
    """Those of them that measure, and assert less of what they measure on a busy machine."""
    return pytest(log, "tests/system", "alone")


STAGES = {
    "gcc": stage_gcc, "clang": stage_clang, "layers": stage_layers, "tools": stage_tools, "docs": stage_docs,
    "unit": stage_unit, "asan": stage_asan, "tsan": stage_tsan, "cppcheck": stage_cppcheck, "clang-tidy": stage_tidy,
    "system": stage_system, "alone": stage_alone,
}
# The steps of a whole run: each a list of lanes, which run side by side, and each lane a list of stages. Guests boot, wait for
# disks, and count instructions on one CPU, so a machine has time for compilers and sanitizers beside them.
PLAN = [
    [["gcc"]],
    [["system"], ["clang", "layers", "tools", "docs", "unit", "asan", "tsan", "cppcheck", "clang-tidy"]],
    [["alone"]],
]
