#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# tests/ordering/run on a ring.hpp that has been broken, and with tools that fail: the check is of what is written
# there, and what could not be checked is not called right or wrong.

setup() {
    header=$BATS_TEST_TMPDIR/ring.hpp
    original=$BATS_TEST_DIRNAME/../../include/dirtyring/ring.hpp
}

# break_header EXPRESSION: what sed makes of ring.hpp, which must be something else.
break_header() {
    sed "$1" "$original" >"$header"
    ! cmp -s "$original" "$header"
}

check() {
    run "$BATS_TEST_DIRNAME/run" --header "$header" --work "$BATS_TEST_TMPDIR/work"
    echo "$output"
}

# tool NAME: makes the script on standard input come before the program of that name.
tool() {
    mkdir -p "$BATS_TEST_TMPDIR/bin"
    cat >"$BATS_TEST_TMPDIR/bin/$1"
    chmod +x "$BATS_TEST_TMPDIR/bin/$1"
    PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

@test "a relaxed load of the flags is found" {
    break_header '/entry.flags).load/s/acquire/relaxed/'
    check
    [ "$status" = 1 ]
    [[ $output == *"entries left as they are: WRONG"*"entries rewritten: WRONG"* ]]
    [[ $output == *"the reader has read another page than was logged"* ]]
}

@test "a relaxed store of the flags is found" {
    break_header '/entry.flags).store/s/release/relaxed/'
    check
    [ "$status" = 1 ]
    [[ $output == *"entries left as they are: WRONG"*"entries rewritten: WRONG"* ]]
    [[ $output == *"is overwritten before it has been read"* ]]
}

@test "an order that the model does not know is refused" {
    break_header '/entry.flags).load/s/acquire/consume/'
    check
    [ "$status" = 2 ]
    [[ $output == *"has std::memory_order_consume for the load of the flags"* ]]
}

@test "an entry released before it is read is refused" {
    break_header '/RingEntry copy = load_page/{h;d};/store_flags(\*entry/G'
    check
    [ "$status" = 2 ]
    [[ $output == *"consume loads the flags, then the page, then stores the flags"* ]]
}

@test "a further access is refused" {
    break_header '/while (count < limit/i if (at(index_).flags == 0) return {};'
    check
    [ "$status" = 2 ]
    [[ $output == *"flags\b', and with the model's accesses it has 2"* ]]
}

@test "a fence is refused" {
    break_header '/store_flags(at(index_ + i)/i std::atomic_thread_fence(std::memory_order_release);'
    check
    [ "$status" = 2 ]
    [[ $output == *"release stores the flags only"* ]]
}

@test "no ring.hpp: a sentence" {
    check
    [ "$status" = 2 ]
    [[ $output == *"cannot read $header: No such file or directory"* ]]
}

@test "no spin: a sentence that names the package" {
    python=$(python3 -c 'import sys; print(sys.executable)')
    PATH=/nowhere run "$python" "$BATS_TEST_DIRNAME/run" --work "$BATS_TEST_TMPDIR/work"
    [ "$status" = 2 ]
    [ "${lines[1]}" = "ordering: there is no spin: install the Debian package spin" ]
}

@test "a spin that fails is no counterexample" {
    tool spin <<<$'#!/bin/sh\necho "syntax error"; exit 1'
    run "$BATS_TEST_DIRNAME/run" --weaken look --work "$BATS_TEST_TMPDIR/work"
    [ "$status" = 2 ]
    [[ $output == *"'spin "*"' failed with status 1:"*"syntax error"* ]]
}

@test "a search that dies is no counterexample" {
    tool gcc <<<$'#!/bin/sh\nfor last; do :; done; [ "$last" = pan.c ] || exec /usr/bin/gcc "$@"
        printf "#!/bin/sh\\nkill -SEGV \\$\\$\\n" >pan; chmod +x pan'
    run "$BATS_TEST_DIRNAME/run" --weaken look --work "$BATS_TEST_TMPDIR/work"
    [ "$status" = 2 ]
    [[ $output == *"'./pan' failed with status -11"* ]]
}

@test "a search without an end is not called right" {
    tool gcc <<<$'#!/bin/sh\nfor last; do :; done; [ "$last" = pan.c ] || exec /usr/bin/gcc "$@"
        exec /usr/bin/gcc "$@" -UMEMLIM -DMEMLIM=130'
    run "$BATS_TEST_DIRNAME/run" --work "$BATS_TEST_TMPDIR/work"
    [ "$status" = 2 ]
    [[ $output == *"spin's search came to no end"* ]]
}
