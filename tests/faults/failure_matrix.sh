#!/usr/bin/env bash
# failure_matrix.sh PROGRAM [--only PATTERN] [LAUNCHER...]: lets each single rank fail at each point of points.txt.
# Each time all ranks must leave in bounded time with the right exit code and one sentence, no incomplete file may
# have a final name, and no process may be left. Then the same command must resume and end with the bits of an
# undisturbed run. '-n RANKS PROGRAM ...' is appended to LAUNCHER (mpirun if absent). Last line: 'N passed, N failed'.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
points=$root/tests/faults/points.txt
num_workers=4 steps=12
[ $# -ge 1 ] || fail "usage: failure_matrix.sh PROGRAM [--only PATTERN] [LAUNCHER...]"
program_given=$1 pattern=.
shift
if [ "${1:-}" = --only ]; then pattern=$2; shift 2; fi
workplace "$program_given" "$@"

# words_for RANKS PHASE: sets $words to the training of a case, with the run folder `run`, and $whole to the folder of
# the undisturbed run
words_for() {
    train_words run $steps
    whole=../whole.$1
    [ "$1" = 2 ] || words+=(--pipeline 2 --sequence 2 --zero 3)
    [ "$2" != wide ] || { words+=(--lora-rank 256); whole=../wide.$1; }
}

# prepare_runs: makes the undisturbed runs whole.RANKS and wide.RANKS, and half.RANKS, which is the run as a kill after
# step 9 leaves it
prepare_runs() {
    local ranks phase
    for ranks in 2 4; do
        for phase in wide new; do
            words_for $ranks $phase
            launch $ranks "${words[@]}"
            [ $code = 0 ] || fail "the undisturbed run ended with code $code: $(tail -n 1 out) $(cat err)"
            mv run "${whole#../}"
        done
        cp -r whole.$ranks half.$ranks
        rm half.$ranks/checkpoints/step-00000012.h5
        echo step-00000009.h5 > half.$ranks/checkpoints/latest
    done
}

# check_code WANTED: checks the exit code and the sentences of the last launch
check_code() {
    local sentences
    sentences=$(grep -c '^longlora: ' err)
    [ $code != 124 ] || problems+="; hangs: ended after $limit s"
    case $1 in
        0)
            [ $code = 0 ] || problems+="; exit code $code instead of 0"
            [ "$sentences" = 0 ] || problems+="; prints an error although training continues"
            ;;
        killed)
            [ $code != 0 ] || problems+="; exit code 0 although a rank was killed"
            [ "$sentences" -le 1 ] || problems+="; $sentences sentences"
            ;;
        lost)
            grep -q "\"exit_code\":5.*rank $rank" run/status.json ||
                problems+="; status.json does not name rank $rank as the stuck one: $(cat run/status.json)"
            [ $code != 0 ] || problems+="; exit code 0 although a rank is stuck"
            [ "$sentences" -le 1 ] || problems+="; $sentences sentences"
            ;;
        *)
            [ $code = "$1" ] || problems+="; exit code $code instead of $1"
            [ "$sentences" = 1 ] || problems+="; $sentences sentences instead of one"
            ;;
    esac
    grep -qE 'Segmentation|core dumped|terminate called|glibc|double free' err && [ "$1" != killed ] &&
        problems+="; crashes"
}

# check_files: checks that every file with a final name is complete
check_files() {
    local file said
    for file in run/checkpoints/step-*.h5; do
        [ -e "$file" ] || continue
        said=$("$tools/compare_checkpoints" "$file" "$file" 2>&1) || problems+="; an incomplete file: $said"
    done
    for file in run/manifest.json run/status.json; do
        [ ! -e "$file" ] || [ "$(tail -c 2 "$file")" = '}' ] || problems+="; $file is incomplete"
    done
}

# one_case NAME PHASE RANKS RANK CODE FAULT SAYS
one_case() {
    local name=$1 phase=$2 ranks=$3 rank=$4 wanted=$5 fault=$6 says=$7 began=$EPOCHREALTIME
    problems=""
    rm -rf run fault.log
    [ "$phase" != resumed ] || cp -r "../half.$ranks" run
    words_for "$ranks" "$phase"
    export FAULT="rank=$rank,${fault/mid,/when=run/checkpoints/step-00000003.h5,}" FAULT_LOG=$PWD/fault.log
    export LD_PRELOAD=$tools/libinject.so
    launch "$ranks" "${words[@]}"
    unset FAULT FAULT_LOG LD_PRELOAD
    cat out err > said
    [ -s fault.log ] || problems+="; the fault never struck"
    check_code "$wanted"
    [ "$says" = - ] || grep -qF -- "$says" said || problems+="; does not say '$says'"
    no_strays
    check_files
    [ "$wanted" != 2 ] || [ -z "$(find run -name '*.partial' 2> /dev/null)" ] ||
        problems+="; leaves $(find run -name '*.partial')"
    words_for "$ranks" "$phase"
    launch "$ranks" "${words[@]}"
    [ $code = 0 ] || problems+="; does not resume afterwards: code $code, $(grep '^longlora: ' err | head -1)"
    [ -z "$problems" ] || tail -n 30 said > first
    compare_runs "$whole" run $steps
    [ -z "$(find run -name '*.damaged' -o -name '*.partial')" ] ||
        problems+="; leaves $(find run -name '*.damaged' -o -name '*.partial')"
    if [ -z "$problems" ]; then
        ok
    else
        wrong "$name on rank $rank of $ranks$problems"
        sed 's/^/    | /' first
    fi
    printf '%s rank %s of %s: %.1f s\n' "$name" "$rank" "$ranks" "$(awk "BEGIN { print $EPOCHREALTIME - $began }")" \
        >> seconds
}

# worker W: runs every num_workers-th case in a folder of its own
worker() {
    local index=0 rank last name phase ranks who wanted fault says
    trap - EXIT
    mkdir "worker.$1" && cd "worker.$1" || exit
    ln -s ../model ../data.h5 .
    while read -r name phase ranks who wanted fault says; do
        rank=$who last=$who
        [ "$who" != each ] || rank=0 last=$((ranks - 1))
        for (( ; rank <= last; rank++)); do
            [ $((index++ % num_workers)) != "$1" ] ||
                one_case "$name" "$phase" "$ranks" "$rank" "$wanted" "$fault" "$says"
        done
    done < <(grep -vE '^#|^ *$' "$points" | grep -E "$pattern")
    echo "$passed $failed" > result
}

prepare_runs
for ((w = 0; w < num_workers; w++)); do worker $w > "log.$w" 2>&1 & done
wait
for ((w = 0; w < num_workers; w++)); do
    cat "log.$w"
    read -r good bad < "worker.$w/result" || { echo "error: worker $w ended early"; bad=1 good=0; }
    passed=$((passed + good)) failed=$((failed + bad))
done
cat worker.*/seconds | sort -t: -k2 -rn | head -3 | sed 's/^/slowest: /'
finish
