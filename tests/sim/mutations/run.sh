#!/usr/bin/env bash
# run.sh [--ci | --list | --survivors | KERNEL RULE NUMBER] [--only PATTERN] [--tests FOLDER] [--work FOLDER]
# Checks that the tests of the kernels find errors. It changes one instruction of one kernel at a time (mutate.cpp has
# the rules) and runs the tests of that kernel's operation on the simulated device with the changed PTX. The tests must
# fail. A mutation that the tests do not catch survives; survivors.txt must then say why it changes no result.
# host.sh does the same for launches and other calls of the host.
# Which mutations:
#   (none)               one place for every rule in every kernel, in two of the kernel's types; takes half an hour
#   --ci                 the mutations in ci.txt
#   --list               runs nothing; prints all mutations
#   --survivors          the mutations that survivors.txt excuses; fails for a reason that is not needed any more
#   KERNEL RULE NUMBER   this mutation
#   --only PATTERN       of these, the mutations whose kernel's name matches PATTERN
# The last line is 'N passed, N failed'. A mutation passes when the tests catch it or survivors.txt explains it.
source "$(dirname "${BASH_SOURCE[0]}")/../../../jobs/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
here=$root/tests/sim/mutations
cd "$root" || exit
choice=all tests=build/release/tests work=build/mutations only=. one=()
while [ $# -gt 0 ]; do
    case $1 in
        --ci | --list | --survivors) choice=${1#--} ;;
        --tests | --work | --only) [ $# -ge 2 ] || fail "$1 needs a value"; declare "${1#--}=$2"; shift ;;
        -*) fail "unknown option '$1'; see the first lines of run.sh" ;;
        *) choice=one one+=("$1") ;;
    esac
    shift
done
program=$tests/test_kernels_sim mutate=$tests/mutate
if [ ! -x "$program" ] || [ ! -x "$mutate" ]; then
    echo "skipped: $program and $mutate are not built (no nvcc?)"
    exit 77
fi
rm -rf "$work" && mkdir -p "$work/ptx"

# cases_of KERNEL: prints the test cases that run this kernel, by a part of its name.
cases_of() {
    local bfloat16='attention/bfloat16*:attention/tiles*:attention/kinds*:attention/every_small*:attention/pieces*'
    case $1 in
        *attention*float*) echo 'attention/every_small*:attention/tiles*:attention/kinds*:attention_edges' ;;
        *merge_attention* | *Merge*) echo 'merge_attention' ;;
        *attention*) echo "$bfloat16:attention_edges" ;;
        *embedding* | *rms* | *rotary* | *swiglu*) echo 'layer_ops' ;;
        *cross_entropy* | *sum_squares* | *clip* | *adamw* | *losses* | *fill*) echo 'loss_and_optimizer' ;;
        *) echo 'loss_and_optimizer:matmul:layer_ops' ;;
    esac
}

# run_tests CASES PTX LOG: succeeds when all tests pass. It has a time limit, since a mutated loop may never end.
run_tests() {
    local selected=() code=0
    IFS=: read -ra names <<< "$1"
    for name in "${names[@]}"; do selected+=("--run_test=$name"); done
    SIM_PTX=$2 timeout 300 "$program" --color_output=no "${selected[@]}" > "$3" 2>&1 || code=$?
    return $code
}

SIM_DUMP_PTX=$work/ptx "$program" \
    --run_test='layer_ops:loss_and_optimizer:merge_attention:matmul:attention/bfloat16*:attention/every_small*' \
    > "$work/unchanged.log" 2>&1 ||
    { tail -5 "$work/unchanged.log"; fail "the tests fail without any mutation; see $work/unchanged.log"; }
for file in "$work"/ptx/*.ptx; do "$mutate" list "$file" | sed "s#^#$(basename "$file") #"; done > "$work/all.txt"
[ "$choice" != list ] || { cat "$work/all.txt"; exit; }

case $choice in
    ci) grep -vE '^ *(#|$)' "$here/ci.txt" > "$work/chosen.txt" ;;
    one) [ ${#one[@]} = 3 ] || fail "a mutation is KERNEL RULE NUMBER"; echo "${one[*]}" > "$work/chosen.txt" ;;
    all) awk '{ print $2 }' "$work/all.txt" | sort -u > "$work/kernels.txt"
        # The first and the last kernel of each family; for each rule the place in the middle of the kernel.
        families "$work/kernels.txt" > "$work/families.txt"
        awk 'NR == FNR { family[$2] = $1; next }
            {
                key = $2 " " $3; n[key] = $4; of = family[$2] " " $3
                if (!(of in first)) first[of] = key
                last[of] = key
            }
            END {
                for (of in first) {
                    print first[of], int(n[first[of]] / 2)
                    if (last[of] != first[of]) print last[of], int(n[last[of]] / 2)
                }
            }' "$work/families.txt" "$work/all.txt" | sort > "$work/chosen.txt" ;;
    survivors)
        # For each entry of survivors.txt, all places that it excuses and the entry's number. One place has to survive.
        grep -vE '^ *(#|$)' "$here/survivors.txt" |
            awk -F ' # ' '{ split($1, part, " "); if (part[3] !~ /^[0-9*]+$/) print part[1], part[2], part[3] }' \
            > "$work/entries.txt"
        awk 'NR == FNR { part[NR] = $1; rule[NR] = $2; place[NR] = $3; n = NR; next }
            {
                for (i = 1; i <= n; ++i)
                    if (index($2, part[i]) && $3 == rule[i] && $6 == place[i]) { print $2, $3, $4, i; found[i] = 1 }
            }
            END { for (i = 1; i <= n; ++i) if (!found[i]) print part[i], rule[i], place[i], i }' \
            "$work/entries.txt" "$work/all.txt" | sort -s -k4,4n > "$work/chosen.txt" ;;
esac
grep -E -- "$only" "$work/chosen.txt" > "$work/selected.txt" || fail "no kernel's name matches '$only'"

kept=0 needed=none
echo "$needed" > "$work/needed.txt"
while read -r kernel rule number entry; do
    [ "$entry" != "$needed" ] || continue
    read -r place kernel source <<< "$(awk -v k="$kernel" -v r="$rule" -v n="$number" '
        index($2, k) && $3 == r && $4 == n { print $1, $2, $6; found = 1; exit }
        END { if (!found) print "-", k }' "$work/all.txt")"
    began=$SECONDS verdict=''
    if [ "$place" = - ]; then
        verdict='FAILED: no kernel has this place (see run.sh --list)'
    elif ! what=$("$mutate" apply "$work/ptx/$place" "$kernel" "$rule" "$number" 2>&1 > "$work/mutant.ptx"); then
        verdict="FAILED: $what"
    elif run_tests "$(cases_of "$kernel")" "$work/mutant.ptx" "$work/mutant.log"; then
        ! grep -q 'SIM_PTX' "$work/mutant.log" || verdict="FAILED: $(grep -h SIM_PTX "$work/mutant.log" | head -1)"
        reason=$(reason_of "$kernel" "$rule" "$source")
        if [ -n "$verdict" ]; then :
        elif [ -n "$reason" ]; then verdict="ok, survives: $reason"
        else
            verdict="FAILED: survives at $source ($what)"
            cp "$work/mutant.ptx" "$work/survivor-$((kept += 1)).ptx"
        fi
    else
        verdict="ok, caught: $(what_caught "$work/mutant.log")"
    fi
    tell "$kernel" "$rule" "$number" "$verdict" $((SECONDS - began))
    if [ "$choice" = survivors ] && [[ $verdict == 'ok, survives'* ]]; then
        needed=$entry
        echo "$entry" >> "$work/needed.txt"
    fi
done < "$work/selected.txt"
if [ "$choice" = survivors ]; then
    while read -r entry; do
        tell "$(sed -n "${entry}p" "$work/entries.txt")" '' '' 'FAILED: the tests catch it now; delete its entry' 0
    done < <(awk 'NR == FNR { needed[$1] = 1; next } !($4 in needed) { print $4 }' \
        "$work/needed.txt" "$work/selected.txt" | sort -un)
fi
conclude
