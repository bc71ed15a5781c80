#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The live table, in terminals of given sizes.
# shellcheck disable=SC2154 # stderr comes from run

load common

teardown() {
    "${tmux[@]}" kill-server 2>/dev/null || true # a test that was skipped has started none
}

# open_terminal COLUMNS ROWS ARGUMENT...: the command in a terminal of that size. Its status comes to
# the file `status`, the shell's prompt afterwards stands for the user's.
open_terminal() {
    need_kvm
    need_command tmux "for a terminal of a given size"
    columns=$1 rows=$2
    tmux=(tmux -S "$BATS_TEST_TMPDIR/tmux" -f /dev/null)
    cat >inside <<END
echo before
$(printf '%q ' "$DIRTYRING" "${@:3}")
echo "\$?" >status
echo after
sleep 1000
END
    "${tmux[@]}" new-session -d -x "$columns" -y "$rows" bash inside
}

# What the terminal shows now comes to the file `screen`, without trailing spaces.
look() { "${tmux[@]}" capture-pane -p >screen; }
shows() { look && grep -qE -- "$1" screen; }
ask() { "${tmux[@]}" display-message -p "$1"; }

# A whole table that fits: its title in the first row, nothing wrapped, a strip in its place.
is_sound_table() {
    cat screen
    [ "$(wc -l <screen)" -eq "$rows" ] || return 1
    [ "$(wc -L <screen)" -le "$columns" ] || return 1
    [[ $(sed -n 1p screen) == " dirtyring: log_store"*" s" ]] || return 1
    grep -qE '^ +vCPU +pages/s +MiB/s' screen || return 1
    grep -qE '^ +all +[0-9]' screen || return 1
    grep -qE '^ +0 +[0-9]' screen || return 1
    grep -qE 'since the start' screen || return 1
    [ "$(grep -cE '^ dirtyring' screen)" -eq 1 ] || return 1
    [ "$(grep -cE 'vCPU +pages/s' screen)" -eq 1 ]
}

# The strip is drawn: letters, as tests have no colours unless they ask for them.
has_strip() { grep -qE '^[ .:=+*#%@-]*[.:=+*#%@]{3}[ .:=+*#%@-]*$' screen; }

run_live() { # COLUMNS ROWS OPTION...
    NO_COLOR=1 open_terminal "$1" "$2" run --track ring --interval 50 "${@:3}"
    wait_for shows 'all +[1-9][0-9,]+ '
}

ends_with_summary() {
    wait_for test -s status
    wait_for shows '^after'
    cat screen
    [ "$(<status)" = 0 ]
    [ "$(ask '#{alternate_on}')" = 0 ]
    [ "$(ask '#{cursor_flag}')" = 1 ]
    "${tmux[@]}" capture-pane -p -S - >all
    grep -qx before all
    grep -qx "outcome *stopped by SIGINT" all
    run ! grep -q 'Ctrl-C ends the run' all
}

@test "the live table fits 80x24, and Ctrl-C ends it with the summary and the terminal as it was" {
    run_live 80 24
    is_sound_table
    has_strip
    grep -q 'peak fill' screen
    grep -q 'lost' screen
    grep -q 'Ctrl-C ends the run' screen
    [ "$(ask '#{alternate_on}')" = 1 ]
    [ "$(ask '#{cursor_flag}')" = 0 ]
    "${tmux[@]}" send-keys C-c
    ends_with_summary
}

@test "the live table fits 40x10" {
    run_live 40 10
    is_sound_table
    has_strip
    "${tmux[@]}" send-keys C-c
    ends_with_summary
}

@test "the live table fits 200x50" {
    run_live 200 50
    is_sound_table
    has_strip
    "${tmux[@]}" send-keys C-c
    ends_with_summary
}

reset_live() { # COLUMNS ROWS OPTION...
    NO_COLOR=1 open_terminal "$1" "$2" reset writer --param working_set=4M --param writes=1000 --memory 64M \
        --interval 50 --rounds 3000000000 "${@:3}"
    wait_for shows '^ [1-9][0-9,]* rounds/s'
}

# The table of resets, whole and not wrapped, with each part of the rounds.
is_sound_reset_table() { # PART...
    cat screen
    [ "$(wc -l <screen)" -eq "$rows" ] || return 1
    [ "$(wc -L <screen)" -le "$columns" ] || return 1
    [[ $(sed -n 1p screen) == " dirtyring reset: writer"*" s" ]] || return 1
    [ "$(grep -cE '^ [0-9,]+ rounds/s, [0-9,]+ of 3,000,000,000$' screen)" -eq 1 ] || return 1
    [ "$(grep -cE '^ [0-9,]+ pages.*[0-9,]+ (of them )?changed.* hot$' screen)" -eq 1 ] || return 1
    [ "$(sed -nE 's/^ ([a-z-]+) +[0-9]+\.[0-9] +[0-9]+\.[0-9] %( .*)?$/\1/p' screen | tr '\n' ' ')" = "$* " ]
}

@test "the live table of resets fits 80x24, and Ctrl-C ends it with the summary and the terminal as it was" {
    reset_live 80 24 --track ring
    is_sound_reset_table guest harvest re-arm copy state rest
    grep -qE '^ part +us a round +of time' screen
    grep -qE '^ guest .*  #+$' screen
    grep -q 'Ctrl-C ends it' screen
    [ "$(ask '#{alternate_on}')" = 1 ]
    "${tmux[@]}" send-keys C-c
    ends_with_summary
    run ! grep -q 'Ctrl-C ends it' all
}

@test "the live table of resets fits 40x10, with --verify too" {
    reset_live 40 10 --track bitmap --verify
    is_sound_reset_table guest collect copy state verify rest
    "${tmux[@]}" send-keys C-c
    ends_with_summary
    grep -qE '^verified +all memory and state' all
    "${tmux[@]}" kill-server
    reset_live 40 10 --track ring --verify
    is_sound_reset_table guest harvest re-arm copy state verify rest
}

@test "more vCPUs than rows are counted" {
    run_live 80 12 --vcpus 12
    is_sound_table
    grep -qE 'and [0-9]+ more vCPUs' screen
}

@test "a terminal too small for anything is survived" {
    run_live 80 24
    "${tmux[@]}" resize-window -x 5 -y 2
    wait_for eval 'look; [[ $(sed -n 1p screen) == " dirt" ]]'
    "${tmux[@]}" resize-window -x 80 -y 24
    columns=80 rows=24
    wait_for eval 'look; is_sound_table >/dev/null'
}

@test "a changed size is followed at once, not at the next interval" {
    NO_COLOR=1 open_terminal 80 24 run --track ring --interval 100000
    wait_for shows '^ dirtyring: log_store'
    "${tmux[@]}" resize-window -x 60 -y 15
    columns=60 rows=15
    wait_for eval 'look; [[ $(sed -n 1p screen) == " dirtyring: log_store"*" s" && $(wc -L <screen) -le 60 ]]'
}

@test "Ctrl-Z gives the terminal back, and fg takes it again" {
    need_kvm
    need_command tmux "for a terminal of a given size"
    tmux=(tmux -S "$BATS_TEST_TMPDIR/tmux" -f /dev/null)
    "${tmux[@]}" new-session -d -x 80 -y 24 'env PS1="ready> " NO_COLOR=1 bash --norc'
    wait_for shows '^ready>'
    "${tmux[@]}" send-keys "'$DIRTYRING' run --track ring --interval 50" Enter
    wait_for shows 'all +[1-9][0-9,]+ '
    "${tmux[@]}" send-keys C-z
    wait_for shows 'Stopped'
    [ "$(ask '#{alternate_on}')" = 0 ]
    [ "$(ask '#{cursor_flag}')" = 1 ]
    "${tmux[@]}" send-keys fg Enter
    wait_for shows 'all +[1-9][0-9,]+ '
    [ "$(ask '#{alternate_on}')" = 1 ]
    "${tmux[@]}" send-keys C-c
    wait_for shows 'stopped by SIGINT'
    [ "$(ask '#{alternate_on}')" = 0 ]
}

@test "colours are those that the terminal has" {
    need_kvm
    need_command script "for a terminal whose bytes can be looked at"
    # 48;5;N is a background of 256 colours, 48;2;R;G;B one of 24 bits.
    for want in truecolor: 256color: none:1; do
        colorterm=${want%%:*} no_color=${want#*:}
        [[ $colorterm == truecolor ]] || colorterm=
        rm -f bytes
        timeout 60 script -qefc "stty cols 80 rows 24; env COLORTERM=$colorterm ${no_color:+NO_COLOR=1} TERM=xterm-256color $(printf %q "$DIRTYRING") run --track ring --interval 50 --seconds 1" bytes >/dev/null </dev/null
        # How many backgrounds of each kind there are; `!` before a command would not fail a test.
        rgb=$(grep -c $'\e\[48;2;' bytes || true)
        cube=$(grep -c $'\e\[48;5;' bytes || true)
        echo "$want: $rgb lines of 24 bits, $cube of 256 colours"
        case $want in
            truecolor*) ((rgb > 0 && cube == 0)) ;;
            256color*) ((rgb == 0 && cube > 0)) ;;
            none*) ((rgb == 0 && cube == 0)) ;;
        esac
    done
}

@test "a dumb terminal gets lines" {
    need_kvm
    timeout 60 script -qefc "env TERM=dumb $(printf %q "$DIRTYRING") run --track ring --interval 50 --seconds 0.5" bytes >/dev/null </dev/null
    grep -q 'time_s' bytes
    grep -q 'stopped after 500 ms' bytes
    run ! grep -q $'\e' bytes
}
