# SPDX-License-Identifier: MIT
#
# What the tests of the command share. They are run by ctest, which sets
#   DIRTYRING         the command
#   DIRTYRING_GUESTS  the directory of the guest programs
#   DIRTYRING_MAN     the directory of the manual pages
# shellcheck shell=bash
# shellcheck disable=SC2154 # stderr and status come from run
# shellcheck disable=SC2034 # small is for those who load this

bats_require_minimum_version 1.5.0

setup() {
    mkdir -p "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here" || return
}

dirtyring() {
    # So long only a command that hangs takes, even in a sanitized build on a busy machine.
    timeout --kill-after 10 120 "$DIRTYRING" "$@"
}

# A test that cannot run without a KVM that it may use.
need_kvm() {
    [[ -r /dev/kvm && -w /dev/kvm ]] || skip "/dev/kvm is not there or may not be used"
}

# need_command NAME PURPOSE
need_command() {
    command -v "$1" >/dev/null || skip "$1 is not installed, and is needed $2"
}

# without_kvm ARGUMENT...: runs the command where there is no /dev/kvm, as `run --separate-stderr` does.
without_kvm() {
    unshare --mount true 2>/dev/null || skip "this user may not make a mount namespace to hide /dev/kvm in"
    # shellcheck disable=SC2016
    run --separate-stderr timeout 60 unshare --mount bash -c \
        'mount -t tmpfs none /dev && exec "$@"' bash "$DIRTYRING" "$@"
}

# without_reader ARGUMENT...: runs the command until who reads what it says has gone. Fails unless its status is 1.
without_reader() {
    # shellcheck disable=SC2016
    run --separate-stderr -0 timeout 60 bash -c \
        '"$@" | head -n 1 >/dev/null; exit $((PIPESTATUS[0] != 1))' bash "$DIRTYRING" "$@"
}

# refuses_too_large_a_ring COMMAND
refuses_too_large_a_ring() {
    local largest
    largest=$(dirtyring probe --json | jq .largest_ring_entries)
    ((largest > 0)) || skip "this host has no dirty rings"
    run --separate-stderr dirtyring "$1" --track ring --ring $((2 * largest)) --json j
    complains 1 "$largest"
    nothing_here
}

# What the last `run --separate-stderr` complained of: one sentence, and nothing else was said.
complains() { # STATUS PART...
    echo "status $status, stderr: $stderr, stdout: ${output:-}"
    [ "$status" -eq "$1" ] || return 1
    [ -z "$output" ] || return 1
    [[ $stderr == "dirtyring: "* && $stderr != *$'\n'* ]] || return 1
    local part
    for part in "${@:2}"; do
        [[ $stderr == *"$part"* ]] || return 1
    done
}

# Nothing was left in the directory of the test.
nothing_here() {
    local files
    files=$(ls -A)
    echo "here: $files"
    [ -z "$files" ]
}

# wait_for COMMAND...: until it succeeds, at most a minute.
wait_for() {
    local i
    for ((i = 0; i < 600; ++i)); do
        "$@" && return
        sleep 0.1
    done
    return 1
}

# Small enough to be over in a moment, large enough to dirty some hundred pages. Global, for bats reads
# files within a function.
declare -gA small=(
    [hash_table]="--param keys=20000 --param operations=50000"
    [merge_sort]="--param records=100000 --param run=8K"
    [spmv]="--param rows=20000"
    [log_store]="--param keys=5000 --param operations=5000"
    [writer]="--param working_set=4M --param writes=5000"
)

# started COMMAND...: in the background, until it has shown an interval; its status comes to `status`.
started() {
    # Python, for bash gives children in the background an ignored SIGINT, which they should respect.
    python3 -c '
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
child = subprocess.Popen(sys.argv[1:], stdout=open("out", "w"), stderr=open("err", "w"))
open("pid", "w").write(str(child.pid))
try:
    open("status.new", "w").write(str(child.wait(120)))
finally:
    child.kill() # one that a failed test has not ended goes on for nobody
import os
os.rename("status.new", "status")' "$@" 3>&- &
    wait_for eval '[[ -s out && $(wc -l <out) -ge 3 ]]'
}
