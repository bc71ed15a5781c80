#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Guests that cannot be loaded and files that cannot be written. None of these runs a guest, and none
# may leave anything behind.
# shellcheck disable=SC2154 # stderr comes from run

load common

# Guests with a fault in them are refused before KVM is asked for anything, so no KVM is needed.
run_ring() { run --separate-stderr dirtyring run --track ring --seconds 1 "$@"; }

@test "a guest that is not there is named, with the built-in ones" {
    run_ring nowhere --json out
    complains 1 nowhere "No such file" log_store hash_table merge_sort spmv writer
    run_ring ./writer --json out
    complains 1 ./writer "No such file"
    nothing_here
}

@test "a directory, a FIFO, an empty file are no guests" {
    mkdir dir
    mkfifo fifo
    : >empty
    for file in ./dir fifo empty; do
        run_ring "$file"
        complains 1 "$file"
    done
}

@test "a broken ELF file is refused with its fault, whatever byte of its headers is changed" {
    cp "$DIRTYRING_GUESTS/hello" whole
    head -c 40 whole >short
    run_ring short --json out
    complains 1 short
    printf '\x03\x00' | cat <(head -c 18 whole) - <(tail -c +21 whole) >other-machine
    run_ring other-machine
    complains 1 other-machine x86-64
    [ ! -e out ]
}

@test "a guest larger than memory is refused" {
    truncate -s 9M big # a flat binary
    run_ring big --memory 8M
    complains 1 big "8 MiB" memory
    [ "$(ls)" = big ]
}

@test "a file that cannot be written is refused before anything is done" {
    for option in --json --heatmap --trace --stats; do
        run_ring nowhere "$option" missing/out
        complains 1 missing/out "No such file or directory"
        run_ring nowhere "$option" .
        complains 1 "Is a directory"
    done
    nothing_here
}

@test "a file that may not be written is not replaced" {
    : >kept
    chmod 444 kept
    ! test -w kept || skip "this user may write any file"
    run_ring nowhere --json kept
    complains 1 kept "Permission denied"
    [ "$(ls -A)" = kept ]
}

@test "an existing file stays as it is when the run fails" {
    echo before >out
    run_ring nowhere --json out
    complains 1 nowhere
    [ "$(cat out)" = before ]
    [ "$(ls -A)" = out ]
}
