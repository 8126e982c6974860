# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps fairlead-cosched from scheduling is named, with what to do about it; each reason but the cookie is real, in the kernel
that has it. And what a run that was killed leaves behind is given back by the next. Guests in real time: nothing here depends
on it."""
import json
import shutil
import socket
import subprocess

import pytest

from harness import HANG_S, coload, counted
from harness.daemon import program

UNAVAILABLE, CONFIG = 69, 78
OLD_SUITES = ("bookworm", "trixie")
POLICY = {"cosched": {"mode": "partial", "cpus": [1]}, "vms": {"adder0": {}, "adder1": {}}}
ABSENT = {**POLICY, "cosched": {"mode": "partial", "cpus": [1, 77]}}
# A kernel function of the same length that no kernel has.
LACKED, LACKING = b"scx_bpf_kick_cpu", b"scx_bpf_kick_CPU"

# Debian's kernels are built without core scheduling: the kernel's answer where a thread has a cookie, given in its place.
COOKIE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>

int prctl(int option, ...)
{
	unsigned long a[4];
	va_list list;

	va_start(list, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(list, unsigned long);
	va_end(list);
	if (option == 62 && a[0] == 0 && (int)a[1] == atoi(getenv("COOKIE_OF"))) {
		*(unsigned long long *)a[3] = 1;
		return 0;
	}
	return ((int (*)(int, ...))dlsym(RTLD_NEXT, "prctl"))(option, a[0], a[1], a[2], a[3]);
}
"""

LIBRARY = coload.LIBRARY + """
mkdir -p /run/fairlead
refused() { # NAME COMMAND...: its status, and what it says
	echo "@$1"
	echo "$1" >/dev/ttyS0
	shift
	timeout 300 "$@" 2>&1
	echo "status $?"
}
until_said() { # FILE WORDS
	n=0
	while ! grep -q "$2" "$1"; do
		sleep 0.2
		n=$((n + 1))
		[ $n -lt 3000 ] || { cat "$1"; fail "$2 is not said"; }
	done
}
until_state() {
	n=0
	while [ "$(state)" != "$1" ]; do
		sleep 0.1
		n=$((n + 1))
		[ $n -lt 3000 ] || fail "the scheduler is not $1"
	done
}
another_start() { # a scheduler of the kernel's that is not fairlead-cosched's
	cosched-probe pooled partial 3000 1 >/tmp/probe & probe=$!
	until_state enabled
}
another_stop() {
	aside
	kill $probe
	wait $probe
	until_state disabled
}
aside() { echo "@aside"; } # what the shell says of who was killed belongs to nobody
begin() { : >/tmp/cosched.log; cosched_start /etc/policy.yaml; }
masks() { for vm in adder0 adder1; do taskset -p $(tid_of $vm) | sed 's/.*: //'; done; }
policies() { for vm in adder0 adder1; do sed 's/.*) //' /proc/$(tid_of $vm)/stat | cut -d ' ' -f 39; done; }
"""
OLD = LIBRARY + "refused old fairlead-cosched --config /etc/policy.yaml\nrefused doctor fairlead doctor /etc/policy.yaml\n"
ISOLATED = LIBRARY + "refused isolated fairlead-cosched --config /etc/policy.yaml\n"
MAIN = LIBRARY + """
mount -t tmpfs none /sys/kernel/btf
refused types fairlead-cosched --config /etc/policy.yaml
umount /sys/kernel/btf

refused lacking /tools/lacking --config /etc/policy.yaml

refused cookie env LD_PRELOAD=/tools/cookie.so COOKIE_OF=$$ fairlead-cosched --config /etc/policy.yaml
say shell echo $$

refused user /tools/setpriv --reuid 1000 --regid 1000 --clear-groups /tools/fairlead-cosched --config /etc/policy.yaml

another_start
refused another fairlead-cosched --config /etc/policy.yaml
# It comes after the look at who is there: the kernel itself refuses.
mount -t tmpfs none /sys/kernel/sched_ext
echo disabled >/sys/kernel/sched_ext/state
refused kernel fairlead-cosched --config /etc/policy.yaml
umount /sys/kernel/sched_ext
say another-files ls /run/fairlead
another_stop

load_start --groups 0 --adders 2 --cpus 2
begin
until_said /tmp/cosched.log "adder0: joined"
until_said /tmp/cosched.log "adder1: joined"
say narrow masks
say loads cat /sys/kernel/sched_ext/enable_seq
refused absent fairlead --control /run/fairlead/cosched.sock apply /etc/absent.yaml
say absent-loads cat /sys/kernel/sched_ext/enable_seq
refused second fairlead-cosched --config /etc/policy.yaml --control /run/second.sock
say second-masks masks
aside
kill -9 $cosched
wait $cosched
until_state disabled
say killed masks
say killed-policies policies
refused doctor fairlead doctor /etc/policy.yaml
another_start
say another-policies policies
refused busy fairlead-cosched --config /etc/policy.yaml
say busy-masks masks
say busy-policies policies
say busy-files ls /run/fairlead
another_stop

begin
until_said /tmp/cosched.log "adder0: joined"
until_said /tmp/cosched.log "adder1: joined"
aside
kill -9 $cosched
wait $cosched
until_state disabled
begin
until_said /tmp/cosched.log "adder0: joined"
until_said /tmp/cosched.log "adder1: joined"
say recovered cat /tmp/cosched.log
refused well fairlead doctor /etc/policy.yaml
taskset 2 coload hog 3000 & hog=$!
until_said /tmp/cosched.log foreign
say hog cat /tmp/cosched.log
aside
kill $hog
cosched_stop
say back masks
say back-policies policies
say files ls /run/fairlead
load_stop
"""


def lacking(folder):
    """fairlead-cosched, with a scheduler that wants what no kernel has."""
    path = folder / "lacking"
    path.write_bytes(program("fairlead-cosched").read_bytes().replace(LACKED + b"\0", LACKING + b"\0"))
    path.chmod(0o755)
    return path


def cookie(folder):
    """The library that answers in the kernel's place."""
    source, library = folder / "cookie.c", folder / "cookie.so"
    source.write_text(COOKIE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return library


@pytest.fixture(scope="module", name="said")
def fixture_said(tmp_path_factory):
    """What the guests say, by name; all begin at once and run side by side."""
    folder = tmp_path_factory.mktemp("tools")
    tools = coload.tools()
    more = [*tools, program("cosched-probe"), shutil.which("setpriv"), lacking(folder), cookie(folder)]
    common = {"counted": False, "cpus": 2, "memory_mib": 384,
              "files": {"/etc/policy.yaml": json.dumps(POLICY), "/etc/absent.yaml": json.dumps(ABSENT)}}
    with counted.Rehearsals() as guests:
        jobs = {"main": guests.submit(script=MAIN, tools=more, **common),
                "isolated": guests.submit(script=ISOLATED, tools=tools, cmdline="isolcpus=1", **common)}
        for suite in OLD_SUITES:
            jobs[suite] = guests.submit(script=OLD, tools=tools, suite=suite, **common)
        yield lambda name: coload.parse(jobs[name].result())


def refused(result, name, *words):
    """It said all of this, and ended as unavailable."""
    for word in words:
        assert word in result[name], result[name]
    assert result[name].splitlines()[-1] == f"status {UNAVAILABLE}", result[name]
    assert len(result[name].splitlines()) == 2, result[name]


@pytest.mark.parametrize("suite", OLD_SUITES)
def test_a_kernel_without_sched_ext(said, suite):
    """Debian's before 7.0."""
    result = said(suite)
    refused(result, "old", "CONFIG_SCHED_CLASS_EXT", "from 7.0 on")
    assert "CONFIG_SCHED_CLASS_EXT" in result["doctor"]


def test_isolated_cpus(said):
    refused(said("isolated"), "isolated", "isolcpus= isolates CPUs 1", "boot without it")


def test_a_kernel_without_types(said):
    refused(said("main"), "types", "CONFIG_DEBUG_INFO_BTF", "boot one that does")


def test_a_kernel_without_a_function(said):
    refused(said("main"), "lacking", f"has no {LACKING.decode()}()", "from 7.0 on")


def test_a_core_scheduling_cookie(said):
    result = said("main")
    refused(result, "cookie", f"thread {result['shell']} has a core-scheduling cookie", "take one of them off")


def test_a_user_without_rights(said):
    refused(said("main"), "user", "needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_NICE")


def test_another_scheduler(said):
    result = said("main")
    refused(result, "another", "a scheduler is loaded already: fairlead (enabled)", "end that one first")
    refused(result, "kernel", "the kernel refuses the scheduler (Device or resource busy)")
    assert result["another-files"] == ""


def test_another_run(said):
    """It lives, so nothing of what it has taken is given back."""
    result = said("main")
    refused(result, "second", "another fairlead-cosched runs, and has /run/fairlead/cosched.lock", "end that one first")
    assert result["second-masks"] == result["narrow"]


def test_a_refused_run_gives_back_what_a_killed_one_took(said):
    """The kernel has another scheduler by then, which the threads that were left would belong to."""
    result = said("main")
    assert result["another-policies"].split() == [str(coload.SCHED_EXT)] * 2
    assert "2 threads that a run which was killed had taken are given back" in result["busy"]
    assert "a scheduler is loaded already: fairlead (enabled)" in result["busy"]
    assert result["busy"].splitlines()[-1] == f"status {UNAVAILABLE}"
    assert result["busy-masks"].split() == ["3", "3"]
    assert result["busy-policies"].split() == ["0", "0"]
    # The killed one's; the next one that begins replaces it.
    assert result["busy-files"] == "cosched.sock"


def test_a_policy_that_cannot_be_loaded_ends_nothing(said):
    """It is refused before the scheduler that runs is unloaded for it."""
    result = said("main")
    assert "CPU 77: this machine has none of that number; it has 0-1" in result["absent"]
    assert result["absent-loads"] == result["loads"]


def test_others_on_its_cpus_are_told(said):
    """They come before members; it goes on, and says so."""
    said_of_them = [line for line in said("main")["hog"].splitlines() if line.startswith("foreign: others use ")]
    assert len(said_of_them) == 1 and "keep them off, or use mode all" in said_of_them[0]


def test_what_a_killed_run_took_is_given_back(said):
    """Threads stay narrowed and with their policy, doctor tells; the next run gives them back, and leaves nothing behind."""
    result = said("main")
    # CPU 1 alone.
    assert result["narrow"].split() == ["2", "2"] == result["killed"].split()
    assert result["killed-policies"].split() == [str(coload.SCHED_EXT)] * 2
    assert "fairlead-cosched was killed, and 2 threads may still run on its CPUs only" in result["doctor"]
    assert "2 threads that a run which was killed had taken are given back" in result["recovered"]
    assert "was killed" not in result["well"]
    assert result["back"].split() == ["3", "3"]
    assert result["back-policies"].split() == ["0", "0"]
    assert result["files"] == ""


@pytest.mark.parametrize("policy, words", [
    ("cogroups: { shop: { vms: [web, nobody] } }\nvms: { web: {} }", [":2:21: error: unknown VM 'nobody'"]),
    ("cosched: { mode: partial, cpus: [0] }\ncogroups: { shop: { vms: [web, db] } }\nvms: { web: {}, db: {} }",
     ["'shop' has 2 VMs", "cosched.cpus has 1 CPUs", "give it more CPUs"]),
    ("vms: { web: { cpu: { weight: 0 } } }", ["weight", "1"]),
    ("cosched: { mode: partial, cpus: [0] }\nvms: { web: { cpu: { cap: 101 } } }", ["cap: 101 is above", "100 (percent of one CPU)"]),
    ("cosched: { mode: all }\nvms: { web: { cpu: { cap: 102400 } } }", ["cap 102400 is above", "(percent of one CPU)"]),
    ("cosched: { mode: partial }", ["mode partial needs cpus"]),
])
def test_policies_that_cannot_be(tmp_path, policy, words):
    """Told with what is wrong, and refused with the status of a bad policy."""
    path = tmp_path / "policy.yaml"
    path.write_text(f"daemon: {{ control: {tmp_path}/control.sock }}\n{policy}\n")
    done = subprocess.run([program("fairlead-cosched"), "--rehearse", "--config", path], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == CONFIG, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_rehearsal_wants_a_socket_of_its_own(tmp_path):
    """Where another one listens, or where there is no folder, it says what to do."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps({"vms": {"web": {}}}))
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "cosched.sock"))
        other.listen()
        for control, words in (("cosched.sock", "another fairlead-cosched listens there"), ("none/cosched.sock", "make its folder")):
            done = subprocess.run([program("fairlead-cosched"), "--rehearse", "--config", path, "--control", tmp_path / control],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=HANG_S)
            assert done.returncode == CONFIG, done.stderr
            assert words in done.stderr and "give --control another path" in done.stderr, done.stderr
