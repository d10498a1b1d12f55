#!/usr/bin/env bash
# shell.sh: every shell script of the project is valid, is executable (except those named common.sh, which are sourced),
# and passes shellcheck where it is installed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
failures=0
while read -r file; do
    bash -n "$file" || failures=$((failures + 1))
    if [ ! -x "$file" ] && [ "$(basename "$file")" != common.sh ]; then
        echo "error: $file is not executable"
        failures=$((failures + 1))
    fi
    if command -v shellcheck > /dev/null; then shellcheck -x -S warning "$file" || failures=$((failures + 1)); fi
done < <(find . -path ./build -prune -o -path ./.git -prune -o \
    -type f \( -name "*.sh" -o -name "*.sbatch" -o -path "./.ci/*" \) -print)
command -v shellcheck > /dev/null || echo "skipped: shellcheck (not installed)"
[ $failures = 0 ]
