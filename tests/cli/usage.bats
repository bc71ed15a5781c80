#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The command line: help, manual pages, and everything that is wrong with what is typed.
# shellcheck disable=SC2154 # stderr comes from run

load common

@test "without a command it says that it needs one, with status 2" {
    run --separate-stderr dirtyring
    complains 2 "subcommand is required" "dirtyring --help"
}

@test "an unknown command, option or argument is named, with status 2" {
    run --separate-stderr dirtyring fly
    complains 2 fly "dirtyring --help"
    run --separate-stderr dirtyring run --fast
    complains 2 --fast "dirtyring run --help"
    run --separate-stderr dirtyring run writer and more
    complains 2 and more "dirtyring run --help"
    run --separate-stderr dirtyring report
    complains 2 "TRACE is required" "dirtyring report --help"
    run --separate-stderr dirtyring run --vcpus
    complains 2 --vcpus
}

@test "--version says the version" {
    run --separate-stderr -0 dirtyring --version
    [[ $output =~ ^dirtyring\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    [ -z "$stderr" ]
}

@test "--help of each command shows its options, examples and exit status" {
    for command in "" probe run reset report; do
        # shellcheck disable=SC2086 # none for the command as a whole
        run --separate-stderr -0 dirtyring $command --help
        [[ ${lines[0]} == "usage: dirtyring"* ]]
        [[ $output == *"Options:"*"--help"*"Examples:"*"dirtyring $command"*"Exit status:"* ]]
        [ -z "$stderr" ]
    done
    run -0 dirtyring run --help
    for option in vcpus memory ring interval seconds rounds param track limit json heatmap trace stats; do
        [[ $output == *"  --$option "* ]]
    done
    run -0 dirtyring reset --help
    for option in memory ring interval seconds rounds param track verify json; do
        [[ $output == *"  --$option "* ]]
    done
    for command in run reset; do
        run -0 dirtyring $command --help
        for guest in log_store hash_table merge_sort spmv writer; do
            [[ $output == *"$guest"* ]]
        done
        [ "$(wc -L <<<"$output")" -le 80 ]
    done
}

@test "the manual pages have what --help has" {
    for command in "" probe run reset report; do
        page=$DIRTYRING_MAN/dirtyring${command:+-$command}.1
        [ -s "$page" ]
        # shellcheck disable=SC2086
        dirtyring $command --help | grep -oE -- '^  (-h, )?--[a-z]+' | sed 's/.*--/--/' | sort >help
        sed 's/\\-/-/g; s/\\f[BIR]//g' "$page" | sed -n '/^\.SH OPTIONS/,/^\.SH /p' |
            grep -oE -- '^(-h, )?--[a-z]+' | sed 's/.*--/--/' | sort >man
        [ -s help ]
        diff help man
    done
}

@test "the manual pages are sound roff" {
    need_command groff "to read manual pages"
    for page in "$DIRTYRING_MAN"/*.1; do
        run -0 groff -man -Tutf8 -ww -z "$page"
        [ -z "$output" ]
        run -0 groff -man -Tascii -P-cbou -rLL=78n "$page"
        for section in NAME SYNOPSIS DESCRIPTION OPTIONS "EXIT STATUS" EXAMPLES "SEE ALSO"; do
            [[ $output == *$'\n'"$section"$'\n'* ]]
        done
    done
}

# refused OPTION VALUE...: each is a wrong use of `dirtyring run`; the complaint names the option and
# the value.
refused() {
    local option=$1 value
    for value in "${@:2}"; do
        echo "$option $value"
        run --separate-stderr dirtyring run "$option" "$value"
        complains 2 "$option" "\"$value\"" "dirtyring run --help" || return 1
        nothing_here || return 1
    done
}

@test "numbers of vCPUs that cannot be" { refused --vcpus 0 33 -1 1.5 two 1x "" 99999999999999999999; }

@test "memory sizes that cannot be" {
    refused --memory 0 -1 64 7M 65G 16777216T 99999999999999999999 256X 256MX M "" 1.5G
    run --separate-stderr dirtyring run --memory 9M
    complains 2 "9 MiB" "multiple of 2 MiB" "use 10 MiB"
}

@test "ring sizes that cannot be" {
    refused --ring 0 -4096 255 3000 1T 99999999999999999999 many
    run --separate-stderr dirtyring run --ring 3000
    complains 2 "give 2048 or 4096"
}

@test "intervals that cannot be" { refused --interval 0 -1 3600001 0.5 soon; }

@test "lengths of a run that cannot be" {
    refused --seconds 0 -1 nan inf 1e99 31536001 long 5s
    refused --rounds 0 -1 1.5 18446744073709551616
    run --separate-stderr dirtyring run --rounds 1 --seconds 1
    complains 2 --rounds --seconds
}

@test "ways of tracking that are none" {
    refused --track fast "" RING
    run --separate-stderr dirtyring run --track bitmap --ring 4096
    complains 2 --ring "--track bitmap"
}

@test "limits that cannot be" {
    refused --limit 0 -1 1 4095 1K 0M 2T 99999999999999999999 100X 1.5M "" M /s 100M/m 100M/s/s none
    run --separate-stderr dirtyring run --limit 4095/s
    complains 2 "4095/s" "give 4K to 1T"
    for track in bitmap manual; do
        run --separate-stderr dirtyring run --track $track --limit 100MiB/s
        complains 2 --limit "--track $track" "track by ring, or leave --limit out"
    done
    nothing_here
}

@test "parameters that are none" {
    refused --param keys =5 ""
    run --separate-stderr dirtyring run --param a=1 --param b=2 --param a=3
    complains 2 --param '"a" is given twice'
    run --separate-stderr dirtyring run --param "$(printf 'x%.0s' {1..32})=1"
    complains 2 "32 bytes"
    run --separate-stderr dirtyring run --param "x=$(printf 'x%.0s' {1..96})"
    complains 2 "96 bytes"
    params=()
    for i in {1..17}; do
        params+=(--param "p$i=1")
    done
    run --separate-stderr dirtyring run "${params[@]}"
    complains 2 "17 parameters" "at most 16"
}

@test "an option given twice" {
    run --separate-stderr dirtyring run --vcpus 1 --vcpus 2
    complains 2 --vcpus
}

@test "one file for two outputs" {
    run --separate-stderr dirtyring run --json same --trace same
    complains 2 --json --trace same
    run --separate-stderr dirtyring run --stats same --json same
    complains 2 --json --stats same
    run --separate-stderr dirtyring report same --json same
    complains 2 TRACE --json same
    nothing_here
}

@test "probe without /dev/kvm says what to do, with status 1" {
    without_kvm probe
    complains 1 /dev/kvm "No such file or directory" "; "
    without_kvm run --json out --trace trace
    complains 1 /dev/kvm "; "
    nothing_here
}

@test "probe without permission says what to do, with status 1" {
    [[ -e /dev/kvm ]] || skip "there is no /dev/kvm to lack permission for"
    as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    "${as_nobody[@]}" true 2>/dev/null || skip "this user may not become another who lacks permission"
    "${as_nobody[@]}" test -w /dev/kvm && skip "everybody has permission for /dev/kvm here"
    "${as_nobody[@]}" test -x "$DIRTYRING" || skip "the command is where only this user can run it"
    run --separate-stderr timeout 60 "${as_nobody[@]}" "$DIRTYRING" probe
    complains 1 /dev/kvm "Permission denied" "; "
}
