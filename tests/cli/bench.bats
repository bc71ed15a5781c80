#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# dirtyring bench: that it measures what it says and adds up, never how fast anything is.
# shellcheck disable=SC2154 # stderr comes from run

load common

# What every document of a bench has; ways that can be used are in `usable`.
head='
    .version == 1 and .stopped_by == null and .host.cpus > 0
    and (.host.kernel_release | length) > 0 and (.host | has("cpu_model") and has("kvm_module"))
    and (.host.load_average == null or (.host.load_average | length) == 3)
    and (.ways | keys) == ["bitmap", "manual", "ring"]
    and all(.ways[]; .usable or (.why_not | length) > 0)'

@test "--help and the manual page of each, with the same options" {
    for bench in "" overhead collect; do
        # shellcheck disable=SC2086 # none for the group
        run --separate-stderr -0 dirtyring bench $bench --help
        [[ ${lines[0]} == "usage: dirtyring bench"* ]]
        [[ $output == *"Options:"*"--help"*"Examples:"*"dirtyring bench $bench"*"Exit status:"* ]]
        [ -z "$stderr" ]
        grep -oE -- '^  (-h, )?--[a-z]+' <<<"$output" | sed 's/.*--/--/' | sort >help
        page=$DIRTYRING_MAN/dirtyring-bench${bench:+-$bench}.1
        sed 's/\\-/-/g; s/\\f[BIR]//g' "$page" | sed -n '/^\.SH OPTIONS/,/^\.SH /p' |
            grep -oE -- '^(-h, )?--[a-z]+' | sed 's/.*--/--/' | sort >"man"
        [ -s help ]
        diff help "man"
    done
    run -0 dirtyring bench --help
    [[ $output == *"Commands:"*overhead*collect* ]]
}

@test "wrong use is named, with status 2" {
    run --separate-stderr dirtyring bench
    complains 2 "subcommand is required" "dirtyring bench --help"
    run --separate-stderr dirtyring bench fly
    complains 2 '"fly"' "dirtyring bench --help"
    for value in 0 33 -1 two; do
        run --separate-stderr dirtyring bench overhead --vcpus "$value" --json j
        complains 2 --vcpus "\"$value\"" "dirtyring bench overhead --help"
    done
    for value in 0 -1 nan long; do
        run --separate-stderr dirtyring bench overhead --seconds "$value" --json j
        complains 2 --seconds "\"$value\""
    done
    run --separate-stderr dirtyring bench collect --vcpus 2 --json j
    complains 2 --vcpus "dirtyring bench collect --help"
    nothing_here
}

@test "a file that cannot be written is refused before anything is measured" {
    for bench in overhead collect; do
        run --separate-stderr dirtyring bench $bench --json missing/j
        complains 1 missing/j "No such file or directory"
        run --separate-stderr dirtyring bench $bench --json .
        complains 1 "Is a directory"
    done
    nothing_here
}

@test "without /dev/kvm it says what to do, and leaves nothing behind" {
    unshare --mount true 2>/dev/null || skip "this user may not make a mount namespace to hide /dev/kvm in"
    for bench in overhead collect; do
        # shellcheck disable=SC2016
        run --separate-stderr timeout 60 unshare --mount bash -c \
            'mount -t tmpfs none /dev && exec "$1" bench "$2" --quick --json j' bash "$DIRTYRING" $bench
        complains 1 /dev/kvm "No such file or directory" "; "
        nothing_here
    done
}

@test "overhead: each way runs the same guests; rates and ratios agree" {
    need_kvm
    for vcpus in 1 2; do
        dirtyring bench overhead --quick --vcpus $vcpus --json j >out
        cat out
        jq -e ".format == \"dirtyring bench overhead\" and .vcpus == $vcpus and ($head)" j
        jq -e '[.ways | to_entries[] | select(.value.usable) | .key] as $usable
            | [.guests[].guest] == ["log_store", "writer"]
            and all(.guests[]; . as $guest | .untracked.page_writes_per_second as $rate
                | $rate > 0 and .rounds > 0 and .page_writes > 0
                and ([keys[] | select(IN("ring", "bitmap", "manual"))] == ($usable | sort))
                and all($usable[]; $guest[.] | .page_writes_per_second > 0
                    and (.ratio_to_untracked * $rate / .page_writes_per_second - 1 | fabs) < 1e-9))' j
        # The host first, then what the file says.
        [[ $(head -n 1 out) == "host: "*"$(uname -r)"*"load average"* ]]
        grep -q "only within one run" out
        [ "$(grep -cE '^(log_store|writer).*%' out)" -eq 2 ]
    done
}

@test "collect: each way, size and number of pages, and each collect gave what was written" {
    need_kvm
    dirtyring bench collect --quick --json j >out
    cat out
    jq -e ".format == \"dirtyring bench collect\" and ($head)" j
    jq -e '[.ways | to_entries[] | select(.value.usable) | .key] as $usable
        | .failed == []
        and ([.measurements[] | [.memory_bytes, .pages, .way]] | sort)
            == ([[67108864, 1073741824][] as $m | [16, 256, 4096][] as $p | $usable[] | [$m, $p, .]] | sort)
        and all(.measurements[]; .collect_ns > 0 and .collects == 8
            and .collected_pages >= .pages and .collected_pages <= .pages + 64)
        and (.measurements as $all | (.ratios | length) == 3 * ($usable | length)
            and all(.ratios[]; . as $r
                | ($all[] | select(.way == $r.way and .pages == $r.pages and .memory_bytes == $r.most_memory_bytes)) as $most
                | ($all[] | select(.way == $r.way and .pages == $r.pages and .memory_bytes == $r.least_memory_bytes)) as $least
                | $least.memory_bytes == 67108864 and $most.memory_bytes == 1073741824
                and (.ratio * $least.collect_ns / $most.collect_ns - 1 | fabs) < 1e-9))' j
    grep -qE '^64 MiB +[0-9]' out
    grep -qE '^1 GiB +[0-9]' out
    [ "$(grep -c "times as long in 1 GiB as in 64 MiB" out)" -eq "$(jq '.ratios | length' j)" ]
}

@test "collect: a size of memory that the host refuses is left out with the reason" {
    need_kvm
    (ulimit -v 600000 && "$DIRTYRING" --version) >/dev/null 2>&1 ||
        skip "this build of the command cannot run in 600 MB of address space"
    (ulimit -v 600000 && dirtyring bench collect --quick --json j >out)
    grep -qE '^1 GiB +failed: .*mmap.*1024 MiB' out
    jq -e '[.failed[].memory_bytes] == [1073741824] and (.failed[0].why | length) > 0
        and .ratios == [] and all(.measurements[]; .memory_bytes == 67108864)
        and (.measurements | length) >= 3' j
}

@test "a signal ends it with what it has, status 0, and a whole file" {
    need_kvm
    for bench in overhead collect; do
        rm -f out j
        "$DIRTYRING" bench $bench --json j >out 2>err 3>&- &
        pid=$!
        wait_for test -s out
        kill -s TERM $pid
        status=0
        wait $pid || status=$?
        cat err
        [ "$status" = 0 ]
        [ ! -s err ]
        grep -q "^Stopped by SIGTERM" out
        jq -e '.stopped_by == "SIGTERM"' j
    done
}
