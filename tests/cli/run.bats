#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# dirtyring run, on real guests.
# shellcheck disable=SC2154 # stderr comes from run

load common

trace() { python3 "$BATS_TEST_DIRNAME/trace.py" "$@"; }

# run_guest GUEST OPTION...: with its small parameters; what it says is in `out`.
run_guest() {
    # shellcheck disable=SC2086 # words
    dirtyring run "$1" ${small[$1]} --interval 20 "${@:2}" >out
}

# What must hold of any run's JSON, whatever the guest: jq's `all` of it is true.
sound='
    (.intervals | length) == .totals.intervals
    and ([.intervals[].distinct_pages] | add) == .totals.page_changes
    and ([.intervals[].harvest_ns] | add) == .totals.harvest_ns
    and ([.intervals[].vcpus[].page_writes] | add) == .totals.page_writes
    and ([.totals.vcpus[].page_writes] | add) == .totals.page_writes
    and .intervals[-1].distinct_pages_so_far == .totals.distinct_pages
    and .intervals[-1].end_ns == .totals.duration_ns
    and .totals.distinct_pages <= .memory_bytes / .page_bytes
    and .totals.intervals_everything == 0
    and (.vcpus == (.totals.vcpus | length))
    and (if .track == "ring" then
            .totals.entries >= .totals.page_changes and .totals.lost_entries == 0 and .totals.overruns == 0
            and ([.totals.vcpus[].distinct_pages] | add) == .totals.page_changes
         else (.totals | has("entries") | not) and (has("ring_entries") | not) end)'

@test "probe says what there is and what to take, for people and as JSON" {
    need_kvm
    run --separate-stderr -0 dirtyring probe
    [[ $output == *kernel*"Ways of tracking:"*ring*bitmap*Recommended:* ]]
    [ -z "$stderr" ]
    dirtyring probe --json >probe
    jq -e '.format == "dirtyring probe" and .api_version == 12
        and (.tracking | keys) == ["bitmap", "manual bitmap", "ring", "ring with bitmap"]
        and .tracking[.recommended].usable and (.recommended_why | length) > 0
        and all(.tracking[]; .usable or (.why_not | length) > 0)' probe
}

@test "each built-in guest succeeds on 2 vCPUs, tracked each way, with figures that add up" {
    need_kvm
    runs=0
    for guest in "${!small[@]}"; do
        for track in ring bitmap manual; do
            echo "$guest $track"
            run_guest "$guest" --rounds 2 --track $track --json j --heatmap h.svg
            grep -qx "console *$guest: all checks passed in 2 rounds" out
            grep -q "^outcome *succeeded" out
            jq -e ".guest == \"$guest\" and .track == \"$track\" and .vcpus == 2
                and .outcome.result == \"succeeded\" and .totals.rounds == 2
                and .totals.distinct_pages > 100 and ($sound)" j
            python3 -c 'import sys, xml.etree.ElementTree as x; x.parse(sys.argv[1])' h.svg
            [ "$(stat -c %s h.svg)" -lt 1000000 ]
            runs=$((runs + 1))
        done
    done
    [ $runs -eq 15 ]
}

@test "without a guest it runs the log-structured store, and says why it tracks as it does" {
    need_kvm
    # shellcheck disable=SC2086
    run --separate-stderr -0 dirtyring run ${small[log_store]} --rounds 1
    recommended=$(dirtyring probe --json | jq -r '.recommended, .recommended_why')
    way=${recommended%%$'\n'*}
    [ "${lines[0]}" = "tracking by ${way%% *}: ${recommended#*$'\n'}" ]
    [[ $output == *"log_store: all checks passed in 1 round"* ]]
    [ -z "$stderr" ]
}

@test "a guest of one's own runs from its file; a file goes before a built-in guest's name" {
    need_kvm
    run -0 dirtyring run "$DIRTYRING_GUESTS/hello" --vcpus 1
    hello=$(grep '^console' <<<"$output")
    [ -n "$hello" ]
    cp "$DIRTYRING_GUESTS/hello" writer
    run -0 dirtyring run writer --vcpus 1
    [[ $output == *"$hello"* ]]
    rm writer
    mkdir writer # is no file
    # shellcheck disable=SC2086
    run -0 dirtyring run writer ${small[writer]} --rounds 1
    [[ $output == *"writer: all checks passed in 1 round"* ]]
}

@test "report shows what the run showed: summary, JSON and picture, but for what is live" {
    need_kvm
    for track in ring bitmap manual; do
        run_guest log_store --rounds 3 --track $track --vcpus 3 --json j --heatmap h.svg --trace t
        dirtyring report t --json j2 --heatmap h2.svg >out2
        [[ $(head -n 1 out2) == guest* ]]
        # What follows the intervals' lines, to the empty line before what only a live run tells.
        sed -n '/^guest/,$p' out >told
        diff <(head -n "$(wc -l <out2)" told) out2
        [ "$(sed -n "$(($(wc -l <out2) + 1)),\$p" told | head -n 2 | cut -d ' ' -f 1 | tr '\n' ' ')" = " dirtied " ]
        diff <(jq 'del(.live)' j) <(jq . j2)
        jq -e 'has("live")' j
        cmp h.svg h2.svg
    done
}

@test "ring and bitmap report the same pages of a guest that always writes the same" {
    need_kvm
    pages=4096
    for track in ring bitmap manual; do
        dirtyring run writer --param pattern=sequential --param working_set=16M --param writes=$pages \
            --rounds 1 --track $track --interval 20 --trace t --json j >out
        trace pages t >all
        [ "$(wc -l <all)" -eq "$(jq .totals.distinct_pages j)" ]
        # The guest begins at 4 MiB, page 1024. Below are the stacks and tables, which a kernel may
        # log for its own reasons.
        awk '$1 >= 1024' all >$track
        [ "$(wc -l <$track)" -ge $pages ]
    done
    diff ring bitmap
    diff ring manual
}

@test "a ring of the least size is drained in time, or the guest waits; nothing is lost" {
    need_kvm
    least=$(dirtyring probe --json | jq .least_ring_entries)
    ((least > 0)) || skip "this host has no dirty rings"
    run_guest writer --rounds 3 --track ring --ring "$least" --json j --param pattern=uniform
    jq -e ".ring_entries == $least and .totals.peak_fill > 0 and ($sound)" j
    grep -q '^losses *none' out
}

need_rings() {
    need_kvm
    dirtyring probe --json | jq -e '.tracking.ring.usable' || skip "this host has no dirty rings"
}

# Pages that the busiest vCPU dirtied a second, from 2 s after the start on.
# shellcheck disable=SC2016 # jq's variables
busiest='[.intervals[] | select(.begin_ns >= 2e9)] as $late
    | ([range(.vcpus) as $i | [$late[].vcpus[$i].entries] | add] | max)
        * 1e9 / ($late[-1].end_ns - $late[0].begin_ns)'

@test "--limit holds each vCPU to its rate, by kicks where its ring is long not full" {
    need_rings
    writer=(run writer --track ring --param pattern=uniform --param working_set=128M --seconds 4 --json j)
    dirtyring "${writer[@]}" >out
    free=$(jq "$busiest | floor" j)
    # Half of what it can. Without kicks it would be held every 500 ms, with a quarter too much.
    limit=$((free * 4096 / 2))
    dirtyring "${writer[@]}" --interval 500 --limit $limit >out
    cat out
    jq "$busiest" j
    jq -e "$limit as \$limit | ($busiest) <= 1.1 * \$limit / 4096 and ($sound)
        and .live.limit == \$limit and .totals.ring_full_exits == 0
        and all(.live.statistics.vcpus[]; .stopped_nanoseconds > 0)" j
}

@test "--limit leaves a guest alone that reads, and writes little" {
    need_rings
    dirtyring run writer --track ring --limit 100MiB/s --param rate=200 --param read_share=99 \
        --seconds 2 --json j >out
    cat out
    grep -qx 'limit *100 MiB/s for each vCPU' out
    jq -e '.totals.entries > 0 and all(.live.statistics.vcpus[]; .stopped_nanoseconds == 0)' j
}

@test "a guest that is held for an hour ends all the same when it is time" {
    need_rings
    dirtyring run writer --track ring --limit 4K --seconds 1 --json j >out
    jq -e '.outcome.result == "stopped" and .live.statistics.all.stopped_nanoseconds > 0' j
}

@test "--stats has what the JSON file has, as JSON and as Prometheus reads it, tracked each way" {
    need_kvm
    for track in ring bitmap manual; do
        run_guest writer --rounds 2 --track $track --json j --stats s.json
        diff <(jq .live.statistics j) <(jq . s.json)
        jq -e '(.vcpus | length) == 2 and .collects > 0 and .collect.count == .collects
            and ([.collect.buckets[][1]] | add) == .collect.count
            and .all.pages_per_second > 0 and .all.recent_pages_per_second > 0' s.json
        run_guest writer --rounds 2 --track $track --json j --stats s.prom
        # Each sample belongs to the metric whose head it follows.
        awk '$1 == "#" { name = $3; next }
            { split($1, part, "{"); sub(/_(bucket|sum|count)$/, "", part[1]) }
            NF != 2 || part[1] != name || $2 !~ /^[0-9.e+-]+$/ { print "bad: " $0; bad = 1 }
            END { exit bad || NR < 50 }' s.prom
        awk '/^dirtyring_vm_(recent_)?dirty_(pages|bytes)_per_second / && $2 > 0 { ++rates }
            END { exit rates != 4 }' s.prom
        for vcpu in 0 1; do
            entries=$(jq ".live.statistics.vcpus[$vcpu].entries" j)
            grep -qx "dirtyring_entries_total{vcpu=\"$vcpu\"} $entries" s.prom
        done
    done
    jq -e '.all.entries == 0 and .harvest.count == 0' s.json # of the bitmap
}

@test "a ring larger than the host's largest is refused with what is legal" {
    need_kvm
    refuses_too_large_a_ring run
}

@test "--seconds stops a guest that would go on, and that is no failure" {
    need_kvm
    run --separate-stderr -0 dirtyring run "$DIRTYRING_GUESTS/hang" --seconds 0.5 --json j
    [[ $output == *"stopped after 500 ms, as --seconds asked"* ]]
    jq -e '.outcome.result == "stopped" and .totals.duration_ns >= 500000000' j
}

@test "memory beyond 3 GiB, in two slots, is tracked and reported in one address space" {
    need_kvm
    dirtyring run writer --memory 4G --param working_set=3500M --param pattern=stride --param stride=4096 \
        --param writes=500 --rounds 1 --trace t --json j --heatmap h.svg >out
    jq -e '.memory_bytes == 4294967296' j
    # Pages above 3 GiB are there, numbered without a hole.
    trace pages t | awk '$1 >= 786432 && $1 < 1048576 { high++ } $1 >= 1048576 { wild++ }
        END { exit !(high > 0 && wild == 0) }'
}

@test "a guest that fails, or is started wrongly: status 1, what it said, and whole files" {
    need_kvm
    run --separate-stderr -1 dirtyring run "$DIRTYRING_GUESTS/fail" --vcpus 1 --json j --trace t --heatmap h.svg
    [[ $stderr == "dirtyring: the guest $DIRTYRING_GUESTS/fail failed: vCPU 0 ended with status "* ]]
    [[ $output == *"outcome     failed"* ]]
    jq -e '.outcome.result == "failed"' j
    run -0 dirtyring report t --json j2
    diff <(jq 'del(.live)' j) <(jq . j2)
    run --separate-stderr -1 dirtyring run writer --param speed=1
    [[ $output == *'console     writer: unknown parameter "speed"; it takes '*working_set* ]]
    run --separate-stderr -1 dirtyring run hash_table --memory 8M
    [[ $output == *"console     hash_table: needs "*"MiB of guest memory, has 8 MiB"* ]]
}

@test "a guest that faults: status 1, a sentence, and the whole report" {
    need_kvm
    for fault in null jump ud; do
        run --separate-stderr -1 dirtyring run "$DIRTYRING_GUESTS/fault_$fault" --vcpus 1
        [[ $stderr == "dirtyring: the guest $DIRTYRING_GUESTS/fault_$fault failed: "* ]]
        [[ $stderr != *$'\n'* ]]
        [[ $output == *rip* ]]
    done
}

@test "SIGINT, SIGTERM and SIGHUP end it with the summary, status 0, and whole files" {
    need_kvm
    for signal in INT TERM HUP; do
        rm -f status out j
        started "$DIRTYRING" run --track ring --interval 20 --json j
        kill -s $signal "$(<pid)"
        wait_for test -e status
        cat err
        [ "$(<status)" = 0 ]
        [ ! -s err ]
        grep -qx "outcome *stopped by SIG$signal" out
        jq -e ".outcome.reason == \"by SIG$signal\" and ($sound)" j
    done
}

@test "a signal that was ignored before stays so, as nohup wants" {
    need_kvm
    started bash -c 'trap "" HUP; exec "$1" run --interval 20' bash "$DIRTYRING"
    kill -s HUP "$(<pid)"
    before=$(wc -l <out)
    wait_for eval '[[ $(wc -l <out) -gt $before+3 ]]'
    kill "$(<pid)"
    wait_for test -e status
    [ "$(<status)" = 0 ]
}

@test "a reader that goes away ends it with a sentence, and leaves nothing behind" {
    need_kvm
    without_reader run --track ring --interval 20 --json j --trace t
    complains 0 "standard output" "Broken pipe"
    nothing_here
}

@test "a disk that fills up ends it with a sentence, and leaves nothing behind" {
    need_kvm
    unshare --mount true 2>/dev/null || skip "this user may not mount a small file system"
    mkdir small
    # shellcheck disable=SC2016
    run --separate-stderr timeout 100 unshare --mount bash -c '
        mount -t tmpfs -o size=8k none small
        "$1" run writer --track ring --interval 20 --trace small/t --json j >/dev/null
        status=$?
        ls -A small
        exit $status' bash "$DIRTYRING"
    complains 1 small/t "No space left on device"
    [ ! -e j ]
}
