# common.sh: what the fault tests share; to be sourced: a workplace with a tiny model and data, launching the program with a limit of time, comparing
# runs, and leaving nothing behind. Not a test.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/../../jobs/common.sh"
set +e         # a test looks at exit codes itself
ulimit -c 0   # processes are killed on purpose

passed=0 failed=0
ok() { passed=$((passed + 1)); }
wrong() { failed=$((failed + 1)); printf 'error: %s\n' "$1"; }
finish() { echo "$passed passed, $failed failed"; [ $failed = 0 ] || exit 1; exit 0; }

# workplace PROGRAM [LAUNCHER...]: enters a new folder with model/ and data.h5; the launcher gets '-n RANKS program arguments' appended.
workplace() {
    program=$(realpath "$1")
    shift
    tools=$(dirname "$program")/tests
    launcher=("$@")
    [ $# -gt 0 ] || launcher=(mpirun --allow-run-as-root --oversubscribe --bind-to none -q)
    for tool in "$program" "$tools/compare_checkpoints" "$tools/libinject.so"; do [ -e "$tool" ] || fail "there is no $tool; build first"; done
    work=$(mktemp -d "${TMPDIR:-/tmp}/longlora-faults-XXXXXX")
    trap leave EXIT
    trap 'exit 1' INT TERM HUP
    # Every process started from here carries this in its environment, so that none can be left unseen.
    export LONGLORA_FAULTS=$work OMP_NUM_THREADS=1
    # One machine: no networks to look for, and survivors of a killed rank are ended at once instead of after a second.
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=${OMPI_MCA_btl:-self,vader} OMPI_MCA_odls_base_sigkill_timeout=0
    cd "$work" || exit
    mkdir model
    cp "$root"/tests/golden/mha/{config.json,model.safetensors} model/
    make_tokens | split -l 10 --additional-suffix=.jsonl - text-
    "$program" prepare data.h5 text-*.jsonl --vocabulary 256 > prepare.log 2>&1 || fail "cannot prepare the data: $(cat prepare.log)"
}

# 40 documents of 300 tokens that a model can learn something of.
make_tokens() {
    awk 'BEGIN { for (d = 0; d < 40; d++) {
        line = "{\"tokens\": ["
        for (t = 0; t < 300; t++) line = line (t ? ", " : "") (7 * t + 13 * d + (t * t * 31 + d * 17) % 5) % 250
        print line "]}" } }'
}

# Process ids of what was started from here and still lives, longlora only.
strays() {
    local name
    for name in $(grep -lx longlora /proc/[0-9]*/comm 2> /dev/null); do
        name=${name%/comm}
        grep -qzxF "LONGLORA_FAULTS=$work" "$name/environ" 2> /dev/null && echo "${name#/proc/}"
    done
}

leave() {
    local pid
    for pid in $(strays); do kill -9 "$pid" 2> /dev/null; done
    cd / && rm -rf "$work"
}

# train_words RUN STEPS [EVERY [BATCH]]: the words of the training that is disturbed, in words; twelve steps take about a second
# shellcheck disable=SC2034  # for the caller
train_words() {
    words=(train --model model --data data.h5 --run "$1" --steps "$2" --context 64 --global-batch "${4:-4}" --lr 1e-3 --warmup 2 --dtype float32 --checkpoint-every "${3:-3}" --timeout 10)
}

limit=240   # seconds; generous, since ranks that share cores with others exchange slowly
# launch RANKS WORDS...: output in out and err, exit code in code; 124 when it took longer than $limit seconds. The launcher `alone` is none, for one rank.
launch() {
    local ranks=$1
    shift
    if [ "${launcher[0]}" = alone ]; then
        OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_btl=self "$program" "$@" > out 2> err < /dev/null &
    else
        "${launcher[@]}" -n "$ranks" "$program" "$@" > out 2> err < /dev/null &
    fi
    await_launcher $!
}

# await_launcher PID: its exit code in code, 124 when it had to be ended after $limit seconds. Open MPI 4.1.4's mpirun itself may hang in its own end (a deadlock in PMIx_server_finalize,
# seen 3 times in some 700 kills) when its ranks are gone: that is not the program's, so it is ended when it has had no rank for 15 s.
# shellcheck disable=SC2034  # for the caller
await_launcher() {
    local i alone=0 late=''
    for ((i = 1; ; i++)); do
        kill -0 "$1" 2> /dev/null || break
        [ $i -lt $((limit * 20)) ] || { late=yes; kill -9 "$1"; break; }
        if [ $((i % 20)) = 0 ] && [ "${launcher[0]}" = mpirun ]; then
            if [ -n "$(strays)" ]; then alone=0; else alone=$((alone + 1)); fi
            [ $alone -lt 15 ] || { echo "mpirun hangs after the end of its ranks" >> out; kill -9 "$1"; break; }
        fi
        sleep 0.05
    done
    wait "$1" 2> /dev/null
    code=$?
    [ -z "$late" ] || code=124
}

# no_strays WHAT: a launcher may end a moment before its last rank; after 15 s what is left is ended and counted as wrong
no_strays() {
    local pids i
    for ((i = 0; i < 300; i++)); do
        pids=$(strays)
        [ -n "$pids" ] || return 0
        sleep 0.05
    done
    # shellcheck disable=SC2086  # a list of numbers
    kill -9 $pids 2> /dev/null
    problems+="; processes are left: $pids"
}

# Lines of steps without what depends on the clock.
steps_of() { grep '"loss"' "$1/metrics.jsonl" | sed -E 's/"(seconds|tokens_per_second)":[^,}]*,?//g'; }

# compare_runs A B STEPS: adds to $problems unless both ended with the same tensors and the same steps, each once
compare_runs() {
    local name said
    name=checkpoints/$(printf 'step-%08d.h5' "$3")
    said=$("$tools/compare_checkpoints" "$1/$name" "$2/$name" 2>&1) || problems+="; tensors: $said"
    steps_of "$1" > steps.a
    steps_of "$2" > steps.b
    [ "$(wc -l < steps.b)" = "$3" ] || problems+="; metrics.jsonl has $(wc -l < steps.b) steps instead of $3"
    said=$(diff steps.a steps.b | head -2) || true
    [ -z "$said" ] || problems+="; metrics differ: $said"
}
