#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# dirtyring reset, on real guests: that it resets them, that what it says adds up, never how fast it is.
# shellcheck disable=SC2154 # stderr comes from run

load common

# reset_guest GUEST OPTION...: with its small parameters; what it says is in `out`.
reset_guest() {
    # shellcheck disable=SC2086 # words
    dirtyring reset "$1" ${small[$1]} --memory 64M --interval 20 "${@:2}" >out
}

# What must hold of any JSON of it: jq's `all` of it is true. The parts and the rest are the whole, of all rounds and
# of each interval's.
# shellcheck disable=SC2016 # jq's variables
sound='
    def parts: [to_entries[] | select(.key | IN("guest_ns", "harvest_ns", "rearm_ns", "collect_ns", "copy_ns",
        "state_ns", "verify_ns", "rest_ns")) | .value];
    .format == "dirtyring reset" and .version == 1 and .vcpus == 1 and .page_bytes == 4096
    and .host.cpus > 0 and (.host.kernel_release | length) > 0
    and .verify == (.totals | has("verify_ns")) and .verify == (.totals | has("rounds_verified"))
    and (.track == "ring") == (.totals | has("harvest_ns") and has("rearm_ns") and has("ring_full_exits"))
    and (.track == "ring") == (.totals | has("collect_ns") | not)
    and (.track == "ring") == has("ring_entries")
    and all(.totals, .intervals[]; .duration_ns as $whole
        | (parts | add) == $whole and all(parts[]; . >= 0 and . <= $whole)
        and .changed_pages <= .dirty_pages and (.hot_pages <= .dirty_pages or .rounds == 0))
    and ([.intervals[].rounds] | add) == .totals.rounds
    and ([.intervals[].duration_ns] | add) == .totals.duration_ns
    and ([.intervals[].dirty_pages] | add) == .totals.dirty_pages
    and .intervals[-1].hot_pages == .totals.hot_pages
    and (.totals.rounds == 0) == (.totals.duration_ns == 0)
    and .totals.rounds_everything == 0'

@test "each built-in guest is as in the snapshot after every round, tracked each way" {
    need_kvm
    runs=0
    for guest in "${!small[@]}"; do
        for track in ring bitmap manual; do
            echo "$guest $track"
            reset_guest "$guest" --rounds 20 --verify --track $track --json j
            cat out
            grep -qx 'outcome *succeeded: 20 rounds, as asked' out
            grep -qx 'verified *all memory and state, after 20 rounds' out
            grep -qx 'losses *none' out
            jq -e "($sound) and .guest == \"$guest\" and .track == \"$track\" and .memory_bytes == 67108864
                and .outcome.result == \"succeeded\" and .snapshot_ns > 0" j
            # A guest that checks its own work writes something in each round.
            jq -e '.totals | .rounds == 20 and .rounds_verified == 20 and .dirty_pages >= 20 and .changed_pages >= 20
                and .guest_ns > 0 and .copy_ns > 0 and .state_ns > 0 and .verify_ns > 0' j
            jq -e '(.totals.hot_pages == 0) == (.track == "bitmap")' j
            runs=$((runs + 1))
        done
    done
    [ $runs -eq 15 ]
}

@test "the table has each part, and the lines have its microseconds" {
    need_kvm
    for track in ring bitmap; do
        case $track in
            ring) parts="guest harvest re-arm copy state rest" ;;
            *) parts="guest collect copy state rest" ;;
        esac
        reset_guest writer --rounds 30 --track $track --json j
        cat out
        [ "$(head -n 1 out | tr -s ' ')" = " time_s rounds/s pages changed hot $(sed -E 's/ |$/_us /g; s/ $//' <<<"$parts")" ]
        [ "$(sed -n '/^part/,$p' out | awk 'NR > 1 { printf "%s ", $1 }')" = "$parts whole " ]
        awk '/^part/ { table = 1; next }
            table && $1 == "whole" { whole = $2; next }
            table { sum += $2; share += $3 }
            END { exit !(whole > 0 && sum > whole - 1 && sum < whole + 1 && share > 99.5 && share < 100.5) }' out
        # A line an interval.
        [ "$(grep -cE '^ +[0-9]+\.[0-9]{3} ' out)" -eq "$(jq '.intervals | length' j)" ]
    done
}

@test "without --verify nothing is said of it" {
    need_kvm
    reset_guest writer --rounds 20 --json j
    cat out
    run ! grep -qi verif out
    jq -e "($sound) and .verify == false" j
}

@test "a round that writes more than the ring holds is reset in full" {
    need_kvm
    least=$(dirtyring probe --json | jq .least_ring_entries)
    ((least > 0)) || skip "this host has no dirty rings"
    dirtyring reset writer --memory 64M --param working_set=32M --param writes=20000 --track ring --ring "$least" \
        --rounds 3 --verify --json j >out
    cat out
    jq -e "($sound) and .ring_entries == $least and .totals.ring_full_exits > 0
        and .totals.dirty_pages > 3 * $least and .totals.rounds_verified == 3" j
}

@test "without --track it says why it tracks as it does; a file goes before a built-in guest's name" {
    need_kvm
    cp "$DIRTYRING_GUESTS/hash_table" writer
    run --separate-stderr -0 dirtyring reset writer --rounds 2 --memory 64M --param keys=20000 --param operations=100
    why=$(dirtyring probe --json | jq -r '.recommended_why')
    [[ ${lines[0]} == "tracking by "*": $why" ]]
    [[ $output == *"guest       writer, 1 vCPU, 64 MiB"* ]]
    [ -z "$stderr" ]
}

@test "memory beyond 3 GiB, in two slots, is reset and compared" {
    need_kvm
    dirtyring reset writer --memory 4G --param working_set=3500M --param pattern=stride --param stride=4096 \
        --param writes=500 --rounds 2 --verify --json j >out
    cat out
    jq -e "($sound) and .memory_bytes == 4294967296 and .totals.rounds_verified == 2" j
}

@test "what --verify finds different it names, with status 1 and whole files" {
    need_kvm
    started "$DIRTYRING" reset writer --memory 64M --param working_set=4M --param writes=1000 --verify --interval 20 \
        --rounds 3000000000 --json j
    wait_for eval '[[ $(tail -n 1 out | cut -c 10-19) =~ [1-9] ]]' # rounds/s
    address=$(python3 "$BATS_TEST_DIRNAME/poke.py" "$(<pid)" $((64 << 20)))
    wait_for test -e status
    cat out err
    [ "$(<status)" = 1 ]
    [[ $(<err) == "dirtyring: reset the guest writer: verify the guest after round "*": memory at guest address $address is not as in the snapshot; "* ]]
    [ "$(wc -l <err)" -eq 1 ]
    jq -e "($sound) and .outcome.result == \"failed\" and (.outcome.reason | contains(\"address $address\"))
        and .totals.rounds_verified == .totals.rounds" j
}

@test "a guest that ends, fails or faults: status 1, a sentence, what it said, and whole files" {
    need_kvm
    run --separate-stderr -1 dirtyring reset "$DIRTYRING_GUESTS/hello" --json j
    [[ $stderr == "dirtyring: reset the guest $DIRTYRING_GUESTS/hello: vCPU 0 ended with status 0, "*"goes on from round to round" ]]
    [[ $output == *"snapshot    none: the guest had made 0 of the 3 rounds before it"* ]]
    [[ $output == *"console     hello"* ]]
    jq -e "($sound) and .outcome.result == \"failed\" and .totals.rounds == 0" j
    run --separate-stderr -1 dirtyring reset "$DIRTYRING_GUESTS/fail"
    [[ $stderr == "dirtyring: reset the guest $DIRTYRING_GUESTS/fail: vCPU 0 ended with status "* && $stderr != *$'\n'* ]]
    run --separate-stderr -1 dirtyring reset writer --param speed=1
    [[ $output == *'console     writer: unknown parameter "speed"; it takes '*working_set* ]]
    for fault in null jump ud; do
        run --separate-stderr -1 dirtyring reset "$DIRTYRING_GUESTS/fault_$fault"
        [[ $stderr == "dirtyring: reset the guest $DIRTYRING_GUESTS/fault_$fault: vCPU 0 faulted: "* && $stderr != *$'\n'* ]]
        [[ $output == *rip* ]]
    done
}

@test "a guest file that is none" {
    run --separate-stderr dirtyring reset nowhere --json j
    complains 1 "read nowhere" "No such file or directory" "log_store"
    echo text >text
    run --separate-stderr dirtyring reset . --json j
    complains 1 "Is a directory"
    [ "$(ls -A)" = text ]
}

@test "--seconds stops a guest that never ends its round, and that is no failure" {
    need_kvm
    run --separate-stderr -0 dirtyring reset "$DIRTYRING_GUESTS/hang" --seconds 0.3 --json j
    [[ $output == *"stopped after 300 ms, as --seconds asked"* ]]
    [[ $output == *"snapshot    none"* ]]
    jq -e "($sound) and .outcome.result == \"stopped\"" j
}

@test "SIGINT, SIGTERM and SIGHUP end it with the summary, status 0, and whole files" {
    need_kvm
    for signal in INT TERM HUP; do
        rm -f status out j
        # shellcheck disable=SC2086
        started "$DIRTYRING" reset writer ${small[writer]} --memory 64M --interval 20 --rounds 3000000000 --json j
        kill -s $signal "$(<pid)"
        wait_for test -e status
        cat err
        [ "$(<status)" = 0 ]
        [ ! -s err ]
        grep -qx "outcome *stopped by SIG$signal" out
        jq -e "($sound) and .outcome.reason == \"by SIG$signal\"" j
    done
}

# refused OPTION VALUE...: each is a wrong use; the complaint names the option and the value.
refused() {
    local option=$1 value
    for value in "${@:2}"; do
        echo "$option $value"
        run --separate-stderr dirtyring reset "$option" "$value" --json j
        complains 2 "$option" "\"$value\"" "dirtyring reset --help" || return 1
        nothing_here || return 1
    done
}

@test "wrong use is named, with status 2" {
    refused --rounds 0 -1 1.5 18446744073709551616 many
    refused --seconds 0 -1 nan long
    refused --interval 0 3600001
    refused --memory 7M 65G
    refused --ring 0 255 3000
    refused --track fast ""
    refused --param keys =5
    run --separate-stderr dirtyring reset --rounds 1 --seconds 1
    complains 2 --rounds --seconds
    for track in bitmap manual; do
        run --separate-stderr dirtyring reset --track $track --ring 4096
        complains 2 --ring "--track $track"
    done
    run --separate-stderr dirtyring reset --memory 9M
    complains 2 "9 MiB" "use 10 MiB"
    run --separate-stderr dirtyring reset --vcpus 2
    complains 2 --vcpus "dirtyring reset --help"
    run --separate-stderr dirtyring reset same --json same
    complains 2 "GUEST and --json are both same"
    nothing_here
}

@test "a ring larger than the host's largest is refused with what is legal" {
    need_kvm
    refuses_too_large_a_ring reset
}

@test "a file that cannot be written is refused before anything runs" {
    run --separate-stderr dirtyring reset --json missing/j
    complains 1 missing/j "No such file or directory"
    nothing_here
}

@test "without /dev/kvm it says what to do, and leaves nothing behind" {
    for track in auto ring; do
        without_kvm reset --track $track
        complains 1 /dev/kvm "No such file or directory" "; "
        nothing_here
    done
}

@test "a reader that goes away ends it with a sentence, and leaves nothing behind" {
    need_kvm
    without_reader reset --track ring --interval 20 --json j
    complains 0 "standard output" "Broken pipe"
    nothing_here
}
