#!/usr/bin/env bash
# install.sh (test): the decisions of jobs/install.sh, with programs of our own in place of dpkg-query, apt-get, id and
# sudo. Nothing is installed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
for tool in bash env cat awk printf mktemp rm tail; do ln -s "$(command -v $tool)" "$scratch/$tool"; done
program() { printf '#!/bin/bash\n%s\n' "$2" > "$scratch/$1"; chmod +x "$scratch/$1"; }
# program NAME COMMANDS: makes a program that runs COMMANDS.
# expect CODE WORDS ARGUMENTS...: jobs/install.sh ARGUMENTS must end with exit code CODE and print WORDS.
expect() {
    local output code=0
    output=$(PATH=$scratch "$scratch/bash" jobs/install.sh "${@:3}" 2>&1) || code=$?
    if [ $code != "$1" ] || ! grep -qF -- "$2" <<< "$output"; then
        printf 'error: install.sh %s: exit code %d instead of %d, or no "%s" in:\n%s\n' \
            "${*:3}" $code "$1" "$2" "$output"
        failures=$((failures + 1))
    fi
}

expect 2 "this is not Debian"
program dpkg-query 'echo installed'
program apt-get 'echo "$@" >> '"$scratch"'/apt.log'
expect 0 "everything is installed"
if [ -e "$scratch/apt.log" ]; then
    echo "error: apt-get was called although no package was missing"
    failures=$((failures + 1))
fi
expect 2 "unknown option '--what'" --what

program dpkg-query 'case $4 in slurmd) ;; *) echo installed ;; esac'
expect 0 "everything is installed" --check
expect 1 "missing: slurmd" --tests --check
program dpkg-query 'case $4 in cmake | libdnnl-dev) ;; zlib1g-dev) echo config-files ;; *) echo installed ;; esac'
expect 1 "missing: libdnnl-dev" --check
program id 'echo 1000'
expect 2 "installing needs root or sudo; ask an administrator for: apt-get install cmake libdnnl-dev zlib1g-dev"
program sudo 'echo sudo >> '"$scratch"'/apt.log; exec "$@"'
expect 0 "installing 3 packages"
if ! grep -qx "install -y --no-install-recommends cmake libdnnl-dev zlib1g-dev" "$scratch/apt.log"; then
    echo "error: apt-get was not called with the missing packages"
    failures=$((failures + 1))
fi
grep -qx sudo "$scratch/apt.log" || { echo "error: sudo was not used"; failures=$((failures + 1)); }
program apt-get 'echo "E: no network"; exit 100'
expect 2 "E: no network" --quiet
[ $failures = 0 ]
