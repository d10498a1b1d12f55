# common.sh: functions that run.sh and host.sh share: readable names, the reasons in survivors.txt, the count of
# results. Both scripts source it after jobs/common.sh.
# shellcheck shell=bash
passed=0 failed=0 caught=0

# readable NAME: prints a mangled name as C++ without namespaces and arguments; prints other names as they are.
readable() { c++filt "$1" | sed -E 's/\(anonymous namespace\)::|longlora::cuda:://g; s/^void //; s/\(.*//'; }

# families FILE: prints 'FAMILY NAME' for every mangled name in FILE. A family is a kernel in all its types and widths.
families() {
    c++filt < "$1" | sed -E 's/\(anonymous namespace\)::|longlora::cuda:://g; s/^void //
        s/elementwise_kernel<([A-Za-z_]+).*/\1/; s/[<(].*//' | paste -d ' ' - "$1"
}

# reason_of NAME RULE PLACE: prints the reason in survivors.txt why this mutation survives, or nothing if there is none.
reason_of() {
    awk -F ' # ' -v k="$1" -v r="$2" -v n="$3" '{
        split($1, part, " ")
        if (index(k, part[1]) && r == part[2] && (part[3] == n || part[3] == "*")) { print $2; exit } }' \
        "$(dirname "${BASH_SOURCE[0]}")/survivors.txt"
}

# what_caught LOG: prints the first line of LOG that says why a test failed.
what_caught() {
    grep -hE 'simulated device|error:|Timeout|exception' "$1" | grep -v 'SIM_MUTATE changed' | head -1 | cut -c1-200 ||
        true
}

# tell NAME RULE NUMBER VERDICT SECONDS: counts a mutation and prints it. VERDICT begins with 'ok' or 'FAILED'.
tell() {
    case $4 in ok*) passed=$((passed + 1)) ;; *) failed=$((failed + 1)) ;; esac
    case $4 in 'ok, caught'*) caught=$((caught + 1)) ;; esac
    printf '%s %s %s: %s [%d s]\n' "$(readable "$1")" "$2" "$3" "$4" "$5"
}

# conclude: prints the last two lines of the output; fails when a mutation failed.
conclude() {
    echo "$caught caught"
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}
