# SPDX-License-Identifier: GPL-2.0-or-later
"""Co-scheduling in real kernels: shares, requests, and what a host must survive. Time is the guests' own, counted in
instructions: a slow machine changes nothing."""
import json
import pathlib
import shutil
import subprocess

import pytest

from harness import Unavailable, coload, counted
from harness.daemon import program

SLICE_NS = 30_000_000
LOAD = coload.Load()
MEMBERS = len(LOAD.vms())
CROWD = coload.Load(adders=6)
TRACE_S = 2
SHORT_S = 2
# Of the host's time, in which a guest of these has long ended: the slowest took 400 s with a sixth of a CPU.
HANG_S = 2400
# Seeds.
SHARES = {"sid": 1, "trixie-backports": 2}


def shares_script(seed):
    """The algorithm that is the default, measured; then some of it is recorded."""
    return coload.LIBRARY + coload.measurement(LOAD, "pooled", seed, 1, 4, then=f"say trace recorded {TRACE_S}\n")


# What members, CPUs, others and the administrator do to a scheduler that runs.
LIFE = coload.LIBRARY + f"""
hogs() {{ # PREFIX...: on each CPU one, which must come to its end
	list=
	for cpu in 1 2 4 8; do
		taskset $cpu "$@" coload hog 2 &
		list="$list $!"
	done
}}
hogs_end() {{ for hog in $list; do wait $hog || fail "a hog ended with $?"; done; }}
load_start {LOAD.options(3)}
cosched_start /etc/pooled.yaml
sleep 1
say begin measure 0 0.5
say begin-ext ext_threads

kill -9 $(pid_of adder6)
sleep 1.5
say exit status
enabled "a member's exit"

taskset -p 4 $(tid_of adder0) >/dev/null
say affinity measure 0 1
enabled "a member's affinity changed"
taskset -p f $(tid_of adder0) >/dev/null

echo 0 >/sys/devices/system/cpu/cpu3/online
say offline measure 0 1
enabled "a CPU went offline"
echo 1 >/sys/devices/system/cpu/cpu3/online
sleep 0.5
say online measure 0 1
enabled "a CPU came back"

hogs
say fair-hogs measure 0 2
hogs_end
enabled "fair-class hogs"
hogs chrt -f 10
say rt-hogs measure 0 2
hogs_end
enabled "real-time hogs"
say no-hogs measure 0 1

say applied again /run/fairlead/cosched.sock 1000 /apply-a /apply-b
enabled "a policy applied over and over"
say after-applied measure 0 0.5

# By the CPU that was away: the kernel ends a scheduler by an irq_work, which is done there if all that went before were.
taskset -p 8 $cosched >/dev/null
kill $cosched
ended stop 0.02
wait $cosched || fail "fairlead-cosched ended with $?"
say stop measure 0 0.5
load_stop
"""

# Everybody is scheduled by it. Beside members there are threads that are in the kernel most of the time, so that a grace period, for
# which a CPU waits before it goes offline, needs several of them to run; then on each CPU some that can run on no other.
EVERYBODY = coload.LIBRARY + f"""
load_start {CROWD.options(3)}
cosched_start /etc/pooled.yaml
for i in 1 2 3; do
	while :; do cat /proc/[0-9]*/task/*/status >/dev/null 2>&1; done & others="$others $!"
done
for i in 1 2; do dd if=/dev/zero of=/dev/null bs=64k & others="$others $!"; done
sleep 1
for cpu in 1 2 3 1 2 3; do
	began=$(now)
	echo 0 >/sys/devices/system/cpu/cpu$cpu/online
	took="$took $(($(now) - began))"
	sleep 0.3
	echo 1 >/sys/devices/system/cpu/cpu$cpu/online
	sleep 0.3
done
say offline-took echo $took
enabled "CPUs went offline and came back"
echo "@aside"
kill -9 $others
wait $others
for cpu in 1 2 4 8; do
	for i in 1 2 3; do taskset $cpu coload hog 3 & hogs="$hogs $!"; done
done
say pinned-hogs measure 0.5 2
for hog in $hogs; do wait $hog || fail "a hog ended with $?"; done
cosched_stop
load_stop
"""

# What ends a scheduler from outside. Without a timer's ticks: nothing happens while the watchdog waits.
FAULTS = coload.LIBRARY + f"""
load_start {LOAD.options(4, pit=False)}
begin() {{ # NAME
	cosched_start /etc/pooled.yaml
	sleep 1
	say before-$1 measure 0 0.5
	say before-$1-ext ext_threads
}}
begin kill
kill -9 $cosched
ended kill 0.02
say kill measure 0 0.5

begin error
cosched-probe fault error
ended error 0.02
wait $cosched
say error-status echo $?
say error measure 0 0.5

begin stall
cosched-probe fault stall
ended stall 0.2
wait $cosched
say stall-status echo $?
say stall measure 0 0.5
say log grep "has ended the scheduler" /tmp/cosched.log
load_stop
"""

# Its boot sector: reads 4 KiB after 4 KiB of its own disk, for ever, through the firmware's virtio driver.
SECTOR = """
.code16
	xor %ax, %ax
	mov %ax, %ds
	mov %dl, drive
again:	mov $packet, %si
	mov drive, %dl
	mov $0x42, %ah
	int $0x13
	addw $8, lba
	andw $0xfff, lba
	jmp again
drive:	.byte 0
packet:	.byte 16, 0
	.word 8, 0x8000, 0
lba:	.quad 0
	.org 510
	.word 0xaa55
"""
REAL_VM = coload.LIBRARY + """
mkdir -p /tmp/pool /run/fairlead
cp /sector /tmp/pool/root.raw
truncate -s 8M /tmp/pool/root.raw
fairleadd --config /etc/real.yaml >/tmp/fairleadd.log 2>&1 & daemon=$!
n=0
while ! [ -S /run/fairlead/control.sock ]; do
	sleep 0.1
	n=$((n + 1))
	[ $n -lt 600 ] || { cat /tmp/fairleadd.log; fail "fairleadd does not begin"; }
done
vm_start() {
	QEMU_MODULE_DIR=/qemu qemu-system-x86_64 -nodefaults -no-user-config -display none -L /bios -name guest=web,debug-threads=on \\
		-machine pc,memory-backend=mem -accel tcg,thread=multi,tb-size=16 -smp 2 -m 32M \\
		-object memory-backend-memfd,id=mem,size=32M,share=on -chardev socket,id=c,path=/run/fairlead/root.sock \\
		-device vhost-user-blk-pci,chardev=c,num-queues=1,bootindex=1 >/tmp/qemu.log 2>&1 & vm=$!
}
reads() { fairlead --json stats; }
# Threads, and by which policy each is scheduled (7: sched_ext).
threads() { for t in /proc/$1/task/*; do echo "$(cat $t/comm): $(sed 's/.*) //' $t/stat | cut -d ' ' -f 39)"; done; }
busy() { # until the VM reads
	n=0
	while [ "$(reads | grep -c '"read_ops": [1-9]')" = 0 ]; do
		kill -0 $vm || { cat /tmp/qemu.log /tmp/fairleadd.log; fail "QEMU has ended"; }
		sleep 0.5
		n=$((n + 1))
		[ $n -lt 600 ] || { cat /tmp/qemu.log /tmp/fairleadd.log; reads; fail "the VM does not read"; }
	done
}
load_start LOAD
vm_start
busy
say before-threads threads $vm
cosched_start /etc/real.yaml
sleep 2.5
say vm-threads threads $vm
say worker-threads threads $daemon
say reads-1 reads
say status-1 status
sleep 2
say reads-2 reads
say status-2 status
cosched_stop
say back-threads threads $vm
say back-worker-threads threads $daemon
cosched_start /etc/real.yaml
sleep 2.5
say again status
kill $vm
wait $vm
sleep 1.5
say gone status
say gone-worker-threads threads $daemon
enabled "the VM ended"
cosched_stop
load_stop
kill $daemon
wait $daemon || fail "fairleadd ended with $?"
"""


def request(text):
    """A policy.apply of this policy, as one line."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "policy.apply",
                       "params": {"sources": [{"name": "p.yaml", "text": text}]}}) + "\n"


def life():
    """A scheduler's life among all that happens on a host."""
    other = coload.policy(LOAD, "pooled", 3, weights={"adder0": 512, "g0-web0": 128})
    return {"script": LIFE, "suite": "sid", "tools": coload.tools(),
            "files": {**coload.policies(LOAD, ["pooled"], 3), "/apply-a": request(coload.policy(LOAD, "pooled", 3)),
                      "/apply-b": request(other)}}


def everybody():
    """Mode all."""
    return {"script": EVERYBODY, "suite": "trixie-backports", "tools": coload.tools(),
            "files": coload.policies(CROWD, ["pooled"], 3, mode="all")}


def faults():
    """Its unexpected ends."""
    return {"script": FAULTS, "suite": "sid", "tools": [*coload.tools(), program("cosched-probe")],
            "files": coload.policies(LOAD, ["pooled"], 4)}


def shares(suite):
    """Everybody's part, measured."""
    seed = SHARES[suite]
    return {"script": shares_script(seed), "suite": suite, "tools": coload.tools(),
            "files": coload.policies(LOAD, ["pooled"], seed)}


def short():
    """All algorithms under one seed, as bench/run has it under eight and for longer."""
    seed = 1
    script = coload.LIBRARY + "".join(coload.measurement(LOAD, a, seed, 1, SHORT_S) for a in coload.ALGORITHMS)
    return {"script": script, "suite": "sid", "tools": coload.tools(), "files": coload.policies(LOAD, coload.ALGORITHMS, seed)}


def sector(folder):
    """The boot sector's bytes."""
    source, linked, out = folder / "sector.s", folder / "sector.o", folder / "sector"
    source.write_text(SECTOR)
    subprocess.run(["as", "--32", "-o", linked, source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-e", "0x7c00", "-Ttext", "0x7c00", "--oformat", "binary", "-o", out, linked], check=True)
    return out.read_bytes()


def firmware():
    """SeaBIOS and what QEMU loads beside it."""
    folders = [pathlib.Path(p) for p in ("/usr/share/seabios", "/usr/share/qemu")]
    found = {}
    for name in ("bios-256k.bin", "kvmvapic.bin"):
        path = next((f / name for f in folders if (f / name).exists()), None)
        if path is None:
            raise Unavailable(f"{name} is not installed; run tools/setup build demo test")
        found[f"/bios/{name}"] = path.read_bytes()
    # Debian's QEMU has its emulator in a module.
    return {**found, **{f"/qemu/{p.name}": p.read_bytes() for p in pathlib.Path("/usr/lib").glob("*/qemu/accel-tcg-x86_64.so")}}


def real_vm(folder):
    """A QEMU in the guest whose disk fairleadd serves with a worker of the co-group's own."""
    load = coload.Load(groups=0, adders=5)
    policy = json.loads(coload.policy(load, "pooled"))
    policy["daemon"] = {"control": "/run/fairlead/control.sock", "workers": [0]}
    policy["pools"] = {"files": {"type": "file", "directory": "/tmp/pool"}}
    policy["vms"]["web"] = {"disks": [{"name": "root", "pool": "files", "image": "root.raw", "size": "8MiB",
                                       "socket": "/run/fairlead/root.sock"}]}
    policy["cogroups"] = {"shop": {"vms": ["web"], "workers": True}}
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise Unavailable("qemu-system-x86_64 is not installed; run tools/setup build demo test")
    return {"script": REAL_VM.replace("LOAD", load.options(1), 1), "suite": "sid", "memory_mib": 1024,
            "tools": [*coload.tools(), program("fairleadd"), qemu],
            "files": {"/etc/real.yaml": json.dumps(policy, indent=1), "/sector": sector(folder), **firmware()}}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the guests say, by name; all begin at once and run side by side."""
    with counted.Rehearsals() as rehearsals:
        scripts = {"real": real_vm(tmp_path_factory.mktemp("sector")), "life": life(), "everybody": everybody(),
                   "faults": faults(), **{suite: shares(suite) for suite in SHARES}, "again": shares("sid"),
                   "short": short()}
        jobs = {name: rehearsals.submit(hang_s=HANG_S, **script) for name, script in scripts.items()}
        yield lambda name: jobs[name].result()


@pytest.mark.parametrize("suite", SHARES)
def test_pooled_shares(said, suite):
    """Everybody gets what is due to its weight, whatever the members of the group do; the group's requests are honoured."""
    result = coload.parse(said(suite))
    before, after = result["pooled-before"], result["pooled-after"]
    assert {v["policy"] for vm in result["pooled"]["vms"] for v in vm["vcpus"]} == {coload.SCHED_EXT}
    accounts = coload.accounts(before, after)
    ran = sum(a["ran_ns"] for a in accounts.values())
    assert len(accounts) == 8 and ran > 0
    for name, account in accounts.items():
        # All of them want more than that: 9 VMs of equal weight, two of which are one account.
        due = ran * (2 if name == "g0" else 1) / 9
        # Between two looks: at each of them a turn may just have been given, or be owed.
        assert abs(account["ran_ns"] - due) <= 0.01 * due + 2 * SLICE_NS, (name, account, due)
        assert abs(account["ran_ns"] - account["entitled_ns"]) <= 0.01 * due + 2 * SLICE_NS, (name, account)
    count = coload.counters(before, after)
    assert count["requests_sent"] > 0
    # Late: who was asked for has found another CPU meanwhile. Two of sixteen.
    assert count["requests_honoured"] >= 0.8 * count["requests_sent"], count
    assert result["pooled"]["groups"][0]["requests"] > 0
    assert result["pooled-state"] == "disabled"


def gained(result, algorithm):
    """Against plain credit: (less time a request, more time for the others' work), as parts."""
    one, base = result[algorithm], result["credit"]
    return (1 - one["groups"][0]["ms_per_request"] / base["groups"][0]["ms_per_request"],
            coload.work(base, "adder") / coload.work(one, "adder") - 1)


def test_every_algorithm(said):
    """The group's requests, its share and the others' work under each algorithm: what only `pooled` gains, and what that costs."""
    result = coload.parse(said("short"))
    assert all(result[a]["groups"][0]["requests"] > 0 for a in coload.ALGORITHMS)
    for algorithm in coload.ALGORITHMS[1:]:
        assert result[f"{algorithm}-after"]["algorithm"] == algorithm
        count = coload.counters(result[f"{algorithm}-before"], result[f"{algorithm}-after"])
        assert count["requests_sent"] == 0 or algorithm in ("co-credit", "pooled"), (algorithm, count)
    count = coload.counters(result["pooled-before"], result["pooled-after"])
    assert count["requests_honoured"] > 0, count
    for algorithm in coload.ALGORITHMS:
        gain, loss = gained(result, algorithm)
        print(f"{algorithm}: {-100 * gain:+.1f} % time a request, others {100 * loss:+.1f} %")
    # -25 % at +6 %. Over eight seeds of 6 s -19 to -36 % at 5 to 9 %: it depends on how far credit is from what is due.
    gain, loss = gained(result, "pooled")
    assert gain > 0.05 and loss < 0.15, (gain, loss)


@pytest.mark.parametrize("suite", SHARES)
def test_replay(said, suite, tmp_path):
    """What the kernel's scheduler decided, the core decides again in the simulator; and one can see it."""
    path, picture = tmp_path / "trace", tmp_path / "trace.svg"
    path.write_bytes(coload.trace_bytes(coload.parse(said(suite))["trace"]))
    done = subprocess.run([program("fairlead"), "--json", "sim", "cosched", "--replay", path, "--svg", picture],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    replay = json.loads(done.stdout)
    assert replay["recorded_under"] == replay["replayed_under"] == "pooled"
    assert replay["cpus"] == coload.CPUS
    assert set(replay["recorded"]["vms"]) == set(LOAD.vms())
    for side in ("recorded", "replayed"):
        assert all(vm["ran"] > 0 for vm in replay[side]["vms"].values()), replay
    steps = replay["steps"]
    # A CPU chooses once a slice at least.
    assert steps["steps"] >= TRACE_S * 1e9 / SLICE_NS * coload.CPUS / 2, steps
    assert steps["same"] >= 0.8 * steps["steps"], steps
    # Who has had far more than its part may be asked for until its group is in debt, and a real CPU charges later than a replay.
    assert steps["asked"] > 0 and steps["asked_same"] >= steps["asked"] / 3, steps
    drawn = picture.read_text()
    assert drawn.startswith("<svg") and "g0-web0" in drawn


def must_work(measured, without=()):
    """Every vCPU that should has done something."""
    idle = [vm["name"] for vm in measured["vms"] if vm["name"] not in without and not all(v["work"] for v in vm["vcpus"])]
    assert not idle, (idle, measured)


def test_repeats_exactly(said):
    """What a seed does is the same to the nanosecond each time: a figure of one run is a figure of all."""
    assert said("again") == said("sid")


def test_load_goes_on_whatever_happens(said):
    """A member exits, is bound to a CPU, loses its CPU, competes with hogs, and its policy is applied a thousand times."""
    result = coload.parse(said("life"))
    assert [vm["members"] for vm in result["exit"]["vms"] if vm["name"] == "adder6"] == [[]]
    must_work(result["begin"])
    assert result["begin-ext"] == MEMBERS
    for name in ("affinity", "offline", "online", "no-hogs", "after-applied"):
        must_work(result[name], ["adder6"])
    # Hogs leave the class a twentieth of each CPU: who had more before them may wait for longer than they are there.
    for name in ("fair-hogs", "rt-hogs"):
        assert coload.work(result[name], "") > 0
    assert result["applied"] == "1000 of 1000"


def test_everybody_is_scheduled(said):
    """No kind of thread starves the other: a CPU goes offline without delay, and who is bound to one shares it with members."""
    result = coload.parse(said("everybody"))
    took = [int(n) for n in str(result["offline-took"]).split()]
    assert len(took) == 6 and max(took) <= 100, took
    measured = result["pinned-hogs"]
    must_work(measured)
    assert 0.4 <= sum(coload.shares(measured).values()) / coload.CPUS <= 0.6, measured


def must_be_back(result, end, without=()):
    """Within a second no thread was scheduled by it, and each went on with its work."""
    assert result[f"{end}-back"] <= 100
    must_work(result[end], without)


def given_back(measured, without=()):
    """The loader gave its members their policy back."""
    assert {v["policy"] for vm in measured["vms"] if vm["name"] not in without for v in vm["vcpus"]} == {0}


def test_stop(said):
    """Ended by a signal, after all that happened before."""
    result = coload.parse(said("life"))
    assert result["stop-took"] + result["stop-back"] <= 100
    must_be_back(result, "stop", ["adder6"])
    given_back(result["stop"], ["adder6"])


def test_killed(said):
    """Killed, the loader gives nothing back: the kernel does; and the next loader begins as the first one did."""
    result = coload.parse(said("faults"))
    assert result["kill-took"] + result["kill-back"] <= 100
    must_be_back(result, "kill")
    must_work(result["before-error"])


@pytest.mark.parametrize("fault", ["error", "stall"])
def test_faults_end_the_scheduler_and_nothing_else(said, fault):
    """The kernel ends a scheduler that errs or stalls; the loader says so, gives all back, and ends."""
    result = coload.parse(said("faults"))
    must_work(result[f"before-{fault}"])
    assert result[f"before-{fault}-ext"] == MEMBERS
    must_be_back(result, fault)
    given_back(result[fault])
    if fault == "error":
        assert result["error-took"] + result["error-back"] <= 100
    assert result[f"{fault}-status"] == 1
    lines = result["log"].splitlines()
    assert len(lines) == 2 and "an error was asked for" in lines[0] and "stall" in lines[1], lines


def policies(text, name):
    """{policy} of the threads of that name."""
    return {int(line.rsplit(": ", 1)[1]) for line in text.splitlines() if line.startswith(name)}


def disk_reads(stats):
    """Reads of the VM's disk so far."""
    return sum(disk["total"]["read_ops"] for disk in stats["disks"])


def test_real_vm(said):
    """A QEMU's vCPUs and the worker that serves its disk are found, scheduled together, and given back."""
    result = coload.parse(said("real"))
    assert policies(result["before-threads"], "CPU ") == {0}
    assert policies(result["vm-threads"], "CPU ") == {coload.SCHED_EXT}
    assert policies(result["vm-threads"], "qemu") == {0}
    group = next(g for g in result["status-1"]["groups"] if g["name"] == "shop")
    assert group["members"] == 3, group
    assert disk_reads(result["reads-2"]) > disk_reads(result["reads-1"]) > 0
    ran = [coload.totals(result[s])["shop"]["ran_ns"] for s in ("status-1", "status-2")]
    assert ran[1] > ran[0]
    assert next(g for g in result["status-2"]["groups"] if g["name"] == "shop")["requests"]["honoured"] > 0
    assert coload.SCHED_EXT in policies(result["worker-threads"], "")
    assert policies(result["back-threads"], "") == {0} == policies(result["back-worker-threads"], "")
    assert next(g for g in result["again"]["groups"] if g["name"] == "shop")["members"] == 3
    assert [len(vm["members"]) for vm in result["gone"]["vms"] if vm["name"] == "web"] == [0]
