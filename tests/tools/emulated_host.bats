#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# tools/emulated-host as those who use it rely on it.
#
# shellcheck disable=SC2016 # $ in single quotes is for the shell inside
# shellcheck disable=SC2154 # stderr and lines come from run

bats_require_minimum_version 1.5.0

setup() {
    emulated_host=$BATS_TEST_DIRNAME/../../tools/emulated-host
    cd "$BATS_TEST_TMPDIR" || exit
    tmux=(tmux -S "$BATS_TEST_TMPDIR/tmux" -f /dev/null)
}

teardown() {
    "${tmux[@]}" kill-server 2>/dev/null || true # only one test has started it
}

@test "a command finds stock KVM, its directory, arguments, environment and files as here" {
    echo 'of this machine' >file
    export word="it's
two lines"
    run --separate-stderr -7 "$emulated_host" bash -c '
        [[ -c /dev/kvm && -e /sys/module/kvm_amd ]] && echo kvm
        echo "$PWD|$1|$word|$(cat file)"
        echo complaint >&2
        mkdir made && echo kept >made/file
        echo lost >/usr/lost
        exit 7' name 'an  argument'
    [ "${lines[0]}" = kvm ]
    [ "${lines[1]}" = "$PWD|an  argument|it's" ]
    [ "${lines[2]}" = "two lines|of this machine" ]
    [ "${#lines[@]}" = 3 ]
    [[ $stderr == *complaint ]] # a first run says before that it downloads
    [ "$(cat made/file)" = kept ]
    [ ! -e /usr/lost ]
}

@test "an arm64 machine has KVM and runs a static program for arm64 with all of this" {
    cat >program.cpp <<'END'
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
int main(int, char** argv) {
    char directory[4096];
    std::printf("%d|%s|%s|%s\n", access("/dev/kvm", R_OK | W_OK), getcwd(directory, sizeof directory),
                argv[1], std::getenv("text"));
    std::fputs("complaint\n", stderr);
    std::fputs("kept\n", std::fopen("made", "w"));
    return 7;
}
END
    aarch64-linux-gnu-g++ -static -o program program.cpp
    export text="it's
two lines"
    run --separate-stderr -7 "$emulated_host" --arch aarch64 ./program 'an  argument'
    [ "$output" = "0|$PWD|an  argument|$text" ]
    [[ $stderr == *complaint ]]
    [ "$(cat made)" = kept ]
}

@test "many lines arrive complete and in order" {
    seq 1 100000 >expected
    "$emulated_host" seq 1 100000 >got
    cmp expected got
}

@test "a command that does not end is ended, with status 124 and a sentence" {
    run --separate-stderr -124 "$emulated_host" --timeout 1 sleep 1000
    [[ $stderr == *"'sleep' did not end within 1 seconds"* ]]
}

@test "on a terminal a command gets the terminal: its size, and Ctrl-C as a signal" {
    cat >script <<'END'
trap 'echo "interrupted" >>seen; exit 3' INT
stty size >seen
echo running
while :; do sleep 0.1; done
END
    "${tmux[@]}" new-session -d -x 91 -y 33 "'$emulated_host' bash script; echo \$? >status"
    wait_for() { for ((i = 0; i < 600; i++)); do "$@" && return; sleep 0.1; done; return 1; }
    shows_running() { "${tmux[@]}" capture-pane -p | grep -q running; }
    wait_for shows_running
    "${tmux[@]}" send-keys C-c
    wait_for test -s status
    [ "$(cat status)" = 3 ]
    [ "$(cat seen)" = $'33 91\ninterrupted' ]
}

@test "SIGTERM ends it and leaves nothing behind" {
    "$emulated_host" sh -c 'echo started; sleep 1000' >out 3>&- &
    pid=$!
    until grep -q started out; do sleep 0.1; done
    qemu=$(pgrep -P "$pid" qemu-system)
    files=$(tr '\0' '\n' <"/proc/$qemu/cmdline" | sed -n 's/.*path=\(.*\)\/console.log$/\1/p')
    [ -d "$files" ]
    kill -TERM "$pid"
    status=0
    wait "$pid" || status=$?
    [ "$status" = 143 ]
    [ ! -e "$files" ]
    [ ! -e "/proc/$qemu" ]
}

@test "no such command: status 127, before anything boots" {
    run -127 "$emulated_host" no-such-command
    [ "$output" = "emulated-host: there is no command 'no-such-command'" ]
}

@test "wrong usage: status 125 and a sentence that names the option" {
    run -125 "$emulated_host"
    [[ $output == *"no command to run"* ]]
    run -125 "$emulated_host" --cpus 0 true
    [[ $output == *"--cpus takes a whole number from 1 to 16, not '0'"* ]]
    run -125 "$emulated_host" --memory
    [[ $output == *"--memory needs a value"* ]]
    run -125 "$emulated_host" --kernel 2.6 true
    [[ $output == *"--kernel takes 6.12 or 6.1, not '2.6'"* ]]
    run -125 "$emulated_host" --arch mips true
    [[ $output == *"--arch takes x86_64 or aarch64, not 'mips'"* ]]
    run -125 "$emulated_host" --unknown true
    [[ $output == *"there is no option '--unknown'"* ]]
}
