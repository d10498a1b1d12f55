#!/usr/bin/env bash
# disk.sh PROGRAM: runs the program on two ranks while disks and files go bad under the training: full, read-only,
# limited, damaged, cut, changed. Single calls that fail are tested by failure_matrix.sh. The script mounts file systems
# in a namespace of its own, so that no mount can remain. Last line: 'N passed, N failed'.
if [ "${FAULTS_MOUNTS:-}" = "" ]; then
    if unshare -m true 2> /dev/null; then FAULTS_MOUNTS=own exec unshare -m "$BASH" "$0" "$@"; fi
    FAULTS_MOUNTS=none
fi
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# = 1 ] || fail "usage: disk.sh PROGRAM"
steps=12
workplace "$1"

# check NAME FUNCTION...: runs a case without a run folder from an earlier case, and counts it.
check() {
    local name=$1 began=$SECONDS
    shift
    problems=""
    rm -rf run whole.long
    train_words run $steps
    "$@"
    no_strays
    if [ -z "$problems" ]; then
        ok
    else
        wrong "$name$problems"
        tail -n 8 out err
    fi
    echo "$name: $((SECONDS - began)) s"
}
must() { "$@" || problems+="; this must hold but does not: $*"; }
# Without a pipe, since the writer of a pipe that is not read to its end would count as a failure
says() { grep -qF -- "$1" out err || problems+="; does not say '$1'"; }
# ends_with CODE SENTENCES: the exit code, and the number of sentences of the program on stderr
ends_with() {
    [ $code = "$1" ] || problems+="; exit code $code instead of $1"
    [ "$(grep -c '^longlora: ' err)" = "$2" ] || problems+="; $(grep -c '^longlora: ' err) sentences instead of $2"
}
goes_on_to_the_same_end() {
    launch 2 "${words[@]}"
    ends_with 0 0
    compare_runs whole run $steps
}
may_mount() {
    [ $FAULTS_MOUNTS = own ] && return
    echo "skipped: $1 needs the right to mount"
    return 1
}

# start_long: starts, in the background, a training that does not end by itself; $started is its launcher
start_long() {
    train_words run 100000 50
    "${launcher[@]}" -n 2 "$program" "${words[@]}" > out 2> err < /dev/null &
    started=$!
}
# wait_until WORDS: waits at most four minutes until the training prints WORDS
wait_until() {
    local i
    for ((i = 0; i < 12000; i++)); do
        grep -qE -- "$1" out && return
        kill -0 $started 2> /dev/null || break
        sleep 0.02
    done
    problems+="; did not print '$1'"
}
# ends_by_itself: the training must end by itself within four minutes
ends_by_itself() {
    local i
    for ((i = 0; i < 4800; i++)); do
        kill -0 $started 2> /dev/null || break
        sleep 0.05
    done
    if kill -9 $started 2> /dev/null; then problems+="; hangs"; fi
    wait $started
    code=$?
}
# nothing_lost: the newest checkpoint must be of the last step in metrics.jsonl; $last is that step
nothing_lost() {
    last=$(steps_of run | tail -n 1 | number_of step)
    must [ -e "run/checkpoints/$(printf 'step-%08d.h5' "$last")" ]
}
# same_as_undisturbed STEPS: resumes up to STEPS and compares with a run that did all of them at once
same_as_undisturbed() {
    train_words run "$1" 50
    launch 2 "${words[@]}" --allow-change steps
    ends_with 0 0
    train_words whole.long "$1" 50
    launch 2 "${words[@]}"
    compare_runs whole.long run "$1"
}
# flip FILE PLACE: changes one bit
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

full_disk() {
    may_mount full_disk || return
    mkdir run
    mount -t tmpfs -o size=1100k tmpfs run
    launch 2 "${words[@]}"
    ends_with 2 1
    says "the checkpoint of step 9 was not saved"
    says "make room"
    says "resumes from step 6"
    must "$tools/compare_checkpoints" run/checkpoints/step-00000006.h5 run/checkpoints/step-00000006.h5
    must [ -z "$(find run/checkpoints -name '*.partial')" ]
    must [ "$(cat run/checkpoints/latest)" = step-00000006.h5 ]
    mount -o remount,size=8m run
    goes_on_to_the_same_end
    umount run
}

room_again() {
    may_mount room_again || return
    mkdir run
    mount -t tmpfs -o size=2m tmpfs run
    head -c 1700000 /dev/zero > run/somebody_elses.log
    start_long
    wait_until 'step 50 was not saved'
    wait_until 'step 100 was not saved'
    rm run/somebody_elses.log
    wait_until '^checkpoint run/checkpoints'
    kill -USR1 "$(strays | head -n 1)"
    ends_by_itself
    [ $code = 75 ] || problems+="; exit code $code instead of 75"
    nothing_lost
    must [ "$(steps_of run | wc -l)" = "$last" ]
    umount run
}

read_only() {
    may_mount read_only || return
    cp -r half run
    mount --bind run run
    mount -o remount,bind,ro run
    launch 2 "${words[@]}"
    ends_with 2 1
    says "Read-only file system"
    umount run
    must diff -r half run
    goes_on_to_the_same_end
}

# One rank without a launcher, since the limit would apply to the launcher's own files as well. SIGXFSZ would end a
# program that does not ignore it.
size_limit() {
    local launcher=(alone)
    launch 1 "${words[@]}"
    ends_with 0 0
    mv run whole.long
    (ulimit -f 200; launch 1 "${words[@]}"; echo $code > code)
    code=$(cat code)
    ends_with 2 1
    says "the checkpoint of step 3 was not saved"
    says "the checkpoint of step 9 was not saved"
    says "File too large"
    launch 1 "${words[@]}"
    ends_with 0 0
    compare_runs whole.long run $steps
}

damaged_newest() {
    cp -r half run
    flip run/checkpoints/step-00000009.h5 200000
    launch 2 "${words[@]}"
    ends_with 0 0
    says "step-00000009.h5 is damaged"
    says "moved to step-00000009.h5.damaged"
    says "resumes from run/checkpoints/step-00000006.h5 instead"
    must [ -e run/checkpoints/step-00000009.h5.damaged ]
    compare_runs whole run $steps
}

all_damaged() {
    cp -r half run
    rm run/checkpoints/step-0000000[0-6].h5
    flip run/checkpoints/step-00000009.h5 200000
    for _ in 1 2; do   # a requeued job must not start from the beginning either
        launch 2 "${words[@]}"
        ends_with 2 1
        says "step-00000009.h5"
    done
    must [ -e run/checkpoints/step-00000009.h5 ]
}

tokens_changed() {
    start_long
    wait_until '^step 5/'
    flip data.h5 15000
    ends_by_itself
    ends_with 2 1
    says "data.h5, tokens"
    nothing_lost
    flip data.h5 15000
    same_as_undisturbed "$((last + 3))"
}

tokens_cut() {
    cp data.h5 data.whole
    start_long
    wait_until '^step 5/'
    truncate -s 9000 data.h5
    ends_by_itself
    ends_with 2 1
    says "data.h5 is cut short"
    nothing_lost
    cp data.whole data.h5
    same_as_undisturbed "$((last + 3))"
}

weight_changed() {
    cp -r half run
    cp model/model.safetensors model.whole
    flip model/model.safetensors 400000
    launch 2 "${words[@]}"
    ends_with 2 1
    says "model.safetensors"
    grep -qE '^longlora: .*(model\.|lm_head)[a-z0-9_.]*weight' err || problems+="; does not name the tensor"
    cp model.whole model/model.safetensors
    goes_on_to_the_same_end
}

second_job() {
    start_long
    wait_until '^step 5/'
    cp out out.first
    launch_second
    kill -USR1 "$(strays | head -n 1)"
    ends_by_itself
    [ $code = 75 ] || problems+="; the first job ended with code $code instead of 75"
}
launch_second() {
    timeout --kill-after=5 "$limit" "${launcher[@]}" -n 2 "$program" "${words[@]}" \
        > out.second 2> err.second < /dev/null
    local second=$?
    [ $second = 2 ] || problems+="; the second job ended with code $second instead of 2"
    [ "$(grep -c '^longlora: .*in use' err.second)" = 1 ] || problems+="; the second job says $(cat err.second)"
}

train_words whole $steps
launch 2 "${words[@]}"
[ $code = 0 ] || fail "the undisturbed run ended with code $code: $(tail -n 1 out) $(cat err)"
cp -r whole half
rm half/checkpoints/step-00000012.h5
echo step-00000009.h5 > half/checkpoints/latest
for name in full_disk room_again read_only size_limit damaged_newest all_damaged tokens_changed tokens_cut \
    weight_changed second_job; do check $name $name; done
finish
