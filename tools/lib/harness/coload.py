# SPDX-License-Identifier: GPL-2.0-or-later
"""The co-scheduler measured: bench/guest/coload's processes in a guest that counts instructions, under EEVDF or under
fairlead-cosched with a policy; scripts for it, and what they say."""
import base64
import dataclasses
import gzip
import json
import random
import shutil

from .daemon import program

ALGORITHMS = ("eevdf", "credit", "credit+boost", "co-credit", "pooled")
CPUS = 4
SCHED_EXT = 7


@dataclasses.dataclass(frozen=True)
class Load:
    """Who there is, and what they do; costs in microseconds of CPU time. See bench/guest/coload.c."""
    groups: int = 1
    chain: int = 1
    idle: int = 0
    hungry: int = 0
    spin: int = 0
    adders: int = 7
    window: int = 100
    batch: int = 100
    driver_us: float = 200
    stage_us: float = 1000
    lock_us: float = 20
    outside_us: float = 80
    jitter: float = 0.5

    def members(self):
        """{co-group: its VMs}; a VM with a lock that its vCPUs contend for is a group of its own."""
        groups = {f"g{g}": [f"g{g}-driver", *(f"g{g}-web{i}" for i in range(self.chain)),
                            *(f"g{g}-idle{i}" for i in range(self.idle)), *(f"g{g}-hungry{i}" for i in range(self.hungry))]
                  for g in range(self.groups)}
        return {**groups, **{f"s{i}": [f"spin{i}"] for i in range(self.spin)}}

    def vms(self):
        """All VMs' names."""
        return [vm for vms in self.members().values() for vm in vms] + [f"adder{i}" for i in range(self.adders)]

    def options(self, seed, counted=True, pit=True):
        """coload's. A CPU of a guest that counts gets its part of 1000 instructions a microsecond; the PIT makes its turns short."""
        words = [f"--{f.name.replace('_', '-')} {getattr(self, f.name):g}" for f in dataclasses.fields(self) if f.name != "batch"]
        words.append(f"--batch {min(self.batch, self.window):g}")  # it refuses more
        clock = [f"--insns-per-us {1000 / CPUS:g}", *(["--pit 5000"] if pit else [])] if counted else []
        return " ".join([*words, f"--cpus {CPUS}", f"--seed {seed}", *clock])


def policy(load, algorithm, seed=0, mode="partial", weights=None, caps=None, **settings):
    """A policy file's text. The scheduler takes VMs in the policy's order and spreads them: the seed rotates their homes."""
    names = load.vms()
    random.Random(seed).shuffle(names)
    cpu = {name: {"weight": (weights or {}).get(name, 256), **({"cap": caps[name]} if name in (caps or {}) else {})}
           for name in names}
    return json.dumps({
        "cosched": {"mode": mode, "cpus": list(range(CPUS)), "algorithm": algorithm, **settings},
        "cogroups": {group: {"vms": vms} for group, vms in load.members().items()},
        "vms": {name: {"cpu": cpu[name]} for name in names}}, indent=1)


def tools():
    """Programs that scripts want in the guest."""
    return [*(program(name) for name in ("coload", "fairlead-cosched", "fairlead")), *map(shutil.which, ("nice", "chrt"))]


# What scripts are made of. Each result is announced by a line "@NAME", then printed.
LIBRARY = r"""
say() { echo "@$1"; echo "$1" >/dev/ttyS0; shift; "$@"; }
fail() {
	echo "failed: $*; the kernel's scheduler is $(state)"
	cat /proc/$cosched/status /proc/$cosched/stack /tmp/cosched.log
	dmesg | grep -v evm | tail -n 30
	exit 1
}
load_start() { coload run /tmp/coload "$@" & load=$!; coload wait /tmp/coload; }
load_stop() { kill $load; wait $load; rm /tmp/coload; }
cosched_start() { # POLICY; before others: a verifier that shares its CPU with a load takes a while of emulated time
	rm -f /run/fairlead/cosched.sock
	mkdir -p /run/fairlead
	nice -n -20 fairlead-cosched --config "$1" >>/tmp/cosched.log 2>&1 & cosched=$!
	n=0
	while ! [ -S /run/fairlead/cosched.sock ]; do
		kill -0 $cosched || fail "fairlead-cosched has ended"
		sleep 0.1
		n=$((n + 1))
		[ $n -lt 600 ] || fail "fairlead-cosched does not begin"
	done
}
cosched_stop() { kill $cosched; wait $cosched || fail "fairlead-cosched ended with $?"; }
now() { read up _ </proc/uptime; echo "${up%.*}${up#*.}"; } # in hundredths of a second
pid_of() { for p in /proc/[0-9]*; do grep -q "guest=$1," $p/cmdline 2>/dev/null && echo "${p#/proc/}"; done; }
tid_of() { for t in /proc/$(pid_of "$1")/task/*; do grep -q "^CPU 0/" $t/comm && echo "${t##*/}"; done; }
enabled() { [ "$(state)" = enabled ] || fail "the scheduler has ended: $1"; }
# Before whoever computes: what it takes to look is in what `ended` tells.
ext_threads() { chrt -f 10 sh -c 'cat /proc/[0-9]*/task/*/sched 2>/dev/null | grep -c "^ext.enabled .* 1$"'; }
# NAME PAUSE: waits until the kernel has no scheduler and no thread is scheduled by one; tells how long each took.
ended() {
	began=$(now)
	while [ "$(state)" != disabled ]; do
		sleep $2
		[ $(($(now) - began)) -lt 6000 ] || fail "the scheduler does not end"
	done
	disabled=$(now)
	while [ "$(ext_threads)" != 0 ]; do
		sleep 0.02
		[ $(($(now) - disabled)) -lt 6000 ] || fail "$(ext_threads) threads are still scheduled by it"
	done
	say "$1-took" echo $((disabled - began))
	say "$1-back" echo $(($(now) - disabled))
}
status() { fairlead --json cosched status; }
state() { cat /sys/kernel/sched_ext/state; }
measure() { coload measure /tmp/coload "$@"; }
recorded() { # SECONDS: a trace, as text
	fairlead cosched trace --seconds "$1" --out /tmp/trace >/dev/null || fail "nothing was recorded"
	gzip </tmp/trace | base64
}
"""


def measurement(load, algorithm, seed, warmup, seconds, counted=True, then=""):
    """A script's part: one algorithm, measured. `then`: what else happens, afterwards, under the same scheduler."""
    options = load.options(seed, counted)
    if algorithm == "eevdf":
        return f"load_start {options}\nsay {algorithm} measure {warmup:g} {seconds:g}\nload_stop\n"
    return (f"load_start {options}\ncosched_start /etc/{algorithm}.yaml\nsleep {warmup:g}\nsay {algorithm}-before status\n"
            f"say {algorithm} measure 0 {seconds:g}\nsay {algorithm}-after status\n{then}cosched_stop\nload_stop\n"
            f"say {algorithm}-state state\n")


def policies(load, algorithms, seed, **settings):
    """The files that `measurement` wants."""
    return {f"/etc/{a}.yaml": policy(load, a, seed, **settings) for a in algorithms if a != "eevdf"}


def parse(text):
    """{name: what was said: JSON where it is JSON, else text}."""
    results = {}
    for part in ("\n" + text).split("\n@")[1:]:
        name, _, said = part.partition("\n")
        try:
            results[name] = json.loads(said)
        except ValueError:
            results[name] = said.strip()
    return results


def trace_bytes(text):
    """What `recorded` said."""
    return gzip.decompress(base64.b64decode(text))


# --- what a measurement says ---

def totals(status):
    """{account: totals}: of each group and of each VM of its own."""
    return {o["name"]: o["totals"] for o in [*status["groups"], *(vm for vm in status["vms"] if not vm["group"])]}


def accounts(before, after):
    """{account: what it ran, waited and was entitled to between two looks, in ns}."""
    old = totals(before)
    return {name: {key: value - old[name][key] for key, value in t.items()} for name, t in totals(after).items()}


def counters(before, after):
    """Sums over CPUs of what was counted between two looks."""
    keys = [k for k, v in after["per_cpu"][0].items() if isinstance(v, int) and k != "cpu"]
    return {k: sum(c[k] for c in after["per_cpu"]) - sum(c[k] for c in before["per_cpu"]) for k in keys}


def work(measured, prefix):
    """What the VMs of that name did, added up."""
    return sum(v["work"] for vm in measured["vms"] if vm["name"].startswith(prefix) for v in vm["vcpus"])


def shares(measured):
    """{VM: its CPU time in CPUs}, as the kernel counts it."""
    return {vm["name"]: sum(v["ran_ns"] for v in vm["vcpus"]) / measured["seconds"] / 1e9 for vm in measured["vms"]}
