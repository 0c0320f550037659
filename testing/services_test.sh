#!/usr/bin/env bash
#
# Proves that testing/services.sh leaves nothing behind: however a run ends, no process and no
# file of it survives. As root it proves the same for an unprivileged user.

set -euo pipefail
set -m # background runs get process groups of their own, as a terminal would give them

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
users=("$(id -un)")
[[ $EUID -ne 0 ]] || users+=(nobody)

fail() {
    printf 'services_test: %s\n' "$*" >&2
    exit 1
}

# A place of its own for the runs of one user: a copy of what they need, which that user can read
# wherever the project is, and a directory for temporary files that is checked afterwards.
prepare() {
    user=$1
    place=$(mktemp -d /tmp/plikd-services-test.XXXXXX)
    mkdir -p "$place/testing" "$place/target/debug/examples" "$place/tmp" "$place/out"
    cp "$here/services.sh" "$place/testing/"
    cp "$target/debug/examples/s3-server" "$place/target/debug/examples/"
    chmod 0755 "$place"
    chown "$user" "$place/tmp" "$place/out"
}

# Runs a command with services as `$user`.
services() {
    local as=()
    # Not runuser, which stays in between and kills what takes more than two seconds to end.
    [[ $user == "$(id -un)" ]] ||
        as=(setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups --)
    cd "$place/tmp"
    # Who was started in the background of a script cannot be asked to end by Ctrl-C otherwise.
    exec "${as[@]}" env --default-signal=INT -u CARGO_TARGET_DIR TMPDIR="$place/tmp" \
        bash "$place/testing/services.sh" run -- "$@"
}

# Processes that have anything to do with `$place`: in their arguments, environment or directory.
survivors() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/cwd" 2>/dev/null) == "$place/tmp"/* ]] ||
            grep -qsF "TMPDIR=$place/tmp" "$process/environ"; then
            printf '%s ' "${process#/proc/}"
        fi
    done
}

expect_nothing_left() {
    local left attempt
    # A process that has ended stays visible until its parent has taken note.
    for ((attempt = 0; attempt < 50; attempt++)); do
        left=$(survivors)
        [[ -z $left ]] && break
        sleep 0.1
    done
    [[ -z $left ]] || fail "$1 as $user: still running: $left"
    [[ -z $(ls -A "$place/tmp") ]] || fail "$1 as $user: files left: $(ls -A "$place/tmp")"
}

expect_status() {
    [[ $2 -eq $3 ]] || fail "$1 as $user: exit status $2 instead of $3"
}

# Starts a run in the background whose command says when it is there, and waits for that.
# The command also leaves a process that ignores requests to end.
start_run() {
    rm -f "$place/out/started"
    (services bash -c "(trap '' INT TERM; sleep 600) & touch $place/out/started; echo \$\$ \
        >$place/out/pid; sleep 600") >"$place/out/log" 2>&1 &
    run=$!
    local deadline=$((SECONDS + 60))
    until [[ -s $place/out/pid && -e $place/out/started ]]; do
        ((SECONDS < deadline)) || fail "the run did not start: $(cat "$place/out/log")"
        sleep 0.05
    done
}

finish_run() {
    status=0
    wait "$run" 2>/dev/null || status=$?
    rm -f "$place/out/pid"
}

status_of_the_command_is_the_status_of_the_run() {
    local status=0
    (services bash -c 'psql "$PLIKD_TEST_POSTGRES" -qtc "create database proof" && exit 7') ||
        status=$?
    expect_status "a failing command" "$status" 7
    expect_nothing_left "a failing command"
}

ctrl_c_leaves_nothing() {
    start_run
    kill -INT -- "-$run"
    finish_run
    expect_status "Ctrl-C" "$status" 130
    expect_nothing_left "Ctrl-C"
}

sigterm_leaves_nothing() {
    start_run
    # To the script alone, as a supervisor sends it.
    kill -TERM "$run"
    finish_run
    expect_status "SIGTERM" "$status" 143
    expect_nothing_left "SIGTERM"
}

early_sigterm_leaves_nothing() {
    local delay
    for delay in 0.05 0.3 0.6; do
        (services sleep 600) >"$place/out/log" 2>&1 &
        run=$!
        sleep "$delay"
        kill -TERM "$run"
        finish_run
        expect_status "SIGTERM after $delay s" "$status" 143
        expect_nothing_left "SIGTERM after $delay s"
    done
}

killed_command_leaves_nothing() {
    start_run
    kill -KILL "$(<"$place/out/pid")"
    finish_run
    expect_status "a killed command" "$status" 137
    expect_nothing_left "a killed command"
}

two_runs_do_not_meet() {
    local first=0 second=0 ask='psql "$PLIKD_TEST_POSTGRES" -qtc "create database only_once"; sleep 1'
    (services bash -ec "$ask") &
    local other=$!
    (services bash -ec "$ask") || first=$?
    wait "$other" || second=$?
    expect_status "one of two runs" "$first" 0
    expect_status "the other of two runs" "$second" 0
    expect_nothing_left "two runs"
}

place=
trap 'for run in $(jobs -pr); do kill -TERM -- "-$run"; done; wait; rm -rf "$place"' EXIT

for user in "${users[@]}"; do
    prepare "$user"
    for promise in status_of_the_command_is_the_status_of_the_run ctrl_c_leaves_nothing \
        sigterm_leaves_nothing early_sigterm_leaves_nothing killed_command_leaves_nothing \
        two_runs_do_not_meet; do
        "$promise"
        printf 'services_test: %-50s ok (%s)\n' "$promise" "$user"
    done
    rm -rf "$place"
done
