#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# dirtyring report, on traces that trace.py writes by the description of the format.
# shellcheck disable=SC2154 # stderr comes from run

load common

trace() { python3 "$BATS_TEST_DIRNAME/trace.py" "$@"; }

@test "a trace made by the description of the format is read" {
    trace make t
    run --separate-stderr -0 dirtyring report t --json j --heatmap h.svg
    [ -z "$stderr" ]
    [[ $output == *"2 vCPUs, 3 GiB"* || $output == *"2 vCPUs, 3.0 GiB"* ]]
    [[ $output == *"every vCPU ended with status 0"* ]]
    [[ $output == *"all well"* ]]
    [[ $output == *"1 overrun, at least 3 entries lost; 1 interval in which every page"* ]]
    jq -e '.outcome.result == "succeeded" and .outcome.console == "all well\n"
        and .vcpus == 2 and .track == "ring" and .ring_entries == 4096 and .params.keys == "1000"
        and .memory_bytes == (786432 + 1024) * 4096 and .interval_ns == 100000000' j
    jq -e '.totals | .duration_ns == 250000000 and .intervals == 3 and .intervals_everything == 1
        and .distinct_pages == 6 and .page_changes == 7 and .entries == 20 and .ring_full_exits == 2
        and .overruns == 1 and .lost_entries == 3 and .peak_fill == 4096 and .rounds == 2
        and .page_writes == 400 and .harvest_ns == 4500 and .reset_ns == 7500
        and .vcpus[1].page_writes == 200' j
    jq -e '.intervals | map(.distinct_pages) == [6, 0, 1] and map(.distinct_pages_so_far) == [6, 6, 6]
        and map(.everything) == [false, true, false] and map(.end_ns) == [100000000, 200000000, 250000000]' j
}

@test "what a trace says cannot steer the terminal or break the picture" {
    trace make t
    dirtyring report t --heatmap h.svg >out
    run ! grep -q $'\x1b' out
    grep -q 'gäst <1> & ?\[31m' out
    python3 -c 'import sys, xml.etree.ElementTree as x; x.parse(sys.argv[1])' h.svg
    grep -q 'gäst &lt;1&gt; &amp; ?' h.svg
}

@test "the picture has axes with units, a title, numbers, and shows the loss" {
    trace make t
    dirtyring report t --heatmap h.svg >/dev/null
    for part in "guest address (MiB)" "time since the guest's start (s)" MiB/s "pages dirtied" "entries lost"; do
        grep -qF "$part" h.svg
    done
}

@test "every damaged trace is refused with a sentence, and nothing is written" {
    trace make t
    mkdir damaged
    trace damage t damaged
    [ "$(ls damaged | wc -l)" -gt 500 ]
    for file in damaged/*; do
        # In bash, not by run: there are many.
        status=0
        "$DIRTYRING" report "$file" --json j --heatmap h.svg >out 2>err || status=$?
        if ((status != 1)) || [[ -s out || $(wc -l <err) != 1 || $(<err) != "dirtyring: read the trace $file: "*"; "* ]]; then
            echo "$file: status $status: $(cat err)"
            false
        fi
    done
    [ "$(echo *)" = "damaged err out t" ]
}

@test "a trace that was cut short is said to be" {
    trace make t
    head -c -1 t >cut
    run --separate-stderr dirtyring report cut
    complains 1 cut "cut short"
    head -c -100 t >cut
    run --separate-stderr dirtyring report cut
    complains 1 cut "cut short"
}

@test "what is not a trace is said not to be one" {
    echo hello >text
    mkdir dir
    run --separate-stderr dirtyring report text
    complains 1 text "not a trace"
    run --separate-stderr dirtyring report missing
    complains 1 missing "No such file"
    run --separate-stderr dirtyring report dir
    complains 1 dir "directory"
}

@test "a trace can come through a pipe, and the files go to pipes and devices" {
    trace make t
    run --separate-stderr -0 bash -c 'cat t | "$1" report /dev/stdin --json /dev/fd/3 3>&1 >/dev/null | jq -r .format' bash "$DIRTYRING"
    [ "$output" = "dirtyring run" ]
    [ -c /dev/null ]
    run -0 dirtyring report t --json /dev/null
    [ -c /dev/null ]
}

@test "a full disk is said, and leaves nothing behind" {
    trace make t
    run --separate-stderr -1 bash -c '"$1" report t --json /dev/full >/dev/null' bash "$DIRTYRING"
    complains 1 /dev/full "No space left on device"
    run --separate-stderr -1 bash -c '"$1" report t >/dev/full' bash "$DIRTYRING"
    complains 1 "standard output" "No space left on device"
    unshare --mount true 2>/dev/null || skip "this user may not mount a small file system"
    mkdir small
    # shellcheck disable=SC2016
    run --separate-stderr timeout 60 unshare --mount bash -c '
        mount -t tmpfs -o size=4k none small
        "$1" report t --heatmap small/h.svg >/dev/null
        status=$?
        ls -A small
        exit $status' bash "$DIRTYRING"
    complains 1 small/h.svg "No space left on device"
}

@test "a file that is there is replaced, keeps its mode, and links are followed" {
    trace make t
    echo old >j
    chmod 640 j
    ln -s j link
    dirtyring report t --json link >/dev/null
    [ -L link ]
    [ "$(stat -c %a j)" = 640 ]
    jq -e .format j
    (umask 027 && dirtyring report t --json new >/dev/null)
    [ "$(stat -c %a new)" = 640 ]
    [ "$(ls -A | sort | tr '\n' ' ')" = "j link new t " ]
}
