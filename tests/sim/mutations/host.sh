#!/usr/bin/env bash
# host.sh [--ci | --list | NAME RULE NUMBER] [--only PATTERN] [--areas 'AREA...'] [--tests FOLDER] [--work FOLDER]
# Checks that the tests find errors in launches and other calls of the host. The simulated runtime (SIM_MUTATE) leaves
# out a wait, an event, a copy or a product, or makes one smaller, or launches one block more or less of a kernel. Then
# at least one area of tests that runs this place must fail. The script tries the cheapest area first, each with both
# orders of streams. survivors.txt must explain a mutation that no area catches. run.sh does the same for instructions.
# Which mutations:
#   (none)             every place of the product that calls the runtime, and every rule for launches in each kernel, in
#                      two of the kernel's types; takes an hour
#   --ci               the mutations in host_ci.txt, with the areas that it names
#   --list             runs each area once; prints all mutations
#   NAME RULE NUMBER   this mutation
#   --only PATTERN     of these, the mutations whose line in --list matches PATTERN
#   --areas 'AREA...'  only the tests of these areas
# The last line is 'N passed, N failed'. A mutation passes when the tests catch it or survivors.txt explains it.
source "$(dirname "${BASH_SOURCE[0]}")/../../../jobs/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
here=$root/tests/sim/mutations
cd "$root" || exit
choice=all tests=build/release/tests work=build/mutations_host only=. wanted='' one=()
while [ $# -gt 0 ]; do
    case $1 in
        --ci | --list) choice=${1#--} ;;
        --tests | --work | --only) [ $# -ge 2 ] || fail "$1 needs a value"; declare "${1#--}=$2"; shift ;;
        --areas) [ $# -ge 2 ] || fail "$1 needs a value"; wanted=$2; shift ;;
        -*) fail "unknown option '$1'; see the first lines of host.sh" ;;
        *) choice=one one+=("$1") ;;
    esac
    shift
done
[ -x "$tests/test_kernels_sim" ] && [ -x "$tests/test_mpi_sim" ] ||
    { echo "skipped: $tests/test_kernels_sim or $tests/test_mpi_sim is not built (no nvcc?)"; exit 77; }
rm -rf "$work" && mkdir -p "$work/calls"
export OMP_NUM_THREADS=1

# Areas: NAME RANKS PROGRAM CASES, from the fastest to the slowest.
areas='
device 1 test_kernels_sim arena_and_devices
merge 1 test_kernels_sim merge_attention
attention 1 test_kernels_sim attention/every_small*
attention_bf16 1 test_kernels_sim attention/bfloat16*
pieces 1 test_kernels_sim attention/pieces*
losses 1 test_kernels_sim loss_and_optimizer
edges 1 test_kernels_sim attention_edges
layers 1 test_kernels_sim layer_ops
products 1 test_kernels_sim matmul
stored 1 test_train_sim activation_offload/what*
uploads 1 test_sim uploads
marks 1 test_sim cuda_device
gathers 2 test_mpi_sim zero/open*
updates 2 test_mpi_sim zero/updates*
collectives 2 test_mpi_sim communicator
saves 2 test_mpi_sim checkpoint/training*,loading*
sequences 2 test_mpi_sim sequence_attention/equals_the_whole_in_float32
meshes 2 test_mpi_sim mesh_training/as_one_rank
offload 1 test_train_sim activation_offload/no_bit*
kept 1 test_model_sim sharded_weights/values*
models 1 test_model_sim golden_models*
'
[ "$choice" != ci ] || wanted=$(sed -n 's/^# areas: //p' "$here/host_ci.txt")
[ -z "$wanted" ] || areas=$(awk -v wanted=" $wanted " 'index(wanted, " " $1 " ")' <<< "$areas")

# run_area AREA LOG: succeeds when all tests of the area pass. It has a time limit, since a program without one of its
# waits may hang.
run_area() {
    local ranks program cases code=0 start=()
    read -r ranks program cases <<< "$(awk -v area="$1" '$1 == area { print $2, $3, $4 }' <<< "$areas")"
    [ "$ranks" = 1 ] || start=(mpirun -n "$ranks")
    SIM_NCCL_TIMEOUT=20 timeout 300 "${start[@]}" "$tests/$program" --color_output=no "--run_test=$cases" \
        > "$2" 2>&1 < /dev/null || code=$?
    return $code
}

# Files whose functions only wrap calls of the runtime; a place is named by their callers as well.
wrappers='^(kernels/cuda/blas[.]cpp|src/parallel/(nccl/.*|ordered_communicator[.]cpp|communicator[.](h|cpp)))$'
while read -r area ranks program _; do
    [ -n "$area" ] || continue
    began=$SECONDS
    SIM_CALLS=$work/calls/$area run_area "$area" "$work/$area.log" ||
        { tail -5 "$work/$area.log"; fail "the tests fail without any mutation; see $work/$area.log"; }
    echo "$area $((SECONDS - began)) s" >> "$work/times.txt"
    awk -v area="$area" '{ print area, $1, $2 }' "$work/calls/$area" | sort -u > "$work/places.txt"
    # launches.txt: KERNEL RULE 0 AREA KERNEL, the fields of calls.txt below.
    awk '$3 !~ /@/ { print $3, $2, 0, $1, $3 }' "$work/places.txt" >> "$work/launches.txt"
    awk '$3 ~ /@/ { print $3 }' "$work/places.txt" | tr '@' '\n' | grep -E '^[0-9a-f]+$' | sort -u |
        addr2line -a -i -f -C -e "$tests/$program" > "$work/addresses.txt"
    grep @ "$work/places.txt" | awk -v root="$root" -v wrappers="$wrappers" \
        -f "$here/places.awk" "$work/addresses.txt" - | sort -u >> "$work/calls.txt"
done <<< "$areas"

# all.txt: NAME RULE NUMBER LINES AREA PREFIX. Places with the same name are numbered 0, 1 ... in the order of their
# lines.
sort -k1,1 -k2,2 -k3,3V "$work/calls.txt" | awk '{
    key = $1 " " $2
    if (key != last) number = 0
    else if ($3 != line) ++number
    last = key; line = $3
    print $1, $2, number, $3, $4, $5 }' > "$work/all.txt"
cut -d' ' -f1 "$work/launches.txt" | sort -u > "$work/kernels.txt"
families "$work/kernels.txt" > "$work/families.txt"
awk '{ print $1, $2, 0, $3, $4, $5 }' "$work/launches.txt" >> "$work/all.txt"
[ "$choice" != list ] || { cut -d' ' -f1-5 "$work/all.txt" | sort -u; exit; }

case $choice in
    ci) grep -vE '^ *(#|$)' "$here/host_ci.txt" > "$work/chosen.txt" ;;
    one) [ ${#one[@]} = 3 ] || fail "a mutation is NAME RULE NUMBER"; echo "${one[*]}" > "$work/chosen.txt" ;;
    all) awk 'NR == FNR { family[$2] = $1; next } !($1 in family) { print $1, $2, $3; next }
            {
                key = $1 " " $2; of = family[$1] " " $2
                if (!(of in first) || key < first[of]) first[of] = key
                if (!(of in last) || key > last[of]) last[of] = key
            }
            END { for (of in first) { print first[of], 0; print last[of], 0 } }' \
            "$work/families.txt" "$work/all.txt" | sort -u > "$work/chosen.txt" ;;
esac
grep -E -- "$only" "$work/chosen.txt" > "$work/selected.txt" || fail "no place matches '$only'"

while read -r name rule number _; do
    awk -v k="$name" -v r="$rule" -v n="$number" 'index($1, k) && $2 == r && $3 == n' "$work/all.txt" \
        > "$work/found.txt"
    began=$SECONDS verdict='FAILED: the product has no such place (see host.sh --list)'
    if [ -s "$work/found.txt" ]; then
        name=$(head -1 "$work/found.txt" | cut -d' ' -f1) verdict=''
        for area in $(cut -d' ' -f1 <<< "$areas"); do
            # An area may reach this place along several call paths; SIM_MUTATE gets all of them.
            ways=$(awk -v area="$area" -v k="$name" '$5 == area && $1 == k { print $6 }' "$work/found.txt" | sort -u |
                paste -sd' ')
            [ -n "$ways" ] || continue
            for streams in lazy hurried; do
                # Launches do not depend on the order of streams.
                [ "$streams" = lazy ] || case $name in cuda*) ;; *) continue ;; esac
                export SIM_STREAMS=$streams SIM_MUTATE="$rule $ways"
                if ! run_area "$area" "$work/mutant.log"; then
                    verdict="ok, caught by $area ($streams): $(what_caught "$work/mutant.log")"
                    break 2
                fi
                grep -q 'SIM_MUTATE changed [1-9]' "$work/mutant.log" ||
                    verdict="FAILED: the tests of $area did not run the changed call"
            done
        done
        unset SIM_STREAMS SIM_MUTATE
        reason=$(reason_of "$name" "$rule" "$number")
        if [ -n "$verdict" ]; then :
        elif [ -n "$reason" ]; then verdict="ok, survives: $reason"
        else verdict="FAILED: survives (lines $(head -1 "$work/found.txt" | cut -d' ' -f4))"; fi
    fi
    tell "$name" "$rule" "$number" "$verdict" $((SECONDS - began))
done < "$work/selected.txt"
conclude
