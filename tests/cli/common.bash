# SPDX-License-Identifier: MIT
#
# What the tests of the command share. They are run by ctest, which sets
#   DIRTYRING         the command
#   DIRTYRING_GUESTS  the directory of the guest programs
#   DIRTYRING_MAN     the directory of the manual pages
# shellcheck shell=bash
# shellcheck disable=SC2154 # stderr and status come from run

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
