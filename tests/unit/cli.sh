#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Description: the command line as a user sees it: what it prints and its exit status, without a daemon and with a real one.
# usage: cli.sh FAIRLEAD FAIRLEADD
set -u
fairlead=$1 fairleadd=$2
unset FAIRLEAD_CONTROL
dir=$(mktemp -d)
daemon=
failed=0

finish() {
	[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon"
	rm -rf "$dir"
}
trap finish EXIT

# expect STATUS TEXT COMMAND…: exit status, and TEXT somewhere in what it prints.
expect() {
	want_status=$1 want_text=$2
	shift 2
	text=$("$@" 2>&1)
	status=$?
	case $text in
	*"$want_text"*) found=yes ;;
	*) found=no ;;
	esac
	if [ $status -ne "$want_status" ] || [ $found = no ]; then
		echo "FAILED: $*"
		echo "  status $status, not $want_status; wanted: $want_text"
		echo "$text" | sed 's/^/  | /'
		failed=1
	fi
}

# wait_for FILE: as long as the daemon lives.
wait_for() {
	until [ -e "$1" ]; do
		kill -0 "$daemon" || exit 1
		sleep 0.05
	done
}

mkdir "$dir/conf.d" "$dir/images"
cat >"$dir/fairlead.yaml" <<END
daemon: { control: $dir/control.sock }
pools:
  fast: { type: ram, slo: on }
  sliced: { type: ram, slo: on, schedule: sliced, capacity: { iops: 100k } }
  slow: { type: model, read_latency: 12ms, write_latency: 12ms }
classes:
  gold: { ioprio: [rt], reservation: { iops: 20 } }
  bronze: {}
vms:
  web:
    disks:
    - { name: root, pool: fast, size: 16MiB, queues: 2 }
    - { name: swap, pool: sliced, size: 1MiB }
END
sed 's/type: ram/type: rom/; s/reservation/reservaton/' "$dir/fairlead.yaml" >"$dir/bad.yaml"
sed 's/16MiB/32MiB/; s/iops: 20/iops: 30/' "$dir/fairlead.yaml" >"$dir/new.yaml"

# --- without a daemon ---
expect 64 "usage: fairlead" "$fairlead"
expect 0 "disk resize" "$fairlead" --help
expect 0 "SIZE" "$fairlead" help disk resize
expect 0 "fairlead disk drain" "$fairlead" disk --help
expect 0 "fairlead disk drain" "$fairlead" help disk
expect 64 "fairlead disk drain" "$fairlead" disk
expect 69 "is fairlead-cosched running" "$fairlead" --control "$dir/none.sock" cosched status
expect 64 "where to" "$fairlead" cosched trace
expect 64 "did you mean 'status'" "$fairlead" statsu
expect 64 "did you mean 'disk add'" "$fairlead" disk ad
expect 64 "unrecognized option" "$fairlead" status --nope
expect 64 "wants more arguments" "$fairlead" disk resize
expect 64 "wants fewer arguments" "$fairlead" status x
expect 64 "--pool is needed" "$fairlead" disk add web/root
expect 64 "a disk is written VM/DISK" "$fairlead" disk remove root
expect 64 "is not a size" "$fairlead" disk resize web/root much
expect 64 "KEY=VALUE" "$fairlead" slo set web shares
expect 0 "good: 3 pools, 2 classes, 1 VM, 2 disks, 0 NICs; 0 warnings" "$fairlead" check "$dir/fairlead.yaml"
# The policies that people begin with.
root=$(dirname "$0")/../..
awk '/^```yaml/ { on = 1; next } /^```/ && on { exit } on' "$root/README.md" >"$dir/readme.yaml"
expect 0 "; 0 warnings" "$fairlead" check "$dir/readme.yaml"
expect 0 "; 0 warnings" "$fairlead" check "$root/examples/fairlead.yaml"
expect 78 "bad.yaml:3:17: error: type: 'rom' is not null, ram, model or file" "$fairlead" check "$dir/bad.yaml"
expect 78 "did you mean 'reservation'?" "$fairlead" check "$dir/bad.yaml"
expect 78 '"good": false' "$fairlead" --json check "$dir/bad.yaml"
expect 78 "cannot be read" "$fairlead" check "$dir/none.yaml"
expect 0 "size: 16MiB -> 32MiB" "$fairlead" diff "$dir/fairlead.yaml" "$dir/new.yaml"
expect 0 '"field": "reservation.iops"' "$fairlead" diff --json "$dir/fairlead.yaml" "$dir/new.yaml"
expect 69 "is fairleadd running?" "$fairlead" --control "$dir/control.sock" status
expect 1 "systemctl start fairleadd" "$fairlead" doctor --control "$dir/control.sock" "$dir/fairlead.yaml"
expect 1 "3 mistakes in it" "$fairlead" doctor --control "$dir/control.sock" "$dir/bad.yaml"
cat >"$dir/sim.yaml" <<END
vms: { driver: { batch: 8 }, web: , adder: { runs: hog, copies: 7 } }
groups: { shop: { vms: [driver, web] } }
chains: { calls: { clients: 9, path: [ { vm: driver, cost: 200us }, { vm: web, cost: 1ms } ] } }
END
sim="sim cosched $dir/sim.yaml --duration 1s --seeds 2"
expect 64 "either a file or --replay" "$fairlead" sim cosched
expect 64 "not a list of" "$fairlead" $sim --algorithms fare
expect 64 "not a list of" "$fairlead" $sim --algorithms fair,fair
expect 64 "--seeds: '1001' is not from 1 to 1k" "$fairlead" $sim --seeds 1001
expect 64 "--duration: '5us' is not from 30ms to" "$fairlead" $sim --duration 5us
expect 64 "--from: '5s' is not from 0 to 4s" "$fairlead" $sim --from 5s --svg "$dir/late.svg"
expect 66 "No such file" "$fairlead" sim cosched "$dir/none.yaml"
printf 'vms: { a: { runs: hog } }\n\000nonsense' >"$dir/nul.yaml"
expect 78 "nul.yaml:2:1: error: not UTF-8 text" "$fairlead" sim cosched "$dir/nul.yaml"
expect 78 "bad-sim.yaml:1:13: error: a VM has no key 'run'" sh -c "echo 'vms: { adder: { run: hog } }' | sed s/adder/a/ >$dir/bad-sim.yaml; $fairlead sim cosched $dir/bad-sim.yaml"
expect 0 "adder (7)" "$fairlead" $sim --csv "$dir/sim.csv" --svg "$dir/sim.svg" --trace "$dir/sim.trace" --algorithms pooled,fair
expect 0 '"ms_per_request"' "$fairlead" --json $sim
expect 0 "pooled,2,machine,,kicks_per_s," cat "$dir/sim.csv"
expect 0 "</svg>" cat "$dir/sim-pooled.svg"
expect 0 "any CPU 100.0 %" "$fairlead" sim cosched --replay "$dir/sim-pooled.trace"
expect 0 '"same_cpu"' "$fairlead" --json sim cosched --replay "$dir/sim-pooled.trace" --algorithms credit
expect 66 "not a trace" "$fairlead" sim cosched --replay "$dir/sim.csv"
expect 64 "no completion" "$fairlead" completion fish
expect 0 '"disk add"' "$fairlead" help --json

# Every word of the table is offered.
if command -v bash >/dev/null; then
	"$fairlead" completion bash >"$dir/completion"
	expect 0 "remove" bash -c ". $dir/completion; COMP_WORDS=(fairlead disk r) COMP_CWORD=2; _fairlead; echo \${COMPREPLY[@]}"
	expect 0 "--queues" bash -c ". $dir/completion; COMP_WORDS=(fairlead disk add --q) COMP_CWORD=3; _fairlead; echo \${COMPREPLY[@]}"
	expect 0 "completion" bash -c ". $dir/completion; COMP_WORDS=(fairlead --control x com) COMP_CWORD=3; _fairlead; echo \${COMPREPLY[@]}"
fi

# --- with one ---
"$fairleadd" --config "$dir/fairlead.yaml" >"$dir/log" 2>&1 &
daemon=$!
wait_for "$dir/control.sock"
export FAIRLEAD_CONTROL="$dir/control.sock"
expect 0 "root" "$fairlead" status
expect 0 '"uptime_s"' "$fairlead" --json status
expect 0 "$dir/web-root.sock" "$fairlead" vm list
expect 0 "workers" "$fairlead" stats
expect 0 "help" "$fairlead" stats --names
expect 0 "web/gold" "$fairlead" slo
expect 0 "web/gold" "$fairlead" top --count 2 --interval 0.05
expect 0 "depth" "$fairlead" pool show slow
expect 1 "there is no pool" "$fairlead" pool show none
expect 0 "GRANTED" "$fairlead" ledger show
expect 0 '"pool_credits"' "$fairlead" --json ledger show sliced
expect 0 "" "$fairlead" ledger dump --pool sliced
expect 0 "differences" "$fairlead" ledger replay --pool sliced
expect 1 "is not sliced" "$fairlead" ledger dump --pool slow
expect 64 "either files or --pool" "$fairlead" ledger dump
expect 66 "not a ledger's log" "$fairlead" ledger dump "$dir/fairlead.yaml"
expect 0 "disk.add" "$fairlead" rpc describe
expect 0 '"vms"' "$fairlead" rpc call vm.list '{}'
expect 1 "has no parameter" "$fairlead" rpc call vm.list '{"x":1}'
expect 0 "nothing changes" "$fairlead" diff
expect 0 "size: 16MiB -> 32MiB" "$fairlead" diff "$dir/new.yaml"
expect 0 "web/data added" "$fairlead" disk add web/data --pool slow --size 1MiB --queues 2
expect 1 "already" "$fairlead" disk add web/data --pool slow --size 1MiB
expect 78 "did you mean 'slow'?" "$fairlead" disk add web/more --pool slwo --size 1MiB
expect 0 "web/data resized" "$fairlead" disk resize web/data 2MiB
expect 0 "2MiB" "$fairlead" vm list
expect 0 "web/gold: set" "$fairlead" slo set web/gold reservation.iops=40 shares=300
expect 0 "40 iops" "$fairlead" slo web
expect 0 "only web/gold" sh -c "$fairlead --json slo web/gold | grep -q bronze || echo only web/gold"
expect 1 "no pool keeps promises of 'db'" "$fairlead" slo db
expect 1 "no pool keeps promises of 'web/silver'" "$fairlead" --json slo web/silver
expect 1 "there is no VM or class db" "$fairlead" slo set db shares=3
expect 1 "there is no VM or class web/silver" "$fairlead" slo set web/silver shares=3
expect 1 "there is no VM or class /silver" "$fairlead" slo set /silver shares=3
expect 1 "'/' is no target" "$fairlead" slo set / shares=3
expect 1 "no such key of a promise" "$fairlead" slo set web/gold shapes=3
expect 78 "too many" "$fairlead" slo set web/gold reservation.iops=400
expect 1 "nothing was set" "$fairlead" slo unset web/bronze
expect 0 "web: set" "$fairlead" slo set web limit.iops=82.6 burst.iops=2.5
expect 0 "at most 82.6 iops" "$fairlead" slo web
expect 0 '"requests": 2.5' "$fairlead" --json slo web
expect 78 "the policy is refused" "$fairlead" apply "$dir/bad.yaml"
printf 'vms: {}\n\0' >"$dir/binary.yaml"
expect 78 "not UTF-8 text" "$fairlead" apply "$dir/binary.yaml"

# Changes last, also when nobody could say goodbye.
kill -9 "$daemon"
wait "$daemon" 2>/dev/null
rm -f "$dir/control.sock"
"$fairleadd" --config "$dir/fairlead.yaml" >"$dir/log" 2>&1 &
daemon=$!
wait_for "$dir/control.sock"
expect 0 "web  data" "$fairlead" vm list
expect 0 "40 iops" "$fairlead" slo web
expect 0 "web/gold: set" "$fairlead" slo set web/gold reservation=none
expect 0 "nothing reserved" sh -c "$fairlead slo web/gold | grep '40 iops' || echo nothing reserved"
expect 0 "web/gold: as the policy's files say" "$fairlead" slo unset web/gold
expect 0 "20 iops" "$fairlead" slo web
expect 0 "web/data removed" "$fairlead" disk remove web/data
expect 0 "web/root removed" "$fairlead" disk remove web/root
expect 0 "1 disk" "$fairlead" check "$dir/fairlead.yaml"
expect 0 "nothing changes" "$fairlead" apply

kill "$daemon"
wait "$daemon" || {
	echo "FAILED: the daemon's exit status is $?"
	cat "$dir/log"
	failed=1
}
daemon=
[ $failed = 0 ] && echo "all as expected"
exit $failed
