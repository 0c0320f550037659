#!/usr/bin/env bash
#
# Drives the built program through migrations, and compares every row and every blob of both ends
# with a tool that shares no code with it:
#
#     testing/migrate/run.sh local                  SQLite and local files only, nothing else needed
#     testing/migrate/run.sh services               also PostgreSQL and S3: PLIKD_TEST_POSTGRES,
#                                                   PLIKD_TEST_S3 (see testing/services.sh)
#     testing/migrate/run.sh SCENARIO…              one of the functions `scenario_…` below
#
# PLIKD_TEST_USERS (10) sets the size: 100 files per user. RANDOM_SEED repeats the moments at which
# runs are killed.

set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$project/target}/debug
users=${PLIKD_TEST_USERS:-10}
kills=10
seed=${RANDOM_SEED:-$RANDOM}

readonly LOCAL=(local_to_local dry_run_local halves same_place missing_blobs killed_local)
readonly SERVICES=(there_and_back dry_run_services large_blobs encrypted postgres_to_postgres
    killed_services manual)

work=
databases=()
running=

say() {
    printf 'migrate: %s\n' "$*"
}

fail() {
    printf 'migrate: %s: %s\n' "${scenario:-setup}" "$*" >&2
    [[ ! -s $work/log ]] || { echo "--- the last run said:" && tail -n 40 "$work/log"; } >&2
    exit 1
}

clean_up() {
    [[ -z $running ]] || kill -KILL "$running" 2>/dev/null || true
    local database
    for database in "${databases[@]}"; do
        admin_sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
    done
    [[ -z $work ]] || rm -rf "$work"
}

# --- The program, the oracle and their surroundings -----------------------------------------------

# The program without any setting from this environment.
plikd() {
    env -i PATH="$PATH" HOME="$HOME" ${TZ:+TZ="$TZ"} "$target/plikd" "$@"
}

dump() {
    "$target/examples/dump" "$@" | LC_ALL=C sort
}

admin_sql() {
    psql "$PLIKD_TEST_POSTGRES" --quiet --no-psqlrc --command "$1" >/dev/null 2>&1
}

# migrate FROM TO [OPTION…]: returns the program's status; what it printed is in $work/log.
migrate() {
    local from=$1 to=$2
    shift 2
    plikd --config "$work/$from.cfg" migrate --to "$work/$to.cfg" "$@" >"$work/log" 2>&1 </dev/null
}

migrate_ok() {
    migrate "$@" || fail "migrate $* ended with status $?"
}

# --- Servers: a name, its configuration, and what its backends hold -------------------------------

# A made-up server in SQLite and local files. Options are those of fakedb.
make_source() {
    local name=$1
    shift
    define_local "$name"
    plikd fakedb --output "$work/$name.db" --data "$work/$name.files" "$@" >"$work/log" 2>&1 ||
        fail "fakedb failed"
}

small_server() {
    make_source "$1" --users "$users" --tokens 3 --uploads 10 --files 10 --anon-uploads 10
}

# define_…: the configuration of a server whose backends are not there yet.
define_local() {
    local name=$1
    cat >"$work/$name.cfg" <<CFG
DataBackend = "file"
[DataBackendConfig]
Directory = "$work/$name.files"
[MetadataBackendConfig]
Driver = "sqlite3"
ConnectionString = "$work/$name.db"
CFG
    rows[$name]=$work/$name.db
    blobs[$name]=$work/$name.files
}

# define_services NAME [LINE…]: PostgreSQL and S3; lines are further settings of S3.
define_services() {
    local name=$1
    shift
    local unique=plikd-test-$$-${#databases[@]}-$name
    local database=${unique//-/_} credentials host
    credentials=${PLIKD_TEST_S3#http://}
    host=${credentials#*@}
    credentials=${credentials%@*}
    admin_sql "CREATE DATABASE $database" || fail "cannot create a database"
    databases+=("$database")
    rows[$name]=${PLIKD_TEST_POSTGRES%/*}/$database
    blobs[$name]=$PLIKD_TEST_S3/$unique
    cat >"$work/$name.cfg" <<CFG
DataBackend = "s3"
[DataBackendConfig]
Endpoint = "$host"
AccessKeyID = "${credentials%:*}"
SecretAccessKey = "${credentials#*:}"
Bucket = "$unique"
$(printf '%s\n' "$@")
[MetadataBackendConfig]
Driver = "postgres"
ConnectionString = "${rows[$name]}"
CFG
}

declare -A rows blobs

rows_of() {
    local name=$1
    shift
    dump rows "${rows[$name]}" "$@"
}

blobs_of() {
    local name=$1
    shift
    dump blobs "${blobs[$name]}" "$@"
}

# --- Expectations --------------------------------------------------------------------------------

same() {
    local what=$1
    cmp -s "$2" "$3" && return
    diff "$2" "$3" | head -n 20 >&2 || true
    fail "$what differ"
}

# The contents of two servers: every row of every table, every blob. Options go to `dump rows`.
same_servers() {
    local one=$1 other=$2
    shift 2
    rows_of "$one" "$@" >"$work/rows.one"
    rows_of "$other" "$@" >"$work/rows.other"
    [[ -s $work/rows.one ]] || fail "$one has no rows"
    same "the rows of $one and $other" "$work/rows.one" "$work/rows.other"
    same_blobs "$one" "$other"
}

same_blobs() {
    blobs_of "$1" --keys "${rows[$1]}" >"$work/blobs.one"
    blobs_of "$2" --keys "${rows[$2]}" >"$work/blobs.other"
    [[ -s $work/blobs.one ]] || fail "$1 has no blobs"
    same "the blobs of $1 and $2" "$work/blobs.one" "$work/blobs.other"
}

# Every file and directory of the work place, with size and time of change, but for our own notes.
listing() {
    find "$work" \( -name log -o -name 'rows.*' -o -name 'blobs.*' -o -name 'trace.*' \) -prune \
        -o -path "$work" -o -printf '%p %s %T@ %m\n' | LC_ALL=C sort
}

# The whole of a PostgreSQL database, but for the key that pg_dump makes up each time.
database_text() {
    pg_dump "${rows[$1]}" | grep -v '^\\\(un\)\?restrict ' || fail "pg_dump failed"
}

copied_nothing() {
    grep -Eq '^blobs +0 copied' "$work/log" || fail "the second run copied blobs"
    ! grep -Eq '^[a-z_]+ +[1-9][0-9,]* copied' "$work/log" || fail "the second run copied rows"
    grep -Eq '^files +0 copied, [1-9][0-9,]* present, 0 conflicts, 0 failed' "$work/log" ||
        fail "the second run did not find the rows present"
}

expect_status() {
    local expected=$1 status=0
    shift
    "$@" || status=$?
    [[ $status -eq $expected ]] || fail "$* ended with status $status instead of $expected"
}

# No row of a half-done target promises bytes that are not there.
promises_kept() {
    local name=$1
    rows_of "$name" 2>/dev/null >"$work/rows.half" || return 0 # no database yet
    sed -n 's/^files .*"id":"\([^"]*\)".*"status":"uploaded".*/\1/p' "$work/rows.half" |
        LC_ALL=C sort >"$work/rows.promised"
    [[ -s $work/rows.promised ]] || return 0
    blobs_of "$name" --keys "${rows[$name]}" | cut -d ' ' -f 1 >"$work/blobs.half"
    [[ -z $(LC_ALL=C comm -23 "$work/rows.promised" "$work/blobs.half") ]] ||
        fail "a killed run left rows whose bytes are missing"
}

# --- Scenarios without services ------------------------------------------------------------------

scenario_local_to_local() {
    small_server source
    define_local copy
    listing >"$work/trace.before"
    migrate_ok source copy
    same_servers source copy --times-as-stored
    migrate_ok source copy
    copied_nothing
    same_servers source copy --times-as-stored
    # The source was only read: not even a log of SQLite is beside it.
    listing | grep -v "/copy\." >"$work/trace.after"
    grep -v "/copy\." "$work/trace.before" >"$work/trace.source"
    same "the source before and after" "$work/trace.source" "$work/trace.after"
}

scenario_dry_run_local() {
    small_server source
    define_local copy
    listing >"$work/trace.before"
    migrate_ok source copy --dry-run
    migrate_ok source copy --dry-run -v
    ! grep -qF "$(signature_key source)" "$work/log" || fail "a dry run prints a secret"
    listing >"$work/trace.after"
    same "the files before and after a dry run" "$work/trace.before" "$work/trace.after"
    # Over a target that is there already, it must not touch that either.
    migrate_ok source copy
    listing >"$work/trace.before"
    migrate_ok source copy --dry-run
    listing >"$work/trace.after"
    same "the target before and after a dry run" "$work/trace.before" "$work/trace.after"
}

signature_key() {
    rows_of "$1" | sed -n 's/^settings .*"value":"\([^"]*\)".*/\1/p'
}

scenario_halves() {
    small_server source
    define_local copy
    migrate_ok source copy --data-only
    migrate_ok source copy --metadata-only
    same_servers source copy
    expect_status 2 migrate source copy --data-only --metadata-only
}

scenario_same_place() {
    small_server source
    sed 's|source\.db|./source.db|; s|source\.files|./source.files|' "$work/source.cfg" \
        >"$work/alias.cfg"
    listing >"$work/trace.before"
    expect_status 2 migrate source alias
    listing >"$work/trace.after"
    same "the server before and after being its own target" "$work/trace.before" \
        "$work/trace.after"
}

# Bytes that are missing: of a removed file a warning, of an uploaded one an error.
scenario_missing_blobs() {
    small_server source
    define_local copy
    rm "$work/source.files"/??/"$(file_id removed)"
    migrate_ok source copy
    local uploaded
    uploaded=$(file_id uploaded)
    rm "$work/source.files/${uploaded:0:2}/$uploaded"
    define_local other
    expect_status 1 migrate source other
    expect_status 20 migrate source other --ignore-errors
    grep -q "$uploaded" "$work/log" || fail "the report does not name the file at fault"
}

file_id() {
    rows_of source | sed -n 's/^files .*"id":"\([^"]*\)".*"status":"'"$1"'".*/\1/p' | head -n 1 ||
        true
}

# --- Scenarios with PostgreSQL and S3 ------------------------------------------------------------

scenario_there_and_back() {
    small_server source
    define_services away
    define_local back
    migrate_ok source away
    same_servers source away
    migrate_ok source away
    copied_nothing
    migrate_ok away back
    same_servers away back
    # To the last character: microseconds and the same time zone all along.
    same_servers source back --times-as-stored
}

scenario_dry_run_services() {
    small_server source
    define_services away
    database_text away >"$work/trace.before"
    listing >"$work/trace.files"
    migrate_ok source away --dry-run -v
    database_text away >"$work/trace.after"
    same "the database before and after a dry run" "$work/trace.before" "$work/trace.after"
    listing >"$work/trace.after"
    same "the files before and after a dry run" "$work/trace.files" "$work/trace.after"
    ! blobs_of away 2>"$work/log" || fail "a dry run created the bucket"
    grep -q NoSuchBucket "$work/log" || fail "the bucket cannot be listed"
}

# Blobs of several parts, and of exactly one.
scenario_large_blobs() {
    make_source source --users 1 --uploads 2 --files 8 --anon-uploads 0 --legacy 0 \
        --file-size 5242879..12582912
    define_services away 'PartSize = 5242880' 'Prefix = "a/b"'
    define_local back
    migrate_ok source away
    same_servers source away
    migrate_ok away back
    same_servers source back
}

scenario_encrypted() {
    small_server source
    define_services away 'SSE = "SSE-C"'
    define_services plain
    define_local back
    migrate_ok source away
    # The keys are the one thing that the rows have more than before.
    same_servers source away --without files.backend_details
    ! blobs_of away >/dev/null 2>&1 || fail "encrypted blobs can be read without their keys"
    migrate_ok source away
    copied_nothing
    migrate_ok away plain
    same_servers source plain --without files.backend_details
    migrate_ok away back
    same_servers source back --without files.backend_details
}

scenario_postgres_to_postgres() {
    small_server source
    define_services away
    define_services further
    migrate_ok source away
    migrate_ok away further
    same_servers away further
}

# --- Killed at random moments, and started again -------------------------------------------------

scenario_killed_local() {
    small_server source
    kill_and_resume define_local
}

scenario_killed_services() {
    small_server source
    kill_and_resume define_services
}

# kill_and_resume DEFINE: a run is killed and the same command started, ten times. When a run was
# faster than its end, a new target takes over.
kill_and_resume() {
    local define=$1 killed=0 round=0 started milliseconds duration status
    "$define" whole
    started=${EPOCHREALTIME/./}
    migrate_ok source whole
    duration=$(((${EPOCHREALTIME/./} - started) / 1000))
    "$define" "copy$round"
    while ((killed < kills)); do
        milliseconds=$(((RANDOM * 32768 + RANDOM) % duration))
        env -i PATH="$PATH" HOME="$HOME" ${TZ:+TZ="$TZ"} "$target/plikd" \
            --config "$work/source.cfg" migrate --to "$work/copy$round.cfg" \
            >"$work/log" 2>&1 </dev/null &
        running=$!
        sleep "$((milliseconds / 1000)).$(printf '%03d' $((milliseconds % 1000)))"
        kill -KILL "$running" 2>/dev/null || true
        status=0
        wait "$running" 2>/dev/null || status=$?
        running=
        case $status in
        137)
            killed=$((killed + 1))
            promises_kept "copy$round"
            ;;
        0)
            same_servers source "copy$round"
            round=$((round + 1))
            "$define" "copy$round"
            ;;
        *) fail "after $killed kills (RANDOM_SEED=$seed) the command ended with status $status" ;;
        esac
    done
    migrate_ok source "copy$round"
    same_servers source "copy$round"
    migrate_ok source "copy$round"
    copied_nothing
}

# --- The manual, executed as written --------------------------------------------------------------

# The first block of a language under a heading of the manual's pages about migrations.
block() {
    awk -v heading="## $1" -v fence="\`\`\`$2" '
        /^## / { here = $0 == heading }
        inside && /^```/ { exit }
        inside { print }
        here && $0 == fence { inside = 1 }
    ' "$project"/docs/operations/migration*.md
}

# Puts the services of this test in the place of those that the manual makes up.
with_our_services() {
    local s3=${PLIKD_TEST_S3#http://}
    local credentials=${s3%@*} postgres="host=[^\"]*dbname=plik sslmode=disable"
    sed -e "s|$postgres|${rows[$1]}|" -e "s|127.0.0.1:9000|${s3#*@}|" \
        -e "s|\"access\"|\"${credentials%:*}\"|" -e "s|\"secret\"|\"${credentials#*:}\"|" \
        -e "s|Bucket = \"plik\"|Bucket = \"${blobs[$1]##*/}\"|"
}

# follow HEADING TARGET: does what a section says, in a directory as it describes.
follow() {
    local heading=$1 name=$2 commands settings place=$work/place-$2
    commands=$(block "$heading" sh)
    settings=$(block "$heading" toml | with_our_services "$name")
    [[ -n $commands ]] || fail "the manual has no commands under \`$heading\`"
    mkdir -p "$place"
    cp "$work/source.cfg" "$place/plikd.cfg"
    [[ -z $settings ]] || printf '%s\n' "$settings" >"$place/target.cfg"
    [[ $settings != *'host='* && $settings != *9000* ]] ||
        fail "the manual's settings under \`$heading\` are not those that this test knows"
    (cd "$place" && env -i PATH="$target:$PATH" HOME="$HOME" ${TZ:+TZ="$TZ"} \
        bash -euo pipefail -c "$commands") >"$work/log" 2>&1 </dev/null
}

follow_ok() {
    follow "$@" || fail "following \`$1\` ended with status $?"
}

scenario_manual() {
    small_server source
    define_services rows-only
    follow_ok "From SQLite to PostgreSQL" rows-only
    rows_of source >"$work/rows.one"
    rows_of rows-only >"$work/rows.other"
    same "the rows of source and rows-only" "$work/rows.one" "$work/rows.other"

    define_services blobs-only
    follow_ok "From local files to S3" blobs-only
    blobs_of source >"$work/blobs.one"
    blobs_of blobs-only >"$work/blobs.other"
    same "the blobs of source and blobs-only" "$work/blobs.one" "$work/blobs.other"

    define_services both
    follow_ok "Both at once" both
    same_servers source both

    # A run that is cut off somewhere, and what the manual says to do then.
    define_services resumed
    mkdir "$work/place-resumed"
    block "Both at once" toml | with_our_services resumed >"$work/place-resumed/target.cfg"
    env -i PATH="$PATH" HOME="$HOME" timeout --signal=INT 1 "$target/plikd" \
        --config "$work/source.cfg" migrate --to "$work/place-resumed/target.cfg" \
        >"$work/log" 2>&1 </dev/null || true
    follow_ok "Resuming" resumed
    same_servers source resumed
}

# --- Running them --------------------------------------------------------------------------------

run_scenario() {
    scenario=$1
    declare -F "scenario_$scenario" >/dev/null || fail "there is no such scenario"
    RANDOM=$seed
    work=$(mktemp -d "${TMPDIR:-/tmp}/plikd-migrate.XXXXXX")
    local before=$SECONDS
    "scenario_$scenario"
    rm -rf "$work"
    say "$scenario ok ($((SECONDS - before)) s)"
}

main() {
    [[ $# -gt 0 ]] || set -- services
    local names=() name
    for name in "$@"; do
        case $name in
        local) names+=("${LOCAL[@]}") ;;
        services) names+=("${LOCAL[@]}" "${SERVICES[@]}") ;;
        *) names+=("$name") ;;
        esac
    done
    [[ -x $target/plikd && -x $target/examples/dump ]] ||
        fail "build first: cargo build --bins --examples"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for name in "${names[@]}"; do
        run_scenario "$name"
    done
}

main "$@"
