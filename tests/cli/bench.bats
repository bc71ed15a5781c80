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
    for bench in "" overhead collect reset; do
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
    [[ $output == *"Commands:"*overhead*collect*reset* ]]
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
    for value in 32M 65M 1T two; do
        run --separate-stderr dirtyring bench reset --memory "$value" --json j
        complains 2 --memory "\"$value\"" "dirtyring bench reset --help"
    done
    run --separate-stderr dirtyring bench reset --memory 64M,,1G --json j
    complains 2 --memory '""' "dirtyring bench reset --help"
    for value in 0 50001 10,-1 ten; do
        run --separate-stderr dirtyring bench reset --pages "$value" --json j
        complains 2 --pages "\"${value#10,}\""
    done
    run --separate-stderr dirtyring bench reset --pattern same,other --json j
    complains 2 --pattern '"other"' "drift"
    run --separate-stderr dirtyring bench reset --json j --svg j
    complains 2 "--json and --svg are both j"
    nothing_here
}

@test "a file that cannot be written is refused before anything is measured" {
    for bench in overhead collect reset; do
        run --separate-stderr dirtyring bench $bench --json missing/j
        complains 1 missing/j "No such file or directory"
        run --separate-stderr dirtyring bench $bench --json .
        complains 1 "Is a directory"
    done
    run --separate-stderr dirtyring bench reset --json j --svg missing/s
    complains 1 missing/s "No such file or directory"
    nothing_here
}

@test "without /dev/kvm it says what to do, and leaves nothing behind" {
    for bench in overhead collect reset; do
        without_kvm bench $bench --quick --json j
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

@test "reset: each way, pattern and number of pages; rates and ratios agree" {
    need_kvm
    dirtyring bench reset --quick --json j --svg s.svg >out
    cat out
    jq -e ".format == \"dirtyring bench reset\" and ($head)" j
    # What is restored is at least what was written: the guest has its stack, too.
    jq -e '[.ways | to_entries[] | select(.value.usable) | .key] as $usable
        | {"ring": ["ours", "ring", "nyx"], "bitmap": ["bitmap"], "manual": ["manual", "wtf"]} as $of
        | (["alone", "limit"] + [$usable[] | $of[.][]] | sort) as $ways
        | .left_out == [] and .growths == []
        and ([.measurements[] | select(.pattern != "guests") | [.memory_bytes, .guest, .pattern, .pages]]
            == [["same", "drift", "random"][] as $p | [10, 1000][] as $n | [67108864, "replay", $p, $n]])
        and ([.measurements[] | select(.pattern == "guests") | .guest]
            == ["hash_table", "log_store", "merge_sort", "spmv", "writer"])
        and all(.measurements[]; . as $row | (.rates | keys) == $ways
            and all(.rates[]; .rounds_per_second > 0 and .blocks == 1 and .rounds >= 5)
            and (.pattern == "guests" or all(.rates | to_entries[] | select(.key != "alone");
                .value.restored_pages >= $row.pages and .value.restored_pages <= $row.pages + 5000))
            and ([.rates | .ring, .bitmap, .wtf, .nyx | select(.) | .rounds_per_second] | max) as $peer
            | (.rates | has("ours") | not)
                or ((.ratio_to_limit * .rates.limit.rounds_per_second / .rates.ours.rounds_per_second - 1 | fabs) < 1e-9
                and (.ratio_to_best_peer * $peer / .rates.ours.rounds_per_second - 1 | fabs) < 1e-9))' j
    jq -e '(.host.cpus < 2 or (.ways.ring.usable | not)) == (.clones == null)
        and (.clones == null or (.clones
            | .pages == 1000 and .one_rounds_per_second > 0
            and (.ratio * .one_rounds_per_second / .two_rounds_per_second - 1 | fabs) < 1e-9))' j
    [ "$(grep -cE '^ +(10|1,000) +[0-9]' out)" -eq 6 ]
    [ "$(grep -cE '^(hash_table|log_store|merge_sort|spmv|writer) +[0-9]' out)" -eq 5 ]
    # A panel for each pattern, a curve for each way, nothing from outside.
    python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse("s.svg")'
    [ "$(grep -cE "(same pages each|10 % drift|all random each)[^<]*</text>" s.svg)" -eq 3 ]
    [ "$(grep -c "stroke-linecap='round'" s.svg)" -eq "$((3 * $(jq '.measurements[0].rates | length' j)))" ]
    run ! grep -E 'href|@import|url\(' s.svg
}

@test "reset: one row in two memories, and what does not fit is left out" {
    need_kvm
    dirtyring bench reset --quick --memory 1G,64M --pages 50000,100 --pattern random --json j >out
    cat out
    jq -e '[.measurements[] | [.memory_bytes, .pattern, .pages]]
            == [[67108864, "random", 100], [1073741824, "random", 100], [1073741824, "random", 50000]]
        and .clones == null' j
    jq -e '.ways.ring.usable | not' j || jq -e '.measurements as [$least, $most]
        | (.growths | length) == 1
        and (.growths[0] | .pages == 100 and .least_memory_bytes == 67108864 and .most_memory_bytes == 1073741824
            and (.ours * $most.rates.ours.rounds_per_second / $least.rates.ours.rounds_per_second - 1 | fabs) < 1e-9)' j
    # In a random round of few pages hardly any is one of the round before.
    jq -e 'all(.measurements[]; .rates.limit.restored_pages >= .pages)' j
}

@test "a signal ends it with what it has, status 0, and a whole file" {
    need_kvm
    for bench in overhead collect reset; do
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
