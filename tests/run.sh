#!/usr/bin/env bash
# run.sh [--no-install] [PATTERN]
# Installs the packages (not with --no-install), builds, and runs all tests, or those whose name matches PATTERN. Prints
# one line per test program; the last line is 'N passed, N failed', counted in test cases. The exit code is 0 if none
# failed. The whole output of a program is in build/release/test-logs/NAME.log.
source "$(dirname "${BASH_SOURCE[0]}")/../jobs/common.sh"
cd "$root" || exit
install=yes
if [ "${1:-}" = --no-install ]; then install=no; shift; fi
pattern=${1:-.}

nothing_ran() { printf '%s\n0 passed, 1 failed\n' "$1"; exit 1; }
[ $install = no ] || jobs/install.sh --tests || nothing_ran "the installation failed"
jobs/build.sh release || nothing_ran "the build failed"

build=build/release logs=build/release/test-logs
rm -rf $logs && mkdir -p $logs
export BOOST_TEST_REPORT_LEVEL=short BOOST_TEST_LOG_LEVEL=unit_scope BOOST_TEST_COLOR_OUTPUT=no
passed=0 failed=0 skipped=() broken=()

# count LOG: 'passed failed skipped', summed over the programs that one test starts, or 'none'. A test program prints a
# line 'N passed, N failed, N skipped' for all its ranks (tests/support/main.cpp); a script may leave out the skipped.
count() {
    sed -nE 's/^([0-9]+: )?([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\2 \3 \5/p' "$1" | awk '
        { passed += $1; failed += $2; skipped += $3 }
        END { if (NR) print passed, failed, skipped + 0; else print "none" }'
}

names=$(ctest --test-dir $build -N -R "$pattern" | sed -nE 's/^ *Test +#[0-9]+: //p')
[ -n "$names" ] || nothing_ran "no test matches '$pattern'"
for name in $names; do
    log=$logs/$name.log began=$SECONDS code=0
    ctest --test-dir $build -V --timeout 900 -R "^$name\$" > "$log" 2>&1 || code=1
    read -r good bad unseen <<< "$(count "$log")"
    if grep -qE '\*\*\*Skipped|did not run' "$log" && [ "$good" = none ]; then
        good=0 bad=0 unseen=1
    elif [ "$good" = none ]; then
        good=$((1 - code)) bad=$code unseen=0
    elif [ $code = 1 ] && [ "$bad" = 0 ]; then
        bad=1  # the program crashed, hung, or failed after its test cases
    fi
    state=ok
    [ "$bad" = 0 ] || { state=FAILED; broken+=("$name"); }
    # Test cases that are skipped because they are disabled were not selected for this program; another one runs them.
    while read -r line; do
        skipped+=("$name: ${line#skipped: }")
    done < <(sed -E 's/^[0-9]+: //' "$log" | grep -E '^skipped: |is skipped because' | grep -v 'because disabled' |
        sort -u)
    printf '%-7s %-28s %4d passed %3d failed %3d skipped %5d s\n' \
        $state "$name" "$good" "$bad" "$unseen" $((SECONDS - began))
    if [ $state = FAILED ]; then
        grep -E 'error: |fatal|Error|Timeout|\*\*\*|[Nn]ot found' "$log" | grep -v 'Errors while running CTest' |
            head -15 | sed 's/^/        /' || true
        echo "        whole output: $log"
    fi
    passed=$((passed + good)) failed=$((failed + bad))
done

[ ${#skipped[@]} = 0 ] || printf 'skipped  %s\n' "${skipped[@]}"
[ ${#broken[@]} = 0 ] || echo "failed in: ${broken[*]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
