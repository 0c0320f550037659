#!/usr/bin/env bash
#
# Runs a command with the services the tests need:
#
#     testing/services.sh run -- COMMAND [ARGUMENT…]
#
# starts a PostgreSQL cluster and an S3 server of their own on free ports of 127.0.0.1, exports
#
#     PLIKD_TEST_POSTGRES   URL of the database `postgres`, as superuser of that cluster
#     PLIKD_TEST_S3         http://ACCESSKEY:SECRETKEY@127.0.0.1:PORT
#     PLIKD_TEST_DIRECTORY  an empty directory for COMMAND, which goes with the services
#
# runs COMMAND, stops both and removes their files; also when COMMAND fails or is killed, and when
# this script is interrupted (SIGINT, SIGTERM, SIGHUP). The exit status is COMMAND's, or 128 + the
# number of the signal.
#
# The S3 server is the one that cargo built last, of the profile PLIKD_TEST_PROFILE (debug); or
# Garage, if PLIKD_TEST_GARAGE is the path of its program (2.3 or later).
#
# PostgreSQL is taken from PATH or /usr/lib/postgresql; if it is missing and this user may install
# packages, Debian's `postgresql` is installed, without its default cluster.

set -euo pipefail
# Every job in a process group of its own: Ctrl-C reaches this script alone, which then decides
# the order in which things end, and a job can be ended together with what it started.
set -m

readonly START_ATTEMPTS=20
readonly START_SECONDS=60
readonly STOP_SECONDS=30

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
directory=
command_pid=
postgres_pid=

say() {
    printf 'services: %s\n' "$*" >&2
}

fail() {
    say "$*"
    exit 1
}

usage() {
    fail "usage: testing/services.sh run -- COMMAND [ARGUMENT…]"
}

# --- PostgreSQL ----------------------------------------------------------------------------------

# Prints the directory that holds initdb and postgres, the newest release first.
find_postgresql() {
    local initdb candidate
    if initdb=$(command -v initdb); then
        candidate=$(dirname "$(readlink -f "$initdb")")
        if [[ -x $candidate/postgres ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    fi
    while read -r candidate; do
        if [[ -x $candidate/initdb && -x $candidate/postgres ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse)
    return 1
}

# Runs a command as root, if this user may do so without being asked.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null; }
}

install_postgresql() {
    # Debian's package creates and starts a cluster at once, unless told not to.
    local setting=/etc/postgresql-common/createcluster.d/plikd-tests.conf
    say "installing the PostgreSQL server (apt-get install postgresql)"
    as_root mkdir -p "${setting%/*}"
    as_root sh -c "echo 'create_main_cluster = false' >$setting"
    local status=0
    as_root apt-get update >&2 </dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends postgresql >&2 </dev/null || status=$?
    as_root rm -f "$setting"
    return "$status"
}

require_postgresql() {
    if bin=$(find_postgresql); then
        return
    fi
    if may_install && install_postgresql && bin=$(find_postgresql); then
        return
    fi
    fail "the tests need the PostgreSQL server (initdb and postgres), which was not found in PATH" \
        "or /usr/lib/postgresql; install it as root: apt-get install postgresql"
}

# The user PostgreSQL runs as: it refuses to be root.
postgres_user() {
    if [[ $EUID -ne 0 ]]; then
        id -un
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# Replaces this process, which must be a subshell, by a command of PostgreSQL as its user.
exec_postgres() {
    local user
    user=$(postgres_user)
    cd "$cluster"
    if [[ $EUID -eq 0 ]]; then
        exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
    fi
    exec "$@"
}

random_hex() {
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# A port below those that the kernel hands out to clients.
random_port() {
    echo $((20000 + (RANDOM * 32768 + RANDOM) % 12000))
}

create_cluster() {
    cluster=$directory/postgres
    postgres_password=$(random_hex)
    mkdir -m 0700 "$cluster"
    printf '%s\n' "$postgres_password" >"$cluster/password"
    if [[ $EUID -eq 0 ]]; then
        chown -R "$(postgres_user):" "$cluster"
    fi
    # In the background: a signal interrupts `wait`, but not a command in the foreground.
    (exec_postgres "$bin/initdb" --pgdata="$cluster/data" --username=plikd \
        --pwfile="$cluster/password" --auth=scram-sha-256 --encoding=UTF8 --locale=C \
        --no-instructions) >"$directory/initdb.log" 2>&1 </dev/null &
    wait "$!" || fail "initdb failed:" "$(cat "$directory/initdb.log")"
}

# Waits until the cluster answers; fails if the server ended instead.
await_postgres() {
    local deadline=$((SECONDS + START_SECONDS))
    # Asking the port would be asking whoever listens there; this file is the cluster's own.
    until grep -qs '^ready' "$cluster/data/postmaster.pid"; do
        is_running "$postgres_pid" || return 1
        ((SECONDS < deadline)) ||
            fail "PostgreSQL did not start in $START_SECONDS s:" "$(cat "$directory/postgres.log")"
        sleep 0.1
    done
}

start_postgres() {
    local port attempt
    require_postgresql
    create_cluster
    for ((attempt = 0; attempt < START_ATTEMPTS; attempt++)); do
        port=$(random_port)
        (exec_postgres "$bin/postgres" -D "$cluster/data" -p "$port" -h 127.0.0.1 \
            -c unix_socket_directories= -c max_connections=200) \
            >"$directory/postgres.log" 2>&1 </dev/null &
        postgres_pid=$!
        if await_postgres; then
            export PLIKD_TEST_POSTGRES="postgres://plikd:$postgres_password@127.0.0.1:$port/postgres"
            # psql and pg_dump of the same release, whatever else is installed.
            export PATH="$bin:$PATH"
            return
        fi
        grep -q 'could not bind\|could not create any TCP/IP sockets' "$directory/postgres.log" ||
            break
    done
    fail "PostgreSQL did not start:" "$(cat "$directory/postgres.log")"
}

# --- S3 ------------------------------------------------------------------------------------------

start_s3() {
    local profile=${PLIKD_TEST_PROFILE:-debug}
    local program=${CARGO_TARGET_DIR:-$project/target}/$profile/examples/s3-server
    local ready=$directory/s3.ready access secret pid url
    [[ -x $program ]] ||
        fail "$program is not there; build it first: cargo build --example s3-server" \
            "(with --release if PLIKD_TEST_PROFILE is release)"
    access=plikd$(random_hex)
    secret=$(random_hex)
    mkdir "$directory/s3"
    "$program" --root "$directory/s3" --access-key "$access" --secret-key "$secret" \
        --ready-file "$ready" >"$directory/s3.log" 2>&1 </dev/null &
    pid=$!
    local deadline=$((SECONDS + START_SECONDS))
    until [[ -s $ready ]]; do
        is_running "$pid" || fail "the S3 server did not start:" "$(cat "$directory/s3.log")"
        ((SECONDS < deadline)) || fail "the S3 server did not start in $START_SECONDS s"
        sleep 0.1
    done
    url=$(<"$ready")
    export PLIKD_TEST_S3="http://$access:$secret@${url##*[/@]}"
}

# One node of its own, which keeps nothing twice.
start_garage() {
    local attempt port access secret
    access=plikd$(random_hex)
    secret=$(random_hex)
    mkdir "$directory/garage"
    for ((attempt = 0; attempt < START_ATTEMPTS; attempt++)); do
        port=$(random_port)
        cat >"$directory/garage.toml" <<END
metadata_dir = "$directory/garage/metadata"
data_dir = "$directory/garage/data"
replication_factor = 1
rpc_secret = "$(random_hex)$(random_hex)"
rpc_bind_addr = "127.0.0.1:$(random_port)"

[s3_api]
api_bind_addr = "127.0.0.1:$port"
s3_region = "us-east-1"
END
        GARAGE_DEFAULT_ACCESS_KEY=$access GARAGE_DEFAULT_SECRET_KEY=$secret \
            "$PLIKD_TEST_GARAGE" -c "$directory/garage.toml" server --single-node \
            --default-access-key >"$directory/garage.log" 2>&1 </dev/null &
        if await_garage "$!" "$port"; then
            export PLIKD_TEST_S3="http://$access:$secret@127.0.0.1:$port"
            return
        fi
    done
    fail "Garage did not start:" "$(cat "$directory/garage.log")"
}

# Waits until it listens; fails if it ended instead.
await_garage() {
    local pid=$1 port=$2 deadline=$((SECONDS + START_SECONDS))
    until is_running "$pid" && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        is_running "$pid" || return 1
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# --- Starting and ending jobs --------------------------------------------------------------------

# Whether that job of this script still runs. Asking the job table, not the kernel, cannot be
# answered by a stranger who was given the same number.
# (A plain `return` in a trap answers with the status from before the trap.)
is_running() {
    local pid
    for pid in $(jobs -pr); do
        [[ $pid == "$1" ]] && return 0
    done
    return 1
}

# Ends a job and what it started: asks with a signal, insists after a while.
end_job() {
    local pid=$1 signal=$2
    local deadline=$((SECONDS + STOP_SECONDS))
    is_running "$pid" || return 0
    kill -s "$signal" -- "-$pid" 2>/dev/null || true
    while is_running "$pid"; do
        if ((SECONDS >= deadline)); then
            kill -s KILL -- "-$pid" 2>/dev/null || true
            break
        fi
        sleep 0.05
    done
    wait "$pid" 2>/dev/null || true
}

# Ends COMMAND with `signal`, then whatever it left in its process group, then the services.
end_everything() {
    local signal=$1 pid
    trap '' INT TERM HUP
    if [[ -n $command_pid ]]; then
        end_job "$command_pid" "$signal"
        kill -s KILL -- "-$command_pid" 2>/dev/null || true
    fi
    for pid in $(jobs -pr); do
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        if [[ $pid == "$postgres_pid" ]]; then
            end_job "$pid" INT
        else
            end_job "$pid" TERM
        fi
    done
    [[ -z $directory ]] || rm -rf "$directory"
}

interrupted() {
    signal=$1
    exit $((128 + $2))
}

main() {
    [[ $# -ge 3 && $1 == run && $2 == -- ]] || usage
    shift 2
    signal=TERM
    trap 'end_everything "$signal"' EXIT
    trap 'interrupted HUP 1' HUP
    trap 'interrupted INT 2' INT
    trap 'interrupted TERM 15' TERM

    # Named before it is made, so that a signal at any moment finds what there is to remove; the
    # name is too random to be anybody else's. PostgreSQL's user must reach its directory inside.
    directory=${TMPDIR:-/tmp}/plikd-services.$(random_hex)
    mkdir -m 0711 "$directory"
    start_postgres
    if [[ -n ${PLIKD_TEST_GARAGE:-} ]]; then
        start_garage
    else
        start_s3
    fi
    mkdir "$directory/command"
    export PLIKD_TEST_DIRECTORY=$directory/command

    local status=0
    "$@" </dev/null &
    command_pid=$!
    wait "$command_pid" || status=$?
    exit "$status"
}

main "$@"
